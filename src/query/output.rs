//! Rows as text: a table for people, JSON lines, CSV.

#[cfg(feature = "gateway")]
use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::sync::Arc;

#[cfg(feature = "gateway")]
use datafusion::arrow::array::RecordBatchOptions;
use datafusion::arrow::array::{
    Array, ArrayRef, BinaryArray, BinaryViewArray, FixedSizeBinaryArray, LargeBinaryArray, ListArray,
    MapArray, RecordBatch, StringArray, StructArray,
};
use datafusion::arrow::compute::cast;
use datafusion::arrow::csv;
use datafusion::arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::json::writer::{LineDelimited, WriterBuilder};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::arrow::util::pretty::pretty_format_batches_with_options;

use super::error::QueryError;
use super::rows::Rows;

/// Times print as in RFC 3339, in UTC.
const FORMAT: FormatOptions<'static> = FormatOptions::new()
    .with_timestamp_format(Some("%Y-%m-%d %H:%M:%S%.6f"))
    .with_timestamp_tz_format(Some("%Y-%m-%dT%H:%M:%S%.6fZ"));

fn failed(error: ArrowError) -> QueryError {
    QueryError::Failed(error.to_string())
}

fn unwritten(error: io::Error) -> QueryError {
    QueryError::Failed(format!("the rows cannot be written: {error}"))
}

impl Rows {
    /// Reads all remaining rows, and returns them as a human-readable table. It holds all of them in memory: use a `LIMIT`.
    ///
    /// Binary values print as text where they are UTF-8, and as hexadecimal digits otherwise.
    ///
    /// # Errors
    /// The errors of the query.
    pub fn to_table(&mut self) -> Result<String, QueryError> {
        Ok(self.to_table_of(usize::MAX)?.0)
    }

    /// Reads at most `rows_max` rows, and returns them like [`to_table`](Self::to_table), with their number. The remaining rows can still be read.
    ///
    /// ```
    /// # use streamlog::query::Catalog;
    /// let mut rows = Catalog::new().query("SELECT * FROM (VALUES (1), (2), (3)) AS t (n) ORDER BY n")?;
    /// let (table, count) = rows.to_table_of(2)?;
    /// assert_eq!((count, table.lines().count()), (2, 6));
    /// assert_eq!(rows.to_table_of(2)?, ("+---+\n| n |\n+---+\n| 3 |\n+---+\n".to_owned(), 1));
    /// # Ok::<(), streamlog::query::QueryError>(())
    /// ```
    ///
    /// # Errors
    /// The errors of the query.
    pub fn to_table_of(&mut self, rows_max: usize) -> Result<(String, usize), QueryError> {
        let schema = readable_schema(&self.schema());
        let (mut batches, mut count) = (vec![], 0);
        while count < rows_max {
            let Some(batch) = self.next().transpose()? else { break };
            let taken = batch.num_rows().min(rows_max - count);
            if taken < batch.num_rows() {
                self.keep(batch.slice(taken, batch.num_rows() - taken));
            }
            batches.push(readable(&batch.slice(0, taken), &schema)?);
            count += taken;
        }
        if batches.is_empty() {
            batches.push(RecordBatch::new_empty(schema));
        }
        let options = FORMAT.with_null("NULL");
        let table = pretty_format_batches_with_options(&batches, &options).map_err(failed)?;
        Ok((format!("{table}\n"), count))
    }

    /// Reads all remaining rows, and writes each as a JSON object on its own line. A column that is NULL is written as `null`.
    ///
    /// Binary values are written as text where they are UTF-8, and as hexadecimal digits otherwise. Times are written as RFC 3339.
    ///
    /// # Errors
    /// The errors of the query; `Failed` if the writer fails.
    pub fn write_json(&mut self, output: impl Write) -> Result<(), QueryError> {
        let schema = readable_schema(&self.schema());
        let mut writer = json().build::<_, LineDelimited>(output);
        for batch in self.by_ref() {
            writer.write(&readable(&batch?, &schema)?).map_err(failed)?;
        }
        writer.finish().map_err(failed)?;
        writer.into_inner().flush().map_err(unwritten)
    }

    /// Reads all remaining rows, and writes them as CSV, after a header line with the names of the columns. NULL is written as an empty field.
    ///
    /// Lists, structures and maps are written as text in one field. Binary values are written as text where they are UTF-8, and as hexadecimal
    /// digits otherwise.
    ///
    /// # Errors
    /// The errors of the query; `Failed` if the writer fails.
    pub fn write_csv(&mut self, output: impl Write) -> Result<(), QueryError> {
        let schema = flat_schema(&self.schema());
        let mut writer = csv().with_header(true).build(output);
        // The names are written once, also if there are no rows.
        writer.write(&RecordBatch::new_empty(Arc::clone(&schema))).map_err(failed)?;
        for batch in self.by_ref() {
            writer.write(&flat(&batch?, &schema)?).map_err(failed)?;
        }
        writer.into_inner().flush().map_err(unwritten)
    }
}

fn json() -> WriterBuilder {
    WriterBuilder::new()
        .with_explicit_nulls(true)
        .with_timestamp_format("%Y-%m-%dT%H:%M:%S%.6f".to_owned())
        .with_timestamp_tz_format("%Y-%m-%dT%H:%M:%S%.6fZ".to_owned())
}

fn csv() -> csv::WriterBuilder {
    csv::WriterBuilder::new()
        .with_timestamp_format("%Y-%m-%d %H:%M:%S%.6f".to_owned())
        .with_timestamp_tz_format("%Y-%m-%dT%H:%M:%S%.6fZ".to_owned())
}

/// Returns each row as a JSON object, in the form of [`Rows::write_json`].
pub(super) fn json_of(rows: &RecordBatch) -> Result<Vec<Vec<u8>>, QueryError> {
    if rows.num_columns() == 0 {
        return Ok(vec![b"{}".to_vec(); rows.num_rows()]);
    }
    let mut writer = json().build::<_, LineDelimited>(vec![]);
    writer.write(&readable(rows, &readable_schema(&rows.schema()))?).map_err(failed)?;
    writer.finish().map_err(failed)?;
    // Within a row, a line break is escaped.
    let lines = writer.into_inner();
    let lines = lines.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    Ok(lines.map(<[u8]>::to_vec).collect())
}

/// Returns each row as the list of its values, in the form of [`Rows::write_json`], except that decimals are texts, to keep their digits.
#[cfg(feature = "gateway")]
pub(crate) fn json_lists(rows: &RecordBatch) -> Result<Vec<Vec<serde_json::Value>>, QueryError> {
    let exact = |array: &ArrayRef| {
        if array.data_type().is_decimal() { cast(array, &DataType::Utf8) } else { Ok(Arc::clone(array)) }
    };
    let columns = rows.columns().iter().map(exact).collect::<Result<Vec<_>, _>>().map_err(failed)?;
    // Columns may have the same name, and the members of an object may not.
    let names: Vec<_> = (0..columns.len()).map(|column| column.to_string()).collect();
    let fields = names.iter().zip(&columns);
    let fields = fields.map(|(name, array)| Field::new(name, array.data_type().clone(), true));
    let schema = Arc::new(Schema::new(fields.collect::<Fields>()));
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    let numbered = RecordBatch::try_new_with_options(schema, columns, &options).map_err(failed)?;
    let list = |line: Vec<u8>| {
        let mut values: HashMap<String, serde_json::Value> =
            serde_json::from_slice(&line).map_err(|error| QueryError::Failed(error.to_string()))?;
        Ok(names.iter().map(|name| values.remove(name).unwrap_or_default()).collect())
    };
    json_of(&numbered)?.into_iter().map(list).collect()
}

/// Returns each row as a line of CSV, in the form of [`Rows::write_csv`], without its end.
pub(super) fn csv_of(rows: &RecordBatch) -> Result<Vec<Vec<u8>>, QueryError> {
    let rows = flat(rows, &flat_schema(&rows.schema()))?;
    let line = |row: usize| {
        let mut line = vec![];
        csv().with_header(false).build(&mut line).write(&rows.slice(row, 1)).map_err(failed)?;
        line.pop_if(|byte| *byte == b'\n');
        Ok(line)
    };
    (0..rows.num_rows()).map(line).collect()
}

/// Returns the schema that rows have once their binary values are text.
fn readable_schema(schema: &SchemaRef) -> SchemaRef {
    let fields: Fields = schema.fields().iter().map(|field| readable_field(field)).collect();
    Arc::new(Schema::new(fields))
}

fn readable_field(field: &Field) -> Field {
    Field::new(field.name(), readable_type(field.data_type()), field.is_nullable())
}

fn readable_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            DataType::Utf8
        }
        DataType::Struct(fields) => {
            DataType::Struct(fields.iter().map(|field| readable_field(field)).collect())
        }
        DataType::List(item) => DataType::List(Arc::new(readable_field(item))),
        // JSON has no text for them.
        DataType::Interval(_) => DataType::Utf8,
        DataType::Map(entries, is_sorted) => DataType::Map(Arc::new(readable_field(entries)), *is_sorted),
        other => other.clone(),
    }
}

fn readable(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, QueryError> {
    if batch.num_columns() == 0 {
        return Ok(batch.clone());
    }
    let columns = batch.columns().iter().map(readable_array).collect::<Result<_, _>>().map_err(failed)?;
    RecordBatch::try_new(Arc::clone(schema), columns).map_err(failed)
}

fn readable_array(array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let any = array.as_any();
    if let Some(array) = any.downcast_ref::<BinaryArray>() {
        return Ok(texts(array.iter()));
    }
    if let Some(array) = any.downcast_ref::<LargeBinaryArray>() {
        return Ok(texts(array.iter()));
    }
    if let Some(array) = any.downcast_ref::<BinaryViewArray>() {
        return Ok(texts(array.iter()));
    }
    if let Some(array) = any.downcast_ref::<FixedSizeBinaryArray>() {
        return Ok(texts(array.iter()));
    }
    if let Some(array) = any.downcast_ref::<StructArray>() {
        return Ok(Arc::new(readable_struct(array)?));
    }
    if let (Some(array), DataType::Map(entries, is_sorted)) =
        (any.downcast_ref::<MapArray>(), array.data_type())
    {
        let inner = readable_struct(array.entries())?;
        let (offsets, nulls) = (array.offsets().clone(), array.nulls().cloned());
        let map = MapArray::try_new(Arc::new(readable_field(entries)), offsets, inner, nulls, *is_sorted)?;
        return Ok(Arc::new(map));
    }
    if let (Some(array), DataType::List(item)) = (any.downcast_ref::<ListArray>(), array.data_type()) {
        let (offsets, nulls) = (array.offsets().clone(), array.nulls().cloned());
        let values = readable_array(array.values())?;
        return Ok(Arc::new(ListArray::try_new(Arc::new(readable_field(item)), offsets, values, nulls)?));
    }
    if matches!(array.data_type(), DataType::Interval(_)) {
        return cast(array, &DataType::Utf8);
    }
    Ok(Arc::clone(array))
}

fn readable_struct(array: &StructArray) -> Result<StructArray, ArrowError> {
    let columns = array.columns().iter().map(readable_array).collect::<Result<Vec<_>, _>>()?;
    let fields = array.fields().iter().map(|field| readable_field(field)).collect::<Fields>();
    StructArray::try_new_with_length(fields, columns, array.nulls().cloned(), array.len())
}

fn texts<'a>(values: impl Iterator<Item = Option<&'a [u8]>>) -> ArrayRef {
    Arc::new(values.map(|value| value.map(text)).collect::<StringArray>())
}

/// Returns bytes as text, or as hexadecimal digits if they are not text.
fn text(bytes: &[u8]) -> String {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return text.to_owned();
    }
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut digits, byte| {
        // Writing to a text never fails.
        let _ = write!(digits, "{byte:02x}");
        digits
    })
}

/// Returns the schema that rows have once their nested values are text.
fn flat_schema(schema: &SchemaRef) -> SchemaRef {
    let field = |field: &Arc<Field>| {
        let data_type = readable_type(field.data_type());
        let data_type = if data_type.is_nested() { DataType::Utf8 } else { data_type };
        Field::new(field.name(), data_type, field.is_nullable())
    };
    Arc::new(Schema::new(schema.fields().iter().map(field).collect::<Fields>()))
}

fn flat(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, QueryError> {
    let column = |array: &ArrayRef| {
        let array = readable_array(array)?;
        match array.data_type() {
            nested if nested.is_nested() => {
                let formatter = ArrayFormatter::try_new(&array, &FORMAT)?;
                let value = |row| (!array.is_null(row)).then(|| formatter.value(row).to_string());
                Ok(Arc::new((0..array.len()).map(value).collect::<StringArray>()) as ArrayRef)
            }
            DataType::Utf8View => cast(&array, &DataType::Utf8),
            _ => Ok(array),
        }
    };
    let columns = batch.columns().iter().map(column).collect::<Result<Vec<_>, _>>().map_err(failed)?;
    let fields = schema.fields().iter().zip(&columns);
    let fields =
        fields.map(|(field, array)| field.as_ref().clone().with_data_type(array.data_type().clone()));
    let schema = Arc::new(Schema::new(fields.collect::<Fields>()));
    RecordBatch::try_new(schema, columns).map_err(failed)
}
