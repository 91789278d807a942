//! Playback: HTTP Live Streaming and MPEG-DASH, from lists of fragments.
//!
//! `tape` decides which fragments a session plays and numbers them, `hls` and `dash` write its window. All three are pure functions. `core` reads the
//! stream, and `session` is what users see.

mod codecs;
mod core;
mod dash;
mod hls;
mod options;
mod rendition;
mod session;
mod tape;
mod text;

pub use self::core::SessionStart;
pub use dash::DashLink;
pub use hls::HlsLink;
pub use options::{DashOptions, DiscontinuityMode, HlsContainer, HlsOptions, PlaybackMode, TimeSource};
pub use session::{DashSession, HlsSession};

#[cfg(test)]
mod tests;
