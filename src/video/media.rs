//! What is in a fragment: its tracks, its frames with exact times, its tags.

use std::borrow::Cow;

use super::VideoError;
use super::matroska::parse;

/// What a track carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TrackKind {
    /// Pictures.
    Video,
    /// Sound.
    Audio,
    /// Subtitles, metadata and whatever else Matroska carries.
    Other,
}

/// A track of a fragment, as its Matroska header describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Track {
    /// The number that the track's frames carry. Never 0.
    pub number: u64,
    /// What the track carries.
    pub kind: TrackKind,
    /// Matroska's name of the codec, such as `V_MPEG4/ISO/AVC`.
    pub codec_id: String,
    /// What a decoder needs before the first frame. Empty if the producer sent none.
    ///
    /// For H.264 and H.265, the decoder configuration record of ISO/IEC 14496-15; for AAC, the `AudioSpecificConfig`; for `A_MS/ACM`, a
    /// `WAVEFORMATEX`.
    pub codec_private: Vec<u8>,
    /// The name that the producer gave the track.
    pub name: Option<String>,
    /// The language as ISO 639-2, such as `eng`, if the producer says.
    pub language: Option<String>,
    /// The width of a coded picture, in pixels; 0 for sound.
    pub width: u32,
    /// The height of a coded picture, in pixels; 0 for sound.
    pub height: u32,
    /// Samples a second; 0 for pictures.
    pub sample_rate: u32,
    /// The number of channels; 0 for pictures.
    pub channels: u32,
    /// The bits of an uncompressed sample, or 0 if the producer does not say.
    pub bit_depth: u32,
    /// How long a frame lasts unless it says otherwise, in nanoseconds.
    pub default_duration_ns: Option<u64>,
    /// How much earlier than its timecode says a frame is presented, because the encoder put silence in front. In nanoseconds; already
    /// subtracted from [`Frame::time_ns`].
    pub codec_delay_ns: u64,
}

/// One coded picture, or one packet of sound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The number of the frame's [`Track`].
    pub track: u64,
    /// When the frame is presented, in nanoseconds, on the time line of the fragment's timecodes.
    pub time_ns: i64,
    /// How long it is presented, in nanoseconds, where the fragment says so.
    pub duration_ns: Option<u64>,
    /// Whether it can be decoded by itself.
    pub is_key: bool,
    /// The coded bytes. Borrowed from the fragment, unless the track strips a common beginning off its frames.
    pub data: Cow<'a, [u8]>,
}

/// A fragment, taken apart.
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
    /// The frames, in the order in which they are decoded.
    pub frames: Vec<Frame<'a>>,
    /// The timecode of the first cluster, in nanoseconds.
    pub timecode_ns: i64,
    /// The tags of the fragment: names and values.
    pub tags: Vec<(String, String)>,
}

impl<'a> Media<'a> {
    /// Takes a fragment apart: a whole Matroska file, of one cluster or more.
    ///
    /// Needs memory for the list of frames; their bytes stay where they are.
    ///
    /// # Errors
    ///
    /// Fails with [`VideoError::InvalidMedia`] if the bytes are not whole and valid Matroska, and with [`VideoError::UnsupportedMedia`] if frames
    /// are encrypted or compressed, but for header stripping.
    pub fn parse(fragment: &'a [u8]) -> Result<Self, VideoError> {
        parse::media(fragment)
    }

    /// Returns the track with a number.
    pub fn track(&self, number: u64) -> Option<&Track> {
        self.tracks.iter().find(|track| track.number == number)
    }
}
