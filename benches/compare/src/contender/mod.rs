//! The contenders: one trait, and one small file for each that implements it.

use std::error::Error;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

mod bare;
mod bare_power;
#[cfg(feature = "commitlog")]
mod commitlog;
#[cfg(feature = "fjall")]
mod fjall;
#[cfg(feature = "heed")]
mod heed;
#[cfg(feature = "khata-rs")]
mod khata;
#[cfg(feature = "mrecordlog")]
mod mrecordlog;
#[cfg(feature = "nano-wal")]
mod nano_wal;
#[cfg(feature = "okaywal")]
mod okaywal;
#[cfg(feature = "queue-file")]
mod queue_file;
#[cfg(feature = "raft-engine")]
mod raft_engine;
#[cfg(feature = "redb")]
mod redb;
#[cfg(feature = "rocksdb")]
mod rocksdb;
#[cfg(feature = "sled")]
mod sled;
#[cfg(feature = "rusqlite")]
mod sqlite;
mod streamlog;
#[cfg(feature = "wal-db")]
mod wal_db;
#[cfg(feature = "walrus-rust")]
mod walrus;
#[cfg(feature = "yaque")]
mod yaque;

pub use streamlog::{NAME as STREAMLOG, TRIMMING};

pub type Failure = Box<dyn Error + Send + Sync>;
pub type Result<T> = std::result::Result<T, Failure>;

/// What a put that returned must survive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Class {
    /// The fastest configuration that survives the death of the process, or the fastest of all if none does.
    Process,
    /// Each put that returned survives power loss.
    Power,
}

/// How a contender is set up for a class, and what a put that returned then really survives.
#[derive(Debug, Clone, Copy)]
pub struct Mode {
    pub config: &'static str,
    pub survives: &'static str,
}

/// Facts to know along with a figure.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    pub name: &'static str,
    /// The package in `Cargo.lock` that the version is taken from, if it is a crate.
    pub package: Option<&'static str>,
    pub process: Option<Mode>,
    pub power: Option<Mode>,
    pub checksums: &'static str,
    pub live_readers: &'static str,
    pub writers: &'static str,
}

impl Facts {
    pub fn mode(&self, class: Class) -> Option<Mode> {
        match class {
            Class::Process => self.process,
            Class::Power => self.power,
        }
    }

    pub fn is_bare(&self) -> bool {
        self.name.starts_with("bare: ")
    }

    /// Returns the version that was built, from the lock file.
    pub fn version(&self) -> Option<&'static str> {
        let lines: Vec<_> = include_str!("../../Cargo.lock").lines().collect();
        let name = format!("name = \"{}\"", self.package?);
        let at = lines.iter().position(|line| **line == name)?;
        lines.get(at + 1)?.strip_prefix("version = \"")?.strip_suffix('"')
    }
}

/// How a log is opened.
#[derive(Debug, Clone)]
pub struct Setup {
    pub directory: PathBuf,
    pub class: Class,
    pub lanes: usize,
    /// Whether a put goes to the lane that it names instead of the lane of its key.
    pub own_lanes: bool,
    pub key_bytes: usize,
    pub record_bytes: usize,
    /// About how many bytes will be put in total, for contenders that must know it in advance.
    pub bytes_total: u64,
    /// Records in one put; 1 without batches.
    pub batch: usize,
    /// Whether to keep the position of each record, for contenders that cannot read without it.
    pub remember: bool,
    pub segment_bytes: Option<u64>,
}

impl Setup {
    /// Makes a directory for one of several logs that are used as shards.
    pub fn lane_directory(&self, lane: usize) -> Result<PathBuf> {
        let path = self.directory.join(format!("lane-{lane}"));
        std::fs::create_dir_all(&path)?;
        Ok(path)
    }

    /// Returns more bytes than a lane will take, with `overhead` bytes for each record.
    pub fn lane_bytes(&self, overhead: u64) -> u64 {
        let record = (self.record_bytes + self.key_bytes) as u64;
        // Any lane may get more than its share.
        let records = self.bytes_total / record + 1_000;
        (records * (record + overhead) + (64 << 20)).next_multiple_of(4 << 10)
    }

    /// Opens one log for each lane.
    pub fn each_lane<T>(&self, open: impl FnMut(usize) -> Result<T>) -> Result<Vec<T>> {
        (0..self.lanes).map(open).collect()
    }
}

pub struct Contender {
    pub facts: Facts,
    pub open: fn(&Setup) -> Result<Box<dyn Log>>,
}

/// An open log. A record is one slice: a key of a known length, and the data.
pub trait Log: Send + Sync {
    /// Returns a writer for one thread. With `alone`, no other thread touches the log while the writer lives, so a writer that needs a
    /// lock may take it once.
    fn writer(&self, alone: bool) -> Result<Box<dyn Writer + '_>>;

    /// Reads a lane from the beginning to the end.
    fn read_all(&self, _lane: usize, _tally: &mut Tally) -> Result<()> {
        no_call("it has no call that reads the whole log while it is open")
    }

    /// Returns how many readers may read at the same time.
    fn readers_max(&self) -> usize {
        usize::MAX
    }

    fn random(&self) -> Result<Box<dyn Random + '_>> {
        no_call("it has no call that finds a record by its number")
    }

    /// Follows lane 0 from its beginning. With `park`, uses a call that sleeps until a record comes.
    fn tail(&self, _park: bool) -> Result<Box<dyn Tail + '_>> {
        no_call("it has no reader that follows a writer")
    }

    fn close(self: Box<Self>) -> Result<()>;
}

pub trait Writer {
    fn put(&mut self, lane: usize, record: &[u8]) -> Result<()>;

    fn put_batch(&mut self, _lane: usize, _records: &[&[u8]]) -> Result<()> {
        no_call("it has no call for many records at once")
    }
}

pub trait Random {
    fn get(&mut self, number: u64, tally: &mut Tally) -> Result<()>;

    /// Reads the first record that arrived at a time, given as a share of the time between the first record and the last.
    fn get_by_time(&mut self, _share: f64, _tally: &mut Tally) -> Result<()> {
        no_call("it has no call that finds a record by its time")
    }
}

pub trait Tail {
    /// Passes on the records available now, oldest first. If it parks, it waits a little for one. Returns how many.
    fn next(&mut self, take: &mut dyn FnMut(&[u8])) -> Result<usize>;
}

/// The sum of what was read. Every byte is looked at.
#[derive(Debug, Default, Clone, Copy)]
pub struct Tally {
    pub records: u64,
    pub bytes: u64,
    pub sum: u64,
}

impl Tally {
    #[inline]
    pub fn take(&mut self, record: &[u8]) {
        self.records += 1;
        self.bytes += record.len() as u64;
        self.sum = self.sum.wrapping_add(sum_of(record));
    }

    #[inline]
    pub fn take_parts(&mut self, key: &[u8], data: &[u8]) {
        self.records += 1;
        self.bytes += (key.len() + data.len()) as u64;
        self.sum = self.sum.wrapping_add(sum_of(key)).wrapping_add(sum_of(data));
    }

    pub fn add(&mut self, other: &Self) {
        self.records += other.records;
        self.bytes += other.bytes;
        self.sum = self.sum.wrapping_add(other.sum);
    }
}

/// Looks at each byte, eight at a time.
#[inline]
pub fn sum_of(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let words = words.iter().fold(0u64, |sum, word| sum.wrapping_add(u64::from_ne_bytes(*word)));
    rest.iter().fold(words, |sum, byte| sum.wrapping_add(u64::from(*byte)))
}

/// Something that a contender does not support, which is not a failure.
#[derive(Debug)]
pub struct NoCall(pub &'static str);

impl fmt::Display for NoCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Error for NoCall {}

pub fn no_call<T>(why: &'static str) -> Result<T> {
    Err(Box::new(NoCall(why)))
}

/// Logs that allow one caller at a time, one for each lane. Each is behind a mutex, as its users would have it.
pub struct Lanes<T>(Vec<Mutex<T>>);

impl<T> Lanes<T> {
    pub fn new(logs: Vec<T>) -> Self {
        Self(logs.into_iter().map(Mutex::new).collect())
    }

    pub fn hold(&self, alone: bool) -> Held<'_, T> {
        let held = if alone { self.0.iter().map(lock).collect() } else { vec![] };
        Held { lanes: &self.0, held }
    }

    pub fn lock(&self, lane: usize) -> MutexGuard<'_, T> {
        lock(&self.0[lane])
    }

    pub fn into_logs(self) -> impl Iterator<Item = T> {
        self.0.into_iter().map(|lane| lane.into_inner().unwrap_or_else(PoisonError::into_inner))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Access to `Lanes`: a writer that is alone locks them once, any other for each call.
pub struct Held<'a, T> {
    lanes: &'a [Mutex<T>],
    held: Vec<MutexGuard<'a, T>>,
}

impl<T> Held<'_, T> {
    #[inline]
    pub fn with<R>(&mut self, lane: usize, work: impl FnOnce(&mut T) -> R) -> R {
        match self.held.get_mut(lane) {
            Some(log) => work(log),
            None => work(&mut lock(&self.lanes[lane])),
        }
    }
}

/// Numbers of records as keys of an ordered store: lane, then number.
#[cfg(any(feature = "fjall", feature = "heed", feature = "redb", feature = "rocksdb", feature = "sled"))]
mod numbered {
    use std::sync::atomic::{AtomicU64, Ordering};

    pub const KEY_BYTES: usize = 10;

    pub struct Numbers(Vec<AtomicU64>);

    impl Numbers {
        pub fn new(lanes: usize) -> Self {
            Self((0..lanes).map(|_| AtomicU64::new(0)).collect())
        }

        #[inline]
        pub fn next(&self, lane: usize) -> [u8; KEY_BYTES] {
            key(lane, self.0[lane].fetch_add(1, Ordering::Relaxed))
        }
    }

    #[inline]
    pub fn key(lane: usize, number: u64) -> [u8; KEY_BYTES] {
        let mut key = [0; KEY_BYTES];
        key[..2].copy_from_slice(&(lane as u16).to_be_bytes());
        key[2..].copy_from_slice(&number.to_be_bytes());
        key
    }
}

/// Returns all contenders that were built: streamlog first, then the bare limits, then peers by name.
pub fn all() -> Vec<Contender> {
    let mut all = streamlog::contenders();
    all.extend(bare::contenders());
    all.extend(bare_power::contenders());
    #[cfg(feature = "commitlog")]
    all.push(commitlog::contender());
    #[cfg(feature = "fjall")]
    all.push(fjall::contender());
    #[cfg(feature = "heed")]
    all.push(heed::contender());
    #[cfg(feature = "khata-rs")]
    all.push(khata::contender());
    #[cfg(feature = "mrecordlog")]
    all.push(mrecordlog::contender());
    #[cfg(feature = "nano-wal")]
    all.push(nano_wal::contender());
    #[cfg(feature = "okaywal")]
    all.push(okaywal::contender());
    #[cfg(feature = "queue-file")]
    all.push(queue_file::contender());
    #[cfg(feature = "raft-engine")]
    all.push(raft_engine::contender());
    #[cfg(feature = "redb")]
    all.push(redb::contender());
    #[cfg(feature = "rocksdb")]
    all.push(rocksdb::contender());
    #[cfg(feature = "sled")]
    all.push(sled::contender());
    #[cfg(feature = "rusqlite")]
    all.push(sqlite::contender());
    #[cfg(feature = "wal-db")]
    all.push(wal_db::contender());
    #[cfg(feature = "walrus-rust")]
    all.push(walrus::contender());
    #[cfg(feature = "yaque")]
    all.push(yaque::contender());
    all
}
