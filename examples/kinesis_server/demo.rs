//! A demo stream with traffic: clicks of a shop, and a group that reads them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use streamlog::{DAY, Error, KeyHash, PutRecord, Result, Retention, Store, Stream, StreamOptions};

pub(crate) const STREAM: &str = "demo-clicks";
const GROUP: &str = "demo-billing";
const SHARDS: u32 = 4;
const STEP: Duration = Duration::from_millis(100);
const PAGES: [&str; 6] = ["/", "/search", "/shoes/1042", "/shoes/77", "/basket", "/checkout"];

/// The threads that put and read until this is dropped.
pub(crate) struct Demo {
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Drop for Demo {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // The panic was already printed.
            let _ = thread.join();
        }
    }
}

/// Creates the stream if it does not exist, and starts to put and read.
pub(crate) fn start(store: &Store) -> Result<Demo> {
    let options = StreamOptions::new().shards(SHARDS).key_hash(KeyHash::Md5).retention(Retention::age(DAY));
    let stream = match store.names()?.iter().any(|name| name == STREAM) {
        true => store.stream(STREAM)?,
        false => store.create(STREAM, options)?,
    };
    let is_over = Arc::<AtomicBool>::default();
    let work = [put as fn(&Stream, &AtomicBool) -> Result<()>, read];
    let threads = work.into_iter().map(|work| {
        let (stream, is_over) = (stream.clone(), Arc::clone(&is_over));
        thread::spawn(move || {
            if let Err(error) = work(&stream, &is_over) {
                eprintln!("the demo ends: {error}");
            }
        })
    });
    Ok(Demo { threads: threads.collect(), is_over })
}

/// Puts 100 to 900 clicks a second. A fifth of them come from one shopper, so one shard is busier than the others.
fn put(stream: &Stream, is_over: &AtomicBool) -> Result<()> {
    let begun = Instant::now();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut number = 0u64;
    while !is_over.load(Ordering::Relaxed) && !stream.is_closed() {
        let wave = (begun.elapsed().as_secs_f64() / 15.0).sin();
        let count = 50.0 + 40.0 * wave;
        let clicks: Vec<_> = (0..count as usize)
            .map(|_| {
                number += 1;
                let shopper = if random.below(5) == 0 { 7 } else { random.below(2_000) };
                let page = PAGES[random.below(PAGES.len() as u64) as usize];
                let (millis, items) = (random.below(900), random.below(6));
                let click = format!(
                    r#"{{"n": {number}, "shopper": "shopper-{shopper}", "page": "{page}", "basket": {{"items": {items}, "cents": {}}}, "millis": {millis}}}"#,
                    items * 1_995
                );
                (format!("shopper-{shopper}"), click)
            })
            .collect();
        let records: Vec<_> = clicks.iter().map(|(key, click)| PutRecord::new(key, click)).collect();
        for put in stream.put_batch(&records)? {
            match put {
                // With limits, some clicks are refused.
                Ok(_) | Err(Error::Throttled { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        thread::sleep(STEP);
    }
    Ok(())
}

/// Reads all clicks as a billing group does, with a pause now and then, so that its lag varies.
fn read(stream: &Stream, is_over: &AtomicBool) -> Result<()> {
    let mut worker = stream.group(GROUP).worker().open()?;
    let mut random = Random(42);
    while !is_over.load(Ordering::Relaxed) && !stream.is_closed() {
        if let Some(batch) = worker.poll(STEP)? {
            worker.commit(&batch)?;
        }
        thread::sleep(Duration::from_millis(if random.below(60) == 0 { 4_000 } else { 20 }));
    }
    Ok(())
}

/// Pseudorandom numbers.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}
