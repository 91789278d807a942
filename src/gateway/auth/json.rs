//! JSON in which no key occurs twice, so that nothing is silently dropped.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Parses a document of at most `bytes_max` bytes. The depth is bounded by `serde_json`.
pub(super) fn parse(text: &str, bytes_max: usize) -> Result<Value, String> {
    if text.len() > bytes_max {
        return Err(format!("the document has {} bytes, and may have {bytes_max}", text.len()));
    }
    let Unique(value) = serde_json::from_str(text).map_err(|error| error.to_string())?;
    Ok(value)
}

/// Takes an object's members. `what` names the value in the error.
pub(super) fn object<'a>(value: &'a Value, what: &str) -> Result<&'a Map<String, Value>, String> {
    value.as_object().ok_or_else(|| format!("{what} must be an object"))
}

/// Refuses members other than these.
pub(super) fn check_members(members: &Map<String, Value>, known: &[&str], what: &str) -> Result<(), String> {
    match members.keys().find(|name| !known.contains(&name.as_str())) {
        Some(unknown) => {
            Err(format!("{what} has the unknown field {unknown:?}; it may have {}", known.join(", ")))
        }
        None => Ok(()),
    }
}

/// Takes a string, or a list of strings with at least one.
pub(super) fn strings<'a>(value: &'a Value, what: &str) -> Result<Vec<&'a str>, String> {
    let strings: Option<Vec<_>> = match value {
        Value::String(text) => Some(vec![text.as_str()]),
        Value::Array(values) => values.iter().map(Value::as_str).collect(),
        _ => None,
    };
    strings
        .filter(|strings| !strings.is_empty())
        .ok_or_else(|| format!("{what} must be a string or a list of strings"))
}

struct Unique(Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UniqueVisitor).map(Self)
    }
}

struct UniqueVisitor;

impl<'de> Visitor<'de> for UniqueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut values = vec![];
        while let Some(Unique(value)) = items.next_element()? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some((name, Unique(value))) = items.next_entry::<String, Unique>()? {
            if members.contains_key(&name) {
                return Err(A::Error::custom(format!("the key {name:?} stands twice")));
            }
            members.insert(name, value);
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_what_serde_json_reads() {
        let text = r#"{"a": [1, -2, 0.5, true, null, "é\n"], "b": {"a": {}}}"#;
        assert_eq!(parse(text, 1_000).unwrap(), serde_json::from_str::<Value>(text).unwrap());
    }

    #[test]
    fn a_key_that_stands_twice_is_refused() {
        let error = parse(r#"{"a": {"Effect": 1, "Effect": 2}}"#, 1_000).unwrap_err();
        assert!(error.contains(r#"the key "Effect" stands twice"#), "{error}");
    }

    #[test]
    fn size_and_depth_are_bounded() {
        assert_eq!(parse("[1]", 2).unwrap_err(), "the document has 3 bytes, and may have 2");
        let deep = "[".repeat(10_000);
        assert!(parse(&deep, 20_000).unwrap_err().contains("recursion limit"));
        assert!(parse("[1] 2", 100).is_err());
    }
}
