//! Splitting text into statements, at the semicolons that end them.

/// The statements of a text, and the commands of the shell, which are lines that begin with a backslash.
#[derive(Debug, Clone)]
pub(crate) struct Pieces<'a> {
    rest: &'a str,
}

impl<'a> Pieces<'a> {
    pub(crate) fn of(text: &'a str) -> Self {
        Self { rest: text }
    }
}

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        loop {
            let rest = self.rest.trim_start();
            if rest.is_empty() {
                return None;
            }
            let length = match is_command(rest) {
                true => rest.find('\n').unwrap_or(rest.len()),
                false => end(rest).map_or(rest.len(), |at| at + 1),
            };
            let (piece, rest) = rest.split_at(length);
            self.rest = rest;
            let piece = piece.trim_end().trim_end_matches(';').trim_end();
            if !is_blank(piece) {
                return Some(piece);
            }
        }
    }
}

/// Returns whether a text is a command of the shell.
pub(crate) fn is_command(text: &str) -> bool {
    text.starts_with('\\')
}

/// Splits off a command that stands on the last line: a user may ask for the columns of a table while writing a statement.
pub(crate) fn command_within(text: &str) -> Option<(&str, &str)> {
    let (statement, command) = text.trim_end().rsplit_once('\n')?;
    (is_command(command) && !is_complete(statement)).then_some((statement, command))
}

/// Returns whether the shell can run a text: it is empty, a command, or its last statement ends with a semicolon.
pub(crate) fn is_complete(text: &str) -> bool {
    let mut rest = text.trim();
    loop {
        if rest.is_empty() || is_command(rest) {
            return true;
        }
        match end(rest) {
            Some(at) => rest = rest[at + 1..].trim_start(),
            None => return is_blank(rest),
        }
    }
}

/// Returns the position of the first statement's semicolon. Semicolons in strings, quoted names and comments do not count.
fn end(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        at += match &bytes[at..] {
            [b';', ..] => return Some(at),
            // A quotation mark within is doubled, which reads as two adjacent strings.
            [quote @ (b'\'' | b'"'), rest @ ..] => past(rest, &[*quote]) + 1,
            [b'-', b'-', rest @ ..] => past(rest, b"\n") + 2,
            [b'/', b'*', rest @ ..] => comment(rest) + 2,
            _ => 1,
        };
    }
    None
}

/// Returns the number of bytes up to and including a mark, or the whole length.
fn past(text: &[u8], mark: &[u8]) -> usize {
    let found = text.windows(mark.len()).position(|window| window == mark);
    found.map_or(text.len(), |at| at + mark.len())
}

/// Returns the length of the rest of a comment. Comments may be nested.
fn comment(text: &[u8]) -> usize {
    let (mut at, mut depth) = (0, 1);
    while at < text.len() && depth > 0 {
        at += match &text[at..] {
            [b'*', b'/', ..] => {
                depth -= 1;
                2
            }
            [b'/', b'*', ..] => {
                depth += 1;
                2
            }
            _ => 1,
        };
    }
    at
}

/// Returns whether a text contains only blanks and comments.
fn is_blank(text: &str) -> bool {
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let bytes = rest.as_bytes();
        let length = match bytes {
            [b'-', b'-', rest @ ..] => past(rest, b"\n") + 2,
            [b'/', b'*', rest @ ..] => comment(rest) + 2,
            _ => return false,
        };
        rest = rest[length..].trim_start();
    }
    true
}
