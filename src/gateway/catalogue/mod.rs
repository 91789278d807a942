//! The streams of a gateway: those of its store, with Kinesis' settings and state that the log lacks.

mod history;
mod janitor;
mod known;
mod pipes;
mod queues;
mod recorder;
mod settings;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::task::block_in_place;

use super::fault::{Answered, Fault};
#[cfg(feature = "delivery")]
use super::names::OWN_FILES;
use super::names::{Account, is_stream_name};
use crate::{Error, Limits, Store, StreamOptions};

pub(super) use history::{Activity, Behind, Line, Reader};
pub(super) use janitor::Janitor;
pub(super) use known::{ConsumerState, Known, Status};
pub(super) use pipes::{Pipe, Pipes};
pub(super) use queues::{QueueState, no_queue};
pub(super) use recorder::Recorder;
pub(super) use settings::{ConsumerSettings, Mode, QueueSettings, QueueStart, Settings, Strategy};

/// How the streams behave.
#[derive(Debug, Clone)]
pub(super) struct Behaviour {
    pub(super) account: Account,
    /// How long a stream or a consumer is being created, changed or deleted.
    pub(super) delay: Duration,
    /// The limits of each shard for puts and reads. If there are limits, the quotas of operations apply, too.
    pub(super) limits: Limits,
    /// How many shards all streams may have together.
    pub(super) shards_max: u32,
    /// How streams are created.
    pub(super) options: StreamOptions,
}

impl Behaviour {
    /// Returns whether quotas apply, such as ten changes of the number of shards a day.
    pub(super) fn has_quotas(&self) -> bool {
        self.limits != Limits::none()
    }
}

/// The streams of a store, by name.
#[derive(Debug)]
pub(super) struct Catalogue {
    store: Store,
    behaviour: Arc<Behaviour>,
    /// Those that have been requested. Never locked while waiting for the disk: requests lock it on threads of the runtime.
    known: RwLock<HashMap<String, Arc<Known>>>,
    /// Locked while a stream is created or deleted.
    lifecycle: Mutex<()>,
    /// Locked while a queue is created, because its name must be unique among the queues of all streams.
    queue_names: Mutex<()>,
    /// Changes only while the streams are locked.
    is_closed: AtomicBool,
}

impl Catalogue {
    pub(super) fn new(store: Store, behaviour: Behaviour) -> Self {
        Self {
            store,
            behaviour: Arc::new(behaviour),
            known: RwLock::default(),
            lifecycle: Mutex::default(),
            queue_names: Mutex::default(),
            is_closed: AtomicBool::new(false),
        }
    }

    pub(super) fn behaviour(&self) -> &Arc<Behaviour> {
        &self.behaviour
    }

    /// Returns an existing stream, in any state.
    pub(super) fn stream(&self, name: &str) -> Answered<Arc<Known>> {
        if let Some(known) = self.opened(name) {
            return Ok(known);
        }
        if !is_stream_name(name) {
            return Err(self.missing(name));
        }
        let load = || Known::load(name, self.store.stream(name)?, &self.behaviour);
        let loaded = match block_in_place(load) {
            // It was closed or deleted in between.
            Err(Error::Closed) => block_in_place(load),
            loaded => loaded,
        };
        let loaded = match loaded {
            Ok(loaded) => loaded,
            Err(Error::NotAStream(_) | Error::Closed) => return Err(self.missing(name)),
            Err(error @ Error::Locked(_)) => {
                tracing::warn!(%error, "a stream of the store is open elsewhere");
                let account = &self.behaviour.account.id;
                return Err(Fault::in_use(format!(
                    "Stream {name} under account {account} is open in another process on the machine of this server."
                )));
            }
            Err(error) => return Err(internal(&error)),
        };
        let mut known = self.known.write();
        if self.is_closed.load(Ordering::Relaxed) {
            drop(known);
            // A stream that is opened while the store is being closed must not stay open.
            let _ = loaded.stream.close();
            return Err(internal(&Error::Closed));
        }
        // Another request may have been faster. A closed stream is an earlier one of this name.
        let entry = match known.get(name).filter(|known| !known.stream.is_closed()) {
            Some(known) => Arc::clone(known),
            None => Arc::clone(known.entry(name.to_owned()).insert_entry(Arc::new(loaded)).get()),
        };
        drop(known);
        self.still_there(entry)
    }

    /// Returns a stream that is open, without waiting for the disk.
    pub(super) fn opened(&self, name: &str) -> Option<Arc<Known>> {
        let known = self.known.read().get(name).cloned()?;
        // Somebody may have closed or deleted it through the store.
        let is_usable = !known.stream.is_closed() && !known.is_gone(known.now());
        is_usable.then_some(known)
    }

    fn still_there(&self, known: Arc<Known>) -> Answered<Arc<Known>> {
        if known.stream.is_closed() {
            self.forget(&known);
            return Err(self.missing(&known.name));
        }
        if known.is_gone(known.now()) {
            self.finish_deleting(&known)?;
            return Err(self.missing(&known.name));
        }
        Ok(known)
    }

    /// Returns the error of a stream that does not exist.
    pub(super) fn missing(&self, name: &str) -> Fault {
        missing(name, &self.behaviour.account.id)
    }

    /// Returns the names of all streams, sorted. Some may be deleted before the caller asks for them, and some are the gateway's own, which callers
    /// cannot use as streams.
    pub(super) fn names(&self) -> Answered<Vec<String>> {
        self.store.names().map_err(|error| internal(&error))
    }

    /// Returns the names of the gateway's own streams.
    #[cfg(feature = "delivery")]
    pub(super) fn own_names(&self) -> Answered<Vec<String>> {
        let mut names = self.store.names().map_err(|error| internal(&error))?;
        names.retain(|name| name.starts_with(OWN_FILES));
        Ok(names)
    }

    #[cfg(feature = "delivery")]
    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    /// Fails if a stream has this name, or none can have it.
    pub(super) fn check_free(&self, name: &str) -> Answered<()> {
        if !is_stream_name(name) {
            return Err(Fault::invalid(format!("{name} cannot be the name of a stream on this server.")));
        }
        match self.stream(name) {
            Ok(_) => Err(self.exists(name)),
            Err(fault) if fault.is_not_found() => Ok(()),
            Err(fault) => Err(fault),
        }
    }

    /// Creates a stream with a free name.
    pub(super) fn create(&self, name: &str, shard_count: u32, settings: &Settings) -> Answered<()> {
        let options = Known::options(self.behaviour.options.clone(), shard_count, settings);
        let alone = self.lifecycle.lock();
        match self.store.create(name, options) {
            Ok(_) => {}
            // Another request was faster.
            Err(Error::InvalidArgument(_)) if self.store.stream(name).is_ok() => {
                return Err(self.exists(name));
            }
            // The settings of the store do not fit, such as segments that are smaller than a record.
            Err(Error::InvalidArgument(reason)) => return Err(Fault::invalid(reason.into_string())),
            Err(error) => return Err(internal(&error)),
        }
        drop(alone);
        match self.stream(name) {
            Err(fault) if fault.is_internal() => Err(fault),
            // Another request may have deleted it again.
            _ => Ok(()),
        }
    }

    fn exists(&self, name: &str) -> Fault {
        let account = &self.behaviour.account.id;
        Fault::in_use(format!("Stream {name} under account {account} already exists."))
    }

    /// Deletes a stream whose deletion is due. It may have been deleted already.
    pub(super) fn finish_deleting(&self, known: &Arc<Known>) -> Answered<()> {
        block_in_place(|| {
            let _alone = self.lifecycle.lock();
            // By now the name may belong to another stream.
            if known.stream.is_closed() || !self.is_current(known) {
                return Ok(());
            }
            match self.store.delete(&known.name) {
                Ok(()) | Err(Error::NotAStream(_)) => {
                    self.forget(known);
                    Ok(())
                }
                Err(error) => Err(internal(&error)),
            }
        })
    }

    /// Opens no more streams, so that the store can be closed.
    pub(super) fn close(&self) {
        let mut known = self.known.write();
        self.is_closed.store(true, Ordering::Relaxed);
        known.clear();
    }

    fn is_current(&self, known: &Arc<Known>) -> bool {
        self.known.read().get(&known.name).is_some_and(|current| Arc::ptr_eq(current, known))
    }

    /// Forgets a stream, unless its name now belongs to another one.
    fn forget(&self, known: &Arc<Known>) {
        let mut streams = self.known.write();
        if streams.get(&known.name).is_some_and(|current| Arc::ptr_eq(current, known)) {
            streams.remove(&known.name);
        }
    }

    /// Returns how many open shards there are, in streams of either mode, and how many streams are on demand.
    pub(super) fn usage(&self) -> Answered<Usage> {
        let mut usage = Usage::default();
        for name in self.names()? {
            // A stream that has just been deleted does not count.
            let Ok(known) = self.stream(&name) else { continue };
            match known.settings().mode {
                Mode::Provisioned => usage.open_shards += known.open_shard_count(),
                Mode::OnDemand => usage.on_demand_streams += 1,
            }
            usage.creating += u32::from(known.status(known.now()) == Status::Creating);
        }
        Ok(usage)
    }
}

/// The usage that counts towards the quotas of an account.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Usage {
    /// The open shards of provisioned streams.
    pub(super) open_shards: u32,
    pub(super) on_demand_streams: u32,
    pub(super) creating: u32,
}

/// Logs an error of the engine. The answer does not reveal it.
pub(super) fn internal(error: &Error) -> Fault {
    tracing::error!(%error, "a request failed");
    Fault::internal()
}

/// Returns the error of a stream that does not exist.
fn missing(name: &str, account: &str) -> Fault {
    Fault::not_found(format!("Stream {name} under account {account} not found."))
}
