//! A snapshot in progress: what it has done, and whether it continues.

use std::ops::ControlFlow;

use super::report::{SnapshotProgress, SnapshotReport};
use crate::log::types::error::Error;

/// Why a snapshot ends early.
#[derive(Debug)]
pub(super) enum Stop {
    /// The caller wants it.
    Wanted,
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// How a file came into the snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    Linked,
    Copied,
    Kept,
}

/// A snapshot in progress.
pub(super) struct Work<'a> {
    pub(super) report: SnapshotReport,
    at: SnapshotProgress,
    progress: &'a mut dyn FnMut(SnapshotProgress) -> ControlFlow<()>,
}

impl<'a> Work<'a> {
    pub(super) fn new(progress: &'a mut dyn FnMut(SnapshotProgress) -> ControlFlow<()>) -> Self {
        Self { report: SnapshotReport::default(), at: SnapshotProgress::default(), progress }
    }

    /// Adds bytes that are to come.
    pub(super) fn expect(&mut self, bytes: u64) {
        self.at.bytes_total += bytes;
    }

    /// Notes that bytes are in place.
    pub(super) fn advance(&mut self, bytes: u64) -> Result<(), Stop> {
        // A file may be longer by now than it was when it was looked at.
        self.at.bytes_done = (self.at.bytes_done + bytes).min(self.at.bytes_total);
        if (self.progress)(self.at).is_break() { Err(Stop::Wanted) } else { Ok(()) }
    }

    /// Notes that everything is in place, including what was dropped before it was copied.
    pub(super) fn end(&mut self) -> Result<(), Stop> {
        self.advance(self.at.bytes_total - self.at.bytes_done)
    }

    /// Counts a file of this many bytes that is in place.
    pub(super) fn count(&mut self, how: How, bytes: u64) {
        let report = &mut self.report;
        report.total_bytes += bytes;
        match how {
            How::Linked => report.linked_file_count += 1,
            How::Kept => report.kept_file_count += 1,
            How::Copied => {
                report.copied_file_count += 1;
                report.copied_bytes += bytes;
            }
        }
    }
}
