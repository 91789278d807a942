//! The search for the good frames of a segment with damaged bytes in between.

use std::ops::Range;

use crate::log::format::FRAME_ALIGN;
use crate::log::format::fault::FrameFault;
use crate::log::format::frame::FrameHeader;
use crate::log::format::salt::Salt;
use crate::log::format::walk::{Depth, FrameWalk};

/// Frames that follow each other without a fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Run {
    /// Where the frames are in the segment file.
    pub(super) bytes: Range<u64>,
    pub(super) sequences: Range<u64>,
    pub(super) first_timestamp: u64,
    pub(super) last_timestamp: u64,
}

/// How often the search may read a byte, on average. It tries each place where a frame could begin, and may read the same bytes for many of
/// them. Only bytes crafted for that purpose reach the limit. Frames behind such a place then count as lost.
const READS_OF_A_BYTE_MAX: u64 = 32;

/// Returns all runs of good frames in `bytes`, which are at `from` in the file and should begin with the first of `sequences`.
///
/// A frame behind damage is good if its checksum is right and its numbers and times fit between those of its neighbours. The run that
/// begins where the frames begin was put, and nothing contradicts it. If two other runs exclude each other, the one nearer to the end
/// counts: the content of a damaged frame may look like frames, but what follows that frame was put.
///
/// # Errors
/// `Unsupported` for a frame of a newer version that follows good frames, which is not damage.
pub(super) fn find_runs(
    bytes: &[u8],
    from: u64,
    sequences: Range<u64>,
    salt: &Salt,
) -> Result<Vec<Run>, FrameFault> {
    let mut runs: Vec<Run> = vec![];
    let mut budget = (bytes.len() as u64).saturating_mul(READS_OF_A_BYTE_MAX);
    let (mut at, mut first) = (0, Some(sequences.start));
    // The sequence number and the time at which the first run ends, which begins where the frames begin.
    let mut known = (sequences.start, 0);
    while at < bytes.len() {
        // The first frame of a later run may have any number that is not lower.
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
                let walk =
                    FrameWalk::new(&bytes[at..], from + at as u64, header.base_sequence, Depth::Whole(salt));
                match run_from(walk, sequences.end, &mut budget)? {
                    Some(run) => {
                        if at == 0 {
                            known = (run.sequences.end, run.last_timestamp);
                        }
                        at = (run.bytes.end - from) as usize;
                        runs.push(run);
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

/// Returns the run that begins at the start of a walk, if a good frame begins there. The numbers of its records are below `sequence_end`.
fn run_from(mut walk: FrameWalk<'_>, sequence_end: u64, budget: &mut u64) -> Result<Option<Run>, FrameFault> {
    let (first_byte, first_sequence) = (walk.offset(), walk.next_sequence());
    let mut run: Option<Run> = None;
    while let Some(left) = walk.peek_len().and_then(|len| budget.checked_sub(len as u64)) {
        *budget = left;
        let frame = match walk.here() {
            Ok(Some(frame)) => frame,
            Err(fault @ FrameFault::Unsupported { .. }) => return Err(fault),
            Ok(None) | Err(_) => break,
        };
        let is_older = run.as_ref().is_some_and(|run| frame.timestamp_micros < run.last_timestamp);
        if is_older || frame.end_sequence() > sequence_end {
            break;
        }
        walk.pass(&frame);
        run = Some(Run {
            bytes: first_byte..walk.offset(),
            sequences: first_sequence..walk.next_sequence(),
            first_timestamp: run.map_or(frame.timestamp_micros, |run| run.first_timestamp),
            last_timestamp: frame.timestamp_micros,
        });
    }
    Ok(run)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PutRecord;
    use crate::log::format::draft::DraftBuffer;

    fn salt() -> Salt {
        Salt::new([5; 16])
    }

    /// Returns a frame of `count` records of 20 bytes.
    fn frame(base: u64, count: u32, data: &[u8]) -> Vec<u8> {
        frame_of(base, 1_000 + base, count, data)
    }

    fn frame_of(base: u64, timestamp: u64, count: u32, data: &[u8]) -> Vec<u8> {
        // A key of one word, so that the data is at places where frames could begin.
        let records = vec![PutRecord::new("some-key", data); count as usize];
        let mut buffer = DraftBuffer::default();
        let mut draft = buffer.draft(records.iter(), 0);
        draft.seal(base, timestamp, &salt());
        draft.parts().concat()
    }

    fn sequences(bytes: &[u8], within: Range<u64>) -> Vec<Range<u64>> {
        find_runs(bytes, 4096, within, &salt()).unwrap().into_iter().map(|run| run.sequences).collect()
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
                let runs = find_runs(&damaged, 4096, 5..65, &salt()).unwrap();
                let mut lost: Vec<u64> = (5..65).collect();
                for run in &runs {
                    lost.retain(|sequence| !run.sequences.contains(sequence));
                    assert_eq!(run.bytes.start, 4096 + (run.sequences.start - 5) / 3 * len as u64);
                }
                let of = |frame: usize| 5 + 3 * frame as u64..8 + 3 * frame as u64;
                // If the same byte of the same frame is flipped twice, the frame may be whole again.
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
        // As in the log of somebody who keeps segments of another log in it.
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
    fn frames_from_an_earlier_life_of_the_file_are_not_taken_for_its_records() {
        let mut old = frame(3, 1, b"no");
        let mut buffer = DraftBuffer::default();
        let record = PutRecord::new("some-key", "no");
        let mut draft = buffer.draft_one(&record);
        draft.seal(5, 1_005, &Salt::new([6; 16]));
        let other = draft.parts().concat();
        old[9] ^= 4;
        let bytes = [old, frame(4, 1, b"yes"), other].concat();
        assert_eq!(sequences(&bytes, 3..u64::MAX), vec![4..5]);
    }

    #[test]
    fn good_frames_in_front_are_not_given_up_for_what_a_damaged_frame_holds() {
        let inner = [frame(5, 1, b"no"), frame(6, 1, b"no"), frame(7, 1, b"no")].concat();
        let good: Vec<u8> = (0..1000).flat_map(|at| frame(at, 1, b"yes")).collect();
        let mut bytes = [good.clone(), frame_of(1000, 5_000, 1, &inner)].concat();
        bytes[good.len() + 4] ^= 1;
        assert_eq!(sequences(&bytes, 0..u64::MAX), vec![0..1000]);
    }
}
