//! The settings of a video stream and of an ingest.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::VideoStream;
use crate::video::error::VideoError;
use crate::{Clock, DAY, Durability, Maintenance, MaintenancePool, SECOND, StreamOptions, Timestamp};

/// The default size of a segment: room for some fragments of the largest size.
const SEGMENT_BYTES: u64 = 256 << 20;
/// The largest record, unless the segments are too small for it: a fragment of the largest size, with its tracks and tags.
const RECORD_BYTES_MAX: u64 = 56 << 20;

/// The settings with which a video stream is opened or created. [`open`](Self::open) opens it.
///
/// ```
/// # use streamlog::{DAY, Durability};
/// # use streamlog::video::VideoStreamOptions;
/// # let directory = tempfile::tempdir()?;
/// let stream = VideoStreamOptions::new()
///     .data_retention(7 * DAY)
///     .durability(Durability::Power)
///     .stream(|options| options.property("place", "front door"))
///     .open(directory.path().join("door"))?;
/// assert_eq!(stream.data_retention(), 7 * DAY);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct VideoStreamOptions {
    pub(super) stream: StreamOptions,
    pub(super) data_retention: Option<Duration>,
    pub(super) pool: Option<MaintenancePool>,
}

impl Default for VideoStreamOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl VideoStreamOptions {
    /// The data retention of a new stream for which none is set.
    pub(super) const DATA_RETENTION: Duration = DAY;

    /// Returns the defaults: a data retention of 24 hours, segments of 256 MiB, and otherwise those of [`StreamOptions`].
    pub fn new() -> Self {
        let stream = StreamOptions::new().segment_bytes(SEGMENT_BYTES).record_bytes_max(RECORD_BYTES_MAX);
        Self { stream, data_retention: None, pool: None }
    }

    /// Sets how long fragments are kept, counted from their arrival. It is stored with the stream. Default for a new stream: 24 hours.
    ///
    /// As in Kinesis, zero means that nothing is archived. Live viewers can see the newest fragments of 5 minutes or 200 MB, whichever is less.
    /// These fragments cannot be listed, and are not acknowledged as persisted.
    #[must_use]
    pub fn data_retention(mut self, retention: Duration) -> Self {
        self.data_retention = Some(retention);
        self
    }

    /// Sets what fragments survive once they are acknowledged as persisted. Default: [`Durability::Process`].
    #[must_use]
    pub fn durability(self, durability: Durability) -> Self {
        self.stream(|options| options.durability(durability))
    }

    /// Sets the source of the time. Default: the system's clock.
    #[must_use]
    pub fn clock(self, clock: Arc<dyn Clock>) -> Self {
        self.stream(|options| options.clock(clock))
    }

    /// Sets who runs maintenance. Default: the stream's own threads.
    #[must_use]
    pub fn maintenance(self, maintenance: Maintenance) -> Self {
        self.stream(|options| options.maintenance(maintenance))
    }

    /// Makes the threads of a pool run maintenance, together with that of other streams. Default: the stream has its own threads.
    #[must_use]
    pub fn pool(mut self, pool: &MaintenancePool) -> Self {
        self.pool = Some(pool.clone());
        self
    }

    /// Changes other settings of the underlying stream of records, such as its encryption, its properties, or the size of its segments. The video
    /// stream overrides its shards and its retention.
    #[must_use]
    pub fn stream(mut self, change: impl FnOnce(StreamOptions) -> StreamOptions) -> Self {
        self.stream = change(self.stream);
        self
    }

    /// Opens the video stream at `path`, or creates it.
    ///
    /// Its index is rebuilt from the log, which requires only few records: one in 1,024, and up to 62 of the newest.
    ///
    /// # Errors
    /// `Stream` with the errors of [`StreamOptions::open`], or with `InvalidArgument` if the stream at this path is not a video stream.
    pub fn open(self, path: impl AsRef<Path>) -> Result<VideoStream, VideoError> {
        VideoStream::open_with(path.as_ref(), self)
    }
}

/// The origin of a producer's timecodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Timecodes {
    /// Since 1970, like `ABSOLUTE` in Kinesis.
    Absolute,
    /// Since the producer's start: [`IngestOptions::producer_start`]. `RELATIVE` in Kinesis.
    #[default]
    Relative,
}

/// The settings of one ingest, which Kinesis reads from the headers of `PutMedia`.
///
/// ```
/// # use streamlog::Timestamp;
/// # use streamlog::video::{IngestOptions, Timecodes};
/// let camera = IngestOptions::new().timecodes(Timecodes::Absolute);
/// let file = IngestOptions::new().producer_start("2026-11-30T12:00:00Z".parse::<Timestamp>()?).tag("source", "upload");
/// # Ok::<(), streamlog::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct IngestOptions {
    pub(super) timecodes: Timecodes,
    pub(super) producer_start: Option<Timestamp>,
    pub(super) tags: Vec<(String, String)>,
    pub(super) duration_max: Option<Duration>,
    pub(super) idle_after: Duration,
    pub(super) are_tracks_sparse: bool,
}

impl Default for IngestOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl IngestOptions {
    /// Returns the defaults: relative timecodes that count from now, and Kinesis' limits for fragments.
    pub fn new() -> Self {
        Self {
            timecodes: Timecodes::default(),
            producer_start: None,
            tags: vec![],
            duration_max: None,
            idle_after: 30 * SECOND,
            are_tracks_sparse: false,
        }
    }

    /// Sets the origin of the producer's timecodes. Default: [`Timecodes::Relative`].
    #[must_use]
    pub fn timecodes(mut self, timecodes: Timecodes) -> Self {
        self.timecodes = timecodes;
        self
    }

    /// Sets when the producer started, which is the origin of relative timecodes. It does not affect absolute ones. Default: the start of the
    /// ingest.
    #[must_use]
    pub fn producer_start(mut self, start: Timestamp) -> Self {
        self.producer_start = Some(start);
        self
    }

    /// Adds a tag to each fragment, in addition to the producer's own. All of them count towards the 10 tags of a fragment. A tag of the same name
    /// from the producer replaces it.
    #[must_use]
    pub fn tag(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.tags.push((name.into(), value.into()));
        self
    }

    /// Sets how long the ingest may last, by the stream's clock. Default: no limit.
    #[must_use]
    pub fn duration_max(mut self, duration: Duration) -> Self {
        self.duration_max = Some(duration);
        self
    }

    /// Sets after how long without data [`Ingest::check`](crate::video::Ingest::check) acknowledges that the ingest is idle. Default: 30 seconds.
    #[must_use]
    pub fn idle_after(mut self, idle: Duration) -> Self {
        self.idle_after = idle;
        self
    }

    /// Accepts fragments without frames for some of their tracks. Default: they are refused, as in Kinesis.
    ///
    /// Files often end with some audio without a picture, and cameras may send subtitles or events as a track.
    #[must_use]
    pub fn sparse_tracks(mut self) -> Self {
        self.are_tracks_sparse = true;
        self
    }
}
