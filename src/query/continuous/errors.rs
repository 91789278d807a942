//! Rows that could not be handled, in the form of the error stream of Kinesis Data Analytics.

use std::fmt::Write;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use serde::Serialize;

use super::columns::Micros;
use super::output::PutRow;
use super::text::cut;
use crate::Timestamp;

/// The most bytes of a row that an error shows, and the most of its text, as in Kinesis.
const ROW_BYTES_MAX: usize = 49_152 / 2;
const MESSAGE_BYTES_MAX: usize = 4_096;

/// What went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// A record does not fit the schema of its stream.
    Coercion,
    /// A row came after its window had ended.
    Late,
    /// The statement fails for a row.
    Evaluation,
    /// The output refuses a row.
    Output,
}

impl Fault {
    fn name(self) -> &'static str {
        match self {
            Self::Coercion => "CoercionError",
            Self::Late => "LateRow",
            Self::Evaluation => "EvaluationError",
            Self::Output => "OutputError",
        }
    }
}

/// A row that could not be handled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) fault: Fault,
    pub(super) message: String,
    /// The time of the row, as far as it is known.
    pub(super) time: Option<Micros>,
    pub(super) data: Vec<u8>,
}

#[derive(Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
struct ErrorRow<'a> {
    error_time: String,
    error_level: &'static str,
    error_name: &'static str,
    message: &'a str,
    data_rowtime: Option<String>,
    data_row: String,
    pump_name: &'a str,
}

impl Failure {
    fn row<'a>(&'a self, pump: &'a str, now: Timestamp) -> ErrorRow<'a> {
        let shown = &self.data[..self.data.len().min(ROW_BYTES_MAX)];
        let mut data_row = String::with_capacity(2 * shown.len());
        for byte in shown {
            let _ = write!(data_row, "{byte:02x}");
        }
        ErrorRow {
            error_time: now.to_string(),
            error_level: if self.fault == Fault::Late { "WARNING" } else { "ERROR" },
            error_name: self.fault.name(),
            message: cut(&self.message, MESSAGE_BYTES_MAX),
            data_rowtime: self.time.map(text_of),
            data_row,
            pump_name: pump,
        }
    }

    /// Returns the record of the row for an error stream.
    pub(super) fn put_row(&self, pump: &str, now: Timestamp) -> PutRow {
        let data = serde_json::to_vec(&self.row(pump, now)).expect("texts always serialize");
        PutRow { key: pump.as_bytes().to_vec(), data }
    }
}

/// Returns rows for an error function: all columns are texts.
pub(super) fn batch_of(failures: &[Failure], pump: &str, now: Timestamp) -> RecordBatch {
    let rows: Vec<_> = failures.iter().map(|failure| failure.row(pump, now)).collect();
    let texts = |text: &dyn Fn(&ErrorRow<'_>) -> Option<String>| -> ArrayRef {
        Arc::new(rows.iter().map(text).collect::<StringArray>())
    };
    let columns = vec![
        texts(&|row| Some(row.error_time.clone())),
        texts(&|row| Some(row.error_level.to_owned())),
        texts(&|row| Some(row.error_name.to_owned())),
        texts(&|row| Some(row.message.to_owned())),
        texts(&|row| row.data_rowtime.clone()),
        texts(&|row| Some(row.data_row.clone())),
        texts(&|row| Some(row.pump_name.to_owned())),
    ];
    let names =
        ["ERROR_TIME", "ERROR_LEVEL", "ERROR_NAME", "MESSAGE", "DATA_ROWTIME", "DATA_ROW", "PUMP_NAME"];
    let fields: Vec<_> = names.into_iter().map(|name| Field::new(name, DataType::Utf8, true)).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).expect("each column has a text for each row")
}

/// Returns a time as a text. Those before 1970 have no date here.
pub(super) fn text_of(time: Micros) -> String {
    match u64::try_from(time) {
        Ok(micros) => Timestamp::from_micros(micros).to_string(),
        Err(_) => format!("{time} µs before 1970").replacen('-', "", 1),
    }
}
