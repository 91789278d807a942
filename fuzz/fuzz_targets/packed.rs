//! Any bytes as the records of a compressed frame whose header and checksum are right, so that the fuzzer reaches the code behind them.
//!
//! The last byte selects the method and the meaning of the bytes: compressed, with any claimed length; compressed, with the correct
//! length; or records that are still to be compressed.
#![no_main]

use libfuzzer_sys::fuzz_target;

const SALT: [u8; 16] = [9; 16];
const LZ4: u8 = 1;
const ZSTD: u8 = 2;
/// The maximum that is decompressed here to measure its length.
const PLAIN_BYTES_MAX: usize = 1 << 20;

/// Returns a frame around compressed bytes, by `docs/FORMAT.md`.
fn frame(method: u8, count: u8, plain_len: u32, packed: &[u8]) -> Vec<u8> {
    let len = (32 + 8 + packed.len()).next_multiple_of(8);
    let mut bytes = (len as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(&7u64.to_le_bytes());
    bytes.extend_from_slice(&8u64.to_le_bytes());
    bytes.extend_from_slice(&u32::from(count).to_le_bytes());
    bytes.extend_from_slice(&u32::from(method).to_le_bytes());
    bytes.extend_from_slice(&plain_len.to_le_bytes());
    bytes.extend_from_slice(&(packed.len() as u32).to_le_bytes());
    bytes.extend_from_slice(packed);
    bytes.resize(len, 0);
    let checksum = crc32fast::hash(&[&SALT[..], &bytes[8..]].concat());
    bytes[4..8].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

fn plain_len(method: u8, packed: &[u8]) -> Option<usize> {
    let mut plain = vec![0; PLAIN_BYTES_MAX];
    match method {
        LZ4 => lz4_flex::block::decompress_into(packed, &mut plain).ok(),
        _ => zstd::bulk::decompress_to_buffer(packed, &mut plain).ok(),
    }
}

fn compress(method: u8, plain: &[u8]) -> Vec<u8> {
    match method {
        LZ4 => lz4_flex::block::compress(plain),
        _ => zstd::bulk::compress(plain, 1).expect("memory"),
    }
}

fuzz_target!(|data: &[u8]| {
    let [claim @ .., count, mode] = data else { return };
    let method = if mode & 1 == 0 { LZ4 } else { ZSTD };
    let bytes = match mode >> 1 & 3 {
        0 => {
            let Some((claim, packed)) = claim.split_first_chunk() else { return };
            frame(method, *count, u32::from_le_bytes(*claim), packed)
        }
        1 => {
            let Some(plain_len) = plain_len(method, claim) else { return };
            frame(method, *count, plain_len as u32, claim)
        }
        _ => {
            let mut plain = claim.to_vec();
            plain.resize(plain.len().next_multiple_of(8), 0);
            frame(method, *count, plain.len() as u32, &compress(method, &plain))
        }
    };
    streamlog::fuzzing::frame(&bytes, SALT);
});
