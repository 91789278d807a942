//! How far the lanes of a shard are, as it is committed with the shard's checkpoint.
//!
//! It is a line of JSON, and the states of the open windows behind it. If all lanes are equally far and no window is open, the checkpoint says
//! it all, and this is empty.

use serde::{Deserialize, Serialize};

use super::part::OpenWindow;
use crate::{SequenceNumber, Timestamp};

/// How far a shard is.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress {
    /// Everything below is done.
    pub(super) next: SequenceNumber,
    pub(super) lanes: Vec<LaneProgress>,
}

#[derive(Debug, Clone)]
pub(super) struct LaneProgress {
    /// Everything below is done that belongs to the lane.
    pub(super) done: SequenceNumber,
    pub(super) window: Option<OpenWindow>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    version: u32,
    next: u64,
    lanes: Vec<LaneLine>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LaneLine {
    done: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    window: Option<WindowLine>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WindowLine {
    start_micros: u64,
    end_micros: u64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_over: bool,
    state_bytes: usize,
}

const VERSION: u32 = 1;

impl Progress {
    pub(super) fn encode(&self) -> Vec<u8> {
        if self.lanes.iter().all(|lane| lane.done == self.next && lane.window.is_none()) {
            return vec![];
        }
        let lane_line = |lane: &LaneProgress| LaneLine {
            done: lane.done.get(),
            window: lane.window.as_ref().map(|window| WindowLine {
                start_micros: window.start.as_micros(),
                end_micros: window.end.as_micros(),
                is_over: window.is_over,
                state_bytes: window.state.len(),
            }),
        };
        let line = Line {
            version: VERSION,
            next: self.next.get(),
            lanes: self.lanes.iter().map(lane_line).collect(),
        };
        let mut encoded = serde_json::to_vec(&line).expect("numbers always serialize");
        encoded.push(b'\n');
        for window in self.lanes.iter().filter_map(|lane| lane.window.as_ref()) {
            encoded.extend_from_slice(&window.state);
        }
        encoded
    }

    /// Returns what was encoded, or `None` if this is something else.
    pub(super) fn decode(encoded: &[u8]) -> Option<Self> {
        let at = encoded.iter().position(|&byte| byte == b'\n')?;
        let (line, mut states) = (&encoded[..at], &encoded[at + 1..]);
        let line: Line = serde_json::from_slice(line).ok().filter(|line: &Line| line.version == VERSION)?;
        let mut lanes = vec![];
        for lane in line.lanes {
            let window = match lane.window {
                Some(window) => {
                    let (state, rest) = states.split_at_checked(window.state_bytes)?;
                    states = rest;
                    let (start, end) = (window.start_micros, window.end_micros);
                    let (start, end) = (Timestamp::from_micros(start), Timestamp::from_micros(end));
                    let is_over = window.is_over;
                    let open = OpenWindow::new(start, end, state.into());
                    (start < end)
                        .then_some(OpenWindow { is_over, is_committed: is_over, ..open })
                        .map(Some)?
                }
                None => None,
            };
            lanes.push(LaneProgress { done: lane.done.into(), window });
        }
        (states.is_empty() && !lanes.is_empty()).then_some(Self { next: line.next.into(), lanes })
    }
}
