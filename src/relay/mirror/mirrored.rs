//! The headers that a mirror adds to its records.

use crate::relay::mirror::origin::{Incoming, Place};
use crate::{PutRecord, Record, Timestamp};

/// The header that says what a record is a copy of.
const FROM: &str = "mirrored-from";
/// The header that says when the original arrived.
const ARRIVED: &str = "arrived-at";

/// Identifies the original of a record that a mirror has put. [`of`](Self::of) reads it from the record's headers.
///
/// ```
/// # use streamlog::{Position, PutRecord, Stream};
/// use streamlog::relay::MirroredFrom;
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path())?;
/// # let record = PutRecord::new("key", "data").header("mirrored-from", "down orders shardId-000000000003 4959");
/// # let receipt = stream.put_record(&record)?;
/// # let batch = stream.iterator(receipt.shard, Position::TrimHorizon)?.next_batch(1)?;
/// # let record = batch.iter().next().expect("a record");
/// let origin = MirroredFrom::of(&record).expect("a mirror has put it");
/// assert_eq!((origin.partition.as_str(), origin.place.as_str()), ("shardId-000000000003", "4959"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct MirroredFrom {
    /// The name of the mirror.
    pub mirror: String,
    /// The name of the mirrored stream or topic.
    pub origin: String,
    /// The shard or partition of the original.
    pub partition: String,
    /// The position of the original there: a sequence number or an offset, as decimal text.
    pub place: String,
    /// When the original arrived, if the source provides it.
    pub arrived_at: Option<Timestamp>,
}

impl MirroredFrom {
    /// Returns the origin of a record, or `None` if no mirror has put it.
    pub fn of(record: &Record<'_>) -> Option<Self> {
        let header =
            |wanted: &str| record.headers().get(wanted).and_then(|value| std::str::from_utf8(value).ok());
        let [mirror, origin, partition, place] = words_of(header(FROM)?)?.map(str::to_owned);
        let arrived_at = header(ARRIVED).and_then(|time| time.parse().ok());
        Some(Self { mirror, origin, partition, place, arrived_at })
    }
}

fn words_of(text: &str) -> Option<[&str; 4]> {
    text.split(' ').collect::<Vec<_>>().try_into().ok()
}

/// The values of the headers of a record.
#[derive(Debug)]
pub(super) struct Labels {
    from: String,
    arrived: Option<String>,
}

impl Labels {
    pub(super) fn new(mirror: &str, origin: &str, partition: &str, record: &Incoming) -> Self {
        Self {
            from: format!("{mirror} {origin} {partition} {}", record.place),
            arrived: record.arrived.map(|time| time.to_string()),
        }
    }

    /// Returns the copy of a record.
    pub(super) fn record<'a>(&'a self, record: &'a Incoming) -> PutRecord<'a> {
        // Before the headers of the original, which may be a copy itself: the first header of a name counts.
        let mut copy = PutRecord::new(&record.partition_key, &record.data).header(FROM, self.from.as_bytes());
        if let Some(arrived) = &self.arrived {
            copy = copy.header(ARRIVED, arrived.as_bytes());
        }
        record.headers.iter().fold(copy, |copy, (name, value)| copy.header(name, value))
    }
}

/// Returns the partition and the place of the original, if this mirror has put the record.
pub(super) fn read<'a>(mirror: &str, record: &Record<'a>) -> Option<(&'a str, Place)> {
    let text = std::str::from_utf8(record.headers().get(FROM)?).ok()?;
    let [by, _, partition, place] = words_of(text)?;
    if by != mirror {
        return None;
    }
    Some((partition, Place::parse(place)?))
}
