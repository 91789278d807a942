//! The process that survives: it starts workers, kills them, and checks what they leave behind.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use streamlog::{Error, Maintenance};

use super::check::Check;
use super::group::GroupLedger;
use super::ledger::Ledger;
use super::message::Message;
use super::plan::{Ending, Plan, Random};
use super::report::{Memory, Report};
use super::{Args, Result, say};

/// A worker that is silent for this long hangs.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// A worker with more memory of its own than this has a leak.
const OWN_BYTES_MAX: u64 = 256 << 20;
/// Set by Ctrl-C, which ends the test early.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);
const TICK: Duration = Duration::from_millis(100);

/// Runs rounds until the time is up. An error names the broken promise.
pub(crate) fn run(args: &Args) -> Result<()> {
    let temporary = match args.dir {
        Some(_) => None,
        None => Some(tempfile::Builder::new().prefix("soak-").tempdir()?),
    };
    let temporary_path = temporary.as_ref().map(|temporary| temporary.path().to_owned());
    let dir = args.dir.clone().or(temporary_path).ok_or("no directory")?;
    if std::fs::read_dir(&dir).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(format!("{} is not empty", dir.display()).into());
    }
    ctrlc::set_handler(|| INTERRUPTED.store(true, Ordering::Relaxed))?;
    let args = Args { dir: Some(dir.clone()), ..args.clone() };
    let seed = args.seed.unwrap_or_default();
    say(&format!("seed {seed}, {} minutes, in {}\n", args.minutes, dir.display()));
    let random = Random::new(seed, [3, 0]);
    let ends_at = Instant::now() + Duration::from_secs_f64(args.minutes * 60.0);
    let report = Report::new()?;
    let (ledger, group) = (Ledger::default(), GroupLedger::default());
    let mut soak = Soak { args, dir, random, ends_at, report, ledger, group, round: 0, run: 0 };
    let outcome = soak.run();
    soak.report.summary(soak.group.spans_again);
    if let Err(broken) = outcome {
        // Keep a temporary directory too.
        temporary.map(tempfile::TempDir::keep);
        let Soak { dir, args, round, run, .. } = soak;
        say(&format!("\nFAIL {broken}"));
        say(&format!("round {round}, {}", Plan::new(&args, round, run).in_words()));
        return Err(format!("1 violation with seed {seed}; the stream is left in {}", dir.display()).into());
    }
    say("PASS 0 violations");
    Ok(())
}

struct Soak {
    args: Args,
    dir: PathBuf,
    random: Random,
    ends_at: Instant,
    report: Report,
    ledger: Ledger,
    group: GroupLedger,
    round: u32,
    run: u32,
}

/// A running worker.
struct Worker {
    child: Child,
    lines: Receiver<String>,
    plan: Plan,
    has_opened: bool,
}

/// Kills the worker: however the supervisor ends, no worker outlives it.
impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Soak {
    fn run(&mut self) -> Result<()> {
        while !self.is_time_up() {
            self.round += 1;
            // Mostly one run. With more, a worker opens what the previous one left, without a check that cleans up in between.
            let runs = *self.random.pick(&[1, 1, 2, 3]);
            let mut ending = Ending::Close;
            for run in 1..=runs {
                if run > 1 && self.is_time_up() {
                    break;
                }
                self.run += 1;
                ending = Ending::draw(&self.args, &mut self.random, run == runs);
                self.run_worker(ending)?;
            }
            let is_last = self.is_time_up();
            let is_thorough = is_last || self.random.one_in(4);
            let plan = Plan::new(&self.args, self.round, self.run);
            let was_closed = ending == Ending::Close;
            let check = Check { args: &self.args, dir: &self.dir, plan: &plan, was_closed, is_thorough };
            let checked = check.run(&mut self.ledger, &mut self.group, &mut self.random)?;
            self.report.note_check(checked);
            self.report.tick()?;
        }
        Ok(())
    }

    fn is_time_up(&self) -> bool {
        INTERRUPTED.load(Ordering::Relaxed) || Instant::now() >= self.ends_at
    }

    /// Runs one worker from start to end.
    fn run_worker(&mut self, ending: Ending) -> Result<()> {
        let mut worker = self.start()?;
        let started = Instant::now();
        let mut opened = None;
        let mut heard = started;
        let mut has_tried_lock = false;
        loop {
            match worker.lines.recv_timeout(self.patience(ending, started, opened)) {
                Ok(line) => {
                    heard = Instant::now();
                    self.hear(&mut worker, &line)?;
                    if worker.has_opened {
                        opened.get_or_insert(heard);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(format!("the worker ended by itself: {}", worker.child.wait()?).into());
                }
            }
            self.report.tick()?;
            if opened.is_some() && !has_tried_lock {
                has_tried_lock = true;
                self.check_locked(&worker.plan)?;
            }
            if heard.elapsed() > SILENCE_MAX {
                return Err(format!(
                    "the worker (process {}) hangs: it said nothing for {SILENCE_MAX:?}",
                    worker.child.id()
                )
                .into());
            }
            if self.is_over(ending, started, opened) {
                break;
            }
        }
        if ending == Ending::Close {
            self.close(&mut worker)
        } else {
            worker.child.kill()?;
            self.report.note_kill(matches!(ending, Ending::KillEarly(_)));
            self.hear_out(&mut worker)?;
            let _killed: ExitStatus = worker.child.wait()?;
            Ok(())
        }
    }

    /// Returns how long to wait for a message before checking the time again.
    fn patience(&self, ending: Ending, started: Instant, opened: Option<Instant>) -> Duration {
        let left = match (ending, opened) {
            (Ending::KillEarly(after), _) => after.saturating_sub(started.elapsed()),
            (Ending::Kill(after), Some(opened)) => after.saturating_sub(opened.elapsed()),
            _ => TICK,
        };
        left.min(TICK)
    }

    fn is_over(&self, ending: Ending, started: Instant, opened: Option<Instant>) -> bool {
        let is_late = self.is_time_up();
        match (ending, opened) {
            (Ending::KillEarly(after), _) => started.elapsed() >= after,
            (Ending::Kill(after), Some(opened)) => is_late || opened.elapsed() >= after,
            (Ending::Close, Some(opened)) => {
                is_late || opened.elapsed() >= Duration::from_secs_f64(self.args.kill_every)
            }
            (_, None) => false,
        }
    }

    fn start(&self) -> Result<Worker> {
        let args = &self.args;
        let plan = Plan::new(args, self.round, self.run);
        let durability = clap::ValueEnum::to_possible_value(&args.durability).ok_or("no such durability")?;
        let mut child = Command::new(std::env::current_exe()?)
            .args(["--writers", &args.writers.to_string(), "--shards", &args.shards.to_string()])
            .args(["--durability", durability.get_name(), "--rate", &args.rate.to_string()])
            .args(["--seed", &args.seed.unwrap_or_default().to_string()])
            .args([Path::new("--dir"), &self.dir])
            .args(["--worker", &self.round.to_string(), &self.run.to_string()])
            // A separate process group, so that Ctrl-C does not reach the worker.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut out = BufReader::new(child.stdout.take().ok_or("a worker has no output")?);
        let (sender, lines) = channel();
        thread::spawn(move || {
            let mut line = String::new();
            while matches!(out.read_line(&mut line), Ok(1..))
                && sender.send(std::mem::take(&mut line)).is_ok()
            {}
        });
        Ok(Worker { child, lines, plan, has_opened: false })
    }

    fn hear(&mut self, worker: &mut Worker, line: &str) -> Result<()> {
        match Message::parse(line) {
            Some(Message::Opened { micros }) => {
                worker.has_opened = true;
                self.report.note_open(Duration::from_micros(micros));
            }
            Some(Message::Promises { at, keys }) => self.ledger.note(worker.plan.run, at, keys),
            Some(Message::Counters { counters, delays_nanos }) => {
                self.report.note_counters(&counters, &delays_nanos);
                if let Some(memory) = Memory::of_process(worker.child.id()) {
                    self.report.note_memory(memory);
                    if memory.own_bytes > OWN_BYTES_MAX {
                        return Err(format!("a worker takes too much memory: {memory:?}").into());
                    }
                }
            }
            Some(Message::Handled { spans }) => self.group.note_handled(&self.ledger, &spans)?,
            Some(Message::Overtaken { keys }) => self.group.note_overtaken(&keys),
            Some(Message::Committed { shard, next }) => self.group.note_committed(shard, next),
            Some(Message::Violation(what)) => return Err(what.into()),
            // `None` is a line that a kill has cut short.
            Some(Message::Closed) | None => {}
        }
        Ok(())
    }

    /// Processes the messages that a dead worker sent before it died.
    fn hear_out(&mut self, worker: &mut Worker) -> Result<()> {
        while let Ok(line) = worker.lines.recv() {
            self.hear(worker, &line)?;
        }
        Ok(())
    }

    /// Asks a worker to end, and waits for it.
    fn close(&mut self, worker: &mut Worker) -> Result<()> {
        drop(worker.child.stdin.take());
        let mut has_closed = false;
        loop {
            match worker.lines.recv_timeout(SILENCE_MAX) {
                Ok(line) => {
                    has_closed |= Message::parse(&line) == Some(Message::Closed);
                    self.hear(worker, &line)?;
                }
                Err(RecvTimeoutError::Timeout) => {
                    return Err("the worker hangs while it closes the stream".into());
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        let status = worker.child.wait()?;
        self.report.note_close();
        if has_closed && status.success() {
            Ok(())
        } else {
            Err(format!("the worker did not close: {status}").into())
        }
    }

    /// Checks that no other process can open the stream while a worker has it open.
    fn check_locked(&self, plan: &Plan) -> Result<()> {
        match plan.options(&self.args).maintenance(Maintenance::Manual).open(&self.dir) {
            Err(Error::Locked(_)) => Ok(()),
            Err(error) => {
                Err(format!("P13: a stream that a worker has open is not locked, but: {error}").into())
            }
            Ok(_) => Err("P13: a stream that a worker has open was opened once more".into()),
        }
    }
}
