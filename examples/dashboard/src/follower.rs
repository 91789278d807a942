//! A reader of all shards that measures the time from put to read, and counts bytes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use hdrhistogram::Histogram;
use streamlog::{Error as StreamError, LineageIterator, Position, ShardId, Stream};

use crate::Result;

/// What the follower has seen since the last call of `take`.
pub struct Seen {
    pub bytes: HashMap<ShardId, u64>,
    pub delay_micros: Histogram<u64>,
}

impl Seen {
    fn new() -> Result<Self> {
        Ok(Self { bytes: HashMap::new(), delay_micros: Histogram::new(3)? })
    }
}

/// Reads new records in its own thread, until it is dropped.
pub struct Follower {
    seen: Arc<Mutex<Seen>>,
    must_stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Follower {
    pub fn start(stream: &Stream) -> Result<Self> {
        let iterator = stream.lineage_iterator(Position::Latest)?;
        let seen = Arc::new(Mutex::new(Seen::new()?));
        let must_stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::Builder::new().name("follower".into()).spawn({
            let (stream, seen, must_stop) = (stream.clone(), Arc::clone(&seen), Arc::clone(&must_stop));
            move || follow(&stream, iterator, &seen, &must_stop)
        })?;
        Ok(Self { seen, must_stop, thread: Some(thread) })
    }

    /// Returns what the follower has seen since the last call.
    pub fn take(&mut self) -> Result<Seen> {
        if let Some(thread) = self.thread.take_if(|thread| thread.is_finished()) {
            thread.join().map_err(|_| "the follower has died")??;
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(std::mem::replace(&mut *seen, Seen::new()?))
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.must_stop.store(true, Ordering::Relaxed);
        // Nobody is left to handle the result.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn follow(
    stream: &Stream,
    mut iterator: LineageIterator,
    seen: &Mutex<Seen>,
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
            batch => batch?,
        };
        let now = stream.now();
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = batch.iter().map(|record| (record.partition_key().len() + record.data().len()) as u64);
        *seen.bytes.entry(batch.shard()).or_default() += bytes.sum::<u64>();
        for record in &batch {
            seen.delay_micros.saturating_record(now.since(record.timestamp()).as_micros() as u64);
        }
    }
    Ok(())
}
