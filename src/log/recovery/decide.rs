//! The decision about what happens to a shard's files, made from what was found and without touching anything.
//!
//! 1. *Beginning*: the first file begins at or before the horizon, or says that it is the first. Otherwise a file is missing.
//! 2. *Following*: the unsealed files are followed as long as each begins with the number after the last good record of the one before.
//! 3. Everything behind that point is a torn tail and is cut, if nothing of it was ever synced. This includes files behind a gap in the
//!    names, since names reach the disk in any order until their directory is synced.
//! 4. Otherwise the shard is damaged: `Error::Corrupt`.
//! 5. A shard that ends below its horizon continues at the horizon: trimmed records need not have been synced.

use super::inventory::Inventory;
use super::scan::{Scan, Scanned, Stop};
use crate::log::format::header::FRAMES_FROM;
use crate::log::format::summary::Summary;
use crate::log::manifest::Marks;
use crate::log::segment::active::Resumable;
use crate::log::segment::place::{SegmentPlace, ShardDir};
use crate::log::types::error::{Error, Result};
use crate::log::types::sequence::SequenceNumber;
use crate::log::types::time::Timestamp;

/// The facts known about an unsealed file.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    pub(super) base: SequenceNumber,
    /// The length of the file.
    pub(super) len: u64,
    /// The synced watermark in its header page.
    pub(super) synced: u64,
    /// Its good frames and why they end, or `None` for a file without a header page. An error counts only if the good frames of the files
    /// before lead to this file.
    pub(super) frames: Result<Option<(Summary, Stop)>>,
}

impl Facts {
    pub(super) fn of(scanned: &Scanned) -> Self {
        let frames = match &scanned.scan {
            Ok(Scan::Blank) => Ok(None),
            Ok(Scan::Frames { frames, stop, .. }) => Ok(Some((frames.frames, stop.clone()))),
            Err(error) => Err(error.clone()),
        };
        let Scanned { place, len, synced, .. } = scanned;
        Self { base: place.base, len: *len, synced: *synced, frames }
    }

    fn was_synced(&self) -> bool {
        self.synced > FRAMES_FROM
    }
}

/// The plan for a shard's files.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Files behind the torn tail, in order. They are removed durably, from the last one back. If one came back after new records had taken
    /// its numbers, it might fit behind those records.
    pub(super) cut: Vec<SequenceNumber>,
    /// Files whose creation was not finished. They never held a record, and their names add nothing to what the files before say.
    pub(super) unfinished: Vec<SequenceNumber>,
    /// Whether everything left was trimmed and ends below the horizon. Then all files are removed.
    pub(super) is_all_behind: bool,
    /// Unsealed files that hold records. They are kept, unless all is behind the horizon.
    pub(super) unsealed: Vec<SequenceNumber>,
    /// The last segment, if it may be written to again.
    pub(super) resumable: Option<Resumable>,
    pub(super) torn_tail: Option<TornAt>,
    pub(super) next_sequence: SequenceNumber,
    pub(super) last_timestamp: Timestamp,
    pub(super) scanned_bytes: u64,
}

/// The place where a torn tail begins.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TornAt {
    pub(super) base: SequenceNumber,
    pub(super) offset: u64,
    pub(super) bytes: u64,
    pub(super) reason: String,
}

/// The files of a shard, and what the manifest says about it.
pub(super) struct Case<'a> {
    pub(super) dir: &'a ShardDir,
    /// The number of the first record that the shard ever had.
    pub(super) first_sequence: SequenceNumber,
    pub(super) marks: Marks,
    pub(super) inventory: &'a Inventory,
    /// One entry for each unsealed file.
    pub(super) unsealed: &'a [Facts],
}

impl Case<'_> {
    pub(super) fn decide(&self) -> Result<Plan> {
        let last_sealed = self.inventory.last_sealed;
        let sealed_until = last_sealed.map_or(0, |sealed| sealed.last_timestamp_micros);
        let mut plan = Plan {
            next_sequence: self.beginning()?,
            // Expired records were not younger than the ones that follow them.
            last_timestamp: Timestamp::from_micros(sealed_until).max(self.marks.last_timestamp),
            ..Plan::default()
        };
        self.follow(&mut plan)?;
        if self.unsealed.is_empty() {
            let last = self.inventory.sealed.last().copied().zip(last_sealed);
            plan.resumable = last.map(|(base, frames)| Resumable { base, frames });
        }
        let last = self.inventory.sealed.last().copied().unwrap_or(plan.next_sequence);
        self.check_promise(&self.dir.segment(last), plan.next_sequence)?;
        if plan.next_sequence < self.marks.horizon {
            plan.is_all_behind = true;
            (plan.next_sequence, plan.resumable) = (self.marks.horizon, None);
        }
        Ok(plan)
    }

    /// Returns the sequence number with which the unsealed files must begin.
    fn beginning(&self) -> Result<SequenceNumber> {
        let Inventory { sealed, last_sealed, unsealed, is_noted_first, .. } = self.inventory;
        let (first_sealed, first_unsealed) = (sealed.first().copied(), unsealed.first().copied());
        let horizon = self.marks.horizon;
        if let Some(first) = first_sealed.filter(|&first| first > horizon && !is_noted_first) {
            // A segment is sealed only after the names of all segments before it are synced.
            return Err(missing(&self.dir.segment(first), horizon));
        }
        let begins_at = first_sealed.or(first_unsealed).filter(|_| *is_noted_first).unwrap_or(horizon);
        Ok(match last_sealed {
            Some(sealed) => sealed.end_sequence.into(),
            // Retention may have removed the segments before, up to the horizon.
            None => first_unsealed.unwrap_or(begins_at).min(begins_at).max(self.first_sequence),
        })
    }

    /// Follows the unsealed files from `plan.next_sequence` on.
    fn follow(&self, plan: &mut Plan) -> Result<()> {
        for (at, file) in self.unsealed.iter().enumerate() {
            let place = self.dir.segment(file.base);
            if file.base != plan.next_sequence {
                return self.cut_at_gap(plan, &self.unsealed[at..], &place);
            }
            let frames = file.frames.clone()?;
            let end = frames.as_ref().map_or(file.base, |(frames, _)| frames.end_sequence.into());
            let following = &self.unsealed[at + 1..];
            let goes_on = following.first().is_some_and(|next| next.base == end);
            let following = if goes_on { &[] } else { following };
            self.check_synced(&place, file, following)?;
            if !goes_on {
                self.check_promise(&place, end)?;
                let is_torn = frames.as_ref().is_none_or(|(_, stop)| stop.is_torn);
                if is_torn || !following.is_empty() {
                    let offset = file.frames_end();
                    let bytes = file.len.saturating_sub(offset);
                    plan.torn_tail =
                        Some(TornAt { base: file.base, offset, bytes, reason: file.stopped_at() });
                }
            }
            plan.cut.extend(following.iter().map(|file| file.base));
            plan.scanned_bytes += file.frames_end();
            match frames {
                None => plan.unfinished.push(file.base),
                Some((frames, _)) if frames.is_empty() => plan.resumable = Some(Resumable::empty(file.base)),
                Some((frames, _)) => {
                    plan.unsealed.push(file.base);
                    plan.next_sequence = end;
                    let last = Timestamp::from_micros(frames.last_timestamp_micros);
                    plan.last_timestamp = plan.last_timestamp.max(last);
                }
            }
            if !goes_on {
                break;
            }
        }
        Ok(())
    }

    /// Cuts files whose first one does not begin where the records end: its name reached the disk, and the name of the file before it did
    /// not.
    fn cut_at_gap(&self, plan: &mut Plan, tail: &[Facts], first: &SegmentPlace) -> Result<()> {
        if tail.iter().any(Facts::was_synced) {
            return Err(missing(first, plan.next_sequence));
        }
        self.check_promise(first, plan.next_sequence)?;
        let reason = expected_segment(plan.next_sequence, first.base);
        plan.torn_tail = Some(TornAt { base: first.base, offset: 0, bytes: tail[0].len, reason });
        plan.cut.extend(tail.iter().map(|file| file.base));
        Ok(())
    }

    /// Fails unless the records that were synced when the manifest was last written are there, whatever the segments say.
    fn check_promise(&self, place: &SegmentPlace, end: SequenceNumber) -> Result<()> {
        let promised = self.marks.promised();
        if end >= promised {
            return Ok(());
        }
        let reason =
            format!("expected records up to sequence number {promised}, found them to end before {end}");
        Err(place.damage(0, end, reason))
    }

    /// Fails if part of the tail was synced: only an unsynced tail may be cut. A segment is synced only after the segments before it, so a
    /// synced segment proves that all before it were synced.
    fn check_synced(&self, place: &SegmentPlace, file: &Facts, following: &[Facts]) -> Result<()> {
        let damage = |reason: String| {
            let end = match &file.frames {
                Ok(Some((frames, _))) => frames.end_sequence.into(),
                _ => file.base,
            };
            Err(place.damage(file.frames_end(), end, format!("{}; {reason}", file.stopped_at())))
        };
        if file.frames_end() < file.synced {
            return damage(format!("all up to byte {} was synced", file.synced));
        }
        if let Some(later) = following.iter().find(|file| file.was_synced()) {
            let path = self.dir.segment_path(later.base);
            return damage(format!("the later segment {} was synced", path.display()));
        }
        Ok(())
    }
}

impl Facts {
    /// Returns the offset just after the last good frame.
    fn frames_end(&self) -> u64 {
        match &self.frames {
            Ok(Some((frames, _))) => frames.end,
            _ => 0,
        }
    }

    /// Returns what was found where the good frames end.
    fn stopped_at(&self) -> String {
        match &self.frames {
            Ok(Some((_, stop))) => stop.fault.to_string(),
            _ => "expected a segment header, found none".into(),
        }
    }
}

fn expected_segment(expected: SequenceNumber, found: SequenceNumber) -> String {
    format!(
        "expected the segment that begins with sequence number {expected}, found the one of {found}: a file is missing"
    )
}

/// Returns the error for a gap or an overlap in front of the segment `next`.
fn missing(next: &SegmentPlace, expected: SequenceNumber) -> Error {
    next.damage(0, expected, expected_segment(expected, next.base))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::ShardId;
    use crate::log::format::fault::FrameFault;
    use crate::log::sys::root::OwnPath;

    fn number(number: u64) -> SequenceNumber {
        SequenceNumber::new(number)
    }

    fn summary(end: u64, end_sequence: u64) -> Summary {
        Summary { end, end_sequence, first_timestamp_micros: 5, last_timestamp_micros: 9 }
    }

    fn stop(is_torn: bool) -> Stop {
        Stop { fault: if is_torn { FrameFault::Shape } else { FrameFault::Blank }, is_torn }
    }

    /// Returns an unsealed file with records up to `end`, of 100 bytes each, synced up to the record `synced`.
    fn file(base: u64, end: u64, synced: u64, is_torn: bool) -> Facts {
        let bytes = |sequence: u64| FRAMES_FROM + 100 * (sequence - base);
        let frames = Ok(Some((Summary { end: bytes(end), ..summary(0, end) }, stop(is_torn))));
        let synced = if synced > base { bytes(synced) } else { 0 };
        Facts { base: number(base), len: 1 << 20, synced, frames }
    }

    fn blank(base: u64) -> Facts {
        Facts { base: number(base), len: 1 << 20, synced: 0, frames: Ok(None) }
    }

    fn unreadable(base: u64) -> Facts {
        let newer = Error::unsupported(Path::new("a.seg"), "segment format version 9");
        Facts { base: number(base), len: 1 << 20, synced: 0, frames: Err(newer) }
    }

    /// Decides for a shard with sealed files up to `sealed_end`, the first of which begins with the first of `sealed`.
    fn decide(
        sealed: &[u64],
        sealed_end: Option<u64>,
        unsealed: &[Facts],
        marks: (u64, u64),
    ) -> Result<Plan> {
        let dir = ShardDir::new(&OwnPath::open_root(Path::new("/")).unwrap(), ShardId::new(0));
        let inventory = Inventory {
            sealed: sealed.iter().copied().map(number).collect(),
            last_sealed: sealed_end.map(|end| summary(60_000, end)),
            unsealed: unsealed.iter().map(|file| file.base).collect(),
            behind: vec![],
            is_noted_first: false,
        };
        let marks = Marks {
            horizon: number(marks.0),
            synced: number(marks.1),
            last_timestamp: Timestamp::from_micros(7),
        };
        let first_sequence = SequenceNumber::ZERO;
        Case { dir: &dir, first_sequence, marks, inventory: &inventory, unsealed }.decide()
    }

    #[track_caller]
    fn assert_damage(outcome: Result<Plan>, sequence: u64) {
        match outcome {
            Err(Error::Corrupt(damage)) => assert_eq!(damage.sequence, Some(number(sequence)), "{damage}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_shard_that_was_closed_cleanly_goes_on_in_its_last_segment() {
        let plan = decide(&[0, 50], Some(80), &[], (0, 80)).unwrap();
        let resumable = Some(Resumable { base: number(50), frames: summary(60_000, 80) });
        let last_timestamp = Timestamp::from_micros(9);
        let expected = Plan { resumable, next_sequence: number(80), last_timestamp, ..Plan::default() };
        assert_eq!(plan, expected);
    }

    #[test]
    fn unsealed_files_are_followed_and_the_last_one_ends_where_its_good_frames_do() {
        let files = [file(80, 90, 85, true), file(90, 95, 90, false)];
        let plan = decide(&[0], Some(80), &files, (0, 80)).unwrap();
        assert_eq!(plan.unsealed, [number(80), number(90)], "bytes behind the first are of no interest");
        assert_eq!((plan.next_sequence, &plan.torn_tail, plan.resumable), (number(95), &None, None));
        assert_eq!(plan.last_timestamp, Timestamp::from_micros(9));
        assert_eq!(plan.scanned_bytes, 2 * FRAMES_FROM + 1_500);
    }

    #[test]
    fn p3_what_follows_the_last_good_frame_is_cut_if_nothing_of_it_was_synced() {
        let files = [file(0, 10, 10, true), file(12, 20, 12, false), unreadable(20)];
        let plan = decide(&[], None, &files, (0, 0)).unwrap();
        assert_eq!((plan.unsealed, plan.cut), (vec![number(0)], vec![number(12), number(20)]));
        let torn = plan.torn_tail.unwrap();
        assert_eq!((torn.base, torn.offset, torn.bytes), (number(0), 5_096, (1 << 20) - 5_096));
    }

    #[test]
    fn p9_what_was_synced_is_not_cut() {
        assert_damage(decide(&[], None, &[file(0, 10, 11, true)], (0, 0)), 10);
        assert_damage(decide(&[], None, &[file(0, 10, 10, true), file(12, 20, 13, false)], (0, 0)), 10);
        assert_damage(decide(&[], None, &[file(0, 10, 0, false)], (0, 11)), 10);
        assert_damage(decide(&[], None, &[file(5, 10, 6, false)], (0, 0)), 0);
        assert_damage(decide(&[0], Some(80), &[], (0, 81)), 80);
        assert_damage(decide(&[50], Some(80), &[], (40, 80)), 40);
    }

    #[test]
    fn p3_files_behind_a_gap_in_the_names_are_cut() {
        let plan = decide(&[0], Some(80), &[file(85, 90, 85, false)], (0, 80)).unwrap();
        assert_eq!((plan.cut, plan.unsealed), (vec![number(85)], vec![]));
        assert_eq!(plan.torn_tail.unwrap().offset, 0);
    }

    #[test]
    fn a_file_that_was_being_created_is_removed_and_an_empty_one_written_on() {
        let plan = decide(&[0], Some(80), &[blank(80)], (0, 80)).unwrap();
        assert_eq!((plan.unfinished, plan.next_sequence), (vec![number(80)], number(80)));
        let plan = decide(&[0], Some(80), &[file(80, 80, 0, false)], (0, 80)).unwrap();
        assert_eq!(plan.resumable, Some(Resumable::empty(number(80))));
        assert_eq!((plan.torn_tail, plan.unsealed), (None, vec![]));
    }

    #[test]
    fn p14_a_file_of_a_newer_version_is_refused_where_the_records_lead_to_it() {
        let files = [file(0, 10, 10, false), unreadable(10)];
        assert!(matches!(decide(&[], None, &files, (0, 0)), Err(Error::UnsupportedFormat(_))));
    }

    #[test]
    fn p5_a_shard_that_ends_below_its_horizon_goes_on_there() {
        let plan = decide(&[0], Some(80), &[file(80, 90, 80, false)], (100, 100)).unwrap();
        assert!(plan.is_all_behind && plan.resumable.is_none());
        assert_eq!(plan.unsealed, [number(80)], "the shard was not closed cleanly");
        assert_eq!(plan.next_sequence, number(100));
    }
}
