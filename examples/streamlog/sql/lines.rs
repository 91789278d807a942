//! Rows with a line for each column, for tables that are wider than the terminal.

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{Field, Fields, Schema};
use datafusion::arrow::error::ArrowError;
use serde_json::Value;
use streamlog::query::{QueryError, Rows};

/// Formats rows with a line for each column. The first has the number `first`.
pub(crate) fn lines(rows: &RecordBatch, first: usize) -> Result<String, QueryError> {
    let schema = rows.schema();
    let names: Vec<_> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or_default();
    let mut json = vec![];
    numbered(rows).map(Rows::from).map_err(|error| failed(&error))?.write_json(&mut json)?;
    let mut text = String::new();
    for (line, number) in String::from_utf8_lossy(&json).lines().zip(first..) {
        let row: Value = serde_json::from_str(line).map_err(|error| failed(&error))?;
        text += &format!("-[ row {number} ]{}\n", "-".repeat(width + 10));
        for (column, name) in names.iter().enumerate() {
            let value = match &row[column.to_string()] {
                Value::Null => "NULL".to_owned(),
                Value::String(value) => value.clone(),
                value => value.to_string(),
            };
            // Continuation lines of a text are aligned below the first.
            let value = value.trim_end_matches('\n').replace('\n', &format!("\n{:width$} | ", ""));
            text += &format!("{name:<width$} | {value}\n");
        }
    }
    Ok(text)
}

/// Names each column by its number. Column names may repeat, and a JSON object would keep only one of them.
fn numbered(rows: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let schema = rows.schema();
    let fields = schema.fields().iter().enumerate();
    let fields: Fields = fields
        .map(|(number, field)| Field::new(number.to_string(), field.data_type().clone(), field.is_nullable()))
        .collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), rows.columns().to_vec())
}

fn failed(error: &dyn std::error::Error) -> QueryError {
    QueryError::Failed(error.to_string())
}
