//! A reader of all shards that measures the time from put to read.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use hdrhistogram::Histogram;
use streamlog::{Error as StreamError, LineageIterator, Position, StreamReader};

use crate::Result;

/// The times that the follower has measured, in microseconds.
type Delays = Histogram<u64>;

/// Reads new records in its own thread, until it is dropped.
pub struct Follower {
    seen: Arc<Mutex<Delays>>,
    must_stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Follower {
    pub fn start(reader: &StreamReader) -> Result<Self> {
        let iterator = reader.lineage_iterator(Position::Latest)?;
        let seen = Arc::new(Mutex::new(Histogram::new(3)?));
        let must_stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::Builder::new().name("follower".into()).spawn({
            let (reader, seen, must_stop) = (reader.clone(), Arc::clone(&seen), Arc::clone(&must_stop));
            move || follow(&reader, iterator, &seen, &must_stop)
        })?;
        Ok(Self { seen, must_stop, thread: Some(thread) })
    }

    /// Returns what the follower has measured since the last call.
    pub fn take(&mut self) -> Result<Delays> {
        if let Some(thread) = self.thread.take_if(|thread| thread.is_finished()) {
            thread.join().map_err(|_| "the follower has died")??;
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(std::mem::replace(&mut *seen, Histogram::new(3)?))
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.must_stop.store(true, Ordering::Relaxed);
        // The receiver is gone.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn follow(
    reader: &StreamReader,
    mut iterator: LineageIterator,
    seen: &Mutex<Delays>,
    must_stop: &AtomicBool,
) -> Result<()> {
    while !must_stop.load(Ordering::Relaxed) {
        match iterator.wait(Duration::from_millis(50)) {
            Err(StreamError::Closed) => return Ok(()),
            waited => waited?,
        };
        let batch = match iterator.next_batch(10_000) {
            // The follower only watches, so missed records do not matter.
            Err(StreamError::Trimmed { .. }) => {
                iterator.skip_to_horizon();
                continue;
            }
            Err(StreamError::Lost { .. } | StreamError::Cut { .. }) => {
                iterator = reader.lineage_iterator(Position::Latest)?;
                continue;
            }
            batch => batch?,
        };
        let now = reader.now();
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        for record in &batch {
            seen.saturating_record(now.since(record.timestamp()).as_micros() as u64);
        }
    }
    Ok(())
}
