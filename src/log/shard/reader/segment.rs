//! One segment on a shard's list, and the windows of a stream that may be closed.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::log::segment::window::Window;
use crate::log::types::sequence::SequenceNumber;
use crate::log::types::time::Timestamp;

/// One segment: a name, and a window that is opened when somebody reads.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) base: SequenceNumber,
    pub(super) slot: Mutex<Slot>,
}

#[derive(Debug, Default)]
pub(super) struct Slot {
    /// If this is `None` and the segment was begun since the stream was opened, no mapping of the file is alive, except
    /// for one that nobody reads and that is being closed.
    pub(super) window: Option<Arc<Window>>,
    /// When its first record arrived, once somebody has asked.
    pub(super) first_timestamp: Option<Timestamp>,
    /// When it was begun, once somebody has asked.
    pub(super) begun: Option<Begun>,
    /// What it takes on disk, once it is sealed and somebody has asked.
    pub(super) disk_bytes: Option<u64>,
    /// Whether the window is of a segment without a trailer and must stay.
    pub(super) is_pinned: bool,
    /// How far the segment is committed, if another process adds frames to it.
    pub(super) growing: Option<u64>,
    /// Where the next segment begins, if another process may write the shard and there is one. Set before that one is on the list.
    pub(super) end: Option<SequenceNumber>,
    /// Whether somebody has asked for the window since the last look.
    pub(super) is_used: bool,
    /// Whether the segment is off the list. A thread that still holds it must not open its file, which may soon be another segment's.
    pub(super) is_dropped: bool,
}

/// When a segment was begun.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Begun {
    /// Since the stream was opened: how much time had passed by then. No jump of the clock changes that.
    Passed(Duration),
    /// Earlier: what the clock showed, according to the segment's header.
    Shown(Timestamp),
}

impl Segment {
    /// Takes the window away, unless somebody uses it, holds it, has asked for it since the last call, or it must stay. Returns `Some(None)`
    /// if there is none.
    #[expect(
        clippy::option_option,
        reason = "there may be no window to take, which is as good as one that was taken"
    )]
    fn take_idle_window(&self) -> Option<Option<Arc<Window>>> {
        // Locked by a thread that opens the window, and so uses it.
        let mut slot = self.slot.try_lock()?;
        let is_held = slot.window.as_ref().is_some_and(Window::is_shared);
        let is_used = std::mem::take(&mut slot.is_used);
        (!is_used && !is_held && !slot.is_pinned).then(|| slot.window.take())
    }
}

/// A segment that was taken off the list.
#[derive(Debug)]
pub(crate) struct Dropped(pub(super) Arc<Segment>);

impl Dropped {
    pub(crate) fn base(&self) -> SequenceNumber {
        self.0.base
    }

    /// Makes readers that hold the segment look for the next one.
    pub(super) fn end(&self) {
        if let Some(window) = &self.0.slot.lock().window {
            window.end();
        }
    }

    /// Closes the segment to later readers. Returns whether nobody has it open or holds bytes of it.
    pub(crate) fn close(&self) -> bool {
        let mut slot = self.0.slot.lock();
        slot.is_dropped = true;
        let window = slot.window.take();
        drop(slot);
        window.is_none_or(Window::close)
    }
}

impl Drop for Dropped {
    fn drop(&mut self) {
        // A mapped file takes disk space even after it is removed.
        self.close();
    }
}

/// At most this many windows of a stream stay open although nobody holds them. Each takes a mapping, of which a process has 65,530 by
/// default.
const IDLE_WINDOWS_MAX: usize = 1_024;
/// The same for a stream that another process may have open. There each takes a descriptor too, of which a process has 1,024 by default, and
/// keeps the file from being filled again.
const FOLLOWED_IDLE_WINDOWS_MAX: usize = 64;

/// The open windows of a stream that may be closed.
#[derive(Debug)]
pub(crate) struct OpenWindows {
    /// In the order in which they were opened or last found in use. Taken without any other lock.
    segments: Mutex<VecDeque<Arc<Segment>>>,
    /// At most this many stay open although nobody holds them.
    idle_max: usize,
}

impl Default for OpenWindows {
    fn default() -> Self {
        Self { segments: Mutex::default(), idle_max: IDLE_WINDOWS_MAX }
    }
}

impl OpenWindows {
    /// Returns the windows of a stream that another process may have open.
    pub(crate) fn of_followed() -> Self {
        Self { idle_max: FOLLOWED_IDLE_WINDOWS_MAX, ..Self::default() }
    }

    /// Adds a segment whose window was opened, and closes others if there are too many.
    pub(super) fn add(&self, segment: Arc<Segment>) {
        let mut closed = vec![];
        let mut segments = self.segments.lock();
        segments.push_back(segment);
        // Each gets one look: those that were used since the last one stay.
        for _ in 0..segments.len() {
            if segments.len() <= self.idle_max {
                break;
            }
            let Some(oldest) = segments.pop_front() else { break };
            match oldest.take_idle_window() {
                Some(window) => closed.push(window),
                None => segments.push_back(oldest),
            }
        }
        // Unmapping takes time, and needs no lock.
        drop(segments);
        drop(closed);
    }

    /// Closes the windows that nobody has asked for since the last call and whose bytes nobody holds.
    pub(crate) fn close_idle(&self) {
        let mut closed = vec![];
        self.segments.lock().retain(|segment| match segment.take_idle_window() {
            Some(window) => {
                closed.push(window);
                false
            }
            None => true,
        });
        drop(closed);
    }
}
