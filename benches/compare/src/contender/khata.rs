//! khata-rs: Chronicle Queue's model, a mapped file.

use khata_rs::{FILE_HEADER_SIZE, LockFreeIndexConfig, Store, StoreConfig};

use super::{Class, Contender, Facts, Held, Lanes, Log, Mode, Random, Result, Setup, Tail, Tally, Writer};

pub fn contender() -> Contender {
    let facts = Facts {
        name: "khata-rs",
        package: Some("khata-rs"),
        process: Some(Mode {
            config: "one `Store` with checksums as they come, mapped whole; its file is sparse, so a full disk is a SIGBUS; it does \
                     not roll by size",
            survives: "process death",
        }),
        power: Some(Mode {
            config: "the same, and `flush` (`msync` of the whole mapping) after each put",
            survives: "power loss",
        }),
        checksums: "CRC-16 of each message, checked only by `read_verified`; the iterator, which is used here, does not check",
        live_readers: "any number, without a lock",
        writers: "one; several need a mutex",
    };
    Contender { facts, open: |setup| Ok(Box::new(Khata::open(setup)?)) }
}

struct Khata {
    stores: Vec<Store>,
    turns: Lanes<()>,
    class: Class,
}

impl Khata {
    fn open(setup: &Setup) -> Result<Self> {
        let stores = setup.each_lane(|lane| {
            let bytes = setup.lane_bytes(8);
            let records = bytes / (setup.record_bytes + setup.key_bytes) as u64;
            // An index with room for every message.
            let index = LockFreeIndexConfig::new(4096, 64, (records / (4096 * 64) + 8) as usize);
            let config =
                StoreConfig { block_size: bytes as usize, index_config: index, ..StoreConfig::default() };
            Ok(Store::open(setup.lane_directory(lane)?.join("0"), 0, config, false)?)
        })?;
        Ok(Self { stores, turns: Lanes::new(vec![(); setup.lanes]), class: setup.class })
    }
}

impl Log for Khata {
    fn writer(&self, alone: bool) -> Result<Box<dyn Writer + '_>> {
        Ok(Box::new(Appender { log: self, turn: self.turns.hold(alone) }))
    }

    fn read_all(&self, lane: usize, tally: &mut Tally) -> Result<()> {
        for message in self.stores[lane].iter() {
            tally.take(message.1);
        }
        Ok(())
    }

    fn random(&self) -> Result<Box<dyn Random + '_>> {
        Ok(Box::new(Reader { store: &self.stores[0], position: 0 }))
    }

    fn tail(&self, park: bool) -> Result<Box<dyn Tail + '_>> {
        if park {
            return super::no_call("it has no call that waits");
        }
        Ok(Box::new(Reader { store: &self.stores[0], position: FILE_HEADER_SIZE }))
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.stores.iter().try_for_each(|store| Ok(store.flush()?))
    }
}

struct Appender<'a> {
    log: &'a Khata,
    turn: Held<'a, ()>,
}

impl Writer for Appender<'_> {
    #[inline]
    fn put(&mut self, lane: usize, record: &[u8]) -> Result<()> {
        let store = &self.log.stores[lane];
        self.turn.with(lane, |()| store.append(record))?;
        if self.log.class == Class::Power {
            store.flush()?;
        }
        Ok(())
    }

    fn put_batch(&mut self, lane: usize, records: &[&[u8]]) -> Result<()> {
        let store = &self.log.stores[lane];
        self.turn.with(lane, |()| store.append_batch(records))?;
        if self.log.class == Class::Power {
            store.flush()?;
        }
        Ok(())
    }
}

struct Reader<'a> {
    store: &'a Store,
    position: u64,
}

impl Random for Reader<'_> {
    fn get(&mut self, number: u64, tally: &mut Tally) -> Result<()> {
        tally.take(self.store.read_verified(number)?.ok_or("no message there")?);
        Ok(())
    }
}

impl Tail for Reader<'_> {
    fn next(&mut self, take: &mut dyn FnMut(&[u8])) -> Result<usize> {
        let mut count = 0;
        while let Some((start, len, next)) = self.store.read_at_position_raw(self.position)? {
            // SAFETY: the store says that these bytes of its mapping are a whole message.
            #[allow(unsafe_code)]
            take(unsafe { std::slice::from_raw_parts(start, len) });
            self.position = next;
            count += 1;
        }
        Ok(count)
    }
}
