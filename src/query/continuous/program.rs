//! From the text of statements to running pumps.

use std::sync::Arc;

use super::options::PumpOptions;
use super::output::{Output, Target};
use super::pump::Pump;
use super::start::Source;
use crate::query::Catalog;
use crate::query::error::{Place, QueryError, StatementError};
use crate::query::schema::Schema;
use crate::query::statement;
use crate::query::statement::plan::{DeclaredStream, Plan, Program};
use crate::query::statement::problem::Problem;
use crate::query::statement::tables::{Table, TableKind, Tables};
use crate::{Maintenance, Stream, StreamOptions, StreamReader, extend};

/// A stream that statements have declared, inside a stream that they read.
#[derive(Debug)]
pub(super) struct Declared {
    around: StreamReader,
    stream: Stream,
}

impl Drop for Declared {
    fn drop(&mut self) {
        extend::remove_companion(&self.around, &self.stream);
        let _ = self.stream.clone().close();
    }
}

impl Tables for Catalog {
    fn table(&self, name: &str) -> Option<Table> {
        let columns = self.columns(name)?.fields().iter().map(|field| field.name().clone()).collect();
        let kind = match self.source(name) {
            Some(source) => TableKind::Stream {
                event_time: source.schema.watermark().map(|(column, _)| column.to_owned()),
            },
            None => TableKind::Fixed,
        };
        Some(Table { columns, kind })
    }

    fn names(&self) -> Vec<String> {
        self.tables()
    }
}

impl Catalog {
    /// Starts a continuous query: a statement `INSERT INTO output SELECT …`, or `CREATE PUMP name AS INSERT INTO output SELECT …`, which runs until
    /// the pump is closed. `output` is the name of an [output](Self::output).
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use std::time::Duration;
    /// # use streamlog::{MINUTE, ManualClock, Position, Stream, StreamOptions, Timestamp};
    /// use streamlog::query::{Catalog, Output, Schema};
    /// # let directory = tempfile::tempdir()?;
    /// # let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_700_000_040_000)));
    /// # let clicks = StreamOptions::new().clock(clock.clone()).open(directory.path().join("clicks"))?;
    /// # let counts = Stream::open(directory.path().join("counts"))?;
    ///
    /// let catalog = Catalog::new()
    ///     .stream("clicks", &clicks, Schema::json("page VARCHAR")?)?
    ///     .output("counts", Output::stream(&counts))?;
    /// let pump = catalog.start(
    ///     "INSERT INTO counts
    ///      SELECT page, count(*) AS n FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(_arrival), INTERVAL '1' MINUTE))
    ///      GROUP BY page, window_start, window_end",
    /// )?;
    /// clicks.put("user-17", r#"{"page": "/cart"}"#)?;
    /// clicks.put("user-4", r#"{"page": "/cart"}"#)?;
    /// # while pump.stats().records_in < 2 { std::thread::yield_now(); }
    /// # clock.advance(MINUTE);
    /// # while pump.stats().rows_out < 1 { std::thread::yield_now(); }
    /// pump.close()?;
    /// // A minute later:
    /// let rows = counts.iterator(counts.shards()[0].id, Position::TrimHorizon)?.next_batch(10)?;
    /// assert_eq!(rows.iter().next().expect("a row").data(), br#"{"page":"/cart","n":2}"#);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Same as [`start_all`](Self::start_all); `Invalid` if the text does not consist of exactly one such statement.
    pub fn start(&self, statement: &str) -> Result<Pump, QueryError> {
        self.start_with(statement, PumpOptions::new())
    }

    /// Starts a continuous query like [`start`](Self::start), with options.
    ///
    /// # Errors
    /// Same as [`start`](Self::start).
    pub fn start_with(&self, statement: &str, options: PumpOptions) -> Result<Pump, QueryError> {
        let program = self.program(statement)?;
        if program.pumps.len() != 1 {
            return Err(QueryError::Invalid(format!(
                "the text has {} statements that run: start them with `start_all`",
                program.pumps.len()
            )));
        }
        let mut pumps = self.run(program, &options)?;
        pumps.pop().ok_or_else(|| {
            QueryError::Invalid("the pump is STOPPED: leave the word out to start it".to_owned())
        })
    }

    /// Starts all continuous queries of a text, except pumps that are `STOPPED`. Statements end with `;`. Each pump has its own name, under which
    /// its state is stored: that of `CREATE PUMP`, or of its output.
    ///
    /// A stream that `CREATE STREAM` declares is the [output](Self::output) of that name, if that is a stream. Otherwise it is a new stream inside
    /// the first stream that the statements read, and continues when the same text is started again.
    ///
    /// # Errors
    /// `Statement` if one of the statements cannot run. `Invalid` if a statement has changed since its state was written, unless the pump
    /// [begins anew](PumpOptions::begin_anew), or if there is no such output. `Stream`: `Locked` if a pump of this name runs.
    pub fn start_all(&self, statements: &str, options: PumpOptions) -> Result<Vec<Pump>, QueryError> {
        self.run(self.program(statements)?, &options)
    }

    pub(super) fn program(&self, text: &str) -> Result<Program, QueryError> {
        statement::plan(text, self).map_err(|problem| error_of(text, problem).into())
    }

    pub(super) fn run(&self, program: Program, options: &PumpOptions) -> Result<Vec<Pump>, QueryError> {
        let mut catalog = self.clone();
        let mut declared = vec![];
        for stream in &program.streams {
            let (with_stream, new) = catalog.declare(stream, &program)?;
            catalog = with_stream;
            declared.extend(new);
        }
        let declared = Arc::new(declared);
        let mut pumps = vec![];
        for plan in program.pumps.iter().filter(|plan| !plan.stopped) {
            let pump = catalog.start_plan(plan, options.clone())?;
            pumps.push(pump.with_streams(Arc::clone(&declared)));
        }
        Ok(pumps)
    }

    fn start_plan(&self, plan: &Plan, options: PumpOptions) -> Result<Pump, QueryError> {
        let output = self.output_of(&plan.target).ok_or_else(|| {
            QueryError::Invalid(format!(
                "the catalog has no output {:?}: add it to the catalog, or declare it with CREATE STREAM",
                plan.target
            ))
        })?;
        let source = |stream: &String| match self.source(stream) {
            Some(source) => Ok(Source { reader: source.reader.clone(), schema: source.schema.clone() }),
            None => Err(QueryError::Invalid(format!("the catalog has no stream {stream:?}"))),
        };
        let sources = plan.inputs.iter().map(|input| source(&input.stream)).collect::<Result<_, _>>()?;
        Pump::start(plan, sources, &self.session()?, output.clone(), options)
    }

    /// Adds a stream that statements declare, as an output and as a table.
    fn declare(
        self,
        declared: &DeclaredStream,
        program: &Program,
    ) -> Result<(Self, Option<Declared>), QueryError> {
        let schema = Schema::json(&declared.columns)?;
        let name = &declared.name;
        let known = self.output_of(name).map(|output| match &output.target {
            Target::Stream(stream) => Some(stream.clone()),
            Target::Function(_) => None,
        });
        match known {
            Some(Some(stream)) if self.source(name).is_none() => {
                Ok((self.stream(name, &stream, schema)?, None))
            }
            Some(_) => Ok((self, None)),
            None => {
                let inputs = program.pumps.iter().flat_map(|plan| &plan.inputs);
                let first = inputs.filter_map(|input| self.source(&input.stream)).next();
                let around = first.map(|source| source.reader.clone()).ok_or_else(|| {
                    QueryError::Invalid(format!("the stream {name:?} is declared, and nothing else is read"))
                })?;
                extend::check_name("a stream", name)?;
                let own = if around.is_own() { Maintenance::Manual } else { Maintenance::Thread };
                let options = StreamOptions::new().maintenance(own).clock(Arc::clone(around.clock()));
                let stream = extend::streams_inside(&around, "sql-streams").open(name, options)?;
                extend::add_companion(&around, stream.clone())?;
                let catalog = self.output(name, Output::stream(&stream))?;
                let catalog = catalog.stream(name, &stream, schema)?;
                Ok((catalog, Some(Declared { around, stream })))
            }
        }
    }
}

fn error_of(text: &str, problem: Problem) -> StatementError {
    let place = Place { line: problem.line, column: problem.column, width: 1 };
    let error = StatementError::new(text, Some(place), problem.message);
    match problem.hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}
