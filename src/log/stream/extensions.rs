//! What the layers above the core keep with an open stream.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use super::Stream;
use crate::log::retention::hold;
use crate::log::types::error::Result;
use crate::log::types::sequence::SequenceNumber;
use crate::log::types::shard_id::ShardId;
use crate::log::types::time::{Clock, Timestamp};

/// What was left with a stream by the layers above.
#[derive(Debug, Default)]
pub(super) struct Extensions {
    values: Mutex<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>,
    companions: Mutex<Vec<Stream>>,
}

impl Extensions {
    /// Does something with each companion, all of them, and returns the first error.
    pub(super) fn for_each_companion(&self, mut work: impl FnMut(&Stream) -> Result<()>) -> Result<()> {
        let mut outcome = Ok(());
        // Under the lock: one that is taken off, to be closed, is not worked on any more.
        for companion in &*self.companions.lock() {
            outcome = outcome.and(work(companion));
        }
        outcome
    }

    pub(super) fn close(&self) -> Result<()> {
        let mut outcome = Ok(());
        let companions = std::mem::take(&mut *self.companions.lock());
        for companion in companions {
            outcome = outcome.and(companion.close());
        }
        outcome
    }
}

impl Stream {
    /// What a layer above the stream keeps with it: one value of each type for all clones, made when it is first asked for. It goes
    /// when the last clone does; so it must not hold a clone itself.
    ///
    /// ```
    /// # use std::sync::atomic::{AtomicU64, Ordering};
    /// # use streamlog::Stream;
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// #[derive(Default)]
    /// struct Refused(AtomicU64);
    ///
    /// stream.extension::<Refused>().0.fetch_add(1, Ordering::Relaxed);
    /// assert_eq!(stream.clone().extension::<Refused>().0.load(Ordering::Relaxed), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn extension<T: Any + Send + Sync + Default>(&self) -> Arc<T> {
        let mut values = self.core().extensions.values.lock();
        let of_type = values.entry(TypeId::of::<T>()).or_insert_with(|| Arc::new(T::default()));
        Arc::clone(of_type).downcast().expect("the value at the id of a type is of that type")
    }

    /// Lets another stream go along with this one, such as one that keeps what a layer above must not lose: what syncs, maintains or
    /// closes this stream does so with its companions, after its own records. A companion is best opened with
    /// [`Maintenance::Manual`](crate::Maintenance::Manual).
    ///
    /// ```
    /// # use streamlog::{Maintenance, Stream, StreamOptions};
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// let path = directory.path().join("audit");
    /// let audit = StreamOptions::new().maintenance(Maintenance::Manual).open(&path)?;
    /// stream.add_companion(audit.clone())?;
    /// audit.put("user-17", "logged in")?;
    /// stream.sync()?; // both
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `Closed`; then the other stream is left as it is.
    pub fn add_companion(&self, companion: Stream) -> Result<()> {
        // As closing does, under the lock: one that comes too late is not forgotten.
        let mut companions = self.core().extensions.companions.lock();
        drop(self.core().topology.manifest_to_change()?);
        companions.push(companion);
        Ok(())
    }

    /// Takes a companion off again, by its path, after what is being done with it; it stays open as long as anybody has a clone.
    pub fn remove_companion(&self, path: &Path) {
        self.core().extensions.companions.lock().retain(|companion| companion.core().path != path);
    }

    /// Holds retention back for somebody who has yet to read: what it has not let go of with [`release_hold`](Self::release_hold) stays,
    /// up to `bytes_max` bytes of segments beyond what retention keeps; 0 ends it. Where several hold, the largest bound counts for all.
    ///
    /// The hold is kept in the manifest, and how far its owner is is not: each time the stream is opened all is held until it is let go.
    ///
    /// ```
    /// # use streamlog::{Position, Stream};
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// stream.set_hold("export", 1 << 30)?;
    /// let receipt = stream.put("user-17", "clicked")?;
    /// // ... once it is exported:
    /// stream.release_hold("export", receipt.shard, receipt.sequence.plus(1));
    /// # stream.iterator(receipt.shard, Position::TrimHorizon)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`set_retention`](Self::set_retention).
    pub fn set_hold(&self, name: &str, bytes_max: u64) -> Result<()> {
        hold::set(&self.core().topology, name, bytes_max)
    }

    /// Ends a hold, if there is one of that name.
    ///
    /// # Errors
    /// As [`set_hold`](Self::set_hold).
    pub fn remove_hold(&self, name: &str) -> Result<()> {
        self.set_hold(name, 0)
    }

    /// Lets go of the records of a shard before a sequence number.
    pub fn release_hold(&self, name: &str, shard: ShardId, sequence: SequenceNumber) {
        hold::release(&self.core().topology, name, shard, sequence);
    }

    /// Where the stream takes the time from.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.core().clock
    }

    /// The time by the stream's clock.
    pub fn now(&self) -> Timestamp {
        self.core().clock.now()
    }

    /// Whether the stream was closed, here or by a clone.
    pub fn is_closed(&self) -> bool {
        self.core().topology.is_closed()
    }
}
