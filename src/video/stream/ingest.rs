//! Ingests Matroska from a producer.

use std::fmt;
use std::io::{ErrorKind, Read};
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::VideoStream;
use super::ack::{Ack, AckEvent};
use super::fragment::FragmentInfo;
use super::options::{IngestOptions, Timecodes};
use super::record::NewFragment;
use crate::video::error::{AckErrorId, VideoError};
use crate::video::matroska::cut::{Cut, CutOptions, Cutter};
use crate::video::matroska::header::set_tag;
use crate::video::number::FragmentNumber;
use crate::{Error, Timestamp};

/// How much is read at a time.
const PIECE_BYTES: usize = 256 << 10;
/// The first microsecond after the year 9999.
const PRODUCER_TIME_END: Timestamp = Timestamp::from_millis(253_402_300_800_000);

/// A running ingest. It accepts a producer's data in pieces of any size, and stores each cluster as a fragment.
///
/// Dropping it without [`finish`](Self::finish) also ends it. An incomplete fragment is then not stored.
///
/// [`VideoStream::ingest`] starts it.
pub struct Ingest {
    cutter: Cutter,
    run: Run,
    failed: Option<VideoError>,
}

/// Handles the events of an ingest's cutter.
struct Run {
    stream: VideoStream,
    acks: Box<dyn FnMut(Ack) + Send>,
    options: IngestOptions,
    /// The origin of the timecodes.
    origin: Timestamp,
    /// When the ingest began, and when data last came, in elapsed time.
    began: Duration,
    heard: Duration,
    /// The fragment that is arriving.
    arriving: Option<Arriving>,
    newest: Option<FragmentInfo>,
    count: u64,
}

#[derive(Debug, Clone, Copy)]
struct Arriving {
    timecode_ms: u64,
    number: FragmentNumber,
    producer_time: Timestamp,
}

/// What an ingest has stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Ingested {
    /// The number of fragments.
    pub fragment_count: u64,
    /// The last fragment.
    pub newest: Option<FragmentInfo>,
}

impl fmt::Debug for Ingest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ingest")
            .field("stream", &self.run.stream)
            .field("arriving", &self.run.arriving)
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}

impl VideoStream {
    /// Starts to ingest Matroska from a producer, like Kinesis' `PutMedia`. Each cluster is a fragment.
    ///
    /// Each call of [`Ingest::write`] calls `acks` with the acknowledgements that it causes. `acks` should be fast.
    ///
    /// A stream has one producer at a time.
    ///
    /// # Errors
    /// `IngestInProgress`; `Stream` with `Closed`; `Rejected` with `FragmentMetadataLimitReached` for [tags](IngestOptions::tag) that are not
    /// allowed in a fragment.
    pub fn ingest(
        &self,
        options: IngestOptions,
        acks: impl FnMut(Ack) + Send + 'static,
    ) -> Result<Ingest, VideoError> {
        if self.is_closed() {
            return Err(Error::Closed.into());
        }
        let mut tags = vec![];
        options.tags.iter().try_for_each(|(name, value)| set_tag(&mut tags, name, value))?;
        if self.shared.is_ingesting.swap(true, Ordering::SeqCst) {
            return Err(VideoError::IngestInProgress);
        }
        let cutter = Cutter::new(CutOptions {
            fragment_bytes_max: self.shared.fragment_bytes_max,
            are_tracks_sparse: options.are_tracks_sparse,
            tags,
        });
        let origin = match options.timecodes {
            Timecodes::Absolute => Timestamp::default(),
            Timecodes::Relative => options.producer_start.unwrap_or_else(|| self.now()),
        };
        let began = self.clock().elapsed();
        let run = Run {
            stream: self.clone(),
            acks: Box::new(acks),
            options,
            origin,
            began,
            heard: began,
            arriving: None,
            newest: None,
            count: 0,
        };
        Ok(Ingest { cutter, run, failed: None })
    }

    /// Ingests Matroska from a reader to its end, like [`ingest`](Self::ingest).
    ///
    /// # Errors
    /// Same as [`ingest`](Self::ingest), [`Ingest::write`] and [`Ingest::finish`]; `Rejected` with `StreamReadError` if the reader fails.
    pub fn ingest_from(
        &self,
        mut reader: impl Read,
        options: IngestOptions,
        acks: impl FnMut(Ack) + Send + 'static,
    ) -> Result<Ingested, VideoError> {
        let mut ingest = self.ingest(options, acks)?;
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            match reader.read(&mut piece) {
                Ok(0) => return ingest.finish(),
                Ok(len) => ingest.write(&piece[..len])?,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(ingest.abort(format!("the data could not be read: {error}"))),
            }
        }
    }
}

impl Ingest {
    /// Ingests the next piece of the data, of any size.
    ///
    /// When the call returns, each complete fragment is stored.
    ///
    /// # Errors
    /// `Rejected` for data that Kinesis also refuses, or if a fragment cannot be stored. An acknowledgement reports the same error. The ingest has
    /// ended, and every later call returns this error.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), VideoError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let now = self.run.stream.clock().elapsed();
        let run = &mut self.run;
        if !bytes.is_empty() {
            run.heard = now;
        }
        let pushed = run.check_duration(now).and_then(|()| self.cutter.push(bytes, &mut |cut| run.take(cut)));
        pushed.map_err(|error| self.fail(error))
    }

    /// Ends the data. This also ends and stores a cluster of unknown size.
    ///
    /// # Errors
    /// Same as [`write`](Self::write); `Rejected` with `StreamReadError` if the data ends within an element.
    pub fn finish(mut self) -> Result<Ingested, VideoError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let run = &mut self.run;
        let finished = self.cutter.finish(&mut |cut| run.take(cut));
        finished.map_err(|error| self.fail(error))?;
        Ok(self.ingested())
    }

    /// Ends the ingest because no more data can be read, such as when a connection breaks. Acknowledges and returns the error.
    pub fn abort(mut self, reason: impl Into<Box<str>>) -> VideoError {
        match &self.failed {
            Some(error) => error.clone(),
            None => self.fail(VideoError::rejected(AckErrorId::StreamReadError, reason)),
        }
    }

    /// Checks the time. It acknowledges that the ingest is idle after each [`IngestOptions::idle_after`] without data, and ends it after
    /// [`IngestOptions::duration_max`]. Call it regularly while a producer sends nothing.
    ///
    /// # Errors
    /// `Rejected` with `MaxConnectionDurationReached`, or with the error that ended the ingest earlier.
    pub fn check(&mut self) -> Result<(), VideoError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let now = self.run.stream.clock().elapsed();
        let run = &mut self.run;
        if now.saturating_sub(run.heard) >= run.options.idle_after {
            run.heard = now;
            run.acknowledge(AckEvent::Idle, None);
        }
        let checked = run.check_duration(now);
        checked.map_err(|error| self.fail(error))
    }

    /// Returns what has been stored so far.
    pub fn ingested(&self) -> Ingested {
        Ingested { fragment_count: self.run.count, newest: self.run.newest }
    }

    fn fail(&mut self, error: VideoError) -> VideoError {
        let arriving = self.run.arriving;
        (self.run.acks)(Ack {
            event: AckEvent::Error,
            timecode_ms: arriving.map(|it| it.timecode_ms),
            number: arriving.map(|it| it.number),
            error: Some(error.error_id().unwrap_or(AckErrorId::InternalError)),
        });
        self.failed = Some(error.clone());
        // The next producer need not wait until this one is dropped.
        self.run.end();
        error
    }
}

impl Run {
    fn acknowledge(&mut self, event: AckEvent, arriving: Option<Arriving>) {
        (self.acks)(Ack {
            event,
            timecode_ms: arriving.map(|it| it.timecode_ms),
            number: arriving.map(|it| it.number),
            error: None,
        });
    }

    fn check_duration(&self, now: Duration) -> Result<(), VideoError> {
        match self.options.duration_max {
            Some(max) if now.saturating_sub(self.began) > max => {
                let reason = format!("the ingest has lasted for more than {max:?}");
                Err(VideoError::rejected(AckErrorId::MaxConnectionDurationReached, reason))
            }
            _ => Ok(()),
        }
    }

    fn take(&mut self, cut: Cut<'_>) -> Result<(), VideoError> {
        if self.stream.is_closed() {
            return Err(VideoError::rejected(AckErrorId::StreamNotActive, Error::Closed.to_string()));
        }
        match cut {
            Cut::Begun { timecode_ns } => {
                let producer_time = self.origin + Duration::from_nanos(timecode_ns);
                if producer_time >= PRODUCER_TIME_END {
                    let reason = format!(
                        "a fragment begins {timecode_ns} ns after {}, which is too late",
                        self.origin
                    );
                    return Err(VideoError::rejected(AckErrorId::InvalidProducerTimestamp, reason));
                }
                let number = FragmentNumber::new(self.stream.shared.index.lock().next());
                let arriving = Arriving { timecode_ms: timecode_ns / 1_000_000, number, producer_time };
                self.arriving = Some(arriving);
                self.acknowledge(AckEvent::Buffering, Some(arriving));
                Ok(())
            }
            Cut::Whole(whole) => {
                // A whole fragment has begun before.
                let Some(arriving) = self.arriving else { return Ok(()) };
                self.acknowledge(AckEvent::Received, Some(arriving));
                let stored = self.stream.store(&NewFragment {
                    data: whole.data,
                    cluster_at: whole.cluster_at,
                    producer_time: arriving.producer_time,
                    length: Duration::from_nanos(whole.length_ns),
                    setup: whole.setup,
                });
                let info = stored
                    .map_err(|error| VideoError::rejected(AckErrorId::of_put(&error), error.to_string()))?;
                self.arriving = None;
                self.newest = Some(info);
                self.count += 1;
                if !self.stream.data_retention().is_zero() {
                    self.acknowledge(AckEvent::Persisted, Some(arriving));
                }
                Ok(())
            }
        }
    }

    /// Lets the next producer begin.
    fn end(&mut self) {
        self.stream.shared.is_ingesting.store(false, Ordering::SeqCst);
    }
}

impl Drop for Ingest {
    fn drop(&mut self) {
        if self.failed.is_none() {
            self.run.end();
        }
    }
}
