//! RocksDB: an LSM tree with a write-ahead log.

use rocksdb::{
    DB, DBCompressionType, Direction, IteratorMode, Options, ReadOptions, WriteBatch, WriteOptions,
};

use super::numbered::{Numbers, key};
use super::{Class, Contender, Facts, Log, Mode, Random, Result, Setup, Tail, Tally, Writer};

pub fn contender() -> Contender {
    let facts = Facts {
        name: "rocksdb",
        package: Some("rocksdb"),
        process: Some(Mode {
            config: "write-ahead log without sync, no compression, 4 write buffers of 128 MiB, pipelined writes; the number as key",
            survives: "process death",
        }),
        power: Some(Mode { config: "the same, with `set_sync(true)`", survives: "power loss" }),
        checksums: "yes",
        live_readers: "any number",
        writers: "any number of threads",
    };
    Contender { facts, open: |setup| Ok(Box::new(RocksDb::open(setup)?)) }
}

struct RocksDb {
    database: DB,
    numbers: Numbers,
    how: WriteOptions,
}

impl RocksDb {
    fn open(setup: &Setup) -> Result<Self> {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.set_compression_type(DBCompressionType::None);
        options.set_write_buffer_size(128 << 20);
        options.set_max_write_buffer_number(4);
        options.set_enable_pipelined_write(true);
        let mut how = WriteOptions::default();
        how.set_sync(setup.class == Class::Power);
        let database = DB::open(&options, setup.directory.join("db"))?;
        Ok(Self { database, numbers: Numbers::new(setup.lanes), how })
    }

    fn read(&self, lane: usize, from: u64, mut take: impl FnMut(&[u8])) -> Result<usize> {
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(key(lane + 1, 0));
        options.set_async_io(false);
        let mut count = 0;
        let first = key(lane, from);
        for entry in self.database.iterator_opt(IteratorMode::From(&first, Direction::Forward), options) {
            take(&entry?.1);
            count += 1;
        }
        Ok(count)
    }
}

impl Log for RocksDb {
    fn writer(&self, _alone: bool) -> Result<Box<dyn Writer + '_>> {
        Ok(Box::new(Access { log: self, next: 0 }))
    }

    fn read_all(&self, lane: usize, tally: &mut Tally) -> Result<()> {
        self.read(lane, 0, |record| tally.take(record)).map(drop)
    }

    fn random(&self) -> Result<Box<dyn Random + '_>> {
        Ok(Box::new(Access { log: self, next: 0 }))
    }

    fn tail(&self, park: bool) -> Result<Box<dyn Tail + '_>> {
        if park {
            return super::no_call("it has no call that waits");
        }
        Ok(Box::new(Access { log: self, next: 0 }))
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(self.database.flush_wal(true)?)
    }
}

struct Access<'a> {
    log: &'a RocksDb,
    next: u64,
}

impl Writer for Access<'_> {
    fn put(&mut self, lane: usize, record: &[u8]) -> Result<()> {
        Ok(self.log.database.put_opt(self.log.numbers.next(lane), record, &self.log.how)?)
    }

    fn put_batch(&mut self, lane: usize, records: &[&[u8]]) -> Result<()> {
        let mut batch = WriteBatch::default();
        records.iter().for_each(|record| batch.put(self.log.numbers.next(lane), record));
        Ok(self.log.database.write_opt(batch, &self.log.how)?)
    }
}

impl Random for Access<'_> {
    fn get(&mut self, number: u64, tally: &mut Tally) -> Result<()> {
        tally.take(&self.log.database.get_pinned(key(0, number))?.ok_or("no record there")?);
        Ok(())
    }
}

impl Tail for Access<'_> {
    fn next(&mut self, take: &mut dyn FnMut(&[u8])) -> Result<usize> {
        let count = self.log.read(0, self.next, take)?;
        self.next += count as u64;
        Ok(count)
    }
}
