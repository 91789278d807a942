//! A run of a statement: where its streams ended when it began, and what it left out.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::interrupt::Stop;
use crate::{Error, HashKeyRange, Position, SequenceNumber, ShardId, StreamReader, Timestamp};

/// How many refused rows are kept as examples.
const EXAMPLES_MAX: usize = 10;

/// A record whose data does not fit the schema of its table.
///
/// ```
/// # use streamlog::Stream;
/// # use streamlog::query::{Catalog, Schema};
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path())?;
/// stream.put("user-17", r#"{"ms": "soon"}"#)?;
/// let catalog = Catalog::new().stream("clicks", &stream, Schema::json("ms DOUBLE")?)?;
/// let mut rows = catalog.query("SELECT ms FROM clicks")?;
/// assert_eq!(rows.by_ref().count(), 0);
/// println!("{}", rows.refused().examples[0].reason);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RefusedRow {
    /// The name of the table.
    pub table: String,
    /// The shard of the record.
    pub shard: ShardId,
    /// The record's sequence number.
    pub sequence: SequenceNumber,
    /// When the record arrived.
    pub arrival: Timestamp,
    /// What does not fit: the column, its type, and the value that was found.
    pub reason: String,
}

/// The records that a query left out because their data does not fit the schema. [`Rows::refused`](crate::query::Rows::refused) returns them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct RefusedRows {
    /// How many there are. If the statement names a table twice, its records count twice.
    pub count: u64,
    /// The first 10 that were found.
    pub examples: Vec<RefusedRow>,
}

/// A shard as it was when the statement began.
#[derive(Debug, Clone)]
pub(super) struct NotedShard {
    pub(super) id: ShardId,
    pub(super) hash_key_range: HashKeyRange,
    /// The first record that the shard held.
    pub(super) from: u64,
    /// The number after its last one.
    pub(super) to: u64,
}

/// One run of one statement.
#[derive(Debug, Default)]
pub(super) struct Run {
    noted: Mutex<HashMap<String, Arc<Vec<NotedShard>>>>,
    refused: Mutex<RefusedRows>,
    trimmed: AtomicU64,
    lost: AtomicU64,
    /// Ends the run.
    pub(super) stop: Stop,
}

impl Run {
    /// Returns the shards of a table as they were when this was called first.
    pub(super) fn note(&self, table: &str, reader: &StreamReader) -> Result<Arc<Vec<NotedShard>>, Error> {
        if let Some(noted) = self.noted.lock().get(table) {
            return Ok(Arc::clone(noted));
        }
        let shards = Arc::new(note(reader)?);
        // If two threads list them at the same time, both continue with the same shards.
        Ok(Arc::clone(self.noted.lock().entry(table.to_owned()).or_insert(shards)))
    }

    pub(super) fn refuse(&self, row: RefusedRow) {
        let mut refused = self.refused.lock();
        refused.count += 1;
        if refused.examples.len() < EXAMPLES_MAX {
            refused.examples.push(row);
        }
    }

    pub(super) fn refused(&self) -> RefusedRows {
        self.refused.lock().clone()
    }

    pub(super) fn add_trimmed(&self, count: u64) {
        self.trimmed.fetch_add(count, Ordering::Relaxed);
    }

    pub(super) fn add_lost(&self, count: u64) {
        self.lost.fetch_add(count, Ordering::Relaxed);
    }

    pub(super) fn trimmed(&self) -> u64 {
        self.trimmed.load(Ordering::Relaxed)
    }

    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

fn note(reader: &StreamReader) -> Result<Vec<NotedShard>, Error> {
    if reader.is_closed() {
        return Err(Error::Closed);
    }
    let mut noted = Vec::new();
    for shard in reader.shards() {
        let place = |position| Ok(reader.iterator(shard.id, position)?.next_sequence().get());
        let places = place(Position::Latest).and_then(|to| Ok((place(Position::TrimHorizon)?, to)));
        match places {
            Ok((from, to)) => {
                let hash_key_range = shard.hash_key_range;
                noted.push(NotedShard { id: shard.id, hash_key_range, from: from.min(to), to });
            }
            // It has expired since it was listed.
            Err(Error::ShardNotFound(_)) => {}
            Err(error) => return Err(error),
        }
    }
    noted.sort_by_key(|shard| shard.id);
    Ok(noted)
}
