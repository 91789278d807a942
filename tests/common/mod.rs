//! Helpers that the integration tests share.
#![allow(dead_code, unreachable_pub)]

pub mod aggregates;
#[cfg(feature = "delivery")]
pub mod certificates;
pub mod groups;
#[cfg(feature = "relay-kafka")]
pub mod kafka;
#[cfg(feature = "relay-kafka")]
pub mod kafka_broker;
#[cfg(feature = "relay-kafka")]
pub mod kafka_server;
pub mod killed;
#[cfg(all(feature = "relay-kinesis", feature = "gateway"))]
pub mod kinesis;
#[cfg(all(feature = "relay-kinesis", feature = "gateway"))]
pub mod kinesis_origin;
pub mod moto;
#[cfg(target_os = "linux")]
pub mod mounts;
#[cfg(feature = "delivery")]
pub mod place;
#[cfg(feature = "sql")]
pub mod pumps;
pub mod python;
#[cfg(any(feature = "object-store", all(feature = "relay-kinesis", feature = "gateway")))]
pub mod request;
#[cfg(feature = "object-store")]
pub mod s3;
pub mod tasks;
#[cfg(feature = "video")]
pub mod video;
pub mod waiting;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use streamlog::{
    Compression, DataKey, KeyError, KeyProvider, Maintenance, ManualClock, Position, Stream, StreamOptions,
    Timestamp, WrappedKey,
};
use tempfile::TempDir;

/// Makes a directory to work in, in memory if possible, because the tests sync thousands of times.
pub fn scratch() -> TempDir {
    let memory = Path::new("/dev/shm");
    let in_memory = memory.is_dir().then(|| tempfile::tempdir_in(memory).ok()).flatten();
    in_memory.unwrap_or_else(|| tempfile::tempdir().expect("a temporary directory"))
}

/// Returns a port that was free a moment ago.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Returns the Java that runs the KCL. Without one, prints a note; if `STREAMLOG_JAVA` says that it is there, and it is not, panics.
pub fn java() -> Option<std::ffi::OsString> {
    let named = std::env::var_os("STREAMLOG_JAVA");
    let java = named.clone().unwrap_or_else(|| "java".into());
    let runs = std::process::Command::new(&java)
        .arg("-version")
        .output()
        .is_ok_and(|output| output.status.success());
    assert!(runs || named.is_none(), "{java:?} does not run: .ci/run installs it");
    if !runs {
        println!("skipped: there is no java; `.ci/run` installs it");
    }
    runs.then_some(java)
}

/// Returns the file that `.ci/run` has installed at a path below `target`, or the one that the variable names. If it does not exist, prints a note;
/// if the variable is set, panics.
pub fn installed(variable: &str, place: &str) -> Option<PathBuf> {
    if let Some(named) = std::env::var_os(variable).map(PathBuf::from) {
        assert!(named.exists(), "{} is not there: .ci/run installs it", named.display());
        return Some(named);
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target").join(place);
    let found = path.exists().then_some(path);
    if found.is_none() {
        println!("skipped: there is no {place} in target; `.ci/run` installs it");
    }
    found
}

/// The arguments with which a test program runs the test `child` of a module (`module_path!()`) and nothing else, in a process that may be killed.
pub fn child_test(module: &str) -> [String; 4] {
    only(module, "child")
}

/// The arguments with which a test program runs one test of a module and nothing else.
///
/// With a single thread, the harness would print the test's name in front of the first line that the test prints.
pub fn only(module: &str, test: &str) -> [String; 4] {
    // The name of the program comes first, which names of tests do not have.
    let name = module.split_once("::").map_or(test.to_owned(), |(_, module)| format!("{module}::{test}"));
    ["--exact".to_owned(), name, "--nocapture".to_owned(), "--test-threads=2".to_owned()]
}

/// Makes a clock that stands at a time in 2023.
pub fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(Timestamp::from_millis(1_700_000_000_000)))
}

/// Returns options for a stream with the smallest segments and no thread of its own.
pub fn small(clock: &Arc<ManualClock>) -> StreamOptions {
    StreamOptions::new().segment_bytes(64 << 10).maintenance(Maintenance::Manual).clock(clock.clone())
}

/// Returns one of this build's compression methods, for tests that mix records of all kinds.
pub fn any_compression(number: u64) -> Compression {
    match number % 3 {
        1 if cfg!(feature = "lz4") => Compression::Lz4,
        2 if cfg!(feature = "zstd") => Compression::zstd(),
        _ => Compression::None,
    }
}

/// Sets one of this build's combinations of encryption and compression, for tests that mix records of all kinds.
pub fn any_codec(options: StreamOptions, number: u64) -> StreamOptions {
    let options = options.compression(any_compression(number));
    match number / 3 % 3 {
        _ if !cfg!(feature = "encryption") => options,
        0 => options.decryption_only(OpenKeys),
        _ => options.encryption(OpenKeys),
    }
}

/// Keys for tests: the wrapping key is public.
#[derive(Debug)]
pub struct OpenKeys;

impl KeyProvider for OpenKeys {
    fn wrap(&self, key: &DataKey, context: &[u8]) -> Result<WrappedKey, KeyError> {
        let bytes = key.as_bytes().iter().zip(context.iter().cycle()).map(|(byte, mask)| byte ^ mask);
        Ok(WrappedKey { key_id: "open".to_owned(), bytes: bytes.collect() })
    }

    fn unwrap(&self, wrapped: &WrappedKey, context: &[u8]) -> Result<DataKey, KeyError> {
        let bytes = wrapped.bytes.iter().zip(context.iter().cycle()).map(|(byte, mask)| byte ^ mask);
        Ok(DataKey::new(bytes.collect::<Vec<_>>().try_into().map_err(|_| "32 bytes")?))
    }
}

/// Copies a directory as a `kill -9` would leave it: everything written, synced or not.
pub fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Returns key and data of all readable records of a shard.
pub fn read_all(stream: &Stream, shard: streamlog::ShardId) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut iterator = stream.iterator(shard, Position::TrimHorizon).unwrap();
    iterator
        .records()
        .map(|record| record.unwrap())
        .map(|r| (r.partition_key.to_vec(), r.data.to_vec()))
        .collect()
}

/// The place of the salt in a segment file.
pub const SALT: std::ops::Range<usize> = 32..48;

/// Corrects the checksum of the frame at an offset, for a file with this salt: see `docs/FORMAT.md`.
pub fn sign_frame(bytes: &mut [u8], at: usize, salt: &[u8]) {
    let len = u32::from_le_bytes(*bytes[at..].first_chunk().unwrap()) as usize;
    let checksum = crc32fast::hash(&[salt, &bytes[at + 8..at + len]].concat());
    bytes[at + 4..at + 8].copy_from_slice(&checksum.to_le_bytes());
}

/// Returns the segment files of a shard, in order.
pub fn segment_files(stream_dir: &Path, shard: u32) -> Vec<PathBuf> {
    let dir = stream_dir.join("shards").join(format!("{shard:012}"));
    let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Returns the bytes that a directory takes on the disk, as `du` counts them.
pub fn disk_bytes(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let metadata = fs::symlink_metadata(path).unwrap();
    let inside: u64 = match metadata.is_dir() {
        true => fs::read_dir(path).unwrap().map(|entry| disk_bytes(&entry.unwrap().path())).sum(),
        false => 0,
    };
    inside + metadata.blocks() * 512
}

/// Copies this test program to a place that anyone may access.
pub fn copy_of_program(place: &Path) -> PathBuf {
    let program = place.join("program");
    // Another process makes the copy. If this one did, a child that another test forks meanwhile could hold the copy open for writing,
    // and the copy could not be run.
    let copied = std::process::Command::new("install")
        .args(["-m", "755"])
        .arg(std::env::current_exe().unwrap())
        .arg(&program)
        .status()
        .unwrap();
    assert!(copied.success());
    program
}
