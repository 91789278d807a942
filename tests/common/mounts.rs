//! Small file systems, mounted for a test and gone after it.

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
    /// The smallest size that makes sense: mkfs.xfs refuses less than 300 MiB. Images are sparse, so it costs nothing.
    pub fn bytes(self) -> u64 {
        match self {
            Self::Tmpfs => 8 << 20,
            Self::Ext4 => 64 << 20,
            Self::Xfs => 320 << 20,
        }
    }
}

/// A mounted file system. Dropping it unmounts it, also when a test panics.
#[derive(Debug)]
pub struct Mount {
    point: TempDir,
    /// Where the image is, if it is this mount's own. Dropped after it is unmounted.
    _image: Option<TempDir>,
}

impl Mount {
    /// Makes and mounts a file system with an image of its own; where that is not possible, says so and returns `None`.
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
        // The loop device goes by itself with its mount.
        let mut mounted = Self::at_a_point([OsStr::new("-o"), OsStr::new("loop"), image.as_os_str()])?;
        mounted._image = Some(scratch);
        Ok(mounted)
    }

    /// Mounts an image that lies on another file system, past that one's page cache, so that its file is as the disk would be.
    pub fn of_image(kind: Kind, image: &Path) -> Result<Self, String> {
        // Clones on xfs take whole blocks only.
        let attach = ["--direct-io=on", "--sector-size=4096", "--find", "--show"].map(OsStr::new);
        let device = run("losetup", attach.into_iter().chain([image.as_os_str()]))?;
        // A clone has the identity of what it was cloned from, which xfs refuses to see twice.
        let options = if kind == Kind::Xfs { "nouuid" } else { "defaults" };
        let mounted = Self::at_a_point(["-o", options, device.trim()].map(OsStr::new));
        // While it is mounted this only makes it go by itself with its mount.
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
        // A test that panics may still hold files open: then it goes when they do.
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
        // Nothing is set aside for root, who runs these tests.
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

/// Says what is skipped and why, where a file system cannot be had. Past the test harness, which shows it only for failures.
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

/// A file that takes all the room there is, until it is told to leave some. Dropping it leaves all.
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
        // What was removed before is free only after this.
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

    /// Leaves so much room more.
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
