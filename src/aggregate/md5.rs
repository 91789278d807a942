//! MD5 of many messages side by side, because within one message each step waits for the one before.
//!
//! MD5 takes most of the time of writing or reading an aggregate. The messages are hashed side by side, in lanes, which the compiler turns into
//! vector instructions. A single message goes to the crate `md-5`.

use md5::{Digest, Md5};

pub(super) const DIGEST_BYTES: usize = 16;

/// The most messages that are hashed side by side.
pub(super) const LANES: usize = 8;

const BLOCK_BYTES: usize = 64;

/// The constants of RFC 1321: `floor(2^32 * abs(sin(i + 1)))`.
const SINES: [u32; 64] = [
    0xd76a_a478,
    0xe8c7_b756,
    0x2420_70db,
    0xc1bd_ceee,
    0xf57c_0faf,
    0x4787_c62a,
    0xa830_4613,
    0xfd46_9501,
    0x6980_98d8,
    0x8b44_f7af,
    0xffff_5bb1,
    0x895c_d7be,
    0x6b90_1122,
    0xfd98_7193,
    0xa679_438e,
    0x49b4_0821,
    0xf61e_2562,
    0xc040_b340,
    0x265e_5a51,
    0xe9b6_c7aa,
    0xd62f_105d,
    0x0244_1453,
    0xd8a1_e681,
    0xe7d3_fbc8,
    0x21e1_cde6,
    0xc337_07d6,
    0xf4d5_0d87,
    0x455a_14ed,
    0xa9e3_e905,
    0xfcef_a3f8,
    0x676f_02d9,
    0x8d2a_4c8a,
    0xfffa_3942,
    0x8771_f681,
    0x6d9d_6122,
    0xfde5_380c,
    0xa4be_ea44,
    0x4bde_cfa9,
    0xf6bb_4b60,
    0xbebf_bc70,
    0x289b_7ec6,
    0xeaa1_27fa,
    0xd4ef_3085,
    0x0488_1d05,
    0xd9d4_d039,
    0xe6db_99e5,
    0x1fa2_7cf8,
    0xc4ac_5665,
    0xf429_2244,
    0x432a_ff97,
    0xab94_23a7,
    0xfc93_a039,
    0x655b_59c3,
    0x8f0c_cc92,
    0xffef_f47d,
    0x8584_5dd1,
    0x6fa8_7e4f,
    0xfe2c_e6e0,
    0xa301_4314,
    0x4e08_11a1,
    0xf753_7e82,
    0xbd3a_f235,
    0x2ad7_d2bb,
    0xeb86_d391,
];

const BEGIN: [u32; 4] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];

/// Returns the MD5 of each message.
pub(super) fn digests(messages: &[&[u8]]) -> Vec<[u8; DIGEST_BYTES]> {
    let mut digests = vec![[0; DIGEST_BYTES]; messages.len()];
    // Messages of about the same length go side by side, because all lanes advance together only until the shortest ends.
    let mut order: Vec<usize> = (0..messages.len()).collect();
    order.sort_unstable_by_key(|&index| messages[index].len());
    for group in order.chunks(LANES) {
        let of_group = |lane: usize| messages[group[lane.min(group.len() - 1)]];
        match group.len() {
            1 => digests[group[0]] = Md5::digest(of_group(0)).into(),
            2..=4 => digest_group(std::array::from_fn::<_, 4, _>(of_group), group, &mut digests),
            _ => digest_group(std::array::from_fn::<_, LANES, _>(of_group), group, &mut digests),
        }
    }
    digests
}

/// Hashes a group of messages, the shortest first. Lanes that are left over repeat the last message.
fn digest_group<const N: usize>(messages: [&[u8]; N], group: &[usize], digests: &mut [[u8; DIGEST_BYTES]]) {
    let mut state = BEGIN.map(|word| [word; N]);
    let blocks = messages.map(|message| message.as_chunks::<BLOCK_BYTES>().0);
    let together = blocks[0].len();
    for at in 0..together {
        compress(&mut state, blocks.map(|blocks| &blocks[at]));
    }
    // A lane whose message has ended keeps running without effect: its digest is taken when it ends.
    let ends = messages.map(End::of);
    let block_count = |lane: usize| blocks[lane].len() + ends[lane].block_count;
    let longest = (0..N).map(block_count).max().unwrap_or_default();
    for at in together..longest {
        let block = |lane: usize| match at.checked_sub(blocks[lane].len()) {
            None => &blocks[lane][at],
            Some(of_end) => &ends[lane].blocks[of_end.min(1)],
        };
        compress(&mut state, std::array::from_fn(block));
        for (lane, &index) in group.iter().enumerate().filter(|&(lane, _)| block_count(lane) == at + 1) {
            for (bytes, word) in digests[index].chunks_exact_mut(4).zip(&state) {
                bytes.copy_from_slice(&word[lane].to_le_bytes());
            }
        }
    }
}

/// The last one or two blocks of a message: what is left of it, a bit that is set, zeros, and the length in bits.
struct End {
    blocks: [[u8; BLOCK_BYTES]; 2],
    block_count: usize,
}

impl End {
    fn of(message: &[u8]) -> Self {
        let rest = message.as_chunks::<BLOCK_BYTES>().1;
        let block_count = if rest.len() < BLOCK_BYTES - 8 { 1 } else { 2 };
        let mut blocks = [[0; BLOCK_BYTES]; 2];
        blocks[0][..rest.len()].copy_from_slice(rest);
        blocks[0][rest.len()] = 0x80;
        let len = (message.len() as u64).wrapping_mul(8).to_le_bytes();
        blocks[block_count - 1][BLOCK_BYTES - 8..].copy_from_slice(&len);
        Self { blocks, block_count }
    }
}

/// Hashes a block in each lane.
fn compress<const N: usize>(state: &mut [[u32; N]; 4], blocks: [&[u8; BLOCK_BYTES]; N]) {
    let mut words = [[0; N]; 16];
    for (lane, block) in blocks.iter().enumerate() {
        for (word, bytes) in words.iter_mut().zip(block.as_chunks::<4>().0) {
            word[lane] = u32::from_le_bytes(*bytes);
        }
    }
    // The compiler vectorizes a loop only if nothing in it branches or loops, so `hash` has its steps written out.
    for lane in 0..N {
        let [a, b, c, d] = hash(
            [state[0][lane], state[1][lane], state[2][lane], state[3][lane]],
            std::array::from_fn(|at| words[at][lane]),
        );
        (state[0][lane], state[1][lane], state[2][lane], state[3][lane]) = (a, b, c, d);
    }
}

/// Hashes the words of a block, as RFC 1321 says.
#[inline(always)]
fn hash(begin: [u32; 4], words: [u32; 16]) -> [u32; 4] {
    let [mut a, mut b, mut c, mut d] = begin;
    let f = |x: u32, y: u32, z: u32| z ^ (x & (y ^ z));
    let g = |x: u32, y: u32, z: u32| (x & z) | (y & !z);
    let h = |x: u32, y: u32, z: u32| x ^ y ^ z;
    let i = |x: u32, y: u32, z: u32| y ^ (x | !z);
    macro_rules! step {
        ($mix:ident($a:ident $b:ident $c:ident $d:ident), $word:expr, $sine:expr, $shift:literal) => {
            let sum =
                $mix($b, $c, $d).wrapping_add($a).wrapping_add(words[$word % 16]).wrapping_add(SINES[$sine]);
            $a = sum.rotate_left($shift).wrapping_add($b);
        };
    }
    // Four steps, after which each variable is back in its original role.
    macro_rules! steps {
        ($mix:ident, $at:expr, $from:literal, $first:literal, $stride:literal, [$s0:literal, $s1:literal, $s2:literal, $s3:literal]) => {
            step!($mix(a b c d), $first + $stride * $at, $from + $at, $s0);
            step!($mix(d a b c), $first + $stride * ($at + 1), $from + $at + 1, $s1);
            step!($mix(c d a b), $first + $stride * ($at + 2), $from + $at + 2, $s2);
            step!($mix(b c d a), $first + $stride * ($at + 3), $from + $at + 3, $s3);
        };
    }
    macro_rules! round {
        ($mix:ident, $($rest:tt)*) => {
            steps!($mix, 0, $($rest)*);
            steps!($mix, 4, $($rest)*);
            steps!($mix, 8, $($rest)*);
            steps!($mix, 12, $($rest)*);
        };
    }
    // The first constant, the first word, how many words further the next one is, and how far the sums are rotated.
    round!(f, 0, 0, 1, [7, 12, 17, 22]);
    round!(g, 16, 1, 5, [5, 9, 14, 20]);
    round!(h, 32, 5, 3, [4, 11, 16, 23]);
    round!(i, 48, 0, 7, [6, 10, 15, 21]);
    let sum = |at: usize, word: u32| begin[at].wrapping_add(word);
    [sum(0, a), sum(1, b), sum(2, c), sum(3, d)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_messages_have_the_digests_that_they_have_alone() {
        let bytes: Vec<u8> = (0..20_000_u32).map(|number| (number * 7 % 251) as u8).collect();
        let lengths = [0, 1, 55, 56, 57, 63, 64, 65, 119, 120, 127, 128, 129, 1_000, 19_000];
        for count in 0..40 {
            let messages: Vec<&[u8]> =
                (0..count).map(|at| &bytes[at * 3..][..lengths[(at * 11 + count) % lengths.len()]]).collect();
            let expected: Vec<[u8; DIGEST_BYTES]> =
                messages.iter().map(|message| Md5::digest(message).into()).collect();
            assert_eq!(digests(&messages), expected, "{count} messages");
        }
    }
}
