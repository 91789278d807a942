//! Decodes records into the columns of a table.

use std::sync::Arc;

use arrow_array::{RecordBatch, RecordBatchOptions};
use arrow_schema::SchemaRef;

use super::csv::Line;
use super::error::QueryError;
use super::field::Field;
use super::json::Object;
use super::schema::{Format, Function, Schema};
use super::system::{System, SystemColumn};
use crate::{Record, SequenceNumber, ShardId};

/// How many bytes the items of a record's lists may take, in total and for each byte of its data: an item such as `{}` may become a struct of a
/// thousand columns. So the memory of a batch is bounded by the bytes of its records.
const LIST_BYTES: usize = 128 << 10;
const LIST_BYTES_PER_BYTE: usize = 64;

/// Makes batches of the requested columns from records. A record's data is read only if one of its columns is requested.
#[derive(Debug)]
pub(super) struct Decoder {
    schema: SchemaRef,
    /// Where each column of a batch is from.
    columns: Vec<Source>,
    system: System,
    data: Data,
    len: usize,
}

/// Why a record has no row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused {
    /// A sentence that names the column, what it expects, and what was found; or what is wrong with the data.
    pub(super) reason: String,
}

#[derive(Debug, Clone, Copy)]
enum Source {
    System(usize),
    Data(usize),
}

/// How data becomes columns.
#[derive(Debug)]
enum Data {
    Unread,
    Json(Object),
    Csv(Line),
    Function(Function, Object),
}

/// Records as rows. [`Schema::decode`] returns them.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Decoded {
    /// The rows, in the order of their records.
    pub rows: RecordBatch,
    /// The records that have no row, with the reason.
    pub refused: Vec<(SequenceNumber, String)>,
}

impl Schema {
    /// Decodes records of a shard into rows with the named columns, as statements see them. Use it to try out a schema, or to pass records to other
    /// code that uses Arrow.
    ///
    /// All rows are in memory at the same time. Their strings and their lists are limited to 2 GiB, and more is refused.
    ///
    /// ```
    /// # use streamlog::{Position, Stream};
    /// # use streamlog::query::Schema;
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// stream.put("user-17", r#"{"page": "/cart", "ms": 12.5}"#)?;
    /// let shard = stream.put("user-17", r#"{"page": "/cart", "ms": "slow"}"#)?.shard;
    /// let batch = stream.iterator(shard, Position::TrimHorizon)?.next_batch(1_000)?;
    /// let decoded = Schema::json("page VARCHAR, ms DOUBLE")?.decode(shard, &batch, &["page", "ms"])?;
    /// assert_eq!(decoded.rows.num_rows(), 1);
    /// assert_eq!(decoded.refused[0].1, "column ms: expected DOUBLE, found \"slow\"");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `Invalid` if the schema has no such column.
    pub fn decode<'a>(
        &self,
        shard: ShardId,
        records: impl IntoIterator<Item = Record<'a>>,
        columns: &[&str],
    ) -> Result<Decoded, QueryError> {
        let all = self.columns();
        let place = |name: &&str| {
            all.index_of(name).map_err(|_| {
                let names: Vec<_> = all.fields().iter().map(|field| &**field.name()).collect();
                QueryError::Invalid(format!("there is no column {name}: there are {}", names.join(", ")))
            })
        };
        let projection = columns.iter().map(place).collect::<Result<Vec<_>, _>>()?;
        let mut decoder = Decoder::new(self, &projection);
        let mut refused = vec![];
        for record in records {
            if let Err(Refused { reason }) = decoder.push(shard, &record) {
                refused.push((record.sequence(), reason));
            }
        }
        Ok(Decoded { rows: decoder.finish(), refused })
    }
}

impl Decoder {
    /// `projection` has places in [`Schema::columns`], in any order.
    pub(super) fn new(schema: &Schema, projection: &[usize]) -> Self {
        let (mut system, mut own, mut columns) = (vec![], vec![], vec![]);
        let place_in = |list: &mut Vec<usize>, column: usize| {
            list.iter().position(|known| *known == column).unwrap_or_else(|| {
                list.push(column);
                list.len() - 1
            })
        };
        for &index in projection {
            columns.push(match index.checked_sub(SystemColumn::ALL.len()) {
                None => Source::System(place_in(&mut system, index)),
                Some(column) => Source::Data(place_in(&mut own, column)),
            });
        }
        let all = schema.columns();
        let projected = all.project(projection).expect("the projection has places of columns");
        Self {
            schema: Arc::new(projected),
            columns,
            system: System::new(system.into_iter().map(|column| SystemColumn::ALL[column])),
            data: if own.is_empty() { Data::Unread } else { Data::new(schema, &own) },
            len: 0,
        }
    }

    /// Adds a record as a row. A record that does not fit adds nothing.
    pub(super) fn push(&mut self, shard: ShardId, record: &Record<'_>) -> Result<(), Refused> {
        let added = self.data.push(record).and_then(|()| self.system.push(shard, record));
        added.map_err(|reason| {
            self.data.truncate(self.len);
            self.system.truncate(self.len);
            Refused { reason }
        })?;
        self.len += 1;
        Ok(())
    }

    /// Returns how many rows there are.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Returns the rows, and starts a new batch.
    pub(super) fn finish(&mut self) -> RecordBatch {
        let (system, own) = (self.system.take(), self.data.take());
        let columns = self.columns.iter().map(|source| match *source {
            Source::System(column) => system[column].clone(),
            Source::Data(column) => own[column].clone(),
        });
        let columns = columns.collect();
        let options = RecordBatchOptions::new().with_row_count(Some(std::mem::take(&mut self.len)));
        RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)
            .expect("each column has its type and a value for each row")
    }
}

impl Data {
    fn new(schema: &Schema, columns: &[usize]) -> Self {
        let named = columns.iter().map(|&column| {
            let column = &schema.own_columns()[column];
            (column.name.clone(), Field::of_column(column))
        });
        match schema.format() {
            Format::Json => Self::Json(Object::new(named)),
            Format::Csv { delimiter } => {
                let fields = columns.iter().copied().zip(named.map(|(_, field)| field));
                Self::Csv(Line::new(*delimiter, schema.own_columns().len(), fields))
            }
            Format::Function(function) => Self::Function(function.clone(), Object::new(named)),
            Format::Raw => Self::Unread,
        }
    }

    #[inline]
    fn push(&mut self, record: &Record<'_>) -> Result<(), String> {
        let text = || {
            std::str::from_utf8(record.data()).map_err(|error| format!("the data is no UTF-8 text: {error}"))
        };
        let mut room = LIST_BYTES + LIST_BYTES_PER_BYTE * record.data().len();
        match self {
            Self::Unread => Ok(()),
            Self::Json(object) => object.push(text()?, &mut room),
            Self::Csv(line) => line.push(text()?),
            Self::Function(function, object) => {
                let value = function.call(record)?;
                if !value.is_object() {
                    return Err("the function returned no JSON object".into());
                }
                object.push(&value.to_string(), &mut room)
            }
        }
    }

    fn truncate(&mut self, len: usize) {
        match self {
            Self::Unread => {}
            Self::Json(object) | Self::Function(_, object) => object.truncate(len),
            Self::Csv(line) => line.truncate(len),
        }
    }

    fn take(&mut self) -> Vec<arrow_array::ArrayRef> {
        match self {
            Self::Unread => vec![],
            Self::Json(object) | Self::Function(_, object) => object.take(),
            Self::Csv(line) => line.take(),
        }
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_of_random;
