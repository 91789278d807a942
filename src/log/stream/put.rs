//! Putting records: checked, routed, drafted as frames, appended.

use std::cell::Cell;

use super::{Core, Stream};
use crate::log::format::draft::FrameDraft;
use crate::log::topology::shard_map::ShardMap;
use crate::log::types::error::{Error, Result};
use crate::log::types::hash_key::HashKey;
use crate::log::types::limits::{FRAME_BYTES_MAX, PARTITION_KEY_BYTES_MAX};
use crate::log::types::options::Durability;
use crate::log::types::record::{PutRecord, Receipt};
use crate::log::types::sequence::SequenceNumber;
use crate::log::types::shard_id::ShardId;
use crate::log::types::time::Timestamp;

/// Data from this size on is not copied into the draft, but goes into the segment straight from the caller's memory.
const BORROWED_DATA_BYTES_MIN: usize = 4 << 10;
/// A thread keeps a draft buffer of this size at most.
const DRAFT_BYTES_KEPT: usize = 1 << 20;

thread_local! {
    static DRAFT: Cell<Option<Box<FrameDraft>>> = const { Cell::new(None) };
}

/// Works with the thread's draft, which is taken out for the time so that a call from within finds none and makes another.
#[inline]
fn with_draft<T>(work: impl FnOnce(&mut FrameDraft) -> T) -> T {
    let mut draft = DRAFT.try_with(Cell::take).ok().flatten().unwrap_or_default();
    let outcome = work(&mut draft);
    draft.shrink(DRAFT_BYTES_KEPT);
    // A thread that is ending has no place to keep it.
    let _ = DRAFT.try_with(|place| place.set(Some(draft)));
    outcome
}

impl Stream {
    /// Puts one record on the shard that owns the hash of its partition key.
    ///
    /// A key is 1 to 1,024 bytes; data may be empty; both together are 1 MiB at most unless the stream is set up otherwise.
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
    /// When it returns, every iterator sees the record, and it survives the death of the process. It survives power loss as the
    /// stream's [`Durability`] says.
    ///
    /// # Errors
    /// `InvalidRecord`; `StorageFull` if the disk has no room for it: free some, and put again; `Poisoned` after a failed sync;
    /// `Closed`. After any error the record is not there, with one exception: a failed sync under [`Durability::Power`] leaves
    /// that open.
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
    /// As [`put`](Self::put).
    pub fn put_record(&self, record: &PutRecord<'_>) -> Result<Receipt> {
        let core = self.core();
        core.check_record(0, record)?;
        core.put_metrics.put(core.options.durability, || {
            with_draft(|draft| {
                let (key, data) = (record.partition_key(), record.data());
                let tail = if data.len() < BORROWED_DATA_BYTES_MIN {
                    draft.clear(FrameDraft::record_bytes(key, data));
                    draft.push(key, data);
                    draft.finish();
                    &[]
                } else {
                    draft.clear(FrameDraft::record_bytes(key, &[]));
                    draft.finish_borrowing(key, data);
                    data
                };
                // Here, where it gives the stores into the draft time to end before its checksum reads them.
                let now = core.clock.now();
                loop {
                    let map = core.topology.map();
                    let shard = match map.only_open() {
                        Some(shard) => shard,
                        None => map.open_at(map.route(core.hash_key_of(record))),
                    };
                    // A shard that closed in the meantime is no longer in the next map.
                    if let Some(sequence) = shard.append(draft, tail, now)? {
                        core.make_durable(&map, shard.id(), sequence.plus(1))?;
                        return Ok(Receipt { shard: shard.id(), sequence });
                    }
                    std::thread::yield_now();
                }
            })
        })
    }

    /// Checks the sizes of a record, without putting it: what passes is not refused as `InvalidRecord` later.
    ///
    /// # Errors
    /// `InvalidRecord`
    pub fn check_record(&self, record: &PutRecord<'_>) -> Result<()> {
        self.core().check_record(0, record)
    }

    /// Puts any number of records, up to 2 GiB in all. Those that go to one shard are one unit there, in their order: after a crash
    /// all of them are there, or none.
    ///
    /// Returns one result for each record, in their order. What fails, such as a full disk, fails for all records of a shard.
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
    /// `InvalidRecord` names the first record that no stream with these settings can hold; nothing was written then.
    /// `InvalidArgument` if it is more than 2 GiB.
    pub fn put_batch(&self, records: &[PutRecord<'_>]) -> Result<Vec<Result<Receipt>>> {
        let core = self.core();
        let bytes = core.check_batch(records)?;
        let now = core.clock.now();
        Ok(core.put_metrics.put_batch(core.options.durability, || {
            let mut outcomes = with_draft(|draft| match core.append_whole(draft, records, bytes, now) {
                Some(outcomes) => outcomes,
                None => core.append_routed(draft, records, bytes, now),
            });
            core.make_batch_durable(&mut outcomes);
            outcomes
        }))
    }
}

/// Drafts a frame of the records at these places.
#[inline]
fn draft_part<'a>(draft: &mut FrameDraft, records: impl Iterator<Item = &'a PutRecord<'a>>, bytes: usize) {
    draft.clear(bytes);
    for record in records {
        draft.push(record.partition_key(), record.data());
    }
    draft.finish();
}

impl Core {
    /// Appends a batch as one frame where one shard owns all hash keys; `None` if that is not so, or no longer.
    fn append_whole(
        &self,
        draft: &mut FrameDraft,
        records: &[PutRecord<'_>],
        bytes: usize,
        now: Timestamp,
    ) -> Option<Vec<Result<Receipt>>> {
        let map = self.topology.map();
        let shard = map.only_open().filter(|_| !records.is_empty())?;
        draft_part(draft, records.iter(), bytes);
        match shard.append(draft, &[], now).transpose()? {
            Ok(base) => {
                let receipt = |more| Ok(Receipt { shard: shard.id(), sequence: base.plus(more) });
                Some((0..records.len() as u64).map(receipt).collect())
            }
            Err(error) => Some(vec![Err(error); records.len()]),
        }
    }

    /// Appends a batch as one frame a shard.
    fn append_routed(
        &self,
        draft: &mut FrameDraft,
        records: &[PutRecord<'_>],
        bytes: usize,
        now: Timestamp,
    ) -> Vec<Result<Receipt>> {
        let mut outcomes: Vec<Option<Result<Receipt>>> = vec![None; records.len()];
        let mut pending: Vec<usize> = (0..records.len()).collect();
        while !pending.is_empty() {
            let map = self.topology.map();
            let route = |&at: &usize| (map.route(self.hash_key_of(&records[at])), at);
            let mut routed: Vec<_> = pending.iter().map(route).collect();
            // By place and then by number, so that the records of a shard keep their order.
            routed.sort_unstable();
            pending.clear();
            for part in routed.chunk_by(|a, b| a.0 == b.0) {
                draft_part(draft, part.iter().map(|&(_, at)| &records[at]), bytes);
                let shard = map.open_at(part[0].0);
                match shard.append(draft, &[], now) {
                    Ok(Some(base)) => {
                        for (&(_, at), more) in part.iter().zip(0..) {
                            outcomes[at] = Some(Ok(Receipt { shard: shard.id(), sequence: base.plus(more) }));
                        }
                    }
                    // The shard closed in the meantime: with the next map.
                    Ok(None) => pending.extend(part.iter().map(|&(_, at)| at)),
                    Err(error) => part.iter().for_each(|&(_, at)| outcomes[at] = Some(Err(error.clone()))),
                }
            }
            pending.sort_unstable();
        }
        let mut placed = Vec::with_capacity(outcomes.len());
        placed.extend(outcomes.into_iter().flatten());
        placed
    }

    #[inline]
    fn hash_key_of(&self, record: &PutRecord<'_>) -> HashKey {
        record.hash_key().unwrap_or_else(|| self.key_hash.hash(record.partition_key()))
    }

    #[inline]
    fn check_record(&self, index: usize, record: &PutRecord<'_>) -> Result<()> {
        let (key_bytes, data_bytes) = (record.partition_key().len(), record.data().len());
        let is_valid = (1..=PARTITION_KEY_BYTES_MAX).contains(&key_bytes)
            && (key_bytes as u64).saturating_add(data_bytes as u64) <= self.record_bytes_max;
        if is_valid { Ok(()) } else { Err(self.invalid_record(index, key_bytes, data_bytes)) }
    }

    #[cold]
    fn invalid_record(&self, index: usize, key_bytes: usize, data_bytes: usize) -> Error {
        let reason = match key_bytes {
            0 => "its partition key is empty".to_owned(),
            key_bytes if key_bytes > PARTITION_KEY_BYTES_MAX => {
                format!("its partition key has {key_bytes} bytes, and may have {PARTITION_KEY_BYTES_MAX}")
            }
            _ => format!(
                "key and data together have {} bytes, and may have {}",
                key_bytes.saturating_add(data_bytes),
                self.record_bytes_max
            ),
        };
        Error::InvalidRecord { index: index.try_into().unwrap_or(u32::MAX), reason: reason.into() }
    }

    /// Checks all records of a batch; tells the bytes that they take in a frame.
    fn check_batch(&self, records: &[PutRecord<'_>]) -> Result<usize> {
        let mut bytes = 0u64;
        for (index, record) in records.iter().enumerate() {
            self.check_record(index, record)?;
            bytes += FrameDraft::record_bytes(record.partition_key(), record.data()) as u64;
        }
        // Room for the header and padding; all may go to one shard.
        if bytes + 64 > FRAME_BYTES_MAX {
            return Err(Error::invalid(format!(
                "a batch of {bytes} bytes is too large: put at most {FRAME_BYTES_MAX} bytes at a time"
            )));
        }
        Ok(bytes as usize)
    }

    /// Waits for a sync, if that is what a returned put promises.
    #[inline]
    fn make_durable(&self, map: &ShardMap, shard: ShardId, end: SequenceNumber) -> Result<()> {
        match self.options.durability {
            Durability::Process => Ok(()),
            Durability::Power => map.get(shard)?.sync_to(end),
        }
    }

    fn make_batch_durable(&self, outcomes: &mut [Result<Receipt>]) {
        if self.options.durability == Durability::Process {
            return;
        }
        let map = self.topology.map();
        let mut synced: Vec<(ShardId, Result<()>)> = vec![];
        for outcome in outcomes.iter_mut() {
            let Ok(receipt) = outcome else { continue };
            let known = synced.iter().position(|(shard, _)| *shard == receipt.shard);
            let at = known.unwrap_or_else(|| {
                // All records of the batch were appended before, so this sync covers those that follow too.
                let result = map.get(receipt.shard).and_then(|shard| shard.sync());
                synced.push((receipt.shard, result));
                synced.len() - 1
            });
            if let Err(error) = &synced[at].1 {
                *outcome = Err(error.clone());
            }
        }
    }
}
