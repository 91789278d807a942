//! Opening a video stream: its settings, and its index from the log.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::index::{Index, summarized_by};
use super::options::VideoStreamOptions;
use super::{LIVE_AGE, RETENTION_PROPERTY, Shared, VideoStream, record};
use crate::video::error::VideoError;
use crate::{
    Error, OwnedRecord, Position, Result, Retention, SequenceNumber, ShardId, ShardStats, Stream,
    StreamReader, extend,
};

/// The largest fragment, as in Kinesis.
const FRAGMENT_BYTES_MAX: u64 = 50 << 20;
/// The size of a record besides its data: the key and the headers, with the metadata of 1,024 preceding records.
const RECORD_EXTRA_BYTES: u64 = 40 << 10;

impl VideoStream {
    pub(super) fn open_with(
        path: &Path,
        options: VideoStreamOptions,
    ) -> std::result::Result<Self, VideoError> {
        let VideoStreamOptions { stream: stream_options, data_retention, pool } = options;
        let asked = data_retention.map(retention_millis).transpose()?;
        // Checked first, so that a stream of another kind does not get the settings of this one.
        if let Ok(existing) = stream_options.clone().open_reader(path) {
            kept_retention(path, &existing)?;
        }
        let stream_options = stream_options.shards(1);
        let stream = match &pool {
            Some(pool) => pool.open(path, stream_options)?,
            None => stream_options.open(path)?,
        };
        let kept = kept_retention(path, &stream)?;
        let millis = asked.or(kept).unwrap_or(VideoStreamOptions::DATA_RETENTION.as_millis() as u64);
        if Some(millis) != kept {
            stream.set_property(RETENTION_PROPERTY, Some(&millis.to_string()))?;
        }
        let description = stream.describe();
        let Some(shard) = description.shards.first() else {
            return Err(no_video(path));
        };
        let retention = Duration::from_millis(millis);
        // A new stream has the default retention of streams, and a process may have died before it could change this.
        if description.retention != stream_retention(retention) {
            stream.set_retention(stream_retention(retention))?;
        }
        let index = read_index(&stream, shard.id)?;
        let room = description.record_bytes_max.saturating_sub(RECORD_EXTRA_BYTES);
        let shared = Shared {
            shard: shard.id,
            stream,
            data_retention: AtomicU64::new(millis),
            changing: Mutex::new(()),
            fragment_bytes_max: room.min(FRAGMENT_BYTES_MAX) as usize,
            index: Mutex::new(index),
            changed: Condvar::new(),
            is_ingesting: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
        };
        Ok(Self { shared: Arc::new(shared) })
    }
}

/// Returns the data retention that is stored with a stream, or `None` if the stream is as good as new. Fails if it has records but is not a video
/// stream.
fn kept_retention(path: &Path, stream: &StreamReader) -> std::result::Result<Option<u64>, VideoError> {
    let kept = stream.describe().properties.get(RETENTION_PROPERTY).and_then(|text| text.parse().ok());
    let stats = stream.stats()?;
    match &stats.shards[..] {
        [_] if kept.is_some() => Ok(kept),
        [shard] if shard.next_sequence == SequenceNumber::ZERO => Ok(None),
        _ => Err(no_video(path)),
    }
}

fn no_video(path: &Path) -> VideoError {
    VideoError::invalid(format!("the stream at {} is not one of video: name another path", path.display()))
}

/// Returns a data retention in milliseconds, as the stream keeps it.
pub(super) fn retention_millis(retention: Duration) -> std::result::Result<u64, VideoError> {
    let millis = u64::try_from(retention.as_millis()).ok();
    millis.filter(|&millis| millis >= 1_000 || retention.is_zero()).ok_or_else(|| {
        VideoError::invalid(format!(
            "a data retention of {retention:?} is out of range: it is 0, or 1 second or more"
        ))
    })
}

/// Returns the retention of the records.
pub(super) fn stream_retention(data_retention: Duration) -> Retention {
    Retention::age(if data_retention.is_zero() { LIVE_AGE } else { data_retention })
}

/// Returns the counts of the stream's only shard.
pub(super) fn bounds(stream: &Stream) -> Result<ShardStats> {
    let stats = stream.stats()?;
    stats.shards.into_iter().next().ok_or(Error::Closed)
}

/// Reads the first record at a position, if there is one.
pub(super) fn read_record(
    stream: &Stream,
    shard: ShardId,
    position: Position,
) -> Result<Option<OwnedRecord>> {
    let mut iterator = extend::unlimited(stream.iterator(shard, position)?);
    let batch = iterator.next_batch(1)?;
    let record = batch.iter().next().map(|record| record.into_owned());
    Ok(record)
}

/// Rebuilds the index from the log, backwards from its end.
///
/// A record has the metadata of its fragment. Each 32nd record repeats the metadata of the 32 preceding records, and each 1,024th that of the
/// preceding 1,024. So few records are read, however many there are.
fn read_index(stream: &Stream, shard: ShardId) -> std::result::Result<Index, VideoError> {
    let bounds = bounds(stream)?;
    let (horizon, next) = (bounds.horizon, bounds.next_sequence);
    let mut found = vec![];
    // All fragments from here on are found.
    let mut from = next;
    let mut at_from: Option<OwnedRecord> = None;
    while from > horizon {
        if at_from.is_none() && from < next && summarized_by(from) > 0 {
            // If it is damaged, the records before it are read themselves.
            at_from = read_record(stream, shard, Position::At(from)).ok().flatten();
        }
        let summary =
            at_from.take().filter(|record| record.sequence == from).and_then(|it| record::read_summary(&it));
        if let Some(fragments) = summary.filter(|_| summarized_by(from) > 0) {
            let first = SequenceNumber::new(from.get() - summarized_by(from)).max(horizon);
            found.extend(
                fragments.into_iter().rev().filter(|info| (first..from).contains(&info.number.sequence())),
            );
            from = first;
            continue;
        }
        let previous = from.previous().unwrap_or(SequenceNumber::ZERO);
        match read_record(stream, shard, Position::At(previous)) {
            Ok(Some(record)) if record.sequence == previous => {
                found.push(record::read(&record)?.0);
                at_from = Some(record);
            }
            // Given up after damage, or dropped meanwhile.
            Ok(_) | Err(Error::Lost { .. } | Error::Trimmed { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        from = previous;
    }
    let mut index = Index::new(next);
    found.into_iter().rev().for_each(|info| index.push(info));
    index.set_next(next);
    Ok(index)
}
