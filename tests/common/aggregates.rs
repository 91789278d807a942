//! Shared by the tests of aggregates.

use md5::{Digest, Md5};
use streamlog::PutRecord;
use streamlog::aggregate::{AggregatedRecord, Aggregator};

/// Returns an aggregate with this message: the magic number, the message, and its MD5.
pub fn signed(message: &[u8]) -> Vec<u8> {
    let digest: [u8; 16] = Md5::digest(message).into();
    [&[0xf3, 0x89, 0x9a, 0xc2], message, &digest].concat()
}

/// Returns the bytes of a text in hexadecimal digits. Blanks are ignored.
pub fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Packs all records into one.
pub fn aggregate(records: &[PutRecord<'_>]) -> AggregatedRecord {
    let mut aggregator = Aggregator::new().bytes_max(usize::MAX);
    for record in records {
        assert!(aggregator.add(record).unwrap().is_none(), "10 MiB are enough");
    }
    aggregator.finish().expect("there are records")
}
