//! Tests of what no player shows: bit-level numbers, headers, decoding orders.

use std::borrow::Cow;

use super::aac::AudioConfig;
use super::bits::Bits;
use super::nal::ParameterSets;
use super::timing::{self, Decoding, Placement, Sample, Scale};
use super::{Codec, SegmentPlace, fmp4_segment, ts_segment};
use crate::video::{Frame, Media, Track, TrackKind};

/// The output of x264 for 192 by 108 pixels with three B frames: the profile has a VUI with two frames of reordering.
const AVC: &[u8] = &[
    1, 0x64, 0, 0x0B, 0xFF, 0xE1, 0, 25, 0x67, 0x64, 0, 0x0B, 0xAC, 0xD9, 0x43, 0x0F, 0xFB, 0xC0, 0x44, 0, 0,
    3, 0, 4, 0, 0, 3, 0, 0xC8, 0x3C, 0x50, 0xA6, 0x58, 1, 0, 4, 0x68, 0xEF, 0x8F, 0xCB, 0xFD, 0xF8, 0xF8, 0,
];

fn video_track() -> Track {
    Track {
        number: 1,
        kind: TrackKind::Video,
        codec_id: "V_MPEG4/ISO/AVC".to_owned(),
        codec_private: AVC.to_vec(),
        name: None,
        language: None,
        width: 192,
        height: 108,
        sample_rate: 0,
        channels: 0,
        bit_depth: 0,
        default_duration_ns: None,
        codec_delay_ns: 0,
    }
}

fn audio_track(codec_id: &str, codec_private: &[u8]) -> Track {
    Track {
        kind: TrackKind::Audio,
        codec_id: codec_id.to_owned(),
        codec_private: codec_private.to_vec(),
        sample_rate: 48_000,
        channels: 2,
        ..video_track()
    }
}

fn frames(times_ms: &[i64], bytes: usize) -> Vec<Frame<'static>> {
    let frame = |&millis: &i64| Frame {
        track: 1,
        time_ns: millis * 1_000_000,
        duration_ns: None,
        is_key: false,
        data: Cow::Owned([&[0, 0, 0, bytes as u8 - 4][..], &vec![0x41; bytes - 4]].concat()),
    };
    let mut frames: Vec<_> = times_ms.iter().map(frame).collect();
    if let Some(first) = frames.first_mut() {
        first.is_key = true;
    }
    frames
}

fn timed(
    track: &Track,
    frames: &[Frame<'_>],
    decoding: Decoding,
    after: Option<i64>,
) -> Vec<(i64, i64, u32)> {
    let codec = Codec::of(track).expect("a codec");
    let placement = Placement { offset_ns: 0, after, decoding };
    let samples = timing::samples(track, Scale::of(track, &codec), frames.iter(), placement).expect("times");
    let times = |sample: &Sample<'_>| (sample.presentation, sample.decode, sample.duration);
    samples.iter().map(times).collect()
}

#[test]
fn numbers_have_as_many_bits_as_they_say() {
    let mut bits = Bits::new(&[0b1010_0110, 0b0001_0100, 0xFF]);
    assert_eq!((bits.golomb(), bits.golomb(), bits.golomb()), (Some(0), Some(1), Some(2)));
    assert_eq!(bits.bits(5), Some(0b0_0001));
    assert_eq!(bits.skip(3), Some(()));
    assert_eq!(bits.bits(10), None, "only nine are left");
    let signed = |byte| Bits::new(&[byte]).signed_golomb();
    assert_eq!(
        [0x80, 0b0100_0000, 0b0110_0000, 0b0010_0000].map(signed),
        [Some(0), Some(1), Some(-1), Some(2)]
    );
    assert_eq!(Bits::new(&[0; 9]).golomb(), None, "no number has more than 32 bits");
}

#[test]
fn configurations_of_aac_are_understood() {
    let config =
        |bytes: &[u8]| AudioConfig::read(bytes).map(|config| (config.sample_rate, config.frame_samples));
    assert_eq!(config(&[0x11, 0x90]).ok(), Some((48_000, 1_024)));
    assert_eq!(config(&[0x12, 0x14]).ok(), Some((44_100, 960)), "short frames");
    // HE-AAC: 24 kHz, which the decoder doubles.
    assert_eq!(config(&[0x2B, 0x11, 0x88, 0]).ok(), Some((24_000, 1_024)));
    // A rate of its own.
    assert_eq!(config(&[0x17, 0x80, 0x1F, 0x40, 0x10]).ok(), Some((16_000, 1_024)));
    assert!(config(&[0x11]).is_err());
    assert!(config(&[0x16, 0x90]).is_err(), "there is no such rate");

    let mut out = vec![];
    AudioConfig::read(&[0x11, 0x90]).expect("AAC").write_adts(&[7; 100], &mut out).expect("ADTS");
    // AAC-LC, 48 kHz, two channels, 107 bytes.
    assert_eq!(out[..7], [0xFF, 0xF1, 0x4C, 0x80, 0x0D, 0x7F, 0xFC]);
    let too_long = AudioConfig::read(&[0x11, 0x90]).expect("AAC").write_adts(&[7; 8_185], &mut vec![]);
    assert!(too_long.is_err());
}

#[test]
fn parameters_say_how_far_decoding_is_ahead() {
    assert_eq!(ParameterSets::of_h264(AVC).expect("parameters").reorder_frames, Some(2));
    let cut_off = &AVC[..AVC.len() - 6];
    assert!(ParameterSets::of_h264(cut_off).is_err());
    assert!(ParameterSets::of_h264(&AVC[1..]).is_err(), "no version");
}

#[test]
fn lengths_of_nal_units_become_start_codes() {
    let sets = ParameterSets::of_h264(AVC).expect("parameters");
    let mut out = vec![];
    let frame = [0, 0, 0, 2, 9, 0xF0, 0, 0, 0, 0, 0, 0, 0, 3, 0x65, 1, 2];
    sets.write_frame(&frame, &mut out, |first| first & 0x1F == 9).expect("a frame");
    assert_eq!(out, [0, 0, 0, 1, 0x65, 1, 2], "without the delimiter, and without a unit of nothing");
    assert!(sets.write_frame(&[0, 0, 0, 3, 0x65, 1], &mut out, |_| false).is_err());
    assert!(sets.write_frame(&[0, 0, 0], &mut out, |_| false).is_err());
}

#[test]
fn decoding_follows_from_the_order_of_frames() {
    // I, P, B, B, B, P, B: each is presented when it should be.
    let frames = frames(&[0, 160, 80, 40, 120, 240, 200], 9);
    let track = video_track();
    let ticks = |millis: i64| millis * 90;
    let presented = |times: &[(i64, i64, u32)]| times.iter().map(|time| time.0 / 90).collect::<Vec<_>>();
    let at_presentation = timed(&track, &frames, Decoding::AtPresentation, None);
    assert_eq!(presented(&at_presentation), [0, 160, 80, 40, 120, 240, 200]);
    let decoded: Vec<_> = at_presentation.iter().map(|time| time.1).collect();
    assert_eq!(decoded, [0, 40, 80, 120, 160, 200, 240].map(ticks));

    // Two frames ahead is enough, three are as good, and one becomes two.
    for (least, ahead) in [(1, 2), (2, 2), (3, 3)] {
        let times = timed(&track, &frames, Decoding::Ahead(least), None);
        assert_eq!(presented(&times), [0, 160, 80, 40, 120, 240, 200]);
        let decoded: Vec<_> = times.iter().map(|time| time.1).collect();
        let wanted: Vec<_> = (0..7).map(|index| ticks((index - ahead) * 40)).collect();
        assert_eq!(decoded, wanted, "{least}");
        assert!(times.iter().all(|time| time.1 <= time.0 && time.2 == 40 * 90));
    }

    // Decoding cannot begin before the beginning.
    let times = timed(&track, &frames, Decoding::Ahead(2), Some(0));
    let decoded: Vec<_> = times.iter().map(|time| time.1).collect();
    assert_eq!(decoded[..3], [0, 1, 2]);
    assert_eq!(presented(&times), [0, 160, 80, 40, 120, 240, 200]);
}

/// The first `tfdt` and the durations in the first `trun` of a segment.
fn decoding_of(segment: &[u8]) -> (u64, Vec<u32>) {
    let content = |kind: &[u8]| {
        let at = segment.windows(4).position(|name| name == kind).expect("a box") + 4;
        &segment[at..]
    };
    let number = |bytes: &[u8]| u32::from_be_bytes(bytes[..4].try_into().expect("four bytes"));
    let base = u64::from_be_bytes(content(b"tfdt")[4..12].try_into().expect("eight bytes"));
    let run = content(b"trun");
    let count = number(&run[4..]) as usize;
    (base, run[12..].chunks(16).take(count).map(number).collect())
}

#[test]
fn the_last_picture_lasts_until_the_next_segment() {
    let times = [0, 160, 80, 40, 120, 240, 200];
    let media =
        Media { tracks: vec![video_track()], frames: frames(&times, 9), timecode_ns: 0, tags: vec![] };
    // The next fragment begins after a pause.
    let place = |offset_ns, end_ns| SegmentPlace { offset_ns, end_ns, ..SegmentPlace::default() };
    let (first, second) = (1_000_000_000, 4_000_000_000);
    let segment = fmp4_segment(&media, place(first, Some(second))).expect("a segment");
    let (base, durations) = decoding_of(&segment);
    let next = fmp4_segment(&media, place(second, None)).expect("a segment");
    let (next_base, next_durations) = decoding_of(&next);
    assert_eq!(durations[..6], [40 * 90; 6]);
    assert_eq!(base + u64::from(durations.iter().sum::<u32>()), next_base);
    assert_eq!(next_durations, [40 * 90; 7]);
}

#[test]
fn sound_goes_on_without_gaps_unless_there_are_any() {
    let track = audio_track("A_AAC", &[0x11, 0x90]);
    // Times in whole milliseconds of frames of 21.333 ms, and a gap of a second.
    let frames = frames(&[0, 21, 43, 64, 1_064, 1_085], 9);
    let times = timed(&track, &frames, Decoding::AtPresentation, None);
    let wanted = [0, 1_024, 2_048, 3_072, 51_072, 52_096];
    assert_eq!(times.iter().map(|time| time.0).collect::<Vec<_>>(), wanted);
    assert_eq!(times[3].2, 48_000, "the gap belongs to the frame before it");
    // Sound from before also continues.
    let times = timed(&track, &frames[1..3], Decoding::AtPresentation, Some(1_024));
    assert_eq!(times.iter().map(|time| time.0).collect::<Vec<_>>(), [1_024, 2_048]);
    // Sound whose times advance too fast keeps the producer's times.
    let fast = frames_of_sound_that_is_too_short();
    let times = timed(&track, &fast, Decoding::AtPresentation, None);
    assert_eq!(times.last().map(|time| time.0), Some(99 * 960));
}

/// Frames of 1,024 samples each 20 ms, in which there is room for 960.
fn frames_of_sound_that_is_too_short() -> Vec<Frame<'static>> {
    frames(&(0..100).map(|index| index * 20).collect::<Vec<_>>(), 9)
}

#[test]
fn packets_are_numbered_on_from_segment_to_segment() {
    // Frames of all sizes, down to those with fewer bytes than the packets that are needed to fill the numbers.
    for bytes in [5, 100, 160, 183, 184, 185, 200] {
        for count in 1..20 {
            let times: Vec<_> = (0..count).map(|index| index * 40).collect();
            let media = Media {
                tracks: vec![video_track()],
                frames: frames(&times, bytes),
                timecode_ns: 0,
                tags: vec![],
            };
            let segment = ts_segment(&media, 1_000_000_000).expect("a segment");
            let counters =
                segment.chunks(188).filter(|packet| packet[1] & 0x1F == 1).map(|packet| packet[3] & 0x0F);
            let counters: Vec<_> = counters.collect();
            let wanted: Vec<_> = (0..16).cycle().take(counters.len()).collect();
            assert_eq!(counters, wanted);
            assert_eq!(counters.len() % 16, 0);
        }
    }
}
