//! Converts the times of a fragment's frames to what containers need: whole ticks, decoding times, durations.

use std::borrow::Borrow;

use super::Codec;
use crate::video::{Frame, Track, TrackKind, VideoError};

/// The ticks a second of pictures: whole for every millisecond, and for all usual frame rates.
pub(super) const VIDEO_TIMESCALE: u32 = 90_000;

/// How far the times of a producer may be from the exact ones of its sound: those of Matroska are usually whole milliseconds.
const ROUNDING_NS: i64 = 1_000_000;

/// The duration of the only frame of a track, if nothing specifies it.
const DURATION_NS_DEFAULT: i64 = 40_000_000;

/// A frame with its times, in ticks of its track's scale.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sample<'f> {
    pub(super) presentation: i64,
    pub(super) decode: i64,
    /// The time until the decoding of the next sample; for the last one, how long it lasts.
    pub(super) duration: u32,
    pub(super) is_key: bool,
    pub(super) data: &'f [u8],
}

/// The ticks per second of a track, and how many of them each of its frames lasts, if its codec defines that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Scale {
    pub(super) timescale: u32,
    /// The samples a second of sound.
    sample_rate: u32,
    frame: FrameSamples,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FrameSamples {
    Untold,
    Fixed(u32),
    /// A sample for each group of this many bytes.
    Bytes(u32),
}

impl Scale {
    pub(super) fn of(track: &Track, codec: &Codec) -> Self {
        let (sample_rate, frame) = match codec {
            Codec::Aac(config) => (config.sample_rate, FrameSamples::Fixed(config.frame_samples)),
            _ => match codec.moment_bytes(track.channels) {
                Some(bytes) => (track.sample_rate, FrameSamples::Bytes(bytes)),
                None => (VIDEO_TIMESCALE, FrameSamples::Untold),
            },
        };
        Self { timescale: sample_rate, sample_rate, frame }
    }

    /// Returns the same with other ticks.
    pub(super) fn with_timescale(self, timescale: u32) -> Self {
        Self { timescale, ..self }
    }

    /// Returns the nearest tick.
    pub(super) fn ticks(&self, ns: i64) -> i64 {
        let ticks = (i128::from(ns) * i128::from(self.timescale) + 500_000_000).div_euclid(1_000_000_000);
        // A second has fewer ticks than nanoseconds.
        ticks as i64
    }

    /// Returns the nearest tick of another scale to one of this.
    pub(super) fn rescaled(&self, ticks: i64, timescale: u32) -> i64 {
        let own = i128::from(self.timescale);
        let ticks = (i128::from(ticks) * i128::from(timescale) + own / 2).div_euclid(own);
        // Saturates: a time that far away is wrong in any scale.
        ticks.clamp(i128::from(i64::MIN) / 2, i128::from(i64::MAX) / 2) as i64
    }

    /// Returns how long a frame lasts, if its codec defines that.
    pub(super) fn frame_ticks(&self, data: &[u8]) -> Option<i64> {
        let samples = match self.frame {
            FrameSamples::Untold => return None,
            FrameSamples::Fixed(samples) => samples,
            FrameSamples::Bytes(bytes) => u32::try_from(data.len()).ok()? / bytes,
        };
        Some((u64::from(samples) * u64::from(self.timescale) / u64::from(self.sample_rate)) as i64)
    }
}

/// How decoding times relate to presentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decoding {
    /// Decoding begins with the earliest presentation, and the difference of the two may be negative.
    AtPresentation,
    /// Decoding is never later than presentation. The number is the fewest frames by which it is ahead.
    Ahead(u32),
}

/// Where the frames go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Placement {
    /// The offset that is added to the times of presentation.
    pub(super) offset_ns: i64,
    /// When the sound before these frames ends, or one tick after the decoding of the picture before them.
    pub(super) after: Option<i64>,
    pub(super) decoding: Decoding,
}

/// Gives the frames of one track their times.
pub(super) fn samples<'f>(
    track: &Track,
    scale: Scale,
    frames: impl Iterator<Item = &'f Frame<'f>>,
    placement: Placement,
) -> Result<Vec<Sample<'f>>, VideoError> {
    let mut samples: Vec<Sample<'f>> = vec![];
    let mut latest = None;
    for frame in frames {
        let time_ns = frame.time_ns.checked_add(placement.offset_ns).ok_or_else(out_of_range)?;
        latest = latest.max(Some((time_ns, frame.duration_ns)));
        let presentation = scale.ticks(time_ns);
        samples.push(Sample {
            presentation,
            decode: presentation,
            duration: 0,
            is_key: frame.is_key,
            data: frame.data.borrow(),
        });
    }
    if track.kind == TrackKind::Video {
        order_decoding(&mut samples, track, scale, placement);
    } else {
        straighten(&mut samples, scale, placement.after);
    }
    let is_too_far = |sample: &Sample<'_>| {
        i32::try_from(i128::from(sample.presentation) - i128::from(sample.decode)).is_err()
    };
    if samples.iter().any(is_too_far) {
        return Err(out_of_range());
    }
    let told = latest.and_then(|(_, duration_ns)| i64::try_from(duration_ns?).ok()).map(|ns| scale.ticks(ns));
    let by_codec = samples.last().and_then(|last| scale.frame_ticks(last.data));
    let durations: Vec<_> = samples.windows(2).map(|two| two[1].decode.checked_sub(two[0].decode)).collect();
    let before = durations.last().copied().flatten();
    let last = by_codec.or(told).or(before).unwrap_or_else(|| scale.ticks(DURATION_NS_DEFAULT));
    for (sample, duration) in samples.iter_mut().zip(durations.into_iter().chain([Some(last)])) {
        sample.duration =
            duration.and_then(|duration| u32::try_from(duration).ok()).ok_or_else(out_of_range)?;
    }
    Ok(samples)
}

fn out_of_range() -> VideoError {
    VideoError::InvalidMedia("the time of a frame is out of range".into())
}

/// Makes sound continue without a gap as long as the producer's times agree except for rounding.
fn straighten(samples: &mut [Sample<'_>], scale: Scale, mut next: Option<i64>) {
    let rounding = scale.ticks(ROUNDING_NS) + 1;
    let mut earliest = i64::MIN;
    for sample in samples {
        sample.presentation = match next {
            Some(next) if next.abs_diff(sample.presentation) <= rounding.unsigned_abs() => next,
            _ => sample.presentation.max(earliest),
        };
        sample.decode = sample.presentation;
        earliest = sample.presentation.saturating_add(1);
        let ticks = scale.frame_ticks(sample.data);
        next = ticks.map(|ticks| sample.presentation.saturating_add(ticks)).filter(|&next| next >= earliest);
    }
}

/// Derives the times of decoding: Matroska has none, but stores frames in decoding order.
fn order_decoding(samples: &mut [Sample<'_>], track: &Track, scale: Scale, placement: Placement) {
    let mut sorted: Vec<_> = samples.iter().map(|sample| sample.presentation).collect();
    sorted.sort_unstable();
    if let Decoding::Ahead(least) = placement.decoding {
        let ahead = needed_ahead(samples, &sorted).max(least as usize);
        let gaps = sorted.windows(2).map(|two| two[1].abs_diff(two[0])).filter(|&gap| gap > 0);
        let told = track.default_duration_ns.and_then(|ns| i64::try_from(ns).ok());
        let told = told.map(|ns| scale.ticks(ns).unsigned_abs());
        let gap = gaps.min().or(told).unwrap_or_else(|| scale.ticks(DURATION_NS_DEFAULT).unsigned_abs());
        let first = sorted.first().copied().unwrap_or(0);
        let gap = i64::try_from(gap).unwrap_or(0);
        let lead = (1..=ahead as i64).rev().map(|count| first.saturating_sub(gap.saturating_mul(count)));
        sorted = lead.chain(sorted.iter().copied()).take(samples.len()).collect();
    }
    let mut earliest = placement.after.unwrap_or(i64::MIN);
    for (sample, decode) in samples.iter_mut().zip(sorted) {
        sample.decode = decode.max(earliest);
        earliest = sample.decode.saturating_add(1);
    }
}

/// Returns by how many frames decoding has to be ahead, so that each frame is decoded when it is presented.
fn needed_ahead(samples: &[Sample<'_>], sorted: &[i64]) -> usize {
    let rank = |sample: &Sample<'_>| sorted.partition_point(|&time| time < sample.presentation);
    samples.iter().enumerate().map(|(index, sample)| index.saturating_sub(rank(sample))).max().unwrap_or(0)
}
