//! The threads that call the function of a delivery, so that neither the thread that reads nor other shards wait for it.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::function::{CallError, Function};
use super::steps::{self, Call, Made};
use crate::{Bell, StreamReader};

/// How many calls run at a time, each for a different shard.
const THREADS_MAX: usize = 8;
/// How many threads may hang in calls that do not return. Beyond that, the delivery waits for calls that take too long.
const HUNG_MAX: usize = 16;

pub(super) type Called = Result<Vec<Made<'static>>, CallError>;

/// The calls of a function.
pub(super) struct Calls {
    shared: Arc<Shared>,
}

struct Shared {
    function: Function,
    stream: StreamReader,
    state: Mutex<State>,
    /// Notified when a call is due.
    due: Condvar,
    /// Rung when a call has ended.
    bell: Arc<Bell>,
}

#[derive(Default)]
struct State {
    queue: VecDeque<(u64, Arc<Call>)>,
    /// When each running call began.
    running: BTreeMap<u64, Duration>,
    done: Vec<(u64, Called)>,
    next_number: u64,
    threads: usize,
    idle_threads: usize,
    hung_threads: usize,
    is_over: bool,
}

impl fmt::Debug for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Calls").field("function", &self.shared.function).finish_non_exhaustive()
    }
}

impl Calls {
    pub(super) fn new(function: Function, stream: StreamReader, bell: Arc<Bell>) -> Self {
        let (state, due) = (Mutex::default(), Condvar::new());
        Self { shared: Arc::new(Shared { function, stream, state, due, bell }) }
    }

    pub(super) fn function(&self) -> &Function {
        &self.shared.function
    }

    /// Queues a call. Returns its number.
    pub(super) fn begin(&self, call: Arc<Call>) -> u64 {
        let mut state = self.shared.state.lock();
        let number = state.next_number;
        state.next_number += 1;
        state.queue.push_back((number, call));
        self.shared.wake(&mut state);
        number
    }

    /// Returns the calls that have ended. A call of a function in this process that takes longer than `time_max` has failed, and its thread is
    /// abandoned.
    pub(super) fn take_done(&self, time_max: Duration) -> Vec<(u64, Called)> {
        let now = self.shared.stream.clock().elapsed();
        let mut state = self.shared.state.lock();
        let mut done = std::mem::take(&mut state.done);
        // A function over HTTP has the timeout of its request.
        let may_hang = !matches!(self.shared.function, Function::Http(_));
        let overdue = |begun: Duration| may_hang && now.saturating_sub(begun) >= time_max;
        let late: Vec<u64> =
            state.running.iter().filter(|(_, begun)| overdue(**begun)).map(|(number, _)| *number).collect();
        for number in late.into_iter().take(HUNG_MAX - state.hung_threads) {
            state.running.remove(&number);
            state.threads -= 1;
            state.hung_threads += 1;
            done.push((
                number,
                Err(CallError::permanent(format!("the function did not return within {time_max:?}"))),
            ));
        }
        self.shared.wake(&mut state);
        done
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        self.shared.state.lock().is_over = true;
        self.shared.due.notify_all();
    }
}

impl Shared {
    /// Makes a thread look for a due call, if there is one.
    fn wake(self: &Arc<Self>, state: &mut State) {
        if state.queue.is_empty() {
            return;
        }
        if state.idle_threads > 0 {
            self.due.notify_one();
        } else if state.threads < THREADS_MAX {
            let shared = Arc::clone(self);
            // If no thread can be started, an existing one makes the call, or a later attempt starts one.
            if thread::Builder::new().name("streamlog-call".into()).spawn(move || shared.run()).is_ok() {
                state.threads += 1;
            }
        }
    }

    /// Makes calls, one after the other, until the delivery ends.
    fn run(self: Arc<Self>) {
        let mut state = self.state.lock();
        while !state.is_over {
            let Some((number, call)) = state.queue.pop_front() else {
                state.idle_threads += 1;
                self.due.wait(&mut state);
                state.idle_threads -= 1;
                continue;
            };
            state.running.insert(number, self.stream.clock().elapsed());
            drop(state);
            let called = steps::call(&self.function, &call);
            state = self.state.lock();
            if state.running.remove(&number).is_none() {
                // The call took too long, and another thread has replaced this one.
                state.hung_threads -= 1;
                return;
            }
            state.done.push((number, called));
            self.bell.ring();
        }
        state.threads -= 1;
    }
}
