//! Streams to measure on: growing streams that are trimmed, filled streams, and copies of them as a kill leaves them.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use streamlog::{Maintenance, ManualClock, PutRecord, Retention, Stream, StreamOptions, Timestamp};
use tempfile::TempDir;

pub(crate) const KEY: &str = "0123456789";
/// The bytes that may be put before the clock stops for maintenance.
pub(crate) const BYTES_BETWEEN: usize = 64 << 20;

/// A stream that grows, and is trimmed from time to time.
pub(crate) struct Growing {
    pub(crate) stream: Stream,
    put_bytes: usize,
    pub(crate) directory: TempDir,
}

impl Growing {
    pub(crate) fn new(options: StreamOptions) -> Self {
        let directory = tempfile::tempdir().expect("a directory to work in");
        let options =
            options.retention(Retention::forever().bytes_max(4 * BYTES_BETWEEN as u64)).sync_interval(None);
        let stream = options.open(directory.path()).expect("a stream");
        Self { stream, put_bytes: 0, directory }
    }

    /// Times `runs` runs of `put`, of `bytes` bytes each.
    pub(crate) fn time(&mut self, runs: u64, bytes: usize, mut put: impl FnMut(&Stream)) -> Duration {
        let (mut left, mut timed) = (runs, Duration::ZERO);
        while left > 0 {
            if self.put_bytes >= BYTES_BETWEEN {
                self.stream.maintain().expect("maintenance");
                self.put_bytes = 0;
            }
            let count = left.min((BYTES_BETWEEN - self.put_bytes).div_ceil(bytes) as u64);
            let started = Instant::now();
            (0..count).for_each(|_| put(&self.stream));
            timed += started.elapsed();
            (left, self.put_bytes) = (left - count, self.put_bytes + count as usize * bytes);
        }
        timed
    }
}

/// Makes a stream of `records` records, one a millisecond, put `at_a_time`. Returns it with the options to open it again.
pub(crate) fn filled(
    segment_bytes: u64,
    records: usize,
    bytes: usize,
    at_a_time: usize,
) -> (TempDir, Stream, StreamOptions) {
    let directory = tempfile::tempdir().expect("a directory to work in");
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(0)));
    let options = StreamOptions::new().segment_bytes(segment_bytes).retention(Retention::forever());
    let options = options.maintenance(Maintenance::Manual).clock(clock.clone());
    let stream = options.clone().open(directory.path()).expect("a stream");
    let data = vec![7; bytes];
    let batch = vec![PutRecord::new(KEY, &data); at_a_time];
    for _ in 0..records / at_a_time {
        let outcomes =
            if at_a_time == 1 { stream.put(KEY, &data).map(|_| vec![]) } else { stream.put_batch(&batch) };
        assert!(outcomes.is_ok_and(|outcomes| outcomes.iter().all(Result::is_ok)));
        clock.advance(Duration::from_millis(at_a_time as u64));
    }
    (directory, stream, options)
}

/// Copies a directory and syncs the copied files.
pub(crate) fn copy_dir(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_dir(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
            File::open(&target)?.sync_all()?;
        }
    }
    Ok(())
}
