//! A stream's directory, opened once, and the paths inside it.
//!
//! A path can lead to another directory later: a stream is moved, its directory is replaced, the process changes its working directory.
//! So all files of a stream are reached from the one directory that was opened, whatever its path is by now.

use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawMode};
use rustix::io::Errno;

use super::{call, fault};
use crate::log::types::error::{Error, Result};
use crate::log::types::file_mode::FileMode;

/// An open directory.
#[derive(Debug)]
struct Root {
    dir: File,
    /// The path that it was opened by, made absolute. For messages.
    path: PathBuf,
}

/// A path inside an open directory, or that of the directory itself. It is a [`Path`] for messages only. What is created there gets its mode.
#[derive(Debug, Clone)]
pub(crate) struct OwnPath {
    root: Arc<Root>,
    path: PathBuf,
    mode: FileMode,
}

/// Which file a path leads to, and how long it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FileId {
    device: u64,
    inode: u64,
    pub(crate) bytes: u64,
}

impl FileId {
    /// Returns whether two names are of one file.
    pub(crate) fn is_same_file(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}

impl OwnPath {
    /// Opens a directory by its path, and follows links to it. Until [`with_mode`](Self::with_mode), only the owner can read what is created.
    pub(crate) fn open_root(path: &Path) -> io::Result<Self> {
        let path = std::path::absolute(path)?;
        let dir = OpenOptions::new().read(true).custom_flags(OFlags::DIRECTORY.bits() as i32).open(&path)?;
        let root = Arc::new(Root { dir, path: path.clone() });
        Ok(Self { root, path, mode: FileMode::OWNER_ONLY })
    }

    /// Opens a directory inside another one as a root of its own, with the same mode, if it is there. Refuses a link.
    pub(crate) fn open_as_root(&self) -> Result<Option<Self>> {
        if !self.is_own_dir()? {
            return Ok(None);
        }
        match self.open_dir() {
            Ok(dir) => {
                let path = self.path.clone();
                Ok(Some(Self { root: Arc::new(Root { dir, path: path.clone() }), path, mode: self.mode }))
            }
            // It was removed meanwhile.
            Err(Error::Io(failure)) if failure.source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Opens the directory at this path.
    pub(super) fn open_dir(&self) -> Result<File> {
        let opened = self.open(OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty());
        opened.map_err(|error| self.refused("open the directory", error))
    }

    /// Opens the file at this path. Follows no link.
    pub(super) fn open(&self, flags: OFlags, mode: Mode) -> io::Result<File> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(self.root(), self.relative(), flags, mode)?.into())
    }

    /// Returns the error of a call that found a link, or that failed otherwise.
    pub(super) fn refused(&self, action: &'static str, error: io::Error) -> Error {
        match Errno::from_io_error(&error) {
            Some(Errno::LOOP) => call::refused_link(self),
            _ => Error::io(action, self, error),
        }
    }

    /// Returns the open directory that [`relative`](Self::relative) begins at.
    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.root.dir.as_fd()
    }

    /// Returns the path from the root, as the calls to the operating system take it.
    pub(super) fn relative(&self) -> &Path {
        let inside = self.path.strip_prefix(&self.root.path).expect("paths are made inside the root");
        if inside.as_os_str().is_empty() { Path::new(".") } else { inside }
    }

    /// Returns the path of a name in this directory.
    pub(crate) fn join(&self, name: impl AsRef<Path>) -> Self {
        self.with(self.path.join(name))
    }

    /// Returns the path of the file with another extension.
    pub(crate) fn with_extension(&self, extension: &str) -> Self {
        self.with(self.path.with_extension(extension))
    }

    /// Returns the path with something appended to its last name.
    pub(crate) fn with_suffix(&self, suffix: &str) -> Self {
        let mut path = self.path.clone().into_os_string();
        path.push(suffix);
        self.with(path.into())
    }

    /// Returns the directory that holds this name. That of the root is the root itself.
    pub(crate) fn parent(&self) -> Self {
        let parent = self.path.parent().filter(|parent| parent.starts_with(&self.root.path));
        self.with(parent.unwrap_or(&self.root.path).to_owned())
    }

    fn with(&self, path: PathBuf) -> Self {
        Self { root: Arc::clone(&self.root), path, mode: self.mode }
    }

    /// Returns the same path with another mode for what is created there and below.
    pub(crate) fn with_mode(&self, mode: FileMode) -> Self {
        Self { mode, ..self.clone() }
    }

    pub(crate) fn mode(&self) -> FileMode {
        self.mode
    }

    /// Lets the users whom its mode allows read an open file or enter an open directory: the umask, or a crash before this, may have kept them
    /// out. Makes no call to the system if nothing is missing.
    pub(super) fn add_readers(&self, opened: &File, found: &Metadata) -> io::Result<()> {
        let (mode, readers) = self.mode_and_readers(found);
        self.change_mode(opened, found, found.mode() | mode & readers)
    }

    /// Lets exactly the users whom its mode allows read an open file or enter an open directory. The other permissions stay.
    pub(super) fn set_readers(&self, opened: &File, found: &Metadata) -> io::Result<()> {
        let (mode, readers) = self.mode_and_readers(found);
        self.change_mode(opened, found, found.mode() & !readers | mode & readers)
    }

    /// Returns the mode of a file or directory here, and its bits that let users other than the owner read.
    fn mode_and_readers(&self, found: &Metadata) -> (u32, u32) {
        if found.is_dir() { (self.mode.of_directories(), 0o055) } else { (self.mode.of_files(), 0o044) }
    }

    fn change_mode(&self, opened: &File, found: &Metadata, mode: u32) -> io::Result<()> {
        if mode == found.mode() {
            return Ok(());
        }
        fault::point("change the mode of", self)?;
        Ok(rustix::fs::fchmod(opened, Mode::from_raw_mode((mode & 0o7777) as RawMode))?)
    }

    /// Returns the type of the file at this path, without following a link, or `None` if there is none.
    pub(super) fn file_type(&self) -> Result<Option<FileType>> {
        match rustix::fs::statat(self.root(), self.relative(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode as RawMode))),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(Error::io("look at", self, errno.into())),
        }
    }

    /// Returns whether this is a directory, and not a link to one.
    pub(crate) fn is_dir_itself(&self) -> Result<bool> {
        Ok(self.file_type()? == Some(FileType::Directory))
    }

    /// Returns which file is at this path, without following a link, or `None` if there is none.
    pub(crate) fn file_id(&self) -> Result<Option<FileId>> {
        match rustix::fs::statat(self.root(), self.relative(), AtFlags::SYMLINK_NOFOLLOW) {
            #[allow(clippy::unnecessary_cast, reason = "these types differ between systems")]
            Ok(stat) => Ok(Some(FileId {
                device: stat.st_dev as u64,
                inode: stat.st_ino as u64,
                bytes: u64::try_from(stat.st_size).unwrap_or_default(),
            })),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(Error::io("look at", self, errno.into())),
        }
    }

    /// Returns whether this is a directory. Refuses a link.
    pub(crate) fn is_own_dir(&self) -> Result<bool> {
        match self.file_type()? {
            Some(FileType::Symlink) => Err(call::refused_link(self)),
            found => Ok(found == Some(FileType::Directory)),
        }
    }

    /// Returns whether a path leads to this root's directory now.
    pub(crate) fn is_root_at(&self, path: &Path) -> Result<bool> {
        match std::fs::metadata(path) {
            Ok(there) => Ok(self.root_id()? == (there.dev(), there.ino())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::io("look at", path, error)),
        }
    }

    /// Returns whether two roots are the same directory.
    pub(crate) fn is_same_root(&self, other: &Self) -> Result<bool> {
        Ok(self.root_id()? == other.root_id()?)
    }

    fn root_id(&self) -> Result<(u64, u64)> {
        let metadata = self.root_metadata()?;
        Ok((metadata.dev(), metadata.ino()))
    }

    fn root_metadata(&self) -> Result<Metadata> {
        self.root.dir.metadata().map_err(|error| Error::io("look at", self, error))
    }

    /// Fails like a failed sync if somebody removed the root.
    pub(crate) fn check_root_not_removed(&self) -> Result<()> {
        if self.root_metadata()?.nlink() == 0 { Err(call::removed(self)) } else { Ok(()) }
    }

    /// Returns whether anybody but the owner may add and remove names in the root.
    pub(crate) fn is_root_writable_by_others(&self) -> Result<bool> {
        const GROUP_AND_OTHERS_WRITE: u32 = 0o022;
        Ok(self.root_metadata()?.mode() & GROUP_AND_OTHERS_WRITE != 0)
    }

    /// Makes the name of the root itself survive power loss, wherever it is.
    pub(crate) fn sync_name_of_root(&self) -> Result<()> {
        let above = self.with(self.root.path.join(".."));
        let path = self.root.path.parent().unwrap_or(&self.root.path);
        match above.open(OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()) {
            // If its parent cannot be opened, somebody else created it.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            Err(error) => Err(Error::io("open the directory", path, error)),
            Ok(above) => call::attempt("sync the directory", path, || above.sync_all()),
        }
    }

    /// Makes the names in the root survive power loss.
    pub(super) fn sync_root(&self) -> io::Result<()> {
        self.root.dir.sync_all()
    }

    pub(super) fn is_root(&self) -> bool {
        self.path == self.root.path
    }

    pub(super) fn try_lock_root(&self) -> Result<(), TryLockError> {
        self.root.dir.try_lock()
    }

    pub(super) fn unlock_root(&self) {
        let _ = self.root.dir.unlock();
    }
}

impl Deref for OwnPath {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.path
    }
}

impl PartialEq for OwnPath {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.root, &other.root) && self.path == other.path
    }
}

impl Eq for OwnPath {}
