//! Does all remaining jobs, as the worker does them. Afterwards every record has been counted exactly once.

use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use streamlog::Error;

use super::ledger::JobLedger;
use super::note::Note;
use super::{Jobs, Side, WindowsId};
use crate::board::{Board, Outcome, unexpected};
use crate::plan::Plan;
use crate::{Args, Role};

/// The time limit for doing everything.
const DONE_WITHIN: Duration = Duration::from_secs(60);

/// Where notes go during a drain. It is not used longer than that, but must be `'static`.
static NOTES: Mutex<Option<Sender<Note>>> = Mutex::new(None);

fn tell(note: Note) {
    let notes = NOTES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(notes) = &*notes {
        let _ = notes.send(note);
    }
}

impl Jobs {
    /// Does all remaining jobs of the worker's side, and checks that none is missing. No worker runs at the same time.
    pub(crate) fn drain(args: &Args, plan: &Plan, ledger: &mut JobLedger) -> Outcome {
        let jobs = Self::open(args, plan)?;
        let board = Board::new(args, Role::Worker, plan.clone()).map_err(|error| error.to_string())?;
        let (sender, notes) = channel();
        *NOTES.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        let outcome = thread::scope(|scope| {
            let parts = jobs.readers(&board, &tell);
            let threads: Vec<_> = parts.into_iter().map(|(_, part)| scope.spawn(part)).collect();
            let began = Instant::now();
            let mut is_done = Ok(false);
            while let Ok(false) = is_done {
                is_done = match notes.recv_timeout(Duration::from_millis(50)) {
                    Ok(note) => ledger.note(note).map(|()| false),
                    // No thread has reported anything, so perhaps nothing is left.
                    Err(_) if threads.iter().any(|thread| thread.is_finished()) => Ok(true),
                    Err(_) => jobs.is_done(ledger),
                };
                if began.elapsed() > DONE_WITHIN && matches!(is_done, Ok(false)) {
                    let left = ledger.missing(Side::Inside);
                    is_done = Err(format!("L1: after {DONE_WITHIN:?}, it is not done: {left:?}"));
                }
            }
            board.stop();
            let ends = threads.into_iter().map(|thread| thread.join());
            let ends: Vec<_> = ends.map(|end| end.unwrap_or_else(|_| Err("P11: a panic".into()))).collect();
            ends.into_iter().collect::<Outcome>().and(is_done.map(drop))
        });
        *NOTES.lock().unwrap_or_else(PoisonError::into_inner) = None;
        outcome?;
        for note in notes.try_iter() {
            ledger.note(note)?;
        }
        match ledger.missing(Side::Inside) {
            Some(missing) => Err(format!("L1 L2: all jobs are done, and it is missing {missing}")),
            None => {
                ledger.forget_done(plan.run);
                jobs.close()
            }
        }
    }

    /// Returns whether nothing is left to do.
    fn is_done(&self, ledger: &JobLedger) -> Outcome<bool> {
        if ledger.missing(Side::Inside).is_some() {
            return Ok(false);
        }
        for (_, queue) in &self.queues {
            let described = queue.describe().map_err(unexpected("L1", "a queue is described"))?;
            let left = described.in_flight_count + described.delayed_count + described.dead_letter_count;
            if described.unread.record_count as usize + described.visible_count + left > 0 {
                return Ok(false);
            }
        }
        let described = self.reader.describe_processor(WindowsId(Side::Inside).name());
        let described = match described {
            // On a busy machine, it may not have started yet.
            Err(Error::InvalidArgument(_)) => return Ok(false),
            described => described.map_err(unexpected("L8", "a processor is described"))?,
        };
        Ok(described.lag().record_count == 0 && described.windows().next().is_none())
    }
}
