//! Mending a damaged shard for an owner who gives up what is gone.
//!
//! 1. Each segment file is read: its good frames, what was promised of it, and whether the next one follows.
//! 2. One that holds less than was promised is written again aside: its good frames, and in the place of what is gone a frame that
//!    says so. It is sealed and synced. A crash leaves the stream as damaged as it was.
//! 3. The damaged file gets a second name, and the mended one takes its place. A crash leaves fewer damaged files.
//! 4. Recovery goes on as ever: what lies behind all that was promised is a torn tail, and its business.

use std::path::{Path, PathBuf};

use super::inventory::Inventory;
use super::report::LostRecords;
use super::runs::{Run, find_runs};
use crate::log::format::frame::{FrameHeader, RECORD_HEADER_BYTES};
use crate::log::format::header::{SegmentHeader, decode_first, decode_synced};
use crate::log::manifest::Marks;
use crate::log::segment::rewrite::Rewrite;
use crate::log::segment::window::FRAMES_FROM;
use crate::log::segment::{path_in, sealed};
use crate::log::sys::file::DataFile;
use crate::log::sys::map::Map;
use crate::log::types::describe::ShardDescription;
use crate::log::types::error::{Corruption, Error, Result};
use crate::log::types::sequence::SequenceNumber;

/// What is in a segment file.
struct Survey {
    path: PathBuf,
    base: u64,
    header: SegmentHeader,
    /// The header page, or the trailer, is not what it should be.
    is_header_damaged: bool,
    /// The header page holds nothing; where the segment was synced that is damage, and elsewhere what a power loss leaves.
    is_header_blank: bool,
    /// It says that the segments before it were trimmed.
    is_noted_first: bool,
    runs: Vec<Run>,
    /// The number after the last record, as the trailer says.
    sealed_end: Option<u64>,
    /// The bytes of the file that were synced.
    synced: u64,
    /// The number after the last record that they may have held.
    synced_end: u64,
}

/// The least bytes that a record takes in a frame: its header, and a key of one byte.
const RECORD_BYTES_MIN: u64 = RECORD_HEADER_BYTES as u64 + 1;

/// No damage takes more records than this; a gap in the numbers that is larger is a name or a number that nobody gave.
const LOST_COUNT_MAX: u64 = 1 << 40;

/// The number after the last record of `bytes`, which hold no whole frame and begin with the record of number `next`.
///
/// It is exact where the frames' headers lead from one to the next up to the end; otherwise no fewer than there can have been, so
/// that no number is given to two records.
fn end_of_damaged(bytes: &[u8], next: u64) -> u64 {
    let (mut at, mut end) = (0, next);
    while let Ok(header) = FrameHeader::peek(&bytes[at..]) {
        let count_max = header.len as u64 / RECORD_BYTES_MIN;
        if header.base_sequence != end || u64::from(header.count) > count_max {
            break;
        }
        (at, end) = (at + header.len, header.end_sequence());
    }
    end.saturating_add((bytes.len() - at) as u64 / RECORD_BYTES_MIN)
}

impl Survey {
    /// Reads a segment file. Its records have numbers below that of the next file.
    fn of(shard_dir: &Path, shard: &ShardDescription, base: u64, next_base: Option<u64>) -> Result<Self> {
        let path = path_in(shard_dir, base.into());
        let file = DataFile::open(&path)?;
        let len = file.len()?;
        let made_up = SegmentHeader {
            shard: shard.id.get(),
            base_sequence: base,
            created_at_micros: shard.created_at.as_micros(),
        };
        let (header, is_header_damaged) = match sealed::read_header(&file, shard.id, base.into()) {
            Ok((header, _)) => (header, false),
            Err(Error::Corrupt(_)) => (None, true),
            Err(error) => return Err(error),
        };
        let is_header_blank = header.is_none() && !is_header_damaged;
        let header = header.unwrap_or(made_up);
        let mut page = vec![0; FRAMES_FROM.min(len) as usize];
        file.read_exact_at(&mut page, 0)?;
        let trailer = sealed::read_trailer(&file, &header)?;
        let frames_end = trailer.map_or(len, |trailer| trailer.frames_end);
        let trailer_end = trailer.map(|trailer| trailer.end_sequence);
        let synced = decode_synced(&page);
        let (mut runs, mut synced_end) = (vec![], base);
        if frames_end > FRAMES_FROM {
            let map = Map::read_only(file.std(), frames_end).map_err(|error| file.error("map", error))?;
            let end = trailer_end.or(next_base).unwrap_or(u64::MAX);
            let frames = map.bytes(FRAMES_FROM..frames_end);
            runs = find_runs(frames, FRAMES_FROM, base..end, header.created_at_micros)
                .map_err(|fault| Error::unsupported(&path, fault.to_string()))?;
            let (at, next) =
                runs.last().map_or((FRAMES_FROM, base), |run| (run.bytes.end, run.sequences.end));
            let damaged_to = synced.min(frames_end).max(at);
            synced_end = end_of_damaged(map.bytes(at..damaged_to), next).min(end);
        }
        // A trailer that tells of more records than there is room for is not believed, whatever its checksum says.
        let known_end = runs.last().map_or(base, |run| run.sequences.end);
        let count_max = frames_end.saturating_sub(FRAMES_FROM) / RECORD_BYTES_MIN;
        let sealed_end = trailer_end.filter(|end| end.saturating_sub(known_end) <= count_max);
        let is_header_damaged = is_header_damaged || (trailer_end.is_some() && sealed_end.is_none());
        Ok(Self {
            path,
            base,
            header,
            is_header_damaged,
            is_header_blank,
            is_noted_first: decode_first(&page, base),
            runs,
            sealed_end,
            synced,
            synced_end,
        })
    }

    /// Whether it tells that it, and so all before it, was synced. Power loss leaves a header page whole or blank, so one that is
    /// damaged was whole.
    fn was_synced(&self) -> bool {
        self.sealed_end.is_some() || self.synced > FRAMES_FROM || self.is_header_damaged
    }

    /// The run that begins where the frames should begin.
    fn first_run(&self) -> Option<&Run> {
        self.runs.first().filter(|run| run.bytes.start == FRAMES_FROM && run.sequences.start == self.base)
    }

    /// The number after the last record that can be read without a gap.
    fn good_end(&self) -> u64 {
        self.first_run().map_or(self.base, |run| run.sequences.end)
    }

    fn holds_all_synced(&self) -> bool {
        self.first_run().map_or(FRAMES_FROM, |run| run.bytes.end) >= self.synced
    }
}

/// What mending did.
#[derive(Default)]
pub(super) struct Mends {
    pub(super) lost: Vec<LostRecords>,
    pub(super) kept_files: Vec<PathBuf>,
}

/// A shard that is being mended.
struct Mending<'a> {
    shard_dir: &'a Path,
    shard: &'a ShardDescription,
    /// When the last record that was met arrived.
    last_timestamp: u64,
    mends: Mends,
}

/// Mends what is damaged of a shard, if anything is. It was as far as `marks` when the manifest was written last.
pub(super) fn mend(shard_dir: &Path, shard: &ShardDescription, marks: Marks) -> Result<Mends> {
    let bases: Vec<u64> =
        Inventory::names(shard_dir, marks.horizon)?.1.iter().map(|base| base.get()).collect();
    let surveys = bases.iter().enumerate();
    let surveys = surveys.map(|(at, &base)| Survey::of(shard_dir, shard, base, bases.get(at + 1).copied()));
    let surveys = surveys.collect::<Result<Vec<_>>>()?;
    let promised_count = surveys.iter().rposition(Survey::was_synced).map_or(0, |last| last + 1);
    let promised_end = marks.promised().get();
    let created_at = shard.created_at.as_micros();
    let mut mending = Mending { shard_dir, shard, last_timestamp: created_at, mends: Mends::default() };

    let mut next = marks.horizon.get();
    if let Some(first) = surveys.first().filter(|first| first.base > next && first.is_noted_first) {
        next = first.base;
    }
    for (at, survey) in surveys.iter().enumerate() {
        let is_promised = at < promised_count;
        if survey.base > next {
            if !is_promised && next >= promised_end {
                break;
            }
            mending.fill(
                next,
                survey.base,
                "no records: the file is missing, or the one before it ends too soon",
            )?;
        }
        let next_base = surveys.get(at + 1).map(|next| next.base);
        let required = match survey.sealed_end {
            Some(end) => Some(end),
            None if at + 1 < promised_count => next_base,
            None => None,
        };
        let is_whole = match required {
            Some(end) => survey.good_end() >= end,
            None => !is_promised || survey.holds_all_synced(),
        };
        let is_header_damaged = survey.is_header_damaged || (survey.is_header_blank && required.is_some());
        if is_whole && !is_header_damaged {
            (next, mending.last_timestamp) = match survey.first_run() {
                Some(run) => (run.sequences.end, run.last_timestamp),
                None => (survey.base, mending.last_timestamp),
            };
            continue;
        }
        let end = required.or(next_base).unwrap_or(survey.synced_end.max(promised_end));
        next = mending.rewrite(survey, end)?;
    }
    if next < promised_end {
        mending.fill(next, promised_end, "no records: it is missing, or the one before it ends too soon")?;
    }
    Ok(mending.mends)
}

impl Mending<'_> {
    /// Puts a segment of lost records alone where nothing is.
    fn fill(&mut self, from: u64, end: u64, reason: &str) -> Result<()> {
        let path = path_in(self.shard_dir, from.into());
        let header = SegmentHeader {
            shard: self.shard.id.get(),
            base_sequence: from,
            created_at_micros: self.last_timestamp,
        };
        let mut mended = Rewrite::create(&path, header, false)?;
        self.give_up(&mut mended, &path, end, reason)?;
        self.put_in_place(mended, &path)
    }

    /// Writes a segment again, up to the record before `end`; tells the number that comes next.
    fn rewrite(&mut self, survey: &Survey, end: u64) -> Result<u64> {
        let file = DataFile::open(&survey.path)?;
        let mut mended = Rewrite::create(&survey.path, survey.header, survey.is_noted_first)?;
        let reason = if survey.is_header_damaged {
            "a damaged header or trailer, and damaged frames"
        } else {
            "damaged frames"
        };
        for run in &survey.runs {
            self.give_up(&mut mended, &survey.path, run.sequences.start, reason)?;
            let map = Map::read_only(file.std(), run.bytes.end).map_err(|error| file.error("map", error))?;
            mended.push_frames(map.bytes(run.bytes.clone()))?;
            self.last_timestamp = run.last_timestamp;
        }
        self.give_up(&mut mended, &survey.path, end, reason)?;
        let next = mended.next_sequence();
        self.put_in_place(mended, &survey.path)?;
        Ok(next)
    }

    fn give_up(&mut self, mended: &mut Rewrite, path: &Path, end: u64, reason: &str) -> Result<()> {
        let first = mended.next_sequence();
        if end.saturating_sub(first) > LOST_COUNT_MAX {
            let reason = format!("expected sequence number {first}, found {end}: too far to be true");
            let (path, shard) = (path.to_owned(), Some(self.shard.id));
            return Err(
                Corruption { path, shard, offset: 0, sequence: Some(first.into()), reason }.into_error()
            );
        }
        if first < end {
            mended.push_lost(end, self.last_timestamp)?;
            let (path, reason) = (path.to_owned(), reason.to_owned());
            let sequences = SequenceNumber::new(first)..SequenceNumber::new(end);
            self.mends.lost.push(LostRecords { shard: self.shard.id, sequences, path, reason });
        }
        Ok(())
    }

    fn put_in_place(&mut self, mended: Rewrite, path: &Path) -> Result<()> {
        self.mends.kept_files.extend(mended.replace(path)?);
        Ok(())
    }
}
