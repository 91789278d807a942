//! `docs/FORMAT.md` owns the bytes on disk. This test holds the code to its examples.
//!
//! It reads the fenced blocks of that file, makes the stream of the examples through the public API, and compares its files with them
//! byte by byte. Only the salt differs each time. So the test first verifies the checksums of a file, then replaces its salt by the
//! document's and recomputes them. An intended change of the format needs a new version, and then new examples.

use crate::common;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use streamlog::{
    HashKey, KeyHash, Maintenance, ManualClock, Position, PutRecord, Retention, SECOND, ShardId,
    StreamOptions, StreamReader, Timestamp,
};

const DOCUMENT: &str = include_str!("../../docs/FORMAT.md");
/// The segment of the examples.
const SEGMENT: &str = "shards/000000000001/00000000000000000001.seg";

/// A fenced block of the document.
struct Block {
    /// Each line without its comment, with its line number in the document.
    lines: Vec<(usize, String)>,
}

impl Block {
    /// The bytes of a block in hex, each with its line in the document.
    fn bytes(&self) -> Vec<(usize, u8)> {
        let words =
            self.lines.iter().flat_map(|(line, text)| text.split_whitespace().map(|word| (*line, word)));
        let byte = |(line, word)| match u8::from_str_radix(word, 16) {
            Ok(byte) if word.len() == 2 => (line, byte),
            _ => panic!("docs/FORMAT.md:{line}: {word:?} is not a byte in hex"),
        };
        words.map(byte).collect()
    }

    /// The lines of a block of text, without those that hold only a comment.
    fn text(&self) -> Vec<&str> {
        self.lines.iter().map(|(_, text)| text.trim_end()).filter(|text| !text.is_empty()).collect()
    }
}

/// Returns the fenced blocks by the words after the three backticks.
fn blocks() -> BTreeMap<&'static str, Block> {
    let mut blocks = BTreeMap::new();
    let mut open: Option<(&str, Block)> = None;
    for (line, at) in DOCUMENT.lines().zip(1..) {
        match (line.strip_prefix("```"), &mut open) {
            (Some(name), None) => open = Some((name.trim(), Block { lines: vec![] })),
            (Some(_), Some(_)) => {
                let (name, block) = open.take().unwrap();
                assert!(blocks.insert(name, block).is_none(), "docs/FORMAT.md:{at}: a second block {name:?}");
            }
            (None, Some((_, block))) => {
                let text = line.split_once('#').map_or(line, |(text, _)| text);
                block.lines.push((at, text.to_owned()));
            }
            (None, None) => {}
        }
    }
    blocks
}

#[track_caller]
fn block<'a>(blocks: &'a BTreeMap<&str, Block>, name: &str) -> &'a Block {
    blocks.get(name).unwrap_or_else(|| panic!("docs/FORMAT.md has no block ```{name}"))
}

/// Makes the stream of the examples.
fn make_example(path: &Path) {
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_700_000_000_000)));
    let stream = StreamOptions::new()
        .shards(2)
        .key_hash(KeyHash::Md5)
        .retention(Retention::age(24 * 60 * 60 * SECOND))
        .segment_bytes(64 << 10)
        .maintenance(Maintenance::Manual)
        .sync_interval(None)
        .clock(clock.clone())
        .open(path)
        .unwrap();
    fn to_shard_1<'a>(key: &'a [u8], data: &'a [u8]) -> PutRecord<'a> {
        PutRecord::new(key, data).explicit_hash_key(HashKey::MAX)
    }
    let put = |key: &[u8], data: &[u8]| {
        let receipt = stream.put_record(&to_shard_1(key, data)).unwrap();
        assert_eq!(receipt.shard, ShardId::new(1));
    };
    // The largest possible record takes a segment of its own, so that the next one begins with sequence number 1.
    put(b"x", &vec![0; stream.describe().record_bytes_max as usize - 1]);
    clock.advance(SECOND);
    for outcome in stream
        .put_batch(&[
            to_shard_1(b"user-17", b"clicked").header("trace", "4bf92f35"),
            to_shard_1(b"user-4", b""),
        ])
        .unwrap()
    {
        outcome.unwrap();
    }
    stream.sync().unwrap();
    clock.advance(SECOND);
    put(b"x", &[0x2e; 5_000]);
    put(b"k", b"");
    stream.close().unwrap();
}

/// Returns a segment with another salt, and all checksums recomputed as the document says.
fn salted(file: &[u8], salt: &[u8]) -> Vec<u8> {
    let mut bytes = file.to_vec();
    let trailer = bytes.len() - 88;
    let frames_end = u64::from_le_bytes(*bytes[trailer + 8..].first_chunk().unwrap()) as usize;
    for (salt_at, checked) in
        [(32, 0..60), (3584 + 32, 3584..3584 + 60), (trailer + 56, trailer..trailer + 84)]
    {
        bytes[salt_at..salt_at + 16].copy_from_slice(salt);
        let (end, checksum) = (checked.end, crc32fast::hash(&bytes[checked]));
        bytes[end..end + 4].copy_from_slice(&checksum.to_le_bytes());
    }
    let mut at = 4096;
    while at < frames_end {
        common::sign_frame(&mut bytes, at, salt);
        at += u32::from_le_bytes(*bytes[at..].first_chunk().unwrap()) as usize;
    }
    bytes
}

/// Reads the segment of the examples, with the salt of the document.
fn example_segment(path: &Path, blocks: &BTreeMap<&str, Block>) -> Vec<u8> {
    let file = fs::read(path.join(SEGMENT)).unwrap();
    assert!(salted(&file, &file[common::SALT]) == file, "a checksum differs from what docs/FORMAT.md says");
    let header: Vec<u8> = block(blocks, "hex header").bytes().into_iter().map(|(_, byte)| byte).collect();
    salted(&file, &header[common::SALT])
}

/// Lists the files and directories below a directory, in order.
fn listing(dir: &Path, prefix: &str, found: &mut Vec<String>) {
    let mut entries: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap()).collect();
    entries.sort_by_key(|entry| entry.file_name());
    for entry in entries {
        let name = format!("{prefix}{}", entry.file_name().into_string().unwrap());
        if entry.file_type().unwrap().is_dir() {
            found.push(format!("{name}/"));
            listing(&entry.path(), &format!("{name}/"), found);
        } else {
            found.push(name);
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x} ");
        text
    })
}

/// Compares a part of the segment with the block of that name.
fn compare(blocks: &BTreeMap<&str, Block>, name: &str, offset: usize, file: &[u8]) -> Result<(), String> {
    let expected = block(blocks, name).bytes();
    let Some(actual) = file.get(offset..offset + expected.len()) else {
        let (line, len) = (expected[0].0, file.len());
        return Err(format!("docs/FORMAT.md:{line}: ```{name} goes beyond the file, which has {len} bytes"));
    };
    let differs = expected.iter().zip(actual).zip(0..).find(|((expected, actual), _)| expected.1 != **actual);
    differs.map_or(Ok(()), |(((line, expected), actual), at)| {
        Err(format!(
            "docs/FORMAT.md:{line}: byte {at} of ```{name} (byte {} of the file): the document has {expected:02x}, the \
             file {actual:02x}; the file has\n{}",
            offset + at,
            hex(&file[offset..][..block(blocks, name).bytes().len()])
        ))
    })
}

/// Returns the places of the segment's parts that the document lists, such as `4096..4176 frame`.
fn places(blocks: &BTreeMap<&str, Block>) -> BTreeMap<String, Range<usize>> {
    let place = |line: &str| {
        let (range, name) = line.split_once(' ').unwrap_or((line, "unnamed"));
        let (from, to) = range.split_once("..").unwrap();
        (name.trim().to_owned(), from.parse().unwrap()..to.parse().unwrap())
    };
    block(blocks, "text places").text().into_iter().map(place).collect()
}

#[test]
fn the_bytes_on_disk_are_those_of_the_document() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("clicks");
    make_example(&path);
    let (blocks, mut faults) = (blocks(), vec![]);
    let file = example_segment(&path, &blocks);
    let places = places(&blocks);
    for (name, Range { start, end }) in &places {
        let name = format!("hex {name}");
        if blocks.contains_key(&*name) {
            faults.extend(compare(&blocks, &name, *start, &file).err());
            let len = block(&blocks, &name).bytes().len();
            if len != end - start {
                faults.push(format!(
                    "docs/FORMAT.md: ```{name} has {len} bytes, but its place is {start}..{end}"
                ));
            }
        }
    }
    let compared = blocks.keys().filter_map(|name| name.strip_prefix("hex "));
    faults.extend(
        compared
            .filter(|&name| !places.contains_key(name))
            .map(|name| format!("docs/FORMAT.md: ```hex {name} has no place")),
    );
    let end = places.values().map(|place| place.end).max().unwrap_or_default();
    if end != file.len() {
        faults.push(format!("the document's places end at {end}, but the file ends at {}", file.len()));
    }
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));

    // The other way round: the document's bytes read as the records that were put.
    fs::write(path.join(SEGMENT), file).unwrap();
    let stream = StreamOptions::new().retention(Retention::forever()).open(&path).unwrap();
    let mut iterator = stream.iterator(ShardId::new(1), Position::At(1.into())).unwrap();
    let records: Vec<_> = iterator.records().map(|record| record.unwrap()).collect();
    let data: Vec<_> = records.iter().map(|record| (&record.partition_key[..], record.data.len())).collect();
    assert_eq!(data, [(&b"user-17"[..], 7), (b"user-4", 0), (b"x", 5_000), (b"k", 0)]);
    assert!(records[0].headers().eq([("trace", &b"4bf92f35"[..])]));
}

#[test]
fn the_header_page_is_zero_where_the_document_names_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("clicks");
    make_example(&path);
    let mut file = example_segment(&path, &blocks());
    for place in places(&blocks()).into_values().filter(|place| place.end <= 4096) {
        file[place].fill(0);
    }
    assert_eq!(
        file[..4096].iter().position(|&byte| byte != 0),
        None,
        "a byte that no place names is not zero"
    );
}

#[test]
fn the_directory_and_the_manifest_are_those_of_the_document() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("clicks");
    make_example(&path);
    let blocks = blocks();
    let mut found = vec![];
    listing(&path, "", &mut found);
    assert_eq!(found, block(&blocks, "text layout").text(), "left: the directory, right: docs/FORMAT.md");

    let manifest = fs::read_to_string(path.join("manifest.json")).unwrap();
    let expected = &block(&blocks, "json manifest").lines;
    for (actual, (line, expected)) in manifest.lines().zip(expected) {
        assert_eq!(
            actual, expected,
            "docs/FORMAT.md:{line} (right) differs from the file (left):\n{manifest}"
        );
    }
    assert_eq!(
        manifest.lines().count(),
        expected.len(),
        "docs/FORMAT.md has more or fewer lines than\n{manifest}"
    );
}

#[test]
fn the_lock_file_is_that_of_the_document() {
    let directory = tempfile::tempdir().unwrap();
    let stream = StreamOptions::new().open(directory.path()).unwrap();
    let lock = || fs::read_to_string(directory.path().join("LOCK")).unwrap();
    let (written, blocks) = (lock(), blocks());
    let document = block(&blocks, "text lock").text();
    let program = std::env::current_exe().unwrap();
    let (id, name) = (std::process::id().to_string(), program.file_name().unwrap().to_str().unwrap());
    let first_line = document[0].replace("4711", &id).replace("clickd", name);
    let is_mark =
        |line: &str| line.len() == 16 && line.bytes().all(|byte| b"0123456789abcdef".contains(&byte));
    let (first, mark) = written.split_once('\n').unwrap();
    assert_eq!(first, first_line);
    assert!(is_mark(document[1]) && is_mark(mark.strip_suffix('\n').unwrap()), "{written:?}");
    // The other way round: another process with the text of the document.
    fs::write(directory.path().join("LOCK"), document.join("\n") + "\n").unwrap();
    let error = StreamOptions::new().open(directory.path()).unwrap_err().to_string();
    assert!(error.contains("process 4711 (clickd)"), "{error}");
    stream.close().unwrap();
    assert_eq!(lock(), "");
}

#[test]
fn the_journal_of_a_queue_is_that_of_the_document() {
    let directory = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_700_000_000_000)));
    let options = StreamOptions::new().maintenance(Maintenance::Manual).clock(clock);
    let stream = options.open(directory.path()).unwrap();
    stream.put("job-17", "resize").unwrap();
    let queue = stream.queue("jobs").open().unwrap();
    let job = queue.receive(1, Duration::ZERO).unwrap().remove(0);
    queue.acknowledge(&job.handle).unwrap();
    let journal = StreamReader::open(directory.path().join("queues/jobs")).unwrap();
    let mut iterator = journal.iterator(ShardId::new(0), Position::TrimHorizon).unwrap();
    let mut entries = vec![];
    for record in &iterator.next_batch(100).unwrap() {
        assert_eq!(record.partition_key(), b"q");
        entries.extend_from_slice(record.data());
    }
    compare(&blocks(), "entries queue", 0, &entries).unwrap();
}

#[test]
fn a_difference_is_reported_with_its_place() {
    let blocks = BTreeMap::from([("hex a", Block { lines: vec![(7, "01 02".into()), (8, "03".into())] })]);
    assert_eq!(compare(&blocks, "hex a", 1, &[0, 1, 2, 3]), Ok(()));
    let told = compare(&blocks, "hex a", 1, &[0, 1, 2, 4]).unwrap_err();
    assert!(told.starts_with("docs/FORMAT.md:8: byte 2 of ```hex a (byte 3 of the file)"), "{told}");
    assert!(compare(&blocks, "hex a", 2, &[0, 1, 2, 3]).is_err());
}
