//! The settings of a gateway for SQL statements.

use std::time::Duration;

use crate::gateway::Gateway;

impl Gateway {
    /// Sets how many SQL queries of all callers may run at a time. Default: 4. With 0, SQL is off.
    ///
    /// `docs/KINESIS.md` says who may query. The memory bound of a query does not cover functions that make long values from a few bytes, so
    /// give the permission only to users whom you trust with the memory of the process.
    ///
    /// ```
    /// # use streamlog::{Store, StreamOptions};
    /// # use streamlog::gateway::Gateway;
    /// # let directory = tempfile::tempdir()?;
    /// let store = Store::open(directory.path(), StreamOptions::new())?;
    /// let running = Gateway::new(store).without_authentication().queries_max(0).start("127.0.0.1:0")?;
    /// # running.close()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn queries_max(mut self, count: usize) -> Self {
        self.sql.queries_max = count;
        self
    }

    /// Sets how many live SQL queries of all callers may run at a time. Default: 8. Each has a thread.
    pub fn live_queries_max(mut self, count: usize) -> Self {
        self.sql.live_queries_max = count;
        self
    }

    /// Sets how long a SQL query may run. Default: 30 seconds. A live query runs as long as its client listens.
    pub fn query_time_max(mut self, time: Duration) -> Self {
        self.sql.time_max = time;
        self
    }

    /// Sets how much memory, in bytes, each SQL query may use to sort, group and join, and each live query for the rows of open windows. Default:
    /// 256 MiB. A query that sorts or joins more uses temporary files, up to 32 times as much.
    pub fn query_memory_bytes_max(mut self, bytes: usize) -> Self {
        self.sql.memory_bytes_max = bytes;
        self
    }
}
