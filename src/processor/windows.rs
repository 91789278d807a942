//! The open windows of a lane: which of them a record belongs to, and when they are over.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::discarded::DiscardReason;
use super::event_time::{Moment, When};
use super::part::{OpenWindow, Part, Span};
use super::queue::Queue;
use super::rules::Rules;
use super::slice::Slice;
use crate::Timestamp;

#[derive(Debug, Clone, Default)]
pub(super) struct Windows {
    /// In order, without overlaps. By arrival there is one at most.
    open: Vec<OpenWindow>,
    /// Windows up to here have ended, and do not open again.
    ended_to: Timestamp,
}

/// What becomes of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// It has no event time.
    Unknown,
    /// It belongs to this window, which has ended.
    Late(Span),
    In(Span),
}

impl Place {
    fn part(self, slices: Vec<Slice>, rules: &Rules) -> Part {
        let (window, refused) = match self {
            Self::Unknown => (None, Some(DiscardReason::EventTimeUnknown)),
            Self::Late(span) => (Some(span), Some(DiscardReason::AllowedLatenessExceeded)),
            Self::In(span) => (Some(span), None),
        };
        Part { refused, ..Part::new(slices, window, rules.retries) }
    }
}

/// Returns the records of each place, in order.
fn group(slices: &[Slice], places: &[Place]) -> BTreeMap<Place, Vec<Slice>> {
    let mut groups: BTreeMap<Place, Vec<Slice>> = BTreeMap::new();
    let mut places = places.iter();
    for slice in slices {
        let mut picked: BTreeMap<Place, Vec<u32>> = BTreeMap::new();
        for (at, &place) in slice.places().zip(places.by_ref()) {
            picked.entry(place).or_default().push(at);
        }
        for (place, at) in picked {
            groups.entry(place).or_default().extend(slice.at(at));
        }
    }
    groups
}

/// What there is to do for windows that are over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    /// No window is over.
    No,
    /// That they are over has to be committed first.
    NotCommitted,
    /// The last call for this one is due.
    Due(Span),
}

/// About how many bytes each window besides the first takes in a commit, apart from its state.
const WINDOW_BYTES: usize = 100;

impl Windows {
    pub(super) fn new(open: Vec<OpenWindow>, ended_to: Timestamp) -> Self {
        Self { open, ended_to }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    pub(super) fn open(&self) -> &[OpenWindow] {
        &self.open
    }

    pub(super) fn ended_to(&self) -> Timestamp {
        self.ended_to
    }

    /// Returns when the first open window ends.
    pub(super) fn first_end(&self) -> Option<Timestamp> {
        self.open.first().map(|window| window.span.end)
    }

    /// Takes the next batch off a queue: a part for the records of each window, and one for what is given up. The part on top comes first, that
    /// of the first window. No record of the batch comes after the end of a window that is open, or that it opens.
    pub(super) fn take(&self, rules: &Rules, queue: &mut Queue) -> Vec<Part> {
        let mut first_end = self.first_end();
        let mut places = vec![];
        let mut is_within = |moment: &Moment| {
            let place =
                self.place(rules, moment).filter(|_| first_end.is_none_or(|end| moment.watermark < end));
            if let Some(Place::In(span)) = place {
                first_end = Some(first_end.map_or(span.end, |end| end.min(span.end)));
            }
            places.extend(place);
            place.is_some()
        };
        let slices = queue.take(rules, Some(&mut is_within));
        if let [first, others @ ..] = &places[..]
            && others.iter().all(|place| place == first)
        {
            return vec![first.part(slices, rules)];
        }
        let groups = group(&slices, &places);
        groups.into_iter().rev().map(|(place, slices)| place.part(slices, rules)).collect()
    }

    /// Returns what becomes of a record, or `None` if there are no windows.
    fn place(&self, rules: &Rules, moment: &Moment) -> Option<Place> {
        let length = rules.tumbling_window?;
        Some(match moment.when {
            // It may arrive a few microseconds before the end of a window that has ended. Then it belongs to the next one.
            When::At(time) if rules.event_time.is_none() => {
                Place::In(self.span_of(length, time.max(self.ended_to)))
            }
            When::At(time) => {
                let span = self.span_of(length, time);
                let is_late = span.end <= moment.watermark.max(self.ended_to);
                if is_late { Place::Late(span) } else { Place::In(span) }
            }
            _ => Place::Unknown,
        })
    }

    /// Returns the window in which a time lies. Open ones keep their length if the setting changes, and the others get what they leave.
    fn span_of(&self, length: Duration, time: Timestamp) -> Span {
        let start = time.as_micros() - time.as_micros() % length.as_micros() as u64;
        let start = Timestamp::from_micros(start);
        let mut span = Span { start, end: start + length };
        for open in self.open.iter().map(|window| window.span) {
            if open.end <= time {
                span.start = span.start.max(open.end);
            } else if time < open.start {
                span.end = span.end.min(open.start);
            } else {
                return open;
            }
        }
        span
    }

    /// Notes which windows are over: all, or those that end by this moment. Returns what there is to do for them.
    pub(super) fn end(&mut self, reached: Timestamp, is_all: bool) -> Over {
        for window in self.open.iter_mut().filter(|window| is_all || window.span.end <= reached) {
            window.is_over = true;
        }
        match self.open.iter().find(|window| window.is_over) {
            None => Over::No,
            Some(window) if window.is_committed => Over::Due(window.span),
            Some(_) => Over::NotCommitted,
        }
    }

    /// Notes that the end of the windows up to this time is committed.
    pub(super) fn note_commit(&mut self, end: Timestamp) {
        for window in self.open.iter_mut().filter(|window| window.is_over && window.span.end <= end) {
            window.is_committed = true;
        }
    }

    /// Returns a window if it is open.
    pub(super) fn get(&self, span: Span) -> Option<&OpenWindow> {
        self.open.iter().find(|window| window.span == span)
    }

    /// Opens a window, unless it is open.
    pub(super) fn open_if_new(&mut self, span: Span) {
        if let Err(at) = self.open.binary_search_by_key(&span.start, |window| window.span.start) {
            self.open.insert(at, OpenWindow::new(span, Arc::default()));
        }
    }

    pub(super) fn set_state(&mut self, span: Span, state: Vec<u8>) {
        if let Some(window) = self.open.iter_mut().find(|window| window.span == span) {
            window.state = state.into();
        }
    }

    /// If the states have more bytes than this, makes the largest window end before its time. Returns that window.
    pub(super) fn end_early(&mut self, bytes_max: usize) -> Option<Span> {
        let states: usize = self.open.iter().map(|window| window.state.len()).sum();
        if states + self.open.len().saturating_sub(1) * WINDOW_BYTES <= bytes_max {
            return None;
        }
        let largest = self.open.iter_mut().max_by_key(|window| window.state.len())?;
        largest.is_terminated_early = true;
        Some(largest.span)
    }

    /// Returns whether a window ends before its time, and its last call is not done. The states are too large to be committed then.
    pub(super) fn has_early_end(&self) -> bool {
        self.open.iter().any(|window| window.is_terminated_early)
    }

    /// Forgets a window whose last call is done or given up.
    pub(super) fn close(&mut self, span: Span) {
        let Some(at) = self.open.iter().position(|window| window.span == span) else { return };
        // The rest of the records of a window that ended early opens it anew.
        if !self.open.remove(at).is_terminated_early {
            self.ended_to = self.ended_to.max(span.end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> Timestamp {
        Timestamp::from_millis(second * 1_000)
    }

    fn span(start: u64, end: u64) -> Span {
        Span { start: at(start), end: at(end) }
    }

    #[test]
    fn windows_do_not_overlap_when_their_length_changes() {
        let mut windows = Windows::default();
        windows.open_if_new(span(100, 110));
        windows.open_if_new(span(130, 140));
        let span_of = |length, time| {
            let length = Duration::from_secs(length);
            windows.span_of(length, at(time))
        };
        assert_eq!(span_of(60, 105), span(100, 110), "open ones keep their length");
        assert_eq!(span_of(60, 99), span(60, 100));
        assert_eq!(span_of(60, 125), span(120, 130));
        assert_eq!(span_of(60, 110), span(110, 120));
        assert_eq!(span_of(60, 150), span(140, 180));
        assert_eq!(span_of(4, 112), span(112, 116));
    }

    #[test]
    fn only_windows_of_which_it_was_committed_that_they_are_over_have_their_last_call() {
        let mut windows = Windows::default();
        windows.open_if_new(span(100, 110));
        windows.open_if_new(span(110, 120));
        assert_eq!(windows.end(at(109), false), Over::No);
        assert_eq!(windows.end(at(110), false), Over::NotCommitted);
        // The second is over by now, and the commit was begun before.
        assert_eq!(windows.end(at(130), false), Over::NotCommitted);
        windows.note_commit(at(110));
        assert_eq!(windows.end(at(130), false), Over::Due(span(100, 110)));
        windows.close(span(100, 110));
        assert_eq!(windows.ended_to(), at(110));
        assert_eq!(windows.end(at(130), false), Over::NotCommitted);
    }

    #[test]
    fn l4_the_largest_state_goes_first_and_each_window_counts() {
        let mut windows = Windows::default();
        for (start, bytes) in [(100, 400), (110, 500), (120, 0)] {
            windows.open_if_new(span(start, start + 10));
            windows.set_state(span(start, start + 10), vec![0; bytes]);
        }
        assert_eq!(windows.end_early(1_100), None);
        assert_eq!(windows.end_early(1_099), Some(span(110, 120)));
        windows.close(span(110, 120));
        assert_eq!((windows.end_early(1_099), windows.ended_to()), (None, at(0)), "it may open again");
    }
}
