//! Media for tests: from ffmpeg, and made by hand.

pub mod media;
pub mod mkv;
pub mod sound;
