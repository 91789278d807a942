//! Checks a stream without writers against the promises.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use streamlog::{
    Batch, Error, HashKey, Maintenance, Position, Record, ShardDescription, ShardFilter, ShardId, Stream,
    StreamStats, Timestamp,
};

use super::group::GroupLedger;
use super::keeper::check_tiles;
use super::ledger::Ledger;
use super::plan::{Plan, Random, SEGMENT_BYTES_MAX};
use super::record::{KEYS_PER_WRITER, KeyIndex, Number, Part, Stamp, hash_key_of, name_of};
use super::{Args, now};

/// The maximum number of unsealed segments of a shard that recovery may have to scan: four that wait for sealing, the active one, and
/// one just created.
const UNSEALED_COUNT_MAX: u64 = 6;

/// The result of a check that found no violation.
#[derive(Debug, Clone, Default)]
pub(crate) struct Checked {
    pub(crate) open_time: Duration,
    pub(crate) records: u64,
    /// The last record of each key.
    pub(crate) lasts: Vec<Option<Number>>,
}

/// What to check, and how.
pub(crate) struct Check<'a> {
    pub(crate) args: &'a Args,
    pub(crate) dir: &'a Path,
    /// The plan of the last run.
    pub(crate) plan: &'a Plan,
    pub(crate) was_closed: bool,
    /// Also verify all bytes, and run a retention pass.
    pub(crate) is_thorough: bool,
}

impl Check<'_> {
    /// Checks all promises that are visible from here. The error names the broken one.
    pub(crate) fn run(
        &self,
        ledger: &mut Ledger,
        group: &mut GroupLedger,
        outside: &GroupLedger,
        random: &mut Random,
    ) -> Result<Checked, String> {
        let age = self.plan.retention.age;
        let began = Instant::now();
        let oldest = age.map_or(Timestamp::default(), |age| now() - age);
        let options = self.plan.options(self.args).maintenance(Maintenance::Manual);
        let stream = options.open(self.dir).map_err(|error| match error {
            Error::Locked(_) => format!("P13: a dead process left its lock: {error}"),
            error => format!("P1 P9: the stream does not open: {error}"),
        })?;
        let open_time = began.elapsed();
        let opened_at = now();

        self.check_recovery(&stream)?;
        check_shards(&stream)?;
        let stats = stream.stats().map_err(|error| error.to_string())?;
        let mut reading = Reading::new(self.args, ledger, &stats, stream.shards(), oldest);
        if random.one_in(2) {
            reading.read_lineage(&stream, random)?;
        } else {
            reading.read_shards(&stream)?;
        }
        reading.check_ends(&stats)?;
        reading.check_batches()?;
        let records = reading.records;
        let firsts: Vec<_> = reading.keys.iter().map(|key| key.first).collect();
        let lasts: Vec<_> = reading.keys.iter().map(|key| key.last).collect();
        group.check_commits(&stream)?;
        outside.check_commits(&stream)?;
        // Otherwise the next worker gets the rest.
        if random.one_in(2) {
            group.drain(&stream, ledger, &lasts)?;
        }

        if let Some(age) = age {
            ledger.may_be_gone_before = ledger.may_be_gone_before.max(opened_at - age);
        }
        self.check_expired(ledger, &firsts, &stats)?;
        if self.plan.retention.bytes_max.is_some() {
            ledger.may_be_gone_before = opened_at;
        }
        for (key, first) in (0..).zip(firsts) {
            ledger.forget_before(key, first);
        }
        ledger.forget_empty_runs();
        if self.is_thorough {
            self.verify(&stream, records)?;
            self.expire(&stream, ledger)?;
        }
        stream.close().map_err(|error| format!("P10: the stream does not close: {error}"))?;
        Ok(Checked { open_time, records, lasts })
    }

    fn check_recovery(&self, stream: &Stream) -> Result<(), String> {
        let report = stream.recovery();
        if self.was_closed && !report.was_closed_cleanly() {
            return Err(format!("P15: the stream was closed, and recovery had something to do: {report:?}"));
        }
        let limit = UNSEALED_COUNT_MAX * SEGMENT_BYTES_MAX;
        match report.shards.iter().find(|shard| shard.scanned_bytes > limit) {
            Some(shard) => {
                Err(format!("P15: recovery scanned more than {limit} bytes of a shard: {shard:?}"))
            }
            None => Ok(()),
        }
    }

    /// Checks that retention had a reason to drop every missing record.
    fn check_expired(
        &self,
        ledger: &Ledger,
        firsts: &[Option<Number>],
        stats: &StreamStats,
    ) -> Result<(), String> {
        let lost_early = (0..).zip(firsts).find_map(|(key, &first)| {
            let (number, not_yet) = ledger.youngest_lost(key, first)?;
            (not_yet >= ledger.may_be_gone_before).then_some((key, number, not_yet))
        });
        let Some((key, number, not_yet)) = lost_early else { return Ok(()) };
        // A limit on bytes may drop any of the oldest records, but only until the stream fits its cap. In addition, one segment of each
        // shard may have returned its unused blocks.
        let disk_bytes = stats.disk_bytes();
        let given_back = (stats.shards.len() as u64 + 1) * (self.plan.segment_bytes.min(1 << 20) + (1 << 20));
        let had_to_go = |cap: u64| disk_bytes + given_back >= cap;
        let has_age = self.plan.retention.age.is_some();
        if self.plan.retention.bytes_max.is_some_and(|cap| has_age || had_to_go(cap)) {
            return Ok(());
        }
        Err(format!(
            "P12: number {number} of {} is gone, and so are those before it: it arrived after {not_yet}, only what arrived before \
             {} has expired, and the stream takes {disk_bytes} bytes",
            name_of(key),
            ledger.may_be_gone_before
        ))
    }

    fn verify(&self, stream: &Stream, records: u64) -> Result<(), String> {
        let found = stream.verify(|_| ControlFlow::Continue(())).map_err(|error| format!("P9: {error}"))?;
        if found.is_complete && found.damage.is_empty() && found.record_count == records {
            return Ok(());
        }
        Err(format!("P9: of {records} records that were just read, a verification found: {found:?}"))
    }

    /// Runs a retention pass. Afterwards no old record may be left, and the disk usage must be within its limit.
    fn expire(&self, stream: &Stream, ledger: &mut Ledger) -> Result<(), String> {
        let began = now();
        stream.maintain().map_err(|error| format!("P12: a pass of the maintenance failed: {error}"))?;
        let ended = now();
        if let Some(cap) = self.plan.retention.bytes_max {
            // A pass drops first and seals afterwards, which adds an index to each segment. The next pass counts these.
            stream.maintain().map_err(|error| format!("P12: a pass of the maintenance failed: {error}"))?;
            ledger.may_be_gone_before = now();
            let bytes = bytes_held(stream).map_err(|error| error.to_string())?;
            if bytes > cap {
                return Err(format!("P12: after a pass {bytes} bytes are left, and {cap} may be"));
            }
        }
        let Some(age) = self.plan.retention.age else { return Ok(()) };
        ledger.may_be_gone_before = ledger.may_be_gone_before.max(ended - age);
        for shard in stream.shards() {
            let first = stream.iterator(shard.id, Position::TrimHorizon).and_then(|mut it| it.next_batch(1));
            let first = first.map_err(|error| format!("P6: {}: {error}", shard.id))?;
            if first.iter().any(|record| record.timestamp() < began - age) {
                return Err(format!("P12: after a pass {} still returns a record that is too old", shard.id));
            }
        }
        Ok(())
    }
}

/// Checks that the shards cover the hash-key space, and that children start above their parents.
fn check_shards(stream: &Stream) -> Result<(), String> {
    check_tiles("open shards", stream.list_shards(ShardFilter::AtLatest))?;
    check_tiles("shards at the horizon", stream.list_shards(ShardFilter::AtTrimHorizon))?;
    let a_while_ago = now() - Duration::from_secs(2);
    check_tiles("shards of a while ago", stream.list_shards(ShardFilter::AtTimestamp(a_while_ago)))?;
    let shards = stream.shards();
    for child in &shards {
        for parent in shards.iter().filter(|shard| child.parents().any(|id| id == shard.id)) {
            if parent.closing_sequence.is_none_or(|end| child.first_sequence < end) {
                return Err(format!("P5: {child:?} does not begin above the end of {parent:?}"));
            }
        }
    }
    Ok(())
}

/// What reading the whole stream has found so far.
struct Reading<'a> {
    ledger: &'a Ledger,
    shards: BTreeMap<ShardId, ShardDescription>,
    /// State by key.
    keys: Vec<Seen>,
    /// The next sequence number of each shard.
    next: HashMap<ShardId, u64>,
    /// The last call of each writer in each run that left any records.
    last_calls: BTreeMap<(u16, u32), LastCall>,
    /// No record may be older than this.
    oldest: Timestamp,
    records: u64,
}

#[derive(Debug, Clone)]
struct Seen {
    hash_key: HashKey,
    first: Option<Number>,
    last: Option<Number>,
}

#[derive(Debug)]
struct LastCall {
    call: u64,
    part: Part,
    found: Vec<(KeyIndex, ShardId)>,
}

impl<'a> Reading<'a> {
    fn new(
        args: &Args,
        ledger: &'a Ledger,
        stats: &StreamStats,
        shards: Vec<ShardDescription>,
        oldest: Timestamp,
    ) -> Self {
        let seen = |key| Seen { hash_key: hash_key_of(key), first: None, last: None };
        Self {
            ledger,
            shards: shards.into_iter().map(|shard| (shard.id, shard)).collect(),
            keys: (0..args.writers * KEYS_PER_WRITER).map(seen).collect(),
            next: stats.shards.iter().map(|shard| (shard.shard, shard.horizon.get())).collect(),
            last_calls: BTreeMap::new(),
            oldest,
            records: 0,
        }
    }

    /// Reads shard by shard in order of creation: the shards that hold a key's records were created one after the other.
    fn read_shards(&mut self, stream: &Stream) -> Result<(), String> {
        for shard in stream.shards() {
            let failed = |error| format!("P6: reading {}: {error}", shard.id);
            let mut iterator = stream.iterator(shard.id, Position::TrimHorizon).map_err(failed)?;
            loop {
                let batch = iterator.next_batch(10_000).map_err(failed)?;
                self.take(&batch)?;
                if batch.is_empty() {
                    break;
                }
            }
        }
        Ok(())
    }

    fn read_lineage(&mut self, stream: &Stream, random: &mut Random) -> Result<(), String> {
        let failed = |error| format!("P6: reading all shards: {error}");
        let mut iterator = stream.lineage_iterator(Position::TrimHorizon).map_err(failed)?;
        loop {
            let batch = iterator.next_batch(random.between(1, 5_000) as usize).map_err(failed)?;
            self.take(&batch)?;
            if batch.is_empty() {
                return Ok(());
            }
        }
    }

    fn take(&mut self, batch: &Batch) -> Result<(), String> {
        for record in batch {
            self.see(batch.shard(), &record).map_err(|what| {
                format!("{what} (sequence number {} of {})", record.sequence(), batch.shard())
            })?;
        }
        Ok(())
    }

    fn see(&mut self, shard: ShardId, record: &Record<'_>) -> Result<(), String> {
        self.records += 1;
        let next = self.next.get_mut(&shard).ok_or("P6: the shard is not among the counts")?;
        if record.sequence().get() != *next {
            return Err(format!("P3 P5 P6: {next} was expected"));
        }
        *next += 1;
        if record.timestamp() < self.oldest {
            return Err(format!("P12: it arrived at {}, before {}", record.timestamp(), self.oldest));
        }
        let stamp = Stamp::of(record.partition_key(), record.data()).map_err(|what| format!("P9: {what}"))?;
        let key = self.keys.get_mut(usize::from(stamp.key)).ok_or("P9: there is no such key")?;
        if !self.shards.get(&shard).is_some_and(|shard| shard.hash_key_range.contains(key.hash_key)) {
            return Err(format!("P16: {} does not belong here", name_of(stamp.key)));
        }
        if let Some(last) = key.last {
            self.ledger.check_gap(stamp.key, last, Some(stamp.number))?;
            if !stamp.number.may_follow(last) {
                return Err(format!(
                    "P4: number {} of {} comes after {last}",
                    stamp.number,
                    name_of(stamp.key)
                ));
            }
        }
        key.first = key.first.or(Some(stamp.number));
        key.last = Some(stamp.number);
        self.note_call(shard, &stamp);
        Ok(())
    }

    fn note_call(&mut self, shard: ShardId, stamp: &Stamp) {
        let place = (stamp.writer(), stamp.number.run);
        let none = LastCall { call: 0, part: Part::ALONE, found: vec![] };
        let last = self.last_calls.entry(place).or_insert(none);
        if stamp.call > last.call {
            *last = LastCall { call: stamp.call, part: stamp.part, found: vec![] };
        }
        if stamp.call == last.call {
            last.found.push((stamp.key, shard));
        }
    }

    /// Checks that reading reached the promised ends.
    fn check_ends(&self, stats: &StreamStats) -> Result<(), String> {
        for shard in &stats.shards {
            if self.next.get(&shard.shard) != Some(&shard.next_sequence.get()) {
                return Err(format!(
                    "P6: reading ended at {:?}, and not where {shard:?} does",
                    self.next[&shard.shard]
                ));
            }
        }
        for (key, seen) in (0..).zip(&self.keys) {
            if let Some(last) = seen.last {
                self.ledger.check_gap(key, last, None)?;
            }
        }
        Ok(())
    }

    /// Checks the call during which a worker was killed: each shard holds all of its records or none. All earlier calls had returned.
    fn check_batches(&self) -> Result<(), String> {
        for (&(_, run), LastCall { call, part, found }) in &self.last_calls {
            for key in part.first_key..part.first_key + part.key_count {
                let count = found.iter().filter(|(of, _)| *of == key).count();
                let seen = &self.keys[usize::from(key)];
                // Otherwise the records may have expired together with all earlier ones of the key.
                let has_older = seen.first.is_some_and(|first| first.run <= run);
                let would_be_in = |shard: &ShardId| {
                    self.shards.get(shard).is_some_and(|shard| shard.hash_key_range.contains(seen.hash_key))
                };
                let companion = found.iter().find(|(_, shard)| would_be_in(shard));
                let is_torn = match count {
                    0 => has_older && companion.is_some(),
                    count => count != usize::from(part.records_per_key),
                };
                if is_torn {
                    return Err(format!(
                        "P7: call {call} of run {run} put a batch {part:?}, of which {count} records of {} are there, and of all \
                         keys these: {found:?}",
                        name_of(key)
                    ));
                }
            }
        }
        Ok(())
    }
}

/// Returns the bytes that the segments hold, without blocks reserved for later records.
fn bytes_held(stream: &Stream) -> streamlog::Result<u64> {
    let mut bytes = 0;
    stream.verify(|at| {
        bytes = at.bytes_total;
        ControlFlow::Break(())
    })?;
    Ok(bytes)
}
