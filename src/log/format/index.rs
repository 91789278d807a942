//! The sparse index: one entry for each stride of frames, to find a sequence number or a time.

use std::ops::Range;

use super::bytes::{FieldWriter, u64_at};
use super::frame::FrameHeader;
use crate::log::types::limits::INDEX_STRIDE_BYTES;

/// The size of one entry.
pub(crate) const ENTRY_BYTES: usize = 24;

/// The offset of a frame, the sequence number of its first record, and the time when it was put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IndexEntry {
    pub(crate) sequence: u64,
    pub(crate) timestamp_micros: u64,
    pub(crate) offset: u64,
}

impl IndexEntry {
    /// Returns the entry of the frame at `offset`.
    pub(crate) fn of(frame: &FrameHeader, offset: u64) -> Self {
        Self { sequence: frame.base_sequence, timestamp_micros: frame.timestamp_micros, offset }
    }
}

/// The entries of one segment, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Index {
    entries: Vec<IndexEntry>,
    next_offset: u64,
}

impl Index {
    /// Returns an empty index with room for all frames of a segment of `segment_bytes`, so that adding entries allocates nothing.
    pub(crate) fn with_room_for(segment_bytes: u64) -> Self {
        let entries = Vec::with_capacity((segment_bytes / INDEX_STRIDE_BYTES) as usize + 1);
        Self { entries, next_offset: 0 }
    }

    /// Appends the entries of another index, without giving up the reserved room.
    pub(crate) fn extend_from(&mut self, other: &Self) {
        self.entries.extend_from_slice(&other.entries);
        self.next_offset = other.next_offset;
    }

    /// Returns whether a frame at `offset` begins a new stride.
    #[inline]
    pub(crate) fn wants(&self, offset: u64) -> bool {
        offset >= self.next_offset
    }

    /// Adds the entry of a frame that begins a new stride.
    pub(crate) fn note(&mut self, entry: IndexEntry) {
        self.next_offset = entry.offset.saturating_add(INDEX_STRIDE_BYTES);
        self.entries.push(entry);
    }

    /// Returns the offset from which on a frame begins a new stride.
    pub(crate) fn next_offset(&self) -> u64 {
        self.next_offset
    }

    /// Returns whether all entries lie within these sequence numbers and offsets.
    pub(crate) fn is_within(&self, sequences: Range<u64>, offsets: Range<u64>) -> bool {
        let ends = self.entries.first().into_iter().chain(self.entries.last());
        ends.into_iter().all(|entry| sequences.contains(&entry.sequence) && offsets.contains(&entry.offset))
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns the last entry whose frame begins at or before a sequence number.
    pub(crate) fn before_sequence(&self, sequence: u64) -> Option<IndexEntry> {
        let after = self.entries.partition_point(|entry| entry.sequence <= sequence);
        after.checked_sub(1).map(|at| self.entries[at])
    }

    /// Returns the entries of frames that begin after a sequence number.
    pub(crate) fn after_sequence(&self, sequence: u64) -> &[IndexEntry] {
        &self.entries[self.entries.partition_point(|entry| entry.sequence <= sequence)..]
    }

    /// Returns the last entry whose frame, and therefore everything before it, is older than a time.
    pub(crate) fn before_timestamp(&self, timestamp_micros: u64) -> Option<IndexEntry> {
        let after = self.entries.partition_point(|entry| entry.timestamp_micros < timestamp_micros);
        after.checked_sub(1).map(|at| self.entries[at])
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.entries.len() * ENTRY_BYTES];
        for (entry, place) in self.entries.iter().zip(bytes.chunks_exact_mut(ENTRY_BYTES)) {
            FieldWriter::new(place).u64(entry.sequence).u64(entry.timestamp_micros).u64(entry.offset);
        }
        bytes
    }

    /// Reads an index. Returns `None` if its entries are not in order, since it could not be searched.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        if !bytes.len().is_multiple_of(ENTRY_BYTES) {
            return None;
        }
        let entries = bytes
            .chunks_exact(ENTRY_BYTES)
            .map(|entry| {
                Some(IndexEntry {
                    sequence: u64_at(entry, 0)?,
                    timestamp_micros: u64_at(entry, 8)?,
                    offset: u64_at(entry, 16)?,
                })
            })
            .collect::<Option<Vec<_>>>()?;
        let is_sorted = entries.windows(2).all(|pair| {
            pair[0].sequence < pair[1].sequence
                && pair[0].offset < pair[1].offset
                && pair[0].timestamp_micros <= pair[1].timestamp_micros
        });
        let next_offset = entries.last().map_or(0, |last| last.offset.saturating_add(INDEX_STRIDE_BYTES));
        is_sorted.then_some(Self { entries, next_offset })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_index_finds_the_entry_at_or_before() {
        let mut index = Index::default();
        for (sequence, timestamp_micros, offset) in [(10, 100, 4096), (20, 100, 8200), (30, 200, 12_300)] {
            assert!(index.wants(offset));
            index.note(IndexEntry { sequence, timestamp_micros, offset });
            assert!(!index.wants(offset + 4095));
        }
        let offset = |entry: Option<IndexEntry>| entry.map(|entry| entry.offset);
        assert_eq!(offset(index.before_sequence(9)), None);
        assert_eq!(offset(index.before_sequence(10)), Some(4096));
        assert_eq!(offset(index.before_sequence(29)), Some(8200));
        assert_eq!(offset(index.before_timestamp(100)), None);
        assert_eq!(offset(index.before_timestamp(101)), Some(8200));
        assert_eq!(Index::decode(&index.encode()), Some(index));
    }

    proptest! {
        #[test]
        fn p11_any_bytes_decode_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Index::decode(&bytes);
        }
    }
}
