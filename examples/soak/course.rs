//! How far a reader is in each key, and how far it must get within seconds.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::group::Span;
use super::ledger::Ledger;
use super::record::{KeyIndex, Number, name_of};

/// The progress of a reader, which must not skip a record unless it reports that.
#[derive(Debug, Default)]
pub(crate) struct Course {
    keys: BTreeMap<KeyIndex, Seen>,
    targets: VecDeque<Target>,
    /// The number of spans with records that had been seen before.
    pub(crate) spans_again: u64,
    /// The longest time that it took to reach a target.
    pub(crate) delay_max: Duration,
}

#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    last: Option<Number>,
    /// When the reader reported that it may skip the next records. `None` once it has read another one.
    jumped_at: Option<Instant>,
}

/// The last record of each key that was acknowledged at a time.
#[derive(Debug)]
struct Target {
    at: Instant,
    lasts: Vec<Option<Number>>,
}

impl Course {
    /// Returns the number of the last record of a key that the reader has seen.
    pub(crate) fn last(&self, key: KeyIndex) -> Option<Number> {
        self.keys.get(&key).and_then(|seen| seen.last)
    }

    /// Notes what the reader has read, and checks that it skipped nothing.
    pub(crate) fn note(&mut self, who: &str, ledger: &Ledger, spans: &[Span]) -> Result<(), String> {
        for span in spans {
            let known = self.keys.entry(span.key).or_default();
            match known.last {
                Some(last) if span.first <= last => {
                    self.spans_again += 1;
                    known.last = Some(span.last.max(last));
                    continue;
                }
                Some(last) if known.jumped_at.is_none() => {
                    ledger.check_gap(span.key, last, Some(span.first))?;
                    if !span.first.may_follow(last) {
                        return Err(format!(
                            "P4 P6: {who} was handed number {} of {} after {last}",
                            span.first,
                            name_of(span.key)
                        ));
                    }
                }
                _ => {}
            }
            *known = Seen { last: Some(span.last), jumped_at: None };
        }
        Ok(())
    }

    /// Notes that the reader is about to continue from the horizon.
    pub(crate) fn note_jump(&mut self, keys: &[KeyIndex], at: Instant) {
        for &key in keys {
            self.keys.entry(key).or_default().jumped_at = Some(at);
        }
    }

    /// Sets a target for the reader: everything acknowledged by now.
    pub(crate) fn set_target(&mut self, ledger: &Ledger, key_count: KeyIndex) {
        let lasts = (0..key_count).map(|key| ledger.last_acknowledged(key)).collect();
        self.targets.push_back(Target { at: Instant::now(), lasts });
    }

    /// Checks which targets the reader has reached by a time. It started at `since`.
    pub(crate) fn note_time(&mut self, now: Instant, since: Instant) {
        while let Some(target) = self.targets.front() {
            if self.missing(target).is_some() {
                return;
            }
            self.delay_max = self.delay_max.max(now.saturating_duration_since(target.at.max(since)));
            self.targets.pop_front();
        }
    }

    /// Checks that the reader has reached all targets that were set more than `within` ago. It started at `since`.
    pub(crate) fn check_targets(
        &mut self,
        now: Instant,
        since: Instant,
        within: Duration,
    ) -> Result<(), String> {
        self.note_time(now, since);
        let Some(target) = self.targets.front() else { return Ok(()) };
        let delay = now.saturating_duration_since(target.at.max(since));
        let Some(key) = self.missing(target).filter(|_| delay > within) else { return Ok(()) };
        let in_words =
            |number: Option<Number>| number.map_or("nothing".to_owned(), |number| format!("number {number}"));
        Err(format!(
            "has seen of {} up to {}, and {} had been acknowledged {delay:.1?} ago",
            name_of(key),
            in_words(self.last(key)),
            in_words(target.lasts[usize::from(key)])
        ))
    }

    /// Returns a key whose target the reader has not reached.
    fn missing(&self, target: &Target) -> Option<KeyIndex> {
        let missing = (0..).zip(&target.lasts).find(|&(key, &last)| {
            let seen = self.keys.get(&key).copied().unwrap_or_default();
            seen.last < last && seen.jumped_at.is_none_or(|at| at < target.at)
        });
        missing.map(|(key, _)| key)
    }

    /// Returns whether nothing is left to reach.
    pub(crate) fn is_at_end(&self) -> bool {
        self.targets.is_empty()
    }
}
