//! The records of a shard, one by one.

use super::iterator::ShardIterator;
use super::record::OwnedRecord;
use crate::log::types::error::Result;
use crate::log::types::sequence::SequenceNumber;

/// The records of a shard, one by one. [`ShardIterator::records`] returns it.
///
/// ```
/// # use streamlog::{Position, Stream};
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path())?;
/// let receipt = stream.put("user-17", "clicked")?;
/// let mut iterator = stream.iterator(receipt.shard, Position::TrimHorizon)?;
/// let records = iterator.records().collect::<Result<Vec<_>, _>>()?;
/// assert_eq!(records[0].data, "clicked");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct OwnedRecords<'a> {
    iterator: &'a mut ShardIterator,
    end: SequenceNumber,
    ready: std::vec::IntoIter<OwnedRecord>,
    is_over: bool,
}

impl<'a> OwnedRecords<'a> {
    fn new(iterator: &'a mut ShardIterator, end: SequenceNumber) -> Self {
        Self { iterator, end, ready: vec![].into_iter(), is_over: false }
    }
}

impl Iterator for OwnedRecords<'_> {
    type Item = Result<OwnedRecord>;

    fn next(&mut self) -> Option<Result<OwnedRecord>> {
        const RECORDS_AT_A_TIME: u64 = 256;
        const BYTES_AT_A_TIME: usize = 1 << 20;
        if let Some(record) = self.ready.next() {
            return Some(Ok(record));
        }
        let left = self.end.get().saturating_sub(self.iterator.next_sequence().get());
        if self.is_over || left == 0 {
            return None;
        }
        match self.iterator.next_batch_within(left.min(RECORDS_AT_A_TIME) as usize, BYTES_AT_A_TIME) {
            Ok(batch) => {
                self.ready = batch.iter().map(|record| record.into_owned()).collect::<Vec<_>>().into_iter();
                self.ready.next().map(Ok)
            }
            Err(error) => {
                self.is_over = true;
                Some(Err(error))
            }
        }
    }
}

impl ShardIterator {
    /// Returns the records from here to the current end, one by one.
    ///
    /// ```
    /// # use streamlog::{Position, Stream};
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// let receipt = stream.put("user-17", "clicked")?;
    /// let mut iterator = stream.iterator(receipt.shard, Position::TrimHorizon)?;
    /// for record in iterator.records() {
    ///     println!("{:?}", record?.data);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn records(&mut self) -> OwnedRecords<'_> {
        let end = self.reader().next_sequence();
        OwnedRecords::new(self, end)
    }
}
