//! A subscription whose events a thread passes to a function.

use std::fmt;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::event::SubscriptionEvent;
use super::options::SubscriptionOptions;
use super::subscribed::Subscription;
use super::ticket::{End, Ticket};
use crate::{Error, IoFailure, Result, Stream, extend};

/// A subscription whose events go to a function. [`SubscriptionOptions::for_each`] returns it, and dropping it ends it.
pub struct PushedSubscription {
    stream: Stream,
    ticket: Arc<Ticket>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl fmt::Debug for PushedSubscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PushedSubscription").field("is_over", &self.is_over()).finish_non_exhaustive()
    }
}

impl SubscriptionOptions {
    /// Begins the subscription, and passes each event to a function: records as they arrive, heartbeats, and the end of the shard.
    ///
    /// The function runs on a thread of this subscription. While it runs, the next event waits, but no other subscription does. It may put,
    /// may close or drop the stream, and may drop this subscription. If it panics, the subscription ends.
    ///
    /// ```
    /// # use std::sync::mpsc;
    /// # use streamlog::{Position, Stream};
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// # let shard = stream.shards()[0].id;
    /// stream.register_consumer("dashboard")?;
    /// let (sender, receiver) = mpsc::channel();
    /// let pushed = stream.subscribe("dashboard", shard, Position::Latest).for_each(move |event| {
    ///     for record in event.batch() {
    ///         let _ = sender.send(record.data().to_vec());
    ///     }
    /// })?;
    /// stream.put("user-17", "clicked")?;
    /// assert_eq!(receiver.recv()?, b"clicked");
    /// pushed.close()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Same as [`open`](Self::open); `Io` if the system refuses a thread.
    pub fn for_each(
        self,
        on_event: impl FnMut(SubscriptionEvent) + Send + 'static,
    ) -> Result<PushedSubscription> {
        let stream = self.stream.clone();
        let subscription = self.open()?;
        let ticket = Arc::clone(&subscription.ticket);
        let spawned =
            thread::Builder::new().name("streamlog-push".into()).spawn(move || push(subscription, on_event));
        let failed =
            |source| IoFailure::new("start a thread of a subscription for", stream.describe().path, source);
        let thread = Some(spawned.map_err(failed)?);
        Ok(PushedSubscription { stream, ticket, thread })
    }
}

/// Passes on all events. Returns the error that ends them, if any.
fn push(mut subscription: Subscription, mut on_event: impl FnMut(SubscriptionEvent)) -> Result<()> {
    while let Some(event) = subscription.poll(Duration::MAX)? {
        if extend::run_callback(|| on_event(event)).is_none() {
            return Err(Error::InvalidArgument("the function of the subscription panicked".into()));
        }
    }
    Ok(())
}

impl PushedSubscription {
    /// Returns whether the subscription has ended.
    pub fn is_over(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Ends the subscription, and waits until its function has returned. Within a function that the library runs, it does not wait.
    ///
    /// # Errors
    /// The error that had ended the subscription, if any: the same as [`Subscription::poll`]; `InvalidArgument` if its function panicked.
    pub fn close(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        let Some(thread) = self.thread.take() else { return Ok(()) };
        if extend::check_process(&self.stream).is_err() {
            // A child made by fork does not have the thread.
            std::mem::forget(thread);
            return Ok(());
        }
        if let Some(waker) = self.ticket.end(End::Over) {
            waker.wake();
        }
        if extend::is_in_callback() {
            return Ok(());
        }
        // The thread does not panic: its only foreign code runs as a callback.
        thread.join().unwrap_or(Ok(()))
    }
}

impl Drop for PushedSubscription {
    fn drop(&mut self) {
        let _ = self.end();
    }
}
