//! The streams inside a stream, such as the checkpoints of its groups, each copied as a killed process would leave it.
//!
//! Such a stream may be open, here or in another process, or closed, or opened at any moment. So it is not locked, but read through its files.
//! Until a file is dropped, it is only added to. The manifest is read first and last, and shows whether a file was dropped: none is dropped
//! without a note there, except on a full disk, and then the file is missing. If a file was dropped, its replacement may be later than what was
//! copied, so everything is copied again.
//!
//! If a sealed segment is followed by another sealed one, all its bytes are on the disk and nobody resumes it: it gets a second name. All others
//! are copied. What was being written at the end of the last one is a torn tail.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};

use super::shards::{self, Places, ShardPlaces};
use super::target::{HELD_NAME, UNFINISHED_NAME};
use super::work::{Stop, Work};
use crate::log::manifest::{Manifest, Marks};
use crate::log::recovery::survey;
use crate::log::segment::place::{SHARDS_NAME, ShardDir, shards_dir};
use crate::log::segment::stored::{self, HeaderPage};
use crate::log::sys::dir;
use crate::log::sys::root::OwnPath;
use crate::log::types::error::{Error, Result};
use crate::log::types::sequence::SequenceNumber;

/// A stream that changes during this many attempts to copy it is given up.
const ATTEMPTS_MAX: u32 = 100;

/// The directories in a stream's directory that hold streams, and the names of these.
type Inside = BTreeMap<OsString, BTreeSet<OsString>>;

/// Lists the streams inside a stream.
fn list(stream_dir: &OwnPath) -> Result<Inside> {
    let mut found = Inside::new();
    for directory in directories(stream_dir)? {
        if directory == SHARDS_NAME || directory == UNFINISHED_NAME {
            continue;
        }
        let path = stream_dir.join(&directory);
        let mut streams = directories(&path)?;
        let mut outcome = Ok(());
        streams.retain(|name| match Manifest::exists_in(&path.join(name)) {
            Ok(is_stream) => is_stream,
            Err(error) => {
                outcome = Err(error);
                false
            }
        });
        outcome?;
        if !streams.is_empty() {
            found.insert(directory, streams);
        }
    }
    Ok(found)
}

/// Returns the names of the directories in a directory. Links do not count.
fn directories(path: &OwnPath) -> Result<BTreeSet<OsString>> {
    let mut names = BTreeSet::new();
    if path.file_id()?.is_none() {
        return Ok(names);
    }
    for entry in dir::list(path)? {
        if let (true, Some(name)) = (entry.path.is_dir_itself()?, entry.path.file_name()) {
            names.insert(name.to_owned());
        }
    }
    Ok(names)
}

/// Copies the streams inside a stream. Returns the names of the directories that hold them. These include directories that no longer hold any, so
/// that they replace those of the last snapshot.
pub(super) fn copy(
    work: &mut Work<'_>,
    source: &OwnPath,
    new: &OwnPath,
    old: &OwnPath,
) -> Result<Vec<OsString>, Stop> {
    let mut inside = list(source)?;
    for directory in list(old)?.into_keys() {
        inside.entry(directory).or_default();
    }
    for (directory, names) in &inside {
        let [source, new, old] = [source, new, old].map(|stream_dir| stream_dir.join(directory));
        dir::create(&new)?;
        let mut kept: BTreeSet<&OsStr> = BTreeSet::new();
        for name in names {
            let [source, new, old] = [&source, &new, &old].map(|directory| directory.join(name));
            if copy_stream(work, Places { source: &source, new: &new, old: &old })? {
                kept.insert(name);
            }
        }
        dir::remove_others(&new, |name| kept.contains(name))?;
        dir::sync(&new)?;
    }
    Ok(inside.into_keys().collect())
}

/// Copies a stream that another process may have open, as a snapshot: its manifest says how far the copies of the shards reach.
pub(super) fn copy_as_snapshot(work: &mut Work<'_>, places: Places<'_>) -> Result<bool, Stop> {
    copy_until_unchanged(work, places, |mut manifest, new| {
        for shard in &manifest.shards.clone() {
            let marks = manifest.marks_of(shard);
            let synced = survey(new, shard, marks)?.next_sequence;
            manifest.marks.insert(shard.id, Marks { synced, ..marks });
        }
        manifest.store_at(&new.join(HELD_NAME))?;
        Ok(manifest)
    })
}

/// Copies a stream. Returns `false` if it was deleted meanwhile.
fn copy_stream(work: &mut Work<'_>, places: Places<'_>) -> Result<bool, Stop> {
    copy_until_unchanged(work, places, |manifest, _| Ok(manifest))
}

/// Copies a stream repeatedly, until its manifest is the same before and after. Stores the manifest as `change` returns it.
fn copy_until_unchanged(
    work: &mut Work<'_>,
    places: Places<'_>,
    change: impl FnOnce(Manifest, &OwnPath) -> Result<Manifest>,
) -> Result<bool, Stop> {
    let Places { source, new, old } = places;
    dir::create(new)?;
    for _ in 0..ATTEMPTS_MAX {
        let inside = copy(work, source, new, old)?;
        dir::remove_others(new, |name| name == SHARDS_NAME || inside.iter().any(|kept| kept == name))?;
        let Some(manifest) = load(source)? else { return Ok(false) };
        if copy_shards(work, places, &manifest)? && load(source)?.as_ref() == Some(&manifest) {
            change(manifest, new)?.store(new).map_err(Error::from)?;
            return Ok(true);
        }
    }
    let reason = "it changed each time when it was copied";
    Err(Error::io("copy", source, std::io::Error::new(std::io::ErrorKind::ResourceBusy, reason)).into())
}

fn load(stream_dir: &OwnPath) -> Result<Option<Manifest>> {
    match Manifest::load(stream_dir) {
        Ok(manifest) => Ok(Some(manifest)),
        Err(_) if !Manifest::exists_in(stream_dir)? => Ok(None),
        Err(error) => Err(error),
    }
}

/// Copies the shards of a stream. Returns `false` if a file was dropped meanwhile.
fn copy_shards(work: &mut Work<'_>, places: Places<'_>, manifest: &Manifest) -> Result<bool, Stop> {
    dir::create(&shards_dir(places.new))?;
    // Children before their parents, which are complete before a child holds anything.
    for shard in manifest.shards.iter().rev() {
        let of_shard = places.of_shard(shard.id);
        dir::create(of_shard.new.path())?;
        if !copy_shard(work, &of_shard, manifest.marks_of(shard).horizon)? {
            return Ok(false);
        }
    }
    shards::remove_others(places.new, manifest)?;
    dir::sync(&shards_dir(places.new))?;
    Ok(true)
}

fn copy_shard(work: &mut Work<'_>, places: &ShardPlaces, horizon: SequenceNumber) -> Result<bool, Stop> {
    let is_there = places.source.path().file_id()?.is_some();
    let mut bases = if is_there { places.source.bases()? } else { vec![] };
    let behind = bases.iter().skip(1).take_while(|&&next| next <= horizon).count();
    bases.drain(..behind);
    let bytes =
        |&base: &SequenceNumber| Ok(places.source.segment_path(base).file_id()?.map_or(0, |it| it.bytes));
    work.expect(bases.iter().map(bytes).sum::<Result<_>>()?);
    let Some(fixed_count) = fixed_count(&places.source, &bases)? else { return Ok(false) };
    for (at, &base) in bases.iter().enumerate() {
        let is_fixed = at < fixed_count;
        let put = places.with_segment(base, |places| match is_fixed {
            true => places.put_sealed(work),
            false => places.copy(work, false),
        });
        if !put? {
            return Ok(false);
        }
    }
    places.keep_only(&bases)?;
    Ok(true)
}

/// Returns how many segments, from the first on, are sealed and have a sealed one behind them, or `None` if a file is gone.
fn fixed_count(dir: &ShardDir, bases: &[SequenceNumber]) -> Result<Option<usize>> {
    for (at, &base) in bases.iter().enumerate().rev() {
        let place = dir.segment(base);
        let Some(file) = super::place::open(&place.path)? else { return Ok(None) };
        // A damaged page is copied as it is.
        let header = HeaderPage::read(&file)?.header(&place).ok().flatten();
        let trailer = header.map_or(Ok(None), |header| stored::read_trailer(&file, &header))?;
        if trailer.is_some() {
            return Ok(Some(at));
        }
    }
    Ok(Some(0))
}
