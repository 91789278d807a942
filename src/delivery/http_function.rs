//! A function over HTTP, in the contract that Amazon Data Firehose has with a function of AWS Lambda.

use std::collections::{BTreeMap, HashMap};
use std::fmt::{self, Write as _};
use std::time::Duration;

use base64::Engine as _;
use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::function::{CallError, DeliveryRecord, Outcome, Partition, Transformed};
use super::http::{Answer, Client, check_header, invalid};
use super::name::random_uuid;
use crate::Result;

/// The largest request and the largest answer of Lambda.
const PAYLOAD_BYTES_MAX: usize = 6 << 20;
const RETRIES_MAX: u32 = 300;
/// The most that a request has besides the data and the partition key of a record.
const RECORD_BYTES: usize = 400;
const REQUEST_BYTES: usize = 1_024;

/// An HTTP function that transforms records, with the requests and responses that Amazon Data Firehose exchanges with AWS Lambda functions: a
/// function URL, the Runtime Interface Emulator of AWS' images, or a program of your own.
///
/// Each call is a `POST` with JSON:
///
/// ```text
/// {"invocationId": "…", "deliveryStreamArn": "…", "region": "…",
///  "records": [{"recordId": "…", "approximateArrivalTimestamp": 1700000000000, "data": "<Base64>",
///               "kinesisRecordMetadata": {"sequenceNumber": "…", "subsequenceNumber": 0, "partitionKey": "…", "shardId": "…",
///                                         "approximateArrivalTimestamp": 1700000000000}}]}
/// ```
///
/// The response has the status 200 and one result for each record, in any order:
///
/// ```text
/// {"records": [{"recordId": "…", "result": "Ok", "data": "<Base64>", "metadata": {"partitionKeys": {"user": "17"}}}]}
/// ```
///
/// A `result` is `Ok`, with data; `Dropped`: no row, and no error; or `ProcessingFailed`: the record goes to the error output. Values of
/// [partition keys](super::DeliveryOptions::partition_keys) are found by name. The whole call fails if a record id is missing, unknown or
/// duplicated, or for any other result or status. Requests and responses have at most 6 MiB: records are divided among requests.
///
/// A failed call is retried, three times by default. Then all of its records go to the error output, with the error, under `processing-failed`.
/// [`transform_buffer`](super::DeliveryOptions::transform_buffer) sets how many records a call has, and
/// [`transform_timeout`](super::DeliveryOptions::transform_timeout) how long it may take.
///
/// **Exactly once.** Failed calls are committed, and not repeated after a crash. Otherwise, the function must return the same result for the same
/// record: see [the page on delivery](https://docs.rs/streamlog/latest/streamlog/delivery/index.html).
///
/// ```no_run
/// use streamlog::Stream;
/// use streamlog::delivery::{Directory, Format, HttpFunction};
///
/// let stream = Stream::open("clicks")?;
/// let function = HttpFunction::new("http://127.0.0.1:9000/2015-03-31/functions/function/invocations")?;
/// let delivery = stream
///     .delivery("enriched")
///     .transform_over_http(function)
///     .format(Format::json_lines())
///     .to(Directory::new("enriched"))
///     .start()?;
/// # delivery.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct HttpFunction {
    client: Client,
    headers: Vec<(String, String)>,
    arn: String,
    pub(super) retries: u32,
}

impl fmt::Debug for HttpFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpFunction")
            .field("client", &self.client)
            .field("arn", &self.arn)
            .field("retries", &self.retries)
            .finish_non_exhaustive()
    }
}

impl HttpFunction {
    /// Calls the function at this URL.
    ///
    /// # Errors
    /// `InvalidArgument` if it is not an HTTP or HTTPS URL.
    pub fn new(url: &str) -> Result<Self> {
        Ok(Self {
            client: Client::new(url)?.with_answers_of(PAYLOAD_BYTES_MAX),
            headers: vec![],
            arn: "arn:aws:firehose:us-east-1:000000000000:deliverystream/streamlog".into(),
            retries: 3,
        })
    }

    /// Adds a header to each request, such as `Authorization`. `Debug` shows no values, and errors never show the value of a header whose name
    /// suggests a secret (`authorization`, `key`, `token`, `secret`, `cookie`).
    ///
    /// # Errors
    /// `InvalidArgument` if it has characters that are not allowed in a header.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Result<Self> {
        let (name, value) = (name.into(), value.into());
        check_header("the header", &value)?;
        if name.is_empty()
            || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        {
            return Err(invalid(format!("{name:?} is no name of a header")));
        }
        let is_secret = |word| name.to_ascii_lowercase().contains(word);
        if ["authorization", "key", "token", "secret", "cookie"].into_iter().any(is_secret) {
            self.client = self.client.with_secret("the header", &value)?;
        }
        self.headers.push((name, value));
        Ok(self)
    }

    /// Sets the `deliveryStreamArn` of the requests, whose fourth part is their `region`. Default: the ARN of a Firehose stream `streamlog` in an account of
    /// zeros, in `us-east-1`.
    pub fn delivery_stream_arn(mut self, arn: impl Into<String>) -> Self {
        self.arn = arn.into();
        self
    }

    /// Sets how often a failed call is retried at most: 0 to 300. Default: 3.
    ///
    /// # Errors
    /// `InvalidArgument` if it is out of range.
    pub fn retries(mut self, count: u32) -> Result<Self> {
        crate::extend::check_range("retries", count, 0..=RETRIES_MAX)?;
        self.retries = count;
        Ok(self)
    }

    pub(super) fn with_timeout(&self, timeout: Duration) -> Self {
        let mut function = self.clone();
        function.client.timeout = timeout;
        function
    }

    /// Returns the URL without what may be secret.
    pub(super) fn shown(&self) -> &str {
        self.client.shown()
    }

    pub(super) fn call(&self, records: &[DeliveryRecord<'_>]) -> Result<Vec<Transformed>, CallError> {
        let mut made = Vec::with_capacity(records.len());
        let mut rest = records;
        while let Some(first) = rest.first() {
            if REQUEST_BYTES + bytes_of(first) > PAYLOAD_BYTES_MAX {
                made.push(Transformed::failed("it is too large: a request to a function may have 6 MiB"));
                rest = &rest[1..];
                continue;
            }
            let mut bytes = REQUEST_BYTES;
            let fit = rest.iter().take_while(|record| {
                bytes += bytes_of(record);
                bytes <= PAYLOAD_BYTES_MAX
            });
            let (now, later) = rest.split_at(fit.count());
            made.extend(self.invoke(now)?);
            rest = later;
        }
        Ok(made)
    }

    fn invoke(&self, records: &[DeliveryRecord<'_>]) -> Result<Vec<Transformed>, CallError> {
        let headers = self.headers.iter().map(|(name, value)| (&**name, &**value));
        let headers: Vec<_> = headers.chain([("Content-Type", "application/json")]).collect();
        let failed = |code, message| CallError { code, message, is_worth_repeating: true };
        let answer = self.client.post("", &headers, self.request(records).as_bytes());
        let answer = answer.map_err(|error| failed("Lambda.FunctionRequestFailed", error.to_string()))?;
        if answer.status == 413 {
            let message = self.client.complaint("answered 413: the request is too large", "");
            return Err(CallError { is_worth_repeating: false, ..failed("Lambda.FunctionError", message) });
        }
        if answer.status != 200 {
            let reason = format!("answered {}", answer.status);
            return Err(failed("Lambda.FunctionError", self.client.complaint(&reason, &message_of(&answer))));
        }
        outcomes(&answer, records).map_err(|(code, reason)| failed(code, self.client.complaint(&reason, "")))
    }

    fn request(&self, records: &[DeliveryRecord<'_>]) -> String {
        let json = |text: &str| serde_json::Value::from(text).to_string();
        let region = self.arn.split(':').nth(3).unwrap_or_default();
        let id = random_uuid();
        let bytes: usize = records.iter().map(bytes_of).sum();
        let mut body = String::with_capacity(bytes + REQUEST_BYTES);
        let (arn, region) = (json(&self.arn), json(region));
        let _ = write!(
            body,
            r#"{{"invocationId":"{id}","deliveryStreamArn":{arn},"region":{region},"records":["#
        );
        for (index, record) in records.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            let (id, millis) = (record_id(record), record.arrival.as_millis());
            let data = Base64Display::new(record.data, &STANDARD);
            let (sequence, sub_sequence, shard) = (record.sequence, record.sub_sequence, record.shard);
            let key = json(&String::from_utf8_lossy(record.partition_key));
            let _ = write!(
                body,
                r#"{comma}{{"recordId":"{id}","approximateArrivalTimestamp":{millis},"data":"{data}","kinesisRecordMetadata":{{"sequenceNumber":"{sequence}","subsequenceNumber":{sub_sequence},"partitionKey":{key},"shardId":"{shard}","approximateArrivalTimestamp":{millis}}}}}"#
            );
        }
        body.push_str("]}");
        body
    }
}

fn bytes_of(record: &DeliveryRecord<'_>) -> usize {
    // A control character becomes six bytes.
    record.data.len().div_ceil(3) * 4 + record.partition_key.len() * 6 + RECORD_BYTES
}

fn record_id(record: &DeliveryRecord<'_>) -> String {
    format!("{}.{}.{}", record.shard, record.sequence, record.sub_sequence)
}

/// Returns Lambda's message about an error.
fn message_of(answer: &Answer) -> String {
    answer.json()["errorMessage"].as_str().unwrap_or_default().to_owned()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    records: Vec<ResponseRecord>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ResponseRecord {
    record_id: String,
    result: String,
    #[serde(default)]
    data: Option<String>,
    #[serde(default)]
    metadata: Option<Metadata>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    #[serde(default)]
    partition_keys: Option<BTreeMap<String, String>>,
}

/// Returns the outcome of each record in an answer. The error is Firehose's code, and the end of a sentence about the function.
fn outcomes(
    answer: &Answer,
    records: &[DeliveryRecord<'_>],
) -> Result<Vec<Transformed>, (&'static str, String)> {
    const MALFORMED: &str = "Lambda.JsonProcessingException";
    let response: Response =
        serde_json::from_slice(&answer.body).map_err(|error| match message_of(answer) {
            message if message.is_empty() => {
                (MALFORMED, format!("answered with what is no list of records: {error}"))
            }
            message => ("Lambda.FunctionError", format!("has failed: {message}")),
        })?;
    let places = records.iter().enumerate().map(|(place, record)| (record_id(record), place));
    let places: HashMap<String, usize> = places.collect();
    let mut made: Vec<Option<Transformed>> = vec![None; records.len()];
    for ResponseRecord { record_id, result, data, metadata } in response.records {
        let Some(&place) = places.get(&record_id) else {
            return Err((MALFORMED, format!("answered for the record {record_id:?}, which it did not get")));
        };
        let outcome = match &*result {
            "Ok" => {
                let data =
                    data.ok_or_else(|| (MALFORMED, format!("gave no data for the record {record_id:?}")))?;
                let data = STANDARD.decode(data).map_err(|error| {
                    (MALFORMED, format!("gave data for the record {record_id:?} that is no Base64: {error}"))
                })?;
                let keys = metadata.and_then(|metadata| metadata.partition_keys).unwrap_or_default();
                Outcome::Rows(vec![(data, Partition::ByName(keys))])
            }
            "Dropped" => Outcome::Rows(vec![]),
            "ProcessingFailed" => Outcome::Failed("the function has answered ProcessingFailed".into()),
            _ => {
                return Err((
                    MALFORMED,
                    format!("gave the record {record_id:?} the unknown result {result:?}"),
                ));
            }
        };
        if made[place].replace(Transformed(outcome)).is_some() {
            return Err((
                "Lambda.DuplicatedRecordId",
                format!("answered twice for the record {record_id:?}"),
            ));
        }
    }
    let missing = made.iter().position(Option::is_none);
    if let Some(missing) = missing.map(|place| record_id(&records[place])) {
        return Err(("Lambda.MissingRecordId", format!("did not answer for the record {missing:?}")));
    }
    Ok(made.into_iter().flatten().collect())
}
