//! The names of archived segments, which describe their contents.

use super::failure;
use crate::log::format::salt::SALT_BYTES;
use crate::log::types::archive::Archive;
use crate::log::types::error::Result;
use crate::log::types::sequence::SequenceNumber;
use crate::log::types::shard_id::ShardId;
use crate::log::types::time::Timestamp;

const EXTENSION: &str = ".seg";
const SHARDS: &str = "shards/";
/// This many bytes of a segment's salt distinguish it from one with the same numbers in another copy of the stream.
const IDENTITY_BYTES: usize = 8;

/// A segment in an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ArchivedSegment {
    pub(crate) shard: ShardId,
    /// The number of its first record.
    pub(crate) base: SequenceNumber,
    /// The number after its last record.
    pub(crate) end: SequenceNumber,
    /// When its first and its last record arrived.
    pub(crate) first: Timestamp,
    pub(crate) last: Timestamp,
    /// The bytes of its file.
    pub(crate) bytes: u64,
    /// The beginning of its salt.
    pub(crate) identity: u64,
    /// The checksum of everything behind the header page. That page has its own, and a note in it may still be written.
    pub(crate) checksum: u32,
}

/// Returns the beginning of a salt, as names have it.
pub(crate) fn identity_of(salt: &[u8; SALT_BYTES]) -> u64 {
    salt[..IDENTITY_BYTES].iter().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

/// Returns the prefix of the names of all segments of a shard.
fn prefix_of(shard: ShardId) -> String {
    format!("{SHARDS}{:012}/", shard.get())
}

impl ArchivedSegment {
    /// Returns the name of its object. Names of a shard sort by the first sequence number.
    pub(crate) fn name(&self) -> String {
        let Self { shard, base, end, first, last, bytes, identity, checksum } = self;
        let (base, end, first, last) = (base.get(), end.get(), first.as_micros(), last.as_micros());
        let prefix = prefix_of(*shard);
        format!(
            "{prefix}{base:020}-{end:020}-{first}-{last}-{bytes}-{identity:016x}-{checksum:08x}{EXTENSION}"
        )
    }

    /// Returns the segment that a name describes, if it is a segment's name.
    pub(crate) fn parse(shard: ShardId, name: &str) -> Option<Self> {
        let mut parts = name.strip_prefix(&prefix_of(shard))?.strip_suffix(EXTENSION)?.split('-');
        let mut number = |radix| u64::from_str_radix(parts.next()?, radix).ok();
        let segment = Self {
            shard,
            base: number(10)?.into(),
            end: number(10)?.into(),
            first: Timestamp::from_micros(number(10)?),
            last: Timestamp::from_micros(number(10)?),
            bytes: number(10)?,
            identity: number(16)?,
            checksum: number(16)?.try_into().ok()?,
        };
        (segment.base < segment.end && segment.name() == name).then_some(segment)
    }

    /// Returns whether a segment holds a record.
    pub(crate) fn holds(&self, sequence: SequenceNumber) -> bool {
        (self.base..self.end).contains(&sequence)
    }
}

/// Returns the segments that an archive has of a shard, in order. None overlaps the one before. Of two that begin together, the longer one is
/// kept: it is the same segment, archived again with more records.
pub(crate) fn list(archive: &dyn Archive, shard: ShardId) -> Result<Vec<ArchivedSegment>> {
    let prefix = prefix_of(shard);
    let names = archive.list(&prefix).map_err(|error| failure(archive, "list", &prefix, error))?;
    let found = names.iter().filter_map(|name| ArchivedSegment::parse(shard, name)).collect();
    Ok(without_overlaps(found))
}

fn without_overlaps(mut found: Vec<ArchivedSegment>) -> Vec<ArchivedSegment> {
    found.sort_by_key(|segment| (segment.base, std::cmp::Reverse(segment.end)));
    let mut end = SequenceNumber::ZERO;
    found.retain(|segment| {
        let is_next = segment.base >= end;
        end = end.max(segment.end);
        is_next
    });
    found
}

/// Returns the segment that holds a record.
pub(crate) fn holder(segments: &[ArchivedSegment], sequence: SequenceNumber) -> Option<&ArchivedSegment> {
    let after = segments.partition_point(|segment| segment.base <= sequence);
    segments[..after].last().filter(|segment| segment.holds(sequence))
}

/// Returns the first number that is not below `from` and that a segment holds, or the first one of a later segment.
pub(crate) fn first_held(segments: &[ArchivedSegment], from: SequenceNumber) -> Option<SequenceNumber> {
    let at = segments.partition_point(|segment| segment.end <= from);
    segments.get(at).map(|segment| segment.base.max(from))
}

/// Returns how far the segments reach without a gap from `from` on, or `from` if none holds it.
pub(crate) fn held_to(segments: &[ArchivedSegment], from: SequenceNumber) -> SequenceNumber {
    let at = segments.partition_point(|segment| segment.end <= from);
    segments[at..].iter().fold(from, |end, segment| if segment.base <= end { segment.end } else { end })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn segment(base: u64, end: u64) -> ArchivedSegment {
        let (first, last) = (Timestamp::from_micros(5), Timestamp::from_micros(9));
        let (base, end) = (base.into(), end.into());
        ArchivedSegment {
            shard: ShardId::new(3),
            base,
            end,
            first,
            last,
            bytes: 77,
            identity: 1,
            checksum: 2,
        }
    }

    proptest! {
        #[test]
        fn a_name_says_what_is_in_the_segment(
            shard in any::<u32>(), base in any::<u64>(), bytes in any::<u64>(), identity in any::<u64>(), checksum in any::<u32>(),
        ) {
            let shard = ShardId::new(shard);
            let end = base.saturating_add(1).into();
            let segment = ArchivedSegment { shard, base: base.into(), end, bytes, identity, checksum, ..segment(0, 1) };
            let expected = (base < u64::MAX).then_some(segment.clone());
            prop_assert_eq!(ArchivedSegment::parse(shard, &segment.name()), expected);
        }

        #[test]
        fn no_other_text_is_a_name(text in "[0-9a-f.seg/-]{0,120}") {
            prop_assert_eq!(ArchivedSegment::parse(ShardId::new(3), &format!("{}{text}", prefix_of(ShardId::new(3)))), None);
        }
    }

    #[test]
    fn of_two_segments_that_begin_together_the_longer_one_counts() {
        let found = vec![segment(10, 20), segment(0, 5), segment(0, 10), segment(30, 40)];
        let list = without_overlaps(found);
        let bounds: Vec<_> = list.iter().map(|it| (it.base.get(), it.end.get())).collect();
        assert_eq!(bounds, [(0, 10), (10, 20), (30, 40)]);
        let holds = |sequence: u64| holder(&list, sequence.into()).map(|segment| segment.base.get());
        assert_eq!(
            [0, 9, 10, 20, 29, 30, 40].map(holds),
            [Some(0), Some(0), Some(10), None, None, Some(30), None]
        );
        let first = |from: u64| first_held(&list, from.into()).map(SequenceNumber::get);
        assert_eq!([0, 15, 20, 35, 40].map(first), [Some(0), Some(15), Some(30), Some(35), None]);
        let reach = |from: u64| held_to(&list, from.into()).get();
        assert_eq!([0, 15, 20, 30, 40].map(reach), [20, 20, 20, 40, 40]);
    }
}
