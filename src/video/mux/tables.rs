//! The description of a clip: its samples, when they play, and where they are.

use std::ops::Range;

use super::boxes::Boxes;
use super::clip::{Clip, ClipTrack};
use super::fragmented::{write_media_header, write_movie_header, write_track_header};
use super::{MOVIE_TIMESCALE, entry};
use crate::video::TrackKind;

/// Consecutive samples of a track in the file.
pub(super) struct Chunk {
    /// The index of the track.
    pub(super) track: usize,
    /// The index of the description of its samples.
    pub(super) entry: usize,
    pub(super) samples: Range<usize>,
}

/// Returns everything before the samples of a clip, which have `media_bytes` bytes.
pub(super) fn write(clip: &Clip<'_>, media_bytes: u64) -> Vec<u8> {
    let mut boxes = Boxes::default();
    boxes.add(b"ftyp", |boxes| {
        boxes.raw(b"isom");
        boxes.u32(0x200);
        boxes.raw(b"isomiso2avc1mp41");
    });
    // A size of 64 bits comes after the kind.
    let is_large = media_bytes > u64::from(u32::MAX) - 8;
    let mdat_header = if is_large { 16 } else { 8 };
    let start = boxes.bytes.len();
    // The length of the description does not depend on the offsets in it.
    let is_far = media_bytes > u64::from(u32::MAX) / 2;
    let mut movie =
        Movie { clip, timings: clip.tracks.iter().map(Timing::of).collect(), is_far, media_at: 0 };
    movie.write(&mut boxes);
    movie.media_at = boxes.bytes.len() as u64 + mdat_header;
    boxes.bytes.truncate(start);
    movie.write(&mut boxes);
    if is_large {
        boxes.u32(1);
        boxes.raw(b"mdat");
        boxes.u64(media_bytes + mdat_header);
    } else {
        boxes.u32((media_bytes + mdat_header) as u32);
        boxes.raw(b"mdat");
    }
    boxes.bytes
}

struct Movie<'c, 'm> {
    clip: &'c Clip<'m>,
    timings: Vec<Timing>,
    /// Whether offsets need 64 bits.
    is_far: bool,
    /// Where the first sample is in the file.
    media_at: u64,
}

/// When the samples of a track play, in ticks of the track.
struct Timing {
    /// The decoding of the first sample, which is also its earliest presentation, from the beginning of the clip.
    start: i64,
    /// By how much presentation is shifted, so that no sample is presented before it is decoded.
    shift: i64,
    durations: Vec<u32>,
    /// The bytes of sound for one moment, if the track is described by moments and not by frames.
    moment_bytes: Option<u32>,
    total: u64,
}

impl Timing {
    fn of(track: &ClipTrack<'_>) -> Self {
        let samples = &track.samples;
        let next = samples.iter().skip(1).map(|next| Some(next.decode)).chain([None]);
        let durations = samples.iter().zip(next).map(|(sample, next)| match next {
            Some(next) => u32::try_from(next - sample.decode).expect("the clip checks it"),
            None => sample.duration,
        });
        let durations: Vec<_> = durations.collect();
        let shift =
            samples.iter().map(|sample| sample.decode - sample.presentation).max().unwrap_or(0).max(0);
        let start = samples.first().map_or(0, |first| first.decode);
        let total = durations.iter().map(|&duration| u64::from(duration)).sum();
        Self { start, shift, moment_bytes: moment_bytes(track, &durations), durations, total }
    }
}

/// Uncompressed sound without gaps is described by moments, as old players expect.
fn moment_bytes(track: &ClipTrack<'_>, durations: &[u32]) -> Option<u32> {
    let [(described, codec)] = &track.entries[..] else { return None };
    let bytes = codec.moment_bytes(described.channels)?;
    let mut frames = track.samples.iter().zip(durations);
    let is_regular = frames.all(|(sample, &duration)| {
        sample.data.len() as u64 == u64::from(duration) * u64::from(bytes) && duration > 0
    });
    let total: u64 = durations.iter().map(|&duration| u64::from(duration)).sum();
    (is_regular && total <= u64::from(u32::MAX)).then_some(bytes)
}

/// Runs of equal values.
fn runs<T: PartialEq>(values: impl Iterator<Item = T>) -> Vec<(u32, T)> {
    let mut runs: Vec<(u32, T)> = vec![];
    for value in values {
        match runs.last_mut() {
            Some((count, last)) if *last == value => *count += 1,
            _ => runs.push((1, value)),
        }
    }
    runs
}

impl Movie<'_, '_> {
    fn write(&self, boxes: &mut Boxes) {
        boxes.add(b"moov", |boxes| {
            let duration = (0..self.clip.tracks.len()).map(|index| self.end(index)).max().unwrap_or(0);
            write_movie_header(boxes, duration, self.clip.tracks.len() as u32 + 1);
            for index in 0..self.clip.tracks.len() {
                // A track without samples confuses players.
                if !self.clip.tracks[index].samples.is_empty() {
                    self.write_track(boxes, index);
                }
            }
        });
    }

    /// Returns a time of a track in ticks of the movie.
    fn movie_ticks(&self, index: usize, ticks: u64) -> u64 {
        let timescale = u128::from(self.clip.tracks[index].scale.timescale);
        ((u128::from(ticks) * u128::from(MOVIE_TIMESCALE) + timescale / 2) / timescale) as u64
    }

    /// Returns when a track begins, in ticks of the movie.
    fn delay(&self, index: usize) -> u64 {
        self.movie_ticks(index, u64::try_from(self.timings[index].start).unwrap_or(0))
    }

    fn end(&self, index: usize) -> u64 {
        self.delay(index) + self.movie_ticks(index, self.timings[index].total)
    }

    fn write_track(&self, boxes: &mut Boxes, index: usize) {
        let (track, timing) = (&self.clip.tracks[index], &self.timings[index]);
        let described = track.entries[0].0;
        let width = track.entries.iter().map(|(entry, _)| entry.width).max().unwrap_or(0);
        let height = track.entries.iter().map(|(entry, _)| entry.height).max().unwrap_or(0);
        boxes.add(b"trak", |boxes| {
            write_track_header(boxes, described, index as u32 + 1, self.end(index), (width, height));
            if self.delay(index) > 0 || timing.shift > 0 {
                boxes.add(b"edts", |boxes| self.write_edits(boxes, index));
            }
            boxes.add(b"mdia", |boxes| {
                write_media_header(boxes, described, track.scale.timescale, timing.total);
                entry::write_handler(boxes, described.kind);
                entry::write_media_information(boxes, described.kind, |boxes| {
                    self.write_tables(boxes, index)
                });
            });
        });
    }

    /// Writes an empty edit until the track begins, and then its media from its first presentation.
    fn write_edits(&self, boxes: &mut Boxes, index: usize) {
        let delay = self.delay(index);
        boxes.add_full(b"elst", 1, 0, |boxes| {
            boxes.u32(1 + u32::from(delay > 0));
            if delay > 0 {
                boxes.u64(delay);
                boxes.u64(u64::MAX);
                boxes.u32(1 << 16);
            }
            boxes.u64(self.movie_ticks(index, self.timings[index].total));
            boxes.u64(self.timings[index].shift.unsigned_abs());
            boxes.u32(1 << 16);
        });
    }

    fn write_tables(&self, boxes: &mut Boxes, index: usize) {
        let (track, timing) = (&self.clip.tracks[index], &self.timings[index]);
        boxes.add_full(b"stsd", 0, 0, |boxes| {
            boxes.u32(track.entries.len() as u32);
            for (described, codec) in &track.entries {
                entry::write(boxes, described, codec);
            }
        });
        boxes.add_full(b"stts", 0, 0, |boxes| match timing.moment_bytes {
            Some(_) => {
                boxes.u32(1);
                boxes.u32(timing.total as u32);
                boxes.u32(1);
            }
            None => {
                let runs = runs(timing.durations.iter());
                boxes.u32(runs.len() as u32);
                for (count, duration) in runs {
                    boxes.u32(count);
                    boxes.u32(*duration);
                }
            }
        });
        if track.entries[0].0.kind == TrackKind::Video {
            self.write_video_tables(boxes, track, timing);
        }
        boxes.add_full(b"stsz", 0, 0, |boxes| match timing.moment_bytes {
            Some(bytes) => {
                boxes.u32(bytes);
                boxes.u32(timing.total as u32);
            }
            None => {
                boxes.u32(0);
                boxes.u32(track.samples.len() as u32);
                for sample in &track.samples {
                    boxes.u32(sample.data.len() as u32);
                }
            }
        });
        self.write_chunks(boxes, index);
    }

    fn write_video_tables(&self, boxes: &mut Boxes, track: &ClipTrack<'_>, timing: &Timing) {
        if timing.shift > 0 {
            let offsets =
                track.samples.iter().map(|sample| sample.presentation - sample.decode + timing.shift);
            let runs = runs(offsets);
            boxes.add_full(b"ctts", 0, 0, |boxes| {
                boxes.u32(runs.len() as u32);
                for (count, offset) in runs {
                    boxes.u32(count);
                    boxes.u32(offset as u32);
                }
            });
        }
        let keys = (1..).zip(&track.samples).filter(|(_, sample)| sample.is_key);
        let keys: Vec<u32> = keys.map(|(number, _)| number).collect();
        if keys.len() < track.samples.len() {
            boxes.add_full(b"stss", 0, 0, |boxes| {
                boxes.u32(keys.len() as u32);
                keys.into_iter().for_each(|number| boxes.u32(number));
            });
        }
    }

    fn write_chunks(&self, boxes: &mut Boxes, index: usize) {
        let track = &self.clip.tracks[index];
        let bytes = |chunk: &Chunk| -> u64 {
            let samples = &self.clip.tracks[chunk.track].samples[chunk.samples.clone()];
            samples.iter().map(|sample| sample.data.len() as u64).sum()
        };
        let mut at = self.media_at;
        let (mut offsets, mut shapes) = (vec![], vec![]);
        for chunk in &self.clip.chunks {
            let length = bytes(chunk);
            if chunk.track == index {
                offsets.push(at);
                let samples = match self.timings[index].moment_bytes {
                    Some(moment) => (length / u64::from(moment)) as u32,
                    None => chunk.samples.len() as u32,
                };
                shapes.push((samples, chunk.entry as u32 + 1));
            }
            at += length;
        }
        debug_assert!(!track.samples.is_empty());
        boxes.add_full(b"stsc", 0, 0, |boxes| {
            let runs = runs(shapes.into_iter());
            boxes.u32(runs.len() as u32);
            let mut first = 1;
            for (count, (samples, entry)) in runs {
                boxes.u32(first);
                boxes.u32(samples);
                boxes.u32(entry);
                first += count;
            }
        });
        if self.is_far {
            boxes.add_full(b"co64", 0, 0, |boxes| {
                boxes.u32(offsets.len() as u32);
                offsets.into_iter().for_each(|offset| boxes.u64(offset));
            });
        } else {
            boxes.add_full(b"stco", 0, 0, |boxes| {
                boxes.u32(offsets.len() as u32);
                offsets.into_iter().for_each(|offset| boxes.u32(offset as u32));
            });
        }
    }
}
