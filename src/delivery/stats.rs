//! What a delivery has done.

use serde::Serialize;

/// What a delivery has done since it was started, and what it does: see [`Delivery::stats`](super::Delivery::stats).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DeliveryStats {
    /// Records that were read.
    pub read_records: u64,
    /// Rows that were delivered: records, unless a step makes several rows of one, or none.
    pub records: u64,
    /// Objects that were delivered, those of the error output and of the backup among them.
    pub objects: u64,
    /// The bytes of these objects.
    pub bytes: u64,
    /// Rows that went to the error output.
    pub failed_records: u64,
    /// Records that retention had dropped, or that damage took, before they were read.
    pub skipped: u64,
    /// Attempts that failed.
    pub errors: u64,
    /// The last of these errors.
    pub last_error: Option<String>,
    /// The bytes that buffered rows and objects on their way take in memory.
    pub buffered_bytes: u64,
    /// Objects on their way.
    pub pending_objects: u64,
    /// Partitions with buffered rows.
    pub active_partitions: u64,
}
