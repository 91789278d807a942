//! Completion of keywords, tables, columns and functions, and of multi-line statements.

use std::collections::BTreeMap;

use rustyline::completion::{Completer, Pair};
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Context, Helper};
use streamlog::query::Catalog;

use super::split::{command_within, is_complete};

const KEYWORDS: &[&str] = &[
    "ALL",
    "AND",
    "ANTI",
    "AS",
    "ASC",
    "BETWEEN",
    "BY",
    "CASE",
    "CAST",
    "CROSS",
    "CURRENT ROW",
    "DESC",
    "DESCRIBE",
    "DISTINCT",
    "ELSE",
    "END",
    "EXCEPT",
    "EXISTS",
    "EXPLAIN",
    "EXPLAIN ANALYZE",
    "FALSE",
    "FILTER",
    "FIRST",
    "FOLLOWING",
    "FROM",
    "FULL",
    "GROUP BY",
    "HAVING",
    "ILIKE",
    "IN",
    "INNER",
    "INTERSECT",
    "INTERVAL",
    "IS",
    "JOIN",
    "LAST",
    "LEFT",
    "LIKE",
    "LIMIT",
    "NOT",
    "NULL",
    "NULLS",
    "OFFSET",
    "ON",
    "OR",
    "ORDER BY",
    "OUTER",
    "OVER",
    "PARTITION BY",
    "PRECEDING",
    "RANGE",
    "RIGHT",
    "ROWS",
    "SELECT",
    "SEMI",
    "SHOW FUNCTIONS",
    "SHOW TABLES",
    "THEN",
    "TRUE",
    "UNBOUNDED",
    "UNION",
    "USING",
    "VALUES",
    "WHEN",
    "WHERE",
    "WITH",
];
const COMMANDS: &[&str] = &["\\d", "\\df", "\\format", "\\q", "\\?"];
const FORMATS: &[&str] = &["table", "lines", "csv", "json"];

/// All words that the shell completes.
#[derive(Debug, Default)]
pub(crate) struct Completion {
    /// The columns of each table.
    tables: BTreeMap<String, Vec<String>>,
    functions: Vec<String>,
}

impl Completion {
    /// Collects the words of a catalog.
    pub(crate) fn of(catalog: &Catalog) -> Self {
        let columns = |table: &str| {
            let columns = catalog.describe(table).unwrap_or_default();
            columns.into_iter().map(|column| quoted(&column.name)).collect()
        };
        let tables = catalog.tables();
        let tables = tables.iter().map(|table| (quoted(table), columns(table))).collect();
        Self { tables, functions: functions(catalog) }
    }

    /// Returns where the word before the cursor begins, and its completions.
    fn candidates(&self, line: &str, at: usize) -> (usize, Vec<String>) {
        let before = &line[..at];
        let is_part = |letter: char| letter.is_alphanumeric() || letter == '_';
        let start = before.trim_end_matches(is_part).len();
        let word = &before[start..];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        if let Some(command) = before[line_start..].strip_prefix('\\') {
            return match command.split_once(' ') {
                None => (line_start, matching(COMMANDS.iter().copied(), &before[line_start..])),
                Some(("d", _)) => (start, matching(self.tables.keys().map(String::as_str), word)),
                Some(("format", _)) => (start, matching(FORMATS.iter().copied(), word)),
                Some(_) => (start, vec![]),
            };
        }
        // After the name of a table and a dot, only its columns make sense.
        if let Some(owner) = before[..start].strip_suffix('.') {
            let owner = owner[owner.trim_end_matches(is_part).len()..].to_owned();
            let of_table = self.tables.iter().find(|(table, _)| table.eq_ignore_ascii_case(&owner));
            let columns: Vec<_> = match of_table {
                Some((_, columns)) => columns.iter().collect(),
                // It is an alias of one of them.
                None => self.tables.values().flatten().collect(),
            };
            return (start, matching(columns.into_iter().map(String::as_str), word));
        }
        if word.is_empty() {
            return (start, vec![]);
        }
        let names = self.tables.keys().chain(self.tables.values().flatten());
        let mut found = matching(names.map(String::as_str), word);
        let is_lower = !word.contains(|letter: char| letter.is_ascii_uppercase());
        let keywords = matching(KEYWORDS.iter().copied(), word);
        found
            .extend(keywords.into_iter().map(|word| if is_lower { word.to_ascii_lowercase() } else { word }));
        let functions = matching(self.functions.iter().map(String::as_str), word);
        found.extend(functions.into_iter().map(|function| format!("{function}(")));
        (start, found)
    }
}

/// Returns the words with this prefix in any case, sorted and without duplicates.
fn matching<'a>(words: impl Iterator<Item = &'a str>, start: &str) -> Vec<String> {
    let begins =
        |word: &&str| word.get(..start.len()).is_some_and(|beginning| beginning.eq_ignore_ascii_case(start));
    let mut found: Vec<_> = words.filter(begins).map(str::to_owned).collect();
    found.sort();
    found.dedup();
    found
}

/// Returns a name as statements must write it, quoted if needed.
fn quoted(name: &str) -> String {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let is_plain = name.chars().all(is_part) && !name.starts_with(|first: char| first.is_ascii_digit());
    if is_plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

/// Returns the names of all functions. Without them, the rest can still be completed.
fn functions(catalog: &Catalog) -> Vec<String> {
    let mut lines = Vec::new();
    let written = catalog.query("SHOW FUNCTIONS").and_then(|mut rows| rows.write_json(&mut lines));
    let name = |line: &str| {
        let row: serde_json::Value = serde_json::from_str(line).ok()?;
        Some(row["function_name"].as_str()?.to_owned())
    };
    match written {
        Ok(()) => String::from_utf8_lossy(&lines).lines().filter_map(name).collect(),
        Err(_) => vec![],
    }
}

impl Helper for Completion {}

impl Highlighter for Completion {}

impl Hinter for Completion {
    type Hint = String;
}

impl Completer for Completion {
    type Candidate = Pair;

    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let (start, found) = self.candidates(line, at);
        let is_keyword = |word: &str| KEYWORDS.iter().any(|keyword| keyword.eq_ignore_ascii_case(word));
        // A keyword is followed by a blank; a name may be followed by anything.
        let pair = |word: String| Pair {
            replacement: if is_keyword(&word) { format!("{word} ") } else { word.clone() },
            display: word,
        };
        Ok((start, found.into_iter().map(pair).collect()))
    }
}

/// Enter runs a complete statement, and otherwise begins a new line.
impl Validator for Completion {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        let text = context.input();
        let is_word = ["exit", "quit", "help"].contains(&text.trim().to_ascii_lowercase().as_str());
        Ok(match is_word || is_complete(text) || command_within(text).is_some() {
            true => ValidationResult::Valid(None),
            false => ValidationResult::Incomplete,
        })
    }
}
