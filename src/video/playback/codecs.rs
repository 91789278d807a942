//! How playlists name the codec of a track: RFC 6381, from the private data of the codec.

use std::fmt::Write;

use crate::video::mux::Codec;
use crate::video::{Track, VideoError};

/// Returns the name of a track's codec, such as `avc1.64001f`.
///
/// # Errors
/// `MissingCodecPrivateData` and `InvalidCodecPrivateData` for the data that the name is made of, and `UnsupportedMedia` for other codecs.
pub(super) fn codec(track: &Track) -> Result<String, VideoError> {
    let private = &*track.codec_private;
    let name = match Codec::of(track)? {
        Codec::H264(_) => avc(private),
        Codec::H265(_) => hevc(private),
        Codec::Aac(_) => aac(private),
        // The codes of MP4.
        Codec::MuLaw => Some("ulaw".to_owned()),
        Codec::ALaw => Some("alaw".to_owned()),
        Codec::Pcm { .. } => Some("ipcm".to_owned()),
        Codec::MotionJpeg => {
            let what = format!("no player takes the codec {} of track {}", track.codec_id, track.number);
            return Err(VideoError::UnsupportedMedia(what.into()));
        }
    };
    name.ok_or_else(|| {
        VideoError::InvalidCodecPrivateData(format!("track {}, {}", track.number, track.codec_id).into())
    })
}

/// From an `AVCDecoderConfigurationRecord`: profile, constraints and level.
fn avc(record: &[u8]) -> Option<String> {
    let [1, profile, constraints, level, ..] = *record else { return None };
    Some(format!("avc1.{profile:02x}{constraints:02x}{level:02x}"))
}

/// From an `HEVCDecoderConfigurationRecord`, as ISO 14496-15 annex E writes it.
fn hevc(record: &[u8]) -> Option<String> {
    let [1, profile, rest @ ..] = record else { return None };
    let (compatible, rest) = rest.split_first_chunk::<4>()?;
    let (constraints, rest) = rest.split_first_chunk::<6>()?;
    let level = rest.first()?;
    let space = ["", "A", "B", "C"][usize::from(profile >> 6)];
    let tier = if profile & 0x20 == 0 { 'L' } else { 'H' };
    let compatible = u32::from_be_bytes(*compatible).reverse_bits();
    let mut name = format!("hvc1.{space}{}.{compatible:X}.{tier}{level}", profile & 0x1f);
    let used = constraints.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    for byte in &constraints[..used] {
        // Writing to a string does not fail.
        let _ = write!(name, ".{byte:X}");
    }
    Some(name)
}

/// From an `AudioSpecificConfig`: the type of object, in 5 bits, or in 6 more.
fn aac(config: &[u8]) -> Option<String> {
    let [first, second, ..] = *config else { return None };
    let object = match first >> 3 {
        0 => return None,
        31 => 32 + ((first & 7) << 3 | second >> 5),
        object => object,
    };
    Some(format!("mp4a.40.{object}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::video::TrackKind;

    fn track(codec_id: &str, codec_private: &[u8]) -> Track {
        Track {
            number: 1,
            kind: if codec_id.starts_with('A') { TrackKind::Audio } else { TrackKind::Video },
            codec_id: codec_id.to_owned(),
            codec_private: codec_private.to_vec(),
            name: None,
            language: None,
            width: 0,
            height: 0,
            sample_rate: 8_000,
            channels: 1,
            bit_depth: 0,
            default_duration_ns: None,
            codec_delay_ns: 0,
        }
    }

    #[test]
    fn codecs_are_named_as_rfc_6381_says() {
        type Name = fn(&[u8]) -> Option<String>;
        let main_10 = [1, 0x22, 0x20, 0, 0, 0, 0xb0, 0, 0, 0, 0, 0, 0x99, 0xf0];
        for (name, private, expected) in [
            (avc as Name, &[1, 0x64, 0, 0x1f, 0xff, 0xe1][..], "avc1.64001f"),
            (avc, &[1, 0x42, 0xc0, 0x0a, 0xff], "avc1.42c00a"),
            (hevc, &[1, 1, 0x60, 0, 0, 0, 0x90, 0, 0, 0, 0, 0, 0x5d, 0xf0], "hvc1.1.6.L93.90"),
            (hevc, &main_10, "hvc1.2.4.H153.B0"),
            (hevc, &[1, 0x41, 0x60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 30], "hvc1.A1.6.L30"),
            (aac, &[0x12, 0x10], "mp4a.40.2"),
            (aac, &[0x2b, 0x11, 0x88], "mp4a.40.5"),
            (aac, &[0xf8, 0xe6], "mp4a.40.39"),
        ] {
            assert_eq!(name(private).as_deref(), Some(expected));
            for end in [0, 1] {
                assert_eq!(name(&private[..end]), None, "{expected}");
            }
        }
    }

    #[test]
    fn what_cannot_be_played_is_refused_as_in_kinesis() {
        for id in ["V_MPEG4/ISO/AVC", "V_MPEGH/ISO/HEVC", "A_AAC", "A_MS/ACM"] {
            let missing = codec(&track(id, &[]));
            assert!(matches!(missing, Err(VideoError::MissingCodecPrivateData(_))), "{id} {missing:?}");
            let invalid = codec(&track(id, &[0]));
            assert!(matches!(invalid, Err(VideoError::InvalidCodecPrivateData(_))), "{id} {invalid:?}");
        }
        for id in ["V_VP9", "V_MJPEG", "S_TEXT/UTF8"] {
            assert!(matches!(codec(&track(id, &[1])), Err(VideoError::UnsupportedMedia(_))), "{id}");
        }
        let wave = |format| [format, 0, 1, 0, 64, 31, 0, 0, 64, 31, 0, 0, 1, 0, 8, 0, 0, 0];
        assert_eq!(codec(&track("A_MS/ACM", &wave(7))).unwrap(), "ulaw");
        assert_eq!(codec(&track("A_MS/ACM", &wave(6))).unwrap(), "alaw");
        assert_eq!(codec(&track("A_AAC", &[0x12, 0x10])).unwrap(), "mp4a.40.2");
    }
}
