//! The checkpoints of a mirror, and reading back the records that it has put since the last one.
//!
//! **A checkpoint:** the positions and the floor are taken at a moment without puts → the stream is synced → both are written to the journal → the
//! journal is synced → retention may drop what is below the floor.
//! - A crash before the journal is written: the old journal counts. Its floor is lower, and the copies from there on are still there, because
//!   retention holds them.
//! - Power loss may take copies that were not synced. The journal lists none of them as done, so they are put again. A shard loses its newest records
//!   first, so the order of each key holds.
//! - Records below the floor are not looked for. So retention may drop them.
//!
//! Power loss may leave a shard that ends below the floor. So opening writes a checkpoint before anything is put there.

use std::collections::BTreeMap;

use super::core::{Checkpoint, Core, Progress};
use super::journal::{self, Entry, Floor};
use super::mirrored;
use crate::{Error, HOUR, Position, Receipt, Result, Stream, extend};

impl Core {
    /// Reads back what was put, from the floor on.
    pub(super) fn read_back(&self, floor: &Floor) -> Result<()> {
        for shard in self.stream.shards() {
            let from = floor.get(&shard.id).map_or(Position::TrimHorizon, |&from| Position::At(from));
            let iterator = match self.stream.iterator(shard.id, from) {
                Err(Error::Trimmed { .. }) => self.stream.iterator(shard.id, Position::TrimHorizon),
                iterator => iterator,
            };
            let mut iterator = extend::unlimited(iterator?);
            loop {
                let batch = match iterator.next_batch(1_000) {
                    Err(Error::Trimmed { .. }) => {
                        iterator.skip_to_horizon();
                        continue;
                    }
                    // Records that were lost to damage are put again.
                    Err(Error::Lost { .. }) => {
                        iterator.skip_lost()?;
                        continue;
                    }
                    batch => batch?,
                };
                if batch.is_empty() {
                    break;
                }
                let mut state = self.state.lock();
                let start = state.about.start.clone();
                for record in &batch {
                    let Some((id, place)) = mirrored::read(&self.name, &record) else { continue };
                    let (sequence, timestamp) = (record.sequence(), record.timestamp());
                    let partition = state.partitions.entry(id.to_owned());
                    let partition = partition.or_insert_with(|| Progress::new(start.clone()));
                    if !partition.is_done(&place) {
                        let receipt = Receipt { shard: shard.id, sequence, timestamp };
                        partition.ahead.insert(place, receipt);
                        state.counts.recognised += 1;
                    }
                }
            }
        }
        Ok(())
    }

    /// Writes a checkpoint.
    ///
    /// # Errors
    /// Those of syncing the stream, and of putting into the journal. The old checkpoint then stays valid.
    pub(super) fn checkpoint(&self) -> Result<()> {
        let mut written = self.written.lock();
        let (partitions, floor, puts) = {
            let _gate = self.gate.write();
            let mut floor = self.ends()?;
            let state = self.state.lock();
            for receipt in state.partitions.values().flat_map(|partition| partition.ahead.values()) {
                let floor = floor.entry(receipt.shard).or_insert(receipt.sequence);
                *floor = (*floor).min(receipt.sequence);
            }
            let partitions: BTreeMap<_, _> = state
                .partitions
                .iter()
                .map(|(id, partition)| (id.clone(), partition.state.clone()))
                .collect();
            (partitions, floor, state.puts_since_checkpoint)
        };
        if partitions == written.partitions && floor == written.floor {
            return Ok(());
        }
        let mut entry = Entry::default();
        for (id, state) in &partitions {
            if written.partitions.get(id) != Some(state) {
                entry.partition(id, Some(state));
            }
        }
        entry.floor(&floor);
        let is_more_done = partitions != written.partitions;
        if is_more_done {
            // This includes records that were read back, which were put before a crash and may not be synced.
            self.stream.sync()?;
        }
        entry.write(&self.journal)?;
        if is_more_done {
            // Otherwise power loss might leave the old journal, while copies above its floor are gone.
            self.journal.log().sync()?;
        }
        self.release(&floor);
        *written = Checkpoint { partitions, floor };
        self.state.lock().puts_since_checkpoint -= puts;
        self.tidy(&mut written)
    }

    /// Forgets partitions that ended and that the origin no longer lists, and rewrites the journal if it has grown long.
    fn tidy(&self, written: &mut Checkpoint) -> Result<()> {
        let now = self.stream.now();
        let mut state = self.state.lock();
        // Not immediately, in case the origin does not list a partition for a moment.
        let is_kept = |partition: &Progress| {
            !partition.state.is_ended || partition.missing_since.is_none_or(|since| now.since(since) < HOUR)
        };
        let gone: Vec<_> = state.partitions.iter().filter(|(_, known)| !is_kept(known)).collect();
        let gone: Vec<String> = gone.into_iter().map(|(id, _)| id.clone()).collect();
        let mut entry = Entry::default();
        for id in gone {
            entry.partition(&id, None);
            state.partitions.remove(&id);
            written.partitions.remove(&id);
        }
        let about = state.about.clone();
        drop(state);
        let state_bytes = 300 * (1 + written.partitions.len() as u64) + 40 * written.floor.len() as u64;
        if journal::is_long(&self.journal, state_bytes) {
            let mut all = Entry::default();
            all.about(&about);
            written.partitions.iter().for_each(|(id, state)| all.partition(id, Some(state)));
            all.floor(&written.floor);
            return all.replace(&self.journal);
        }
        entry.write(&self.journal)
    }

    pub(super) fn release(&self, floor: &Floor) {
        let hold = extend::hold(&self.stream, &self.hold);
        for (&shard, &sequence) in floor {
            hold.release(shard, sequence);
        }
    }

    /// Returns where each shard of the stream ends.
    pub(super) fn ends(&self) -> Result<Floor> {
        let mut ends = Floor::new();
        for shard in self.stream.shards() {
            match self.stream.iterator(shard.id, Position::Latest) {
                Ok(iterator) => ends.insert(shard.id, iterator.next_sequence()),
                // It has expired meanwhile.
                Err(Error::ShardNotFound(_)) => None,
                Err(error) => return Err(error),
            };
        }
        Ok(ends)
    }

    /// Writes a last checkpoint. Then nothing needs to be held for the mirror until it is opened again, unless it has put records although earlier
    /// ones are not done: these must be read back.
    pub(super) fn close(&self) -> Result<()> {
        self.checkpoint()?;
        if self.state.lock().partitions.values().any(|partition| !partition.ahead.is_empty()) {
            return Ok(());
        }
        extend::hold(&self.stream, &self.hold).end()
    }
}

/// Ends the hold of a mirror.
pub(super) fn end_hold(stream: &Stream, name: &str) -> Result<()> {
    extend::hold(stream, &format!("mirror:{name}")).end()
}
