//! The gateway's queues of its streams: their settings and states, and the queues of the log behind them.

use std::collections::HashMap;
use std::sync::Arc;

use super::known::Changing;
use super::{Catalogue, Known, QueueSettings, Settings, Status};
use crate::gateway::fault::{Answered, Fault};
use crate::{Queue, QueueOptions, StreamReader, Timestamp};

/// The prefix of the names of the gateway's queues in the log. Queues that programs open themselves have other names, and the gateway does not touch
/// them.
const PREFIX: &str = "kinesis-";

/// The state of a stream's queues that is not in the settings.
#[derive(Debug, Default)]
pub(super) struct Queues {
    /// The queues of the log that are open, by id. One is opened when it is first used.
    open: HashMap<String, Queue>,
    /// When a queue was last changed, by id. A change is made immediately when it is requested, so nothing is lost if the server ends.
    updated: HashMap<String, Timestamp>,
    /// Queues that were deleted, by id, and when, until they are gone.
    deleted: HashMap<String, (QueueSettings, Timestamp)>,
}

/// A queue and its state.
#[derive(Debug, Clone)]
pub(in crate::gateway) struct QueueState {
    pub(in crate::gateway) id: String,
    pub(in crate::gateway) settings: QueueSettings,
    pub(in crate::gateway) status: Status,
}

fn name_in_log(id: &str) -> String {
    format!("{PREFIX}{id}")
}

impl Known {
    pub(in crate::gateway) fn queue_arn(&self, id: &str) -> String {
        self.behaviour.account.queue_arn(&self.name, id)
    }

    /// Returns the queues, with those that are being deleted.
    pub(in crate::gateway) fn queues(&self) -> Vec<QueueState> {
        let now = self.now();
        let mut queues = self.queues.lock();
        queues.deleted.retain(|_, (_, deleted_at)| self.is_shown(*deleted_at, now));
        queues.updated.retain(|_, updated_at| self.is_shown(*updated_at, now));
        let settings = self.settings();
        let ids = settings.queues.keys().chain(queues.deleted.keys());
        ids.filter_map(|id| self.state(id, &settings, &queues, now)).collect()
    }

    pub(in crate::gateway) fn queue(&self, id: &str) -> Answered<QueueState> {
        let (settings, now) = (self.settings(), self.now());
        self.state(id, &settings, &self.queues.lock(), now).ok_or_else(|| self.no_queue(id))
    }

    fn state(&self, id: &str, settings: &Settings, queues: &Queues, now: Timestamp) -> Option<QueueState> {
        let is_shown = |began: &Timestamp| self.is_shown(*began, now);
        let (settings, status) = match settings.queues.get(id) {
            Some(settings) if is_shown(&Timestamp::from_millis(settings.created)) => {
                (settings, Status::Creating)
            }
            Some(settings) if queues.updated.get(id).is_some_and(is_shown) => (settings, Status::Updating),
            Some(settings) => (settings, Status::Active),
            None => {
                let (settings, _) = queues.deleted.get(id).filter(|(_, deleted_at)| is_shown(deleted_at))?;
                (settings, Status::Deleting)
            }
        };
        Some(QueueState { id: id.to_owned(), settings: settings.clone(), status })
    }

    /// Returns the error of a queue that does not exist.
    pub(in crate::gateway) fn no_queue(&self, id: &str) -> Fault {
        no_queue(&self.queue_arn(id), self.account_id())
    }

    /// Returns the queue of the log that delivers a queue's records.
    pub(in crate::gateway) fn open_queue(&self, id: &str) -> Answered<Queue> {
        let mut queues = self.queues.lock();
        // Read while the queues are locked: a queue that has just been deleted must not come back.
        let settings = self.settings();
        let settings = settings.queues.get(id).ok_or_else(|| self.no_queue(id))?;
        if let Some(open) = queues.open.get(id) {
            return Ok(open.clone());
        }
        let queue = self.queue_options(id, settings).open().map_err(|error| self.failed(&error))?;
        queues.open.insert(id.to_owned(), queue.clone());
        Ok(queue)
    }

    fn queue_options(&self, id: &str, settings: &QueueSettings) -> QueueOptions {
        // Opened by a reader, so that callers that wait for records do not keep the stream open.
        StreamReader::queue(&self.stream, name_in_log(id))
            .max_receive_count(settings.receives_max)
            .start_at(settings.start.position())
    }

    /// Creates a queue, unless `check` fails.
    fn create_queue(&self, changing: &Changing<'_>, id: &str, settings: QueueSettings) -> Answered<()> {
        let queue = self.queue_options(id, &settings).open().map_err(|error| self.failed(&error))?;
        self.queues.lock().open.insert(id.to_owned(), queue);
        // A crash before this leaves a queue in the log, which the next start deletes.
        let kept = changing.set(|all| drop(all.queues.insert(id.to_owned(), settings)));
        kept.inspect_err(|_| self.delete_in_log(id))
    }

    /// Changes the settings of a queue that is active.
    pub(in crate::gateway) fn update_queue(
        &self,
        id: &str,
        change: impl FnOnce(&mut QueueSettings) -> Answered<()>,
    ) -> Answered<QueueState> {
        self.change_now(|changing| {
            let QueueState { mut settings, status, .. } = self.queue(id)?;
            if status != Status::Active {
                return Err(Fault::in_use(format!(
                    "Queue {} under account {} not ACTIVE, instead in state {}",
                    settings.name,
                    self.account_id(),
                    status.name()
                )));
            }
            change(&mut settings)?;
            let receives_max = settings.receives_max;
            changing.set(|all| drop(all.queues.insert(id.to_owned(), settings)))?;
            let mut queues = self.queues.lock();
            // One that is opened later is opened with the new settings.
            if let Some(open) = queues.open.get(id) {
                open.set_max_receive_count(receives_max).map_err(|error| self.failed(&error))?;
            }
            queues.updated.insert(id.to_owned(), changing.now);
            Ok(())
        })?;
        self.queue(id)
    }

    /// Deletes a queue. It is shown for a while longer. Deleting it again meanwhile changes nothing.
    pub(in crate::gateway) fn delete_queue(&self, id: &str) -> Answered<()> {
        self.change_now(|changing| {
            let QueueState { settings, status, .. } = self.queue(id)?;
            if status == Status::Deleting {
                return Ok(());
            }
            // Before the settings forget it, so that it is always visible.
            self.queues.lock().deleted.insert(id.to_owned(), (settings, changing.now));
            let kept = changing.set(|all| drop(all.queues.remove(id)));
            kept.inspect_err(|_| drop(self.queues.lock().deleted.remove(id)))?;
            self.delete_in_log(id);
            Ok(())
        })
    }

    /// Deletes a queue of the log, and ends all waits for its records.
    fn delete_in_log(&self, id: &str) {
        let mut queues = self.queues.lock();
        // An error of its journal no longer matters.
        let _ = queues.open.remove(id).map(Queue::close);
        if let Err(error) = self.stream.delete_queue(&name_in_log(id)) {
            tracing::warn!(%error, stream = self.name, id, "a queue is deleted when the stream is next opened");
        }
    }

    /// Deletes the queues of the log whose creation or deletion was interrupted.
    pub(super) fn delete_unknown_queues(&self) {
        // Queues that cannot be read now are not used either, and are deleted later.
        for name in self.stream.queues().unwrap_or_default() {
            if let Some(id) = name.strip_prefix(PREFIX)
                && !self.settings().queues.contains_key(id)
            {
                self.delete_in_log(id);
            }
        }
    }
}

impl Catalogue {
    /// Returns all queues with their streams, sorted by name.
    pub(in crate::gateway) fn queues(&self) -> Answered<Vec<(Arc<Known>, QueueState)>> {
        let mut queues = vec![];
        for name in self.names()? {
            // A stream that has just been deleted has none.
            let Ok(known) = self.stream(&name) else { continue };
            queues.extend(known.queues().into_iter().map(|queue| (Arc::clone(&known), queue)));
        }
        queues.sort_by(|(_, a), (_, b)| (&a.settings.name, &a.id).cmp(&(&b.settings.name, &b.id)));
        Ok(queues)
    }

    /// Creates a queue of a stream, unless `check` fails.
    pub(in crate::gateway) fn create_queue(
        &self,
        known: &Known,
        id: &str,
        settings: QueueSettings,
        check: impl FnOnce() -> Answered<()>,
    ) -> Answered<QueueState> {
        let _alone = self.queue_names.lock();
        if self.queues()?.iter().any(|(_, queue)| queue.settings.name == settings.name) {
            return Err(Fault::in_use(format!(
                "Queue {} under account {} already exists.",
                settings.name,
                known.account_id()
            )));
        }
        known.change_now(|changing| {
            known.check_active(changing.now)?;
            check()?;
            known.create_queue(changing, id, settings)
        })?;
        known.queue(id)
    }
}

/// Returns the error of a queue that does not exist.
pub(in crate::gateway) fn no_queue(arn: &str, account: &str) -> Fault {
    Fault::not_found(format!("Queue {arn} under account {account} not found."))
}
