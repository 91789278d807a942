//! Continuous queries for viewers: a `SELECT` whose rows go to a function, and which leaves nothing behind.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use datafusion::arrow::array::RecordBatch;

use super::options::PumpOptions;
use super::output::Output;
use super::pump::Pump;
use super::state::inside;
use crate::query::Catalog;
use crate::query::error::{QueryError, StatementError};
use crate::{Clock, StreamReader, SystemClock};

/// The prefix of the names of pumps that leave nothing behind.
const PREFIX: &str = "watch_";

impl Catalog {
    /// Starts a `SELECT` as a continuous query, and calls a function with its rows as they come: those of new records, or of windows as they end.
    /// [`PumpOptions::start_at`] sets another beginning.
    ///
    /// Unlike a pump that inserts, it does not continue where it was when it is started again: when it is closed or dropped, it deletes its state in
    /// the streams. The state of a killed process remains until the next call for the same stream. Several watches may read a stream at the same
    /// time.
    ///
    /// The function is called like that of [`Output::function`]. While it runs, the query waits, and no rows are lost.
    ///
    /// ```
    /// # use std::sync::mpsc;
    /// # use streamlog::Stream;
    /// use streamlog::query::{Catalog, PumpOptions, Schema};
    /// # let directory = tempfile::tempdir()?;
    /// # let clicks = Stream::open(directory.path())?;
    ///
    /// let catalog = Catalog::new().stream("clicks", &clicks, Schema::json("page VARCHAR, ms DOUBLE")?)?;
    /// let (rows, seen) = mpsc::channel();
    /// let pump = catalog.watch("SELECT page FROM clicks WHERE ms > 1000", PumpOptions::new(), move |batch| {
    ///     rows.send(batch.num_rows())
    /// })?;
    /// clicks.put("user-17", r#"{"page": "/cart", "ms": 1500}"#)?;
    /// assert_eq!(seen.recv()?, 1);
    /// pump.close()?;
    /// assert!(clicks.groups()?.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `Statement` with the place if the statement cannot run; `Invalid` if it is not a single `SELECT`; otherwise same as
    /// [`start_all`](Self::start_all).
    pub fn watch<E: fmt::Display>(
        &self,
        statement: &str,
        options: PumpOptions,
        function: impl Fn(&RecordBatch) -> Result<(), E> + Send + Sync + 'static,
    ) -> Result<Pump, QueryError> {
        let name = new_name();
        let text = format!("INSERT INTO {name}\n{statement}");
        let told = |error| match error {
            QueryError::Statement(error) if error.statement() == text => {
                QueryError::from(StatementError::one_line_up(*error, statement))
            }
            error => error,
        };
        let catalog = self.clone().output(&name, Output::function(function))?;
        let program = catalog.program(&text).map_err(told)?;
        let ([plan], []) = (&*program.pumps, &*program.streams) else {
            return Err(QueryError::Invalid("write a single SELECT".to_owned()));
        };
        let sources = plan.inputs.iter().filter_map(|input| self.source(&input.stream));
        let streams: Vec<_> = sources.map(|source| source.reader.clone()).collect();
        streams.iter().for_each(sweep);
        let mut pumps = catalog.run(program, &options).map_err(told)?;
        match (pumps.pop(), streams.first()) {
            (Some(pump), Some(stream)) => Ok(pump.forgetting(stream)),
            _ => Err(QueryError::Invalid("write a SELECT from a stream".to_owned())),
        }
    }
}

/// Returns a name that no other pump has.
fn new_name() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let (now, process) = (SystemClock.now().as_micros(), std::process::id());
    format!("{PREFIX}{now:x}_{process:x}_{:x}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Removes what killed processes left behind. State in use cannot be deleted, and stays.
fn sweep(stream: &StreamReader) {
    let inside = inside(stream);
    for name in inside.names().unwrap_or_default().iter().filter(|name| name.starts_with(PREFIX)) {
        let _ = inside.delete(name);
    }
    // The journal of a pump, in the first stream that it reads, is made before its groups.
    let live = inside.names().unwrap_or_default();
    for group in stream.groups().unwrap_or_default() {
        let Some((_, pump)) = group.split_once('-').filter(|(kind, _)| kind.starts_with("sql")) else {
            continue;
        };
        if pump.starts_with(PREFIX) && !live.iter().any(|name| name == pump) {
            let _ = stream.group(&*group).delete();
        }
    }
}
