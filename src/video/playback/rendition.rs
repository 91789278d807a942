//! The description of a session's tracks that a player needs before it loads a fragment.

use std::time::Duration;

use super::codecs::codec;
use super::tape::Window;
use crate::video::{Track, TrackKind, VideoError};

/// A track that is played.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Played {
    pub(super) number: u64,
    pub(super) is_video: bool,
    pub(super) codec: String,
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) sample_rate: u32,
    pub(super) channels: u32,
    pub(super) frame_ns: Option<u64>,
}

/// The tracks that are played, and their bandwidth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rendition {
    pub(super) tracks: Vec<Played>,
    /// On average.
    pub(super) bits_per_second: u64,
    /// The maximum of a fragment.
    pub(super) bits_per_second_max: u64,
}

impl Rendition {
    /// Returns how the fragments of a window that have these tracks are played.
    pub(super) fn new(tracks: &[Track], window: &Window<'_>) -> Result<Self, VideoError> {
        let of_track = |track: &Track| {
            Ok(Played {
                number: track.number,
                is_video: track.kind == TrackKind::Video,
                codec: codec(track)?,
                width: track.width,
                height: track.height,
                sample_rate: track.sample_rate,
                channels: track.channels,
                frame_ns: track.default_duration_ns.filter(|duration| *duration > 0),
            })
        };
        let tracks = played(tracks).map(of_track).collect::<Result<Vec<_>, VideoError>>()?;
        if tracks.is_empty() {
            return Err(VideoError::UnsupportedMedia("a stream with neither video nor audio".into()));
        }
        let rate = |bytes: u64, length: Duration| {
            let millis = length.as_millis().max(1);
            u64::try_from(u128::from(bytes) * 8_000 / millis).unwrap_or(u64::MAX)
        };
        let bytes = window.segments.iter().map(|segment| segment.bytes).sum();
        let length = window.segments.iter().map(|segment| segment.length).sum();
        let most = window.segments.iter().map(|segment| rate(segment.bytes, segment.length)).max();
        let bits_per_second = rate(bytes, length);
        let bits_per_second_max = most.unwrap_or(0).max(bits_per_second);
        Ok(Self { tracks, bits_per_second, bits_per_second_max })
    }

    pub(super) fn codecs(&self) -> String {
        self.tracks.iter().map(|track| &*track.codec).collect::<Vec<_>>().join(",")
    }

    fn video(&self) -> Option<&Played> {
        self.tracks.iter().find(|track| track.is_video)
    }

    pub(super) fn size(&self) -> Option<(u32, u32)> {
        self.video()
            .map(|video| (video.width, video.height))
            .filter(|(width, height)| *width > 0 && *height > 0)
    }

    pub(super) fn milliframes_per_second(&self) -> Option<u64> {
        self.video()?.frame_ns.map(|duration| (1_000_000_000_000 + duration / 2) / duration)
    }
}

/// Returns the tracks that players play.
pub(super) fn played(tracks: &[Track]) -> impl Iterator<Item = &Track> {
    tracks.iter().filter(|track| matches!(track.kind, TrackKind::Video | TrackKind::Audio))
}
