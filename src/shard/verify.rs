//! Reading all of a shard to find damage.

use std::sync::Arc;

use super::Shard;
use super::iterator::ShardIterator;
use crate::words::error::{Corruption, Error, Result};
use crate::words::record::Position;
use crate::words::sequence::SequenceNumber;

/// What reading all of a stream found; see [`Stream::verify`](crate::Stream::verify).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verification {
    /// The records that were read, each with its checksum and in its place.
    pub record_count: u64,
    /// Their bytes, keys and data together.
    pub record_bytes: u64,
    /// The damage that was found.
    pub damage: Vec<Corruption>,
}

impl Shard {
    /// Reads all records up to the end as it stands now. After damage it goes on with the next segment.
    ///
    /// `progress` is told the bytes of each batch.
    pub(crate) fn verify(
        self: &Arc<Self>,
        found: &mut Verification,
        progress: &mut dyn FnMut(u64),
    ) -> Result<()> {
        const RECORDS_AT_A_TIME: usize = 10_000;
        const BYTES_AT_A_TIME: usize = 4 << 20;
        let end = self.next_sequence();
        let mut iterator = ShardIterator::new(Arc::clone(self), Position::TrimHorizon)?;
        while iterator.next_sequence() < end {
            match iterator.next_batch_within(RECORDS_AT_A_TIME, BYTES_AT_A_TIME) {
                Ok(batch) if batch.is_empty() => break,
                Ok(batch) => {
                    let sizes = batch.iter().map(|record| record.partition_key().len() + record.data().len());
                    let bytes = sizes.sum::<usize>() as u64;
                    found.record_count += batch.len() as u64;
                    found.record_bytes += bytes;
                    progress(bytes);
                }
                Err(Error::Corrupt(damage)) => {
                    found.damage.push(*damage);
                    let Some(next) = self.segment_after(iterator.next_sequence()) else { break };
                    iterator.seek(Position::At(next))?;
                }
                // Retention went by; what it took is no damage.
                Err(Error::Trimmed { horizon, .. }) => iterator.seek(Position::At(horizon))?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn segment_after(&self, sequence: SequenceNumber) -> Option<SequenceNumber> {
        self.segments.bases().into_iter().find(|&base| base > sequence)
    }
}
