//! Video streams: Amazon Kinesis Video Streams, with the video of this library.
//!
//! The video streams of a gateway are in a separate directory inside that of its store. Each is opened when it is first needed.

mod connections;
mod faults;
mod options;
mod player;
mod request;
mod sessions;
mod stream;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use connections::Connections;
pub(super) use faults::{answered, fault};
pub(super) use player::url as player_url;
pub(super) use request::{PUT_MEDIA, base_url};
pub(super) use sessions::{Ask, Discontinuities, Hls, Mode, Sessions};
pub(super) use stream::{Definition, KnownVideo};

use super::catalogue::{Behaviour, internal};
use super::fault::{Answered, Fault};
use super::files::create_directory;
use super::names::OWN_FILES;
use crate::video::VideoStreamOptions;
use crate::{Error, HOUR, MaintenancePool, Stream};

/// The directory of the video streams in that of the store.
const DIRECTORY: &str = "video";
/// The longest name, which is that of a directory.
const NAME_BYTES_MAX: usize = 255;
/// A segment has room for some of the largest fragments, of 50 MiB.
const SEGMENT_BYTES: u64 = 256 << 20;
const RECORD_BYTES_MAX: u64 = 56 << 20;
/// The longest retention, as in Kinesis.
pub(super) const RETENTION_HOURS_MAX: i64 = 87_600;

/// The operator's settings for video streams.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    /// How many video streams there may be.
    pub(super) streams_max: usize,
    /// How many producers and viewers may have a long-lived connection, such as for `PutMedia` or `GetMedia`.
    pub(super) connections_max: usize,
    /// How large the segments of the log are.
    pub(super) segment_bytes: u64,
}

impl Default for Rules {
    fn default() -> Self {
        // As many streams as in Kinesis.
        Self { streams_max: 10_000, connections_max: 256, segment_bytes: SEGMENT_BYTES }
    }
}

#[cfg(test)]
impl Rules {
    /// Returns rules with which many streams fit into little memory.
    pub(super) fn for_tests(connections_max: Option<usize>) -> Self {
        let rules = Self::default();
        Self {
            segment_bytes: 16 << 20,
            connections_max: connections_max.unwrap_or(rules.connections_max),
            ..rules
        }
    }
}

/// The video streams of a gateway.
#[derive(Debug)]
pub(super) struct Video {
    directory: PathBuf,
    behaviour: Arc<Behaviour>,
    rules: Rules,
    pool: MaintenancePool,
    /// The open ones. A slot is locked while its stream is opened or deleted; the map is never locked for long.
    slots: Mutex<BTreeMap<String, Arc<Slot>>>,
    /// Locked while one is created.
    creating: Mutex<()>,
    pub(super) connections: Connections,
    pub(super) sessions: Sessions,
}

type Slot = Mutex<Option<Arc<KnownVideo>>>;

impl Video {
    pub(super) fn new(store: &Path, behaviour: Arc<Behaviour>, rules: Rules) -> crate::Result<Self> {
        Ok(Self {
            directory: store.join(format!("{OWN_FILES}{DIRECTORY}")),
            behaviour,
            connections: Connections::new(rules.connections_max),
            rules,
            slots: Mutex::default(),
            creating: Mutex::default(),
            sessions: Sessions::default(),
            pool: MaintenancePool::new()?,
        })
    }

    fn slot(&self, name: &str) -> Arc<Slot> {
        Arc::clone(self.slots.lock().entry(name.to_owned()).or_default())
    }

    /// Calls a function with the slot of a name, which is forgotten if it is empty afterwards.
    fn with_slot<T>(&self, name: &str, work: impl FnOnce(&mut Option<Arc<KnownVideo>>) -> T) -> T {
        let slot = self.slot(name);
        let mut inside = slot.lock();
        let done = work(&mut inside);
        let is_empty = inside.is_none();
        drop(inside);
        let mut slots = self.slots.lock();
        // The map has one, this call the other.
        if is_empty && Arc::strong_count(&slot) == 2 {
            slots.remove(name);
        }
        done
    }

    /// Returns an existing video stream.
    pub(super) fn stream(&self, name: &str) -> Answered<Arc<KnownVideo>> {
        if !is_video_name(name) {
            return Err(self.missing(name));
        }
        self.with_slot(name, |slot| {
            if let Some(known) = slot.as_ref().filter(|known| !known.stream.is_closed()) {
                return Ok(Arc::clone(known));
            }
            *slot = None;
            let opened =
                self.options().stream(|options| options.must_exist()).open(self.directory.join(name));
            let stream = match opened {
                Ok(stream) => stream,
                Err(crate::video::VideoError::Stream(Error::NotAStream(_))) => return Err(self.missing(name)),
                Err(error) => return Err(fault(&error)),
            };
            let known = Arc::new(KnownVideo::load(name, stream, &self.behaviour)?);
            *slot = Some(Arc::clone(&known));
            Ok(known)
        })
    }

    /// Returns the error of a video stream that does not exist.
    pub(super) fn missing(&self, name: &str) -> Fault {
        let account = &self.behaviour.account.id;
        Fault::not_found(format!("Stream {name} under account {account} not found."))
    }

    /// Returns the names of all video streams, sorted.
    pub(super) fn names(&self) -> Answered<Vec<String>> {
        let paths = match Stream::list(&self.directory) {
            Ok(paths) => paths,
            Err(Error::Io(failure)) if failure.source.kind() == std::io::ErrorKind::NotFound => vec![],
            Err(error) => return Err(internal(&error)),
        };
        let mut names: Vec<_> =
            paths.iter().filter_map(|path| path.file_name()?.to_str().map(str::to_owned)).collect();
        names.retain(|name| is_video_name(name));
        names.sort();
        Ok(names)
    }

    fn options(&self) -> VideoStreamOptions {
        let options = self.behaviour.options.clone();
        let record_bytes_max = RECORD_BYTES_MAX.min(self.rules.segment_bytes / 2);
        let options = options.segment_bytes(self.rules.segment_bytes).record_bytes_max(record_bytes_max);
        VideoStreamOptions::new().pool(&self.pool).stream(|_| options)
    }

    /// Creates a video stream.
    pub(super) fn create(
        &self,
        name: &str,
        definition: &Definition,
        hours: u32,
    ) -> Answered<Arc<KnownVideo>> {
        let account = &self.behaviour.account.id;
        if !is_video_name(name) {
            return Err(Fault::invalid(format!("{name} cannot be the name of a stream on this server.")));
        }
        if definition.key.is_some() && self.behaviour.options.encryption.is_none() {
            return Err(Fault::invalid(
                "There is no key to encrypt fragments with: this server has no file of keys.",
            ));
        }
        let _alone = self.creating.lock();
        let names = self.names()?;
        if names.iter().any(|known| known == name) {
            return Err(Fault::in_use(format!("Stream {name} under account {account} already exists.")));
        }
        if names.len() >= self.rules.streams_max {
            let limit = self.rules.streams_max;
            return Err(Fault::stream_limit(format!(
                "Account {account} has the {limit} streams that it may have."
            )));
        }
        create_directory(&self.directory).map_err(|failure| {
            tracing::error!(%failure, "the directory of the video streams cannot be created");
            Fault::internal()
        })?;
        let text = definition.to_text();
        let options = self
            .options()
            .data_retention(HOUR * hours)
            .stream(|options| options.must_be_new().property(stream::PROPERTY, text));
        self.with_slot(name, |slot| {
            let stream = options.open(self.directory.join(name)).map_err(|error| fault(&error))?;
            let known = Arc::new(KnownVideo::load(name, stream, &self.behaviour)?);
            *slot = Some(Arc::clone(&known));
            Ok(known)
        })
    }

    /// Closes a video stream for all its users, and deletes it.
    pub(super) fn delete(&self, known: &KnownVideo) -> Answered<()> {
        self.with_slot(&known.name, |slot| {
            // The name may now belong to another one.
            if slot.as_ref().is_none_or(|current| current.created != known.created) {
                return Err(self.missing(&known.name));
            }
            *slot = None;
            self.forget_sessions();
            if let Err(error) = known.stream.clone().close() {
                tracing::warn!(%error, stream = known.name, "a video stream that is deleted was not closed well");
            }
            match Stream::delete(self.directory.join(&known.name)) {
                Ok(()) | Err(Error::NotAStream(_)) => Ok(()),
                Err(error) => Err(internal(&error)),
            }
        })
    }

    /// Closes all video streams.
    pub(super) fn close(&self) {
        let slots = std::mem::take(&mut *self.slots.lock());
        for known in slots.values().filter_map(|slot| slot.lock().take()) {
            if let Err(error) = known.stream.clone().close() {
                tracing::warn!(%error, stream = known.name, "a video stream was not closed well");
            }
        }
    }
}

/// Returns whether a video stream can have this name.
fn is_video_name(name: &str) -> bool {
    name.len() <= NAME_BYTES_MAX && super::model::is_name(name) && !matches!(name, "." | "..")
}
