//! wal-db: a write-ahead log with appends that take no lock.

use std::sync::Mutex;

use wal_db::{Lsn, Wal, WalIter};

use super::{Class, Contender, Facts, Log, Mode, Random, Result, Setup, Tail, Tally, Writer};

pub fn contender() -> Contender {
    let facts = Facts {
        name: "wal-db",
        package: Some("wal-db"),
        process: Some(Mode {
            config: "one file, `append`; for random reads this harness keeps the place of each record, as its users must",
            survives: "process death",
        }),
        power: Some(Mode { config: "`append_and_sync`", survives: "power loss" }),
        checksums: "CRC-32C of each record, checked on reading",
        live_readers: "any number",
        writers: "any number of threads, which share a sync",
    };
    Contender { facts, open: |setup| Ok(Box::new(WalDb::open(setup)?)) }
}

struct WalDb {
    lanes: Vec<(Wal, Mutex<Vec<Lsn>>)>,
    class: Class,
    remember: bool,
}

impl WalDb {
    fn open(setup: &Setup) -> Result<Self> {
        let lanes = setup
            .each_lane(|lane| Ok((Wal::open(setup.lane_directory(lane)?.join("wal"))?, Mutex::default())))?;
        Ok(Self { lanes, class: setup.class, remember: setup.remember })
    }
}

impl Log for WalDb {
    fn writer(&self, _alone: bool) -> Result<Box<dyn Writer + '_>> {
        Ok(Box::new(Access { log: self, last: None }))
    }

    fn read_all(&self, lane: usize, tally: &mut Tally) -> Result<()> {
        for record in self.lanes[lane].0.iter()? {
            tally.take(record?.data());
        }
        Ok(())
    }

    fn random(&self) -> Result<Box<dyn Random + '_>> {
        Ok(Box::new(Access { log: self, last: None }))
    }

    fn tail(&self, park: bool) -> Result<Box<dyn Tail + '_>> {
        if park {
            return super::no_call("it has no call that waits");
        }
        Ok(Box::new(Access { log: self, last: None }))
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.lanes.iter().try_for_each(|(wal, _)| Ok(wal.sync()?))
    }
}

struct Access<'a> {
    log: &'a WalDb,
    /// The last record read.
    last: Option<Lsn>,
}

impl Writer for Access<'_> {
    fn put(&mut self, lane: usize, record: &[u8]) -> Result<()> {
        let (wal, places) = &self.log.lanes[lane];
        let place = match self.log.class {
            Class::Process => wal.append(record)?,
            Class::Power => wal.append_and_sync(record)?,
        };
        if self.log.remember {
            places.lock().unwrap().push(place);
        }
        Ok(())
    }
}

impl Random for Access<'_> {
    fn get(&mut self, number: u64, tally: &mut Tally) -> Result<()> {
        let (wal, places) = &self.log.lanes[0];
        let place = places.lock().unwrap().get(number as usize).copied();
        // Right after opening, only the position of the first record is known.
        let place = place.or((number == 0).then_some(Lsn::new(0))).ok_or("its place is not known")?;
        tally.take(wal.iter_from(place)?.next().ok_or("no record there")??.data());
        Ok(())
    }
}

impl Tail for Access<'_> {
    fn next(&mut self, take: &mut dyn FnMut(&[u8])) -> Result<usize> {
        let wal = &self.log.lanes[0].0;
        // Reads the last record again: an iterator begins at a record, and ends where the log ended when the iterator was made.
        let (mut iterator, skip): (WalIter<'_>, _) = match self.last {
            Some(last) => (wal.iter_from(last)?, 1),
            None => (wal.iter()?, 0),
        };
        let mut count = 0;
        for record in iterator.by_ref().skip(skip) {
            let record = record?;
            take(record.data());
            self.last = Some(record.lsn());
            count += 1;
        }
        Ok(count)
    }
}
