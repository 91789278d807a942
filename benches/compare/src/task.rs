//! One measurement: its task and its outcome.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::contender::Class;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// Threads put records, one at a time or in batches.
    Put,
    /// Readers read everything that was put.
    Read,
    /// One reader reads random records, by number.
    Random,
    /// The same by time.
    RandomByTime,
    /// A writer puts at a fixed pace and a reader follows: the delay from when a record was due to when it was read.
    Delay,
    /// Puts, and then keeps the log open until it is killed, or closes it.
    Fill,
    /// Opens what a `Fill` left, and reads a record.
    Open,
    /// The bytes that a log takes on disk and in memory.
    Space,
}

/// Everything that one measurement needs to know.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Task {
    pub kind: Kind,
    pub contender: String,
    pub class: Class,
    pub record_bytes: usize,
    pub key_bytes: usize,
    pub batch: usize,
    pub threads: usize,
    pub lanes: usize,
    /// Each thread puts to a lane of its own, not to all of them in turn.
    pub own_lanes: bool,
    pub readers: usize,
    /// Stop putting after this many bytes.
    pub bytes_total: u64,
    /// Stop after this many seconds, if that comes first.
    pub seconds: f64,
    /// Records a second, for delays.
    pub rate: u64,
    pub park: bool,
    pub is_killed: bool,
    pub segment_bytes: Option<u64>,
}

impl Default for Task {
    fn default() -> Self {
        Self {
            kind: Kind::Put,
            contender: String::new(),
            class: Class::Process,
            record_bytes: 1 << 10,
            key_bytes: 10,
            batch: 1,
            threads: 1,
            lanes: 1,
            own_lanes: false,
            readers: 1,
            bytes_total: 0,
            seconds: 10.0,
            rate: 0,
            park: false,
            is_killed: false,
            segment_bytes: None,
        }
    }
}

/// Figures by name, or why there are none.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Outcome {
    pub figures: BTreeMap<String, f64>,
    /// The contender has no call for this, which is not a failure.
    pub no_call: Option<String>,
    pub failure: Option<String>,
}

/// The names of the figures in tables and charts.
pub mod figure {
    pub const RECORDS_PER_SECOND: &str = "records_per_second";
    pub const MIB_PER_SECOND: &str = "mib_per_second";
    pub const NANOS_PER_RECORD: &str = "nanos_per_record";
    pub const MIB_THERE: &str = "mib_there";
    pub const P50: &str = "p50_micros";
    pub const P99: &str = "p99_micros";
    pub const P99_9: &str = "p99_9_micros";
    pub const P99_99: &str = "p99_99_micros";
    pub const ACHIEVED: &str = "achieved_records_per_second";
    pub const OPEN_MILLIS: &str = "open_millis";
    pub const FIRST_READ_MILLIS: &str = "first_read_millis";
    pub const DISK_RATIO: &str = "disk_over_payload";
    pub const DISK_RATIO_OPEN: &str = "disk_over_payload_while_open";
    pub const PRIVATE_MIB: &str = "private_memory_mib";
    pub const MAPPED_MIB: &str = "mapped_memory_mib";
}
