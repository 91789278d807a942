//! Playlists of HTTP Live Streaming, RFC 8216.

use std::fmt::Write;

use super::options::HlsContainer;
use super::rendition::Rendition;
use super::tape::Window;
use super::text::{Date, Seconds};
use crate::video::FragmentNumber;

/// The target of a link in an HLS playlist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum HlsLink {
    /// The media playlist: [`HlsSession::media_playlist`](super::HlsSession::media_playlist).
    MediaPlaylist,
    /// The initialization segment of this fragment and those after it: [`HlsSession::init`](super::HlsSession::init).
    Init {
        /// The first fragment that it applies to.
        fragment: FragmentNumber,
    },
    /// A fragment: [`HlsSession::fragment`](super::HlsSession::fragment).
    Fragment {
        /// The number of the fragment.
        fragment: FragmentNumber,
        /// Its container. Some players expect the link to end accordingly: `.mp4` or `.ts`.
        container: HlsContainer,
    },
}

/// How a media playlist is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Style {
    pub(super) container: HlsContainer,
    pub(super) has_times: bool,
    pub(super) is_on_demand: bool,
}

impl HlsContainer {
    /// The lowest protocol version that has everything that a playlist uses: `EXT-X-MAP` in one case, and decimals in the other.
    fn version(self) -> u32 {
        match self {
            Self::FragmentedMp4 => 7,
            Self::MpegTs => 3,
        }
    }
}

/// Writing to a string does not fail.
macro_rules! put {
    ($to:ident, $($text:tt)+) => { let _ = writeln!($to, $($text)+); };
}

/// Returns the playlist of the only variant.
pub(super) fn master(
    rendition: &Rendition,
    container: HlsContainer,
    link: impl Fn(HlsLink) -> String,
) -> String {
    let mut to = String::new();
    put!(to, "#EXTM3U");
    put!(to, "#EXT-X-VERSION:{}", container.version());
    let mut line = format!("#EXT-X-STREAM-INF:BANDWIDTH={}", rendition.bits_per_second_max);
    let _ = write!(line, ",AVERAGE-BANDWIDTH={}", rendition.bits_per_second);
    let _ = write!(line, ",CODECS=\"{}\"", rendition.codecs());
    if let Some((width, height)) = rendition.size() {
        let _ = write!(line, ",RESOLUTION={width}x{height}");
    }
    if let Some(rate) = rendition.milliframes_per_second() {
        let _ = write!(line, ",FRAME-RATE={}.{:03}", rate / 1_000, rate % 1_000);
    }
    put!(to, "{line}");
    put!(to, "{}", link(HlsLink::MediaPlaylist));
    to
}

/// Returns the playlist of fragments.
pub(super) fn media(window: &Window<'_>, style: Style, link: impl Fn(HlsLink) -> String) -> String {
    let mut to = String::with_capacity(256 + window.segments.len() * 160);
    put!(to, "#EXTM3U");
    put!(to, "#EXT-X-VERSION:{}", style.container.version());
    if style.is_on_demand {
        put!(to, "#EXT-X-PLAYLIST-TYPE:VOD");
    }
    // The longest rounded length of a fragment.
    let target = (window.longest.as_millis() + 500) / 1_000;
    put!(to, "#EXT-X-TARGETDURATION:{}", target.max(1));
    let first = window.segments.first();
    put!(to, "#EXT-X-MEDIA-SEQUENCE:{}", first.map_or(0, |segment| segment.sequence));
    // If the first fragment has its own mark, this is the number before that mark.
    let before = first.map_or(0, |segment| segment.discontinuities - u64::from(segment.is_discontinuous));
    if before > 0 {
        put!(to, "#EXT-X-DISCONTINUITY-SEQUENCE:{before}");
    }
    let mut tracks = None;
    for segment in &window.segments {
        if segment.is_discontinuous {
            put!(to, "#EXT-X-DISCONTINUITY");
        }
        if style.container == HlsContainer::FragmentedMp4 && tracks != Some(segment.first_of_setup) {
            put!(to, "#EXT-X-MAP:URI=\"{}\"", link(HlsLink::Init { fragment: segment.first_of_setup }));
            tracks = Some(segment.first_of_setup);
        }
        if style.has_times {
            put!(to, "#EXT-X-PROGRAM-DATE-TIME:{}", Date(segment.time));
        }
        put!(to, "#EXTINF:{},", Seconds(segment.length_micros()));
        let fragment = HlsLink::Fragment { fragment: segment.number, container: style.container };
        put!(to, "{}", link(fragment));
    }
    if window.is_over {
        put!(to, "#EXT-X-ENDLIST");
    }
    to
}
