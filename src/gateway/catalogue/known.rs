//! A stream as Kinesis knows it: its log, its settings and its state.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

use super::history::History;
use super::queues::Queues;
use super::settings::{Mode, Settings};
use super::{Behaviour, Pipes, internal, missing};
use crate::gateway::fault::{Answered, Fault};
use crate::gateway::sequence::ShardNumbers;
use crate::{
    ConsumerDescription, Durability, Error, HOUR, KeyHash, Result, Retention, Scaling, ShardDescription,
    ShardFilter, ShardId, Stream, StreamOptions, Timestamp, limits,
};

/// The property of the stream that holds its settings.
const PROPERTY: &str = "kinesis";
/// The largest record of any stream of Kinesis, with the longest key, in bytes.
const RECORD_BYTES_MAX: u64 = (10 << 20) + limits::PARTITION_KEY_BYTES_MAX as u64;
/// The fewest shards that scaling by load leaves a stream on demand, unless the stream had fewer when it was switched to that mode.
const ON_DEMAND_SHARDS_MIN: u32 = 4;

/// The state of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::gateway) enum Status {
    Creating,
    Active,
    Updating,
    Deleting,
}

impl Status {
    pub(in crate::gateway) fn name(self) -> &'static str {
        match self {
            Self::Creating => "CREATING",
            Self::Active => "ACTIVE",
            Self::Updating => "UPDATING",
            Self::Deleting => "DELETING",
        }
    }
}

/// A stream as Kinesis knows it: the log, and the settings and state that the log lacks.
pub(in crate::gateway) struct Known {
    pub(in crate::gateway) name: String,
    pub(in crate::gateway) stream: Stream,
    pub(in crate::gateway) created_at: Timestamp,
    /// Whether a put waits for the disk.
    pub(in crate::gateway) puts_wait: bool,
    /// The subscriptions that are open.
    pub(in crate::gateway) pipes: Pipes,
    /// Its activity in the last day, as far as it was open.
    pub(in crate::gateway) history: Mutex<History>,
    pub(super) behaviour: Arc<Behaviour>,
    /// Replaced as a whole, so that readers do not hold up a change.
    settings: RwLock<Arc<Settings>>,
    /// Locked while settings or shards change.
    changes: Mutex<()>,
    /// When it was last changed, in milliseconds. A change is made immediately when it is requested, so nothing is lost if the server ends.
    updated_at: AtomicU64,
    /// When its deletion began, in milliseconds; only if the settings say that it is being deleted.
    deleted_at: AtomicU64,
    numbers: RwLock<HashMap<ShardId, ShardNumbers>>,
    /// The state of the queues that is not in the settings. Locked after `changes`.
    pub(super) queues: Mutex<Queues>,
    /// Consumers that were removed, and when, until they are gone.
    removed: Mutex<HashMap<String, (ConsumerDescription, Timestamp)>>,
}

impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Known").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A consumer and its state.
#[derive(Debug, Clone)]
pub(in crate::gateway) struct ConsumerState {
    pub(in crate::gateway) description: ConsumerDescription,
    pub(in crate::gateway) status: Status,
}

impl ConsumerState {
    /// Returns when it was registered, in seconds, as in its ARN.
    pub(in crate::gateway) fn created_seconds(&self) -> u64 {
        self.description.created_at.as_millis() / 1_000
    }
}

impl Known {
    /// Returns the options with which a stream is created.
    pub(super) fn options(options: StreamOptions, shard_count: u32, settings: &Settings) -> StreamOptions {
        options
            .shards(shard_count)
            .key_hash(KeyHash::Md5)
            .record_bytes_max(RECORD_BYTES_MAX)
            .retention(Retention::age(settings.retention_hours * HOUR))
            .property(PROPERTY, to_text(settings))
    }

    /// Returns an opened stream with its settings.
    pub(super) fn load(name: &str, stream: Stream, behaviour: &Arc<Behaviour>) -> Result<Self> {
        let description = stream.describe();
        let mut settings = match description.properties.get(PROPERTY) {
            Some(text) => serde_json::from_str(text).map_err(|error| {
                let reason = format!("the property {PROPERTY} of the stream {name} cannot be read: {error}");
                Error::InvalidArgument(reason.into())
            })?,
            None => Settings::default(),
        };
        // The owner of the store may have changed it.
        if let Some(age) = description.retention.age {
            settings.retention_hours = u32::try_from(age.as_secs() / HOUR.as_secs()).unwrap_or(u32::MAX);
        }
        stream.set_limits(behaviour.limits)?;
        let known = Self {
            name: name.to_owned(),
            created_at: description.created_at,
            puts_wait: description.durability == Durability::Power,
            pipes: Pipes::default(),
            history: Mutex::new(History::new(stream.now(), &stream.stats()?)),
            behaviour: Arc::clone(behaviour),
            changes: Mutex::default(),
            updated_at: AtomicU64::default(),
            deleted_at: AtomicU64::default(),
            numbers: RwLock::default(),
            queues: Mutex::default(),
            removed: Mutex::default(),
            settings: RwLock::new(Arc::new(settings)),
            stream,
        };
        known.apply_mode()?;
        known.delete_unknown_queues();
        Ok(known)
    }

    pub(in crate::gateway) fn now(&self) -> Timestamp {
        self.stream.now()
    }

    /// Returns the current settings.
    pub(in crate::gateway) fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read())
    }

    pub(in crate::gateway) fn arn(&self) -> String {
        self.behaviour.account.stream_arn(&self.name)
    }

    pub(in crate::gateway) fn consumer_arn(&self, consumer: &ConsumerState) -> String {
        self.behaviour.account.consumer_arn(
            &self.name,
            &consumer.description.name,
            consumer.created_seconds(),
        )
    }

    pub(in crate::gateway) fn account_id(&self) -> &str {
        &self.behaviour.account.id
    }

    pub(in crate::gateway) fn status(&self, now: Timestamp) -> Status {
        if self.settings.read().is_deleting {
            Status::Deleting
        } else if self.is_shown(self.created_at, now) {
            Status::Creating
        } else if self.is_shown(self.updated_at(), now) {
            Status::Updating
        } else {
            Status::Active
        }
    }

    fn updated_at(&self) -> Timestamp {
        Timestamp::from_millis(self.updated_at.load(Ordering::Relaxed))
    }

    /// Returns whether a change that began at a time is still shown. If the clock was set back since then, it is not.
    pub(super) fn is_shown(&self, began: Timestamp, now: Timestamp) -> bool {
        began <= now && now < began + self.behaviour.delay
    }

    /// Returns whether it counts as deleted, although its files may still be there.
    pub(in crate::gateway) fn is_gone(&self, now: Timestamp) -> bool {
        let deleted_at = Timestamp::from_millis(self.deleted_at.load(Ordering::Relaxed));
        !self.is_shown(deleted_at, now) && self.settings.read().is_deleting
    }

    /// Fails unless data can be put and read.
    pub(in crate::gateway) fn check_readable(&self) -> Answered<()> {
        match self.status(self.now()) {
            Status::Creating => Err(missing(&self.name, self.account_id())),
            _ => Ok(()),
        }
    }

    /// Returns the answer to an error of the log. If the stream is closed, it was deleted in the meantime, and its files were missing.
    pub(in crate::gateway) fn failed(&self, error: &Error) -> Fault {
        match error {
            Error::KeyUnavailable(_) => {
                tracing::error!(%error, stream = self.name, "a key is not available");
                Fault::key_unavailable("The key that encrypts the stream is not available to the gateway.")
            }
            _ if self.stream.is_closed() => missing(&self.name, self.account_id()),
            error => internal(error),
        }
    }

    /// Makes a change of settings or shards. It is made immediately, and shown as in progress for a while.
    pub(in crate::gateway) fn change<T>(
        &self,
        change: impl FnOnce(&Changing<'_>) -> Answered<T>,
    ) -> Answered<T> {
        let _alone = self.changes.lock();
        let now = self.now();
        self.check_active(now)?;
        let changed = change(&Changing { known: self, now })?;
        self.updated_at.store(now.as_millis(), Ordering::Relaxed);
        Ok(changed)
    }

    /// Makes a change that takes no time, such as that of a tag.
    pub(in crate::gateway) fn change_now<T>(
        &self,
        change: impl FnOnce(&Changing<'_>) -> Answered<T>,
    ) -> Answered<T> {
        let _alone = self.changes.lock();
        change(&Changing { known: self, now: self.now() })
    }

    /// Fails unless the stream is active.
    pub(in crate::gateway) fn check_active(&self, now: Timestamp) -> Answered<()> {
        match self.status(now) {
            Status::Active => Ok(()),
            status => Err(Fault::in_use(format!(
                "Stream {} under account {} not ACTIVE, instead in state {}",
                self.name,
                self.behaviour.account.id,
                status.name()
            ))),
        }
    }

    /// Marks the stream as deleted, unless `check` fails.
    pub(in crate::gateway) fn begin_deleting(&self, check: impl FnOnce() -> Answered<()>) -> Answered<()> {
        self.change_now(|changing| {
            self.check_active(changing.now)?;
            check()?;
            // A crash before the settings are written leaves the stream; a crash afterwards leaves a stream that the next start deletes.
            self.deleted_at.store(changing.now.as_millis(), Ordering::Relaxed);
            changing.set(|settings| settings.is_deleting = true)
        })
    }

    /// Turns scaling by load on or off, as the mode requires.
    fn apply_mode(&self) -> Result<()> {
        let mode = self.settings.read().mode;
        // A change of the mode itself changes no shard.
        let min = self.open_shard_count().min(ON_DEMAND_SHARDS_MIN);
        self.stream.set_scaling(match mode {
            Mode::Provisioned => Scaling::provisioned(),
            Mode::OnDemand => Scaling::on_demand(min, limits::SHARD_COUNT_MAX),
        })
    }

    pub(in crate::gateway) fn open_shard_count(&self) -> u32 {
        self.stream.list_shards(ShardFilter::AtLatest).len() as u32
    }

    /// Returns the shards that are listed: none while the stream is being created.
    pub(in crate::gateway) fn shards(&self) -> Vec<ShardDescription> {
        match self.status(self.now()) {
            Status::Creating => vec![],
            _ => self.stream.shards(),
        }
    }

    /// Returns a shard that is listed.
    pub(in crate::gateway) fn shard(&self, id: ShardId) -> Option<ShardDescription> {
        self.shards().into_iter().find(|shard| shard.id == id)
    }

    /// Returns the numbers of a shard that exists.
    pub(in crate::gateway) fn numbers(&self, id: ShardId) -> Option<ShardNumbers> {
        if let Some(numbers) = self.numbers.read().get(&id) {
            return Some(*numbers);
        }
        let all: HashMap<_, _> =
            self.stream.shards().iter().map(|shard| (shard.id, ShardNumbers::of(shard))).collect();
        let numbers = all.get(&id).copied();
        *self.numbers.write() = all;
        numbers
    }

    /// Returns the consumers, with those that are being removed, sorted by name.
    pub(in crate::gateway) fn consumers(&self) -> Answered<Vec<ConsumerState>> {
        let now = self.now();
        let registered = self.stream.consumers().map_err(|error| self.failed(&error))?;
        let mut removed = self.removed.lock();
        removed.retain(|_, (_, removed_at)| self.is_shown(*removed_at, now));
        let registered = registered.into_iter().map(|description| {
            let is_new = self.is_shown(description.created_at, now);
            ConsumerState { description, status: if is_new { Status::Creating } else { Status::Active } }
        });
        let removed = removed.values().map(|(description, _)| ConsumerState {
            description: description.clone(),
            status: Status::Deleting,
        });
        let mut consumers: Vec<_> = registered.chain(removed).collect();
        consumers.sort_by(|a, b| a.description.name.cmp(&b.description.name));
        Ok(consumers)
    }

    pub(in crate::gateway) fn consumer(&self, name: &str) -> Answered<Option<ConsumerState>> {
        Ok(self.consumers()?.into_iter().find(|consumer| consumer.description.name == name))
    }

    /// Removes a consumer. It is shown for a while longer. Removing it again meanwhile changes nothing.
    pub(in crate::gateway) fn remove_consumer(&self, consumer: &ConsumerState) -> Answered<()> {
        let ConsumerState { description, .. } = consumer;
        self.change_now(|changing| {
            if self.consumer(&description.name)?.is_none_or(|current| current.status == Status::Deleting) {
                return Ok(());
            }
            // A crash in between leaves settings without a consumer, which have no effect.
            self.stream.deregister_consumer(&description.name).map_err(|error| self.failed(&error))?;
            changing.set(|settings| drop(settings.consumers.remove(&description.name)))?;
            self.removed.lock().insert(description.name.clone(), (description.clone(), changing.now));
            Ok(())
        })
    }
}

/// A stream that no other request changes meanwhile.
pub(in crate::gateway) struct Changing<'a> {
    known: &'a Known,
    pub(in crate::gateway) now: Timestamp,
}

impl Changing<'_> {
    /// Changes the settings, durably.
    pub(in crate::gateway) fn set(&self, change: impl FnOnce(&mut Settings)) -> Answered<()> {
        let mut settings = Settings::clone(&self.known.settings());
        let mode = settings.mode;
        change(&mut settings);
        let text = to_text(&settings);
        if text.len() > limits::PROPERTY_BYTES_MAX {
            let reason = "The tags and policies of the stream, its consumers and its queues take more room than a stream has.";
            return Err(Fault::limit(reason));
        }
        self.known.stream.set_property(PROPERTY, Some(&text)).map_err(|error| self.known.failed(&error))?;
        let changed_mode = settings.mode != mode;
        *self.known.settings.write() = Arc::new(settings);
        if changed_mode {
            // A crash before this is harmless: the mode is applied when the stream is opened.
            self.known.apply_mode().map_err(|error| self.known.failed(&error))?;
        }
        Ok(())
    }
}

fn to_text(settings: &Settings) -> String {
    serde_json::to_string(settings).expect("settings can be written")
}
