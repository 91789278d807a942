//! From records to the columns of a table.

use std::sync::Arc;

use arrow_array::{RecordBatch, RecordBatchOptions};
use arrow_schema::SchemaRef;

use super::csv::Line;
use super::field::{Field, LIST_BYTES_MAX};
use super::json::Object;
use super::schema::{Format, Function, Schema};
use super::system::{System, SystemColumn};
use crate::{Record, ShardId};

/// Makes batches of records, of the columns that are asked for. A record's data is read only if one of its own columns is.
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

    /// Returns how many bytes the rows take, about. A batch is better finished before it has 1 GiB: its texts cannot have more than 2 GiB, and then
    /// records are refused.
    pub(super) fn memory_bytes(&self) -> usize {
        self.data.memory_bytes() + self.system.memory_bytes()
    }

    /// Returns the rows, and begins anew.
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
        let mut room = LIST_BYTES_MAX;
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

    fn memory_bytes(&self) -> usize {
        match self {
            Self::Unread => 0,
            Self::Json(object) | Self::Function(_, object) => object.fields().map(Field::memory_bytes).sum(),
            Self::Csv(line) => line.memory_bytes(),
        }
    }
}

#[cfg(test)]
mod tests;
