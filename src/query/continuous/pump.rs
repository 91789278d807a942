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
/// It runs on a thread of its own. It ends by itself if its stream is closed, or after an error that will not pass; then
/// [`stats`](Self::stats) and [`close`](Self::close) say why.
///
/// # Durability
/// What it has read, what it holds and what it puts survive what the stream's puts survive. Into a stream, each row is put **exactly
/// once**. After power loss, that holds if both streams have [`Durability::Power`](crate::Durability::Power). A function gets each row **at
/// least once**.
pub struct Pump {
    name: String,
    thread: ThreadId,
    running: Mutex<Option<JoinHandle<Result<(), QueryError>>>>,
    shared: Arc<Shared>,
    groups: Vec<Group>,
    ended: Mutex<Option<QueryError>>,
    /// The stream that is left without a trace of the pump when it is closed, if that was asked for.
    forgets: Option<StreamReader>,
    /// The streams that its statements declare, which stay open with it.
    _declared: Arc<Vec<Declared>>,
}

/// What a pump has done since it was started, and what it holds.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct PumpStats {
    /// The records that were read.
    pub records_in: u64,
    /// The rows that the output has taken.
    pub rows_out: u64,
    /// The rows that came after their window had ended.
    pub late: u64,
    /// The records that do not fit the schema, and the rows for which the statement failed or which the output refused.
    pub refused: u64,
    /// The records that were gone before they were read: dropped by retention, or damaged and given up.
    pub skipped: u64,
    /// The rows that are held in open windows, for joins, and to look back at.
    pub held_rows: u64,
    /// The memory that they take, in bytes.
    pub held_bytes: u64,
    /// All windows that end by this time have gone out. `None` if the statement has no windows, or none has been open yet.
    pub watermark: Option<Timestamp>,
    /// What the pump has not read yet. Zero if it cannot be found.
    pub lag: Lag,
    /// The last thing that went wrong, whether it has passed or not.
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

    /// Returns what the pump has done since it was started, and what it holds.
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

    /// Reads the files again that the statement joins. The pump reads them whole when it starts, and what it finds there changes only by this.
    /// Waits until the pump has done what it has in hand. Rows that it reads later meet the new tables.
    ///
    /// # Errors
    /// If a table cannot be read, or if they take more than [`PumpOptions::memory_limit`] together: then all stay as they were, and the pump
    /// goes on. If the pump has ended. `Invalid` if it is called by the function of an output, which the pump would wait for.
    pub fn reload_tables(&self) -> Result<(), QueryError> {
        if self.is_called_back() {
            return Err(QueryError::Invalid(
                "tables cannot be read again from within a callback: do it in another thread".to_owned(),
            ));
        }
        self.shared.reload()
    }

    /// Returns whether its own thread asks, such as by the function of an output, or another that must not wait for it.
    fn is_called_back(&self) -> bool {
        self.thread == std::thread::current().id() || extend::is_in_callback()
    }

    /// Ends the pump, once what it has in hand is done or kept. A join that tries each row with each other is not waited for: its records come again
    /// when the pump is started again. Windows that are open stay open, and the pump goes on with them then.
    ///
    /// # Errors
    /// Why the pump had ended already, if it had failed. A later call returns the same.
    pub fn close(&self) -> Result<(), QueryError> {
        self.shared.close();
        // The function of an output may close the pump that it is called by, also while another thread waits for the end.
        if self.is_called_back() {
            return Ok(());
        }
        let mut running = self.running.lock();
        if let Some(thread) = running.take() {
            let panicked = |_| Err(QueryError::Failed("the pump has panicked".to_owned()));
            *self.ended.lock() = thread.join().unwrap_or_else(panicked).err();
            if let Some(stream) = &self.forgets {
                // What cannot be removed is removed by the next query that forgets.
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
