//! Putting records: check, route, draft a frame, append it.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Core, Stream};
use crate::log::format::draft::{Draft, DraftBuffer, record_bytes};
use crate::log::format::headers;
use crate::log::shard::Shard;
use crate::log::types::error::{Error, Result};
use crate::log::types::hash_key::HashKey;
use crate::log::types::limits::{FRAME_BYTES_MAX, HEADER_NAME_BYTES_MAX, PARTITION_KEY_BYTES_MAX};
use crate::log::types::options::Durability;
use crate::log::types::record::{PutRecord, Receipt};
use crate::log::types::sequence::SequenceNumber;
use crate::log::types::time::Timestamp;

/// The largest draft buffer that a thread keeps.
const DRAFT_BYTES_KEPT: usize = 1 << 20;

thread_local! {
    static DRAFT: Cell<Option<Box<DraftBuffer>>> = const { Cell::new(None) };
}

/// Runs `work` with the thread's buffer. It takes the buffer out meanwhile, so that a nested call finds none and makes another.
#[inline]
fn with_buffer<T>(work: impl FnOnce(&mut DraftBuffer) -> T) -> T {
    let mut buffer = DRAFT.try_with(Cell::take).ok().flatten().unwrap_or_default();
    let outcome = work(&mut buffer);
    buffer.shrink(DRAFT_BYTES_KEPT);
    // A thread that is exiting cannot keep it.
    let _ = DRAFT.try_with(|place| place.set(Some(buffer)));
    outcome
}

impl Stream {
    /// Puts one record into the shard that owns the hash of its partition key.
    ///
    /// A key is 1 to 1,024 bytes; data may be empty; both together have at most 1 MiB by default.
    ///
    /// ```
    /// # use streamlog::Stream;
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// let receipt = stream.put("user-17", b"clicked")?;
    /// println!("{} {}", receipt.shard, receipt.sequence);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Durability
    /// When it returns, every iterator sees the record, and it survives the death of the process. It survives power loss as the stream's
    /// [`Durability`] says.
    ///
    /// # Errors
    /// `InvalidRecord`; `StorageFull` if the disk has no room for it: free space and put it again; `Throttled` if the stream has
    /// [`limits`](crate::StreamOptions::limits) and the shard has reached one; `Poisoned` after a failed sync; `Closed`. After any error
    /// the record was not put, with one exception: after a failed sync under [`Durability::Power`] it may or may not be there.
    #[inline]
    pub fn put(&self, partition_key: impl AsRef<[u8]>, data: impl AsRef<[u8]>) -> Result<Receipt> {
        self.put_record(&PutRecord::new(partition_key.as_ref(), data.as_ref()))
    }

    /// Puts one record, which may carry a hash key of the caller's choice.
    ///
    /// ```
    /// # use streamlog::{HashKey, PutRecord, Stream};
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// let record = PutRecord::new("user-17", "clicked").explicit_hash_key(HashKey::MIN);
    /// let receipt = stream.put_record(&record)?;
    /// assert_eq!(receipt.shard, stream.shards()[0].id);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Same as [`put`](Self::put).
    pub fn put_record(&self, record: &PutRecord<'_>) -> Result<Receipt> {
        let core = self.core();
        core.topology.check_process()?;
        core.check_record(0, record)?;
        core.put_metrics.put(core.options.durability, || {
            with_buffer(|buffer| {
                let mut frame = buffer.draft_one(record);
                // The time is read after drafting, so that the stores into the draft can finish before the checksum reads them.
                frame.put_at = core.clock.now();
                loop {
                    let map = core.topology.map();
                    let shard = match map.only_open() {
                        Some(shard) => shard,
                        None => map.open_at(map.route(core.hash_key_of(record))),
                    };
                    let appended = match core.has_extras.load(Ordering::Relaxed) {
                        false => shard.append(&mut frame),
                        true => core.append_with_extras(shard, record, &mut frame),
                    };
                    // A shard that closed in the meantime is no longer in the next map.
                    if let Some(sequence) = appended? {
                        core.make_durable(shard, sequence.plus(1))?;
                        return Ok(Receipt { shard: shard.id(), sequence, timestamp: frame.put_at });
                    }
                    std::thread::yield_now();
                }
            })
        })
    }

    /// Checks the sizes of a record without putting it. A record that passes does not fail with `InvalidRecord` later.
    ///
    /// # Errors
    /// `InvalidRecord`
    pub fn check_record(&self, record: &PutRecord<'_>) -> Result<()> {
        self.core().check_record(0, record)
    }

    /// Puts any number of records, up to 2 GiB in total. The records of each shard are one unit, in their order: after a crash all of them
    /// are there, or none.
    ///
    /// Returns one result for each record, in their order. A failure, such as a full disk, affects all records of a shard, with one
    /// exception: if the shard reaches one of the stream's [`limits`](crate::StreamOptions::limits), its first records are put, as many as
    /// the limits allow, and all others fail with `Throttled`. A caller that retries those in their order keeps the order of each key.
    ///
    /// ```
    /// # use streamlog::{PutRecord, Stream};
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// let clicks = [("user-17", "/"), ("user-4", "/cart"), ("user-17", "/checkout")];
    /// let records: Vec<_> = clicks.iter().map(|(user, page)| PutRecord::new(*user, *page)).collect();
    /// for outcome in stream.put_batch(&records)? {
    ///     println!("{:?}", outcome?);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidRecord` names the first record that a stream with these settings cannot hold; then nothing was written. `InvalidArgument` if
    /// the batch is larger than 2 GiB.
    pub fn put_batch(&self, records: &[PutRecord<'_>]) -> Result<Vec<Result<Receipt>>> {
        let core = self.core();
        core.topology.check_process()?;
        let bytes = core.check_batch(records)?;
        let now = core.clock.now();
        Ok(core.put_metrics.put_batch(core.options.durability, || {
            with_buffer(|buffer| match core.has_extras.load(Ordering::Relaxed) {
                false => core.append_batch(buffer, records, bytes, now, |_| Ok(())),
                true => core.put_batch_with_extras(buffer, records, bytes, now),
            })
        }))
    }
}

/// The records of a batch that were appended to one shard, by their places in the batch.
struct Appended {
    shard: Arc<Shard>,
    places: Vec<usize>,
}

impl Core {
    /// Appends a batch. `pack` prepares the records of each frame first.
    pub(super) fn append_batch(
        &self,
        buffer: &mut DraftBuffer,
        records: &[PutRecord<'_>],
        bytes: usize,
        now: Timestamp,
        pack: impl Fn(&mut Draft<'_>) -> Result<()>,
    ) -> Vec<Result<Receipt>> {
        match self.append_whole(buffer, records, bytes, now, &pack) {
            Some(outcomes) => outcomes,
            None => self.append_routed(buffer, records, bytes, now, &pack),
        }
    }

    /// Appends a batch as one frame if one shard owns all hash keys. Returns `None` if none does, or no longer.
    fn append_whole(
        &self,
        buffer: &mut DraftBuffer,
        records: &[PutRecord<'_>],
        bytes: usize,
        now: Timestamp,
        pack: impl Fn(&mut Draft<'_>) -> Result<()>,
    ) -> Option<Vec<Result<Receipt>>> {
        let map = self.topology.map();
        let shard = map.only_open().filter(|_| !records.is_empty())?;
        let mut frame = buffer.draft(records.iter(), bytes);
        frame.put_at = now;
        let base = pack(&mut frame).and_then(|()| shard.append(&mut frame)).transpose()?;
        let base =
            base.and_then(|base| self.make_durable(shard, base.plus(records.len() as u64)).map(|()| base));
        Some(match base {
            Ok(base) => {
                let (shard, timestamp) = (shard.id(), frame.put_at);
                let receipt = |more| Ok(Receipt { shard, sequence: base.plus(more), timestamp });
                (0..records.len() as u64).map(receipt).collect()
            }
            Err(error) => vec![Err(error); records.len()],
        })
    }

    /// Appends a batch as one frame for each shard.
    fn append_routed(
        &self,
        buffer: &mut DraftBuffer,
        records: &[PutRecord<'_>],
        bytes: usize,
        now: Timestamp,
        pack: impl Fn(&mut Draft<'_>) -> Result<()>,
    ) -> Vec<Result<Receipt>> {
        let mut outcomes: Vec<Option<Result<Receipt>>> = vec![None; records.len()];
        let mut pending: Vec<usize> = (0..records.len()).collect();
        let mut to_sync: Vec<Appended> = vec![];
        while !pending.is_empty() {
            let map = self.topology.map();
            let route = |&at: &usize| (map.route(self.hash_key_of(&records[at])), at);
            let mut routed: Vec<_> = pending.iter().map(route).collect();
            // Sorted by shard and then by place in the batch, so that the records of a shard keep their order.
            routed.sort_unstable();
            pending.clear();
            for part in routed.chunk_by(|a, b| a.0 == b.0) {
                let mut frame = buffer.draft(part.iter().map(|&(_, at)| &records[at]), bytes);
                frame.put_at = now;
                let shard = map.open_at(part[0].0);
                let places = part.iter().map(|&(_, at)| at);
                match pack(&mut frame).and_then(|()| shard.append(&mut frame)) {
                    Ok(Some(base)) => {
                        for (at, more) in places.clone().zip(0..) {
                            let (shard, sequence) = (shard.id(), base.plus(more));
                            outcomes[at] = Some(Ok(Receipt { shard, sequence, timestamp: frame.put_at }));
                        }
                        if self.options.durability == Durability::Power {
                            to_sync.push(Appended { shard: Arc::clone(shard), places: places.collect() });
                        }
                    }
                    // The shard closed in the meantime. These records are routed again with the next map.
                    Ok(None) => pending.extend(places),
                    Err(error) => places.for_each(|at| outcomes[at] = Some(Err(error.clone()))),
                }
            }
            pending.sort_unstable();
        }
        // All frames are appended before the first sync, so that each sync covers as many puts as possible.
        for Appended { shard, places } in to_sync {
            if let Err(error) = shard.sync() {
                places.into_iter().for_each(|at| outcomes[at] = Some(Err(error.clone())));
            }
        }
        let mut placed = Vec::with_capacity(outcomes.len());
        placed.extend(outcomes.into_iter().flatten());
        placed
    }

    #[inline]
    pub(super) fn hash_key_of(&self, record: &PutRecord<'_>) -> HashKey {
        record.explicit_hash_key.unwrap_or_else(|| self.key_hash.hash(record.partition_key))
    }

    #[inline]
    fn check_record(&self, index: usize, record: &PutRecord<'_>) -> Result<()> {
        let (key_bytes, data_bytes) = (record.partition_key.len(), record.data.len());
        let is_valid = (1..=PARTITION_KEY_BYTES_MAX).contains(&key_bytes)
            && (key_bytes as u64).saturating_add(data_bytes as u64) <= self.record_bytes_max;
        if is_valid && record.header_list().is_empty() {
            return Ok(());
        }
        self.check_slowly(index, record)
    }

    #[cold]
    fn check_slowly(&self, index: usize, record: &PutRecord<'_>) -> Result<()> {
        let (key_bytes, headers) = (record.partition_key.len(), record.header_list());
        let bytes = [key_bytes, record.data.len(), headers::bytes_of(headers)];
        let bytes = bytes.into_iter().fold(0, usize::saturating_add);
        let bad_name = headers.iter().find(|(name, _)| !(1..=HEADER_NAME_BYTES_MAX).contains(&name.len()));
        let reason = match key_bytes {
            0 => "its partition key is empty".to_owned(),
            key_bytes if key_bytes > PARTITION_KEY_BYTES_MAX => {
                format!("its partition key has {key_bytes} bytes, and may have {PARTITION_KEY_BYTES_MAX}")
            }
            _ if bytes as u64 > self.record_bytes_max => {
                format!(
                    "key, data and headers together have {bytes} bytes, and may have {}",
                    self.record_bytes_max
                )
            }
            _ => match bad_name {
                Some((name, _)) => format!(
                    "the name of a header has {} bytes, and may have 1 to {HEADER_NAME_BYTES_MAX}",
                    name.len()
                ),
                None => return Ok(()),
            },
        };
        Err(Error::InvalidRecord { index: index.try_into().unwrap_or(u32::MAX), reason: reason.into() })
    }

    /// Checks all records of a batch. Returns the bytes that they take in a frame.
    fn check_batch(&self, records: &[PutRecord<'_>]) -> Result<usize> {
        let mut bytes = 0u64;
        for (index, record) in records.iter().enumerate() {
            self.check_record(index, record)?;
            bytes += record_bytes(record) as u64;
        }
        // Leaves room for the frame header, padding, and what encryption adds. All records may go to one shard.
        if bytes + 128 > FRAME_BYTES_MAX {
            return Err(Error::invalid(format!(
                "a batch of {bytes} bytes is too large: put at most {FRAME_BYTES_MAX} bytes at a time"
            )));
        }
        Ok(bytes as usize)
    }

    /// Waits until the shard is synced below `end`, if the stream's durability requires it.
    #[inline]
    fn make_durable(&self, shard: &Shard, end: SequenceNumber) -> Result<()> {
        match self.options.durability {
            Durability::Process => Ok(()),
            Durability::Power => shard.sync_to(end),
        }
    }
}
