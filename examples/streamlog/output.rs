//! Output of records, text and progress.

use std::fs::File;
use std::io::{self, BufWriter, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use serde::Serialize;
use streamlog::{Batch, Headers, OwnedRecord, QueueRecord, SequenceNumber, ShardId, Timestamp};

use crate::args::FormatArgs;
use crate::failure::{Failure, Outcome};
use crate::standard;

/// Standard output, written in large blocks.
#[derive(Debug)]
pub(crate) struct Printer {
    out: BufWriter<File>,
    format: FormatArgs,
}

/// A record as JSON. A value that is not UTF-8 goes into the `_base64` field instead.
#[derive(Serialize)]
struct JsonRecord<'a> {
    shard: String,
    sequence: u64,
    timestamp: String,
    timestamp_micros: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_base64: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    headers: Vec<JsonHeader<'a>>,
    #[serde(flatten)]
    delivery: Option<JsonDelivery>,
}

/// What a queue knows about a record.
#[derive(Serialize)]
struct JsonDelivery {
    handle: String,
    receive_count: u32,
    first_received: String,
    first_received_micros: u64,
}

impl JsonDelivery {
    fn new(delivered: &QueueRecord) -> Self {
        Self {
            handle: delivered.handle.to_string(),
            receive_count: delivered.receive_count,
            first_received: delivered.first_received.to_string(),
            first_received_micros: delivered.first_received.as_micros(),
        }
    }
}

#[derive(Serialize)]
struct JsonHeader<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
}

impl<'a> JsonRecord<'a> {
    fn new(record: &Printed<'a>) -> Self {
        let (key, key_base64) = text_or_base64(record.key);
        let (data, data_base64) = text_or_base64(record.data);
        let headers = record.headers.map(|(name, bytes)| {
            let (value, value_base64) = text_or_base64(bytes);
            JsonHeader { name, value, value_base64 }
        });
        Self {
            shard: record.shard.to_string(),
            sequence: record.sequence.get(),
            timestamp: record.timestamp.to_string(),
            timestamp_micros: record.timestamp.as_micros(),
            key,
            key_base64,
            data,
            data_base64,
            headers: headers.collect(),
            delivery: record.delivered.map(JsonDelivery::new),
        }
    }
}

/// A record to print, borrowed from its batch or from an owned record.
#[derive(Debug)]
struct Printed<'a> {
    shard: ShardId,
    sequence: SequenceNumber,
    timestamp: Timestamp,
    key: &'a [u8],
    data: &'a [u8],
    headers: Headers<'a>,
    /// The record as received from a queue, if it was.
    delivered: Option<&'a QueueRecord>,
}

impl<'a> Printed<'a> {
    fn owned(shard: ShardId, record: &'a OwnedRecord) -> Self {
        Self {
            shard,
            sequence: record.sequence,
            timestamp: record.timestamp,
            key: &record.partition_key,
            data: &record.data,
            headers: record.headers(),
            delivered: None,
        }
    }
}

fn text_or_base64(bytes: &[u8]) -> (Option<&str>, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Some(text), None),
        Err(_) => (None, Some(STANDARD.encode(bytes))),
    }
}

impl Printer {
    pub(crate) fn new(format: FormatArgs) -> Result<Self, Failure> {
        let out = standard::output().map_err(Failure::Output)?;
        Ok(Self { out: BufWriter::with_capacity(64 << 10, out), format })
    }

    /// Prints the records of a batch.
    pub(crate) fn print(&mut self, batch: &Batch) -> Outcome {
        let mut printed = batch.iter().map(|record| Printed {
            shard: batch.shard(),
            sequence: record.sequence(),
            timestamp: record.timestamp(),
            key: record.partition_key(),
            data: record.data(),
            headers: record.headers(),
            delivered: None,
        });
        printed.try_for_each(|record| self.record(&record)).map_err(Failure::Output)
    }

    /// Prints one record of a shard.
    pub(crate) fn print_owned(&mut self, shard: ShardId, record: &OwnedRecord) -> Outcome {
        self.record(&Printed::owned(shard, record)).map_err(Failure::Output)
    }

    /// Prints a record of a queue with its receipt handle.
    pub(crate) fn print_delivered(&mut self, delivered: &QueueRecord) -> Outcome {
        let printed = Printed::owned(delivered.shard, &delivered.record);
        self.record(&Printed { delivered: Some(delivered), ..printed }).map_err(Failure::Output)
    }

    /// Prints a line of text.
    pub(crate) fn line(&mut self, text: &str) -> Outcome {
        writeln!(self.out, "{text}").map_err(Failure::Output)
    }

    /// Writes buffered output.
    pub(crate) fn flush(&mut self) -> Outcome {
        self.out.flush().map_err(Failure::Output)
    }

    /// Fails as a write would if the reader of a pipe has closed it. Commands that wait call this, because they may never write again.
    pub(crate) fn check_reader(&self) -> Outcome {
        if standard::has_lost_its_reader(self.out.get_ref()) {
            return Err(Failure::Output(io::ErrorKind::BrokenPipe.into()));
        }
        Ok(())
    }

    fn record(&mut self, record: &Printed<'_>) -> io::Result<()> {
        if self.format.json {
            serde_json::to_writer(&mut self.out, &JsonRecord::new(record))?;
        } else {
            if let Some(delivered) = record.delivered {
                write!(self.out, "{}\t", delivered.handle)?;
            }
            if self.format.with_key {
                self.out.write_all(record.key)?;
                self.out.write_all(b"\t")?;
            }
            self.out.write_all(record.data)?;
        }
        self.out.write_all(b"\n")
    }
}

/// Prints a value as JSON on multiple lines.
pub(crate) fn print_json(value: &impl Serialize) -> Outcome {
    let text = serde_json::to_string_pretty(value).map_err(|error| Failure::Told(error.to_string()))?;
    print_text(&(text + "\n"))
}

/// Prints a text.
pub(crate) fn print_text(text: &str) -> Outcome {
    standard::output().and_then(|mut out| out.write_all(text.as_bytes())).map_err(Failure::Output)
}

/// Returns the width of the terminal, if standard output is a terminal and its size is known.
pub(crate) fn terminal_columns() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    Some(usize::from(size.ws_col)).filter(|&columns| columns > 0)
}

/// Formats a count with its noun: `1 record`, `2,000 records`.
pub(crate) fn counted(count: u64, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {what}{plural}", HumanCount(count))
}

/// Returns a progress bar for a number of bytes, or one that only counts. It is on standard error, and only if that is a terminal.
pub(crate) fn progress(bytes: Option<u64>) -> ProgressBar {
    let (bar, template) = match bytes {
        Some(bytes) => {
            (ProgressBar::new(bytes), "{wide_bar} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left")
        }
        None => (ProgressBar::new_spinner(), "{spinner} {bytes}, {bytes_per_sec}"),
    };
    // The templates are valid. Even if one were not, the default bar would work.
    bar.with_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()))
}
