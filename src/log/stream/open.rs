//! Opening a stream, or creating it.
//!
//! **Create:** the directory → its lock → the shards' directories → the manifest, which makes it a stream. A crash before the manifest
//! leaves a directory without a manifest and without a segment, and the next call continues from there.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use parking_lot::{Mutex, RwLock};

use super::address::{Address, Found, Locked};
use super::extend::Extensions;
use super::extras::Codec;
use super::maintenance::MaintenancePool;
use super::put_metrics::PutMetrics;
use super::{Core, Stream, directory};
use crate::log::keys::Keys;
use crate::log::live::bell::Bell;
use crate::log::live::publish::{self, Live};
use crate::log::manifest::{Manifest, StreamSettings};
use crate::log::recovery::{RecoveryReport, TornTail};
use crate::log::retention::sweep;
use crate::log::segment::growth::Writing;
use crate::log::segment::place::{ShardDir, shards_dir};
use crate::log::shard::ShardContext;
use crate::log::shard::writer::WriterContext;
use crate::log::shard::writer::source::Sources;
use crate::log::snapshot::target;
use crate::log::sys::clock::SystemClock;
use crate::log::sys::dir;
use crate::log::sys::root::OwnPath;
use crate::log::topology::{Examined, Topology};
use crate::log::types::error::{Error, Result};
use crate::log::types::event::event;
use crate::log::types::file_mode::FileMode;
use crate::log::types::keys::KeyList;
use crate::log::types::limits::{SEGMENT_BYTES_DEFAULT, record_bytes_max_default};
use crate::log::types::options::{Create, Durability, Encryption, StreamOptions};
use crate::log::types::time::Timestamp;

impl StreamOptions {
    /// Opens the stream at `path`, or creates it with its missing parent directories.
    ///
    /// ```
    /// # use streamlog::{Error, StreamOptions};
    /// # let directory = tempfile::tempdir()?;
    /// let stream = StreamOptions::new().shards(4).open(directory.path().join("clicks"))?;
    /// let second = StreamOptions::new().open(directory.path().join("clicks"));
    /// assert!(matches!(second, Err(Error::Locked(_))));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `Locked` if it is already open; `NotAStream` if the path holds something else; `UnsupportedFormat` if a newer version wrote it;
    /// `Corrupt` if synced data is damaged; `InvalidArgument` for a setting that is out of range; `StorageFull` if there is no room for a new
    /// stream, or for a change of the settings even after dropping records that have expired under the new retention; `Io`. After any of the
    /// first four, the stream and its settings are unchanged, except that `salvage` may have repaired some of its shards.
    pub fn open(self, path: impl AsRef<Path>) -> Result<Stream> {
        Stream::open_at(Address::Outside(path.as_ref()), self, None)
    }
}

pub(super) fn open(
    address: Address<'_>,
    options: StreamOptions,
    pool: Option<&MaintenancePool>,
) -> Result<Core> {
    let started = Instant::now();
    options.check()?;
    let clock = options.clock.clone().unwrap_or_else(|| Arc::new(SystemClock));
    let asked_mode = options.asked_mode()?;
    let Locked { root, found, mut lock } = lock(address, options.create, asked_mode.unwrap_or_default())?;
    if found == Found::Deleted {
        directory::remove_contents(&root)?;
    }
    if found == Found::Unfinished {
        return Err(target::unfinished(&root));
    }
    let stored = if found == Found::Stream { Some(Manifest::load(&root)?) } else { None };
    let stored_mode = stored.as_ref().map(|manifest| manifest.settings.file_mode);
    let root = root.with_mode(asked_mode.or(stored_mode).unwrap_or_default());
    lock.sign(&root)?;
    let manifest = match stored {
        Some(manifest) => manifest,
        None => {
            // An interrupted creation may have left the directory without that.
            root.sync_name_of_root()?;
            create(&root, &options, clock.now())?
        }
    };
    let settings = adopt(&root, &options, manifest.settings)?;
    let provider = options.encryption.as_ref().map(Encryption::provider).cloned();
    let keys = Arc::new(Keys::new(&root, provider, manifest.keys.clone()));
    let key_list = keys.adopt(options.encryption.as_ref())?;
    let syncs_each = options.durability == Durability::Power;
    if options.salvage {
        publish::withdraw(&root)?;
    }
    let examined = Examined::new(&root, manifest, options.salvage)?;
    let live = Arc::new(Live::open(&root, syncs_each)?);
    let context = ShardContext {
        stream_dir: root.clone(),
        clock: Arc::clone(&clock),
        peers: Arc::default(),
        windows: Arc::default(),
        limits: Arc::new(Mutex::new(options.limits)),
        writers: WriterContext {
            writing: Writing { segment_bytes: settings.segment_bytes, syncs_each },
            work: pool.map(MaintenancePool::work).cloned().unwrap_or_default(),
            work_ahead: pool.map(MaintenancePool::work_ahead).cloned().unwrap_or_default(),
            sources: Arc::new(Sources::default()),
            keys: Arc::clone(&keys),
            live: Arc::clone(&live),
            bell: Arc::new(Bell::create(&root)?),
        },
    };
    let (topology, shards) = Topology::open(context, examined)?;
    if stored_mode.is_some_and(|stored| stored != settings.file_mode) {
        // Before the manifest says so: after a crash, the next opening with this mode repeats it.
        dir::set_readers(&root)?;
    }
    // Only now: a stream that is refused keeps its settings, and on a full disk a shorter retention can make room for itself.
    sweep::update(&topology, |manifest| {
        (manifest.settings, manifest.keys) = (settings, key_list.clone());
        manifest.properties.extend(options.properties.clone());
        Ok(())
    })?;
    keys.set_list(key_list);
    sweep::hide_expired(&topology);
    target::remove_left(&root);
    live.begin();
    topology.wake_other_processes();
    let recovery = RecoveryReport {
        shards,
        duration: started.elapsed(),
        is_writable_by_others: root.is_root_writable_by_others()?,
        clock_behind: topology.clock_behind(),
    };
    tell_of(&root, &recovery);
    if let Some(by) =
        topology.time_since_latest().filter(|&by| settings.retention.age.is_some_and(|age| by > age))
    {
        event!(
            warn,
            "all records have expired while the stream was closed: check the clock if that cannot be",
            stream = root.display(),
            by_ms = by.as_millis()
        );
    }
    let codec = Codec::new(settings.compression, &keys);
    Ok(Core {
        root,
        key_hash: settings.key_hash,
        record_bytes_max: settings.record_bytes_max,
        codec: RwLock::new(codec),
        has_extras: AtomicBool::new(Core::has_extras(codec, options.limits)),
        keys,
        clock,
        options,
        topology,
        extensions: Extensions::default(),
        put_metrics: PutMetrics::default(),
        recovery,
        lock: Mutex::new(Some(lock)),
    })
}

/// Reports what opening found and did, as events.
fn tell_of(path: &Path, recovery: &RecoveryReport) {
    let stream = path.display();
    for found in &recovery.shards {
        let shard = found.shard;
        if !found.was_closed_cleanly {
            let bytes = found.scanned_bytes;
            event!(
                info,
                "a shard was not closed cleanly, and is recovered",
                stream = stream,
                shard = shard,
                scanned_bytes = bytes
            );
        }
        if let Some(TornTail { path, offset, bytes, reason }) = &found.torn_tail {
            let path = path.display();
            event!(
                warn,
                "a torn tail is cut: none of it was ever synced",
                path = path,
                offset = offset,
                bytes = bytes,
                reason = reason
            );
        }
        for lost in &found.lost {
            event!(error, "records are lost, and given up as asked", stream = stream, lost = lost);
        }
    }
    if recovery.is_writable_by_others {
        event!(
            warn,
            "others than its owner may write to the stream's directory: chmod go-w",
            stream = stream
        );
    }
    if let Some(by) = recovery.clock_behind {
        event!(
            warn,
            "the clock is behind the latest record: it was wrong then, or is now",
            stream = stream,
            by_ms = by.as_millis()
        );
    }
    let (shard_count, duration_ms) = (recovery.shards.len(), recovery.duration.as_secs_f64() * 1_000.0);
    event!(info, "the stream is open", stream = stream, shard_count = shard_count, duration_ms = duration_ms);
}

/// Refuses what was found if the caller asked for something else.
fn check_found(path: &Path, found: Option<Found>, create: Create) -> Result<()> {
    match (create, found) {
        (_, Some(Found::Unfinished)) => Err(target::unfinished(path)),
        (Create::Always, Some(Found::Stream)) => Err(Error::invalid(format!(
            "there is a stream at {} already: open it, or name another path",
            path.display()
        ))),
        (Create::Never, None) => Err(Error::not_a_stream(
            path,
            "there is nothing at this path; name another path, or create the stream",
        )),
        (Create::Never, Some(Found::Deleted | Found::Nothing)) => Err(Error::not_a_stream(
            path,
            "it is an empty directory; name another path, or create the stream",
        )),
        _ => Ok(()),
    }
}

/// Locks the directory of a stream, which is created if the caller wants that.
fn lock(address: Address<'_>, create: Create, mode: FileMode) -> Result<Locked> {
    let check = |root: &OwnPath, found| check_found(root, Some(found), create);
    loop {
        if let Some(locked) = address.lock(check)? {
            return Ok(locked);
        }
        check_found(address.path(), None, create)?;
        address.create(mode)?;
    }
}

fn create(path: &OwnPath, options: &StreamOptions, now: Timestamp) -> Result<Manifest> {
    let segment_bytes = options.segment_bytes.unwrap_or(SEGMENT_BYTES_DEFAULT);
    let settings = StreamSettings {
        key_hash: options.key_hash.unwrap_or_default(),
        retention: options.retention.unwrap_or_default(),
        segment_bytes,
        record_bytes_max: options.record_bytes_max.unwrap_or(record_bytes_max_default(segment_bytes)),
        file_mode: path.mode(),
        compression: options.compression.unwrap_or_default(),
    };
    settings.check()?;
    // Encrypted from the first record on: the manifest that makes it a stream lists the key.
    let provider = options.encryption.as_ref().map(Encryption::provider).cloned();
    let keys = Keys::new(path, provider, KeyList::default()).adopt(options.encryption.as_ref())?;
    let mut manifest = Manifest::new(now, settings, keys, options.shards);
    manifest.properties = options.properties.clone();
    for shard in &manifest.shards {
        dir::create(ShardDir::new(path, shard.id).path())?;
    }
    dir::sync(&shards_dir(path))?;
    manifest.store(path)?;
    event!(info, "the stream is created", stream = path.display(), shard_count = options.shards);
    Ok(manifest)
}

/// Returns the settings that a stream has from this opening on: those that the caller gives, and the stored ones.
fn adopt(path: &OwnPath, options: &StreamOptions, stored: StreamSettings) -> Result<StreamSettings> {
    // The writer of the manifest may have been killed before its name was synced. Everything from here on relies on that name.
    dir::sync(path)?;
    if let Some(asked) = options.key_hash.filter(|&asked| asked != stored.key_hash) {
        return Err(Error::invalid(format!(
            "{} hashes its keys with {:?} for life, and cannot be opened with {asked:?}: leave the key hash out",
            path.display(),
            stored.key_hash
        )));
    }
    let segment_bytes = options.segment_bytes.unwrap_or(stored.segment_bytes);
    // A bound that nobody has set follows the segment size, up and down.
    let is_default = stored.record_bytes_max == record_bytes_max_default(stored.segment_bytes);
    let kept = if is_default { record_bytes_max_default(segment_bytes) } else { stored.record_bytes_max };
    let settings = StreamSettings {
        key_hash: stored.key_hash,
        retention: options.retention.unwrap_or(stored.retention),
        segment_bytes,
        record_bytes_max: options.record_bytes_max.unwrap_or(kept),
        file_mode: path.mode(),
        compression: options.compression.unwrap_or(stored.compression),
    };
    settings.check()?;
    settings.compression.check()?;
    Ok(settings)
}
