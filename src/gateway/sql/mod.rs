//! SQL over the streams of the gateway: statements that run once, and live ones, within the operator's limits.

mod answer;
mod live;
mod once;
mod options;
mod places;
mod tables;

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::watch;

use super::catalogue::Known;
use super::fault::{Answered, Fault};
use crate::query::Catalog;
pub(super) use live::CONTENT_TYPE;
pub(super) use once::Wanted;
pub(super) use places::Kind;
use places::{Place, Places};

/// The limits of statements.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    pub(super) queries_max: usize,
    pub(super) live_queries_max: usize,
    pub(super) time_max: Duration,
    pub(super) memory_bytes_max: usize,
    /// How long a statement waits for the previous one on its connection to end. The statement of a client that has left ends soon.
    pub(super) patience: Duration,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            queries_max: 4,
            live_queries_max: 8,
            time_max: Duration::from_secs(30),
            memory_bytes_max: 256 << 20,
            patience: Duration::from_secs(2),
        }
    }
}

/// Runs statements.
#[derive(Debug)]
pub(super) struct Sql {
    rules: Rules,
    places: Arc<Places>,
    /// A catalog without tables, from which all others are made, so that they share the functions and the threads.
    empty: OnceLock<Catalog>,
}

/// The caller of a statement, and its streams.
pub(super) struct Session {
    /// The streams that statements may name.
    pub(super) streams: Vec<Arc<Known>>,
    pub(super) statement: String,
    /// Becomes true when the gateway ends.
    pub(super) ending: watch::Receiver<bool>,
    pub(super) place: Place,
}

impl Sql {
    pub(super) fn new(rules: Rules) -> Self {
        let places = Arc::new(Places::new(rules.queries_max, rules.live_queries_max, rules.patience));
        Self { rules, places, empty: OnceLock::new() }
    }

    /// Returns whether any statement may run.
    pub(super) fn is_on(&self) -> bool {
        self.rules.queries_max > 0
    }

    /// Takes a place for a statement of a connection.
    pub(super) fn enter(&self, kind: Kind, peer: SocketAddr) -> Answered<Place> {
        self.places.enter(kind, peer).map_err(|why| Fault::limit(why.to_string()))
    }

    /// Returns how long a query may run.
    pub(super) fn time_max(&self) -> Duration {
        self.rules.time_max
    }

    /// Starts no more statements, and waits for running ones to end.
    pub(super) fn end(&self, grace: Duration) {
        self.places.end(grace);
    }

    fn empty(&self) -> Catalog {
        let make = || Catalog::new().memory_limit(self.rules.memory_bytes_max);
        self.empty.get_or_init(make).clone()
    }
}
