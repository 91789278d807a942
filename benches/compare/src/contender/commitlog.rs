//! commitlog: Kafka's segments and indexes.

use std::sync::RwLock;

use commitlog::message::{MessageBuf, MessageSet};
use commitlog::{CommitLog, LogOptions, ReadLimit};

use super::{Contender, Facts, Log, Mode, Random, Result, Setup, Tail, Tally, Writer};

const READ_BYTES: usize = 1 << 20;

pub fn contender() -> Contender {
    let facts = Facts {
        name: "commitlog",
        package: Some("commitlog"),
        process: Some(Mode {
            config: "1 GiB segments (the default), an index that never has to grow, a reused message buffer",
            survives: "process death",
        }),
        // Its `flush` is that of `File`, which does nothing.
        power: None,
        checksums: "CRC-32C of each message, checked on reading",
        live_readers: "behind the writer's lock",
        writers: "one; several need a lock",
    };
    Contender { facts, open: |setup| Ok(Box::new(Commitlog::open(setup)?)) }
}

struct Commitlog {
    lanes: Vec<RwLock<CommitLog>>,
    read_bytes: usize,
}

impl Commitlog {
    fn open(setup: &Setup) -> Result<Self> {
        let lanes = setup.each_lane(|lane| {
            let mut options = LogOptions::new(setup.lane_directory(lane)?);
            let record_bytes = setup.record_bytes + setup.key_bytes;
            options.index_max_items((setup.lane_bytes(0).min(1 << 30) as usize) / record_bytes + 1_000);
            options.message_max_bytes((record_bytes + 64) * setup.batch.max(16));
            Ok(RwLock::new(CommitLog::new(options)?))
        })?;
        Ok(Self { lanes, read_bytes: READ_BYTES.max(2 * setup.record_bytes) })
    }
}

impl Log for Commitlog {
    fn writer(&self, _alone: bool) -> Result<Box<dyn Writer + '_>> {
        Ok(Box::new(Appender { log: self, messages: MessageBuf::default() }))
    }

    fn read_all(&self, lane: usize, tally: &mut Tally) -> Result<()> {
        let mut next = 0;
        loop {
            let messages =
                self.lanes[lane].read().unwrap().read(next, ReadLimit::max_bytes(self.read_bytes))?;
            if messages.is_empty() {
                return Ok(());
            }
            for message in messages.iter() {
                tally.take(message.payload());
                next = message.offset() + 1;
            }
        }
    }

    fn random(&self) -> Result<Box<dyn Random + '_>> {
        Ok(Box::new(Reader { log: self, next: 0 }))
    }

    fn tail(&self, park: bool) -> Result<Box<dyn Tail + '_>> {
        if park {
            return super::no_call("it has no call that waits");
        }
        Ok(Box::new(Reader { log: self, next: 0 }))
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

struct Appender<'a> {
    log: &'a Commitlog,
    messages: MessageBuf,
}

impl Appender<'_> {
    fn append(&mut self, lane: usize) -> Result<()> {
        self.log.lanes[lane].write().unwrap().append(&mut self.messages)?;
        Ok(())
    }
}

impl Writer for Appender<'_> {
    fn put(&mut self, lane: usize, record: &[u8]) -> Result<()> {
        self.put_batch(lane, &[record])
    }

    fn put_batch(&mut self, lane: usize, records: &[&[u8]]) -> Result<()> {
        self.messages.clear();
        records.iter().try_for_each(|record| self.messages.push(record).map_err(|_| "too large"))?;
        self.append(lane)
    }
}

struct Reader<'a> {
    log: &'a Commitlog,
    next: u64,
}

impl Random for Reader<'_> {
    fn get(&mut self, number: u64, tally: &mut Tally) -> Result<()> {
        // It returns whole messages up to a number of bytes. This is room for one.
        let limit = ReadLimit::max_bytes(self.log.read_bytes.min(2_048));
        let messages = self.log.lanes[0].read().unwrap().read(number, limit)?;
        tally.take(messages.iter().next().ok_or("no message there")?.payload());
        Ok(())
    }
}

impl Tail for Reader<'_> {
    fn next(&mut self, take: &mut dyn FnMut(&[u8])) -> Result<usize> {
        let messages =
            self.log.lanes[0].read().unwrap().read(self.next, ReadLimit::max_bytes(self.log.read_bytes))?;
        for message in messages.iter() {
            take(message.payload());
            self.next = message.offset() + 1;
        }
        Ok(messages.len())
    }
}
