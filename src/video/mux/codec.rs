//! Which codec a track has, with the parameters that containers need.

use super::aac::AudioConfig;
use super::nal::ParameterSets;
use crate::video::{Track, TrackKind, VideoError};

/// A track with a higher sampling rate counts as damaged.
const SAMPLE_RATE_MAX: u32 = 768_000;

/// Parameters of a codec have a few hundred bytes.
const PRIVATE_BYTES_MAX: usize = 1 << 16;

/// The codec of a track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Codec {
    H264(ParameterSets),
    H265(ParameterSets),
    MotionJpeg,
    Aac(AudioConfig),
    /// Uncompressed, as signed whole numbers.
    Pcm {
        bytes_per_sample: u32,
        is_big_endian: bool,
    },
    MuLaw,
    ALaw,
}

impl Codec {
    /// Recognizes the codec of a track of pictures or sound.
    pub(crate) fn of(track: &Track) -> Result<Self, VideoError> {
        let is_audio = track.kind == TrackKind::Audio;
        let prefix = if is_audio { "A_" } else { "V_" };
        if track.kind == TrackKind::Other || !track.codec_id.starts_with(prefix) {
            return Err(unsupported(track));
        }
        if is_audio && !(1..=SAMPLE_RATE_MAX).contains(&track.sample_rate) {
            return Err(invalid(track, "its sampling rate is out of range"));
        }
        if is_audio && !(1..=u32::from(u16::MAX)).contains(&track.channels) {
            return Err(invalid(track, "its number of channels is out of range"));
        }
        match &*track.codec_id {
            // Matroska's name, and the one in Kinesis' documentation.
            "V_MPEG4/ISO/AVC" | "V_MPEG/ISO/AVC" => Ok(Self::H264(ParameterSets::of_h264(private(track)?)?)),
            "V_MPEGH/ISO/HEVC" => Ok(Self::H265(ParameterSets::of_h265(private(track)?)?)),
            "V_MJPEG" => Ok(Self::MotionJpeg),
            "A_AAC" => Ok(Self::Aac(AudioConfig::read(private(track)?)?)),
            "A_MS/ACM" => Self::of_wave(track, private(track)?),
            "A_PCM/INT/LIT" => Self::pcm(track, track.bit_depth, false),
            "A_PCM/INT/BIG" => Self::pcm(track, track.bit_depth, true),
            _ => Err(unsupported(track)),
        }
    }

    /// Reads a `WAVEFORMATEX`, whose numbers are little-endian.
    fn of_wave(track: &Track, private: &[u8]) -> Result<Self, VideoError> {
        let number =
            |at: usize| private.get(at..at + 2).map(|two| u16::from(two[0]) | u16::from(two[1]) << 8);
        let (Some(format), Some(bits)) = (number(0), number(14)) else {
            return Err(invalid(track, "it is no WAVEFORMATEX"));
        };
        match format {
            1 => Self::pcm(track, u32::from(bits), false),
            6 => Ok(Self::ALaw),
            7 => Ok(Self::MuLaw),
            _ => {
                let what = format!("{} has wave format {format:#06x}, which cannot be played", named(track));
                Err(VideoError::UnsupportedMedia(what.into()))
            }
        }
    }

    fn pcm(track: &Track, bits: u32, is_big_endian: bool) -> Result<Self, VideoError> {
        match bits {
            // Samples of 8 bits are unsigned in Matroska, and signed in MP4.
            16 | 24 | 32 => Ok(Self::Pcm { bytes_per_sample: bits / 8, is_big_endian }),
            _ => {
                let what = format!("{} has {bits} bits a sample, not 16, 24 or 32", named(track));
                Err(VideoError::UnsupportedMedia(what.into()))
            }
        }
    }

    /// Returns the parameter sets of a video codec that has them.
    pub(crate) fn parameter_sets(&self) -> Option<&ParameterSets> {
        match self {
            Self::H264(sets) | Self::H265(sets) => Some(sets),
            _ => None,
        }
    }

    /// Returns the bytes of sound for one moment in all channels, if each moment has the same number.
    pub(crate) fn moment_bytes(&self, channels: u32) -> Option<u32> {
        match self {
            Self::Pcm { bytes_per_sample, .. } => bytes_per_sample.checked_mul(channels),
            Self::MuLaw | Self::ALaw => Some(channels),
            _ => None,
        }
    }
}

/// Returns the tracks of pictures and sound.
pub(super) fn playable(tracks: &[Track]) -> Result<Vec<&Track>, VideoError> {
    let playable: Vec<_> = tracks.iter().filter(|track| track.kind != TrackKind::Other).collect();
    for (index, track) in playable.iter().enumerate() {
        if playable[..index].iter().any(|other| other.number == track.number) {
            return Err(VideoError::InvalidMedia(
                format!("two tracks have the number {}", track.number).into(),
            ));
        }
    }
    Ok(playable)
}

/// Returns an error that says that a container cannot hold a track.
pub(crate) fn not_in(track: &Track, container: &str) -> VideoError {
    VideoError::UnsupportedMedia(format!("{container} cannot hold {}", named(track)).into())
}

fn unsupported(track: &Track) -> VideoError {
    VideoError::UnsupportedMedia(format!("{} cannot be played", named(track)).into())
}

fn named(track: &Track) -> String {
    format!("track {} ({})", track.number, track.codec_id)
}

fn private(track: &Track) -> Result<&[u8], VideoError> {
    if track.codec_private.is_empty() {
        return Err(VideoError::MissingCodecPrivateData(named(track).into()));
    }
    if track.codec_private.len() > PRIVATE_BYTES_MAX {
        return Err(invalid(track, "it has more than 64 KiB"));
    }
    Ok(&track.codec_private)
}

fn invalid(track: &Track, what: &str) -> VideoError {
    VideoError::InvalidCodecPrivateData(format!("that of {}: {what}", named(track)).into())
}
