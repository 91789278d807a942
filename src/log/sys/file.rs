//! Files, opened without following links, whose errors name their path.

use std::fs::{File, TryLockError};
use std::io::{self, IoSlice};
use std::os::unix::fs::{FileExt, MetadataExt};

use rustix::fs::{AtFlags, FallocateFlags, Mode, OFlags, RawMode};
use rustix::io::Errno;

use super::call;
use super::dir;
use super::fault;
use super::random;
use super::root::OwnPath;
use crate::log::types::error::{Error, IoFailure, Result};

const PAGE_BYTES: u64 = 4096;
/// The distance between the bytes that are probed to see whether a file is in memory.
const LOOK_STEP_BYTES: usize = 1 << 20;

/// Zeros in whole, aligned pages of memory, as writing past the page cache requires.
#[repr(align(4096))]
struct Zeros([u8; 256 << 10]);
static ZEROS: Zeros = Zeros([0; 256 << 10]);

/// Returns the zeros from byte `from` to byte `to` of a file, in pieces, each with its offset.
fn zeros(from: u64, to: u64) -> impl Iterator<Item = (&'static [u8], u64)> {
    let piece = ZEROS.0.len() as u64;
    (from..to).step_by(ZEROS.0.len()).map(move |at| (&ZEROS.0[..piece.min(to - at) as usize], at))
}

fn is_same_file(one: &File, other: &File) -> bool {
    let id = |file: &File| file.metadata().map(|metadata| (metadata.dev(), metadata.ino())).ok();
    id(one).is_some() && id(one) == id(other)
}

/// Returns how many names a file has.
///
/// It does not ask for the times of the file: on recent kernels, the next write would then have to note a new one in the file system's
/// journal, which makes a sync of each put half as slow again.
#[cfg(target_os = "linux")]
fn name_count(file: &File) -> io::Result<u64> {
    use rustix::fs::{StatxFlags, statx};
    let found = statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::NLINK)?;
    Ok(found.stx_nlink.into())
}

#[cfg(not(target_os = "linux"))]
fn name_count(file: &File) -> io::Result<u64> {
    Ok(file.metadata()?.nlink())
}

/// An open file and its path.
#[derive(Debug)]
pub(crate) struct DataFile {
    file: File,
    path: OwnPath,
}

impl DataFile {
    /// Creates a file with the mode of its path. Fails if it exists.
    pub(crate) fn create(path: &OwnPath) -> Result<Self> {
        Self::with(path, "create", OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)
    }

    /// Creates a file without a name in a directory. Its bytes are gone once it is closed and no longer mapped, even if the process is killed.
    pub(crate) fn create_unnamed(dir: &OwnPath) -> Result<Self> {
        let name: [u8; 8] = random::bytes().map_err(|error| Error::io("get random bytes for", dir, error))?;
        let path = dir.join(format!(".streamlog-{:016x}", u64::from_ne_bytes(name)));
        let created = Self::with(&path, "create", OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)?;
        dir::remove_file(&path)?;
        Ok(created)
    }

    /// Opens a file for reading and writing.
    pub(crate) fn open_writable(path: &OwnPath) -> Result<Self> {
        Self::with(path, "open", OFlags::RDWR)
    }

    /// Opens a file for reading and writing, and creates it empty, with the mode of its path, if it is missing.
    pub(crate) fn open_or_create(path: &OwnPath) -> Result<Self> {
        Self::with(path, "open", OFlags::RDWR | OFlags::CREATE)
    }

    /// Opens a file for reading.
    pub(crate) fn open(path: &OwnPath) -> Result<Self> {
        Self::with(path, "open", OFlags::RDONLY)
    }

    fn with(path: &OwnPath, action: &'static str, flags: OFlags) -> Result<Self> {
        // Opening must not block: a named pipe in place of the file would make it wait for the pipe's other end.
        let mode = Mode::from_raw_mode(path.mode().of_files() as RawMode);
        let opened = fault::point(action, path).and_then(|()| path.open(flags | OFlags::NONBLOCK, mode));
        let file = opened.and_then(|file| {
            let found = file.metadata()?;
            if !found.is_file() {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "it is no regular file: move it away",
                ));
            }
            if flags.contains(OFlags::RDWR) {
                path.add_readers(&file, &found)?;
            }
            Ok(file)
        });
        Ok(Self { file: file.map_err(|error| path.refused(action, error))?, path: path.clone() })
    }

    /// Renames the file within its directory. No other file may have the new name.
    pub(crate) fn rename(&mut self, to: &OwnPath) -> Result<()> {
        dir::rename(&self.path, to)?;
        self.path = to.clone();
        Ok(())
    }

    /// Returns the standard library's file, for mapping it.
    pub(crate) fn std(&self) -> &File {
        &self.file
    }

    /// Returns the standard library's file, for keeping it with its mapping.
    pub(crate) fn into_std(self) -> File {
        self.file
    }

    /// Locks the file so that no other process fills it again. Returns `false` if one is about to.
    pub(crate) fn lock_shared(&self) -> Result<bool> {
        self.point("lock").map_err(|error| self.error("lock", error))?;
        self.locked(self.file.try_lock_shared())
    }

    /// Returns whether no other process has locked the file.
    pub(crate) fn is_unshared(&self) -> Result<bool> {
        if !self.locked(self.file.try_lock())? {
            return Ok(false);
        }
        self.file.unlock().map_err(|error| self.error("unlock", error))?;
        Ok(true)
    }

    fn locked(&self, outcome: Result<(), TryLockError>) -> Result<bool> {
        match outcome {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(self.error("lock", error)),
        }
    }

    /// Returns whether its path still leads to the file.
    pub(crate) fn is_at_its_path(&self) -> Result<bool> {
        match rustix::fs::statat(self.path.root(), self.path.relative(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(there) => Ok(self.identity()? == [there.st_dev, there.st_ino]),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(self.error("look at", errno.into())),
        }
    }

    pub(crate) fn path(&self) -> &OwnPath {
        &self.path
    }

    fn point(&self, action: &'static str) -> io::Result<()> {
        fault::point(action, &self.path)
    }

    /// Returns an error that names this file.
    pub(crate) fn error(&self, action: &'static str, error: io::Error) -> Error {
        Error::io(action, &self.path, error)
    }

    /// Returns an error that names this file, for one that is not the stream's: a full disk is no reason to shorten the retention.
    pub(crate) fn failure(&self, action: &'static str, error: io::Error) -> Error {
        IoFailure::new(action, self.path.to_path_buf(), error).into()
    }

    pub(crate) fn len(&self) -> Result<u64> {
        Ok(self.file.metadata().map_err(|error| self.error("look at", error))?.len())
    }

    /// Returns what identifies the file on this machine: its device, and its number there.
    pub(crate) fn identity(&self) -> Result<[u64; 2]> {
        let metadata = self.file.metadata().map_err(|error| self.error("look at", error))?;
        Ok([metadata.dev(), metadata.ino()])
    }

    /// Returns whether the file has a second name.
    pub(crate) fn has_second_name(&self) -> Result<bool> {
        Ok(self.name_count()? > 1)
    }

    /// Returns whether the first `len` bytes of the file are in memory. It probes a sample of them, and returns `false` where the system
    /// does not know.
    pub(crate) fn is_in_memory(&self, len: u64) -> bool {
        (0..len).step_by(LOOK_STEP_BYTES).all(|offset| self.is_byte_in_memory(offset))
    }

    #[cfg(target_os = "linux")]
    fn is_byte_in_memory(&self, offset: u64) -> bool {
        use rustix::io::{ReadWriteFlags, preadv2};
        const TMPFS_MAGIC: rustix::fs::FsWord = 0x0102_1994;
        let mut byte = [0];
        let into = &mut [io::IoSliceMut::new(&mut byte)];
        match preadv2(&self.file, into, offset, ReadWriteFlags::NOWAIT) {
            // A file on tmpfs is in memory anyway.
            Err(Errno::OPNOTSUPP) => rustix::fs::fstatfs(&self.file).is_ok_and(|on| on.f_type == TMPFS_MAGIC),
            read => read == Ok(1),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn is_byte_in_memory(&self, _: u64) -> bool {
        false
    }

    /// Returns the bytes that the file takes on disk.
    pub(crate) fn disk_bytes(&self) -> Result<u64> {
        Ok(self.file.metadata().map_err(|error| self.error("look at", error))?.blocks() * 512)
    }

    pub(crate) fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        self.point("read")
            .and_then(|()| self.file.read_exact_at(buffer, offset))
            .map_err(|error| self.error("read", error))
    }

    /// Reads up to as many bytes as the buffer has room for. Returns how many there were, 0 at the end of the file.
    pub(crate) fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        loop {
            match self.point("read").and_then(|()| self.file.read_at(buffer, offset)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return read.map_err(|error| self.error("read", error)),
            }
        }
    }

    pub(crate) fn write_all_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.point("write to")
            .and_then(|()| self.file.write_all_at(bytes, offset))
            .map_err(|error| self.error("write to", error))
    }

    /// Does what [`write_all_at`](Self::write_all_at) does, with the bare error, which [`failure`](Self::failure) turns into one that names the
    /// file.
    pub(crate) fn std_write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.point("write to").and_then(|()| self.file.write_all_at(bytes, offset))
    }

    /// Writes the parts one after the other and then, best effort, the bytes in `behind`.
    pub(crate) fn write_parts_at(&self, parts: [&[u8]; 3], behind: &[u8], offset: u64) -> Result<()> {
        self.point("write to")
            .and_then(|()| self.write_parts(parts, behind, offset))
            .map_err(|error| self.error("write to", error))
    }

    fn write_parts(&self, parts: [&[u8]; 3], behind: &[u8], offset: u64) -> io::Result<()> {
        let [first, second, third] = parts;
        let all = [first, second, third, behind].map(IoSlice::new);
        let written = match rustix::io::pwritev(&self.file, &all, offset) {
            Ok(written) => written,
            Err(Errno::INTR) => 0,
            Err(errno) => return Err(errno.into()),
        };
        // The call may have written less, which is rare. The rest is written part by part.
        let mut at = 0;
        for part in parts {
            let done = written.saturating_sub(at).min(part.len());
            self.file.write_all_at(&part[done..], offset + (at + done) as u64)?;
            at += part.len();
        }
        if written < at + behind.len() {
            let _ = self.file.write_all_at(behind, offset + at as u64);
        }
        Ok(())
    }

    /// Sets the file's length. Truncated bytes are gone; added bytes have no blocks.
    pub(crate) fn set_len(&self, len: u64) -> Result<()> {
        self.point("set the length of")
            .and_then(|()| self.file.set_len(len))
            .map_err(|error| self.error("set the length of", error))
    }

    /// Allocates real blocks for bytes `from` to `to` and extends the file to that length. The blocks read as zeros.
    ///
    /// # Errors
    /// `StorageFull` if the disk has too little room. The file may then be longer, which does no harm.
    pub(crate) fn allocate(&self, from: u64, to: u64) -> Result<()> {
        self.point("allocate blocks for").map_err(|error| self.error("allocate blocks for", error))?;
        loop {
            match rustix::fs::fallocate(&self.file, FallocateFlags::empty(), from, to - from) {
                Err(Errno::INTR) => continue,
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => return self.write_zeros(from, to),
                Err(errno) => return Err(self.error("allocate blocks for", errno.into())),
                Ok(()) => return Ok(()),
            }
        }
    }

    /// Writes zeros into whole pages of the file, past the page cache where the system can, so that nobody else's sync has to write them.
    /// The pages must not hold anything yet.
    pub(crate) fn write_zeros_past_cache(&self, from: u64, to: u64) -> Result<()> {
        let direct = self.path.open(OFlags::WRONLY | OFlags::DIRECT | OFlags::NONBLOCK, Mode::empty());
        let (from, to) = (from.next_multiple_of(PAGE_BYTES), to / PAGE_BYTES * PAGE_BYTES);
        // A file system that does not support this fails the open or the first write.
        let is_written = direct.is_ok_and(|direct| {
            is_same_file(&self.file, &direct)
                && zeros(from, to).all(|(bytes, at)| direct.write_all_at(bytes, at).is_ok())
        });
        if is_written { Ok(()) } else { self.write_zeros(from, to) }
    }

    /// Does what `allocate` does where the file system cannot: a write makes it find the blocks now.
    fn write_zeros(&self, from: u64, to: u64) -> Result<()> {
        zeros(from, to).try_for_each(|(bytes, at)| self.write_all_at(bytes, at))
    }

    /// Makes the file's bytes, and the length they need, survive power loss.
    pub(crate) fn sync(&self) -> Result<()> {
        self.point("sync").and_then(|()| self.file.sync_data()).map_err(|error| self.error("sync", error))
    }

    /// Fails like a failed sync if the file no longer has a name: its bytes are gone once it is closed.
    pub(crate) fn check_not_removed(&self) -> Result<()> {
        // If the system cannot say, the file is taken to be there.
        if matches!(name_count(&self.file), Ok(0)) { Err(call::removed(&self.path)) } else { Ok(()) }
    }

    fn name_count(&self) -> Result<u64> {
        name_count(&self.file).map_err(|error| self.error("look at", error))
    }
}
