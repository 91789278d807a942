//! Which partition of a topic a record goes to.

use crate::KeyHash;

/// How records are assigned to the partitions of a topic. In either case, all records of a key are in one partition, in order, as long as the number
/// of partitions does not change.
///
/// ```
/// use streamlog::relay::Partitioning;
///
/// assert_eq!(Partitioning::default(), Partitioning::Murmur2);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Partitioning {
    /// By the Murmur2 hash of the key, as in Kafka's Java client. Other programs that write the same keys to the topic agree.
    #[default]
    Murmur2,
    /// By hash key, as in this crate: the space of hash keys is divided evenly among the partitions. So the keys of a shard go to few partitions,
    /// and a key's partition corresponds to its shard in a stream with the same number of shards.
    HashKey,
}

/// Returns the partition of a key, out of this many.
pub(super) fn partition_by_hash_key(key_hash: KeyHash, key: &[u8], partitions: u32) -> u32 {
    let hash_key = key_hash.hash(key).get();
    // The upper 64 bits suffice, as no topic has 2^32 partitions or more.
    ((hash_key >> 64).wrapping_mul(partitions.into()) >> 64) as u32
}

/// Returns the partition that Kafka's client for Java chooses for a key, out of this many.
pub(super) fn partition_by_murmur2(key: &[u8], partitions: u32) -> u32 {
    (murmur2(key) & 0x7fff_ffff) % partitions.max(1)
}

/// The hash of a key as Kafka has it: Murmur2 with 32 bits and a seed of its own.
fn murmur2(key: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    let mut hash = SEED ^ key.len() as u32;
    let (words, rest) = key.as_chunks::<4>();
    for word in words {
        let low_first = word.iter().rev().fold(0, |sum: u32, &byte| sum << 8 | u32::from(byte));
        let mut mixed = low_first.wrapping_mul(M);
        mixed ^= mixed >> 24;
        hash = hash.wrapping_mul(M) ^ mixed.wrapping_mul(M);
    }
    if !rest.is_empty() {
        hash ^= rest.iter().rev().fold(0, |sum: u32, &byte| sum << 8 | u32::from(byte));
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ hash >> 15
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the tests of Kafka's client for Java expect.
    #[test]
    fn murmur2_is_that_of_kafkas_client_for_java() {
        let known: [(&str, i32); 6] = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ];
        for (key, hash) in known {
            assert_eq!(murmur2(key.as_bytes()) as i32, hash, "{key}");
        }
    }

    #[test]
    fn partitions_by_hash_key_divide_the_space_evenly_and_in_order() {
        let mut counts = [0; 7];
        for key in 0..7_000 {
            let key = format!("user-{key}");
            counts[partition_by_hash_key(KeyHash::Xxh3, key.as_bytes(), 7) as usize] += 1;
        }
        assert!(counts.iter().all(|&count| (800..1_200).contains(&count)), "{counts:?}");
        // MD5("a") is 0.0498 of the space: in the first of 20 parts, and in the second of 21.
        assert_eq!(partition_by_hash_key(KeyHash::Md5, b"a", 20), 0);
        assert_eq!(partition_by_hash_key(KeyHash::Md5, b"a", 21), 1);
    }
}
