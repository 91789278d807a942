//! A durable work queue between threads that survives a kill.
//!
//! One thread puts jobs, and three threads process them as one consumer group. A worker commits a batch of jobs after it has done them.
//! If the process dies, the next one gets the uncommitted jobs again. So each job is done **at least once**, and doing a job twice
//! should be harmless.
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

use streamlog::{Stream, StreamOptions};

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

const JOBS: u64 = 3_000;
const WORKERS: u64 = 3;
const JOBS_IN_HAND: usize = 10;

fn main() -> Result<()> {
    match std::env::args_os().nth(1) {
        Some(directory) => put_and_work(Path::new(&directory)),
        None => kill_twice_and_count(),
    }
}

// ---- The child process: the work queue ----

fn put_and_work(directory: &Path) -> Result<()> {
    let stream = StreamOptions::new().shards(4).open(directory.join("jobs"))?;
    let done = File::options().create(true).append(true).open(directory.join("done"))?;
    let all_are_put = AtomicBool::new(false);
    thread::scope(|scope| {
        let work = || scope.spawn(|| work(&stream, &done, &all_are_put));
        let workers: Vec<_> = (0..WORKERS).map(|_| work()).collect();
        let put = put(&stream);
        // Set the flag even if putting failed, because the workers must end.
        all_are_put.store(true, Ordering::Release);
        for worker in workers {
            worker.join().map_err(|_| "a worker has died")??;
        }
        put
    })?;
    Ok(stream.close()?)
}

fn put(stream: &Stream) -> Result<()> {
    // Every put that returned is in the stream, even after a kill, so the record count shows where the previous process stopped.
    let first = stream.stats()?.record_count();
    for job in first..JOBS {
        stream.put(format!("job-{job}"), job.to_string())?;
        thread::sleep(Duration::from_micros(100));
    }
    Ok(())
}

fn work(stream: &Stream, mut done: &File, all_are_put: &AtomicBool) -> Result<()> {
    let mut worker = stream.group("workers").worker().batch_records(JOBS_IN_HAND).open()?;
    loop {
        // Load the flag before the poll, so that the poll finds all jobs.
        let is_last_look = all_are_put.load(Ordering::Acquire);
        let Some(batch) = worker.poll(Duration::from_millis(20))? else {
            // If another worker fails, its jobs come to this one.
            if is_last_look && worker.group().describe()?.lag().record_count == 0 {
                return Ok(());
            }
            continue;
        };
        for job in &batch {
            thread::sleep(Duration::from_micros(200));
            done.write_all(&[job.data(), b"\n"].concat())?;
        }
        worker.commit(&batch)?;
    }
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
    let lost: Vec<u64> = (0..JOBS).filter(|job| !counts.contains_key(job)).collect();
    assert!(lost.is_empty(), "jobs were lost: {lost:?}");
    let in_hand_at_kills = 2 * WORKERS as usize * JOBS_IN_HAND;
    assert!(more_than_once <= in_hand_at_kills, "more came again than was in hand at the kills");
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
