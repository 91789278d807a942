//! Queries of existing records: planned once, and read to their end.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, BooleanArray, RecordBatch, StringArray};
use datafusion::arrow::datatypes::FieldRef;
use datafusion::execution::{SendableRecordBatchStream, SessionState};
use datafusion::physical_plan::execute_stream;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{self, Ident};

use super::ask::{self, Asked};
use super::catalog::Catalog;
use super::error::{Place, QueryError, StatementError};
use super::explain::Explainer;
use super::interrupt::{Stop, interruptible};
use super::rows::{RowSource, Rows};
use super::run::Run;
use super::sql_types::sql_type;
use super::tables::Table;
use super::words;

/// A column of a table or of a result. [`Catalog::describe`] and [`Rows::columns`] return it.
///
/// ```
/// # use streamlog::Stream;
/// # use streamlog::query::{Catalog, Schema};
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path())?;
/// let catalog = Catalog::new().stream("clicks", &stream, Schema::raw())?;
/// let columns = catalog.describe("clicks").expect("it was added");
/// assert_eq!((&*columns[2].name, &*columns[2].sql_type), ("_arrival", "TIMESTAMP"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Column {
    /// The name of the column.
    pub name: String,
    /// Its SQL type.
    pub sql_type: String,
    /// Whether it may be NULL.
    pub is_nullable: bool,
}

impl Column {
    pub(super) fn of(field: &FieldRef) -> Self {
        Self {
            name: field.name().clone(),
            sql_type: sql_type(field.data_type()),
            is_nullable: field.is_nullable(),
        }
    }
}

impl Catalog {
    /// Runs a read-only statement: `SELECT`, `WITH`, `VALUES`, `EXPLAIN`, `SHOW TABLES`, `SHOW FUNCTIONS`, `DESCRIBE table`.
    ///
    /// It plans the statement on the calling thread, and returns rows that are read on demand. The query sees all streams as they were when the call
    /// began, even if they grow meanwhile. Closed shards are read like open ones. `now()` is the time of the first stream's clock.
    ///
    /// Unquoted names match tables and columns regardless of case. A record whose data does not fit the schema never ends a query: see
    /// [`Rows::refused`]. A query that needs no column of the data does not parse it, so `count(*)` counts such records, too.
    ///
    /// You can call it from any thread. It blocks the calling thread, even if that belongs to an async runtime.
    ///
    /// # Errors
    /// `Statement` with the position if the statement is wrong, is not read-only, has more than 1 MiB, or is nested too deeply; `Stream` if a stream
    /// is closed or cannot be read; `Failed`. Rows that are read later return `Memory` and `Failed` as well.
    pub fn query(&self, statement: &str) -> Result<Rows, QueryError> {
        let run = Arc::new(Run::default());
        let (catalog, text) = (self.clone(), Arc::<str>::from(statement));
        let of_run = Arc::clone(&run);
        // The engine's threads have the stack that deep statements need.
        let planned = self.engine().run(async move { catalog.plan(&text, &of_run).await })?;
        match planned {
            Planned::Running { rows, explainer } => {
                let schema = rows.schema();
                let explain = move |error| explainer.explain(error);
                let batches = self.engine().stream(rows, explain, run.stop.clone())?;
                Ok(Rows { schema, source: RowSource::Running(batches), run })
            }
            Planned::Ready(batch) => {
                let source = RowSource::Ready(vec![batch.clone()].into_iter());
                Ok(Rows { schema: batch.schema(), source, run })
            }
        }
    }

    async fn plan(&self, text: &Arc<str>, run: &Arc<Run>) -> Result<Planned, QueryError> {
        match ask::parse(text, &self.names())? {
            Asked::Tables => self.show_tables().map(Planned::Ready),
            Asked::Functions => self.show_functions().map(Planned::Ready),
            Asked::Describe(table) => self.show_columns(text, &table).map(Planned::Ready),
            Asked::Query(statement) => {
                let state = self.state(run)?;
                let explainer = Explainer::new(self, Arc::clone(text), &state);
                explainer.check(&statement)?;
                self.note(&statement, run)?;
                match run_statement(&state, *statement, &run.stop).await {
                    Ok(rows) => Ok(Planned::Running { rows, explainer }),
                    Err(error) => Err(explainer.explain(error)),
                }
            }
        }
    }

    /// Notes where the shards of all streams of the statement end, before anything is planned.
    fn note(&self, statement: &ast::Statement, run: &Run) -> Result<(), QueryError> {
        for name in ask::tables_of(statement) {
            if let Some(source) = self.source(&name) {
                run.note(&name, &source.reader)?;
            }
        }
        Ok(())
    }

    /// Returns the columns of a table, or `None` if there is no such table.
    pub fn describe(&self, table: &str) -> Option<Vec<Column>> {
        let columns = self.columns(table)?;
        Some(columns.fields().iter().map(Column::of).collect())
    }

    fn show_tables(&self) -> Result<RecordBatch, QueryError> {
        let names = self.tables();
        let kinds = names.iter().map(|name| match self.table(name) {
            Some(Table::Stream(_)) => "stream".to_owned(),
            Some(Table::File(file)) => file.path.display().to_string(),
            None => String::new(),
        });
        let kinds = texts(kinds);
        made([("table_name", texts(names)), ("source", kinds)])
    }

    fn show_functions(&self) -> Result<RecordBatch, QueryError> {
        let state = self.state(&Arc::default())?;
        let functions = super::explain::functions(&state);
        let kinds = functions.values().map(|kind| (*kind).to_owned()).collect::<Vec<_>>();
        made([("function_name", texts(functions.into_keys())), ("kind", texts(kinds))])
    }

    fn show_columns(&self, text: &str, table: &Ident) -> Result<RecordBatch, QueryError> {
        let Some(columns) = self.describe(&table.value) else {
            let names = self.tables();
            return Err(no_table(text, Place::of(table.span), &table.value, &names).into());
        };
        let nullable: ArrayRef =
            Arc::new(columns.iter().map(|column| Some(column.is_nullable)).collect::<BooleanArray>());
        made([
            ("column_name", texts(columns.iter().map(|column| column.name.clone()))),
            ("data_type", texts(columns.iter().map(|column| column.sql_type.clone()))),
            ("is_nullable", nullable),
        ])
    }
}

enum Planned {
    Running { rows: SendableRecordBatchStream, explainer: Explainer },
    Ready(RecordBatch),
}

async fn run_statement(
    state: &SessionState,
    statement: ast::Statement,
    stop: &Stop,
) -> datafusion::error::Result<SendableRecordBatchStream> {
    let plan = state.statement_to_plan(Statement::Statement(Box::new(statement))).await?;
    let plan = interruptible(state.create_physical_plan(&plan).await?, stop)?;
    execute_stream(plan, state.task_ctx())
}

/// Returns the error for a table that is not in the catalog.
pub(super) fn no_table(text: &str, place: Option<Place>, name: &str, tables: &[String]) -> StatementError {
    let error = StatementError::new(text, place, format!("there is no table \"{name}\""));
    match words::nearest(name, tables.iter().map(String::as_str)) {
        Some(nearest) => error.hint(format!("did you mean \"{nearest}\"?")),
        None if tables.is_empty() => error.hint("the catalog is empty"),
        None => error.hint(format!("the tables are {}", tables.join(", "))),
    }
}

fn texts(texts: impl IntoIterator<Item = String>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(texts))
}

fn made<const N: usize>(columns: [(&str, ArrayRef); N]) -> Result<RecordBatch, QueryError> {
    RecordBatch::try_from_iter(columns).map_err(|error| QueryError::Failed(error.to_string()))
}
