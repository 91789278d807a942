//! The narrowest types that all values of samples fit into.

use super::TYPE_DEPTH_MAX;
use crate::{JsonSkip, MalformedJson, decode_json_text};

/// What is known of the values of a column.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Sampled {
    Nothing,
    Boolean,
    /// Numbers of 64 bits.
    Whole,
    Double,
    /// Values that have no narrower type in common, too.
    Text,
    List(Box<Sampled>),
    /// Without members, it might be anything.
    Struct(Vec<(String, Sampled)>),
}

/// Returns the members of all records that are JSON objects, in the order in which their names came first. Names that differ in upper and lower case
/// only are one, the first of them. What is nested deeper than types may be is a text.
pub(crate) fn sample_members<R: AsRef<[u8]>>(records: impl IntoIterator<Item = R>) -> Vec<(String, Sampled)> {
    let mut sampled = vec![];
    for record in records {
        let Ok(text) = std::str::from_utf8(record.as_ref()) else { continue };
        let mut skip = JsonSkip::new(text, 0, 0);
        // All of it first: what is malformed at its end is no JSON.
        if skip.value().is_err() || skip.pass_spaces() != 0 || skip.at != text.len() {
            continue;
        }
        if let Ok(Sampled::Struct(members)) = Sampled::of(text.trim_ascii(), 0) {
            merge_members(&mut sampled, members);
        }
    }
    sampled
}

impl Sampled {
    /// `depth` is that of the value: 1 for one of a column. The value has been checked, and is without blanks around it.
    fn of(value: &str, depth: usize) -> Result<Self, MalformedJson> {
        let is_deepest = depth == TYPE_DEPTH_MAX;
        Ok(match value.as_bytes().first() {
            Some(b'n') => Self::Nothing,
            Some(b't' | b'f') => Self::Boolean,
            Some(b'[') if !is_deepest => {
                let mut items = Self::Nothing;
                each(value, |_, item| {
                    items = std::mem::replace(&mut items, Self::Nothing).merge(Self::of(item, depth + 1)?);
                    Ok(())
                })?;
                Self::List(Box::new(items))
            }
            Some(b'{') if !is_deepest => {
                let mut members = vec![];
                each(value, |name, member| {
                    add(&mut members, name, Self::of(member, depth + 1)?);
                    Ok(())
                })?;
                Self::Struct(members)
            }
            Some(b'-' | b'0'..=b'9') if value.parse::<i64>().is_ok() => Self::Whole,
            Some(b'-' | b'0'..=b'9') if is_fraction(value) => Self::Double,
            _ => Self::Text,
        })
    }

    /// Returns what holds values of both.
    fn merge(self, other: Self) -> Self {
        match (self, other) {
            (Self::Nothing, other) | (other, Self::Nothing) => other,
            (Self::Whole, Self::Double) | (Self::Double, Self::Whole) => Self::Double,
            (Self::List(a), Self::List(b)) => Self::List(Box::new(a.merge(*b))),
            (Self::Struct(mut a), Self::Struct(b)) => {
                merge_members(&mut a, b);
                Self::Struct(a)
            }
            (a, b) if a == b => a,
            _ => Self::Text,
        }
    }
}

/// Calls a function with each item of a list or each member of an object, which has been checked. An item has no name.
fn each(
    value: &str,
    mut call: impl FnMut(&str, &str) -> Result<(), MalformedJson>,
) -> Result<(), MalformedJson> {
    let mut skip = JsonSkip::new(value, 0, 0);
    let is_object = skip.next() == b'{';
    skip.open()?;
    if matches!(skip.pass_spaces(), b']' | b'}') {
        return Ok(());
    }
    loop {
        let mut name = String::new();
        skip.pass_spaces();
        if is_object {
            let start = skip.at + 1;
            skip.string()?;
            name = decode_json_text(&value[start..skip.at - 1]);
            skip.pass_spaces();
            skip.at += 1;
            skip.pass_spaces();
        }
        let start = skip.at;
        skip.value()?;
        call(&name, &value[start..skip.at])?;
        if skip.pass_spaces() != b',' {
            return Ok(());
        }
        skip.at += 1;
    }
}

/// Returns whether a number that is not whole, or not written so, is a double.
fn is_fraction(text: &str) -> bool {
    text.contains(['.', 'e', 'E']) && text.parse::<f64>().is_ok_and(f64::is_finite)
}

fn merge_members(members: &mut Vec<(String, Sampled)>, more: Vec<(String, Sampled)>) {
    more.into_iter().for_each(|(name, sampled)| add(members, &name, sampled));
}

fn add(members: &mut Vec<(String, Sampled)>, name: &str, sampled: Sampled) {
    let is_same = |other: &str| other == name || other.to_lowercase() == name.to_lowercase();
    match members.iter_mut().find(|(other, _)| is_same(other)) {
        Some((_, known)) => *known = std::mem::replace(known, Sampled::Nothing).merge(sampled),
        // A column has a name.
        None if name.is_empty() => {}
        None => members.push((name.to_owned(), sampled)),
    }
}
