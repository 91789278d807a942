//! A stream of Amazon Kinesis as the origin of a mirror.

use std::time::{Duration, Instant};

use super::failure::{Failure, Remedy};
use super::read::{ReadFrom, RemoteRecord, RemoteShardReader, RemoteStream};
use crate::relay::mirror::origin::{
    Incoming, Listing, Origin, OriginBatch, OriginReader, Partition, Place, StartAt,
};
use crate::{HOUR, MINUTE};

/// No stream of Kinesis keeps records for a shorter time.
const RETENTION_MIN: Duration = Duration::from_secs(24 * 60 * 60);
/// A reader that is this close to the horizon checks with each read whether records were trimmed before it reached them. An iterator is valid for
/// half of it.
const NEAR_HORIZON: Duration = Duration::from_secs(10 * 60);

/// A stream of Kinesis that is mirrored.
#[derive(Debug)]
pub(in crate::relay) struct KinesisOrigin {
    stream: RemoteStream,
}

impl KinesisOrigin {
    pub(in crate::relay) fn new(stream: RemoteStream) -> Self {
        Self { stream }
    }
}

impl Origin for KinesisOrigin {
    fn kind(&self) -> &'static str {
        "kinesis"
    }

    fn name(&self) -> &str {
        self.stream.name()
    }

    fn list(&self) -> Result<Listing, Failure> {
        let incarnation = match self.stream.summary() {
            Ok(summary) => Some(summary.created_at.as_millis().to_string()),
            // A client that may read a stream may lack permission to describe it.
            Err(failure) if failure.remedy == Remedy::Refused => None,
            Err(failure) => return Err(failure),
        };
        let shards = self.stream.list_shards()?;
        let partitions = shards.into_iter().map(|shard| Partition {
            is_open: shard.is_open(),
            id: shard.id,
            parents: shard.parents,
        });
        Ok(Listing { incarnation, partitions: partitions.collect() })
    }

    fn reader(&self, partition: &str, from: &StartAt) -> Box<dyn OriginReader> {
        let from = match from {
            StartAt::Beginning => ReadFrom::TrimHorizon,
            StartAt::Latest(since) => ReadFrom::Latest(*since),
            StartAt::AtTimestamp(time) => ReadFrom::AtTimestamp(*time),
            StartAt::After(place) => ReadFrom::After(place.to_string()),
        };
        Box::new(KinesisReader {
            reader: self.stream.reader(partition, from),
            stream: self.stream.clone(),
            retention: None,
        })
    }

    fn interrupt(&self) {
        self.stream.interrupt();
    }
}

/// Reads a shard for a mirror.
struct KinesisReader {
    reader: RemoteShardReader,
    stream: RemoteStream,
    /// The retention of the stream, and when it was requested.
    retention: Option<(Duration, Instant)>,
}

impl KinesisReader {
    /// Returns the retention of the stream, at most an hour old.
    fn retention(&mut self) -> Duration {
        match self.retention {
            Some((retention, at)) if at.elapsed() < HOUR => retention,
            _ => {
                let retention = self.stream.summary().map_or(RETENTION_MIN, |summary| summary.retention);
                self.retention = Some((retention, Instant::now()));
                retention
            }
        }
    }
}

impl OriginReader for KinesisReader {
    fn wait(&self) -> Duration {
        self.reader.wait()
    }

    fn requests(&self) -> u64 {
        self.reader.requests()
    }

    fn read(&mut self, records_max: usize) -> Result<OriginBatch, Failure> {
        let batch = self.reader.read(records_max)?;
        let behind_latest = Duration::from_millis(batch.millis_behind_latest);
        if behind_latest + NEAR_HORIZON + MINUTE >= RETENTION_MIN
            && behind_latest + NEAR_HORIZON >= self.retention()
        {
            self.reader.check_for_gap();
        }
        Ok(OriginBatch {
            records: batch.records.into_iter().map(incoming).collect::<Result<_, _>>()?,
            behind_latest,
            is_at_tip: batch.is_end || batch.millis_behind_latest == 0,
            is_end: batch.is_end,
            has_gap: batch.has_gap,
        })
    }
}

fn incoming(record: RemoteRecord) -> Result<Incoming, Failure> {
    let place = Place::parse(&record.sequence_number).ok_or_else(|| {
        let text = format!("GetRecords failed: {:?} is not a sequence number", record.sequence_number);
        Failure::new(Remedy::Retry, text)
    })?;
    Ok(Incoming {
        partition_key: record.partition_key.into_bytes(),
        data: record.data,
        headers: vec![],
        place,
        arrived: record.arrived,
    })
}
