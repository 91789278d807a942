//! CSV, as RFC 4180 describes it, from JSON objects.

use std::borrow::Cow;
use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::format::{Body, Encode, make_room};
use super::json;
use crate::Written;

const LINE_END: &[u8] = b"\r\n";

/// The settings of [`Format::csv`](super::Format::csv).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[must_use]
pub struct CsvOptions {
    columns: Vec<String>,
    delimiter: u8,
    has_header: bool,
}

impl CsvOptions {
    /// Names the columns, in their order. Each is the name of a member of the records' JSON objects, or a path that begins with a dot: `.user.id` is
    /// the member `id` of the object `user`.
    pub fn new<T: Into<String>>(columns: impl IntoIterator<Item = T>) -> Self {
        Self { columns: columns.into_iter().map(T::into).collect(), delimiter: b',', has_header: false }
    }

    /// Sets whether objects begin with a header line of the column names. A path is named without its first dot. Default: no header, so objects can
    /// be concatenated.
    pub fn header(mut self, is_on: bool) -> Self {
        self.has_header = is_on;
        self
    }

    /// Sets the field delimiter: an ASCII character other than a quotation mark, a carriage return and a line feed. Default: a comma.
    pub fn delimiter(mut self, delimiter: char) -> Self {
        // Non-ASCII characters are refused like the quotation mark.
        self.delimiter = u8::try_from(delimiter).ok().filter(u8::is_ascii).unwrap_or(b'"');
        self
    }

    /// Checks the settings. The error is a sentence for the caller.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.columns.is_empty() {
            return Err("CSV needs at least one column".into());
        }
        if let Some(column) = self.columns.iter().find(|column| path(column).contains(&"")) {
            return Err(format!("the column {column:?} of CSV has an empty name"));
        }
        if matches!(self.delimiter, b'"' | b'\r' | b'\n') {
            return Err(
                "the delimiter of CSV is an ASCII character, and no quotation mark or end of a line".into()
            );
        }
        Ok(())
    }

    pub(super) fn begin(&self, buffer: Vec<u8>) -> CsvRows {
        let mut columns_of: HashMap<String, Vec<usize>> = HashMap::new();
        let paths: Vec<_> = self.columns.iter().map(|column| path(column)).collect();
        for (column, path) in paths.iter().enumerate() {
            columns_of.entry(path[0].to_owned()).or_default().push(column);
        }
        let inner = |path: &Vec<&str>| path[1..].iter().map(|&name| name.to_owned()).collect();
        let mut rows = CsvRows {
            columns_of,
            inner_paths: paths.iter().map(inner).collect(),
            names: self.columns.clone(),
            delimiter: self.delimiter,
            bytes: buffer,
            begin: 0,
            ends: vec![],
        };
        if self.has_header {
            let names = self.columns.iter().map(|name| name.strip_prefix('.').unwrap_or(name).as_bytes());
            push_line(names, self.delimiter, &mut rows.bytes);
            rows.begin = rows.bytes.len();
        }
        rows
    }
}

/// Returns the names of the members on the way to a value. The first one always exists.
fn path(column: &str) -> Vec<&str> {
    match column.strip_prefix('.') {
        Some(path) => path.split('.').collect(),
        None => vec![column],
    }
}

/// An object of CSV that is built.
#[derive(Debug)]
pub(super) struct CsvRows {
    /// The columns whose values are in a member of the records' objects.
    columns_of: HashMap<String, Vec<usize>>,
    /// The rest of each column's path inside that member.
    inner_paths: Vec<Vec<String>>,
    names: Vec<String>,
    delimiter: u8,
    bytes: Vec<u8>,
    /// Where the header ends.
    begin: usize,
    ends: Vec<usize>,
}

impl CsvRows {
    fn fields<'a>(&self, data: &'a [u8]) -> Result<Vec<Cow<'a, [u8]>>, String> {
        let mut values = vec![None; self.names.len()];
        json::find_members(data, |key, value| {
            let columns = self.columns_of.get(key);
            columns.into_iter().flatten().for_each(|&column| values[column] = Some(value));
        })?;
        let mut fields = Vec::with_capacity(values.len());
        for ((value, path), name) in values.into_iter().zip(&self.inner_paths).zip(&self.names) {
            let value = path
                .iter()
                .try_fold(value, |value, name| Some(value.and_then(|value| json::member(value, name))));
            let value = value.flatten().filter(|value| !value.is_null());
            let field = value.map(Written::decode).transpose();
            let field = field.map_err(|error| format!("column {name:?}: {error}"))?.unwrap_or_default();
            let is_json = value.is_some_and(|value| value.text.starts_with(['{', '[']));
            fields.push(if is_json { one_line(field.as_bytes()) } else { into_bytes(field) });
        }
        Ok(fields)
    }
}

impl Encode for CsvRows {
    fn push(&mut self, data: &[u8]) -> Result<(), String> {
        let fields = self.fields(data)?;
        let mut line = vec![];
        push_line(fields.iter().map(AsRef::as_ref), self.delimiter, &mut line);
        make_room(&mut self.bytes, line.len());
        self.bytes.extend_from_slice(&line);
        make_room(&mut self.ends, 1);
        self.ends.push(self.bytes.len());
        Ok(())
    }

    fn check(&self, data: &[u8]) -> Result<(), String> {
        self.fields(data).map(drop)
    }

    fn memory_bytes(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * size_of::<usize>()
    }

    fn finish(self: Box<Self>) -> std::io::Result<Body> {
        Ok(Body {
            bytes: self.bytes.into(),
            begin: self.begin,
            row_ends: self.ends,
            delimiter_bytes: LINE_END.len(),
        })
    }
}

fn into_bytes(text: Cow<'_, str>) -> Cow<'_, [u8]> {
    match text {
        Cow::Borrowed(text) => text.as_bytes().into(),
        Cow::Owned(text) => text.into_bytes().into(),
    }
}

fn one_line<'a>(value: &[u8]) -> Cow<'a, [u8]> {
    let mut line = vec![];
    json::push_on_one_line(value, false, &mut line);
    line.into()
}

/// Adds a line. Fields are quoted where necessary.
fn push_line<'a>(fields: impl Iterator<Item = &'a [u8]>, delimiter: u8, to: &mut Vec<u8>) {
    let begin = to.len();
    for (field, index) in fields.zip(0..) {
        if index > 0 {
            to.push(delimiter);
        }
        if !field.iter().any(|&byte| byte == delimiter || matches!(byte, b'"' | b'\r' | b'\n')) {
            to.extend_from_slice(field);
            continue;
        }
        to.push(b'"');
        for &byte in field {
            to.extend_from_slice(if byte == b'"' { b"\"\"" } else { std::slice::from_ref(&byte) });
        }
        to.push(b'"');
    }
    if to.len() == begin {
        // Many readers skip an empty line.
        to.extend_from_slice(b"\"\"");
    }
    to.extend_from_slice(LINE_END);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(options: &CsvOptions, records: &[&str]) -> (String, Vec<String>) {
        options.check().unwrap();
        let mut rows = Box::new(options.begin(vec![]));
        let refused = records.iter().filter_map(|record| rows.push(record.as_bytes()).err()).collect();
        let body = rows.finish().unwrap();
        let lines = body.rows().map(|row| [row, LINE_END].concat());
        assert_eq!(lines.collect::<Vec<_>>().concat(), body.bytes[body.begin..], "the rows are the lines");
        (String::from_utf8(body.bytes.to_vec()).unwrap(), refused)
    }

    #[test]
    fn objects_become_lines_and_what_is_no_object_is_refused() {
        let options = CsvOptions::new(["id", ".user.name", ".user.address.city", "a.b"]).header(true);
        let (csv, refused) = written(
            &options,
            &[
                r#"{"user": {"name": "Ann", "address": {"city": "Rome"}}, "id": 12345678901234567890123, "a.b": 1.50}"#,
                "[1]",
                r#"{"id": null, "user": "Ann", "other": 1}"#,
                "no json",
                r#"{"id": 1} {"id": 2}"#,
                r#"{"id": "\ud800"}"#,
                r#"{"id": 1, "id": {"x" :
                    [true, "a b"]}, "user": {"name": "M\u00fcller"}}"#,
            ],
        );
        let expected = "id,user.name,user.address.city,a.b\r\n12345678901234567890123,Ann,Rome,1.50\r\n,,,\r\n\
                        \"{\"\"x\"\":[true,\"\"a b\"\"]}\",Müller,,\r\n";
        assert_eq!(csv, expected);
        assert_eq!(refused.len(), 4, "{refused:?}");
        assert!(refused[0].starts_with("it is no JSON object: invalid type: sequence, expected an object"));
        assert!(refused[3].starts_with("column \"id\": "), "{refused:?}");
    }

    #[test]
    fn fields_are_quoted_where_they_have_to_be() {
        let options = CsvOptions::new(["a", "b"]).delimiter(';');
        let record = |a: &str, b: &str| serde_json::json!({ "a": a, "b": b }).to_string();
        let records = [record("x,y", "x;y"), record("a \"b\"", "\r"), record(" \n", ""), record("", "'")];
        let (csv, _) = written(&options, &records.each_ref().map(String::as_str));
        assert_eq!(csv, "x,y;\"x;y\"\r\n\"a \"\"b\"\"\";\"\r\"\r\n\" \n\";\r\n;'\r\n");
        let (csv, _) = written(&CsvOptions::new(["a"]), &["{}", "{\"a\": false}"]);
        assert_eq!(csv, "\"\"\r\nfalse\r\n");
    }

    #[test]
    fn settings_are_checked() {
        let refused = |options: CsvOptions| options.check().unwrap_err();
        assert!(refused(CsvOptions::new([""; 0])).contains("at least one"));
        assert!(refused(CsvOptions::new(["a", ".b..c"])).contains("\".b..c\""));
        for delimiter in ['"', '\n', 'é', '→'] {
            assert!(refused(CsvOptions::new(["a"]).delimiter(delimiter)).contains("delimiter"));
        }
    }
}
