//! An archive of a stream: copies of its sealed segments, under names, in a place that may be far away.
//!
//! An archive holds two kinds of objects:
//! - `shards/SHARD/NAME`: a sealed segment, byte for byte. Its name says everything that a reader has to know before it fetches the segment
//!   (`name.rs`), and is the only thing that says that it is archived.
//! - `stream.json`: a manifest. It names all shards that ever were, with their places in the lineage and, once they are closed, their ends. It
//!   has the settings and the wrapped keys, and no holds and marks.
//!
//! **A pass of archiving** (`contents.rs`, `upload.rs`) does these steps, and may end after any of them, or run twice at the same time:
//! 1. The shards of the stream are added to the manifest in the archive. Nothing is ever taken from it.
//! 2. Of each shard, parents before children, the sealed segments that the archive does not have are put there, oldest first. A child waits until
//!    nothing is left to archive of its parents. So the archive holds, at each moment, all that was put before what it holds.
//! 3. The hold on retention is released up to there. Of a shard that is not closed in the archived manifest, the last archived segment stays
//!    held: a shard that expires has had its end archived before.
//!
//! What is sealed has been synced, and everything before it as well: no crash takes such records back, and no other ones get their numbers. The one
//! sealed segment that may still change is the last one of a stream that was closed: the next put may resume it. It is archived again then,
//! under the name of its new end, and whoever finds two segments with one beginning takes the longer one.
//!
//! | a crash after | leaves |
//! |---|---|
//! | 1 | shards without segments, which is nothing to their readers |
//! | a part of 2 | fewer segments. The next pass goes on, because names say what is there |
//! | an object of 2 that was not complete | nothing under its name, as [`Archive`] demands |
//! | 2 | more held than need be |
//!
//! **Reading** (`cache.rs`). A reader that is behind the horizon of the stream's own files looks for its segment in the list of names. It lists them
//! again only if the horizon has moved since: the archive has everything before a horizon that a hold has let pass.

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

/// Returns the error of an archive that did not do something to an object.
fn failure(archive: &dyn Archive, action: &'static str, name: &str, source: io::Error) -> Error {
    // `NotFound` would say that a file of the stream is gone.
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
