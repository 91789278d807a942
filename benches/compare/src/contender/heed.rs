//! heed: LMDB, a B+tree in one mapping.

use std::ops::Bound;
use std::sync::Mutex;

use heed::types::Bytes;
use heed::{Database, Env, EnvFlags, EnvOpenOptions, PutFlags, WithoutTls};

use super::numbered::{Numbers, key};
use super::{Class, Contender, Facts, Log, Mode, Random, Result, Setup, Tail, Tally, Writer};

pub fn contender() -> Contender {
    let facts = Facts {
        name: "heed (LMDB)",
        package: Some("heed"),
        process: Some(Mode {
            config: "`NO_SYNC | WRITE_MAP`, one transaction each put, `APPEND` with one lane; the number as key",
            survives: "process death",
        }),
        power: Some(Mode { config: "`WRITE_MAP`, otherwise the same", survives: "power loss" }),
        checksums: "none",
        live_readers: "any number",
        writers: "one at a time, by its own lock",
    };
    Contender { facts, open: |setup| Ok(Box::new(Heed::open(setup)?)) }
}

struct Heed {
    env: Env<WithoutTls>,
    records: Database<Bytes, Bytes>,
    numbers: Numbers,
    flags: PutFlags,
    /// Numbers are assigned in the order of the transactions.
    turn: Mutex<()>,
}

impl Heed {
    fn open(setup: &Setup) -> Result<Self> {
        let mut flags = EnvFlags::WRITE_MAP;
        if setup.class == Class::Process {
            flags |= EnvFlags::NO_SYNC;
        }
        let map_bytes = (setup.lane_bytes(64) * 3 + (1 << 30)).next_multiple_of(1 << 20) as usize;
        let mut options = EnvOpenOptions::new().read_txn_without_tls();
        options.map_size(map_bytes);
        // SAFETY: only this process uses the directory. Without syncs, power loss may damage it, and nothing here relies on it after that.
        #[allow(unsafe_code)]
        let env = unsafe { options.flags(flags).open(&setup.directory)? };
        let mut transaction = env.write_txn()?;
        let records = env.create_database(&mut transaction, None)?;
        transaction.commit()?;
        let flags = if setup.lanes == 1 { PutFlags::APPEND } else { PutFlags::empty() };
        Ok(Self { env, records, numbers: Numbers::new(setup.lanes), flags, turn: Mutex::new(()) })
    }
}

impl Log for Heed {
    fn writer(&self, _alone: bool) -> Result<Box<dyn Writer + '_>> {
        Ok(Box::new(Access { log: self, next: 0 }))
    }

    fn read_all(&self, lane: usize, tally: &mut Tally) -> Result<()> {
        let transaction = self.env.read_txn()?;
        let (from, to) = (key(lane, 0), key(lane + 1, 0));
        for entry in
            self.records.range(&transaction, &(Bound::Included(&from[..]), Bound::Excluded(&to[..])))?
        {
            tally.take(entry?.1);
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
        Ok(self.env.force_sync()?)
    }
}

struct Access<'a> {
    log: &'a Heed,
    next: u64,
}

impl Writer for Access<'_> {
    fn put(&mut self, lane: usize, record: &[u8]) -> Result<()> {
        self.put_batch(lane, &[record])
    }

    fn put_batch(&mut self, lane: usize, records: &[&[u8]]) -> Result<()> {
        let _turn = self.log.turn.lock().unwrap();
        let mut transaction = self.log.env.write_txn()?;
        for record in records {
            let key = self.log.numbers.next(lane);
            self.log.records.put_with_flags(&mut transaction, self.log.flags, &key, record)?;
        }
        Ok(transaction.commit()?)
    }
}

impl Random for Access<'_> {
    fn get(&mut self, number: u64, tally: &mut Tally) -> Result<()> {
        let transaction = self.log.env.read_txn()?;
        tally.take(self.log.records.get(&transaction, &key(0, number))?.ok_or("no record there")?);
        Ok(())
    }
}

impl Tail for Access<'_> {
    fn next(&mut self, take: &mut dyn FnMut(&[u8])) -> Result<usize> {
        let transaction = self.log.env.read_txn()?;
        let (from, to) = (key(0, self.next), key(1, 0));
        let mut count = 0;
        for entry in
            self.log.records.range(&transaction, &(Bound::Included(&from[..]), Bound::Excluded(&to[..])))?
        {
            take(entry?.1);
            self.next += 1;
            count += 1;
        }
        Ok(count)
    }
}
