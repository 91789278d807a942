//! raft-engine: the log of TiKV's raft groups.

use std::cell::RefCell;
use std::sync::Mutex;

use protobuf::well_known_types::BytesValue;
use raft_engine::{Config, Engine, LogBatch, MessageExt, ReadableSize};

use super::{Class, Contender, Facts, Log, Mode, Random, Result, Setup, Tail, Tally, Writer};

const INDEX_BYTES: usize = 8;

pub fn contender() -> Contender {
    let facts = Facts {
        name: "raft-engine",
        package: Some("raft-engine"),
        process: Some(Mode {
            config: "`write(…, false)`, no compression, nothing purged; a shard is a raft group; an entry is a protobuf message of its \
                     index and the record",
            survives: "process death",
        }),
        power: Some(Mode { config: "the same, with `write(…, true)`", survives: "power loss" }),
        checksums: "CRC-32 of each batch",
        live_readers: "any number",
        writers: "any number of threads, one for each group",
    };
    Contender { facts, open: |setup| Ok(Box::new(RaftEngine::open(setup)?)) }
}

#[derive(Clone)]
struct Indexed;

impl MessageExt for Indexed {
    type Entry = BytesValue;

    fn index(entry: &BytesValue) -> u64 {
        entry.value.first_chunk().map_or(0, |index| u64::from_le_bytes(*index))
    }
}

struct RaftEngine {
    engine: Engine,
    /// The next index of each group: entries must come in order.
    next: Vec<Mutex<u64>>,
    is_synced: bool,
}

impl RaftEngine {
    fn open(setup: &Setup) -> Result<Self> {
        let config = Config {
            dir: setup.directory.join("engine").to_string_lossy().into_owned(),
            batch_compression_threshold: ReadableSize::kb(0),
            purge_threshold: ReadableSize::gb(100),
            ..Config::default()
        };
        let next = (0..setup.lanes).map(|_| Mutex::new(1)).collect();
        Ok(Self { engine: Engine::open(config)?, next, is_synced: setup.class == Class::Power })
    }

    fn read(&self, lane: usize, from: u64, mut take: impl FnMut(&[u8])) -> Result<u64> {
        const ENTRIES_AT_A_TIME: u64 = 1_024;
        let group = lane as u64 + 1;
        let end = self.engine.last_index(group).map_or(from, |last| (last + 1).max(from));
        let mut next = from;
        let mut entries: Vec<BytesValue> = vec![];
        while next < end {
            let to = end.min(next + ENTRIES_AT_A_TIME);
            self.engine.fetch_entries_to::<Indexed>(group, next, to, None, &mut entries)?;
            entries.drain(..).for_each(|entry| take(&entry.value[INDEX_BYTES..]));
            next = to;
        }
        Ok(next)
    }
}

impl Log for RaftEngine {
    fn writer(&self, _alone: bool) -> Result<Box<dyn Writer + '_>> {
        Ok(Box::new(Appender { log: self, batch: LogBatch::with_capacity(256), entries: RefCell::default() }))
    }

    fn read_all(&self, lane: usize, tally: &mut Tally) -> Result<()> {
        self.read(lane, 1, |record| tally.take(record)).map(drop)
    }

    fn random(&self) -> Result<Box<dyn Random + '_>> {
        Ok(Box::new(Reader { log: self, next: 1 }))
    }

    fn tail(&self, park: bool) -> Result<Box<dyn Tail + '_>> {
        if park {
            return super::no_call("it has no call that waits");
        }
        Ok(Box::new(Reader { log: self, next: 1 }))
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(self.engine.sync()?)
    }
}

struct Appender<'a> {
    log: &'a RaftEngine,
    batch: LogBatch,
    entries: RefCell<Vec<BytesValue>>,
}

impl Writer for Appender<'_> {
    fn put(&mut self, lane: usize, record: &[u8]) -> Result<()> {
        self.put_batch(lane, &[record])
    }

    fn put_batch(&mut self, lane: usize, records: &[&[u8]]) -> Result<()> {
        let entries = self.entries.get_mut();
        entries.resize_with(records.len(), BytesValue::new);
        // Entries of a group must come in order, so a group takes one writer at a time, as in TiKV.
        let mut next = self.log.next[lane].lock().unwrap();
        for (entry, record) in entries.iter_mut().zip(records) {
            entry.value.clear();
            entry.value.extend_from_slice(&next.to_le_bytes());
            entry.value.extend_from_slice(record);
            *next += 1;
        }
        self.batch.add_entries::<Indexed>(lane as u64 + 1, entries)?;
        self.log.engine.write(&mut self.batch, self.log.is_synced)?;
        Ok(())
    }
}

struct Reader<'a> {
    log: &'a RaftEngine,
    next: u64,
}

impl Random for Reader<'_> {
    fn get(&mut self, number: u64, tally: &mut Tally) -> Result<()> {
        let entry = self.log.engine.get_entry::<Indexed>(1, number + 1)?.ok_or("no entry there")?;
        tally.take(&entry.value[INDEX_BYTES..]);
        Ok(())
    }
}

impl Tail for Reader<'_> {
    fn next(&mut self, take: &mut dyn FnMut(&[u8])) -> Result<usize> {
        let from = self.next;
        self.next = self.log.read(0, from, take)?;
        Ok((self.next - from) as usize)
    }
}
