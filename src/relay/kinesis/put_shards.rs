//! The shards of the stream on the other side: which of them owns a hash key, and how much each may get by now.

use std::collections::HashMap;
use std::time::Duration;

use crate::extend::Bucket;
use crate::{HashKey, HashKeyRange, MINUTE, SECOND};

/// The limits of a shard of Kinesis.
const RECORDS_PER_SECOND: u64 = 1_000;
const BYTES_PER_SECOND: u64 = 1 << 20;
/// The list of shards is read again after this time in any case.
const AGE_MAX: Duration = MINUTE.saturating_mul(5);
/// It is not read more often than this. Each failure doubles the pause.
const PAUSE: Duration = SECOND;
const DOUBLED_MAX: u32 = 6;

/// A shard as the other side lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FarShard {
    pub(super) id: String,
    pub(super) range: HashKeyRange,
    /// It takes records. Otherwise it was split or merged.
    pub(super) is_open: bool,
}

/// An open shard, and what it has got.
#[derive(Debug, Clone)]
struct Open {
    id: String,
    range: HashKeyRange,
    records: Bucket,
    bytes: Bucket,
}

/// The shards of a stream.
#[derive(Debug)]
pub(super) struct Shards {
    /// Send each shard only as much as its limits allow.
    is_paced: bool,
    /// The open shards, by the hash keys that they own. Empty if they are not known.
    open: Vec<Open>,
    /// The hash keys that each shard owns or has owned.
    ranges: HashMap<String, HashKeyRange>,
    /// When the list was read.
    read_at: Option<Duration>,
    /// When it may be read again.
    next_at: Duration,
    /// How often in a row it could not be read.
    failures: u32,
    /// A put has shown that the list is outdated.
    is_outdated: bool,
}

impl Shards {
    pub(super) fn new(is_paced: bool) -> Self {
        Self {
            is_paced,
            open: vec![],
            ranges: HashMap::new(),
            read_at: None,
            next_at: Duration::ZERO,
            failures: 0,
            is_outdated: false,
        }
    }

    pub(super) fn is_known(&self) -> bool {
        self.read_at.is_some()
    }

    /// Returns whether the list should be read again.
    pub(super) fn is_due(&self, now: Duration) -> bool {
        let is_old = self.read_at.is_none_or(|read_at| now.saturating_sub(read_at) >= AGE_MAX);
        (is_old || self.is_outdated) && now >= self.next_at
    }

    /// Notes the list as it was read. Shards that remain keep their counts.
    pub(super) fn set(&mut self, list: Vec<FarShard>, now: Duration) {
        let mut known: HashMap<_, _> =
            self.open.drain(..).map(|shard| (shard.id, (shard.records, shard.bytes))).collect();
        self.ranges = list.iter().map(|shard| (shard.id.clone(), shard.range)).collect();
        let open = list.into_iter().filter(|shard| shard.is_open).map(|shard| {
            let buckets = known.remove(&shard.id);
            let full = || (Bucket::new(RECORDS_PER_SECOND), Bucket::new(BYTES_PER_SECOND));
            let (records, bytes) = buckets.unwrap_or_else(full);
            Open { id: shard.id, range: shard.range, records, bytes }
        });
        self.open = open.collect();
        self.open.sort_by_key(|shard| shard.range.start);
        (self.read_at, self.is_outdated, self.failures) = (Some(now), false, 0);
        self.next_at = now + PAUSE;
    }

    /// Notes that the list could not be read.
    pub(super) fn note_failure(&mut self, now: Duration) {
        self.next_at = now + PAUSE * (1 << self.failures.min(DOUBLED_MAX));
        self.failures += 1;
    }

    /// Returns the place of the open shard that owns a hash key, if it is known.
    pub(super) fn place(&self, hash: HashKey) -> Option<usize> {
        let after = self.open.partition_point(|shard| shard.range.start <= hash);
        let at = after.checked_sub(1)?;
        self.open[at].range.contains(hash).then_some(at)
    }

    /// Returns the hash keys of the shard at a place.
    pub(super) fn range_at(&self, place: Option<usize>) -> Option<HashKeyRange> {
        Some(self.open.get(place?)?.range)
    }

    /// Returns the hash keys of a shard, open or not.
    pub(super) fn range_of(&self, id: &str) -> Option<HashKeyRange> {
        self.ranges.get(id).copied()
    }

    /// Returns how long to wait until the shard at a place may get another record of this many bytes.
    pub(super) fn wait(&self, place: Option<usize>, bytes: usize, now: Duration) -> Duration {
        let shard = place.filter(|_| self.is_paced).and_then(|place| self.open.get(place));
        let wait = |shard: &Open| shard.records.wait(now, 1).max(shard.bytes.wait(now, bytes as u64));
        shard.map_or(Duration::ZERO, wait)
    }

    /// Notes that the shard at a place gets a record of this many bytes.
    pub(super) fn take(&mut self, place: Option<usize>, bytes: usize, now: Duration) {
        if let Some(shard) = place.and_then(|place| self.open.get_mut(place)) {
            shard.records.take(now, 1);
            shard.bytes.take(now, bytes as u64);
        }
    }

    /// Notes which shard has got a record with this hash key. Returns whether that is the one that was expected.
    pub(super) fn note(&mut self, id: &str, hash: HashKey) -> bool {
        let expected = self.place(hash).map(|place| &*self.open[place].id);
        let is_expected = expected == Some(id);
        self.is_outdated |= self.is_known() && !is_expected;
        is_expected
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard(id: &str, start: u128, end: u128, is_open: bool) -> FarShard {
        let range = HashKeyRange { start: HashKey::new(start), end: HashKey::new(end) };
        FarShard { id: id.to_owned(), range, is_open }
    }

    #[test]
    fn a_hash_key_belongs_to_the_open_shard_around_it() {
        let mut shards = Shards::new(true);
        assert_eq!(shards.place(HashKey::MIN), None);
        let list = [
            shard("c", 50, u128::MAX, true),
            shard("a", 0, 49, false),
            shard("b", 0, 9, true),
            shard("d", 20, 49, true),
        ];
        shards.set(list.into(), SECOND);
        let id = |hash: u128| shards.place(HashKey::new(hash)).map(|at| &*shards.open[at].id);
        assert_eq!(
            [0, 9, 10, 19, 20, 49, 50].map(id),
            [Some("b"), Some("b"), None, None, Some("d"), Some("d"), Some("c")]
        );
        assert_eq!(id(u128::MAX), Some("c"));
        assert!(shards.range_of("a").is_some_and(|range| range.end.get() == 49));
    }

    #[test]
    fn the_list_is_read_again_when_a_put_says_so_and_after_a_time() {
        let mut shards = Shards::new(true);
        assert!(shards.is_due(Duration::ZERO));
        shards.note_failure(Duration::ZERO);
        assert!(!shards.is_due(PAUSE / 2) && shards.is_due(PAUSE));
        shards.note_failure(PAUSE);
        assert!(!shards.is_due(2 * PAUSE) && shards.is_due(3 * PAUSE));
        shards.set(vec![shard("a", 0, u128::MAX, true)], PAUSE);
        assert!(!shards.is_due(AGE_MAX) && shards.is_due(AGE_MAX + PAUSE));
        assert!(shards.note("a", HashKey::MIN));
        assert!(!shards.is_due(3 * PAUSE));
        assert!(!shards.note("b", HashKey::MIN));
        assert!(!shards.is_due(PAUSE) && shards.is_due(2 * PAUSE));
    }

    #[test]
    fn a_shard_gets_what_its_limits_allow_and_a_list_that_is_read_again_changes_nothing() {
        let mut shards = Shards::new(true);
        let list = || vec![shard("a", 0, 9, true), shard("b", 10, u128::MAX, true)];
        shards.set(list(), Duration::ZERO);
        let (a, b) = (shards.place(HashKey::MIN), shards.place(HashKey::MAX));
        for _ in 0..RECORDS_PER_SECOND {
            assert_eq!(shards.wait(a, 1, Duration::ZERO), Duration::ZERO);
            shards.take(a, 1, Duration::ZERO);
        }
        shards.set(list(), Duration::ZERO);
        assert_eq!(shards.wait(a, 1, Duration::ZERO), Duration::from_millis(1));
        assert_eq!(shards.wait(a, 1, Duration::from_millis(1)), Duration::ZERO);
        shards.take(b, 1 << 20, Duration::ZERO);
        assert_eq!(shards.wait(b, 1 << 19, Duration::ZERO), SECOND / 2);
        assert_eq!(
            shards.wait(None, 1, Duration::ZERO),
            Duration::ZERO,
            "of one that is not known, nothing is"
        );
        shards.is_paced = false;
        assert_eq!(shards.wait(b, 1 << 19, Duration::ZERO), Duration::ZERO);
    }
}
