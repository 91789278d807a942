//! Fragmented MP4: a segment that describes the tracks, and one for each fragment, which depends only on the fragment.

use super::Codec;
use super::boxes::Boxes;
use super::codec::playable;
use super::entry;
use super::timing::{self, Decoding, Placement, Sample, Scale};
use crate::video::{Media, Track, TrackKind, VideoError};

/// The position of a media segment in a presentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SegmentPlace {
    /// The number of the segment, which players use to detect missing segments.
    pub sequence: u32,
    /// Added to the times of the fragment's frames, in nanoseconds, to convert them to those of the presentation.
    pub offset_ns: i64,
    /// When the next segment begins, in nanoseconds of the presentation, if known: the last picture lasts until then.
    pub end_ns: Option<i64>,
    /// The number of the only track to write, or `None` for all video and audio tracks.
    pub track: Option<u64>,
}

/// A track that can be written, with the data that MP4 needs.
struct Output<'t> {
    track: &'t Track,
    codec: Codec,
    scale: Scale,
    id: u32,
}

impl<'t> Output<'t> {
    fn of(track: &'t Track) -> Result<Self, VideoError> {
        let codec = Codec::of(track)?;
        entry::check(track, &codec)?;
        let scale = Scale::of(track, &codec);
        // The Matroska number, so that a player finds a track in any combination of tracks.
        let id = u32::try_from(track.number)
            .map_err(|_| VideoError::UnsupportedMedia(format!("track number {}", track.number).into()))?;
        Ok(Self { track, codec, scale, id })
    }
}

fn outputs<'t>(tracks: &'t [Track], only: Option<u64>) -> Result<Vec<Output<'t>>, VideoError> {
    let wanted = playable(tracks)?.into_iter().filter(|track| only.is_none_or(|only| track.number == only));
    let outputs = wanted.map(Output::of).collect::<Result<Vec<_>, _>>()?;
    if outputs.is_empty() {
        return Err(VideoError::UnsupportedMedia("there is no track of pictures or sound".into()));
    }
    Ok(outputs)
}

/// Returns the initialization segment of tracks, which a player reads before the first media segment, and again when parameters of a codec change.
/// Tracks other than video and audio are left out.
///
/// # Errors
///
/// Fails with [`VideoError::UnsupportedMedia`], naming the codec, if MP4 cannot hold it, and with [`VideoError::MissingCodecPrivateData`] or
/// [`VideoError::InvalidCodecPrivateData`] if a track's parameters are missing or damaged.
pub fn fmp4_init(tracks: &[Track]) -> Result<Vec<u8>, VideoError> {
    let outputs = outputs(tracks, None)?;
    let mut boxes = Boxes::default();
    boxes.add(b"ftyp", |boxes| {
        boxes.raw(b"iso6");
        boxes.u32(1);
        boxes.raw(b"iso6cmfcmp41");
    });
    boxes.add(b"moov", |boxes| {
        let next = outputs.iter().map(|output| output.id).max().unwrap_or(0);
        write_movie_header(boxes, 0, next.saturating_add(1));
        for output in &outputs {
            write_track(boxes, output);
        }
        boxes.add(b"mvex", |boxes| {
            for output in &outputs {
                boxes.add_full(b"trex", 0, 0, |boxes| {
                    boxes.u32(output.id);
                    boxes.u32(1);
                    boxes.zeros(12);
                });
            }
        });
    });
    Ok(boxes.bytes)
}

/// Appends the header of a movie, with its duration in ticks of the movie.
pub(super) fn write_movie_header(boxes: &mut Boxes, duration: u64, next_track: u32) {
    boxes.add_full(b"mvhd", 1, 0, |boxes| {
        boxes.zeros(16);
        boxes.u32(super::MOVIE_TIMESCALE);
        boxes.u64(duration);
        boxes.u32(1 << 16);
        boxes.u16(1 << 8);
        boxes.zeros(10);
        boxes.identity();
        boxes.zeros(24);
        boxes.u32(next_track);
    });
}

/// Appends the header of a track, with its duration in ticks of the movie.
pub(super) fn write_track_header(boxes: &mut Boxes, track: &Track, id: u32, duration: u64, size: (u32, u32)) {
    // Enabled, in the movie.
    boxes.add_full(b"tkhd", 1, 3, |boxes| {
        boxes.zeros(16);
        boxes.u32(id);
        boxes.u32(0);
        boxes.u64(duration);
        boxes.zeros(12);
        boxes.u16(if track.kind == TrackKind::Audio { 1 << 8 } else { 0 });
        boxes.u16(0);
        boxes.frame_size(size.0, size.1);
    });
}

/// Appends the header of a track's media, with its duration in ticks of the track.
pub(super) fn write_media_header(boxes: &mut Boxes, track: &Track, timescale: u32, duration: u64) {
    boxes.add_full(b"mdhd", 1, 0, |boxes| {
        boxes.zeros(16);
        boxes.u32(timescale);
        boxes.u64(duration);
        boxes.u16(entry::language(track));
        boxes.u16(0);
    });
}

fn write_track(boxes: &mut Boxes, output: &Output<'_>) {
    let track = output.track;
    boxes.add(b"trak", |boxes| {
        write_track_header(boxes, track, output.id, 0, (track.width, track.height));
        boxes.add(b"mdia", |boxes| {
            write_media_header(boxes, track, output.scale.timescale, 0);
            entry::write_handler(boxes, track.kind);
            entry::write_media_information(boxes, track.kind, |boxes| {
                boxes.add_full(b"stsd", 0, 0, |boxes| {
                    boxes.u32(1);
                    entry::write(boxes, track, &output.codec);
                });
                boxes.add_full(b"stts", 0, 0, |boxes| boxes.u32(0));
                boxes.add_full(b"stsc", 0, 0, |boxes| boxes.u32(0));
                boxes.add_full(b"stsz", 0, 0, |boxes| boxes.zeros(8));
                boxes.add_full(b"stco", 0, 0, |boxes| boxes.u32(0));
            });
        });
    });
}

/// A track of a segment.
struct Run<'m> {
    output: Output<'m>,
    /// The ticks from 0 to the first sample's decoding.
    base: u64,
    samples: Vec<Sample<'m>>,
}

/// Returns the media segment of a fragment, which plays after the initialization segment of the same tracks.
///
/// It depends only on the fragment, because the decoding order is the order of the frames. So you can create segments in any order, and again for
/// each request. A presentation that begins at one second instead of 0 leaves room to decode pictures before they are presented.
///
/// Audio before time 0 of the presentation is left out.
///
/// # Errors
///
/// Same as [`fmp4_init`]; [`VideoError::InvalidMedia`] if times are out of range.
pub fn fmp4_segment(media: &Media<'_>, place: SegmentPlace) -> Result<Vec<u8>, VideoError> {
    let mut runs = vec![];
    for output in outputs(&media.tracks, place.track)? {
        runs.extend(run(media, output, place)?);
    }
    if runs.is_empty() {
        return Err(VideoError::InvalidMedia("the fragment has no frames".into()));
    }
    let bytes: usize = runs.iter().flat_map(|run| &run.samples).map(|sample| sample.data.len()).sum();
    let count: usize = runs.iter().map(|run| run.samples.len()).sum();
    // Offsets within a segment have 31 bits.
    if bytes > 1 << 30 {
        return Err(VideoError::LimitExceeded("a media segment of more than 1 GiB".into()));
    }
    let mut boxes = Boxes::with_capacity(bytes + 16 * count + 512);
    boxes.add(b"styp", |boxes| {
        boxes.raw(b"msdh");
        boxes.u32(0);
        boxes.raw(b"msdhmsix");
    });
    let mut offsets_at = vec![];
    let start = boxes.bytes.len();
    boxes.add(b"moof", |boxes| {
        boxes.add_full(b"mfhd", 0, 0, |boxes| boxes.u32(place.sequence));
        for run in &runs {
            boxes.add(b"traf", |boxes| write_run(boxes, run, &mut offsets_at));
        }
    });
    let mut offset = boxes.bytes.len() - start + 8;
    for (run, at) in runs.iter().zip(offsets_at) {
        boxes.bytes[at..at + 4].copy_from_slice(&(offset as u32).to_be_bytes());
        offset += run.samples.iter().map(|sample| sample.data.len()).sum::<usize>();
    }
    boxes.add(b"mdat", |boxes| {
        for sample in runs.iter().flat_map(|run| &run.samples) {
            boxes.raw(sample.data);
        }
    });
    Ok(boxes.bytes)
}

/// Gives the frames of a track their times. Returns `None` if there are none.
fn run<'m>(
    media: &'m Media<'_>,
    output: Output<'m>,
    place: SegmentPlace,
) -> Result<Option<Run<'m>>, VideoError> {
    let number = output.track.number;
    let frames = media.frames.iter().filter(|frame| frame.track == number);
    let reorder_frames = output.codec.parameter_sets().and_then(|sets| sets.reorder_frames);
    let decoding = Decoding::Ahead(reorder_frames.unwrap_or(0));
    let placement = Placement { offset_ns: place.offset_ns, after: Some(0), decoding };
    let mut samples = timing::samples(output.track, output.scale, frames, placement)?;
    if output.track.kind == TrackKind::Video {
        // The next segment is decoded as much ahead of its presentation as this one.
        let earliest = samples.iter().map(|sample| sample.presentation).min();
        let ahead = earliest.zip(samples.first()).map_or(0, |(earliest, first)| earliest - first.decode);
        if let (Some(last), Some(end_ns)) = (samples.last_mut(), place.end_ns) {
            let until_end = output.scale.ticks(end_ns).saturating_sub(ahead).saturating_sub(last.decode);
            last.duration = u32::try_from(until_end).ok().filter(|&ticks| ticks > 0).unwrap_or(last.duration);
        }
    } else {
        samples.retain(|sample| sample.presentation >= 0);
    }
    let Some(first) = samples.first() else { return Ok(None) };
    let early = |_| VideoError::InvalidMedia("a picture before the beginning of the presentation".into());
    let base = u64::try_from(first.decode).map_err(early)?;
    Ok(Some(Run { output, base, samples }))
}

/// Depends on others; can be decoded by itself.
const FLAGS: [u32; 2] = [0x0101_0000, 0x0200_0000];

fn write_run(boxes: &mut Boxes, run: &Run<'_>, offsets_at: &mut Vec<usize>) {
    let samples = &run.samples;
    let is_video = run.output.track.kind == TrackKind::Video;
    // Offsets count from the beginning of `moof`.
    boxes.add_full(b"tfhd", 0, 0x02_0000 | 0x20, |boxes| {
        boxes.u32(run.output.id);
        boxes.u32(FLAGS[1]);
    });
    boxes.add_full(b"tfdt", 1, 0, |boxes| boxes.u64(run.base));
    // Where the data is; for each sample its duration and size, and for pictures flags and the offset of composition.
    let flags = 0x01 | 0x100 | 0x200 | if is_video { 0x400 | 0x800 } else { 0 };
    boxes.add_full(b"trun", 1, flags, |boxes| {
        boxes.u32(samples.len() as u32);
        offsets_at.push(boxes.bytes.len());
        boxes.u32(0);
        for sample in samples {
            boxes.u32(sample.duration);
            boxes.u32(sample.data.len() as u32);
            if is_video {
                boxes.u32(FLAGS[usize::from(sample.is_key)]);
                boxes.u32((sample.presentation - sample.decode) as i32 as u32);
            }
        }
    });
}
