//! Looks at a queue that another process may have open.

use super::entry::Moment;
use super::handle::QueueRecord;
use super::history::History;
use super::open::id_of;
use super::options::{RECORDS_MAX, TIMEOUT_MAX};
use super::queues::{is_missing, streams_of};
use super::settings::Settings;
use super::shared::handle_of;
use super::source::Source;
use super::state::{Outstanding, Place, State};
use crate::{Error, Journal, Result, StreamReader, Timestamp, extend};

/// A queue as it would be if it were opened now.
pub(super) struct Seen {
    pub(super) created: Timestamp,
    pub(super) is_ordered: bool,
    pub(super) settings: Settings,
    pub(super) state: State,
}

pub(super) fn look(stream: &StreamReader, name: &str) -> Result<Seen> {
    extend::check_name("a queue", name)?;
    if stream.is_closed() {
        return Err(Error::Closed);
    }
    let looked = Journal::look(streams_of(stream), name, History::read).map_err(|error| match error {
        Error::NotAStream(_) => is_missing(name),
        error => error,
    });
    let (history, kept) = looked?;
    let (created, is_ordered) = history.begun.unwrap_or_default();
    let settings = Settings::kept(&kept);
    let moment = Moment::of(stream);
    let mut state = State::new(settings.rules());
    history.load(moment, TIMEOUT_MAX, &mut state);
    while !state.settle(moment.elapsed) {}
    Ok(Seen { created, is_ordered, settings, state })
}

impl StreamReader {
    /// Returns the first dead letters of a queue, including those in flight: up to `records_max`, 1 to 10,000. It delivers nothing and changes
    /// nothing, and another process may have the queue open.
    ///
    /// Their handles are valid for [`acknowledge`](crate::Queue::acknowledge) and [`restore`](crate::Queue::restore), until the dead letter is
    /// delivered, acknowledged or restored.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use streamlog::{Stream, StreamReader};
    /// # let directory = tempfile::tempdir()?;
    /// let stream = Stream::open(directory.path())?; // in one process
    /// let queue = stream.queue("jobs").max_receive_count(1).open()?;
    /// stream.put("job-17", "resize")?;
    /// let job = queue.receive(1, Duration::ZERO)?.remove(0);
    /// queue.release(&job.handle, Duration::ZERO)?; // once too often
    ///
    /// let reader = StreamReader::open(directory.path())?; // in another one
    /// let dead = reader.peek_dead_letters("jobs", 10)?.remove(0);
    /// assert_eq!((&*dead.record.data, dead.receive_count), (&b"resize"[..], 1));
    /// queue.restore(&dead.handle)?;
    /// assert!(reader.peek_dead_letters("jobs", 10)?.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidArgument` if the stream has no such queue, or for a number out of range; `Corrupt` if its journal or the log is damaged; `Closed`,
    /// `Io`.
    pub fn peek_dead_letters(&self, queue: &str, records_max: usize) -> Result<Vec<QueueRecord>> {
        extend::check_range("records_max", records_max, 1..=RECORDS_MAX)?;
        let Seen { created, mut state, .. } = look(self, queue)?;
        let id = id_of(queue, created);
        let is_dead = |(_, record): &(&Place, &Outstanding)| record.is_dead;
        let dead: Vec<_> =
            state.outstanding().iter().filter(is_dead).map(|(&place, &record)| (place, record)).collect();
        let (mut source, mut found) = (Source::new(self.clone()), vec![]);
        for (place, outstanding) in dead {
            if found.len() == records_max {
                break;
            }
            // Retention may have dropped it, or damage taken it.
            let Some(record) = source.record(place, &mut state)? else { continue };
            found.push(QueueRecord {
                record,
                shard: place.shard,
                handle: handle_of(id, place, &outstanding),
                receive_count: outstanding.receive_count,
                first_received: outstanding.first_received.unwrap_or_default(),
            });
        }
        Ok(found)
    }
}
