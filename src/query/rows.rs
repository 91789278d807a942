//! The rows of a query.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use tokio::task::AbortHandle;

use super::bounded::Column;
use super::engine::Batches;
use super::error::QueryError;
use super::interrupt::Stop;
use super::run::{RefusedRows, Run};

/// The rows of a query, as Apache Arrow batches. [`Catalog::query`](crate::query::Catalog::query) returns them.
///
/// The query runs on its own threads while the batches are read, at most a few batches ahead. Dropping `Rows` ends it.
///
/// ```
/// # use streamlog::Stream;
/// # use streamlog::query::{Catalog, Schema};
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path())?;
/// stream.put("user-17", "clicked")?;
/// let catalog = Catalog::new().stream("clicks", &stream, Schema::raw())?;
/// for batch in catalog.query("SELECT _key, _data FROM clicks")? {
///     println!("{} rows", batch?.num_rows());
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Rows {
    pub(super) schema: SchemaRef,
    pub(super) source: RowSource,
    pub(super) run: Arc<Run>,
}

/// Where rows come from.
pub(super) enum RowSource {
    Running(Batches),
    /// A batch that was read and returned, and what comes after it.
    Kept(RecordBatch, Box<RowSource>),
    Ready(std::vec::IntoIter<RecordBatch>),
    Ended,
}

impl fmt::Debug for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rows").field("schema", &self.schema).finish_non_exhaustive()
    }
}

impl Rows {
    /// Returns the columns of the rows.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// Returns the columns of the rows with their SQL types.
    ///
    /// ```
    /// # use streamlog::query::Catalog;
    /// let rows = Catalog::new().query("SELECT 1 AS n, 'a' AS letter")?;
    /// let columns: Vec<_> = rows.columns().into_iter().map(|column| (column.name, column.sql_type)).collect();
    /// assert_eq!(columns[1], ("letter".to_owned(), "VARCHAR".to_owned()));
    /// # Ok::<(), streamlog::query::QueryError>(())
    /// ```
    pub fn columns(&self) -> Vec<Column> {
        self.schema.fields().iter().map(Column::of).collect()
    }

    /// Returns the rows that were left out so far because the data of their record does not fit the schema of its table.
    pub fn refused(&self) -> RefusedRows {
        self.run.refused()
    }

    /// Returns how many records retention dropped after the query started and before it read them. They are left out.
    pub fn trimmed(&self) -> u64 {
        self.run.trimmed()
    }

    /// Returns a handle that can end the query while another thread waits for its rows.
    pub fn stopper(&self) -> Stopper {
        Stopper { task: self.source.task(), stop: self.run.stop.clone() }
    }

    /// Returns a batch, to be read again next.
    pub(super) fn keep(&mut self, batch: RecordBatch) {
        let rest = std::mem::replace(&mut self.source, RowSource::Ended);
        self.source = RowSource::Kept(batch, Box::new(rest));
    }

    /// Returns how many records were left out because they were lost to damage and the owner of the stream gave them up:
    /// [`Error::Lost`](crate::Error::Lost).
    pub fn lost(&self) -> u64 {
        self.run.lost()
    }
}

impl RowSource {
    fn task(&self) -> Option<AbortHandle> {
        match self {
            Self::Running(batches) => Some(batches.task()),
            Self::Kept(_, rest) => rest.task(),
            Self::Ready(_) | Self::Ended => None,
        }
    }
}

/// Ends a query from another thread, such as after a timeout. [`Rows::stopper`] returns it.
///
/// ```
/// # use streamlog::Stream;
/// # use streamlog::query::{Catalog, QueryError, Schema};
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path())?;
/// # for _ in 0..2_000 { stream.put("user-17", "clicked")?; }
/// let catalog = Catalog::new().stream("clicks", &stream, Schema::raw())?;
/// let mut rows = catalog.query("SELECT count(*) FROM clicks a, clicks b, clicks c, clicks d")?;
/// let stopper = rows.stopper();
/// // Such as when a user has seen enough, or a deadline has passed.
/// std::thread::spawn(move || stopper.stop());
/// assert!(matches!(rows.next(), Some(Err(QueryError::Stopped))));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Stopper {
    task: Option<AbortHandle>,
    stop: Stop,
}

impl Stopper {
    /// Ends the query. Threads that wait for its rows get [`QueryError::Stopped`], after the batches that were ready. If the query has already
    /// ended, nothing happens.
    pub fn stop(&self) {
        if let Some(task) = &self.task {
            self.stop.set();
            task.abort();
        }
    }
}

/// Converts existing rows, such as those that the function of an [`Output`](crate::query::Output) gets, in order to print them.
///
/// ```
/// # use streamlog::query::{Catalog, Rows};
/// let batch = Catalog::new().query("SELECT 1 AS n")?.next().expect("a row")?;
/// let mut lines = vec![];
/// Rows::from(batch).write_json(&mut lines)?;
/// assert_eq!(lines, b"{\"n\":1}\n");
/// # Ok::<(), streamlog::query::QueryError>(())
/// ```
impl From<RecordBatch> for Rows {
    fn from(batch: RecordBatch) -> Self {
        let schema = batch.schema();
        Self { schema, source: RowSource::Ready(vec![batch].into_iter()), run: Arc::default() }
    }
}

/// Waits for the next batch of rows. After an error, there are no more.
impl Iterator for Rows {
    type Item = Result<RecordBatch, QueryError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let batch = match &mut self.source {
                RowSource::Running(batches) => batches.next(),
                RowSource::Kept(batch, rest) => {
                    let (batch, rest) = (batch.clone(), std::mem::replace(&mut **rest, RowSource::Ended));
                    self.source = rest;
                    Some(Ok(batch))
                }
                RowSource::Ready(batches) => batches.next().map(Ok),
                RowSource::Ended => None,
            };
            match batch {
                Some(Ok(batch)) if batch.num_rows() == 0 => {}
                Some(Ok(batch)) => return Some(Ok(batch)),
                last => {
                    self.source = RowSource::Ended;
                    return last;
                }
            }
        }
    }
}
