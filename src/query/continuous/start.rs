//! Starts a plan as a pump: opens its state, plans its statements, restores held rows, and repeats unfinished puts.

use std::sync::Arc;
use std::thread;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::prelude::SessionContext;
use parking_lot::Mutex;

use super::evaluate::{Evaluator, conform};
use super::feed::{Feed, Progress, arrow};
use super::marks::{KeptMarks, Marks, Rules};
use super::operator::Operator;
use super::options::PumpOptions;
use super::output::Output;
use super::planned::{Planned, plan_all};
use super::positions::{Positions, add_committed, add_finished, committed};
use super::putter::Putter;
use super::queries::Queries;
use super::runner::Runner;
use super::shared::Shared;
use super::state::{Cycle, Part, PartData, ReadState, State, decode, decode_ids, inside};
use crate::query::error::QueryError;
use crate::query::interrupt::Stop;
use crate::query::schema::Schema;
use crate::query::statement::plan::Plan;
use crate::{Clock, DAY, Error, Group, OnTrimmed, StreamReader, extend};

/// A stream that a pump reads, with its schema.
#[derive(Debug, Clone)]
pub(in crate::query) struct Source {
    pub(in crate::query) reader: StreamReader,
    pub(in crate::query) schema: Schema,
}

/// The worker has all shards, because the state belongs to one pump at a time.
const LEASE_TIMEOUT_DAYS: u32 = 36_500;
/// The largest batch that is read of a shard at a time.
const BATCH_RECORDS: usize = 8_192;
const BATCH_BYTES: usize = 4 << 20;

/// A pump that runs on its thread.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) shared: Arc<Shared>,
    pub(super) groups: Vec<Group>,
    pub(super) thread: thread::JoinHandle<Result<(), QueryError>>,
}

/// Starts a pump.
pub(super) fn start(
    plan: &Plan,
    sources: Vec<Source>,
    session: &SessionContext,
    output: Output,
    options: PumpOptions,
) -> Result<Running, QueryError> {
    extend::check_name("a pump", &plan.name)?;
    let first = sources.first().ok_or_else(|| QueryError::Invalid("a pump reads a stream".to_owned()))?;
    let stream = first.reader.clone();
    extend::check_process(&stream)?;
    let groups: Vec<Group> =
        (0..).zip(&sources).map(|(at, source)| group_of(&source.reader, &plan.name, at)).collect();
    let evaluator =
        Evaluator::new(session, options.memory_limit, Arc::clone(stream.clock()), Stop::default())?;
    let (planned, queries) = plan_all(plan, sources, &evaluator)?;
    output.check(&queries.output_columns()).map_err(QueryError::Invalid)?;
    if options.begin_anew {
        forget(&stream, &plan.name, &groups, &[Some(&output), options.errors.as_ref()])?;
    }
    let (state, read) = State::open(&stream, &plan.name)?;
    let opened = Opened { plan, stream: &stream, state, groups: &groups, options: &options };
    let runner = opened.runner(evaluator, planned, queries, read, output)?;
    runner.note_state();
    let shared = runner.shared.clone();
    let spawned = thread::Builder::new()
        .name(format!("streamlog-sql-{}", plan.name))
        .spawn(move || runner.run())
        .map_err(|error| QueryError::Failed(format!("the pump has no thread: {error}")))?;
    Ok(Running { shared, groups, thread: spawned })
}

fn group_of(reader: &StreamReader, pump: &str, input: usize) -> Group {
    match input {
        0 => reader.group(format!("sql-{pump}")),
        input => reader.group(format!("sql{}-{pump}", input + 1)),
    }
}

/// Forgets what a pump of this name has done.
pub(super) fn forget(
    stream: &StreamReader,
    name: &str,
    groups: &[Group],
    outputs: &[Option<&Output>],
) -> Result<(), QueryError> {
    if inside(stream).names()?.iter().any(|known| known == name) {
        inside(stream).delete(name)?;
    }
    for group in groups {
        match group.delete() {
            // There is none, or it has workers: the state of a running pump gives the better error.
            Ok(()) | Err(Error::InvalidArgument(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    for output in outputs.iter().flatten() {
        output.forget(groups[0].name())?;
    }
    Ok(())
}

/// A pump whose state is open.
struct Opened<'a> {
    plan: &'a Plan,
    stream: &'a StreamReader,
    state: State,
    groups: &'a [Group],
    options: &'a PumpOptions,
}

impl Opened<'_> {
    fn runner(
        self,
        evaluator: Evaluator,
        planned: Vec<Planned>,
        queries: Queries,
        read: ReadState,
        output: Output,
    ) -> Result<Runner, QueryError> {
        self.check_statement(&read)?;
        let kept: Vec<SchemaRef> = planned.iter().map(|planned| planned.kept.clone()).collect();
        let mut operator = Operator::new(&self.plan.shape, &kept).map_err(arrow)?;
        if let Some(operator) = &mut operator {
            self.hold_again(operator, &read, &kept)?;
        }
        let (cycle, parts) = read.cycles.into_iter().next_back().unwrap_or_default();
        let shared = Arc::new(Shared::new(evaluator.stop.clone()));
        let errors = self.options.errors.clone();
        let putter = Putter::open(&self.plan.name, &self.groups[0], self.stream, output, errors)?;
        self.put_again(&putter, &cycle, &parts, &shared)?;
        self.state.keep_statement(&self.plan.text)?;
        let clock = Arc::clone(self.stream.clock());
        let feeds = planned.into_iter().enumerate();
        let feeds = feeds.map(|(input, planned)| self.feed(input, planned, &cycle, clock.as_ref()));
        let feeds = feeds.collect::<Result<_, _>>()?;
        Ok(Runner {
            feeds,
            evaluator,
            queries,
            operator,
            state: self.state,
            putter,
            clock,
            watermark: cycle.watermark,
            next_number: cycle.next_number,
            memory_limit: self.options.memory_limit,
            shared,
        })
    }

    /// Refuses a statement that does not belong to the state.
    fn check_statement(&self, read: &ReadState) -> Result<(), QueryError> {
        let (name, new) = (&self.plan.name, &self.plan.text);
        match self.state.statement() {
            Some(old) if old != *new => Err(QueryError::Invalid(format!(
                "the statement of the pump {name:?} has changed since its state was written: it was\n  {old}\nand is\n  {new}\n{}\n\
                 Start it with the old statement, give the new one another name, or begin anew, which forgets what it has read and holds",
                difference(&old, new)
            ))),
            None if !read.cycles.is_empty() => Err(QueryError::Invalid(format!(
                "the state of the pump {name:?} has no statement: begin anew"
            ))),
            _ => Ok(()),
        }
    }

    /// Replays the stored cycles into the operator.
    fn hold_again(
        &self,
        operator: &mut Operator,
        read: &ReadState,
        kept: &[SchemaRef],
    ) -> Result<(), QueryError> {
        for (cycle, parts) in &read.cycles {
            let watermark = cycle.watermark;
            // Releases without rows to put were not written.
            if let Some(before) = cycle.watermark_before {
                operator.advance(before, usize::MAX).map_err(arrow)?;
            }
            let is_whole = parts.iter().any(|(part, _)| matches!(part, Part::Held(_)));
            if let Some(watermark) = watermark.filter(|_| is_whole) {
                operator.advance(watermark, usize::MAX).map_err(arrow)?;
            }
            for (part, data) in parts {
                match *part {
                    Part::Added(input) | Part::Held(input) => {
                        for rows in decode(data).map_err(arrow)? {
                            let rows =
                                conform(rows, &kept[input]).map_err(|error| self.other_columns(&error))?;
                            match (part, watermark) {
                                (Part::Held(_), Some(watermark)) => operator.restore(input, rows, watermark),
                                _ => operator.push(input, rows),
                            }
                            .map_err(arrow)?;
                        }
                    }
                    Part::Met(side) => {
                        if let Some(sides) = operator.sides() {
                            sides.note_met(side, decode_ids(data).map_err(arrow)?);
                        }
                    }
                    Part::Output | Part::Errors => {}
                }
            }
            if let Some(sides) = operator.sides() {
                sides.note_old().map_err(arrow)?;
            }
            if let Some(watermark) = watermark {
                operator.advance(watermark, usize::MAX).map_err(arrow)?;
            }
        }
        Ok(())
    }

    fn other_columns(&self, error: &datafusion::arrow::error::ArrowError) -> QueryError {
        QueryError::Invalid(format!(
            "the rows that the pump {:?} holds have other columns than the schema of its stream gives them now: {error}: \
             restore the schema, or begin anew",
            self.plan.name
        ))
    }

    /// Puts the rows of the last cycle, unless they are known to be there.
    fn put_again(
        &self,
        putter: &Putter,
        cycle: &Cycle,
        parts: &[PartData],
        shared: &Shared,
    ) -> Result<(), QueryError> {
        if self.is_committed(cycle.place)? {
            return Ok(());
        }
        let puts = putter.decode(parts).map_err(|error| {
            QueryError::Invalid(format!(
                "the pump {:?} cannot put again what it was putting into its output: {error}: start it with the output that it had, or begin anew",
                self.plan.name
            ))
        })?;
        if puts.count() > 0 {
            putter.put(cycle.place, cycle.first_number, &puts, shared)?;
        }
        Ok(())
    }

    /// Returns whether the group of the first input has committed a place. It commits after all rows of a cycle are put.
    fn is_committed(&self, (shard, sequence): (u32, u64)) -> Result<bool, QueryError> {
        let committed = committed(&self.groups[0])?;
        Ok(match committed.get(&shard) {
            Some(&next) => sequence < next,
            None => committed.last_key_value().is_some_and(|(&newest, _)| shard < newest),
        })
    }

    fn feed(
        &self,
        input: usize,
        planned: Planned,
        cycle: &Cycle,
        clock: &dyn Clock,
    ) -> Result<Feed, QueryError> {
        let group = &self.groups[input];
        let positions: Positions =
            Arc::new(Mutex::new(cycle.positions.get(input).cloned().unwrap_or_default()));
        add_committed(&positions, group)?;
        let known = positions.clone();
        let mut worker = group
            .worker()
            .start_at(self.options.start)
            .lease_timeout(LEASE_TIMEOUT_DAYS * DAY)
            .batch_records(BATCH_RECORDS)
            .batch_bytes(BATCH_BYTES)
            .on_trimmed(OnTrimmed::SkipToHorizon)
            .positions_from(move |shard| {
                let next = known.lock().get(&shard.get()).copied();
                Ok(next.and_then(|next| next.checked_sub(1)).map(Into::into))
            });
        if let Some(hold) = self.options.hold {
            worker = worker.hold(hold);
        }
        let worker = worker.open()?;
        // A group that is new begins there.
        add_committed(&positions, group)?;
        worker.note_reader("sql")?;
        let plan = &self.plan.inputs[input];
        let lateness = planned.source.schema.watermark().map(|(_, lateness)| lateness);
        let rules = Rules {
            lateness: lateness.filter(|_| plan.by_event_time),
            idle_timeout: self.options.idle_timeout.unwrap_or(planned.source.schema.idle_time()),
        };
        let kept = cycle.marks.get(input).cloned().unwrap_or_else(KeptMarks::default);
        let marks = Marks::new(rules, &kept, clock.elapsed());
        add_finished(&positions, group, &planned.source.reader, marks.shards())?;
        Ok(Feed {
            reader: planned.source.reader,
            worker,
            decoder: planned.decoder,
            input: planned.input,
            prepare: planned.prepare,
            needed: planned.needed,
            marks,
            positions,
            batches: vec![],
            progress: Progress::default(),
        })
    }
}

/// Describes where two statements begin to differ.
fn difference(old: &str, new: &str) -> String {
    let same = old.split(' ').zip(new.split(' ')).take_while(|(old, new)| old == new).count();
    let rest = |text: &str| {
        let words: Vec<&str> = text.split(' ').skip(same).take(6).collect();
        if words.is_empty() { "the end".to_owned() } else { format!("`{}`", words.join(" ")) }
    };
    format!("They differ from {} on, which is now {}.", rest(old), rest(new))
}
