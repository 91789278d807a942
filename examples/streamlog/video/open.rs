//! Opens a video stream to put into it, or to read it while another program has it open.

use std::ops::ControlFlow;
use std::path::Path;

use streamlog::video::{FragmentSelector, VideoError, VideoStream, VideoStreamOptions};
use streamlog::{Error, Maintenance, StreamOptions, Timestamp};

use super::{RangeArgs, VideoPutArgs};
use crate::failure::{Failure, Outcome};
use crate::{check_interrupted, keys};

impl From<VideoError> for Failure {
    fn from(error: VideoError) -> Self {
        match error {
            VideoError::Stream(error) => error.into(),
            error => Self::Told(error.to_string()),
        }
    }
}

impl RangeArgs {
    /// Returns a selector of the fragments in the range.
    pub(super) fn selector(&self) -> FragmentSelector {
        if self.from.is_none() && self.to.is_none() {
            return FragmentSelector::All;
        }
        let range = self.from.unwrap_or_default()..=self.to.unwrap_or(Timestamp::from_micros(u64::MAX));
        if self.by_arrival {
            FragmentSelector::ServerTime(range)
        } else {
            FragmentSelector::ProducerTime(range)
        }
    }
}

/// Opens a stream to put into it, or creates it.
pub(super) fn to_put(args: &VideoPutArgs, key_file: Option<&Path>) -> Result<VideoStream, Failure> {
    let durability = if args.power { streamlog::Durability::Power } else { streamlog::Durability::Process };
    let options = with_keys(VideoStreamOptions::new(), key_file)?.durability(durability);
    let options = match args.retention {
        Some(retention) => options.data_retention(retention),
        None => options,
    };
    Ok(options.open(&args.path)?)
}

/// Works with a stream that another program may have open, without changing it.
pub(super) fn to_look(
    path: &Path,
    key_file: Option<&Path>,
    work: impl FnOnce(&VideoStream) -> Outcome,
) -> Outcome {
    match open(path, key_file) {
        Ok(stream) => finish(stream, work),
        Err(Failure::Stream(locked @ Error::Locked(_))) => {
            let Some(copies) = directory_beside(path) else { return Err(locked.into()) };
            let copy = copies.path().join("stream");
            let reader = keys::with_keys(StreamOptions::new(), key_file)?.open_reader(path)?;
            let report = reader.snapshot(&copy, |_| match check_interrupted() {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            })?;
            if !report.is_complete {
                return Err(Failure::Interrupted);
            }
            finish(open(&copy, key_file)?, work)
        }
        Err(failure) => Err(failure),
    }
}

/// Makes a directory for copies on the stream's file system, where they take little space. Returns `None` if that is not allowed.
fn directory_beside(path: &Path) -> Option<tempfile::TempDir> {
    let path = path.canonicalize().ok()?;
    tempfile::Builder::new().prefix(".streamlog-video-").tempdir_in(path.parent()?).ok()
}

/// Opens a stream that exists.
fn open(path: &Path, key_file: Option<&Path>) -> Result<VideoStream, Failure> {
    let options = with_keys(VideoStreamOptions::new(), key_file)?.maintenance(Maintenance::Manual);
    Ok(options.stream(StreamOptions::must_exist).open(path)?)
}

fn with_keys(options: VideoStreamOptions, key_file: Option<&Path>) -> Result<VideoStreamOptions, Failure> {
    let mut failed = None;
    let options = options.stream(|options| match keys::with_keys(options.clone(), key_file) {
        Ok(options) => options,
        Err(failure) => {
            failed = Some(failure);
            options
        }
    });
    failed.map_or(Ok(options), Err)
}

/// Works with a stream, and closes it even if the work fails. If both fail, returns the failure of the work.
pub(super) fn finish(stream: VideoStream, work: impl FnOnce(&VideoStream) -> Outcome) -> Outcome {
    let outcome = work(&stream);
    let closed = stream.close();
    outcome.and_then(|()| Ok(closed?))
}
