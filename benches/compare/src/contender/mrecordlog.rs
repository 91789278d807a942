//! mrecordlog: many queues in one log, which is held in memory.

use std::borrow::Cow;

use mrecordlog::{MultiRecordLog, SyncPolicy};
use tokio::runtime::{Builder, Runtime};

use super::{Contender, Facts, Held, Lanes, Log, Mode, Result, Setup, Tail, Tally, Writer};

const QUEUE: &str = "records";

pub fn contender() -> Contender {
    let facts = Facts {
        name: "mrecordlog",
        package: Some("mrecordlog"),
        process: Some(Mode {
            config: "`SyncPolicy::OnAppend`, which hands each append to the system (it has no call for `fsync`); on a tokio runtime of \
                     one thread",
            survives: "process death",
        }),
        power: None,
        checksums: "CRC-32 of each frame, checked on opening; reads come from memory",
        live_readers: "behind the writer's lock",
        writers: "one; several need a mutex",
    };
    Contender { facts, open: |setup| Ok(Box::new(Mrecordlog::open(setup)?)) }
}

struct Lane {
    runtime: Runtime,
    log: MultiRecordLog,
}

struct Mrecordlog(Lanes<Lane>);
struct Appender<'a>(Held<'a, Lane>);

fn range(log: &MultiRecordLog, from: u64) -> Result<impl Iterator<Item = (u64, Cow<'_, [u8]>)>> {
    log.range(QUEUE, from..).map_err(|_| "no such queue".into())
}

impl Mrecordlog {
    fn open(setup: &Setup) -> Result<Self> {
        // It holds everything in memory.
        if setup.bytes_total > 4 << 30 {
            return super::no_call("it holds everything in memory: left out beyond 4 GiB");
        }
        let lanes = setup.each_lane(|lane| {
            let runtime = Builder::new_current_thread().build()?;
            let directory = setup.lane_directory(lane)?;
            let log = runtime.block_on(async {
                let mut log = MultiRecordLog::open_with_prefs(&directory, SyncPolicy::OnAppend).await?;
                if !log.queue_exists(QUEUE) {
                    log.create_queue(QUEUE).await?;
                }
                Result::Ok(log)
            })?;
            Ok(Lane { runtime, log })
        })?;
        Ok(Self(Lanes::new(lanes)))
    }
}

impl Log for Mrecordlog {
    fn writer(&self, alone: bool) -> Result<Box<dyn Writer + '_>> {
        Ok(Box::new(Appender(self.0.hold(alone))))
    }

    fn read_all(&self, lane: usize, tally: &mut Tally) -> Result<()> {
        let lane = self.0.lock(lane);
        range(&lane.log, 0)?.for_each(|(_, record)| tally.take(&record));
        Ok(())
    }

    fn random(&self) -> Result<Box<dyn super::Random + '_>> {
        Ok(Box::new(Reader { log: self, next: 0 }))
    }

    fn tail(&self, park: bool) -> Result<Box<dyn Tail + '_>> {
        if park {
            return super::no_call("it has no call that waits");
        }
        Ok(Box::new(Reader { log: self, next: 0 }))
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.0.into_logs().try_for_each(|mut lane| Ok(lane.runtime.block_on(lane.log.sync())?))
    }
}

impl Writer for Appender<'_> {
    fn put(&mut self, lane: usize, record: &[u8]) -> Result<()> {
        self.0.with(lane, |lane| lane.runtime.block_on(lane.log.append_record(QUEUE, None, record)))?;
        Ok(())
    }

    fn put_batch(&mut self, lane: usize, records: &[&[u8]]) -> Result<()> {
        let records = records.iter().copied();
        self.0.with(lane, |lane| lane.runtime.block_on(lane.log.append_records(QUEUE, None, records)))?;
        Ok(())
    }
}

struct Reader<'a> {
    log: &'a Mrecordlog,
    next: u64,
}

impl super::Random for Reader<'_> {
    fn get(&mut self, number: u64, tally: &mut Tally) -> Result<()> {
        let lane = self.log.0.lock(0);
        tally.take(&range(&lane.log, number)?.next().ok_or("no record there")?.1);
        Ok(())
    }
}

impl Tail for Reader<'_> {
    fn next(&mut self, take: &mut dyn FnMut(&[u8])) -> Result<usize> {
        let lane = self.log.0.lock(0);
        let mut count = 0;
        for (position, record) in range(&lane.log, self.next)? {
            take(&record);
            self.next = position + 1;
            count += 1;
        }
        Ok(count)
    }
}
