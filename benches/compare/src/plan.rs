//! What is measured: tables of contenders, and series of streamlog alone.

use clap::ValueEnum;

use crate::contender::Class;
use crate::task::{Kind, Task, figure};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Work {
    /// Puts, one at a time
    Put,
    /// Puts, 100 at a time
    Batch,
    /// Puts by 2 threads on a shard each, and by 2, 4 and 8 on 1 and on 8 shards
    Threads,
    /// Puts that survive power loss
    Power,
    /// Reading everything
    Read,
    /// Random reads
    Random,
    /// The delay from put to read, with a reader that follows
    Delay,
    /// Opening after a clean close, and after a kill
    Open,
    /// Bytes on disk and in memory
    Space,
    /// How cost grows, streamlog alone
    Growth,
}

/// The amount of work to measure.
#[derive(Debug, Clone)]
pub struct Scale {
    pub bytes: u64,
    pub seconds: f64,
    pub retained_gib: Vec<f64>,
    pub growth_bytes: u64,
    pub is_quick: bool,
}

/// One table: the same task for each contender.
pub struct Table {
    pub id: String,
    pub title: String,
    pub task: Task,
    pub columns: Vec<Column>,
}

/// A figure of a table. The first one sorts the table.
#[derive(Clone, Copy)]
pub struct Column {
    pub figure: &'static str,
    pub head: &'static str,
    pub higher_is_better: bool,
}

const fn more(figure: &'static str, head: &'static str) -> Column {
    Column { figure, head, higher_is_better: true }
}

const fn less(figure: &'static str, head: &'static str) -> Column {
    Column { figure, head, higher_is_better: false }
}

/// One chart of streamlog alone: a task for each value on the axis.
pub struct Series {
    pub id: &'static str,
    /// The series whose measurements it shows: its own, or those of another series with the same tasks.
    pub rows_of: &'static str,
    pub title: String,
    pub axis: &'static str,
    pub column: Column,
    pub points: Vec<(f64, Task)>,
}

const RATES: [Column; 3] = [
    more(figure::RECORDS_PER_SECOND, "records/s"),
    less(figure::NANOS_PER_RECORD, "ns/record"),
    more(figure::MIB_PER_SECOND, "MiB/s"),
];

fn rates() -> Vec<Column> {
    RATES.to_vec()
}

/// Rates, with the amount of data to read.
fn reads() -> Vec<Column> {
    let mut columns = rates();
    columns.push(more(figure::MIB_THERE, "of MiB"));
    columns
}

pub fn size_name(bytes: usize) -> String {
    match bytes {
        bytes if bytes >= 1 << 20 => format!("{} MiB", bytes >> 20),
        bytes if bytes >= 1 << 10 => format!("{} KiB", bytes >> 10),
        bytes => format!("{bytes} B"),
    }
}

pub fn tables(works: &[Work], scale: &Scale) -> Vec<Table> {
    works.iter().flat_map(|work| tables_of(*work, scale)).collect()
}

fn tables_of(work: Work, scale: &Scale) -> Vec<Table> {
    let base = Task { bytes_total: scale.bytes, seconds: scale.seconds, ..Task::default() };
    let table =
        |id: String, title: String, task: Task, columns: Vec<Column>| Table { id, title, task, columns };
    let mut tables = vec![];
    match work {
        Work::Put => {
            for bytes in [100, 1 << 10, 64 << 10] {
                let task = Task { record_bytes: bytes, ..base.clone() };
                let title = format!("Puts of {}, one at a time, one thread", size_name(bytes));
                tables.push(table(format!("put-{bytes}"), title, task, rates()));
            }
        }
        Work::Batch => {
            for bytes in [100, 1 << 10] {
                let task = Task { record_bytes: bytes, batch: 100, ..base.clone() };
                let title = format!("Batches of 100 records of {}, one thread", size_name(bytes));
                tables.push(table(format!("batch-{bytes}"), title, task, rates()));
            }
        }
        Work::Threads => {
            for threads in [1, 2] {
                let task =
                    Task { record_bytes: 100, threads, lanes: threads, own_lanes: true, ..base.clone() };
                let by =
                    if threads == 1 { "1 thread on 1 shard" } else { "2 threads, each on its own shard" };
                let title = format!("Puts of 100 B, one at a time, {by}");
                tables.push(table(format!("threads-{threads}-own"), title, task, rates()));
            }
            for lanes in [1, 8] {
                for threads in [2, 4, 8] {
                    let task = Task { record_bytes: 100, threads, lanes, ..base.clone() };
                    let shards = if lanes == 1 { "1 shard" } else { "8 shards" };
                    let title = format!("Puts of 100 B, one at a time, {threads} threads on {shards}");
                    tables.push(table(format!("threads-{threads}-shards-{lanes}"), title, task, rates()));
                }
            }
        }
        Work::Power => {
            for bytes in [1 << 10, 64 << 10] {
                for threads in [1, 8, 64] {
                    let task = Task { record_bytes: bytes, threads, class: Class::Power, ..base.clone() };
                    let by = if threads == 1 { "1 thread".to_owned() } else { format!("{threads} threads") };
                    let title =
                        format!("Puts of {} that survive power loss, one at a time, {by}", size_name(bytes));
                    tables.push(table(format!("power-{bytes}-threads-{threads}"), title, task, rates()));
                }
            }
        }
        Work::Read => {
            for bytes in [100, 1 << 10] {
                for batch in [1, 100] {
                    for readers in [1, 2] {
                        let task =
                            Task { kind: Kind::Read, record_bytes: bytes, batch, readers, ..base.clone() };
                        let put = if batch == 1 { "singly" } else { "100 at a time" };
                        let by = if readers == 1 { "one reader" } else { "two readers, together" };
                        let title = format!("Reading all, {by}: records of {}, put {put}", size_name(bytes));
                        tables.push(table(
                            format!("read-{bytes}-batch-{batch}-readers-{readers}"),
                            title,
                            task,
                            reads(),
                        ));
                    }
                }
            }
        }
        Work::Random => {
            for batch in [1, 100] {
                let task = Task { kind: Kind::Random, batch, ..base.clone() };
                let put = if batch == 1 { "singly" } else { "100 at a time" };
                let title = format!("Random reads by number, 1 KiB, put {put}");
                tables.push(table(format!("random-number-batch-{batch}"), title, task, reads()));
                let task = Task { kind: Kind::RandomByTime, batch, ..base.clone() };
                let title = format!("Random reads by time, 1 KiB, put {put}");
                tables.push(table(format!("random-time-batch-{batch}"), title, task, reads()));
            }
        }
        Work::Delay => {
            for park in [true, false] {
                for rate in [10_000, 100_000, 1_000_000] {
                    let task = Task {
                        kind: Kind::Delay,
                        record_bytes: 100,
                        rate,
                        park,
                        // For contenders that need to know the size in advance.
                        bytes_total: (rate as f64 * scale.seconds) as u64 * 110,
                        ..base.clone()
                    };
                    let how = if park { "parked" } else { "spinning" };
                    let title = format!("From put to read, reader {how}, {rate} records of 100 B a second");
                    let columns = vec![
                        less(figure::P99, "p99, µs"),
                        less(figure::P50, "p50"),
                        less(figure::P99_9, "p99.9"),
                        less(figure::P99_99, "p99.99"),
                        more(figure::ACHIEVED, "records/s put"),
                    ];
                    tables.push(table(format!("delay-{how}-{rate}"), title, task, columns));
                }
            }
        }
        Work::Open => {
            for gib in &scale.retained_gib {
                for is_killed in [false, true] {
                    let task = Task {
                        kind: Kind::Open,
                        batch: 100,
                        bytes_total: (gib * (1u64 << 30) as f64) as u64,
                        seconds: 60.0,
                        is_killed,
                        ..base.clone()
                    };
                    let after = if is_killed { "a kill" } else { "a clean close" };
                    let title = format!("Opening after {after}, with {gib} GiB of 1 KiB records");
                    let columns = vec![
                        less(figure::OPEN_MILLIS, "open, ms"),
                        less(figure::FIRST_READ_MILLIS, "and first record read, ms"),
                        less(figure::PRIVATE_MIB, "memory then, MiB"),
                    ];
                    let end = if is_killed { "killed" } else { "closed" };
                    tables.push(table(format!("open-{end}-{gib}gib"), title, task, columns));
                }
            }
        }
        Work::Space => {
            for bytes in [100, 1 << 10] {
                let task = Task { kind: Kind::Space, record_bytes: bytes, ..base.clone() };
                let title =
                    format!("Bytes on disk and in memory, records of {}, put singly", size_name(bytes));
                let columns = vec![
                    less(figure::DISK_RATIO, "disk / payload, closed"),
                    less(figure::DISK_RATIO_OPEN, "while open"),
                    less(figure::PRIVATE_MIB, "memory of its own, MiB"),
                    less(figure::MAPPED_MIB, "mapped file pages, MiB"),
                ];
                tables.push(table(format!("space-{bytes}"), title, task, columns));
            }
        }
        Work::Growth => {}
    }
    tables
}

pub fn series(scale: &Scale) -> Vec<Series> {
    let name = crate::contender::STREAMLOG.to_owned();
    let base = Task { contender: name, bytes_total: scale.bytes, seconds: scale.seconds, ..Task::default() };
    let put = |id, title: &str, axis, column, points: Vec<(f64, Task)>| Series {
        id,
        rows_of: if id == "growth-retained-memory" { "growth-retained-open" } else { id },
        title: title.to_owned(),
        axis,
        column,
        points,
    };
    let until = |max: usize, factor: usize, from: usize| {
        std::iter::successors(Some(from), move |last| Some(last * factor))
            .take_while(move |value| *value <= max)
    };
    let coarse = if scale.is_quick { 16 } else { 2 };
    let retained: Vec<u64> =
        until((scale.growth_bytes >> 20) as usize, 2, 100).map(|mib| (mib as u64) << 20).collect();
    let of_retained = |kind: Kind| -> Vec<(f64, Task)> {
        let point = |bytes: &u64| {
            let seconds = if kind == Kind::Open { 60.0 } else { scale.seconds };
            let batch = if kind == Kind::Open { 100 } else { 1 };
            let task = Task { kind, batch, bytes_total: *bytes, seconds, ..base.clone() };
            (*bytes as f64 / (1 << 20) as f64, task)
        };
        retained.iter().map(point).collect()
    };
    vec![
        put(
            "growth-shards",
            "Puts of 100 B, one thread",
            "shards",
            RATES[1],
            until(1_024, coarse, 1)
                .map(|lanes| (lanes as f64, Task { lanes, record_bytes: 100, ..base.clone() }))
                .collect(),
        ),
        put(
            "growth-retained-open",
            "Opening after a clean close",
            "retained, MiB",
            less(figure::OPEN_MILLIS, "ms"),
            of_retained(Kind::Open),
        ),
        put(
            "growth-retained-memory",
            "Memory of its own after opening",
            "retained, MiB",
            less(figure::PRIVATE_MIB, "MiB"),
            vec![],
        ),
        put(
            "growth-retained-random",
            "Random reads by number, 1 KiB",
            "retained, MiB",
            RATES[1],
            of_retained(Kind::Random),
        ),
        put(
            "growth-record",
            "Puts, one at a time, one thread",
            "record, bytes",
            RATES[2],
            until(1 << 20, coarse, 16)
                .map(|record_bytes| (record_bytes as f64, Task { record_bytes, ..base.clone() }))
                .collect(),
        ),
        put(
            "growth-record-nanos",
            "Puts, one at a time, one thread",
            "record, bytes (to 4 KiB)",
            RATES[1],
            until(4 << 10, 2, 16)
                .map(|record_bytes| (record_bytes as f64, Task { record_bytes, ..base.clone() }))
                .collect(),
        ),
        put(
            "growth-readers",
            "Reading all, all readers together, 1 KiB",
            "readers",
            RATES[0],
            until(64, 2, 1)
                .map(|readers| {
                    (readers as f64, Task { kind: Kind::Read, readers, batch: 100, ..base.clone() })
                })
                .collect(),
        ),
        put(
            "growth-key",
            "Puts of 100 B, one thread",
            "key, bytes",
            RATES[1],
            until(1_024, 2, 1)
                .map(|key_bytes| (key_bytes as f64, Task { key_bytes, record_bytes: 100, ..base.clone() }))
                .collect(),
        ),
        put(
            "growth-segment",
            "Puts of 1 KiB, one thread",
            "segment, MiB",
            RATES[1],
            until(1_024, 2, 1)
                .map(|mib| (mib as f64, Task { segment_bytes: Some((mib as u64) << 20), ..base.clone() }))
                .collect(),
        ),
    ]
}
