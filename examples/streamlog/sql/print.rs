//! Running one statement and printing its rows.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::concat_batches;
use streamlog::query::{Catalog, QueryError, Rows};

use super::RowFormat;
use super::lines::lines;
use crate::failure::{Failure, Outcome, tell};
use crate::output::{counted, terminal_columns};
use crate::{check_interrupted, standard};

/// The longest time before Ctrl-C is noticed.
const LOOK: Duration = Duration::from_millis(20);

/// Where rows go, and in which format.
#[derive(Debug)]
pub(crate) struct Screen {
    out: Out,
    pub(crate) is_terminal: bool,
    pub(crate) format: RowFormat,
    rows_max: usize,
}

/// Standard output. Keeps the reason of a failure for callers that see only that one occurred.
#[derive(Debug)]
pub(crate) struct Out {
    file: BufWriter<File>,
    failed: Option<io::Error>,
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes);
        self.note(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = self.file.flush();
        self.note(flushed)
    }
}

impl Out {
    pub(crate) fn new() -> Result<Self, Failure> {
        let file = standard::output().map_err(Failure::Output)?;
        Ok(Self { file: BufWriter::with_capacity(64 << 10, file), failed: None })
    }

    pub(crate) fn is_terminal(&self) -> bool {
        self.file.get_ref().is_terminal()
    }

    /// Fails if a write has failed, or would because the reader of a pipe has closed it.
    pub(crate) fn check(&mut self) -> io::Result<()> {
        if standard::has_lost_its_reader(self.file.get_ref()) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.failed.take().map_or(Ok(()), Err)
    }

    /// Formats rows for people: as a table, or as lines if that is too wide for the terminal. The first row has the number `first`.
    pub(crate) fn text_of(
        &self,
        rows: &RecordBatch,
        format: RowFormat,
        first: usize,
    ) -> Result<String, QueryError> {
        if !self.is_terminal() {
            return match format {
                RowFormat::Lines => lines(rows, first),
                _ => Rows::from(rows.clone()).to_table(),
            };
        }
        let table = Rows::from(rows.clone()).to_table()?;
        let width = table.lines().next().map_or(0, |line| line.chars().count());
        let is_too_wide = terminal_columns().is_some_and(|columns| width > columns);
        let text = if format == RowFormat::Lines || is_too_wide { lines(rows, first)? } else { table };
        Ok(harmless(text))
    }

    fn note<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        result.map_err(|error| {
            let kind = error.kind();
            if kind != io::ErrorKind::Interrupted {
                self.failed.get_or_insert(error);
            }
            kind.into()
        })
    }
}

impl Screen {
    pub(crate) fn new(format: RowFormat, rows_max: usize) -> Result<Self, Failure> {
        let out = Out::new()?;
        let is_terminal = out.is_terminal();
        Ok(Self { out, is_terminal, format, rows_max })
    }

    /// Prints a text.
    pub(crate) fn text(&mut self, text: &str) -> Outcome {
        self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush()).map_err(|error| self.lost(error))
    }

    /// Runs a statement, and prints its rows. Ctrl-C ends it.
    pub(crate) fn run(&mut self, catalog: &Catalog, statement: &str) -> Outcome {
        self.timed(catalog, statement).map(|_| ())
    }

    /// The same, and returns the number of rows printed, if they were counted, and the time taken.
    pub(crate) fn timed(
        &mut self,
        catalog: &Catalog,
        statement: &str,
    ) -> Result<(Option<usize>, Duration), Failure> {
        let start = Instant::now();
        let mut rows = catalog.query(statement).map_err(|error| Failure::Told(error.to_string()))?;
        let printed = heeding_ctrl_c(&rows.stopper(), || self.rows(&mut rows));
        let printed = match printed {
            Err(error) if self.out.failed.is_some() => Err(self.lost(io::Error::other(error))),
            Err(QueryError::Stopped) => Err(Failure::Interrupted),
            Err(error) => Err(Failure::Told(error.to_string())),
            Ok(count) => Ok((count, start.elapsed())),
        };
        tell_of_missing(&rows);
        printed
    }

    fn rows(&mut self, rows: &mut Rows) -> Result<Option<usize>, QueryError> {
        match self.format {
            RowFormat::Csv => rows.write_csv(&mut self.out).map(|()| None),
            RowFormat::Json => rows.write_json(&mut self.out).map(|()| None),
            RowFormat::Table | RowFormat::Lines => {
                let (first, are_more) = first(rows, self.rows_max)?;
                let count = first.num_rows();
                let table = self.out.text_of(&first, self.format, 1)?;
                let failed = |error: io::Error| QueryError::Failed(error.to_string());
                self.out.write_all(table.as_bytes()).and_then(|()| self.out.flush()).map_err(failed)?;
                if are_more {
                    let first = counted(count as u64, "row");
                    tell(&format!(
                        "note: these are the first {first}: --max-rows or a LIMIT says how many are shown"
                    ));
                }
                Ok(Some(count))
            }
        }
    }

    /// Returns why standard output cannot be written.
    fn lost(&mut self, error: io::Error) -> Failure {
        Failure::Output(self.out.failed.take().unwrap_or(error))
    }
}

/// Reads at most some rows. Also returns whether there are more.
fn first(rows: &mut Rows, rows_max: usize) -> Result<(RecordBatch, bool), QueryError> {
    let (mut batches, mut left, mut are_more) = (vec![], rows_max, false);
    while !are_more {
        let Some(batch) = rows.next().transpose()? else { break };
        let taken = batch.num_rows().min(left);
        are_more = taken < batch.num_rows();
        left -= taken;
        batches.push(batch.slice(0, taken));
    }
    let first = concat_batches(&rows.schema(), &batches);
    Ok((first.map_err(|error| QueryError::Failed(error.to_string()))?, are_more))
}

/// Runs some work, and stops the query that it waits for after Ctrl-C.
fn heeding_ctrl_c<T>(stopper: &streamlog::query::Stopper, work: impl FnOnce() -> T) -> T {
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        let watch = scope.spawn(|| {
            while !is_done.load(Ordering::Acquire) {
                if check_interrupted().is_err() {
                    return stopper.stop();
                }
                thread::park_timeout(LOOK);
            }
        });
        let done = work();
        is_done.store(true, Ordering::Release);
        watch.thread().unpark();
        done
    })
}

/// Returns a text without control characters that a terminal would act on.
fn harmless(text: String) -> String {
    let is_order = |letter: char| letter.is_control() && letter != '\n';
    if text.contains(is_order) { text.replace(is_order, "\u{fffd}") } else { text }
}

/// Reports on standard error which records a query left out.
fn tell_of_missing(rows: &Rows) {
    let refused = rows.refused();
    if let Some(first) = refused.examples.first() {
        let (count, table) = (counted(refused.count, "record"), &first.table);
        let place = format!("record {} of {}", first.sequence, first.shard);
        tell(&format!(
            "note: {count} left out, which do not fit the columns: the first is {place} in {table}: {}",
            first.reason
        ));
    }
    for (count, why) in [(rows.trimmed(), "retention has dropped"), (rows.lost(), "damage took")] {
        if count > 0 {
            tell(&format!("note: {} left out, which {why}", counted(count, "record")));
        }
    }
}
