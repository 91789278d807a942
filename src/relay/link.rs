//! The shared state of a relay's function: its counts, its pauses, and the destination for records that can never be sent.

use std::fmt;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::stats::Counts;
use crate::{Destination, Invocation, SequenceNumber, StreamReader};

/// The state that all calls of a relay's function share.
pub(super) struct Link {
    pub(super) stream: StreamReader,
    destination: Option<Destination>,
    /// How long to wait after a failure: the first time, and at most.
    pauses: (Duration, Duration),
    pub(super) counts: Mutex<Counts>,
    is_closing: Mutex<bool>,
    /// Notified when the relay closes.
    closing: Condvar,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").finish_non_exhaustive()
    }
}

/// A wait is interrupted this often, because an injected clock may move at any time, and the stream may be closed.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

impl Link {
    pub(super) fn new(
        stream: StreamReader,
        destination: Option<Destination>,
        pauses: (Duration, Duration),
    ) -> Self {
        let (counts, is_closing, closing) = (Mutex::default(), Mutex::default(), Condvar::new());
        Self { stream, destination, pauses, counts, is_closing, closing }
    }

    /// Returns the elapsed time that pauses are measured in.
    pub(super) fn elapsed(&self) -> Duration {
        self.stream.clock().elapsed()
    }

    /// Ends all waits. A function that waits for the other side then returns with what is done.
    pub(super) fn close(&self) {
        *self.is_closing.lock() = true;
        self.closing.notify_all();
    }

    /// Returns whether nothing more is to be sent.
    pub(super) fn is_closing(&self) -> bool {
        *self.is_closing.lock() || self.stream.is_closed()
    }

    /// Waits until this time of [`elapsed`](Self::elapsed). Returns `false` if nothing more is to be sent.
    pub(super) fn wait_until(&self, until: Duration) -> bool {
        let mut is_closing = self.is_closing.lock();
        loop {
            if *is_closing || self.stream.is_closed() {
                return false;
            }
            let left = until.saturating_sub(self.elapsed());
            if left.is_zero() {
                return true;
            }
            self.closing.wait_for(&mut is_closing, left.min(LOOK_AGAIN));
        }
    }

    /// Notes that a request failed as a whole.
    pub(super) fn note_failure(&self, error: String) {
        let now = self.stream.clock().now();
        let mut counts = self.counts.lock();
        counts.failed_requests += 1;
        counts.failing_since.get_or_insert(now);
        counts.last_error = Some(error);
    }

    /// Notes that this many records with this many bytes are acknowledged. The link is up.
    pub(super) fn note_success(&self, sent: u64, bytes: u64) {
        let mut counts = self.counts.lock();
        counts.sent += sent;
        counts.bytes += bytes;
        counts.failing_since = None;
    }

    /// Notes an error that did not fail a request as a whole.
    #[cfg(feature = "relay-kinesis")]
    pub(super) fn note_error(&self, error: String) {
        self.counts.lock().last_error = Some(error);
    }

    /// Gives up a record of a batch that can never be sent, for this reason. On success, it is at its destination.
    ///
    /// # Errors
    /// The destination's error, if it fails or panics. The record is then not given up.
    pub(super) fn discard(
        &self,
        invocation: &Invocation,
        sequence: SequenceNumber,
        reason: &str,
    ) -> Result<(), String> {
        if let Some(destination) = &self.destination {
            destination.send_refused(invocation, sequence, reason, self.stream.clock().now())?;
        }
        let mut counts = self.counts.lock();
        counts.discarded += 1;
        counts.last_error =
            Some(format!("record {sequence} of {} is given up: {reason}", invocation.shard()));
        Ok(())
    }

    /// Returns how long to wait after this many failures in a row: between half of the pause and the whole pause, so that requests that failed
    /// together are not retried together. `salt` distinguishes them.
    pub(super) fn pause(&self, failures: u32, salt: u64) -> Duration {
        let (first, most) = self.pauses;
        let doubled = failures.saturating_sub(1).min(31);
        let pause = first.saturating_mul(1 << doubled).min(most);
        let nanos = self.elapsed().as_nanos() as u64;
        let chance = xxhash_rust::xxh3::xxh3_64_with_seed(&nanos.to_ne_bytes(), salt);
        let half = pause / 2;
        half + half.mul_f64(f64::from(chance as u32) / f64::from(u32::MAX))
    }
}
