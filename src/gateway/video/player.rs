//! Answers to players: playlists, manifests and fragments, by URLs whose token defines the player's access.

use bytes::Bytes;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{HeaderMap, StatusCode};

use super::sessions::Played;
use super::{answered, request};
use crate::gateway::fault::{Answered, Fault};
use crate::gateway::http::{Answer, Body, Request};
use crate::gateway::operations::Service;
use crate::video::{DashLink, FragmentNumber, HlsContainer, HlsLink};

const HLS: &str = "/hls/v1/";
const DASH: &str = "/dash/v1/";
/// For files that players reload repeatedly.
const CHANGES: HeaderValue = HeaderValue::from_static("no-store");
/// For files that never change, cached only by the client with the token.
const STAYS: HeaderValue = HeaderValue::from_static("private, max-age=3600");

/// Returns whether a path belongs to players.
pub(in crate::gateway) fn is_played(path: &str) -> bool {
    path.starts_with(HLS) || path.starts_with(DASH)
}

/// Returns the URL of a new session at a server.
pub(in crate::gateway) fn url(base: &str, is_hls: bool, token: &str) -> String {
    let file = if is_hls { "hls/v1/getHLSMasterPlaylist.m3u8" } else { "dash/v1/getDASHManifest.mpd" };
    format!("{base}/{file}?SessionToken={token}")
}

/// Answers a player.
pub(super) fn answer(service: &Service, asked: &Request) -> (Answer, Option<&'static str>) {
    match play(service, asked) {
        Ok((content_type, caching, body)) => {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
            headers.insert(CACHE_CONTROL, caching);
            (Answer { status: StatusCode::OK, headers, body: Body::Whole(body) }, None)
        }
        Err(fault) => {
            let mut answer = request::refuse(&fault);
            answer.headers.insert(CACHE_CONTROL, CHANGES);
            (answer, Some(fault.kind))
        }
    }
}

/// A content type, how long it may be kept, and a body.
type File = (&'static str, HeaderValue, Bytes);

fn play(service: &Service, asked: &Request) -> Answered<File> {
    let query = asked.uri.query().unwrap_or_default();
    let token = value(query, "SessionToken").unwrap_or_default();
    let session = service.video.played(token, &service.sealer)?;
    let path = asked.uri.path();
    let unknown = || Fault::not_found(format!("There is nothing at {path}."));
    match &*session {
        Played::Hls(session) => {
            let link = |link| hls_link(link, token);
            match path.strip_prefix(HLS).ok_or_else(unknown)? {
                "getHLSMasterPlaylist.m3u8" => playlist(answered(session.master_playlist(link))?),
                "getHLSMediaPlaylist.m3u8" => playlist(answered(session.media_playlist(link))?),
                "getMP4InitFragment.mp4" => fragment("video/mp4", answered(session.init(number(query)?))?),
                "getMP4MediaFragment.mp4" => {
                    fragment("video/mp4", answered(session.fragment(number(query)?))?)
                }
                "getTSFragment.ts" => fragment("video/mp2t", answered(session.fragment(number(query)?))?),
                _ => Err(unknown()),
            }
        }
        Played::Dash(session) => match path.strip_prefix(DASH).ok_or_else(unknown)? {
            "getDASHManifest.mpd" => {
                let manifest = answered(session.manifest(|link| dash_link(link, token)))?;
                Ok(("application/dash+xml", CHANGES, manifest.into()))
            }
            "getMP4InitFragment.mp4" => {
                let track = count(query, "TrackNumber")?;
                fragment("video/mp4", answered(session.init(number(query)?, track))?)
            }
            "getMP4MediaFragment.mp4" => {
                let (sequence, track) = (count(query, "SequenceNumber")?, count(query, "TrackNumber")?);
                fragment("video/mp4", answered(session.fragment(sequence, track))?)
            }
            _ => Err(unknown()),
        },
    }
}

fn playlist(text: String) -> Answered<File> {
    Ok(("application/vnd.apple.mpegurl", CHANGES, text.into()))
}

fn fragment(content_type: &'static str, bytes: Vec<u8>) -> Answered<File> {
    Ok((content_type, STAYS, bytes.into()))
}

/// Returns a value of a query. Tokens and numbers contain nothing that needs encoding.
fn value<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

fn number(query: &str) -> Answered<FragmentNumber> {
    answered(value(query, "FragmentNumber").unwrap_or_default().parse())
}

fn count(query: &str, name: &str) -> Answered<u64> {
    let number = value(query, name).and_then(|text| text.parse().ok());
    number.ok_or_else(|| Fault::invalid(format!("The query has no {name}.")))
}

/// Links are relative, so that they work at whatever address the player sees the server.
fn hls_link(link: HlsLink, token: &str) -> String {
    match link {
        HlsLink::MediaPlaylist => format!("getHLSMediaPlaylist.m3u8?SessionToken={token}"),
        HlsLink::Init { fragment } => {
            format!("getMP4InitFragment.mp4?FragmentNumber={fragment}&SessionToken={token}")
        }
        HlsLink::Fragment { fragment, container } => {
            let file = match container {
                HlsContainer::FragmentedMp4 => "getMP4MediaFragment.mp4",
                HlsContainer::MpegTs => "getTSFragment.ts",
            };
            format!("{file}?FragmentNumber={fragment}&SessionToken={token}")
        }
    }
}

fn dash_link(link: DashLink, token: &str) -> String {
    match link {
        DashLink::Init { fragment, track } => {
            format!(
                "getMP4InitFragment.mp4?FragmentNumber={fragment}&TrackNumber={track}&SessionToken={token}"
            )
        }
        DashLink::Fragments { track } => {
            format!(
                "getMP4MediaFragment.mp4?SequenceNumber=$Number$&TrackNumber={track}&SessionToken={token}"
            )
        }
    }
}
