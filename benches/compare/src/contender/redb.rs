//! redb: a copy-on-write B+tree.

use std::sync::Mutex;

use redb::{Database, Durability, ReadableDatabase, TableDefinition};

use super::numbered::{KEY_BYTES, Numbers, key};
use super::{Class, Contender, Facts, Log, Mode, Random, Result, Setup, Tail, Tally, Writer};

const RECORDS: TableDefinition<'_, [u8; KEY_BYTES], &[u8]> = TableDefinition::new("records");

pub fn contender() -> Contender {
    let facts = Facts {
        name: "redb",
        package: Some("redb"),
        process: Some(Mode {
            config: "one transaction each put, with `Durability::None`; the number as key",
            survives: "nothing until a commit with `Immediate`",
        }),
        power: Some(Mode {
            config: "one transaction each put, with `Durability::Immediate`",
            survives: "power loss",
        }),
        checksums: "XXH3 of each page, checked after a crash",
        live_readers: "any number",
        writers: "one at a time, by its own lock",
    };
    Contender { facts, open: |setup| Ok(Box::new(Redb::open(setup)?)) }
}

struct Redb {
    database: Database,
    numbers: Numbers,
    durability: Durability,
    turn: Mutex<()>,
}

impl Redb {
    fn open(setup: &Setup) -> Result<Self> {
        let database = Database::create(setup.directory.join("records.redb"))?;
        let transaction = database.begin_write()?;
        transaction.open_table(RECORDS)?;
        transaction.commit()?;
        let durability = match setup.class {
            Class::Process => Durability::None,
            Class::Power => Durability::Immediate,
        };
        Ok(Self { database, numbers: Numbers::new(setup.lanes), durability, turn: Mutex::new(()) })
    }
}

impl Log for Redb {
    fn writer(&self, _alone: bool) -> Result<Box<dyn Writer + '_>> {
        Ok(Box::new(Access { log: self, next: 0 }))
    }

    fn read_all(&self, lane: usize, tally: &mut Tally) -> Result<()> {
        let table = self.database.begin_read()?.open_table(RECORDS)?;
        for entry in table.range(key(lane, 0)..key(lane + 1, 0))? {
            tally.take(entry?.1.value());
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
        // A durable commit also makes all earlier commits durable.
        let transaction = self.database.begin_write()?;
        transaction.open_table(RECORDS)?;
        Ok(transaction.commit()?)
    }
}

struct Access<'a> {
    log: &'a Redb,
    next: u64,
}

impl Writer for Access<'_> {
    fn put(&mut self, lane: usize, record: &[u8]) -> Result<()> {
        self.put_batch(lane, &[record])
    }

    fn put_batch(&mut self, lane: usize, records: &[&[u8]]) -> Result<()> {
        let _turn = self.log.turn.lock().unwrap();
        let mut transaction = self.log.database.begin_write()?;
        transaction.set_durability(self.log.durability)?;
        {
            let mut table = transaction.open_table(RECORDS)?;
            for record in records {
                table.insert(self.log.numbers.next(lane), *record)?;
            }
        }
        Ok(transaction.commit()?)
    }
}

impl Random for Access<'_> {
    fn get(&mut self, number: u64, tally: &mut Tally) -> Result<()> {
        let table = self.log.database.begin_read()?.open_table(RECORDS)?;
        tally.take(table.get(key(0, number))?.ok_or("no record there")?.value());
        Ok(())
    }
}

impl Tail for Access<'_> {
    fn next(&mut self, take: &mut dyn FnMut(&[u8])) -> Result<usize> {
        let table = self.log.database.begin_read()?.open_table(RECORDS)?;
        let mut count = 0;
        for entry in table.range(key(0, self.next)..key(1, 0))? {
            take(entry?.1.value());
            self.next += 1;
            count += 1;
        }
        Ok(count)
    }
}
