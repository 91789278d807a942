//! The tables that statements may name.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use arrow_array::temporal_conversions::timestamp_us_to_datetime;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::execution::SessionState;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};
use parking_lot::Mutex;

use super::continuous::Output;
use super::engine::Engine;
use super::error::QueryError;
use super::files::FileTable;
use super::read::BATCH_ROWS;
use super::run::Run;
use super::sample::sample;
use super::schema::Schema;
use super::table::StreamSource;
use super::tables::{CATALOG, SCHEMA, Table, Tables};
use super::words::Names;
use crate::{Clock, Error, StreamReader, SystemClock};

/// The memory of a query, unless the caller sets another limit.
const MEMORY_LIMIT: usize = 1 << 30;
/// How much a query may write to temporary files, as a multiple of its memory.
const SPILL_FACTOR: u64 = 32;
/// How much of each shard is read ahead where shards are merged.
const ORDERED_BYTES: usize = 1 << 20;
const NAME_BYTES_MAX: usize = 255;

/// The tables that statements can name: streams and files.
///
/// Cloning is cheap. Clones share the tables, and adding one to a clone does not add it to the others.
///
/// ```
/// # use streamlog::Stream;
/// # use streamlog::query::{Catalog, Schema};
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path().join("clicks"))?;
/// # std::fs::write(directory.path().join("users.csv"), "id,name\nuser-17,Ada\n")?;
/// stream.put("user-17", "clicked")?;
/// let catalog = Catalog::new()
///     .stream("clicks", &stream, Schema::raw())?
///     .file("users", directory.path().join("users.csv"))?;
/// let mut rows = catalog.query("SELECT name, count(*) AS clicks FROM clicks JOIN users ON id = _key GROUP BY name")?;
/// assert_eq!(
///     rows.to_table()?,
///     "+------+--------+\n\
///      | name | clicks |\n\
///      +------+--------+\n\
///      | Ada  | 1      |\n\
///      +------+--------+\n"
/// );
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Catalog {
    tables: Arc<BTreeMap<String, Table>>,
    outputs: Arc<BTreeMap<String, Output>>,
    memory_limit: usize,
    engine: Arc<Engine>,
    /// All functions, created when they are first needed.
    functions: Arc<Mutex<Option<SessionState>>>,
}

impl fmt::Debug for Catalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Catalog").field("tables", &self.tables()).finish_non_exhaustive()
    }
}

impl Default for Catalog {
    fn default() -> Self {
        Self::new()
    }
}

impl Catalog {
    /// Returns a catalog without tables.
    pub fn new() -> Self {
        Self {
            tables: Arc::default(),
            outputs: Arc::default(),
            memory_limit: MEMORY_LIMIT,
            engine: Engine::shared(),
            functions: Arc::default(),
        }
    }

    /// Adds a stream as a table.
    ///
    /// Its columns are those that the log has for every record, and those of the schema:
    ///
    /// | column | type | |
    /// |---|---|---|
    /// | `_shard` | `INTEGER UNSIGNED` | the number of the shard |
    /// | `_sequence` | `BIGINT UNSIGNED` | the sequence number |
    /// | `_arrival` | `TIMESTAMP` | when the record arrived, in microseconds and UTC |
    /// | `_key` | `VARCHAR` | the partition key; bytes that are not UTF-8 become U+FFFD |
    /// | `_data` | `VARBINARY` | the data, as it was put; an aggregate of the Kinesis Producer Library is one record |
    /// | `_headers` | `MAP` | the headers: names and values |
    ///
    /// The reader may belong to a stream that another process has open.
    ///
    /// # Errors
    /// `Invalid` if the name is empty, longer than 255 bytes or in use. `Stream` if the stream is closed.
    pub fn stream(mut self, name: &str, reader: &StreamReader, schema: Schema) -> Result<Self, QueryError> {
        if reader.is_closed() {
            return Err(Error::Closed.into());
        }
        let schema = if schema.is_inferred() { schema.inferred_from(sample(reader)?)? } else { schema };
        let columns = schema.columns();
        let source = StreamSource { name: name.to_owned(), reader: reader.clone(), schema, columns };
        self.add(name, Table::Stream(Arc::new(source)))?;
        Ok(self)
    }

    /// Adds a file as a table: CSV with a header line (`.csv`, or `.tsv` with tabs), JSON with one object per line (`.json`, `.jsonl`, `.ndjson`),
    /// or Parquet (`.parquet`).
    ///
    /// The columns are determined when the file is added: from the header and the first rows, or from the file's own schema. Each query reads the
    /// rows.
    ///
    /// # Errors
    /// `File` if there is no such file, or its columns cannot be determined. `Invalid` if the name is empty, longer than 255 bytes or in use.
    pub fn file(mut self, name: &str, path: impl AsRef<Path>) -> Result<Self, QueryError> {
        let state = self.state(&Arc::default())?;
        let file = FileTable::open(path.as_ref(), state, &self.engine)?;
        self.add(name, Table::File(Arc::new(file)))?;
        Ok(self)
    }

    /// Sets how many bytes of memory each query may use for sorting, grouping and joining: 1 GiB by default.
    ///
    /// A query that needs more writes part of it to temporary files where possible, up to 32 times as much. Otherwise it fails with
    /// [`QueryError::Memory`]. The batches that are being read are not counted: a few for each processor, of up to 8,192 rows and about 8 MiB.
    #[must_use]
    pub fn memory_limit(mut self, bytes: usize) -> Self {
        self.memory_limit = bytes;
        self
    }

    /// Adds an output into which continuous queries can insert. See [`start`](Self::start).
    ///
    /// # Errors
    /// `Invalid` if the name is empty, longer than 255 bytes or in use by another output.
    pub fn output(mut self, name: &str, output: Output) -> Result<Self, QueryError> {
        check_name(name, "an output")?;
        if self.outputs.contains_key(name) {
            return Err(QueryError::Invalid(format!(
                "the catalog has an output {name:?} already: use another name"
            )));
        }
        Arc::make_mut(&mut self.outputs).insert(name.to_owned(), output);
        Ok(self)
    }

    /// Returns an output by its name, or the only one whose name differs just in case.
    pub(super) fn output_of(&self, name: &str) -> Option<&Output> {
        self.outputs.get(name).or_else(|| {
            let mut same = self.outputs.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
            let (only, None) = (same.next()?, same.next()) else { return None };
            Some(only.1)
        })
    }

    fn add(&mut self, name: &str, table: Table) -> Result<(), QueryError> {
        check_name(name, "a table")?;
        if self.tables.contains_key(name) {
            return Err(QueryError::Invalid(format!(
                "the catalog has a table {name:?} already: use another name"
            )));
        }
        Arc::make_mut(&mut self.tables).insert(name.to_owned(), table);
        Ok(())
    }

    /// Returns the names of the tables, sorted.
    pub fn tables(&self) -> Vec<String> {
        self.tables.keys().cloned().collect()
    }

    pub(super) fn columns(&self, table: &str) -> Option<SchemaRef> {
        match self.tables.get(table)? {
            Table::Stream(source) => Some(Arc::clone(&source.columns)),
            Table::File(file) => Some(file.provider.schema()),
        }
    }

    /// Returns what the catalog knows of a stream.
    pub(super) fn source(&self, table: &str) -> Option<&Arc<StreamSource>> {
        match self.tables.get(table)? {
            Table::Stream(source) => Some(source),
            Table::File(_) => None,
        }
    }

    pub(super) fn table(&self, name: &str) -> Option<&Table> {
        self.tables.get(name)
    }

    pub(super) fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Returns all names that a statement may write.
    pub(super) fn names(&self) -> Names {
        let mut names = Names::default();
        for name in self.tables.keys() {
            names.add(name);
            self.columns(name).iter().for_each(|columns| names.add_fields(columns.fields()));
        }
        names
    }

    /// Returns a session with the tables and functions of the catalog. It takes names as they are written, whatever their case.
    ///
    /// # Errors
    /// `Failed` if the directory for temporary files cannot be used.
    pub(super) fn session(&self) -> Result<SessionContext, QueryError> {
        Ok(SessionContext::new_with_state(self.state(&Arc::default())?))
    }

    /// Returns the state of a session for one run.
    pub(super) fn state(&self, run: &Arc<Run>) -> Result<SessionState, QueryError> {
        let tables = Tables { tables: Arc::clone(&self.tables), run: Arc::clone(run) };
        let mut state = SessionStateBuilder::new_from_existing(self.functions())
            .with_runtime_env(self.runtime()?)
            .with_catalog_list(Arc::new(tables))
            .build();
        let now = timestamp_us_to_datetime(self.now()).map(|now| now.and_utc());
        state.execution_props_mut().query_execution_start_time = now;
        Ok(state)
    }

    fn functions(&self) -> SessionState {
        let mut functions = self.functions.lock();
        functions.get_or_insert_with(functions_of_all_sessions).clone()
    }

    fn runtime(&self) -> Result<Arc<RuntimeEnv>, QueryError> {
        let disk = DiskManagerBuilder::default().with_mode(DiskManagerMode::OsTmpDirectory);
        let spilled = (self.memory_limit as u64).saturating_mul(SPILL_FACTOR);
        let tracked = std::num::NonZeroUsize::MIN;
        RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(TrackConsumersPool::new(
                FairSpillPool::new(self.memory_limit),
                tracked,
            )))
            .with_disk_manager_builder(disk.with_max_temp_directory_size(spilled))
            .build_arc()
            .map_err(|error| QueryError::Failed(error.strip_backtrace()))
    }

    /// Returns the time that `now()` has in a statement, in microseconds after 1970: that of the streams' clock.
    fn now(&self) -> i64 {
        let clock = self.tables.values().find_map(|table| match table {
            Table::Stream(source) => Some(source.reader.now()),
            Table::File(_) => None,
        });
        clock.unwrap_or_else(|| SystemClock.now()).as_micros().try_into().unwrap_or(i64::MAX)
    }
}

fn check_name(name: &str, what: &str) -> Result<(), QueryError> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains(char::is_control) {
        return Err(QueryError::Invalid(format!(
            "the name of {what} has 1 to {NAME_BYTES_MAX} bytes and no control characters: {name:?}"
        )));
    }
    Ok(())
}

fn functions_of_all_sessions() -> SessionState {
    let mut config = SessionConfig::new()
        .with_target_partitions(Engine::width())
        .with_batch_size(BATCH_ROWS)
        .with_default_catalog_and_schema(CATALOG, SCHEMA)
        .with_create_default_catalog_and_schema(false)
        .with_information_schema(false)
        // A stream is divided by its scan, and large files by theirs.
        .with_round_robin_repartition(false);
    config.options_mut().execution.sort_pushdown_buffer_capacity = ORDERED_BYTES;
    config.options_mut().execution.time_zone = Some("UTC".to_owned());
    let parser = &mut config.options_mut().sql_parser;
    // Words were already resolved: see `Names::resolve`.
    parser.enable_ident_normalization = false;
    parser.collect_spans = true;
    let state = SessionStateBuilder::new().with_default_features().with_config(config).build();
    let session = SessionContext::new_with_state(state);
    super::functions::register(&session);
    session.state()
}
