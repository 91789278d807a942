//! The common part of both kinds of sessions: beginning, continuing, ending, and serving their fragments.

use std::time::Duration;

use parking_lot::Mutex;

use super::dash::BEGIN_MICROS;
use super::options::{DiscontinuityMode, Play, PlaybackMode, TimeSource};
use super::rendition::{Rendition, played};
use super::tape::{Missing, Rules, Segment, Tape, Window, time_of};
use crate::Timestamp;
use crate::video::{Fragment, FragmentInfo, FragmentNumber, Media, Track, VideoError, VideoStream};

/// A live session needs a fragment that is at most this old, as in Kinesis.
const LIVE_AGE_MAX: Duration = Duration::from_secs(30);
/// How many fragments are read at a time.
const STEP: usize = 1_024;
/// No fragment becomes visible later than this after its arrival.
const SETTLED: Duration = Duration::from_secs(20);

/// The beginning of a session. Together with the session's options, it lets another process continue the session, also after a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionStart {
    /// When the session was begun.
    pub started: Timestamp,
    /// The first fragment that the session may play.
    pub first: FragmentNumber,
    /// The start of that fragment, according to the session's time source. The player's timeline begins here.
    pub first_time: Timestamp,
}

/// A session, whatever its format.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) stream: VideoStream,
    pub(super) rules: Rules,
    pub(super) start: SessionStart,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    tape: Option<Tape>,
    /// The last fragment that was read.
    seen: Option<FragmentNumber>,
}

impl Core {
    /// Begins a session.
    pub(super) fn begin(
        stream: &VideoStream,
        play: Play,
        discontinuities: DiscontinuityMode,
    ) -> Result<Self, VideoError> {
        let now = stream.now();
        play.check(now)?;
        if stream.data_retention().is_zero() {
            return Err(VideoError::NoDataRetention);
        }
        let first = first_of(stream, &play, now);
        let first = first.ok_or_else(|| VideoError::NotFound("there is no fragment to play".into()))?;
        let first_time = time_of(&first, play.source);
        let start = SessionStart { started: now, first: first.number, first_time };
        Ok(Self::resume(stream, play, discontinuities, start))
    }

    /// Continues a session.
    pub(super) fn resume(
        stream: &VideoStream,
        play: Play,
        discontinuities: DiscontinuityMode,
        start: SessionStart,
    ) -> Self {
        let rules = Rules { play, discontinuities, started: start.started };
        Self { stream: stream.clone(), rules, start, state: Mutex::default() }
    }

    pub(super) fn expires_at(&self) -> Timestamp {
        self.start.started + self.rules.play.life
    }

    /// Returns the time, unless the session is over.
    pub(super) fn now(&self) -> Result<Timestamp, VideoError> {
        let now = self.stream.now();
        if now >= self.expires_at() { Err(VideoError::SessionExpired(self.expires_at())) } else { Ok(now) }
    }

    /// Calls a function with the current window.
    pub(super) fn with_window<T>(
        &self,
        use_it: impl FnOnce(Timestamp, &Window<'_>) -> T,
    ) -> Result<T, VideoError> {
        let now = self.now()?;
        let mut state = self.state.lock();
        let tape = self.read_on(&mut state, now);
        Ok(use_it(now, &tape.window(now)))
    }

    /// Returns the fragment at a place in the session.
    pub(super) fn at(&self, sequence: u64) -> Result<Segment, VideoError> {
        let now = self.now()?;
        let mut state = self.state.lock();
        let found = self.read_on(&mut state, now).at(sequence).copied();
        found.ok_or_else(|| {
            VideoError::NotFound(format!("there is no fragment {sequence} in this session").into())
        })
    }

    /// Reads the fragments that have arrived since the last call.
    fn read_on<'a>(&self, state: &'a mut State, now: Timestamp) -> &'a mut Tape {
        let State { tape, seen } = state;
        let mut has_read_all = false;
        loop {
            if tape.as_ref().is_some_and(|tape| !tape.wants_more(now)) {
                break;
            }
            let new = match seen {
                Some(seen) => self.stream.infos_after(*seen, STEP),
                None => self.stream.infos_from(self.start.first, STEP),
            };
            let Some(last) = new.last() else {
                has_read_all = true;
                break;
            };
            if let (Some(tape), Some(seen), Some(first)) = (&mut *tape, *seen, new.first()) {
                let between = first.number.sequence().get() - seen.sequence().get() - 1;
                let has_expired = self.stream.oldest().is_some_and(|oldest| oldest.number > seen);
                if between > 0 && has_expired {
                    tape.skip(between, tape.time_of(first));
                }
            }
            *seen = Some(last.number);
            for info in &new {
                tape.get_or_insert_with(|| self.tape_from(info)).push(info);
            }
        }
        let tape = tape.get_or_insert_with(|| Tape::new(self.rules, Missing::default()));
        // Server times never decrease, so later fragments have later times.
        if has_read_all
            && self.rules.play.source == TimeSource::Server
            && self.rules.play.mode.range().1.is_some_and(|to| now > to + SETTLED)
        {
            tape.end();
        }
        tape
    }

    /// Returns an empty tape whose first fragment will be this one. Those before it may have been dropped since the session began.
    fn tape_from(&self, info: &FragmentInfo) -> Tape {
        let fragments = info.number.sequence().get().saturating_sub(self.start.first.sequence().get());
        let time = time_of(info, self.rules.play.source).since(self.start.first_time);
        let missing = if fragments > 0 { Missing { fragments, time } } else { Missing::default() };
        Tape::new(self.rules, missing)
    }

    /// Returns a fragment, if it belongs to the session.
    pub(super) fn fragment(&self, number: FragmentNumber) -> Result<Fragment, VideoError> {
        self.now()?;
        let missing =
            || VideoError::NotFound(format!("there is no fragment {number} in this session").into());
        if number < self.start.first {
            return Err(missing());
        }
        let fragment = self.stream.fragment(number)?.ok_or_else(missing)?;
        let time = time_of(&fragment.info(), self.rules.play.source);
        let (from, to) = self.rules.play.mode.range();
        let is_ours = from.is_none_or(|from| from <= time) && to.is_none_or(|to| time <= to);
        if is_ours { Ok(fragment) } else { Err(missing()) }
    }

    /// Returns when a fragment starts on the player's timeline.
    pub(super) fn player_time(&self, info: &FragmentInfo) -> Duration {
        time_of(info, self.rules.play.source).since(self.start.first_time)
    }

    /// Returns the time of day at which the timeline of DASH begins: the first fragments were there when the session began.
    pub(super) fn epoch(&self, window: &Window<'_>) -> Timestamp {
        self.start.started - Duration::from_micros(window.lead_micros)
    }

    /// Returns how fragments like this one are played.
    pub(super) fn rendition(
        &self,
        first: FragmentNumber,
        window: &Window<'_>,
    ) -> Result<Rendition, VideoError> {
        let fragment = self.fragment(first)?;
        Rendition::new(&fragment.media()?.tracks, window)
    }
}

/// Returns a track of a fragment that players play.
pub(super) fn track_of(media: &Media<'_>, number: u64) -> Result<Track, VideoError> {
    let track = played(&media.tracks).find(|track| track.number == number);
    track
        .cloned()
        .ok_or_else(|| VideoError::NotFound(format!("the fragment has no track {number} to play").into()))
}

/// Returns the offset, in nanoseconds, that moves the frames of a fragment to a time of the player's timeline.
pub(super) fn offset_ns(media: &Media<'_>, time: Duration) -> i64 {
    let time = time.saturating_add(Duration::from_micros(BEGIN_MICROS));
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX).saturating_sub(media.timecode_ns)
}

/// Returns the first fragment of a session that begins now.
fn first_of(stream: &VideoStream, play: &Play, now: Timestamp) -> Option<FragmentInfo> {
    let (from, to) = match play.mode {
        PlaybackMode::Live => {
            let last = stream.newest_fragments(play.fragments_max());
            let is_live = last.last().is_some_and(|newest| newest.server_time + LIVE_AGE_MAX >= now);
            return last.first().copied().filter(|_| is_live);
        }
        PlaybackMode::LiveReplay { from, to } => (from, to.unwrap_or(Timestamp::from_micros(u64::MAX))),
        PlaybackMode::OnDemand { from, to } => (from, to),
    };
    stream.first_info(play.source == TimeSource::Producer, from..=to)
}
