//! Damaged and hostile media: parsing and writing never panic, never allocate memory that the input does not justify, and the output is
//! well formed.

use std::borrow::Cow;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::FileFailurePersistence;
use streamlog::video::{
    CodecChanges, Frame, Media, PlacedMedia, SegmentPlace, Track, TrackKind, VideoError, fmp4_init,
    fmp4_segment, ts_segment, write_clip,
};

const AVC: &[u8] = &[
    1, 0x64, 0, 0x0B, 0xFF, 0xE1, 0, 25, 0x67, 0x64, 0, 0x0B, 0xAC, 0xD9, 0x43, 0x0F, 0xFB, 0xC0, 0x44, 0, 0,
    3, 0, 4, 0, 0, 3, 0, 0xC8, 0x3C, 0x50, 0xA6, 0x58, 1, 0, 4, 0x68, 0xEF, 0x8F, 0xCB, 0xFD, 0xF8, 0xF8, 0,
];

/// AAC-LC of 48 kHz with two channels.
const AAC: &[u8] = &[0x11, 0x90];

fn element(id: u32, content: &[u8]) -> Vec<u8> {
    let mut element: Vec<u8> = id.to_be_bytes().into_iter().skip_while(|&byte| byte == 0).collect();
    element.extend_from_slice(&(content.len() as u32 | 1 << 28).to_be_bytes());
    element.extend_from_slice(content);
    element
}

fn track(number: u8, kind: u8, codec: &[u8], private: &[u8], more: &[u8]) -> Vec<u8> {
    let fields = [
        element(0xD7, &[number]),
        element(0x83, &[kind]),
        element(0x86, codec),
        element(0x63A2, private),
        element(0x23_E383, &[2, 0x62, 0x5A, 0]),
        more.to_vec(),
    ];
    element(0xAE, &fields.concat())
}

/// A file with all features: pictures, two kinds of sound, each kind of lacing, header stripping, groups, tags, unknown sizes.
fn file() -> Vec<u8> {
    let stripped = element(
        0x6D80,
        &element(0x6240, &element(0x5034, &[element(0x4254, &[3]), element(0x4255, &[0, 0])].concat())),
    );
    let video =
        [element(0xE0, &[element(0xB0, &[1, 0]), element(0xBA, &[0x90])].concat()), stripped].concat();
    let audio = element(
        0xE1,
        &[element(0xB5, &48_000_f32.to_be_bytes()), element(0x9F, &[2]), element(0x6264, &[16])].concat(),
    );
    let tracks = [
        track(1, 1, b"V_MPEG4/ISO/AVC", AVC, &video),
        track(2, 2, b"A_AAC", AAC, &[audio.clone(), element(0x56AA, &[1, 0x45, 0x85, 0x55])].concat()),
        track(3, 2, b"A_PCM/INT/LIT", &[], &audio),
    ];
    let block =
        |track: u8, time: u8, flags: u8, data: &[u8]| [&[0x80 | track, 0, time, flags], data].concat();
    let cluster = [
        element(0xE7, &[0x0F, 0xA0]),
        element(0xA3, &block(1, 0, 0x80, &[0, 3, 0x65, 7, 7])),
        // Xiph's lacing, and EBML's, and that of equal sizes.
        element(0xA3, &block(2, 0, 0x82, &[2, 3, 2, 1, 1, 1, 2, 2, 3])),
        element(0xA3, &block(2, 64, 0x86, &[2, 0x83, 0xBE, 1, 1, 1, 2, 2, 3])),
        element(0xA3, &block(3, 0, 0x84, &[1, 1, 1, 1, 1, 2, 2, 2, 2])),
        element(
            0xA0,
            &[
                element(0xA1, &block(1, 80, 0, &[0, 2, 0x41, 7])),
                element(0x9B, &[40]),
                element(0xFB, &[0x81]),
            ]
            .concat(),
        ),
        element(0xEC, &[0; 9]),
        element(0xA3, &block(1, 40, 0, &[0, 2, 0x01, 7])),
    ];
    let tag =
        element(0x7373, &element(0x67C8, &[element(0x45A3, b"door"), element(0x4487, b"open")].concat()));
    let head = [
        element(0x1549_A966, &element(0x2A_D7B1, &[0x0F, 0x42, 0x40])),
        element(0x1654_AE6B, &tracks.concat()),
    ];
    let unknown = [0x01, 255, 255, 255, 255, 255, 255, 255];
    let parts: [&[u8]; 8] = [
        &element(0x1A45_DFA3, &element(0x4282, b"matroska")),
        &[0x18, 0x53, 0x80, 0x67],
        &unknown,
        &head.concat(),
        &[0x1F, 0x43, 0xB6, 0x75],
        &unknown,
        &cluster.concat(),
        &element(0x1254_C367, &tag),
    ];
    parts.concat()
}

/// Checks that boxes fill a file to the last byte, and those that have only boxes in them, too.
fn check_boxes(mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let size = u32::from_be_bytes(bytes[..4].try_into().unwrap()) as usize;
        assert!(size >= 8 && size <= bytes.len(), "a box of {size} bytes in {}", bytes.len());
        let (this, rest) = bytes.split_at(size);
        if [b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf", b"edts", b"mvex", b"dinf"]
            .contains(&this[4..8].try_into().unwrap())
        {
            check_boxes(&this[8..]);
        }
        bytes = rest;
    }
}

/// Checks that packets of each identifier are numbered one after the other, from one segment to the next.
fn check_packets(segments: &[u8]) {
    assert_eq!(segments.len() % 188, 0);
    let mut next = std::collections::HashMap::new();
    for packet in segments.chunks(188) {
        assert_eq!(packet[0], 0x47);
        let pid = u16::from_be_bytes([packet[1], packet[2]]) & 0x1FFF;
        assert!(packet[3] & 0x10 != 0, "each packet has a payload");
        let begins_anew = packet[3] & 0x20 != 0 && packet[4] > 0 && packet[5] & 0x80 != 0;
        let counter = packet[3] & 0x0F;
        let expected = next.insert(pid, (counter + 1) % 16).unwrap_or(0);
        assert!(begins_anew || counter == expected, "packet {counter} of {pid:#x}, not {expected}");
    }
}

/// Writes all formats that are possible, and checks them. Returns how many writers succeeded.
fn write_all(media: &Media<'_>, offset_ns: i64) -> usize {
    let mut count = 0;
    if let Ok(init) = fmp4_init(&media.tracks) {
        check_boxes(&init);
        count += 1;
    }
    for track in media.tracks.iter().map(|track| Some(track.number)).chain([None]) {
        let place = SegmentPlace { sequence: 1, offset_ns, end_ns: Some(offset_ns), track };
        if let Ok(segment) = fmp4_segment(media, place) {
            check_boxes(&segment);
            count += 1;
        }
    }
    if let Ok(segment) = ts_segment(media, offset_ns) {
        check_packets(&[&segment[..], &segment].concat());
        count += 1;
    }
    for changes in [CodecChanges::Describe, CodecChanges::Refuse] {
        let mut clip = vec![];
        let placed = [PlacedMedia { media, offset_ns }, PlacedMedia { media, offset_ns: 0 }];
        if write_clip(&placed, changes, &mut clip).is_ok() {
            check_boxes(&clip);
            count += 1;
        }
    }
    count
}

#[test]
fn all_of_a_fragment_is_read() {
    let file = file();
    let media = Media::parse(&file).expect("a file");
    let frames: Vec<_> = media
        .frames
        .iter()
        .map(|frame| (frame.track, frame.time_ns, &frame.data[..], frame.is_key))
        .collect();
    // AAC is earlier by its delay.
    let delay = 0x0145_8555;
    let aac = |millis: i64, index: i64| millis * 1_000_000 + index * 40_000_000 - delay;
    let wanted: [(u64, i64, &[u8], bool); 11] = [
        (1, 4_000_000_000, &[0, 0, 0, 3, 0x65, 7, 7], true),
        (2, aac(4_000, 0), &[1, 1, 1], true),
        (2, aac(4_000, 1), &[2, 2], true),
        (2, aac(4_000, 2), &[3], true),
        (2, aac(4_064, 0), &[1, 1, 1], true),
        (2, aac(4_064, 1), &[2, 2], true),
        (2, aac(4_064, 2), &[3], true),
        (3, 4_000_000_000, &[1, 1, 1, 1], true),
        (3, 4_040_000_000, &[2, 2, 2, 2], true),
        (1, 4_080_000_000, &[0, 0, 0, 2, 0x41, 7], false),
        (1, 4_040_000_000, &[0, 0, 0, 2, 0x01, 7], false),
    ];
    assert_eq!(frames, wanted);
    assert_eq!(media.timecode_ns, 4_000_000_000);
    assert_eq!(media.tags, [("door".to_owned(), "open".to_owned())]);
    assert_eq!((media.tracks[0].width, media.tracks[0].height), (256, 144));
    assert_eq!((media.tracks[1].sample_rate, media.tracks[1].channels), (48_000, 2));
    assert_eq!(media.tracks[0].codec_private, AVC);
    // All but MPEG-TS, which holds no PCM: the tracks together, and each by itself, and two clips.
    assert_eq!(write_all(&media, 0), 7);
}

#[test]
fn what_is_cut_off_is_an_error_and_no_panic() {
    let file = file();
    for length in 0..file.len() {
        if let Ok(media) = Media::parse(&file[..length]) {
            // With unknown sizes, an end between two elements is valid.
            write_all(&media, 0);
        }
    }
}

#[test]
fn lengths_that_lie_are_errors() {
    let file = file();
    let mut refused = 0;
    for at in 0..file.len() {
        for value in [0, 1, 0x7F, 0x80, 0xFE, 0xFF] {
            let mut damaged = file.clone();
            damaged[at] = value;
            match Media::parse(&damaged) {
                Ok(media) => drop(write_all(&media, 0)),
                Err(VideoError::InvalidMedia(_) | VideoError::UnsupportedMedia(_)) => refused += 1,
                Err(error) => panic!("{error}"),
            }
        }
    }
    assert!(refused > file.len(), "only {refused} were refused");
}

#[test]
fn lacing_does_not_blow_up_memory() {
    // Each block claims 256 frames of a byte.
    let block = element(0xA3, &[&[0x83, 0, 0, 0x84, 255][..], &[7; 256]].concat());
    let cluster = element(0x1F43_B675, &[element(0xE7, &[0]), block.repeat(2_000)].concat());
    let audio = element(0xE1, &[]);
    let tracks = element(0x1654_AE6B, &track(3, 2, b"A_PCM/INT/LIT", &[], &audio));
    let file = [element(0x1A45_DFA3, &[]), element(0x1853_8067, &[tracks, cluster].concat())].concat();
    let refused = Media::parse(&file).expect_err("more frames than there can be");
    assert!(refused.to_string().contains("262,144 frames"), "{refused}");
    // Empty frames do not count.
    let block = element(0xA3, &[0x83, 0, 0, 0x84, 255]);
    let cluster = element(0x1F43_B675, &[element(0xE7, &[0]), block.repeat(2_000)].concat());
    let tracks = element(0x1654_AE6B, &track(3, 2, b"A_PCM/INT/LIT", &[], &element(0xE1, &[])));
    let file = [element(0x1A45_DFA3, &[]), element(0x1853_8067, &[tracks, cluster].concat())].concat();
    assert_eq!(Media::parse(&file).expect("a file").frames, []);
}

fn any_time() -> impl Strategy<Value = i64> {
    prop_oneof![8 => -100_000_000..5_000_000_000_i64, 1 => any::<i64>(), 1 => select(vec![i64::MIN, i64::MAX, 0])]
}

fn any_track() -> impl Strategy<Value = Track> {
    let kinds = select(vec![TrackKind::Video, TrackKind::Audio, TrackKind::Other]);
    let codecs = select(vec![
        ("V_MPEG4/ISO/AVC", AVC),
        ("V_MPEGH/ISO/HEVC", AVC),
        ("A_AAC", AAC),
        ("A_MS/ACM", &[7, 0, 1, 0, 0x40, 0x1F, 0, 0, 0x40, 0x1F, 0, 0, 1, 0, 8, 0]),
        ("A_PCM/INT/LIT", &[]),
        ("V_MJPEG", &[]),
    ]);
    let private = prop_oneof![9 => Just(None), 1 => vec(any::<u8>(), 0..60).prop_map(Some)];
    let numbers =
        (prop_oneof![9 => 1..4_u64, 1 => any::<u64>()], prop_oneof![9 => Just(48_000), 1 => any::<u32>()]);
    let sizes = (
        prop_oneof![9 => 1..3_u32, 1 => any::<u32>()],
        select(vec![0, 8, 16, 24, 32, 77]),
        proptest::option::of(any::<u64>()),
    );
    (kinds, codecs, private, numbers, sizes, 0..6_u8).prop_map(
        |(
            kind,
            (codec_id, private),
            other,
            (number, sample_rate),
            (channels, bit_depth, default_duration_ns),
            right,
        )| Track {
            number,
            // Usually the kind that matches the codec.
            kind: match (right, codec_id.starts_with("V_")) {
                (0, _) => kind,
                (_, true) => TrackKind::Video,
                _ => TrackKind::Audio,
            },
            codec_id: codec_id.to_owned(),
            codec_private: other.unwrap_or_else(|| private.to_vec()),
            name: None,
            language: (right == 1).then(|| "deu".to_owned()),
            width: channels.wrapping_mul(77),
            height: sample_rate,
            sample_rate,
            channels,
            bit_depth,
            default_duration_ns,
            codec_delay_ns: 0,
        },
    )
}

prop_compose! {
    fn any_frame()(
        track in 1..4_u64,
        time_ns in any_time(),
        duration_ns in proptest::option::of(prop_oneof![1..100_000_000_u64, any::<u64>()]),
        is_key in any::<bool>(),
        data in prop_oneof![
            vec(any::<u8>(), 0..9),
            (1..9_000_usize).prop_map(|length| vec![7; length]),
            (1..400_u16).prop_map(|length| [&[0, 0, (length >> 8) as u8, length as u8][..], &vec![0x65; length.into()]].concat()),
        ],
    ) -> Frame<'static> {
        Frame { track, time_ns, duration_ns, is_key, data: Cow::Owned(data) }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct("tests/video/media_hostile.regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn damaged_files_are_read_or_refused(
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        offset_ns in any_time(),
    ) {
        let mut file = file();
        for (at, value) in changes {
            let at = at.index(file.len());
            file[at] = value;
        }
        if let Ok(media) = Media::parse(&file) {
            write_all(&media, offset_ns);
        }
    }

    #[test]
    fn any_media_is_written_or_refused(
        tracks in vec(any_track(), 1..4),
        frames in vec(any_frame(), 0..40),
        offset_ns in any_time(),
    ) {
        write_all(&Media { tracks, frames, timecode_ns: 0, tags: vec![] }, offset_ns);
    }
}
