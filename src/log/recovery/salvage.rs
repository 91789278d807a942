//! Salvage: repairing a damaged shard for an owner who gives up what is lost.
//!
//! 1. Each segment file is read: its good frames, what was promised of it, and whether the next one follows.
//! 2. A file that holds less than was promised is rewritten beside the old one. It gets the good frames, and frames of lost records in
//!    place of the rest. It is sealed and synced. A crash leaves the stream as damaged as it was.
//! 3. The damaged file gets a second name, and the repaired one takes its place. A crash leaves fewer damaged files.
//! 4. Recovery proceeds as usual. Everything behind the promised records is a torn tail, which it cuts.

use std::path::PathBuf;

use super::inventory::names;
use super::report::LostRecords;
use super::runs::{Run, find_runs};
use crate::log::format::header::{FRAMES_FROM, SegmentHeader};
use crate::log::format::record::RECORD_HEAD_BYTES;
use crate::log::format::salt::Salt;
use crate::log::format::walk::{Depth, FrameWalk};
use crate::log::manifest::Marks;
use crate::log::segment::place::{SegmentPlace, ShardDir};
use crate::log::segment::rewrite::Rewrite;
use crate::log::segment::stored::{self, HeaderPage};
use crate::log::sys::file::DataFile;
use crate::log::sys::map::Map;
use crate::log::types::describe::ShardDescription;
use crate::log::types::error::{Error, Result};
use crate::log::types::sequence::SequenceNumber;

/// The content of a segment file.
struct Survey {
    place: SegmentPlace,
    header: SegmentHeader,
    /// Whether the header page or the trailer is damaged.
    is_header_damaged: bool,
    /// Whether the header page is all zeros. If the segment was synced, that is damage; otherwise a power loss leaves it like that.
    is_header_blank: bool,
    /// Whether it says that the segments before it were trimmed.
    is_noted_first: bool,
    runs: Vec<Run>,
    /// The number after the last record, according to the trailer.
    sealed_end: Option<u64>,
    /// Where the frames end, according to the trailer.
    sealed_bytes: Option<u64>,
    /// The bytes of the file that were synced.
    synced: u64,
    /// The number after the last record that the synced bytes may have held.
    synced_end: u64,
}

/// The fewest bytes that a record takes in a frame: its head and a key of one byte.
const RECORD_BYTES_MIN: u64 = RECORD_HEAD_BYTES as u64 + 1;

/// The most records that damage is believed to have taken. A larger gap in the numbers comes from a name or a number that was never
/// assigned.
const LOST_COUNT_MAX: u64 = 1 << 40;

/// Returns the number after the last record of `bytes`, which hold no whole frame and begin with the record of number `next`.
///
/// The number is exact if the frames' headers lead from one to the next up to the end. Otherwise it is an upper bound, so that no number is
/// assigned to two records.
fn end_of_damaged(bytes: &[u8], next: u64) -> u64 {
    let mut walk = FrameWalk::new(bytes, 0, next, Depth::Headers);
    while let Ok(Some(frame)) = walk.here() {
        if u64::from(frame.count) > frame.len as u64 / RECORD_BYTES_MIN {
            break;
        }
        walk.pass(&frame);
    }
    walk.next_sequence().saturating_add((bytes.len() as u64 - walk.offset()) / RECORD_BYTES_MIN)
}

/// The header of a segment file, and whether its own place was damaged or blank. Then it comes from its second copy or from the trailer. If
/// both are gone too, it is made up: with a new salt, so that no bytes of the file pass for a frame.
struct FoundHeader {
    header: SegmentHeader,
    is_damaged: bool,
    is_blank: bool,
}

impl FoundHeader {
    fn find(
        file: &DataFile,
        page: &HeaderPage,
        place: &SegmentPlace,
        made_up: impl FnOnce() -> Result<SegmentHeader>,
    ) -> Result<Self> {
        let is_damaged = match page.header(place) {
            Ok(Some(header)) => return Ok(Self { header, is_damaged: false, is_blank: false }),
            Ok(None) => false,
            Err(Error::Corrupt(_)) => true,
            Err(error) => return Err(error),
        };
        let elsewhere = match page.copy(place) {
            Some(header) => Some(header),
            None => stored::header_in_trailer(file, place)?,
        };
        let header = elsewhere.map_or_else(made_up, Ok)?;
        Ok(Self { header, is_damaged, is_blank: !is_damaged })
    }
}

impl Survey {
    /// Reads a segment file. The numbers of its records are below that of the next file.
    fn read(place: SegmentPlace, shard: &ShardDescription, next_base: Option<u64>) -> Result<Self> {
        let (base, path) = (place.base.get(), &place.path);
        let file = DataFile::open(path)?;
        let (len, page) = (file.len()?, HeaderPage::read(&file)?);
        let made_up = || place.new_header(shard.created_at.as_micros());
        let found = FoundHeader::find(&file, &page, &place, made_up)?;
        let header = found.header;
        let trailer = stored::read_trailer(&file, &header)?;
        let frames_end = trailer.map_or(len, |trailer| trailer.frames.end);
        let trailer_end = trailer.map(|trailer| trailer.frames.end_sequence);
        let synced = page.synced();
        let (mut runs, mut synced_end) = (vec![], base);
        if frames_end > FRAMES_FROM {
            let map = Map::read_only(file.std(), frames_end).map_err(|error| file.error("map", error))?;
            let end = trailer_end.or(next_base).unwrap_or(u64::MAX);
            let frames = map.bytes(FRAMES_FROM..frames_end);
            runs = find_runs(frames, FRAMES_FROM, base..end, &Salt::new(header.salt))
                .map_err(|fault| Error::unsupported(path, fault.to_string()))?;
            let (at, next) =
                runs.last().map_or((FRAMES_FROM, base), |run| (run.bytes.end, run.sequences.end));
            let damaged_to = synced.min(frames_end).max(at);
            synced_end = end_of_damaged(map.bytes(at..damaged_to), next).min(end);
        }
        // A trailer that claims more records than there is room for is not trusted, whatever its checksum.
        let known_end = runs.last().map_or(base, |run| run.sequences.end);
        let count_max = frames_end.saturating_sub(FRAMES_FROM) / RECORD_BYTES_MIN;
        let sealed_end = trailer_end.filter(|end| end.saturating_sub(known_end) <= count_max);
        Ok(Self {
            header,
            is_header_damaged: found.is_damaged || (trailer_end.is_some() && sealed_end.is_none()),
            is_header_blank: found.is_blank,
            is_noted_first: page.is_noted_first(&place),
            runs,
            sealed_end,
            sealed_bytes: trailer.map(|trailer| trailer.frames.end),
            synced,
            synced_end,
            place,
        })
    }

    fn base(&self) -> u64 {
        self.place.base.get()
    }

    /// Returns whether the file shows that it, and therefore everything before it, was synced. Power loss leaves a header page whole or
    /// blank, so a damaged one was whole once.
    fn was_synced(&self) -> bool {
        self.sealed_end.is_some() || self.synced > FRAMES_FROM || self.is_header_damaged
    }

    /// Returns the run that begins where the frames should begin.
    fn first_run(&self) -> Option<&Run> {
        self.runs.first().filter(|run| run.bytes.start == FRAMES_FROM && run.sequences.start == self.base())
    }

    /// Returns the number after the last record that can be read without a gap.
    fn good_end(&self) -> u64 {
        self.first_run().map_or(self.base(), |run| run.sequences.end)
    }

    /// Returns the offset just after the last record that can be read without a gap.
    fn good_bytes(&self) -> u64 {
        self.first_run().map_or(FRAMES_FROM, |run| run.bytes.end)
    }

    fn holds_all_synced(&self) -> bool {
        self.good_bytes() >= self.synced
    }

    /// Returns whether its frames reach as far as its trailer says, if it has one. Otherwise a reader would meet the bytes behind them.
    fn holds_all_sealed(&self) -> bool {
        self.sealed_bytes.is_none_or(|bytes| self.good_bytes() >= bytes)
    }
}

/// The result of a salvage.
#[derive(Default)]
pub(super) struct Salvaged {
    pub(super) lost: Vec<LostRecords>,
    pub(super) kept_files: Vec<PathBuf>,
}

/// A shard that is being repaired.
struct Repair<'a> {
    dir: &'a ShardDir,
    shard: &'a ShardDescription,
    /// The arrival time of the last record found so far.
    last_timestamp: u64,
    salvaged: Salvaged,
}

/// Repairs the damaged parts of a shard, if any. `marks` are those of the last written manifest.
pub(super) fn salvage(dir: &ShardDir, shard: &ShardDescription, marks: Marks) -> Result<Salvaged> {
    let bases = names(dir, marks.horizon)?.1;
    let next_base = |at: usize| bases.get(at + 1).map(|base| base.get());
    let surveys = bases.iter().enumerate();
    let surveys = surveys.map(|(at, &base)| Survey::read(dir.segment(base), shard, next_base(at)));
    let surveys = surveys.collect::<Result<Vec<_>>>()?;
    let promised_count = surveys.iter().rposition(Survey::was_synced).map_or(0, |last| last + 1);
    let promised_end = marks.promised().get();
    let created_at = shard.created_at.as_micros();
    let mut repair = Repair { dir, shard, last_timestamp: created_at, salvaged: Salvaged::default() };

    let mut next = marks.horizon.get();
    if let Some(first) = surveys.first().filter(|first| first.base() > next && first.is_noted_first) {
        next = first.base();
    }
    for (at, survey) in surveys.iter().enumerate() {
        let is_promised = at < promised_count;
        if survey.base() > next {
            if !is_promised && next >= promised_end {
                break;
            }
            let reason = "no records: the file is missing, or the one before it ends too soon";
            repair.fill(next, survey.base(), reason)?;
        }
        let required = match survey.sealed_end {
            Some(end) => Some(end),
            None if at + 1 < promised_count => next_base(at),
            None => None,
        };
        let is_whole = match required {
            Some(end) => survey.good_end() >= end && survey.holds_all_sealed(),
            // The manifest promises records, too, whatever the files say.
            None => {
                let promised_here = next_base(at).map_or(promised_end, |next| next.min(promised_end));
                survey.good_end() >= promised_here && (!is_promised || survey.holds_all_synced())
            }
        };
        // A page that was synced, or stands before synced records, was not blank.
        let held_synced = required.is_some() || survey.synced > 0 || survey.base() < promised_end;
        let is_header_damaged = survey.is_header_damaged || (survey.is_header_blank && held_synced);
        if is_whole && !is_header_damaged {
            (next, repair.last_timestamp) = match survey.first_run() {
                Some(run) => (run.sequences.end, run.last_timestamp),
                None => (survey.base(), repair.last_timestamp),
            };
            continue;
        }
        let end = required.or(next_base(at)).unwrap_or(survey.synced_end.max(promised_end));
        next = repair.rewrite(survey, end)?;
    }
    if next < promised_end {
        repair.fill(next, promised_end, "no records: it is missing, or the one before it ends too soon")?;
    }
    Ok(repair.salvaged)
}

impl Repair<'_> {
    /// Creates a segment that holds only lost records where a file is missing.
    fn fill(&mut self, from: u64, end: u64, reason: &str) -> Result<()> {
        let place = self.dir.segment(from.into());
        let header = place.new_header(self.last_timestamp)?;
        let mut rewrite = Rewrite::create(&place, header, false)?;
        self.give_up(&mut rewrite, &place, end, reason)?;
        self.put_in_place(rewrite, &place)
    }

    /// Rewrites a segment, up to the record before `end`. Returns the number after its last record.
    fn rewrite(&mut self, survey: &Survey, end: u64) -> Result<u64> {
        let Survey { place, header, is_noted_first, .. } = survey;
        let file = DataFile::open(&place.path)?;
        let mut rewrite = Rewrite::create(place, *header, *is_noted_first)?;
        let reason = if survey.is_header_damaged {
            "a damaged header or trailer, and damaged frames"
        } else {
            "damaged frames"
        };
        for run in &survey.runs {
            self.give_up(&mut rewrite, place, run.sequences.start, reason)?;
            let map = Map::read_only(file.std(), run.bytes.end).map_err(|error| file.error("map", error))?;
            rewrite.push_frames(map.bytes(run.bytes.clone()))?;
            self.last_timestamp = run.last_timestamp;
        }
        self.give_up(&mut rewrite, place, end, reason)?;
        let next = rewrite.next_sequence();
        self.put_in_place(rewrite, place)?;
        Ok(next)
    }

    fn give_up(&mut self, rewrite: &mut Rewrite, place: &SegmentPlace, end: u64, reason: &str) -> Result<()> {
        let first = rewrite.next_sequence();
        if end.saturating_sub(first) > LOST_COUNT_MAX {
            let reason = format!("expected sequence number {first}, found {end}: too far to be true");
            return Err(place.damage(0, first.into(), reason));
        }
        if first < end {
            rewrite.push_lost(end, self.last_timestamp)?;
            let (path, reason) = (place.path.to_path_buf(), reason.to_owned());
            let sequences = SequenceNumber::new(first)..SequenceNumber::new(end);
            self.salvaged.lost.push(LostRecords { shard: self.shard.id, sequences, path, reason });
        }
        Ok(())
    }

    fn put_in_place(&mut self, rewrite: Rewrite, place: &SegmentPlace) -> Result<()> {
        self.salvaged.kept_files.extend(rewrite.replace(place)?);
        Ok(())
    }
}
