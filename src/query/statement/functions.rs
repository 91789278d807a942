//! The functions that make windows of a table: `TUMBLE`, `HOP`, `CUMULATE`, `SESSION`.

use std::time::Duration;

use datafusion::sql::sqlparser::ast::Ident;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use super::duration::{offset, positive};
use super::parse::{expr, fragment};
use super::plan::Window;
use super::problem::{Problem, Result};
use super::tokens::{is, is_token};

pub(super) const WINDOW_FUNCTIONS: [&str; 4] = ["TUMBLE", "HOP", "CUMULATE", "SESSION"];

/// Windows as a function declares them. Keys of sessions are as they are written there.
#[derive(Clone, Debug)]
pub(super) struct WindowFunction {
    /// The column in `DESCRIPTOR`.
    pub(super) time: Ident,
    pub(super) kind: Window,
    pub(super) keys: Vec<Ident>,
}

fn usage(name: &str) -> String {
    let rest = match name {
        "TUMBLE" => "INTERVAL '1' MINUTE))",
        "HOP" => "INTERVAL '1' MINUTE, INTERVAL '10' MINUTE)), the slide before the size",
        "CUMULATE" => "INTERVAL '1' MINUTE, INTERVAL '1' HOUR)), the step before the size",
        _ => {
            return "write TABLE(SESSION(TABLE t PARTITION BY k, DESCRIPTOR(ROWTIME), INTERVAL '5' MINUTE))"
                .to_owned();
        }
    };
    format!("write TABLE({name}(TABLE t, DESCRIPTOR(ROWTIME), {rest}")
}

/// The arguments by name, for those that are given.
struct Arguments<'a> {
    function: &'static str,
    place: &'a TokenWithSpan,
    given: Vec<(&'static str, &'a [TokenWithSpan])>,
    keys: Vec<&'a [TokenWithSpan]>,
}

fn parameters(name: &str) -> &'static [&'static str] {
    match name {
        "TUMBLE" => &["DATA", "TIMECOL", "SIZE", "OFFSET"],
        "HOP" => &["DATA", "TIMECOL", "SLIDE", "SIZE", "OFFSET"],
        "CUMULATE" => &["DATA", "TIMECOL", "STEP", "SIZE"],
        _ => &["DATA", "TIMECOL", "GAP"],
    }
}

impl<'a> Arguments<'a> {
    fn new(function: &'static str, place: &'a TokenWithSpan, pieces: &[&'a [TokenWithSpan]]) -> Result<Self> {
        let mut arguments = Self { function, place, given: vec![], keys: vec![] };
        let parameters = parameters(function);
        let mut in_keys = false;
        for piece in pieces {
            let Some(first) = piece.first() else {
                return Err(Problem::new(place.span, format!("{function} has an empty argument"))
                    .hint(usage(function)));
            };
            let is_named = is_token(piece.get(1), &Token::RArrow);
            if in_keys && !is_named && !is(Some(first), "DESCRIPTOR") {
                arguments.keys.push(piece);
                continue;
            }
            in_keys = false;
            let (name, mut value) = if is_named {
                let wanted = parameters.iter().find(|name| is(Some(first), name));
                let Some(name) = wanted else {
                    let message = format!("{function} has no argument {}", first.token);
                    return Err(
                        Problem::new(first.span, message).hint(format!("it has {}", parameters.join(", ")))
                    );
                };
                (*name, &piece[2..])
            } else {
                let Some(name) = parameters.get(arguments.given.len()) else {
                    let message = format!("{function} has too many arguments");
                    return Err(Problem::new(first.span, message).hint(usage(function)));
                };
                (*name, *piece)
            };
            if name == "DATA" {
                let partition = value.iter().position(|word| is(Some(word), "PARTITION"));
                if let Some(partition) = partition.filter(|at| is(value.get(at + 1), "BY")) {
                    arguments.keys.push(&value[partition + 2..]);
                    value = &value[..partition];
                    in_keys = true;
                }
                if is(value.first(), "TABLE") {
                    value = &value[1..];
                }
            }
            if arguments.given.iter().any(|(other, _)| *other == name) {
                return Err(Problem::new(first.span, format!("{name} is given twice")).hint(usage(function)));
            }
            arguments.given.push((name, value));
        }
        Ok(arguments)
    }

    fn find(&self, name: &str) -> Option<&'a [TokenWithSpan]> {
        self.given.iter().find(|(other, _)| *other == name).map(|(_, words)| *words)
    }

    fn get(&self, name: &str) -> Result<&'a [TokenWithSpan]> {
        self.find(name).filter(|words| !words.is_empty()).ok_or_else(|| {
            let message = format!("{} has no {name}", self.function);
            Problem::new(self.place.span, message).hint(usage(self.function))
        })
    }

    fn length(&self, name: &str) -> Result<Duration> {
        positive(&expr(self.get(name)?)?)
    }

    fn offset(&self, within: Duration) -> Result<Duration> {
        self.find("OFFSET").map_or(Ok(Duration::ZERO), |words| offset(&expr(words)?, within))
    }

    fn time(&self) -> Result<Ident> {
        let words = self.get("TIMECOL")?;
        match words {
            [name, open, column @ .., close]
                if is(Some(name), "DESCRIPTOR")
                    && open.token == Token::LParen
                    && close.token == Token::RParen =>
            {
                fragment(column, |parser| parser.parse_identifier())
            }
            _ => Err(Problem::new(words[0].span, "the time of a window is a DESCRIPTOR")
                .hint(usage(self.function))),
        }
    }

    fn table(&self) -> Result<Vec<TokenWithSpan>> {
        let words = self.get("DATA")?;
        let is_name = words.iter().all(|word| matches!(word.token, Token::Word(_) | Token::Period));
        if !is_name {
            let problem = Problem::new(words[0].span, format!("{} takes the name of a table", self.function));
            return Err(
                problem.hint("name a query: WITH t AS (SELECT …) SELECT … FROM TABLE(TUMBLE(TABLE t, …))")
            );
        }
        Ok(words.to_vec())
    }
}

/// The words of the table, and the windows that a function makes of it.
pub(super) fn window_function(
    name: &'static str,
    word: &TokenWithSpan,
    pieces: &[&[TokenWithSpan]],
) -> Result<(Vec<TokenWithSpan>, WindowFunction)> {
    let arguments = Arguments::new(name, word, pieces)?;
    let (table, time) = (arguments.table()?, arguments.time()?);
    let keys = arguments.keys.iter().map(|words| fragment(words, |parser| parser.parse_identifier()));
    let keys = keys.collect::<Result<Vec<_>>>()?;
    if let Some(key) = keys.first().filter(|_| name != "SESSION") {
        let problem = Problem::new(key, format!("{name} has no PARTITION BY"));
        return Err(
            problem.hint("its windows are the same for all keys: GROUP BY window_start, window_end, key")
        );
    }
    let kind = match name {
        "TUMBLE" => {
            let size = arguments.length("SIZE")?;
            Window::Tumble { size, offset: arguments.offset(size)? }
        }
        "HOP" => {
            let (slide, size) = (arguments.length("SLIDE")?, arguments.length("SIZE")?);
            let offset = arguments.offset(slide)?;
            check_count(word, "slides", size, slide)?;
            Window::Hop { size, slide, offset }
        }
        "CUMULATE" => {
            let (step, max) = (arguments.length("STEP")?, arguments.length("SIZE")?);
            if max.as_millis() % step.as_millis() != 0 {
                let problem = Problem::new(word.span, "the size of CUMULATE is no multiple of its step");
                return Err(problem.hint(usage(name)));
            }
            check_count(word, "steps", max, step)?;
            Window::Cumulate { max, step }
        }
        _ => Window::Session { gap: arguments.length("GAP")?, keys: vec![] },
    };
    Ok((table, WindowFunction { time, kind, keys }))
}

/// A row occurs once for each window that it belongs to: at most this often.
const WINDOWS_OF_A_ROW_MAX: u128 = 10_000;

pub(super) fn check_count(word: &TokenWithSpan, what: &str, size: Duration, part: Duration) -> Result<()> {
    let count = size.as_millis().div_ceil(part.as_millis().max(1));
    if count <= WINDOWS_OF_A_ROW_MAX {
        return Ok(());
    }
    let message = format!("a window has {count} {what}, and each row is kept for each of them");
    Err(Problem::new(word.span, message).hint(format!("choose at most {WINDOWS_OF_A_ROW_MAX}")))
}
