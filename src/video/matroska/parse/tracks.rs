//! The description of a track.

use super::element::Element;
use super::invalid;
use crate::video::VideoError;
use crate::video::matroska::ids;
use crate::video::media::{Track, TrackKind};

/// The limit of the common prefix that is stripped from frames, usually a few bytes. Each frame is copied with it.
const PREFIX_BYTES_MAX: usize = 64;

/// A track, and how to read its frames.
#[derive(Debug)]
pub(super) struct TrackEntry {
    pub(super) track: Track,
    /// The bytes that are stripped from the beginning of each frame.
    pub(super) prefix: Vec<u8>,
}

impl TrackEntry {
    pub(super) fn read(entry: &Element<'_>) -> Result<Self, VideoError> {
        let mut track = Track {
            number: 0,
            kind: TrackKind::Other,
            codec_id: String::new(),
            codec_private: vec![],
            name: None,
            language: None,
            width: 0,
            height: 0,
            sample_rate: 0,
            channels: 0,
            bit_depth: 0,
            default_duration_ns: None,
            codec_delay_ns: 0,
        };
        let mut prefix = Prefix::default();
        for child in entry.children() {
            let child = child?;
            match child.id {
                ids::TRACK_NUMBER => track.number = child.unsigned()?,
                ids::TRACK_TYPE => {
                    track.kind = match child.unsigned()? {
                        1 => TrackKind::Video,
                        2 => TrackKind::Audio,
                        _ => TrackKind::Other,
                    }
                }
                ids::CODEC_ID => track.codec_id = child.text(),
                ids::CODEC_PRIVATE => track.codec_private = child.data.to_vec(),
                ids::NAME => track.name = Some(child.text()),
                ids::LANGUAGE => track.language = Some(child.text()),
                ids::DEFAULT_DURATION => {
                    track.default_duration_ns = Some(child.unsigned()?).filter(|&duration| duration > 0)
                }
                ids::CODEC_DELAY => track.codec_delay_ns = child.unsigned()?,
                ids::VIDEO => video(&child, &mut track)?,
                ids::AUDIO => audio(&child, &mut track)?,
                ids::CONTENT_ENCODINGS => prefix = Prefix::read(&child)?,
                _ => {}
            }
        }
        if track.number == 0 {
            return Err(invalid(entry.at, "no TrackNumber"));
        }
        if prefix.is_in_private && !track.codec_private.is_empty() {
            track.codec_private.splice(..0, prefix.bytes.iter().copied());
        }
        let prefix = if prefix.is_in_frames { prefix.bytes } else { vec![] };
        Ok(Self { track, prefix })
    }
}

fn video(video: &Element<'_>, track: &mut Track) -> Result<(), VideoError> {
    for child in video.children() {
        let child = child?;
        match child.id {
            ids::PIXEL_WIDTH => track.width = child.unsigned_32()?,
            ids::PIXEL_HEIGHT => track.height = child.unsigned_32()?,
            _ => {}
        }
    }
    Ok(())
}

/// Absent elements have Matroska's defaults.
fn audio(audio: &Element<'_>, track: &mut Track) -> Result<(), VideoError> {
    (track.sample_rate, track.channels) = (8_000, 1);
    for child in audio.children() {
        let child = child?;
        match child.id {
            ids::SAMPLING_FREQUENCY => {
                let rate = child.float()?.round();
                if !(1.0..=f64::from(u32::MAX)).contains(&rate) {
                    return Err(invalid(child.at, "SamplingFrequency out of range"));
                }
                track.sample_rate = rate as u32;
            }
            ids::CHANNELS => track.channels = child.unsigned_32()?,
            ids::BIT_DEPTH => track.bit_depth = child.unsigned_32()?,
            _ => {}
        }
    }
    Ok(())
}

/// The bytes that are stripped from the beginning of frames, or of the codec's private data.
#[derive(Default)]
struct Prefix {
    bytes: Vec<u8>,
    is_in_frames: bool,
    is_in_private: bool,
}

impl Prefix {
    fn read(encodings: &Element<'_>) -> Result<Self, VideoError> {
        let mut prefix = Self::default();
        for encoding in encodings.children_with(ids::CONTENT_ENCODING) {
            let encoding = encoding?;
            let number = |id, default| match encoding.child(id)? {
                Some(child) => child.unsigned(),
                None => Ok(default),
            };
            if number(ids::CONTENT_ENCODING_TYPE, 0)? != 0 {
                return Err(VideoError::UnsupportedMedia("an encrypted track".into()));
            }
            let scope = number(ids::CONTENT_ENCODING_SCOPE, 1)?;
            let compression = encoding.child(ids::CONTENT_COMPRESSION)?;
            let algorithm = match &compression {
                Some(compression) => compression.child(ids::CONTENT_COMPRESSION_ALGORITHM)?,
                None => None,
            };
            let algorithm = algorithm.map_or(Ok(0), |algorithm| algorithm.unsigned())?;
            if algorithm != 3 {
                return Err(VideoError::UnsupportedMedia(
                    format!("a track compressed with algorithm {algorithm}").into(),
                ));
            }
            let settings = match &compression {
                Some(compression) => compression.child(ids::CONTENT_COMPRESSION_SETTINGS)?,
                None => None,
            };
            if !prefix.bytes.is_empty() {
                return Err(VideoError::UnsupportedMedia("a track compressed twice".into()));
            }
            prefix.bytes = settings.map_or_else(Vec::new, |settings| settings.data.to_vec());
            if prefix.bytes.len() > PREFIX_BYTES_MAX {
                return Err(invalid(encoding.at, "more than 64 bytes are stripped off each frame"));
            }
            (prefix.is_in_frames, prefix.is_in_private) = (scope & 1 != 0, scope & 2 != 0);
        }
        Ok(prefix)
    }
}
