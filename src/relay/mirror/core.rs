//! The core of a mirror: puts each record of the origin into the stream once, whatever happens to the process.
//!
//! Each copy carries the place of its original. For each partition, the journal has the place up to which all records are **done**: in the stream,
//! and synced. Copies of later records are at or above the **floor**, and are read back when the mirror is opened.
//!
//! **A batch** goes to several shards, and may fail in one of them. Then some records are in the stream although earlier ones are not. Their places
//! are kept until the earlier ones are done, and so are the places of records that were read back.

use std::collections::BTreeMap;

use parking_lot::{Mutex, RwLock};

use super::journal::{self, About, Entry, Floor, PartitionState};
use super::mirrored::Labels;
use super::origin::{Incoming, Listing, Place, StartAt};
use super::refused::{OnRefused, Refused};
use crate::{Error, Journal, Receipt, Result, Stream, Timestamp, extend};

/// A batch has about this many bytes, and at most this many records.
const BATCH_BYTES: usize = 1 << 20;
const BATCH_RECORDS: usize = 1_000;
/// A checkpoint is due after this many puts.
const PUTS_BETWEEN_CHECKPOINTS: usize = 20_000;

/// How a mirror is opened.
#[derive(Debug, Clone)]
pub(super) struct CoreOptions {
    pub(super) name: String,
    pub(super) kind: &'static str,
    pub(super) origin: String,
    pub(super) start: StartAt,
    pub(super) hold_bytes: u64,
}

#[derive(Debug)]
pub(super) struct Core {
    pub(super) stream: Stream,
    pub(super) name: String,
    /// The name of the hold on retention, which no group can have.
    pub(super) hold: String,
    pub(super) journal: Journal,
    /// A put locks it for reading. A checkpoint locks it for writing, because it looks at the ends of the shards.
    pub(super) gate: RwLock<()>,
    pub(super) state: Mutex<State>,
    /// What the last checkpoint has written. One checkpoint at a time.
    pub(super) written: Mutex<Checkpoint>,
    on_refused: Option<OnRefused>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) about: About,
    pub(super) partitions: BTreeMap<String, Progress>,
    pub(super) puts_since_checkpoint: usize,
    pub(super) counts: Counts,
}

/// What the core has done since it was opened.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) records: u64,
    pub(super) bytes: u64,
    pub(super) recognised: u64,
    pub(super) refused: u64,
}

/// How far the mirror is in a partition.
#[derive(Debug)]
pub(super) struct Progress {
    pub(super) state: PartitionState,
    /// Records that are in the stream although earlier ones may not be.
    pub(super) ahead: BTreeMap<Place, Receipt>,
    /// Since when the origin does not list it.
    pub(super) missing_since: Option<Timestamp>,
}

impl Progress {
    pub(super) fn new(from: StartAt) -> Self {
        let state = PartitionState { from, is_ended: false };
        Self { state, ahead: BTreeMap::new(), missing_since: None }
    }

    pub(super) fn is_done(&self, place: &Place) -> bool {
        self.state.done().is_some_and(|done| place <= done)
    }

    /// Notes that everything up to a place is done.
    fn finish(&mut self, place: &Place) {
        if !self.is_done(place) {
            self.state.from = StartAt::After(place.clone());
        }
        while self.ahead.first_key_value().is_some_and(|(first, _)| first <= place) {
            self.ahead.pop_first();
        }
    }
}

/// What a checkpoint has written.
#[derive(Debug, Default)]
pub(super) struct Checkpoint {
    pub(super) partitions: BTreeMap<String, PartitionState>,
    pub(super) floor: Floor,
}

impl Core {
    /// Opens a mirror, and reads back what it has put since its last checkpoint.
    pub(super) fn open(stream: &Stream, options: CoreOptions, on_refused: Option<OnRefused>) -> Result<Self> {
        let name = options.name;
        extend::check_name("a mirror", &name)?;
        let (journal, written) = journal::open(stream, &name)?;
        extend::add_companion(stream, journal.log().clone())?;
        let (is_new, about) = match written.about {
            None => (
                true,
                About {
                    kind: options.kind.to_owned(),
                    origin: options.origin,
                    incarnation: None,
                    start: options.start,
                    has_begun: false,
                },
            ),
            Some(about) => {
                if (about.kind.as_str(), &about.origin) != (options.kind, &options.origin) {
                    extend::remove_companion(stream, journal.log());
                    return Err(Error::InvalidArgument(
                        format!(
                            "the mirror {name:?} is one of {} {:?}, not of {} {:?}: use another name, or delete that mirror",
                            about.kind, about.origin, options.kind, options.origin
                        )
                        .into(),
                    ));
                }
                (false, about)
            }
        };
        let progress = |(id, state): (&String, &PartitionState)| {
            (id.clone(), Progress { state: state.clone(), ahead: BTreeMap::new(), missing_since: None })
        };
        let core = Self {
            stream: stream.clone(),
            hold: format!("mirror:{name}"),
            name,
            journal,
            gate: RwLock::default(),
            state: Mutex::new(State {
                about,
                partitions: written.partitions.iter().map(progress).collect(),
                puts_since_checkpoint: 0,
                counts: Counts::default(),
            }),
            written: Mutex::new(Checkpoint {
                partitions: written.partitions,
                floor: written.floor.clone().unwrap_or_default(),
            }),
            on_refused,
        };
        if is_new {
            // The existing records are not its own.
            let (mut entry, floor) = (Entry::default(), core.ends()?);
            entry.about(&core.state.lock().about);
            entry.floor(&floor);
            entry.write(&core.journal)?;
            core.written.lock().floor = floor;
        }
        // Set before any record is put that must not be dropped unseen.
        extend::hold(stream, &core.hold).set(options.hold_bytes)?;
        if let Some(floor) = written.floor {
            core.read_back(&floor)?;
            core.checkpoint()?;
        }
        core.release(&core.written.lock().floor);
        Ok(core)
    }

    /// Takes over what the origin lists: partitions that are new, and the ends of those that are no longer there.
    ///
    /// # Errors
    /// `InvalidArgument` if it is another origin of the same name.
    pub(super) fn adopt(&self, listing: &Listing) -> Result<()> {
        let now = self.stream.now();
        let mut entry = Entry::default();
        let mut state = self.state.lock();
        let mut about = state.about.clone();
        if let Some(incarnation) = &listing.incarnation {
            let known = about.incarnation.get_or_insert_with(|| incarnation.clone());
            if known != incarnation {
                let reason = format!(
                    "{} {:?} was deleted and created again since the mirror {:?} began: delete that mirror, or start one by another name",
                    about.kind, about.origin, self.name
                );
                return Err(Error::InvalidArgument(reason.into()));
            }
        }
        let is_first = !std::mem::replace(&mut about.has_begun, true);
        for partition in &listing.partitions {
            if state.partitions.contains_key(&partition.id) {
                continue;
            }
            let mut progress = Progress::new(about.start.clone());
            if is_first && matches!(about.start, StartAt::Latest(_)) {
                // A time, and not the latest record at the first request: it still means the same after a crash before the first checkpoint.
                progress.state.from = StartAt::AtTimestamp(now);
                progress.state.is_ended = !partition.is_open;
                entry.partition(&partition.id, Some(&progress.state));
            }
            state.partitions.insert(partition.id.clone(), progress);
        }
        if is_first && matches!(about.start, StartAt::Latest(_)) {
            // A partition that appears later is read from its beginning.
            about.start = StartAt::Beginning;
        }
        for (id, partition) in &mut state.partitions {
            let is_listed = listing.partitions.iter().any(|listed| listed.id == *id);
            partition.missing_since =
                if is_listed { None } else { Some(partition.missing_since.unwrap_or(now)) };
        }
        if about == state.about {
            return Ok(());
        }
        state.about = about;
        entry.about(&state.about);
        drop(state);
        entry.write(&self.journal)?;
        self.journal.log().sync()
    }

    /// Returns where reading of a partition continues, or `None` if it was read to its end.
    pub(super) fn next_of(&self, id: &str) -> Option<StartAt> {
        let state = self.state.lock();
        let partition = state.partitions.get(id)?;
        (!partition.state.is_ended).then(|| partition.state.from.clone())
    }

    /// Returns whether a partition was read to its end, or is not known.
    pub(super) fn is_over(&self, id: &str) -> bool {
        self.state.lock().partitions.get(id).is_none_or(|partition| partition.state.is_ended)
    }

    /// Notes that a partition was read to its end, or can no longer be read.
    pub(super) fn end(&self, id: &str) {
        if let Some(partition) = self.state.lock().partitions.get_mut(id) {
            partition.state.is_ended = true;
        }
    }

    /// Puts records that were read from a partition, in their order, except for those that are in the stream. After an error, it has to be called again
    /// with the same records before the next ones.
    ///
    /// # Errors
    /// Same as [`Stream::put_batch`], and those of a checkpoint.
    pub(super) fn put(&self, id: &str, records: &[Incoming]) -> Result<()> {
        let mut rest = records;
        while !rest.is_empty() {
            let (taken, outcome) = self.put_some(id, rest)?;
            outcome?;
            rest = &rest[taken..];
            if self.state.lock().puts_since_checkpoint >= PUTS_BETWEEN_CHECKPOINTS {
                self.checkpoint()?;
            }
        }
        Ok(())
    }

    /// Puts the first of these records as one batch. Returns how many were taken, and whether all of them are done.
    fn put_some(&self, id: &str, records: &[Incoming]) -> Result<(usize, Result<()>)> {
        let (mut labels, mut bytes, mut taken) = (vec![], 0, 0);
        let mut refused = None;
        let origin = {
            let state = self.state.lock();
            let known = state.partitions.get(id);
            for record in records {
                let is_there = known.is_some_and(|known| {
                    known.is_done(&record.place) || known.ahead.contains_key(&record.place)
                });
                if !is_there {
                    if bytes >= BATCH_BYTES || labels.len() == BATCH_RECORDS {
                        break;
                    }
                    let label = Labels::new(&self.name, &state.about.origin, id, record);
                    if let Err(error) = self.stream.check_record(&label.record(record)) {
                        refused = Some(error);
                        break;
                    }
                    bytes += record.partition_key.len() + record.data.len();
                    labels.push((label, record));
                }
                taken += 1;
            }
            state.about.origin.clone()
        };
        if taken == 0 {
            let Some(error) = refused else { return Ok((0, Ok(()))) };
            self.refuse(&origin, id, &records[0], error)?;
            return Ok((1, Ok(())));
        }
        let copies: Vec<_> = labels.iter().map(|(label, record)| label.record(record)).collect();
        let gate = self.gate.read();
        let outcomes = if copies.is_empty() { vec![] } else { self.stream.put_batch(&copies)? };
        let mut state = self.state.lock();
        let start = state.about.start.clone();
        let partition = state.partitions.entry(id.to_owned()).or_insert_with(|| Progress::new(start));
        let (mut done, mut done_bytes, mut failed) = (0, 0, None);
        for (outcome, (_, record)) in outcomes.into_iter().zip(&labels) {
            match outcome {
                Ok(receipt) => {
                    partition.ahead.insert(record.place.clone(), receipt);
                    done += 1;
                    done_bytes += record.data.len() as u64;
                }
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        if failed.is_none() {
            partition.finish(&records[taken - 1].place);
        }
        state.puts_since_checkpoint += done as usize;
        state.counts.records += done;
        state.counts.bytes += done_bytes;
        drop((state, gate));
        Ok((taken, failed.map_or(Ok(()), Err)))
    }

    /// Passes a record that the stream cannot hold to the function for such records, or returns the error if there is none.
    fn refuse(&self, origin: &str, id: &str, record: &Incoming, error: Error) -> Result<()> {
        let refused = Refused::new(&self.name, origin, id, record, &error);
        let what = format!("record {} of {id} of {origin:?} cannot be put", refused.place);
        let Some(on_refused) = &self.on_refused else {
            let reason = format!("{what}: {}; set on_refused to go on without it", refused.reason);
            return Err(Error::InvalidArgument(reason.into()));
        };
        on_refused.take(&refused).map_err(|reason| {
            Error::InvalidArgument(format!("{what}, and who takes such records failed: {reason}").into())
        })?;
        let mut state = self.state.lock();
        state.counts.refused += 1;
        if let Some(partition) = state.partitions.get_mut(id) {
            partition.finish(&record.place);
        }
        state.puts_since_checkpoint += 1;
        Ok(())
    }

    pub(super) fn counts(&self) -> Counts {
        self.state.lock().counts
    }

    /// Returns the position of each partition.
    pub(super) fn partitions(&self) -> BTreeMap<String, PartitionState> {
        let state = self.state.lock();
        state.partitions.iter().map(|(id, partition)| (id.clone(), partition.state.clone())).collect()
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        extend::remove_companion(&self.stream, self.journal.log());
        let _ = self.journal.close();
    }
}

#[cfg(test)]
impl Core {
    /// Returns whether a record is in the stream, as far as that is known.
    pub(super) fn is_there(&self, id: &str, place: &Place) -> bool {
        let state = self.state.lock();
        let known = state.partitions.get(id);
        known.is_some_and(|known| known.is_done(place) || known.ahead.contains_key(place))
    }

    /// Returns whether a record is in the stream although earlier ones are not done.
    pub(super) fn is_ahead(&self) -> bool {
        self.state.lock().partitions.values().any(|partition| !partition.ahead.is_empty())
    }
}
