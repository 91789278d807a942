//! Whole requests to a gateway whose streams stay from one input to the next.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use bytes::Bytes;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, StatusCode};
use ring::rand::SystemRandom;
use serde_json::{Value as Json, json};

use crate::gateway::catalogue::{Behaviour, Catalogue, Janitor};
#[cfg(feature = "delivery")]
use crate::gateway::firehose::{Firehose, Rules};
use crate::gateway::front::{Door, Front};
use crate::gateway::http::{Answer, Answering, Body, Request, Service as _};
use crate::gateway::model::Profile;
use crate::gateway::names::Account;
use crate::gateway::operations::Service;
use crate::gateway::sequence::{self, Parsed};
use crate::gateway::token::Sealer;
use crate::gateway::watch::Watch;
use crate::gateway::wire::Format;
use crate::{Clock, DAY, Limits, MINUTE, ManualClock, Store, StreamOptions, Timestamp};

const START: Timestamp = Timestamp::from_millis(1_700_000_000_000);
/// The streams that each input finds.
const STREAMS: [(&str, u32); 2] = [("a", 1), ("b", 3)];
/// The most lines of an input.
const LINES_MAX: usize = 64;
/// The greatest number of shards, so that a run does not fill the disk.
const SHARDS_MAX: usize = 24;

/// A gateway, and what it has answered.
pub struct Requests {
    front: Arc<Front>,
    clock: Arc<ManualClock>,
    runtime: tokio::runtime::Runtime,
    /// The value that replaces `$` and this letter in a request: that of this member in the last answer that had it.
    last: BTreeMap<char, String>,
    /// The last number of each shard of each stream.
    numbers: BTreeMap<(String, String), String>,
}

impl Requests {
    /// Returns a gateway to new streams.
    pub fn new(directory: &Path) -> Self {
        let clock = Arc::new(ManualClock::new(START));
        let options = StreamOptions::new().clock(Arc::clone(&clock) as _).segment_bytes(11 << 20);
        let store = Store::open(directory, options.clone()).expect("the store is opened");
        let behaviour = Behaviour {
            account: Account { id: "000000000000".to_owned(), region: "us-east-1".to_owned() },
            delay: Duration::ZERO,
            limits: Limits::none(),
            shards_max: SHARDS_MAX as u32,
            options,
        };
        let catalogue = Arc::new(Catalogue::new(store, behaviour));
        let service = Service {
            janitor: Janitor::start(Arc::clone(&catalogue)).expect("a thread is started"),
            #[cfg(feature = "delivery")]
            firehose: Firehose::start(Arc::clone(&catalogue), Rules::default()).expect("a thread is started"),
            #[cfg(feature = "video")]
            video: crate::gateway::video::Video::new(
                directory,
                Arc::clone(catalogue.behaviour()),
                crate::gateway::video::Rules::default(),
            )
            .expect("threads are started"),
            #[cfg(feature = "sql")]
            sql: crate::gateway::sql::Sql::new(crate::gateway::sql::Rules::default()),
            catalogue,
            recorder: None,
            sealer: Arc::new(Sealer::new([7; 32])),
            clock: Arc::clone(&clock) as _,
            profile: Profile::Today,
            subscription_life: 5 * MINUTE,
            ending: tokio::sync::watch::Sender::new(false),
        };
        let random = SystemRandom::new();
        let front = Front {
            service,
            door: Door::Open,
            watch: Watch::default(),
            random,
            requests: AtomicU64::default(),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build();
        let runtime = runtime.expect("a runtime is started");
        let (last, numbers) = (BTreeMap::new(), BTreeMap::new());
        let front = Arc::new(front);
        Self { front, clock, runtime, last, numbers }
    }

    /// Sends an input's requests, one a line, and checks the answers. A line is one of these:
    ///
    /// - an operation, a space and a body. Behind `~` the body is JSON that is sent as CBOR. In a body, `$I` is the last shard iterator,
    ///   `$S` the last sequence number, `$N` the last token of a page, `$C` the last ARN of a consumer, `$Q` the last one of a queue, `$H` the last
    ///   receipt handle;
    /// - a header, a colon and its value, for the next request;
    /// - `+` and by how many milliseconds the clock advances.
    ///
    /// Returns whether the gateway should be replaced by a new one, because it has become large.
    pub fn send(&mut self, input: &[u8]) -> bool {
        for (stream, shards) in STREAMS {
            self.call("CreateStream", &json!({"StreamName": stream, "ShardCount": shards}));
        }
        let mut headers = HeaderMap::new();
        for line in input.split(|byte| *byte == b'\n').take(LINES_MAX) {
            if let Some(millis) = line.strip_prefix(b"+") {
                let millis = std::str::from_utf8(millis).ok().and_then(|millis| millis.parse().ok());
                self.clock.advance(Duration::from_millis(u64::from(millis.unwrap_or(1u32))));
            } else if let Some(at) = line.iter().position(|byte| *byte == b' ') {
                self.line(&line[..at], &line[at + 1..], std::mem::take(&mut headers));
            } else if let Some(at) = line.iter().position(|byte| *byte == b':') {
                let name = HeaderName::from_bytes(&line[..at]).ok();
                name.zip(HeaderValue::from_bytes(&line[at + 1..]).ok())
                    .map(|(name, value)| headers.insert(name, value));
            }
        }
        self.check_all() > SHARDS_MAX || self.clock.now().since(START) > 100 * 365 * DAY
    }

    fn line(&mut self, operation: &[u8], body: &[u8], headers: HeaderMap) {
        let mut body = String::from_utf8_lossy(body).into_owned();
        for (letter, text) in &self.last {
            body = body.replace(&format!("${letter}"), text);
        }
        let is_cbor = operation.starts_with(b"~");
        let Ok(operation) = std::str::from_utf8(&operation[usize::from(is_cbor)..]) else { return };
        let (format, body) = match Format::Json.decode(body.as_bytes()) {
            Ok(value) if is_cbor => (Format::Cbor, Bytes::from(Format::Cbor.encode(&value))),
            _ => (Format::Json, Bytes::from(body)),
        };
        // Streams of a thousand shards take minutes.
        if let Ok(request) = serde_json::from_slice::<Json>(&body)
            && operation == "CreateStream"
            && request["ShardCount"].as_f64() > Some(SHARDS_MAX as f64)
        {
            return;
        }
        self.request(operation, format, body, headers);
    }

    fn call(&mut self, operation: &str, body: &Json) -> Option<Json> {
        self.request(operation, Format::Json, body.to_string().into(), HeaderMap::new())
    }

    /// Sends a request, and returns the body of a good answer.
    fn request(&mut self, operation: &str, format: Format, body: Bytes, more: HeaderMap) -> Option<Json> {
        let mut headers = HeaderMap::new();
        let authorization = "AWS4-HMAC-SHA256 Credential=a/20231114/us-east-1/kinesis/aws4_request, \
                             SignedHeaders=host, Signature=b";
        for (name, value) in [
            ("x-amz-target", format!("Kinesis_20131202.{operation}")),
            ("content-type", format.content_type().to_owned()),
            ("x-amz-date", "20231114T221320Z".to_owned()),
            ("authorization", authorization.to_owned()),
        ] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_str(&value).ok()?);
        }
        let is_plain = more.is_empty();
        headers.extend(more);
        let request = Request {
            method: Method::POST,
            uri: "/".parse().expect("a path"),
            headers,
            body: body.clone(),
            peer: ([127, 0, 0, 1], 1).into(),
            is_tls: false,
        };
        let entered = self.runtime.enter();
        let answering = Arc::clone(&self.front).answer(request);
        drop(entered);
        let answer = match answering {
            Answering::Now(answer) => answer,
            // Nobody puts a record meanwhile.
            Answering::Later(_) => return None,
        };
        let Answer { status, headers, body: answered } = answer;
        assert!(headers.contains_key("x-amzn-requestid"));
        let answered = match answered {
            Body::Whole(bytes) => bytes,
            Body::Pieces(mut events) => {
                assert_eq!((status, operation), (StatusCode::OK, "SubscribeToShard"));
                assert!(self.runtime.block_on(events.recv()).is_some(), "the initial response");
                return None;
            }
        };
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            assert!(starts_at_version_0(&body), "{operation} {}", String::from_utf8_lossy(&body));
        }
        if !is_plain {
            // The headers may have made it another operation.
            self.numbers.clear();
            return None;
        }
        let answered = to_json(format, &answered);
        match status {
            StatusCode::OK => {
                self.check(operation, answered.as_ref());
                answered
            }
            StatusCode::BAD_REQUEST | StatusCode::INTERNAL_SERVER_ERROR => {
                let answered = answered.expect("an error has a body");
                assert!(answered["__type"].is_string(), "{answered}");
                None
            }
            status => panic!("{operation} was answered with {status}"),
        }
    }

    /// Checks a good answer, and keeps what later requests may need.
    fn check(&mut self, operation: &str, answer: Option<&Json>) {
        if operation == "DeleteStream" {
            // A stream that gets the name in the same second begins with the same numbers.
            self.numbers.clear();
        }
        let Some(answer) = answer else { return };
        let consumer = &answer["Consumer"]["ConsumerARN"];
        for (letter, value) in [
            ('I', &answer["ShardIterator"]),
            ('I', &answer["NextShardIterator"]),
            ('S', &answer["SequenceNumber"]),
            ('N', &answer["NextToken"]),
            ('C', consumer),
            ('Q', &answer["QueueDescription"]["QueueARN"]),
            ('H', &answer["QueueRecords"][0]["ReceiptHandle"]),
        ] {
            if let Some(text) = value.as_str() {
                self.last.insert(letter, text.to_owned());
            }
        }
        if operation == "GetRecords" {
            let (next, children) = (answer.get("NextShardIterator"), answer.get("ChildShards"));
            assert!(next.is_some() != children.is_some(), "one of both: {answer}");
            let records = answer["Records"].as_array().expect("records");
            let numbers: Vec<_> = records.iter().map(|it| it["SequenceNumber"].as_str()).collect();
            assert!(numbers.is_sorted_by(|a, b| a < b), "{answer}");
        }
    }

    /// Checks all streams: the shards of each moment own each hash key once, and numbers increase. Returns how large the gateway has become,
    /// about in shards of a stream.
    fn check_all(&mut self) -> usize {
        let streams = self.call("ListStreams", &json!({"Limit": 10_000})).expect("streams are listed");
        let streams = streams["StreamNames"].as_array().expect("names").clone();
        let mut most = 3 * streams.len();
        let now = self.clock.now().as_millis() as f64 / 1_000.0;
        for stream in streams {
            let put = json!({"StreamName": stream, "PartitionKey": "k", "Data": ""});
            if let Some(put) = self.call("PutRecord", &put) {
                let text = |name: &str| put[name].as_str().expect("a text").to_owned();
                let number = text("SequenceNumber");
                let key = (stream.to_string(), text("ShardId"));
                if let Some(before) = self.numbers.insert(key, number.clone()) {
                    assert!((before.len(), &before) < (number.len(), &number));
                }
            }
            for filter in [
                json!({"Type": "AT_LATEST"}),
                json!({"Type": "AT_TRIM_HORIZON"}),
                json!({"Type": "AT_TIMESTAMP", "Timestamp": now}),
                json!({"Type": "AT_TIMESTAMP", "Timestamp": now - 1.0}),
                json!({"Type": "AT_TIMESTAMP", "Timestamp": 0}),
            ] {
                let list = json!({"StreamName": stream, "ShardFilter": filter});
                let list = self.call("ListShards", &list).expect("shards are listed");
                assert!(is_cover(&list["Shards"]), "{stream} {filter}: {list}");
            }
            let all = self.call("ListShards", &json!({"StreamName": stream})).expect("shards are listed");
            most = most.max(all["Shards"].as_array().map_or(0, Vec::len));
        }
        most
    }
}

fn to_json(format: Format, body: &[u8]) -> Option<Json> {
    let value = (!body.is_empty()).then(|| format.decode(body).expect("an answer can be read"))?;
    Some(serde_json::from_slice(&Format::Json.encode(&value)).expect("it is JSON"))
}

/// Returns whether shards own each hash key once.
fn is_cover(shards: &Json) -> bool {
    let ranges = shards.as_array().into_iter().flatten().map(|shard| {
        let range = &shard["HashKeyRange"];
        let key = |name: &str| range[name].as_str().and_then(|key| key.parse::<u128>().ok()).expect("a key");
        (key("StartingHashKey"), key("EndingHashKey"))
    });
    let mut ranges: Vec<_> = ranges.collect();
    ranges.sort_unstable();
    let is_chain = ranges.windows(2).all(|two| two[0].1.checked_add(1) == Some(two[1].0));
    is_chain
        && ranges.first().is_some_and(|it| it.0 == 0)
        && ranges.last().is_some_and(|it| it.1 == u128::MAX)
}

/// Returns whether a request starts at a sequence number of the first version, which Kinesis itself answers with an error of the server.
fn starts_at_version_0(body: &[u8]) -> bool {
    [Format::Json, Format::Cbor].into_iter().filter(|format| format.decode(body).is_ok()).any(|format| {
        let Some(request) = to_json(format, body) else { return false };
        let numbers = [&request["StartingSequenceNumber"], &request["StartingPosition"]["SequenceNumber"]];
        numbers
            .iter()
            .filter_map(|number| sequence::parse(number.as_str()?))
            .any(|number| matches!(number, Parsed::Old { is_first_version: true, .. }))
    })
}
