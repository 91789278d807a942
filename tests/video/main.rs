//! Tests of video streams.
#![cfg(feature = "video")]

#[path = "../common/mod.rs"]
mod common;

mod ffmpeg;
mod kill;
mod media;
mod media_hostile;
mod playback;
mod video;
