//! Stores the position of a shard's processor in the shard's lease, as a KCL checkpoint with a state beside it, in one conditional write.

use std::sync::Arc;
use std::time::Duration;

use super::lease::Checkpoint;
use super::lease_book::Grip;
use super::lease_table::LeaseTable;
use crate::relay::source::spool::{Done, SHARD, record_at};
use crate::relay::source::totals::SharedTotals;
use crate::{
    Clock, Entry, Error, IoFailure, Ledger, Origin, Result, SequenceNumber, StreamReader, SystemClock,
};

/// What the ledgers of a processor share.
#[derive(Debug, Clone)]
pub(super) struct LedgerSettings {
    pub(super) table: LeaseTable,
    /// The processor's name.
    pub(super) application: String,
    /// The interval between checkpoints that nobody waits for.
    pub(super) interval: Duration,
    pub(super) totals: SharedTotals,
}

/// The ledger of one shard.
#[derive(Debug)]
pub(super) struct ShardLedger {
    pub(super) settings: LedgerSettings,
    pub(super) grip: Arc<Grip>,
    pub(super) spool: StreamReader,
    pub(super) done: Arc<Done>,
    /// What is stored by now: all records below the number are done, which corresponds to this checkpoint.
    pub(super) kept: (SequenceNumber, Checkpoint),
    pub(super) kept_at: Duration,
}

impl Ledger for ShardLedger {
    fn is_due(&mut self, is_urgent: bool) -> bool {
        is_urgent || self.done.is_wanted() || SystemClock.elapsed() >= self.kept_at + self.settings.interval
    }

    fn enter(&mut self, entry: &Entry<'_>) -> Result<()> {
        // Behind the end of the spool's shard there is nothing.
        if entry.shard != SHARD {
            return Ok(());
        }
        let checkpoint = match entry.next.previous().filter(|_| entry.next != self.kept.0) {
            None => self.kept.1.clone(),
            Some(last) => self.checkpoint_of(last)?,
        };
        let state = self.with_first(entry)?;
        let clock = || SystemClock.elapsed();
        match self.grip.checkpoint(&self.settings.table, &clock, &checkpoint, &state) {
            Ok(Ok(())) => {
                self.kept = (entry.next, checkpoint);
                self.kept_at = clock();
                self.done.note(entry.next, !entry.state.is_empty());
                Ok(())
            }
            Ok(Err(_)) => {
                Err(Error::GroupLeaseLost { group: (&*self.settings.application).into(), shard: entry.shard })
            }
            Err(failure) => {
                self.settings.totals.note_error(&failure);
                Err(failed(&failure.to_string()))
            }
        }
    }
}

impl ShardLedger {
    /// Returns the checkpoint that says that this record of the spool is done, and all before it.
    fn checkpoint_of(&self, last: SequenceNumber) -> Result<Checkpoint> {
        let read = record_at(&self.spool, last, |record| {
            let origin = Origin::of(record)?;
            Checkpoint::parse(origin.sequence_number, origin.sub_sequence_number)
        });
        read?.ok_or_else(|| failed("a record does not say where it comes from"))
    }

    /// Returns a state, prefixed with the number of the first record that it belongs to, if that record is there. The numbers in a state count from
    /// that record.
    fn with_first(&self, entry: &Entry<'_>) -> Result<Vec<u8>> {
        if entry.state.is_empty() {
            return Ok(vec![]);
        }
        let number =
            |record: &crate::Record<'_>| Origin::of(record).map(|origin| origin.sequence_number.to_owned());
        let first = record_at(&self.spool, entry.next, number)?.unwrap_or_default();
        Ok([first.as_bytes(), b"\n", entry.state].concat())
    }
}

/// Splits a stored state into the number of the first record that it belongs to, if known, and the state itself.
pub(super) fn split_state(kept: &[u8]) -> (Option<&str>, &[u8]) {
    let Some(at) = kept.iter().position(|&byte| byte == b'\n') else { return (None, b"") };
    let first = std::str::from_utf8(&kept[..at]).ok().filter(|first| !first.is_empty());
    (first, &kept[at + 1..])
}

fn failed(reason: &str) -> Error {
    let source = std::io::Error::other(reason.to_owned());
    IoFailure::new("keep a checkpoint in", "the lease table", source).into()
}
