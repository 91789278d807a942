//! Why a statement cannot be run.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::Error;

/// Why a query, or the definition of a table, failed. Each variant has a different remedy.
///
/// ```
/// # use streamlog::Stream;
/// # use streamlog::query::{Catalog, QueryError, Schema};
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path())?;
/// let catalog = Catalog::new().stream("clicks", &stream, Schema::raw())?;
/// let Err(QueryError::Statement(error)) = catalog.query("SELECT _kye FROM clicks") else {
///     unreachable!("there is no such column");
/// };
/// assert_eq!(
///     error.to_string(),
///     "there is no column \"_kye\" in clicks: did you mean \"_key\"?\n\
///      1 | SELECT _kye FROM clicks\n  \
///      |        ^^^^"
/// );
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// The statement cannot be run. *Remedy:* correct it. The text shows the position and, if known, what to write instead.
    #[error(transparent)]
    Statement(Box<StatementError>),

    /// A table, a schema or a setting is not valid. *Remedy:* correct the call.
    #[error("{0}")]
    Invalid(String),

    /// A stream could not be read. *Remedy:* that of the error inside.
    #[error(transparent)]
    Stream(#[from] Error),

    /// A file of the catalog cannot be read. *Remedy:* correct the path, or the file.
    #[error("cannot read {} as a table: {reason}", path.display())]
    File {
        /// The path of the file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },

    /// The query exceeds its limit of memory, or of temporary files on the disk. *Remedy:* raise the limit with
    /// [`Catalog::memory_limit`](crate::query::Catalog::memory_limit), or ask for less: fewer groups, a filter, a `LIMIT`.
    #[error(
        "the query needs more memory than its limit allows: raise the memory limit of the catalog, or ask for less ({0})"
    )]
    Memory(String),

    /// The query failed while it ran: for example, it divided by zero, or a string was not a number. *Remedy:* correct the statement, or exclude
    /// such rows in it.
    #[error("the query failed: {0}")]
    Failed(String),

    /// The query was ended by its [`Stopper`](crate::query::Stopper). *Remedy:* none is needed.
    #[error("the query was stopped")]
    Stopped,
}

impl From<StatementError> for QueryError {
    fn from(error: StatementError) -> Self {
        Self::Statement(Box::new(error))
    }
}

/// What is wrong with a statement, and where.
///
/// It prints as the message, the hint, and the line of the statement with a mark under the position.
///
/// ```
/// # use streamlog::query::{Catalog, QueryError};
/// let Err(QueryError::Statement(error)) = Catalog::new().query("SELECT 1 +\n  FROM clicks") else {
///     unreachable!("an operand is missing");
/// };
/// assert_eq!((error.line(), error.column()), (Some(2), Some(3)));
/// assert_eq!(error.message(), "expected an expression, found FROM");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatementError {
    message: String,
    hint: Option<String>,
    statement: Arc<str>,
    place: Option<Place>,
}

/// A place in a statement: lines and columns from 1, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) line: usize,
    pub(super) column: usize,
    /// How many characters to mark.
    pub(super) width: usize,
}

impl StatementError {
    pub(super) fn new(statement: &str, place: Option<Place>, message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, statement: statement.into(), place }
    }

    /// Adds what to write instead.
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Returns the error of a statement that a line was put before.
    pub(super) fn one_line_up(self, statement: &str) -> Self {
        let up =
            |place: Place| Some(Place { line: place.line.checked_sub(1).filter(|line| *line > 0)?, ..place });
        Self { statement: statement.into(), place: self.place.and_then(up), ..self }
    }

    /// Returns what is wrong, without the position and the hint.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Returns what to write instead, if known.
    pub fn suggestion(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Returns the statement as it was given.
    pub fn statement(&self) -> &str {
        &self.statement
    }

    /// Returns the line of the error, from 1, if known.
    pub fn line(&self) -> Option<usize> {
        self.place.map(|place| place.line)
    }

    /// Returns the column of the error in its line, from 1 and in characters, if known.
    pub fn column(&self) -> Option<usize> {
        self.place.map(|place| place.column)
    }
}

impl std::error::Error for StatementError {}

/// How much of a long line is shown before and after the place.
const CONTEXT_CHARS: usize = 60;

impl fmt::Display for StatementError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, ": {hint}")?;
        }
        let Some(place) = self.place else { return Ok(()) };
        let Some(line) = self.statement.lines().nth(place.line.saturating_sub(1)) else { return Ok(()) };
        let at = place.column.saturating_sub(1);
        let from = at.saturating_sub(CONTEXT_CHARS);
        let length = at - from + place.width.min(CONTEXT_CHARS) + CONTEXT_CHARS;
        let plain = |c: char| if c.is_control() { ' ' } else { c };
        let shown: String = line.chars().skip(from).take(length).map(plain).collect();
        let dots = if from > 0 { "…" } else { "" };
        let rest = if line.chars().nth(from + length).is_some() { "…" } else { "" };
        let (number, marks) = (place.line.to_string(), place.width.clamp(1, CONTEXT_CHARS));
        let (margin, before) = (" ".repeat(number.len()), " ".repeat(dots.chars().count() + at - from));
        write!(f, "\n{number} | {dots}{}{rest}", shown.trim_end())?;
        write!(f, "\n{margin} | {before}{}", "^".repeat(marks))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_stands_under_the_place_in_a_long_line() {
        let statement = format!("SELECT 1\nFROM {}x{}", "a".repeat(200), "b".repeat(200));
        let place = Place { line: 2, column: 206, width: 1 };
        let text = StatementError::new(&statement, Some(place), "no").to_string();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "no");
        let at = lines[2].find('^').unwrap();
        assert_eq!(lines[1].chars().nth(at), Some('x'), "{text}");
        assert!(lines[1].starts_with("2 | …") && lines[1].ends_with('…'), "{text}");
    }

    #[test]
    fn a_place_outside_of_the_statement_is_left_out() {
        let place = Place { line: 9, column: 9, width: 9 };
        assert_eq!(StatementError::new("SELECT", Some(place), "no").to_string(), "no");
        let place = Place { line: 1, column: 9, width: 2 };
        let text = StatementError::new("SELECT 1", Some(place), "it ends").hint("go on").to_string();
        assert_eq!(text, "it ends: go on\n1 | SELECT 1\n  |         ^^");
    }
}
