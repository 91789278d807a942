//! sled: a Bw-tree on a log.

use std::time::Duration;

use sled::{Batch, Config, Db, Event, Mode as Speed, Subscriber};

use super::numbered::{Numbers, key};
use super::{Class, Contender, Facts, Log, Mode, Random, Result, Setup, Tail, Tally, Writer};

pub fn contender() -> Contender {
    let facts = Facts {
        name: "sled",
        package: Some("sled"),
        process: Some(Mode {
            config: "`Mode::HighThroughput`, flushed each 500 ms (the default); the number as key",
            survives: "nothing until the next flush (500 ms)",
        }),
        power: Some(Mode {
            config: "the same, and `flush` after each write",
            survives: "less than power loss: it calls `sync_file_range`, which flushes no disk cache",
        }),
        checksums: "CRC-32",
        live_readers: "any number",
        writers: "any number of threads",
    };
    Contender { facts, open: |setup| Ok(Box::new(Sled::open(setup)?)) }
}

struct Sled {
    database: Db,
    numbers: Numbers,
    class: Class,
}

impl Sled {
    fn open(setup: &Setup) -> Result<Self> {
        let database = Config::new().path(setup.directory.join("db")).mode(Speed::HighThroughput).open()?;
        Ok(Self { database, numbers: Numbers::new(setup.lanes), class: setup.class })
    }

    fn persist(&self) -> Result<()> {
        if self.class == Class::Power {
            self.database.flush()?;
        }
        Ok(())
    }
}

impl Log for Sled {
    fn writer(&self, _alone: bool) -> Result<Box<dyn Writer + '_>> {
        Ok(Box::new(Access { log: self }))
    }

    fn read_all(&self, lane: usize, tally: &mut Tally) -> Result<()> {
        for entry in self.database.range(key(lane, 0)..key(lane + 1, 0)) {
            tally.take(&entry?.1);
        }
        Ok(())
    }

    fn random(&self) -> Result<Box<dyn Random + '_>> {
        Ok(Box::new(Access { log: self }))
    }

    fn tail(&self, park: bool) -> Result<Box<dyn Tail + '_>> {
        Ok(Box::new(Watcher { subscriber: self.database.watch_prefix([]), park }))
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.database.flush()?;
        Ok(())
    }
}

struct Access<'a> {
    log: &'a Sled,
}

impl Writer for Access<'_> {
    fn put(&mut self, lane: usize, record: &[u8]) -> Result<()> {
        self.log.database.insert(self.log.numbers.next(lane), record)?;
        self.log.persist()
    }

    fn put_batch(&mut self, lane: usize, records: &[&[u8]]) -> Result<()> {
        let mut batch = Batch::default();
        records.iter().for_each(|record| batch.insert(&self.log.numbers.next(lane), *record));
        self.log.database.apply_batch(batch)?;
        self.log.persist()
    }
}

impl Random for Access<'_> {
    fn get(&mut self, number: u64, tally: &mut Tally) -> Result<()> {
        tally.take(&self.log.database.get(key(0, number))?.ok_or("no record there")?);
        Ok(())
    }
}

struct Watcher {
    subscriber: Subscriber,
    park: bool,
}

impl Tail for Watcher {
    fn next(&mut self, take: &mut dyn FnMut(&[u8])) -> Result<usize> {
        let timeout = if self.park { Duration::from_millis(100) } else { Duration::ZERO };
        match self.subscriber.next_timeout(timeout) {
            Ok(Event::Insert { value, .. }) => {
                take(&value);
                Ok(1)
            }
            _ => Ok(0),
        }
    }
}
