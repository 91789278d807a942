//! A generated load: one producer with unevenly popular keys, two consumer groups, one of them slow, two processors and a queue, each with some
//! records that it cannot handle.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use streamlog::{Invocation, MINUTE, Position, Processor, Retention, SECOND, Stream, StreamOptions};

use crate::Result;
use crate::watched::Watched;

const RECORDS_PER_SECOND: f64 = 10_000.0;
const USERS: f64 = 5_000.0;

pub fn open(path: &Path) -> streamlog::Result<Stream> {
    let retention = Retention::age(2 * MINUTE).bytes_max(256 << 20);
    StreamOptions::new().shards(4).retention(retention).open(path)
}

pub struct Demo {
    must_stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<()>>>,
    processors: Arc<[Processor]>,
}

impl Demo {
    pub fn start(stream: &Stream) -> Result<Self> {
        let processors = Arc::new([judge(stream)?, index(stream)?]);
        let mut demo = Self { must_stop: Arc::default(), threads: vec![], processors };
        demo.spawn(stream, "producer", produce)?;
        for _ in 0..2 {
            demo.spawn(stream, "billing", |stream, must_stop| {
                consume(stream, "billing", Duration::ZERO, must_stop)
            })?;
        }
        demo.spawn(stream, "reports", |stream, must_stop| {
            consume(stream, "reports", Duration::from_secs(4), must_stop)
        })?;
        demo.spawn(stream, "mail", send_mail)?;
        Ok(demo)
    }

    /// Returns the stream with the processors of the load, for the dashboard.
    pub fn watched(&self, stream: &Stream) -> Watched {
        Watched::Own { stream: stream.clone(), processors: Arc::clone(&self.processors) }
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
        // Closes the processors, unless somebody still watches them.
        drop(self.processors);
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

/// A processor with several lanes, which gives up the records of some users after a second try.
fn judge(stream: &Stream) -> streamlog::Result<Processor> {
    stream
        .processor("fraud")
        .parallelization_factor(2)
        .batch_size(500)
        .maximum_retry_attempts(1)
        .bisect_batch_on_function_error(true)
        .backoff(Duration::from_millis(1), Duration::from_millis(20))
        .start(|invocation: &Invocation| {
            thread::sleep(Duration::from_millis(2));
            let is_unknown = invocation.records().any(|record| record.partition_key().ends_with(b"777"));
            if is_unknown { Err("nobody knows this user") } else { Ok(()) }
        })
}

/// A processor whose calls sometimes hang.
fn index(stream: &Stream) -> streamlog::Result<Processor> {
    let calls = AtomicU64::new(0);
    stream.processor("search").batch_size(2_000).time_limit(SECOND).start(move |_| {
        let hangs = calls.fetch_add(1, Ordering::Relaxed) % 5_000 == 5;
        thread::sleep(if hangs { 15 * SECOND } else { Duration::from_millis(5) });
    })
}

/// A worker of a queue that postpones some mails, and never sends others.
fn send_mail(stream: &Stream, must_stop: &AtomicBool) -> Result<()> {
    let options = stream.queue("mail").start_at(Position::Latest).max_receive_count(2);
    let queue = options.visibility_timeout(2 * SECOND).open()?;
    while !must_stop.load(Ordering::Relaxed) {
        let mails = queue.receive(500, Duration::from_millis(50))?;
        let (mut sent, mut number) = (vec![], 0);
        for mail in &mails {
            number += 1;
            match (mail.record.sequence.get() % 1_000, mail.receive_count) {
                // It stays in flight until its visibility timeout ends.
                (17, _) => {}
                (18..28, 1) => queue.release(&mail.handle, 5 * SECOND)?,
                _ => sent.push(&mail.handle),
            }
        }
        // The time that sending takes.
        thread::sleep(Duration::from_micros(20 * number));
        for outcome in queue.acknowledge_batch(sent)? {
            outcome?;
        }
    }
    Ok(queue.close()?)
}
