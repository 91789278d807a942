//! A durable work queue between threads that survives a kill, retries failed jobs, and sets aside jobs that cannot be done.
//!
//! One thread puts jobs, and three threads take them from one queue. A worker acknowledges each job after it has done it. A job that fails
//! is released and retried, and one that has failed three times becomes a dead letter. If the process dies, its jobs in flight become visible
//! again when their visibility timeouts end. So each job is done **at least once**, and doing a job twice should be harmless.
//!
//! To show this, the example runs itself as a child process, kills it twice in the middle, lets it finish, and counts.
//!
//! ```text
//! cargo run --example work_queue
//! ```

use std::collections::HashMap;
use std::error::Error;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use streamlog::{PutRecord, Queue, QueueRecord, Stream, StreamOptions};

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

const JOBS: u64 = 3_000;
const WORKERS: u64 = 3;
const JOBS_IN_HAND: usize = 10;
const MAX_RECEIVE_COUNT: u32 = 3;
/// Much longer than the jobs in flight take, and short enough that the example ends soon.
const VISIBILITY_TIMEOUT: Duration = Duration::from_secs(2);

fn main() -> Result<()> {
    match std::env::args_os().nth(1) {
        Some(directory) => put_and_work(Path::new(&directory)),
        None => kill_twice_and_count(),
    }
}

/// One job in a hundred can never be done.
fn is_impossible(job: u64) -> bool {
    job % 100 == 99
}

// ---- The child process: the work queue ----

fn put_and_work(directory: &Path) -> Result<()> {
    let stream = StreamOptions::new().shards(4).open(directory.join("jobs"))?;
    let queue = stream
        .queue("workers")
        .visibility_timeout(VISIBILITY_TIMEOUT)
        .max_receive_count(MAX_RECEIVE_COUNT)
        .open()?;
    let done = File::options().create(true).append(true).open(directory.join("done"))?;
    let all_are_put = AtomicBool::new(false);
    thread::scope(|scope| {
        let work = || scope.spawn(|| work(&queue, &done, &all_are_put));
        let workers: Vec<_> = (0..WORKERS).map(|_| work()).collect();
        let put = put(&stream, &queue);
        // Set the flag even if putting failed, because the workers must end.
        all_are_put.store(true, Ordering::Release);
        for worker in workers {
            worker.join().map_err(|_| "a worker has died")??;
        }
        put
    })?;
    queue.close()?;
    Ok(stream.close()?)
}

fn put(stream: &Stream, queue: &Queue) -> Result<()> {
    // The previous process may have been killed within a put, so it is unknown whether its last job is in the stream. The queue detects
    // duplicates by id: a job that is put again with its id is put once.
    let first = stream.stats()?.record_count().saturating_sub(1);
    for job in first..JOBS {
        let id = format!("job-{job}");
        queue.put(&id, &PutRecord::new(&id, &job.to_string()))?;
        thread::sleep(Duration::from_micros(100));
    }
    Ok(())
}

fn work(queue: &Queue, mut done: &File, all_are_put: &AtomicBool) -> Result<()> {
    loop {
        // Load the flag before the receive, so that the receive finds all jobs.
        let is_last_look = all_are_put.load(Ordering::Acquire);
        let jobs = queue.receive(JOBS_IN_HAND, Duration::from_millis(20))?;
        if jobs.is_empty() && is_last_look {
            // If another worker fails, its jobs become visible again.
            let described = queue.describe()?;
            if described.in_flight_count + described.visible_count == 0 {
                return Ok(());
            }
        }
        for job in jobs {
            match run(&job) {
                Ok(number) => {
                    done.write_all(format!("{number}\n").as_bytes())?;
                    queue.acknowledge(&job.handle)?;
                }
                Err(_) => queue.release(&job.handle, Duration::ZERO)?,
            }
        }
    }
}

fn run(job: &QueueRecord) -> Result<u64> {
    let number = std::str::from_utf8(&job.record.data)?.parse()?;
    thread::sleep(Duration::from_micros(200));
    if is_impossible(number) { Err("this job cannot be done".into()) } else { Ok(number) }
}

// ---- The parent process: kills and counts ----

fn kill_twice_and_count() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let mut queue = Command::new(std::env::current_exe()?);
    queue.arg(directory.path());
    for jobs_before_kill in [JOBS / 3, JOBS * 2 / 3] {
        let mut child = queue.spawn()?;
        while done_counts(directory.path()).values().sum::<u64>() < jobs_before_kill {
            if let Some(status) = child.try_wait()? {
                return Err(format!("the child ended before it was killed: {status}").into());
            }
            thread::sleep(Duration::from_millis(1));
        }
        child.kill()?;
        child.wait()?;
        println!("killed with {} of {JOBS} jobs done", done_counts(directory.path()).len());
    }
    let status = queue.status()?;
    assert!(status.success(), "the child that was left alone failed: {status}");

    let counts = done_counts(directory.path());
    let more_than_once = counts.values().filter(|&&count| count > 1).count();
    println!("{} of {JOBS} jobs done, {more_than_once} of them more than once", counts.len());
    let lost: Vec<u64> = (0..JOBS).filter(|&job| !is_impossible(job) && !counts.contains_key(&job)).collect();
    assert!(lost.is_empty(), "jobs were lost: {lost:?}");
    let in_hand_at_kills = 2 * WORKERS as usize;
    assert!(more_than_once <= in_hand_at_kills, "more came again than was being done at the kills");

    let stream = Stream::open(directory.path().join("jobs"))?;
    assert_eq!(stream.stats()?.record_count(), JOBS, "each job is put once");
    let queue = stream.queue("workers").open()?;
    let dead = queue.receive_dead_letters(JOBS as usize, Duration::ZERO)?;
    println!("{} jobs failed {MAX_RECEIVE_COUNT} times and were set aside", dead.len());
    for job in dead.iter() {
        let number: u64 = std::str::from_utf8(&job.record.data)?.parse()?;
        assert!(is_impossible(number), "job {number} can be done");
    }
    assert_eq!(dead.len() as u64, (0..JOBS).filter(|&job| is_impossible(job)).count() as u64);
    Ok(())
}

/// Returns how many times each job was done.
fn done_counts(directory: &Path) -> HashMap<u64, u64> {
    let mut counts = HashMap::new();
    // The file does not exist before the first job is done.
    let done = fs::read_to_string(directory.join("done")).unwrap_or_default();
    for job in done.lines().filter_map(|line| line.parse().ok()) {
        *counts.entry(job).or_default() += 1;
    }
    counts
}
