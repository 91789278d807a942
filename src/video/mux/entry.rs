//! Descriptions of samples: which codec, with which parameters.

use super::Codec;
use super::boxes::Boxes;
use super::codec::not_in;
use crate::video::{Track, TrackKind, VideoError};

/// Checks that MP4 can hold a track's codec, and that Kinesis' players support it.
pub(super) fn check(track: &Track, codec: &Codec) -> Result<(), VideoError> {
    match codec {
        Codec::MotionJpeg => Err(not_in(track, "MP4")),
        _ => Ok(()),
    }
}

/// Appends a sample entry.
pub(super) fn write(boxes: &mut Boxes, track: &Track, codec: &Codec) {
    let private = &track.codec_private;
    match codec {
        Codec::H264(_) => {
            visual(boxes, b"avc1", track, |boxes| boxes.add(b"avcC", |boxes| boxes.raw(private)))
        }
        Codec::H265(_) => {
            visual(boxes, b"hvc1", track, |boxes| boxes.add(b"hvcC", |boxes| boxes.raw(private)))
        }
        Codec::MotionJpeg => {}
        Codec::Aac(config) => {
            audio(boxes, b"mp4a", track, config.sample_rate, |boxes| {
                elementary_stream(boxes, track, private)
            });
        }
        Codec::MuLaw => audio(boxes, b"ulaw", track, track.sample_rate, |_| {}),
        Codec::ALaw => audio(boxes, b"alaw", track, track.sample_rate, |_| {}),
        Codec::Pcm { bytes_per_sample, is_big_endian } => {
            audio(boxes, b"ipcm", track, track.sample_rate, |boxes| {
                boxes.add_full(b"pcmC", 0, 0, |boxes| {
                    boxes.u8(u8::from(!is_big_endian));
                    boxes.u8(*bytes_per_sample as u8 * 8);
                });
            });
        }
    }
}

fn visual(boxes: &mut Boxes, kind: &[u8; 4], track: &Track, configuration: impl FnOnce(&mut Boxes)) {
    boxes.add(kind, |boxes| {
        boxes.zeros(6);
        boxes.u16(1);
        boxes.zeros(16);
        boxes.u16(track.width.min(0xFFFF) as u16);
        boxes.u16(track.height.min(0xFFFF) as u16);
        // 72 dots per inch, as everywhere.
        boxes.u32(72 << 16);
        boxes.u32(72 << 16);
        boxes.u32(0);
        boxes.u16(1);
        boxes.zeros(32);
        boxes.u16(24);
        boxes.u16(0xFFFF);
        configuration(boxes);
    });
}

fn audio(
    boxes: &mut Boxes,
    kind: &[u8; 4],
    track: &Track,
    sample_rate: u32,
    configuration: impl FnOnce(&mut Boxes),
) {
    boxes.add(kind, |boxes| {
        boxes.zeros(6);
        boxes.u16(1);
        boxes.zeros(8);
        boxes.u16(track.channels as u16);
        boxes.u16(if track.bit_depth == 0 || kind != b"ipcm" { 16 } else { track.bit_depth as u16 });
        boxes.zeros(4);
        // A higher rate does not fit, and is in the time scale.
        boxes.u32(if sample_rate > 0xFFFF { 0 } else { sample_rate << 16 });
        configuration(boxes);
    });
}

/// Appends the descriptors of MPEG-4 systems around the configuration of AAC.
fn elementary_stream(boxes: &mut Boxes, track: &Track, private: &[u8]) {
    let specific = descriptor(0x05, private);
    let mut decoder = vec![0x40, 0x15, 0, 0, 0];
    decoder.extend_from_slice(&[0; 8]);
    decoder.extend_from_slice(&specific);
    let mut stream = ((track.number & 0xFFFF) as u16).to_be_bytes().to_vec();
    stream.push(0);
    stream.extend_from_slice(&descriptor(0x04, &decoder));
    stream.extend_from_slice(&descriptor(0x06, &[2]));
    boxes.add_full(b"esds", 0, 0, |boxes| boxes.raw(&descriptor(0x03, &stream)));
}

/// Returns a descriptor: a tag, a size of seven bits a byte, and its content.
fn descriptor(tag: u8, content: &[u8]) -> Vec<u8> {
    let size = content.len();
    let digit = |shift: usize| (size >> shift & 0x7F) as u8;
    let header = [tag, digit(21) | 0x80, digit(14) | 0x80, digit(7) | 0x80, digit(0)];
    [&header[..], content].concat()
}

/// Appends the common part of each track: the kind of media, and where it is.
pub(super) fn write_media_information(boxes: &mut Boxes, kind: TrackKind, tables: impl FnOnce(&mut Boxes)) {
    boxes.add(b"minf", |boxes| {
        if kind == TrackKind::Video {
            boxes.add_full(b"vmhd", 0, 1, |boxes| boxes.zeros(8));
        } else {
            boxes.add_full(b"smhd", 0, 0, |boxes| boxes.zeros(4));
        }
        boxes.add(b"dinf", |boxes| {
            boxes.add_full(b"dref", 0, 0, |boxes| {
                boxes.u32(1);
                // In this file.
                boxes.add_full(b"url ", 0, 1, |_| {});
            });
        });
        boxes.add(b"stbl", tables);
    });
}

/// Appends the handler of a track.
pub(super) fn write_handler(boxes: &mut Boxes, kind: TrackKind) {
    let (handler, name): (&[u8], &[u8]) = match kind {
        TrackKind::Video => (b"vide", b"Video\0"),
        _ => (b"soun", b"Sound\0"),
    };
    boxes.add_full(b"hdlr", 0, 0, |boxes| {
        boxes.u32(0);
        boxes.raw(handler);
        boxes.zeros(12);
        boxes.raw(name);
    });
}

/// Returns a language as three letters of five bits. An unknown language is `und`.
pub(super) fn language(track: &Track) -> u16 {
    let language = track.language.as_deref().unwrap_or("und").as_bytes();
    let is_code = language.len() == 3 && language.iter().all(u8::is_ascii_lowercase);
    let language = if is_code { language } else { b"und" };
    language.iter().fold(0, |code, &letter| code << 5 | u16::from(letter - b'`'))
}
