//! Opening a queue, and creating it.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use parking_lot::Mutex;
use xxhash_rust::xxh3::xxh3_64;

use super::entry::Moment;
use super::history::{History, restated};
use super::options::{QueueOptions, TIMEOUT_MAX};
use super::put::Putting;
use super::queues;
use super::settings::Settings;
use super::shared::{InUse, Inner, Queue, Shared};
use super::source::{Source, begin_at};
use super::state::{Rules, State};
use crate::{
    Error, Journal, JournalOptions, Position, Result, SequenceNumber, StreamReader, Timestamp, extend,
};

/// Large enough that a fast queue does not create a file every few milliseconds.
const SEGMENT_BYTES: u64 = 4 << 20;
/// A journal that is longer is shortened when the queue is opened, so that it opens faster the next time.
const OPENED_BYTES_MAX: u64 = 16 << 10;

impl Queue {
    pub(super) fn open(options: QueueOptions) -> Result<Self> {
        let settings = Settings::of(&options);
        let stream = options.reader;
        let queues = queues::streams_of(&stream);
        // Checked before anything is created: a queue that cannot begin there must not exist afterwards.
        let rules = settings.rules();
        let is_known = queues.names()?.contains(&options.name);
        if !is_known {
            begin_at(&stream, options.start, &mut State::new(rules))?;
        }
        let journal_options = JournalOptions { segment_bytes: SEGMENT_BYTES, salvage: options.salvage };
        let (journal, history) =
            Journal::open(&stream, queues, &options.name, journal_options, History::read)?;
        let opened = Opened { stream: &stream, journal: &journal, rules, moment: Moment::of(&stream) };
        let loaded = opened.load(history, options.start, options.is_ordered);
        let (created, state) = loaded.inspect_err(|_| drop(journal.close()))?;
        let id = id_of(&options.name, created);
        let inner = Inner { state, source: Source::new(stream.clone()), journal, entries: vec![] };
        let shared = Shared {
            stream,
            putting: Putting::default(),
            name: options.name,
            id,
            created,
            settings,
            visibility_timeout: options.visibility_timeout,
            is_ordered: options.is_ordered,
            outstanding_max: options.outstanding_max,
            inner: Mutex::new(inner),
            waiting: Mutex::default(),
            next_waiter: AtomicU64::new(0),
        };
        // From here on, dropping it closes the journal.
        let queue = Self { shared: Arc::new(InUse { shared: Arc::new(shared), to_put: options.stream }) };
        queue.shared.begin_hold(options.hold)?;
        let inner = queue.shared.inner.lock();
        settings.keep(&inner.journal)?;
        inner.restate_if_long(created, options.is_ordered, queue.shared.moment(), OPENED_BYTES_MAX);
        let log = inner.journal.log().clone();
        drop(inner);
        queues::attend(&queue.shared.shared, &log);
        extend::add_companion(&queue.shared.stream, log)?;
        Ok(queue)
    }
}

/// Returns the first part of a queue's receipt handles.
pub(super) fn id_of(name: &str, created: Timestamp) -> u64 {
    xxh3_64(format!("{name} {}", created.as_micros()).as_bytes())
}

/// A queue whose journal was read.
struct Opened<'a> {
    stream: &'a StreamReader,
    journal: &'a Journal,
    rules: Rules,
    moment: Moment,
}

impl Opened<'_> {
    /// Returns when the queue was created, and its state.
    fn load(self, history: History, start: Position, is_ordered: bool) -> Result<(Timestamp, State)> {
        let mut state = State::new(self.rules);
        let (created, was_ordered) = match history.begun {
            Some(begun) => begun,
            None => {
                let log = self.journal.log();
                let end = log.iterator(log.shards()[0].id, Position::Latest)?.next_sequence();
                // Unless the queue is new, damage took what it knew.
                let start = if end > SequenceNumber::ZERO { Position::TrimHorizon } else { start };
                begin_at(self.stream, start, &mut state)?;
                (self.moment.time_of_day, is_ordered)
            }
        };
        if was_ordered != is_ordered {
            let (was, is) = if was_ordered { ("ordered by key", "not") } else { ("not ordered", "by key") };
            let reason =
                format!("the queue was created {was}, and is opened as {is}: its order cannot change");
            return Err(Error::InvalidArgument(reason.into()));
        }
        let must_restate = history.begun.is_none() || history.is_cut;
        let is_late = history.load(self.moment, TIMEOUT_MAX, &mut state);
        state.commit();
        if must_restate || is_late {
            let restated = self.journal.restate(restated(&state, created, is_ordered, self.moment));
            // After a cut, what is written from now on would not count at the next opening. So this has to succeed. Times that are too late would
            // only be corrected once more.
            if must_restate {
                restated?;
            }
        }
        Ok((created, state))
    }
}
