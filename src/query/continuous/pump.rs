//! The handle of a continuous query.

use std::fmt;
use std::sync::Arc;
use std::thread::{JoinHandle, ThreadId};

use datafusion::prelude::SessionContext;
use parking_lot::Mutex;

use super::options::PumpOptions;
use super::output::Output;
use super::program::Declared;
use super::shared::Shared;
use super::start::{Running, Source, forget, start};
use crate::query::error::QueryError;
use crate::query::statement::plan::Plan;
use crate::{Group, Lag, StreamReader, Timestamp, extend};

/// A continuous query: a statement that runs until it is closed. Dropping it closes it.
///
/// It runs on its own thread. It ends by itself if its stream is closed, or after a permanent error. Then [`stats`](Self::stats) and
/// [`close`](Self::close) return the reason.
///
/// # Durability
/// Its positions, its held rows and its output survive whatever the stream's puts survive. Into a stream, each row is put **exactly once**. After
/// power loss, this requires that both streams have [`Durability::Power`](crate::Durability::Power). A function gets each row **at least once**.
pub struct Pump {
    name: String,
    thread: ThreadId,
    running: Mutex<Option<JoinHandle<Result<(), QueryError>>>>,
    shared: Arc<Shared>,
    groups: Vec<Group>,
    ended: Mutex<Option<QueryError>>,
    /// The stream from which all traces of the pump are removed when it is closed, if that was requested.
    forgets: Option<StreamReader>,
    /// The streams that its statements declare, which stay open as long as it exists.
    _declared: Arc<Vec<Declared>>,
}

/// What a pump has done since its start, and what it holds now.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct PumpStats {
    /// The records that were read.
    pub records_in: u64,
    /// The rows that the output has accepted.
    pub rows_out: u64,
    /// The rows that came after their window had ended.
    pub late: u64,
    /// The records that do not fit the schema, and the rows for which the statement failed or which the output refused.
    pub refused: u64,
    /// The records that were lost before they were read: dropped by retention, or damaged and given up.
    pub skipped: u64,
    /// The rows that are held in open windows, for joins, and to look back at.
    pub held_rows: u64,
    /// The memory of the held rows, in bytes.
    pub held_bytes: u64,
    /// All windows that end by this time are in the output. `None` if the statement has no windows, or no window has opened yet.
    pub watermark: Option<Timestamp>,
    /// The records that the pump has not read yet. Zero if the lag cannot be determined.
    pub lag: Lag,
    /// The last error. It remains after the pump has recovered.
    pub last_error: Option<String>,
    /// Whether the pump has ended.
    pub has_ended: bool,
}

impl fmt::Debug for Pump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pump").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Pump {
    /// Starts a plan. `sources` are the streams of its inputs. `session` has the tables and functions that its statements may use, and is
    /// this pump's own.
    pub(in crate::query) fn start(
        plan: &Plan,
        sources: Vec<Source>,
        session: &SessionContext,
        output: Output,
        options: PumpOptions,
    ) -> Result<Self, QueryError> {
        let Running { shared, groups, thread } = start(plan, sources, session, output, options)?;
        Ok(Self {
            name: plan.name.clone(),
            thread: thread.thread().id(),
            running: Mutex::new(Some(thread)),
            shared,
            groups,
            ended: Mutex::default(),
            forgets: None,
            _declared: Arc::default(),
        })
    }

    /// Keeps streams open as long as the pump exists.
    pub(super) fn with_streams(mut self, declared: Arc<Vec<Declared>>) -> Self {
        self._declared = declared;
        self
    }

    /// Forgets what the pump has read and holds when it is closed. `stream` is the first that it reads.
    pub(super) fn forgetting(mut self, stream: &StreamReader) -> Self {
        self.forgets = Some(stream.clone());
        self
    }

    /// Returns the pump's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns what the pump has done since its start, and what it holds now.
    pub fn stats(&self) -> PumpStats {
        let counts = self.shared.counts();
        let lag = self.groups.iter().filter_map(|group| group.describe().ok()).map(|group| group.lag());
        PumpStats {
            records_in: counts.records_in,
            rows_out: counts.rows_out,
            late: counts.late,
            refused: counts.refused,
            skipped: counts.skipped,
            held_rows: counts.held.rows as u64,
            held_bytes: counts.held.bytes as u64,
            watermark: counts.watermark.and_then(|time| u64::try_from(time).ok()).map(Timestamp::from_micros),
            lag: lag.fold(Lag::default(), Lag::plus),
            last_error: counts.last_error,
            has_ended: counts.has_ended,
        }
    }

    /// Returns how often the pump has found nothing to do.
    #[cfg(test)]
    pub(super) fn rests(&self) -> u64 {
        self.shared.counts().rests
    }

    /// Reads the files that the statement joins again. The pump reads them completely when it starts, and rereads them only in this call. The call
    /// waits until the pump has finished its work in progress. Rows that it reads later are joined with the new tables.
    ///
    /// # Errors
    /// If a table cannot be read, or if the tables together exceed [`PumpOptions::memory_limit`]: all of them then stay unchanged, and the pump
    /// continues. If the pump has ended. `Invalid` if the function of an output calls it, because the pump would wait for itself.
    pub fn reload_tables(&self) -> Result<(), QueryError> {
        if self.is_called_back() {
            return Err(QueryError::Invalid(
                "tables cannot be read again from within a callback: do it in another thread".to_owned(),
            ));
        }
        self.shared.reload()
    }

    /// Returns whether the caller is the pump's own thread, such as in the function of an output, or another thread that must not wait for it.
    fn is_called_back(&self) -> bool {
        self.thread == std::thread::current().id() || extend::is_in_callback()
    }

    /// Ends the pump, after it has finished or saved its work in progress. It does not wait for a join that compares all pairs of rows: the records
    /// of such a join are read again when the pump is restarted. Open windows stay open, and the pump then continues with them.
    ///
    /// # Errors
    /// The error with which the pump had ended before, if it had failed. Later calls return the same.
    pub fn close(&self) -> Result<(), QueryError> {
        self.shared.close();
        // The function of an output may close its own pump, even while another thread waits for the end.
        if self.is_called_back() {
            return Ok(());
        }
        let mut running = self.running.lock();
        if let Some(thread) = running.take() {
            let panicked = |_| Err(QueryError::Failed("the pump has panicked".to_owned()));
            *self.ended.lock() = thread.join().unwrap_or_else(panicked).err();
            if let Some(stream) = &self.forgets {
                // If that fails, the next query that forgets removes the rest.
                let _ = forget(stream, &self.name, &self.groups, &[]);
            }
        }
        match &*self.ended.lock() {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        let _ = self.close();
    }
}
