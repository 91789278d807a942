//! walrus: topics in blocks of 10 MiB.

use walrus_rust::{FsyncSchedule, ReadConsistency, Walrus, disable_fd_backend, enable_fd_backend};

use super::{Class, Contender, Facts, Log, Mode, Result, Setup, Tail, Tally, Writer};

const READ_BYTES: usize = 1 << 20;

pub fn contender() -> Contender {
    let facts = Facts {
        name: "walrus-rust",
        package: Some("walrus-rust"),
        process: Some(Mode {
            config: "`NoFsync`, reads `AtLeastOnce`; its mapping for single puts, its io_uring backend for batches (which syncs); a \
                     shard is a topic",
            survives: "process death",
        }),
        power: Some(Mode { config: "`SyncEach`, otherwise the same", survives: "power loss" }),
        checksums: "FNV-1a of each entry, checked on reading",
        live_readers: "one for each topic",
        writers: "any number of threads",
    };
    Contender { facts, open: |setup| Ok(Box::new(Topics::open(setup)?)) }
}

struct Topics {
    walrus: Walrus,
    names: Vec<String>,
}

impl Topics {
    /// The parent process sets the directory in the environment.
    fn open(setup: &Setup) -> Result<Self> {
        match setup.batch {
            1 => disable_fd_backend(),
            _ => enable_fd_backend(),
        }
        let schedule = match setup.class {
            Class::Process => FsyncSchedule::NoFsync,
            Class::Power => FsyncSchedule::SyncEach,
        };
        let consistency = ReadConsistency::AtLeastOnce { persist_every: u32::MAX };
        let walrus = Walrus::with_consistency_and_schedule_for_key("compare", consistency, schedule)?;
        Ok(Self { walrus, names: (0..setup.lanes).map(|lane| format!("t{lane}")).collect() })
    }
}

impl Log for Topics {
    fn writer(&self, _alone: bool) -> Result<Box<dyn Writer + '_>> {
        Ok(Box::new(Access(self)))
    }

    fn read_all(&self, lane: usize, tally: &mut Tally) -> Result<()> {
        loop {
            let entries = self.walrus.batch_read_for_topic(&self.names[lane], READ_BYTES, true)?;
            if entries.is_empty() {
                return Ok(());
            }
            entries.iter().for_each(|entry| tally.take(&entry.data));
        }
    }

    fn readers_max(&self) -> usize {
        1
    }

    fn tail(&self, park: bool) -> Result<Box<dyn Tail + '_>> {
        if park {
            return super::no_call("it has no call that waits");
        }
        Ok(Box::new(Access(self)))
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

struct Access<'a>(&'a Topics);

impl Writer for Access<'_> {
    fn put(&mut self, lane: usize, record: &[u8]) -> Result<()> {
        Ok(self.0.walrus.append_for_topic(&self.0.names[lane], record)?)
    }

    fn put_batch(&mut self, lane: usize, records: &[&[u8]]) -> Result<()> {
        Ok(self.0.walrus.batch_append_for_topic(&self.0.names[lane], records)?)
    }
}

impl Tail for Access<'_> {
    fn next(&mut self, take: &mut dyn FnMut(&[u8])) -> Result<usize> {
        let entries = self.0.walrus.batch_read_for_topic(&self.0.names[0], READ_BYTES, true)?;
        entries.iter().for_each(|entry| take(&entry.data));
        Ok(entries.len())
    }
}
