//! The keys of rows, as numbers.

use std::collections::HashMap;

use datafusion::arrow::array::{ArrayRef, RecordBatch};
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::row::{RowConverter, Rows, SortField};

use super::columns::Result;

/// Assigns a number to each key, and reuses free numbers.
#[derive(Debug)]
pub(super) struct Keys {
    /// The columns of the key in the rows of each input.
    columns: Vec<Vec<usize>>,
    converter: RowConverter,
    numbers: HashMap<Box<[u8]>, u32>,
    /// The bytes of all keys.
    key_bytes: usize,
    /// The key of each number.
    keys: Vec<Box<[u8]>>,
    free: Vec<u32>,
}

impl Keys {
    /// Takes the columns with these names as the key. `schemas` are those of the inputs.
    pub(super) fn new(schemas: &[SchemaRef], names: &[String]) -> Result<Self> {
        let indices = |schema: &SchemaRef| names.iter().map(|name| schema.index_of(name)).collect();
        let columns: Vec<Vec<usize>> = schemas.iter().map(indices).collect::<Result<_>>()?;
        let types_of = |(schema, columns): (&SchemaRef, &Vec<usize>)| -> Vec<DataType> {
            columns.iter().map(|&column| schema.field(column).data_type().clone()).collect()
        };
        let mut types = schemas.iter().zip(&columns).map(types_of);
        let first = types.next().unwrap_or_default();
        if types.any(|types| types != first) {
            let reason =
                format!("the columns {} have other types in one input than in another", names.join(", "));
            return Err(ArrowError::SchemaError(reason));
        }
        let fields: Vec<_> = first.into_iter().map(SortField::new).collect();
        if !RowConverter::supports_fields(&fields) {
            let reason =
                format!("rows cannot be told apart by {}: such columns have no order", names.join(", "));
            return Err(ArrowError::NotYetImplemented(reason));
        }
        let converter = RowConverter::new(fields)?;
        Ok(Self { columns, converter, numbers: HashMap::new(), key_bytes: 0, keys: vec![], free: vec![] })
    }

    /// Returns the keys of rows, to be numbered.
    pub(super) fn of(&mut self, input: usize, rows: &RecordBatch) -> Result<KeysOf> {
        let columns: Vec<ArrayRef> =
            self.columns[input].iter().map(|&column| rows.column(column).clone()).collect();
        // Without columns, all rows have the same key.
        if columns.is_empty() {
            return Ok(KeysOf(None));
        }
        self.converter.convert_columns(&columns).map(|rows| KeysOf(Some(rows)))
    }

    /// Returns the number of a row's key, if it has one.
    pub(super) fn known(&self, keys: &KeysOf, row: usize) -> Option<u32> {
        self.numbers.get(keys.bytes(row)).copied()
    }

    /// Returns the number of a row's key, and assigns one if it has none.
    pub(super) fn number(&mut self, keys: &KeysOf, row: usize) -> u32 {
        let bytes = keys.bytes(row);
        if let Some(&number) = self.numbers.get(bytes) {
            return number;
        }
        let key: Box<[u8]> = bytes.into();
        self.key_bytes += key.len();
        let number = match self.free.pop() {
            Some(number) => {
                self.keys[number as usize] = key.clone();
                number
            }
            None => {
                self.keys.push(key.clone());
                (self.keys.len() - 1) as u32
            }
        };
        self.numbers.insert(key, number);
        number
    }

    /// Forgets the key of a number.
    pub(super) fn forget(&mut self, number: u32) {
        let key = std::mem::take(&mut self.keys[number as usize]);
        self.numbers.remove(&key);
        self.key_bytes -= key.len();
        self.free.push(number);
    }

    /// Returns about how many bytes the keys take.
    pub(super) fn bytes(&self) -> usize {
        // Each key is stored twice, with a number and two lengths.
        self.numbers.len() * 64 + 2 * self.key_bytes
    }
}

/// The keys of the rows of a batch.
#[derive(Debug)]
pub(super) struct KeysOf(Option<Rows>);

impl KeysOf {
    fn bytes(&self, row: usize) -> &[u8] {
        match &self.0 {
            Some(rows) => rows.row(row).data(),
            None => &[],
        }
    }
}
