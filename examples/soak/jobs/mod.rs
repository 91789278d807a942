//! Jobs: a second stream, whose records must each count exactly once, in the windows of processors and in queues.
//!
//! Its retention is short, and each processor and queue has a hold. Records are trimmed all the time, but never before they are done. A `feeder` puts
//! numbered records, some of which are bad: no function accepts them, and no worker of a queue can do them. In each window, a processor notes
//! the numbers that it counted, and the last call for the window reports them (`windows`). Workers of queues report what they take and
//! acknowledge (`errands`). The supervisor combines the reports: every good record is in one window, in the order of its key, every bad one is
//! given up, and each record is acknowledged once in each queue (`ledger`).

mod drain;
mod errands;
mod feeder;
mod ledger;
mod note;
mod record;
mod windows;

use std::collections::BTreeMap;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use streamlog::{
    Error, Queue, QueueOptions, Retention, SECOND, ShardId, Stream, StreamOptions, StreamReader, extend,
};

pub(crate) use self::ledger::JobLedger;
pub(crate) use self::note::Note;

use super::Args;
use super::board::{Board, Outcome, SILENCE_MAX, unexpected};
use super::keeper;
use super::message::Message;
use super::plan::Plan;
use super::say;
use super::worker::Part;

/// Larger than the stream ever is: no record may be dropped before it is done.
const HOLD_BYTES: u64 = 1 << 40;
/// How often a record is delivered before it becomes a dead letter.
const RECEIVES_MAX: u32 = 10;
const VISIBILITY_TIMEOUT: Duration = Duration::from_millis(300);

/// Where notes go: to the supervisor.
pub(crate) type Tell = dyn Fn(Note) + Send + Sync;

/// Where processors and queues run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    /// In the worker, which has the stream open for writing.
    Inside,
    /// In a visitor.
    Outside,
}

/// A processor with windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct WindowsId(Side);

impl WindowsId {
    fn name(self) -> &'static str {
        match self.0 {
            Side::Inside => "windows",
            Side::Outside => "windows-outside",
        }
    }
}

/// A queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct QueueId {
    side: Side,
    is_ordered: bool,
}

impl QueueId {
    const ALL: [Self; 4] = [
        Self { side: Side::Inside, is_ordered: false },
        Self { side: Side::Inside, is_ordered: true },
        Self { side: Side::Outside, is_ordered: false },
        Self { side: Side::Outside, is_ordered: true },
    ];

    fn name(self) -> &'static str {
        match (self.side, self.is_ordered) {
            (Side::Inside, false) => "queue",
            (Side::Inside, true) => "ordered",
            (Side::Outside, false) => "queue-outside",
            (Side::Outside, true) => "ordered-outside",
        }
    }

    fn of(side: Side) -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(move |id| id.side == side)
    }

    fn options(self, options: QueueOptions) -> QueueOptions {
        let options = options.max_receive_count(RECEIVES_MAX).visibility_timeout(VISIBILITY_TIMEOUT);
        if self.is_ordered { options.ordered_by_key() } else { options }
    }
}

/// The job stream with the queues of one side.
#[derive(Debug)]
pub(crate) struct Jobs {
    side: Side,
    reader: StreamReader,
    /// The stream, in the process that has it open.
    own: Option<Stream>,
    queues: Vec<(QueueId, Queue)>,
}

/// Returns how the stream is opened in a run.
fn options(args: &Args, plan: &Plan) -> StreamOptions {
    StreamOptions::new()
        .shards(args.shards)
        .segment_bytes(64 << 10)
        .durability(plan.durability)
        .sync_interval(plan.sync_interval)
        .retention(Retention::age(SECOND))
}

impl Jobs {
    /// Opens the stream and the queues in the process that has the stream open.
    pub(crate) fn open(args: &Args, plan: &Plan) -> Outcome<Self> {
        let path = args.jobs_path()?;
        let stream = options(args, plan)
            .open(path)
            .map_err(unexpected("P1 P9", "the stream of the jobs does not open"))?;
        // Before the first put: outside readers may start later, and must find all records.
        for name in QueueId::of(Side::Outside).map(|id| format!("queue:{}", id.name())) {
            hold(&stream, &name)?;
        }
        hold(&stream, WindowsId(Side::Outside).name())?;
        let open = |id: QueueId| {
            let options = id.options(stream.queue(id.name())).hold(HOLD_BYTES);
            options.open().map(|queue| (id, queue)).map_err(unexpected("L1", "a queue does not open"))
        };
        let queues = QueueId::of(Side::Inside).map(open).collect::<Outcome<_>>()?;
        Ok(Self { side: Side::Inside, reader: StreamReader::clone(&stream), own: Some(stream), queues })
    }

    /// Opens the queues of a visitor.
    pub(crate) fn visit(path: &Path) -> Outcome<Self> {
        let began = Instant::now();
        let reader = loop {
            match StreamReader::open(path) {
                // No worker has lived long enough to create them.
                Err(Error::NotAStream(_)) if began.elapsed() < SILENCE_MAX / 2 => thread::sleep(SECOND / 10),
                opened => {
                    break opened
                        .map_err(unexpected("L8", "the stream of the jobs does not open for reading"))?;
                }
            }
        };
        let open = |id: QueueId| {
            let queue = id.options(reader.queue(id.name())).open();
            queue.map(|queue| (id, queue)).map_err(unexpected("L1 L8", "a queue does not open outside"))
        };
        let queues = QueueId::of(Side::Outside).map(open).collect::<Outcome<_>>()?;
        Ok(Self { side: Side::Outside, reader, own: None, queues })
    }

    /// Runs what a process does with the jobs, and reports it to the supervisor.
    pub(crate) fn parts<'a>(&'a self, board: &'a Board) -> Vec<(String, Part<'a>)> {
        let mut parts = self.readers(board, &|note| say(&Message::Job(note).to_string()));
        if let Some(stream) = &self.own {
            parts.push(("job feeder".into(), Box::new(move || feeder::feed(stream, board))));
            parts.push(("job resharder".into(), Box::new(move || keeper::reshard(stream, board))));
            parts.push(("job maintainer".into(), Box::new(move || maintain(stream, board))));
        }
        parts
    }

    /// Returns the processor and the workers of the queues.
    fn readers<'a>(&'a self, board: &'a Board, tell: &'static Tell) -> Vec<(String, Part<'a>)> {
        let id = WindowsId(self.side);
        let run = move || windows::run(&self.reader, id, self.own.as_ref(), board, tell);
        let mut parts: Vec<(String, Part<'a>)> = vec![(id.name().into(), Box::new(run))];
        for (id, queue) in &self.queues {
            for number in 0..2 {
                let run = move || errands::run(queue, *id, board, tell, number);
                parts.push((format!("worker {number} of {}", id.name()), Box::new(run)));
            }
        }
        parts
    }

    pub(crate) fn close(self) -> Outcome {
        for (_, queue) in self.queues {
            queue.close().map_err(unexpected("L1", "a queue does not close"))?;
        }
        match self.own {
            Some(stream) => {
                stream.close().map_err(unexpected("P10", "the stream of the jobs does not close"))
            }
            None => Ok(()),
        }
    }
}

fn hold(stream: &Stream, name: &str) -> Outcome {
    extend::hold(stream, name).set(HOLD_BYTES).map_err(unexpected("P12", "a hold cannot be set"))
}

/// Trims the stream at random moments, in addition to its own maintenance, and reports how much was dropped.
fn maintain(stream: &Stream, board: &Board) -> Outcome {
    let mut random = board.random(16);
    let mut horizons: BTreeMap<ShardId, u64> = BTreeMap::new();
    while !board.must_stop() {
        stream.maintain().map_err(unexpected("P10", "a pass of the maintenance failed"))?;
        let stats = stream.stats().map_err(unexpected("P12", "no counts"))?;
        let trimmed = stats.shards.iter().map(|shard| {
            let horizon = shard.horizon.get();
            horizon - horizons.insert(shard.shard, horizon).unwrap_or(horizon)
        });
        let count = trimmed.sum();
        if count > 0 {
            say(&Message::Job(Note::Trimmed { count }).to_string());
        }
        horizons.retain(|shard, _| stats.shards.iter().any(|known| known.shard == *shard));
        board.sleep(Duration::from_millis(random.between(20, 600)));
    }
    Ok(())
}
