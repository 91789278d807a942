//! Where a processor's records come from: a stream of this machine, or elsewhere.
#![cfg_attr(
    not(any(feature = "relay-kafka", feature = "relay-kinesis")),
    allow(dead_code, reason = "only relays read elsewhere")
)]

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::ledger::Ledger;
use super::pool::Function;
use super::progress::Progress;
use super::stats::ProcessorStats;
use super::{Processor, ProcessorOptions};
use crate::{Clock, Error, Group, Position, Result, SequenceNumber, ShardId, Stream, StreamReader};

/// Where a processor's records come from. The same function runs on each source with the same settings. Only the line that creates the source
/// differs.
///
/// - [`stream`](Self::stream), [`reader`](Self::reader): a stream on this machine, in this process or in another one.
/// - `Source::kinesis` and `relay::KinesisSource`, with the feature `relay-kinesis`: a stream of Amazon Kinesis, whose shards several machines
///   share.
/// - `Source::kafka` and `relay::KafkaSource`, with the feature `relay-kafka`: a topic of Apache Kafka.
///
/// ```
/// # use std::sync::mpsc;
/// # use streamlog::{Processor, Result, Source, Stream};
/// # let directory = tempfile::tempdir()?;
/// fn start(source: &Source, sender: mpsc::Sender<usize>) -> Result<Processor> {
///     source.processor("count").start(move |invocation| sender.send(invocation.len()))
/// }
///
/// let stream = Stream::open(directory.path())?;
/// stream.put("user-17", "clicked")?;
/// let (sender, receiver) = mpsc::channel();
/// let processor = start(&Source::stream(&stream), sender)?;
/// assert_eq!(receiver.recv()?, 1);
/// processor.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Source {
    pub(super) kind: Kind,
}

#[derive(Debug, Clone)]
pub(super) enum Kind {
    /// It stays open as long as this or one of its processors exists.
    Stream(Stream),
    Reader(StreamReader),
    Elsewhere(Arc<dyn Elsewhere>),
}

impl Kind {
    /// Returns the reader of a stream of this machine.
    pub(super) fn reader(&self) -> Option<StreamReader> {
        match self {
            Self::Stream(stream) => Some((**stream).clone()),
            Self::Reader(reader) => Some(reader.clone()),
            Self::Elsewhere(_) => None,
        }
    }
}

impl Source {
    /// A stream that this process has open. It stays open as long as the source or one of its processors exists.
    pub fn stream(stream: &Stream) -> Self {
        Self { kind: Kind::Stream(stream.clone()) }
    }

    /// A stream that another process may have open.
    pub fn reader(reader: &StreamReader) -> Self {
        Self { kind: Kind::Reader(reader.clone()) }
    }

    /// Something that is no stream of this machine.
    pub(crate) fn elsewhere(elsewhere: impl Elsewhere + 'static) -> Self {
        Self { kind: Kind::Elsewhere(Arc::new(elsewhere)) }
    }

    /// Returns the settings of a processor, like [`Stream::processor`](crate::Stream::processor). For a remote source, the name is that of the
    /// application whose workers share the records.
    pub fn processor(&self, name: impl Into<String>) -> ProcessorOptions {
        ProcessorOptions::new(name.into(), self.kind.clone())
    }
}

impl From<&Stream> for Source {
    fn from(stream: &Stream) -> Self {
        Self::stream(stream)
    }
}

impl From<&StreamReader> for Source {
    fn from(reader: &StreamReader) -> Self {
        Self::reader(reader)
    }
}

/// A place of records that is no stream of this machine.
pub(crate) trait Elsewhere: fmt::Debug + Send + Sync {
    /// Starts a processor of the records there.
    fn start(&self, part: PartProcessor) -> Result<Box<dyn Running>>;
}

/// A processor of records from elsewhere, which runs.
pub(crate) trait Running: Send + Sync {
    /// Returns the name of what it reads.
    fn place(&self) -> &str;

    fn stats(&self) -> ProcessorStats;

    /// Returns whether it has ended by itself.
    fn is_over(&self) -> bool;

    /// Ends it. What is done is committed.
    fn close(&mut self) -> Result<()>;
}

/// The settings and the function of the processors of which one is started for each shard elsewhere. Each reads its shard through a **spool**: a
/// stream of one shard on this machine, into which the records from there are put.
#[derive(Clone)]
pub(crate) struct PartProcessor {
    pub(super) options: ProcessorOptions,
    pub(super) function: Arc<Function>,
}

impl fmt::Debug for PartProcessor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PartProcessor").field("options", &self.options).finish_non_exhaustive()
    }
}

/// The records of one shard elsewhere, and what belongs to them.
#[derive(Debug)]
pub(crate) struct Spool<'a> {
    /// Its clock shows how far arrivals there have come.
    pub(crate) stream: &'a Stream,
    /// The shard that the function sees as their origin.
    pub(crate) origin: ShardId,
    /// The time of the day.
    pub(crate) day: Arc<dyn Clock>,
    /// What a ledger has kept with the place in front of the first record.
    pub(crate) state: &'a [u8],
    /// That record is gone: another one comes first.
    pub(crate) has_gap: bool,
    /// The most bytes that the states of windows may have. Beyond that, the largest ends early.
    pub(crate) states_bytes_max: usize,
    pub(crate) ledger: Box<dyn Ledger>,
}

impl PartProcessor {
    /// Returns the name of the processor.
    pub(crate) fn name(&self) -> &str {
        &self.options.name
    }

    /// Returns where a new processor begins.
    pub(crate) fn start_at(&self) -> Position {
        self.options.start
    }

    /// Starts the processor of one spool, which is new.
    pub(crate) fn start(&self, spool: Spool<'_>) -> Result<Processor> {
        let mut options = self.options.clone();
        options.kind = Kind::Stream(spool.stream.clone());
        options.start = Position::TrimHorizon;
        options.rules.origin = Some(spool.origin);
        options.rules.states_bytes_max = options.rules.states_bytes_max.min(spool.states_bytes_max);
        let group = spool.stream.group(self.name());
        let state = match spool.has_gap {
            true => Progress::without_done(spool.state).into(),
            false => Cow::Borrowed(spool.state),
        };
        if !state.is_empty() {
            if Progress::decode(&state).is_none() {
                let reason = "the state beside the checkpoint is none of a processor's of this version";
                return Err(Error::InvalidArgument(reason.into()));
            }
            let mut worker = group.worker().open()?;
            // This only gets it the shard: the spool is empty.
            worker.poll(Duration::ZERO)?;
            for shard in worker.shards() {
                worker.commit_with_state(shard, SequenceNumber::ZERO, &state)?;
            }
        }
        let on =
            On { stream: (**spool.stream).clone(), group, day: Some(spool.day), ledger: Some(spool.ledger) };
        Processor::start_on(options, Arc::clone(&self.function), on)
    }
}

/// What a processor runs on.
pub(super) struct On {
    pub(super) stream: StreamReader,
    pub(super) group: Group,
    pub(super) day: Option<Arc<dyn Clock>>,
    pub(super) ledger: Option<Box<dyn Ledger>>,
}
