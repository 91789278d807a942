//! Manifests of MPEG-DASH, ISO/IEC 23009-1.
//!
//! As in Kinesis, the timeline of a manifest has no gaps: each fragment follows the one before it, because players do not handle gaps well.
//! Fragments with other codec parameters are in a period of their own.

use std::fmt::Write;
use std::time::Duration;

use super::rendition::{Played, Rendition};
use super::tape::{Segment, Window};
use super::text::{Attribute, Date, Seconds};
use crate::Timestamp;
use crate::video::{FragmentNumber, VideoError};

/// Times in a manifest and in its fragments are in microseconds.
const TIMESCALE: u64 = 1_000_000;
/// Where the timeline of the fragments begins. Frames may come a little before their fragment's time, and times are not negative.
pub(super) const BEGIN_MICROS: u64 = 10_000_000;
/// How often a player checks for new fragments: after half of a fragment's length, within these bounds, so that it neither polls all the time nor
/// falls behind.
const UPDATE_MICROS_MIN: u64 = 500_000;
const UPDATE_MICROS_MAX: u64 = 2_000_000;

/// The target of a link in a DASH manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DashLink {
    /// The initialization segment of a track, from a fragment on: [`DashSession::init`](super::DashSession::init).
    Init {
        /// The first fragment that it applies to.
        fragment: FragmentNumber,
        /// The track.
        track: u64,
    },
    /// The fragments of a track: [`DashSession::fragment`](super::DashSession::fragment). The link contains `$Number$`, which a player replaces by
    /// the index of a fragment in the session.
    Fragments {
        /// The track.
        track: u64,
    },
}

/// How a manifest is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Style {
    pub(super) has_times: bool,
    pub(super) has_numbers: bool,
    pub(super) is_on_demand: bool,
    /// The time of day at which the session's timeline begins.
    pub(super) epoch: Timestamp,
    pub(super) now: Timestamp,
}

/// Writing to a string does not fail.
macro_rules! put {
    ($to:ident, $($text:tt)+) => { let _ = write!($to, $($text)+); };
}

/// Returns the manifest. `rendition` says how fragments like this one are played.
pub(super) fn manifest(
    window: &Window<'_>,
    style: Style,
    rendition: impl Fn(&Segment) -> Result<Rendition, VideoError>,
    link: impl Fn(DashLink) -> String,
) -> Result<String, VideoError> {
    let mut to = String::with_capacity(2_048 + window.segments.len() * 64);
    put!(to, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\"");
    if style.has_times || style.has_numbers {
        put!(to, " xmlns:kvs=\"urn:streamlog:kvs\"");
    }
    put!(to, " profiles=\"urn:mpeg:dash:profile:isoff-live:2011\"");
    put!(to, " minBufferTime=\"{}\"", period(window.longest));
    let ends = (window.segments.first(), window.segments.last());
    let (begin, end) = match ends {
        (Some(first), Some(last)) => (first.offset_micros, last.end_micros()),
        _ => (0, 0),
    };
    let is_static = style.is_on_demand;
    if is_static {
        put!(to, " type=\"static\" mediaPresentationDuration=\"PT{}S\"", Seconds(end - begin));
    } else {
        put!(to, " type=\"dynamic\" availabilityStartTime=\"{}\"", Date(style.epoch));
        put!(to, " publishTime=\"{}\" timeShiftBufferDepth=\"PT{}S\"", Date(style.now), Seconds(end - begin));
        if window.is_over {
            put!(to, " mediaPresentationDuration=\"PT{}S\"", Seconds(end));
        } else {
            let half = u64::try_from(window.longest.as_micros() / 2).unwrap_or(u64::MAX);
            let update = half.clamp(UPDATE_MICROS_MIN, UPDATE_MICROS_MAX);
            put!(to, " minimumUpdatePeriod=\"PT{}S\"", Seconds(update));
        }
    }
    put!(to, ">\n");
    for run in window.segments.chunk_by(|a, b| a.first_of_setup == b.first_of_setup) {
        let Some(first) = run.first() else { continue };
        let start = Seconds(first.setup_offset_micros);
        put!(to, "  <Period id=\"{}\" start=\"PT{start}S\">\n", first.setup_since);
        let rendition = rendition(first)?;
        for track in &rendition.tracks {
            adaptation_set(&mut to, run, track, rendition.bits_per_second_max, style, &link);
        }
        put!(to, "  </Period>\n");
    }
    put!(to, "</MPD>\n");
    Ok(to)
}

fn adaptation_set(
    to: &mut String,
    run: &[&Segment],
    track: &Played,
    bandwidth: u64,
    style: Style,
    link: &impl Fn(DashLink) -> String,
) {
    let Some(first) = run.first() else { return };
    let kind = if track.is_video { "video" } else { "audio" };
    put!(to, "    <AdaptationSet id=\"{}\" contentType=\"{kind}\" mimeType=\"{kind}/mp4\"", track.number);
    put!(to, " segmentAlignment=\"true\" startWithSAP=\"1\">\n");
    let init = link(DashLink::Init { fragment: first.first_of_setup, track: track.number });
    let fragments = link(DashLink::Fragments { track: track.number });
    put!(to, "      <SegmentTemplate timescale=\"{TIMESCALE}\" startNumber=\"{}\"", first.sequence);
    put!(to, " presentationTimeOffset=\"{}\"", begin(first.setup_offset_micros));
    put!(to, " initialization=\"{}\" media=\"{}\">\n", Attribute(&init), Attribute(&fragments));
    put!(to, "        <SegmentTimeline>\n");
    let is_plain = !style.has_times && !style.has_numbers;
    let mut at = None;
    // Fragments of the same length share an element, unless each has attributes of its own.
    let is_equal =
        |a: &&Segment, b: &&Segment| is_plain && a.length == b.length && a.end_micros() == b.offset_micros;
    for equal in run.chunk_by(is_equal) {
        let (Some(segment), Some(last)) = (equal.first(), equal.last()) else { continue };
        put!(to, "          <S");
        if at != Some(segment.offset_micros) {
            put!(to, " t=\"{}\"", begin(segment.offset_micros));
        }
        at = Some(last.end_micros());
        put!(to, " d=\"{}\"", segment.length_micros());
        if equal.len() > 1 {
            put!(to, " r=\"{}\"", equal.len() - 1);
        }
        if style.has_times {
            put!(to, " kvs:ts=\"{}\"", Seconds(segment.time.as_millis() * 1_000));
        }
        if style.has_numbers {
            put!(to, " kvs:fn=\"{}\"", segment.number);
        }
        put!(to, "/>\n");
    }
    put!(to, "        </SegmentTimeline>\n      </SegmentTemplate>\n");
    put!(to, "      <Representation id=\"{kind}-{}\" bandwidth=\"{}\"", track.number, bandwidth.max(1));
    put!(to, " codecs=\"{}\"", track.codec);
    if track.is_video {
        if track.width > 0 && track.height > 0 {
            put!(to, " width=\"{}\" height=\"{}\"", track.width, track.height);
        }
        put!(to, "/>\n");
    } else {
        put!(to, " audioSamplingRate=\"{}\">\n", track.sample_rate);
        put!(
            to,
            "        <AudioChannelConfiguration schemeIdUri=\"urn:mpeg:dash:23003:3:audio_channel_configuration:2011\" value=\"{}\"/>\n",
            track.channels
        );
        put!(to, "      </Representation>\n");
    }
    put!(to, "    </AdaptationSet>\n");
}

/// Returns the place of an offset on the timeline of the fragments.
pub(super) fn begin(offset_micros: u64) -> u64 {
    BEGIN_MICROS.saturating_add(offset_micros)
}

/// Returns a duration as XML Schema writes it.
fn period(length: Duration) -> String {
    format!("PT{}S", Seconds(u64::try_from(length.as_micros()).unwrap_or(u64::MAX)))
}
