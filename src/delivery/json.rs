//! JSON objects, read member by member; values keep the text that they were written as, so that no number loses a digit.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::{Written, check_json};

/// Checks that data is one JSON value, in UTF-8. Returns whether it is on one line. The error is a sentence about the data.
pub(super) fn check(data: &[u8]) -> Result<bool, String> {
    let text = std::str::from_utf8(data).map_err(|error| format!("it is no JSON: {error}"))?;
    check_json(text).map_err(|error| format!("it is no JSON: {error}"))
}

/// Adds JSON without the blanks around it, and on one line: if there is a line feed, without any blanks between its tokens. If it is known that there
/// is none, the search is skipped.
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

/// Calls a function with each member of an object, in order. Fails for anything that is not an object.
pub(super) fn for_each_member<'a>(
    json: &'a [u8],
    each: impl FnMut(&str, &'a RawValue),
) -> Result<(), String> {
    let mut from = serde_json::Deserializer::from_slice(json);
    let read = from.deserialize_map(Members(each)).and_then(|()| from.end());
    read.map_err(|error| format!("it is no JSON object: {error}"))
}

/// Finds members of an object: calls a function with each of them, in order. Fails as [`for_each_member`] does. If the object is unusual, the function
/// may get some members a second time, in the same order, before it gets the others.
pub(super) fn find_members<'a>(
    json: &'a [u8],
    mut each: impl FnMut(&str, Written<'a>),
) -> Result<(), String> {
    let mut are_names_plain = true;
    let read = std::str::from_utf8(json).is_ok_and(|text| {
        let read = crate::for_each_member(text, |name, value| {
            are_names_plain &= !name.has_escapes;
            if !name.has_escapes {
                each(name.text, value);
            }
        });
        read.is_ok()
    });
    if read && are_names_plain {
        return Ok(());
    }
    // The other parser decodes names, takes a little more, such as deeper nesting, and says what is wrong.
    for_each_member(json, |name, value| each(name, written(value)))
}

pub(super) fn written(value: &RawValue) -> Written<'_> {
    Written { text: value.get(), has_escapes: value.get().contains('\\') }
}

/// Returns the value of a member, or `None` if the value is not an object or has no such member. Of several, the last one counts.
pub(super) fn member<'a>(value: Written<'a>, name: &str) -> Option<Written<'a>> {
    let mut found = None;
    find_members(value.text.as_bytes(), |key, value| {
        if key == name {
            found = Some(value);
        }
    })
    .ok()?;
    found
}

impl<'a> Written<'a> {
    pub(super) fn is_null(self) -> bool {
        self.text == "null"
    }

    pub(super) fn is_text(self) -> bool {
        self.text.starts_with('"')
    }

    /// Returns a text without quotes and escapes, and any other value as it was written. Fails for half of a surrogate pair.
    pub(super) fn decode(self) -> Result<Cow<'a, str>, String> {
        if !self.is_text() {
            return Ok(self.text.into());
        }
        if !self.has_escapes {
            return Ok(self.text[1..self.text.len() - 1].into());
        }
        let Text(text) = serde_json::from_str(self.text).map_err(|error| error.to_string())?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const OBJECTS: [&str; 4] = [
        r#"{"at":1700000000000,"user":"user-17","total":-12.50,"is_new":true,"tags":["a",null,{}],"name":"Zo\u00eb"}"#,
        " { \"a\" : { \"b\" : [ 1 , 2 ] } , \"\\u0061\" : \"second\", \"c\" : null }\n",
        r#"{"a":1,"b":"\ud800","a":"2"}"#,
        "{}",
    ];

    proptest! {
        #[test]
        fn the_fast_search_finds_what_the_parser_finds_and_fails_where_and_as_it_does(
            object in prop::sample::select(&OBJECTS[..]),
            changes in prop::collection::vec((any::<prop::sample::Index>(), prop::option::of(any::<u8>())), 0..3),
        ) {
            let mut bytes = object.as_bytes().to_vec();
            for (place, byte) in changes {
                let place = place.index(bytes.len());
                match byte {
                    Some(byte) => bytes[place] = byte,
                    None => bytes.truncate(place.max(1)),
                }
            }
            let (mut found, mut expected) = (BTreeMap::new(), BTreeMap::new());
            let of_text = |value: Written<'_>| (value.text.to_owned(), value.decode().map(Cow::into_owned));
            let search = find_members(&bytes, |name, value| _ = found.insert(name.to_owned(), of_text(value)));
            let read = for_each_member(&bytes, |name, value| {
                let text = if value.get().starts_with('"') {
                    serde_json::from_str(value.get()).map_err(|error| error.to_string())
                } else {
                    Ok(value.get().to_owned())
                };
                expected.insert(name.to_owned(), (value.get().to_owned(), text));
            });
            prop_assert_eq!(&search, &read);
            if read.is_ok() {
                prop_assert_eq!(found, expected);
            }
        }
    }

    #[test]
    fn names_with_escapes_are_found_under_what_they_mean_only() {
        let mut found = vec![];
        let json = br#"{"\u0061": 1, "b": 2}"#;
        find_members(json, |name, value| found.push((name.to_owned(), value.text))).unwrap();
        // The members found by the first pass come again, and never with an undecoded name.
        assert_eq!(found, [("b", "2"), ("a", "1"), ("b", "2")].map(|(name, text)| (name.to_owned(), text)));
        let deep = format!(r#"{{"a": {}{}}}"#, "[".repeat(200), "]".repeat(200));
        let mut names = vec![];
        find_members(deep.as_bytes(), |name, _| names.push(name.to_owned())).unwrap();
        assert_eq!(names, ["a"]);
    }

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
