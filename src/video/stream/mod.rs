//! The video stream: stores fragments, finds them by number and time, and returns them.

pub(super) mod ack;
pub(super) mod fragment;
pub(super) mod get_media;
mod index;
pub(super) mod ingest;
mod list;
pub(super) mod media_list;
mod open;
pub(super) mod options;
mod record;
pub(super) mod select;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::error::VideoError;
use super::number::FragmentNumber;
use crate::{
    Clock, Error, MINUTE, Position, PutRecord, SequenceNumber, ShardId, Stream, StreamReader, Timestamp,
    extend,
};
use fragment::{Fragment, FragmentInfo};
use index::Index;
use options::VideoStreamOptions;
use select::FragmentSelector;

/// The property with the data retention, in milliseconds. A stream that has it is a video stream.
const RETENTION_PROPERTY: &str = "video.data-retention-ms";
/// How long, and up to how many bytes, a stream that archives nothing keeps fragments for live viewers. Both are Kinesis' values.
const LIVE_AGE: Duration = MINUTE.saturating_mul(5);
const LIVE_BYTES_MAX: u64 = 200_000_000;
/// The most fragments of a page, as in Kinesis.
const PAGE_FRAGMENTS_MAX: usize = 1_000;

/// An open video stream: ingests fragments from a producer, and serves them, live and archived.
///
/// It is a [`Stream`] with one shard, in its own directory, in which each fragment is a record. Cloning it is cheap, and all clones share the same
/// stream.
///
/// ```
/// # use streamlog::video::{FragmentSelector, VideoStream};
/// # let directory = tempfile::tempdir()?;
/// let stream = VideoStream::open(directory.path().join("door"))?;
/// for info in stream.fragments(&FragmentSelector::All)? {
///     println!("{} {} {:?}", info.number, info.producer_time, info.length);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct VideoStream {
    shared: Arc<Shared>,
}

struct Shared {
    stream: Stream,
    shard: ShardId,
    /// In milliseconds.
    data_retention: AtomicU64,
    /// Held while the retention changes.
    changing: Mutex<()>,
    /// The largest fragment that the stream takes, as it is stored.
    fragment_bytes_max: usize,
    index: Mutex<Index>,
    /// Notified when a fragment was added to the index, or the stream was closed.
    changed: Condvar,
    is_ingesting: AtomicBool,
    is_closed: AtomicBool,
}

impl fmt::Debug for VideoStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VideoStream").field("stream", &self.shared.stream).finish_non_exhaustive()
    }
}

/// A page of a list of fragments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FragmentPage {
    /// The fragments, in the order of their numbers.
    pub fragments: Vec<FragmentInfo>,
    /// The token for the next page. `None` if this is the last one.
    pub next_token: Option<String>,
}

impl VideoStream {
    /// Opens the video stream at `path` with the default settings, or creates it. [`VideoStreamOptions`] opens it with other settings.
    ///
    /// # Errors
    /// Same as [`VideoStreamOptions::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, VideoError> {
        VideoStreamOptions::new().open(path)
    }

    /// Returns a reader of the underlying stream, for its settings and counts, its snapshots, and for consumers that want fragments as records.
    pub fn reader(&self) -> &StreamReader {
        &self.shared.stream
    }

    /// Returns the time of the stream's clock.
    pub fn now(&self) -> Timestamp {
        self.shared.stream.now()
    }

    /// Returns the stream's clock.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        self.shared.stream.clock()
    }

    /// Returns how long fragments are kept. Zero means that nothing is archived.
    pub fn data_retention(&self) -> Duration {
        Duration::from_millis(self.shared.data_retention.load(Ordering::SeqCst))
    }

    /// Changes how long fragments are kept, counted from their arrival. Expired fragments do not come back.
    ///
    /// See [`VideoStreamOptions::data_retention`] for what zero means.
    ///
    /// # Durability
    /// When it returns, the change survives power loss.
    ///
    /// # Errors
    /// `Stream` with the errors of [`Stream::set_retention`]: a retention below 1 second, other than zero, is invalid.
    pub fn set_data_retention(&self, retention: Duration) -> Result<(), VideoError> {
        let millis = open::retention_millis(retention)?;
        let _changing = self.shared.changing.lock();
        // If the process dies in between, opening continues from here.
        self.shared.stream.set_property(RETENTION_PROPERTY, Some(&millis.to_string()))?;
        self.shared.stream.set_retention(open::stream_retention(retention))?;
        self.shared.data_retention.store(millis, Ordering::SeqCst);
        self.forget_trimmed()
    }

    /// Stores a named text with the stream, or removes it: see [`Stream::set_property`]. Names that begin with `video.` are reserved.
    ///
    /// # Errors
    /// Same as [`Stream::set_property`]; `InvalidArgument` for a reserved name.
    pub fn set_property(&self, name: &str, text: Option<&str>) -> Result<(), VideoError> {
        if name.starts_with("video.") {
            return Err(VideoError::invalid(format!(
                "the property {name} belongs to the library: take another name"
            )));
        }
        Ok(self.shared.stream.set_property(name, text)?)
    }

    /// Syncs all fragments that were acknowledged before the call, so that they survive power loss.
    ///
    /// # Errors
    /// Same as [`Stream::sync`].
    pub fn sync(&self) -> Result<(), VideoError> {
        Ok(self.shared.stream.sync()?)
    }

    /// Runs one maintenance pass: see [`Stream::maintain`].
    ///
    /// # Errors
    /// Same as [`Stream::maintain`].
    pub fn maintain(&self) -> Result<(), VideoError> {
        self.shared.stream.maintain()?;
        self.forget_trimmed()
    }

    /// Closes the stream, also for its clones. Incomplete fragments are not stored, and all threads that wait for fragments are woken.
    ///
    /// # Errors
    /// Same as [`Stream::close`]. The stream is closed even after an error.
    pub fn close(self) -> Result<(), VideoError> {
        self.shared.is_closed.store(true, Ordering::SeqCst);
        let closed = self.shared.stream.clone().close();
        // Under the lock, so that nobody is between checking the index and waiting.
        drop(self.shared.index.lock());
        self.shared.changed.notify_all();
        Ok(closed?)
    }

    /// Returns whether the stream was closed.
    pub fn is_closed(&self) -> bool {
        self.shared.is_closed.load(Ordering::SeqCst) || self.shared.stream.is_closed()
    }

    /// Reads a fragment. Returns `None` if there is none with this number, or if it has expired.
    ///
    /// # Errors
    /// `Stream` if the log is damaged there, or cannot be read.
    pub fn fragment(&self, number: FragmentNumber) -> Result<Option<Fragment>, VideoError> {
        let info = {
            let index = self.shared.index.lock();
            let first = self.first_visible(&index);
            index.get(number).filter(|_| number.sequence() >= first)
        };
        info.map_or(Ok(None), |info| self.read(info))
    }

    /// Returns the metadata of a fragment without reading it.
    pub fn fragment_info(&self, number: FragmentNumber) -> Option<FragmentInfo> {
        let index = self.shared.index.lock();
        let first = self.first_visible(&index);
        index.get(number).filter(|_| number.sequence() >= first)
    }

    /// Returns the selected fragments, in the order of their numbers, which is the order of arrival.
    ///
    /// # Errors
    /// `NoDataRetention`.
    pub fn fragments(&self, selector: &FragmentSelector) -> Result<Vec<FragmentInfo>, VideoError> {
        self.check_retention()?;
        let index = self.shared.index.lock();
        Ok(index.select(selector, self.first_visible(&index), usize::MAX))
    }

    /// Returns a page of the selected fragments, in the order of their numbers. For the next page, use the same selector and the token of this page.
    /// A token never expires: fragments that expire meanwhile are left out, and new ones are on the later pages.
    ///
    /// # Errors
    /// `NoDataRetention`; `InvalidArgument` if `fragments_max` is not 1 to 1,000, or for a token that does not come from a page.
    pub fn list_fragments(
        &self,
        selector: &FragmentSelector,
        fragments_max: usize,
        next_token: Option<&str>,
    ) -> Result<FragmentPage, VideoError> {
        extend::check_range("fragments_max", fragments_max, 1..=PAGE_FRAGMENTS_MAX)
            .map_err(|error| VideoError::invalid(error.to_string()))?;
        self.check_retention()?;
        let after = next_token.map(str::parse::<FragmentNumber>).transpose();
        let after =
            after.map_err(|_| VideoError::invalid("the token is not one that a page of this list had"))?;
        let index = self.shared.index.lock();
        let from = after.map_or(SequenceNumber::ZERO, |number| number.sequence().plus(1));
        let from = from.max(self.first_visible(&index));
        let mut fragments = index.select(selector, from, fragments_max + 1);
        let has_more = fragments.len() > fragments_max;
        fragments.truncate(fragments_max);
        let next_token = fragments.last().filter(|_| has_more).map(|info| info.number.to_string());
        Ok(FragmentPage { fragments, next_token })
    }

    /// Returns the newest fragment, if there is one. A stream that archives nothing also has one, while live viewers can see it.
    pub fn newest(&self) -> Option<FragmentInfo> {
        let index = self.shared.index.lock();
        let first = self.first_visible(&index);
        index.newest().filter(|info| info.number.sequence() >= first)
    }

    /// Returns the oldest fragment that has not expired, if there is one.
    pub fn oldest(&self) -> Option<FragmentInfo> {
        let index = self.shared.index.lock();
        index.first_where(&FragmentSelector::All, self.first_visible(&index))
    }

    /// Returns up to `max` of the newest fragments, in the order of their numbers, even from a stream that archives nothing.
    pub fn newest_fragments(&self, max: usize) -> Vec<FragmentInfo> {
        let index = self.shared.index.lock();
        let first = self.first_visible(&index);
        index.last(first, max)
    }

    /// Waits until there is a fragment with a higher number than this one, or any fragment for `None`. Returns `false` if the timeout, in real time,
    /// passes first.
    ///
    /// # Errors
    /// `Stream` with `Closed` if the stream was closed and there is none.
    pub fn wait_after(&self, number: Option<FragmentNumber>, timeout: Duration) -> Result<bool, VideoError> {
        let from = number.map_or(SequenceNumber::ZERO, |number| number.sequence().plus(1));
        self.wait_for(from, timeout)
    }

    /// Waits until there is a fragment with this number or a higher one.
    fn wait_for(&self, from: SequenceNumber, timeout: Duration) -> Result<bool, VideoError> {
        let deadline = Instant::now().checked_add(timeout);
        let mut index = self.shared.index.lock();
        loop {
            let from = from.max(self.first_visible(&index));
            if index.next() > from {
                return Ok(true);
            }
            if self.is_closed() {
                return Err(Error::Closed.into());
            }
            let has_timed_out = match deadline {
                Some(deadline) => self.shared.changed.wait_until(&mut index, deadline).timed_out(),
                None => {
                    self.shared.changed.wait(&mut index);
                    false
                }
            };
            if has_timed_out && index.next() <= from {
                return Ok(false);
            }
        }
    }

    /// Fails if the stream archives nothing.
    fn check_retention(&self) -> Result<(), VideoError> {
        if self.data_retention().is_zero() { Err(VideoError::NoDataRetention) } else { Ok(()) }
    }

    /// Returns the number of the first fragment that has not expired.
    fn first_visible(&self, index: &Index) -> SequenceNumber {
        let retention = self.data_retention();
        let age_max = if retention.is_zero() { LIVE_AGE } else { retention };
        index.first_within(age_max, self.now())
    }

    /// Forgets the fragments that the stream has dropped.
    fn forget_trimmed(&self) -> Result<(), VideoError> {
        let horizon = open::bounds(&self.shared.stream)?.horizon;
        self.shared.index.lock().forget_before(horizon);
        Ok(())
    }

    /// Reads a fragment that the index has. Returns `None` if the stream has dropped it since.
    fn read(&self, info: FragmentInfo) -> Result<Option<Fragment>, VideoError> {
        let sequence = info.number.sequence();
        let record = match open::read_record(&self.shared.stream, self.shared.shard, Position::At(sequence)) {
            Ok(record) => record.filter(|record| record.sequence == sequence),
            Err(Error::Trimmed { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        let Some(record) = record else { return Ok(None) };
        let (_, cluster_at) = record::read(&record)?;
        Ok(Some(Fragment { info, cluster_at, data: record.data }))
    }

    /// Stores a whole fragment, and makes it visible.
    fn store(&self, fragment: &record::NewFragment<'_>) -> Result<FragmentInfo, Error> {
        let shared = &*self.shared;
        let next = shared.index.lock().next();
        let summarized = index::summarized_by(next);
        let summary = (summarized > 0).then(|| {
            let index = shared.index.lock();
            index::summary::encode(index.from((next.get() - summarized).into()))
        });
        let fields = record::Fields::of(fragment, summary);
        let put = PutRecord::new(record::KEY, fragment.data);
        let receipt = shared.stream.put_record(&fields.add_to(put))?;
        let info = FragmentInfo {
            number: FragmentNumber::new(receipt.sequence),
            producer_time: fragment.producer_time,
            server_time: receipt.timestamp,
            length: fragment.length,
            bytes: fragment.data.len() as u64,
            setup: fragment.setup,
        };
        let mut index = shared.index.lock();
        index.push(info);
        let first_live = self.first_live(&index);
        drop(index);
        shared.changed.notify_all();
        if let Some(first) = first_live {
            // The fragment is stored even if others cannot be dropped now.
            let _ = shared.stream.trim_before(shared.shard, first);
            shared.index.lock().forget_before(first);
        } else if summarized > 0 {
            // Fragments that the stream has dropped are forgotten, so that the index does not grow. A failure recurs.
            let _ = self.forget_trimmed();
        }
        Ok(info)
    }

    /// Returns the first fragment to keep in a stream that archives nothing, if it has more than it should.
    fn first_live(&self, index: &Index) -> Option<SequenceNumber> {
        if index.bytes() <= LIVE_BYTES_MAX || !self.data_retention().is_zero() {
            return None;
        }
        let mut over = index.bytes() - LIVE_BYTES_MAX;
        let first = index.from(SequenceNumber::ZERO).find(|info| {
            let is_kept = over == 0;
            over = over.saturating_sub(info.bytes);
            is_kept
        });
        first.or(index.newest().as_ref()).map(|info| info.number.sequence())
    }
}
