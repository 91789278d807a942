//! Shared by tests of continuous queries: streams with their own clock, their contents, and waiting for a pump.

use std::path::Path;
use std::sync::Arc;

use streamlog::query::Pump;
use streamlog::{Maintenance, ManualClock, Stream, StreamOptions};

use super::waiting::eventually_or;

pub fn open(directory: &Path, name: &str, clock: &Arc<ManualClock>) -> Stream {
    let options = StreamOptions::new().segment_bytes(1 << 20).maintenance(Maintenance::Manual);
    options.clock(clock.clone()).open(directory.join(name)).unwrap()
}

/// Returns the data of all records, parents before their children.
pub fn texts(stream: &Stream) -> Vec<String> {
    super::killed::data(stream).into_iter().map(|data| String::from_utf8(data).unwrap()).collect()
}

/// Waits until a pump has handled this many records.
pub fn wait_until_read(pump: &Pump, count: u64) {
    eventually_or(|| pump.stats().records_in >= count, || format!("{:?}", pump.stats()));
}
