//! The options of playback sessions: what they play, and how.

use std::time::Duration;

use crate::video::VideoError;
use crate::{DAY, Timestamp};

/// The longest range of time that a session plays.
const RANGE_MAX: Duration = DAY;
/// How long a session is valid by default, as in Kinesis.
const LIFE_DEFAULT: Duration = Duration::from_secs(300);
/// How many fragments a live playlist has by default, and an on-demand one, as in Kinesis.
const LIVE_FRAGMENTS_DEFAULT: usize = 5;
const ON_DEMAND_FRAGMENTS_DEFAULT: usize = 1_000;
/// The longest playlist: more than a day of fragments of a second.
const FRAGMENTS_MAX: usize = 100_000;

/// Which fragments a session plays.
///
/// A fragment is in a range if it starts in it. Both ends are inclusive, and at most 24 hours apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum PlaybackMode {
    /// The newest fragments, and new ones as they arrive. A fragment is in the playlist as soon as it is stored.
    #[default]
    Live,
    /// Fragments from a time on. Each appears when the previous one has been played, followed finally by new ones as they arrive.
    LiveReplay {
        /// The earliest start of a fragment.
        from: Timestamp,
        /// The latest start of a fragment, or `None` for no limit.
        to: Option<Timestamp>,
    },
    /// All fragments of a range, in one list. Fragments that arrive later are not played.
    OnDemand {
        /// The earliest start of a fragment.
        from: Timestamp,
        /// The latest start of a fragment.
        to: Timestamp,
    },
}

impl PlaybackMode {
    pub(super) fn range(self) -> (Option<Timestamp>, Option<Timestamp>) {
        match self {
            Self::Live => (None, None),
            Self::LiveReplay { from, to } => (Some(from), to),
            Self::OnDemand { from, to } => (Some(from), Some(to)),
        }
    }

    pub(super) fn is_on_demand(self) -> bool {
        matches!(self, Self::OnDemand { .. })
    }

    fn fragments_default(self) -> usize {
        if self.is_on_demand() { ON_DEMAND_FRAGMENTS_DEFAULT } else { LIVE_FRAGMENTS_DEFAULT }
    }
}

/// Which time of a fragment a session uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TimeSource {
    /// The time of the stream's clock when the fragment was stored.
    #[default]
    Server,
    /// The producer's time. Of fragments with equal times, the session plays the one that was stored first.
    ///
    /// In storage order, a range begins with the first fragment that starts in it, and ends before the next one that starts after the range. So if
    /// the same time was sent twice, the older fragments are played. [`Live`](PlaybackMode::Live) plays the fragments that were stored last,
    /// regardless of the producer's time.
    Producer,
}

/// Where an HLS playlist makes the player begin a new timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DiscontinuityMode {
    /// Between all fragments: each is played immediately after the previous one. The default for [`TimeSource::Server`].
    Always,
    /// Nowhere: the player shows gaps as gaps. The default for [`TimeSource::Producer`].
    Never,
    /// Where a gap or an overlap exceeds 50 milliseconds, and where the parameters of a codec change.
    OnDiscontinuity,
}

/// The container of the fragments of an HLS session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum HlsContainer {
    /// Fragmented MP4.
    #[default]
    FragmentedMp4,
    /// MPEG-2 transport stream.
    MpegTs,
}

/// The options of both kinds of sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Play {
    pub(super) mode: PlaybackMode,
    pub(super) source: TimeSource,
    pub(super) life: Duration,
    fragments_max: Option<usize>,
}

impl Play {
    const fn new() -> Self {
        Self { mode: PlaybackMode::Live, source: TimeSource::Server, life: LIFE_DEFAULT, fragments_max: None }
    }

    pub(super) fn fragments_max(&self) -> usize {
        self.fragments_max.unwrap_or(self.mode.fragments_default())
    }

    pub(super) fn check(&self, now: Timestamp) -> Result<(), VideoError> {
        let invalid = |reason: String| Err(VideoError::invalid(reason));
        if !(1..=FRAGMENTS_MAX).contains(&self.fragments_max()) {
            return invalid(format!("a playlist has 1 to {FRAGMENTS_MAX} fragments"));
        }
        if self.life.is_zero() {
            return invalid("a session that is good for no time plays nothing".to_owned());
        }
        let (Some(from), Some(to)) = self.mode.range() else { return Ok(()) };
        if to <= from {
            return invalid(format!("the range must end after it starts: {from} to {to}"));
        }
        if to.since(from) > RANGE_MAX {
            return invalid(format!("the range must not be longer than 24 hours: {from} to {to}"));
        }
        if self.source == TimeSource::Server && self.mode.is_on_demand() && to > now {
            return invalid(format!("a range of the server's time must end in the past, not at {to}"));
        }
        Ok(())
    }
}

/// The options of an HLS session: see [`VideoStream::hls`](crate::video::VideoStream::hls).
///
/// ```
/// use std::time::Duration;
/// use streamlog::Timestamp;
/// use streamlog::video::{HlsContainer, HlsOptions, PlaybackMode, TimeSource};
///
/// let from = Timestamp::from_millis(1_767_225_600_000);
/// let options = HlsOptions::new()
///     .mode(PlaybackMode::OnDemand { from, to: from + Duration::from_secs(3_600) })
///     .times(TimeSource::Producer)
///     .container(HlsContainer::MpegTs)
///     .fragments_max(3_600);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct HlsOptions {
    pub(super) play: Play,
    pub(super) container: HlsContainer,
    discontinuities: Option<DiscontinuityMode>,
    pub(super) has_times: bool,
}

/// The options of a DASH session: see [`VideoStream::dash`](crate::video::VideoStream::dash).
///
/// ```
/// use streamlog::video::{DashOptions, PlaybackMode};
///
/// let options = DashOptions::new().mode(PlaybackMode::Live).fragments_max(10);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct DashOptions {
    pub(super) play: Play,
    pub(super) has_times: bool,
    pub(super) has_numbers: bool,
}

macro_rules! both {
    ($($options:ident)+) => { $(
        impl Default for $options {
            fn default() -> Self {
                Self::new()
            }
        }

        impl $options {
            /// Sets which fragments to play. Default: [`PlaybackMode::Live`].
            pub fn mode(mut self, mode: PlaybackMode) -> Self {
                self.play.mode = mode;
                self
            }

            /// Sets which time to use. Default: [`TimeSource::Server`].
            pub fn times(mut self, source: TimeSource) -> Self {
                self.play.source = source;
                self
            }

            /// Sets after how long the session expires. Default: 5 minutes. Kinesis allows 5 minutes to 12 hours.
            pub fn expires_after(mut self, life: Duration) -> Self {
                self.play.life = life;
                self
            }

            /// Sets how many fragments the list has at most, 1 to 100,000: the first ones on demand, otherwise the last ones. Default: 1,000 on
            /// demand, otherwise 5. Kinesis allows 5,000 at most.
            pub fn fragments_max(mut self, count: usize) -> Self {
                self.play.fragments_max = Some(count);
                self
            }

            /// Sets whether the list contains the start time of each fragment, according to the time source. Default: it does not.
            pub fn show_times(mut self, shows: bool) -> Self {
                self.has_times = shows;
                self
            }
        }
    )+ };
}

both! { HlsOptions DashOptions }

impl HlsOptions {
    /// Returns the options of a live session in fragmented MP4, with the defaults of Kinesis.
    pub const fn new() -> Self {
        Self {
            play: Play::new(),
            container: HlsContainer::FragmentedMp4,
            discontinuities: None,
            has_times: false,
        }
    }

    /// Sets the container of fragments. Default: [`HlsContainer::FragmentedMp4`].
    pub fn container(mut self, container: HlsContainer) -> Self {
        self.container = container;
        self
    }

    /// Sets where the player begins a new timeline. Default: [`Always`](DiscontinuityMode::Always) with server times, and
    /// [`Never`](DiscontinuityMode::Never) with producer times.
    pub fn discontinuities(mut self, mode: DiscontinuityMode) -> Self {
        self.discontinuities = Some(mode);
        self
    }

    pub(super) fn discontinuity_mode(&self) -> DiscontinuityMode {
        self.discontinuities.unwrap_or(match self.play.source {
            TimeSource::Server => DiscontinuityMode::Always,
            TimeSource::Producer => DiscontinuityMode::Never,
        })
    }
}

impl DashOptions {
    /// Returns the options of a live session, with the defaults of Kinesis.
    pub const fn new() -> Self {
        Self { play: Play::new(), has_times: false, has_numbers: false }
    }

    /// Sets whether the manifest contains the number of each fragment, as Kinesis' attribute `kvs:fn`. Default: it does not.
    pub fn show_numbers(mut self, shows: bool) -> Self {
        self.has_numbers = shows;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_767_225_600_000);

    fn check(mode: PlaybackMode, source: TimeSource) -> Result<(), VideoError> {
        HlsOptions::new().mode(mode).times(source).play.check(NOW)
    }

    #[test]
    fn ranges_are_those_that_kinesis_takes() {
        let second = Duration::from_secs(1);
        for source in [TimeSource::Server, TimeSource::Producer] {
            check(PlaybackMode::Live, source).unwrap();
            check(PlaybackMode::LiveReplay { from: NOW - DAY - DAY, to: None }, source).unwrap();
            check(PlaybackMode::OnDemand { from: NOW - DAY, to: NOW }, source).unwrap();
            for (from, to) in [(NOW - DAY - second, NOW), (NOW, NOW), (NOW, NOW - second)] {
                for mode in
                    [PlaybackMode::OnDemand { from, to }, PlaybackMode::LiveReplay { from, to: Some(to) }]
                {
                    let refused = check(mode, source);
                    assert!(matches!(refused, Err(VideoError::InvalidArgument(_))), "{mode:?} {refused:?}");
                }
            }
        }
        let future = PlaybackMode::OnDemand { from: NOW, to: NOW + second };
        check(future, TimeSource::Producer).unwrap();
        assert!(check(future, TimeSource::Server).is_err());
    }

    #[test]
    fn defaults_are_those_of_kinesis() {
        let live = HlsOptions::new();
        assert_eq!((live.play.fragments_max(), live.play.life.as_secs()), (5, 300));
        assert_eq!(live.discontinuity_mode(), DiscontinuityMode::Always);
        assert_eq!(live.times(TimeSource::Producer).discontinuity_mode(), DiscontinuityMode::Never);
        let archived = DashOptions::new().mode(PlaybackMode::OnDemand { from: NOW - DAY, to: NOW });
        assert_eq!(archived.play.fragments_max(), 1_000);
        for count in [0, 100_001] {
            assert!(DashOptions::new().fragments_max(count).play.check(NOW).is_err(), "{count}");
        }
    }
}
