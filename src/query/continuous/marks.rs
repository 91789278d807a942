//! The progress of time: the marks of the shards, and the watermark that follows from them.
//!
//! By arrival, the mark of a shard is the arrival of its last record that was read, or the clock's time when it was found to be read to its end. By
//! event time, it is the highest event time less the allowed lateness. The watermark is the lowest mark. It never goes back.
//!
//! A shard that ends leaves its mark to its children, so that none of them is forgotten before it is read.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::columns::{Micros, micros};

/// How the marks of an input move.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    /// By event time, how far the watermark stays behind. `None` by arrival.
    pub(super) lateness: Option<Duration>,
    /// By event time, a shard without rows for this long does not hold the watermark back.
    pub(super) idle_timeout: Duration,
}

/// The marks of the shards of an input.
#[derive(Debug)]
pub(super) struct Marks {
    rules: Rules,
    shards: BTreeMap<u32, Mark>,
}

#[derive(Debug, Clone, Copy)]
struct Mark {
    time: Option<Micros>,
    /// When its last row came, as the clock's elapsed time.
    heard: Duration,
    /// It was read to its end at the last check.
    is_read: bool,
}

/// The part of the marks that survives a restart: the time of each shard.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KeptMarks(BTreeMap<u32, Option<Micros>>);

impl Marks {
    pub(super) fn new(rules: Rules, kept: &KeptMarks, elapsed: Duration) -> Self {
        let mark =
            |(&shard, &time): (&u32, &Option<Micros>)| (shard, Mark { time, heard: elapsed, is_read: false });
        Self { rules, shards: kept.0.iter().map(mark).collect() }
    }

    pub(super) fn is_by_event_time(&self) -> bool {
        self.rules.lateness.is_some()
    }

    pub(super) fn knows(&self, shard: u32) -> bool {
        self.shards.contains_key(&shard)
    }

    pub(super) fn shards(&self) -> impl Iterator<Item = u32> {
        self.shards.keys().copied()
    }

    /// Adds a shard that is read from now on, unless it is known.
    pub(super) fn add(&mut self, shard: u32, elapsed: Duration) {
        self.shards.entry(shard).or_insert(Mark { time: None, heard: elapsed, is_read: false });
    }

    /// Notes rows of a shard: the highest of their times.
    pub(super) fn note_rows(&mut self, shard: u32, highest: Micros, elapsed: Duration) {
        let mark = self.shards.entry(shard).or_insert(Mark { time: None, heard: elapsed, is_read: false });
        let behind = self.rules.lateness.map_or(0, micros);
        mark.time = mark.time.max(Some(highest.saturating_sub(behind)));
        mark.heard = elapsed;
    }

    /// Notes whether a shard is read to its end. `now` is the clock's time before that was checked: records that come afterwards arrive later.
    pub(super) fn note_read(&mut self, shard: u32, is_read: bool, now: Micros) {
        let Some(mark) = self.shards.get_mut(&shard) else { return };
        mark.is_read = is_read;
        if is_read && self.rules.lateness.is_none() {
            mark.time = mark.time.max(Some(now));
        }
    }

    /// Notes that a shard has ended. Its children inherit its mark.
    pub(super) fn end(&mut self, shard: u32, children: &[u32], elapsed: Duration) {
        let Some(ended) = self.shards.remove(&shard) else { return };
        for &child in children {
            let left = Mark { heard: elapsed, is_read: false, ..ended };
            let mark = self.shards.entry(child).or_insert(left);
            // It may continue the rows of either parent.
            mark.time = mark.time.min(ended.time);
        }
    }

    /// Returns the watermark, if there is one yet.
    pub(super) fn watermark(&self, now: Micros, elapsed: Duration) -> Option<Micros> {
        let Some(lateness) = self.rules.lateness else {
            return self.shards.values().map(|mark| mark.time).min()?;
        };
        let is_idle =
            |mark: &&Mark| mark.is_read && elapsed.saturating_sub(mark.heard) >= self.rules.idle_timeout;
        if !self.shards.is_empty() && self.shards.values().all(|mark| is_idle(&mark)) {
            let highest = self.shards.values().filter_map(|mark| mark.time).max();
            return highest.max(Some(now.saturating_sub(micros(lateness))));
        }
        self.shards.values().filter(|mark| !is_idle(mark)).map(|mark| mark.time).min()?
    }

    /// Returns the shards that are ahead of the others.
    pub(super) fn ahead(&self) -> Vec<u32> {
        let lowest = self.shards.values().map(|mark| mark.time).min().flatten();
        let is_ahead = |mark: &Mark| mark.time > lowest;
        self.shards.iter().filter(|(_, mark)| is_ahead(mark)).map(|(&shard, _)| shard).collect()
    }

    /// Returns how long until another shard counts as idle, if one does not yet.
    pub(super) fn next_idle(&self, elapsed: Duration) -> Option<Duration> {
        self.rules.lateness?;
        let left = |mark: &Mark| {
            let silent = elapsed.saturating_sub(mark.heard);
            (mark.is_read && silent < self.rules.idle_timeout).then(|| self.rules.idle_timeout - silent)
        };
        self.shards.values().filter_map(left).min()
    }

    pub(super) fn kept(&self) -> KeptMarks {
        KeptMarks(self.shards.iter().map(|(&shard, mark)| (shard, mark.time)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn marks(lateness: Option<Duration>) -> Marks {
        Marks::new(Rules { lateness, idle_timeout: 10 * SECOND }, &KeptMarks::default(), Duration::ZERO)
    }

    #[test]
    fn by_arrival_the_clock_goes_on_where_a_shard_is_read_to_its_end() {
        let mut marks = marks(None);
        assert_eq!(marks.watermark(5, SECOND), None, "no shard is known");
        marks.add(1, SECOND);
        marks.add(2, SECOND);
        marks.note_rows(1, 70, SECOND);
        assert_eq!(marks.watermark(500, SECOND), None, "the other shard was never read");
        marks.note_read(2, true, 100);
        assert_eq!(marks.watermark(500, SECOND), Some(70));
        marks.note_read(1, true, 110);
        assert_eq!(marks.watermark(500, SECOND), Some(100));
    }

    #[test]
    fn by_event_time_idle_shards_do_not_count_and_if_all_are_idle_the_clock_does() {
        let mut marks = marks(Some(Duration::from_micros(10)));
        marks.add(1, Duration::ZERO);
        marks.add(2, Duration::ZERO);
        marks.note_rows(1, 1_000, SECOND);
        marks.note_rows(2, 500, 5 * SECOND);
        assert_eq!(marks.watermark(9_000, 20 * SECOND), Some(490), "neither is known to be read to its end");
        marks.note_read(1, true, 9_000);
        marks.note_read(2, true, 9_000);
        assert_eq!(marks.watermark(9_000, 10 * SECOND), Some(490));
        assert_eq!(marks.next_idle(10 * SECOND), Some(SECOND));
        assert_eq!(marks.watermark(9_000, 11 * SECOND), Some(490), "the other one is idle, and was ahead");
        assert_eq!(marks.watermark(9_000, 15 * SECOND), Some(8_990), "both are");
        marks.note_rows(1, 1_200, 16 * SECOND);
        assert_eq!(marks.watermark(9_000, 16 * SECOND), Some(1_190));
    }

    #[test]
    fn children_begin_where_the_slower_parent_was() {
        let mut marks = marks(Some(Duration::ZERO));
        marks.note_rows(1, 1_000, SECOND);
        marks.note_rows(2, 500, SECOND);
        marks.end(1, &[3], SECOND);
        assert_eq!(marks.watermark(0, SECOND), Some(500));
        marks.end(2, &[3], SECOND);
        assert_eq!(marks.watermark(0, SECOND), Some(500));
        marks.note_rows(3, 1_500, SECOND);
        assert_eq!(marks.watermark(0, SECOND), Some(1_500));
        assert_eq!(Marks::new(marks.rules, &marks.kept(), SECOND).watermark(0, SECOND), Some(1_500));
    }
}
