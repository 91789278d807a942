//! fjall: an LSM tree with a journal.

use fjall::config::CompressionPolicy;
use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::numbered::{Numbers, key};
use super::{Class, Contender, Facts, Log, Mode, Random, Result, Setup, Tail, Tally, Writer};

pub fn contender() -> Contender {
    let facts = Facts {
        name: "fjall",
        package: Some("fjall"),
        process: Some(Mode {
            config: "default settings (each write hands the journal to the system), no compression; the record's number as key",
            survives: "process death",
        }),
        power: Some(Mode {
            config: "the same, and `persist(SyncData)` after each write",
            survives: "power loss",
        }),
        checksums: "yes",
        live_readers: "any number",
        writers: "any number of threads",
    };
    Contender { facts, open: |setup| Ok(Box::new(Fjall::open(setup)?)) }
}

struct Fjall {
    database: Database,
    records: Keyspace,
    numbers: Numbers,
    class: Class,
}

impl Fjall {
    fn open(setup: &Setup) -> Result<Self> {
        let database = Database::builder(setup.directory.join("db"))
            .journal_compression(CompressionType::None)
            .open()?;
        let records = database.keyspace("records", || {
            KeyspaceCreateOptions::default().data_block_compression_policy(CompressionPolicy::disabled())
        })?;
        Ok(Self { database, records, numbers: Numbers::new(setup.lanes), class: setup.class })
    }

    fn persist(&self) -> Result<()> {
        if self.class == Class::Power {
            self.database.persist(PersistMode::SyncData)?;
        }
        Ok(())
    }
}

impl Log for Fjall {
    fn writer(&self, _alone: bool) -> Result<Box<dyn Writer + '_>> {
        Ok(Box::new(Access { log: self, next: 0 }))
    }

    fn read_all(&self, lane: usize, tally: &mut Tally) -> Result<()> {
        for entry in self.records.range(key(lane, 0)..key(lane + 1, 0)) {
            tally.take(&entry.value()?);
        }
        Ok(())
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
        Ok(self.database.persist(PersistMode::SyncAll)?)
    }
}

struct Access<'a> {
    log: &'a Fjall,
    next: u64,
}

impl Writer for Access<'_> {
    fn put(&mut self, lane: usize, record: &[u8]) -> Result<()> {
        self.log.records.insert(self.log.numbers.next(lane), record)?;
        self.log.persist()
    }

    fn put_batch(&mut self, lane: usize, records: &[&[u8]]) -> Result<()> {
        let mut batch = self.log.database.batch();
        for record in records {
            batch.insert(&self.log.records, self.log.numbers.next(lane), *record);
        }
        batch.commit()?;
        self.log.persist()
    }
}

impl Random for Access<'_> {
    fn get(&mut self, number: u64, tally: &mut Tally) -> Result<()> {
        tally.take(&self.log.records.get(key(0, number))?.ok_or("no record there")?);
        Ok(())
    }
}

impl Tail for Access<'_> {
    fn next(&mut self, take: &mut dyn FnMut(&[u8])) -> Result<usize> {
        let mut count = 0;
        while let Some(record) = self.log.records.get(key(0, self.next))? {
            take(&record);
            self.next += 1;
            count += 1;
        }
        Ok(count)
    }
}
