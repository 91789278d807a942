//! The machine: its memory, its disk, its processes.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Keeps memory in a realistic state: none is free, and clean pages of a file fill it.
///
/// On a virtual machine that returns free memory to its host, the first touch of a page costs many times as much as filling it.
/// Reading a sparse file fills pages without using the disk.
pub struct WarmMemory {
    file: File,
    path: PathBuf,
    bytes: u64,
    at: u64,
}

impl WarmMemory {
    const FILE_BYTES: u64 = 1 << 43;

    pub fn new(directory: &Path, bytes: u64) -> io::Result<Self> {
        let path = directory.join("warm-memory");
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
        file.set_len(Self::FILE_BYTES)?;
        Ok(Self { file, path, bytes, at: 0 })
    }

    /// Reads more than fits into memory.
    pub fn fill(&mut self) -> io::Result<()> {
        self.read(self.bytes)
    }

    /// Fills the memory that the last measurement left free.
    pub fn top_up(&mut self) -> io::Result<()> {
        self.read(memory_bytes("MemFree:")? + (64 << 20))
    }

    /// Reads pages that were not read yet, so that each takes memory.
    fn read(&mut self, bytes: u64) -> io::Result<()> {
        let mut buffer = vec![0; 4 << 20];
        for _ in 0..bytes.div_ceil(buffer.len() as u64) {
            if self.at + buffer.len() as u64 > Self::FILE_BYTES {
                self.at = 0;
            }
            self.file.read_exact_at(&mut buffer, self.at)?;
            self.at += buffer.len() as u64;
        }
        Ok(())
    }
}

impl Drop for WarmMemory {
    fn drop(&mut self) {
        // A leftover sparse file does no harm.
        let _ = fs::remove_file(&self.path);
    }
}

/// Returns a value of `/proc/meminfo`.
pub fn memory_bytes(name: &str) -> io::Result<u64> {
    kib_of(&fs::read_to_string("/proc/meminfo")?, name)
}

fn kib_of(text: &str, name: &str) -> io::Result<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kib.map(|kib| kib << 10).ok_or_else(|| io::Error::other(format!("no {name}")))
}

/// Returns the resident memory of this process: its own, and mapped file pages.
pub fn resident_bytes() -> io::Result<(u64, u64)> {
    let status = fs::read_to_string("/proc/self/status")?;
    Ok((kib_of(&status, "RssAnon:")?, kib_of(&status, "RssFile:")?))
}

/// Returns the bytes of all blocks below a directory.
pub fn disk_bytes(directory: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { disk_bytes(&entry.path())? } else { metadata.blocks() * 512 };
    }
    Ok(bytes)
}

/// Removes a directory that this program made, and waits until the disk is idle.
pub fn clear(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    rustix::fs::sync();
    Ok(())
}

/// Raises the limit of open files as far as the system allows.
pub fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // If this fails, work with many files fails with its own error.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// Describes the processor, memory, kernel and file system, for the head of a report.
pub fn describe(directory: &Path) -> String {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown processor", |(_, model)| model);
    let threads = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = memory_bytes("MemTotal:").unwrap_or(0) as f64 / (1u64 << 30) as f64;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let directory = fs::canonicalize(directory).unwrap_or_default();
    let mount = mounts
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ').skip(1);
            Some((words.next()?, words.next()?))
        })
        .filter(|(point, _)| directory.starts_with(point))
        .max_by_key(|(point, _)| point.len());
    let filesystem = mount.map_or("unknown", |(_, kind)| kind);
    format!("{model}, {threads} threads; {memory:.1} GiB; Linux {}; {filesystem}", kernel.trim())
}

/// Waits for a child, and kills it after the timeout. Returns whether it ended by itself.
pub fn wait_for(child: &mut std::process::Child, timeout: Duration) -> io::Result<bool> {
    let started = Instant::now();
    loop {
        if child.try_wait()?.is_some() {
            return Ok(true);
        }
        if started.elapsed() > timeout {
            child.kill()?;
            child.wait()?;
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
