//! The last day of a stream, in memory: its input and output per second, and how far its readers were behind.
//!
//! Lines are kept in three steps, each as long as its chart. Equal neighbours are stored once, so a stream without traffic takes next to nothing; a
//! busy one takes 27 KiB, each reader 13 KiB, and each busy shard 3 KiB.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::{DAY, HOUR, MINUTE, SECOND, ShardId, StreamStats, Timestamp, Traffic};

/// The steps of the lines of a stream, finest first, and how far each line goes back.
const STEPS: [(Duration, Duration); 3] =
    [(times(5, SECOND), times(10, MINUTE)), (times(30, SECOND), HOUR), (times(5, MINUTE), DAY)];
/// The steps of its readers, which cost more to query, and of its shards, which are many.
const COARSE_STEPS: [(Duration, Duration); 2] = [STEPS[1], STEPS[2]];
/// How many readers of a stream have a history.
const READERS_MAX: usize = 50;
/// How often a stream is sampled.
pub(in crate::gateway) const LOOK_EVERY: Duration = STEPS[0].0;

const fn times(count: u64, unit: Duration) -> Duration {
    Duration::from_secs(count * unit.as_secs())
}

/// The input and output per second, and the greatest age of a record that a reader had not read yet.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(in crate::gateway) struct Activity {
    pub(in crate::gateway) incoming_records: f32,
    pub(in crate::gateway) incoming_bytes: f32,
    pub(in crate::gateway) outgoing_records: f32,
    pub(in crate::gateway) outgoing_bytes: f32,
    pub(in crate::gateway) write_throttled_records: f32,
    pub(in crate::gateway) read_throttled_calls: f32,
    pub(in crate::gateway) iterator_age_ms: Option<f32>,
}

/// How far a reader was behind, at most.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::gateway) struct Behind {
    pub(in crate::gateway) millis: f32,
    /// Only known of groups.
    pub(in crate::gateway) records: Option<f32>,
}

impl Behind {
    fn or_further(self, other: Self) -> Self {
        Self { millis: self.millis.max(other.millis), records: further(self.records, other.records) }
    }
}

/// A reader of a stream, by its name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::gateway) enum Reader {
    Consumer(String),
    Group(String),
}

/// Values at equal distances in time, of which the oldest are dropped.
#[derive(Debug, Clone)]
pub(in crate::gateway) struct Line<T> {
    step: Duration,
    points_max: u16,
    /// How many steps had passed since 1970 when the last value ended.
    end: u64,
    /// Each value, and how many times it occurs in a row.
    runs: VecDeque<(u16, T)>,
    length: u16,
}

impl<T: Copy + PartialEq> Line<T> {
    fn new((step, span): (Duration, Duration), now: Timestamp) -> Self {
        let points_max = (span.as_millis() / step.as_millis()) as u16;
        Self { step, points_max, end: steps(now, step), runs: VecDeque::new(), length: 0 }
    }

    /// Returns how many steps have ended since the last value. If the clock was set back, the values are dropped.
    fn ended(&mut self, now: Timestamp) -> u64 {
        let passed = steps(now, self.step);
        if passed < self.end {
            self.runs.clear();
            (self.end, self.length) = (passed, 0);
        }
        passed - self.end
    }

    /// Adds the value of the steps that have ended.
    fn push(&mut self, value: T, steps: u64) {
        self.end += steps;
        let count = u16::try_from(steps).map_or(self.points_max, |steps| steps.min(self.points_max));
        // Values that become too old are dropped first, so that no sum exceeds the bound.
        let mut excess = (self.length + count).saturating_sub(self.points_max);
        self.length -= excess;
        while let Some((run, _)) = self.runs.front_mut().filter(|_| excess > 0) {
            let dropped = excess.min(*run);
            *run -= dropped;
            excess -= dropped;
            if *run == 0 {
                self.runs.pop_front();
            }
        }
        self.length += count;
        match self.runs.back_mut() {
            Some((run, last)) if *last == value => *run += count,
            _ => self.runs.push_back((count, value)),
        }
    }

    pub(in crate::gateway) fn step(&self) -> Duration {
        self.step
    }

    /// Returns how many values there are.
    pub(in crate::gateway) fn len(&self) -> usize {
        self.length.into()
    }

    /// Returns when the last value ended.
    pub(in crate::gateway) fn end(&self) -> Timestamp {
        Timestamp::from_millis(self.end * self.step.as_millis() as u64)
    }

    /// Returns the values, oldest first.
    pub(in crate::gateway) fn values(&self) -> impl Iterator<Item = T> {
        self.runs.iter().flat_map(|&(count, value)| std::iter::repeat_n(value, count.into()))
    }
}

fn steps(time: Timestamp, step: Duration) -> u64 {
    time.as_millis() / step.as_millis() as u64
}

fn further(a: Option<f32>, b: Option<f32>) -> Option<f32> {
    [a, b].into_iter().flatten().reduce(f32::max)
}

/// A line of a stream, and the activity since its last value.
#[derive(Debug)]
struct StreamLine {
    line: Line<Activity>,
    began: Timestamp,
    traffic: Traffic,
    age_ms: Option<f32>,
}

impl StreamLine {
    fn add(&mut self, now: Timestamp, traffic: Traffic, age_ms: Option<f32>) {
        self.age_ms = further(self.age_ms, age_ms);
        let is_back = now < self.began;
        let ended = self.line.ended(now);
        if ended == 0 && !is_back {
            return;
        }
        let seconds = now.since(self.began).as_secs_f32();
        if ended > 0 && seconds > 0.0 {
            let rate = |total: fn(&Traffic) -> u64| {
                total(&traffic).saturating_sub(total(&self.traffic)) as f32 / seconds
            };
            let activity = Activity {
                incoming_records: rate(|traffic| traffic.incoming_records),
                incoming_bytes: rate(|traffic| traffic.incoming_bytes),
                outgoing_records: rate(|traffic| traffic.outgoing_records),
                outgoing_bytes: rate(|traffic| traffic.outgoing_bytes),
                write_throttled_records: rate(|traffic| traffic.write_throttled_records),
                read_throttled_calls: rate(|traffic| traffic.read_throttled_calls),
                iterator_age_ms: self.age_ms,
            };
            // After a late sample, all missed steps get the average.
            self.line.push(activity, ended);
        }
        (self.began, self.traffic, self.age_ms) = (now, traffic, None);
    }
}

/// A line of a reader, and how far it was behind since its last value. `None` while there is no such reader.
#[derive(Debug)]
struct ReaderLine {
    line: Line<Option<Behind>>,
    behind: Option<Behind>,
}

impl ReaderLine {
    fn add(&mut self, now: Timestamp, behind: Option<Behind>) {
        self.behind = match (self.behind, behind) {
            (Some(before), Some(behind)) => Some(before.or_further(behind)),
            (before, behind) => before.or(behind),
        };
        let ended = self.line.ended(now);
        if ended > 0 {
            self.line.push(self.behind.take(), ended);
        }
    }

    fn is_empty(&self) -> bool {
        self.behind.is_none() && self.line.runs.iter().all(|(_, behind)| behind.is_none())
    }
}

/// How busy a shard was, in one byte: 0 if nothing came in, and `n` for 2^((n - 1) / 6) bytes per second, accurate to an eighth.
type Level = u8;

fn level(bytes: u64, seconds: f32) -> Level {
    let rate = bytes as f32 / seconds;
    // Larger values saturate.
    if rate > 0.0 { (1.0 + rate.max(1.0).log2() * 6.0).round() as Level } else { 0 }
}

/// A line of a shard, and its total input when its last value ended.
#[derive(Debug)]
struct ShardLine {
    line: Line<Level>,
    began: Timestamp,
    incoming_bytes: u64,
}

impl ShardLine {
    /// Returns the lines of a shard, which begin now.
    fn all(now: Timestamp, incoming_bytes: u64) -> [Self; COARSE_STEPS.len()] {
        COARSE_STEPS.map(|steps| Self { line: Line::new(steps, now), began: now, incoming_bytes })
    }

    fn add(&mut self, now: Timestamp, incoming_bytes: u64) {
        let is_back = now < self.began;
        let ended = self.line.ended(now);
        let seconds = now.since(self.began).as_secs_f32();
        if ended > 0 && seconds > 0.0 {
            self.line.push(level(incoming_bytes.saturating_sub(self.incoming_bytes), seconds), ended);
        }
        if ended > 0 || is_back {
            (self.began, self.incoming_bytes) = (now, incoming_bytes);
        }
    }
}

/// The last day of a stream.
#[derive(Debug)]
pub(in crate::gateway) struct History {
    lines: [StreamLine; STEPS.len()],
    readers: BTreeMap<Reader, [ReaderLine; COARSE_STEPS.len()]>,
    /// When the readers were last queried, in their steps.
    readers_end: u64,
    shards: BTreeMap<ShardId, [ShardLine; COARSE_STEPS.len()]>,
}

impl History {
    /// Returns a history that begins now, with the totals so far.
    pub(super) fn new(now: Timestamp, stats: &StreamStats) -> Self {
        let traffic = stats.traffic();
        let line = |steps| StreamLine { line: Line::new(steps, now), began: now, traffic, age_ms: None };
        let shards = stats.shards.iter();
        let shards = shards.map(|shard| (shard.shard, ShardLine::all(now, shard.traffic.incoming_bytes)));
        Self { lines: STEPS.map(line), readers: BTreeMap::new(), readers_end: 0, shards: shards.collect() }
    }

    /// Adds the input and output since the last time.
    pub(super) fn add(&mut self, now: Timestamp, stats: &StreamStats) {
        let age_ms = stats.iterator_age_ms().map(|age| age as f32);
        let traffic = stats.traffic();
        self.lines.iter_mut().for_each(|line| line.add(now, traffic, age_ms));
        for shard in &stats.shards {
            // A new shard has begun with nothing.
            let lines = self.shards.entry(shard.shard).or_insert_with(|| ShardLine::all(now, 0));
            lines.iter_mut().for_each(|line| line.add(now, shard.traffic.incoming_bytes));
        }
        // Removes expired ones.
        if self.shards.len() > stats.shards.len() {
            self.shards.retain(|id, _| stats.shards.binary_search_by_key(id, |shard| shard.shard).is_ok());
        }
    }

    /// Returns whether it is time to query the readers.
    pub(super) fn wants_readers(&self, now: Timestamp) -> bool {
        steps(now, COARSE_STEPS[0].0) != self.readers_end
    }

    /// Adds how far the readers are behind.
    pub(super) fn add_readers(&mut self, now: Timestamp, behind: &BTreeMap<Reader, Behind>) {
        self.readers_end = steps(now, COARSE_STEPS[0].0);
        for reader in behind.keys() {
            if !self.readers.contains_key(reader) && self.readers.len() < READERS_MAX {
                let begun =
                    COARSE_STEPS.map(|steps| ReaderLine { line: Line::new(steps, now), behind: None });
                self.readers.insert(reader.clone(), begun);
            }
        }
        for (reader, lines) in &mut self.readers {
            lines.iter_mut().for_each(|line| line.add(now, behind.get(reader).copied()));
        }
        self.readers.retain(|_, lines| lines.iter().any(|line| !line.is_empty()));
    }

    /// Returns the lines of the stream, finest first.
    pub(in crate::gateway) fn lines(&self) -> impl Iterator<Item = &Line<Activity>> {
        self.lines.iter().map(|of| &of.line)
    }

    /// Returns the readers and their lines, finest first.
    pub(in crate::gateway) fn readers(
        &self,
    ) -> impl Iterator<Item = (&Reader, impl Iterator<Item = &Line<Option<Behind>>>)> {
        self.readers.iter().map(|(reader, lines)| (reader, lines.iter().map(|of| &of.line)))
    }

    /// Returns the shards and their lines, finest first.
    pub(in crate::gateway) fn shards(
        &self,
    ) -> impl Iterator<Item = (ShardId, impl Iterator<Item = &Line<Level>>)> {
        self.shards.iter().map(|(&shard, lines)| (shard, lines.iter().map(|of| &of.line)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    fn bytes_of<T>(line: &Line<T>) -> usize {
        line.runs.capacity() * size_of::<(u16, T)>()
    }

    proptest! {
        /// The values of a line are those of a plain list whose oldest values are dropped.
        #[test]
        fn a_line_is_a_list_of_its_last_values(
            pushes in prop::collection::vec((0_u8..3, prop_oneof![4 => 1_u64..3, 1 => 1_u64..200, 1 => Just(u64::MAX / 20_000)]), 0..60)
        ) {
            let mut line = Line::new((SECOND, times(50, SECOND)), START);
            let (mut list, mut end) = (vec![], line.end);
            for (value, steps) in pushes {
                line.push(value, steps);
                list.extend(std::iter::repeat_n(value, steps.min(50) as usize));
                list.drain(..list.len().saturating_sub(50));
                end += steps;
                prop_assert_eq!(line.values().collect::<Vec<_>>(), list.clone());
                prop_assert_eq!((line.len(), line.end), (list.len(), end));
                prop_assert!(line.runs.iter().zip(line.runs.iter().skip(1)).all(|(a, b)| a.1 != b.1));
            }
        }
    }

    /// The bounds that the documentation gives.
    #[test]
    fn a_day_of_a_busy_stream_takes_27_kib_and_a_reader_13_kib() {
        let mut history = History::new(START, &StreamStats::default());
        let reader = Reader::Group("billing".to_owned());
        let mut stats = StreamStats::default();
        for look in 0..DAY.as_secs() / LOOK_EVERY.as_secs() {
            let now = START + times(look + 1, LOOK_EVERY);
            stats.expired.incoming_bytes += look * look;
            history.add(now, &stats);
            if history.wants_readers(now) {
                let behind = Behind { millis: look as f32, records: Some(1.0) };
                history.add_readers(now, &BTreeMap::from([(reader.clone(), behind)]));
            }
        }
        let lengths: Vec<_> = history.lines().map(|line| line.runs.len()).collect();
        assert_eq!(lengths, [120, 120, 288]);
        let bytes: usize = history.lines().map(bytes_of).sum();
        assert!((14 << 10..=27 << 10).contains(&bytes), "{bytes}");
        let bytes: usize = history.readers().flat_map(|(_, lines)| lines).map(bytes_of).sum();
        assert!((6 << 10..=13 << 10).contains(&bytes), "{bytes}");
    }

    /// A shard whose load differs in each step.
    #[test]
    fn a_day_of_a_busy_shard_takes_3_kib() {
        let mut lines = ShardLine::all(START, 0);
        let mut bytes = 0;
        for look in 1..=DAY.as_secs() / 30 {
            bytes += 1 << (look % 20);
            lines.iter_mut().for_each(|line| line.add(START + times(look * 30, SECOND), bytes));
        }
        let bytes: usize = lines.iter().map(|of| bytes_of(&of.line)).sum();
        assert!(lines.iter().all(|of| of.line.length == of.line.points_max));
        assert!((1 << 10..=3 << 10).contains(&bytes), "{bytes}");
    }

    #[test]
    fn a_level_is_right_to_an_eighth() {
        assert_eq!((level(0, 30.0), level(1, 30.0), level(u64::MAX, 1.0)), (0, 1, 255));
        for rate in [1_u64, 9, 100, 65_537, 1 << 20, 123_456_789] {
            let shown = 2_f64.powf(f64::from(level(rate * 30, 30.0) - 1) / 6.0);
            assert!((shown / rate as f64 - 1.0).abs() < 0.125, "{rate} is shown as {shown}");
        }
    }

    #[test]
    fn an_idle_stream_takes_next_to_nothing() {
        let mut history = History::new(START, &StreamStats::default());
        for look in 0..DAY.as_secs() / LOOK_EVERY.as_secs() {
            history.add(START + times(look + 1, LOOK_EVERY), &StreamStats::default());
        }
        assert!(history.lines().all(|line| line.runs.len() == 1 && line.length == line.points_max));
    }

    #[test]
    fn only_so_many_readers_have_a_history() {
        let mut history = History::new(START, &StreamStats::default());
        let behind = |number| (Reader::Consumer(format!("c{number}")), Behind { millis: 1.0, records: None });
        history.add_readers(START, &(0..READERS_MAX + 10).map(behind).collect());
        assert_eq!(history.readers().count(), READERS_MAX);
        // Nothing is left of them a day after they are gone.
        for minutes in 1..=DAY.as_secs() / 60 + 5 {
            history.add_readers(START + times(minutes, MINUTE), &BTreeMap::new());
        }
        assert_eq!(history.readers().count(), 0);
    }
}
