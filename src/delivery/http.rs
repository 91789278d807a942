//! HTTP requests of sinks: one POST, one answer.

use std::fmt;
use std::time::Duration;

use ureq::http::{HeaderValue, Uri};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Error as HttpError};

use super::sink::SinkError;
use crate::{Error, MINUTE, Result};

/// The largest answer that is read. Firehose's protocol allows as much.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// How much of an endpoint's own error message is kept. Firehose's protocol allows as much.
const MESSAGE_CHARS_MAX: usize = 8_192;
const TIMEOUT: Duration = MINUTE.saturating_mul(3);

/// Where requests go. It keeps its connections open between them.
#[derive(Clone)]
pub(super) struct Client {
    agent: Agent,
    uri: String,
    /// The URI without what may be secret: user, password and query.
    shown: String,
    /// Never in an error or in `Debug`.
    secrets: Vec<String>,
    answer_bytes_max: usize,
    pub(super) timeout: Duration,
}

/// The answer to a request.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) content_type: String,
    pub(super) body: Vec<u8>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("uri", &self.shown)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

impl Client {
    pub(super) fn new(url: &str) -> Result<Self> {
        let refused = |reason: &str| invalid(format!("the URL of an endpoint {reason}"));
        let uri: Uri = url.parse().map_err(|error| refused(&format!("is not valid: {error}")))?;
        let (Some(scheme @ ("http" | "https")), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(refused("must begin with https:// or http:// and name a host"));
        };
        let host = authority.as_str().rsplit('@').next().unwrap_or_default();
        Ok(Self {
            agent: agent(TlsConfig::default()),
            shown: format!("{scheme}://{host}{}", uri.path()),
            uri: url.to_owned(),
            secrets: vec![],
            answer_bytes_max: ANSWER_BYTES_MAX,
            timeout: TIMEOUT,
        })
    }

    /// Reads answers of up to this many bytes.
    pub(super) fn with_answers_of(mut self, bytes_max: usize) -> Self {
        self.answer_bytes_max = bytes_max;
        self
    }

    /// Returns the URI without what may be secret.
    pub(super) fn shown(&self) -> &str {
        &self.shown
    }

    /// Adds a text that errors must not show, and that has to be valid in a header.
    pub(super) fn with_secret(mut self, what: &str, secret: &str) -> Result<Self> {
        check_header(what, secret)?;
        self.secrets.extend((!secret.is_empty()).then(|| secret.to_owned()));
        Ok(self)
    }

    /// Trusts only the certificates in a PEM text and those that they have signed.
    pub(super) fn with_root_certificates(mut self, pem: &[u8]) -> Result<Self> {
        let refused = |reason: &str| invalid(format!("the root certificates {reason}"));
        let mut certificates: Vec<Certificate<'static>> = vec![];
        for item in parse_pem(pem) {
            match item.map_err(|error| refused(&format!("are no PEM: {error}")))? {
                PemItem::Certificate(certificate) => certificates.push(certificate),
                _ => return Err(refused("must be certificates alone, without keys")),
            }
        }
        if certificates.is_empty() {
            return Err(refused("have no certificate in PEM"));
        }
        let roots = RootCerts::new_with_certs(&certificates);
        self.agent = agent(TlsConfig::builder().root_certs(roots).build());
        Ok(self)
    }

    pub(super) fn secret(&self) -> Option<&str> {
        self.secrets.last().map(String::as_str)
    }

    /// Sends a request to a path below the URI. An error is a network error: it is then unknown whether the request was received.
    pub(super) fn post(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> std::result::Result<Answer, SinkError> {
        let mut request = self.agent.post(format!("{}{path}", self.uri));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.config().timeout_global(Some(self.timeout)).build();
        let failed = |error: HttpError| SinkError::temporary(self.hide(&self.text_of(&error)));
        let mut response = request.send(body).map_err(failed)?;
        let content_type = response.headers().get("content-type").and_then(|value| value.to_str().ok());
        let content_type = content_type.unwrap_or_default().to_owned();
        let read = response.body_mut().with_config().limit(self.answer_bytes_max as u64).read_to_vec();
        Ok(Answer { status: response.status().as_u16(), content_type, body: read.map_err(failed)? })
    }

    fn text_of(&self, error: &HttpError) -> String {
        match error {
            HttpError::Timeout(_) => format!("{} did not answer within {:?}", self.shown, self.timeout),
            error => format!("no answer from {}: {}", self.shown, certificate_error(&error.to_string())),
        }
    }

    /// Returns the error text for an unsuccessful answer.
    pub(super) fn complaint(&self, reason: &str, message: &str) -> String {
        let message: String = message.chars().take(MESSAGE_CHARS_MAX).collect();
        let colon = if message.is_empty() { "" } else { ": " };
        self.hide(&format!("{} {reason}{colon}{message}", self.shown))
    }

    fn hide(&self, text: &str) -> String {
        self.secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret, "(hidden)"))
    }
}

/// Returns the text of a network error, with advice if it concerns the server's certificate.
fn certificate_error(text: &str) -> String {
    let Some((_, reason)) = text.split_once("invalid peer certificate: ") else { return text.to_owned() };
    let advice = match reason {
        "UnknownIssuer" => "; set root_certificates to the authority that signed it",
        _ => "",
    };
    format!("the certificate of the server is not trusted: {reason}{advice}")
}

fn agent(tls: TlsConfig) -> Agent {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(None)
        .tls_config(tls)
        .user_agent(concat!("streamlog/", env!("CARGO_PKG_VERSION")))
        .build();
    config.new_agent()
}

impl Answer {
    /// Returns whether the media type is JSON's, whatever its parameters.
    pub(super) fn is_json(&self) -> bool {
        let media_type = self.content_type.split(';').next().unwrap_or_default();
        media_type.trim().eq_ignore_ascii_case("application/json")
    }

    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

pub(super) fn check_header(what: &str, value: &str) -> Result<()> {
    match HeaderValue::from_str(value) {
        Ok(_) => Ok(()),
        Err(_) => Err(invalid(format!("{what} has characters that no header may have"))),
    }
}

pub(super) fn invalid(reason: impl Into<String>) -> Error {
    Error::InvalidArgument(reason.into().into())
}
