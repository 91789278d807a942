//! The parts of Kinesis' and Flink's dialects that the parser lacks, rewritten or set aside before it parses.
//!
//! Each word keeps its place in the user's text, so that the errors of the parser and of planning point there.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use datafusion::sql::sqlparser::ast::{Expr, WindowFrame, WindowFrameBound, WindowFrameUnits};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan};

use super::duration::{duration, positive};
use super::functions::{WINDOW_FUNCTIONS, WindowFunction, window_function};
use super::parse::{expr, fragment};
use super::problem::{Problem, Result};
use super::tokens::{closing, is, is_token, pieces};

/// Syntax that was removed from tables, by the place of the table's name (or of its alias, if it came after that).
#[derive(Debug, Default)]
pub(super) struct Marks {
    pub(super) tables: HashMap<Location, Mark>,
    pub(super) stagger: Option<Stagger>,
}

#[derive(Clone, Debug)]
pub(super) enum Mark {
    /// `TABLE(TUMBLE(TABLE t, …))`
    Function(WindowFunction),
    /// `t OVER (RANGE INTERVAL … PRECEDING)`
    Range(Duration),
}

/// `WINDOWED BY STAGGER (PARTITION BY … RANGE INTERVAL …)`
#[derive(Clone, Debug)]
pub(super) struct Stagger {
    /// The place of the `SELECT` that it belongs to.
    pub(super) select: Location,
    pub(super) place: Location,
    pub(super) keys: Vec<Expr>,
    pub(super) size: Duration,
}

const FOREST: &str =
    "write SELECT *, random_cut_forest(a, b) OVER (ROWS 255 PRECEDING) AS anomaly_score FROM s";

/// Functions of Kinesis that take a query, and their replacements.
const CURSOR_FUNCTIONS: [(&str, &str); 5] = [
    (
        "TOP_K_ITEMS_TUMBLING",
        "write SELECT item, count(*) … GROUP BY item, STEP(ROWTIME BY INTERVAL '60' SECOND) ORDER BY 2 DESC LIMIT 10",
    ),
    (
        "COUNT_DISTINCT_ITEMS_TUMBLING",
        "write SELECT approx_distinct(item) … GROUP BY STEP(ROWTIME BY INTERVAL '60' SECOND)",
    ),
    ("HOTSPOTS", "it has no equivalent here"),
    ("RANDOM_CUT_FOREST", FOREST),
    ("RANDOM_CUT_FOREST_WITH_EXPLANATION", FOREST),
];

/// Rewrites the words of a statement.
pub(super) fn rewrite(words: &[TokenWithSpan]) -> Result<(Vec<TokenWithSpan>, Marks)> {
    let mut rewriter =
        Rewriter { words, out: vec![], marks: Marks::default(), commas: HashSet::new(), selects: vec![None] };
    let mut place = 0;
    while place < words.len() {
        place = rewriter.step(place)?;
    }
    Ok((rewriter.out, rewriter.marks))
}

struct Rewriter<'a> {
    words: &'a [TokenWithSpan],
    out: Vec<TokenWithSpan>,
    marks: Marks,
    /// Places of words that become commas.
    commas: HashSet<usize>,
    /// The place of the last `SELECT` in each of the open brackets.
    selects: Vec<Option<Location>>,
}

impl Rewriter<'_> {
    /// Handles the word at a place, and perhaps some after it. Returns the place of the next.
    fn step(&mut self, place: usize) -> Result<usize> {
        let words = self.words;
        let (word, next) = (&words[place], words.get(place + 1));
        let opens = is_token(next, &Token::LParen);
        match &word.token {
            Token::LParen => self.selects.push(None),
            Token::RParen if self.selects.len() > 1 => drop(self.selects.pop()),
            Token::Word(name) if name.quote_style.is_none() => {
                let upper = name.value.to_uppercase();
                match &*upper {
                    "SELECT" => {
                        *self.selects.last_mut().expect("the outermost level stays") = Some(word.span.start);
                        self.out.push(word.clone());
                        let is_stream = is(next, "STREAM") && words.get(place + 2).is_some_and(begins_item);
                        return Ok(place + if is_stream { 2 } else { 1 });
                    }
                    "STEP" if opens => self.find_by(place)?,
                    "TABLE" if opens => {
                        let function = words.get(place + 2);
                        let is_call = is_token(words.get(place + 3), &Token::LParen);
                        if let Some(name) = function.and_then(window_name).filter(|_| is_call) {
                            let close = closing(words, place + 1)?;
                            let end = self.window(place + 2, name)?;
                            if end != close {
                                let place = words.get(end).unwrap_or(word).span;
                                return Err(Problem::new(place, format!("TABLE({name}(…)) ends here"))
                                    .hint("write the missing ), and the name after it: TABLE(…) AS t"));
                            }
                            return Ok(close + 1);
                        }
                    }
                    "OVER" if opens && self.is_after_table(place) => return self.range(place),
                    "WINDOWED" if is(next, "BY") => return self.stagger(place),
                    "MATCH_RECOGNIZE" => {
                        let problem = Problem::new(word.span, "MATCH_RECOGNIZE is not possible");
                        return Err(problem.hint(
                            "LAG(x) OVER (PARTITION BY k ORDER BY ROWTIME) compares with rows before",
                        ));
                    }
                    _ => {}
                }
                let is_cursor = opens && is(words.get(place + 2), "CURSOR");
                if let Some((name, instead)) =
                    CURSOR_FUNCTIONS.iter().find(|(name, _)| *name == upper && is_cursor)
                {
                    return Err(Problem::new(word.span, format!("{name} is not possible")).hint(*instead));
                }
                let is_from = place
                    .checked_sub(1)
                    .is_some_and(|place| is(words.get(place), "FROM") || is(words.get(place), "JOIN"));
                if let Some(name) = window_name(word).filter(|_| opens && is_from) {
                    return self.window(place, name);
                }
            }
            _ => {}
        }
        let mut word = word.clone();
        if self.commas.remove(&place) {
            word.token = Token::Comma;
        }
        self.out.push(word);
        Ok(place + 1)
    }

    /// `STEP(x BY INTERVAL …)` becomes `STEP(x, INTERVAL …)`.
    fn find_by(&mut self, place: usize) -> Result<()> {
        let close = closing(self.words, place + 1)?;
        let mut depth = 0_usize;
        for at in place + 1..close {
            match self.words[at].token {
                Token::LParen => depth += 1,
                Token::RParen => depth -= 1,
                _ if depth == 1 && is(self.words.get(at), "BY") => {
                    self.commas.insert(at);
                    return Ok(());
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether the previous word names a table, so that `OVER` gives the table a window, and does not belong to a function.
    fn is_after_table(&self, place: usize) -> bool {
        let before = place.checked_sub(1).and_then(|before| self.words.get(before));
        before.is_some_and(|word| matches!(word.token, Token::Word(_))) && !is(before, "NULLS")
    }

    /// Sets a window function aside, and replaces it by its table. Returns the place after its closing bracket.
    fn window(&mut self, place: usize, name: &'static str) -> Result<usize> {
        let close = closing(self.words, place + 1)?;
        let (table, function) =
            window_function(name, &self.words[place], &pieces(&self.words[place + 2..close]))?;
        let key = table.last().expect("a table has a name").span.start;
        self.out.extend(table);
        self.marks.tables.insert(key, Mark::Function(function));
        Ok(close + 1)
    }

    fn range(&mut self, place: usize) -> Result<usize> {
        let close = closing(self.words, place + 1)?;
        let inside = &self.words[place + 2..close];
        let problem = || {
            let problem = Problem::new(
                self.words[place].span,
                "the window of a joined stream is a range of time before now",
            );
            problem.hint("write FROM s OVER (RANGE INTERVAL '1' MINUTE PRECEDING) AS a JOIN …")
        };
        if !is(inside.first(), "RANGE") {
            return Err(problem());
        }
        let frame = fragment(inside, |parser| parser.parse_window_frame())?;
        let range = frame_range(&frame)?.ok_or_else(problem)?;
        self.marks.tables.insert(self.words[place - 1].span.start, Mark::Range(range));
        Ok(close + 1)
    }

    fn stagger(&mut self, place: usize) -> Result<usize> {
        let words = self.words;
        let start = words[place].span.start;
        let hint = "write WINDOWED BY STAGGER (PARTITION BY page RANGE INTERVAL '1' MINUTE)";
        let problem = |place: Location, message: &str| Err(Problem::new(place, message).hint(hint));
        if !is(words.get(place + 2), "STAGGER") || !is_token(words.get(place + 3), &Token::LParen) {
            return problem(start, "WINDOWED BY takes STAGGER only");
        }
        let close = closing(words, place + 3)?;
        let inside = &words[place + 4..close];
        let Some(range) = inside.iter().position(|word| is(Some(word), "RANGE")) else {
            return problem(words[close].span.start, "the stagger window has no RANGE");
        };
        let keys = match &inside[..range] {
            [] => vec![],
            [partition, by, keys @ ..] if is(Some(partition), "PARTITION") && is(Some(by), "BY") => {
                pieces(keys).into_iter().map(expr).collect::<Result<_>>()?
            }
            [first, ..] => {
                return problem(first.span.start, "a stagger window begins with PARTITION BY or RANGE");
            }
        };
        let interval = match &inside[range + 1..] {
            [interval @ .., last] if is(Some(last), "PRECEDING") => interval,
            interval => interval,
        };
        let size = positive(&expr(interval)?)?;
        let Some(select) = self.selects.last().copied().flatten() else {
            return problem(start, "WINDOWED BY stands behind the FROM of a SELECT");
        };
        if self.marks.stagger.is_some() {
            return problem(start, "a statement has one stagger window at most");
        }
        self.marks.stagger = Some(Stagger { select, place: start, keys, size });
        Ok(close + 1)
    }
}

/// The name of a function that makes windows of a table.
fn window_name(word: &TokenWithSpan) -> Option<&'static str> {
    WINDOW_FUNCTIONS.into_iter().find(|name| is(Some(word), name))
}

/// Whether a word can begin a column of a `SELECT`, so that `STREAM` before it is not a column.
fn begins_item(word: &TokenWithSpan) -> bool {
    match &word.token {
        Token::Word(word) => !matches!(
            word.keyword,
            Keyword::FROM
                | Keyword::AS
                | Keyword::INTO
                | Keyword::WHERE
                | Keyword::UNION
                | Keyword::IS
                | Keyword::IN
        ),
        Token::Number(..) | Token::SingleQuotedString(_) | Token::Mul | Token::LParen => true,
        _ => false,
    }
}

/// How far a frame of time looks back. `None` if it has no such bound, or looks ahead.
pub(super) fn frame_range(frame: &WindowFrame) -> Result<Option<Duration>> {
    let ends_now = matches!(frame.end_bound, None | Some(WindowFrameBound::CurrentRow));
    if frame.units != WindowFrameUnits::Range || !ends_now {
        return Ok(None);
    }
    match &frame.start_bound {
        WindowFrameBound::CurrentRow => Ok(Some(Duration::ZERO)),
        WindowFrameBound::Preceding(Some(bound)) => duration(bound).map(Some),
        _ => Ok(None),
    }
}
