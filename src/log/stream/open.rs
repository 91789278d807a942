//! Opening a stream, or creating it.
//!
//! **Create:** the directory → the lock → the shards' directories → the manifest, which makes it a stream. A crash before the manifest
//! leaves a directory without a manifest and without a segment, and the next call continues from there.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

use super::extend::Extensions;
use super::put_metrics::PutMetrics;
use super::{Core, Stream};
use crate::log::manifest::{Manifest, StreamSettings};
use crate::log::recovery::{RecoveryReport, TornTail};
use crate::log::retention::sweep;
use crate::log::segment::growth::Writing;
use crate::log::segment::place::{ShardDir, shards_dir};
use crate::log::shard::ShardContext;
use crate::log::shard::reader::wait::Waiter;
use crate::log::shard::writer::WriterContext;
use crate::log::shard::writer::source::Sources;
use crate::log::sys::clock::SystemClock;
use crate::log::sys::dir;
use crate::log::sys::lock::Lock;
use crate::log::topology::Topology;
use crate::log::types::error::{Corruption, Error, Result};
use crate::log::types::event::event;
use crate::log::types::limits::{RECORD_BYTES_MAX_DEFAULT, SEGMENT_BYTES_DEFAULT, record_bytes_max_of};
use crate::log::types::options::{Create, Durability, StreamOptions};
use crate::log::types::shard_id::ShardId;
use crate::log::types::time::Timestamp;

pub(super) const LOCK_NAME: &str = "LOCK";
/// The names that an interrupted creation may leave.
const UNFINISHED_NAMES: [&str; 3] = [LOCK_NAME, "shards", "manifest.new"];

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
    /// `Corrupt` if synced data is damaged; `InvalidArgument` for a setting that is out of range; `StorageFull`, `Io`.
    pub fn open(self, path: impl AsRef<Path>) -> Result<Stream> {
        Stream::open_with(path.as_ref(), self)
    }
}

pub(super) fn open(path: &Path, options: StreamOptions) -> Result<Core> {
    let started = Instant::now();
    options.check()?;
    let clock = options.clock.clone().unwrap_or_else(|| Arc::new(SystemClock));
    let is_stream = look_at(path, options.create)?;
    if !is_stream {
        create_durably(path)?;
    }
    let lock = Lock::take(&path.join(LOCK_NAME), path)?;
    // Another process may have created the stream before we had the lock.
    let manifest = if Manifest::exists_in(path)? {
        adopt(path, &options)?
    } else {
        create(path, &options, clock.now())?
    };
    let context = ShardContext {
        stream_dir: path.to_owned(),
        clock: Arc::clone(&clock),
        peers: Arc::default(),
        writers: WriterContext {
            writing: Writing {
                segment_bytes: manifest.settings.segment_bytes,
                syncs_each: options.durability == Durability::Power,
            },
            bell: Arc::new(Waiter::default()),
            ahead_bell: Arc::new(Waiter::default()),
            sources: Arc::new(Sources::default()),
        },
    };
    let settings = manifest.settings;
    let (topology, shards) = Topology::open(context, manifest, options.salvage)?;
    sweep::hide_expired(&topology);
    let recovery = RecoveryReport {
        shards,
        duration: started.elapsed(),
        is_writable_by_others: dir::is_writable_by_others(path)?,
        clock_behind: topology.clock_behind(),
    };
    tell_of(path, &recovery);
    if let Some(by) =
        topology.time_since_latest().filter(|&by| settings.retention.age.is_some_and(|age| by > age))
    {
        event!(
            warn,
            "all records have expired while the stream was closed: check the clock if that cannot be",
            stream = path.display(),
            by_ms = by.as_millis()
        );
    }
    Ok(Core {
        path: path.to_owned(),
        key_hash: settings.key_hash,
        record_bytes_max: settings.record_bytes_max,
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

/// Returns whether there is a stream at the path. Fails if there is something else, or not what the caller asked for. Changes nothing.
fn look_at(path: &Path, create: Create) -> Result<bool> {
    let is_there = dir::exists(path)?;
    if is_there && !dir::is_dir(path)? {
        return Err(Error::not_a_stream(
            path,
            "it is a file, and a stream is a directory; name another path",
        ));
    }
    if is_there && Manifest::exists_in(path)? {
        return match create {
            Create::Always => Err(Error::invalid(format!(
                "there is a stream at {} already: open it, or name another path",
                path.display()
            ))),
            _ => Ok(true),
        };
    }
    let entries = if is_there { dir::list(path)? } else { vec![] };
    if let Some(stranger) = entries.iter().find(|entry| !UNFINISHED_NAMES.contains(&entry.name.as_str())) {
        return Err(Error::not_a_stream(
            path,
            format!("it has no manifest.json, and holds {:?}; name another path", stranger.name),
        ));
    }
    refuse_orphans(path)?;
    match create {
        Create::Never if is_there => Err(Error::not_a_stream(
            path,
            "it is an empty directory; name another path, or create the stream",
        )),
        Create::Never => Err(Error::not_a_stream(
            path,
            "there is nothing at this path; name another path, or create the stream",
        )),
        _ => Ok(false),
    }
}

/// Refuses to create a stream over segments whose manifest is gone.
fn refuse_orphans(path: &Path) -> Result<()> {
    let shards = shards_dir(path);
    if !dir::is_own_dir(&shards)? {
        return Ok(());
    }
    for shard in dir::list(&shards)? {
        let Ok(id) = shard.name.parse::<ShardId>() else { continue };
        if dir::is_own_dir(&shard.path)? && !ShardDir::new(path, id).bases()?.is_empty() {
            let reason = "the manifest is missing, but there are segments".to_owned();
            let path = path.join("manifest.json");
            return Err(Corruption { path, shard: None, offset: 0, sequence: None, reason }.into_error());
        }
    }
    Ok(())
}

/// Creates a directory and its missing parents, and makes their names survive power loss.
fn create_durably(path: &Path) -> Result<()> {
    let missing: Vec<_> =
        path.ancestors().take_while(|ancestor| matches!(dir::exists(ancestor), Ok(false))).collect();
    dir::create_all(path)?;
    if missing.is_empty() {
        // An interrupted creation may have left the directory. If its parent cannot be opened, somebody else created it.
        return match sync_name_of(path) {
            Err(Error::Io(failure)) if failure.source.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            synced => synced,
        };
    }
    missing.iter().rev().try_for_each(|created| sync_name_of(created))
}

/// Makes the name of a directory survive power loss.
pub(super) fn sync_name_of(path: &Path) -> Result<()> {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => dir::sync(Path::new(".")),
        Some(parent) => dir::sync(parent),
        None => Ok(()),
    }
}

fn create(path: &Path, options: &StreamOptions, now: Timestamp) -> Result<Manifest> {
    let segment_bytes = options.segment_bytes.unwrap_or(SEGMENT_BYTES_DEFAULT);
    let settings = StreamSettings {
        key_hash: options.key_hash.unwrap_or_default(),
        retention: options.retention.unwrap_or_default(),
        segment_bytes,
        record_bytes_max: options
            .record_bytes_max
            .unwrap_or(RECORD_BYTES_MAX_DEFAULT.min(record_bytes_max_of(segment_bytes))),
    };
    settings.check()?;
    let manifest = Manifest::new(now, settings, options.shards);
    for shard in &manifest.shards {
        dir::create_own(ShardDir::new(path, shard.id).path())?;
    }
    dir::sync(&shards_dir(path))?;
    manifest.store(path)?;
    event!(info, "the stream is created", stream = path.display(), shard_count = options.shards);
    Ok(manifest)
}

/// Reads the manifest of an existing stream, and stores the settings that the caller changes.
fn adopt(path: &Path, options: &StreamOptions) -> Result<Manifest> {
    let mut manifest = Manifest::load(path)?;
    // The writer of the manifest may have been killed before its name was synced. Everything from here on relies on that name.
    dir::sync(path)?;
    let stored = manifest.settings;
    if let Some(asked) = options.key_hash.filter(|&asked| asked != stored.key_hash) {
        return Err(Error::invalid(format!(
            "{} hashes its keys with {:?} for life, and cannot be opened with {asked:?}: leave the key hash out",
            path.display(),
            stored.key_hash
        )));
    }
    let settings = StreamSettings {
        key_hash: stored.key_hash,
        retention: options.retention.unwrap_or(stored.retention),
        segment_bytes: options.segment_bytes.unwrap_or(stored.segment_bytes),
        record_bytes_max: options.record_bytes_max.unwrap_or(stored.record_bytes_max),
    };
    if settings != stored {
        settings.check()?;
        manifest.settings = settings;
        manifest.store(path)?;
    }
    Ok(manifest)
}
