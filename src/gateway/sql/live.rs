//! A live query: a statement whose rows are sent as they come, as lines of JSON.

use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio::task::{block_in_place, spawn_blocking};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::super::fault::{Answered, Fault};
use super::super::wire::{Format, Value};
use super::places::Place;
use super::{Session, Sql, answer, tables};
use crate::Position;
use crate::query::{Column, Pump, PumpOptions, PumpStats, QueryError, Rows};

/// The content type of the answer.
pub(in crate::gateway) const CONTENT_TYPE: &str = "application/x-ndjson";
/// How many lines wait for a slow client, besides those in its connection. The query then waits, too.
const LINES_AHEAD: usize = 2;
/// About how large a line is, unless a row is larger.
const LINE_BYTES: usize = 64 << 10;
/// How often to send the client how much the query has read, if that has changed.
const BEAT: Duration = Duration::from_secs(1);
/// How often to send it in any case, so that a dead connection is noticed.
const BEAT_MAX: Duration = Duration::from_secs(10);

impl Sql {
    /// Starts a live query. Returns the lines of its answer. It ends when they are dropped, and leaves nothing behind.
    pub(in crate::gateway) fn live(
        &self,
        session: Session,
        start: Position,
    ) -> Answered<mpsc::Receiver<Bytes>> {
        let Session { streams, statement, ending, place } = session;
        let (catalog, notes) = tables::add(self.empty(), &streams, &statement)?;
        let (sender, rows) = mpsc::channel(LINES_AHEAD);
        let seen = Mutex::new(vec![]);
        let options = PumpOptions::new().start_at(start).memory_limit(self.rules.memory_bytes_max);
        let pump = catalog.watch(&statement, options, move |batch| {
            let columns = Rows::from(batch.clone()).columns();
            for line in lines(&columns, answer::rows(batch)?, &mut seen.lock()) {
                // Nobody listens any more, and the query is about to be closed.
                if sender.blocking_send(line).is_err() {
                    break;
                }
            }
            Ok::<_, QueryError>(())
        });
        let pump = pump.map_err(|error| answer::fault(&error))?;
        let (lines, answer) = mpsc::channel(LINES_AHEAD);
        tokio::spawn(Live { pump, rows, lines, ending, place }.attend(notes));
        Ok(answer)
    }
}

/// A running live query.
struct Live {
    pump: Pump,
    rows: mpsc::Receiver<Bytes>,
    lines: mpsc::Sender<Bytes>,
    ending: watch::Receiver<bool>,
    /// Held until the query is closed.
    place: Place,
}

impl Live {
    /// Forwards lines until the client, the query or the gateway ends.
    async fn attend(mut self, notes: Vec<String>) {
        let first = line(&Value::map([("Notes", answer::texts(notes))]));
        let has_ended = self.send(first).await && self.hand_on().await;
        let Self { pump, rows, lines, ending: _, place } = self;
        // A query that waits for a line to be taken then continues, and ends.
        drop(rows);
        let closing = spawn_blocking(move || {
            let outcome = pump.close();
            drop((pump, place));
            outcome
        });
        let Ok(outcome) = closing.await else { return };
        if has_ended {
            let Fault { kind, message } = match outcome {
                Err(error) => answer::fault(&error),
                Ok(()) => Fault::not_found("A stream that the query reads was closed or deleted."),
            };
            let error = Value::map([("Type", Value::text(kind))]);
            let error = error.with("Message", message.map(Value::Text));
            // A client that has left misses nothing.
            let _ = lines.send(line(&Value::map([("Error", error)]))).await;
        }
    }

    /// Sends rows and counts. Returns whether the query itself has ended.
    async fn hand_on(&mut self) -> bool {
        let mut beat = interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut told, mut told_at) = (None, Instant::now());
        loop {
            let line = tokio::select! {
                // A client that has left is noticed even while nothing comes.
                () = self.lines.closed() => return false,
                _ = self.ending.wait_for(|is_ending| *is_ending) => return false,
                next = self.rows.recv() => match next {
                    Some(line) => line,
                    None => return true,
                },
                now = beat.tick() => {
                    // Reading the query's progress may call the operating system.
                    let counts = counts(&block_in_place(|| self.pump.stats()));
                    let counts = line(&Value::map([("Counts", counts)]));
                    if told.as_ref() == Some(&counts) && now < told_at + BEAT_MAX {
                        continue;
                    }
                    told_at = now;
                    told = Some(counts.clone());
                    counts
                }
            };
            if !self.send(line).await {
                return false;
            }
        }
    }

    async fn send(&mut self, line: Bytes) -> bool {
        tokio::select! {
            sent = self.lines.send(line) => sent.is_ok(),
            _ = self.ending.wait_for(|is_ending| *is_ending) => false,
        }
    }
}

fn line(value: &Value<'_>) -> Bytes {
    let mut line = Format::Json.encode(value);
    line.push(b'\n');
    line.into()
}

/// Returns lines with rows. The first has the columns, unless those are known.
fn lines(
    columns: &[Column],
    rows: impl Iterator<Item = Value<'static>>,
    seen: &mut Vec<Column>,
) -> Vec<Bytes> {
    let (mut lines, mut part, mut bytes) = (vec![], vec![], 0);
    let mut end = |part: &mut Vec<Value<'static>>| {
        let mut value = Value::map([]);
        if *seen != columns {
            *seen = columns.to_vec();
            value = value.with("Columns", Some(answer::columns(columns)));
        }
        lines.push(line(&value.with("Rows", Some(Value::List(std::mem::take(part))))));
    };
    for row in rows {
        bytes += Format::Json.encode(&row).len();
        part.push(row);
        if bytes >= LINE_BYTES {
            end(&mut part);
            bytes = 0;
        }
    }
    if !part.is_empty() {
        end(&mut part);
    }
    lines
}

fn counts(stats: &PumpStats) -> Value<'static> {
    let value = Value::map([
        ("RecordsIn", answer::count(stats.records_in)),
        ("RowsOut", answer::count(stats.rows_out)),
        ("RefusedRecords", answer::count(stats.refused)),
        ("LateRows", answer::count(stats.late)),
        ("SkippedRecords", answer::count(stats.skipped)),
        ("HeldRows", answer::count(stats.held_rows)),
        ("BehindMillis", answer::count(stats.lag.age.as_millis() as u64)),
    ]);
    value.with("LastError", stats.last_error.clone().map(Value::text))
}
