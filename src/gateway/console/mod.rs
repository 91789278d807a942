//! The console: a page for people, whose files are part of the binary.
//!
//! The page is served to anybody. It calls the API like any client, with the key of the user.

mod files;

use std::fmt::Write;

use bytes::Bytes;
use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use hyper::{HeaderMap, StatusCode};
use ring::digest::{SHA256, digest};
use serde_json::json;

use super::http::{Answer, Body};
use crate::Limits;
use files::{FILES, File, LIBRARIES};

/// The page loads its own scripts and styles, and talks to its own server. Nothing else is allowed.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      media-src 'self' blob:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/// Returns a file of the page, or `None` if no file has this path.
pub(super) fn file(path: &str, asked: &HeaderMap) -> Option<Answer> {
    let name = match path.strip_prefix("/console")? {
        "" | "/" => "index.html",
        rest => rest.strip_prefix('/')?,
    };
    let file = FILES.iter().chain(LIBRARIES).find(|file| file.name == name)?;
    let tag = tag(file);
    let is_known = asked.get(IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let body = if is_known { Bytes::new() } else { Bytes::from_static(file.text.as_bytes()) };
    let status = if is_known { StatusCode::NOT_MODIFIED } else { StatusCode::OK };
    let mut answer = answer(status, file.content_type(), body);
    // A browser revalidates the file each time, so that a page and its scripts have the same version.
    answer.headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        answer.headers.insert(ETAG, tag);
    }
    Some(answer)
}

/// Returns the data that the page needs before sign-in.
pub(super) fn server(region: &str, needs_key: bool, has_sql: bool, limits: Limits) -> Answer {
    let text = json!({
        "region": region,
        "needsKey": needs_key,
        "hasSql": has_sql,
        "version": env!("CARGO_PKG_VERSION"),
        "hasVideo": cfg!(feature = "video"),
        "limits": {
            "writeBytes": limits.write_bytes_per_second,
            "writeRecords": limits.write_records_per_second,
            "readBytes": limits.read_bytes_per_second,
            "readCalls": limits.read_calls_per_second,
        },
    });
    let mut answer = answer(StatusCode::OK, "application/json", text.to_string().into());
    answer.headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

fn answer(status: StatusCode, content_type: &'static str, body: Bytes) -> Answer {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        (CONTENT_TYPE, content_type),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    Answer { status, headers, body: Body::Whole(body) }
}

/// Returns a tag that changes with the file.
fn tag(file: &File) -> String {
    let hash = digest(&SHA256, file.text.as_bytes());
    let mut tag = "\"".to_owned();
    for byte in &hash.as_ref()[..8] {
        // Writing to a string does not fail.
        let _ = write!(tag, "{byte:02x}");
    }
    tag + "\""
}

#[cfg(test)]
mod tests;
