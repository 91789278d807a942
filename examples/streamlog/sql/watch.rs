//! `--watch`: a continuous query whose rows are printed as they arrive.

use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use datafusion::arrow::array::RecordBatch;
use streamlog::query::{Catalog, Output, Pump, PumpOptions, QueryError, Rows};

use super::print::Out;
use super::{RowFormat, SqlArgs};
use crate::check_interrupted;
use crate::failure::{Failure, Outcome, tell};
use crate::output::counted;

/// The longest time before the end of the query, or of the output's reader, is noticed.
const LOOK: Duration = Duration::from_millis(50);

/// Runs a statement until Ctrl-C.
pub(crate) fn watch(args: &SqlArgs, catalog: &Catalog, statement: &str) -> Outcome {
    let memory = usize::try_from(args.memory).unwrap_or(usize::MAX);
    let options = PumpOptions::new().start_at(args.from).memory_limit(memory);
    let printer =
        Arc::new(Mutex::new(Printer { out: Out::new()?, format: args.format, heading: None, count: 0 }));
    let print = {
        let printer = Arc::clone(&printer);
        move |rows: &RecordBatch| {
            // The loop below finds a failure. A retry would not help.
            let _ = lock(&printer).print(rows);
            Ok::<_, String>(())
        }
    };
    let pump = match target(statement) {
        Some(name) => {
            let catalog = catalog.clone().output(&name, Output::function(print));
            catalog.and_then(|catalog| catalog.start_with(statement, options))
        }
        None => catalog.watch(statement, options, print),
    };
    let pump = pump.map_err(|error| told(&error))?;
    let outcome = wait(&pump, &printer);
    let closed = pump.close();
    tell_of_missing(&pump);
    match (outcome, closed) {
        (Ok(()), Err(error)) => Err(told(&error)),
        (outcome, _) => outcome,
    }
}

/// Waits until the query ends, Ctrl-C is pressed, or the output's reader is gone.
fn wait(pump: &Pump, printer: &Mutex<Printer>) -> Outcome {
    let mut last_error = None;
    loop {
        check_interrupted()?;
        lock(printer).out.check().map_err(Failure::Output)?;
        let stats = pump.stats();
        if stats.has_ended {
            return Ok(());
        }
        if stats.last_error.is_some() && stats.last_error != last_error {
            tell(&format!("note: {}", stats.last_error.as_deref().unwrap_or_default()));
            last_error = stats.last_error;
        }
        thread::sleep(LOOK);
    }
}

/// Returns the table that a statement inserts into, if it is an `INSERT`.
fn target(statement: &str) -> Option<String> {
    let mut words = statement.split_whitespace();
    let is_insert =
        words.next()?.eq_ignore_ascii_case("INSERT") && words.next()?.eq_ignore_ascii_case("INTO");
    let name = words.next().filter(|_| is_insert)?;
    let name = name.split_once('(').map_or(name, |(name, _)| name);
    Some(name.trim_matches('"').to_owned())
}

fn told(error: &QueryError) -> Failure {
    Failure::Told(error.to_string())
}

/// Where rows go, batch after batch.
struct Printer {
    out: Out,
    format: RowFormat,
    /// The names of the columns as CSV has them, once they are printed.
    heading: Option<Vec<u8>>,
    /// How many rows were printed for people.
    count: usize,
}

impl Printer {
    fn print(&mut self, batch: &RecordBatch) -> Result<(), QueryError> {
        let mut rows = Rows::from(batch.clone());
        match self.format {
            RowFormat::Json => rows.write_json(&mut self.out)?,
            RowFormat::Csv => {
                let mut text = vec![];
                rows.write_csv(&mut text)?;
                match &self.heading {
                    Some(heading) => drop(text.drain(..heading.len())),
                    None => {
                        let mut heading = vec![];
                        Rows::from(RecordBatch::new_empty(batch.schema())).write_csv(&mut heading)?;
                        self.heading = Some(heading);
                    }
                }
                self.text(&text);
            }
            RowFormat::Table | RowFormat::Lines => {
                let text = self.out.text_of(batch, self.format, self.count + 1)?;
                self.count += batch.num_rows();
                self.text(text.as_bytes());
            }
        }
        Ok(())
    }

    fn text(&mut self, text: &[u8]) {
        // The output keeps the failure.
        let _ = self.out.write_all(text).and_then(|()| self.out.flush());
    }
}

fn lock(printer: &Mutex<Printer>) -> MutexGuard<'_, Printer> {
    printer.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reports on standard error which records have no row.
fn tell_of_missing(pump: &Pump) {
    let stats = pump.stats();
    for (count, what, why) in [
        (stats.refused, "record", "which do not fit the columns or the statement"),
        (stats.late, "row", "which came after their window had ended"),
        (stats.skipped, "record", "which were gone before they were read"),
    ] {
        if count > 0 {
            tell(&format!("note: {} left out, {why}", counted(count, what)));
        }
    }
}
