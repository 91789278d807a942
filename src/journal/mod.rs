//! A journal: a small stream inside a stream, in which a layer keeps its state.
//!
//! The records of a journal, read in order, make the state. Each sets a value from now on, so writing one again does no harm.
//!
//! **Shortening a long journal:** everything that the state still holds is written again → this is synced → everything before it is dropped. A
//! crash before the last step leaves older records before newer ones, which make the same state.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::extend::StreamsInside;
use crate::{
    Corruption, Error, Maintenance, Position, PutRecord, Record, Result, Retention, SequenceNumber, ShardId,
    Stream, StreamOptions, StreamReader,
};

/// The records of the state are written in batches of about this size.
const BATCH_BYTES: usize = 256 << 10;
/// A bound of what the log takes for a record, besides its key and data.
const OVERHEAD_BYTES: usize = 48;

/// The journal of a layer. Only one process at a time has it open.
#[derive(Debug)]
pub(crate) struct Journal {
    log: Stream,
    shard: ShardId,
    /// The bytes since the last write of the whole state, including that write.
    bytes: AtomicU64,
}

/// How a journal is opened.
#[derive(Debug, Clone, Copy)]
pub(crate) struct JournalOptions {
    /// Small, so that disk space is freed soon, and large enough for the largest record.
    pub(crate) segment_bytes: u64,
    /// Opens a damaged journal without what is damaged.
    pub(crate) salvage: bool,
}

impl Journal {
    /// Opens a journal inside a stream, or creates it, and reads its state. `read` adds a record to the state, and returns false if the record
    /// cannot belong to this journal.
    ///
    /// The journal is not a [companion](crate::extend::add_companion) of the stream yet.
    pub(crate) fn open<T: Default>(
        stream: &StreamReader,
        inside: StreamsInside<'_>,
        name: &str,
        options: JournalOptions,
        read: impl FnMut(&mut T, &Record<'_>) -> bool,
    ) -> Result<(Self, T)> {
        let stream_options = StreamOptions::new()
            .segment_bytes(options.segment_bytes)
            .retention(Retention::forever())
            .durability(stream.describe().durability)
            // The stream maintains the journal, if this process has the stream open.
            .maintenance(if stream.is_own() { Maintenance::Manual } else { Maintenance::Thread })
            .clock(Arc::clone(stream.clock()))
            .salvage(options.salvage);
        let log = inside.open(name, stream_options)?;
        let shard = shard_of(&log);
        let (state, bytes) = read_all(&log, shard, read)?;
        Ok((Self { log, shard, bytes: AtomicU64::new(bytes) }, state))
    }

    /// Reads the state of a journal that another process may have open, and the texts that are [kept](Self::keep) with it.
    pub(crate) fn look<T: Default>(
        inside: StreamsInside<'_>,
        name: &str,
        mut read: impl FnMut(&mut T, &Record<'_>) -> bool,
    ) -> Result<(T, BTreeMap<String, String>)> {
        let log = inside.read(name)?;
        loop {
            match read_all(&log, shard_of(&log), &mut read) {
                // The state was rewritten meanwhile, and everything before it was dropped.
                Err(Error::Trimmed { .. } | Error::Cut { .. }) => {}
                state => return state.map(|(state, _)| (state, log.describe().properties)),
            }
        }
    }

    /// Stores a text with the journal under a name, for processes that look at it.
    pub(crate) fn keep(&self, name: &str, text: &str) -> Result<()> {
        if self.log.describe().properties.get(name).is_some_and(|kept| kept == text) {
            return Ok(());
        }
        self.log.set_property(name, Some(text))
    }

    /// Returns the stream that stores the journal.
    pub(crate) fn log(&self) -> &Stream {
        &self.log
    }

    /// Writes one record.
    pub(crate) fn put(&self, key: impl AsRef<[u8]>, data: impl AsRef<[u8]>) -> Result<()> {
        let (key, data) = (key.as_ref(), data.as_ref());
        self.log.put(key, data)?;
        self.count(bytes_of(key, data));
        Ok(())
    }

    /// Writes records as one batch: a crash leaves all of them or none. Returns the number of the first.
    pub(crate) fn put_batch(&self, records: &[PutRecord<'_>]) -> Result<Option<SequenceNumber>> {
        let first = self.log.put_batch(records)?.into_iter().next().transpose()?;
        self.count(records.iter().map(|record| bytes_of(record.partition_key, record.data)).sum());
        Ok(first.map(|first| first.sequence))
    }

    fn count(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Returns the bytes since the last write of the whole state, including that write.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Writes the whole state, as these keys and data, and drops everything before. Nothing else may be written meanwhile.
    ///
    /// If it fails, as on a full disk, the journal stays correct, and a later call tries again.
    pub(crate) fn restate<K: AsRef<[u8]>, D: AsRef<[u8]>>(
        &self,
        state: impl IntoIterator<Item = (K, D)>,
    ) -> Result<()> {
        let begin = self.log.iterator(self.shard, Position::Latest)?.next_sequence();
        let (mut written, mut batch, mut batch_bytes) = (0, vec![], 0);
        for (key, data) in state {
            batch_bytes += bytes_of(key.as_ref(), data.as_ref());
            batch.push((key, data));
            if batch_bytes >= BATCH_BYTES {
                self.put_pairs(&batch)?;
                written += batch_bytes;
                batch_bytes = 0;
                batch.clear();
            }
        }
        self.put_pairs(&batch)?;
        self.drop_before(begin)?;
        self.bytes.store((written + batch_bytes) as u64, Ordering::Relaxed);
        Ok(())
    }

    fn put_pairs<K: AsRef<[u8]>, D: AsRef<[u8]>>(&self, pairs: &[(K, D)]) -> Result<()> {
        let records: Vec<_> = pairs.iter().map(|(key, data)| PutRecord::new(key, data)).collect();
        self.put_batch(&records).map(drop)
    }

    /// Drops everything before a record. The records from there on make the whole state.
    pub(crate) fn drop_before(&self, first: SequenceNumber) -> Result<()> {
        if first > SequenceNumber::ZERO {
            // What is dropped does not come back, so its replacement has to survive power loss first.
            self.log.sync()?;
            self.log.trim_before(self.shard, first)?;
        }
        Ok(())
    }

    /// Closes the files.
    pub(crate) fn close(&self) -> Result<()> {
        self.log.clone().close()
    }
}

fn shard_of(log: &StreamReader) -> ShardId {
    log.shards().first().map_or(ShardId::new(0), |shard| shard.id)
}

fn bytes_of(key: &[u8], data: &[u8]) -> usize {
    key.len() + data.len() + OVERHEAD_BYTES
}

/// Returns the state, and the bytes of the records that make it.
fn read_all<T: Default>(
    log: &StreamReader,
    shard: ShardId,
    mut read: impl FnMut(&mut T, &Record<'_>) -> bool,
) -> Result<(T, u64)> {
    let (mut state, mut bytes) = (T::default(), 0);
    let mut iterator = log.iterator(shard, Position::TrimHorizon)?;
    loop {
        let batch = match iterator.next_batch(1_000) {
            // Salvage gave these up. The records before them count.
            Err(Error::Lost { .. }) => {
                iterator.skip_lost()?;
                continue;
            }
            batch => batch?,
        };
        if batch.is_empty() {
            return Ok((state, bytes));
        }
        for record in &batch {
            if !read(&mut state, &record) {
                return Err(Error::Corrupt(Box::new(Corruption {
                    path: log.describe().path,
                    shard: None,
                    offset: 0,
                    sequence: Some(record.sequence()),
                    reason: "expected a record of the journal that this stream is, found another".to_owned(),
                })));
            }
            bytes += bytes_of(record.partition_key(), record.data()) as u64;
        }
    }
}
