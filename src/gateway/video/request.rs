//! Requests to Kinesis Video Streams: they name the operation in their path, and errors have a status of their own.

use std::borrow::Cow;

use hyper::header::{HOST, HeaderName, HeaderValue};
use hyper::{Method, StatusCode};

use super::{Video, player};
use crate::Timestamp;
use crate::gateway::auth::AuthError;
use crate::gateway::fault::{Answered, Fault};
use crate::gateway::front::{Asked, Front, Seen, whole};
use crate::gateway::http::{Answer, Body, Pieces, Request};
use crate::gateway::operations::{Reply, find_video};
use crate::gateway::wire::{Format, Value};

/// The path of `PutMedia`.
pub(in crate::gateway) const PUT_MEDIA: &str = "/putMedia";

const JSON: &str = "application/json";
/// The names of `PutMedia`'s headers, and the names that they would have in a body.
const HEADERS: [(&str, &str); 4] = [
    ("x-amzn-stream-name", "StreamName"),
    ("x-amzn-stream-arn", "StreamARN"),
    ("x-amzn-fragment-timecode-type", "FragmentTimecodeType"),
    ("x-amzn-fragment-acknowledgment-required", "FragmentAcknowledgmentRequired"),
];
const PRODUCER_START: &str = "x-amzn-producer-start-timestamp";

impl Front {
    /// Answers a request to Kinesis Video Streams. Returns `None` for any other request.
    pub(in crate::gateway) fn judge_video(
        &self,
        request: &Request,
        pieces: Option<Pieces>,
        seen: &mut Seen,
    ) -> Option<Answer> {
        let path = request.uri.path();
        if request.method == Method::GET && player::is_played(path) {
            let (answer, error) = player::answer(&self.service, request);
            seen.error = error;
            return Some(answer);
        }
        // Requests to other services may have any path.
        if request.method != Method::POST || request.headers.contains_key("x-amz-target") {
            return None;
        }
        let operation = find_video(path)?;
        seen.operation = Some(operation);
        let identity = match self.enter(request, operation) {
            Ok(identity) => identity,
            Err(AuthError { kind, message }) => {
                seen.error = Some(kind);
                let fault = Fault { kind, message: Some(Cow::Owned(message)) };
                return Some(Answer { status: StatusCode::FORBIDDEN, ..refuse(&fault) });
            }
        };
        seen.user.clone_from(&identity);
        let body = match (path, &*request.body) {
            (PUT_MEDIA, _) => of_headers(request),
            (_, []) => Ok(Value::Map(vec![])),
            (_, body) => match Format::Json.decode(body) {
                Ok(body @ Value::Map(_)) => Ok(body),
                _ => Err(Fault::bare("SerializationException")),
            },
        };
        let asked = Asked::new(request);
        asked.pieces.set(pieces);
        let replied =
            body.and_then(|body| self.run(operation, &asked, identity.as_deref(), Format::Json, body, seen));
        Some(match replied {
            Ok(Reply::Body(body)) => whole(StatusCode::OK, JSON, body),
            Ok(Reply::Bytes(content_type, body)) => whole(StatusCode::OK, content_type, body),
            Ok(Reply::Pieces(content_type, pieces)) => {
                let Answer { status, headers, .. } = whole(StatusCode::OK, content_type, "");
                Answer { status, headers, body: Body::Pieces(pieces) }
            }
            // Operations of video have no other replies.
            Ok(_) => whole(StatusCode::OK, JSON, "{}"),
            Err(fault) => {
                let fault = as_argument(fault);
                seen.error = Some(fault.kind);
                refuse(&fault)
            }
        })
    }
}

/// In this service, a bounds violation is an invalid argument.
fn as_argument(fault: Fault) -> Fault {
    match fault.kind {
        "ValidationException" => Fault { kind: "InvalidArgumentException", ..fault },
        _ => fault,
    }
}

/// Returns an error in the form of this service.
pub(super) fn refuse(fault: &Fault) -> Answer {
    let status = match fault.kind {
        "ResourceNotFoundException" => StatusCode::NOT_FOUND,
        "NotAuthorizedException" | "AccessDeniedException" => StatusCode::UNAUTHORIZED,
        _ => fault.status(),
    };
    let message = fault.message.as_deref().map(Value::text);
    let body = Format::Json.encode(&Value::Map(vec![]).with("Message", message));
    let mut answer = whole(status, JSON, body);
    answer.headers.insert(HeaderName::from_static("x-amzn-errortype"), HeaderValue::from_static(fault.kind));
    answer
}

/// Returns the headers of `PutMedia` in the form of a body.
fn of_headers(request: &Request) -> Answered<Value<'static>> {
    let header = |name: &str| -> Answered<Option<String>> {
        let Some(value) = request.headers.get(name) else { return Ok(None) };
        let text = value.to_str().map_err(|_| Fault::invalid(format!("The header {name} is not a text.")))?;
        Ok(Some(text.trim().to_owned()))
    };
    let mut body = Value::Map(vec![]);
    for (name, member) in HEADERS {
        body = body.with(member, header(name)?.map(Value::text));
    }
    let Some(start) = header(PRODUCER_START)? else { return Ok(body) };
    let start = parse_seconds(&start).ok_or_else(|| {
        Fault::invalid(format!("{PRODUCER_START} is not a time in seconds since 1970: {start}"))
    })?;
    Ok(body.with("ProducerStartTimestamp", Some(Value::Time(start))))
}

/// Parses seconds since 1970, with up to six significant decimals.
fn parse_seconds(text: &str) -> Option<Timestamp> {
    let (seconds, decimals) = text.split_once('.').unwrap_or((text, ""));
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if seconds.is_empty() || !is_number(seconds) || !is_number(decimals) {
        return None;
    }
    let micros: u64 = format!("{:0<6.6}", decimals).parse().ok()?;
    seconds.parse::<u64>().ok()?.checked_mul(1_000_000)?.checked_add(micros).map(Timestamp::from_micros)
}

/// Returns the URL at which a client sees the server.
pub(in crate::gateway) fn base_url(request: &Request) -> Answered<String> {
    let host = request.headers.get(HOST).and_then(|host| host.to_str().ok());
    // HTTP/2 has it in the URI.
    let host = host.or_else(|| request.uri.authority().map(|authority| authority.as_str()));
    let host = host.ok_or_else(|| Fault::invalid("The request does not name the host that it is for."))?;
    let scheme = if request.is_tls { "https" } else { "http" };
    Ok(format!("{scheme}://{host}"))
}

impl Video {
    /// Returns the video stream that an ARN names. Only one ARN names it, as policies compare their text.
    pub(in crate::gateway) fn by_arn(&self, arn: &str) -> Answered<std::sync::Arc<super::KnownVideo>> {
        let name = self.behaviour.account.video_stream_of(arn);
        let missing = || Fault::not_found(format!("Stream {arn} not found."));
        let known = self.stream(name.ok_or_else(missing)?).map_err(|fault| fault.or_missing(missing))?;
        if known.arn == arn { Ok(known) } else { Err(missing()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_headers_are_seconds_with_decimals() {
        for (text, micros) in [
            ("1767225600", 1_767_225_600_000_000),
            ("1767225600.5", 1_767_225_600_500_000),
            ("1767225600.123456789", 1_767_225_600_123_456),
            ("0.000001", 1),
            ("1.", 1_000_000),
        ] {
            assert_eq!(parse_seconds(text), Some(Timestamp::from_micros(micros)), "{text}");
        }
        for text in ["", ".", ".5", "-1", "1e9", "1.5x", "+1", "99999999999999999999", "18446744073709551615"]
        {
            assert_eq!(parse_seconds(text), None, "{text}");
        }
    }
}
