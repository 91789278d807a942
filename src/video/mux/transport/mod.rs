//! MPEG-TS: a segment for each fragment, which depends only on the fragment.

mod packet;

use packet::{Lead, Packets, pes_header, section};

use super::aac::AudioConfig;
use super::codec::{Codec, not_in, playable};
use super::nal::ParameterSets;
use super::timing::{self, Decoding, Placement, Sample, Scale, VIDEO_TIMESCALE};
use crate::video::{Media, Track, TrackKind, VideoError};

const PROGRAM_PID: u16 = 0x1000;
const FIRST_PID: u16 = 0x100;

/// How long before its decoding a frame arrives, by the clock of the program: 100 ms.
const CLOCK_LEAD: i64 = 9_000;

/// How many frames of sound share a header, which has the time of the first.
const SOUND_FRAMES_MAX: usize = 6;

/// Room for headers around each frame.
const FRAME_OVERHEAD_BYTES: usize = 256;

/// How a codec is written.
enum Coding<'c> {
    H264(&'c ParameterSets),
    H265(&'c ParameterSets),
    Aac(&'c AudioConfig),
}

impl<'c> Coding<'c> {
    fn of(track: &Track, codec: &'c Codec) -> Result<Self, VideoError> {
        match codec {
            Codec::H264(sets) => Ok(Self::H264(sets)),
            Codec::H265(sets) => Ok(Self::H265(sets)),
            Codec::Aac(config) => Ok(Self::Aac(config)),
            _ => Err(not_in(track, "MPEG-TS")),
        }
    }

    fn stream_type(&self) -> u8 {
        match self {
            Self::H264(_) => 0x1B,
            Self::H265(_) => 0x24,
            Self::Aac(_) => 0x0F,
        }
    }

    /// Appends a frame in the form of a stream without a separate header.
    fn write(&self, sample: &Sample<'_>, out: &mut Vec<u8>) -> Result<(), VideoError> {
        // Each picture begins with a delimiter, exactly one.
        let (sets, delimiter): (_, &[u8]) = match self {
            Self::H264(sets) => (sets, &[0, 0, 0, 1, 0x09, 0xF0]),
            Self::H265(sets) => (sets, &[0, 0, 0, 1, 0x46, 0x01, 0x50]),
            Self::Aac(config) => return config.write_adts(sample.data, out),
        };
        out.extend_from_slice(delimiter);
        if sample.is_key {
            sets.write_sets(out);
        }
        let is_h264 = matches!(self, Self::H264(_));
        let is_delimiter = |first: u8| if is_h264 { first & 0x1F == 9 } else { first >> 1 & 0x3F == 35 };
        sets.write_frame(sample.data, out, is_delimiter)
    }
}

/// Returns a fragment as MPEG-TS, with `offset_ns` nanoseconds added to the times of its frames.
///
/// It depends only on the fragment. Consecutive segments need no discontinuity: packets are numbered so that any segment may follow any other.
/// Timestamps have 33 bits, and wrap to 0 after 26.5 hours.
///
/// ```no_run
/// # let matroska: Vec<u8> = vec![];
/// use streamlog::video::{Media, ts_segment};
///
/// let media = Media::parse(&matroska)?;
/// std::fs::write("segment.ts", ts_segment(&media, 10_000_000_000)?)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// Fails with [`VideoError::UnsupportedMedia`], naming the codec, if a video or audio track is neither H.264, H.265 nor AAC; with
/// [`VideoError::MissingCodecPrivateData`] or [`VideoError::InvalidCodecPrivateData`] if a track's parameters are missing or damaged; and with
/// [`VideoError::InvalidMedia`] if times or NAL units are invalid.
pub fn ts_segment(media: &Media<'_>, offset_ns: i64) -> Result<Vec<u8>, VideoError> {
    let tracks = playable(&media.tracks)?;
    let codecs = tracks.iter().map(|track| Codec::of(track)).collect::<Result<Vec<_>, _>>()?;
    let codings = tracks.iter().zip(&codecs).map(|(track, codec)| Coding::of(track, codec));
    let codings = codings.collect::<Result<Vec<_>, _>>()?;
    let streams = tracks.iter().zip(&codecs).map(|(track, codec)| Stream::of(media, track, codec, offset_ns));
    let streams = streams.collect::<Result<Vec<_>, _>>()?;
    let units = units(&streams);
    if units.is_empty() {
        return Err(VideoError::UnsupportedMedia("there is no frame of pictures or sound".into()));
    }

    let samples = streams.iter().flat_map(|stream| &stream.samples);
    let bytes: usize = samples.map(|sample| sample.data.len() + FRAME_OVERHEAD_BYTES).sum();
    let mut out = Vec::with_capacity(bytes + bytes / 32 + 4_096);
    // Pictures carry the clock if there are any.
    let clock = tracks.iter().position(|track| track.kind == TrackKind::Video).unwrap_or(0);
    write_tables(&codings, clock, &mut out);
    let mut packets: Vec<_> = (FIRST_PID..).take(tracks.len()).map(Packets::new).collect();
    let mut payload = vec![];
    let mut left: Vec<_> = (0..tracks.len()).map(|stream| count_of(&units, stream)).collect();
    for unit in &units {
        let (stream, first) = (unit.stream, &unit.samples[0]);
        payload.clear();
        for sample in unit.samples {
            codings[stream].write(sample, &mut payload)?;
        }
        let is_video = tracks[stream].kind == TrackKind::Video;
        let lead = Lead {
            clock: (stream == clock).then(|| (unit.decode - CLOCK_LEAD) as u64),
            is_random_access: first.is_key && is_video,
            is_discontinuous: false,
        };
        left[stream] -= 1;
        let presentation = streams[stream].scale.rescaled(first.presentation, VIDEO_TIMESCALE) as u64;
        let decode = (first.decode != first.presentation).then_some(unit.decode as u64);
        let (stream_id, told) = if is_video { (0xE0, None) } else { (0xC0, Some(payload.len())) };
        let mut whole = Vec::with_capacity(payload.len() + 32);
        pes_header(stream_id, presentation, decode, told, &mut whole);
        whole.extend_from_slice(&payload);
        packets[stream].write(&whole, lead, left[stream] == 0, &mut out);
    }
    Ok(out)
}

/// The frames of a track.
struct Stream<'m> {
    kind: TrackKind,
    scale: Scale,
    samples: Vec<Sample<'m>>,
}

impl<'m> Stream<'m> {
    fn of(media: &'m Media<'_>, track: &Track, codec: &Codec, offset_ns: i64) -> Result<Self, VideoError> {
        let scale = Scale::of(track, codec);
        let reorder_frames = codec.parameter_sets().and_then(|sets| sets.reorder_frames);
        let decoding = Decoding::Ahead(reorder_frames.unwrap_or(0));
        let frames = media.frames.iter().filter(|frame| frame.track == track.number);
        let samples = timing::samples(track, scale, frames, Placement { offset_ns, after: None, decoding })?;
        Ok(Self { kind: track.kind, scale, samples })
    }

    /// Returns whether a frame of sound plays without a gap after another, so that its time need not be written.
    fn is_one_after_other(&self, two: &[Sample<'_>]) -> bool {
        let ticks = self.scale.frame_ticks(two[0].data);
        self.kind != TrackKind::Video && ticks.is_some_and(|ticks| two[0].decode + ticks == two[1].decode)
    }
}

/// Frames that share a header.
struct Unit<'s, 'm> {
    stream: usize,
    samples: &'s [Sample<'m>],
    /// When the first is decoded, by the program clock.
    decode: i64,
}

/// Arranges all frames by the time of their decoding.
fn units<'s, 'm>(streams: &'s [Stream<'m>]) -> Vec<Unit<'s, 'm>> {
    let mut units = vec![];
    for (index, stream) in streams.iter().enumerate() {
        let mut rest = &stream.samples[..];
        while let Some(first) = rest.first() {
            let follows =
                rest.windows(2).take(SOUND_FRAMES_MAX - 1).take_while(|two| stream.is_one_after_other(two));
            let (samples, others) = rest.split_at(1 + follows.count());
            let decode = stream.scale.rescaled(first.decode, VIDEO_TIMESCALE);
            units.push(Unit { stream: index, samples, decode });
            rest = others;
        }
    }
    units.sort_by_key(|unit| unit.decode);
    units
}

fn count_of(units: &[Unit<'_, '_>], stream: usize) -> usize {
    units.iter().filter(|unit| unit.stream == stream).count()
}

/// Appends the two tables that describe the segment. Each is the only packet of its kind in the segment: their numbers restart.
fn write_tables(codings: &[Coding<'_>], clock: usize, out: &mut Vec<u8>) {
    let lead = Lead { is_discontinuous: true, ..Lead::default() };
    let [pid_high, pid_low] = (0xE000 | PROGRAM_PID).to_be_bytes();
    let association = [0, 1, 0xC1, 0, 0, 0, 1, pid_high, pid_low];
    let mut map = vec![0, 1, 0xC1, 0, 0];
    map.extend_from_slice(&(0xE000 | (FIRST_PID + clock as u16)).to_be_bytes());
    map.extend_from_slice(&[0xF0, 0]);
    for (pid, coding) in (FIRST_PID..).zip(codings) {
        map.push(coding.stream_type());
        map.extend_from_slice(&(0xE000 | pid).to_be_bytes());
        map.extend_from_slice(&[0xF0, 0]);
    }
    Packets::new(0).write(&section(0, &association), lead, false, out);
    Packets::new(PROGRAM_PID).write(&section(2, &map), lead, false, out);
}
