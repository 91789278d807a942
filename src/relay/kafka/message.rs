//! Converts a message of Kafka to a record of a stream.

use rdkafka::message::{BorrowedMessage, Headers, Message};

use crate::Timestamp;

/// The header that lists which of `key` and `value` the original lacks.
const NULL: &str = "kafka-null";

/// A message whose parts are those of a record.
#[derive(Debug)]
pub(super) struct Converted {
    pub(super) offset: i64,
    /// The whole key of the message, which may be too long for a stream.
    pub(super) key: Vec<u8>,
    pub(super) data: Vec<u8>,
    pub(super) headers: Vec<(String, Vec<u8>)>,
    /// The time of the message: when it was created, or when the broker got it, depending on the topic's setting.
    pub(super) time: Option<Timestamp>,
}

impl Converted {
    pub(super) fn from(message: &BorrowedMessage<'_>) -> Self {
        let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
        let mut headers: Vec<_> = headers
            .map(|header| (header.key.to_owned(), header.value.unwrap_or_default().to_vec()))
            .collect();
        let nulls = match (message.key(), message.payload()) {
            (None, None) => Some("key value"),
            (None, _) => Some("key"),
            (_, None) => Some("value"),
            _ => None,
        };
        headers.extend(nulls.map(|nulls| (NULL.to_owned(), nulls.as_bytes().to_vec())));
        let key = match message.key() {
            // Records in a stream need a key. All such records of a partition get this one, so that they stay in order.
            None | Some([]) => format!("{}-{}", message.topic(), message.partition()).into_bytes(),
            Some(key) => key.to_vec(),
        };
        let millis = message.timestamp().to_millis().and_then(|millis| u64::try_from(millis).ok());
        Self {
            offset: message.offset(),
            key,
            data: message.payload().unwrap_or_default().to_vec(),
            headers,
            time: millis.map(Timestamp::from_millis),
        }
    }
}
