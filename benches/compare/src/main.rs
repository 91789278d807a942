//! Does the same work on streamlog, on bare limits of the machine and on other crates, one at a time.
//!
//! `cargo run --release -- --help`; docs/BENCHMARKS.md says what is measured, and how.

#![deny(unsafe_code)]
// Parts that only some contenders need.
#![cfg_attr(not(feature = "default"), allow(dead_code))]

#[path = "../../chart/mod.rs"]
#[allow(dead_code, reason = "tests draw the other kinds")]
mod chart;
mod contender;
mod machine;
mod plan;
mod report;
mod task;
mod work;

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use clap::{Parser, ValueEnum};

use contender::{Contender, Result};
use machine::WarmMemory;
use plan::{Scale, Work};
use report::{Measured, Report};
use task::{Kind, Outcome, Task};

/// Marks the outcome of a child, on its last line.
const OUTCOME: &str = "OUTCOME ";

/// Does the same work on streamlog, on bare limits of the machine and on other crates, one at a time
#[derive(Debug, Parser)]
struct Args {
    /// What to measure; everything if not given
    #[arg(long, value_enum, value_delimiter = ',')]
    work: Vec<Work>,
    /// Only contenders whose names contain one of these
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    contenders: Vec<String>,
    /// A smoke run: everything once and very small; its figures are noise
    #[arg(long)]
    quick: bool,
    /// How often each is measured; the median counts
    #[arg(long, default_value_t = 5, value_name = "N")]
    rounds: usize,
    /// Payload that is put in one measurement
    #[arg(long, default_value_t = 512, value_name = "MIB")]
    mib: u64,
    /// How long one measurement runs at most
    #[arg(long, default_value_t = 5.0, value_name = "SECONDS")]
    seconds: f64,
    /// How much is retained when a log is opened
    #[arg(long, value_delimiter = ',', default_value = "1", value_name = "GIB")]
    retained_gib: Vec<f64>,
    /// How much is retained at most in the charts of growth
    #[arg(long, default_value_t = 4, value_name = "GIB")]
    growth_gib: u64,
    /// Read this much of a sparse file before each round, and as much as is free before each measurement; 0 for none [default: all
    /// memory and 2 GiB; none for a smoke run]
    #[arg(long, value_name = "GIB")]
    warm_memory: Option<u64>,
    /// Where the logs are written, and removed again: a directory on the disk to measure
    #[arg(long, default_value = "target/compare/scratch", value_name = "PATH")]
    scratch: PathBuf,
    /// Where figures.md, raw.json and charts/ go
    #[arg(long, default_value = "target/compare", value_name = "PATH")]
    output: PathBuf,
    /// List the contenders and how they are set up, and measure nothing
    #[arg(long)]
    list: bool,
    #[arg(long, hide = true)]
    child: Option<String>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let done = match &args.child {
        Some(task) => child(task, &args.scratch),
        None => run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("compare: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs one measurement, in this process.
fn child(task: &str, directory: &Path) -> Result<()> {
    let outcome = work::run(&serde_json::from_str(task)?, directory);
    println!("\n{OUTCOME}{}", serde_json::to_string(&outcome)?);
    Ok(())
}

fn run(args: &Args) -> Result<()> {
    let contenders: Vec<_> = contender::all()
        .into_iter()
        .filter(|contender| {
            args.contenders.is_empty()
                || args.contenders.iter().any(|name| contender.facts.name.contains(&**name))
        })
        .collect();
    if args.list {
        println!("{}", report::facts(&contenders));
        return Ok(());
    }
    let scale = if args.quick {
        Scale {
            bytes: 8 << 20,
            seconds: 0.3,
            retained_gib: vec![1.0 / 32.0],
            growth_bytes: 200 << 20,
            is_quick: true,
        }
    } else {
        Scale {
            bytes: args.mib << 20,
            seconds: args.seconds,
            retained_gib: args.retained_gib.clone(),
            growth_bytes: args.growth_gib << 30,
            is_quick: false,
        }
    };
    let works = if args.work.is_empty() { Work::value_variants().to_vec() } else { args.work.clone() };
    let tables = plan::tables(&works, &scale);
    let series = if works.contains(&Work::Growth) { plan::series(&scale) } else { vec![] };
    std::fs::create_dir_all(&args.scratch)?;
    let total_gib = machine::memory_bytes("MemTotal:")? >> 30;
    let warm_gib = args.warm_memory.unwrap_or(if args.quick { 0 } else { total_gib + 2 });
    let warm = if warm_gib > 0 { Some(WarmMemory::new(&args.scratch, warm_gib << 30)?) } else { None };
    let rounds = if args.quick { 1 } else { args.rounds.max(1) };
    let mut runner = Runner { directory: args.scratch.join("log"), warm };
    let mut report = Report {
        machine: machine::describe(&args.scratch),
        command: std::iter::once("compare".to_owned())
            .chain(std::env::args().skip(1))
            .collect::<Vec<_>>()
            .join(" "),
        is_quick: args.quick,
        contenders: &contenders,
        measured: vec![],
    };
    for table in &tables {
        let mut rows: Vec<_> = contenders
            .iter()
            .filter(|contender| takes_part(contender, &table.task))
            .map(|contender| Measured {
                id: table.id.clone(),
                title: table.title.clone(),
                contender: contender.facts.name.to_owned(),
                x: None,
                task: Task { contender: contender.facts.name.to_owned(), ..table.task.clone() },
                rounds: vec![],
            })
            .collect();
        eprintln!("\n{}", table.title);
        runner.rounds(&mut rows, rounds, table.columns[0])?;
        report.measured.extend(rows);
        report.write(&args.output, &tables, &series)?;
    }
    if contenders.iter().any(|contender| contender.facts.name == contender::STREAMLOG) {
        for one in series.iter().filter(|one| one.rows_of == one.id) {
            let row = |(x, task): &(f64, Task)| Measured {
                id: one.id.to_owned(),
                title: one.title.clone(),
                contender: task.contender.clone(),
                x: Some(*x),
                task: task.clone(),
                rounds: vec![],
            };
            let mut rows: Vec<_> = one.points.iter().map(row).collect();
            eprintln!("\n{}, by {}", one.title, one.axis);
            runner.rounds(&mut rows, rounds, one.column)?;
            report.measured.extend(rows);
            report.write(&args.output, &tables, &series)?;
        }
    }
    machine::clear(&runner.directory)?;
    eprintln!("\nwritten: {}", args.output.join("figures.md").display());
    Ok(())
}

fn takes_part(contender: &Contender, task: &Task) -> bool {
    let facts = &contender.facts;
    // The bare limits are limits of puts and reads. The contender that trims only puts.
    let has_work = match task.kind {
        Kind::Put => true,
        Kind::Read => facts.name != contender::TRIMMING,
        _ => facts.name != contender::TRIMMING && !facts.is_bare(),
    };
    facts.mode(task.class).is_some() && has_work
}

struct Runner {
    directory: PathBuf,
    warm: Option<WarmMemory>,
}

impl Runner {
    /// Begins each round with another contender, so that none is always first, or always after the same one.
    fn rounds(&mut self, rows: &mut [Measured], rounds: usize, column: plan::Column) -> Result<()> {
        for round in 0..rounds {
            if let Some(warm) = &mut self.warm {
                warm.fill()?;
            }
            for at in 0..rows.len() {
                let count = rows.len();
                let row = &mut rows[(at + round * (count / rounds + 1)) % count];
                // A contender without a figure will have none in the next round either.
                if row.rounds.iter().any(|outcome| outcome.figures.is_empty()) {
                    continue;
                }
                let outcome = self.measure(&row.task)?;
                let said = match (outcome.figures.get(column.figure), &outcome.no_call, &outcome.failure) {
                    (Some(value), ..) => format!("{} {}", chart::number(*value), column.head),
                    (_, Some(why), _) => format!("no figure: {why}"),
                    (_, _, Some(why)) => format!("FAILED: {why}"),
                    _ => "no figure".to_owned(),
                };
                let name = row.x.map_or(row.contender.clone(), chart::number);
                eprintln!("  {}: {name}: {said}", round + 1);
                row.rounds.push(outcome);
            }
        }
        Ok(())
    }

    fn measure(&mut self, task: &Task) -> Result<Outcome> {
        machine::clear(&self.directory)?;
        std::fs::create_dir_all(&self.directory)?;
        if task.kind == Kind::Open {
            let filled = self.child(&Task { kind: Kind::Fill, ..task.clone() })?;
            if filled.no_call.is_some() || filled.failure.is_some() {
                machine::clear(&self.directory)?;
                return Ok(filled);
            }
        }
        if let Some(warm) = &mut self.warm {
            warm.top_up()?;
        }
        let outcome = self.child(task)?;
        machine::clear(&self.directory)?;
        Ok(outcome)
    }

    /// Runs one measurement in a process of its own, so that it inherits no memory, threads or mappings, and cannot take the others down.
    fn child(&self, task: &Task) -> Result<Outcome> {
        let is_to_be_killed = task.kind == Kind::Fill && task.is_killed;
        let mut child = Command::new(std::env::current_exe()?)
            .args(["--child", &serde_json::to_string(task)?])
            .arg("--scratch")
            .arg(&self.directory)
            // Walrus reads these two settings from the environment.
            .env("WALRUS_DATA_DIR", &self.directory)
            .env("WALRUS_QUIET", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(if is_to_be_killed { Stdio::null() } else { Stdio::piped() })
            .spawn()?;
        let timeout = Duration::from_secs_f64(work::fill_seconds(task) + task.seconds * 5.0 + 120.0);
        let outcome = if is_to_be_killed { killed(&mut child) } else { told(&mut child, timeout) };
        // Leaves no child behind, whatever happened.
        let _ = child.kill();
        child.wait()?;
        outcome
    }
}

/// Waits until a child reports that its log is open, and kills it.
fn killed(child: &mut Child) -> Result<Outcome> {
    let output = child.stdout.take().ok_or("no output")?;
    for line in BufReader::new(output).lines() {
        let line = line?;
        if line == work::READY {
            child.kill()?;
            return Ok(Outcome::default());
        }
        if let Some(outcome) = line.strip_prefix(OUTCOME) {
            return Ok(serde_json::from_str(outcome)?);
        }
    }
    Ok(Outcome { failure: Some("the process died while it filled its log".into()), ..Outcome::default() })
}

/// Waits for the outcome of a child.
fn told(child: &mut Child, timeout: Duration) -> Result<Outcome> {
    let mut output = child.stdout.take().ok_or("no output")?;
    let mut errors = child.stderr.take().ok_or("no errors")?;
    std::thread::scope(|scope| {
        let text = scope.spawn(move || {
            let mut text = vec![];
            output.read_to_end(&mut text).map(|_| String::from_utf8_lossy(&text).into_owned())
        });
        let complaints = scope.spawn(move || {
            let mut text = vec![];
            errors.read_to_end(&mut text).map(|_| String::from_utf8_lossy(&text).into_owned())
        });
        let ended = machine::wait_for(child, timeout)?;
        let text = text.join().map_err(|_| "the reading thread panicked")??;
        let complaints = complaints.join().map_err(|_| "the reading thread panicked")??;
        if let Some(outcome) = text.lines().rev().find_map(|line| line.strip_prefix(OUTCOME)) {
            return Ok(serde_json::from_str(outcome)?);
        }
        let why = if ended {
            let status = child.try_wait()?.map(|status| status.to_string()).unwrap_or_default();
            format!("the process died ({status}): {}", complaints.lines().next().unwrap_or("no message"))
        } else {
            "the process did not end in time".to_owned()
        };
        Ok(Outcome { failure: Some(why), ..Outcome::default() })
    })
}
