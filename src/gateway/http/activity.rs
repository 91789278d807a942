//! Decides when a connection may be closed because its client is idle.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

use super::counts::Counts;

/// What the client of a connection does.
#[derive(Debug)]
pub(super) struct Activity {
    header_time: Duration,
    idle_time: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Requests that have not been answered to the end.
    requests: usize,
    /// Those of them that are answered in pieces.
    requests_with_pieces: usize,
    /// When the headers of the next request began to arrive. The first request is expected from the start of the connection on.
    header_since: Option<Instant>,
    /// When the last request was done.
    idle_since: Instant,
    is_http2: bool,
}

impl Activity {
    pub(super) fn new(header_time: Duration, idle_time: Duration) -> Arc<Self> {
        let now = Instant::now();
        let state = State {
            requests: 0,
            requests_with_pieces: 0,
            header_since: Some(now),
            idle_since: now,
            is_http2: false,
        };
        Arc::new(Self { header_time, idle_time, state: Mutex::new(state) })
    }

    /// The client speaks HTTP/2, where bytes may arrive that belong to no request, and where a ping detects a client that stops within a frame.
    pub(super) fn set_http2(&self) {
        self.state.lock().is_http2 = true;
    }

    /// Bytes have arrived. If no request is open, they begin the next one.
    pub(super) fn bytes_arrived(&self) {
        let mut state = self.state.lock();
        if state.requests == 0 && state.header_since.is_none() && !state.is_http2 {
            state.header_since = Some(Instant::now());
        }
    }

    pub(super) fn has_pieces(&self) -> bool {
        self.state.lock().requests_with_pieces > 0
    }

    fn deadline(&self) -> Option<Instant> {
        let state = self.state.lock();
        match state.header_since {
            _ if state.requests > 0 => None,
            Some(since) => Some(since + self.header_time),
            None => Some(state.idle_since + self.idle_time),
        }
    }

    /// Waits until the client has done nothing for too long.
    pub(super) async fn has_ended(&self) {
        loop {
            let now = Instant::now();
            let deadline = self.deadline();
            if deadline.is_some_and(|deadline| deadline <= now) {
                return;
            }
            // No later deadline can come before `look_again`: headers that begin later have their full time.
            let look_again = now + self.header_time.min(self.idle_time);
            sleep_until(deadline.map_or(look_again, |deadline| deadline.min(look_again))).await;
        }
    }
}

/// A request that has not been answered to the end. It is over when this is dropped.
#[derive(Debug)]
pub(super) struct OpenRequest {
    activity: Arc<Activity>,
    counts: Arc<Counts>,
    is_http2: bool,
    has_pieces: bool,
}

impl OpenRequest {
    pub(super) fn new(activity: &Arc<Activity>, counts: &Arc<Counts>, is_http2: bool) -> Self {
        let mut state = activity.state.lock();
        state.requests += 1;
        state.header_since = None;
        drop(state);
        let open = Self { activity: activity.clone(), counts: counts.clone(), is_http2, has_pieces: false };
        open.count().fetch_add(1, Relaxed);
        open
    }

    /// The request is answered in pieces.
    pub(super) fn has_pieces(&mut self) {
        self.has_pieces = true;
        self.activity.state.lock().requests_with_pieces += 1;
    }

    fn count(&self) -> &AtomicU64 {
        if self.is_http2 { &self.counts.http2_requests } else { &self.counts.http1_requests }
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.count().fetch_sub(1, Relaxed);
        let mut state = self.activity.state.lock();
        state.requests -= 1;
        state.requests_with_pieces -= usize::from(self.has_pieces);
        state.idle_since = Instant::now();
    }
}
