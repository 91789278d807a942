//! Tables for people: columns as wide as they must be.

use std::time::Duration;

/// The alignment of a column: left, or right as is usual for numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// Formats a table: a line of headings, and a line for each row.
pub(crate) fn table<const N: usize>(columns: [(&str, Align); N], rows: Vec<[String; N]>) -> String {
    let headings = columns.map(|(heading, _)| heading.to_owned());
    let rows: Vec<_> = std::iter::once(headings).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for ((cell, width), (_, align)) in row.iter().zip(widths).zip(columns) {
            if !line.is_empty() {
                line += "  ";
            }
            line += &match align {
                Align::Left => format!("{cell:<width$}"),
                Align::Right => format!("{cell:>width$}"),
            };
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// Formats a time span for people. Parts below a millisecond change faster than anyone can read them.
pub(crate) fn span(span: Duration) -> String {
    let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    humantime::format_duration(Duration::from_millis(millis)).to_string()
}

/// Formats an age, or `-` if there is none.
pub(crate) fn age(age: Duration) -> String {
    if age.is_zero() { "-".to_owned() } else { span(age) }
}
