//! The output of the supervisor.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use indicatif::{HumanBytes, HumanCount};

use super::board::new_delays;
use super::check::Checked;
use super::message::Counters;
use super::{Result, say};

pub(crate) const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// All counts, since the last line and in total.
pub(crate) struct Report {
    began: Instant,
    line_began: Instant,
    line: Totals,
    all: Totals,
    kills: u64,
    early_kills: u64,
    closes: u64,
    checks: u64,
    checked_records: u64,
    visitor_kills: u64,
    /// The longest time until a follower outside and the group outside had an acknowledged record.
    delays_max: [Duration; 2],
    visitor_own_bytes_max: u64,
    reopen_last: Duration,
    reopen_max: Duration,
    /// The worker's own memory: the current size, and the maximum in each half of the run so far.
    memory: Memory,
    own_by_second: Vec<(Duration, u64)>,
}

struct Totals {
    counters: Counters,
    /// The counters of the visitors.
    outside: Counters,
    delays_nanos: Histogram<u64>,
}

/// The memory of a process.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Memory {
    /// Memory of the process itself.
    pub(crate) own_bytes: u64,
    /// File pages, which the system can reclaim at any time.
    pub(crate) mapped_bytes: u64,
}

impl Memory {
    /// Returns `None` if the system does not provide the sizes.
    pub(crate) fn of_process(id: u32) -> Option<Self> {
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
        let kib = |name: &str| -> Option<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_ascii_whitespace().next()?.parse().ok()
        };
        let mapped = kib("RssFile:")? + kib("RssShmem:")?;
        Some(Self { own_bytes: kib("RssAnon:")? << 10, mapped_bytes: mapped << 10 })
    }
}

impl Totals {
    fn new() -> Result<Self> {
        Ok(Self { counters: Counters::default(), outside: Counters::default(), delays_nanos: new_delays()? })
    }

    fn add(&mut self, more: &Counters, delays_nanos: &[(u64, u64)]) {
        Self::add_counters(&mut self.counters, more);
        for &(nanos, count) in delays_nanos {
            self.delays_nanos.saturating_record_n(nanos, count);
        }
    }

    fn add_counters(mine: &mut Counters, more: &Counters) {
        mine.put_records += more.put_records;
        mine.put_bytes += more.put_bytes;
        mine.read_records += more.read_records;
        mine.read_bytes += more.read_bytes;
        mine.reshards += more.reshards;
        mine.trimmed_records += more.trimmed_records;
        mine.overtaken += more.overtaken;
        mine.handled_records += more.handled_records;
        mine.commits += more.commits;
        mine.leases_lost += more.leases_lost;
        mine.groups_overtaken += more.groups_overtaken;
        mine.kept_records += more.kept_records;
        mine.looks += more.looks;
        mine.wakes += more.wakes;
        mine.late_wakes += more.late_wakes;
        // A worker that has just started has not counted its shards yet.
        if more.open_shards > 0 {
            mine.open_shards = more.open_shards;
        }
        mine.disk_bytes = mine.disk_bytes.max(more.disk_bytes);
    }

    /// Formats rates and delays.
    fn in_words(&self, seconds: f64) -> String {
        let rate = |count: u64| HumanCount((count as f64 / seconds) as u64).to_string();
        let bytes = |count: u64| HumanBytes((count as f64 / seconds) as u64).to_string();
        let counters = &self.counters;
        let delay = |quantile| short(self.delays_nanos.value_at_quantile(quantile));
        format!(
            "put {}/s {}/s  read {}/s {}/s  puts p50 {} p99 {} p99.9 {} max {}",
            rate(counters.put_records),
            bytes(counters.put_bytes),
            rate(counters.read_records),
            bytes(counters.read_bytes),
            delay(0.5),
            delay(0.99),
            delay(0.999),
            short(self.delays_nanos.max()),
        )
    }
}

fn short(nanos: u64) -> String {
    format!("{:.1?}", Duration::from_nanos(nanos))
}

impl Report {
    pub(crate) fn new() -> Result<Self> {
        let began = Instant::now();
        Ok(Self {
            began,
            line_began: began,
            line: Totals::new()?,
            all: Totals::new()?,
            kills: 0,
            early_kills: 0,
            closes: 0,
            checks: 0,
            checked_records: 0,
            visitor_kills: 0,
            delays_max: [Duration::ZERO; 2],
            visitor_own_bytes_max: 0,
            reopen_last: Duration::ZERO,
            reopen_max: Duration::ZERO,
            memory: Memory::default(),
            own_by_second: vec![],
        })
    }

    pub(crate) fn note_counters(&mut self, counters: &Counters, delays_nanos: &[(u64, u64)]) {
        self.line.add(counters, delays_nanos);
        self.all.add(counters, delays_nanos);
    }

    pub(crate) fn note_visitor(&mut self, counters: &Counters, memory: Option<Memory>) {
        Totals::add_counters(&mut self.line.outside, counters);
        Totals::add_counters(&mut self.all.outside, counters);
        let own_bytes = memory.map_or(0, |memory| memory.own_bytes);
        self.visitor_own_bytes_max = self.visitor_own_bytes_max.max(own_bytes);
    }

    pub(crate) fn note_visitor_kill(&mut self) {
        self.visitor_kills += 1;
    }

    /// Notes the longest time until a follower outside and the group outside had an acknowledged record.
    pub(crate) fn note_delays(&mut self, follower: Duration, group: Duration) {
        self.delays_max = [follower, group];
    }

    pub(crate) fn note_open(&mut self, time: Duration) {
        self.reopen_last = time;
        self.reopen_max = self.reopen_max.max(time);
    }

    pub(crate) fn note_kill(&mut self, was_early: bool) {
        self.kills += 1;
        self.early_kills += u64::from(was_early);
    }

    pub(crate) fn note_close(&mut self) {
        self.closes += 1;
    }

    pub(crate) fn note_check(&mut self, checked: &Checked) {
        self.checks += 1;
        self.checked_records += checked.records;
        self.note_open(checked.open_time);
    }

    pub(crate) fn note_memory(&mut self, memory: Memory) {
        self.memory = memory;
        let at = self.began.elapsed();
        match self.own_by_second.last_mut() {
            Some((second, own)) if second.as_secs() == at.as_secs() => *own = memory.own_bytes.max(*own),
            _ => self.own_by_second.push((at, memory.own_bytes)),
        }
    }

    /// Prints a line if it is due.
    pub(crate) fn tick(&mut self) -> Result<()> {
        let seconds = self.line_began.elapsed();
        if seconds < LINE_INTERVAL {
            return Ok(());
        }
        let Counters { open_shards, reshards, trimmed_records, disk_bytes, .. } = self.line.counters;
        let per_second = |count: u64| HumanCount((count as f64 / seconds.as_secs_f64()) as u64);
        let outside = &self.line.outside;
        say(&format!(
            "{:>6.0?}  {}  {open_shards} shards  disk {}  memory {} own {} mapped  {} kills  reopen {:.1?} max {:.1?}  \
             {reshards} reshards  {} trimmed  outside {}/s read {}/s handled {} kills  0 violations",
            self.began.elapsed(),
            self.line.in_words(seconds.as_secs_f64()),
            HumanBytes(disk_bytes),
            HumanBytes(self.memory.own_bytes),
            HumanBytes(self.memory.mapped_bytes),
            self.kills,
            self.reopen_last,
            self.reopen_max,
            HumanCount(trimmed_records),
            per_second(outside.read_records),
            per_second(outside.handled_records),
            self.visitor_kills,
        ));
        (self.line_began, self.line) = (Instant::now(), Totals::new()?);
        Ok(())
    }

    /// Prints the summary. `spans_again` are the numbers of spans with records that had been handed out before, inside and outside.
    pub(crate) fn summary(&self, jobs: Vec<String>, spans_again: [u64; 2]) {
        let elapsed = self.began.elapsed();
        let all = &self.all.counters;
        say(&format!("\nin {elapsed:.0?}: {}", self.all.in_words(elapsed.as_secs_f64())));
        say(&format!(
            "{} records ({}) put, {} read by readers at work; {} reshards, {} records trimmed at work, readers overtaken {} times",
            HumanCount(all.put_records),
            HumanBytes(all.put_bytes),
            HumanCount(all.read_records),
            HumanCount(all.reshards),
            HumanCount(all.trimmed_records),
            HumanCount(all.overtaken),
        ));
        let outside = &self.all.outside;
        let [followed, handled] = self.delays_max;
        say(&format!(
            "outside: {} records read, {} of them again after a while, {} looks, readers overtaken {} times; an acknowledged record was read \
             within {followed:.1?}",
            HumanCount(outside.read_records),
            HumanCount(outside.kept_records),
            HumanCount(outside.looks),
            HumanCount(outside.overtaken),
        ));
        say(&format!(
            "outside: {} long waits ended by a put, {} of them late",
            HumanCount(outside.wakes),
            HumanCount(outside.late_wakes)
        ));
        for (name, counters, again) in
            [("group", all, spans_again[0]), ("group outside", outside, spans_again[1])]
        {
            say(&format!(
                "{name}: {} records handled, {} commits, {} refused since the lease was lost, {again} spans again, told of {} trims",
                HumanCount(counters.handled_records),
                HumanCount(counters.commits),
                HumanCount(counters.leases_lost),
                HumanCount(counters.groups_overtaken),
            ));
        }
        jobs.iter().for_each(|line| say(line));
        say(&format!(
            "visitors: {} kills; the group outside handled an acknowledged record within {handled:.1?}; own memory at most {}",
            self.visitor_kills,
            HumanBytes(self.visitor_own_bytes_max),
        ));
        say(&format!(
            "{} kills ({} at or soon after the start), {} closes; {} checks of {} records; reopen max {:.1?}",
            self.kills,
            self.early_kills,
            self.closes,
            self.checks,
            HumanCount(self.checked_records),
            self.reopen_max,
        ));
        let half = elapsed / 2;
        let own_max = |is_late: bool| {
            let of_half = self.own_by_second.iter().filter(|(at, _)| (*at >= half) == is_late);
            HumanBytes(of_half.map(|(_, own)| *own).max().unwrap_or_default())
        };
        say(&format!(
            "disk at most {}; a worker's own memory at most {} in the first half, {} in the second",
            HumanBytes(all.disk_bytes),
            own_max(false),
            own_max(true),
        ));
    }
}
