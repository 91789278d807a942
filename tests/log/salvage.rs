//! Salvage of damaged streams, which drops only what is damaged: P5, P6, P7, P9, P11.

use crate::common;

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use streamlog::{Error, Position, PutRecord, Retention, ShardId, Stream};

const SHARD: ShardId = ShardId::new(0);
const HEADER_PAGE_BYTES: usize = 4096;

/// Returns the data of a record by its number. A few dozen records fill some segments.
fn data_of(number: u64) -> Vec<u8> {
    let mut data = number.to_le_bytes().to_vec();
    data.resize(8 + (number * 7_919 % 3_000) as usize, number as u8);
    data
}

/// Puts the record `next`, or a batch of 5 records if `next` is one less than a multiple of 4. Returns the number after them.
fn put_next(stream: &Stream, next: u64) -> u64 {
    let count = if next % 4 == 3 { 5 } else { 1 };
    let data: Vec<_> = (next..next + count).map(data_of).collect();
    let records: Vec<_> = data.iter().map(|data| PutRecord::new("key", data)).collect();
    for (outcome, number) in stream.put_batch(&records).unwrap().into_iter().zip(next..) {
        let receipt = outcome.unwrap();
        assert_eq!((receipt.shard, receipt.sequence), (SHARD, number.into()));
    }
    next + count
}

/// Makes a stream of one shard with sealed segments and, unless it is closed, unsealed ones. Everything is synced. Returns how many
/// records it holds.
fn build(path: &Path, is_closed: bool) -> u64 {
    let running = path.with_extension("running");
    let stream = common::small(&common::clock()).open(&running).unwrap();
    let mut count = 0;
    while common::segment_files(&running, 0).len() < 5 {
        count = put_next(&stream, count);
        if common::segment_files(&running, 0).len() < 3 {
            stream.maintain().unwrap();
        }
    }
    for _ in 0..8 {
        count = put_next(&stream, count);
    }
    stream.sync().unwrap();
    if is_closed {
        stream.close().unwrap();
        fs::rename(&running, path).unwrap();
    } else {
        common::copy_dir(&running, path);
    }
    count
}

/// Reads a shard, skips what is lost, and returns the lost numbers.
fn read_around(stream: &Stream, count: u64) -> Vec<u64> {
    let mut lost = vec![];
    let mut iterator = stream.iterator(SHARD, Position::TrimHorizon).unwrap();
    let mut next = 0;
    loop {
        match iterator.next_batch(7) {
            Ok(batch) if batch.is_empty() => break,
            Ok(batch) => {
                for record in &batch {
                    assert_eq!(record.sequence().get(), next, "P6: no record is skipped");
                    assert_eq!(record.data(), data_of(next), "P9: record {next}");
                    next += 1;
                }
            }
            Err(Error::Lost { shard: SHARD, first, end }) => {
                assert_eq!(first.get(), next);
                assert!(iterator.next_batch(7).is_err(), "the error stays until the reader skips");
                let skipped = iterator.skip_lost().unwrap();
                assert!(skipped >= end.get() - first.get());
                lost.extend(next..next + skipped);
                next += skipped;
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(next, count, "P6: up to the end");
    lost
}

/// Opens with salvage, and checks that every record is either there or reported as lost. Returns the lost numbers.
fn salvage(path: &Path, count: u64) -> Vec<u64> {
    let options = || common::small(&common::clock());
    let stream = options().salvage(true).open(path).unwrap();
    let reported: Vec<u64> = stream
        .recovery()
        .lost()
        .flat_map(|lost| lost.sequences.start.get()..lost.sequences.end.get())
        .collect();
    assert_eq!(read_around(&stream, count), reported, "P9: exactly the missing records are reported");
    for file in &stream.recovery().shards[0].damaged_files {
        assert!(file.exists(), "the damaged file is kept");
    }
    let count = put_next(&stream, count);
    stream.close().unwrap();

    let again = options().open(path).unwrap();
    assert_eq!(read_around(&again, count), reported, "the next opening needs no salvage");
    let found = again.verify(|_| ControlFlow::Continue(())).unwrap();
    assert_eq!(found.damage, []);
    let verified: Vec<u64> =
        found.lost.iter().flat_map(|(_, lost)| lost.start.get()..lost.end.get()).collect();
    assert_eq!(verified, reported);
    let first_lost = reported.first().map(|&first| again.iterator(SHARD, Position::At(first.into())));
    if let Some(iterator) = first_lost {
        assert!(matches!(iterator.unwrap().next_batch(1), Err(Error::Lost { .. })));
    }
    again.close().unwrap();
    let third = options().salvage(true).open(path).unwrap();
    assert_eq!(third.recovery().lost().count(), 0, "nothing more is given up");
    reported
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x20;
    fs::write(path, bytes).unwrap();
}

/// Returns the offset of each frame of a file, and the numbers of its records.
fn frames(path: &Path) -> Vec<(usize, std::ops::Range<u64>)> {
    let bytes = fs::read(path).unwrap();
    let mut at = HEADER_PAGE_BYTES;
    let mut found = vec![];
    let number = |at: usize, len: usize| {
        let mut word = [0; 8];
        word[..len].copy_from_slice(&bytes[at..at + len]);
        u64::from_le_bytes(word)
    };
    while at + 40 < bytes.len() && number(at, 4) != 0 && &bytes[at..at + 7] != b"slogend" {
        let (base, count) = (number(at + 8, 8), number(at + 24, 4));
        if base > 1 << 32 || count > 1 << 16 || count == 0 {
            break;
        }
        found.push((at, base..base + count));
        at += number(at, 4) as usize;
    }
    found
}

#[test]
fn p9_a_stream_without_damage_is_opened_as_ever() {
    for is_closed in [false, true] {
        let scratch = common::scratch();
        let path = scratch.path().join("stream");
        let count = build(&path, is_closed);
        assert_eq!(salvage(&path, count), [0; 0]);
        assert!(common::segment_files(&path, 0).iter().all(|file| file.extension().unwrap() == "seg"));
    }
}

#[test]
fn p9_a_flipped_bit_costs_the_records_of_its_frame_and_no_other() {
    for is_closed in [false, true] {
        let scratch = common::scratch();
        let pristine = scratch.path().join("pristine");
        let count = build(&pristine, is_closed);
        for file in 0..common::segment_files(&pristine, 0).len() {
            let all = frames(&common::segment_files(&pristine, 0)[file]);
            for (frame, within) in
                [(0, 0), (0, 9), (all.len() / 2, 33), (all.len() - 1, 5), (all.len() - 1, 41)]
            {
                let (offset, sequences) = all[frame].clone();
                let path = scratch.path().join(format!("damaged-{file}-{frame}-{within}"));
                common::copy_dir(&pristine, &path);
                flip(&common::segment_files(&path, 0)[file], offset + within);
                if file == 4 {
                    let error = common::small(&common::clock()).open(&path).err();
                    // Opening reads only what was not sealed.
                    assert!(is_closed || matches!(error, Some(Error::Corrupt(_))), "{error:?}");
                }
                let lost = salvage(&path, count);
                assert_eq!(
                    lost,
                    sequences.collect::<Vec<_>>(),
                    "file {file}, byte {within} of frame {frame}"
                );
            }
        }
    }
}

#[test]
fn p5_no_number_is_given_again_where_nobody_knows_how_many_records_are_gone() {
    let scratch = common::scratch();
    let path = scratch.path().join("stream");
    let count = build(&path, false);
    let last = &common::segment_files(&path, 0)[4];
    // The length of the last frame, which might have held many records.
    flip(last, frames(last).last().unwrap().0 + 3);
    let stream = common::small(&common::clock()).salvage(true).open(&path).unwrap();
    let next = stream.put("key", "data").unwrap().sequence;
    assert!(next.get() >= count, "{next}");
    assert_eq!(stream.recovery().lost().last().unwrap().sequences.end, next);
}

#[test]
fn p9_a_damaged_header_page_costs_no_record() {
    for is_closed in [false, true] {
        let scratch = common::scratch();
        let pristine = scratch.path().join("pristine");
        let count = build(&pristine, is_closed);
        for file in 0..common::segment_files(&pristine, 0).len() {
            for at in [0, 12, 17, 24, 60, 500] {
                let path = scratch.path().join(format!("damaged-{file}-{at}"));
                common::copy_dir(&pristine, &path);
                flip(&common::segment_files(&path, 0)[file], at);
                assert_eq!(salvage(&path, count), [0; 0], "file {file}, byte {at}");
            }
        }
    }
}

/// The first sector may be zeros after a power loss, but not in a segment that was synced.
#[test]
fn p9_a_blank_header_costs_no_record_where_a_copy_or_the_trailer_is_left() {
    for (is_closed, blank_bytes) in [(false, 512), (true, 512), (true, HEADER_PAGE_BYTES)] {
        let scratch = common::scratch();
        let pristine = scratch.path().join("pristine");
        let count = build(&pristine, is_closed);
        for file in 0..common::segment_files(&pristine, 0).len() {
            let path = scratch.path().join(format!("damaged-{file}"));
            common::copy_dir(&pristine, &path);
            blank(&common::segment_files(&path, 0)[file], blank_bytes);
            let what = format!("file {file}, {blank_bytes} bytes, closed: {is_closed}");
            let opened = common::small(&common::clock()).open(&path).map(|stream| read_error(&stream));
            let error = opened.unwrap_or_else(Some);
            assert!(matches!(error, Some(Error::Corrupt(_))), "P9: {what}: {error:?}");
            assert_eq!(salvage(&path, count), [0; 0], "{what}");
        }
    }
}

#[test]
fn p9_a_sealed_segment_with_a_blank_header_is_no_torn_tail() {
    let scratch = common::scratch();
    let (running, path) = (scratch.path().join("running"), scratch.path().join("killed"));
    let stream = common::small(&common::clock()).open(&running).unwrap();
    let mut count = 0;
    while common::segment_files(&running, 0).len() < 3 {
        count = put_next(&stream, count);
    }
    // Seals two segments. Nothing of the third one was synced.
    stream.maintain().unwrap();
    common::copy_dir(&running, &path);
    let sealed = &common::segment_files(&path, 0)[1];
    blank(sealed, HEADER_PAGE_BYTES);
    let opened = common::small(&common::clock()).open(&path);
    assert!(matches!(opened, Err(Error::Corrupt(_))), "P9: {opened:?}");
    assert!(sealed.exists());
    assert_eq!(salvage(&path, count), [0; 0]);
}

/// The slot that records a sync reaches the disk only with the next sync. Until then, only the manifest may know what was synced.
#[test]
fn p9_records_that_only_the_manifest_promises_are_kept() {
    let scratch = common::scratch();
    let (running, path) = (scratch.path().join("running"), scratch.path().join("lost-power"));
    let stream = common::small(&common::clock()).open(&running).unwrap();
    let mut count = 0;
    while count < 20 {
        count = put_next(&stream, count);
    }
    stream.sync().unwrap();
    stream.set_retention(Retention::forever()).unwrap();
    common::copy_dir(&running, &path);
    let file = &common::segment_files(&path, 0)[0];
    let mut bytes = fs::read(file).unwrap();
    // Both synced slots.
    bytes[2048..2064].fill(0);
    bytes[3072..3088].fill(0);
    fs::write(file, bytes).unwrap();
    let (offset, sequences) = frames(file).into_iter().nth(5).unwrap();
    flip(file, offset + 33);
    assert!(matches!(common::small(&common::clock()).open(&path), Err(Error::Corrupt(_))));
    assert_eq!(salvage(&path, count), sequences.collect::<Vec<_>>());
}

fn blank(path: &Path, len: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[..len].fill(0);
    fs::write(path, bytes).unwrap();
}

fn read_error(stream: &Stream) -> Option<Error> {
    stream.iterator(SHARD, Position::TrimHorizon).unwrap().records().find_map(Result::err)
}

#[test]
fn p9_a_missing_file_costs_its_records() {
    for is_closed in [false, true] {
        let scratch = common::scratch();
        let pristine = scratch.path().join("pristine");
        let count = build(&pristine, is_closed);
        let files = common::segment_files(&pristine, 0);
        for (file, whole) in files.iter().enumerate() {
            if file == 4 && !is_closed {
                // The manifest of a stream that was not closed does not say where the stream ends.
                continue;
            }
            let path = scratch.path().join(format!("damaged-{file}"));
            common::copy_dir(&pristine, &path);
            let sequences = frames(whole);
            fs::remove_file(&common::segment_files(&path, 0)[file]).unwrap();
            let expected: Vec<_> = (sequences[0].1.start..sequences.last().unwrap().1.end).collect();
            assert_eq!(salvage(&path, count), expected, "file {file}");
        }
    }
}

#[test]
fn p9_a_first_segment_that_is_missing_is_missed() {
    let scratch = common::scratch();
    let path = scratch.path().join("stream");
    build(&path, true);
    fs::remove_file(&common::segment_files(&path, 0)[0]).unwrap();
    let error = common::small(&common::clock()).open(&path).unwrap_err();
    assert!(matches!(error, Error::Corrupt(_)) && error.to_string().contains("missing"), "{error}");
}

#[test]
fn p9_a_damaged_manifest_is_believed_by_nobody() {
    let scratch = common::scratch();
    let path = scratch.path().join("stream");
    build(&path, true);
    let manifest = path.join("manifest.json");
    let text = fs::read_to_string(&manifest).unwrap();
    // A plausible number, which would remove the first segment.
    fs::write(&manifest, text.replace("\"horizon_sequence\": 0", "\"horizon_sequence\": 40")).unwrap();
    let files = common::segment_files(&path, 0);
    assert!(matches!(common::small(&common::clock()).salvage(true).open(&path), Err(Error::Corrupt(_))));
    assert_eq!(common::segment_files(&path, 0), files);
}

#[test]
fn p14_records_of_a_newer_version_are_not_given_up() {
    let scratch = common::scratch();
    let path = scratch.path().join("stream");
    build(&path, false);
    let file = &common::segment_files(&path, 0)[1];
    let (at, _) = frames(file)[3];
    let mut bytes = fs::read(file).unwrap();
    bytes[at + 28] = 5;
    let salt = bytes[common::SALT].to_vec();
    common::sign_frame(&mut bytes, at, &salt);
    fs::write(file, bytes).unwrap();
    let refused = common::small(&common::clock()).salvage(true).open(&path);
    assert!(matches!(refused, Err(Error::UnsupportedFormat(_))), "{refused:?}");
}

/// Found by the fuzz target `segment_file`.
#[test]
fn p9_a_trailer_that_puts_the_end_of_the_frames_too_far_costs_no_record() {
    let scratch = common::scratch();
    let path = scratch.path().join("stream");
    let stream = common::small(&common::clock()).open(&path).unwrap();
    for number in 0..5u8 {
        stream.put("key", vec![number; 3_000]).unwrap();
    }
    stream.close().unwrap();
    let file = &common::segment_files(&path, 0)[0];
    let mut bytes = fs::read(file).unwrap();
    let trailer = bytes.len() - 88;
    let frames_end = u64::from_le_bytes(*bytes[trailer + 8..].first_chunk().unwrap()) as usize;
    // The trailer counts the first entry of the index among the frames.
    let index = frames_end + 24..trailer;
    let (count, index_checksum) = (index.len() as u32 / 24, crc32fast::hash(&bytes[index.clone()]));
    bytes[trailer + 8..trailer + 16].copy_from_slice(&(index.start as u64).to_le_bytes());
    bytes[trailer + 16..trailer + 20].copy_from_slice(&count.to_le_bytes());
    bytes[trailer + 20..trailer + 24].copy_from_slice(&index_checksum.to_le_bytes());
    let checksum = crc32fast::hash(&bytes[trailer..trailer + 84]);
    bytes[trailer + 84..].copy_from_slice(&checksum.to_le_bytes());
    fs::write(file, bytes).unwrap();

    let open = |salvage: bool| common::small(&common::clock()).salvage(salvage).open(&path).unwrap();
    let read_all = |stream: Stream| {
        let mut iterator = stream.iterator(SHARD, Position::TrimHorizon).unwrap();
        let count = iterator.next_batch(10).unwrap().len();
        (count, iterator.next_batch(10).map(|batch| batch.len()))
    };
    assert!(matches!(read_all(open(false)), (5, Err(Error::Corrupt(_)))));
    assert!(matches!(read_all(open(true)), (5, Ok(0))));
}

#[test]
fn p6_damage_right_behind_lost_records_is_told_apart_from_them() {
    let scratch = common::scratch();
    let path = scratch.path().join("stream");
    let count = build(&path, true);
    let file = common::segment_files(&path, 0)[1].clone();
    flip(&file, frames(&file)[2].0 + 9);
    salvage(&path, count);
    // The next frame, in the rewritten file.
    let mended = frames(&file);
    flip(&file, mended[3].0 + 9);
    let stream = common::small(&common::clock()).open(&path).unwrap();
    let mut iterator = stream.iterator(SHARD, Position::At(mended[2].1.start.into())).unwrap();
    assert!(matches!(iterator.next_batch(1), Err(Error::Lost { .. })));
    assert_eq!(iterator.skip_lost().unwrap(), mended[2].1.end - mended[2].1.start);
    assert!(matches!(iterator.next_batch(1), Err(Error::Corrupt(_))));
    let found = stream.verify(|_| ControlFlow::Continue(())).unwrap();
    assert_eq!((found.damage.len(), found.lost.len()), (1, 1));
}

#[derive(Debug, Clone)]
enum Damage {
    Flip(usize),
    Zero(usize, usize),
    Truncate(usize),
    Remove,
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        4 => any::<usize>().prop_map(Damage::Flip),
        2 => (any::<usize>(), 1..9_000_usize).prop_map(|(at, len)| Damage::Zero(at, len)),
        1 => any::<usize>().prop_map(Damage::Truncate),
        1 => Just(Damage::Remove),
    ]
}

fn inflict(file: &PathBuf, damage: &Damage) {
    let Ok(mut bytes) = fs::read(file) else { return };
    if bytes.is_empty() {
        return;
    }
    let len = bytes.len();
    let version = bytes.get(8..12).map(<[u8]>::to_vec);
    match *damage {
        Damage::Flip(at) => bytes[at % len] ^= 1 << (at % 8),
        Damage::Zero(at, count) => {
            let from = at % len;
            bytes[from..(from + count).min(len)].fill(0);
        }
        Damage::Truncate(at) => bytes.truncate(at % len),
        Damage::Remove => return fs::remove_file(file).unwrap(),
    }
    // A version that is damaged together with its checksum looks like a newer one, and salvage does not touch that.
    if let (Some(version), Some(field)) = (version, bytes.get_mut(8..12)) {
        field.copy_from_slice(&version);
    }
    fs::write(file, bytes).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn p6_p9_p11_whatever_is_damaged_the_rest_is_read_and_what_is_gone_is_said(
        inflicted in proptest::collection::vec((0..5_usize, damage()), 1..5), is_closed in any::<bool>(),
    ) {
        let scratch = common::scratch();
        let path = scratch.path().join("stream");
        let count = build(&path, is_closed);
        let files = common::segment_files(&path, 0);
        for (file, damage) in &inflicted {
            inflict(&files[*file], damage);
        }
        if inflicted.iter().all(|(file, _)| *file < 4) {
            salvage(&path, count);
        } else {
            // The manifest gives the minimum number of records in the last file, and its size the maximum.
            let stream = common::small(&common::clock()).salvage(true).open(&path).unwrap();
            let end = stream.stats().unwrap().shards[0].next_sequence.get();
            read_around(&stream, end);
            prop_assert!(!is_closed || end >= count);
        }
    }
}
