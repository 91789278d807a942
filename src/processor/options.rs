//! How to set up a processor.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::discarded::Destination;
use super::event_time::{EventTime, TimeOf};
use super::invocation::{Invocation, Response};
use super::pool::{Caller, Function};
use super::rules::Rules;
use super::seen::Clocks;
use super::source::Kind;
use super::stats::ProcessorStats;
use super::{Processor, dry_run};
use crate::extend::check_range;
use crate::{
    Error, Filter, Group, MINUTE, OnTrimmed, Position, Record, Result, SECOND, Stream, StreamReader,
    Timestamp, WorkerOptions,
};

const BATCH_SIZE_MAX: usize = 10_000;
const BATCH_BYTES_MAX: usize = 1 << 30;
const BATCHING_WINDOW_MAX: Duration = Duration::from_secs(300);
const LANES_MAX: usize = 10;
const RETRIES_MAX: u32 = 10_000;
const RECORD_AGE_MIN: Duration = Duration::from_secs(60);
const RECORD_AGE_MAX: Duration = Duration::from_secs(604_800);
const TUMBLING_WINDOW_MAX: Duration = Duration::from_secs(900);
/// Lambda has no windows by event time, and so no limit for them.
const EVENT_TIME_WINDOW_MAX: Duration = Duration::from_secs(86_400);
/// How many windows may be open in a lane at the same time, give or take two.
const OPEN_WINDOWS_MAX: u32 = 1_000;
const IDLE_TIMEOUT_MAX: Duration = Duration::from_secs(604_800);
const CONCURRENCY_MAX: usize = 1_024;
/// Room for the states of all lanes of a shard, in what a commit can hold.
const STATES_BYTES_MAX: usize = 990_000;

/// The settings of a [`Processor`]. [`Stream::processor`] returns them, and [`start`](Self::start) or [`start_with_state`](Self::start_with_state)
/// starts the processor. Names, ranges and defaults are those of an AWS Lambda event source mapping, unless stated otherwise.
///
/// ```
/// # use std::time::Duration;
/// # use streamlog::Stream;
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path())?;
/// let processor = stream
///     .processor("fraud")
///     .batch_size(500)
///     .maximum_batching_window(Duration::from_secs(1))
///     .parallelization_factor(4)
///     .maximum_retry_attempts(3)
///     .bisect_batch_on_function_error(true)
///     .start(|invocation| println!("{} records", invocation.len()))?;
/// processor.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
#[must_use]
pub struct ProcessorOptions {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) start: Position,
    pub(super) rules: Rules,
    time_of: Option<Arc<TimeOf>>,
    allowed_lateness: Option<Duration>,
    idle_timeout: Option<Duration>,
    pub(super) concurrency: usize,
    pub(super) destination: Option<Destination>,
    hold: Option<Option<u64>>,
}

impl fmt::Debug for ProcessorOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessorOptions")
            .field("name", &self.name)
            .field("rules", &self.rules())
            .field("concurrency", &self.concurrency)
            .finish_non_exhaustive()
    }
}

impl Stream {
    /// Returns the settings of a processor, which calls a function with the stream's records, in batches. The processor reads as the
    /// [consumer group](Self::group) of this name.
    ///
    /// ```
    /// # use streamlog::Stream;
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// let processor = stream.processor("audit").start(|invocation| println!("{} records", invocation.len()))?;
    /// processor.close()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn processor(&self, name: impl Into<String>) -> ProcessorOptions {
        ProcessorOptions::new(name.into(), Kind::Stream(self.clone()))
    }
}

impl StreamReader {
    /// Returns the settings of a processor, like [`Stream::processor`]. The processor may run in another process than the one that has the stream
    /// open. Only one process at a time can have a processor's group open.
    pub fn processor(&self, name: impl Into<String>) -> ProcessorOptions {
        ProcessorOptions::new(name.into(), Kind::Reader(self.clone()))
    }
}

impl ProcessorOptions {
    pub(super) fn new(name: String, kind: Kind) -> Self {
        let rules = Rules {
            batch_records: 100,
            batch_bytes: 6 << 20,
            batching_window: Duration::ZERO,
            lanes: 1,
            retries: None,
            bisect: false,
            record_age_max: None,
            first_pause: Duration::from_millis(100),
            longest_pause: MINUTE,
            time_limit: Some(5 * MINUTE),
            tumbling_window: None,
            event_time: None,
            has_destination: false,
            filter: None,
            states_bytes_max: STATES_BYTES_MAX,
            origin: None,
            commits_each: false,
        };
        Self {
            name,
            kind,
            start: Position::TrimHorizon,
            rules,
            time_of: None,
            allowed_lateness: None,
            idle_timeout: None,
            concurrency: 64,
            destination: None,
            hold: None,
        }
    }

    /// Sets the largest number of records in a batch: 1 to 10,000. Default: 100.
    pub fn batch_size(mut self, records: usize) -> Self {
        self.rules.batch_records = records;
        self
    }

    /// Sets the largest number of bytes in a batch, counting keys, data and headers: 1 to 1 GiB. A larger record is a batch of its own. Default: 6
    /// MiB, Lambda's limit.
    ///
    /// Each lane buffers up to twice this many bytes, and up to 16 batches. It reads the rest again later.
    pub fn batch_bytes(mut self, bytes: usize) -> Self {
        self.rules.batch_bytes = bytes;
        self
    }

    /// Sets how long to wait for a batch to fill up, counted from its first record: up to 300 seconds. Default: zero, so the function gets whatever
    /// is available.
    pub fn maximum_batching_window(mut self, window: Duration) -> Self {
        self.rules.batching_window = window;
        self
    }

    /// Sets where a new processor begins: `TrimHorizon`, `Latest` or `AtTimestamp`. An existing processor continues where it was. Default:
    /// `TrimHorizon`; Lambda has no default.
    pub fn starting_position(mut self, position: Position) -> Self {
        self.start = position;
        self
    }

    /// Sets how many batches of a shard are in work at the same time: 1 to 10 *lanes*. All records of a key go to one lane, which keeps them in
    /// order. A lane that fails blocks only its own keys. Default: 1.
    ///
    /// After a change of this number, each shard switches once all records that were read from it are done and no window is open.
    pub fn parallelization_factor(mut self, lanes: usize) -> Self {
        self.rules.lanes = lanes;
        self
    }

    /// Sets how often a batch is retried before it is given up: 0 to 10,000, or `None` for no limit. Default: `None`.
    ///
    /// Between attempts, the lane waits: see [`backoff`](Self::backoff).
    pub fn maximum_retry_attempts(mut self, retries: impl Into<Option<u32>>) -> Self {
        self.rules.retries = retries.into();
        self
    }

    /// Sets whether a failed batch is split into halves, which are tried one after the other. Repeated splits isolate the records that always fail,
    /// and the others succeed. A split does not use up a retry. Default: no.
    pub fn bisect_batch_on_function_error(mut self, bisect: bool) -> Self {
        self.rules.bisect = bisect;
        self
    }

    /// Sets the age beyond which records are given up without a call: 60 seconds to 7 days, or `None`. Default: `None`.
    pub fn maximum_record_age(mut self, age: impl Into<Option<Duration>>) -> Self {
        self.rules.record_age_max = age.into();
        self
    }

    /// Sets how long a lane waits after a failure: the first pause and the longest. Each pause is twice the previous one, until a batch succeeds or
    /// is given up. Default: 100 ms and a minute. (Lambda documents no values.)
    pub fn backoff(mut self, first: Duration, most: Duration) -> Self {
        (self.rules.first_pause, self.rules.longest_pause) = (first, most);
        self
    }

    /// Sets how long a call may take, or `None` for no limit. After that, the call counts as failed, its result is ignored, and its thread takes no
    /// other calls until it returns. Default: 5 minutes.
    pub fn time_limit(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.rules.time_limit = limit.into();
        self
    }

    /// Sets how many calls run at the same time, over all shards and lanes: 1 to 1,024. Each runs on its own thread, which is started when it is
    /// first needed. Default: 64.
    pub fn concurrency(mut self, calls: usize) -> Self {
        self.concurrency = calls;
        self
    }

    /// Sets the destination for reports of records that are given up. Without one, they are only [counted](ProcessorStats::discarded).
    pub fn on_failure(mut self, destination: Destination) -> Self {
        self.destination = Some(destination);
        self
    }

    /// Sets a filter. The function gets only the records that match, and the others count as done. Default: none.
    pub fn filter(mut self, filter: Filter) -> Self {
        self.rules.filter = Some(filter);
        self
    }

    /// Sets the length of the function's tumbling windows: up to 900 seconds. Windows are aligned to the epoch and follow one another without a gap.
    /// A record belongs to the window in which it arrived or, with [`event_time`](Self::event_time), in which its event happened. A batch has
    /// records of one window only.
    ///
    /// Each lane of a shard has a state for its window, which the function gets and returns. One record commits the state together with the position
    /// in the shard, so each record counts in its window exactly once, also after a crash. When the window's time is over and all of its records are
    /// done, the function is called a last time, with [`is_final`](super::Window::is_final) and without records. Then the state is deleted. After a
    /// crash, this last call may be repeated, with the same state. (If the window ended early, with more or fewer of its records.)
    ///
    /// A window ends early when its shard ends, or when the state exceeds 990,000 bytes divided by the number of lanes.
    pub fn tumbling_window(mut self, length: Duration) -> Self {
        self.rules.tumbling_window = Some(length).filter(|length| !length.is_zero());
        self
    }

    /// Puts records into windows by **event time**. The function returns when the event of a record happened, for example from a time in the
    /// record's data. It must always return the same time for the same record. Windows may then be up to a day long.
    ///
    /// Events arrive late and out of order, so a lane may have several windows open, each with its own state. The **watermark** of a shard is the
    /// highest event time so far, less the [allowed lateness](Self::allowed_lateness). A window ends when the watermark reaches its end, when its
    /// shard is idle for the [idle timeout](Self::idle_timeout), or when its shard ends.
    ///
    /// - A record is **late** if its window has ended. It is given up without a call: the [destination](Self::on_failure) gets it with the reason
    ///   [`AllowedLatenessExceeded`](super::DiscardReason::AllowedLatenessExceeded), and [`late`](ProcessorStats::late) counts it. Only the log, the
    ///   settings and the idle timeout decide which records are late. A slow function or a restart makes no record late.
    /// - A record is given up as [`EventTimeUnknown`](super::DiscardReason::EventTimeUnknown) if this function fails or panics, or if its time is
    ///   more than an hour after the record's arrival: one wrong clock would otherwise make all other records late.
    /// - The function gets the records of a batch window by window, the earliest window first. Within a window, the records of a key are in order.
    ///   Retries, bisecting and partial failures apply to the records of one window. A batch is committed once all its windows are done.
    /// - All [lanes](Self::parallelization_factor) of a shard share its watermark. Each lane has its own states, so a window ends once for each lane
    ///   that has records of it.
    /// - When a shard is split or merged, its windows end with it, regardless of the watermark. Its children begin without windows and without a
    ///   watermark. So the same window may end in the parent and again in its children, with the events that arrived there: add up the results.
    /// - Records that the filter drops do not move the watermark, and this function does not get them.
    /// - If the states of a lane's open windows together exceed the limit of [`tumbling_window`](Self::tumbling_window), the window with the largest
    ///   state ends early.
    ///
    /// The function runs on the thread that reads, so it should be fast.
    ///
    /// ```
    /// # use std::sync::mpsc;
    /// # use streamlog::{MINUTE, SECOND, Stream, Timestamp};
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// # let (sender, receiver) = mpsc::channel();
    /// let processor = stream
    ///     .processor("per-minute")
    ///     .tumbling_window(MINUTE)
    ///     .event_time(|record| {
    ///         let millis = std::str::from_utf8(record.data()).map_err(|error| error.to_string())?;
    ///         millis.parse().map(Timestamp::from_millis).map_err(|error| error.to_string())
    ///     })
    ///     .allowed_lateness(10 * SECOND)
    ///     .start_with_state(move |invocation, count: &mut u64| {
    ///         *count += invocation.len() as u64;
    ///         if let Some(window) = invocation.window().filter(|window| window.is_final) {
    ///             sender.send((window.start.as_millis(), *count)).expect("somebody listens");
    ///         }
    ///     })?;
    /// // The third is out of order and in time. The fourth takes the watermark to 60,000, which ends the first window.
    /// for millis in ["30000", "65000", "59000", "70000"] {
    ///     stream.put("sensor-17", millis)?;
    /// }
    /// assert_eq!(receiver.recv()?, (0, 2));
    /// processor.close()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn event_time<E: fmt::Display>(
        mut self,
        time_of: impl Fn(&Record<'_>) -> Result<Timestamp, E> + Send + Sync + 'static,
    ) -> Self {
        self.time_of = Some(Arc::new(move |record| time_of(record).map_err(|error| error.to_string())));
        self
    }

    /// Sets how far the watermark stays behind the highest [event time](Self::event_time): up to 1,000 windows. Events that are out of order by
    /// less than this are in time. Default: zero.
    ///
    /// Flink calls this bounded out-of-orderness, and Kafka Streams the grace period. A lane has at most as many open windows as fit into this time,
    /// plus two. Each commit writes all of their states.
    pub fn allowed_lateness(mut self, lateness: Duration) -> Self {
        self.allowed_lateness = Some(lateness);
        self
    }

    /// Sets how long a shard may be idle before its windows by [event time](Self::event_time) end: 1 second to 7 days. Records of these windows that
    /// arrive afterwards are late. Default: the length of a window plus the [allowed lateness](Self::allowed_lateness), because live events would
    /// have ended the windows within that time.
    ///
    /// A shard is idle while it has been read to its end and no record with an event time arrives. The idle time is measured by the stream's clock
    /// and starts again when the processor is started.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = Some(timeout);
        self
    }

    /// Makes retention keep up to this many bytes for the processor's group, like [`WorkerOptions::hold`]. `None` ends an earlier hold.
    pub fn hold(mut self, bytes_max: impl Into<Option<u64>>) -> Self {
        self.hold = Some(bytes_max.into());
        self
    }

    /// Makes a lane continue only once its work is committed, so that a crash repeats at most one batch of each lane. Otherwise commits come when
    /// there is time.
    #[cfg(any(feature = "relay-kafka", feature = "relay-kinesis"))]
    pub(crate) fn commit_each_batch(mut self) -> Self {
        self.rules.commits_each = true;
        self
    }

    /// Starts the processor. Its threads call the function with batches, until the processor is closed or dropped, or its stream is closed.
    ///
    /// The function returns `()`, a `Result` or a [`Response`]. A panic counts as a failure. With several shards or lanes, it runs on several
    /// threads at the same time. It may put records, and may close the stream or the processor.
    ///
    /// # Durability
    /// The function gets every record **at least once**. Commits, with the durability of [`Worker::commit`](crate::Worker::commit), cover all
    /// records before the first one that is not done. With several lanes, the position of each lane is committed as well, so only records that were
    /// in work are processed again after a restart.
    ///
    /// # Errors
    /// `InvalidArgument` for a setting out of range; otherwise the same as [`WorkerOptions::open`].
    pub fn start<R: Into<Response>>(
        self,
        function: impl Fn(&Invocation) -> R + Send + Sync + 'static,
    ) -> Result<Processor> {
        self.check()?;
        Processor::start(self, Arc::new(move |invocation| function(invocation).into()))
    }

    /// Starts the processor like [`start`](Self::start), for a function with a state of its own type, which is stored as JSON. A window begins with
    /// the default value of that type. If the function fails, its changes to the state are discarded.
    ///
    /// ```
    /// # use std::sync::mpsc;
    /// # use streamlog::{MINUTE, ManualClock, Stream, StreamOptions, Timestamp};
    /// # let directory = tempfile::tempdir()?;
    /// # let clock = std::sync::Arc::new(ManualClock::new(Timestamp::from_millis(1_700_000_000_000)));
    /// # let stream = StreamOptions::new().clock(clock.clone()).open(directory.path())?;
    /// stream.put("user-17", "clicked")?;
    /// stream.put("user-4", "clicked")?;
    /// let (sender, receiver) = mpsc::channel();
    /// let processor = stream.processor("count").tumbling_window(MINUTE).start_with_state(move |invocation, count: &mut u64| {
    ///     *count += invocation.len() as u64;
    ///     if invocation.window().is_some_and(|window| window.is_final) {
    ///         sender.send(*count).expect("somebody listens");
    ///     }
    /// })?;
    /// clock.advance(MINUTE); // or wait
    /// assert_eq!(receiver.recv()?, 2);
    /// processor.close()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Same as [`start`](Self::start); `InvalidArgument` without a [`tumbling_window`](Self::tumbling_window).
    pub fn start_with_state<S, R>(
        self,
        function: impl Fn(&Invocation, &mut S) -> R + Send + Sync + 'static,
    ) -> Result<Processor>
    where
        S: Default + Serialize + DeserializeOwned,
        R: Into<Response>,
    {
        self.check()?;
        let function = self.function_with_state(function)?;
        Processor::start(self, function)
    }

    /// Calls the function with a part of the log: all records from [`starting_position`](Self::starting_position) on that arrived before `until` or,
    /// without it, that are there now. It waits until they are done. It commits nothing and does not affect a running processor of this name.
    ///
    /// Use it to try a new version of a function on old records. Batches, lanes, retries, filters, windows and the destination work as with
    /// [`start`](Self::start), but all calls run one after the other on this thread, shard by shard, and nothing waits for the clock. So there are
    /// no pauses, time limits, batching windows, idle timeouts or maximum ages. Unlimited retries mean no retries. At the end of each shard's part,
    /// its windows end.
    ///
    /// ```
    /// # use streamlog::Stream;
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// stream.put("user-17", "17")?;
    /// stream.put("user-4", "four")?;
    /// let tried = stream.processor("parse").batch_size(1).dry_run(None, |invocation| {
    ///     for record in invocation.records() {
    ///         std::str::from_utf8(record.data())?.parse::<u32>()?;
    ///     }
    ///     Ok::<_, Box<dyn std::error::Error>>(())
    /// })?;
    /// assert_eq!((tried.records, tried.discarded), (1, 1));
    /// assert!(stream.groups()?.is_empty(), "nothing was committed");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidArgument` for a setting out of range; otherwise the same as [`StreamReader::iterator`].
    pub fn dry_run<R: Into<Response>>(
        self,
        until: impl Into<Option<Timestamp>>,
        function: impl Fn(&Invocation) -> R + Send + Sync + 'static,
    ) -> Result<ProcessorStats> {
        self.check()?;
        self.run_dry(until.into(), Arc::new(move |invocation| function(invocation).into()))
    }

    /// Does a [`dry_run`](Self::dry_run) of a function with a state, like that of [`start_with_state`](Self::start_with_state).
    ///
    /// # Errors
    /// Same as `dry_run`; `InvalidArgument` without a [`tumbling_window`](Self::tumbling_window).
    pub fn dry_run_with_state<S, R>(
        self,
        until: impl Into<Option<Timestamp>>,
        function: impl Fn(&Invocation, &mut S) -> R + Send + Sync + 'static,
    ) -> Result<ProcessorStats>
    where
        S: Default + Serialize + DeserializeOwned,
        R: Into<Response>,
    {
        self.check()?;
        let function = self.function_with_state(function)?;
        self.run_dry(until.into(), function)
    }

    fn run_dry(self, until: Option<Timestamp>, function: Arc<Function>) -> Result<ProcessorStats> {
        let rules = self.rules();
        let Some(stream) = self.kind.reader() else {
            return Err(Error::InvalidArgument(
                "a dry run reads a stream of this machine: mirror the source into one first".into(),
            ));
        };
        let clocks = Clocks { stream, day: None };
        let caller = Caller { clocks, function, destination: self.destination };
        dry_run::run(&caller, rules, self.start, until)
    }

    /// Wraps a function so that the state is read for it, and written afterwards.
    fn function_with_state<S, R>(
        &self,
        function: impl Fn(&Invocation, &mut S) -> R + Send + Sync + 'static,
    ) -> Result<Arc<Function>>
    where
        S: Default + Serialize + DeserializeOwned,
        R: Into<Response>,
    {
        if self.rules.tumbling_window.is_none() {
            return Err(Error::InvalidArgument(
                "a state lasts as long as a window: set a tumbling_window".into(),
            ));
        }
        Ok(Arc::new(move |invocation| {
            let mut state = match invocation.state() {
                [] => S::default(),
                state => match serde_json::from_slice(state) {
                    Ok(state) => state,
                    Err(error) => {
                        return Response::failed(format!("the state of the window cannot be read: {error}"));
                    }
                },
            };
            let response = function(invocation, &mut state).into();
            match serde_json::to_vec(&state) {
                Ok(state) => response.with_state(state),
                Err(error) => Response::failed(format!("the state of the window cannot be written: {error}")),
            }
        }))
    }

    pub(super) fn rules(&self) -> Rules {
        let allowed_lateness = self.allowed_lateness.unwrap_or_default();
        let length = self.rules.tumbling_window.unwrap_or_default();
        let event_time = self.time_of.clone().map(|time_of| EventTime {
            time_of,
            allowed_lateness,
            idle_timeout: self.idle_timeout.unwrap_or(length + allowed_lateness),
        });
        Rules { event_time, has_destination: self.destination.is_some(), ..self.rules.clone() }
    }

    pub(super) fn worker(&self, group: &Group) -> WorkerOptions {
        let worker = group
            .worker()
            .start_at(self.start)
            .batch_records(self.rules.records_of_a_read())
            .batch_bytes(self.rules.batch_bytes)
            .on_trimmed(OnTrimmed::SkipToHorizon);
        match self.hold {
            Some(bytes_max) => worker.hold(bytes_max),
            None => worker,
        }
    }

    fn check(&self) -> Result<()> {
        let rules = &self.rules;
        check_range("batch_size", rules.batch_records, 1..=BATCH_SIZE_MAX)?;
        check_range("batch_bytes", rules.batch_bytes, 1..=BATCH_BYTES_MAX)?;
        check_range("parallelization_factor", rules.lanes, 1..=LANES_MAX)?;
        check_range("concurrency", self.concurrency, 1..=CONCURRENCY_MAX)?;
        if let Some(retries) = rules.retries {
            check_range("maximum_retry_attempts", retries, 0..=RETRIES_MAX)?;
        }
        check_seconds("maximum_batching_window", rules.batching_window, Duration::ZERO, BATCHING_WINDOW_MAX)?;
        if let Some(age) = rules.record_age_max {
            check_seconds("maximum_record_age", age, RECORD_AGE_MIN, RECORD_AGE_MAX)?;
        }
        if let Some(window) = rules.tumbling_window {
            let is_by_arrival = self.time_of.is_none();
            let most = if is_by_arrival { TUMBLING_WINDOW_MAX } else { EVENT_TIME_WINDOW_MAX };
            check_seconds("tumbling_window", window, SECOND, most)?;
        }
        if let (Kind::Elsewhere(_), Some(_)) = (&self.kind, self.hold) {
            return Err(Error::InvalidArgument(
                "hold is for streams of this machine: records elsewhere are kept as it is set there".into(),
            ));
        }
        self.check_event_time()
    }

    fn check_event_time(&self) -> Result<()> {
        if let Some(timeout) = self.idle_timeout {
            check_seconds("idle_timeout", timeout, SECOND, IDLE_TIMEOUT_MAX)?;
        }
        let settings = [("allowed_lateness", self.allowed_lateness), ("idle_timeout", self.idle_timeout)];
        match (&self.time_of, self.rules.tumbling_window) {
            (Some(_), Some(length)) => {
                let lateness = self.allowed_lateness.unwrap_or_default();
                check_seconds("allowed_lateness", lateness, Duration::ZERO, length * OPEN_WINDOWS_MAX)
            }
            (Some(_), None) => Err(Error::InvalidArgument(
                "event_time says which window a record belongs to: set a tumbling_window".into(),
            )),
            (None, _) => match settings.into_iter().find(|(_, setting)| setting.is_some()) {
                Some((name, _)) => {
                    let reason = format!("{name} is for windows by event time: set event_time");
                    Err(Error::InvalidArgument(reason.into()))
                }
                None => Ok(()),
            },
        }
    }
}

fn check_seconds(name: &str, value: Duration, least: Duration, most: Duration) -> Result<()> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    let [value, least, most] = [value, least, most].map(humantime::format_duration);
    Err(Error::InvalidArgument(format!("{name} of {value} is out of range: {least} to {most}").into()))
}
