//! The index of a video stream: the metadata of each fragment, in memory.

use std::collections::VecDeque;
use std::time::Duration;

use super::fragment::FragmentInfo;
use super::select::FragmentSelector;
use crate::video::number::FragmentNumber;
use crate::{SequenceNumber, Timestamp};

/// How many fragments a block of the index has.
const BLOCK_FRAGMENTS: usize = 512;
/// A record whose sequence number is a multiple of one of these repeats the metadata of that many preceding records; the largest one applies.
const SUMMARIES: [u64; 2] = [1_024, 32];

/// Returns how many preceding records the record with this number summarizes: none, 32 or 1,024.
pub(super) fn summarized_by(sequence: SequenceNumber) -> u64 {
    let sequence = sequence.get();
    SUMMARIES.into_iter().find(|&count| sequence > 0 && sequence.is_multiple_of(count)).unwrap_or(0)
}

/// The fragments of a stream in the order of their numbers.
///
/// Server times never decrease, so they are found by bisection. Producer times are arbitrary: each block has the range of its own.
#[derive(Debug, Default)]
pub(super) struct Index {
    blocks: VecDeque<Block>,
    next: SequenceNumber,
    bytes: u64,
}

/// Up to 512 fragments.
#[derive(Debug)]
struct Block {
    fragments: Vec<FragmentInfo>,
    producer_min: Timestamp,
    producer_max: Timestamp,
}

impl Block {
    fn new(info: FragmentInfo) -> Self {
        Self { fragments: vec![info], producer_min: info.producer_time, producer_max: info.producer_time }
    }

    fn push(&mut self, info: FragmentInfo) {
        self.producer_min = self.producer_min.min(info.producer_time);
        self.producer_max = self.producer_max.max(info.producer_time);
        self.fragments.push(info);
    }

    /// A block is never empty.
    fn last(&self) -> &FragmentInfo {
        &self.fragments[self.fragments.len() - 1]
    }

    /// Returns whether it may have a fragment that a selector chooses.
    fn may_have(&self, selector: &FragmentSelector) -> bool {
        match selector {
            FragmentSelector::All => true,
            FragmentSelector::ServerTime(range) => {
                self.fragments[0].server_time <= *range.end() && self.last().server_time >= *range.start()
            }
            FragmentSelector::ProducerTime(range) => {
                self.producer_min <= *range.end() && self.producer_max >= *range.start()
            }
        }
    }
}

impl Index {
    /// Returns an empty index whose first fragment will have this number.
    pub(super) fn new(next: SequenceNumber) -> Self {
        Self { next, ..Self::default() }
    }

    /// Returns the number that the next fragment will have.
    pub(super) fn next(&self) -> SequenceNumber {
        self.next
    }

    /// Sets the number that the next fragment will have, after damage took the newest ones.
    pub(super) fn set_next(&mut self, next: SequenceNumber) {
        self.next = next;
    }

    /// Returns the newest fragments, up to `max` and from a number on, in the order of their numbers.
    pub(super) fn last(&self, first: SequenceNumber, max: usize) -> Vec<FragmentInfo> {
        let newest = self.blocks.iter().rev().flat_map(|block| block.fragments.iter().rev());
        let newest = newest.take_while(|info| info.number.sequence() >= first).take(max);
        let mut newest: Vec<_> = newest.copied().collect();
        newest.reverse();
        newest
    }

    /// Returns the bytes of all fragments.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds a fragment behind all others.
    pub(super) fn push(&mut self, info: FragmentInfo) {
        self.bytes += info.bytes;
        self.next = info.number.sequence().plus(1);
        match self.blocks.back_mut() {
            Some(block) if block.fragments.len() < BLOCK_FRAGMENTS => block.push(info),
            _ => self.blocks.push_back(Block::new(info)),
        }
    }

    /// Forgets the fragments before a number.
    pub(super) fn forget_before(&mut self, first: SequenceNumber) {
        while let Some(block) = self.blocks.front_mut() {
            let count = block.fragments.partition_point(|info| info.number.sequence() < first);
            self.bytes -= block.fragments[..count].iter().map(|info| info.bytes).sum::<u64>();
            if count < block.fragments.len() {
                block.fragments.drain(..count);
                return;
            }
            self.blocks.pop_front();
        }
    }

    pub(super) fn newest(&self) -> Option<FragmentInfo> {
        self.blocks.back().map(|block| *block.last())
    }

    /// Returns the fragments from a number on.
    pub(super) fn from(&self, first: SequenceNumber) -> impl Iterator<Item = &FragmentInfo> {
        self.selected_from(&FragmentSelector::All, first)
    }

    /// Returns the fragments from a number on that a selector chooses, without looking at blocks that have none.
    fn selected_from<'a>(
        &'a self,
        selector: &'a FragmentSelector,
        first: SequenceNumber,
    ) -> impl Iterator<Item = &'a FragmentInfo> {
        let before = self.blocks.partition_point(|block| block.last().number.sequence() < first);
        let blocks = self.blocks.range(before..).filter(|block| block.may_have(selector));
        blocks
            .flat_map(move |block| {
                let from = block.fragments.partition_point(|info| info.number.sequence() < first);
                &block.fragments[from..]
            })
            .filter(|info| selector.selects(info))
    }

    pub(super) fn get(&self, number: FragmentNumber) -> Option<FragmentInfo> {
        self.from(number.sequence()).next().copied().filter(|info| info.number == number)
    }

    /// Returns the first fragment from a number on that a selector chooses.
    pub(super) fn first_where(
        &self,
        selector: &FragmentSelector,
        first: SequenceNumber,
    ) -> Option<FragmentInfo> {
        self.selected_from(selector, first).next().copied()
    }

    /// Returns up to `max` fragments from a number on that a selector chooses.
    pub(super) fn select(
        &self,
        selector: &FragmentSelector,
        first: SequenceNumber,
        max: usize,
    ) -> Vec<FragmentInfo> {
        self.selected_from(selector, first).take(max).copied().collect()
    }

    /// Returns the number of the first fragment that has not expired.
    pub(super) fn first_within(&self, age_max: Duration, now: Timestamp) -> SequenceNumber {
        let has_expired = |info: &FragmentInfo| now.since(info.server_time) > age_max;
        let before = self.blocks.partition_point(|block| has_expired(block.last()));
        match self.blocks.get(before) {
            Some(block) => {
                let at = block.fragments.partition_point(has_expired);
                block.fragments[at].number.sequence()
            }
            None => self.next,
        }
    }
}

/// The encoding of fragments in a record, in the order of their numbers.
pub(super) mod summary {
    use super::*;

    fn push(out: &mut Vec<u8>, mut value: u64) {
        while value > 127 {
            out.push(value as u8 | 128);
            value >>= 7;
        }
        out.push(value as u8);
    }

    fn take(bytes: &mut &[u8]) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = bytes.split_first()?;
            *bytes = rest;
            value |= u64::from(byte & 127) << shift;
            if byte < 128 {
                return Some(value);
            }
        }
        None
    }

    /// Writes fragments.
    pub(in super::super) fn encode<'a>(fragments: impl IntoIterator<Item = &'a FragmentInfo>) -> Vec<u8> {
        let mut out = vec![];
        let (mut number, mut server, mut producer) = (0, 0, 0u64);
        for info in fragments {
            let values =
                [info.number.sequence().get(), info.server_time.as_micros(), info.producer_time.as_micros()];
            push(&mut out, values[0] - number);
            push(&mut out, values[1] - server);
            // Producer times may go backwards.
            let step = values[2].wrapping_sub(producer) as i64;
            push(&mut out, ((step << 1) ^ (step >> 63)) as u64);
            push(&mut out, info.length.as_nanos() as u64);
            push(&mut out, info.bytes);
            push(&mut out, info.setup.into());
            [number, server, producer] = values;
        }
        out
    }

    /// Reads what [`encode`] wrote. Returns `None` for anything else.
    pub(in super::super) fn decode(mut bytes: &[u8]) -> Option<Vec<FragmentInfo>> {
        let mut fragments = vec![];
        let (mut number, mut server, mut producer) = (0u64, 0u64, 0u64);
        while !bytes.is_empty() {
            number = number.checked_add(take(&mut bytes)?)?;
            server = server.checked_add(take(&mut bytes)?)?;
            let step = take(&mut bytes)?;
            producer = producer.wrapping_add(((step >> 1) as i64 ^ -((step & 1) as i64)) as u64);
            fragments.push(FragmentInfo {
                number: FragmentNumber::new(number.into()),
                producer_time: Timestamp::from_micros(producer),
                server_time: Timestamp::from_micros(server),
                length: Duration::from_nanos(take(&mut bytes)?),
                bytes: take(&mut bytes)?,
                setup: u32::try_from(take(&mut bytes)?).ok()?,
            });
        }
        Some(fragments)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn info(number: u64, server: u64, producer: u64) -> FragmentInfo {
        FragmentInfo {
            number: FragmentNumber::new(number.into()),
            producer_time: Timestamp::from_millis(producer),
            server_time: Timestamp::from_millis(server),
            length: Duration::from_millis(producer % 20_000),
            bytes: server,
            setup: producer as u32 % 3,
        }
    }

    /// Fragments whose producer's clock jumps.
    fn fragments() -> impl Strategy<Value = Vec<FragmentInfo>> {
        vec((0u64..50, 0u64..3_000), 0..2_000).prop_map(|steps| {
            let (mut number, mut server) = (7, 1_000);
            let next = |(step, producer)| {
                number += 1 + step / 49;
                server += step;
                info(number, server, producer)
            };
            steps.into_iter().map(next).collect()
        })
    }

    proptest! {
        #[test]
        fn an_index_finds_what_looking_at_all_finds(
            all in fragments(), from in 0u64..3_000, to in 0u64..3_000, first in 0u64..3_000, forgotten in 0u64..2_500,
        ) {
            let mut index = Index::new(7.into());
            all.iter().for_each(|&info| index.push(info));
            index.forget_before(forgotten.into());
            let left: Vec<_> = all.iter().filter(|info| info.number.sequence() >= forgotten.into()).copied().collect();
            prop_assert_eq!(index.bytes(), left.iter().map(|info| info.bytes).sum::<u64>());
            prop_assert_eq!(index.newest(), left.last().copied());
            let times = Timestamp::from_millis(from)..=Timestamp::from_millis(to);
            let later = Timestamp::from_millis(1_000 + 20 * from)..=Timestamp::from_millis(1_000 + 20 * to);
            for selector in
                [FragmentSelector::All, FragmentSelector::ServerTime(later), FragmentSelector::ProducerTime(times)]
            {
                let chosen = left.iter().filter(|it| selector.selects(it) && it.number.sequence() >= first.into());
                let chosen: Vec<_> = chosen.copied().collect();
                prop_assert_eq!(index.select(&selector, first.into(), usize::MAX), &chosen[..]);
                prop_assert_eq!(index.first_where(&selector, first.into()), chosen.first().copied());
            }
            let kept = left.iter().filter(|it| it.number.sequence() >= first.into()).count();
            let last = index.last(first.into(), from as usize);
            prop_assert_eq!(&last[..], &left[left.len() - kept.min(from as usize)..]);
            for info in &all {
                let is_left = info.number.sequence() >= forgotten.into();
                prop_assert_eq!(index.get(info.number), is_left.then_some(*info));
            }
            let now = Timestamp::from_millis(1_000 + 20 * to);
            let young = left.iter().find(|info| now.since(info.server_time) <= Duration::from_millis(from));
            let young = young.map_or(index.next(), |info| info.number.sequence());
            prop_assert_eq!(index.first_within(Duration::from_millis(from), now), young);
        }

        #[test]
        fn summaries_read_back(all in fragments(), bytes in vec(any::<u8>(), 0..100)) {
            prop_assert_eq!(summary::decode(&summary::encode(&all)), Some(all));
            let _ = summary::decode(&bytes);
        }
    }
}
