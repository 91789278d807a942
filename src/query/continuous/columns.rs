//! Columns of rows that operators look at or add: times, places, bounds of windows.

use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, GenericByteViewArray, RecordBatch, RecordBatchOptions,
    TimestampMicrosecondArray, UInt32Array,
};
use datafusion::arrow::compute;
use datafusion::arrow::datatypes::{
    ByteViewType, DataType, Field, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType, UInt32Type,
    UInt64Type,
};
use datafusion::arrow::error::ArrowError;

pub(super) type Result<T, E = ArrowError> = std::result::Result<T, E>;

/// The time column that windows use.
pub(super) const TIME: &str = "_time";
/// Whether a row is new, and not there only for looking back.
pub(super) const IS_NEW: &str = "_is_new";
const ZONE: &str = "UTC";

/// A point in time: microseconds since 1970, as in Arrow. Windows may begin before 1970.
pub(super) type Micros = i64;

/// Returns a duration in microseconds. It is capped far beyond all times.
pub(super) fn micros(duration: Duration) -> Micros {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX / 4).min(i64::MAX / 4)
}

fn column<'a>(rows: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef> {
    let missing = || ArrowError::SchemaError(format!("the rows have no column {name}"));
    rows.column_by_name(name).ok_or_else(missing)
}

fn wrong(name: &str, rows: &RecordBatch) -> ArrowError {
    let found = rows.column_by_name(name).map(|column| column.data_type().clone());
    ArrowError::SchemaError(format!("the column {name} has the type {found:?}"))
}

/// Returns the times of rows. None of them may be null.
pub(super) fn times(rows: &RecordBatch) -> Result<&[Micros]> {
    let times = column(rows, TIME)?.as_primitive_opt::<TimestampMicrosecondType>();
    let times = times.ok_or_else(|| wrong(TIME, rows))?;
    if times.null_count() > 0 {
        return Err(ArrowError::InvalidArgumentError(format!("the column {TIME} has nulls")));
    }
    Ok(times.values())
}

/// Returns the shards and sequence numbers that two columns name.
pub(super) fn places<'a>(
    rows: &'a RecordBatch,
    shard: &str,
    sequence: &str,
) -> Result<(&'a [u32], &'a [u64])> {
    let shards = column(rows, shard)?.as_primitive_opt::<UInt32Type>();
    let sequences = column(rows, sequence)?.as_primitive_opt::<UInt64Type>();
    let shards = shards.ok_or_else(|| wrong(shard, rows))?;
    let sequences = sequences.ok_or_else(|| wrong(sequence, rows))?;
    Ok((shards.values(), sequences.values()))
}

fn time_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some(ZONE.into()))
}

/// Returns the schema with fields added at the end.
fn with_fields(schema: &Schema, fields: impl IntoIterator<Item = Field>) -> SchemaRef {
    let known = schema.fields().iter().cloned();
    let fields: Vec<_> = known.chain(fields.into_iter().map(Arc::new)).collect();
    Arc::new(Schema::new(fields))
}

/// Returns the schema of rows that a window has released.
pub(super) fn windowed_schema(schema: &Schema) -> SchemaRef {
    with_fields(schema, ["window_start", "window_end"].map(|name| Field::new(name, time_type(), false)))
}

/// Returns the schema of rows of which some are new.
pub(super) fn marked_schema(schema: &Schema) -> SchemaRef {
    with_fields(schema, [Field::new(IS_NEW, DataType::Boolean, false)])
}

/// Adds the bounds of the window that all rows are in.
pub(super) fn with_window(
    rows: &RecordBatch,
    schema: &SchemaRef,
    (start, end): Bounds,
) -> Result<RecordBatch> {
    with_windows(rows, schema, vec![start; rows.num_rows()], vec![end; rows.num_rows()])
}

/// The start and the exclusive end of a window.
pub(super) type Bounds = (Micros, Micros);

/// Adds to each row the bounds of the window that it is in.
pub(super) fn with_windows(
    rows: &RecordBatch,
    schema: &SchemaRef,
    starts: Vec<Micros>,
    ends: Vec<Micros>,
) -> Result<RecordBatch> {
    let of = |times: Vec<Micros>| -> ArrayRef {
        Arc::new(TimestampMicrosecondArray::from(times).with_timezone(ZONE))
    };
    with_columns(rows, schema, [of(starts), of(ends)])
}

/// Adds whether the rows are new.
pub(super) fn with_mark(rows: &RecordBatch, schema: &SchemaRef, is_new: bool) -> Result<RecordBatch> {
    let marks: ArrayRef = Arc::new(BooleanArray::from(vec![is_new; rows.num_rows()]));
    with_columns(rows, schema, [marks])
}

fn with_columns<const N: usize>(
    rows: &RecordBatch,
    schema: &SchemaRef,
    columns: [ArrayRef; N],
) -> Result<RecordBatch> {
    let columns = rows.columns().iter().cloned().chain(columns).collect();
    RecordBatch::try_new(Arc::clone(schema), columns)
}

/// Returns the rows at these indices, without the memory of the others.
pub(super) fn take(rows: &RecordBatch, indices: &UInt32Array) -> Result<RecordBatch> {
    compute::take_record_batch(rows, indices).map(compact)
}

/// Returns the rows that are marked, without the memory of the others.
pub(super) fn filter(rows: &RecordBatch, is_taken: &BooleanArray) -> Result<RecordBatch> {
    compute::filter_record_batch(rows, is_taken).map(compact)
}

/// Frees texts that rows no longer use: an array of views keeps all of its original buffers.
pub(super) fn compact(rows: RecordBatch) -> RecordBatch {
    let has_views =
        |column: &ArrayRef| matches!(column.data_type(), DataType::Utf8View | DataType::BinaryView);
    if !rows.columns().iter().any(has_views) {
        return rows;
    }
    let columns = rows.columns().iter().map(|column| match column.data_type() {
        DataType::Utf8View => compact_views(column, column.as_string_view()),
        DataType::BinaryView => compact_views(column, column.as_binary_view()),
        _ => column.clone(),
    });
    let columns = columns.collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    RecordBatch::try_new_with_options(rows.schema(), columns, &options).unwrap_or(rows)
}

fn compact_views<T: ByteViewType + ?Sized>(column: &ArrayRef, views: &GenericByteViewArray<T>) -> ArrayRef {
    let kept: usize = views.data_buffers().iter().map(|buffer| buffer.len()).sum();
    let used = views.total_buffer_bytes_used();
    if kept > 2 * used + WASTE_MIN { Arc::new(views.gc()) } else { column.clone() }
}

/// Less than this is not worth a copy.
const WASTE_MIN: usize = 1 << 10;
