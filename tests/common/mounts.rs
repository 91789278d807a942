//! Small file systems, mounted for a test and unmounted after it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{FallocateFlags, fallocate, statvfs, syncfs};
use tempfile::TempDir;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Tmpfs,
    Ext4,
    Xfs,
}

impl Kind {
    /// Returns the smallest useful size. mkfs.xfs refuses less than 300 MiB; images are sparse, so this costs nothing.
    pub fn bytes(self) -> u64 {
        match self {
            Self::Tmpfs => 8 << 20,
            Self::Ext4 => 64 << 20,
            Self::Xfs => 320 << 20,
        }
    }
}

/// A mounted file system. Dropping it unmounts it, even if a test panics.
#[derive(Debug)]
pub struct Mount {
    point: TempDir,
    /// The directory of the image, if the mount owns it. Dropped after the unmount.
    _image: Option<TempDir>,
}

impl Mount {
    /// Makes and mounts a file system with an image of its own. If that is not possible, prints why and returns `None`.
    pub fn new(kind: Kind) -> Option<Self> {
        told(kind, Self::try_new(kind, kind.bytes()))
    }

    pub fn try_new(kind: Kind, bytes: u64) -> Result<Self, String> {
        if kind == Kind::Tmpfs {
            let size = format!("size={bytes}");
            return Self::at_a_point(["-t", "tmpfs", "-o", &size, "tmpfs"].map(OsStr::new));
        }
        let scratch = super::scratch();
        let image = scratch.path().join("image");
        make(kind, &image, bytes)?;
        // The unmount frees the loop device.
        let mut mounted = Self::at_a_point([OsStr::new("-o"), OsStr::new("loop"), image.as_os_str()])?;
        mounted._image = Some(scratch);
        Ok(mounted)
    }

    /// Mounts an image that is a file on another file system. Bypasses that one's page cache, so that the file holds what a disk would.
    pub fn of_image(kind: Kind, image: &Path) -> Result<Self, String> {
        // xfs clones only whole blocks.
        let attach = ["--direct-io=on", "--sector-size=4096", "--find", "--show"].map(OsStr::new);
        let device = run("losetup", attach.into_iter().chain([image.as_os_str()]))?;
        // A clone has the UUID of its original, and xfs refuses to mount a UUID twice.
        let options = if kind == Kind::Xfs { "nouuid" } else { "defaults" };
        let mounted = Self::at_a_point(["-o", options, device.trim()].map(OsStr::new));
        // While the device is mounted, this only makes the unmount free it.
        run("losetup", ["--detach", device.trim()].map(OsStr::new))?;
        mounted
    }

    fn at_a_point<const N: usize>(what: [&OsStr; N]) -> Result<Self, String> {
        let point = tempfile::tempdir().map_err(|error| error.to_string())?;
        run("mount", what.iter().copied().chain([point.path().as_os_str()]))?;
        Ok(Self { point, _image: None })
    }

    pub fn path(&self) -> &Path {
        self.point.path()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let point = self.point.path().as_os_str();
        // A panicking test may still hold files open. Then the mount ends when they are closed.
        if run("umount", [point]).is_err() {
            let _ = run("umount", [OsStr::new("--lazy"), point]);
        }
    }
}

/// Makes a file system in a new, sparse image file.
pub fn make(kind: Kind, image: &Path, bytes: u64) -> Result<(), String> {
    File::create(image).and_then(|file| file.set_len(bytes)).map_err(|error| error.to_string())?;
    match kind {
        Kind::Tmpfs => Err("a tmpfs has no image".into()),
        // Reserve nothing for root, which runs these tests.
        Kind::Ext4 => {
            let options =
                ["-q", "-F", "-b", "4096", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0"];
            run("mkfs.ext4", options.map(OsStr::new).into_iter().chain([image.as_os_str()])).map(drop)
        }
        Kind::Xfs => run(
            "mkfs.xfs",
            ["-q", "-f", "-s", "size=4096"].map(OsStr::new).into_iter().chain([image.as_os_str()]),
        )
        .map(drop),
    }
}

/// If a file system is not available, prints what is skipped and why. Bypasses the test harness, which shows output only of failed tests.
pub fn told<T>(kind: Kind, outcome: Result<T, String>) -> Option<T> {
    if let Err(why) = &outcome {
        let test = std::thread::current().name().unwrap_or_default().to_owned();
        let _ =
            writeln!(std::io::stderr(), "{test}: skipped on {kind:?}, which cannot be mounted here: {why}");
    }
    outcome.ok()
}

pub fn run<'a>(program: &str, args: impl IntoIterator<Item = &'a OsStr>) -> Result<String, String> {
    let output = Command::new(program)
        .args(args)
        .output()
        .map_err(|error| format!("cannot run {program}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{program}: {}", said.lines().next().unwrap_or_default()))
}

/// A file that takes all free space, except what `leave` frees. Dropping it frees the rest.
#[derive(Debug)]
pub struct Ballast {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl Ballast {
    /// Fills the file system that a directory is on.
    pub fn fill(dir: &Path) -> Self {
        let path = dir.join("ballast");
        let file = File::create(&path).unwrap();
        // The blocks of removed files are free only after this.
        syncfs(&file).unwrap();
        let room = statvfs(dir).unwrap();
        let (mut bytes, mut step) = (0, room.f_bavail * room.f_frsize);
        while step >= 512 {
            match fallocate(&file, FallocateFlags::empty(), bytes, step) {
                Ok(()) => bytes += step,
                Err(rustix::io::Errno::NOSPC) => step /= 2,
                Err(error) => panic!("{error}"),
            }
        }
        file.set_len(bytes).unwrap();
        syncfs(&file).unwrap();
        Self { path, file, bytes }
    }

    /// Frees another `bytes` of space.
    pub fn leave(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_sub(bytes);
        self.file.set_len(self.bytes).unwrap();
        syncfs(&self.file).unwrap();
    }
}

impl Drop for Ballast {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
        let _ = self.file.set_len(0);
        let _ = syncfs(&self.file);
    }
}
