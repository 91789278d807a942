//! Session windows: rows of a key that follow each other within a gap.
//!
//! A row at time t covers the time from t to t + gap, both inclusive. Rows of a key whose times overlap are in one session, in whatever order they
//! come: also those that are exactly the gap apart, as in Flink. So a session ends at the gap after its last row, and goes out when time has passed
//! that.

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;

use super::columns::{Micros, Result, times};
use super::keyed::{Keyed, Waiting};
use super::operator::{Held, Late, Released};

#[derive(Debug)]
struct Session {
    first: Micros,
    last: Micros,
    /// When to check whether the session has ended: no later than this can be known.
    look: Micros,
    rows: Vec<Waiting>,
}

/// The open sessions of all keys.
#[derive(Debug)]
pub(super) struct Sessions {
    /// The shortest distance of a row that is no longer in the session: the gap and a microsecond.
    reach: Micros,
    keyed: Keyed,
    /// By the number of the key. The sessions of a key do not overlap.
    open: Vec<Vec<Session>>,
}

impl Sessions {
    pub(super) fn new(gap: Micros, keys: &[String], schemas: &[SchemaRef]) -> Result<Self> {
        Ok(Self { reach: gap + 1, keyed: Keyed::new(schemas, keys)?, open: vec![] })
    }

    /// Returns the rows whose session has ended, and that no open session includes.
    pub(super) fn late(&mut self, input: usize, rows: &RecordBatch, watermark: Micros) -> Result<Vec<Late>> {
        let times = times(rows)?;
        if times.iter().all(|time| time + self.reach > watermark) {
            return Ok(vec![]);
        }
        let keys = self.keyed.keys_of(input, rows)?;
        let mut late = vec![];
        for (row, &time) in times.iter().enumerate().filter(|(_, time)| **time + self.reach <= watermark) {
            let open = self.keyed.known(&keys, row).map_or(&[][..], |key| &self.open[key as usize]);
            if !open.iter().any(|session| session.takes(time, self.reach)) {
                late.push(Late { row, end: time + self.reach - 1 });
            }
        }
        Ok(late)
    }

    pub(super) fn push(&mut self, input: usize, rows: RecordBatch) -> Result<()> {
        let added = self.keyed.add(input, rows)?;
        for row in 0..added.times.len() {
            let (key, waiting) = self.keyed.row(&added, row);
            if self.open.len() <= key as usize {
                self.open.resize_with(key as usize + 1, Vec::new);
            }
            let open = &mut self.open[key as usize];
            let Some(at) = open.iter().position(|session| session.takes(waiting.time, self.reach)) else {
                let (first, look) = (waiting.time, waiting.time + self.reach);
                open.push(Session { first, last: first, look, rows: vec![waiting] });
                self.keyed.look_at(key, look);
                continue;
            };
            open[at].first = open[at].first.min(waiting.time);
            open[at].last = open[at].last.max(waiting.time);
            open[at].rows.push(waiting);
            if open.len() > 1 {
                merge(open, at, self.reach);
            }
        }
        self.keyed.tidy(self.open.iter_mut().flatten().flat_map(|session| &mut session.rows))
    }

    pub(super) fn due(&self) -> Option<Micros> {
        self.keyed.next_look().map(|(due, _)| due)
    }

    /// Releases the sessions that have ended, in the order of their ends, until they have more than `rows_max` rows.
    pub(super) fn advance(&mut self, watermark: Micros, rows_max: usize) -> Result<Released> {
        let (mut ended, mut row_count, mut reached) = (vec![], 0, watermark);
        while let Some((due, key)) = self.keyed.next_look().filter(|&(due, _)| due <= watermark) {
            let last_due = ended.last().map(|&((_, end), _)| end + 1);
            if row_count >= rows_max && last_due.is_some_and(|last| due > last) {
                reached = due - 1;
                break;
            }
            self.keyed.take_look();
            let open = &mut self.open[key as usize];
            let Some(at) = open.iter().position(|session| session.look == due) else { continue };
            let passed = open[at].last + self.reach;
            if passed > due {
                open[at].look = passed;
                self.keyed.look_at(key, passed);
                continue;
            }
            let session = open.swap_remove(at);
            row_count += session.rows.len();
            ended.push(((session.first, passed - 1), session.rows));
            if open.is_empty() {
                self.keyed.forget(key);
            }
        }
        let tables = self.keyed.release(&ended)?;
        self.keyed.tidy(self.open.iter_mut().flatten().flat_map(|session| &mut session.rows))?;
        Ok(Released { tables, reached })
    }

    pub(super) fn held(&self) -> Held {
        let bytes = self.open.len() * (size_of::<Session>() + size_of::<Vec<Session>>());
        self.keyed.held().plus(Held { rows: 0, bytes })
    }

    pub(super) fn snapshot(&self) -> Result<Vec<(usize, RecordBatch)>> {
        self.keyed.snapshot(self.open.iter().flatten().flat_map(|session| &session.rows))
    }
}

impl Session {
    /// Returns whether a row at this time belongs to the session.
    fn takes(&self, time: Micros, reach: Micros) -> bool {
        self.first - reach < time && time < self.last + reach
    }
}

/// Merges a session that has grown with those that it has reached.
fn merge(open: &mut Vec<Session>, at: usize, reach: Micros) {
    let mut grown = open.swap_remove(at);
    while let Some(at) = open.iter().position(|session| {
        session.takes(grown.first, reach)
            || session.takes(grown.last, reach)
            || grown.takes(session.first, reach)
    }) {
        let reached = open.swap_remove(at);
        grown.first = grown.first.min(reached.first);
        grown.last = grown.last.max(reached.last);
        // The key has a check for each of them, and one is enough.
        grown.look = grown.look.min(reached.look);
        grown.rows.extend(reached.rows);
    }
    open.push(grown);
}
