//! Video: ingests Matroska as fragments, and plays them live and from the archive.
//!
//! A [`VideoStream`] works like a stream of Kinesis Video Streams. A producer, such as a camera, ffmpeg or GStreamer, sends Matroska. Each of its
//! clusters becomes a fragment, which is acknowledged once it is stored.
//!
//! ```
//! use streamlog::video::{FragmentSelector, IngestOptions, StartSelector, VideoStream};
//!
//! # let directory = tempfile::tempdir()?;
//! # let camera = {
//! #     // A header, a track, and two clusters of a frame each.
//! #     let mut data = vec![0x1A, 0x45, 0xDF, 0xA3, 0x80, 0x18, 0x53, 0x80, 0x67, 0x01, 255, 255, 255, 255, 255, 255, 255];
//! #     data.extend([0x16, 0x54, 0xAE, 0x6B, 0x85, 0xAE, 0x83, 0xD7, 0x81, 1]);
//! #     for timecode in [0, 40] {
//! #         data.extend([0x1F, 0x43, 0xB6, 0x75, 0x8A, 0xE7, 0x81, timecode, 0xA3, 0x85, 0x81, 0, 0, 0x80, 7]);
//! #     }
//! #     &data.clone()[..]
//! # };
//! let stream = VideoStream::open(directory.path().join("door"))?;
//! let ingested = stream.ingest_from(camera, IngestOptions::new(), |ack| println!("{ack}"))?;
//! assert_eq!(ingested.fragment_count, 2);
//!
//! for info in stream.fragments(&FragmentSelector::All)? {
//!     println!("{} {} {:?} {} bytes", info.number, info.producer_time, info.length, info.bytes);
//! }
//! let mut played = vec![];
//! let mut media = stream.get_media(StartSelector::Earliest)?.without_waiting();
//! std::io::copy(&mut media, &mut played)?;
//! # assert!(played.len() > camera.len());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! - Send video: [`VideoStream::ingest`], [`VideoStream::ingest_from`]; acknowledgements: [`Ack`].
//! - Find fragments by number and time: [`VideoStream::fragments`], [`VideoStream::list_fragments`], [`VideoStream::fragment`].
//! - Follow live, or read the archive, as Matroska: [`VideoStream::get_media`], [`VideoStream::media_for`], [`VideoStream::wait_after`].
//! - Play in a browser: [`fmp4_init`], [`fmp4_segment`], [`ts_segment`]. Export a clip as MP4: [`VideoStream::clip`]. Extract pictures:
//!   [`VideoStream::images`]. Parse a fragment: [`Media`].
//! - Serve players: [`VideoStream::hls`], [`VideoStream::dash`].
//! - Keep and drop: [`VideoStreamOptions::data_retention`].
//! - Handle errors: [`VideoError`], with the error ids of Kinesis: [`AckErrorId`].

mod error;
mod matroska;
mod media;
mod mux;
mod number;
mod playback;
mod render;
mod stream;

pub use error::{AckErrorId, VideoError};
pub use media::{Frame, Media, Track, TrackKind};
pub use mux::{
    CodecChanges, PictureCodec, PlacedMedia, SegmentPlace, fmp4_init, fmp4_segment, ts_segment, write_clip,
};
pub use number::FragmentNumber;
pub use playback::{
    DashLink, DashOptions, DashSession, DiscontinuityMode, HlsContainer, HlsLink, HlsOptions, HlsSession,
    PlaybackMode, SessionStart, TimeSource,
};
pub use render::{Image, Images};
pub use stream::ack::{Ack, AckEvent};
pub use stream::fragment::{Fragment, FragmentInfo};
pub use stream::get_media::{GetMedia, MediaChunk};
pub use stream::ingest::{Ingest, Ingested};
pub use stream::media_list::MediaForFragments;
pub use stream::options::{IngestOptions, Timecodes, VideoStreamOptions};
pub use stream::select::{FragmentSelector, StartSelector};
pub use stream::{FragmentPage, VideoStream};
