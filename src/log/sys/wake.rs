//! Waiting for a word that another process changes, and waking its waiters.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Whether a thread can wait for a word without polling it.
pub(crate) const CAN_WAIT: bool = cfg!(target_os = "linux");

/// Waits until somebody [wakes](wake) the waiters of this word or the time is over, unless the word no longer has the value `seen`. May return
/// spuriously.
#[cfg(target_os = "linux")]
pub(crate) fn wait(word: &AtomicU32, seen: u32, time: Duration) {
    use rustix::thread::futex;
    let time = rustix::fs::Timespec { tv_sec: time.as_secs() as i64, tv_nsec: time.subsec_nanos().into() };
    // It fails if the word has changed, if the time is over, or for a signal.
    let _ = futex::wait(word, futex::Flags::empty(), seen, Some(&time));
}

/// Wakes all waiters of this word, in all processes.
#[cfg(target_os = "linux")]
pub(crate) fn wake(word: &AtomicU32) {
    // It fails only for a word that nobody can wait for.
    let _ = rustix::thread::futex::wake(word, rustix::thread::futex::Flags::empty(), i32::MAX as u32);
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn wait(word: &AtomicU32, seen: u32, time: Duration) {
    if word.load(Ordering::Acquire) == seen {
        std::thread::sleep(time);
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn wake(_: &AtomicU32) {}

/// Lets this process take part in the barriers of others: see [`barrier`].
pub(crate) fn join_barriers() {
    #[cfg(target_os = "linux")]
    {
        use rustix::thread::{MembarrierCommand, membarrier};
        // Where the system does not know this, others look again after a while.
        let _ = membarrier(MembarrierCommand::RegisterGlobalExpedited);
    }
}

/// Makes every running thread of the processes that have [joined](join_barriers) pass a full memory barrier. Returns whether that was
/// possible. A thread that stores one word and then loads another needs no barrier of its own: the order of the two can only be
/// seen by a process that calls this between its own store and load.
pub(crate) fn barrier() -> bool {
    std::sync::atomic::fence(Ordering::SeqCst);
    #[cfg(target_os = "linux")]
    {
        use rustix::thread::{MembarrierCommand, membarrier};
        membarrier(MembarrierCommand::GlobalExpedited).is_ok()
    }
    #[cfg(not(target_os = "linux"))]
    false
}
