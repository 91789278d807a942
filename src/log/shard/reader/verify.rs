//! Reading a whole shard to find damage.

use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use super::Reader;
use super::iterator::ShardIterator;
use crate::log::types::error::{Corruption, Error, Result};
use crate::log::types::record::Position;
use crate::log::types::sequence::SequenceNumber;
use crate::log::types::shard_id::ShardId;

/// The result of reading a whole stream. [`StreamReader::verify`](crate::StreamReader::verify) returns it.
///
/// ```
/// # use std::ops::ControlFlow;
/// # use streamlog::Stream;
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path())?;
/// stream.put("user-17", "clicked")?;
/// let found = stream.verify(|_| ControlFlow::Continue(()))?;
/// assert_eq!((found.record_count, found.damage.len()), (1, 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Verification {
    /// The records that were read, each checked against its checksum and its place.
    pub record_count: u64,
    /// The bytes of their keys, data and headers together.
    pub record_bytes: u64,
    /// The encrypted records whose key is unavailable. The place and the checksum of their frames were checked, but not their contents.
    pub unread_count: u64,
    /// The damage that was found, in the order of shards and sequence numbers.
    pub damage: Vec<Corruption>,
    /// The records that were lost to damage and given up, as [`salvage`](crate::StreamOptions::salvage) left them: a shard, its first lost
    /// sequence number and the one after the last.
    pub lost: Vec<(ShardId, Range<SequenceNumber>)>,
    /// Whether everything was read; `false` if the caller stopped early.
    pub is_complete: bool,
}

/// The progress of a verification.
///
/// ```
/// # use std::ops::ControlFlow;
/// # use streamlog::Stream;
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path())?;
/// let found = stream.verify(|progress| match progress.bytes_read < 1 << 30 {
///     true => ControlFlow::Continue(()),
///     false => ControlFlow::Break(()),
/// })?;
/// assert!(found.is_complete, "there was less than 1 GiB");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct VerifyProgress {
    /// The bytes of segment files read so far.
    pub bytes_read: u64,
    /// The bytes of all segments, including the overhead.
    pub bytes_total: u64,
}

impl Reader {
    /// Reads all records up to the current end, or, if their key is missing, at least checks the frames that hold them. After damage it continues
    /// with the next frame that it can find.
    ///
    /// It calls `progress` with the file bytes of each piece, and stops if that returns `Break`.
    pub(crate) fn verify(
        self: &Arc<Self>,
        found: &mut Verification,
        progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>> {
        const RECORDS_AT_A_TIME: usize = 10_000;
        const BYTES_AT_A_TIME: usize = 4 << 20;
        let end = self.next_sequence();
        let mut iterator = ShardIterator::new(Arc::clone(self), Position::TrimHorizon)?;
        while iterator.next_sequence() < end {
            match iterator.next_batch_unlimited(RECORDS_AT_A_TIME, BYTES_AT_A_TIME) {
                Ok(batch) if batch.is_empty() => break,
                Ok(batch) => {
                    let sizes = batch.iter().map(|record| record.parts.bytes());
                    found.record_bytes += sizes.sum::<usize>() as u64;
                    found.record_count += batch.len() as u64;
                    if progress(batch.log_bytes).is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                }
                Err(Error::Corrupt(damage)) => {
                    found.damage.push(*damage);
                    let Some(next) = self.next_readable(iterator.next_sequence()) else { break };
                    iterator.seek(Position::At(next))?;
                }
                Err(Error::Lost { shard, first, .. }) => {
                    found.lost.push((shard, first..first.plus(iterator.skip_lost()?)));
                }
                Err(Error::KeyUnavailable(_)) => {
                    let (passed, bytes) = match iterator.pass_frame() {
                        // The next read meets it again.
                        Err(Error::Corrupt(_) | Error::Lost { .. } | Error::Trimmed { .. }) => continue,
                        passed => passed?,
                    };
                    found.unread_count += passed;
                    if progress(bytes).is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                    if passed == 0 {
                        break;
                    }
                }
                // Retention has overtaken the iterator. Trimmed records are not damage.
                Err(Error::Trimmed { .. }) => drop(iterator.skip_to_horizon()),
                Err(error) => return Err(error),
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}
