//! What tests of continuous queries share: streams on a clock of their own, what is in them, and waiting for a pump.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use streamlog::query::Pump;
use streamlog::{Maintenance, ManualClock, Stream, StreamOptions};

const LIMIT: Duration = Duration::from_secs(20);

pub fn open(directory: &Path, name: &str, clock: &Arc<ManualClock>) -> Stream {
    let options = StreamOptions::new().segment_bytes(1 << 20).maintenance(Maintenance::Manual);
    options.clock(clock.clone()).open(directory.join(name)).unwrap()
}

/// Returns the data of all records, parents before their children.
pub fn texts(stream: &Stream) -> Vec<String> {
    super::killed::data(stream).into_iter().map(|data| String::from_utf8(data).unwrap()).collect()
}

pub fn wait_for(is_so: impl Fn() -> bool, what: impl Fn() -> String) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < LIMIT, "it does not come: {}", what());
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// Waits until a pump has handled so many records.
pub fn wait_until_read(pump: &Pump, count: u64) {
    wait_for(|| pump.stats().records_in >= count, || format!("{:?}", pump.stats()));
}
