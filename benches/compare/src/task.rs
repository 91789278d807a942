//! One measurement: what is done, and what came out.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::contender::Class;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// Threads put records, one at a time or in batches.
    Put,
    /// Readers read all that was put.
    Read,
    /// One reader reads records here and there, by number.
    Random,
    /// The same by time.
    RandomByTime,
    /// A writer keeps time, a reader follows: the delay from when a record was due to when it was read.
    Delay,
    /// Puts, and then lies open until it is killed, or closes.
    Fill,
    /// Opens what a `Fill` left, and reads it.
    Open,
    /// What it takes on disk and in memory.
    Space,
}

/// All that one measurement needs to know.
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
    /// Stop putting at so many bytes.
    pub bytes_total: u64,
    /// Stop at so many seconds, if that comes first.
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
    /// It has no call for this: no failure.
    pub no_call: Option<String>,
    pub failure: Option<String>,
}

/// Figures that tables and charts are made of.
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
