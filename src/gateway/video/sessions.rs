//! Sessions of players: their tokens hold all data needed to continue one, and sessions in use are cached.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::{Video, fault};
use crate::Timestamp;
use crate::gateway::fault::{Answered, Fault};
use crate::gateway::token::{Purpose, Sealer};
use crate::video::{
    DashOptions, DashSession, DiscontinuityMode, FragmentNumber, HlsContainer, HlsOptions, HlsSession,
    PlaybackMode, SessionStart, TimeSource,
};

/// How many sessions are cached. A further one replaces the least recently used one, which is recreated when it is used.
const SESSIONS_MAX: usize = 256;

/// A request to play. Times are in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::gateway) struct Ask {
    /// `None` for DASH.
    #[serde(rename = "h", skip_serializing_if = "Option::is_none")]
    pub(in crate::gateway) hls: Option<Hls>,
    #[serde(rename = "m")]
    pub(in crate::gateway) mode: Mode,
    #[serde(rename = "p", default)]
    pub(in crate::gateway) is_by_producer: bool,
    #[serde(rename = "t", default)]
    pub(in crate::gateway) has_times: bool,
    #[serde(rename = "u", default)]
    pub(in crate::gateway) has_numbers: bool,
    #[serde(rename = "x")]
    pub(in crate::gateway) seconds: u32,
    #[serde(rename = "f", skip_serializing_if = "Option::is_none")]
    pub(in crate::gateway) fragments_max: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::gateway) enum Mode {
    #[serde(rename = "l")]
    Live,
    #[serde(rename = "r")]
    Replay(u64, Option<u64>),
    #[serde(rename = "o")]
    OnDemand(u64, u64),
}

/// The parameters of HLS only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::gateway) struct Hls {
    #[serde(rename = "t", default)]
    pub(in crate::gateway) is_transport_stream: bool,
    /// The name of the mode, as it is in the request.
    #[serde(rename = "d", skip_serializing_if = "Option::is_none")]
    pub(in crate::gateway) discontinuities: Option<Discontinuities>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::gateway) enum Discontinuities {
    #[serde(rename = "a")]
    Always,
    #[serde(rename = "n")]
    Never,
    #[serde(rename = "o")]
    OnDiscontinuity,
}

/// The contents of a session token.
#[derive(Debug, Serialize, Deserialize)]
struct Held {
    #[serde(rename = "n")]
    stream: String,
    /// When the stream was created, in milliseconds: distinguishes streams of the same name.
    #[serde(rename = "c")]
    created: u64,
    #[serde(rename = "a")]
    ask: Ask,
    #[serde(rename = "s")]
    started: u64,
    #[serde(rename = "f")]
    first: u64,
    #[serde(rename = "b")]
    first_time: u64,
}

/// A session that plays.
#[derive(Debug)]
pub(in crate::gateway) enum Played {
    Hls(HlsSession),
    Dash(DashSession),
}

/// The cached sessions, by their tokens, with their times of last use.
#[derive(Debug, Default)]
pub(in crate::gateway) struct Sessions {
    kept: Mutex<HashMap<String, (u64, Arc<Played>)>>,
}

impl Ask {
    fn mode(&self) -> PlaybackMode {
        let time = Timestamp::from_micros;
        match self.mode {
            Mode::Live => PlaybackMode::Live,
            Mode::Replay(from, to) => PlaybackMode::LiveReplay { from: time(from), to: to.map(time) },
            Mode::OnDemand(from, to) => PlaybackMode::OnDemand { from: time(from), to: time(to) },
        }
    }

    fn source(&self) -> TimeSource {
        if self.is_by_producer { TimeSource::Producer } else { TimeSource::Server }
    }

    fn life(&self) -> Duration {
        Duration::from_secs(self.seconds.into())
    }

    fn hls_options(&self, hls: Hls) -> HlsOptions {
        let container =
            if hls.is_transport_stream { HlsContainer::MpegTs } else { HlsContainer::FragmentedMp4 };
        let options = HlsOptions::new()
            .mode(self.mode())
            .times(self.source())
            .expires_after(self.life())
            .show_times(self.has_times)
            .container(container);
        let options = self.fragments_max.map_or(options, |count| options.fragments_max(count as usize));
        match hls.discontinuities {
            None => options,
            Some(Discontinuities::Always) => options.discontinuities(DiscontinuityMode::Always),
            Some(Discontinuities::Never) => options.discontinuities(DiscontinuityMode::Never),
            Some(Discontinuities::OnDiscontinuity) => {
                options.discontinuities(DiscontinuityMode::OnDiscontinuity)
            }
        }
    }

    fn dash_options(&self) -> DashOptions {
        let options = DashOptions::new()
            .mode(self.mode())
            .times(self.source())
            .expires_after(self.life())
            .show_times(self.has_times)
            .show_numbers(self.has_numbers);
        self.fragments_max.map_or(options, |count| options.fragments_max(count as usize))
    }
}

impl Video {
    /// Begins a session, and returns its token.
    pub(in crate::gateway) fn begin(&self, name: &str, ask: Ask, sealer: &Sealer) -> Answered<String> {
        let known = self.stream(name)?;
        let failed = |error| fault(&error);
        let (played, start) = match ask.hls {
            Some(hls) => {
                let session = known.stream.hls(ask.hls_options(hls)).map_err(failed)?;
                let start = session.start();
                (Played::Hls(session), start)
            }
            None => {
                let session = known.stream.dash(ask.dash_options()).map_err(failed)?;
                let start = session.start();
                (Played::Dash(session), start)
            }
        };
        let held = Held {
            stream: name.to_owned(),
            created: known.created.as_millis(),
            ask,
            started: start.started.as_micros(),
            first: start.first.sequence().get(),
            first_time: start.first_time.as_micros(),
        };
        let token = to_url(&sealer.seal(Purpose::VideoSession, &held));
        self.sessions.keep(&token, Arc::new(played), known.stream.now());
        Ok(token)
    }

    /// Returns the session of a token.
    pub(in crate::gateway) fn played(&self, token: &str, sealer: &Sealer) -> Answered<Arc<Played>> {
        let refused = || Fault::not_authorized("The session token is not one of this server.");
        let held: Held = sealer.open(Purpose::VideoSession, &from_url(token)).ok_or_else(refused)?;
        let known = self.stream(&held.stream)?;
        if known.created.as_millis() != held.created {
            return Err(self.missing(&held.stream));
        }
        let now = known.stream.now();
        if let Some(session) = self.sessions.get(token, now) {
            return Ok(session);
        }
        let start = SessionStart {
            started: Timestamp::from_micros(held.started),
            first: FragmentNumber::new(held.first.into()),
            first_time: Timestamp::from_micros(held.first_time),
        };
        let session = Arc::new(match held.ask.hls {
            Some(hls) => Played::Hls(known.stream.resume_hls(held.ask.hls_options(hls), start)),
            None => Played::Dash(known.stream.resume_dash(held.ask.dash_options(), start)),
        });
        self.sessions.keep(token, Arc::clone(&session), now);
        Ok(session)
    }

    /// Forgets the sessions of a stream that is being deleted, which would keep it open.
    pub(in crate::gateway) fn forget_sessions(&self) {
        self.sessions.kept.lock().clear();
    }
}

impl Sessions {
    fn get(&self, token: &str, now: Timestamp) -> Option<Arc<Played>> {
        let mut kept = self.kept.lock();
        let (used, session) = kept.get_mut(token)?;
        *used = now.as_micros();
        Some(Arc::clone(session))
    }

    fn keep(&self, token: &str, session: Arc<Played>, now: Timestamp) {
        let mut kept = self.kept.lock();
        if kept.len() >= SESSIONS_MAX && !kept.contains_key(token) {
            let is_over = |session: &Played| match session {
                Played::Hls(session) => session.expires_at() <= now,
                Played::Dash(session) => session.expires_at() <= now,
            };
            kept.retain(|_, (_, session)| !is_over(session));
            if kept.len() >= SESSIONS_MAX {
                let oldest = kept.iter().min_by_key(|(_, (used, _))| *used).map(|(token, _)| token.clone());
                oldest.iter().for_each(|token| drop(kept.remove(token)));
            }
        }
        kept.insert(token.to_owned(), (now.as_micros(), session));
    }
}

/// Converts a token to a form that needs no encoding in a URL.
fn to_url(token: &str) -> String {
    token.trim_end_matches('=').replace('+', "-").replace('/', "_")
}

fn from_url(token: &str) -> String {
    let mut text = token.replace('-', "+").replace('_', "/");
    while !text.len().is_multiple_of(4) {
        text.push('=');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_those_of_urls() {
        for token in ["", "YQ==", "YWI=", "YWJj", "+/+/"] {
            let url = to_url(token);
            assert!(url.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)), "{url}");
            assert_eq!(from_url(&url), token);
        }
    }
}
