//! okaywal: a write-ahead log that syncs each commit.

use std::io::{self, Read};
use std::sync::Mutex;

use okaywal::{Configuration, Entry, EntryId, LogManager, LogPosition, SegmentReader, WriteAheadLog};

use super::{Contender, Facts, Log, Mode, Random, Result, Setup, Tally, Writer};

const CONFIG: &str = "one file, preallocated for all that is put, never checkpointed; 256 KiB buffers; for reading, this harness \
                      keeps the place of each record, as its users have to";

pub fn contender() -> Contender {
    let mode = Mode { config: CONFIG, survives: "power loss: it always syncs" };
    let facts = Facts {
        name: "okaywal",
        package: Some("okaywal"),
        process: Some(mode),
        power: Some(mode),
        checksums: "CRC-32C of each chunk, checked when asked (here: asked)",
        live_readers: "any number, at places that the caller keeps",
        writers: "any number of threads, which share a sync",
    };
    Contender { facts, open: |setup| Ok(Box::new(Okaywal::open(setup)?)) }
}

/// Keeps every entry on recovery, and checks none.
#[derive(Debug)]
struct Keeper;

impl LogManager for Keeper {
    fn recover(&mut self, entry: &mut Entry<'_>) -> io::Result<()> {
        entry.read_all_chunks().map(drop)
    }

    fn checkpoint_to(&mut self, _: EntryId, _: &mut SegmentReader, _: &WriteAheadLog) -> io::Result<()> {
        Ok(())
    }
}

struct Okaywal {
    lanes: Vec<(WriteAheadLog, Mutex<Vec<LogPosition>>)>,
    remember: bool,
}

impl Okaywal {
    fn open(setup: &Setup) -> Result<Self> {
        let lanes = setup.each_lane(|lane| {
            // It always syncs, so it does not put more than this within the time limit.
            let bytes = setup.lane_bytes(32).min(1 << 30) as u32;
            let wal = Configuration::default_for(setup.lane_directory(lane)?)
                .preallocate_bytes(bytes)
                .checkpoint_after_bytes(u64::MAX)
                .buffer_bytes(256 << 10)
                .open(Keeper)?;
            Ok((wal, Mutex::default()))
        })?;
        Ok(Self { lanes, remember: setup.remember })
    }
}

impl Log for Okaywal {
    fn writer(&self, _alone: bool) -> Result<Box<dyn Writer + '_>> {
        Ok(Box::new(Access { log: self, buffer: vec![] }))
    }

    fn random(&self) -> Result<Box<dyn Random + '_>> {
        Ok(Box::new(Access { log: self, buffer: vec![] }))
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.lanes.into_iter().try_for_each(|(wal, _)| Ok(wal.shutdown()?))
    }
}

struct Access<'a> {
    log: &'a Okaywal,
    buffer: Vec<u8>,
}

impl Writer for Access<'_> {
    fn put(&mut self, lane: usize, record: &[u8]) -> Result<()> {
        self.put_batch(lane, &[record])
    }

    fn put_batch(&mut self, lane: usize, records: &[&[u8]]) -> Result<()> {
        let (wal, places) = &self.log.lanes[lane];
        let mut entry = wal.begin_entry()?;
        for record in records {
            let chunk = entry.write_chunk(record)?;
            if self.log.remember {
                places.lock().unwrap().push(chunk.position);
            }
        }
        entry.commit()?;
        Ok(())
    }
}

impl Random for Access<'_> {
    fn get(&mut self, number: u64, tally: &mut Tally) -> Result<()> {
        let (wal, places) = &self.log.lanes[0];
        let place = places.lock().unwrap().get(number as usize).copied().ok_or("its place is not known")?;
        let mut chunk = wal.read_at(place)?;
        self.buffer.clear();
        chunk.read_to_end(&mut self.buffer)?;
        if !chunk.crc_is_valid()? {
            return Err("a checksum is wrong".into());
        }
        tally.take(&self.buffer);
        Ok(())
    }
}
