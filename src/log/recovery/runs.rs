//! The good frames of a segment whose bytes are damaged in between.

use std::ops::Range;

use crate::log::format::frame::{FRAME_ALIGN, Frame, FrameFault, FrameHeader};

/// Frames that follow each other without a fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Run {
    /// Where they are in the segment file.
    pub(super) bytes: Range<u64>,
    pub(super) sequences: Range<u64>,
    pub(super) first_timestamp: u64,
    pub(super) last_timestamp: u64,
}

/// Looking for frames at each place where one could begin may read the same bytes for many of them; so often at most, on
/// average. Only bytes made to that end reach it, and what is behind such a place then counts as lost.
const READS_OF_A_BYTE_MAX: u64 = 32;

/// All runs of good frames in `bytes`, which stand at `from` in the file and should begin with the first of `sequences`. None arrived
/// before `since`, when the segment was begun: what looks like such a frame was in a record that the file held as another segment.
///
/// A frame behind damage is one whose checksum is right and whose numbers and times fit between those of its neighbours. The run that
/// stands where the frames begin is what was put, and nothing speaks against it. Of two others that exclude each other, the one nearer
/// to the end is believed: what a damaged frame held may look like frames, what follows it is what was put.
///
/// # Errors
/// `Unsupported` for a frame of a newer version that follows good ones: it is no damage.
pub(super) fn find_runs(
    bytes: &[u8],
    from: u64,
    sequences: Range<u64>,
    since: u64,
) -> Result<Vec<Run>, FrameFault> {
    let mut runs: Vec<Run> = vec![];
    let mut budget = (bytes.len() as u64).saturating_mul(READS_OF_A_BYTE_MAX);
    let (mut at, mut first) = (0, Some(sequences.start));
    // The number and the time at which the run ends that stands where the frames begin.
    let mut known = (sequences.start, since);
    while at < bytes.len() {
        // What is not a run's first frame may have any number that is not below.
        let is_candidate = |header: &FrameHeader| match first {
            Some(first) => header.base_sequence == first,
            None => {
                header.base_sequence >= known.0
                    && header.timestamp_micros >= known.1
                    && header.end_sequence() <= sequences.end
            }
        };
        match FrameHeader::peek(&bytes[at..]).ok().filter(is_candidate) {
            Some(header) if budget >= header.len as u64 => {
                let expected = first.filter(|_| at == 0);
                match run_at(bytes, at, (expected, sequences.end), &mut budget)? {
                    Some(run) => {
                        if at == 0 {
                            known = (run.sequences.end, run.last_timestamp);
                        }
                        at = run.bytes.end as usize;
                        let shift = |at: u64| from + at;
                        runs.push(Run { bytes: shift(run.bytes.start)..shift(run.bytes.end), ..run });
                    }
                    None => at += FRAME_ALIGN,
                }
            }
            _ => at += FRAME_ALIGN,
        }
        first = None;
    }
    let mut kept: Vec<Run> = vec![];
    for run in runs.into_iter().rev() {
        let fits = kept.last().is_none_or(|next| {
            run.sequences.end <= next.sequences.start && run.last_timestamp <= next.first_timestamp
        });
        if fits {
            kept.push(run);
        }
    }
    kept.reverse();
    Ok(kept)
}

/// The run that begins at a place, if a good frame does. `expected` is its first number, where it is known.
fn run_at(
    bytes: &[u8],
    start: usize,
    (expected, sequence_end): (Option<u64>, u64),
    budget: &mut u64,
) -> Result<Option<Run>, FrameFault> {
    let mut run: Option<Run> = None;
    let mut at = start;
    while let Ok(peeked) = FrameHeader::peek(&bytes[at..]) {
        let Some(left) = budget.checked_sub(peeked.len as u64) else { break };
        *budget = left;
        let header = match Frame::decode(&bytes[at..]) {
            Ok(frame) => frame.header,
            Err(fault @ FrameFault::Unsupported { .. }) => {
                let next = run.as_ref().map(|run| run.sequences.end).or(expected);
                if next == Some(peeked.base_sequence) {
                    return Err(fault);
                }
                break;
            }
            Err(_) => break,
        };
        let follows = run.as_ref().is_none_or(|run| {
            header.base_sequence == run.sequences.end && header.timestamp_micros >= run.last_timestamp
        });
        if !follows || header.end_sequence() > sequence_end {
            break;
        }
        at += header.len;
        let first_timestamp = run.as_ref().map_or(header.timestamp_micros, |run| run.first_timestamp);
        let first_sequence = run.as_ref().map_or(header.base_sequence, |run| run.sequences.start);
        run = Some(Run {
            bytes: start as u64..at as u64,
            sequences: first_sequence..header.end_sequence(),
            first_timestamp,
            last_timestamp: header.timestamp_micros,
        });
    }
    Ok(run)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::format::draft::FrameDraft;

    /// A frame of `count` records of 20 bytes.
    fn frame(base: u64, count: u32, data: &[u8]) -> Vec<u8> {
        frame_of(base, 1_000 + base, count, data)
    }

    fn frame_of(base: u64, timestamp: u64, count: u32, data: &[u8]) -> Vec<u8> {
        let mut draft = FrameDraft::default();
        draft.clear(0);
        // A key of one word: what is in the data then stands where frames could begin.
        (0..count).for_each(|_| draft.push(b"some-key", data));
        draft.finish();
        draft.seal(base, timestamp);
        draft.parts(&[]).concat()
    }

    fn sequences(bytes: &[u8], within: Range<u64>) -> Vec<Range<u64>> {
        find_runs(bytes, 4096, within, 0).unwrap().into_iter().map(|run| run.sequences).collect()
    }

    #[test]
    fn every_frame_but_the_damaged_ones_is_found_again() {
        let frames: Vec<_> = (0..20).map(|at| frame(5 + 3 * at, 3, b"some data")).collect();
        let len = frames[0].len();
        let whole = frames.concat();
        assert_eq!(sequences(&whole, 5..65), vec![5..65]);
        for (first, second) in [(0, 1), (0, 19), (7, 7), (3, 12), (18, 19)] {
            for byte in 0..len {
                let mut damaged = whole.clone();
                damaged[first * len + byte] ^= 0x10;
                damaged[second * len + len / 2] ^= 0x01;
                let runs = find_runs(&damaged, 4096, 5..65, 0).unwrap();
                let mut lost: Vec<u64> = (5..65).collect();
                for run in &runs {
                    lost.retain(|sequence| !run.sequences.contains(sequence));
                    assert_eq!(run.bytes.start, 4096 + (run.sequences.start - 5) / 3 * len as u64);
                }
                let of = |frame: usize| 5 + 3 * frame as u64..8 + 3 * frame as u64;
                // The same byte of the same frame flipped twice over may be whole again.
                if first == second && byte == len / 2 {
                    continue;
                }
                let expected: Vec<u64> =
                    if first == second { of(first).collect() } else { of(first).chain(of(second)).collect() };
                assert_eq!(lost, expected, "byte {byte} of frame {first}");
            }
        }
    }

    #[test]
    fn frames_within_the_data_of_a_damaged_frame_are_not_taken_for_records() {
        // What somebody has who keeps segments of a log in another log.
        let inner = [frame(5, 1, b"no"), frame(6, 1, b"no"), frame(7, 1, b"no")].concat();
        let outer = frame(4, 1, &inner);
        let mut bytes = [frame(3, 1, b"yes"), outer, frame(5, 1, b"yes"), frame(6, 1, b"yes")].concat();
        let at = frame(3, 1, b"yes").len();
        for byte in [at, at + 4, at + 9] {
            bytes[byte] ^= 4;
            assert_eq!(sequences(&bytes, 3..7), [3..4, 5..7], "byte {byte}");
            bytes[byte] ^= 4;
        }
    }

    #[test]
    fn p11_bytes_made_to_look_like_frames_everywhere_cost_a_bounded_time() {
        // Each word is the length of a frame that reaches to the end, and the number of one that would fit.
        let mut bytes = vec![0; 1 << 20];
        let len = bytes.len();
        for at in (0..len).step_by(8) {
            let left = (len - at) as u32;
            bytes[at..at + 4].copy_from_slice(&left.to_ne_bytes());
            bytes[at + 4] = 1;
        }
        assert_eq!(sequences(&bytes, 0..u64::MAX), []);
    }

    #[test]
    fn frames_from_before_the_segment_was_begun_are_not_taken_for_its_records() {
        let inner = [frame_of(4, 500, 1, b"no"), frame_of(5, 500, 1, b"no")].concat();
        let held = frame_of(2, 600, 1, &inner);
        for byte in [0, 9] {
            let mut bytes =
                [frame(3, 1, b"yes"), frame(4, 1, b"yes"), frame(5, 1, b"yes"), held.clone()].concat();
            bytes[byte] ^= 4;
            let runs = find_runs(&bytes, 4096, 3..u64::MAX, 1_000).unwrap();
            let found: Vec<_> = runs.iter().map(|run| (run.sequences.start, run.sequences.end)).collect();
            assert_eq!(found, [(4, 6)], "byte {byte}");
        }
    }

    #[test]
    fn good_frames_in_front_are_not_given_up_for_what_a_damaged_frame_holds() {
        let inner = [frame(5, 1, b"no"), frame(6, 1, b"no"), frame(7, 1, b"no")].concat();
        let good: Vec<u8> = (0..1000).flat_map(|at| frame(at, 1, b"yes")).collect();
        let mut draft = FrameDraft::default();
        draft.clear(0);
        // A key that puts the data where a frame could begin.
        draft.push(b"12345678", &inner);
        draft.finish();
        draft.seal(1000, 5_000);
        let mut bytes = [good.clone(), draft.parts(&[]).concat()].concat();
        bytes[good.len() + 4] ^= 1;
        assert_eq!(sequences(&bytes, 0..u64::MAX), vec![0..1000]);
    }
}
