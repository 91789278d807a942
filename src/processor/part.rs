//! A part of a batch, and a window of a lane.

use std::sync::Arc;

use super::discarded::DiscardReason;
use super::slice::Slice;
use crate::Timestamp;

/// The span of time that a window covers, without its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Span {
    pub(super) start: Timestamp,
    pub(super) end: Timestamp,
}

/// Records that the function gets together.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) slices: Vec<Slice>,
    pub(super) attempts: u32,
    pub(super) retries_left: Option<u32>,
    /// The window that the records belong to.
    pub(super) window: Option<Span>,
    /// The last call for that window.
    pub(super) is_final: bool,
    /// Why the records are given up without a call.
    pub(super) refused: Option<DiscardReason>,
}

impl Part {
    /// Returns a part that has not been tried yet.
    pub(super) fn new(slices: Vec<Slice>, window: Option<Span>, retries: Option<u32>) -> Self {
        Self { slices, attempts: 0, retries_left: retries, window, is_final: false, refused: None }
    }
}

/// A window that has begun.
#[derive(Debug, Clone)]
pub(super) struct OpenWindow {
    pub(super) span: Span,
    pub(super) state: Arc<[u8]>,
    pub(super) is_terminated_early: bool,
    /// Nothing more belongs to it.
    pub(super) is_over: bool,
    /// That it is over is committed, so that its last call has the same state each time, if it is repeated after a crash.
    pub(super) is_committed: bool,
}

impl OpenWindow {
    pub(super) fn new(span: Span, state: Arc<[u8]>) -> Self {
        Self { span, state, is_terminated_early: false, is_over: false, is_committed: false }
    }
}
