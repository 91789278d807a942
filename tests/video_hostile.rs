//! Video that is truncated, damaged or has false sizes: it ends with an error id, without a panic, and in little memory.
#![cfg(feature = "video")]

mod common;
#[path = "common/peak.rs"]
mod peak;

use std::sync::{Mutex, MutexGuard, PoisonError};

use common::scratch;
use common::video::mkv::{self, Size, TestTrack, cluster, head, simple_block, simple_cluster, timecode};
use proptest::collection::vec;
use proptest::prelude::*;
use streamlog::video::{
    AckErrorId, FragmentSelector, IngestOptions, StartSelector, VideoStream, VideoStreamOptions,
};
use streamlog::{Durability, Maintenance, Timestamp};
use tempfile::TempDir;

/// The memory of all tests together is counted.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

fn open() -> (TempDir, VideoStream) {
    let directory = scratch();
    let options = VideoStreamOptions::new().maintenance(Maintenance::Manual).durability(Durability::Process);
    let stream = options.stream(|it| it.segment_bytes(4 << 20).record_bytes_max(1 << 20));
    let stream = stream.open(directory.path().join("door")).unwrap();
    (directory, stream)
}

/// The stored result of an ingest: times, lengths and bytes.
type Stored = Vec<(Timestamp, std::time::Duration, Vec<u8>)>;

/// Ingests data in pieces. Returns what was stored, and how it ended.
fn ingest(stream: &VideoStream, data: &[u8], pieces: &[usize]) -> (Stored, Option<AckErrorId>) {
    let before = stream.newest().map(|info| info.number);
    let mut ingest =
        stream.ingest(IngestOptions::new().producer_start(Timestamp::default()), |_| {}).unwrap();
    let mut rest = data;
    let mut written = Ok(());
    for &len in pieces.iter().cycle() {
        let (piece, behind) = rest.split_at(len.clamp(1, rest.len().max(1)).min(rest.len()));
        rest = behind;
        written = ingest.write(piece);
        if rest.is_empty() || written.is_err() {
            break;
        }
    }
    let ended = written.and_then(|()| ingest.finish().map(drop));
    let infos = stream.fragments(&FragmentSelector::All).unwrap();
    let new = infos.iter().filter(|info| Some(info.number) > before);
    let stored = new.map(|info| {
        let fragment = stream.fragment(info.number).unwrap().unwrap();
        (info.producer_time, info.length, fragment.matroska().to_vec())
    });
    let stored = stored.collect();
    (stored, ended.err().map(|error| error.error_id().expect("a refusal has an id")))
}

/// All features of Matroska together, in little space.
fn rich() -> Vec<u8> {
    let tracks = [TestTrack::new(1), TestTrack { default_duration: Some(20_000_000), ..TestTrack::new(200) }];
    let both = |at: u64| {
        [
            mkv::element(0xBF, &[1, 2, 3, 4]),
            timecode(at),
            simple_block(1, 0, b"picture"),
            mkv::laced_block(200, 0, 2, b"ab"),
            mkv::element(mkv::VOID, &[0; 3]),
            mkv::block_group(1, 40, Some(40), b"picture"),
        ]
    };
    let parts = [
        head(&tracks),
        mkv::tags(&[("motion", "true")]),
        cluster(Size::Right, &both(0)),
        mkv::element(mkv::CUES, &[7; 9]),
        cluster(Size::Unknown, &both(100)),
        mkv::document(),
        mkv::element(
            mkv::SEGMENT,
            &[mkv::info(Some(2_000_000)), mkv::tracks(&tracks), cluster(Size::Unknown, &both(200))].concat(),
        ),
    ];
    parts.concat()
}

#[test]
fn l6_data_that_ends_anywhere_keeps_what_was_whole() {
    let _alone = alone();
    let (_directory, stream) = open();
    let data = rich();
    let (whole, ended) = ingest(&stream, &data, &[usize::MAX]);
    assert_eq!((whole.len(), ended), (3, None));
    for end in 0..data.len() {
        let (stored, ended) = ingest(&stream, &data[..end], &[usize::MAX]);
        assert!(stored.len() <= whole.len(), "{end}");
        // The last one may be an unknown-size cluster that ends a little early.
        let firm = stored.len().saturating_sub(1);
        assert_eq!(stored[..firm], whole[..firm], "{end}");
        let expected = [None, Some(AckErrorId::StreamReadError), Some(AckErrorId::FramesMissingForTrack)];
        let without_timecode = Some(AckErrorId::InvalidMkvData);
        assert!(expected.contains(&ended) || ended == without_timecode, "{end}: {ended:?}");
    }
}

#[test]
fn l6_any_length_may_lie() {
    let _alone = alone();
    let (_directory, stream) = open();
    let data = rich();
    // Wherever an element's header may begin, its size becomes huge.
    let peak = peak::peak_bytes(|| {
        for at in 0..data.len() {
            for size in [
                &[0x01, 255, 255, 255, 255, 255, 255, 254][..],
                &[0x08, 255, 255, 255, 255],
                &[0x40, 0],
                &[0xFF],
                &[0x80],
            ] {
                let mut lying = data.clone();
                let end = (at + size.len()).min(lying.len());
                lying[at..end].copy_from_slice(&size[..end - at]);
                ingest(&stream, &lying, &[usize::MAX]);
                lying.splice(at..at + 1, size.iter().copied());
                ingest(&stream, &lying, &[usize::MAX]);
            }
        }
    });
    assert!(peak < 16 << 20, "{peak} bytes");
}

#[test]
fn l4_memory_stays_bounded_whatever_comes() {
    let _alone = alone();
    let (_directory, stream) = open();
    let piece = vec![0xEC; 1 << 20];
    let head = head(&[TestTrack::new(1)]);
    let begin = [mkv::document(), mkv::sized(mkv::SEGMENT, Size::Unknown, &[])].concat();
    let said = |id| mkv::sized(id, Size::Said(1 << 40), &[]);
    let endless = [
        (said(mkv::EBML), "a header without end"),
        ([begin.clone(), said(mkv::TRACKS)].concat(), "tracks without end"),
        ([begin, said(mkv::TAGS)].concat(), "tags without end"),
        ([head.clone(), said(mkv::CUES)].concat(), "cues without end, which are passed over"),
        ([head.clone(), said(mkv::CLUSTER)].concat(), "a cluster without end"),
        (
            [head.clone(), cluster(Size::Unknown, &[timecode(0)]), said(mkv::SIMPLE_BLOCK)].concat(),
            "a frame without end",
        ),
        (
            [head.clone(), cluster(Size::Unknown, &[timecode(0)]), said(mkv::VOID)].concat(),
            "nothing without end",
        ),
    ];
    for (data, what) in endless {
        let mut refused = None;
        let peak = peak::peak_bytes(|| {
            let mut ingest = stream.ingest(IngestOptions::new(), |_| {}).unwrap();
            let pieces = std::iter::once(&data).chain(std::iter::repeat_n(&piece, 64));
            refused = pieces.map(|piece| ingest.write(piece)).find_map(Result::err);
        });
        assert!(peak < 8 << 20, "{what}: {peak} bytes");
        assert_eq!(refused.is_none(), what.contains("passed over"), "{what}: {refused:?}");
    }
    // Clusters of a few bytes, each with the largest header.
    let mut tracks = TestTrack::new(1);
    tracks.private = vec![7; 900 << 10];
    let peak = peak::peak_bytes(|| {
        let mut ingest = stream.ingest(IngestOptions::new(), |_| {}).unwrap();
        ingest.write(&mkv::head(&[tracks])).unwrap();
        (0..100).for_each(|at| ingest.write(&simple_cluster(at, 1, b"x")).unwrap());
    });
    assert!(peak < 16 << 20, "{peak} bytes");
}

/// An arbitrary element from a misbehaving producer.
fn part() -> impl Strategy<Value = Vec<u8>> {
    let size = prop_oneof![Just(Size::Right), Just(Size::Unknown)];
    let frame = (any::<bool>(), 0i16..900, 1u8..4, vec(any::<u8>(), 0..300)).prop_map(
        |(is_group, at, frames, data)| match (is_group, frames) {
            (true, _) => mkv::block_group(1, at, (frames > 1).then_some(40), &data),
            (false, 1) => simple_block(1, at, &data),
            _ => mkv::laced_block(1, at, frames, &data),
        },
    );
    // A byte in place of the timecode.
    let of_frames =
        |(size, frames): (Size, Vec<Vec<u8>>)| cluster(size, &[vec![vec![0x10]], frames].concat());
    prop_oneof![
        4 => (size, vec(frame, 1..8)).prop_map(of_frames),
        1 => vec(0u8..255, 0..40).prop_map(|bytes| mkv::element(mkv::VOID, &bytes)),
        1 => Just(mkv::tags(&[("motion", "true")])),
        1 => Just(head(&[TestTrack::new(1)])),
    ]
}

/// Gives each cluster of a list its timecode.
fn with_timecodes(parts: Vec<Vec<u8>>) -> Vec<u8> {
    let mut data = head(&[TestTrack::new(1)]);
    for (number, part) in (0u64..).zip(parts) {
        if part.starts_with(&mkv::CLUSTER.to_be_bytes()) {
            let read = mkv::read(&part);
            let children = [timecode(number * 1_000), read[0].payload[1..].to_vec()].concat();
            let is_unknown = part[5..12] == [255; 7];
            let size = if is_unknown { Size::Unknown } else { Size::Right };
            data.extend(mkv::sized(mkv::CLUSTER, size, &children));
        } else {
            data.extend(part);
        }
    }
    data
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn pieces_of_any_size_give_the_same_fragments(
        parts in vec(part(), 1..12),
        pieces in vec(prop_oneof![1usize..4, 1usize..60, 1usize..5_000], 1..20),
    ) {
        let _alone = alone();
        let data = with_timecodes(parts);
        let (_directory, stream) = open();
        let (whole, ended) = ingest(&stream, &data, &[usize::MAX]);
        prop_assert_eq!(ended, None);
        let clusters = data.windows(4).filter(|it| *it == mkv::CLUSTER.to_be_bytes()).count();
        prop_assert_eq!(whole.len(), clusters);
        prop_assert_eq!(&ingest(&stream, &data, &pieces).0, &whole);
        prop_assert_eq!(&ingest(&stream, &data, &[1]).0, &whole);
    }

    #[test]
    fn l6_damage_is_refused_or_stored_but_never_a_panic(
        parts in vec(part(), 1..6),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        pieces in vec(1usize..500, 1..5),
    ) {
        let _alone = alone();
        let mut data = with_timecodes(parts);
        for (at, byte) in damage {
            let at = at.index(data.len());
            data[at] = byte;
        }
        let (_directory, stream) = open();
        let (whole, ended) = ingest(&stream, &data, &[usize::MAX]);
        prop_assert_eq!(ingest(&stream, &data, &pieces), (whole.clone(), ended));
        // Stored fragments can be read, and sent again.
        let mut read = vec![];
        let mut media = stream.get_media(StartSelector::Earliest).unwrap().without_waiting();
        std::io::Read::read_to_end(&mut media, &mut read).unwrap();
        prop_assert_eq!(read.is_empty(), whole.is_empty());
        for (time, length, matroska) in whole {
            let again = ingest(&stream, &matroska, &pieces);
            prop_assert_eq!(again, (vec![(time, length, matroska)], None));
        }
    }

    #[test]
    fn l6_any_bytes_are_taken_or_refused(bytes in vec(any::<u8>(), 0..400), with_head in any::<bool>()) {
        let _alone = alone();
        let (_directory, stream) = open();
        let data = if with_head { [head(&[TestTrack::new(1)]), bytes].concat() } else { bytes };
        ingest(&stream, &data, &[usize::MAX]);
    }
}
