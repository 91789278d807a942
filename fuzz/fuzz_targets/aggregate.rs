//! Any bytes as an aggregate, or as the message in one, if the last byte of the input says so.
#![no_main]

use libfuzzer_sys::fuzz_target;
use md5::{Digest, Md5};
use streamlog::aggregate::{Aggregate, Aggregator};
use streamlog::{HashKey, HashKeyRange, KeyHash, PutRecord};

fuzz_target!(|data: &[u8]| {
    let Some((&mode, bytes)) = data.split_last() else { return };
    let signed;
    let data = match mode & 1 {
        0 => bytes,
        _ => {
            signed = [&[0xf3, 0x89, 0x9a, 0xc2], bytes, &Md5::digest(bytes)[..]].concat();
            &signed
        }
    };
    let range = HashKeyRange { start: HashKey::new(1 << 126), end: HashKey::new(3 << 126) };
    let within = Aggregate::decode_within(data, range, KeyHash::Md5);
    let Some(aggregate) = Aggregate::decode(data) else {
        assert!(within.is_none());
        return;
    };
    let within = within.expect("the range does not decide what an aggregate is");
    assert!(within.is_foreign() || within.len() == aggregate.len());

    // Records that can be encoded again must decode to the same records.
    let is_writable = |record: &PutRecord<'_>| {
        (1..=1_024).contains(&record.partition_key.len()) && std::str::from_utf8(record.partition_key).is_ok()
    };
    let records: Vec<_> = aggregate.iter().filter(is_writable).collect();
    let mut aggregator = Aggregator::new().bytes_max(usize::MAX);
    for record in &records {
        assert!(aggregator.add(record).expect("it can be written").is_none());
    }
    let Some(written) = aggregator.finish() else { return };
    match Aggregate::decode(&written.data) {
        Some(again) => assert!(again.iter().eq(records)),
        None => assert_eq!((records.len(), written.as_put()), (1, records[0].clone())),
    }
});
