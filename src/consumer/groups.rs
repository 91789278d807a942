//! The consumer groups of a stream, by their names.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use super::checkpoints::{logs_of, reader_of};
use super::describe::{Committed, GroupDescription, describe_elsewhere};
use super::group::GroupState;
use crate::{Error, Position, Result, Stream, StreamReader, extend};

/// The open groups of a stream.
#[derive(Debug, Default)]
struct Groups {
    open: Mutex<OpenGroups>,
    is_attended: OnceLock<()>,
}

impl Groups {
    /// Returns the groups of a stream. Its maintenance attends to them from the first call on, if this process has it open.
    fn of(stream: &StreamReader) -> Arc<Self> {
        let groups = extend::extension::<Self>(stream);
        groups.is_attended.get_or_init(|| {
            let groups = Arc::downgrade(&groups);
            extend::after_maintenance(stream, move |_| {
                let Some(groups) = groups.upgrade() else { return };
                let open = groups.open.lock();
                let states: Vec<_> = open.by_name.values().map(|group| Arc::clone(&group.state)).collect();
                drop(open);
                // Without the lock: this may run tasks, and they may open groups.
                states.iter().for_each(|state| state.attend());
            });
        });
        groups
    }
}

#[derive(Debug, Default)]
struct OpenGroups {
    by_name: BTreeMap<String, OpenGroup>,
}

#[derive(Debug)]
struct OpenGroup {
    state: Arc<GroupState>,
    user_count: usize,
}

impl OpenGroups {
    /// Notes that a user of a group leaves. A group without users is closed, so that another process may open it.
    fn leave(&mut self, stream: &StreamReader, name: &str, state: &Arc<GroupState>) {
        // It may have been deleted, and created again, meanwhile.
        let of_name = self.by_name.get_mut(name).filter(|known| Arc::ptr_eq(&known.state, state));
        let Some(known) = of_name else { return };
        known.user_count -= 1;
        let log = state.checkpoints.log();
        // If commits cannot be synced, the files stay open, and syncing or closing the stream reports it.
        if known.user_count == 0 && log.sync().is_ok() {
            extend::remove_companion(stream, log);
            let _ = state.checkpoints.close();
            self.by_name.remove(name);
        }
    }
}

/// A consumer group of a stream. [`Stream::group`] returns it by name. Cloning it is cheap.
///
/// The workers of a group share the shards of the stream. One worker at a time reads a shard, and the group stores a checkpoint for each
/// shard. A stream may have any number of groups, and each of them reads the whole stream.
///
/// ```
/// # use std::time::Duration;
/// # use streamlog::{Position, Stream};
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path())?;
/// let billing = stream.group("billing");
/// let mut worker = billing.worker().open()?;
/// stream.put("user-17", "clicked")?;
/// let batch = worker.poll(Duration::from_secs(1))?.expect("a record was put");
/// assert_eq!(billing.describe()?.lag().record_count, 1);
/// worker.commit(&batch)?;
/// assert_eq!(billing.describe()?.lag().record_count, 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A group may run in any process, even in one that only reads the stream, but in only one process at a time: see [`StreamReader::group`].
#[derive(Debug, Clone)]
pub struct Group {
    pub(super) reader: StreamReader,
    /// Keeps the stream open, if the group comes from a stream and not from a reader.
    _stream: Option<Stream>,
    name: String,
}

impl Stream {
    /// Returns the consumer group of this name. Opening its first worker creates it.
    ///
    /// A name has 1 to 128 letters, digits, `.`, `_` and `-`, like that of a consumer in Kinesis. It must not begin with `.`.
    ///
    /// ```
    /// # use streamlog::Stream;
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// let worker = stream.group("billing").worker().open()?;
    /// assert_eq!(worker.group().name(), "billing");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn group(&self, name: impl Into<String>) -> Group {
        let (reader, stream) = (StreamReader::clone(self), Some(self.clone()));
        Group { reader, _stream: stream, name: name.into() }
    }
}

impl StreamReader {
    /// Returns the consumer group of this name, like [`Stream::group`].
    ///
    /// A group may run in a process that does not have the stream open. Its workers and checkpoints work in the same way there. Only one
    /// process at a time can have a group open, from its first worker's opening to its last worker's closing. Other processes get `Locked`,
    /// which names that process. The process needs permission to write in the directory `groups` of the stream.
    ///
    /// A [hold](crate::WorkerOptions::hold) works wherever the group runs, but only the process that has the stream open can set and end it,
    /// with [`extend::hold`](crate::extend::hold()).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use streamlog::{Stream, StreamReader};
    /// # let directory = tempfile::tempdir()?;
    /// let stream = Stream::open(directory.path())?; // in one process
    /// stream.put("user-17", "clicked")?;
    ///
    /// let reader = StreamReader::open(directory.path())?; // in another one
    /// let mut worker = reader.group("billing").worker().open()?;
    /// let batch = worker.poll(Duration::from_secs(1))?.expect("a record was put");
    /// worker.commit(&batch)?;
    /// assert_eq!(stream.group("billing").describe()?.lag().record_count, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn group(&self, name: impl Into<String>) -> Group {
        Group { reader: self.clone(), _stream: None, name: name.into() }
    }

    /// Returns the names of the stream's consumer groups, in order.
    ///
    /// ```
    /// # use streamlog::Stream;
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// let _worker = stream.group("billing").worker().open()?;
    /// assert_eq!(stream.groups()?, ["billing"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `Io`.
    pub fn groups(&self) -> Result<Vec<String>> {
        logs_of(self).names()
    }
}

impl Group {
    /// Returns the group's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns how far the group is behind, shard by shard.
    ///
    /// ```
    /// # use streamlog::Stream;
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// stream.put("user-17", "clicked")?;
    /// let billing = stream.group("billing");
    /// let _worker = billing.worker().open()?;
    /// let described = billing.describe()?;
    /// assert_eq!((described.worker_count, described.lag().record_count), (1, 1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidArgument` if the stream has no such group; `Corrupt` if its checkpoints are damaged; `Closed`, `Io`.
    pub fn describe(&self) -> Result<GroupDescription> {
        extend::check_name("a consumer group", &self.name)?;
        let open = Groups::of(&self.reader);
        let known = open.open.lock().by_name.get(&self.name).map(|known| Arc::clone(&known.state));
        match known {
            Some(known) => known.describe(&self.reader),
            None => {
                let Committed { shards, .. } = self.committed()?;
                Ok(GroupDescription { name: self.name.clone(), worker_count: 0, shards })
            }
        }
    }

    /// Returns what the group has stored, whichever process has it open.
    pub(crate) fn committed(&self) -> Result<Committed> {
        extend::check_name("a consumer group", &self.name)?;
        if self.reader.is_closed() {
            return Err(Error::Closed);
        }
        describe_elsewhere(&self.reader, &self.name).map_err(|error| match error {
            Error::NotAStream(_) => self.is_missing(),
            error => error,
        })
    }

    /// Returns the layer that reads as the group, if it is not only workers; see [`Worker::note_reader`](crate::Worker::note_reader).
    pub(crate) fn reader(&self) -> Result<Option<String>> {
        match reader_of(&self.reader, &self.name) {
            // It has been deleted since it was listed.
            Err(Error::NotAStream(_)) => Ok(None),
            reader => reader,
        }
    }

    /// Moves the group to a position in all shards: `TrimHorizon`, `Latest` or `AtTimestamp`. Workers continue from there, and can no
    /// longer commit records that they read before.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use streamlog::{Position, Stream};
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// let billing = stream.group("billing");
    /// let mut worker = billing.worker().open()?;
    /// stream.put("user-17", "clicked")?;
    /// billing.reset(Position::Latest)?;
    /// assert!(worker.poll(Duration::ZERO)?.is_none(), "the group skips what was put before");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Same as [`describe`](Self::describe); `InvalidArgument` for another position, or for a time in the future; `StorageFull`.
    pub fn reset(&self, position: Position) -> Result<()> {
        self.existing()?.reset(&self.reader, position)
    }

    /// Deletes the group with its checkpoints, even if they are damaged, and with its [hold](crate::WorkerOptions::hold).
    ///
    /// ```
    /// # use streamlog::Stream;
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// let billing = stream.group("billing");
    /// billing.worker().open()?.close();
    /// billing.delete()?;
    /// assert!(stream.groups()?.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidArgument` if the stream has no such group, or if the group has workers; `Closed`, `StorageFull`, `Io`.
    pub fn delete(&self) -> Result<()> {
        let Self { reader: stream, name, .. } = self;
        extend::check_name("a consumer group", name)?;
        let groups = Groups::of(stream);
        let mut open = groups.open.lock();
        if let Some(known) = open.by_name.get(name) {
            // A silent worker counts too, because it may call again.
            let worker_count = known.state.settled().joined_count();
            if worker_count > 0 {
                let reason =
                    format!("the consumer group {name:?} has {worker_count} workers: close them first");
                return Err(Error::InvalidArgument(reason.into()));
            }
            let known = Arc::clone(&known.state);
            open.by_name.remove(name);
            extend::remove_companion(stream, known.checkpoints.log());
            known.checkpoints.close()?;
        }
        if !stream.is_own() && stream.describe().holds.iter().any(|hold| hold.name == *name) {
            let reason = format!(
                "the consumer group {name:?} has a hold on retention: delete it in the process that has the stream open"
            );
            return Err(Error::InvalidArgument(reason.into()));
        }
        let deleted = logs_of(stream).delete(name);
        // Also for a group whose deletion was interrupted here.
        if stream.is_own() && matches!(deleted, Ok(()) | Err(Error::NotAStream(_))) {
            extend::hold(stream, name).end()?;
        }
        match deleted {
            Err(Error::NotAStream(_)) => Err(self.is_missing()),
            deleted => deleted,
        }
    }

    fn existing(&self) -> Result<GroupInUse> {
        Ok(self.open(None, false, |_| Ok(()))?.0)
    }

    /// Opens the group, and runs `work` with its state; the group is not deleted meanwhile. A new group begins at `start`; without `start`, the
    /// group must exist.
    pub(super) fn open<T>(
        &self,
        start: Option<Position>,
        must_salvage: bool,
        work: impl FnOnce(&GroupState) -> Result<T>,
    ) -> Result<(GroupInUse, T)> {
        let Self { reader: stream, name, .. } = self;
        extend::check_name("a consumer group", name)?;
        let groups = Groups::of(stream);
        let mut open = groups.open.lock();
        if stream.is_closed() {
            return Err(Error::Closed);
        }
        if !open.by_name.contains_key(name) {
            if start.is_none() && !stream.groups()?.contains(name) {
                return Err(self.is_missing());
            }
            let start = start.unwrap_or(Position::TrimHorizon);
            let state = Arc::new(GroupState::open(stream, name, start, must_salvage)?);
            if !stream.is_own() {
                // The stream's maintenance runs in another process. That of the checkpoints runs here.
                let weak = Arc::downgrade(&state);
                extend::after_maintenance(state.checkpoints.log(), move |_| {
                    if let Some(state) = weak.upgrade() {
                        state.attend();
                    }
                });
            }
            open.by_name.insert(name.clone(), OpenGroup { state, user_count: 0 });
        }
        let known = open.by_name.get_mut(name).expect("it is open by now");
        known.user_count += 1;
        let state = Arc::clone(&known.state);
        let outcome = work(&state);
        drop(open);
        // If `work` has failed, the group is not used after all.
        let in_use = GroupInUse { group: self.clone(), state };
        outcome.map(|outcome| (in_use, outcome))
    }

    fn is_missing(&self) -> Error {
        Error::InvalidArgument(format!("the stream has no consumer group {:?}", self.name).into())
    }
}

/// The state of a group, which stays open until this is dropped.
#[derive(Debug)]
pub(super) struct GroupInUse {
    group: Group,
    state: Arc<GroupState>,
}

impl Deref for GroupInUse {
    type Target = GroupState;

    fn deref(&self) -> &GroupState {
        &self.state
    }
}

impl Drop for GroupInUse {
    fn drop(&mut self) {
        let Group { reader: stream, name, .. } = &self.group;
        Groups::of(stream).open.lock().leave(stream, name, &self.state);
    }
}
