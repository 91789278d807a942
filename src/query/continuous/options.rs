//! How a pump runs.

use std::time::Duration;

use super::output::Output;
use crate::Position;

const MEMORY_LIMIT: usize = 1 << 30;

/// The options of a pump.
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

    /// Sets where a new pump begins to read: `TrimHorizon`, `Latest` or `AtTimestamp`. An existing pump continues where it was. Default:
    /// `TrimHorizon`.
    pub fn start_at(mut self, position: Position) -> Self {
        self.start = position;
        self
    }

    /// Sets how many bytes of rows the pump may hold in open windows, for joins, and to look back at. Default: 1 GiB.
    ///
    /// Above four fifths of the limit, the pump stops reading the shards whose time is ahead of others. Beyond the limit, the pump ends with
    /// [`QueryError::Memory`](crate::query::QueryError::Memory). Its state remains, and it continues when it is started with a higher limit.
    /// Evaluating the rows of a window takes additional memory, which the catalog limits.
    ///
    /// The tables that the statement joins may together take as much memory again.
    pub fn memory_limit(mut self, bytes: usize) -> Self {
        self.memory_limit = bytes;
        self
    }

    /// Sets after how long without rows a shard no longer holds back the watermark, for event time. Default: that of the
    /// [schema](crate::query::Schema::idle_timeout).
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = Some(timeout);
        self
    }

    /// Deletes the position and state of a pump of this name, and begins as a new pump, possibly with another statement. Rows that were already put
    /// remain. Default: false, and a changed statement is refused.
    pub fn begin_anew(mut self, begin_anew: bool) -> Self {
        self.begin_anew = begin_anew;
        self
    }

    /// Sets the output for rows that cannot be handled: records that do not fit the schema, rows that come after their window has ended, rows for
    /// which the statement fails, and rows that the output refuses. Default: none. They are [counted](crate::query::PumpStats) in any case.
    ///
    /// The columns are those of the error stream of Kinesis Data Analytics: `ERROR_TIME`, `ERROR_LEVEL`, `ERROR_NAME`, `MESSAGE`,
    /// `DATA_ROWTIME`, `DATA_ROW` (the record's data in hexadecimal, up to 24,576 bytes of it) and `PUMP_NAME`. Into a stream, they go as JSON,
    /// each exactly once.
    pub fn error_output(mut self, output: Output) -> Self {
        self.errors = Some(output);
        self
    }

    /// Makes retention keep up to this many bytes for the pump, like [`WorkerOptions::hold`](crate::WorkerOptions::hold). Without a hold, records
    /// that retention drops before they are read are skipped and counted.
    pub fn hold(mut self, bytes_max: u64) -> Self {
        self.hold = Some(bytes_max);
        self
    }
}
