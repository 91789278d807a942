//! nano-wal: segments by time; the caller keeps the place of each record.

use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nano_wal::{EntryRef, ReadDescriptor, Wal, WalOptions, WriteEntry, read_batch};

use super::{Class, Contender, Facts, Log, Mode, Random, Result, Setup, Tally, Writer};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

pub fn contender() -> Contender {
    let facts = Facts {
        name: "nano-wal",
        package: Some("nano-wal"),
        process: Some(Mode {
            config: "segments of ten days (it does not roll by size); for reading, this harness keeps the place of each record, as \
                     its users have to",
            survives: "process death",
        }),
        power: Some(Mode { config: "the same, with `durable`", survives: "power loss" }),
        checksums: "none",
        live_readers: "any number, at places that the caller keeps",
        writers: "any number of threads",
    };
    Contender { facts, open: |setup| Ok(Box::new(NanoWal::open(setup)?)) }
}

struct NanoWal {
    lanes: Vec<(Wal, Mutex<Vec<EntryRef>>)>,
    is_durable: bool,
    remember: bool,
}

fn now_millis() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis() as i64)
}

impl NanoWal {
    fn open(setup: &Setup) -> Result<Self> {
        let lanes = setup.each_lane(|lane| {
            let options = WalOptions { retention: 100 * DAY, segment_duration: 10 * DAY };
            Ok((Wal::new(&setup.lane_directory(lane)?, "records", options)?, Mutex::default()))
        })?;
        Ok(Self { lanes, is_durable: setup.class == Class::Power, remember: setup.remember })
    }
}

impl Log for NanoWal {
    fn writer(&self, _alone: bool) -> Result<Box<dyn Writer + '_>> {
        Ok(Box::new(Access(self)))
    }

    fn read_all(&self, lane: usize, tally: &mut Tally) -> Result<()> {
        let (wal, places) = &self.lanes[lane];
        let segment = wal.ensure_segment(now_millis())?;
        let places = places.lock().unwrap().clone();
        if places.is_empty() {
            return super::no_call("it cannot read without the place of each record");
        }
        for places in places.chunks(512) {
            let wanted: Vec<_> = places
                .iter()
                .map(|place| ReadDescriptor {
                    read_fd: segment.read_fd().clone(),
                    file_offset: place.file_offset,
                    byte_size: place.byte_size,
                })
                .collect();
            read_batch(&wanted)?.iter().for_each(|record| tally.take(&record.content));
        }
        Ok(())
    }

    fn random(&self) -> Result<Box<dyn Random + '_>> {
        Ok(Box::new(Access(self)))
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.lanes.iter().try_for_each(|(wal, _)| Ok(wal.shutdown()?))
    }
}

struct Access<'a>(&'a NanoWal);

impl Writer for Access<'_> {
    fn put(&mut self, lane: usize, record: &[u8]) -> Result<()> {
        let (wal, places) = &self.0.lanes[lane];
        let place = wal.append(None, record, now_millis(), self.0.is_durable)?;
        if self.0.remember {
            places.lock().unwrap().push(place);
        }
        Ok(())
    }

    fn put_batch(&mut self, lane: usize, records: &[&[u8]]) -> Result<()> {
        let (wal, places) = &self.0.lanes[lane];
        let entries: Vec<_> = records.iter().map(|content| WriteEntry { header: None, content }).collect();
        let found = wal.append_batch(&entries, now_millis(), self.0.is_durable)?;
        if self.0.remember {
            places.lock().unwrap().extend(found);
        }
        Ok(())
    }
}

impl Random for Access<'_> {
    fn get(&mut self, number: u64, tally: &mut Tally) -> Result<()> {
        let (wal, places) = &self.0.lanes[0];
        let place = places.lock().unwrap().get(number as usize).cloned().ok_or("its place is not known")?;
        let segment = wal.ensure_segment(now_millis())?;
        tally.take(&wal.read_at(&segment, place.file_offset, place.byte_size)?.content);
        Ok(())
    }
}
