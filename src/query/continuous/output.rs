//! Where the rows of a pump go, and in which form.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;

use super::text::cut;
use crate::limits::PARTITION_KEY_BYTES_MAX;
use crate::query::error::QueryError;
use crate::query::output::{csv_of, json_of};
use crate::{Stream, extend};

/// The column that names the partition key of a row, and is not in its data.
const KEY: &str = "_key";

/// Where a pump writes its rows: a stream, or a function.
///
/// ```
/// # use streamlog::Stream;
/// use streamlog::query::Output;
/// # let directory = tempfile::tempdir()?;
/// # let alerts = Stream::open(directory.path())?;
/// let into_stream = Output::stream(&alerts).key("user");
/// let into_function = Output::function(|rows| {
///     assert!(rows.num_rows() > 0);
///     Ok::<_, String>(())
/// });
/// # let _ = (into_stream, into_function);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Output {
    pub(super) target: Target,
    is_csv: bool,
    key: Option<String>,
}

type Function = dyn Fn(&RecordBatch) -> Result<(), String> + Send + Sync;

#[derive(Clone)]
pub(super) enum Target {
    Stream(Stream),
    Function(Arc<Function>),
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let target: &dyn fmt::Debug = match &self.target {
            Target::Stream(stream) => stream,
            Target::Function(_) => &"a function",
        };
        f.debug_struct("Output")
            .field("target", target)
            .field("is_csv", &self.is_csv)
            .field("key", &self.key)
            .finish()
    }
}

impl Output {
    /// Puts each row into a stream as a record, exactly once, whatever happens to the process: a JSON object with all columns, including null ones.
    /// Times are strings in the format of RFC 3339. Binary values are strings if they are UTF-8, and in hexadecimal otherwise.
    ///
    /// If the statement selects a column `_key`, it is the partition key, and not in the data. Otherwise, without [`key`](Self::key), each row has a
    /// unique key, so the rows spread over the shards. A null or empty key counts as none. A key that is too long for a record is truncated.
    ///
    /// Rows that are too large for a record go to the error output.
    pub fn stream(stream: &Stream) -> Self {
        Self { target: Target::Stream(stream.clone()), is_csv: false, key: None }
    }

    /// Calls a function with the rows, a batch at a time, in order. It runs on the pump's thread, which waits for it.
    ///
    /// Each row is passed **at least once**: those of the last batches are passed again after a crash. If the function fails or panics, it is called
    /// again after a pause. After four failures, the rows go to the error output.
    pub fn function<E: fmt::Display>(
        function: impl Fn(&RecordBatch) -> Result<(), E> + Send + Sync + 'static,
    ) -> Self {
        let function = move |rows: &RecordBatch| function(rows).map_err(|error| error.to_string());
        Self { target: Target::Function(Arc::new(function)), is_csv: false, key: None }
    }

    /// Puts each row as a line of CSV, without a header and without a line ending.
    #[must_use]
    pub fn csv(mut self) -> Self {
        self.is_csv = true;
        self
    }

    /// Uses a column of the result as the partition key. It stays in the data.
    #[must_use]
    pub fn key(mut self, column: impl Into<String>) -> Self {
        self.key = Some(column.into());
        self
    }

    /// Checks that the output can take rows with these columns.
    pub(super) fn check(&self, columns: &[String]) -> Result<(), String> {
        match &self.key {
            Some(key) if !columns.contains(key) => Err(format!(
                "the output takes its keys from the column {key:?}, and there are {}",
                columns.join(", ")
            )),
            _ => Ok(()),
        }
    }

    /// Forgets what was put under a name. The rows themselves stay.
    pub(super) fn forget(&self, name: &str) -> crate::Result<()> {
        let Target::Stream(stream) = &self.target else { return Ok(()) };
        let sinks = extend::streams_inside(stream, "sinks");
        if sinks.names()?.iter().any(|known| known == name) { sinks.delete(name) } else { Ok(()) }
    }

    /// Returns what is put for each row. `number` is that of the first row; rows without a key get one made of their number.
    pub(super) fn rows_of(&self, rows: &RecordBatch, number: u32) -> Result<Vec<PutRow>, QueryError> {
        let keys = match &self.key {
            Some(column) => rows.column_by_name(column),
            None => rows.column_by_name(KEY),
        };
        let keys = keys.map(texts_of).transpose()?;
        let mut shown = rows.clone();
        if self.key.is_none()
            && let Ok(key) = rows.schema().index_of(KEY)
        {
            shown.remove_column(key);
        }
        let data = if self.is_csv { csv_of(&shown)? } else { json_of(&shown)? };
        let key_of = |row: usize| match &keys {
            Some(keys) if keys.is_valid(row) && !keys.as_string::<i32>().value(row).is_empty() => {
                cut(keys.as_string::<i32>().value(row), PARTITION_KEY_BYTES_MAX).as_bytes().to_vec()
            }
            _ => number.wrapping_add(row as u32).to_string().into_bytes(),
        };
        Ok(data.into_iter().enumerate().map(|(row, data)| PutRow { key: key_of(row), data }).collect())
    }
}

/// A row as a record that is put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PutRow {
    pub(super) key: Vec<u8>,
    pub(super) data: Vec<u8>,
}

fn texts_of(column: &ArrayRef) -> Result<ArrayRef, QueryError> {
    cast(column, &DataType::Utf8)
        .map_err(|error| QueryError::Failed(format!("the column of keys cannot be read as texts: {error}")))
}
