//! The thread of a pump: reads, keeps, evaluates, puts, commits, cycle by cycle.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use datafusion::arrow::array::{BooleanArray, RecordBatch};

use super::columns::{Micros, compact, filter};
use super::errors::{Failure, Fault, text_of};
use super::evaluate::Evaluator;
use super::feed::{Feed, arrow, find};
use super::operator::{Operator, Released};
use super::putter::{Place, Puts, Putter};
use super::queries::Queries;
use super::shared::{LOOK_AGAIN, Shared};
use super::state::{Cycle, Part, PartData, State, encode, encode_ids};
use crate::query::error::QueryError;
use crate::{Batch, Clock, Error, Result};

/// About how many rows are released at a time.
const ROWS_AT_ONCE: usize = 65_536;
/// How long the thread waits if nothing is due.
const LOOK_RARELY: Duration = Duration::from_secs(1);

/// The shortest wait.
const LOOK_OFTEN: Duration = Duration::from_micros(200);
/// How long the thread waits for a shard that holds up what is due.
const OVERDUE: Duration = Duration::from_millis(2);
/// How long it waits before it retries what may succeed later.
const PAUSE: Duration = Duration::from_millis(200);

/// The state of a pump's thread.
pub(super) struct Runner {
    pub(super) feeds: Vec<Feed>,
    pub(super) evaluator: Evaluator,
    pub(super) queries: Queries,
    /// `None` if rows go out immediately.
    pub(super) operator: Option<Operator>,
    pub(super) state: State,
    pub(super) putter: Putter,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) watermark: Option<Micros>,
    pub(super) next_number: u32,
    pub(super) memory_limit: usize,
    pub(super) shared: Arc<Shared>,
}

/// The work of a cycle, before it is stored.
#[derive(Debug, Default)]
pub(super) struct Work {
    parts: Vec<PartData>,
    rows: Vec<RecordBatch>,
    failures: Vec<Failure>,
}

/// Whether the pump continues.
type GoesOn = bool;

impl Runner {
    /// Runs until the pump or a stream is closed, or until it fails permanently.
    pub(super) fn run(mut self) -> Result<(), QueryError> {
        let outcome = self.run_cycles();
        if let Err(error) = &outcome {
            self.shared.note_error(&error.to_string());
        }
        let shared = Arc::clone(&self.shared);
        // Once others see that the pump has ended, they may start it again.
        drop(self);
        shared.end();
        outcome
    }

    fn run_cycles(&mut self) -> Result<(), QueryError> {
        let waker = Waker::from(Arc::clone(&self.shared.bell));
        let mut context = Context::from_waker(&waker);
        while !self.shared.is_closing() {
            self.shared.reload_if_asked(|| self.evaluator.read_lookups());
            match self.cycle(&mut context) {
                Ok(true) => {}
                Ok(false) | Err(QueryError::Stream(Error::Closed) | QueryError::Stopped) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn now(&self) -> Micros {
        self.clock.now().as_micros() as Micros
    }

    fn cycle(&mut self, context: &mut Context<'_>) -> Result<GoesOn, QueryError> {
        let now = self.now();
        let mut ended = None;
        for feed in &mut self.feeds {
            // Records that other feeds have read are handled before the end.
            if let Err(error) = feed.read(context, &self.shared) {
                ended = Some(error);
            }
        }
        let batches: Vec<Vec<Batch>> =
            self.feeds.iter_mut().map(|feed| std::mem::take(&mut feed.batches)).collect();
        let count: usize = batches.iter().flatten().map(Batch::len).sum();
        let goes_on = match self.operator.is_some() {
            true => self.keep_rows(&batches, now)?,
            false => self.pass_rows(&batches, now)?,
        };
        self.shared.update(|counts| counts.records_in += count as u64);
        self.note_state();
        match ended {
            _ if !goes_on => Ok(false),
            Some(error) if count == 0 && error.is_retryable() => {
                self.shared.note_error(&error.to_string());
                Ok(self.shared.pause(&self.clock, PAUSE))
            }
            Some(error) if count == 0 => Err(error.into()),
            _ if count > 0 => Ok(true),
            _ => self.rest(context),
        }
    }

    /// Handles rows that go out immediately.
    fn pass_rows(&mut self, batches: &[Vec<Batch>], now: Micros) -> Result<GoesOn, QueryError> {
        let Queries::Each { query } = &self.queries else { return Ok(true) };
        let feed = &mut self.feeds[0];
        let batches = &batches[0];
        if !batches.is_empty() {
            let prepared = feed.prepare(batches, &self.evaluator, Some(query))?;
            let mut failures = prepared.failures;
            let mut records = vec![];
            for result in &prepared.rows {
                let (rows, places) = Queries::placed(result)?;
                if self.putter.is_stream() {
                    let placed = self.putter.placed(&rows, &places)?;
                    records.extend(placed.0);
                    failures.extend(placed.1);
                } else if let Some(&(place, _)) = places.first()
                    && !self.putter.call_placed(place, &rows, &self.shared)?
                {
                    return Ok(false);
                }
            }
            if !self.putter.put_placed(records, failures, &self.shared)? {
                return Ok(false);
            }
            feed.note_handled(batches);
            feed.commit(batches, &self.shared)?;
        }
        feed.follow(now, self.clock.elapsed())?;
        Ok(true)
    }

    /// Handles rows that are kept until time has passed them, and advances time.
    fn keep_rows(&mut self, batches: &[Vec<Batch>], now: Micros) -> Result<GoesOn, QueryError> {
        let elapsed = self.clock.elapsed();
        let place = self.feeds[0].place(&batches[0])?;
        let watermark_before = self.watermark;
        let mut work = Work::default();
        for (input, batches) in batches.iter().enumerate() {
            if !batches.is_empty() {
                self.take_in(input, batches, &mut work)?;
            }
        }
        self.meet(&mut work)?;
        for (feed, batches) in self.feeds.iter_mut().zip(batches) {
            feed.note_arrivals(batches, elapsed);
            feed.note_handled(batches);
            feed.follow(now, elapsed)?;
        }
        let marks = self.feeds.iter().map(|feed| feed.marks.watermark(now, elapsed));
        let target = marks.min().flatten().max(self.watermark);
        loop {
            let is_done = match target {
                Some(target) => self.advance(target, &mut work)?,
                None => true,
            };
            if !self.finish(std::mem::take(&mut work), place, watermark_before)? {
                return Ok(false);
            }
            if is_done {
                break;
            }
        }
        for (feed, batches) in self.feeds.iter_mut().zip(batches) {
            feed.commit(batches, &self.shared)?;
        }
        self.look_at_memory()?;
        if self.state.is_long() {
            self.write_whole()?;
        }
        Ok(true)
    }

    fn take_in(&mut self, input: usize, batches: &[Batch], work: &mut Work) -> Result<(), QueryError> {
        let elapsed = self.clock.elapsed();
        let operator = self.operator.as_mut().expect("only a pump that keeps rows takes them in");
        let feed = &mut self.feeds[input];
        let prepared = feed.prepare(batches, &self.evaluator, None)?;
        work.failures.extend(prepared.failures.into_iter().map(|(_, failure)| failure));
        for rows in prepared.rows {
            feed.note_times(&rows, elapsed)?;
            let mut rows = match self.watermark {
                Some(watermark) => feed.lift(rows, watermark)?,
                None => rows,
            };
            let places = rows.clone();
            rows = compact(rows.project(&feed.needed).map_err(arrow)?);
            if let Some(watermark) = self.watermark {
                let late = operator.late(input, &rows, watermark).map_err(arrow)?;
                if !late.is_empty() {
                    let mut is_on_time = vec![true; rows.num_rows()];
                    let times = super::columns::times(&places).map_err(arrow)?;
                    let (shards, sequences) =
                        super::columns::places(&places, "_shard", "_sequence").map_err(arrow)?;
                    for late in late {
                        is_on_time[late.row] = false;
                        let place = (shards[late.row], sequences[late.row]);
                        work.failures.push(Failure {
                            fault: Fault::Late,
                            message: late_message(times[late.row], late.end, watermark),
                            time: Some(times[late.row]),
                            data: find(batches, place).unwrap_or_default(),
                        });
                    }
                    rows = filter(&rows, &BooleanArray::from(is_on_time)).map_err(arrow)?;
                }
            }
            if rows.num_rows() > 0 {
                work.parts.push((Part::Added(input), encode(&rows).map_err(arrow)?));
                operator.push(input, rows).map_err(arrow)?;
            }
        }
        Ok(())
    }

    /// Joins new rows with those of the other side.
    fn meet(&mut self, work: &mut Work) -> Result<(), QueryError> {
        let Some(sides) = self.operator.as_mut().and_then(Operator::sides) else { return Ok(()) };
        let Some([left, right]) = sides.meet().map_err(arrow)? else { return Ok(()) };
        for pairs in self.queries.meet(&self.evaluator, left, right, &mut work.failures)? {
            for (input, met) in pairs.met.into_iter().enumerate() {
                let new = sides.note_met(input, met);
                if !new.is_empty() {
                    work.parts.push((Part::Met(input), encode_ids(&new).map_err(arrow)?));
                }
            }
            work.rows.push(pairs.rows);
        }
        Ok(())
    }

    /// Advances time, and evaluates the released rows. Returns whether the target is reached.
    fn advance(&mut self, target: Micros, work: &mut Work) -> Result<bool, QueryError> {
        let operator = self.operator.as_mut().expect("only a pump that keeps rows has a watermark");
        let (released, alone) = operator.advance(target, ROWS_AT_ONCE).map_err(arrow)?;
        let Released { reached, .. } = released;
        self.watermark = Some(reached);
        if released.row_count() > 0 {
            self.queries.released(&self.evaluator, released.tables, &mut work.rows, &mut work.failures)?;
        }
        if alone.tables.iter().any(|table| !table.is_empty()) {
            self.queries.alone(&self.evaluator, alone.tables, &mut work.rows, &mut work.failures)?;
        }
        Ok(reached == target)
    }

    /// Stores the work of a cycle, and puts its rows.
    fn finish(
        &mut self,
        work: Work,
        place: Place,
        watermark_before: Option<Micros>,
    ) -> Result<GoesOn, QueryError> {
        let Work { mut parts, mut rows, failures } = work;
        rows.retain(|rows| rows.num_rows() > 0);
        if parts.is_empty() && rows.is_empty() && failures.is_empty() {
            return Ok(true);
        }
        let first_number = self.next_number;
        let puts = self.putter.puts(rows, failures, first_number, &self.shared)?;
        self.next_number = first_number.wrapping_add(puts.count());
        parts.extend(puts.encode().map_err(arrow)?);
        let cycle = Cycle { watermark_before, ..self.cycle_record(place, first_number) };
        while let Err(error) = self.state.write(cycle.clone(), &parts) {
            if !error.is_retryable() {
                return Err(error.into());
            }
            self.shared.note_error(&error.to_string());
            if !self.shared.pause(&self.clock, PAUSE) {
                return Ok(false);
            }
        }
        self.put(place, first_number, &puts)
    }

    fn put(&self, place: Place, number: u32, puts: &Puts) -> Result<GoesOn, QueryError> {
        self.putter.put(place, number, puts, &self.shared)
    }

    fn cycle_record(&self, place: Place, first_number: u32) -> Cycle {
        Cycle {
            positions: self.feeds.iter().map(|feed| feed.positions.lock().clone()).collect(),
            marks: self.feeds.iter().map(|feed| feed.marks.kept()).collect(),
            watermark: self.watermark,
            place,
            first_number,
            next_number: self.next_number,
            ..Cycle::default()
        }
    }

    /// Slows down shards that are ahead if too many rows are held, and fails if that does not help.
    fn look_at_memory(&mut self) -> Result<(), QueryError> {
        let held = self.operator.as_ref().map(Operator::held).unwrap_or_default();
        let is_slow = held.bytes > self.memory_limit / 5 * 4;
        self.feeds.iter_mut().for_each(|feed| feed.set_slow(is_slow));
        if held.bytes <= self.memory_limit {
            return Ok(());
        }
        Err(QueryError::Memory(format!(
            "{} rows in open windows take {} bytes, and the pump may hold {}",
            held.rows, held.bytes, self.memory_limit
        )))
    }

    /// Writes the state as a whole, once the journal has grown long.
    fn write_whole(&mut self) -> Result<(), QueryError> {
        let Some(operator) = &mut self.operator else { return Ok(()) };
        let mut parts = vec![];
        for (input, rows) in operator.snapshot().map_err(arrow)? {
            parts.push((Part::Held(input), encode(&rows).map_err(arrow)?));
        }
        if let Some(sides) = operator.sides() {
            for side in [0, 1] {
                let met = sides.met(side);
                if !met.is_empty() {
                    parts.push((Part::Met(side), encode_ids(&met).map_err(arrow)?));
                }
            }
        }
        let cycle = self.cycle_record(self.feeds[0].place(&[])?, self.next_number);
        match self.state.write_whole(cycle, &parts) {
            // The journal stays long, and is correct.
            Err(error) if error.is_retryable() => {
                self.shared.note_error(&error.to_string());
                Ok(())
            }
            written => written.map_err(QueryError::from),
        }
    }

    /// Publishes what is held, and how far time has advanced.
    pub(super) fn note_state(&self) {
        let held = self.operator.as_ref().map(Operator::held).unwrap_or_default();
        self.shared.update(|counts| {
            counts.held = held;
            counts.watermark = self.watermark;
        });
    }

    /// Waits until there may be something to do.
    fn rest(&mut self, context: &mut Context<'_>) -> Result<GoesOn, QueryError> {
        let wait = self.wait_at_most()?;
        let Self { feeds, shared, .. } = self;
        let mut nexts: Vec<_> = feeds.iter_mut().map(|feed| feed.next()).collect();
        // Each of them is polled, so that each wakes the thread. A batch that has arrived is in its feed.
        let is_ready = nexts.iter_mut().map(|next| Pin::new(next).poll(context).is_ready());
        if is_ready.filter(|is_ready| *is_ready).count() == 0 {
            shared.update(|counts| counts.rests += 1);
            shared.bell.wait_awake(wait);
        }
        Ok(true)
    }

    /// Returns how long until something is due by the clock.
    fn wait_at_most(&self) -> Result<Duration, QueryError> {
        let Some(operator) = &self.operator else { return Ok(LOOK_RARELY) };
        let Some(due) = operator.due().map_err(arrow)? else { return Ok(LOOK_RARELY) };
        let is_by_arrival = self.feeds.iter().all(|feed| !feed.marks.is_by_event_time());
        if is_by_arrival {
            // Due rows that were not released wait for a shard.
            let left = u64::try_from(due - self.now()).map_or(OVERDUE, Duration::from_micros);
            return Ok(left.clamp(LOOK_OFTEN, LOOK_AGAIN));
        }
        let elapsed = self.clock.elapsed();
        let idle = self.feeds.iter().filter_map(|feed| feed.marks.next_idle(elapsed)).min();
        Ok(idle.map_or(LOOK_AGAIN, |idle| idle.min(LOOK_AGAIN)))
    }
}

fn late_message(time: Micros, end: Micros, watermark: Micros) -> String {
    let [time, end, watermark] = [time, end, watermark].map(text_of);
    format!("late: the row is of {time}, whose window ended at {end}, and the watermark is {watermark}")
}
