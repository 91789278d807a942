//! streamlog itself.

use std::time::Duration;

use streamlog::{
    Durability, HashKey, Position, PutRecord, Retention, SequenceNumber, ShardFilter, ShardId, ShardIterator,
    Stream, StreamOptions, Timestamp,
};

use super::{Class, Contender, Facts, Log, Mode, Random, Result, Setup, Tail, Tally, Writer};

pub const NAME: &str = "streamlog";
const RECORDS_AT_A_TIME: usize = 10_000;

const UNSYNCED_NAME: &str = "streamlog, no syncs between";
/// A stream whose segments are trimmed as fast as they are filled.
pub const TRIMMING: &str = "streamlog, trimming";
const KEPT_BYTES_OF_LANE: u64 = 128 << 20;

pub fn contenders() -> Vec<Contender> {
    let facts = Facts {
        name: NAME,
        package: Some("streamlog"),
        process: Some(Mode {
            config: "defaults: `Durability::Process`, synced each second in the background, 64 MiB segments; `Retention::forever()`",
            survives: "process death; power loss up to the last sync (1 s)",
        }),
        power: Some(Mode { config: "`Durability::Power`, otherwise the same", survives: "power loss" }),
        checksums: "CRC-32 of each frame, checked by each reader",
        live_readers: "any number, without a lock",
        writers: "any number of threads",
    };
    // Like most peers, leaves it to the system when bytes reach the disk.
    let unsynced = Facts {
        name: UNSYNCED_NAME,
        process: Some(Mode { config: "the same with `sync_interval(None)`", survives: "process death" }),
        power: None,
        ..facts
    };
    let trimming = Facts {
        name: TRIMMING,
        process: Some(Mode {
            config: "the same with `Retention::bytes_max(128 MiB)` a shard, reached before the clock runs: trimmed segments are refilled",
            survives: "process death; power loss up to the last sync (1 s)",
        }),
        power: Some(Mode { config: "`Durability::Power`, and the same", survives: "power loss" }),
        ..facts
    };
    vec![
        Contender { facts, open: |setup| Ok(Box::new(Streamlog::open(setup, Variant::AsItComes)?)) },
        Contender { facts: unsynced, open: |setup| Ok(Box::new(Streamlog::open(setup, Variant::Unsynced)?)) },
        Contender { facts: trimming, open: |setup| Ok(Box::new(Streamlog::open(setup, Variant::Trimming)?)) },
    ]
}

#[derive(Clone, Copy, PartialEq)]
enum Variant {
    AsItComes,
    Unsynced,
    Trimming,
}

struct Streamlog {
    stream: Stream,
    shards: Vec<ShardId>,
    /// A hash key of each shard, if each put names its shard.
    hash_keys: Vec<HashKey>,
    key_bytes: usize,
}

impl Streamlog {
    fn open(setup: &Setup, variant: Variant) -> Result<Self> {
        let durability = match setup.class {
            Class::Process => Durability::Process,
            Class::Power => Durability::Power,
        };
        let mut options = StreamOptions::new()
            .shards(setup.lanes as u32)
            .durability(durability)
            .retention(Retention::forever());
        let kept_bytes = KEPT_BYTES_OF_LANE * setup.lanes as u64;
        match variant {
            Variant::AsItComes => {}
            Variant::Unsynced => options = options.sync_interval(None),
            Variant::Trimming => options = options.retention(Retention::forever().bytes_max(kept_bytes)),
        }
        if let Some(bytes) = setup.segment_bytes {
            options = options.segment_bytes(bytes);
        }
        if setup.record_bytes + setup.key_bytes > 1 << 20 {
            options = options.record_bytes_max(2 << 20);
        }
        let stream = options.open(setup.directory.join("stream"))?;
        if variant == Variant::Trimming {
            fill(&stream, kept_bytes * 3)?;
        }
        let open = stream.list_shards(ShardFilter::AtLatest);
        let hash_keys = match setup.own_lanes {
            true => open.iter().map(|shard| shard.hash_key_range.start).collect(),
            false => vec![],
        };
        let shards = open.iter().map(|shard| shard.id).collect();
        Ok(Self { stream, shards, hash_keys, key_bytes: setup.key_bytes })
    }
}

/// Puts this many bytes, as fast as possible.
fn fill(stream: &Stream, bytes: u64) -> Result<()> {
    let data = vec![7; 64 << 10];
    let keys: Vec<[u8; 8]> = (0..bytes / data.len() as u64).map(u64::to_le_bytes).collect();
    for keys in keys.chunks(64) {
        let records: Vec<_> = keys.iter().map(|key| PutRecord::new(key, &data)).collect();
        stream.put_batch(&records)?.into_iter().try_for_each(|outcome| outcome.map(drop))?;
    }
    Ok(())
}

impl Log for Streamlog {
    fn writer(&self, _alone: bool) -> Result<Box<dyn Writer + '_>> {
        let (stream, hash_keys) = (self.stream.clone(), self.hash_keys.clone());
        Ok(Box::new(Putter { stream, hash_keys, key_bytes: self.key_bytes }))
    }

    fn read_all(&self, lane: usize, tally: &mut Tally) -> Result<()> {
        let mut iterator = self.stream.iterator(self.shards[lane], Position::TrimHorizon)?;
        loop {
            let batch = iterator.next_batch(RECORDS_AT_A_TIME)?;
            if batch.is_empty() {
                return Ok(());
            }
            for record in &batch {
                tally.take_parts(record.partition_key(), record.data());
            }
        }
    }

    fn random(&self) -> Result<Box<dyn Random + '_>> {
        let mut iterator = self.stream.iterator(self.shards[0], Position::TrimHorizon)?;
        let first = iterator.next_batch(1)?.iter().next().map(|record| record.timestamp());
        let end = self.stream.stats()?.shards[0].next_sequence;
        iterator.seek(Position::At(end.previous().unwrap_or_default()))?;
        let last = iterator.next_batch(1)?.iter().next().map(|record| record.timestamp());
        Ok(Box::new(Seeker {
            iterator,
            first_micros: first.unwrap_or_default().as_micros(),
            last_micros: last.unwrap_or_default().as_micros(),
        }))
    }

    fn tail(&self, park: bool) -> Result<Box<dyn Tail + '_>> {
        let iterator = self.stream.iterator(self.shards[0], Position::TrimHorizon)?;
        Ok(Box::new(Follower { iterator, park }))
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(self.stream.close()?)
    }
}

struct Putter {
    stream: Stream,
    hash_keys: Vec<HashKey>,
    key_bytes: usize,
}

impl Writer for Putter {
    #[inline]
    fn put(&mut self, lane: usize, record: &[u8]) -> Result<()> {
        let (key, data) = record.split_at(self.key_bytes);
        match self.hash_keys.get(lane) {
            Some(&hash_key) => {
                self.stream.put_record(&PutRecord::new(key, data).explicit_hash_key(hash_key))?
            }
            None => self.stream.put(key, data)?,
        };
        Ok(())
    }

    fn put_batch(&mut self, _lane: usize, records: &[&[u8]]) -> Result<()> {
        let records: Vec<_> = records
            .iter()
            .map(|record| {
                let (key, data) = record.split_at(self.key_bytes);
                PutRecord::new(key, data)
            })
            .collect();
        for outcome in self.stream.put_batch(&records)? {
            outcome?;
        }
        Ok(())
    }
}

struct Seeker {
    iterator: ShardIterator,
    first_micros: u64,
    last_micros: u64,
}

impl Seeker {
    fn read(&mut self, position: Position, tally: &mut Tally) -> Result<()> {
        self.iterator.seek(position)?;
        let batch = self.iterator.next_batch(1)?;
        let record = batch.iter().next().ok_or("no record there")?;
        tally.take_parts(record.partition_key(), record.data());
        Ok(())
    }
}

impl Random for Seeker {
    fn get(&mut self, number: u64, tally: &mut Tally) -> Result<()> {
        self.read(Position::At(SequenceNumber::new(number)), tally)
    }

    fn get_by_time(&mut self, share: f64, tally: &mut Tally) -> Result<()> {
        let micros = self.first_micros + ((self.last_micros - self.first_micros) as f64 * share) as u64;
        self.read(Position::AtTimestamp(Timestamp::from_micros(micros)), tally)
    }
}

struct Follower {
    iterator: ShardIterator,
    park: bool,
}

impl Tail for Follower {
    fn next(&mut self, take: &mut dyn FnMut(&[u8])) -> Result<usize> {
        if self.park {
            self.iterator.wait(Duration::from_millis(100))?;
        }
        let batch = self.iterator.next_batch(RECORDS_AT_A_TIME)?;
        for record in &batch {
            take(record.data());
        }
        Ok(batch.len())
    }
}
