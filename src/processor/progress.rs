//! The progress of a shard's lanes, as it is committed with the shard's checkpoint.
//!
//! It is a line of JSON, followed by the states of the open windows. If all lanes are equally far and there were no windows, the checkpoint
//! suffices, and this is empty.

use serde::{Deserialize, Serialize};

use super::part::{OpenWindow, Span};
use super::windows::Windows;
use crate::{SequenceNumber, Timestamp};

/// How far a shard is.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress {
    /// Everything below is done.
    pub(super) next: SequenceNumber,
    /// The watermark there, by event time.
    pub(super) watermark: Timestamp,
    pub(super) lanes: Vec<LaneProgress>,
}

#[derive(Debug, Clone)]
pub(super) struct LaneProgress {
    /// Everything below that belongs to the lane is done.
    pub(super) done: SequenceNumber,
    pub(super) windows: Windows,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    version: u32,
    next: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    watermark_micros: u64,
    lanes: Vec<LaneLine>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LaneLine {
    done: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    ended_micros: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    windows: Vec<WindowLine>,
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

fn is_zero(micros: &u64) -> bool {
    *micros == 0
}

const VERSION: u32 = 1;

impl Progress {
    pub(super) fn encode(&self) -> Vec<u8> {
        let none = Timestamp::default();
        let is_plain = |lane: &LaneProgress| {
            lane.done == self.next && lane.windows.is_empty() && lane.windows.ended_to() == none
        };
        if self.watermark == none && self.lanes.iter().all(is_plain) {
            return vec![];
        }
        let window_line = |window: &OpenWindow| WindowLine {
            start_micros: window.span.start.as_micros(),
            end_micros: window.span.end.as_micros(),
            is_over: window.is_over,
            state_bytes: window.state.len(),
        };
        let lane_line = |lane: &LaneProgress| LaneLine {
            done: lane.done.get(),
            ended_micros: lane.windows.ended_to().as_micros(),
            windows: lane.windows.open().iter().map(window_line).collect(),
        };
        let line = Line {
            version: VERSION,
            next: self.next.get(),
            watermark_micros: self.watermark.as_micros(),
            lanes: self.lanes.iter().map(lane_line).collect(),
        };
        let mut encoded = serde_json::to_vec(&line).expect("numbers always serialize");
        encoded.push(b'\n');
        for window in self.lanes.iter().flat_map(|lane| lane.windows.open()) {
            encoded.extend_from_slice(&window.state);
        }
        encoded
    }

    /// Returns an encoded progress relative to a shard that begins with the first record that is not done.
    pub(super) fn relative(encoded: &[u8], next: SequenceNumber) -> Vec<u8> {
        let Some(progress) = Self::decode(encoded) else { return vec![] };
        let lanes = progress.lanes.into_iter().map(|lane| {
            let done = lane.done.get().saturating_sub(next.get());
            LaneProgress { done: done.into(), ..lane }
        });
        Self { next: SequenceNumber::ZERO, watermark: progress.watermark, lanes: lanes.collect() }.encode()
    }

    /// Returns a relative progress for a shard whose intended first record is gone. What some lanes had done behind it is no longer known, and may
    /// be done again.
    pub(super) fn without_done(relative: &[u8]) -> Vec<u8> {
        let Some(progress) = Self::decode(relative) else { return vec![] };
        let done = SequenceNumber::ZERO;
        let lanes = progress.lanes.into_iter().map(|lane| LaneProgress { done, ..lane }).collect();
        Self { lanes, ..progress }.encode()
    }

    /// Returns what was encoded, or `None` if this is something else.
    pub(super) fn decode(encoded: &[u8]) -> Option<Self> {
        let at = encoded.iter().position(|&byte| byte == b'\n')?;
        let (line, mut states) = (&encoded[..at], &encoded[at + 1..]);
        let line: Line = serde_json::from_slice(line).ok().filter(|line: &Line| line.version == VERSION)?;
        let mut lanes = vec![];
        for lane in line.lanes {
            let mut open: Vec<OpenWindow> = vec![];
            for window in lane.windows {
                let (state, rest) = states.split_at_checked(window.state_bytes)?;
                states = rest;
                let (start, end) = (window.start_micros, window.end_micros);
                let span = Span { start: Timestamp::from_micros(start), end: Timestamp::from_micros(end) };
                let is_behind = open.last().is_none_or(|last| last.span.end <= span.start);
                if !is_behind || span.start >= span.end {
                    return None;
                }
                let is_over = window.is_over;
                let window = OpenWindow::new(span, state.into());
                open.push(OpenWindow { is_over, is_committed: is_over, ..window });
            }
            let windows = Windows::new(open, Timestamp::from_micros(lane.ended_micros));
            lanes.push(LaneProgress { done: lane.done.into(), windows });
        }
        let watermark = Timestamp::from_micros(line.watermark_micros);
        let is_whole = states.is_empty() && !lanes.is_empty();
        is_whole.then_some(Self { next: line.next.into(), watermark, lanes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(line: &str, states: &str) -> Option<Progress> {
        Progress::decode(format!("{line}\n{states}").as_bytes())
    }

    #[test]
    fn progress_comes_back_as_it_was_encoded() {
        let line = concat!(
            r#"{"version":1,"next":7,"watermark_micros":20,"lanes":[{"done":9,"ended_micros":10,"windows":["#,
            r#"{"start_micros":10,"end_micros":20,"is_over":true,"state_bytes":2},"#,
            r#"{"start_micros":30,"end_micros":40,"state_bytes":1}]},{"done":7}]}"#
        );
        let progress = decoded(line, "abc").unwrap();
        assert_eq!(progress.encode(), format!("{line}\nabc").as_bytes());
        let [first, second] = &progress.lanes[0].windows.open() else { panic!("it has two windows") };
        assert_eq!((&*first.state, first.is_committed), (&b"ab"[..], true));
        assert_eq!((&*second.state, second.is_committed), (&b"c"[..], false));
        assert!(progress.lanes[1].windows.is_empty());
        let plain = decoded(r#"{"version":1,"next":7,"lanes":[{"done":7},{"done":7}]}"#, "").unwrap();
        assert!(plain.encode().is_empty(), "the checkpoint says it all");
    }

    #[test]
    fn progress_can_be_told_to_a_shard_that_begins_where_it_is() {
        let line = r#"{"version":1,"next":7,"lanes":[{"done":9,"ended_micros":10},{"done":7}]}"#;
        let relative = Progress::relative(format!("{line}\n").as_bytes(), 7.into());
        let expected = r#"{"version":1,"next":0,"lanes":[{"done":2,"ended_micros":10},{"done":0}]}"#;
        assert_eq!(relative, format!("{expected}\n").as_bytes());
        assert!(Progress::relative(b"", 7.into()).is_empty(), "the place says it all");
        let without = Progress::without_done(&relative);
        assert_eq!(without, format!("{}\n", expected.replace(r#""done":2"#, r#""done":0"#)).as_bytes());
    }

    #[test]
    fn l6_what_is_no_progress_is_refused() {
        let window = |start: u64, end: u64| {
            format!(r#"{{"start_micros":{start},"end_micros":{end},"state_bytes":0}}"#)
        };
        let line = |windows: &str| {
            format!(r#"{{"version":1,"next":7,"lanes":[{{"done":7,"windows":[{windows}]}}]}}"#)
        };
        assert!(decoded(&line(&window(10, 20)), "").is_some());
        assert!(decoded(&line(&window(10, 20)), "a").is_none(), "a state that is nobody's");
        assert!(decoded(&line(&window(20, 20)), "").is_none());
        assert!(decoded(&line(&(window(10, 20) + "," + &window(19, 30))), "").is_none(), "they overlap");
        assert!(decoded(r#"{"version":2,"next":7,"lanes":[{"done":7}]}"#, "").is_none());
        assert!(decoded(r#"{"version":1,"next":7,"lanes":[]}"#, "").is_none());
        let cut = line(&window(10, 20).replace(r#""state_bytes":0"#, r#""state_bytes":3"#));
        assert!(decoded(&cut, "ab").is_none(), "a state that is cut");
    }
}
