//! Samples all open streams periodically, and adds the values to their histories.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};

use parking_lot::Mutex;

use super::history::{Behind, LOOK_EVERY, Reader};
use super::{Catalogue, Known};

/// A thread that fills the histories. It ends when this is dropped.
#[derive(Debug)]
pub(in crate::gateway) struct Recorder {
    /// The thread ends when the sender is gone.
    running: Mutex<Option<(Sender<()>, JoinHandle<()>)>>,
}

impl Recorder {
    pub(in crate::gateway) fn start(catalogue: Arc<Catalogue>) -> std::io::Result<Self> {
        let (sender, ended) = channel();
        let thread = thread::Builder::new().name("gateway-recorder".to_owned());
        let thread = thread.spawn(move || {
            while ended.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
                catalogue.record();
            }
        })?;
        Ok(Self { running: Mutex::new(Some((sender, thread))) })
    }

    /// Ends the thread.
    pub(in crate::gateway) fn end(&self) {
        if let Some((sender, thread)) = self.running.lock().take() {
            drop(sender);
            // It has nothing to return, and a panic was printed.
            let _ = thread.join();
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.end();
    }
}

impl Catalogue {
    /// Samples all open streams.
    pub(in crate::gateway) fn record(&self) {
        let all: Vec<_> = self.known.read().values().cloned().collect();
        all.iter().for_each(|known| known.record());
    }
}

impl Known {
    fn record(&self) {
        // A stream that is being closed needs no history any more.
        let Ok(stats) = self.stream.stats() else { return };
        let now = self.now();
        let wants_readers = {
            let mut history = self.history.lock();
            history.add(now, &stats);
            history.wants_readers(now)
        };
        if wants_readers {
            // This may read files, so nothing is locked meanwhile.
            let behind = self.readers_behind();
            self.history.lock().add_readers(now, &behind);
        }
    }

    /// Returns how far the consumers with subscriptions and the groups are behind. Readers that cannot be read now are left out.
    fn readers_behind(&self) -> BTreeMap<Reader, Behind> {
        let mut behind = BTreeMap::new();
        for (consumer, millis) in self.pipes.behind() {
            behind.insert(Reader::Consumer(consumer), Behind { millis: millis as f32, records: None });
        }
        for name in self.stream.groups().unwrap_or_default() {
            if let Ok(group) = self.stream.group(&*name).describe() {
                let lag = group.lag();
                let millis = lag.age.as_millis() as f32;
                behind.insert(Reader::Group(name), Behind { millis, records: Some(lag.record_count as f32) });
            }
        }
        behind
    }
}
