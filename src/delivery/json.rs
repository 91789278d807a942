//! JSON objects, read member by member; values keep the text that they were written as, so that no number loses a digit.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::check_json;

/// Checks that data is one JSON value, in UTF-8. Returns whether it is on one line. The error is a sentence about the data.
pub(super) fn check(data: &[u8]) -> Result<bool, String> {
    let text = std::str::from_utf8(data).map_err(|error| format!("it is no JSON: {error}"))?;
    check_json(text).map_err(|error| format!("it is no JSON: {error}"))
}

/// Adds JSON without the blanks around it, and on one line: if there is a line feed, without any blanks between its tokens. If it is known that there
/// is none, nobody looks for one.
pub(super) fn push_on_one_line(json: &[u8], is_on_one_line: bool, to: &mut Vec<u8>) {
    let json = json.trim_ascii();
    if is_on_one_line || !json.contains(&b'\n') && !json.contains(&b'\r') {
        to.extend_from_slice(json);
        return;
    }
    let (mut is_in_text, mut is_escaped) = (false, false);
    for &byte in json {
        let is_blank = matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        if is_in_text || !is_blank {
            to.push(byte);
        }
        is_in_text = match byte {
            b'"' if !is_escaped => !is_in_text,
            _ => is_in_text,
        };
        is_escaped = is_in_text && byte == b'\\' && !is_escaped;
    }
}

/// A text, borrowed unless it has escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

struct Members<F>(F);

impl<'de, F: FnMut(&str, &'de RawValue)> Visitor<'de> for Members<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some((Text(key), value)) = map.next_entry()? {
            (self.0)(&key, value);
        }
        Ok(())
    }
}

/// Calls a function with each member of an object, in order. Fails for anything that is no object.
pub(super) fn for_each_member<'a>(
    json: &'a [u8],
    each: impl FnMut(&str, &'a RawValue),
) -> Result<(), String> {
    let mut from = serde_json::Deserializer::from_slice(json);
    let read = from.deserialize_map(Members(each)).and_then(|()| from.end());
    read.map_err(|error| format!("it is no JSON object: {error}"))
}

/// Returns the value of a member, or `None` if the value is no object or has no such member. Of several, the last one counts.
pub(super) fn member<'a>(value: &'a RawValue, name: &str) -> Option<&'a RawValue> {
    let mut found = None;
    for_each_member(value.get().as_bytes(), |key, value| {
        if key == name {
            found = Some(value);
        }
    })
    .ok()?;
    found
}

pub(super) fn is_null(value: &RawValue) -> bool {
    value.get() == "null"
}

pub(super) fn is_text(value: &RawValue) -> bool {
    value.get().starts_with('"')
}

/// Returns a text without quotes and escapes, and any other value as it was written. Fails for half of a surrogate pair.
pub(super) fn text(value: &RawValue) -> Result<Cow<'_, str>, String> {
    if !is_text(value) {
        return Ok(value.get().into());
    }
    let Text(text) = serde_json::from_str(value.get()).map_err(|error| error.to_string())?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_checked_to_the_end_and_put_on_one_line() {
        for (data, line) in [
            (&b" {\"a\": 1}\t"[..], "{\"a\": 1}"),
            (b"\n{\"a b\": [1,\r\n \"\\\" \\\\\" ]}", "{\"a b\":[1,\"\\\" \\\\\"]}"),
        ] {
            let mut written = vec![];
            push_on_one_line(data, check(data).expect("it is JSON"), &mut written);
            assert_eq!(String::from_utf8_lossy(&written), line);
        }
        for data in [&b""[..], b"{\"a\":1}}", b"{\"a\":\"\xff\"}", b"{\"a\":\"\\udc00\"}", b"[1,]"] {
            assert!(check(data).is_err_and(|reason| reason.starts_with("it is no JSON: ")), "{data:?}");
        }
    }
}
