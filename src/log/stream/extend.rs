//! For code that builds on a stream, as the consumer groups of this crate do: state kept with an open stream, streams that are synced
//! and closed along with it, and holds on retention.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use super::Stream;
use crate::log::retention::hold;
use crate::log::types::error::{Error, Result};
use crate::log::types::sequence::SequenceNumber;
use crate::log::types::shard_id::ShardId;

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

/// Returns what a layer above the stream keeps with it: one value of each type for all clones, made when it is first asked for. It is
/// dropped with the last clone; so it must not hold a clone itself.
///
/// ```
/// # use std::sync::atomic::{AtomicU64, Ordering};
/// # use streamlog::{Stream, extend};
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path())?;
/// #[derive(Default)]
/// struct Refused(AtomicU64);
///
/// extend::extension::<Refused>(&stream).0.fetch_add(1, Ordering::Relaxed);
/// assert_eq!(extend::extension::<Refused>(&stream.clone()).0.load(Ordering::Relaxed), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn extension<T: Any + Send + Sync + Default>(stream: &Stream) -> Arc<T> {
    let mut values = stream.core().extensions.values.lock();
    let of_type = values.entry(TypeId::of::<T>()).or_insert_with(|| Arc::new(T::default()));
    Arc::clone(of_type).downcast().expect("the value at the id of a type is of that type")
}

/// Lets another stream go along with a stream, such as one that keeps what a layer above must not lose: a call that syncs, maintains or
/// closes the stream does the same with its companions, after its own records. A companion is best opened with
/// [`Maintenance::Manual`](crate::Maintenance::Manual).
///
/// ```
/// # use streamlog::{Maintenance, Stream, StreamOptions, extend};
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path())?;
/// let path = directory.path().join("audit");
/// let audit = StreamOptions::new().maintenance(Maintenance::Manual).open(&path)?;
/// extend::add_companion(&stream, audit.clone())?;
/// audit.put("user-17", "logged in")?;
/// stream.sync()?; // both
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// `Closed`; then the other stream is left as it is.
pub fn add_companion(stream: &Stream, companion: Stream) -> Result<()> {
    // As closing does, under the lock: one that comes too late is not forgotten.
    let mut companions = stream.core().extensions.companions.lock();
    drop(stream.core().topology.manifest_to_change()?);
    companions.push(companion);
    Ok(())
}

/// Takes a companion off again, by its path, after what is being done with it; it stays open as long as anybody has a clone.
pub fn remove_companion(stream: &Stream, path: &Path) {
    stream.core().extensions.companions.lock().retain(|companion| companion.core().path != path);
}

/// A hold on retention, by its name; made by [`hold()`].
#[derive(Debug, Clone, Copy)]
pub struct Hold<'a> {
    stream: &'a Stream,
    name: &'a str,
}

/// Returns the hold of a name, whether it is set or not. A set hold keeps retention back for a reader that must miss no record: records
/// that it has not [released](Hold::release) stay.
///
/// The manifest keeps the hold itself, but not what was released: each time the stream is opened, everything is held until it is
/// released again. [`Stream::describe`] lists the holds that are set.
///
/// ```
/// # use streamlog::{Position, Stream, extend};
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path())?;
/// let export = extend::hold(&stream, "export");
/// export.set(1 << 30)?;
/// let receipt = stream.put("user-17", "clicked")?;
/// // ... once it is exported:
/// export.release(receipt.shard, receipt.sequence.plus(1));
/// // ... once nothing is exported any more:
/// export.end()?;
/// assert!(stream.describe().holds.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn hold<'a>(stream: &'a Stream, name: &'a str) -> Hold<'a> {
    Hold { stream, name }
}

impl Hold<'_> {
    /// Sets the hold, or changes its bound: it keeps up to `bytes_max` bytes of segments beyond what retention keeps. Where several
    /// holds are set, the largest bound counts for all.
    ///
    /// # Errors
    /// As [`Stream::set_retention`]; `InvalidArgument` for a bound of 0.
    pub fn set(&self, bytes_max: u64) -> Result<()> {
        if bytes_max == 0 {
            return Err(Error::InvalidArgument(
                "a hold of 0 bytes holds nothing: end the hold instead".into(),
            ));
        }
        hold::set(&self.stream.core().topology, self.name, bytes_max)
    }

    /// Ends the hold, if it is set.
    ///
    /// # Errors
    /// As [`Stream::set_retention`].
    pub fn end(&self) -> Result<()> {
        hold::end(&self.stream.core().topology, self.name)
    }

    /// Releases the records of a shard before a sequence number: retention may drop them.
    pub fn release(&self, shard: ShardId, before: SequenceNumber) {
        hold::release(&self.stream.core().topology, self.name, shard, before);
    }
}
