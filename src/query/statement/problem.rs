//! Why a statement has no plan, and where in its text.

use datafusion::sql::sqlparser::ast::{Expr, Ident, Spanned};
use datafusion::sql::sqlparser::tokenizer::{Location, Span};

/// What is wrong with a statement: a sentence, what to write instead, and the place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::query) struct Problem {
    /// What is wrong, without a full stop.
    pub(in crate::query) message: String,
    /// What to do or to write instead, if that is known.
    pub(in crate::query) hint: Option<String>,
    /// The line in the text, from 1.
    pub(in crate::query) line: usize,
    /// The character in the line, from 1.
    pub(in crate::query) column: usize,
}

pub(super) type Result<T> = std::result::Result<T, Problem>;

impl Problem {
    pub(super) fn new(place: impl Into<Place>, message: impl Into<String>) -> Self {
        let Place(location) = place.into();
        // Nodes that planning added have no place: they get the beginning of the text.
        let number = |number: u64| usize::try_from(number).unwrap_or(usize::MAX).max(1);
        let (line, column) = (number(location.line), number(location.column));
        Self { message: message.into(), hint: None, line, column }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Suggests the most similar of some names, if one is similar enough.
    pub(super) fn nearest<'a>(self, name: &str, names: impl IntoIterator<Item = &'a str>) -> Self {
        match nearest(name, names) {
            Some(nearest) => self.hint(format!("did you mean {}?", quoted(nearest))),
            None => self,
        }
    }

    /// Adds a hint unless it has one.
    pub(super) fn or_hint(self, hint: &str) -> Self {
        if self.hint.is_some() { self } else { self.hint(hint) }
    }

    #[cfg(test)]
    /// The byte of the text that the problem is at.
    pub(in crate::query) fn place(&self, text: &str) -> usize {
        let before = text.split_inclusive('\n').take(self.line - 1).map(str::len).sum();
        let line = text.get(before..).unwrap_or_default();
        before + line.chars().take(self.column - 1).map(char::len_utf8).sum::<usize>()
    }
}

/// The place of a node in the text.
pub(super) struct Place(Location);

impl Place {
    pub(super) fn location(&self) -> Location {
        self.0
    }
}

impl From<Location> for Place {
    fn from(location: Location) -> Self {
        Self(location)
    }
}

impl From<Span> for Place {
    fn from(span: Span) -> Self {
        Self(span.start)
    }
}

impl From<&Ident> for Place {
    fn from(ident: &Ident) -> Self {
        Self(ident.span.start)
    }
}

impl From<&Expr> for Place {
    fn from(expr: &Expr) -> Self {
        Self(expr.span().start)
    }
}

/// A name as a statement writes it: in quotes unless plain lower case suffices.
pub(super) fn quoted(name: &str) -> String {
    let plain =
        |(place, c): (usize, char)| c == '_' || c.is_ascii_lowercase() || place > 0 && c.is_ascii_digit();
    let is_plain = !name.is_empty() && name.chars().enumerate().all(plain);
    if is_plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

/// Longer names are not compared: their errors do not come from typing.
const NAME_CHARS_MAX: usize = 64;

/// The name that takes the fewest changes, if these are at most a third of its letters, ignoring case.
fn nearest<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name: Vec<char> = name.chars().take(NAME_CHARS_MAX).flat_map(char::to_lowercase).collect();
    let near = names.into_iter().filter_map(|other| {
        let letters: Vec<char> = other.chars().take(NAME_CHARS_MAX).flat_map(char::to_lowercase).collect();
        let changes = changes(&name, &letters);
        (changes * 3 <= letters.len().max(name.len())).then_some((changes, other))
    });
    near.min_by_key(|&(changes, _)| changes).map(|(_, other)| other)
}

/// How many letters are to be put in, left out or replaced to make one word of the other.
fn changes(one: &[char], other: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found_and_far_ones_are_not() {
        let names = ["page", "ms", "user_id"];
        assert_eq!(nearest("pgae", names), None);
        assert_eq!(nearest("pages", names), Some("page"));
        assert_eq!(nearest("USERID", names), Some("user_id"));
        assert_eq!(nearest("x", names), None);
    }

    #[test]
    fn a_place_is_a_byte_of_the_text() {
        let text = "ä\nbö x";
        let place = |line, column| Problem::new(Location { line, column }, "").place(text);
        assert_eq!([place(1, 1), place(1, 2), place(2, 1), place(2, 3)], [0, 2, 3, 6]);
        assert_eq!(place(9, 9), text.len());
        assert_eq!(place(0, 0), 0);
    }
}
