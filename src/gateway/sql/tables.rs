//! Streams as tables: those that a caller may read, with the columns of their first records.

use std::collections::HashSet;
use std::sync::Arc;

use super::super::catalogue::Known;
use super::super::fault::Answered;
use super::answer;
use crate::query::{Catalog, FoundSchema, QueryError, Schema};

/// Adds streams to a catalog under their names. Returns it, with notes about the columns.
///
/// It reads records only of streams that the statement names. The others are added so that a misspelt name can be corrected.
pub(super) fn add(
    mut catalog: Catalog,
    streams: &[Arc<Known>],
    statement: &str,
) -> Answered<(Catalog, Vec<String>)> {
    let words = words(statement);
    let mut notes = vec![];
    for known in streams {
        let is_named = words.contains(&known.name.to_lowercase());
        // It was deleted in between, and the statement does not name it.
        if !is_named && known.stream.is_closed() {
            continue;
        }
        let schema = if is_named {
            let found = Schema::find(&known.stream).map_err(|error| known.failed(&error))?;
            notes.extend(note(&known.name, &found));
            found.into_schema()
        } else {
            Schema::raw()
        };
        catalog = catalog.stream(&known.name, &known.stream, schema).map_err(|error| match error {
            QueryError::Stream(error) => known.failed(&error),
            error => answer::fault(&error),
        })?;
    }
    Ok((catalog, notes))
}

fn note(name: &str, found: &FoundSchema) -> Option<String> {
    match found {
        FoundSchema::Columns(_) => None,
        FoundSchema::Empty => {
            Some(format!("{name} has no records yet, so it has only the columns of every record."))
        }
        FoundSchema::Other(reason) => {
            Some(format!("{name} has its data as _data only, such as CAST(_data AS VARCHAR): {reason}."))
        }
    }
}

/// Returns all words that may be names of streams in a statement, in lower case. They include words in texts and comments, too.
fn words(statement: &str) -> HashSet<String> {
    let is_plain = |letter: char| letter.is_alphanumeric() || letter == '_';
    let is_named = |letter: char| is_plain(letter) || letter == '-' || letter == '.';
    let statement = statement.to_lowercase();
    let quoted = statement.split(|letter| !is_named(letter));
    let plain = statement.split(|letter| !is_plain(letter));
    quoted.chain(plain).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_that_a_statement_names_are_found() {
        let words =
            words("SELECT \"dev-clicks.eu\".page, o.n FROM \"dev-clicks.eu\" JOIN Orders-- all\nAS o");
        for name in ["dev-clicks.eu", "orders"] {
            assert!(words.contains(name), "{name}: {words:?}");
        }
        assert!(!words.contains("order"));
    }
}
