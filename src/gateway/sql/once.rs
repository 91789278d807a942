//! A query: a statement that is answered once.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::super::fault::{Answered, Fault};
use super::super::operations::Later;
use super::super::wire::{Format, Value};
use super::{Session, Sql, answer, tables};
use crate::query::{Catalog, Rows, Stopper};

/// The largest answer, in bytes, beyond which it is cut.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// How a query is answered.
#[derive(Debug, Clone, Copy)]
pub(in crate::gateway) struct Wanted {
    pub(in crate::gateway) rows_max: usize,
    pub(in crate::gateway) time: Duration,
    pub(in crate::gateway) format: Format,
}

/// Ends a query that nobody waits for.
#[derive(Debug, Default)]
struct Stop(Mutex<Stopping>);

#[derive(Debug, Default)]
struct Stopping {
    is_stopped: bool,
    stopper: Option<Stopper>,
}

impl Stop {
    fn stop(&self) {
        let mut stopping = self.0.lock();
        stopping.is_stopped = true;
        stopping.stopper.iter().for_each(Stopper::stop);
    }

    /// Notes what ends the query, which may have to end already.
    fn note(&self, rows: &Rows) {
        let stopper = rows.stopper();
        let mut stopping = self.0.lock();
        if stopping.is_stopped {
            stopper.stop();
        }
        stopping.stopper = Some(stopper);
    }
}

/// Ends a query when its client leaves.
struct Waiting(Arc<Stop>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.stop();
    }
}

impl Sql {
    /// Starts a query. It ends early when the answer is dropped.
    pub(in crate::gateway) fn query(&self, session: Session, wanted: Wanted) -> Answered<Later> {
        let Session { streams, statement, mut ending, place } = session;
        let empty = self.empty();
        let waiting = Waiting(Arc::default());
        let stop = Arc::clone(&waiting.0);
        let (sender, receiver) = oneshot::channel();
        let work = move || {
            let answer = tables::add(empty, &streams, &statement)
                .and_then(|(catalog, notes)| run(&catalog, notes, &statement, wanted, &stop));
            // A client that has the answer may send the next query.
            drop(place);
            let _ = sender.send(answer);
        };
        // A separate thread, so that slow queries hold up no other request.
        let spawned = thread::Builder::new().name("streamlog-query".to_owned()).spawn(work);
        spawned.map_err(|error| {
            tracing::error!(%error, "a query has no thread");
            Fault::internal()
        })?;
        Ok(Box::pin(async move {
            let _waiting = waiting;
            tokio::select! {
                answer = receiver => answer.unwrap_or_else(|_| Err(Fault::internal())),
                () = tokio::time::sleep(wanted.time) => Err(Fault::limit(format!(
                    "The query was ended after {} ms. Ask for less: a filter on _arrival, a LIMIT.",
                    wanted.time.as_millis()
                ))),
                _ = ending.wait_for(|is_ending| *is_ending) => Err(Fault::bare("ServiceUnavailableException")),
            }
        }))
    }
}

fn run(
    catalog: &Catalog,
    notes: Vec<String>,
    statement: &str,
    wanted: Wanted,
    stop: &Stop,
) -> Answered<Vec<u8>> {
    let begun = Instant::now();
    let mut rows = catalog.query(statement).map_err(|error| answer::fault(&error))?;
    stop.note(&rows);
    let columns = answer::columns(&rows.columns());
    let (mut taken, mut bytes, mut has_more) = (vec![], 0, false);
    'all: for batch in rows.by_ref() {
        let batch = batch.map_err(|error| answer::fault(&error))?;
        for row in answer::rows(&batch).map_err(|error| answer::fault(&error))? {
            if taken.len() >= wanted.rows_max || bytes > ANSWER_BYTES_MAX {
                has_more = true;
                break 'all;
            }
            bytes += wanted.format.encode(&row).len();
            taken.push(row);
        }
    }
    let refused = rows.refused();
    let examples = refused.examples.into_iter().map(answer::refused).collect();
    let value = Value::map([
        ("Columns", columns),
        ("Rows", Value::List(taken)),
        ("HasMoreRows", Value::Bool(has_more)),
        ("RefusedRecords", answer::count(refused.count)),
        ("RefusedExamples", Value::List(examples)),
        ("SkippedRecords", answer::count(rows.trimmed() + rows.lost())),
        ("Notes", answer::texts(notes)),
        ("TookMillis", answer::count(begun.elapsed().as_millis() as u64)),
    ]);
    Ok(wanted.format.encode(&value))
}
