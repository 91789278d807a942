//! Delivery streams: Amazon Data Firehose, with the deliveries of this library.

mod conversion;
mod definition;
mod describe;
mod destinations;
mod keeper;
mod options;
mod processors;
mod query;
mod settings;
mod start;
mod stream;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::block_in_place;

pub(super) use definition::{Definition, Encryption, Key, Kind, Source, created, updated};
pub(super) use describe::{DESTINATION_ID, describe};
pub use destinations::Buckets;
pub(super) use destinations::Endpoint;
use keeper::Keeper;
use settings::Surroundings;
pub(super) use stream::DeliveryStream;

use super::catalogue::{Catalogue, internal};
use super::fault::{Answered, Fault};
use super::names::OWN_FILES;
#[cfg(feature = "parquet")]
use crate::delivery::ParquetSchema;
use crate::{Clock, DAY, Error, KeyHash, Retention, Stream, SystemClock};

/// The prefix of the names of delivery streams' streams in the store.
const PREFIX: &str = "firehose-";
/// The largest record, and room for its key.
const RECORD_BYTES_MAX: u64 = 1_024_000 + 1_024;
/// The least memory for the buffers of a delivery stream.
const MEMORY_BYTES_MIN: usize = 1 << 20;
/// How long the records of producers wait for their destination, as in Firehose.
const RETENTION: Duration = DAY;

/// The operator's settings for delivery streams.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    pub(super) buckets: Option<Buckets>,
    pub(super) endpoints: Vec<Endpoint>,
    /// How many delivery streams there may be.
    pub(super) streams_max: usize,
    /// The memory for the buffers of all of them.
    pub(super) memory_bytes_max: usize,
    /// The schemas for format conversion, by database and table.
    #[cfg(feature = "parquet")]
    pub(super) tables: BTreeMap<(String, String), ParquetSchema>,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            buckets: None,
            endpoints: vec![],
            // As in Firehose.
            streams_max: 50,
            memory_bytes_max: 1 << 30,
            #[cfg(feature = "parquet")]
            tables: BTreeMap::new(),
        }
    }
}

impl Rules {
    /// Returns the memory for the buffers of one delivery stream. Each has its own part, so that one with a stalled destination does not take that of
    /// the others.
    fn memory_bytes_each(&self) -> usize {
        (self.memory_bytes_max / self.streams_max.max(1)).max(MEMORY_BYTES_MIN)
    }
}

/// The delivery streams of a gateway, and the thread that keeps them running.
#[derive(Debug)]
pub(super) struct Firehose {
    registry: Arc<Registry>,
    keeper: Keeper,
}

/// The delivery streams, by name.
#[derive(Debug)]
pub(super) struct Registry {
    catalogue: Arc<Catalogue>,
    rules: Rules,
    streams: Mutex<BTreeMap<String, Arc<DeliveryStream>>>,
    /// Locked while one is created.
    creating: Mutex<()>,
}

/// Returns the error of encryption without keys.
pub(super) fn no_keys() -> Fault {
    Fault::invalid_key("There is no key to encrypt records with: this server has no file of keys.")
}

/// Returns the name in the store of the stream behind a delivery stream. No stream of Kinesis has such a name.
fn name_in_store(name: &str) -> String {
    format!("{OWN_FILES}{PREFIX}{name}")
}

impl Firehose {
    /// Opens the delivery streams of a store, and begins to start their deliveries.
    pub(super) fn start(catalogue: Arc<Catalogue>, rules: Rules) -> io::Result<Self> {
        let mut registry =
            Registry { catalogue, rules, streams: Mutex::default(), creating: Mutex::default() };
        registry.open_all();
        // Existing ones stay, and share the memory.
        registry.rules.streams_max = registry.rules.streams_max.max(registry.streams.lock().len());
        let registry = Arc::new(registry);
        Ok(Self { keeper: Keeper::start(Arc::clone(&registry))?, registry })
    }

    /// Returns an existing delivery stream, in any state.
    pub(super) fn get(&self, name: &str) -> Answered<Arc<DeliveryStream>> {
        let found = self.registry.streams.lock().get(name).cloned();
        found.ok_or_else(|| stream::missing(name, &self.registry.catalogue.behaviour().account.id))
    }

    /// Returns all delivery streams, sorted by name.
    pub(super) fn all(&self) -> Vec<Arc<DeliveryStream>> {
        self.registry.all()
    }

    /// Creates a delivery stream.
    pub(super) fn create(&self, name: &str, definition: Definition) -> Answered<Arc<DeliveryStream>> {
        let created = self.registry.create(name, definition);
        self.keeper.notify();
        created
    }

    /// Changes the destination of a delivery stream: `change` returns the new definition's destination. Its delivery is restarted.
    pub(super) fn update(
        &self,
        stream: &DeliveryStream,
        change: impl FnOnce(&mut Definition) -> Answered<()>,
    ) -> Answered<()> {
        stream.change(|definition| {
            stream.check_active()?;
            change(definition)?;
            definition.version += 1;
            definition.updated = Some(stream.now().as_millis());
            self.registry.check(&stream.name, &stream.arn, definition)
        })?;
        self.keeper.notify();
        Ok(())
    }

    /// Begins to delete a delivery stream.
    pub(super) fn delete(&self, stream: &DeliveryStream) -> Answered<()> {
        stream.begin_deleting()?;
        self.keeper.notify();
        Ok(())
    }

    /// Ends all deliveries, within a time.
    pub(super) fn end(&self, timeout: Duration) {
        self.keeper.end(timeout);
    }
}

impl Registry {
    fn all(&self) -> Vec<Arc<DeliveryStream>> {
        self.streams.lock().values().cloned().collect()
    }

    /// Opens the existing delivery streams. One that cannot be opened does not affect the others.
    fn open_all(&self) {
        for in_store in self.catalogue.own_names().unwrap_or_default() {
            let Some(name) = in_store.strip_prefix(&*name_in_store("")) else { continue };
            let behaviour = self.catalogue.behaviour();
            let loaded = self.catalogue.store().stream(&in_store);
            match loaded.and_then(|stream| DeliveryStream::load(name, stream, behaviour)) {
                Ok(Some(stream)) => drop(self.streams.lock().insert(name.to_owned(), Arc::new(stream))),
                Ok(None) => tracing::error!(name, "a delivery stream has no definition"),
                Err(error) => tracing::error!(%error, name, "a delivery stream cannot be opened"),
            }
        }
    }

    /// Fails unless a definition can be delivered.
    fn check(&self, name: &str, arn: &str, definition: &Definition) -> Answered<()> {
        // Nothing is sent, so the clock is not read.
        let clock = Arc::new(SystemClock) as Arc<dyn Clock>;
        let of = Surroundings { name, arn, rules: &self.rules, clock: &clock };
        settings::options(definition, &of).map(drop)
    }

    fn create(&self, name: &str, definition: Definition) -> Answered<Arc<DeliveryStream>> {
        let behaviour = self.catalogue.behaviour();
        let account = &behaviour.account;
        let _alone = self.creating.lock();
        if self.streams.lock().contains_key(name) {
            return Err(Fault::in_use(format!(
                "Firehose {name} under accountId {} already exists",
                account.id
            )));
        }
        self.check(name, &account.delivery_stream_arn(name), &definition)?;
        let limit = self.rules.streams_max;
        if self.streams.lock().len() >= limit {
            return Err(Fault::limit(format!(
                "You have already consumed your firehose quota of {limit} hoses. Hoses in state of DELETING count too."
            )));
        }
        if definition.encryption.key.is_some() && behaviour.options.encryption.is_none() {
            return Err(no_keys());
        }
        let options = behaviour.options.clone();
        let options = options
            .shards(1)
            .key_hash(KeyHash::Md5)
            .record_bytes_max(RECORD_BYTES_MAX)
            .retention(Retention::age(RETENTION))
            .property(stream::PROPERTY, stream::to_text(&definition)?);
        let create = || {
            let stream: Stream = self.catalogue.store().create(&name_in_store(name), options)?;
            DeliveryStream::load(name, stream, behaviour)
        };
        let created = block_in_place(create).map_err(|error| internal(&error))?;
        let created = Arc::new(created.ok_or_else(Fault::internal)?);
        self.streams.lock().insert(name.to_owned(), Arc::clone(&created));
        Ok(created)
    }

    /// Deletes a delivery stream whose deletion is due. Returns whether it is gone.
    fn finish_deleting(&self, stream: &Arc<DeliveryStream>) -> bool {
        start::forget(self, stream, &stream.definition());
        // After a crash before this, the next start deletes it.
        match self.catalogue.store().delete(&name_in_store(&stream.name)) {
            Ok(()) | Err(Error::NotAStream(_)) => {
                stream.is_gone.store(true, Ordering::Release);
                self.streams.lock().remove(&stream.name);
                true
            }
            Err(error) => {
                tracing::error!(%error, delivery_stream = stream.name, "it cannot be deleted yet");
                false
            }
        }
    }
}
