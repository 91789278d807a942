//! The messages from a worker or a visitor to the supervisor, one line each, with an end mark that is missing if a kill has cut the line short.

use std::fmt;

use streamlog::{ShardId, Timestamp};

use super::group::Span;
use super::jobs::Note;
use super::record::{KeyIndex, Number};

/// The progress of a key in a run, in records. Every number was true before the worker reported it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Promise {
    pub(crate) started: u64,
    pub(crate) acknowledged: u64,
    pub(crate) durable: u64,
}

/// The counters of a worker or of a visitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counters {
    pub(crate) put_records: u64,
    pub(crate) put_bytes: u64,
    pub(crate) read_records: u64,
    pub(crate) read_bytes: u64,
    pub(crate) reshards: u64,
    pub(crate) trimmed_records: u64,
    /// How often retention overtook a reader.
    pub(crate) overtaken: u64,
    /// Records that workers of the group handled.
    pub(crate) handled_records: u64,
    pub(crate) commits: u64,
    pub(crate) leases_lost: u64,
    /// How often a worker of the group learned that retention had overtaken it.
    pub(crate) groups_overtaken: u64,
    /// Records that were kept for a while and read once more.
    pub(crate) kept_records: u64,
    /// Calls of `describe`, `stats` and `verify`.
    pub(crate) looks: u64,
    /// Long waits that ended with a record, and those of them that ended late.
    pub(crate) wakes: u64,
    pub(crate) late_wakes: u64,
    /// The current value, as for `disk_bytes`.
    pub(crate) open_shards: u64,
    pub(crate) disk_bytes: u64,
}

impl Counters {
    fn fields(&self) -> [u64; 17] {
        let Self { put_records, put_bytes, read_records, read_bytes, .. } = *self;
        let Self { reshards, trimmed_records, overtaken, open_shards, disk_bytes, .. } = *self;
        let Self { handled_records, commits, leases_lost, groups_overtaken, .. } = *self;
        let fields = [put_records, put_bytes, read_records, read_bytes, reshards, trimmed_records];
        let Self { kept_records, looks, wakes, late_wakes, .. } = *self;
        let of_groups = [handled_records, commits, leases_lost, groups_overtaken];
        let mut all = [0; 17];
        all[..6].copy_from_slice(&fields);
        all[6..9].copy_from_slice(&[overtaken, open_shards, disk_bytes]);
        all[9..13].copy_from_slice(&of_groups);
        all[13..].copy_from_slice(&[kept_records, looks, wakes, late_wakes]);
        all
    }

    fn from_fields(fields: [u64; 17]) -> Self {
        let [put_records, put_bytes, read_records, read_bytes, reshards, trimmed_records, rest @ ..] = fields;
        let [overtaken, open_shards, disk_bytes, of_others @ ..] = rest;
        let [handled_records, commits, leases_lost, groups_overtaken, of_visitors @ ..] = of_others;
        let [kept_records, looks, wakes, late_wakes] = of_visitors;
        Self {
            put_records,
            put_bytes,
            read_records,
            read_bytes,
            reshards,
            trimmed_records,
            overtaken,
            open_shards,
            disk_bytes,
            handled_records,
            commits,
            leases_lost,
            groups_overtaken,
            kept_records,
            looks,
            wakes,
            late_wakes,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Message {
    /// The stream is open; `micros` is how long that took.
    Opened { micros: u64 },
    /// The promises by key, as of a time before this message. From then on no read may return a record older than `oldest`.
    Promises { at: Timestamp, oldest: Timestamp, keys: Vec<Promise> },
    /// The counts since the previous message, and the put latencies as pairs of nanoseconds and count.
    Counters { counters: Counters, delays_nanos: Vec<(u64, u64)> },
    /// A worker of the group is handling these records, or a follower has read them.
    Handled { spans: Vec<Span> },
    /// A read between two times returned a batch whose first record had arrived at `oldest`.
    Read { began: Timestamp, ended: Timestamp, oldest: Timestamp },
    /// A worker of the group is about to continue from the horizon in the shard of these keys. So is a follower.
    Overtaken { keys: Vec<KeyIndex> },
    /// A commit has returned; the group continues at `next` in this shard.
    Committed { shard: ShardId, next: u64 },
    /// The notes of the threads that put and handle jobs.
    Job(Note),
    /// The process closed the stream as requested.
    Closed,
    /// A promise is broken.
    Violation(String),
}

/// The end mark of each line.
const END: &str = " .";

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Opened { micros } => write!(f, "opened {micros}")?,
            Self::Promises { at, oldest, keys } => {
                write!(f, "promises {} {}", at.as_micros(), oldest.as_micros())?;
                for key in keys {
                    write!(f, " {} {} {}", key.started, key.acknowledged, key.durable)?;
                }
            }
            Self::Counters { counters, delays_nanos } => {
                write!(f, "counters")?;
                counters.fields().iter().try_for_each(|field| write!(f, " {field}"))?;
                delays_nanos.iter().try_for_each(|(nanos, count)| write!(f, " {nanos} {count}"))?;
            }
            Self::Handled { spans } => {
                write!(f, "handled")?;
                for Span { key, first, last } in spans {
                    write!(f, " {key} {} {} {} {}", first.run, first.count, last.run, last.count)?;
                }
            }
            Self::Read { began, ended, oldest } => {
                let [began, ended, oldest] = [began, ended, oldest].map(|time| time.as_micros());
                write!(f, "read {began} {ended} {oldest}")?;
            }
            Self::Overtaken { keys } => {
                write!(f, "overtaken")?;
                keys.iter().try_for_each(|key| write!(f, " {key}"))?;
            }
            Self::Committed { shard, next } => write!(f, "committed {} {next}", shard.get())?,
            Self::Job(note) => {
                write!(f, "job")?;
                note.fields().iter().try_for_each(|field| write!(f, " {field}"))?;
            }
            Self::Closed => write!(f, "closed")?,
            Self::Violation(what) => write!(f, "violation {}", what.replace('\n', " "))?,
        }
        f.write_str(END)
    }
}

impl Message {
    /// Parses a line. Returns `None` if it is not a message or was cut short.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let line = line.strip_suffix('\n')?.strip_suffix(END)?;
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        if word == "violation" {
            return Some(Self::Violation(rest.to_owned()));
        }
        let fields = rest.split_ascii_whitespace().map(str::parse).collect::<Result<Vec<u64>, _>>().ok()?;
        Some(match word {
            "opened" => Self::Opened { micros: *fields.first()? },
            "promises" => {
                let ([at, oldest], keys) = fields.split_first_chunk()?;
                let promise =
                    |key: &[u64]| Promise { started: key[0], acknowledged: key[1], durable: key[2] };
                let keys = keys.chunks_exact(3).map(promise).collect();
                let [at, oldest] = [at, oldest].map(|&micros| Timestamp::from_micros(micros));
                Self::Promises { at, oldest, keys }
            }
            "counters" => {
                let (counters, delays) = fields.split_first_chunk()?;
                let delays_nanos = delays.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
                Self::Counters { counters: Counters::from_fields(*counters), delays_nanos }
            }
            "handled" => {
                let number = |run: u64, count| Number { run: run as u32, count };
                let span = |it: &[u64]| Span {
                    key: it[0] as KeyIndex,
                    first: number(it[1], it[2]),
                    last: number(it[3], it[4]),
                };
                Self::Handled { spans: fields.chunks_exact(5).map(span).collect() }
            }
            "read" => {
                let times: [u64; 3] = fields.try_into().ok()?;
                let [began, ended, oldest] = times.map(Timestamp::from_micros);
                Self::Read { began, ended, oldest }
            }
            "overtaken" => Self::Overtaken { keys: fields.iter().map(|&key| key as KeyIndex).collect() },
            "committed" => {
                let &[shard, next] = fields.as_slice() else { return None };
                Self::Committed { shard: ShardId::new(shard as u32), next }
            }
            "job" => Self::Job(Note::from_fields(&fields)?),
            "closed" => Self::Closed,
            _ => return None,
        })
    }
}
