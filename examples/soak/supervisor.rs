//! The process that survives: it starts workers, kills them, and checks what they leave behind.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use streamlog::{Error, Maintenance};

use super::board::SILENCE_MAX;
use super::check::Check;
use super::group::{GroupLedger, INSIDE};
use super::jobs::{JobLedger, Jobs};
use super::ledger::Ledger;
use super::message::Message;
use super::plan::{Ending, Plan, Random};
use super::process::{Heard, Process};
use super::report::Report;
use super::visitors::Visitors;
use super::{Args, Result, Role, now, say};

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
    let (ledger, group, visitors) = (Ledger::default(), GroupLedger::new(INSIDE), Visitors::new(&args));
    let jobs = JobLedger::default();
    let mut soak = Soak {
        args,
        dir,
        random,
        ends_at,
        report,
        ledger,
        jobs,
        group,
        visitors,
        has_stream: false,
        round: 0,
        run: 0,
    };
    let outcome = soak.run();
    soak.report.summary(
        soak.jobs.summary(),
        [&soak.group, soak.visitors.group()].map(|group| group.course.spans_again),
    );
    if let Err(broken) = outcome {
        // Also keep a temporary directory.
        temporary.map(tempfile::TempDir::keep);
        let Soak { dir, args, round, run, .. } = soak;
        say(&format!("\nFAIL {broken}"));
        say(&format!("round {round}, {}", Plan::new(&args, round, run).in_words()));
        return Err(format!("1 violation with seed {seed}; the streams are left in {}", dir.display()).into());
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
    jobs: JobLedger,
    group: GroupLedger,
    visitors: Visitors,
    /// A worker or a check has opened the stream, so it exists.
    has_stream: bool,
    round: u32,
    run: u32,
}

/// A running worker.
struct Worker {
    process: Process,
    plan: Plan,
    has_opened: bool,
    has_closed: bool,
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
            let dir = self.args.stream_path()?;
            let check = Check { args: &self.args, dir: &dir, plan: &plan, was_closed, is_thorough };
            let checked =
                check.run(&mut self.ledger, &mut self.group, self.visitors.group(), &mut self.random)?;
            self.has_stream = true;
            self.visitors.check_seen(&checked.lasts)?;
            // Otherwise the next worker gets the remaining records.
            if is_last || self.random.one_in(3) {
                Jobs::drain(&self.args, &plan, &mut self.jobs)?;
            }
            self.report.note_check(&checked);
            self.report.tick()?;
        }
        if self.has_stream {
            self.visitors.finish(&self.ledger, &mut self.jobs, &mut self.report)
        } else {
            Ok(())
        }
    }

    fn is_time_up(&self) -> bool {
        INTERRUPTED.load(Ordering::Relaxed) || Instant::now() >= self.ends_at
    }

    /// Runs one worker from start to end.
    fn run_worker(&mut self, ending: Ending) -> Result<()> {
        let mut worker = self.start()?;
        let started = Instant::now();
        let mut opened = None;
        let mut has_tried_lock = false;
        loop {
            match worker.process.hear(self.patience(ending, started, opened)) {
                Heard::Message(_, message) => {
                    self.take(&mut worker, message)?;
                    if worker.has_opened {
                        opened.get_or_insert_with(Instant::now);
                    }
                }
                Heard::Nothing => worker.process.check_silence()?,
                Heard::End => return Err(worker.process.ended_by_itself()?.into()),
            }
            self.has_stream |= worker.has_opened;
            if self.has_stream {
                self.visitors.attend(&self.ledger, &mut self.jobs, &mut self.report)?;
            }
            self.report.tick()?;
            if opened.is_some() && !has_tried_lock {
                has_tried_lock = true;
                self.check_locked(&worker.plan)?;
            }
            if self.is_over(ending, started, opened) {
                break;
            }
        }
        if ending == Ending::Close {
            self.close(&mut worker)
        } else {
            let killed_at = now();
            worker.process.kill()?;
            self.report.note_kill(matches!(ending, Ending::KillEarly(_)));
            self.hear_out(&mut worker)?;
            worker.process.end()?;
            self.visitors.note_end_of_worker(killed_at);
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
        let plan = Plan::new(&self.args, self.round, self.run);
        let process = Process::start(&self.args, Role::Worker, self.round, self.run)?;
        Ok(Worker { process, plan, has_opened: false, has_closed: false })
    }

    fn take(&mut self, worker: &mut Worker, message: Message) -> Result<()> {
        match message {
            Message::Opened { micros } => {
                worker.has_opened = true;
                self.report.note_open(Duration::from_micros(micros));
            }
            Message::Promises { at, oldest, keys } => {
                self.visitors.note_sweep(at, oldest);
                self.ledger.note(worker.plan.run, at, keys);
            }
            Message::Counters { counters, delays_nanos } => {
                self.report.note_counters(&counters, &delays_nanos);
                if let Some(memory) = worker.process.memory()? {
                    self.report.note_memory(memory);
                }
            }
            Message::Handled { spans } => self.group.note_handled(&self.ledger, &spans)?,
            Message::Overtaken { keys } => self.group.note_overtaken(&keys, Instant::now()),
            Message::Committed { shard, next } => self.group.note_committed(shard, next),
            Message::Job(note) => self.jobs.note(note)?,
            Message::Violation(what) => return Err(what.into()),
            Message::Closed => worker.has_closed = true,
            Message::Read { .. } => {}
        }
        Ok(())
    }

    /// Processes the messages that a dead worker sent before it died, or that an ending one sends.
    fn hear_out(&mut self, worker: &mut Worker) -> Result<()> {
        loop {
            match worker.process.hear(SILENCE_MAX) {
                Heard::Message(_, message) => self.take(worker, message)?,
                Heard::Nothing => worker.process.check_silence()?,
                Heard::End => return Ok(()),
            }
        }
    }

    /// Asks a worker to end, and waits for it.
    fn close(&mut self, worker: &mut Worker) -> Result<()> {
        let asked_at = now();
        worker.process.ask_to_end();
        self.hear_out(worker)?;
        let status = worker.process.end()?;
        self.visitors.note_end_of_worker(asked_at);
        self.report.note_close();
        if worker.has_closed && status.success() {
            Ok(())
        } else {
            Err(format!("the worker did not close: {status}").into())
        }
    }

    /// Checks that no other process can open the stream while a worker has it open.
    fn check_locked(&self, plan: &Plan) -> Result<()> {
        match plan.options(&self.args).maintenance(Maintenance::Manual).open(self.args.stream_path()?) {
            Err(Error::Locked(_)) => Ok(()),
            Err(error) => {
                Err(format!("P13: a stream that a worker has open is not locked, but: {error}").into())
            }
            Ok(_) => Err("P13: a stream that a worker has open was opened once more".into()),
        }
    }
}
