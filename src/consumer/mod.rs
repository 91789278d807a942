//! Consumer groups: many workers that share the shards of a stream, and remember how far they are.

mod checkpoint;
mod checkpoints;
mod describe;
mod group;
mod leases;
mod options;
mod readable;
mod start;
mod worker;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::{Error, Position, Result, Stream};

pub use describe::{GroupDescription, GroupShard};
pub use leases::WorkerId;
pub use options::{ConsumerOptions, OnTrimmed};
pub use worker::Worker;

use checkpoints::groups_dir;
use group::Group;

/// The longest name of a group, as that of a consumer in Kinesis.
const NAME_BYTES_MAX: usize = 128;

/// The groups of a stream that somebody has used since it was opened.
#[derive(Debug, Default)]
struct Groups {
    open: Mutex<BTreeMap<String, Arc<Group>>>,
}

impl Stream {
    /// How a worker joins a consumer group, and reads the stream together with the group's other workers; ends with
    /// [`ConsumerOptions::open`]. Any number of groups read a stream, each all of it.
    ///
    /// A group's name has 1 to 128 letters, digits, `.`, `_` and `-`, as that of a consumer in Kinesis, and does not begin with `.`.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use streamlog::{Position, Stream};
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// let mut worker = stream.consumer("billing").start(Position::Latest).open()?;
    /// stream.put("user-17", "clicked")?;
    /// let batch = worker.poll(Duration::from_secs(1))?.expect("a record was put");
    /// worker.commit(&batch)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn consumer(&self, group: impl Into<String>) -> ConsumerOptions {
        ConsumerOptions::new(self.clone(), group.into())
    }

    /// The names of the stream's consumer groups, in order.
    ///
    /// ```
    /// # use streamlog::Stream;
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// let _worker = stream.consumer("billing").open()?;
    /// assert_eq!(stream.groups()?, ["billing"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `Io`.
    pub fn groups(&self) -> Result<Vec<String>> {
        let paths = Self::list(groups_dir(self))?;
        let names = paths.iter().filter_map(|path| path.file_name());
        Ok(names.map(|name| name.to_string_lossy().into_owned()).collect())
    }

    /// How far a group is behind, shard by shard.
    ///
    /// ```
    /// # use streamlog::Stream;
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// stream.put("user-17", "clicked")?;
    /// let _worker = stream.consumer("billing").open()?;
    /// let group = stream.describe_group("billing")?;
    /// assert_eq!((group.worker_count, group.lag().record_count), (1, 1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidArgument` if there is no such group; `Corrupt` if its checkpoints are damaged; `Closed`, `Io`.
    pub fn describe_group(&self, group: &str) -> Result<GroupDescription> {
        self.existing_group(group)?.describe(self)
    }

    /// Puts a group to a position in all shards: `TrimHorizon`, `Latest` or `AtTimestamp`. Workers go on from there; what they have not
    /// committed they cannot commit any more.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use streamlog::{Position, Stream};
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// let mut worker = stream.consumer("billing").open()?;
    /// stream.put("user-17", "clicked")?;
    /// stream.reset_group("billing", Position::Latest)?;
    /// assert!(worker.poll(Duration::ZERO)?.is_none(), "what was put before is passed over");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`describe_group`](Self::describe_group); `InvalidArgument` for another position, or a time in the future; `StorageFull`.
    pub fn reset_group(&self, group: &str, position: Position) -> Result<()> {
        self.existing_group(group)?.reset(self, position)
    }

    /// Deletes a group with its checkpoints, also where they are damaged, and with what it [holds](ConsumerOptions::hold).
    ///
    /// ```
    /// # use streamlog::Stream;
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// stream.consumer("billing").open()?.close();
    /// stream.delete_group("billing")?;
    /// assert!(stream.groups()?.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidArgument` if there is no such group, or if it has workers; `Io`.
    pub fn delete_group(&self, group: &str) -> Result<()> {
        check_name(group)?;
        let path = groups_dir(self).join(group);
        let groups = self.extension::<Groups>();
        let mut open = groups.open.lock();
        if let Entry::Occupied(known) = open.entry(group.to_owned()) {
            // A silent one too: it may speak again.
            let worker_count = known.get().settled().joined_count();
            if worker_count > 0 {
                let reason =
                    format!("the consumer group {group:?} has {worker_count} workers: close them first");
                return Err(Error::InvalidArgument(reason.into()));
            }
            let known = known.remove();
            self.remove_companion(&path);
            known.checkpoints.close()?;
        }
        self.remove_hold(group)?;
        match Self::delete(&path) {
            Err(Error::NotAStream(_)) => Err(no_such_group(group)),
            deleted => deleted,
        }
    }

    fn existing_group(&self, group: &str) -> Result<Arc<Group>> {
        check_name(group)?;
        if !self.groups()?.iter().any(|name| name == group) {
            return Err(no_such_group(group));
        }
        self.open_group(group, Position::TrimHorizon, false, |group| Ok(Arc::clone(group)))
    }

    /// Does something with the group of that name, which is not deleted meanwhile; one that is new begins at a position.
    fn open_group<T>(
        &self,
        name: &str,
        start: Position,
        must_salvage: bool,
        work: impl FnOnce(&Arc<Group>) -> Result<T>,
    ) -> Result<T> {
        check_name(name)?;
        let groups = self.extension::<Groups>();
        let mut open = groups.open.lock();
        if self.is_closed() {
            return Err(Error::Closed);
        }
        match open.entry(name.to_owned()) {
            Entry::Occupied(known) => work(known.get()),
            Entry::Vacant(unknown) => {
                work(unknown.insert(Arc::new(Group::open(self, name, start, must_salvage)?)))
            }
        }
    }
}

fn check_name(name: &str) -> Result<()> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if (1..=NAME_BYTES_MAX).contains(&name.len())
        && !name.starts_with('.')
        && !name.ends_with(".deleted")
        && name.bytes().all(is_plain)
    {
        return Ok(());
    }
    let reason = format!(
        "{name:?} is no name of a consumer group: it has 1 to {NAME_BYTES_MAX} letters, digits, '.', '_' and '-', and does not \
         begin with '.' or end with \".deleted\""
    );
    Err(Error::InvalidArgument(reason.into()))
}

fn no_such_group(group: &str) -> Error {
    Error::InvalidArgument(format!("the stream has no consumer group {group:?}").into())
}
