//! Columns that are inferred from the first records of a stream.

use bytes::Bytes;

use super::error::QueryError;
use super::schema::Schema;
use crate::{Error, Position, Result, StreamReader, extend};

/// From how many records a schema is inferred, and how many bytes of each shard are read for it.
const SAMPLE_RECORDS: usize = 1_000;
const SAMPLE_BYTES: usize = 4 << 20;

/// The columns that the first records of a stream suggest. [`Schema::find`] returns it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum FoundSchema {
    /// The records are JSON objects, and these are their columns.
    Columns(Schema),
    /// There are no records yet.
    Empty,
    /// The records are not JSON objects, or have too many columns, as this sentence says.
    Other(String),
}

impl FoundSchema {
    /// Returns the columns that were found, or otherwise a schema without any: [`Schema::raw`].
    pub fn into_schema(self) -> Schema {
        match self {
            Self::Columns(schema) => schema,
            Self::Empty | Self::Other(_) => Schema::raw(),
        }
    }
}

impl Schema {
    /// Infers the columns from the first records of each shard of a stream, a thousand in total, like [`infer`](Self::infer).
    ///
    /// ```
    /// # use streamlog::Stream;
    /// use streamlog::query::{FoundSchema, Schema};
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// assert!(matches!(Schema::find(&stream)?, FoundSchema::Empty));
    /// stream.put("user-17", r#"{"page": "/home", "ms": 12.5}"#)?;
    /// assert_eq!(Schema::find(&stream)?.into_schema().to_string(), "page VARCHAR, ms DOUBLE");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The errors of reading the stream.
    pub fn find(reader: &StreamReader) -> Result<FoundSchema> {
        let sample = sample(reader)?;
        Ok(match Self::infer(&sample) {
            Ok(schema) => FoundSchema::Columns(schema),
            Err(_) if sample.is_empty() => FoundSchema::Empty,
            Err(error) => FoundSchema::Other(reason(&error)),
        })
    }
}

/// Returns what is wrong with inferred columns, for callers that did not specify them.
fn reason(error: &QueryError) -> String {
    let text = error.to_string();
    text.strip_prefix("the schema is wrong: ").unwrap_or(&text).to_owned()
}

/// Returns the data of the first records of each shard, from which a schema is inferred.
pub(super) fn sample(reader: &StreamReader) -> Result<Vec<Bytes>> {
    let mut sample = Vec::new();
    let shards = reader.shards();
    let of_each = (SAMPLE_RECORDS / shards.len().max(1)).max(1);
    for shard in shards {
        let wanted = of_each.min(SAMPLE_RECORDS.saturating_sub(sample.len()));
        let mut iterator = match reader.iterator(shard.id, Position::TrimHorizon) {
            // It has expired since it was listed.
            Err(Error::ShardNotFound(_)) => continue,
            iterator => extend::unlimited(iterator?),
        };
        let batch = iterator.next_batch_within(wanted, SAMPLE_BYTES)?;
        sample.extend(batch.iter().map(|record| record.into_owned().data));
    }
    Ok(sample)
}
