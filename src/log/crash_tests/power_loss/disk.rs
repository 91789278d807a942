//! What a disk owes to a stream's files: what was synced, and of everything else the old or the new.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::rng::Rng;
use crate::log::format::header::HEADER_PAGE_BYTES;

/// The calls after which a name may be new or gone.
const NAMING: [&str; 6] = ["create", "open", "create the directory", "remove", "replace", "link"];

/// A directory tree, and what of it would survive power loss. It models the worst that POSIX allows: names, lengths and contents reach the
/// disk independently, in any order, whenever the kernel likes, and for certain only when they are synced.
#[derive(Debug)]
pub(super) struct Disk {
    root: PathBuf,
    files: BTreeMap<u64, OnDisk>,
    dirs: BTreeMap<PathBuf, Dir>,
    /// The last sync that was called. It counts once it has returned.
    under_way: Option<Sync>,
    may_have_new_names: bool,
}

/// A file, by inode. It may have another name, or none, in what survives.
#[derive(Debug)]
struct OnDisk {
    /// Open files also keep their inode numbers from being reused.
    live: File,
    synced: Vec<u8>,
    /// What the kernel has written on its own since.
    stray: Option<Vec<u8>>,
}

#[derive(Debug, Clone, Default)]
struct Dir {
    live: BTreeMap<String, Entry>,
    /// What each name that was changed since the last sync has stood for: what was synced comes first, what is there now last.
    unsynced: BTreeMap<String, Vec<Option<Entry>>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entry {
    File(u64),
    Dir,
}

#[derive(Debug, Clone)]
enum Sync {
    File(u64, Vec<u8>),
    /// The first page of a file, whatever happens to the others.
    Header(u64, Vec<u8>),
    Dir(PathBuf),
}

/// How an image chooses between old and new.
#[derive(Debug, Clone, Copy)]
struct Mood {
    /// The number of bytes that reach the disk together.
    grain: usize,
    /// In percent.
    odds_of_new: u64,
    /// Whether each file is entirely old or entirely new.
    is_by_file: bool,
}

/// An image of what survived.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Image {
    pub(super) is_by_sector: bool,
    /// Whether anything in it differs from the live files.
    pub(super) is_changed: bool,
}

impl Disk {
    /// Returns a disk that holds exactly this tree.
    pub(super) fn new(root: &Path) -> Self {
        let mut disk = Self {
            root: root.to_owned(),
            files: BTreeMap::new(),
            dirs: BTreeMap::new(),
            under_way: None,
            may_have_new_names: true,
        };
        disk.settle();
        disk.dirs.values_mut().for_each(|dir| dir.unsynced.clear());
        disk.files.values_mut().for_each(|file| file.synced = content(&file.live));
        disk
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Applies the last call, which has returned by now.
    pub(super) fn settle(&mut self) {
        match self.under_way.take() {
            Some(Sync::File(inode, synced)) => {
                let file = self.files.get_mut(&inode).unwrap();
                (file.synced, file.stray) = (synced, None);
            }
            Some(Sync::Header(inode, header)) => {
                let file = self.files.get_mut(&inode).unwrap();
                for version in [Some(&mut file.synced), file.stray.as_mut()].into_iter().flatten() {
                    version.resize(version.len().max(header.len()), 0);
                    version[..header.len()].copy_from_slice(&header);
                }
            }
            Some(Sync::Dir(dir)) => {
                self.dirs.get_mut(&dir).unwrap().unsynced.clear();
                self.forget_unreachable();
            }
            None => {}
        }
        if std::mem::take(&mut self.may_have_new_names) {
            self.look_at_names();
        }
    }

    /// Notes a call that is about to be made.
    pub(super) fn begin(&mut self, action: &str, path: &Path) {
        self.may_have_new_names = NAMING.contains(&action);
        let Ok(inside) = path.strip_prefix(&self.root) else { return };
        self.under_way = match action {
            "sync" => self.dirs[inside.parent().unwrap()]
                .last_file(inside.file_name().unwrap().to_str().unwrap())
                .map(|inode| Sync::File(inode, content(&self.files[&inode].live))),
            "sync the header of" => self.dirs[inside.parent().unwrap()]
                .last_file(inside.file_name().unwrap().to_str().unwrap())
                .map(|inode| {
                    Sync::Header(inode, content(&self.files[&inode].live)[..HEADER_PAGE_BYTES].to_vec())
                }),
            "sync the directory" => Some(Sync::Dir(inside.to_owned())),
            _ => None,
        };
    }

    /// The kernel writes some file to the disk without being asked.
    pub(super) fn write_back_some(&mut self, rng: &mut Rng) {
        if !self.files.is_empty() {
            let at = rng.below(self.files.len());
            let file = self.files.values_mut().nth(at).unwrap();
            file.stray = Some(content(&file.live));
        }
    }

    fn look_at_names(&mut self) {
        let mut seen = BTreeMap::new();
        list(&self.root, Path::new(""), &mut seen);
        for (path, dir) in &mut self.dirs {
            dir.now_has(seen.remove(path).unwrap_or_default());
        }
        for (path, live) in seen {
            let mut dir = Dir::default();
            dir.now_has(live);
            self.dirs.insert(path, dir);
        }
        for (path, dir) in &self.dirs {
            for (name, entry) in &dir.live {
                if let Entry::File(inode) = entry {
                    self.files.entry(*inode).or_insert_with(|| OnDisk {
                        live: File::open(self.root.join(path).join(name)).unwrap(),
                        synced: vec![],
                        stray: None,
                    });
                }
            }
        }
    }

    /// Drops files that no name can stand for any more.
    fn forget_unreachable(&mut self) {
        let dirs = &self.dirs;
        self.files.retain(|&inode, _| dirs.values().any(|dir| dir.may_name(Entry::File(inode))));
    }

    /// Returns the same disk with a copy of the live files, which is what a killed process leaves.
    pub(super) fn fork(&self, root: &Path) -> Self {
        let mut inodes = BTreeMap::new();
        for (path, dir) in &self.dirs {
            let (from, to) = (self.root.join(path), root.join(path));
            if from.is_dir() {
                fs::create_dir_all(&to).unwrap();
            }
            for (name, entry) in &dir.live {
                if let Entry::File(inode) = entry {
                    fs::copy(from.join(name), to.join(name)).unwrap();
                    inodes.insert(*inode, (fs::metadata(to.join(name)).unwrap().ino(), to.join(name)));
                }
            }
        }
        let mut files = BTreeMap::new();
        for (inode, file) in &self.files {
            let live = match inodes.get(inode) {
                Some((_, path)) => File::open(path).unwrap(),
                // A file without a name is copied too: a process that has it open continues to write to it.
                None => {
                    let copy = tempfile::tempfile_in(root).unwrap();
                    copy.write_all_at(&content(&file.live), 0).unwrap();
                    copy
                }
            };
            let copied = live.metadata().unwrap().ino();
            inodes.entry(*inode).or_insert((copied, PathBuf::new()));
            files.insert(copied, OnDisk { live, synced: file.synced.clone(), stray: file.stray.clone() });
        }
        let renumbered = |entry: Entry| match entry {
            Entry::File(inode) => Entry::File(inodes.get(&inode).map_or(inode, |(inode, _)| *inode)),
            Entry::Dir => Entry::Dir,
        };
        let dirs = self.dirs.iter().map(|(path, dir)| {
            let mut dir = dir.clone();
            dir.live.values_mut().for_each(|entry| *entry = renumbered(*entry));
            let unsynced = dir.unsynced.values_mut().flatten();
            unsynced.for_each(|entry| *entry = entry.map(renumbered));
            (path.clone(), dir)
        });
        Self { root: root.to_owned(), files, dirs: dirs.collect(), under_way: None, may_have_new_names: true }
    }

    /// Writes what may be left after power loss now.
    pub(super) fn image(&self, to: &Path, rng: &mut Rng) -> Image {
        let mood = Mood {
            grain: *rng.pick(&[4096, 512]),
            odds_of_new: *rng.pick(&[50, 50, 80, 97, 3, 100, 0]),
            is_by_file: rng.one_in(5),
        };
        let mut image = Image { is_by_sector: mood.grain == 512, is_changed: false };
        // What is nearly certain for names need not be for contents.
        let of_names = Mood { odds_of_new: *rng.pick(&[mood.odds_of_new, 50, 100, 0]), ..mood };
        self.write_dir(Path::new(""), to, (mood, of_names), rng, &mut image);
        image
    }

    fn write_dir(&self, path: &Path, to: &Path, moods: (Mood, Mood), rng: &mut Rng, image: &mut Image) {
        fs::create_dir_all(to).unwrap();
        let Some(dir) = self.dirs.get(path) else { return };
        let mut names: Vec<&String> = dir.live.keys().chain(dir.unsynced.keys()).collect();
        names.sort_unstable();
        names.dedup();
        for name in names {
            let live = dir.live.get(name).copied();
            let entry = dir.unsynced.get(name).map_or(live, |versions| *moods.1.choose(versions, rng));
            image.is_changed |= entry != live;
            match entry {
                Some(Entry::Dir) => self.write_dir(&path.join(name), &to.join(name), moods, rng, image),
                Some(Entry::File(inode)) => {
                    let survived = self.files[&inode].survived(moods.0, rng, image);
                    fs::write(to.join(name), survived).unwrap();
                }
                None => {}
            }
        }
    }
}

impl Dir {
    fn now_has(&mut self, live: BTreeMap<String, Entry>) {
        let names: Vec<String> = self.live.keys().chain(live.keys()).cloned().collect();
        for name in names {
            let (before, now) = (self.live.get(&name).copied(), live.get(&name).copied());
            let versions = self.unsynced.entry(name).or_insert_with(|| vec![before]);
            if versions.last() != Some(&now) {
                versions.push(now);
            }
        }
        self.unsynced.retain(|_, versions| versions.len() > 1);
        self.live = live;
    }

    /// Returns the file of a name, even after it was removed: a process that has it open may still sync it.
    fn last_file(&self, name: &str) -> Option<u64> {
        let removed = self.unsynced.get(name).into_iter().flatten().rev().flatten();
        self.live.get(name).into_iter().chain(removed).find_map(|entry| match entry {
            Entry::File(inode) => Some(*inode),
            Entry::Dir => None,
        })
    }

    fn may_name(&self, entry: Entry) -> bool {
        self.live.values().any(|live| *live == entry)
            || self.unsynced.values().any(|versions| versions.contains(&Some(entry)))
    }
}

impl OnDisk {
    fn survived(&self, mood: Mood, rng: &mut Rng, image: &mut Image) -> Vec<u8> {
        let live = content(&self.live);
        let versions: Vec<&[u8]> = [Some(&self.synced), self.stray.as_ref(), Some(&live)]
            .into_iter()
            .flatten()
            .map(Vec::as_slice)
            .collect();
        let survived = if mood.is_by_file {
            mood.choose(&versions, rng).to_vec()
        } else {
            let mut bytes = vec![0; mood.choose(&versions, rng).len()];
            for (block, at) in bytes.chunks_mut(mood.grain).zip((0..).step_by(mood.grain)) {
                let of_version = |version: &'_ [u8]| -> Vec<u8> {
                    let end = version.len().min(at + block.len());
                    version.get(at..end).unwrap_or_default().to_vec()
                };
                let blocks: Vec<Vec<u8>> = versions.iter().map(|version| of_version(version)).collect();
                let chosen = if blocks.iter().all(|other| *other == blocks[0]) {
                    &blocks[0]
                } else {
                    mood.choose(&blocks, rng)
                };
                block[..chosen.len()].copy_from_slice(chosen);
            }
            bytes
        };
        image.is_changed |= survived != live;
        survived
    }
}

impl Mood {
    /// Returns one of the versions. The last one is the new one.
    fn choose<'a, T>(&self, versions: &'a [T], rng: &mut Rng) -> &'a T {
        let (newest, older) = versions.split_last().unwrap();
        if older.is_empty() || rng.percent(self.odds_of_new) { newest } else { rng.pick(older) }
    }
}

fn content(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// Lists all names below a directory, by directory.
fn list(root: &Path, inside: &Path, seen: &mut BTreeMap<PathBuf, BTreeMap<String, Entry>>) {
    let mut names = BTreeMap::new();
    for entry in fs::read_dir(root.join(inside)).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if entry.file_type().unwrap().is_dir() {
            list(root, &inside.join(&name), seen);
            names.insert(name, Entry::Dir);
        } else {
            names.insert(name, Entry::File(entry.metadata().unwrap().ino()));
        }
    }
    seen.insert(inside.to_owned(), names);
}
