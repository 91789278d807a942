//! The speed of a statement over a stream, compared with two engines that read the same records as lines of a file: DataFusion with its own
//! JSON reader, which this crate does not use, and DuckDB.
//!
//! `cargo bench --features sql --bench sql`; `-- --quick` is a smoke run, and a path after `--` names the directory to write in. DuckDB takes part
//! if `STREAMLOG_PYTHON` names a Python that has the package `duckdb`. The contenders take turns, with as many threads as they like; each
//! figure is the median over the rounds. Before the first round, each has read its records once, so everything is in memory.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use streamlog::query::{Catalog, Schema};
use streamlog::{Position, PutRecord, SequenceNumber, Stream, StreamOptions};

const RECORDS: usize = 10_000_000;
const RECORDS_QUICK: usize = 100_000;
const RECORDS_PER_PUT: usize = 1_000;
const ROUNDS: usize = 5;
const COLUMNS: &str =
    "page VARCHAR, user VARCHAR, ms DOUBLE, at VARCHAR, agent VARCHAR, status BIGINT, referrer VARCHAR";
const GROUPS: usize = 97;

/// Runs a statement once, and returns how many rows it has.
type Run = Box<dyn FnMut() -> usize>;

fn main() {
    let args: Vec<_> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let is_quick = args.iter().any(|arg| arg == "--quick" || arg == "--test");
    let (records, rounds) = if is_quick { (RECORDS_QUICK, 1) } else { (RECORDS, ROUNDS) };
    let work = match args.iter().find(|arg| !arg.starts_with("--")) {
        Some(path) => tempfile::tempdir_in(path),
        None => tempfile::tempdir(),
    };
    let work = work.expect("a directory to write in");
    let lines = work.path().join("clicks.json");
    // A catalog's tables exist only while their streams are open.
    let (_stream, catalog, late) = fill(work.path(), &lines, records);

    let group = |table: &str| format!("SELECT page, count(*), avg(ms) FROM {table} GROUP BY page");
    let ours = |statement: String| -> Run {
        let catalog = catalog.clone();
        Box::new(move || {
            let rows = catalog.query(&statement).expect("a query");
            rows.map(|rows| rows.expect("rows").num_rows()).sum()
        })
    };
    let mut contenders = vec![
        ("streamlog", GROUPS, ours(group("clicks"))),
        ("DataFusion, lines of a file", GROUPS, ours(group("lines"))),
        (
            "streamlog, the last 1 % by arrival",
            1,
            ours(format!(
                "SELECT count(*), avg(ms) FROM clicks WHERE _arrival >= to_timestamp_micros({late})"
            )),
        ),
        (
            "streamlog, the last 1 % by number",
            1,
            ours(format!("SELECT count(*), avg(ms) FROM clicks WHERE _sequence >= {}", records / 100 * 99)),
        ),
    ];
    match Duck::start(&lines) {
        Some(mut duck) => {
            contenders.insert(2, ("DuckDB, lines of a file", GROUPS, Box::new(move || duck.run())))
        }
        None => println!("DuckDB does not take part: STREAMLOG_PYTHON is not set.\n"),
    }
    let mut seconds = vec![vec![]; contenders.len()];
    for round in 0..=rounds {
        for ((name, rows, run), seconds) in contenders.iter_mut().zip(&mut seconds) {
            let begun = Instant::now();
            assert_eq!(run(), *rows, "{name}");
            if round > 0 {
                seconds.push(begun.elapsed().as_secs_f64());
            }
        }
    }
    println!("{records} records of JSON with seven members, of which two are asked for\n");
    println!("{:<40}{:>10}{:>20}{:>14}", "", "seconds", "million records/s", "of streamlog");
    let seconds: Vec<_> = seconds.into_iter().map(median).collect();
    for ((name, ..), took) in contenders.iter().zip(&seconds) {
        let rate = records as f64 / took / 1e6;
        println!("{name:<40}{took:>10.3}{rate:>20.2}{:>14.3}", took / seconds[0]);
    }
}

/// Puts the records into a stream and writes them as lines of a file. Returns the stream, a catalog of both, and when the last 1 % of the
/// records began to arrive, in microseconds since 1970.
fn fill(directory: &Path, lines: &Path, records: usize) -> (Stream, Catalog, u64) {
    let stream = StreamOptions::new().open(directory.join("clicks")).expect("a stream");
    let mut file = BufWriter::new(File::create(lines).expect("a file"));
    for first in (0..records).step_by(RECORDS_PER_PUT) {
        let batch: Vec<_> = (first..first + RECORDS_PER_PUT)
            .map(|number| (format!("user-{}", number % 10_000), document(number)))
            .collect();
        batch.iter().for_each(|(_, data)| writeln!(file, "{data}").expect("a line"));
        let batch: Vec<_> = batch.iter().map(|(key, data)| PutRecord::new(key, data)).collect();
        stream.put_batch(&batch).expect("a batch").into_iter().for_each(|put| _ = put.expect("a put"));
    }
    file.flush().expect("a file");
    let late = (records / 100 * 99) as u64;
    let shard = stream.shards()[0].id;
    let mut iterator = stream.iterator(shard, Position::At(SequenceNumber::new(late))).expect("an iterator");
    let late = iterator.next_batch(1).expect("a batch").iter().next().expect("a record").timestamp();
    let catalog =
        Catalog::new().stream("clicks", &stream, Schema::json(COLUMNS).expect("a schema")).expect("a table");
    let catalog = catalog.file("lines", lines).expect("a file");
    (stream, catalog, late.as_micros())
}

/// A document of about 150 bytes.
fn document(number: usize) -> String {
    let (page, user, referrer) = (number % GROUPS, number * 7 % 10_000, number % 31);
    let (ms, minute, second) = ((number * 13 % 5_000) as f64 / 10.0, number / 60 % 60, number % 60);
    format!(
        r#"{{"page":"/p/{page}","user":"user-{user}","ms":{ms},"at":"2026-03-01T12:{minute:02}:{second:02}Z","agent":"Mozilla/5.0 (X11; Linux)","status":200,"referrer":"/p/{referrer}"}}"#
    )
}

/// A Python process that runs the statement in DuckDB for each input line.
struct Duck {
    process: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Duck {
    fn start(lines: &Path) -> Option<Self> {
        let python = PathBuf::from(std::env::var_os("STREAMLOG_PYTHON")?);
        let script = format!(
            "import duckdb, sys\n\
             connection = duckdb.connect()\n\
             for _ in sys.stdin:\n    \
                 rows = connection.sql(\"SELECT page, count(*), avg(ms) FROM read_json('{}', format='newline_delimited', \
                 columns={{page: 'VARCHAR', ms: 'DOUBLE'}}) GROUP BY page\").fetchall()\n    \
                 print(len(rows), flush=True)\n",
            lines.display()
        );
        let mut process = Command::new(python)
            .args(["-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Python");
        let ask = process.stdin.take().expect("a pipe");
        let answers = BufReader::new(process.stdout.take().expect("a pipe"));
        Some(Self { process, ask, answers })
    }

    fn run(&mut self) -> usize {
        self.ask.write_all(b"go\n").expect("DuckDB is there");
        let mut rows = String::new();
        self.answers.read_line(&mut rows).expect("DuckDB answers");
        rows.trim().parse().expect("a number of rows")
    }
}

impl Drop for Duck {
    fn drop(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_unstable_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}
