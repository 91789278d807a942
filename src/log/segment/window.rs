//! A segment opened for reading: its committed frames, and how to find one.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

use super::sealed;
use crate::log::format::frame::{Frame, FrameFault, FrameHeader};
use crate::log::format::header::{self, COMMITTED_OFFSET, HEADER_PAGE_BYTES, SYNCED_OFFSETS};
use crate::log::format::index::{Index, IndexEntry};
use crate::log::format::trailer::Trailer;
use crate::log::sys::map::Map;
use crate::log::types::error::{Corruption, Error, Result};
use crate::log::types::sequence::SequenceNumber;
use crate::log::types::shard_id::ShardId;
use crate::log::types::time::Timestamp;

/// Where the first frame of a segment begins.
pub(crate) const FRAMES_FROM: u64 = HEADER_PAGE_BYTES as u64;

/// A segment opened for reading.
#[derive(Debug)]
pub(crate) struct Window {
    pub(crate) map: Arc<Map>,
    pub(crate) path: PathBuf,
    pub(crate) shard: ShardId,
    pub(crate) base: SequenceNumber,
    /// Where to find the index in the file, for a segment that was opened sealed.
    trailer: Option<Trailer>,
    /// Read or rebuilt when it is first needed.
    index: RwLock<Option<Index>>,
    /// The bytes that are known to survive power loss.
    synced: AtomicU64,
    sync_round: AtomicU64,
    /// The syncs since the header page was told.
    unnoted_syncs: AtomicU64,
    /// Whether a sync of the file failed: the next one may succeed without what that one lost. Held by whoever syncs it.
    pub(super) has_failed_sync: Mutex<bool>,
    /// Up to where the file has blocks. Held by whoever gives it more or takes them back, so that nobody writes zeros over frames.
    pub(super) blocks: Mutex<u64>,
    /// The bytes that the header page says are synced.
    noted: AtomicU64,
}

/// Where a walk along the frames stopped.
#[derive(Debug)]
struct Stop {
    offset: u64,
    /// The number of the first record there.
    sequence: SequenceNumber,
    /// The frame there; `None` at the end.
    header: Option<FrameHeader>,
}

impl Window {
    pub(crate) fn new(
        map: Arc<Map>,
        path: &Path,
        (shard, base): (ShardId, SequenceNumber),
        trailer: Option<Trailer>,
        index: Option<Index>,
    ) -> Self {
        Self {
            map,
            path: path.to_owned(),
            shard,
            base,
            trailer,
            index: RwLock::new(index),
            synced: AtomicU64::new(0),
            sync_round: AtomicU64::new(0),
            unnoted_syncs: AtomicU64::new(0),
            has_failed_sync: Mutex::default(),
            blocks: Mutex::default(),
            noted: AtomicU64::new(0),
        }
    }

    /// The error that a bad frame is.
    #[cold]
    pub(crate) fn fault(&self, offset: u64, sequence: SequenceNumber, fault: &FrameFault) -> Error {
        match fault {
            FrameFault::Unsupported { .. } => {
                Error::unsupported(&self.path, format!("{fault} at byte {offset}"))
            }
            _ => self.damage(offset, sequence, fault.to_string()),
        }
    }

    pub(crate) fn damage(&self, offset: u64, sequence: SequenceNumber, reason: String) -> Error {
        let path = self.path.clone();
        Corruption { path, shard: Some(self.shard), offset, sequence: Some(sequence), reason }.into_error()
    }

    /// The bytes that are known to survive power loss.
    pub(crate) fn synced(&self) -> u64 {
        self.synced.load(Ordering::Relaxed)
    }

    /// Notes that bytes survive power loss, by one more sync.
    pub(super) fn set_synced(&self, bytes: u64) {
        self.synced.fetch_max(bytes, Ordering::Relaxed);
        self.unnoted_syncs.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether the header page says less than is synced.
    pub(super) fn is_note_behind(&self) -> bool {
        self.synced() > self.noted.load(Ordering::Relaxed)
    }

    /// Whether it is so many syncs behind, or does not say yet that anything is synced.
    pub(super) fn is_note_behind_by(&self, syncs: u64) -> bool {
        let is_first = self.noted.load(Ordering::Relaxed) == 0;
        self.is_note_behind() && (is_first || self.unnoted_syncs.load(Ordering::Relaxed) >= syncs)
    }

    /// Notes in the header page what is synced, for recovery to tell damage from a torn tail.
    pub(super) fn note_synced(&self) {
        let synced = self.synced();
        self.noted.store(synced, Ordering::Relaxed);
        self.unnoted_syncs.store(0, Ordering::Relaxed);
        let round = self.sync_round.fetch_add(1, Ordering::Relaxed);
        let offset = SYNCED_OFFSETS[round as usize % SYNCED_OFFSETS.len()];
        for (at, word) in header::encode_synced_slot(synced).as_chunks().0.iter().enumerate() {
            self.map.store_live_word(offset + at * 8, *word);
        }
        self.map.store_live_word(COMMITTED_OFFSET, header::encode_committed(self.map.committed()));
    }

    /// Adds to the index of a segment that is being written; the frame must be committed.
    pub(crate) fn note(&self, entry: IndexEntry) {
        self.index.write().get_or_insert_default().note(entry);
    }

    /// Works with the index, which is read from the file, or rebuilt from the frames, the first time.
    pub(crate) fn with_index<T>(&self, work: impl FnOnce(&Index) -> T) -> Result<T> {
        if let Some(index) = self.index.read().as_ref() {
            return Ok(work(index));
        }
        let mut slot = self.index.write();
        if slot.is_none() {
            let stored = self.trailer.and_then(|trailer| sealed::load_index(&self.path, self.base, &trailer));
            *slot = Some(match stored {
                Some(index) => index,
                None => self.rebuild_index()?,
            });
        }
        Ok(work(slot.get_or_insert_default()))
    }

    fn rebuild_index(&self) -> Result<Index> {
        let mut index = Index::default();
        self.walk(FRAMES_FROM, self.base, |offset, header| {
            if index.wants(offset) {
                let FrameHeader { base_sequence: sequence, timestamp_micros, .. } = *header;
                index.note(IndexEntry { sequence, timestamp_micros, offset });
            }
            false
        })?;
        Ok(index)
    }

    /// Follows the frame headers from an offset until `is_it`, or to the end; tells where it stopped.
    fn walk(
        &self,
        mut offset: u64,
        mut expected: SequenceNumber,
        mut is_it: impl FnMut(u64, &FrameHeader) -> bool,
    ) -> Result<Stop> {
        let committed = self.map.committed();
        while offset < committed {
            let header = FrameHeader::peek(self.map.bytes(offset..committed))
                .map_err(|fault| self.fault(offset, expected, &fault))?;
            if header.base_sequence != expected.get() {
                let fault = FrameFault::Sequence { expected: expected.get(), found: header.base_sequence };
                return Err(self.fault(offset, expected, &fault));
            }
            if is_it(offset, &header) {
                return Ok(Stop { offset, sequence: expected, header: Some(header) });
            }
            offset += header.len as u64;
            expected = SequenceNumber::new(header.end_sequence());
        }
        Ok(Stop { offset, sequence: expected, header: None })
    }

    /// Checks that a committed frame is whole, so that its header can be believed, also where a newer version wrote it.
    fn check(&self, offset: u64) -> Result<(), FrameFault> {
        match Frame::decode(self.map.bytes(offset..self.map.committed())) {
            Ok(_) | Err(FrameFault::Unsupported { .. }) => Ok(()),
            Err(fault) => Err(fault),
        }
    }

    /// Where a walk that follows an index entry begins: at the frame it names, or, where the index is wrong, at the first frame.
    fn walk_from(&self, entry: Option<IndexEntry>) -> (u64, SequenceNumber) {
        // The entry was noted after its frame was committed, so `committed` has to be read after the entry.
        let committed = self.map.committed();
        let named = entry.filter(|entry| {
            (FRAMES_FROM..committed).contains(&entry.offset)
                && FrameHeader::peek(self.map.bytes(entry.offset..committed))
                    .is_ok_and(|header| header.base_sequence == entry.sequence)
        });
        named.map_or((FRAMES_FROM, self.base), |entry| (entry.offset, SequenceNumber::new(entry.sequence)))
    }

    /// The offset of the frame that holds a sequence number, or of the committed end if that comes first.
    pub(crate) fn offset_of(&self, sequence: SequenceNumber) -> Result<u64> {
        Ok(self.find(sequence)?.offset)
    }

    fn find(&self, sequence: SequenceNumber) -> Result<Stop> {
        let entry = self.with_index(|index| index.before_sequence(sequence.get()))?;
        let (offset, expected) = self.walk_from(entry);
        self.walk(offset, expected, |_, header| sequence.get() < header.end_sequence())
    }

    /// The first frame behind a sequence number that the index knows and that is whole.
    pub(crate) fn next_whole_frame(&self, damaged: SequenceNumber) -> Option<SequenceNumber> {
        let committed = self.map.committed();
        let is_whole = |entry: &&IndexEntry| {
            (FRAMES_FROM..committed).contains(&entry.offset)
                && Frame::decode(self.map.bytes(entry.offset..committed))
                    .is_ok_and(|frame| frame.header.base_sequence == entry.sequence)
        };
        let found =
            self.with_index(|index| index.after_sequence(damaged.get()).iter().find(is_whole).copied());
        found.ok().flatten().map(|entry| SequenceNumber::new(entry.sequence))
    }

    /// When the record with a sequence number arrived; `None` if it is not there yet, or if its frame is damaged.
    pub(crate) fn timestamp_of(&self, sequence: SequenceNumber) -> Result<Option<Timestamp>> {
        let Stop { offset, header, .. } = self.find(sequence)?;
        let whole = header.filter(|_| self.check(offset).is_ok());
        Ok(whole.map(|header| Timestamp::from_micros(header.timestamp_micros)))
    }

    /// The number of the first record that arrived at a time or later, or the number after the last record if there is none.
    ///
    /// # Errors
    /// `Corrupt` for a damaged frame on the way: its timestamp tells nothing, and it must not be passed over without a word.
    pub(crate) fn first_at_or_after(&self, time: Timestamp) -> Result<SequenceNumber> {
        if let Some(trailer) = self.trailer.filter(|it| it.last_timestamp_micros < time.as_micros()) {
            return Ok(trailer.end_sequence.into());
        }
        let entry = self.with_index(|index| index.before_timestamp(time.as_micros()))?;
        let (offset, expected) = self.walk_from(entry);
        let is_it = |offset, header: &FrameHeader| {
            header.timestamp_micros >= time.as_micros() || self.check(offset).is_err()
        };
        let Stop { offset, sequence, header } = self.walk(offset, expected, is_it)?;
        if header.is_some() {
            self.check(offset).map_err(|fault| self.fault(offset, sequence, &fault))?;
        }
        Ok(sequence)
    }

    /// When the first record arrived; `None` while there is none.
    pub(crate) fn first_timestamp(&self) -> Result<Option<Timestamp>> {
        if let Some(trailer) = &self.trailer {
            return Ok(Some(Timestamp::from_micros(trailer.first_timestamp_micros)));
        }
        let first = self.walk(FRAMES_FROM, self.base, |_, _| true)?;
        Ok(first.header.map(|header| Timestamp::from_micros(header.timestamp_micros)))
    }
}
