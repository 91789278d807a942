//! An archive of a stream: copies of its sealed segments, stored under names in a place that may be remote.
//!
//! An archive holds two kinds of objects:
//! - `shards/SHARD/NAME`: a sealed segment, byte for byte. Its name has everything that a reader must know before it fetches the segment
//!   (`name.rs`), and is the only sign that the segment is archived.
//! - `stream.json`: a manifest. It names all shards that ever existed, with their places in the lineage and, once they are closed, their ends. It
//!   has the settings and the wrapped keys, but no holds or marks.
//!
//! **A pass of archiving** (`contents.rs`, `upload.rs`) takes these steps. It may end after any of them, and two passes may run at the same time:
//! 1. The shards of the stream are added to the manifest in the archive. Nothing is ever taken from it.
//! 2. The missing sealed segments of each shard are put into the archive, parents before children, oldest first. A child waits until its parents
//!    are archived completely. So if the archive holds a record, it also holds everything that was put before it.
//! 3. The hold on retention is released up to there. If a shard is not closed in the archived manifest, its last archived segment stays held, so
//!    that the end of a shard is archived before the shard expires.
//!
//! A sealed segment and everything before it are synced: no crash takes these records back, and no other records get their numbers. The only
//! sealed segment that may still change is the last one of a stream that was closed: the next put may resume it. It is then archived again, under
//! a name with its new end. A reader that finds two segments with the same beginning takes the longer one.
//!
//! | a crash after | leaves |
//! |---|---|
//! | 1 | shards without segments, which is nothing to their readers |
//! | a part of 2 | fewer segments. The next pass continues, because names show what is there |
//! | an object of 2 that was not complete | nothing under its name, as [`Archive`] demands |
//! | 2 | more records held than necessary |
//!
//! **Reading** (`cache.rs`). A reader that is behind the horizon of the stream's own files looks for its segment in the list of names. It lists
//! them again only if the horizon has moved since: the hold keeps the horizon from passing anything that is not archived.

pub(crate) mod cache;
pub(crate) mod contents;
mod fetch;
pub(crate) mod name;
pub(crate) mod report;
pub(crate) mod restore;
pub(crate) mod upload;

use std::io;
use std::path::PathBuf;

use crate::log::types::archive::Archive;
use crate::log::types::error::{Corruption, Error, IoFailure};
use crate::log::types::sequence::SequenceNumber;
use crate::log::types::shard_id::ShardId;

/// Returns the error for an archive that failed to act on an object.
fn failure(archive: &dyn Archive, action: &'static str, name: &str, source: io::Error) -> Error {
    // `NotFound` would mean that a file of the stream is gone.
    let source = match source.kind() {
        io::ErrorKind::NotFound => io::Error::other(format!("it is not there: {source}")),
        _ => source,
    };
    IoFailure::new(action, archive.locate(name), source).into()
}

/// Returns the error for an object that is not what its name says.
fn damage(
    archive: &dyn Archive,
    name: &str,
    place: Option<(ShardId, SequenceNumber)>,
    reason: impl Into<String>,
) -> Error {
    let (shard, sequence) = place.unzip();
    let path = PathBuf::from(archive.locate(name));
    Corruption { path, shard, offset: 0, sequence, reason: reason.into() }.into_error()
}
