//! Bodies on the wire: values, read and written as JSON or CBOR, and the frames of event streams.

mod cbor;
pub(super) mod event_stream;
mod json;
mod value;

use std::fmt;

pub(super) use value::{Map, Value};

/// How deep lists and maps may be nested. The deepest request has four levels.
const DEPTH_MAX: usize = 64;

/// How a body is written. An answer uses the format of its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Json,
    Cbor,
}

impl Format {
    /// Returns the content type of requests and answers.
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/x-amz-json-1.1",
            Self::Cbor => "application/x-amz-cbor-1.1",
        }
    }

    /// Reads a body.
    pub(super) fn decode(self, body: &[u8]) -> Result<Value<'_>, Malformed> {
        match self {
            Self::Json => json::decode(body),
            Self::Cbor => cbor::decode(body),
        }
    }

    /// Writes a body.
    pub(super) fn encode(self, value: &Value<'_>) -> Vec<u8> {
        let mut body = Vec::with_capacity(value.bytes_estimate());
        match self {
            Self::Json => json::encode(value, &mut body),
            Self::Cbor => cbor::encode(value, &mut body),
        }
        body
    }
}

/// The error of a body that cannot be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the body is malformed")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Timestamp;

    fn any_value() -> impl Strategy<Value = Value<'static>> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Integer),
            "\\PC*".prop_map(|text| Value::Text(text.into())),
        ];
        leaf.prop_recursive(4, 64, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Value::List),
                prop::collection::vec(("[a-z\"\\\\\n]{0,5}", inner), 0..8).prop_map(|members| {
                    Value::Map(members.into_iter().map(|(name, value)| (name.into(), value)).collect())
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(value in any_value()) {
            for format in [Format::Json, Format::Cbor] {
                let body = format.encode(&value);
                prop_assert_eq!(format.decode(&body), Ok(value.clone()), "{:?} {:?}", format, body);
            }
        }

        #[test]
        fn hostile_bodies_are_refused_or_read(body: Vec<u8>) {
            for format in [Format::Json, Format::Cbor] {
                let _ = format.decode(&body);
            }
        }
    }

    #[test]
    fn blobs_and_times_look_as_clients_expect() {
        let value = Value::map([
            ("Data", Value::Blob((&b"hello"[..]).into())),
            ("Time", Value::Time(Timestamp::from_millis(1_700_000_000_120))),
        ]);
        assert_eq!(
            String::from_utf8(Format::Json.encode(&value)).unwrap(),
            r#"{"Data":"aGVsbG8=","Time":1700000000.12}"#
        );
        let cbor = Format::Cbor.encode(&value);
        // Tag 1 around milliseconds as an integer: Java's SDK fails on anything else.
        assert_eq!(cbor[..], *b"\xa2\x64Data\x45hello\x64Time\xc1\x1b\x00\x00\x01\x8b\xcf\xe5\x68\x78");
        assert_eq!(Format::Cbor.decode(&cbor), Ok(value));
    }

    #[test]
    fn cbor_as_jackson_writes_it_is_read() {
        // A map and a byte string of unknown length.
        let body = b"\xbf\x64Data\x5f\x42he\x43llo\xff\x64Name\x7f\x61a\x61b\xff\xff";
        let expected =
            Value::map([("Data", Value::Blob((&b"hello"[..]).into())), ("Name", Value::Text("ab".into()))]);
        assert_eq!(Format::Cbor.decode(body), Ok(expected));
    }

    #[test]
    fn a_time_of_cbor_may_be_in_seconds() {
        assert_eq!(Format::Cbor.decode(b"\xc1\xfb\x3f\xf8\0\0\0\0\0\0"), Ok(Value::Float(1.5)));
    }

    #[test]
    fn bodies_that_are_too_deep_are_refused() {
        for (format, open, close) in [(Format::Json, "[", "]"), (Format::Cbor, "\u{81}", "")] {
            let depth = 100_000;
            let (open, close): (Vec<u8>, Vec<u8>) = match format {
                Format::Json => (open.repeat(depth).into(), close.repeat(depth).into()),
                Format::Cbor => (vec![0x81; depth], vec![0]),
            };
            assert_eq!(format.decode(&[open, close].concat()), Err(Malformed));
        }
    }

    #[test]
    fn what_follows_a_body_is_refused() {
        assert_eq!(Format::Json.decode(b"{} x"), Err(Malformed));
        assert_eq!(Format::Cbor.decode(b"\xa0\x00"), Err(Malformed));
        assert_eq!(Format::Json.decode(b"{}\n"), Ok(Value::Map(vec![])));
    }
}
