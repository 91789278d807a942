//! Runs the SQL texts of a plan over existing rows.
//!
//! A pump has a runtime of its own, on its own thread: its evaluations are small, and must not wait for the caller's runtime or for other queries.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::sync::Arc;

use datafusion::arrow::array::{RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::temporal_conversions::timestamp_us_to_datetime;
use datafusion::catalog::TableProvider;
use datafusion::common::TableReference;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::{MemTable, ViewTable, provider_as_source};
use datafusion::error::DataFusionError;
use datafusion::execution::SessionState;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use datafusion::physical_plan::{collect, execute_stream};
use datafusion::prelude::{SessionConfig, SessionContext};
use parking_lot::Mutex;
use tokio::runtime::{Builder, Runtime};

use super::overlay::Overlay;
use crate::Clock;
use crate::query::error::QueryError;
use crate::query::interrupt::{Stop, interruptible};

/// The most rows of a batch of results.
const BATCH_ROWS: usize = 8_192;

/// Evaluates SQL over tables whose rows change.
pub(super) struct Evaluator {
    runtime: Runtime,
    state: SessionState,
    tables: Overlay,
    /// The tables of the catalog that its statements name.
    lookups: Mutex<Vec<Lookup>>,
    /// How many bytes these tables may have together.
    lookup_bytes_max: usize,
    clock: Arc<dyn Clock>,
    /// Ends joins that take long.
    pub(super) stop: Stop,
}

/// A table of the catalog, which is read completely, and again only on request: its contents do not change by themselves, and a file is not read for
/// each batch of rows.
#[derive(Debug)]
struct Lookup {
    name: String,
    table: Table,
}

/// A table whose rows change.
pub(super) type Table = Arc<MemTable>;

/// A statement that was planned.
#[derive(Debug)]
pub(super) struct Query {
    plan: Box<LogicalPlan>,
    pub(super) schema: SchemaRef,
}

impl Evaluator {
    /// Evaluates with the tables and functions of a session.
    pub(super) fn new(
        session: &SessionContext,
        lookup_bytes_max: usize,
        clock: Arc<dyn Clock>,
        stop: Stop,
    ) -> Result<Self, QueryError> {
        let runtime = Builder::new_current_thread().enable_time().build();
        let runtime = runtime.map_err(|error| QueryError::Failed(format!("cannot begin: {error}")))?;
        // More partitions would only split small batches and join them again.
        let config: SessionConfig = session
            .copied_config()
            .with_target_partitions(1)
            .with_batch_size(BATCH_ROWS)
            .with_collect_statistics(false);
        let state = session.state();
        let names = &config.options().catalog;
        let tables = Overlay::new(state.catalog_list(), &names.default_catalog, &names.default_schema);
        let state = SessionStateBuilder::new_from_existing(state)
            .with_config(config)
            .with_catalog_list(Arc::new(tables.clone()))
            .build();
        Ok(Self { runtime, state, tables, lookups: Mutex::default(), lookup_bytes_max, clock, stop })
    }

    /// Adds a table without rows, replacing one of the same name. Planned statements keep the table that they were planned with.
    pub(super) fn table(&self, name: &str, schema: &SchemaRef) -> Result<Table, QueryError> {
        let table = Arc::new(MemTable::try_new(nullable(schema), vec![vec![]]).map_err(failed)?);
        self.tables.set(name, table.clone());
        Ok(table)
    }

    /// Adds the result of a statement as a table.
    pub(super) fn view(&self, name: &str, query: &Query) {
        self.tables.set(name, Arc::new(ViewTable::new((*query.plan).clone(), None)));
    }

    /// Plans a statement. Tables of the catalog that it names are read first, unless another statement has named them.
    pub(super) fn plan(&self, sql: &str) -> Result<Query, QueryError> {
        let query = self.plan_once(sql)?;
        let others = self.others(&query)?;
        if others.is_empty() {
            return Ok(query);
        }
        for name in others {
            let behind = self.runtime.block_on(self.tables.behind(&name)).map_err(failed)?;
            let Some(behind) = behind else { continue };
            let table = self.table(&name, &behind.schema())?;
            self.lookups.lock().push(Lookup { name, table });
        }
        self.read_lookups()?;
        self.plan_once(sql)
    }

    fn plan_once(&self, sql: &str) -> Result<Query, QueryError> {
        let plan = self.runtime.block_on(self.state.create_logical_plan(sql)).map_err(failed)?;
        let schema = nullable(&Arc::new(plan.schema().as_arrow().clone()));
        Ok(Query { plan: Box::new(plan), schema })
    }

    /// Returns the tables that a statement names and that are not the pump's own.
    fn others(&self, query: &Query) -> Result<BTreeSet<String>, QueryError> {
        let mut others = BTreeSet::new();
        let look = |plan: &LogicalPlan| {
            if let LogicalPlan::TableScan(scan) = plan
                && !self.tables.has(scan.table_name.table())
            {
                others.insert(scan.table_name.table().to_owned());
            }
            Ok(TreeNodeRecursion::Continue)
        };
        query.plan.apply_with_subqueries(look).map_err(failed)?;
        Ok(others)
    }

    /// Reads the tables of the catalog again. If one cannot be read, all stay as they are.
    pub(super) fn read_lookups(&self) -> Result<(), QueryError> {
        let lookups = self.lookups.lock();
        let mut bytes = 0;
        let read = lookups.iter().map(|lookup| self.read_all(lookup, &mut bytes));
        let read = read.collect::<Result<Vec<_>, _>>()?;
        for (lookup, rows) in lookups.iter().zip(read) {
            *self.runtime.block_on(lookup.table.batches[0].write()) = rows;
        }
        Ok(())
    }

    fn read_all(&self, lookup: &Lookup, bytes: &mut usize) -> Result<Vec<RecordBatch>, QueryError> {
        let schema = TableProvider::schema(&*lookup.table);
        let mut batches = vec![];
        self.runtime.block_on(async {
            // It is looked up each time, to check that the file still exists.
            let behind = self.tables.behind(&lookup.name).await.map_err(failed)?;
            let behind =
                behind.ok_or_else(|| QueryError::Failed(format!("there is no table {}", lookup.name)))?;
            let plan = LogicalPlanBuilder::scan(
                TableReference::bare(lookup.name.clone()),
                provider_as_source(behind),
                None,
            );
            let plan = plan.and_then(LogicalPlanBuilder::build).map_err(failed)?;
            let plan = self.state.create_physical_plan(&plan).await.map_err(failed)?;
            let mut rows = execute_stream(plan, self.state.task_ctx()).map_err(failed)?;
            while let Some(batch) = poll_fn(|context| rows.as_mut().poll_next(context)).await {
                let batch = batch.and_then(|batch| Ok(conform(batch, &schema)?)).map_err(failed)?;
                *bytes += batch.get_array_memory_size();
                if *bytes > self.lookup_bytes_max {
                    return Err(QueryError::Memory(format!(
                        "the tables that the statement joins take more than {} bytes",
                        self.lookup_bytes_max
                    )));
                }
                batches.push(batch);
            }
            Ok(batches)
        })
    }

    /// Returns which columns of a table a statement needs, as indices, in order. `columns` is the number of the table's columns.
    pub(super) fn needs(&self, query: &Query, table: &str, columns: usize) -> Result<Vec<usize>, QueryError> {
        let optimized = self.state.optimize(&query.plan).map_err(failed)?;
        let (mut needed, mut needs_all) = (vec![], false);
        let look = |plan: &LogicalPlan| {
            if let LogicalPlan::TableScan(scan) = plan
                && scan.table_name.table() == table
            {
                match &scan.projection {
                    Some(projection) => needed.extend(projection.iter().copied()),
                    None => needs_all = true,
                }
            }
            Ok(TreeNodeRecursion::Continue)
        };
        optimized.apply_with_subqueries(look).map_err(failed)?;
        if needs_all {
            needed = (0..columns).collect();
        }
        needed.sort_unstable();
        needed.dedup();
        Ok(needed)
    }

    /// Runs a statement over tables with these rows.
    pub(super) fn run(
        &self,
        query: &Query,
        tables: Vec<(&Table, Vec<RecordBatch>)>,
    ) -> Result<Vec<RecordBatch>, DataFusionError> {
        let mut filled = vec![];
        for (table, rows) in tables {
            let schema = TableProvider::schema(&**table);
            let rows = rows.into_iter().map(|batch| conform(batch, &schema)).collect::<Result<_, _>>()?;
            *self.runtime.block_on(table.batches[0].write()) = rows;
            filled.push(table);
        }
        let mut state = self.state.clone();
        let now = i64::try_from(self.clock.now().as_micros()).unwrap_or(i64::MAX);
        state.execution_props_mut().query_execution_start_time =
            timestamp_us_to_datetime(now).map(|now| now.and_utc());
        let result = self.runtime.block_on(async {
            let plan = interruptible(state.create_physical_plan(&query.plan).await?, &self.stop)?;
            collect(plan, state.task_ctx()).await
        });
        for table in filled {
            self.runtime.block_on(table.batches[0].write()).clear();
        }
        result
    }
}

/// Makes all fields nullable: a column that is never null for one operator may be null after another, so the planner must not rely on it.
pub(super) fn nullable(schema: &SchemaRef) -> SchemaRef {
    let fields: Vec<_> =
        schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
    Arc::new(Schema::new(fields))
}

/// Returns the rows with a schema that differs only in nullability.
pub(super) fn conform(rows: RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    RecordBatch::try_new_with_options(schema.clone(), rows.columns().to_vec(), &options)
}

pub(super) fn failed(error: DataFusionError) -> QueryError {
    match error {
        error @ DataFusionError::ResourcesExhausted(_) => QueryError::Memory(error.to_string()),
        error if was_stopped(&error) => QueryError::Stopped,
        error => QueryError::Failed(error.strip_backtrace()),
    }
}

/// Returns why a statement fails for rows of its tables.
///
/// # Errors
/// Errors that end the pump, whatever the rows.
pub(super) fn of_rows(error: DataFusionError) -> Result<String, QueryError> {
    if matches!(error, DataFusionError::ResourcesExhausted(_)) || was_stopped(&error) {
        return Err(failed(error));
    }
    Ok(error.strip_backtrace())
}

fn was_stopped(error: &DataFusionError) -> bool {
    matches!(error.find_root(), DataFusionError::External(error) if matches!(error.downcast_ref(), Some(QueryError::Stopped)))
}
