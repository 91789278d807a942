//! Lines whose fields are separated by a delimiter.

use std::borrow::Cow;

/// How fields are separated, and how a delimiter within one is hidden.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Delimited {
    delimiter: String,
    escape: Option<String>,
    quotes: Option<(char, char)>,
}

impl Delimited {
    /// Checks the arguments. The error is a sentence for the caller.
    pub(super) fn new(delimiter: &str, escape: Option<&str>, quotes: Option<&str>) -> Result<Self, String> {
        if delimiter.is_empty() {
            return Err("the delimiter is empty".into());
        }
        let quotes = quotes.filter(|quotes| !quotes.is_empty()).map(|quotes| {
            let quotes: Vec<char> = quotes.chars().collect();
            match quotes[..] {
                [quote] => Ok((quote, quote)),
                [begin, end] => Ok((begin, end)),
                _ => Err("the quotes have to be one character, or two".to_owned()),
            }
        });
        let escape = escape.filter(|escape| !escape.is_empty()).map(str::to_owned);
        Ok(Self { delimiter: delimiter.to_owned(), escape, quotes: quotes.transpose()? })
    }

    /// Returns the fields of a line.
    pub(super) fn fields<'a>(&self, line: &'a str) -> Vec<Cow<'a, str>> {
        let mut fields = vec![];
        let (mut field, mut rest, mut is_quoted) = (Cow::Borrowed(""), line, false);
        while let Some(next) = rest.chars().next() {
            let (quote, of_delimiter) =
                (self.quotes.map(|(begin, end)| if is_quoted { end } else { begin }), self.delimiter.len());
            if let Some((escaped, behind)) = self.escaped(rest) {
                append(&mut field, escaped);
                rest = behind;
            } else if quote == Some(next) {
                is_quoted = !is_quoted;
                rest = &rest[next.len_utf8()..];
            } else if !is_quoted && rest.starts_with(&self.delimiter) {
                fields.push(std::mem::take(&mut field));
                rest = &rest[of_delimiter..];
            } else {
                append(&mut field, &rest[..next.len_utf8()]);
                rest = &rest[next.len_utf8()..];
            }
        }
        fields.push(field);
        fields
    }

    /// Returns the text after an escape, a whole delimiter or a character, and the rest.
    fn escaped<'a>(&self, text: &'a str) -> Option<(&'a str, &'a str)> {
        let behind = text.strip_prefix(self.escape.as_deref()?)?;
        let length = match behind.starts_with(&self.delimiter) {
            true => self.delimiter.len(),
            false => behind.chars().next()?.len_utf8(),
        };
        Some(behind.split_at(length))
    }
}

fn append<'a>(field: &mut Cow<'a, str>, text: &'a str) {
    if field.is_empty() {
        *field = Cow::Borrowed(text);
    } else {
        field.to_mut().push_str(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delimiters_are_hidden_by_escapes_and_quotes() {
        let fields = |delimiter, escape, quotes, line: &str| -> Vec<String> {
            let split = Delimited::new(delimiter, escape, quotes).unwrap();
            split.fields(line).into_iter().map(Cow::into_owned).collect()
        };
        assert_eq!(fields(",", None, None, "a,b,,d"), ["a", "b", "", "d"]);
        assert_eq!(fields(",", None, None, ""), [""]);
        assert_eq!(fields("::", None, None, "a::b:c"), ["a", "b:c"]);
        // The example of Amazon's documentation.
        assert_eq!(fields(",", Some("\\"), None, r"a\,b"), ["a,b"]);
        assert_eq!(fields("::", Some("\\"), None, r"a\::b::c\"), ["a::b", "c\\"]);
        assert_eq!(fields(",", None, Some("\""), "\"a,b\",c"), ["a,b", "c"]);
        assert_eq!(fields(",", None, Some("<>"), "<a,<b>,c"), ["a,<b", "c"]);
        assert_eq!(fields(",", Some("\\"), Some("'"), r"'it\'s, so',é"), ["it's, so", "é"]);
        assert!(Delimited::new("", None, None).is_err());
        assert!(Delimited::new(",", None, Some("abc")).is_err());
    }
}
