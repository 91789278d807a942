//! Any text as the manifest of a stream, or a valid one with any numbers: the stream is opened, written to and read.
//!
//! The checksum is corrected, so that the fuzzer reaches the code behind it. The last byte selects one of the two.
#![no_main]

use std::ops::ControlFlow;

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use streamlog::{Maintenance, Position, Retention, StreamOptions};

/// The manifest of a new stream with two shards.
const GOOD: &[u8] = include_bytes!("../seeds/manifest/two_shards");

/// Replaces each number by one of the fuzzer's if the byte before it says so.
fn renumber(value: &mut Value, numbers: &mut std::slice::Chunks<'_, u8>) {
    match value {
        Value::Number(number) => {
            if let Some([1, bytes @ ..]) = numbers.next() {
                let mut word = [0; 8];
                word[..bytes.len()].copy_from_slice(bytes);
                *number = u64::from_le_bytes(word).into();
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| renumber(value, numbers)),
        Value::Object(members) => members.values_mut().for_each(|value| renumber(value, numbers)),
        _ => {}
    }
}

fn compose(data: &[u8]) -> Vec<u8> {
    let Some((&mode, bytes)) = data.split_last() else { return vec![] };
    let text = if mode == 0 { GOOD.strip_suffix(&[b'\n']).unwrap_or(GOOD) } else { bytes };
    let Ok(mut whole) = serde_json::from_slice::<Value>(text) else { return data.to_vec() };
    if let Some(stream) = whole.get_mut("stream") {
        if mode == 0 {
            renumber(stream, &mut bytes.chunks(9));
        }
        let checksum = crc32fast::hash(stream.to_string().as_bytes());
        whole["checksum"] = format!("{checksum:08x}").into();
    }
    whole.to_string().into_bytes()
}

fuzz_target!(|data: &[u8]| {
    let directory = tempfile::tempdir().unwrap();
    for shard in 0..2 {
        std::fs::create_dir_all(directory.path().join(format!("shards/{shard:012}"))).unwrap();
    }
    std::fs::write(directory.path().join("manifest.json"), compose(data)).unwrap();
    // The manifest may hold any retention, which could drop the record. This one overrides it.
    let options = StreamOptions::new().retention(Retention::forever()).sync_interval(None);
    let options = options.maintenance(Maintenance::Manual).must_exist();
    let Ok(stream) = options.clone().open(directory.path()) else { return };
    for shard in stream.shards() {
        let mut iterator = stream.iterator(shard.id, Position::TrimHorizon).unwrap();
        assert!(iterator.next_batch(10).unwrap().is_empty());
    }
    let put = stream.put("key", "data");
    let described = stream.describe();
    if stream.close().is_ok() && put.is_ok() {
        let again = options.open(directory.path()).unwrap();
        assert_eq!(again.describe(), described);
        assert_eq!(again.verify(|_| ControlFlow::Continue(())).unwrap().record_count, 1);
    }
});
