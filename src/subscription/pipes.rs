//! The pipes of a stream: which subscription reads a shard for a consumer, and when another may take over.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::task::Waker;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use super::ticket::{End, Ticket};
use crate::{Error, Result, ShardId, Stream, extend};

/// A subscription is not taken over before this, as in Kinesis.
const TAKEN_OVER_AFTER: Duration = Duration::from_secs(5);

/// The pipes of a stream.
#[derive(Debug, Default)]
pub(super) struct Pipes {
    state: Mutex<BTreeMap<(String, ShardId), Pipe>>,
    is_attended: OnceLock<()>,
}

/// One consumer's way to one shard.
#[derive(Debug)]
struct Pipe {
    /// The ticket of the last subscription, which may be over.
    ticket: Arc<Ticket>,
    /// When that subscription began.
    begun: Duration,
}

impl Pipes {
    /// Returns the pipes of a stream. Its maintenance attends to them from the first call on.
    ///
    /// # Errors
    /// `Closed`, or `InvalidArgument` in a child made by `fork`.
    pub(super) fn of(stream: &Stream) -> Result<Arc<Self>> {
        extend::check_process(stream)?;
        if stream.is_closed() {
            return Err(Error::Closed);
        }
        let pipes = extend::extension::<Self>(stream);
        pipes.is_attended.get_or_init(|| {
            let pipes = Arc::downgrade(&pipes);
            extend::after_maintenance(stream, move |stream| {
                if let Some(pipes) = pipes.upgrade() {
                    pipes.attend(stream.clock().elapsed());
                }
            });
        });
        Ok(pipes)
    }

    /// Locks the pipes. Nobody registers or removes a consumer, or subscribes, meanwhile.
    pub(super) fn lock(&self) -> LockedPipes<'_> {
        LockedPipes { pipes: self.state.lock(), woken: Woken::default() }
    }

    /// Wakes the waiters that are due, and forgets pipes that have nothing to remember.
    fn attend(&self, now: Duration) {
        let mut locked = self.lock();
        locked.pipes.retain(|_, pipe| !pipe.ticket.is_forgettable(now));
        let due = locked.pipes.values().filter_map(|pipe| pipe.ticket.due(now)).collect();
        locked.woken = Woken(due);
    }
}

/// The locked pipes. Dropping this unlocks them, and then wakes those whose subscription has ended.
pub(super) struct LockedPipes<'a> {
    // Fields are dropped in this order: unlocked first, then woken.
    pipes: MutexGuard<'a, BTreeMap<(String, ShardId), Pipe>>,
    woken: Woken,
}

impl LockedPipes<'_> {
    /// Begins a subscription. One that has lasted for some seconds is taken over.
    pub(super) fn enter(&mut self, consumer: &str, shard: ShardId, now: Duration) -> Result<Arc<Ticket>> {
        let last = self.pipes.get(&(consumer.to_owned(), shard));
        if let Some(last) = last
            && last.ticket.end_of().is_none()
            && now.saturating_sub(last.begun) < TAKEN_OVER_AFTER
        {
            return Err(in_use(consumer, shard));
        }
        let ended = last.and_then(|last| last.ticket.end(End::TakenOver));
        self.woken.0.extend(ended);
        let ticket = Arc::new(Ticket::new(last.and_then(|last| last.ticket.bucket())));
        let pipe = Pipe { ticket: Arc::clone(&ticket), begun: now };
        self.pipes.insert((consumer.to_owned(), shard), pipe);
        Ok(ticket)
    }

    /// Ends all subscriptions of a consumer.
    pub(super) fn deregister(&mut self, consumer: &str) {
        let Self { pipes, woken } = self;
        pipes.retain(|(name, _), pipe| {
            if name == consumer {
                woken.0.extend(pipe.ticket.end(End::Deregistered));
            }
            name != consumer
        });
    }
}

/// Returns the error for a pipe that another subscription has.
pub(super) fn in_use(consumer: &str, shard: ShardId) -> Error {
    Error::ConsumerInUse { consumer: consumer.into(), shard }
}

/// Wakers that are woken when this is dropped.
#[derive(Default)]
struct Woken(Vec<Waker>);

impl Drop for Woken {
    fn drop(&mut self) {
        self.0.drain(..).for_each(Waker::wake);
    }
}
