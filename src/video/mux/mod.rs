//! Converts fragments into the formats of players: fragmented MP4, MP4, MPEG-TS, and pictures.

mod aac;
mod bits;
mod boxes;
mod clip;
mod codec;
mod entry;
mod fragmented;
mod nal;
mod picture;
mod reorder;
mod tables;
mod timing;
mod transport;

#[cfg(test)]
mod tests;

pub use clip::{CodecChanges, PlacedMedia, write_clip};
pub(crate) use codec::Codec;
pub use fragmented::{SegmentPlace, fmp4_init, fmp4_segment};
pub use picture::PictureCodec;
pub(super) use picture::picture;
pub use transport::ts_segment;

/// The ticks per second of movies and of the edits of their tracks.
const MOVIE_TIMESCALE: u32 = 90_000;
