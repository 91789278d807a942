//! Two patterns and a record, with zeros in between: pattern, pattern, partition key, data.
#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use streamlog::{Batch, Filter, Maintenance, Position, Stream, StreamOptions};
use tempfile::TempDir;

/// A stream is replaced after this many records, so that it stays small.
const RECORDS_MAX: u32 = 10_000;

struct Records {
    stream: Stream,
    count: u32,
    _directory: TempDir,
}

thread_local! {
    static RECORDS: RefCell<Option<Records>> = const { RefCell::new(None) };
}

/// Returns a batch of one record.
fn batch(key: &[u8], data: &[u8]) -> Batch {
    RECORDS.with_borrow_mut(|records| {
        if records.as_ref().is_none_or(|records| records.count == RECORDS_MAX) {
            let directory = tempfile::tempdir().expect("a temporary directory");
            let options = StreamOptions::new().maintenance(Maintenance::Manual).sync_interval(None);
            let stream = options.open(directory.path()).expect("a stream");
            *records = Some(Records { stream, count: 0, _directory: directory });
        }
        let records = records.as_mut().expect("it was made");
        records.count += 1;
        let receipt = records.stream.put(key, data).expect("a put");
        let mut iterator =
            records.stream.iterator(receipt.shard, Position::At(receipt.sequence)).expect("an iterator");
        iterator.next_batch(1).expect("a batch")
    })
}

fuzz_target!(|input: &[u8]| {
    let mut parts = input.splitn(4, |&byte| byte == 0);
    let [one, other, key, data] = [(); 4].map(|()| parts.next().unwrap_or_default());
    let key = if key.is_empty() { b"k" } else { &key[..key.len().min(1_024)] };
    let batch = batch(key, data);
    let record = batch.iter().next().expect("one was put");

    // Whether data is JSON. No object has a name that the text of the data does not have.
    let name = format!("x{}", data.len());
    if !data.contains(&b'\\') && !data.windows(name.len()).any(|window| window == name.as_bytes()) {
        let absent = Filter::new(&format!(r#"{{"data": {{"{name}": [{{"exists": false}}]}}}}"#)).expect("a pattern");
        let is_json = match serde_json::from_slice::<serde_json::Value>(data) {
            Ok(_) => true,
            Err(error) => error.to_string().contains("number out of range"),
        };
        assert_eq!(absent.matches(&record), is_json);
    }

    let [one, other] = [one, other].map(|pattern| std::str::from_utf8(pattern).unwrap_or_default());
    let (Ok(first), Ok(second)) = (Filter::new(one), Filter::new(other)) else { return };
    let both = Filter::any_of([one, other]).expect("each of them is right");
    assert_eq!(both.matches(&record), first.matches(&record) || second.matches(&record));
});
