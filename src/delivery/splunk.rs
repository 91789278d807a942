//! Splunk's HTTP Event Collector.

use std::fmt;
use std::thread;
use std::time::Duration;

use super::http::{Answer, Client, check_header};
use super::json;
use super::name::random_uuid;
use super::sink::{Object, Sink, SinkError, no_rows};
use crate::{MINUTE, Result, SECOND};

/// Firehose's default.
const ACKNOWLEDGEMENT_TIMEOUT: Duration = MINUTE.saturating_mul(3);
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = SECOND.saturating_mul(10);
/// The codes with which Splunk refuses the data of a request: none, invalid, blank, without an event.
const CODES_OF_BAD_DATA: [u64; 4] = [5, 6, 12, 13];

/// Splunk's HTTP Event Collector (HEC).
///
/// Each object is one request, and each row an event: JSON as JSON, anything else as text. With [`raw`](Self::raw), rows are sent as lines, and
/// Splunk finds the events in them. Empty rows are left out, because Splunk has no empty events.
///
/// If the token requires acknowledgements, the object is delivered when Splunk reports it as indexed. The delivery polls until the
/// [timeout](Self::acknowledgement_timeout), and then sends the object again. Without acknowledgements, it is delivered when Splunk accepts it.
///
/// **At least once**: Splunk does not detect repeated requests. Rows that are neither JSON nor UTF-8, and requests that Splunk rejects for their
/// data or their size, go to the error output immediately. All others go there after the [retry duration](super::DeliveryOptions::retry_duration),
/// under the word `splunk-failed`.
///
/// ```no_run
/// use streamlog::Stream;
/// use streamlog::delivery::{Directory, SplunkHec};
///
/// let stream = Stream::open("clicks")?;
/// let splunk = SplunkHec::new("https://splunk.example.com:8088", std::env::var("HEC_TOKEN")?)?;
/// let delivery =
///     stream.delivery("splunk").to(splunk).errors_to(Directory::new("not-delivered")).start()?;
/// # delivery.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct SplunkHec {
    client: Client,
    authorization: String,
    channel: String,
    is_raw: bool,
    acknowledgement_timeout: Duration,
}

impl fmt::Debug for SplunkHec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SplunkHec")
            .field("client", &self.client)
            .field("is_raw", &self.is_raw)
            .finish_non_exhaustive()
    }
}

impl SplunkHec {
    /// Delivers to the collector at this URL, such as `https://splunk.example.com:8088`, with this token.
    ///
    /// # Errors
    /// `InvalidArgument` if it is not an HTTP or HTTPS URL, or if the token has characters that are not allowed in a header.
    pub fn new(url: &str, token: impl AsRef<str>) -> Result<Self> {
        let token = token.as_ref();
        let client = Client::new(url.trim_end_matches('/'))?.with_secret("the token", token)?;
        Ok(Self {
            client,
            authorization: format!("Splunk {token}"),
            channel: random_uuid(),
            is_raw: false,
            acknowledgement_timeout: ACKNOWLEDGEMENT_TIMEOUT,
        })
    }

    /// Sets the trusted certificates, in PEM: those of authorities, or that of the server itself. No others are then trusted. Default: the
    /// authorities that Mozilla trusts.
    ///
    /// # Errors
    /// `InvalidArgument` if it contains no certificate, or anything else, such as a key.
    pub fn root_certificates(mut self, pem: impl AsRef<[u8]>) -> Result<Self> {
        self.client = self.client.with_root_certificates(pem.as_ref())?;
        Ok(self)
    }

    /// Sends rows as lines to the endpoint for raw data, where Splunk finds the events in them. Default: each row is an event.
    pub fn raw(mut self, is_on: bool) -> Self {
        self.is_raw = is_on;
        self
    }

    /// Sets the channel, a UUID that separates the acknowledgements of several clients of a token. Default: a random one.
    ///
    /// # Errors
    /// `InvalidArgument` if it has characters that do not belong in a UUID.
    pub fn channel(mut self, channel: impl Into<String>) -> Result<Self> {
        self.channel = channel.into();
        check_header("the channel", &self.channel)?;
        if !self.channel.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-') {
            return Err(super::http::invalid("the channel is no UUID"));
        }
        Ok(self)
    }

    /// Sets how long to wait for an acknowledgement. Default: 3 minutes, as in Firehose.
    pub fn acknowledgement_timeout(mut self, timeout: Duration) -> Self {
        self.acknowledgement_timeout = timeout;
        self
    }

    fn post(&self, path: &str, body: &[u8]) -> std::result::Result<Answer, SinkError> {
        let headers = [
            ("Authorization", &*self.authorization),
            ("X-Splunk-Request-Channel", &*self.channel),
            ("Content-Type", "application/json"),
        ];
        self.client.post(path, &headers, body)
    }

    fn send(&self, body: &[u8]) -> std::result::Result<(), SinkError> {
        let path = if self.is_raw { "/services/collector/raw" } else { "/services/collector/event" };
        let answer = self.post(&format!("{path}?channel={}", self.channel), body)?;
        let json = answer.json();
        if answer.status == 200 && json["code"] == 0 {
            return match json["ackId"].as_u64() {
                Some(id) => self.wait_for(id),
                None => Ok(()),
            };
        }
        let text = json["text"].as_str().unwrap_or_default();
        let complaint = self.client.complaint(&format!("answered {}", answer.status), text);
        let is_bad_data = json["code"].as_u64().is_some_and(|code| CODES_OF_BAD_DATA.contains(&code));
        let is_permanent = answer.status == 413 || (answer.status == 400 && is_bad_data);
        Err(if is_permanent { SinkError::permanent(complaint) } else { SinkError::temporary(complaint) })
    }

    /// Polls until a request is indexed.
    fn wait_for(&self, id: u64) -> std::result::Result<(), SinkError> {
        let path = format!("/services/collector/ack?channel={}", self.channel);
        let body = serde_json::json!({ "acks": [id] }).to_string();
        let (mut waited, mut pause) = (Duration::ZERO, FIRST_PAUSE);
        loop {
            // A failed poll says nothing about the request.
            let answer = self.post(&path, body.as_bytes());
            if answer.is_ok_and(|answer| answer.json()["acks"][id.to_string()] == true) {
                return Ok(());
            }
            if waited >= self.acknowledgement_timeout {
                let reason = format!("did not acknowledge within {:?}", self.acknowledgement_timeout);
                return Err(SinkError::temporary(self.client.complaint(&reason, "")));
            }
            let wait = pause.min(self.acknowledgement_timeout - waited);
            thread::sleep(wait);
            (waited, pause) = (waited + wait, (pause * 2).min(LONGEST_PAUSE));
        }
    }
}

/// Adds a row as an event. Returns false if it cannot be one.
fn push_event(row: &[u8], to: &mut Vec<u8>) -> bool {
    let text;
    let event = if json::check(row).is_ok() {
        row
    } else if let Ok(row) = std::str::from_utf8(row) {
        text = serde_json::Value::from(row).to_string();
        text.as_bytes()
    } else {
        return false;
    };
    to.extend_from_slice(b"{\"event\":");
    to.extend_from_slice(event);
    to.extend_from_slice(b"}\n");
    true
}

impl Sink for SplunkHec {
    fn put(&self, object: &Object) -> std::result::Result<(), SinkError> {
        let (mut body, mut rejected) = (vec![], vec![]);
        if object.rows().next().is_none() {
            return Err(no_rows("Splunk"));
        }
        for (index, row) in object.rows().enumerate().filter(|(_, row)| !row.is_empty()) {
            if self.is_raw {
                body.extend_from_slice(row);
                body.push(b'\n');
            } else if !push_event(row, &mut body) {
                rejected.push(index);
            }
        }
        if !body.is_empty() {
            self.send(&body)?;
        }
        match rejected.is_empty() {
            true => Ok(()),
            false => Err(SinkError::rejected("it is neither JSON nor text in UTF-8", rejected)),
        }
    }

    fn wants_rows(&self) -> bool {
        true
    }

    fn error_output_type(&self) -> Option<&'static str> {
        Some("splunk-failed")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l5_a_row_that_would_spoil_the_request_of_the_others_is_no_event() {
        let event = |row: &[u8]| {
            let mut body = vec![];
            push_event(row, &mut body).then(|| String::from_utf8(body).expect("it is JSON"))
        };
        assert_eq!(event(b"{\"page\":1}").as_deref(), Some("{\"event\":{\"page\":1}}\n"));
        assert_eq!(event(b"a \"line\"").as_deref(), Some("{\"event\":\"a \\\"line\\\"\"}\n"));
        // Half of a surrogate pair is not a character: the row is sent as text.
        assert_eq!(event(b"\"\\ud800\"").as_deref(), Some("{\"event\":\"\\\"\\\\ud800\\\"\"}\n"));
        assert_eq!(event(b"{\"page\":\"\xff\"}"), None);
    }
}
