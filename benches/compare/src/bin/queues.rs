//! Queues side by side: records received and acknowledged a second by one thread, one by one and in tens.
//!
//! `cargo run --release --features rusqlite --bin queues -- [DIRECTORY]`; the directory should be on the disk to measure. All survive the death of the
//! process, and none syncs. Their features differ: streamlog and the table of SQLite know which records are in flight, until
//! when, and how often each was received; yaque and queue-file have one receiver, which takes the records one after the other.
//! Contenders take turns, and each figure is the median over the rounds. Filling does not count.

#![deny(unsafe_code)]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use queue_file::{OffsetCacheKind, QueueFile};
use rusqlite::{Connection, params};
use streamlog::{PutRecord, Stream, StreamOptions};
use yaque::{Receiver, ReceiverBuilder, Sender, SenderBuilder};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const RECORD_BYTES: usize = 100;
const RECORDS: usize = 100_000;
const ROUNDS: usize = 7;
/// The time limit of a turn. SQLite does not get to the end.
const TURN: Duration = Duration::from_secs(1);

trait Jobs {
    fn fill(&mut self, records: &[Vec<u8>]) -> Result<()>;

    /// Receives up to this many records, and acknowledges them. Returns how many there were.
    fn handle(&mut self, count: usize) -> Result<usize>;
}

struct Streamlog {
    stream: Stream,
    queue: streamlog::Queue,
}

impl Streamlog {
    fn open(path: &Path) -> Result<Self> {
        let stream = StreamOptions::new().shards(4).open(path)?;
        let queue = stream.queue("jobs").open()?;
        Ok(Self { stream, queue })
    }
}

impl Jobs for Streamlog {
    fn fill(&mut self, records: &[Vec<u8>]) -> Result<()> {
        for (number, records) in records.chunks(1_000).enumerate() {
            let keys: Vec<_> = (0..records.len()).map(|at| (number + at).to_le_bytes()).collect();
            let batch: Vec<_> =
                keys.iter().zip(records).map(|(key, data)| PutRecord::new(key, data)).collect();
            self.stream.put_batch(&batch)?.into_iter().try_for_each(|put| put.map(drop))?;
        }
        Ok(())
    }

    fn handle(&mut self, count: usize) -> Result<usize> {
        let records = self.queue.receive(count, Duration::ZERO)?;
        match &records[..] {
            [] => {}
            [record] => self.queue.acknowledge(&record.handle)?,
            records => {
                let outcomes = self.queue.acknowledge_batch(records.iter().map(|record| &record.handle))?;
                outcomes.into_iter().collect::<streamlog::Result<()>>()?;
            }
        }
        Ok(records.len())
    }
}

struct Yaque(Sender, Receiver);

impl Yaque {
    fn open(path: &Path) -> Result<Self> {
        let sender = SenderBuilder::new().segment_size(64 << 20).open(path)?;
        Ok(Self(sender, ReceiverBuilder::new().open(path)?))
    }
}

impl Jobs for Yaque {
    fn fill(&mut self, records: &[Vec<u8>]) -> Result<()> {
        self.0.try_send_batch(records).map_err(|error| format!("{error:?}").into())
    }

    fn handle(&mut self, count: usize) -> Result<usize> {
        if count == 1 {
            return match self.1.try_recv() {
                Ok(record) => Ok(record.commit().map(|()| 1)?),
                Err(_) => Ok(0),
            };
        }
        match self.1.try_recv_batch_up_to(count) {
            Ok(batch) => {
                let count = batch.len();
                batch.commit()?;
                Ok(count)
            }
            Err(_) => Ok(0),
        }
    }
}

struct File(QueueFile);

impl File {
    fn open(path: &Path) -> Result<Self> {
        let mut queue = QueueFile::with_capacity(path, 64 << 20)?;
        queue.set_sync_writes(false);
        queue.set_cache_offset_policy(Some(OffsetCacheKind::Linear { offset: 64 }));
        Ok(Self(queue))
    }
}

impl Jobs for File {
    fn fill(&mut self, records: &[Vec<u8>]) -> Result<()> {
        Ok(self.0.add_n(records)?)
    }

    fn handle(&mut self, count: usize) -> Result<usize> {
        let found = self.0.iter().take(count).count();
        if found > 0 {
            self.0.remove_n(found)?;
        }
        Ok(found)
    }
}

/// A table with the columns that a queue needs: when a record can be received, and how often it was received.
struct Table(Connection);

impl Table {
    fn open(path: &Path) -> Result<Self> {
        let connection = Connection::open(path)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "OFF")?;
        connection.execute_batch(
            "CREATE TABLE jobs (id INTEGER PRIMARY KEY, visible_at INTEGER NOT NULL DEFAULT 0, receive_count INTEGER NOT NULL DEFAULT 0, \
             data BLOB NOT NULL)",
        )?;
        Ok(Self(connection))
    }
}

impl Jobs for Table {
    fn fill(&mut self, records: &[Vec<u8>]) -> Result<()> {
        let transaction = self.0.transaction()?;
        let mut insert = transaction.prepare_cached("INSERT INTO jobs (data) VALUES (?)")?;
        records.iter().try_for_each(|record| insert.execute(params![record]).map(drop))?;
        drop(insert);
        Ok(transaction.commit()?)
    }

    fn handle(&mut self, count: usize) -> Result<usize> {
        let ids: Vec<i64> = {
            let mut receive = self.0.prepare_cached(
                "UPDATE jobs SET visible_at = ?1 + 30, receive_count = receive_count + 1 WHERE id IN \
                 (SELECT id FROM jobs WHERE visible_at <= ?1 ORDER BY id LIMIT ?2) RETURNING id, data",
            )?;
            let rows = receive.query_map(params![1_000, count as i64], |row| {
                std::hint::black_box(row.get::<_, Vec<u8>>(1)?);
                row.get(0)
            })?;
            rows.collect::<std::result::Result<_, _>>()?
        };
        let transaction = self.0.transaction()?;
        let mut acknowledge = transaction.prepare_cached("DELETE FROM jobs WHERE id = ?")?;
        ids.iter().try_for_each(|id| acknowledge.execute(params![id]).map(drop))?;
        drop(acknowledge);
        transaction.commit()?;
        Ok(ids.len())
    }
}

fn main() -> Result<()> {
    let base = std::env::args().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let scratch = base.join(format!("queues-{}", std::process::id()));
    std::fs::create_dir_all(&scratch)?;
    let outcome = measure(&scratch);
    std::fs::remove_dir_all(&scratch)?;
    outcome
}

fn measure(scratch: &Path) -> Result<()> {
    let mut jobs: [(&str, Box<dyn Jobs>); 4] = [
        ("streamlog", Box::new(Streamlog::open(&scratch.join("streamlog"))?)),
        ("yaque", Box::new(Yaque::open(&scratch.join("yaque"))?)),
        ("queue-file", Box::new(File::open(&scratch.join("queue-file"))?)),
        ("SQLite, a table", Box::new(Table::open(&scratch.join("jobs.sqlite"))?)),
    ];
    let records: Vec<Vec<u8>> = (0..RECORDS).map(|number| vec![number as u8; RECORD_BYTES]).collect();
    println!("| records a second | one by one | in tens |\n|---|---|---|");
    let mut rates = vec![[vec![], vec![]]; jobs.len()];
    for _ in 0..ROUNDS {
        for (at, batch) in [1, 10].into_iter().enumerate() {
            for ((_, jobs), rates) in jobs.iter_mut().zip(&mut rates) {
                rates[at].push(turn(&mut **jobs, &records, batch)?);
            }
        }
    }
    for ((name, _), rates) in jobs.iter().zip(&mut rates) {
        let medians = rates.each_mut().map(|rates| {
            rates.sort_unstable_by(f64::total_cmp);
            rates[rates.len() / 2]
        });
        println!("| {name} | {:.0} | {:.0} |", medians[0], medians[1]);
    }
    Ok(())
}

fn turn(jobs: &mut dyn Jobs, records: &[Vec<u8>], batch: usize) -> Result<f64> {
    jobs.fill(records)?;
    let (begun, mut count) = (Instant::now(), 0);
    while begun.elapsed() < TURN {
        match jobs.handle(batch)? {
            0 => break,
            handled => count += handled,
        }
    }
    let rate = count as f64 / begun.elapsed().as_secs_f64();
    // Leftover records would distort the next turn.
    while jobs.handle(1_000)? > 0 {}
    Ok(rate)
}
