//! A made-up load: one producer with unevenly popular keys, and two consumer groups, one of them slow.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use streamlog::{MINUTE, Retention, Stream, StreamOptions};

use crate::Result;

const RECORDS_PER_SECOND: f64 = 10_000.0;
const USERS: f64 = 5_000.0;

pub fn open(path: &Path) -> streamlog::Result<Stream> {
    let retention = Retention::age(2 * MINUTE).bytes_max(256 << 20);
    StreamOptions::new().shards(4).retention(retention).open(path)
}

pub struct Demo {
    must_stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<()>>>,
}

impl Demo {
    pub fn start(stream: &Stream) -> Result<Self> {
        let mut demo = Self { must_stop: Arc::default(), threads: vec![] };
        demo.spawn(stream, "producer", produce)?;
        for _ in 0..2 {
            demo.spawn(stream, "billing", |stream, must_stop| {
                consume(stream, "billing", Duration::ZERO, must_stop)
            })?;
        }
        demo.spawn(stream, "reports", |stream, must_stop| {
            consume(stream, "reports", Duration::from_secs(4), must_stop)
        })?;
        Ok(demo)
    }

    fn spawn(
        &mut self,
        stream: &Stream,
        name: &str,
        work: fn(&Stream, &AtomicBool) -> Result<()>,
    ) -> Result<()> {
        let (stream, must_stop) = (stream.clone(), Arc::clone(&self.must_stop));
        let thread = thread::Builder::new().name(name.into());
        self.threads.push(thread.spawn(move || work(&stream, &must_stop))?);
        Ok(())
    }

    /// Returns whether a thread has ended by itself, which should not happen.
    pub fn has_ended(&self) -> bool {
        self.threads.iter().any(|thread| thread.is_finished())
    }

    pub fn stop(self) -> Result<()> {
        self.must_stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().map_err(|_| "a thread of the load has died")??;
        }
        Ok(())
    }
}

/// Puts clicks at a rate that rises and falls.
fn produce(stream: &Stream, must_stop: &AtomicBool) -> Result<()> {
    let (started, mut due, mut last, mut random) = (Instant::now(), 0.0, 0.0, 1u64);
    let page = "/product/17?from=search&".repeat(8);
    while !must_stop.load(Ordering::Relaxed) {
        let now = started.elapsed().as_secs_f64();
        due += (now - last) * RECORDS_PER_SECOND * (1.0 + 0.5 * (now / 3.0).sin());
        last = now;
        while due >= 1.0 && !must_stop.load(Ordering::Relaxed) {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let dice = (random >> 33) as f64 / (1u64 << 31) as f64;
            // The first users click most.
            let user = (dice.powi(4) * USERS) as u64;
            stream.put(format!("user-{user}"), &page[..page.len() / 2 + user as usize % 90])?;
            due -= 1.0;
        }
        thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// Reads all records as a worker of a group, with pauses in between.
fn consume(stream: &Stream, group: &str, rest: Duration, must_stop: &AtomicBool) -> Result<()> {
    let mut worker = stream.group(group).worker().open()?;
    let mut rested_at = Instant::now();
    while !must_stop.load(Ordering::Relaxed) {
        if rested_at.elapsed() < rest {
            thread::sleep(Duration::from_millis(50));
            continue;
        }
        match worker.poll(Duration::from_millis(50))? {
            Some(batch) => worker.commit(&batch)?,
            None => rested_at = Instant::now(),
        }
    }
    Ok(())
}
