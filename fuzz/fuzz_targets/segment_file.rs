//! Any bytes as a segment of an otherwise valid stream: it is opened, read to the end, written to, and opened again.
//!
//! Reads must return what the frames in the file hold. This file decodes them once more by `docs/FORMAT.md`, without the library.
#![no_main]

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use streamlog::{Error, Maintenance, Position, Retention, ShardId, Stream, StreamOptions};

const HEADER_PAGE: usize = 4096;
const SALT: std::ops::Range<usize> = 32..48;
const SEGMENT: &str = "shards/000000000000/00000000000000000000.seg";

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// Corrects a checksum.
fn sign(bytes: &mut [u8], checksum_at: usize, checked: std::ops::Range<usize>) {
    let checksum = crc32fast::hash(&bytes[checked]);
    bytes[checksum_at..checksum_at + 4].copy_from_slice(&checksum.to_le_bytes());
}

/// Corrects the checksum of a frame, with the salt of its file.
fn sign_frame(file: &mut [u8], at: usize, len: usize) {
    let checksum = crc32fast::hash(&[&file[SALT], &file[at + 8..at + len]].concat());
    file[at + 4..at + 8].copy_from_slice(&checksum.to_le_bytes());
}

/// Makes a segment file from the fuzzer's bytes: as they are, or with a valid header page, valid checksums and numbers, a valid trailer.
fn compose(mode: u8, body: &[u8]) -> Vec<u8> {
    if mode == 0 {
        return body.to_vec();
    }
    let mut file = vec![0; HEADER_PAGE];
    let (words, frames) = body.split_at_checked(24).unwrap_or((&[0; 24], body));
    if mode & 1 != 0 {
        file[..8].copy_from_slice(b"slogseg\0");
        file[8] = 1;
        file[SALT].copy_from_slice(&words[8..24]);
        sign(&mut file, 60, 0..60);
        file.copy_within(..64, 3584);
    }
    if mode & 2 != 0 {
        file[1024..1032].copy_from_slice(&words[..8]);
        for (slot, word) in [(2048, 8), (3072, 16)] {
            file[slot..slot + 8].copy_from_slice(&words[word..word + 8]);
            sign(&mut file, slot + 12, slot..slot + 12);
        }
    }
    file.extend_from_slice(frames);
    let (mut at, mut next) = (HEADER_PAGE, 0u64);
    if mode & 4 != 0 {
        while at + 40 <= file.len() {
            let len = u32_at(&file, at) as usize;
            if len < 40 || len > file.len() - at {
                break;
            }
            if mode & 8 != 0 {
                file[at + 8..at + 16].copy_from_slice(&next.to_le_bytes());
            }
            next = next.wrapping_add(u32_at(&file, at + 24).into());
            sign_frame(&mut file, at, len);
            at += len;
        }
    }
    if mode & 16 != 0 {
        let trailer = file.len();
        let index_count = if mode & 32 != 0 { file.len().saturating_sub(at) / 24 } else { 0 };
        let frames_end = trailer - index_count * 24;
        let index_checksum = crc32fast::hash(&file[frames_end..]);
        file.extend_from_slice(b"slogend\0");
        file.extend_from_slice(&(frames_end as u64).to_le_bytes());
        file.extend_from_slice(&(index_count as u32).to_le_bytes());
        file.extend_from_slice(&index_checksum.to_le_bytes());
        file.extend_from_slice(&0u64.to_le_bytes());
        file.extend_from_slice(&if mode & 64 != 0 { u64_at(words, 0) } else { next }.to_le_bytes());
        file.extend_from_slice(&[0; 16]);
        file.extend_from_within(SALT);
        file.extend_from_slice(&[0; 16]);
        sign(&mut file, trailer + 84, trailer..trailer + 84);
    }
    file
}

/// Returns the records of the valid frames at the beginning of a file, by `docs/FORMAT.md`, and whether the next frame is compressed, valid on
/// the outside and invalid inside. No failure makes such a frame, so salvage does not look for it.
fn records_in(file: &[u8]) -> (Vec<(Vec<u8>, Vec<u8>)>, bool) {
    let mut records = vec![];
    // If the header page was never written, nothing after it counts.
    if file.iter().take(64).all(|&byte| byte == 0) {
        return (records, false);
    }
    let mut at = HEADER_PAGE;
    while file.len() >= at + 40 {
        let len = u32_at(file, at) as usize;
        if len < 40 || len % 8 != 0 || len > file.len() - at {
            break;
        }
        let frame = &file[at..at + len];
        let is_good = u32_at(frame, 4) == crc32fast::hash(&[&file[SALT], &frame[8..]].concat())
            && u64_at(frame, 8) == records.len() as u64;
        if !is_good {
            break;
        }
        let count = u32_at(frame, 24);
        let more = match u32_at(frame, 28) {
            0 => records_of(&frame[32..], count),
            method @ 1..=2 => {
                let Some((plain_len, packed)) = packed_in(&frame[32..], method) else { break };
                let plain = unpack(packed, method, plain_len);
                let more = plain.and_then(|plain| records_of(&plain, count));
                if count > 0 && more.is_none() {
                    return (records, true);
                }
                more
            }
            _ => break,
        };
        let Some(more) = more else { break };
        records.extend(more);
        at += len;
    }
    (records, false)
}

/// Returns the length that compressed records claim to have, and their bytes, if the claim is allowed.
fn packed_in(records: &[u8], method: u32) -> Option<(usize, &[u8])> {
    let (plain_len, len) = (u32_at(records, 0) as usize, u32_at(records, 4) as usize);
    let (packed, padding) = records[8..].split_at_checked(len)?;
    let most = len * if method == 1 { 255 } else { 32 << 10 };
    let is_allowed = plain_len > 0 && plain_len % 8 == 0 && plain_len <= most && plain_len <= 2 << 30;
    (is_allowed && padding.len() < 8 && padding.iter().all(|&byte| byte == 0)).then_some((plain_len, packed))
}

fn unpack(packed: &[u8], method: u32, plain_len: usize) -> Option<Vec<u8>> {
    let mut plain = vec![0; plain_len];
    let len = match method {
        1 => lz4_flex::block::decompress_into(packed, &mut plain).ok()?,
        _ => zstd::bulk::decompress_to_buffer(packed, &mut plain).ok()?,
    };
    (len == plain_len).then_some(plain)
}

fn records_of(mut bytes: &[u8], count: u32) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut records = vec![];
    for _ in 0..count {
        let (head, rest) = bytes.split_at_checked(8)?;
        let (key_len, flags) = (u32_at(head, 0) & 0xffff, u32_at(head, 0) >> 16);
        let (key, mut rest) = rest.split_at_checked(key_len as usize)?;
        if flags == 1 {
            let (block_len, behind) = rest.split_at_checked(4)?;
            let (block, behind) = behind.split_at_checked(u32_at(block_len, 0) as usize)?;
            are_headers(block)?;
            rest = behind;
        } else if flags != 0 {
            return None;
        }
        let (data, rest) = rest.split_at_checked(u32_at(head, 4) as usize)?;
        records.push((key.to_vec(), data.to_vec()));
        bytes = rest;
    }
    (count > 0 && bytes.len() < 8 && bytes.iter().all(|&byte| byte == 0)).then_some(records)
}

fn are_headers(mut block: &[u8]) -> Option<()> {
    while {
        let (head, rest) = block.split_at_checked(6)?;
        let (name, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes([head[0], head[1]])))?;
        let (_, rest) = rest.split_at_checked(u32_at(head, 2) as usize)?;
        std::str::from_utf8(name).ok().filter(|name| !name.is_empty())?;
        block = rest;
        !block.is_empty()
    } {}
    Some(())
}

fn open(path: &Path) -> streamlog::Result<Stream> {
    // Forever: the timestamps in the file may be anything, and nothing may expire.
    let options = StreamOptions::new().segment_bytes(64 << 10).retention(Retention::forever());
    options.maintenance(Maintenance::Manual).sync_interval(None).open(path)
}

/// Reads all records from the horizon on. Returns them, and whether an error ended the read.
fn read_all(stream: &Stream, records_max: usize) -> (Vec<(Vec<u8>, Vec<u8>)>, bool) {
    let mut records = vec![];
    let Ok(mut iterator) = stream.iterator(ShardId::new(0), Position::TrimHorizon) else {
        return (records, true);
    };
    loop {
        match iterator.next_batch(records_max) {
            Ok(batch) if batch.is_empty() => return (records, false),
            Ok(batch) => {
                assert_eq!(batch.first_sequence().map(|first| first.get()), Some(records.len() as u64));
                assert_eq!(batch.iter().count(), batch.len());
                records.extend(batch.iter().map(|it| (it.partition_key().to_vec(), it.data().to_vec())));
            }
            Err(_) => return (records, true),
        }
    }
}

/// Salvages a stream with this segment and reads what is left. It must hold only records of the file, and reads must reach its end.
fn salvage(file: &[u8], expected: &[(Vec<u8>, Vec<u8>)], is_forged: bool) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    open(path).unwrap().close().unwrap();
    fs::write(path.join(SEGMENT), file).unwrap();
    let options = StreamOptions::new().segment_bytes(64 << 10).retention(Retention::forever());
    let options = options.maintenance(Maintenance::Manual).sync_interval(None).salvage(true);
    let Ok(stream) = options.open(path) else { return };
    let end = stream.stats().unwrap().shards[0].next_sequence;
    let mut iterator = stream.iterator(ShardId::new(0), Position::TrimHorizon).unwrap();
    while iterator.next_sequence() < end {
        let next = iterator.next_sequence().get() as usize;
        match iterator.next_batch(7) {
            Ok(batch) => {
                assert!(!batch.is_empty(), "the records end too early");
                for (record, expected) in batch.iter().zip(expected.iter().skip(next)) {
                    assert_eq!((record.partition_key(), record.data()), (&expected.0[..], &expected.1[..]));
                }
            }
            Err(Error::Lost { .. }) => assert!(iterator.skip_lost().unwrap() > 0),
            Err(Error::Corrupt(_)) if is_forged && next == expected.len() => return,
            Err(error) => panic!("after salvaging: {error}"),
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&mode, body)) = data.split_last() else { return };
    let file = compose(mode, body);
    let (expected, is_forged) = records_in(&file);
    salvage(&file, &expected, is_forged);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    open(path).unwrap().close().unwrap();
    fs::write(path.join(SEGMENT), &file).unwrap();
    let Ok(stream) = open(path) else { return };
    for records_max in [1, 7, 1_000] {
        let (records, failed) = read_all(&stream, records_max);
        assert!(expected.starts_with(&records), "records that are not in the file");
        // A trailer may end the frames too early. Its checksum is valid, so it is trusted.
        let has_trailer = file.len() >= 88 && file[file.len() - 88..].starts_with(b"slogend\0");
        assert!(failed || has_trailer || records.len() == expected.len(), "records are missing");
    }
    let verification = stream.verify(|_| ControlFlow::Continue(()));
    for sequence in [0, 1, 5, u64::MAX] {
        if let Ok(mut iterator) = stream.iterator(ShardId::new(0), Position::At(sequence.into())) {
            let _ = iterator.next_batch(3);
        }
    }
    let (before, had_failed) = read_all(&stream, 1_000);
    let receipt = stream.put("key", "data");
    let _ = (stream.sync(), stream.close());
    let is_whole = verification.is_ok_and(|found| found.damage.is_empty()) && !had_failed;
    if let (Ok(receipt), true) = (receipt, is_whole)
        && receipt.sequence.get() == before.len() as u64
    {
        let (after, failed) = read_all(&open(path).unwrap(), 1_000);
        assert!(!failed && after.starts_with(&before) && after.len() == before.len() + 1, "a put is lost");
    }
});
