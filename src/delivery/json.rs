//! JSON objects, read member by member; values keep the text that they were written as, so that no number loses a digit.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer as _, MapAccess, Visitor};
use serde_json::value::RawValue;

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
