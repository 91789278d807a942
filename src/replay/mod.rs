//! Replays: reading the records of a stream with their original spacing in time, or faster.

mod merge;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use merge::Merge;

use crate::{Clock, Error, OwnedRecord, Position, Result, ShardId, StreamReader, Timestamp};

/// The longest that a thread sleeps before it looks at the clock again.
const SLEEP_MAX: Duration = Duration::from_millis(100);

impl StreamReader {
    /// Returns the settings of a replay from a position on, which returns records with their original spacing in time.
    ///
    /// ```
    /// # use streamlog::{Position, Stream};
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// stream.put("user-17", "clicked")?;
    /// stream.put("user-4", "bought")?;
    ///
    /// // What happened in a day comes in an hour.
    /// for record in stream.replay(Position::TrimHorizon).speed(24.0).start()? {
    ///     let (shard, record) = record?;
    ///     println!("{shard} {} {:?}", record.timestamp, record.data);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn replay(&self, from: Position) -> ReplayOptions {
        ReplayOptions { reader: self.clone(), from, until: None, shard: None, speed: 1.0 }
    }
}

/// The settings of a [`Replay`]: see [`StreamReader::replay`].
#[derive(Debug, Clone)]
pub struct ReplayOptions {
    reader: StreamReader,
    from: Position,
    until: Option<Timestamp>,
    shard: Option<ShardId>,
    speed: f64,
}

impl ReplayOptions {
    /// Ends the replay before the first record that arrived at this time or later. By default it ends where the stream ended when the
    /// replay started. Later records are never replayed.
    pub fn until(mut self, until: Timestamp) -> Self {
        self.until = Some(until);
        self
    }

    /// Replays one shard, without its children. By default all shards are replayed, merged by the time of arrival.
    pub fn shard(mut self, shard: ShardId) -> Self {
        self.shard = Some(shard);
        self
    }

    /// Divides the time between records by this number. Default: 1. With `f64::INFINITY`, the replay does not wait.
    pub fn speed(mut self, speed: f64) -> Self {
        self.speed = speed;
        self
    }

    /// Starts the replay. This fixes the records to replay. The first one is due at the first call that reads.
    ///
    /// # Errors
    /// `InvalidArgument` if the speed is not above 0, if a position within one shard is used for all shards, or if the time of a position is in
    /// the future; `ShardNotFound`; otherwise as for [`StreamReader::iterator`].
    pub fn start(self) -> Result<Replay> {
        let is_above_zero = self.speed > 0.0; // Neither is one that is not a number.
        if !is_above_zero {
            let what = format!("the speed of a replay must be above 0, and is {}", self.speed);
            return Err(Error::InvalidArgument(what.into()));
        }
        let clock = Arc::clone(self.reader.clock());
        let merge = Merge::new(&self.reader, self.from, self.until, self.shard)?;
        Ok(Replay { merge, clock, speed: self.speed, began: None })
    }
}

/// A replay of the records of a stream. [`ReplayOptions::start`] returns it.
///
/// The first record is due at the first call. Each later record is due once the time between the arrivals of the two, divided by the speed, has
/// passed since then, by the stream's clock ([`Clock::elapsed`]). A program that falls behind gets records without a wait until it has caught
/// up.
///
/// Records come in the order of arrival. Those of one key come in the order of their puts, even if the clock jumped: a shard follows its
/// parents. Up to 100 records of each open shard, or 64 KiB, are read ahead.
///
/// As an iterator, it waits for each record and returns it with its shard. [`step`](Self::step) does not wait.
///
/// After an error, the next call tries again. It returns `Trimmed` if retention dropped records before the replay reached them:
/// [`skip_to_horizon`](Self::skip_to_horizon) to continue. `Lost` where records were lost to damage: [`skip_lost`](Self::skip_lost). `Corrupt`
/// where the log is damaged. `Closed` if the stream was closed or deleted.
pub struct Replay {
    merge: Merge,
    clock: Arc<dyn Clock>,
    speed: f64,
    /// When the first record had arrived, and when it was handed out by the clock's `elapsed`.
    began: Option<(Timestamp, Duration)>,
}

/// What comes next in a [`Replay`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplayStep {
    /// A record that is due, and its shard.
    Record(ShardId, OwnedRecord),
    /// The next record is due, or allowed by the stream's limits, after this time.
    Wait(Duration),
    /// The replay is complete.
    End,
}

impl Replay {
    /// Returns the next record if it is due, or else how long to wait for it. It never waits itself.
    ///
    /// # Errors
    /// See [`Replay`].
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use streamlog::{ManualClock, Position, ReplayStep, SECOND, StreamOptions, Timestamp};
    /// # let directory = tempfile::tempdir()?;
    /// let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_700_000_000_000)));
    /// let stream = StreamOptions::new().clock(clock.clone()).open(directory.path())?;
    /// stream.put("user-17", "first")?;
    /// clock.advance(10 * SECOND);
    /// stream.put("user-17", "second")?;
    ///
    /// let mut replay = stream.replay(Position::TrimHorizon).speed(5.0).start()?;
    /// assert!(matches!(replay.step()?, ReplayStep::Record(_, first) if first.data == "first"));
    /// assert_eq!(replay.step()?, ReplayStep::Wait(2 * SECOND));
    /// clock.advance(2 * SECOND);
    /// assert!(matches!(replay.step()?, ReplayStep::Record(_, second) if second.data == "second"));
    /// assert_eq!(replay.step()?, ReplayStep::End);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn step(&mut self) -> Result<ReplayStep> {
        let arrived = match self.merge.next_arrival() {
            Ok(Some(arrived)) => arrived,
            Ok(None) => return Ok(ReplayStep::End),
            Err(Error::Throttled { retry_after, .. }) => return Ok(ReplayStep::Wait(retry_after)),
            Err(error) => return Err(error),
        };
        let now = self.clock.elapsed();
        let (first, began) = *self.began.get_or_insert((arrived, now));
        // Down to whole microseconds, which is what a clock counts. The cast saturates.
        let micros = arrived.since(first).as_micros() as f64 / self.speed;
        let wait = began.saturating_add(Duration::from_micros(micros as u64)).saturating_sub(now);
        if !wait.is_zero() {
            return Ok(ReplayStep::Wait(wait));
        }
        let (shard, record) = self.merge.take();
        Ok(ReplayStep::Record(shard, record))
    }

    /// Skips to the trim horizon in all shards where retention has overtaken the replay. Returns the number of skipped records.
    pub fn skip_to_horizon(&mut self) -> u64 {
        self.merge.skip_to_horizon()
    }

    /// Skips lost records that a salvage has given up, in all shards where such records come next. Returns the number of skipped records.
    ///
    /// # Errors
    /// See [`Replay`].
    pub fn skip_lost(&mut self) -> Result<u64> {
        self.merge.skip_lost()
    }
}

/// Waits for each record.
impl Iterator for Replay {
    type Item = Result<(ShardId, OwnedRecord)>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.step() {
                Ok(ReplayStep::Record(shard, record)) => return Some(Ok((shard, record))),
                Ok(ReplayStep::Wait(time)) => std::thread::sleep(time.min(SLEEP_MAX)),
                Ok(ReplayStep::End) => return None,
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

impl fmt::Debug for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replay").field("speed", &self.speed).finish_non_exhaustive()
    }
}
