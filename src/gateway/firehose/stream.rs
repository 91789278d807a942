//! A delivery stream: its definition, the stream of the log behind it, and the delivery that runs.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};

use super::definition::{Definition, Source};
use crate::delivery::{Delivery, DeliveryStats};
use crate::gateway::catalogue::{Behaviour, Status, internal};
use crate::gateway::fault::{Answered, Fault};
use crate::{Clock, Error, Result, Stream, Timestamp, limits};

/// The property of a stream that holds a definition.
pub(super) const PROPERTY: &str = "firehose";

/// A delivery stream.
///
/// Behind each is a stream of the log with the definition as its property, so it is created with its definition or not at all. If its source is
/// `DirectPut`, that stream has the records, too.
pub(in crate::gateway) struct DeliveryStream {
    pub(in crate::gateway) name: String,
    pub(in crate::gateway) arn: String,
    pub(in crate::gateway) stream: Stream,
    pub(in crate::gateway) created_at: Timestamp,
    pub(super) behaviour: Arc<Behaviour>,
    /// Replaced as a whole, so that readers do not hold up a change.
    definition: RwLock<Arc<Definition>>,
    /// Locked while the definition changes.
    changes: Mutex<()>,
    /// When its deletion began, in milliseconds; only if the definition says that it is being deleted.
    deleted_at: AtomicU64,
    pub(super) runner: Mutex<Runner>,
    /// Records and bytes that were put, since it was opened.
    pub(in crate::gateway) put_records: AtomicU64,
    pub(in crate::gateway) put_bytes: AtomicU64,
    pub(super) is_gone: AtomicBool,
}

/// The delivery of a delivery stream.
#[derive(Debug, Default)]
pub(super) struct Runner {
    pub(super) delivery: Option<Delivery>,
    /// The version of the definition that it has.
    pub(super) version: u64,
    /// A thread ends the delivery or starts another one.
    pub(super) is_busy: bool,
    pub(super) thread: Option<JoinHandle<()>>,
    /// How often in a row it failed to start.
    pub(super) failures: u32,
    /// Not to be started before.
    pub(super) retry_at: Duration,
}

impl fmt::Debug for DeliveryStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeliveryStream").field("name", &self.name).finish_non_exhaustive()
    }
}

impl DeliveryStream {
    /// Returns the delivery stream of a stream of the log, or `None` if that has no definition.
    pub(super) fn load(name: &str, stream: Stream, behaviour: &Arc<Behaviour>) -> Result<Option<Self>> {
        let description = stream.describe();
        let Some(text) = description.properties.get(PROPERTY) else { return Ok(None) };
        let definition: Definition = serde_json::from_str(text).map_err(|error| {
            let reason = format!("the definition of the delivery stream {name} cannot be read: {error}");
            Error::InvalidArgument(reason.into())
        })?;
        if definition.encryption.key.is_some() {
            // A crash may have left it unencrypted.
            stream.set_encrypted(true)?;
        }
        Ok(Some(Self {
            name: name.to_owned(),
            arn: behaviour.account.delivery_stream_arn(name),
            created_at: description.created_at,
            behaviour: Arc::clone(behaviour),
            definition: RwLock::new(Arc::new(definition)),
            changes: Mutex::default(),
            deleted_at: AtomicU64::default(),
            runner: Mutex::default(),
            put_records: AtomicU64::default(),
            put_bytes: AtomicU64::default(),
            is_gone: AtomicBool::new(false),
            stream,
        }))
    }

    pub(in crate::gateway) fn now(&self) -> Timestamp {
        self.stream.now()
    }

    pub(super) fn clock(&self) -> &Arc<dyn Clock> {
        self.stream.clock()
    }

    /// Returns the current definition.
    pub(in crate::gateway) fn definition(&self) -> Arc<Definition> {
        Arc::clone(&self.definition.read())
    }

    /// Returns whether a change that began at a time is still shown.
    pub(in crate::gateway) fn is_shown(&self, began: Timestamp) -> bool {
        let now = self.now();
        began <= now && now < began + self.behaviour.delay
    }

    pub(in crate::gateway) fn status(&self) -> Status {
        if self.definition().is_deleting {
            Status::Deleting
        } else if self.is_shown(self.created_at) {
            Status::Creating
        } else {
            Status::Active
        }
    }

    /// Returns whether it is time to delete everything of it.
    pub(super) fn is_to_go(&self) -> bool {
        let deleted_at = Timestamp::from_millis(self.deleted_at.load(Ordering::Relaxed));
        self.definition().is_deleting && !self.is_shown(deleted_at)
    }

    /// Returns what its delivery has done since it was started.
    pub(in crate::gateway) fn stats(&self) -> Option<DeliveryStats> {
        self.runner.lock().delivery.as_ref().map(Delivery::stats)
    }

    /// Returns the version of the settings with which its delivery runs.
    #[cfg(test)]
    pub(in crate::gateway) fn running_version(&self) -> Option<u64> {
        let runner = self.runner.lock();
        runner.delivery.as_ref().map(|_| runner.version)
    }

    /// Fails unless it is active.
    pub(in crate::gateway) fn check_active(&self) -> Answered<()> {
        match self.status() {
            Status::Active => Ok(()),
            status => Err(Fault::in_use(format!(
                "Firehose {} under account {} is not ACTIVE, but {}.",
                self.name,
                self.behaviour.account.id,
                status.name()
            ))),
        }
    }

    /// Fails unless records can be put.
    pub(in crate::gateway) fn check_puts(&self) -> Answered<()> {
        if self.status() != Status::Active {
            return Err(missing(&self.name, &self.behaviour.account.id));
        }
        match self.definition().source {
            Source::DirectPut { .. } => Ok(()),
            Source::Kinesis { .. } => Err(Fault::invalid_source(
                "This operation is not permitted on KinesisStreamAsSource delivery stream type.",
            )),
        }
    }

    /// Changes the definition, durably, unless `change` fails.
    pub(in crate::gateway) fn change(
        &self,
        change: impl FnOnce(&mut Definition) -> Answered<()>,
    ) -> Answered<()> {
        self.change_and(change, || Ok(()))
    }

    /// Does the same, and then calls another function before anybody can change the definition again.
    pub(in crate::gateway) fn change_and(
        &self,
        change: impl FnOnce(&mut Definition) -> Answered<()>,
        then: impl FnOnce() -> Answered<()>,
    ) -> Answered<()> {
        let _alone = self.changes.lock();
        let mut definition = Definition::clone(&self.definition());
        change(&mut definition)?;
        let text = to_text(&definition)?;
        self.stream.set_property(PROPERTY, Some(&text)).map_err(|error| self.failed(&error))?;
        *self.definition.write() = Arc::new(definition);
        then()
    }

    /// Marks it as deleted, unless it is being created. Repeating this changes nothing.
    pub(super) fn begin_deleting(&self) -> Answered<()> {
        self.change(|definition| {
            if self.status() == Status::Creating {
                return self.check_active();
            }
            if !definition.is_deleting {
                definition.is_deleting = true;
                self.deleted_at.store(self.now().as_millis(), Ordering::Relaxed);
            }
            Ok(())
        })
    }

    /// Returns the answer to an error of the log.
    pub(in crate::gateway) fn failed(&self, error: &Error) -> Fault {
        match error {
            _ if self.stream.is_closed() => missing(&self.name, &self.behaviour.account.id),
            Error::KeyUnavailable(_) => {
                tracing::error!(%error, delivery_stream = self.name, "a key is not available");
                Fault::invalid_key("The key that encrypts the records is not available to this server.")
            }
            Error::StorageFull(_) => {
                tracing::error!(%error, delivery_stream = self.name, "there is no room for records");
                Fault::unavailable("There is no room for records now. Try again later.")
            }
            error => internal(error),
        }
    }
}

/// Returns the text of a definition, or the error if it takes more room than a property has.
pub(super) fn to_text(definition: &Definition) -> Answered<String> {
    let text = serde_json::to_string(definition).map_err(|_| Fault::internal())?;
    match text.len() > limits::PROPERTY_BYTES_MAX {
        true => Err(Fault::limit("The settings and tags of the delivery stream take more room than it has.")),
        false => Ok(text),
    }
}

/// Returns the error of a delivery stream that does not exist.
pub(super) fn missing(name: &str, account: &str) -> Fault {
    Fault::not_found(format!("Firehose {name} under account {account} not found."))
}
