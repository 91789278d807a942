//! yaque: a queue of segment files.

use std::path::PathBuf;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use yaque::{QueueIter, Receiver, ReceiverBuilder, Sender, SenderBuilder};

use super::{Contender, Facts, Held, Lanes, Log, Mode, Result, Setup, Tail, Tally, Writer};

const RECORDS_AT_A_TIME: usize = 1_000;

pub fn contender() -> Contender {
    let facts = Facts {
        name: "yaque",
        package: Some("yaque"),
        process: Some(Mode {
            config: "64 MiB segments, `try_send`, which hands each record to the system (it has no call for `fsync`)",
            survives: "process death",
        }),
        power: None,
        checksums: "parity of each length, none of the data",
        live_readers: "one",
        writers: "one; several need a mutex",
    };
    Contender { facts, open: |setup| Ok(Box::new(Yaque::open(setup)?)) }
}

struct Yaque {
    senders: Lanes<Sender>,
    directories: Vec<PathBuf>,
}

impl Yaque {
    fn open(setup: &Setup) -> Result<Self> {
        let directories = setup.each_lane(|lane| setup.lane_directory(lane))?;
        let senders = setup.each_lane(|lane| {
            // A killed process leaves its lock files, so users call this first.
            yaque::recovery::unlock_for_sending(&directories[lane])?;
            Ok(SenderBuilder::new().segment_size(64 << 20).open(&directories[lane])?)
        })?;
        Ok(Self { senders: Lanes::new(senders), directories })
    }
}

impl Log for Yaque {
    fn writer(&self, alone: bool) -> Result<Box<dyn Writer + '_>> {
        Ok(Box::new(Appender(self.senders.hold(alone))))
    }

    fn read_all(&self, lane: usize, tally: &mut Tally) -> Result<()> {
        for record in QueueIter::open(&self.directories[lane])? {
            tally.take(&record?);
        }
        Ok(())
    }

    fn readers_max(&self) -> usize {
        1
    }

    fn tail(&self, park: bool) -> Result<Box<dyn Tail + '_>> {
        let receiver =
            ReceiverBuilder::new().save_every_nth(None).save_every(None).open(&self.directories[0])?;
        Ok(Box::new(Follower {
            receiver,
            runtime: Builder::new_current_thread().enable_time().build()?,
            park,
        }))
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

struct Appender<'a>(Held<'a, Sender>);

impl Writer for Appender<'_> {
    fn put(&mut self, lane: usize, record: &[u8]) -> Result<()> {
        self.0.with(lane, |sender| sender.try_send(record).map_err(|error| format!("{error:?}").into()))
    }

    fn put_batch(&mut self, lane: usize, records: &[&[u8]]) -> Result<()> {
        self.0
            .with(lane, |sender| sender.try_send_batch(records).map_err(|error| format!("{error:?}").into()))
    }
}

struct Follower {
    receiver: Receiver,
    runtime: Runtime,
    park: bool,
}

impl Tail for Follower {
    fn next(&mut self, take: &mut dyn FnMut(&[u8])) -> Result<usize> {
        let mut count = 0;
        if self.park {
            let wait = Box::pin(async { tokio::time::sleep(Duration::from_millis(100)).await });
            match self.runtime.block_on(self.receiver.recv_timeout(wait))? {
                Some(record) => {
                    take(&record);
                    record.commit()?;
                    count += 1;
                }
                None => return Ok(0),
            }
        }
        if let Ok(batch) = self.receiver.try_recv_batch_up_to(RECORDS_AT_A_TIME) {
            batch.iter().for_each(|record| take(record));
            count += batch.len();
            batch.commit()?;
        }
        Ok(count)
    }
}
