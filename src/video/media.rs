//! The contents of a fragment: its tracks, its frames with exact times, its tags.

use std::borrow::Cow;

use super::VideoError;
use super::matroska::parse;

/// The content of a track.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TrackKind {
    /// Video.
    Video,
    /// Audio.
    Audio,
    /// Subtitles, metadata and anything else that Matroska can hold.
    Other,
}

/// A track of a fragment, as its Matroska header describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Track {
    /// The track number of its frames. Never 0.
    pub number: u64,
    /// The content of the track.
    pub kind: TrackKind,
    /// Matroska's name of the codec, such as `V_MPEG4/ISO/AVC`.
    pub codec_id: String,
    /// The parameters that a decoder needs before the first frame. Empty if the producer sent none.
    ///
    /// For H.264 and H.265, the decoder configuration record of ISO/IEC 14496-15; for AAC, the `AudioSpecificConfig`; for `A_MS/ACM`, a
    /// `WAVEFORMATEX`.
    pub codec_private: Vec<u8>,
    /// The name that the producer gave the track.
    pub name: Option<String>,
    /// The language as ISO 639-2, such as `eng`, if the producer sends it.
    pub language: Option<String>,
    /// The width of a coded picture, in pixels; 0 for audio.
    pub width: u32,
    /// The height of a coded picture, in pixels; 0 for audio.
    pub height: u32,
    /// Samples per second; 0 for video.
    pub sample_rate: u32,
    /// The number of channels; 0 for video.
    pub channels: u32,
    /// The bits of an uncompressed sample, or 0 if the producer does not send it.
    pub bit_depth: u32,
    /// The default duration of a frame, in nanoseconds.
    pub default_duration_ns: Option<u64>,
    /// How much earlier than its timecode a frame is presented, because the encoder inserted silence at the beginning. In nanoseconds; already
    /// subtracted from [`Frame::time_ns`].
    pub codec_delay_ns: u64,
}

/// One coded picture, or one packet of audio.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The number of the frame's [`Track`].
    pub track: u64,
    /// When the frame is presented, in nanoseconds, on the timeline of the fragment's timecodes.
    pub time_ns: i64,
    /// How long it is presented, in nanoseconds, if the fragment specifies it.
    pub duration_ns: Option<u64>,
    /// Whether it can be decoded by itself.
    pub is_key: bool,
    /// The coded bytes. Borrowed from the fragment, unless the track strips a common prefix from its frames.
    pub data: Cow<'a, [u8]>,
}

/// A parsed fragment.
///
/// ```no_run
/// use streamlog::video::{Media, TrackKind};
///
/// # let matroska: Vec<u8> = vec![];
/// let media = Media::parse(&matroska)?;
/// for track in media.tracks.iter().filter(|track| track.kind == TrackKind::Video) {
///     println!("{} {}x{}", track.codec_id, track.width, track.height);
/// }
/// for frame in media.frames.iter().filter(|frame| frame.is_key) {
///     println!("{} ms: {} bytes", frame.time_ns / 1_000_000, frame.data.len());
/// }
/// # Ok::<(), streamlog::video::VideoError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Media<'a> {
    /// The tracks, in the order of the header.
    pub tracks: Vec<Track>,
    /// The frames, in decoding order.
    pub frames: Vec<Frame<'a>>,
    /// The timecode of the first cluster, in nanoseconds.
    pub timecode_ns: i64,
    /// The tags of the fragment, as names and values.
    pub tags: Vec<(String, String)>,
}

impl<'a> Media<'a> {
    /// Parses a fragment: a complete Matroska file with one or more clusters.
    ///
    /// It needs memory for the list of frames, but does not copy their bytes.
    ///
    /// # Errors
    ///
    /// Fails with [`VideoError::InvalidMedia`] if the bytes are not complete and valid Matroska, and with [`VideoError::UnsupportedMedia`] if frames
    /// are encrypted or compressed, except by header stripping.
    pub fn parse(fragment: &'a [u8]) -> Result<Self, VideoError> {
        parse::media(fragment)
    }

    /// Returns the track with this number.
    pub fn track(&self, number: u64) -> Option<&Track> {
        self.tracks.iter().find(|track| track.number == number)
    }
}
