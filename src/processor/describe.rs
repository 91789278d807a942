//! The description of a processor, as any process sees it.

use super::part::OpenWindow;
use super::progress::{LaneProgress, Progress};
use crate::{Error, GroupShard, Lag, Result, SequenceNumber, ShardId, StreamReader, Timestamp, extend};

/// The layer that a processor's group names.
pub(super) const LAYER: &str = "processor";

/// How far a processor is, according to its last commit. [`StreamReader::describe_processor`] returns it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct ProcessorDescription {
    /// The name of the processor and of its consumer group.
    pub name: String,
    /// The time of the last commit. Starting the processor may count as one.
    pub committed_at: Timestamp,
    /// One entry for each unfinished shard, in the order in which the shards were created.
    pub shards: Vec<ProcessorShard>,
}

/// How far a processor is in one shard.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct ProcessorShard {
    /// The shard.
    pub shard: ShardId,
    /// All records below this sequence number are done.
    pub next_sequence: SequenceNumber,
    /// The records that are not done, or done but not committed. Its age roughly matches Lambda's iterator age. Records that other lanes have
    /// already done are included.
    pub lag: Lag,
    /// Windows by [event time](crate::ProcessorOptions::event_time) that end by this time are over, unless records come late. `None` without event
    /// time.
    pub watermark: Option<Timestamp>,
    /// The lanes. Empty if all lanes are equally far and none has had a window, or if the shard has just begun.
    pub lanes: Vec<ProcessorLane>,
}

/// How far one lane of a processor is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct ProcessorLane {
    /// All records of the lane below this sequence number are done.
    pub next_sequence: SequenceNumber,
    /// The windows that have begun and whose last call is not done.
    pub windows: Vec<ProcessorWindow>,
}

/// A tumbling window that has begun.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct ProcessorWindow {
    /// When the window begins.
    pub start: Timestamp,
    /// When the window ends.
    pub end: Timestamp,
    /// No more records belong to the window, and only its last call is left.
    pub is_over: bool,
    /// The size of the window's state.
    pub state_bytes: usize,
}

impl ProcessorDescription {
    /// Returns the lag, summed over all shards.
    pub fn lag(&self) -> Lag {
        self.shards.iter().fold(Lag::default(), |sum, shard| sum.plus(shard.lag))
    }

    /// Returns the lowest watermark of all shards that have one.
    pub fn watermark(&self) -> Option<Timestamp> {
        self.shards.iter().filter_map(|shard| shard.watermark).min()
    }

    /// Returns the windows that have begun, in all lanes of all shards.
    pub fn windows(&self) -> impl Iterator<Item = &ProcessorWindow> {
        self.shards.iter().flat_map(|shard| &shard.lanes).flat_map(|lane| &lane.windows)
    }
}

impl StreamReader {
    /// Returns the names of the stream's processors, in order. It includes every processor that was ever started, until its
    /// [group](StreamReader::group) is deleted.
    ///
    /// ```
    /// # use streamlog::Stream;
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// let processor = stream.processor("audit").start(|_| ())?;
    /// let worker = stream.group("billing").worker().open()?;
    /// assert_eq!(stream.processors()?, ["audit"]);
    /// assert_eq!(stream.groups()?, ["audit", "billing"]);
    /// # processor.close()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `Corrupt` if the settings of a group are damaged; `Io`.
    pub fn processors(&self) -> Result<Vec<String>> {
        let mut names = vec![];
        for name in self.groups()? {
            if self.group(&name).reader()?.as_deref() == Some(LAYER) {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// Describes a processor by its last commit. It works in any process, and also while no process runs the processor. For the calls that run now,
    /// see [`Processor::stats`](crate::Processor::stats) in the process that runs it.
    ///
    /// ```
    /// # use streamlog::{Stream, StreamReader};
    /// # let directory = tempfile::tempdir()?;
    /// let stream = Stream::open(directory.path())?; // in one process
    /// let processor = stream.processor("audit").start(|_| Err::<(), _>("not yet"))?;
    /// stream.put("user-17", "clicked")?;
    ///
    /// let reader = StreamReader::open(directory.path())?; // in another one
    /// assert_eq!(reader.describe_processor("audit")?.lag().record_count, 1);
    /// # processor.close()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidArgument` if the stream has no such processor; `Corrupt` if its checkpoints are damaged; `Closed`, `Io`.
    pub fn describe_processor(&self, name: &str) -> Result<ProcessorDescription> {
        extend::check_name("a processor", name)?;
        let is_missing = || Error::InvalidArgument(format!("the stream has no processor {name:?}").into());
        let committed = match self.group(name).committed() {
            Ok(committed) if committed.reader.as_deref() == Some(LAYER) => committed,
            // The name is valid, so there is no such group.
            Ok(_) | Err(Error::InvalidArgument(_)) => return Err(is_missing()),
            Err(error) => return Err(error),
        };
        let shards = committed.shards.into_iter().map(|shard| {
            let state = committed.states.get(&shard.shard);
            describe(shard, state.and_then(|state| Progress::decode(state)))
        });
        Ok(ProcessorDescription {
            name: name.to_owned(),
            committed_at: committed.written_at.unwrap_or_default(),
            shards: shards.collect(),
        })
    }
}

fn describe(shard: GroupShard, progress: Option<Progress>) -> ProcessorShard {
    let GroupShard { shard, next_sequence, lag, .. } = shard;
    let Progress { watermark, lanes, .. } = progress.unwrap_or_default();
    let watermark = Some(watermark).filter(|&watermark| watermark > Timestamp::default());
    ProcessorShard {
        shard,
        next_sequence,
        lag,
        watermark,
        lanes: lanes.into_iter().map(describe_lane).collect(),
    }
}

fn describe_lane(lane: LaneProgress) -> ProcessorLane {
    let describe_window = |window: &OpenWindow| ProcessorWindow {
        start: window.span.start,
        end: window.span.end,
        is_over: window.is_over,
        state_bytes: window.state.len(),
    };
    let windows = lane.windows.open().iter().map(describe_window).collect();
    ProcessorLane { next_sequence: lane.done, windows }
}
