//! The envelope of a record for targets without headers: its place, its headers and its data, as JSON.

use std::borrow::Cow;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};

use crate::{Record, SequenceNumber, ShardId, Timestamp};

/// A record with its position and its headers, as a relay writes it into the data of an Amazon Kinesis record, which has no headers:
/// [`RelayHeaders::Envelope`](super::RelayHeaders::Envelope).
///
/// It is a JSON object on one line, with these members in any order. Readers ignore other members.
///
/// ```json
/// {"streamlog":1,"stream":"orders","shard":"shardId-000000000000","sequence":"17","timestamp":1700000000123456,"headers":[["trace","NGJmOTJmMzU="]],"data":"Y2xpY2tlZA=="}
/// ```
///
/// - `streamlog`: the version of the envelope, 1.
/// - `stream`, `shard`, `sequence`: the position of the record in its source stream. A relay sends each record at least once, and every copy of a
///   record has the same position, so readers can use it to drop duplicates.
/// - `timestamp`: when the record arrived there, in microseconds since 1970.
/// - `headers`: pairs of a name and a value in Base64, in order.
/// - `data`: in Base64.
///
/// ```
/// use streamlog::relay::Envelope;
///
/// let data = br#"{"streamlog":1,"stream":"orders","shard":"shardId-000000000000","sequence":"17",
///     "timestamp":1700000000123456,"headers":[["trace","NGJmOTJmMzU="]],"data":"Y2xpY2tlZA=="}"#;
/// let envelope = Envelope::decode(data).expect("it is one");
/// assert_eq!((&*envelope.stream, envelope.sequence.get()), ("orders", 17));
/// assert_eq!(envelope.headers, [("trace".to_owned(), b"4bf92f35".to_vec())]);
/// assert_eq!(envelope.data, b"clicked");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Envelope {
    /// The name of the stream that the record comes from.
    pub stream: String,
    /// The record's shard in that stream.
    pub shard: ShardId,
    /// Its sequence number in that shard.
    pub sequence: SequenceNumber,
    /// When it arrived there.
    pub timestamp: Timestamp,
    /// Its headers, in order.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Its data.
    pub data: Vec<u8>,
}

const VERSION: u32 = 1;

/// The JSON.
#[derive(Serialize, Deserialize)]
struct Written<'a> {
    streamlog: u32,
    #[serde(borrow)]
    stream: Cow<'a, str>,
    shard: String,
    sequence: String,
    timestamp: u64,
    headers: Vec<(Cow<'a, str>, String)>,
    data: String,
}

impl Envelope {
    /// Decodes an envelope. Returns `None` if the data is not an envelope, or has another version.
    pub fn decode(data: &[u8]) -> Option<Self> {
        let written: Written<'_> = serde_json::from_slice(data).ok()?;
        let bytes = |text: String| BASE64_STANDARD.decode(text).ok();
        let headers =
            written.headers.into_iter().map(|(name, value)| Some((name.into_owned(), bytes(value)?)));
        (written.streamlog == VERSION).then_some(())?;
        Some(Self {
            stream: written.stream.into_owned(),
            shard: written.shard.parse().ok()?,
            sequence: written.sequence.parse::<u64>().ok()?.into(),
            timestamp: Timestamp::from_micros(written.timestamp),
            headers: headers.collect::<Option<_>>()?,
            data: bytes(written.data)?,
        })
    }

    /// Writes the envelope of a record.
    pub(super) fn encode(stream: &str, shard: ShardId, record: &Record<'_>) -> Vec<u8> {
        let headers =
            record.headers().map(|(name, value)| (Cow::Borrowed(name), BASE64_STANDARD.encode(value)));
        let written = Written {
            streamlog: VERSION,
            stream: stream.into(),
            shard: shard.to_string(),
            sequence: record.sequence().to_string(),
            timestamp: record.timestamp().as_micros(),
            headers: headers.collect(),
            data: BASE64_STANDARD.encode(record.data()),
        };
        serde_json::to_vec(&written).expect("texts and numbers always serialize")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Position, PutRecord, Receipt, Stream};

    #[test]
    fn an_envelope_has_all_that_the_record_had_and_other_data_is_none() {
        let scratch = tempfile::tempdir().unwrap();
        let stream = Stream::open(scratch.path()).unwrap();
        let put = PutRecord::new("a", b"\x00\xff\"").header("n", b"\xfe").header("n", "").header("é\"", "2");
        let receipt = stream.put_record(&put).unwrap();
        let batch = stream.iterator(receipt.shard, Position::TrimHorizon).unwrap().next_batch(1).unwrap();
        let written = Envelope::encode("a\"\\b", receipt.shard, &batch.iter().next().unwrap());
        let read = Envelope::decode(&written).unwrap();
        let headers = [("n", &b"\xfe"[..]), ("n", b""), ("é\"", b"2")];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_vec())).to_vec();
        let (stream, data) = ("a\"\\b".to_owned(), b"\x00\xff\"".to_vec());
        let Receipt { shard, sequence, timestamp } = receipt;
        assert_eq!(read, Envelope { stream, shard, sequence, timestamp, headers, data });

        let text = String::from_utf8(written).unwrap();
        let others = [
            ("\"streamlog\":1", "\"streamlog\":2"),
            ("\"sequence\":\"0\"", "\"sequence\":\"x\""),
            ("\"data\":\"", "\"data\":\"!"),
            ("shardId-0", "shardId-x"),
            ("}", ""),
        ];
        for (from, to) in others {
            let other = text.replacen(from, to, 1);
            assert_ne!(other, text, "{from}");
            assert_eq!(Envelope::decode(other.as_bytes()), None, "{other}");
        }
        let more = text.replacen('{', "{\"more\":[1],", 1);
        assert_eq!(Envelope::decode(more.as_bytes()), Some(read));
    }
}
