//! How far the holder of a hold on retention is, if it runs in another process than the one that has the stream open.
//!
//! The holder writes the file `holds/NAME`, pairs of words: a shard plus 1, and the first sequence number that is held there. The process that
//! has the stream open reads it before each retention pass. While the file exists, only its content counts. A holder that runs
//! within that process removes it first.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::log::sys::dir;
use crate::log::sys::file::DataFile;
use crate::log::sys::root::OwnPath;
use crate::log::sys::words::{PAGE_BYTES, Words};
use crate::log::types::error::Result;
use crate::log::types::sequence::SequenceNumber;
use crate::log::types::shard_id::ShardId;

const HOLDS_NAME: &str = "holds";
const PAGE_PAIRS: usize = PAGE_BYTES as usize / 16;

/// The file of a holder.
#[derive(Debug)]
pub(crate) struct HoldFile {
    file: DataFile,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    pages: Vec<Words>,
    /// The number of each shard's pair.
    pairs: BTreeMap<ShardId, usize>,
}

fn path_of(root: &OwnPath, name: &str) -> OwnPath {
    root.join(HOLDS_NAME).join(name)
}

/// Returns how far the holder of this name is, if it runs in another process.
pub(crate) fn read(root: &OwnPath, name: &str) -> Result<Option<BTreeMap<ShardId, SequenceNumber>>> {
    let path = path_of(root, name);
    if !dir::exists(&root.join(HOLDS_NAME))? || !dir::exists(&path)? {
        return Ok(None);
    }
    let file = DataFile::open(&path)?;
    let mut found = BTreeMap::new();
    for number in 0..file.len()? / PAGE_BYTES {
        let page = Words::read_only(file.std(), number).map_err(|error| file.error("map", error))?;
        for at in (0..PAGE_PAIRS).map(|pair| 2 * pair) {
            let shard = page.load(at).checked_sub(1).and_then(|shard| u32::try_from(shard).ok());
            if let Some(shard) = shard {
                found.insert(ShardId::new(shard), page.load(at + 1).into());
            }
        }
    }
    Ok(Some(found))
}

/// Removes the file of a holder, if there is one.
pub(crate) fn remove(root: &OwnPath, name: &str) -> Result<()> {
    if dir::exists(&root.join(HOLDS_NAME))? { dir::remove_file(&path_of(root, name)) } else { Ok(()) }
}

impl HoldFile {
    /// Creates an empty file, in which everything is held.
    pub(crate) fn create(root: &OwnPath, name: &str) -> Result<Self> {
        dir::create(&root.join(HOLDS_NAME))?;
        let path = path_of(root, name);
        dir::remove_file(&path)?;
        Ok(Self { file: DataFile::create(&path)?, state: Mutex::default() })
    }

    /// Releases the records of a shard before a sequence number.
    pub(crate) fn release(&self, shard: ShardId, before: SequenceNumber) -> Result<()> {
        let mut state = self.state.lock();
        let (pair, is_new) = match state.pairs.get(&shard) {
            Some(&pair) => (pair, false),
            None => (state.pairs.len(), true),
        };
        let (number, at) = ((pair / PAGE_PAIRS) as u64, 2 * (pair % PAGE_PAIRS));
        if number as usize == state.pages.len() {
            self.file.allocate(number * PAGE_BYTES, (number + 1) * PAGE_BYTES)?;
            let page =
                Words::writable(self.file.std(), number).map_err(|error| self.file.error("map", error))?;
            state.pages.push(page);
        }
        let page = &state.pages[number as usize];
        page.store(at + 1, before.get());
        if is_new {
            page.store(at, u64::from(shard.get()) + 1);
            state.pairs.insert(shard, pair);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_holder_releases_is_read_by_another_process_until_the_file_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let root = OwnPath::open_root(directory.path()).unwrap();
        assert_eq!(read(&root, "export").unwrap(), None);
        let file = HoldFile::create(&root, "export").unwrap();
        assert_eq!(read(&root, "export").unwrap(), Some(BTreeMap::new()));
        let released: BTreeMap<_, _> =
            (0..600).map(|shard| (ShardId::new(shard), u64::from(shard).into())).collect();
        for (&shard, &before) in &released {
            file.release(shard, 0.into()).unwrap();
            file.release(shard, before).unwrap();
        }
        assert_eq!(read(&root, "export").unwrap(), Some(released));
        remove(&root, "export").unwrap();
        assert_eq!(read(&root, "export").unwrap(), None);
    }
}
