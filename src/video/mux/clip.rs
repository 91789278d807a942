//! Clips: fragments joined into one MP4 file that can play while it is still loading.

use std::io::Write;

use super::Codec;
use super::codec::playable;
use super::entry;
use super::tables::{self, Chunk};
use super::timing::{self, Decoding, Placement, Scale};
use crate::video::{Frame, Media, Track, TrackKind, VideoError};

/// The most descriptions of one track.
const ENTRIES_MAX: usize = 1_024;

/// A fragment in a clip.
#[derive(Debug, Clone, Copy)]
pub struct PlacedMedia<'m> {
    /// The fragment.
    pub media: &'m Media<'m>,
    /// Added to the times of its frames, in nanoseconds, to place them on the common timeline of all fragments of the clip. That timeline may begin
    /// anywhere: the clip begins with its earliest frame.
    pub offset_ns: i64,
}

/// How a clip handles codec parameters or tracks that differ between its fragments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum CodecChanges {
    /// Describes each set of parameters in the clip, so all of it plays. A track has gaps where fragments lack it.
    #[default]
    Describe,
    /// Fails, as Kinesis does.
    Refuse,
}

/// Writes fragments as one MP4 file that begins with its metadata. The fragments are in playing order. In a gap between two of them, the last
/// picture of the first one remains. Tracks other than video and audio are left out.
///
/// # Errors
///
/// Fails with [`VideoError::UnsupportedMedia`], naming the codec, if MP4 cannot hold it; with [`VideoError::MissingCodecPrivateData`] or
/// [`VideoError::InvalidCodecPrivateData`] if the parameters of a codec are missing or damaged, or change under `CodecChanges::Refuse`; with
/// [`VideoError::InvalidMedia`] if times are out of range; and with [`VideoError::Write`] if `out` fails.
pub fn write_clip(
    fragments: &[PlacedMedia<'_>],
    changes: CodecChanges,
    out: &mut impl Write,
) -> Result<(), VideoError> {
    let clip = Clip::of(fragments, changes)?;
    let bytes = clip.media_bytes();
    let header = tables::write(&clip, bytes);
    let write = |out: &mut dyn Write| {
        out.write_all(&header)?;
        for chunk in &clip.chunks {
            for sample in &clip.tracks[chunk.track].samples[chunk.samples.clone()] {
                out.write_all(sample.data)?;
            }
        }
        out.flush()
    };
    write(out).map_err(|error| VideoError::Write(error.to_string().into()))
}

/// All that is known of a clip before it is written.
pub(super) struct Clip<'m> {
    pub(super) tracks: Vec<ClipTrack<'m>>,
    /// In the order in which they are in the file.
    pub(super) chunks: Vec<Chunk>,
}

/// A track of a clip.
pub(super) struct ClipTrack<'m> {
    pub(super) scale: Scale,
    /// Each way in which fragments describe the track.
    pub(super) entries: Vec<(&'m Track, Codec)>,
    pub(super) samples: Vec<ClipSample<'m>>,
}

/// A frame in a clip, in ticks of its track.
pub(super) struct ClipSample<'m> {
    pub(super) decode: i64,
    pub(super) presentation: i64,
    /// How long it lasts if nothing follows it.
    pub(super) duration: u32,
    pub(super) is_key: bool,
    pub(super) data: &'m [u8],
}

impl<'m> Clip<'m> {
    fn of(fragments: &[PlacedMedia<'m>], changes: CodecChanges) -> Result<Self, VideoError> {
        let mut clip = Self { tracks: vec![], chunks: vec![] };
        let times = fragments.iter().enumerate().flat_map(|(index, fragment)| {
            let frames = played(fragment.media, index == 0);
            frames.map(|frame| frame.time_ns.saturating_add(fragment.offset_ns))
        });
        let Some(origin_ns) = times.min() else {
            return Err(VideoError::NotFound("no frame of pictures or sound in these fragments".into()));
        };
        for (index, fragment) in fragments.iter().enumerate() {
            let offset_ns = fragment
                .offset_ns
                .checked_sub(origin_ns)
                .ok_or_else(|| VideoError::InvalidMedia("the time of a fragment is out of range".into()))?;
            clip.add(
                fragment.media,
                offset_ns,
                (index > 0 && changes == CodecChanges::Refuse).then_some(index),
            )?;
        }
        let samples = clip.tracks.iter().flat_map(|track| track.samples.windows(2));
        let mut durations = samples.map(|two| two[1].decode - two[0].decode);
        if durations.any(|duration| u32::try_from(duration).is_err()) {
            return Err(VideoError::LimitExceeded("a gap in a clip lasts longer than MP4 can say".into()));
        }
        Ok(clip)
    }

    /// Appends a fragment. `refused_at` is its index, if it must not differ from earlier ones.
    fn add(
        &mut self,
        media: &'m Media<'m>,
        offset_ns: i64,
        refused_at: Option<usize>,
    ) -> Result<(), VideoError> {
        let is_first = self.tracks.is_empty();
        let mut joined: Vec<Joined> = vec![];
        for track in playable(&media.tracks)? {
            let before = joined.iter().filter(|joined| joined.kind == track.kind).count();
            let output = self.join(track, before, refused_at)?;
            let entry = self.tracks[output].describe(track, refused_at)?;
            let first = self.tracks[output].samples.len();
            let frames = played(media, is_first).filter(|frame| frame.track == track.number);
            self.tracks[output].add(track, entry, frames, offset_ns)?;
            joined.push(Joined { number: track.number, kind: track.kind, output, entry, next: first });
        }
        if refused_at.is_some() && joined.len() != self.tracks.len() {
            return Err(VideoError::UnsupportedMedia("the tracks change within the clip".into()));
        }
        for frame in played(media, is_first) {
            let Some(joined) = joined.iter_mut().find(|joined| joined.number == frame.track) else {
                continue;
            };
            let sample = joined.next;
            joined.next += 1;
            match self.chunks.last_mut() {
                Some(last) if last.track == joined.output && last.entry == joined.entry => {
                    last.samples.end = sample + 1;
                }
                _ => self.chunks.push(Chunk {
                    track: joined.output,
                    entry: joined.entry,
                    samples: sample..sample + 1,
                }),
            }
        }
        Ok(())
    }

    /// Finds the track of the clip that a fragment's track continues: the one at the same index among those of its kind.
    fn join(
        &mut self,
        track: &'m Track,
        before: usize,
        refused_at: Option<usize>,
    ) -> Result<usize, VideoError> {
        let of_kind = |(_, known): &(usize, &ClipTrack<'_>)| known.entries[0].0.kind == track.kind;
        if let Some((index, _)) = self.tracks.iter().enumerate().filter(of_kind).nth(before) {
            return Ok(index);
        }
        if refused_at.is_some() {
            return Err(VideoError::UnsupportedMedia("the tracks change within the clip".into()));
        }
        let codec = Codec::of(track)?;
        entry::check(track, &codec)?;
        let scale = Scale::of(track, &codec);
        self.tracks.push(ClipTrack { scale, entries: vec![(track, codec)], samples: vec![] });
        Ok(self.tracks.len() - 1)
    }

    fn media_bytes(&self) -> u64 {
        self.tracks.iter().flat_map(|track| &track.samples).map(|sample| sample.data.len() as u64).sum()
    }
}

/// Returns the frames of a fragment that a clip plays: those of pictures and sound. In the first fragment, pictures before the first key frame, in
/// the order of decoding or of presentation, are left out: they depend on data before the clip.
fn played<'m>(media: &'m Media<'m>, is_first: bool) -> impl Iterator<Item = &'m Frame<'m>> {
    let begin = |track: &Track| {
        let mut frames = media.frames.iter().enumerate();
        let is_begin = |frame: &Frame<'_>| frame.is_key && frame.track == track.number;
        let key =
            frames.find(|(_, frame)| is_begin(frame)).filter(|_| is_first && track.kind == TrackKind::Video);
        key.map_or((0, i64::MIN), |(index, frame)| (index, frame.time_ns))
    };
    let tracks = media.tracks.iter().filter(|track| track.kind != TrackKind::Other);
    let begins: Vec<_> = tracks.map(|track| (track.number, begin(track))).collect();
    let frames = media.frames.iter().enumerate().filter(move |(index, frame)| {
        let begin = begins.iter().find(|(number, _)| *number == frame.track);
        begin.is_some_and(|&(_, (first, time_ns))| *index >= first && frame.time_ns >= time_ns)
    });
    frames.map(|(_, frame)| frame)
}

/// A track of a fragment and where it goes.
struct Joined {
    number: u64,
    kind: TrackKind,
    output: usize,
    entry: usize,
    /// The index of the sample of its next frame.
    next: usize,
}

impl<'m> ClipTrack<'m> {
    /// Returns the index of the sample entry for a fragment's track.
    fn describe(&mut self, track: &'m Track, refused_at: Option<usize>) -> Result<usize, VideoError> {
        let is_same = |known: &Track| {
            known.codec_id == track.codec_id
                && known.codec_private == track.codec_private
                && (known.width, known.height) == (track.width, track.height)
                && (known.sample_rate, known.channels) == (track.sample_rate, track.channels)
                && known.bit_depth == track.bit_depth
        };
        if let Some(index) = self.entries.iter().position(|(known, _)| is_same(known)) {
            return Ok(index);
        }
        if let Some(index) = refused_at {
            let what = format!("that of {} changes at fragment {} of the clip", track.codec_id, index + 1);
            return Err(VideoError::InvalidCodecPrivateData(what.into()));
        }
        if self.entries.len() == ENTRIES_MAX {
            return Err(VideoError::LimitExceeded(
                "the parameters of a codec change 1,024 times in a clip".into(),
            ));
        }
        let codec = Codec::of(track)?;
        entry::check(track, &codec)?;
        self.entries.push((track, codec));
        Ok(self.entries.len() - 1)
    }

    fn add(
        &mut self,
        track: &Track,
        entry: usize,
        frames: impl Iterator<Item = &'m Frame<'m>>,
        offset_ns: i64,
    ) -> Result<(), VideoError> {
        let scale = Scale::of(track, &self.entries[entry].1).with_timescale(self.scale.timescale);
        let after = self.samples.last().map(|last| match track.kind {
            TrackKind::Video => last.decode + 1,
            _ => last.decode + i64::from(last.duration),
        });
        let placement = Placement { offset_ns, after, decoding: Decoding::AtPresentation };
        let samples = timing::samples(track, scale, frames, placement)?;
        // Sound that overlaps earlier sound is shifted to a tick after it.
        let mut earliest = self.samples.last().map_or(i64::MIN, |last| last.decode + 1);
        for sample in samples {
            let decode = sample.decode.max(earliest);
            earliest = decode + 1;
            let presentation = if track.kind == TrackKind::Video { sample.presentation } else { decode };
            let (duration, is_key, data) = (sample.duration, sample.is_key, sample.data);
            self.samples.push(ClipSample { decode, presentation, duration, is_key, data });
        }
        Ok(())
    }
}
