//! A bell that wakes one thread.

use std::hint;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::Wake;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// Wakes a thread, and can be the waker of a task that the thread polls. A ring before the thread waits is not lost.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    is_rung: AtomicBool,
    /// Taken by each ring after it is recorded, so that the thread is asleep by then or has yet to check for rings.
    sleeper: Mutex<()>,
    rung: Condvar,
    patience: Patience,
}

impl Bell {
    pub(crate) fn ring(&self) {
        if !self.is_rung.swap(true, Ordering::AcqRel) {
            drop(self.sleeper.lock());
            self.rung.notify_one();
        }
    }

    /// Waits until somebody rings or the timeout passes.
    pub(crate) fn wait(&self, timeout: Duration) {
        let mut sleeper = self.sleeper.lock();
        self.rung.wait_while_for(&mut sleeper, |()| !self.is_rung.load(Ordering::Acquire), timeout);
        self.hear();
    }

    /// Waits like [`wait`](Self::wait), but watches first, for rings that often come sooner than a thread can wake up.
    pub(crate) fn wait_awake(&self, timeout: Duration) {
        if self.patience.watch(|| self.is_rung.load(Ordering::Acquire)) {
            self.hear();
        } else {
            self.wait(timeout);
        }
    }

    /// Consumes all rings so far. The swap makes this thread see everything that was written before each of them.
    fn hear(&self) {
        self.is_rung.swap(false, Ordering::AcqRel);
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.ring();
    }
}

/// Watches for a condition for tens of microseconds before a thread sleeps, because waking the thread costs as much. Watches less often while this
/// is in vain.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    /// How many more times to skip the watch.
    left_out: AtomicU32,
}

/// How often a watch checks: for tens of microseconds in all.
const LOOKS: u32 = 1_000;
/// How many times to skip the watch after one in vain.
const LEFT_OUT: u32 = 2;

impl Patience {
    /// Watches for a condition to become true, unless recent watches were in vain. Returns whether it became true.
    pub(crate) fn watch(&self, is_true: impl Fn() -> bool) -> bool {
        let left_out = self.left_out.load(Ordering::Relaxed);
        if left_out > 0 {
            self.left_out.store(left_out - 1, Ordering::Relaxed);
            return false;
        }
        let is_seen = (0..LOOKS).any(|_| {
            hint::spin_loop();
            is_true()
        });
        if !is_seen {
            self.left_out.store(LEFT_OUT, Ordering::Relaxed);
        }
        is_seen
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;
    use std::thread;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn no_ring_is_lost_whether_the_thread_sleeps_or_watches() {
        let (there, back) = (Bell::default(), Bell::default());
        let (sent, returned) = (AtomicU32::new(0), AtomicU32::new(0));
        let (there, back, sent, returned) = (&there, &back, &sent, &returned);
        thread::scope(|scope| {
            scope.spawn(|| {
                for number in 1..=ROUNDS {
                    while sent.load(Ordering::Relaxed) < number {
                        there.wait_awake(LONG);
                    }
                    returned.store(number, Ordering::Relaxed);
                    back.ring();
                }
            });
            let begun = std::time::Instant::now();
            for number in 1..=ROUNDS {
                sent.store(number, Ordering::Relaxed);
                there.ring();
                while returned.load(Ordering::Relaxed) < number {
                    back.wait(LONG);
                }
            }
            assert!(begun.elapsed() < LONG, "a ring was lost");
        });
    }

    const ROUNDS: u32 = 20_000;
}
