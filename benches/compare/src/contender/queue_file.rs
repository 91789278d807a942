//! queue-file: a ring of records in one file.

use queue_file::{OffsetCacheKind, QueueFile};

use super::{Class, Contender, Facts, Held, Lanes, Log, Mode, Random, Result, Setup, Tail, Tally, Writer};

pub fn contender() -> Contender {
    let facts = Facts {
        name: "queue-file",
        package: Some("queue-file"),
        process: Some(Mode {
            config: "`set_sync_writes(false)`, a file with room for all records; a cached offset every 64 records",
            survives: "process death",
        }),
        power: Some(Mode { config: "the same, with `set_sync_writes(true)`", survives: "power loss" }),
        checksums: "CRC-32 of each record",
        live_readers: "behind the writer's lock, by removing what is read",
        writers: "one; several need a mutex",
    };
    Contender {
        facts,
        open: |setup| Ok(Box::new(Queue(Lanes::new(setup.each_lane(|lane| open(setup, lane))?)))),
    }
}

struct Queue(Lanes<QueueFile>);
struct Appender<'a>(Held<'a, QueueFile>);
struct Reader<'a>(&'a Queue);

fn open(setup: &Setup, lane: usize) -> Result<QueueFile> {
    let path = setup.lane_directory(lane)?.join("queue");
    let mut queue = QueueFile::with_capacity(path, setup.lane_bytes(48))?;
    queue.set_sync_writes(setup.class == Class::Power);
    queue.set_cache_offset_policy(Some(OffsetCacheKind::Linear { offset: 64 }));
    Ok(queue)
}

impl Log for Queue {
    fn writer(&self, alone: bool) -> Result<Box<dyn Writer + '_>> {
        Ok(Box::new(Appender(self.0.hold(alone))))
    }

    fn read_all(&self, lane: usize, tally: &mut Tally) -> Result<()> {
        let queue = self.0.lock(lane);
        let mut iterator = queue.iter();
        while let Some(record) = iterator.borrowed_next() {
            tally.take(record);
        }
        Ok(())
    }

    fn random(&self) -> Result<Box<dyn Random + '_>> {
        Ok(Box::new(Reader(self)))
    }

    fn tail(&self, park: bool) -> Result<Box<dyn Tail + '_>> {
        if park {
            return super::no_call("it has no call that waits");
        }
        Ok(Box::new(Reader(self)))
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.0.into_logs().try_for_each(|mut queue| Ok(queue.sync_all()?))
    }
}

impl Writer for Appender<'_> {
    fn put(&mut self, lane: usize, record: &[u8]) -> Result<()> {
        Ok(self.0.with(lane, |queue| queue.add(record))?)
    }

    fn put_batch(&mut self, lane: usize, records: &[&[u8]]) -> Result<()> {
        Ok(self.0.with(lane, |queue| queue.add_n(records))?)
    }
}

impl Random for Reader<'_> {
    fn get(&mut self, number: u64, tally: &mut Tally) -> Result<()> {
        let queue = self.0.0.lock(0);
        tally.take(&queue.iter().nth(number as usize).ok_or("no record there")?);
        Ok(())
    }
}

impl Tail for Reader<'_> {
    fn next(&mut self, take: &mut dyn FnMut(&[u8])) -> Result<usize> {
        let mut queue = self.0.0.lock(0);
        let mut count = 0;
        let mut iterator = queue.iter();
        while let Some(record) = iterator.borrowed_next() {
            take(record);
            count += 1;
        }
        if count > 0 {
            queue.remove_n(count)?;
        }
        Ok(count)
    }
}
