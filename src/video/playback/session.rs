//! Sessions: the requests of players, and their responses.

use std::time::Duration;

use super::core::{Core, SessionStart, offset_ns, track_of};
use super::dash::{self, DashLink};
use super::hls::{self, HlsLink};
use super::options::{DashOptions, DiscontinuityMode, HlsContainer, HlsOptions};
use crate::Timestamp;
use crate::video::{
    FragmentNumber, SegmentPlace, VideoError, VideoStream, fmp4_init, fmp4_segment, ts_segment,
};

/// A session of an HLS player. [`VideoStream::hls`] returns it.
///
/// Serve the results of its methods at the links that you pass to them. A session caches its list of fragments, so keep the session while players
/// use it; [`VideoStream::resume_hls`] continues one that was dropped.
#[derive(Debug)]
pub struct HlsSession {
    core: Core,
    options: HlsOptions,
}

/// A session of an MPEG-DASH player. [`VideoStream::dash`] returns it.
///
/// Serve the results of its methods at the links that you pass to them. A session caches its list of fragments, so keep the session while players
/// use it; [`VideoStream::resume_dash`] continues one that was dropped.
#[derive(Debug)]
pub struct DashSession {
    core: Core,
    options: DashOptions,
}

impl VideoStream {
    /// Begins a session of HTTP Live Streaming.
    ///
    /// # Errors
    /// As in Kinesis: [`NoDataRetention`](VideoError::NoDataRetention) if the stream archives nothing; [`NotFound`](VideoError::NotFound) if there
    /// is nothing to play, or if the mode is live and no fragment arrived in the last 30 seconds;
    /// [`MissingCodecPrivateData`](VideoError::MissingCodecPrivateData), [`InvalidCodecPrivateData`](VideoError::InvalidCodecPrivateData) and
    /// [`UnsupportedMedia`](VideoError::UnsupportedMedia) if the first fragment cannot be played; and
    /// [`InvalidArgument`](VideoError::InvalidArgument), for example for ranges of more than 24 hours.
    pub fn hls(&self, options: HlsOptions) -> Result<HlsSession, VideoError> {
        let core = Core::begin(self, options.play, options.discontinuity_mode())?;
        let session = HlsSession { core, options };
        session.fragment(session.core.start.first)?;
        session.master_playlist(|_| String::new())?;
        Ok(session)
    }

    /// Continues a session that was begun with these options. Its fragments keep their numbers.
    pub fn resume_hls(&self, options: HlsOptions, start: SessionStart) -> HlsSession {
        let core = Core::resume(self, options.play, options.discontinuity_mode(), start);
        HlsSession { core, options }
    }

    /// Begins a session of MPEG-DASH, in fragmented MP4.
    ///
    /// # Errors
    /// The errors of [`hls`](Self::hls).
    pub fn dash(&self, options: DashOptions) -> Result<DashSession, VideoError> {
        let core = Core::begin(self, options.play, DiscontinuityMode::Never)?;
        let session = DashSession { core, options };
        session.manifest(|_| String::new())?;
        Ok(session)
    }

    /// Continues a session that was begun with these options. Its fragments keep their numbers.
    pub fn resume_dash(&self, options: DashOptions, start: SessionStart) -> DashSession {
        let core = Core::resume(self, options.play, DiscontinuityMode::Never, start);
        DashSession { core, options }
    }
}

macro_rules! both {
    ($($session:ident)+) => { $(
        impl $session {
            /// Returns the data that is needed to continue the session.
            pub fn start(&self) -> SessionStart {
                self.core.start
            }

            /// Returns when the session ends. From then on, each call fails with [`SessionExpired`](VideoError::SessionExpired).
            pub fn expires_at(&self) -> Timestamp {
                self.core.expires_at()
            }
        }
    )+ };
}

both! { HlsSession DashSession }

impl HlsSession {
    /// Returns the playlist that a player loads first. It names the codecs, and has one link: to the media playlist.
    ///
    /// Its content type is `application/vnd.apple.mpegurl`.
    ///
    /// # Errors
    /// [`SessionExpired`](VideoError::SessionExpired), and the codec errors of [`VideoStream::hls`].
    pub fn master_playlist(&self, link: impl Fn(HlsLink) -> String) -> Result<String, VideoError> {
        self.core.with_window(|_, window| {
            let first =
                window.segments.first().map_or(self.core.start.first, |segment| segment.first_of_setup);
            let rendition = self.core.rendition(first, window)?;
            Ok(hls::master(&rendition, self.options.container, link))
        })?
    }

    /// Returns the current playlist of fragments. Players reload it repeatedly, unless the session is on demand.
    ///
    /// A fragment keeps its number in the sequence. The content type of the playlist is `application/vnd.apple.mpegurl`.
    ///
    /// # Errors
    /// [`SessionExpired`](VideoError::SessionExpired), and the errors of reading the stream.
    pub fn media_playlist(&self, link: impl Fn(HlsLink) -> String) -> Result<String, VideoError> {
        let style = hls::Style {
            container: self.options.container,
            has_times: self.options.has_times,
            is_on_demand: self.options.play.mode.is_on_demand(),
        };
        self.core.with_window(|_, window| hls::media(window, style, link))
    }

    /// Returns the initialization segment of a fragment and of those with the same tracks: the beginning of a fragmented MP4, `video/mp4`.
    ///
    /// # Errors
    /// [`NotFound`](VideoError::NotFound) if the fragment has expired or does not belong to the session,
    /// [`SessionExpired`](VideoError::SessionExpired), and the codec errors of [`VideoStream::hls`].
    pub fn init(&self, number: FragmentNumber) -> Result<Vec<u8>, VideoError> {
        let fragment = self.core.fragment(number)?;
        fmp4_init(&fragment.media()?.tracks)
    }

    /// Returns a fragment in the container of the session: as `video/mp4`, or as `video/mp2t`.
    ///
    /// # Errors
    /// The errors of [`init`](Self::init).
    pub fn fragment(&self, number: FragmentNumber) -> Result<Vec<u8>, VideoError> {
        let fragment = self.core.fragment(number)?;
        let media = fragment.media()?;
        let time = self.core.player_time(&fragment.info());
        let offset_ns = offset_ns(&media, time);
        match self.options.container {
            HlsContainer::FragmentedMp4 => {
                // Only its low bits fit.
                let sequence = number.sequence().get() as u32;
                fmp4_segment(&media, SegmentPlace { sequence, offset_ns, ..SegmentPlace::default() })
            }
            HlsContainer::MpegTs => ts_segment(&media, offset_ns),
        }
    }
}

impl DashSession {
    /// Returns the current manifest. Players reload it repeatedly, unless the session is on demand.
    ///
    /// Its content type is `application/dash+xml`.
    ///
    /// # Errors
    /// [`SessionExpired`](VideoError::SessionExpired), and the codec errors of [`VideoStream::dash`].
    pub fn manifest(&self, link: impl Fn(DashLink) -> String) -> Result<String, VideoError> {
        self.core.with_window(|now, window| {
            let style = dash::Style {
                has_times: self.options.has_times,
                has_numbers: self.options.has_numbers,
                is_on_demand: self.options.play.mode.is_on_demand(),
                epoch: self.core.epoch(window),
                now,
            };
            let rendition =
                |segment: &super::tape::Segment| self.core.rendition(segment.first_of_setup, window);
            dash::manifest(window, style, rendition, link)
        })?
    }

    /// Returns the initialization segment of a track, for a fragment and those with the same tracks, as `video/mp4` or `audio/mp4`.
    ///
    /// # Errors
    /// [`NotFound`](VideoError::NotFound) if the fragment has expired, does not belong to the session or lacks the track,
    /// [`SessionExpired`](VideoError::SessionExpired), and the codec errors of [`VideoStream::dash`].
    pub fn init(&self, number: FragmentNumber, track: u64) -> Result<Vec<u8>, VideoError> {
        let fragment = self.core.fragment(number)?;
        fmp4_init(&[track_of(&fragment.media()?, track)?])
    }

    /// Returns a track of the fragment with this index in the session, as `video/mp4` or `audio/mp4`.
    ///
    /// # Errors
    /// The errors of [`init`](Self::init).
    pub fn fragment(&self, sequence: u64, track: u64) -> Result<Vec<u8>, VideoError> {
        let segment = self.core.at(sequence)?;
        let fragment = self.core.fragment(segment.number)?;
        let media = fragment.media()?;
        track_of(&media, track)?;
        let offset_ns = offset_ns(&media, Duration::from_micros(segment.offset_micros));
        let end_ns = i64::try_from(u128::from(dash::begin(segment.end_micros())) * 1_000).ok();
        // Only its low bits fit.
        fmp4_segment(
            &media,
            SegmentPlace { sequence: sequence as u32, offset_ns, end_ns, track: Some(track) },
        )
    }
}
