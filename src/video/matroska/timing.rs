//! The times of the frames of a fragment, which give its length and show whether each track has frames.

use super::header::TrackHead;
use crate::video::error::{AckErrorId, VideoError};

/// The longest fragment, as in Kinesis.
const FRAGMENT_NS_MAX: i64 = 20_000_000_000;

/// A frame, or several in one block, as they come.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct BlockHead {
    pub(super) track: u64,
    /// The timecode, from that of the cluster on.
    pub(super) relative: i16,
    pub(super) frame_count: u64,
    /// In timecodes. `None` if the block does not specify it.
    pub(super) duration: Option<u64>,
}

/// The times of the frames of one fragment.
#[derive(Debug, Default)]
pub(super) struct Timing {
    /// The nanoseconds of a timecode.
    scale: u64,
    tracks: Vec<TrackTimes>,
    /// The latest known end of a frame, from the cluster's timecode on.
    end_ns: i64,
}

#[derive(Debug)]
struct TrackTimes {
    number: u64,
    default_duration_ns: Option<u64>,
    /// The latest frame whose duration is not known, and the one before it, in the order of their times.
    latest: Option<i64>,
    before: Option<i64>,
    has_frames: bool,
}

impl Timing {
    /// Begins a fragment.
    pub(super) fn begin(&mut self, scale: u64, tracks: &[TrackHead]) {
        self.scale = scale;
        self.end_ns = 0;
        self.tracks.clear();
        self.tracks.extend(tracks.iter().map(|track| TrackTimes {
            number: track.number,
            default_duration_ns: track.default_duration_ns,
            latest: None,
            before: None,
            has_frames: false,
        }));
    }

    /// Returns the nanoseconds of a number of timecodes, if they can be expressed.
    fn nanoseconds(&self, timecodes: impl Into<i128>) -> Option<i64> {
        let product = timecodes.into().checked_mul(self.scale.into())?;
        product.try_into().ok()
    }

    /// Returns the time of a cluster in nanoseconds.
    pub(super) fn cluster_ns(&self, timecode: u64) -> Result<u64, VideoError> {
        let time = self.nanoseconds(timecode).and_then(|time| u64::try_from(time).ok());
        time.ok_or_else(|| {
            VideoError::rejected(
                AckErrorId::InvalidProducerTimestamp,
                format!(
                    "a cluster has the timecode {timecode}, of {} ns each, which is too late",
                    self.scale
                ),
            )
        })
    }

    /// Adds a block.
    pub(super) fn add(&mut self, block: &BlockHead) -> Result<(), VideoError> {
        let too_long = || {
            VideoError::rejected(
                AckErrorId::MaxFragmentDurationReached,
                format!("a fragment is longer than {} s", FRAGMENT_NS_MAX / 1_000_000_000),
            )
        };
        let time = self.nanoseconds(block.relative).ok_or_else(too_long)?;
        if time > FRAGMENT_NS_MAX {
            return Err(too_long());
        }
        let own = block.duration.and_then(|duration| self.nanoseconds(duration));
        let track = self.tracks.iter_mut().find(|track| track.number == block.track).ok_or_else(|| {
            VideoError::rejected(
                AckErrorId::TrackNumberMismatch,
                format!("a frame is of the track {}, which was not announced", block.track),
            )
        })?;
        track.has_frames = true;
        let default = track.default_duration_ns.and_then(|each| each.checked_mul(block.frame_count));
        match own.or(default.and_then(|default| default.try_into().ok())) {
            Some(duration) => {
                let end = time.checked_add(duration).filter(|&end| end <= FRAGMENT_NS_MAX);
                self.end_ns = self.end_ns.max(end.ok_or_else(too_long)?);
            }
            None => match track.latest {
                Some(latest) if time <= latest => {
                    track.before = track.before.max(Some(time).filter(|&it| it < latest))
                }
                latest => (track.before, track.latest) = (latest, Some(time)),
            },
        }
        Ok(())
    }

    /// Returns how long the fragment plays, in nanoseconds. The last frame of a track without durations lasts as long as the one before it.
    pub(super) fn end(&self, are_tracks_sparse: bool) -> Result<u64, VideoError> {
        let missing = self.tracks.iter().find(|track| !track.has_frames);
        if let Some(track) =
            missing.filter(|_| !are_tracks_sparse || self.tracks.iter().all(|it| !it.has_frames))
        {
            return Err(VideoError::rejected(
                AckErrorId::FramesMissingForTrack,
                format!("a fragment has no frame of the track {}", track.number),
            ));
        }
        let ends = self.tracks.iter().filter_map(|track| {
            let latest = track.latest?;
            let guess =
                track.before.map_or(latest, |before| latest.saturating_add(latest.saturating_sub(before)));
            // A guess must not make a fragment too long.
            Some(guess.min(FRAGMENT_NS_MAX))
        });
        Ok(u64::try_from(ends.fold(self.end_ns, i64::max)).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timing() -> Timing {
        let mut timing = Timing::default();
        let payload = [0xAE, 3, 0xD7, 0x81, 1];
        let payload = [payload[0], 0x80 | payload[1], payload[2], payload[3], payload[4]];
        timing.begin(1_000_000, &super::super::header::read_tracks(&payload).unwrap());
        timing
    }

    fn block(relative: i16) -> BlockHead {
        BlockHead { track: 1, relative, frame_count: 1, duration: None }
    }

    #[test]
    fn a_frame_without_a_duration_lasts_as_long_as_the_one_before_it() {
        let mut timing = timing();
        // In the order of decoding: the picture at 40 ms is a B frame.
        for relative in [0, 80, 40, 120] {
            timing.add(&block(relative)).unwrap();
        }
        assert_eq!(timing.end(false).unwrap(), 160_000_000);
    }

    #[test]
    fn a_duration_that_is_given_counts() {
        let mut timing = timing();
        timing.add(&BlockHead { duration: Some(500), ..block(100) }).unwrap();
        assert_eq!(timing.end(false).unwrap(), 600_000_000);
    }

    #[test]
    fn a_track_without_frames_is_missing() {
        let timing = timing();
        assert_eq!(
            timing.end(true).unwrap_err().error_id(),
            Some(AckErrorId::FramesMissingForTrack),
            "there is no frame at all"
        );
    }
}
