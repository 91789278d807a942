//! How a pump runs.

use std::time::Duration;

use super::output::Output;
use crate::Position;

const MEMORY_LIMIT: usize = 1 << 30;

/// How a pump runs: a builder with defaults.
///
/// ```
/// use std::time::Duration;
/// use streamlog::Position;
/// use streamlog::query::PumpOptions;
///
/// let options = PumpOptions::new()
///     .start_at(Position::Latest)
///     .memory_limit(256 << 20)
///     .idle_timeout(Duration::from_secs(10));
/// # let _ = options;
/// ```
#[derive(Debug, Clone)]
#[must_use = "options do nothing until a pump is started with them"]
pub struct PumpOptions {
    pub(super) start: Position,
    pub(super) memory_limit: usize,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) begin_anew: bool,
    pub(super) errors: Option<Output>,
    pub(super) hold: Option<u64>,
}

impl Default for PumpOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl PumpOptions {
    /// Returns the defaults.
    pub fn new() -> Self {
        Self {
            start: Position::TrimHorizon,
            memory_limit: MEMORY_LIMIT,
            idle_timeout: None,
            begin_anew: false,
            errors: None,
            hold: None,
        }
    }

    /// Sets where a new pump begins to read: `TrimHorizon`, `Latest` or `AtTimestamp`. One that has run before goes on where it was. Default:
    /// `TrimHorizon`.
    pub fn start_at(mut self, position: Position) -> Self {
        self.start = position;
        self
    }

    /// Sets how many bytes of rows the pump may hold in open windows, for joins, and to look back at. Default: 1 GiB.
    ///
    /// From four fifths of it on, the pump does not read the shards whose time is ahead of others. Beyond it, the pump ends with
    /// [`QueryError::Memory`](crate::query::QueryError::Memory). Its state stays, and it goes on when it is started with a higher limit. What
    /// evaluating the rows of a window takes comes on top, and has the memory limit of the catalog.
    ///
    /// The tables that the statement joins may take as much again, all of them together.
    pub fn memory_limit(mut self, bytes: usize) -> Self {
        self.memory_limit = bytes;
        self
    }

    /// Sets how long a shard may be without rows until it no longer holds the watermark back, for event time. Default: that of the
    /// [schema](crate::query::Schema::idle_timeout).
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = Some(timeout);
        self
    }

    /// Forgets what a pump of this name has read and holds, and begins as if it were new, also with another statement. What it has put stays.
    /// Default: false, and another statement than the one before is refused.
    pub fn begin_anew(mut self, begin_anew: bool) -> Self {
        self.begin_anew = begin_anew;
        self
    }

    /// Sets where rows go that cannot be handled: records that do not fit the schema, rows that come after their window has ended, rows for which
    /// the statement fails, and rows that the output refuses. Default: nowhere. They are [counted](crate::query::PumpStats) in any case.
    ///
    /// The columns are those of the error stream of Kinesis Data Analytics: `ERROR_TIME`, `ERROR_LEVEL`, `ERROR_NAME`, `MESSAGE`,
    /// `DATA_ROWTIME`, `DATA_ROW` (the record's data in hexadecimal, up to 24,576 bytes of it) and `PUMP_NAME`. Into a stream, they go as JSON,
    /// each exactly once.
    pub fn error_output(mut self, output: Output) -> Self {
        self.errors = Some(output);
        self
    }

    /// Holds retention back for the pump, as [`WorkerOptions::hold`](crate::WorkerOptions::hold) does. Without it, records that retention drops
    /// before they are read are skipped, and counted.
    pub fn hold(mut self, bytes_max: u64) -> Self {
        self.hold = Some(bytes_max);
        self
    }
}
