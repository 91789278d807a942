//! Limits running statements: to a total number, and to one of each kind per connection.

use std::collections::HashSet;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// How a statement runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::gateway) enum Kind {
    Once,
    Live,
}

/// The places for statements.
#[derive(Debug)]
pub(super) struct Places {
    taken: Mutex<Taken>,
    freed: Condvar,
    once_max: usize,
    live_max: usize,
    patience: Duration,
}

/// The connections on which statements run.
#[derive(Debug, Default)]
struct Taken {
    once: HashSet<SocketAddr>,
    live: HashSet<SocketAddr>,
    is_over: bool,
}

impl Taken {
    fn of(&mut self, kind: Kind) -> &mut HashSet<SocketAddr> {
        match kind {
            Kind::Once => &mut self.once,
            Kind::Live => &mut self.live,
        }
    }
}

/// The place of a running statement. Dropping it frees the place.
#[derive(Debug)]
pub(in crate::gateway) struct Place {
    places: Arc<Places>,
    kind: Kind,
    peer: SocketAddr,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    Connection(Kind),
    All(Kind, usize),
    Over,
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connection(Kind::Once) => f.write_str("A query runs on this connection. Wait for its end."),
            Self::Connection(Kind::Live) => {
                f.write_str("A live query runs on this connection. End it, or use another connection.")
            }
            Self::All(_, 0) => f.write_str("This server runs no SQL statements."),
            Self::All(Kind::Once, max) => {
                write!(f, "{max} queries run, which is as many as may run at a time. Try again.")
            }
            Self::All(Kind::Live, max) => {
                write!(f, "{max} live queries run, which is as many as may run at a time. End one of them.")
            }
            Self::Over => f.write_str("The server is ending."),
        }
    }
}

impl Places {
    pub(super) fn new(once_max: usize, live_max: usize, patience: Duration) -> Self {
        Self { taken: Mutex::default(), freed: Condvar::new(), once_max, live_max, patience }
    }

    /// Takes a place, or waits for one for a moment.
    pub(super) fn enter(self: &Arc<Self>, kind: Kind, peer: SocketAddr) -> Result<Place, Full> {
        let max = match kind {
            Kind::Once => self.once_max,
            // Without queries there is no SQL.
            Kind::Live => self.live_max * usize::from(self.once_max > 0),
        };
        let deadline = Instant::now() + self.patience;
        let mut taken = self.taken.lock();
        loop {
            let is_over = taken.is_over;
            let of_kind = taken.of(kind);
            let full = if is_over {
                return Err(Full::Over);
            } else if max == 0 {
                return Err(Full::All(kind, max));
            } else if of_kind.contains(&peer) {
                Full::Connection(kind)
            } else if of_kind.len() >= max {
                Full::All(kind, max)
            } else {
                of_kind.insert(peer);
                return Ok(Place { places: Arc::clone(self), kind, peer });
            };
            if self.freed.wait_until(&mut taken, deadline).timed_out() {
                return Err(full);
            }
        }
    }

    /// Grants no more places, and waits until all are free.
    pub(super) fn end(&self, grace: Duration) {
        let deadline = Instant::now() + grace;
        let mut taken = self.taken.lock();
        taken.is_over = true;
        self.freed.notify_all();
        while !(taken.once.is_empty() && taken.live.is_empty()) {
            if self.freed.wait_until(&mut taken, deadline).timed_out() {
                return;
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.taken.lock().of(self.kind).remove(&self.peer);
        self.places.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_has_one_place_of_a_kind_and_all_have_so_many() {
        let places = Arc::new(Places::new(2, 1, Duration::from_millis(1)));
        let peer = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let enter = |kind, port| places.enter(kind, peer(port));
        let first = enter(Kind::Once, 1).unwrap();
        assert_eq!(enter(Kind::Once, 1).unwrap_err(), Full::Connection(Kind::Once));
        let live = enter(Kind::Live, 1).unwrap();
        let second = enter(Kind::Once, 2).unwrap();
        assert_eq!(enter(Kind::Once, 3).unwrap_err(), Full::All(Kind::Once, 2));
        assert_eq!(enter(Kind::Live, 3).unwrap_err(), Full::All(Kind::Live, 1));
        drop(first);
        let third = enter(Kind::Once, 3).unwrap();
        drop((third, second, live));
        places.end(Duration::from_secs(10));
        assert_eq!(enter(Kind::Once, 1).unwrap_err(), Full::Over);
        let none = Arc::new(Places::new(0, 8, Duration::from_millis(1)));
        assert_eq!(none.enter(Kind::Live, peer(1)).unwrap_err(), Full::All(Kind::Live, 0));
    }

    #[test]
    fn a_place_that_becomes_free_is_taken_by_who_waits() {
        let places = Arc::new(Places::new(1, 1, Duration::from_secs(20)));
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        let first = places.enter(Kind::Once, peer).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| places.enter(Kind::Once, peer).is_ok());
            drop(first);
            assert!(waiting.join().unwrap());
        });
    }
}
