//! The supervisor's side of the visitors: when they come and go, and what they must have seen.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use streamlog::Timestamp;

use super::course::Course;
use super::group::{GroupLedger, OUTSIDE};
use super::jobs::JobLedger;
use super::ledger::Ledger;
use super::message::Message;
use super::plan::Random;
use super::process::{Heard, Process};
use super::record::{Number, name_of};
use super::report::Report;
use super::{Args, Result, Role};

/// A follower has read each acknowledged record within this time.
const FOLLOWED_WITHIN: Duration = Duration::from_secs(10);
/// The group has handled each acknowledged record within this time, in which all of its workers may stall for a while.
const HANDLED_WITHIN: Duration = Duration::from_secs(30);
/// The processor and the queues outside have done all jobs within this time after the last one was put.
const JOBS_DONE_WITHIN: Duration = Duration::from_secs(90);
/// The lifetime of a visitor, in lifetimes of a worker.
const LIFETIMES: f64 = 3.0;
/// The longest time between two visitors of a role.
const AWAY_MILLIS_MAX: u64 = 2_000;
const TARGET_INTERVAL: Duration = Duration::from_millis(250);
/// The number of promises about the age of records that are kept.
const SWEEP_COUNT_MAX: usize = 4_096;

/// All visitors, and what is known of them across their lives.
#[derive(Debug)]
pub(crate) struct Visitors {
    args: Args,
    random: Random,
    /// The number of the last one.
    number: u32,
    visitors: [Visitor; 4],
    seen: Known,
    target_set_at: Option<Instant>,
}

/// The visitors' reports, and the promises that they are checked against.
#[derive(Debug)]
struct Known {
    course: Course,
    group: GroupLedger,
    sweeps: Sweeps,
}

/// The visitors of a role, one after the other.
#[derive(Debug)]
struct Visitor {
    role: Role,
    here: Option<Visit>,
    comes_at: Instant,
}

#[derive(Debug)]
struct Visit {
    process: Process,
    since: Instant,
    leaves_at: Instant,
    /// It was asked to end.
    is_leaving: bool,
    has_closed: bool,
}

/// The oldest records that reads may return: from a time on, none older than another time.
#[derive(Debug, Default)]
struct Sweeps(VecDeque<(Timestamp, Timestamp)>);

impl Visitors {
    pub(crate) fn new(args: &Args) -> Self {
        let visitor = |role| Visitor { role, here: None, comes_at: Instant::now() };
        Self {
            args: args.clone(),
            random: Random::new(args.seed.unwrap_or_default(), [4, 0]),
            number: 0,
            visitors: [Role::Follower, Role::Seeker, Role::Group, Role::Jobs].map(visitor),
            seen: Known {
                course: Course::default(),
                group: GroupLedger::new(OUTSIDE),
                sweeps: Sweeps::default(),
            },
            target_set_at: None,
        }
    }

    pub(crate) fn group(&self) -> &GroupLedger {
        &self.seen.group
    }

    /// Notes that from a time on no read may return a record older than another time.
    pub(crate) fn note_sweep(&mut self, at: Timestamp, oldest: Timestamp) {
        self.seen.sweeps.0.push_back((at, oldest));
        if self.seen.sweeps.0.len() > SWEEP_COUNT_MAX {
            self.seen.sweeps.0.pop_front();
        }
    }

    /// Notes that a worker was killed: the next opening may bring back records that retention had trimmed.
    pub(crate) fn note_end_of_worker(&mut self, at: Timestamp) {
        self.seen.sweeps.0.retain(|(since, _)| *since < at);
        self.note_sweep(at, Timestamp::default());
    }

    /// Lets visitors come and go, and checks what they report. The stream must exist.
    pub(crate) fn attend(
        &mut self,
        ledger: &Ledger,
        jobs: &mut JobLedger,
        report: &mut Report,
    ) -> Result<()> {
        self.set_target(ledger);
        for visitor in &mut self.visitors {
            visitor.listen(&mut self.seen, ledger, jobs, report)?;
            let now = Instant::now();
            match &mut visitor.here {
                None if now >= visitor.comes_at => {
                    self.number += 1;
                    visitor.come(&self.args, self.number, &mut self.random)?;
                }
                Some(visit) if now >= visit.leaves_at && !visit.is_leaving => {
                    if self.random.one_in(4) {
                        visit.is_leaving = true;
                        visit.process.ask_to_end();
                        continue;
                    }
                    visit.process.kill()?;
                    report.note_visitor_kill();
                    visitor.hear_out(&mut self.seen, ledger, jobs, report)?;
                    visitor.comes_at = now + Duration::from_millis(self.random.below(AWAY_MILLIS_MAX));
                }
                _ => {}
            }
        }
        report.note_delays(self.seen.course.delay_max, self.seen.group.course.delay_max);
        Ok(())
    }

    fn set_target(&mut self, ledger: &Ledger) {
        if self.target_set_at.is_none_or(|at| at.elapsed() >= TARGET_INTERVAL) {
            self.target_set_at = Some(Instant::now());
            for course in [&mut self.seen.course, &mut self.seen.group.course] {
                course.set_target(ledger, self.args.key_count());
            }
        }
    }

    /// Waits until the visitors have seen everything that was acknowledged.
    pub(crate) fn finish(
        &mut self,
        ledger: &Ledger,
        jobs: &mut JobLedger,
        report: &mut Report,
    ) -> Result<()> {
        self.target_set_at = None;
        let began = Instant::now();
        loop {
            for visit in self.visitors.iter_mut().filter_map(|visitor| visitor.here.as_mut()) {
                visit.leaves_at = Instant::now() + HANDLED_WITHIN;
            }
            self.attend(ledger, jobs, report)?;
            self.target_set_at = Some(Instant::now());
            // This takes a while, so it is done last.
            if self.seen.course.is_at_end() && self.seen.group.course.is_at_end() {
                let Some(missing) = jobs.missing_outside() else { return Ok(()) };
                if began.elapsed() > JOBS_DONE_WITHIN {
                    return Err(format!(
                        "L1 L2 L8: {JOBS_DONE_WITHIN:?} after the last put, it is missing {missing}"
                    )
                    .into());
                }
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Checks that a stream still has what the visitors have seen. `lasts` are the last records of each key.
    pub(crate) fn check_seen(&self, lasts: &[Option<Number>]) -> Result<()> {
        for (key, last) in (0..).zip(lasts) {
            let Some(last) = last else { continue };
            for course in [&self.seen.course, &self.seen.group.course] {
                if let Some(seen) = course.last(key).filter(|seen| seen > last) {
                    return Err(format!(
                        "P1 L8: another process had read number {seen} of {}, and the last that is there is {last}",
                        name_of(key)
                    )
                    .into());
                }
            }
        }
        Ok(())
    }
}

impl Visitor {
    fn come(&mut self, args: &Args, number: u32, random: &mut Random) -> Result<()> {
        let process = Process::start(args, self.role, 0, number)?;
        let since = Instant::now();
        let life = args.kill_every * LIFETIMES * (0.2 + 1.6 * random.fraction());
        let life = match random.below(6) {
            0 => Duration::from_micros(random.below(60_000)),
            _ => Duration::from_secs_f64(life),
        };
        let leaves_at = since + life;
        self.here = Some(Visit { process, since, leaves_at, is_leaving: false, has_closed: false });
        Ok(())
    }

    /// Processes the messages of a visitor so far.
    fn listen(
        &mut self,
        known: &mut Known,
        ledger: &Ledger,
        jobs: &mut JobLedger,
        report: &mut Report,
    ) -> Result<()> {
        let Some(visit) = &mut self.here else { return Ok(()) };
        loop {
            match visit.process.hear(Duration::ZERO) {
                Heard::Message(at, message) => {
                    visit.has_closed |= message == Message::Closed;
                    if let Message::Counters { counters, .. } = &message {
                        report.note_visitor(counters, visit.process.memory()?);
                    }
                    known.take(self.role, at, visit.since, message, ledger, jobs)?;
                }
                Heard::Nothing => break,
                Heard::End if visit.is_leaving => {
                    let status = visit.process.end()?;
                    if !visit.has_closed || !status.success() {
                        return Err(
                            format!("a {:?} did not end as it was asked to: {status}", self.role).into()
                        );
                    }
                    self.here = None;
                    return Ok(());
                }
                Heard::End => return Err(visit.process.ended_by_itself()?.into()),
            }
        }
        visit.process.check_silence()?;
        if visit.is_leaving { Ok(()) } else { known.check_targets(self.role, visit.since) }
    }

    /// Processes what a killed visitor said before it died.
    fn hear_out(
        &mut self,
        known: &mut Known,
        ledger: &Ledger,
        jobs: &mut JobLedger,
        report: &mut Report,
    ) -> Result<()> {
        let Some(mut visit) = self.here.take() else { return Ok(()) };
        loop {
            match visit.process.hear(Duration::from_secs(1)) {
                Heard::Message(at, message) => {
                    if let Message::Counters { counters, .. } = &message {
                        report.note_visitor(counters, None);
                    }
                    known.take(self.role, at, visit.since, message, ledger, jobs)?;
                }
                Heard::Nothing => {}
                Heard::End => return visit.process.end().map(drop),
            }
        }
    }
}

impl Known {
    fn take(
        &mut self,
        role: Role,
        at: Instant,
        since: Instant,
        message: Message,
        ledger: &Ledger,
        jobs: &mut JobLedger,
    ) -> Result<()> {
        let is_group = role == Role::Group;
        match message {
            Message::Handled { spans } if is_group => {
                self.group.note_handled(ledger, &spans)?;
                self.group.course.note_time(at, since);
            }
            Message::Handled { spans } => {
                self.course.note("an outside follower", ledger, &spans)?;
                self.course.note_time(at, since);
            }
            Message::Overtaken { keys } if is_group => self.group.note_overtaken(&keys, at),
            Message::Overtaken { keys } => self.course.note_jump(&keys, at),
            Message::Committed { shard, next } => self.group.note_committed(shard, next),
            Message::Read { began, ended, oldest } => self.sweeps.check(role, [began, ended], oldest)?,
            Message::Job(note) => jobs.note(note)?,
            Message::Violation(what) => return Err(what.into()),
            Message::Opened { .. }
            | Message::Promises { .. }
            | Message::Counters { .. }
            | Message::Closed => {}
        }
        Ok(())
    }

    /// Checks that a visitor has not fallen silent.
    fn check_targets(&mut self, role: Role, since: Instant) -> Result<()> {
        let (course, within) = match role {
            Role::Follower => (&mut self.course, FOLLOWED_WITHIN),
            Role::Group => (&mut self.group.course, HANDLED_WITHIN),
            Role::Worker | Role::Seeker | Role::Jobs => return Ok(()),
        };
        let checked = course.check_targets(Instant::now(), since, within);
        checked.map_err(|what| format!("P6 L8: a {role:?} outside {what}").into())
    }
}

impl Sweeps {
    /// Checks the oldest record that a read between two times returned.
    fn check(&self, role: Role, [began, ended]: [Timestamp; 2], oldest: Timestamp) -> Result<()> {
        let first = self.0.iter().rposition(|(since, _)| *since <= began);
        let Some(first) = first else { return Ok(()) };
        let during = self.0.iter().skip(first).take_while(|(since, _)| *since <= ended);
        match during.map(|(_, oldest)| *oldest).min() {
            Some(allowed) if oldest < allowed => Err(format!(
                "P12 L8: at {began} a {role:?} outside read a record of {oldest} when all before {allowed} had expired"
            )
            .into()),
            _ => Ok(()),
        }
    }
}
