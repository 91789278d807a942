//! Where a shard is cut: at the median of the load, between the hash keys of records that were put.

use crate::{HashKey, HashKeyRange};

/// A cut must take at least this part of the load away from the shard. Otherwise it is not worth a split.
pub(super) const GAIN_MIN: f64 = 0.05;
/// With fewer records than this, one of them can look like a hot key.
const RECORDS_MIN: usize = 16;

/// Records of a shard, and what each of them takes of its capacity.
#[derive(Debug, Default)]
pub(super) struct Sample {
    known: Vec<(HashKey, f64)>,
    /// The load of records that are in the shard by an explicit hash key, which the log does not keep.
    hidden: f64,
    hidden_count: usize,
}

/// What can be done about a shard's load.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Cut {
    /// Let the upper child begin here. The lower one gets this part of the load.
    At { at: HashKey, share_below: f64 },
    /// Nothing: no split takes a [twentieth](GAIN_MIN) of the load away, because of this hash key, which makes this part of it.
    HotKey { hash_key: HashKey, share: f64 },
}

impl Sample {
    /// Adds a record of the shard that owns this range. `hash_key` is that of its partition key, which does not count if it lies elsewhere.
    pub(super) fn add(&mut self, hash_key: HashKey, weight: f64, range: HashKeyRange) {
        if range.contains(hash_key) {
            self.known.push((hash_key, weight));
        } else {
            self.hidden += weight;
            self.hidden_count += 1;
        }
    }

    /// Decides where to cut a range. Returns `None` if there are too few records to decide.
    pub(super) fn cut(mut self, range: HashKeyRange) -> Option<Cut> {
        if self.known.len() + self.hidden_count < RECORDS_MIN {
            return None;
        }
        self.known.sort_unstable_by_key(|(hash_key, _)| *hash_key);
        let keys: Vec<(HashKey, f64)> = self
            .known
            .chunk_by(|a, b| a.0 == b.0)
            .map(|same| (same[0].0, same.iter().map(|(_, weight)| weight).sum()))
            .collect();
        let total: f64 = keys.iter().map(|(_, weight)| weight).sum();
        if self.hidden > total || total <= 0.0 {
            return Some(Cut::At { at: middle(range), share_below: 0.5 }).filter(|_| is_wide(range));
        }
        let mut below = 0.0;
        let mut best: Option<(f64, HashKey)> = None;
        for pair in keys.windows(2) {
            below += pair[0].1;
            let at = between(pair[0].0, pair[1].0);
            let is_better = best.is_none_or(|(best, _)| (below / total - 0.5).abs() < (best - 0.5).abs());
            if is_better && may_cut(range, at) {
                best = Some((below / total, at));
            }
        }
        match best {
            Some((share_below, at)) if (GAIN_MIN..=1.0 - GAIN_MIN).contains(&share_below) => {
                Some(Cut::At { at, share_below })
            }
            _ => {
                let (hash_key, weight) = keys.into_iter().max_by(|a, b| a.1.total_cmp(&b.1))?;
                Some(Cut::HotKey { hash_key, share: weight / total })
            }
        }
    }
}

/// Returns whether a shard may be split there: as in Kinesis, neither at its second nor at its last hash key.
fn may_cut(range: HashKeyRange, at: HashKey) -> bool {
    range.start.get().saturating_add(1) < at.get() && at < range.end
}

/// Returns a hash key above the lower one, up to and including the upper one.
fn between(lower: HashKey, upper: HashKey) -> HashKey {
    HashKey::new(lower.get() + (upper.get() - lower.get()).div_ceil(2))
}

fn middle(range: HashKeyRange) -> HashKey {
    between(range.start, range.end)
}

fn is_wide(range: HashKeyRange) -> bool {
    may_cut(range, middle(range))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn range(start: u128, end: u128) -> HashKeyRange {
        HashKeyRange { start: HashKey::new(start), end: HashKey::new(end) }
    }

    fn sample(keys: impl IntoIterator<Item = (u128, f64)>, range: HashKeyRange) -> Sample {
        let mut sample = Sample::default();
        keys.into_iter().for_each(|(key, weight)| sample.add(HashKey::new(key), weight, range));
        sample
    }

    #[test]
    fn a_range_is_cut_where_half_of_the_load_is_below() {
        let range = range(0, 1_000_000);
        // All keys in the first hundredth of the range.
        let keys = (0..100).map(|key| (key * 100, 1.0));
        assert_eq!(
            sample(keys, range).cut(range),
            Some(Cut::At { at: HashKey::new(4_950), share_below: 0.5 })
        );
        // The upper ones weigh three times as much.
        let keys = (0..100).map(|key| (key * 100, if key < 50 { 1.0 } else { 3.0 }));
        let Some(Cut::At { at, share_below }) = sample(keys, range).cut(range) else { panic!("no cut") };
        assert!((0.48..0.52).contains(&share_below), "{share_below}");
        assert_eq!(at, HashKey::new(6_650));
    }

    #[test]
    fn a_key_that_makes_nearly_all_of_the_load_is_named_and_a_smaller_one_is_cut_off() {
        let range = range(0, 1_000);
        let with_hot = |count| (0..count).map(|_| (500, 1.0)).chain([(100, 4.0), (900, 3.0)]);
        let hot = Cut::HotKey { hash_key: HashKey::new(500), share: 0.93 };
        assert_eq!(sample(with_hot(93), range).cut(range), Some(hot));
        let Some(Cut::At { at, share_below }) = sample(with_hot(40), range).cut(range) else {
            panic!("no cut")
        };
        assert_eq!((at, share_below > 0.08), (HashKey::new(300), true));
    }

    #[test]
    fn a_range_whose_records_hide_their_hash_keys_is_cut_in_the_middle() {
        let range = range(0, 999);
        let hidden = |count| (0..count).map(|_| (5_000, 1.0));
        let in_the_middle = Some(Cut::At { at: HashKey::new(500), share_below: 0.5 });
        assert_eq!(sample(hidden(51).chain((0..49).map(|_| (7, 1.0))), range).cut(range), in_the_middle);
        let is_hot = |cut| matches!(cut, Some(Cut::HotKey { .. }));
        assert!(is_hot(sample(hidden(49).chain((0..51).map(|_| (7, 1.0))), range).cut(range)));
        assert_eq!(sample(hidden(100), self::range(7, 9)).cut(self::range(7, 9)), None, "too narrow");
    }

    #[test]
    fn few_records_decide_nothing() {
        let range = range(0, 1_000);
        assert_eq!(sample([], range).cut(range), None);
        assert_eq!(sample((0..15).map(|_| (7, 1.0)), range).cut(range), None);
        assert!(sample((0..16).map(|_| (7, 1.0)), range).cut(range).is_some());
    }

    proptest! {
        #[test]
        fn a_cut_is_one_that_a_split_accepts_and_never_divides_a_key(
            start in 0u128..20, width in 0u128..40, keys in vec((0u128..60, 1u32..9), 0..40), scale in 0u32..120,
        ) {
            let shift = |key: u128| key << scale;
            let range = range(shift(start), shift(start + width));
            let keys: Vec<_> = keys.into_iter().map(|(key, weight)| (shift(key), f64::from(weight))).collect();
            let within = |key: u128| range.contains(HashKey::new(key));
            let total: f64 = keys.iter().filter(|(key, _)| within(*key)).map(|(_, weight)| weight).sum();
            let hidden: f64 = keys.iter().filter(|(key, _)| !within(*key)).map(|(_, weight)| weight).sum();
            match sample(keys.clone(), range).cut(range) {
                Some(Cut::At { at, share_below }) => {
                    prop_assert!(range.start.get() + 1 < at.get() && at < range.end);
                    if hidden <= total {
                        let below: f64 = keys
                            .iter()
                            .filter(|(key, _)| within(*key) && HashKey::new(*key) < at)
                            .map(|(_, weight)| weight)
                            .sum();
                        prop_assert!((below / total - share_below).abs() < 1e-9);
                        prop_assert!((GAIN_MIN..=1.0 - GAIN_MIN).contains(&share_below));
                    }
                }
                Some(Cut::HotKey { hash_key, share }) => {
                    prop_assert!(range.contains(hash_key) && share > 0.0 && share <= 1.0);
                    // In a range with room, it can only be a key that nearly everything comes from.
                    prop_assert!(scale < 2 || share > 1.0 - 2.0 * GAIN_MIN, "{share}");
                }
                None => {}
            }
        }
    }
}
