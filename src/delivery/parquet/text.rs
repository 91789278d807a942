//! Schemas as texts, such as `page string not null, tags list<string>`: written, and parsed, also with Hive's names of types.

use std::fmt;
use std::str::FromStr;

use super::schema::{Column, ParquetSchema, ParquetType};
use crate::Error;
use crate::TYPE_DEPTH_MAX;

/// Prints the schema as text that [`parse`](str::parse) reads.
///
/// ```
/// use streamlog::delivery::{ParquetSchema, ParquetType};
///
/// let schema = ParquetSchema::new()
///     .required("page", ParquetType::String)
///     .column("price", ParquetType::Decimal { precision: 10, scale: 2 })
///     .column("user id", ParquetType::list(ParquetType::Int64));
/// let text = r#"page string not null, price decimal(10, 2), "user id" list<int64>"#;
/// assert_eq!(schema.to_string(), text);
/// assert_eq!(text.parse::<ParquetSchema>()?, schema);
/// # Ok::<(), streamlog::Error>(())
/// ```
impl fmt::Display for ParquetSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Column { name, of, is_required }) in self.columns.iter().enumerate() {
            f.write_str(if index > 0 { ", " } else { "" })?;
            match is_plain(name) {
                true => f.write_str(name)?,
                false => write!(f, "{}", serde_json::Value::from(&**name))?,
            }
            f.write_str(" ")?;
            write_type(of, f)?;
            f.write_str(if *is_required { " not null" } else { "" })?;
        }
        Ok(())
    }
}

fn write_type(of: &ParquetType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match of {
        ParquetType::List(items) => {
            f.write_str("list<")?;
            write_type(items, f)?;
            f.write_str(">")
        }
        ParquetType::Struct(fields) => write!(f, "struct<{fields}>"),
        ParquetType::Bytes => f.write_str("bytes"),
        other => write!(f, "{other}"),
    }
}

/// Returns whether a name is written without quotes.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(is_of_word)
}

fn is_of_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')
}

/// Parses a schema: columns separated by commas, each a name, a type and optionally `not null`. A name with characters other than letters, digits,
/// `_`, `-` and `.` is in quotes, as in JSON.
///
/// Types are `bool`, `int32`, `int64`, `float`, `double`, `string`, `bytes` (in Base64), `timestamp`, `decimal(10, 2)`, `list<…>` and `struct<…>`,
/// which contains columns. For compatibility with Hive and Glue, it also accepts `boolean`, `int`, `bigint`, `binary`, `array<…>` and a colon before
/// a type.
///
/// ```
/// use streamlog::delivery::ParquetSchema;
///
/// let schema: ParquetSchema = "id bigint not null, tags array<string>, user struct<id:int,name:string>".parse()?;
/// assert_eq!(schema.to_string(), "id int64 not null, tags list<string>, user struct<id int32, name string>");
/// # Ok::<(), streamlog::Error>(())
/// ```
impl FromStr for ParquetSchema {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let mut parser = Parser { text, at: 0 };
        let schema = parser.columns(1).and_then(|schema| match parser.peek() {
            None => Ok(schema),
            Some(_) => Err(parser.expected("a comma")),
        });
        schema.map_err(|reason| Error::InvalidArgument(format!("{text:?} is no schema: {reason}").into()))
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    /// Returns the next non-blank character, without taking it.
    fn peek(&mut self) -> Option<char> {
        self.at += self.rest().len() - self.rest().trim_start().len();
        self.rest().chars().next()
    }

    fn takes(&mut self, char: char) -> bool {
        let is_there = self.peek() == Some(char);
        self.at += if is_there { char.len_utf8() } else { 0 };
        is_there
    }

    fn take(&mut self, char: char) -> Result<(), String> {
        if self.takes(char) { Ok(()) } else { Err(self.expected(&format!("{char:?}"))) }
    }

    fn expected(&mut self, what: &str) -> String {
        match self.peek() {
            Some(found) => format!("expected {what} at byte {}, found {found:?}", self.at),
            None => format!("expected {what} at its end"),
        }
    }

    fn word(&mut self) -> &'a str {
        self.peek();
        let word = self.rest();
        let end = word.bytes().position(|byte| !is_of_word(byte)).unwrap_or(word.len());
        self.at += end;
        &word[..end]
    }

    fn columns(&mut self, depth: usize) -> Result<ParquetSchema, String> {
        let mut schema = ParquetSchema::new();
        loop {
            let name = self.name()?;
            self.takes(':');
            let of = self.of(depth)?;
            let before = self.at;
            let is_required = self.word().eq_ignore_ascii_case("not");
            if is_required && !self.word().eq_ignore_ascii_case("null") {
                return Err(self.expected("`not null`"));
            }
            if !is_required {
                self.at = before;
            }
            schema.columns.push(Column { name, of, is_required });
            if !self.takes(',') {
                return Ok(schema);
            }
        }
    }

    fn name(&mut self) -> Result<String, String> {
        if self.peek() == Some('"') {
            let mut names = serde_json::Deserializer::from_str(self.rest()).into_iter::<String>();
            let name = names.next().and_then(Result::ok);
            let bytes = names.byte_offset();
            let name = name.ok_or_else(|| self.expected("a name in quotes"))?;
            self.at += bytes;
            return Ok(name);
        }
        match self.word() {
            "" => Err(self.expected("the name of a column")),
            name => Ok(name.to_owned()),
        }
    }

    fn of(&mut self, depth: usize) -> Result<ParquetType, String> {
        if depth > TYPE_DEPTH_MAX {
            return Err(format!("it is nested deeper than {TYPE_DEPTH_MAX} levels"));
        }
        let at = self.at;
        let name = self.word().to_ascii_lowercase();
        Ok(match &*name {
            "bool" | "boolean" => ParquetType::Bool,
            "int32" | "int" | "integer" => ParquetType::Int32,
            "int64" | "bigint" => ParquetType::Int64,
            "float" => ParquetType::Float,
            "double" => ParquetType::Double,
            "string" => ParquetType::String,
            "bytes" | "binary" => ParquetType::Bytes,
            "timestamp" => ParquetType::Timestamp,
            "decimal" => {
                self.take('(')?;
                let precision = self.number()?;
                let scale = if self.takes(',') { self.number()? } else { 0 };
                self.take(')')?;
                ParquetType::Decimal { precision, scale }
            }
            "list" | "array" => {
                self.take('<')?;
                let items = self.of(depth + 1)?;
                self.take('>')?;
                ParquetType::list(items)
            }
            "struct" => {
                self.take('<')?;
                let fields = self.columns(depth + 1)?;
                self.take('>')?;
                ParquetType::Struct(fields)
            }
            "" => return Err(self.expected("a type")),
            unknown => {
                self.at = at;
                return Err(format!("the type {unknown:?} is unknown"));
            }
        })
    }

    fn number(&mut self) -> Result<u8, String> {
        let word = self.word();
        word.parse().map_err(|_| format!("{word:?} is no number of digits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        text.parse::<ParquetSchema>().unwrap_err().to_string()
    }

    #[test]
    fn what_is_written_is_read_and_what_is_wrong_is_named() {
        let inner =
            ParquetSchema::new().required("n-1", ParquetType::Bytes).column("ü \"x\"", ParquetType::Float);
        let schema = ParquetSchema::new()
            .required("not", ParquetType::Bool)
            .column("null", ParquetType::Int32)
            .column("a.b", ParquetType::list(ParquetType::list(inner.clone())))
            .column("", ParquetType::Timestamp)
            .required("s", inner)
            .column("d", ParquetType::Decimal { precision: 38, scale: 0 });
        assert_eq!(schema.to_string().parse::<ParquetSchema>().unwrap(), schema);
        let loose = " id : BIGINT Not  Null ,tags array < int >,d decimal( 3 ),\"x\\n\" boolean";
        let strict = "id int64 not null, tags list<int32>, d decimal(3, 0), \"x\\n\" bool";
        assert_eq!(loose.parse::<ParquetSchema>().unwrap().to_string(), strict);

        for (text, reason) in [
            ("", "expected the name of a column at its end"),
            ("id", "expected a type at its end"),
            ("id int64,", "expected the name of a column at its end"),
            ("id what", "the type \"what\" is unknown"),
            ("id int64 not", "expected `not null` at its end"),
            ("id int64 page string", "expected a comma at byte 9, found 'p'"),
            ("id list<int64", "expected '>' at its end"),
            ("id decimal(x)", "\"x\" is no number of digits"),
            ("\"id int64", "expected a name in quotes at byte 0, found '\"'"),
        ] {
            assert!(refused(text).ends_with(reason), "{text}: {}", refused(text));
        }
        assert!(refused(&format!("a {}", "list<".repeat(100_000))).contains("deeper than"));
    }
}
