//! Where a partition key falls in the 128-bit hash-key space, and the ranges that divide it.

use std::fmt;

use md5::{Digest, Md5};

/// A place in the hash-key space, `0` to `2^128 - 1`.
///
/// It parses from and prints as a decimal number, as in Kinesis.
///
/// ```
/// # use streamlog::HashKey;
/// let middle: HashKey = "170141183460469231731687303715884105728".parse()?;
/// assert_eq!(middle, HashKey::new(1 << 127));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HashKey(u128);

impl HashKey {
    /// The lowest hash key.
    pub const MIN: Self = Self(0);
    /// The highest hash key.
    pub const MAX: Self = Self(u128::MAX);

    /// Returns the hash key with this value.
    pub const fn new(value: u128) -> Self {
        Self(value)
    }

    /// Returns the value.
    pub const fn get(self) -> u128 {
        self.0
    }
}

impl From<u128> for HashKey {
    fn from(value: u128) -> Self {
        Self(value)
    }
}

impl From<HashKey> for u128 {
    fn from(key: HashKey) -> Self {
        key.0
    }
}

impl fmt::Display for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How a partition key becomes a hash key. It is chosen when a stream is created and never changes.
///
/// ```
/// # use streamlog::{KeyHash, StreamOptions};
/// # let directory = tempfile::tempdir()?;
/// let stream = StreamOptions::new().key_hash(KeyHash::Md5).open(directory.path())?;
/// assert_eq!(stream.describe().key_hash, KeyHash::Md5);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum KeyHash {
    /// XXH3 with 128 bits: a few nanoseconds.
    #[default]
    Xxh3,
    /// MD5, about 100 ns: every key goes to the shard to which Amazon Kinesis would send it.
    Md5,
}

impl KeyHash {
    /// Returns the hash key of a partition key.
    ///
    /// ```
    /// # use streamlog::KeyHash;
    /// let hash_key = KeyHash::Md5.hash(b"a");
    /// assert_eq!(hash_key.to_string(), "16955237001963240173058271559858726497");
    /// ```
    #[inline]
    pub fn hash(self, partition_key: &[u8]) -> HashKey {
        match self {
            Self::Xxh3 => HashKey(xxhash_rust::xxh3::xxh3_128(partition_key)),
            Self::Md5 => HashKey(u128::from_be_bytes(Md5::digest(partition_key).into())),
        }
    }
}

/// A range of hash keys, including both ends. Each shard owns one.
///
/// ```
/// # use streamlog::{HashKey, HashKeyRange};
/// let lower = HashKeyRange { start: HashKey::MIN, end: HashKey::new(99) };
/// let upper = HashKeyRange { start: HashKey::new(100), end: HashKey::MAX };
/// assert!(lower.contains(HashKey::new(99)) && !upper.contains(HashKey::new(99)));
/// assert!(lower.is_followed_by(&upper));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct HashKeyRange {
    /// The first hash key of the range.
    pub start: HashKey,
    /// The last hash key of the range.
    pub end: HashKey,
}

impl HashKeyRange {
    /// All hash keys.
    pub const ALL: Self = Self { start: HashKey::MIN, end: HashKey::MAX };

    /// Returns whether the range contains this key.
    pub const fn contains(&self, key: HashKey) -> bool {
        self.start.0 <= key.0 && key.0 <= self.end.0
    }

    /// Returns whether `other` begins right after this range ends.
    pub const fn is_followed_by(&self, other: &Self) -> bool {
        self.end.0 != u128::MAX && self.end.0 + 1 == other.start.0
    }

    /// Returns whether any key is in both ranges.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        self.start <= other.end && other.start <= self.end
    }

    /// Returns the `count` ranges into which Kinesis divides the space among the shards of a new stream. Each is `floor(2^128 / count)`
    /// wide, and the last one takes what is left over.
    pub(crate) fn tiles(count: u32) -> impl ExactSizeIterator<Item = Self> {
        // floor(2^128 / count) without leaving 128 bits: 2^128 = (2^128 - 1) + 1.
        let count = u128::from(count.max(1));
        let width = (u128::MAX / count).wrapping_add(u128::from(u128::MAX % count + 1 == count));
        (0..count as u32).map(move |index| {
            let start = u128::from(index) * width;
            let is_last = u128::from(index) + 1 == count;
            let end = if is_last { u128::MAX } else { start + (width - 1) };
            Self { start: HashKey(start), end: HashKey(end) }
        })
    }
}

impl fmt::Display for HashKeyRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..={}", self.start, self.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn md5_agrees_with_the_test_suite_of_rfc_1321() {
        let vectors = [
            ("", 0xd41d8cd98f00b204e9800998ecf8427e),
            ("a", 0x0cc175b9c0f1b6a831c399e269772661),
            ("abc", 0x900150983cd24fb0d6963f7d28e17f72),
            ("message digest", 0xf96b697d7cb7938d525a2f31aaf161d0),
            ("abcdefghijklmnopqrstuvwxyz", 0xc3fcd3d76192e4007dfb496cca67e13b),
        ];
        for (key, expected) in vectors {
            assert_eq!(KeyHash::Md5.hash(key.as_bytes()), HashKey(expected), "{key}");
        }
    }

    #[test]
    fn tiles_have_the_borders_that_kinesis_gives_a_new_stream() {
        let borders = |count| HashKeyRange::tiles(count).map(|range| range.start.0).collect::<Vec<_>>();
        assert_eq!(borders(1), [0]);
        assert_eq!(borders(2), [0, 1 << 127]);
        assert_eq!(
            borders(3),
            [0, 113427455640312821154458202477256070485, 226854911280625642308916404954512140970]
        );
        assert_eq!(borders(4), [0, 1 << 126, 1 << 127, 3 << 126]);
    }

    #[test]
    fn tiles_cover_the_space_without_gap_or_overlap() {
        for count in 1..=1024 {
            let tiles: Vec<_> = HashKeyRange::tiles(count).collect();
            assert_eq!(tiles.len(), count as usize);
            assert_eq!(tiles[0].start, HashKey::MIN);
            assert_eq!(tiles[tiles.len() - 1].end, HashKey::MAX);
            assert!(tiles.windows(2).all(|pair| pair[0].is_followed_by(&pair[1])));
        }
    }

    #[test]
    fn keys_fall_where_kinesis_puts_them() {
        // The shard of each key in streams of 2, 3, 4 and 10 shards, worked out by hand from MD5.
        let table =
            [("a", [0, 0, 0, 0]), ("b", [1, 1, 2, 5]), ("pk-1", [1, 2, 3, 8]), ("ünïcode", [1, 2, 3, 8])];
        for (key, shards) in table {
            let hash = KeyHash::Md5.hash(key.as_bytes());
            for (count, shard) in [2, 3, 4, 10].into_iter().zip(shards) {
                assert_eq!(
                    HashKeyRange::tiles(count).position(|r| r.contains(hash)),
                    Some(shard),
                    "{key} of {count}"
                );
            }
        }
    }

    #[test]
    fn hash_keys_read_only_what_kinesis_reads() {
        assert_eq!("0".parse::<HashKey>().unwrap(), HashKey::MIN);
        assert_eq!(u128::MAX.to_string().parse::<HashKey>().unwrap(), HashKey::MAX);
        for bad in ["", "01", "-1", "+1", " 1", "340282366920938463463374607431768211456", "1e3"] {
            assert!(bad.parse::<HashKey>().is_err(), "{bad:?}");
        }
    }
}
