//! Work in the background: opens all streams, so that their records expire, and deletes streams at the end of their `DELETING` state.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::{Catalogue, Known};

/// How often the janitor checks whether it is time to delete a stream.
const ROUND: Duration = Duration::from_millis(50);

/// A thread that opens and deletes streams.
#[derive(Debug)]
pub(in crate::gateway) struct Janitor {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Streams to delete, in the order of their times.
    deleting: VecDeque<Arc<Known>>,
    is_ended: bool,
}

impl Janitor {
    pub(in crate::gateway) fn start(catalogue: Arc<Catalogue>) -> std::io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let work = Arc::clone(&shared);
        let thread = thread::Builder::new().name("gateway-janitor".to_owned());
        let thread = thread.spawn(move || {
            work.open_all(&catalogue);
            work.delete_all(&catalogue);
        })?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)) })
    }

    /// Deletes a stream at the end of its `DELETING` state.
    pub(in crate::gateway) fn delete(&self, known: Arc<Known>) {
        self.shared.state.lock().deleting.push_back(known);
        self.shared.changed.notify_one();
    }

    /// Ends the thread. What is not deleted yet is deleted after the next start.
    pub(in crate::gateway) fn end(&self) {
        self.shared.state.lock().is_ended = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.lock().take() {
            // It has nothing to return, and a panic was printed.
            let _ = thread.join();
        }
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        self.end();
    }
}

impl Shared {
    fn open_all(&self, catalogue: &Catalogue) {
        // An error has been logged, and the next request will get it again.
        for name in catalogue.names().unwrap_or_default() {
            if self.state.lock().is_ended {
                return;
            }
            // This also deletes streams whose deletion was interrupted.
            let _ = catalogue.stream(&name);
        }
    }

    fn delete_all(&self, catalogue: &Catalogue) {
        let mut state = self.state.lock();
        while !state.is_ended {
            match state.deleting.front() {
                None => self.changed.wait(&mut state),
                Some(known) if known.is_gone(known.now()) => {
                    let known = state.deleting.pop_front();
                    parking_lot::MutexGuard::unlocked(&mut state, || {
                        // A deletion that fails is retried when the stream is next requested.
                        let _ = known.map(|known| catalogue.finish_deleting(&known));
                    });
                }
                Some(_) => drop(self.changed.wait_for(&mut state, ROUND)),
            }
        }
    }
}
