//! Converts a request's members to their types as the service does, or refuses them in its words.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::shape::{Member, Shape};
use crate::Timestamp;
use crate::gateway::fault::{Answered, Fault};
use crate::gateway::wire::{Map, Value};

/// The latest time: later ones are capped, so that sums of times do not overflow.
const MILLIS_MAX: u64 = 1_000_000_000_000_000;

const LIST_FOUND: &str = "Start of list found where not expected";
const MAP_FOUND: &str = "Start of structure or map found where not expected.";

/// Converts the members of a structure, in the order of its table. Absent and null members are left out.
pub(super) fn structure<'a>(value: Value<'a>, members: &'static [Member]) -> Answered<Map<'a>> {
    let Value::Map(mut given) = value else {
        return Err(Fault::serialization(if matches!(value, Value::List(_)) {
            LIST_FOUND
        } else {
            "Expected null"
        }));
    };
    let mut converted = Vec::with_capacity(members.len());
    for member in members {
        let Some(at) = given.iter().rposition(|(name, _)| name == member.name) else { continue };
        match std::mem::replace(&mut given[at].1, Value::Null) {
            Value::Null => {}
            value => converted.push((Cow::Borrowed(member.name), convert(value, member.shape)?)),
        }
    }
    Ok(converted)
}

fn convert<'a>(value: Value<'a>, shape: &'static Shape) -> Answered<Value<'a>> {
    match (shape, value) {
        (Shape::Text { .. }, value @ Value::Text(_))
        | (Shape::Boolean, value @ Value::Bool(_))
        | (Shape::Blob(_), value @ Value::Blob(_)) => Ok(value),
        (Shape::Time, Value::Time(time)) => Ok(Value::Time(time.min(Timestamp::from_millis(MILLIS_MAX)))),
        (Shape::Blob(_), Value::Text(text)) => blob(&text).map(|bytes| Value::Blob(bytes.into())),
        (Shape::Integer(_), Value::Integer(number)) => Ok(Value::Integer(clamp(number))),
        (Shape::Integer(_), Value::Float(number)) => Ok(Value::Integer(clamp(number.floor() as i64))),
        (Shape::Time, Value::Integer(seconds)) => Ok(Value::Time(time(seconds as f64))),
        (Shape::Time, Value::Float(seconds)) => Ok(Value::Time(time(seconds))),
        (Shape::Texts { .. }, Value::List(items)) => {
            let text = |item| match item {
                Value::Text(_) | Value::Null => Ok(item),
                other => Err(not_a("an String", &other)),
            };
            items.into_iter().map(text).collect::<Answered<_>>().map(Value::List)
        }
        (Shape::Structures { members, .. }, Value::List(items)) => {
            let item = |item| match item {
                Value::Null => Ok(Value::Null),
                item => structure(item, members).map(Value::Map),
            };
            items.into_iter().map(item).collect::<Answered<_>>().map(Value::List)
        }
        (Shape::TextMap { .. }, Value::Map(texts)) => {
            let text = |(name, value)| match value {
                Value::Text(_) | Value::Null => Ok((name, value)),
                other => Err(not_a("an String", &other)),
            };
            texts.into_iter().map(text).collect::<Answered<_>>().map(Value::Map)
        }
        (Shape::Structure(members), value) => structure(value, members).map(Value::Map),
        (shape, value) => Err(wrong(shape, &value)),
    }
}

fn wrong(shape: &Shape, value: &Value<'_>) -> Fault {
    match (shape, value) {
        (Shape::Texts { .. } | Shape::Structures { .. }, Value::Map(_)) => Fault::serialization(MAP_FOUND),
        (Shape::Texts { .. } | Shape::Structures { .. }, _) => Fault::serialization("Expected list or null"),
        (Shape::TextMap { .. }, Value::List(_)) => Fault::serialization(LIST_FOUND),
        (Shape::TextMap { .. }, _) => Fault::serialization("Expected map or null"),
        (Shape::Text { .. }, value) => not_a("an String", value),
        (Shape::Blob(_), value) => not_a("a Blob", value),
        (Shape::Time, value) => not_a("milliseconds since epoch", value),
        (Shape::Boolean, Value::Text(text)) => {
            Fault::serialization(format!("'{}' can not be converted to an Boolean", text.to_uppercase()))
        }
        (Shape::Boolean, value) => not_a("an Boolean", value),
        (Shape::Integer(_) | Shape::Structure(_), value) => not_a("an Integer", value),
    }
}

fn not_a(expected: &str, value: &Value<'_>) -> Fault {
    let class = match value {
        Value::List(_) => return Fault::serialization(LIST_FOUND),
        Value::Map(_) => return Fault::serialization(MAP_FOUND),
        Value::Bool(_) => "java.lang.Boolean",
        Value::Text(_) => "java.lang.String",
        Value::Blob(_) => "java.nio.HeapByteBuffer",
        Value::Time(_) => "java.util.Date",
        Value::Null | Value::Integer(_) | Value::Float(_) => {
            "com.amazon.coral.value.json.numbers.TruncatingBigNumber"
        }
    };
    Fault::serialization(format!("class {class} can not be converted to {expected}"))
}

/// An integer is one of 32 bits.
fn clamp(number: i64) -> i64 {
    number.clamp(i32::MIN.into(), i32::MAX.into())
}

fn time(seconds: f64) -> Timestamp {
    // Clients send milliseconds, which binary fractions cannot represent exactly.
    Timestamp::from_millis(((seconds * 1_000.0).round() as u64).min(MILLIS_MAX))
}

fn blob(text: &str) -> Answered<Vec<u8>> {
    if let Ok(bytes) = STANDARD.decode(text) {
        return Ok(bytes);
    }
    let reason = match text.len() % 4 {
        0 => match stray_character(text) {
            Some(stray) => format!("Invalid Base64 character: '{stray}'"),
            // The service spells it so.
            None => "Invalid last non-pad Base64 character dectected".to_owned(),
        },
        _ => format!(
            "Base64 encoded length is expected a multiple of 4 bytes but found: {}",
            text.encode_utf16().count()
        ),
    };
    Err(Fault::serialization(format!("'{text}' can not be converted to a Blob: {reason}")))
}

/// Returns the first character that cannot be there.
fn stray_character(text: &str) -> Option<char> {
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let is_known = character.is_ascii_alphanumeric() || "+/=".contains(character);
        let ends_early = character == '=' && characters.peek().is_some_and(|next| *next != '=');
        if !is_known || ends_early {
            return Some(character);
        }
    }
    None
}
