//! A part of a batch, and the window of a lane.

use std::sync::Arc;

use super::slice::Slice;
use crate::Timestamp;

/// Records that the function gets together.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) slices: Vec<Slice>,
    pub(super) attempts: u32,
    pub(super) retries_left: Option<u32>,
    /// When the window begins that the records belong to, and when it ends.
    pub(super) window: Option<(Timestamp, Timestamp)>,
    /// The last call for that window.
    pub(super) is_final: bool,
}

/// A window that has begun.
#[derive(Debug, Clone)]
pub(super) struct OpenWindow {
    pub(super) start: Timestamp,
    pub(super) end: Timestamp,
    pub(super) state: Arc<[u8]>,
    pub(super) is_terminated_early: bool,
    /// Nothing more belongs to it.
    pub(super) is_over: bool,
    /// That is committed. So its last call has the same state each time, if it is repeated after a crash.
    pub(super) is_committed: bool,
}

impl OpenWindow {
    pub(super) fn new(start: Timestamp, end: Timestamp, state: Arc<[u8]>) -> Self {
        Self { start, end, state, is_terminated_early: false, is_over: false, is_committed: false }
    }
}
