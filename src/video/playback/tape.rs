//! The fragments of a session in their order: which of a stream's fragments it plays, and the fixed properties of each.
//!
//! A tape depends only on the rules of the session and on the fragments of the stream, from the session's first one on. So a session that continues
//! after a restart numbers its fragments as before.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use super::options::{DiscontinuityMode, Play, PlaybackMode, TimeSource};
use crate::Timestamp;
use crate::video::{FragmentInfo, FragmentNumber};

/// A producer's times are compared with those of this many earlier fragments, so that a tape that runs for days stays small. A producer that resends
/// unacknowledged fragments goes back by minutes.
const TIMES_MAX: usize = 5_000;
/// A longer gap or overlap is a discontinuity.
pub(super) const TOLERANCE_MICROS: u64 = 50_000;
/// How many further lists can be made before fragments of a player's list are no longer found.
const LISTS_KEPT: usize = 3;

/// The rules that decide which fragments are on a tape.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    pub(super) play: Play,
    pub(super) discontinuities: DiscontinuityMode,
    /// When the session began.
    pub(super) started: Timestamp,
}

/// A fragment of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) number: FragmentNumber,
    /// Its place in the session. It never changes.
    pub(super) sequence: u64,
    /// How many discontinuities there are in the session before it, or at its start.
    pub(super) discontinuities: u64,
    pub(super) is_discontinuous: bool,
    /// When it starts, by the session's time source.
    pub(super) time: Timestamp,
    pub(super) length: Duration,
    /// How long the session is before it, without gaps, in microseconds.
    pub(super) offset_micros: u64,
    pub(super) bytes: u64,
    pub(super) setup: u32,
    /// The first of the consecutive fragments with the same decoder setup.
    pub(super) first_of_setup: FragmentNumber,
    /// The place of that fragment, and its offset.
    pub(super) setup_since: u64,
    pub(super) setup_offset_micros: u64,
}

impl Segment {
    fn end(&self) -> Timestamp {
        self.time + self.length
    }

    pub(super) fn length_micros(&self) -> u64 {
        micros(self.length)
    }

    /// Returns how long the session is up to its end.
    pub(super) fn end_micros(&self) -> u64 {
        self.offset_micros.saturating_add(self.length_micros())
    }
}

/// The fragments missing before the first one that a tape gets, because they were dropped since the session began.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Missing {
    pub(super) fragments: u64,
    pub(super) time: Duration,
}

/// The fragments of a session, as far as they are known.
#[derive(Debug)]
pub(super) struct Tape {
    rules: Rules,
    /// The last fragments, in order.
    segments: VecDeque<Segment>,
    /// The producer's times of the last fragments, in the order of storing and as a set.
    times: VecDeque<Timestamp>,
    times_known: HashSet<Timestamp>,
    /// Whether no more fragments can follow.
    is_over: bool,
    missing: Missing,
    /// The offset of the first fragment that a replay does not show from the start on.
    lead_micros: u64,
    longest: Duration,
}

/// What a playlist shows.
#[derive(Debug)]
pub(super) struct Window<'a> {
    pub(super) segments: Vec<&'a Segment>,
    /// Whether no fragment will follow.
    pub(super) is_over: bool,
    /// The longest fragment that the session has had.
    pub(super) longest: Duration,
    /// The total length of the fragments that were there when the session began.
    pub(super) lead_micros: u64,
}

impl Tape {
    pub(super) fn new(rules: Rules, missing: Missing) -> Self {
        Self {
            rules,
            segments: VecDeque::new(),
            times: VecDeque::new(),
            times_known: HashSet::new(),
            is_over: false,
            missing,
            lead_micros: 0,
            longest: Duration::ZERO,
        }
    }

    pub(super) fn time_of(&self, info: &FragmentInfo) -> Timestamp {
        time_of(info, self.rules.play.source)
    }

    /// Returns whether the tape needs more fragments to determine what is shown at a time.
    pub(super) fn wants_more(&self, now: Timestamp) -> bool {
        let shows_more = match self.rules.play.mode {
            PlaybackMode::Live => true,
            PlaybackMode::LiveReplay { .. } => {
                self.segments.back().is_none_or(|last| self.is_shown(last, now))
            }
            PlaybackMode::OnDemand { .. } => self.segments.len() < self.rules.play.fragments_max(),
        };
        shows_more && !self.is_over
    }

    /// Takes the next fragment in the order of storing, and keeps it if the session plays it.
    pub(super) fn push(&mut self, info: &FragmentInfo) {
        let time = self.time_of(info);
        let (from, to) = self.rules.play.mode.range();
        if self.rules.play.mode.is_on_demand() && info.server_time > self.rules.started {
            self.is_over = true;
            return;
        }
        let has_begun = !self.segments.is_empty() || self.missing.fragments > 0;
        match to {
            // Fragments of the range that are stored later belong to another recording of the same time.
            Some(to) if time > to => {
                return self.is_over |= has_begun || self.rules.play.source == TimeSource::Server;
            }
            _ if self.is_over || from.is_some_and(|from| time < from) => return,
            _ => {}
        }
        if self.rules.play.source == TimeSource::Producer && !self.is_new(time) {
            return;
        }
        let segment = self.segment(info, time);
        self.longest = self.longest.max(segment.length);
        if segment.sequence < self.rules.play.fragments_max() as u64 {
            self.lead_micros = segment.end_micros();
        }
        self.segments.push_back(segment);
    }

    /// Skips this many fragments, which were dropped before they were read, and forgets all earlier ones. The next one starts at this time.
    pub(super) fn skip(&mut self, fragments: u64, next: Timestamp) {
        match self.segments.back() {
            Some(last) => {
                let time = Duration::from_micros(last.end_micros()) + next.since(last.end());
                self.missing = Missing { fragments: last.sequence + 1 + fragments, time };
                self.segments.clear();
            }
            None => self.missing.fragments += fragments,
        }
    }

    fn is_new(&mut self, time: Timestamp) -> bool {
        if !self.times_known.insert(time) {
            return false;
        }
        self.times.push_back(time);
        if self.times.len() > TIMES_MAX.max(self.rules.play.fragments_max())
            && let Some(oldest) = self.times.pop_front()
        {
            self.times_known.remove(&oldest);
        }
        true
    }

    fn segment(&self, info: &FragmentInfo, time: Timestamp) -> Segment {
        let Some(last) = self.segments.back() else {
            let sequence = self.missing.fragments;
            let offset_micros = micros(self.missing.time);
            return Segment {
                number: info.number,
                sequence,
                // The most that there can have been.
                discontinuities: if self.rules.discontinuities == DiscontinuityMode::Never {
                    0
                } else {
                    sequence
                },
                is_discontinuous: false,
                time,
                length: info.length,
                offset_micros,
                bytes: info.bytes,
                setup: info.setup,
                first_of_setup: info.number,
                setup_since: sequence,
                setup_offset_micros: offset_micros,
            };
        };
        let sequence = last.sequence + 1;
        let offset_micros = self.offset_after(last, time);
        let has_changed = last.setup != info.setup;
        let is_discontinuous = match self.rules.discontinuities {
            DiscontinuityMode::Always => true,
            DiscontinuityMode::Never => false,
            DiscontinuityMode::OnDiscontinuity => {
                has_changed || last.end().as_micros().abs_diff(time.as_micros()) > TOLERANCE_MICROS
            }
        };
        let (first_of_setup, setup_since, setup_offset_micros) = match has_changed {
            true => (info.number, sequence, offset_micros),
            false => (last.first_of_setup, last.setup_since, last.setup_offset_micros),
        };
        Segment {
            number: info.number,
            sequence,
            discontinuities: last.discontinuities + u64::from(is_discontinuous),
            is_discontinuous,
            time,
            length: info.length,
            offset_micros,
            bytes: info.bytes,
            setup: info.setup,
            first_of_setup,
            setup_since,
            setup_offset_micros,
        }
    }

    /// Returns where the next fragment is on a timeline without gaps. A producer's times are exact, so a fragment that begins about where the
    /// previous one ends is placed by its time, and the sound continues without a break. The storing time of a fragment is imprecise.
    fn offset_after(&self, last: &Segment, time: Timestamp) -> u64 {
        let exact = last.offset_micros.saturating_add(micros(time.since(last.time)));
        let is_exact = self.rules.play.source == TimeSource::Producer
            && exact > last.offset_micros
            && exact.abs_diff(last.end_micros()) <= TOLERANCE_MICROS;
        if is_exact { exact } else { last.end_micros() }
    }

    /// Returns whether a replay has reached a fragment: the first ones are shown immediately, and each further one when it would have ended, as if
    /// the first ones had been played to their end when the session began.
    fn is_shown(&self, segment: &Segment, now: Timestamp) -> bool {
        let played = segment.end_micros().saturating_sub(self.lead_micros);
        now >= self.rules.started + Duration::from_micros(played)
    }

    /// Returns what is shown at a time, and forgets fragments that players no longer request.
    pub(super) fn window(&mut self, now: Timestamp) -> Window<'_> {
        let max = self.rules.play.fragments_max();
        let end = match self.rules.play.mode {
            PlaybackMode::Live => self.segments.len(),
            PlaybackMode::LiveReplay { .. } => {
                self.segments.partition_point(|segment| self.is_shown(segment, now))
            }
            PlaybackMode::OnDemand { .. } => self.segments.len().min(max),
        };
        let dropped = end.saturating_sub(LISTS_KEPT * max);
        self.segments.drain(..dropped);
        let end = end - dropped;
        let range = match self.rules.play.mode {
            PlaybackMode::OnDemand { .. } => 0..end,
            _ => end.saturating_sub(max)..end,
        };
        Window {
            is_over: match self.rules.play.mode {
                PlaybackMode::OnDemand { .. } => true,
                _ => self.is_over && end == self.segments.len(),
            },
            segments: self.segments.range(range).collect(),
            longest: self.longest,
            lead_micros: self.lead_micros,
        }
    }

    /// Ends the tape: no later fragment can be in the range.
    pub(super) fn end(&mut self) {
        self.is_over = true;
    }

    /// Returns the fragment at a place in the session.
    pub(super) fn at(&self, sequence: u64) -> Option<&Segment> {
        let first = self.segments.front()?.sequence;
        self.segments.get(usize::try_from(sequence.checked_sub(first)?).ok()?)
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Returns when a fragment starts.
pub(super) fn time_of(info: &FragmentInfo, source: TimeSource) -> Timestamp {
    match source {
        TimeSource::Server => info.server_time,
        TimeSource::Producer => info.producer_time,
    }
}
