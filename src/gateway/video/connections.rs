//! Long-lived video connections: each has a thread, and their total number is limited.

use std::sync::Arc;
use std::thread;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::gateway::fault::{Answered, Fault};

/// How many connections there may be.
#[derive(Debug)]
pub(in crate::gateway) struct Connections {
    places: Arc<Semaphore>,
    max: usize,
}

/// The place of a connection. Dropping it frees the place.
#[derive(Debug)]
pub(in crate::gateway) struct Connection {
    place: OwnedSemaphorePermit,
}

impl Connections {
    pub(super) fn new(max: usize) -> Self {
        let max = max.min(Semaphore::MAX_PERMITS);
        Self { places: Arc::new(Semaphore::new(max)), max }
    }

    pub(in crate::gateway) fn open(&self) -> Answered<Connection> {
        let place = Arc::clone(&self.places).try_acquire_owned();
        let place = place.map_err(|_| {
            Fault::connection_limit(format!(
                "{} connections send or receive video, which are all that this server has.",
                self.max
            ))
        })?;
        Ok(Connection { place })
    }
}

impl Connection {
    /// Runs the work of the connection on a separate thread.
    pub(in crate::gateway) fn run(self, work: impl FnOnce() + Send + 'static) -> Answered<()> {
        let Self { place } = self;
        let work = move || {
            work();
            drop(place);
        };
        let started = thread::Builder::new().name("streamlog-video".to_owned()).spawn(work);
        started.map(drop).map_err(|failure| {
            tracing::error!(%failure, "no thread for a connection of video");
            Fault::internal()
        })
    }
}
