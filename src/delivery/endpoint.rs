//! An HTTP endpoint that takes records in the protocol of Amazon Data Firehose.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;

use super::compress;
use super::http::{Answer, Client, check_header, invalid};
use super::sink::{Object, Sink, SinkError};
use crate::{Clock, Result, SystemClock};

/// The longest access key of Firehose.
const ACCESS_KEY_BYTES_MAX: usize = 4_096;

/// An HTTP endpoint that accepts records in the format of Amazon Data Firehose: many products do, and your own program can.
///
/// Each object is one request: `POST` with `{"requestId":…,"timestamp":…,"records":[{"data":…}]}`, where each row is a record in Base64. An object
/// in a format without rows is one record. The object is delivered if the response has the status 200, the type `application/json`, and the members
/// `requestId`, the same as in the request, and `timestamp`, a number of milliseconds. Every other response is an error, whose text includes the
/// response's `errorMessage`, and the request is retried. Redirects are not followed. After status 413, the object goes to the error output
/// immediately, and otherwise after the [retry duration](super::DeliveryOptions::retry_duration), under the word `http-endpoint-failed`.
///
/// **At least once.** If the connection is lost after the endpoint received a request, the request is sent again with the same request id, even
/// after a crash: it is the id of the [object](Object::id). An endpoint that drops requests with known ids has each record once.
///
/// The connection is encrypted if the URL begins with `https`. It trusts Mozilla's certificate authorities, or [others](Self::root_certificates). No
/// proxy is used.
///
/// ```no_run
/// use std::time::Duration;
/// use streamlog::Stream;
/// use streamlog::delivery::{Directory, HttpEndpoint};
///
/// let stream = Stream::open("clicks")?;
/// let endpoint = HttpEndpoint::new("https://collector.example.com/firehose")?
///     .access_key(std::env::var("COLLECTOR_KEY")?)?
///     .common_attribute("team", "web")
///     .gzip(true);
/// let delivery = stream
///     .delivery("collector")
///     .buffer_interval(Duration::from_secs(10))
///     .to(endpoint)
///     .errors_to(Directory::new("not-delivered"))
///     .start()?;
/// # delivery.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct HttpEndpoint {
    client: Client,
    source_arn: String,
    attributes: BTreeMap<String, String>,
    is_gzip: bool,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for HttpEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpEndpoint")
            .field("client", &self.client)
            .field("attributes", &self.attributes)
            .field("is_gzip", &self.is_gzip)
            .finish_non_exhaustive()
    }
}

impl HttpEndpoint {
    /// Delivers to this URL.
    ///
    /// # Errors
    /// `InvalidArgument` if it is not an HTTP or HTTPS URL.
    pub fn new(url: &str) -> Result<Self> {
        Ok(Self {
            client: Client::new(url)?,
            source_arn: "arn:aws:firehose:us-east-1:000000000000:deliverystream/streamlog".into(),
            attributes: BTreeMap::new(),
            is_gzip: false,
            clock: Arc::new(SystemClock),
        })
    }

    /// Sets the key that the endpoint checks, in the header `X-Amz-Firehose-Access-Key`. Errors and `Debug` never show it. Default: none, and an
    /// empty header, as Firehose sends it.
    ///
    /// # Errors
    /// `InvalidArgument` if it has more than 4,096 bytes, or characters that are not allowed in a header.
    pub fn access_key(mut self, key: impl AsRef<str>) -> Result<Self> {
        let key = key.as_ref();
        if key.len() > ACCESS_KEY_BYTES_MAX {
            return Err(invalid(format!("the access key has more than {ACCESS_KEY_BYTES_MAX} bytes")));
        }
        self.client = self.client.with_secret("the access key", key)?;
        Ok(self)
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

    /// Sets the header `X-Amz-Firehose-Source-Arn`. Default: the ARN of a Firehose stream `streamlog` in an account of zeros.
    ///
    /// # Errors
    /// `InvalidArgument` if it has characters that are not allowed in a header.
    pub fn source_arn(mut self, arn: impl Into<String>) -> Result<Self> {
        self.source_arn = arn.into();
        check_header("the ARN", &self.source_arn)?;
        Ok(self)
    }

    /// Adds an attribute, which each request sends in the header `X-Amz-Firehose-Common-Attributes`. Firehose allows at most 50, with names of up to
    /// 256 and values of up to 1,024 characters.
    pub fn common_attribute(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.attributes.insert(name.into(), value.into());
        self
    }

    /// Compresses requests with GZIP. Default: off.
    pub fn gzip(mut self, is_on: bool) -> Self {
        self.is_gzip = is_on;
        self
    }

    /// Sets how long a request may take, from connecting to the last byte of the response. Default: 3 minutes, as in Firehose.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.client.timeout = timeout;
        self
    }

    /// Sets the clock for the timestamps of requests. Default: the system's clock.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    fn common_attributes(&self) -> String {
        let json = serde_json::json!({ "commonAttributes": self.attributes }).to_string();
        // A header is ASCII.
        let mut ascii = String::with_capacity(json.len());
        for char in json.chars() {
            match char {
                ' '..='~' => ascii.push(char),
                char => {
                    let mut units = [0; 2];
                    for unit in char.encode_utf16(&mut units) {
                        let _ = write!(ascii, "\\u{unit:04x}");
                    }
                }
            }
        }
        ascii
    }

    fn judge(&self, answer: &Answer, request_id: &str) -> Result<(), SinkError> {
        let json = answer.json();
        let message = json["errorMessage"].as_str().unwrap_or_default();
        let complaint = |reason: &str| self.client.complaint(reason, message);
        if answer.status == 413 {
            return Err(SinkError::permanent(complaint("answered 413: the request is too large")));
        }
        let fault = if answer.status != 200 {
            format!("answered {}", answer.status)
        } else if !answer.is_json() {
            format!("answered with the type {:?} instead of application/json", answer.content_type)
        } else if !json.is_object() {
            "answered with what is no JSON object".into()
        } else if json["requestId"] != request_id {
            format!("answered for the request {} instead of {request_id:?}", json["requestId"])
        } else if !json["timestamp"].is_u64() {
            "answered without a timestamp in milliseconds".into()
        } else {
            return Ok(());
        };
        Err(SinkError::temporary(complaint(&fault)))
    }
}

/// Returns the body of a request.
fn body(object: &Object, timestamp_ms: u64) -> String {
    let mut body = String::with_capacity(object.bytes().len() / 3 * 4 + 256);
    let id = serde_json::Value::from(object.id());
    let _ = write!(body, r#"{{"requestId":{id},"timestamp":{timestamp_ms},"records":["#);
    let mut rows = object.rows().peekable();
    let whole = rows.peek().is_none().then_some(&object.bytes()[..]);
    for (index, row) in rows.chain(whole).enumerate() {
        let comma = if index > 0 { "," } else { "" };
        let _ = write!(body, r#"{comma}{{"data":"{}"}}"#, Base64Display::new(row, &STANDARD));
    }
    body.push_str("]}");
    body
}

impl Sink for HttpEndpoint {
    fn put(&self, object: &Object) -> Result<(), SinkError> {
        let mut body = body(object, self.clock.now().as_millis()).into_bytes();
        let attributes = self.common_attributes();
        let mut headers = vec![
            ("Content-Type", "application/json"),
            ("X-Amz-Firehose-Protocol-Version", "1.0"),
            ("X-Amz-Firehose-Request-Id", object.id()),
            ("X-Amz-Firehose-Source-Arn", &*self.source_arn),
            ("X-Amz-Firehose-Access-Key", self.client.secret().unwrap_or_default()),
        ];
        if !self.attributes.is_empty() {
            headers.push(("X-Amz-Firehose-Common-Attributes", &*attributes));
        }
        if self.is_gzip {
            body = compress::gzip(&body)?;
            headers.push(("Content-Encoding", "gzip"));
        }
        let answer = self.client.post("", &headers, &body)?;
        self.judge(&answer, object.id())
    }

    fn wants_rows(&self) -> bool {
        true
    }

    fn error_output_type(&self) -> Option<&'static str> {
        Some("http-endpoint-failed")
    }
}
