//! Batches that a reader keeps while their segments are trimmed, and their files are removed or reused.

use std::time::{Duration, Instant};

use streamlog::Batch;

use super::board::{Board, Outcome};
use super::plan::Random;

/// The maximum number of batches that are kept at a time.
const BATCHES_MAX: usize = 128;
/// The longest time that a batch is kept.
const KEPT_MILLIS_MAX: u64 = 12_000;

/// The batches that a thread keeps.
#[derive(Debug, Default)]
pub(crate) struct Held {
    batches: Vec<(Instant, Batch, u32)>,
}

impl Held {
    /// Keeps some of the batches.
    pub(crate) fn keep(&mut self, random: &mut Random, batch: &Batch) {
        if self.batches.len() < BATCHES_MAX && !batch.is_empty() && random.one_in(4) {
            let until = Instant::now() + Duration::from_millis(random.below(KEPT_MILLIS_MAX));
            self.batches.push((until, batch.clone(), checksum_of(batch)));
        }
    }

    /// Checks that batches whose holding time has passed still have their original bytes.
    pub(crate) fn check(&mut self, board: &Board) -> Outcome {
        let now = Instant::now();
        for (_, batch, checksum) in self.batches.extract_if(.., |(until, ..)| *until <= now) {
            if checksum_of(&batch) != checksum {
                let (first, last) = (batch.first_sequence(), batch.last_sequence());
                return Err(format!(
                    "P9: a batch that was kept has changed: {first:?} to {last:?} of {}",
                    batch.shard()
                ));
            }
            board.counters().kept_records += batch.len() as u64;
        }
        Ok(())
    }
}

fn checksum_of(batch: &Batch) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for record in batch {
        hasher.update(&record.sequence().get().to_le_bytes());
        hasher.update(&record.timestamp().as_micros().to_le_bytes());
        hasher.update(record.partition_key());
        hasher.update(record.data());
    }
    hasher.finalize()
}
