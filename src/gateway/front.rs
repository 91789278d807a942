//! The front: checks a request in the same order as Kinesis, and runs its operation.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue, ORIGIN};
use hyper::{HeaderMap, Method, StatusCode};
use ring::rand::{SecureRandom, SystemRandom};

use super::auth::{AuthError, Credentials, Identity, authenticate, check_form};
use super::caller::Caller;
use super::fault::{Answered, Fault};
use super::http::{self, Answer, Answering, Body, Request};
use super::model;
use super::operations::{self, Call, Operation, Reply, Service};
#[cfg(feature = "video")]
use super::video;
use super::watch::Watch;
use super::wire::{Format, Value, event_stream};

const TARGET: HeaderName = HeaderName::from_static("x-amz-target");
const NO_OPERATION: &str = "Unable to determine service/operation name to be authorized";

/// Who is let in.
pub(super) enum Door {
    /// Anybody. Requests must be signed in form, as clients do; the signature is not checked.
    Open,
    /// Callers with a key.
    Keys(Credentials),
}

/// The entry of all requests: it answers or refuses them.
pub(super) struct Front {
    pub(super) service: Service,
    pub(super) door: Door,
    pub(super) watch: Watch,
    pub(super) random: SystemRandom,
    pub(super) requests: AtomicU64,
}

/// A request and its context.
pub(super) struct Asked<'a> {
    pub(super) request: &'a Request,
    /// Its body, if that comes in pieces, until an operation takes it.
    #[cfg(feature = "video")]
    pub(super) pieces: std::cell::Cell<Option<http::Pieces>>,
}

impl<'a> Asked<'a> {
    pub(super) fn new(request: &'a Request) -> Self {
        Self {
            request,
            #[cfg(feature = "video")]
            pieces: std::cell::Cell::new(None),
        }
    }
}

/// The access log's data about a request, as far as known when it was answered or refused.
pub(super) struct Seen {
    begun: Instant,
    bytes_in: usize,
    pub(super) operation: Option<&'static Operation>,
    pub(super) user: Option<Arc<Identity>>,
    resource: String,
    pub(super) error: Option<&'static str>,
}

/// The outcome of a request.
enum Judged {
    /// The front itself answers it.
    Answered(Answer),
    /// Its operation replied, in this format.
    Ran(Format, Answered<Reply>),
}

impl Seen {
    pub(super) fn new(request: &Request) -> Self {
        Self {
            begun: Instant::now(),
            bytes_in: request.body.len(),
            operation: None,
            user: None,
            resource: String::new(),
            error: None,
        }
    }
}

impl http::Service for Front {
    fn is_quick(&self, request: &Request) -> bool {
        let operation =
            target_of(&request.headers).and_then(|(service, name)| operations::find(service, name));
        operation.is_some_and(|it| it.is_quick)
    }

    fn answer(self: Arc<Self>, mut request: Request) -> Answering {
        let mut seen = Seen::new(&request);
        let (format, reply) = match self.judge(&request, &mut seen) {
            Judged::Ran(format, reply) => (format, reply),
            Judged::Answered(answer) => return Answering::Now(self.finish(&request, seen, answer)),
        };
        let answer = match reply {
            Ok(Reply::Empty) => whole(StatusCode::OK, format.content_type(), ""),
            Ok(Reply::Body(body)) => whole(StatusCode::OK, format.content_type(), body),
            Ok(Reply::Events(events)) => {
                let Answer { status, headers, .. } = whole(StatusCode::OK, event_stream::CONTENT_TYPE, "");
                Answer { status, headers, body: Body::Pieces(events) }
            }
            #[cfg(feature = "sql")]
            Ok(Reply::Lines(lines)) => {
                let Answer { status, headers, .. } = whole(StatusCode::OK, super::sql::CONTENT_TYPE, "");
                Answer { status, headers, body: Body::Pieces(lines) }
            }
            Ok(Reply::Later(body)) => {
                // It has been read.
                request.body = Bytes::new();
                return Answering::Later(Box::pin(async move {
                    let answer = match body.await {
                        Ok(body) => whole(StatusCode::OK, format.content_type(), body),
                        Err(fault) => refuse(format, &fault, &mut seen),
                    };
                    self.finish(&request, seen, answer)
                }));
            }
            Err(fault) => refuse(format, &fault, &mut seen),
            #[cfg(feature = "video")]
            Ok(Reply::Bytes(content_type, body)) => whole(StatusCode::OK, content_type, body),
            #[cfg(feature = "video")]
            Ok(Reply::Pieces(content_type, pieces)) => {
                let Answer { status, headers, .. } = whole(StatusCode::OK, content_type, "");
                Answer { status, headers, body: Body::Pieces(pieces) }
            }
        };
        Answering::Now(self.finish(&request, seen, answer))
    }

    #[cfg(feature = "video")]
    fn takes_pieces(&self, method: &Method, uri: &hyper::Uri) -> bool {
        *method == Method::POST && uri.path() == video::PUT_MEDIA
    }

    #[cfg(feature = "video")]
    fn answer_pieces(self: Arc<Self>, request: Request, pieces: http::Pieces) -> Answering {
        let mut seen = Seen::new(&request);
        let answer = self.judge_video(&request, Some(pieces), &mut seen);
        let answer = answer.unwrap_or_else(|| xml(StatusCode::NOT_FOUND, "UnknownOperationException", None));
        Answering::Now(self.finish(&request, seen, answer))
    }
}

/// Returns the service and the operation that a request names.
fn target_of(headers: &HeaderMap) -> Option<(&str, &str)> {
    let target = headers.get(TARGET)?.to_str().ok()?;
    let mut parts = target.split('.');
    Some((parts.next()?, parts.next().unwrap_or_default()))
}

/// Returns an answer with a body of a content type.
pub(super) fn whole(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut headers = HeaderMap::new();
    if !content_type.is_empty() {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    Answer { status, headers, body: Body::Whole(body.into()) }
}

/// Returns an error in XML, for a request whose format is not known yet.
fn xml(status: StatusCode, kind: &str, message: Option<&str>) -> Answer {
    let body = match message {
        Some(message) => format!("<{kind}>\n  <Message>{message}</Message>\n</{kind}>\n"),
        None => format!("<{kind}/>\n"),
    };
    whole(status, "", body)
}

impl Front {
    /// Runs the operation of a request, or refuses it before that.
    fn judge(&self, request: &Request, seen: &mut Seen) -> Judged {
        if request.headers.contains_key(ORIGIN) && request.method == Method::OPTIONS {
            return Judged::Answered(whole(StatusCode::OK, "", ""));
        }
        if request.method == Method::GET
            && let Some(page) = self.page(request)
        {
            return Judged::Answered(page);
        }
        #[cfg(feature = "video")]
        if let Some(answer) = self.judge_video(request, None, seen) {
            return Judged::Answered(answer);
        }
        if request.method != Method::POST {
            return Judged::Answered(xml(StatusCode::FORBIDDEN, "AccessDeniedException", Some(NO_OPERATION)));
        }
        let content_type =
            request.headers.get(CONTENT_TYPE).and_then(|it| it.to_str().ok()).unwrap_or_default();
        let content_type = content_type.split(';').next().unwrap_or_default().trim();
        let (service, name) = target_of(&request.headers).unwrap_or_default();
        let operation = operations::find(service, name);
        let format = [Format::Json, Format::Cbor].into_iter().find(|it| it.content_type() == content_type);
        if request.body.is_empty() {
            let kind =
                if operation.is_some() { "SerializationException" } else { "UnknownOperationException" };
            let format = format.filter(|it| *it == Format::Json).unwrap_or(Format::Cbor);
            return Judged::Answered(refuse(format, &Fault::bare(kind), seen));
        }
        let Some(format) = format else {
            let has_no_target = service.is_empty() || name.is_empty();
            return Judged::Answered(self.judge_unknown(content_type, has_no_target, &request.body));
        };
        let body = match format.decode(&request.body) {
            Ok(body @ (Value::Map(_) | Value::List(_))) => body,
            _ => return Judged::Answered(refuse(format, &Fault::bare("SerializationException"), seen)),
        };
        let Some(operation) = operation else {
            return Judged::Answered(refuse(format, &Fault::bare("UnknownOperationException"), seen));
        };
        seen.operation = Some(operation);
        let identity = match self.enter(request, operation) {
            Ok(identity) => identity,
            Err(AuthError { kind, message }) => {
                return Judged::Answered(refuse(
                    format,
                    &Fault { kind, message: Some(Cow::Owned(message)) },
                    seen,
                ));
            }
        };
        seen.user.clone_from(&identity);
        let asked = Asked::new(request);
        Judged::Ran(format, self.run(operation, &asked, identity.as_deref(), format, body, seen))
    }

    /// Adds the common headers to an answer, and notes it in the counts and the access log.
    fn finish(&self, request: &Request, seen: Seen, mut answer: Answer) -> Answer {
        let id = self.request_id();
        self.add_headers(request, &id, &mut answer.headers);
        let took = seen.begun.elapsed();
        let name = seen.operation.map_or("-", |operation| operation.name);
        if let Some(operation) = seen.operation {
            self.watch.count(operation.name, answer.status.as_u16(), seen.error, took);
        }
        let bytes_out = match &answer.body {
            Body::Whole(bytes) => bytes.len(),
            Body::Pieces(_) => 0,
        };
        tracing::info!(
            target: "streamlog::gateway::access",
            operation = name,
            resource = seen.resource,
            status = answer.status.as_u16(),
            error = seen.error,
            micros = took.as_micros() as u64,
            bytes_in = seen.bytes_in,
            bytes_out,
            peer = %request.peer,
            user = seen.user.as_ref().map(|user| &*user.user),
            request = id,
        );
        answer
    }

    /// Answers a request whose content type is none of the service's.
    fn judge_unknown(&self, content_type: &str, has_no_target: bool, body: &[u8]) -> Answer {
        if content_type != "application/json" {
            return match has_no_target {
                true => xml(StatusCode::FORBIDDEN, "AccessDeniedException", Some(NO_OPERATION)),
                false => xml(StatusCode::NOT_FOUND, "UnknownOperationException", None),
            };
        }
        let (status, kind) = match Format::Json.decode(body) {
            Ok(Value::Map(_) | Value::List(_)) => (StatusCode::NOT_FOUND, "UnknownOperationException"),
            _ => (StatusCode::BAD_REQUEST, "SerializationException"),
        };
        let kind = format!("com.amazon.coral.service#{kind}");
        let output = Value::map([("__type", Value::text(kind))]);
        let body = Format::Json.encode(&Value::map([("Output", output), ("Version", Value::text("1.0"))]));
        whole(status, "application/json", body)
    }

    /// Returns who calls, or `None` if anybody may.
    pub(super) fn enter(
        &self,
        request: &Request,
        operation: &Operation,
    ) -> Result<Option<Arc<Identity>>, AuthError> {
        match &self.door {
            Door::Open => check_form(request).map(|()| None),
            Door::Keys(credentials) => {
                let region = &self.service.account().region;
                let (now, service) = (self.service.clock.now(), operation.family.signed_for);
                authenticate(request, credentials, now, region, service).map(Some)
            }
        }
    }

    pub(super) fn run(
        &self,
        operation: &'static Operation,
        asked: &Asked<'_>,
        identity: Option<&Identity>,
        format: Format,
        body: Value<'_>,
        seen: &mut Seen,
    ) -> Answered<Reply> {
        let input = model::check(body, operation.members, self.service.profile)?;
        let caller =
            identity.map(|identity| Caller { service: &self.service, identity, request: asked.request });
        let may = |operation: &Operation, resource: &str| {
            caller.as_ref().is_none_or(|caller| caller.check(operation, resource, None).is_ok())
        };
        let may_somewhere =
            |operation: &Operation| caller.as_ref().is_none_or(|caller| caller.may_somewhere(operation));
        let call = Call {
            service: &self.service,
            format,
            may: &may,
            may_somewhere: &may_somewhere,
            #[cfg(feature = "video")]
            asked,
            #[cfg(feature = "sql")]
            peer: asked.request.peer,
        };
        let subject = call.subject(operation.subject, &input);
        seen.resource = subject.as_ref().map_or_else(|_| "-".to_owned(), |subject| subject.clone());
        if let Some(caller) = &caller {
            // A subject that cannot be determined counts as all resources, so that callers without permission do not learn what exists.
            let resource = subject.as_deref().unwrap_or("*");
            caller.check(operation, resource, Some(&input))?;
        }
        if input.is_true("DryRun") {
            subject?;
            return Err(Fault::dry_run("Request would have succeeded, but DryRun flag is set."));
        }
        (operation.run)(&call, input)
    }

    fn add_headers(&self, request: &Request, id: &str, headers: &mut HeaderMap) {
        let mut set = |name: &'static str, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        };
        set("x-amzn-requestid", id);
        if !request.headers.contains_key(ORIGIN) {
            set("x-amz-id-2", &self.second_id());
            return;
        }
        set("access-control-allow-origin", "*");
        if request.method == Method::OPTIONS {
            let asked = |name: &str| request.headers.get(name).and_then(|it| it.to_str().ok());
            if let Some(names) = asked("access-control-request-headers") {
                set("access-control-allow-headers", names);
            }
            if let Some(methods) = asked("access-control-request-method") {
                set("access-control-allow-methods", methods);
            }
            set("access-control-max-age", "172800");
        } else {
            set("x-amz-id-2", &self.second_id());
            set(
                "access-control-expose-headers",
                "x-amzn-RequestId,x-amzn-ErrorType,x-amz-request-id,x-amz-id-2,x-amzn-ErrorMessage,Date",
            );
        }
    }

    /// Returns the id of a request: a UUID of version 1, which holds the time and a number.
    fn request_id(&self) -> String {
        /// From the beginning of the Gregorian calendar to 1970, in units of 100 nanoseconds.
        const BEFORE_1970: u64 = 0x01b2_1dd2_1381_4000;
        let time = self.service.clock.now().as_micros().wrapping_mul(10).wrapping_add(BEFORE_1970);
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        let (low, middle, high) = (time as u32, (time >> 32) as u16, (time >> 48) as u16 & 0x0fff | 0x1000);
        // The field for the machine's address holds the number of the request, marked as not being an address.
        let (sequence, node) =
            (0x8000 | (number >> 40) as u16 & 0x3fff, number & 0xff_ffff_ffff | 0x0100_0000_0000);
        format!("{low:08x}-{middle:04x}-{high:04x}-{sequence:04x}-{node:012x}")
    }

    fn second_id(&self) -> String {
        let mut bytes = [0; 72];
        // Clients only print it, so zeros would do no harm.
        let _ = self.random.fill(&mut bytes);
        STANDARD.encode(bytes)
    }
}

fn refuse(format: Format, fault: &Fault, seen: &mut Seen) -> Answer {
    seen.error = Some(fault.kind);
    let mut answer = whole(fault.status(), format.content_type(), format.encode(&fault.to_value()));
    answer.headers.insert(HeaderName::from_static("x-amzn-errortype"), HeaderValue::from_static(fault.kind));
    answer
}
