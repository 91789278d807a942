//! The streams of a gateway: those of its store, with what Kinesis knows of them and the log does not.

mod janitor;
mod known;
mod settings;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use tokio::task::block_in_place;

use super::fault::{Answered, Fault};
use super::names::{Account, is_possible_stream};
use crate::{Error, Limits, Store, StreamOptions, Timestamp};

pub(super) use janitor::Janitor;
pub(super) use known::{ConsumerState, Known, Status};
pub(super) use settings::{Mode, Settings, Strategy};

/// How the streams behave.
#[derive(Debug, Clone)]
pub(super) struct Behaviour {
    pub(super) account: Account,
    /// How long a stream or a consumer is being created, changed or deleted.
    pub(super) delay: Duration,
    /// What each shard takes and hands out. If there are limits, the quotas of operations hold, too.
    pub(super) limits: Limits,
    /// How many shards all streams may have together.
    pub(super) shards_max: u32,
    /// How streams are created.
    pub(super) options: StreamOptions,
}

impl Behaviour {
    /// Returns whether quotas hold, such as ten changes of the number of shards a day.
    pub(super) fn has_quotas(&self) -> bool {
        self.limits != Limits::none()
    }
}

/// The streams of a store, by name.
#[derive(Debug)]
pub(super) struct Catalogue {
    store: Store,
    behaviour: Arc<Behaviour>,
    /// Those that were asked for; `None` once the catalogue is closed.
    known: RwLock<Option<HashMap<String, Arc<Known>>>>,
}

impl Catalogue {
    pub(super) fn new(store: Store, behaviour: Behaviour) -> Self {
        Self { store, behaviour: Arc::new(behaviour), known: RwLock::new(Some(HashMap::new())) }
    }

    pub(super) fn behaviour(&self) -> &Arc<Behaviour> {
        &self.behaviour
    }

    /// Returns a stream that exists, in whatever state.
    pub(super) fn stream(&self, name: &str) -> Answered<Arc<Known>> {
        if let Some(known) = self.opened(name) {
            return Ok(known);
        }
        if !is_possible_stream(name) {
            return Err(self.missing(name));
        }
        let gone = self.known.read().as_ref().and_then(|streams| streams.get(name).cloned());
        if let Some(gone) = gone.filter(|known| known.is_gone(known.now())) {
            self.finish_deleting(&gone)?;
        }
        let loaded = block_in_place(|| Known::load(name, self.store.stream(name)?, &self.behaviour));
        let loaded = match loaded {
            Ok(loaded) => loaded,
            Err(Error::NotAStream(_)) => return Err(self.missing(name)),
            Err(error) => return Err(internal(&error)),
        };
        let mut known = self.known.write();
        let Some(streams) = &mut *known else {
            drop(known);
            // A stream that is opened while the store is being closed must not stay open.
            let _ = loaded.stream.close();
            return Err(internal(&Error::Closed));
        };
        let entry = streams.entry(name.to_owned()).or_insert_with(|| Arc::new(loaded));
        let entry = Arc::clone(entry);
        drop(known);
        self.still_there(entry)
    }

    /// Returns a stream that is open, without waiting for the disk.
    pub(super) fn opened(&self, name: &str) -> Option<Arc<Known>> {
        let known = self.known.read().as_ref()?.get(name).cloned()?;
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
        Fault::not_found(format!("Stream {name} under account {} not found.", self.behaviour.account.id))
    }

    /// Returns the names of all streams, sorted. Some may be gone when they are asked for.
    pub(super) fn names(&self) -> Answered<Vec<String>> {
        self.store.names().map_err(|error| internal(&error))
    }

    /// Fails if there is a stream of this name, or cannot be.
    pub(super) fn check_free(&self, name: &str) -> Answered<()> {
        if !is_possible_stream(name) {
            return Err(Fault::invalid(format!(
                "StreamName {name} cannot be used on this server: choose another one."
            )));
        }
        match self.stream(name) {
            Ok(_) => Err(self.exists(name)),
            Err(fault) if fault.is_internal() => Err(fault),
            Err(_) => Ok(()),
        }
    }

    /// Creates a stream, whose name is free.
    pub(super) fn create(&self, name: &str, shard_count: u32, settings: &Settings) -> Answered<Arc<Known>> {
        let options = Known::options(self.behaviour.options.clone(), shard_count, settings);
        match self.store.create(name, options) {
            Ok(_) => self.stream(name),
            // Another request was faster.
            Err(Error::InvalidArgument(_)) if self.stream(name).is_ok() => Err(self.exists(name)),
            Err(error) => Err(internal(&error)),
        }
    }

    fn exists(&self, name: &str) -> Fault {
        let account = &self.behaviour.account.id;
        Fault::in_use(format!("Stream {name} under account {account} already exists."))
    }

    /// Deletes a stream whose time has come, or waits until somebody else has. Requests for other streams do not wait.
    pub(super) fn finish_deleting(&self, known: &Arc<Known>) -> Answered<()> {
        block_in_place(|| {
            let _alone = known.ending.lock();
            let streams = self.known.read();
            let current = streams.as_ref().and_then(|streams| streams.get(&known.name));
            // The name may be that of another stream by now.
            if !current.is_some_and(|current| Arc::ptr_eq(current, known)) {
                return Ok(());
            }
            drop(streams);
            // As long as it is listed, nobody creates another one of its name.
            match self.store.delete(&known.name) {
                Ok(()) | Err(Error::NotAStream(_)) => {
                    self.forget(known);
                    Ok(())
                }
                Err(error) => Err(internal(&error)),
            }
        })
    }

    fn forget(&self, known: &Arc<Known>) {
        let mut streams = self.known.write();
        let Some(streams) = &mut *streams else { return };
        if streams.get(&known.name).is_some_and(|current| Arc::ptr_eq(current, known)) {
            streams.remove(&known.name);
        }
    }

    /// Has no stream opened any more, so that the store can be closed.
    pub(super) fn close(&self) {
        *self.known.write() = None;
    }

    /// Returns how many open shards there are, in streams of either mode, and how many streams are on demand.
    pub(super) fn usage(&self) -> Answered<Usage> {
        let mut usage = Usage::default();
        for name in self.names()? {
            // One that is gone by now counts for nothing.
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

/// What counts towards the quotas of an account.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Usage {
    /// Those of provisioned streams.
    pub(super) open_shards: u32,
    pub(super) on_demand_streams: u32,
    pub(super) creating: u32,
}

/// Logs an error of the log, which the answer does not tell.
pub(super) fn internal(error: &Error) -> Fault {
    tracing::error!(%error, "a request failed");
    Fault::internal()
}

/// Returns a time as the end of a delay that begins now.
fn after(now: Timestamp, delay: Duration) -> Timestamp {
    now + delay
}
