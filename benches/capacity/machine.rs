//! The machine: its memory, its disk, and the resources that a process uses.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::time::Instant;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The clock ticks per second in `/proc`, on every Linux.
const TICKS: f64 = 100.0;

/// The processor time used by this process, and when it was measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    user: f64,
    system: f64,
    at: Instant,
}

impl Usage {
    pub(crate) fn now() -> Self {
        let stat = fs::read_to_string("/proc/self/stat").expect("the process");
        // The name in parentheses may have spaces; after it come the state and 10 more fields.
        let (_, fields) = stat.rsplit_once(')').expect("a name");
        let ticks = |at: usize| -> f64 {
            fields.split_whitespace().nth(at).and_then(|field| field.parse().ok()).expect("a field")
        };
        Self { user: ticks(11) / TICKS, system: ticks(12) / TICKS, at: Instant::now() }
    }

    /// Returns how many processors were busy since then: in the program, and in the system for it.
    pub(crate) fn busy_since(self) -> Busy {
        let now = Self::now();
        let elapsed = (now.at - self.at).as_secs_f64();
        Busy { user: (now.user - self.user) / elapsed, system: (now.system - self.system) / elapsed }
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Busy {
    pub(crate) user: f64,
    pub(crate) system: f64,
}

impl std::fmt::Display for Busy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.1} + {:.1}", self.user, self.system)
    }
}

/// The memory, threads and descriptors of a process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Taken {
    /// Its own memory, in bytes.
    pub(crate) memory: u64,
    /// Mapped file pages, in bytes. The system reclaims them when it needs memory.
    pub(crate) mapped: u64,
    pub(crate) threads: u64,
    pub(crate) descriptors: u64,
    pub(crate) mappings: u64,
}

impl Taken {
    pub(crate) fn now() -> Self {
        let status = fs::read_to_string("/proc/self/status").expect("the process");
        Self {
            memory: number(&status, "RssAnon:") << 10,
            mapped: number(&status, "RssFile:") << 10,
            threads: number(&status, "Threads:"),
            descriptors: fs::read_dir("/proc/self/fd").expect("descriptors").count() as u64 - 1,
            mappings: fs::read_to_string("/proc/self/maps").expect("mappings").lines().count() as u64,
        }
    }

    /// Returns the difference since then.
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            memory: self.memory.saturating_sub(before.memory),
            mapped: self.mapped.saturating_sub(before.mapped),
            threads: self.threads.saturating_sub(before.threads),
            descriptors: self.descriptors.saturating_sub(before.descriptors),
            mappings: self.mappings.saturating_sub(before.mappings),
        }
    }
}

fn number(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

pub(crate) fn free_bytes(directory: &Path) -> u64 {
    let disk = rustix::fs::statvfs(directory).expect("the disk");
    disk.f_bavail * disk.f_frsize
}

/// Removes a directory that this program made, and waits until the disk is idle.
pub(crate) fn clear(directory: &Path) {
    fs::remove_dir_all(directory).expect("what this program made");
    rustix::fs::sync();
}

/// Keeps memory in a realistic state: full of clean pages of a file. On a virtual machine that returns free memory to its host, the first
/// touch of each page is expensive, and the first part would pay for all.
pub(crate) fn warm_memory(directory: &Path) {
    const MOST: u64 = 12 << 30;
    let free = number(&fs::read_to_string("/proc/meminfo").unwrap_or_default(), "MemFree:") << 10;
    let free = free.min(MOST);
    let path = directory.join("warm-memory");
    let file = File::create_new(&path).expect("a file");
    file.set_len(free).expect("a sparse file");
    let mut file = File::open(&path).expect("the file");
    let mut buffer = vec![0; 4 << 20];
    while file.read(&mut buffer).expect("zeros") > 0 {}
    fs::remove_file(&path).expect("the file");
}

/// Raises the limit of open files as far as the system allows.
pub(crate) fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    // If this fails, work with many files fails with its own error.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// Describes the machine, for the head of a report.
pub(crate) fn describe(directory: &Path) -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let processors = read("/proc/cpuinfo");
    let model = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let count = std::thread::available_parallelism().map_or(0, usize::from);
    format!(
        "{count} processors ({}), {:.0} GiB of memory, Linux {}, {} open files allowed, {} mappings, {:.0} GiB of disk free",
        model.map_or("unknown", |(_, model)| model),
        number(&read("/proc/meminfo"), "MemTotal:") as f64 / f64::from(1 << 20),
        read("/proc/sys/kernel/osrelease").trim(),
        getrlimit(Resource::Nofile).current.unwrap_or(0),
        read("/proc/sys/vm/max_map_count").trim(),
        free_bytes(directory) as f64 / f64::from(1 << 30),
    )
}
