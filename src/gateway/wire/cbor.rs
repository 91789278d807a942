//! Values as CBOR, as the AWS SDK for Java writes and reads it: byte strings, and times as tagged milliseconds.

use std::borrow::Cow;

use cbor4ii::core::dec::{Decode, Read};
use cbor4ii::core::enc::Encode;
use cbor4ii::core::utils::{BufWriter, SliceReader};
use cbor4ii::core::{Value as Item, types};

use super::{DEPTH_MAX, Malformed, Value};
use crate::Timestamp;

/// The tag of a time.
const TIME: u64 = 1;

pub(super) fn decode(body: &[u8]) -> Result<Value<'_>, Malformed> {
    let mut reader = SliceReader::new(body);
    let item = Item::decode(&mut reader).map_err(|_| Malformed)?;
    let rest = reader.fill(1).map_err(|_| Malformed)?;
    if !rest.as_ref().is_empty() {
        return Err(Malformed);
    }
    convert(item, DEPTH_MAX)
}

fn convert<'a>(item: Item, depth_left: usize) -> Result<Value<'a>, Malformed> {
    let below = depth_left.checked_sub(1).ok_or(Malformed);
    Ok(match item {
        Item::Null => Value::Null,
        Item::Bool(value) => Value::Bool(value),
        Item::Integer(number) => i64::try_from(number).map_or(Value::Float(number as f64), Value::Integer),
        Item::Float(number) => Value::Float(number),
        Item::Text(text) => Value::Text(Cow::Owned(text)),
        Item::Bytes(bytes) => Value::Blob(Cow::Owned(bytes)),
        Item::Array(items) => {
            let below = below?;
            Value::List(items.into_iter().map(|item| convert(item, below)).collect::<Result<_, _>>()?)
        }
        Item::Map(members) => {
            let below = below?;
            let member = |(name, value)| match name {
                Item::Text(name) => Ok((Cow::Owned(name), convert(value, below)?)),
                _ => Err(Malformed),
            };
            Value::Map(members.into_iter().map(member).collect::<Result<_, _>>()?)
        }
        Item::Tag(TIME, time) => match *time {
            Item::Integer(millis) => Value::Time(Timestamp::from_millis(clamp(millis)?)),
            // No SDK writes this. According to RFC 8949, it is seconds, which are read like those of JSON.
            Item::Float(seconds) => Value::Float(seconds),
            _ => return Err(Malformed),
        },
        Item::Tag(_, tagged) => convert(*tagged, below?)?,
        _ => return Err(Malformed),
    })
}

/// A time before 1970 becomes 1970, and one beyond the range becomes the latest time.
fn clamp(millis: i128) -> Result<u64, Malformed> {
    u64::try_from(millis.clamp(0, i128::from(u64::MAX / 1_000))).map_err(|_| Malformed)
}

pub(super) fn encode(value: &Value<'_>, out: &mut Vec<u8>) {
    let mut writer = BufWriter::new(std::mem::take(out));
    encode_to(value, &mut writer);
    *out = writer.into_inner();
}

fn encode_to(value: &Value<'_>, out: &mut BufWriter) {
    let written = match value {
        Value::Null => types::Null.encode(out),
        Value::Bool(value) => value.encode(out),
        Value::Integer(number) => number.encode(out),
        Value::Float(number) => number.encode(out),
        Value::Text(text) => (&**text).encode(out),
        Value::Blob(blob) => types::Bytes(&**blob).encode(out),
        Value::Time(time) => types::Tag(TIME, time.as_millis()).encode(out),
        Value::List(items) => {
            let begun = types::Array::bounded(items.len(), out);
            items.iter().for_each(|item| encode_to(item, out));
            begun
        }
        Value::Map(members) => {
            let begun = types::Map::bounded(members.len(), out);
            for (name, value) in members {
                encode_to(&Value::Text(Cow::Borrowed(name)), out);
                encode_to(value, out);
            }
            begun
        }
    };
    written.expect("a vector takes all bytes");
}
