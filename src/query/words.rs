//! The words of a statement: their limits, and the names that they mean.

use std::collections::{BTreeMap, BTreeSet};

use datafusion::arrow::datatypes::{DataType, Fields};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan, Tokenizer};

use super::error::{Place, StatementError};

/// The longest statement, in bytes.
const STATEMENT_BYTES_MAX: usize = 1 << 20;
/// The most words and signs without a comma between them. A chain of operators is evaluated recursively.
const CHAIN_TOKENS_MAX: usize = 4_096;
/// The most of them without AND and OR, whose cost is only linear.
const EXPRESSION_TOKENS_MAX: usize = 512;
/// The most commas of one `SELECT`, which has as many columns. The items of lists in parentheses are not counted.
const SELECT_COMMAS_MAX: usize = 2_000;

impl Place {
    pub(super) fn of(span: Span) -> Option<Self> {
        let Span { start, end } = span;
        let width = if start.line == end.line { end.column.saturating_sub(start.column) } else { 1 };
        (start.line > 0).then_some(Self {
            line: start.line as usize,
            column: start.column as usize,
            width: width.max(1) as usize,
        })
    }

    pub(super) fn at(location: Location) -> Option<Self> {
        Self::of(Span { start: location, end: location })
    }
}

/// Splits a statement into words and signs, without the spaces and comments between them.
pub(super) fn split(statement: &str) -> Result<Vec<TokenWithSpan>, StatementError> {
    if statement.len() > STATEMENT_BYTES_MAX {
        let length = statement.len();
        let message = format!("the statement has {length} bytes, and may have {STATEMENT_BYTES_MAX}");
        return Err(StatementError::new("", None, message)
            .hint("put long lists of values into a file, and join with it"));
    }
    let split = Tokenizer::new(&GenericDialect {}, statement).tokenize_with_location();
    let mut tokens = split.map_err(|error| {
        let mut message = error.message;
        message.get_mut(..1).into_iter().for_each(str::make_ascii_lowercase);
        StatementError::new(statement, Place::at(error.location), message)
    })?;
    tokens.retain(|token| !matches!(token.token, Token::Whitespace(_)));
    check_size(statement, &tokens)?;
    Ok(tokens)
}

/// Refuses statements that would take a parser or a planner too deep.
fn check_size(statement: &str, tokens: &[TokenWithSpan]) -> Result<(), StatementError> {
    #[derive(Default)]
    struct Level {
        is_select: bool,
        commas: usize,
        chain: usize,
        expression: usize,
    }
    let mut levels = vec![Level::default()];
    for token in tokens {
        let depth = levels.len();
        let Some(level) = levels.last_mut() else { break };
        level.chain += 1;
        level.expression += 1;
        match &token.token {
            Token::LParen | Token::LBracket | Token::LBrace => levels.push(Level::default()),
            Token::RParen | Token::RBracket | Token::RBrace if depth > 1 => drop(levels.pop()),
            Token::Word(word) if word.keyword == Keyword::SELECT => {
                (level.is_select, level.commas) = (true, 0);
            }
            Token::Comma => {
                (level.chain, level.expression) = (0, 0);
                level.commas += 1;
                if level.is_select && level.commas > SELECT_COMMAS_MAX {
                    let message = format!("a SELECT may have up to {SELECT_COMMAS_MAX} columns");
                    return Err(StatementError::new(statement, Place::of(token.span), message));
                }
            }
            Token::Word(word)
                if matches!(word.keyword, Keyword::AND | Keyword::OR) && level.chain <= CHAIN_TOKENS_MAX =>
            {
                level.expression = 0;
            }
            _ if level.expression > EXPRESSION_TOKENS_MAX => {
                let message = format!(
                    "an expression has more than {EXPRESSION_TOKENS_MAX} words and signs without a comma, AND or OR between them"
                );
                return Err(StatementError::new(statement, Place::of(token.span), message)
                    .hint("compute a part of it in an inner query"));
            }
            _ if level.chain > CHAIN_TOKENS_MAX => {
                let message = format!(
                    "the statement has more than {CHAIN_TOKENS_MAX} words and signs without a comma between them"
                );
                return Err(StatementError::new(statement, Place::of(token.span), message)
                    .hint("write a long chain of ORs as a list: x IN (1, 2, 3)"));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The names that tables and columns have, by their lowercase form.
#[derive(Debug, Clone, Default)]
pub(super) struct Names {
    known: BTreeMap<String, BTreeSet<String>>,
}

impl Names {
    pub(super) fn add(&mut self, name: &str) {
        self.known.entry(name.to_lowercase()).or_default().insert(name.to_owned());
    }

    /// Adds the names of columns and of the fields inside them.
    pub(super) fn add_fields(&mut self, fields: &Fields) {
        for field in fields {
            self.add(field.name());
            self.add_inside(field.data_type());
        }
    }

    fn add_inside(&mut self, data_type: &DataType) {
        match data_type {
            DataType::Struct(fields) => self.add_fields(fields),
            DataType::List(item) | DataType::LargeList(item) => self.add_inside(item.data_type()),
            _ => {}
        }
    }

    /// Returns all names.
    pub(super) fn all(&self) -> impl Iterator<Item = &str> {
        self.known.values().flatten().map(String::as_str)
    }

    /// Returns the name that an unquoted word means: the one with the same letters, regardless of case, unless several differ only in case.
    fn meant_by(&self, word: &str) -> Option<&str> {
        let names = self.known.get(&word.to_lowercase())?;
        let only = names.first().filter(|_| names.len() == 1);
        names.get(word).or(only).map(String::as_str)
    }

    /// Replaces each unquoted word by the name that it means, and all others by their lowercase form, as in SQL: the case of names does not matter
    /// unless they are quoted. Later steps must take names as they are written.
    pub(super) fn resolve(&self, tokens: &mut [TokenWithSpan]) {
        for token in tokens {
            let Token::Word(word) = &mut token.token else { continue };
            if word.quote_style.is_some() {
                continue;
            }
            match self.meant_by(&word.value) {
                Some(name) => {
                    name.clone_into(&mut word.value);
                    // The parser takes these for functions, wherever they stand.
                    if matches!(
                        word.keyword,
                        Keyword::USER
                            | Keyword::CURRENT_USER
                            | Keyword::SESSION_USER
                            | Keyword::CURRENT_CATALOG
                    ) {
                        (word.keyword, word.quote_style) = (Keyword::NoKeyword, Some('"'));
                    }
                }
                None => word.value = word.value.to_lowercase(),
            }
        }
    }
}

/// Returns the candidate that is most similar to a word, if one is similar enough.
pub(super) fn nearest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let word: Vec<char> = word.to_lowercase().chars().take(64).collect();
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        let letters: Vec<char> = candidate.to_lowercase().chars().take(64).collect();
        let far = distance(&word, &letters);
        let is_near = far <= word.len().max(letters.len()).div_ceil(3).min(3);
        if is_near && best.is_none_or(|(least, _)| far < least) {
            best = Some((far, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// Returns how many letters have to be inserted, removed, replaced or swapped with their neighbour to make one word of the other.
fn distance(one: &[char], two: &[char]) -> usize {
    let mut before_last: Vec<usize> = vec![];
    let mut last: Vec<usize> = (0..=two.len()).collect();
    for (i, letter) in one.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, other) in two.iter().enumerate() {
            let replaced = last[j] + usize::from(letter != other);
            let mut least = replaced.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *letter == two[j - 1] && one[i - 1] == *other {
                least = least.min(before_last[j - 1] + 1);
            }
            row.push(least);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[two.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(names: &[&str], statement: &str) -> String {
        let mut known = Names::default();
        names.iter().for_each(|name| known.add(name));
        let mut tokens = split(statement).unwrap();
        known.resolve(&mut tokens);
        tokens.iter().map(|token| token.token.to_string()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn words_mean_names_whatever_their_case() {
        assert_eq!(resolved(&["userId"], "SELECT USERID, Other FROM t"), "select userId , other from t");
        assert_eq!(resolved(&["a", "A"], "a, A"), "a , A");
        assert_eq!(resolved(&["ab", "AB"], "Ab"), "ab", "nobody knows which one is meant");
        assert_eq!(resolved(&["userId"], "\"USERID\" 'USERID'"), "\"USERID\" 'USERID'");
        assert_eq!(resolved(&["user"], "SELECT user.id"), "select \"user\" . id");
    }

    #[test]
    fn the_nearest_name_is_one_that_was_meant() {
        let names = ["page", "_arrival", "user_id", "ms"];
        let nearest = |word| nearest(word, names);
        assert_eq!(nearest("pgae"), Some("page"));
        assert_eq!(nearest("Pages"), Some("page"));
        assert_eq!(nearest("arrival"), Some("_arrival"));
        assert_eq!(nearest("userid"), Some("user_id"));
        assert_eq!(nearest("m"), Some("ms"));
        assert_eq!(nearest("country"), None);
        assert_eq!(nearest(""), None);
    }

    #[test]
    fn l6_long_chains_are_refused_and_long_lists_are_not() {
        let chain = |count: usize, sign: &str| format!("SELECT 1{}", format!(" {sign} 1").repeat(count));
        assert!(split(&chain(EXPRESSION_TOKENS_MAX / 2 - 2, "+")).is_ok());
        assert!(split(&chain(EXPRESSION_TOKENS_MAX, "+")).is_err());
        assert!(split(&chain(CHAIN_TOKENS_MAX / 2 - 2, "OR")).is_ok());
        assert!(split(&chain(CHAIN_TOKENS_MAX, "AND")).is_err());
        let list = vec!["1"; 50_000].join(",");
        assert!(split(&format!("SELECT * FROM t WHERE x IN ({list})")).is_ok());
        assert!(split(&format!("SELECT {list}")).is_err());
        assert!(split(&"(".repeat(100_000)).is_ok(), "the parser refuses it");
        assert!(split(&"SELECT '".repeat(200_000)).is_err());
    }
}
