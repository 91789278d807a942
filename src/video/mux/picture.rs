//! Pictures for the user's decoder: key frames, each of which can be decoded by itself.

use super::Codec;
use super::codec::not_in;
use crate::video::{Frame, Track, VideoError};

/// The coding of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PictureCodec {
    /// H.264 as a byte stream with start codes (Annex B), beginning with its parameter sets.
    H264,
    /// H.265 as a byte stream with start codes (Annex B), beginning with its parameter sets.
    H265,
    /// A JPEG file.
    Jpeg,
}

/// Returns a key frame in a form that can be decoded by itself.
pub(crate) fn picture(track: &Track, frame: &Frame<'_>) -> Result<(PictureCodec, Vec<u8>), VideoError> {
    let codec = match Codec::of(track)? {
        Codec::MotionJpeg => return Ok((PictureCodec::Jpeg, frame.data.to_vec())),
        codec => codec,
    };
    let sets = codec.parameter_sets().ok_or_else(|| not_in(track, "a picture"))?;
    let mut out = Vec::with_capacity(frame.data.len() + 1_024);
    sets.write_sets(&mut out);
    sets.write_frame(&frame.data, &mut out, |_| false)?;
    let kind = if matches!(codec, Codec::H264(_)) { PictureCodec::H264 } else { PictureCodec::H265 };
    Ok((kind, out))
}
