//! Paths into JSON, such as `$.user.tags[0]`, as SQL's `JSON_VALUE` has them.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// The longest path, in bytes.
const TEXT_MAX: usize = 1_024;

/// A path that was parsed.
#[derive(Debug, PartialEq)]
pub(super) struct Path(Vec<Step>);

#[derive(Debug, PartialEq)]
enum Step {
    Member(String),
    Item(usize),
}

impl Path {
    /// Parses a path. The error is a sentence for the caller.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let refused =
            |what: &str| format!("the path {text:?} {what}: write it as $.user.tags[0] or $.\"a name\"");
        if text.len() > TEXT_MAX {
            return Err(format!("a path of {} bytes: it may have {TEXT_MAX}", text.len()));
        }
        let mut rest = text.trim().strip_prefix('$').ok_or_else(|| refused("does not begin with $"))?;
        let mut steps = vec![];
        while !rest.is_empty() {
            let step;
            (step, rest) = if let Some(behind) = rest.strip_prefix(".\"") {
                let (name, behind) =
                    behind.split_once('"').ok_or_else(|| refused("has a quote without an end"))?;
                (Step::Member(name.to_owned()), behind)
            } else if let Some(behind) = rest.strip_prefix('.') {
                let end = behind.find(['.', '[']).unwrap_or(behind.len());
                (Step::Member(behind[..end].to_owned()), &behind[end..])
            } else if let Some(behind) = rest.strip_prefix('[') {
                let (index, behind) =
                    behind.split_once(']').ok_or_else(|| refused("has a bracket without an end"))?;
                let index = index
                    .trim()
                    .parse()
                    .map_err(|_| refused("has something else than a number in brackets"))?;
                (Step::Item(index), behind)
            } else {
                return Err(refused("has something else than a dot or a bracket after a name"));
            };
            if step == Step::Member(String::new()) {
                return Err(refused("has a dot without a name"));
            }
            steps.push(step);
        }
        Ok(Self(steps))
    }

    /// Returns the value at the path as it is written, or none if there is none or the data is not JSON.
    pub(super) fn find<'a>(&self, json: &'a [u8]) -> Option<&'a RawValue> {
        let mut value: &RawValue = serde_json::from_slice(json).ok()?;
        for step in &self.0 {
            let mut json = serde_json::Deserializer::from_str(value.get());
            value = match step {
                Step::Member(name) => json.deserialize_map(Member(name)),
                Step::Item(index) => json.deserialize_seq(Item(*index)),
            }
            .ok()?;
        }
        Some(value)
    }
}

/// Finds a member of an object. If there are several of its name, the last one counts.
struct Member<'n>(&'n str);

impl<'de> Visitor<'de> for Member<'_> {
    type Value = &'de RawValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object with the member {:?}", self.0)
    }

    fn visit_map<M: MapAccess<'de>>(self, mut members: M) -> Result<Self::Value, M::Error> {
        let mut found = None;
        while let Some(name) = members.next_key::<Name<'de>>()? {
            if name.0 == self.0 {
                found = Some(members.next_value()?);
            } else {
                members.next_value::<IgnoredAny>()?;
            }
        }
        found.ok_or_else(|| M::Error::custom("no such member"))
    }
}

#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// Finds an item of a list.
struct Item(usize);

impl<'de> Visitor<'de> for Item {
    type Value = &'de RawValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list with more than {} items", self.0)
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut items: S) -> Result<Self::Value, S::Error> {
        for _ in 0..self.0 {
            if items.next_element::<IgnoredAny>()?.is_none() {
                return Err(S::Error::custom("no such item"));
            }
        }
        let found = items.next_element()?.ok_or_else(|| S::Error::custom("no such item"))?;
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_to_members_and_items() {
        let json =
            br#"{"user": {"id": 7, "tags": ["new", {"a b": null}], "id": 8}, "n\u0061me": "x", "empty": []}"#;
        let found = |path: &str| Path::parse(path).unwrap().find(json).map(RawValue::get);
        assert_eq!(found("$.user.id"), Some("8"), "the last one counts");
        assert_eq!(found("$.user.tags[0]"), Some("\"new\""));
        assert_eq!(found("$.user.tags[1].\"a b\""), Some("null"));
        assert_eq!(found("$.name"), Some("\"x\""));
        assert_eq!(found("$").map(str::len), Some(json.len()));
        for nothing in
            ["$.user.tags[2]", "$.empty[0]", "$.user.tags.id", "$.user[0]", "$.User", "$.user.id.x"]
        {
            assert_eq!(found(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn l6_paths_that_are_none_are_refused_and_what_is_no_json_has_no_values() {
        let long = format!("${}", ".a".repeat(600));
        for path in
            ["", "user", "$user", "$.", "$..a", "$.a[", "$.a[x]", "$.a[-1]", "$.\"a", "$.a[0]b", &long]
        {
            assert!(Path::parse(path).is_err(), "{path}");
        }
        let deep = "[".repeat(100_000);
        for json in [&b"{"[..], b"", b"\xff", deep.as_bytes()] {
            assert!(Path::parse("$[0]").unwrap().find(json).is_none());
        }
    }
}
