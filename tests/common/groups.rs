//! Shared by the tests of consumer groups.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use streamlog::{Batch, MINUTE, ManualClock, Stream, Worker};

pub const GROUP: &str = "billing";

pub fn open(path: &Path, clock: &Arc<ManualClock>, shards: u32) -> Stream {
    super::small(clock).shards(shards).open(path).unwrap()
}

pub fn put(stream: &Stream, numbers: std::ops::Range<u32>) {
    for number in numbers {
        stream.put(format!("key-{}", number % 50), number.to_string()).unwrap();
    }
}

pub fn numbers(batch: &Batch) -> Vec<u32> {
    batch.iter().map(|record| std::str::from_utf8(record.data()).unwrap().parse().unwrap()).collect()
}

pub fn worker(stream: &Stream) -> Worker {
    stream.group(GROUP).worker().lease_timeout(MINUTE).open().unwrap()
}

pub fn poll(worker: &mut Worker) -> Option<Batch> {
    worker.poll(Duration::ZERO).unwrap()
}

/// Reads and commits until nothing is left.
pub fn drain(worker: &mut Worker) -> Vec<u32> {
    let mut read = vec![];
    while let Some(batch) = poll(worker) {
        read.extend(numbers(&batch));
        worker.commit(&batch).unwrap();
    }
    read
}

pub fn sorted(mut numbers: Vec<u32>) -> Vec<u32> {
    numbers.sort_unstable();
    numbers
}
