//! Calls of a gateway without a network: the clients' view of streams, with a clock that the tests set.

mod activity;
mod concurrency;
mod consumers;
mod encryption;
#[cfg(feature = "delivery")]
mod firehose;
mod history;
mod judging;
mod lifecycle;
mod model;
mod queue_records;
mod queue_waits;
mod queues;
mod reading;
mod records;
mod resharding;
#[cfg(feature = "sql")]
mod sql;
mod tags;
#[cfg(feature = "video")]
mod video;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use bytes::Bytes;
use hyper::{HeaderMap, Method, StatusCode};
use ring::rand::SystemRandom;
use serde_json::{Value as Json, json};
use tempfile::TempDir;

use super::catalogue::{Behaviour, Catalogue, Janitor};
#[cfg(feature = "delivery")]
use super::firehose::{Firehose, Rules};
use super::front::{Door, Front};
use super::http::{Answer, Answering, Body, Request, Service as _};
use super::model::Profile;
use super::names::Account;
use super::operations::Service;
use super::token::Sealer;
use super::watch::Watch;
use crate::{KeyFile, Limits, MINUTE, ManualClock, Store, StreamOptions, Timestamp};

const ACCOUNT: &str = "000000000000";
const START: Timestamp = Timestamp::from_millis(1_700_000_000_000);

/// A gateway with one caller, whose clock stands still.
struct World {
    directory: TempDir,
    clock: Arc<ManualClock>,
    setup: Setup,
    front: Option<Arc<Front>>,
    runtime: tokio::runtime::Runtime,
}

#[derive(Clone)]
struct Setup {
    delay: Duration,
    limits: Limits,
    profile: Profile,
    credentials: Option<String>,
    shards_max: u32,
    has_keys: bool,
    #[cfg(feature = "video")]
    video_connections_max: Option<usize>,
    #[cfg(feature = "delivery")]
    firehose: Rules,
    #[cfg(feature = "sql")]
    sql: super::sql::Rules,
}

impl Default for Setup {
    fn default() -> Self {
        let (limits, profile) = (Limits::none(), Profile::Today);
        Self {
            delay: Duration::ZERO,
            limits,
            profile,
            credentials: None,
            shards_max: 20_000,
            has_keys: false,
            #[cfg(feature = "video")]
            video_connections_max: None,
            #[cfg(feature = "delivery")]
            firehose: Rules::default(),
            #[cfg(feature = "sql")]
            sql: super::sql::Rules { patience: Duration::from_millis(50), ..Default::default() },
        }
    }
}

/// What a caller gets.
#[derive(Debug, PartialEq)]
struct Got {
    status: u16,
    body: Json,
}

impl Got {
    /// Returns the body of an answer that is not an error.
    #[track_caller]
    fn ok(self) -> Json {
        assert_eq!(self.status, 200, "{}", self.body);
        self.body
    }

    /// Returns the name and the text of an error.
    #[track_caller]
    fn error(&self) -> (&str, &str) {
        assert_ne!(self.status, 200, "{}", self.body);
        let text = self.body["message"].as_str().or(self.body["Message"].as_str());
        (self.body["__type"].as_str().unwrap(), text.unwrap_or_default())
    }
}

impl World {
    fn new() -> Self {
        Self::with(Setup::default())
    }

    fn with(setup: Setup) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
        let mut world = Self {
            directory: tempfile::tempdir().unwrap(),
            clock: Arc::new(ManualClock::new(START)),
            setup,
            front: None,
            runtime,
        };
        world.open();
        world
    }

    fn open(&mut self) {
        let mut options = StreamOptions::new().clock(Arc::clone(&self.clock) as _).segment_bytes(16 << 20);
        if self.setup.has_keys {
            let path = self.directory.path().join("keys");
            let keys = KeyFile::open(&path).or_else(|_| KeyFile::create(&path)).unwrap();
            options = options.encryption_keys(keys);
        }
        let store = Store::open(self.directory.path(), options.clone()).unwrap();
        let behaviour = Behaviour {
            account: Account { id: ACCOUNT.to_owned(), region: "us-east-1".to_owned() },
            delay: self.setup.delay,
            limits: self.setup.limits,
            shards_max: self.setup.shards_max,
            options,
        };
        let catalogue = Arc::new(Catalogue::new(store, behaviour));
        let door = match &self.setup.credentials {
            None => Door::Open,
            Some(text) => Door::Keys(super::auth::Credentials::parse(text, ACCOUNT).unwrap()),
        };
        let service = Service {
            janitor: Janitor::start(Arc::clone(&catalogue)).unwrap(),
            #[cfg(feature = "delivery")]
            firehose: Firehose::start(Arc::clone(&catalogue), self.setup.firehose.clone()).unwrap(),
            #[cfg(feature = "video")]
            video: super::video::Video::new(
                self.directory.path(),
                Arc::clone(catalogue.behaviour()),
                super::video::Rules::for_tests(self.setup.video_connections_max),
            )
            .unwrap(),
            #[cfg(feature = "sql")]
            sql: super::sql::Sql::new(self.setup.sql.clone()),
            recorder: None,
            catalogue,
            sealer: Arc::new(Sealer::new([7; 32])),
            clock: Arc::clone(&self.clock) as _,
            profile: self.setup.profile,
            subscription_life: 5 * MINUTE,
            ending: tokio::sync::watch::Sender::new(false),
        };
        let random = SystemRandom::new();
        self.front = Some(Arc::new(Front {
            service,
            door,
            watch: Watch::default(),
            random,
            requests: AtomicU64::default(),
        }));
    }

    /// Ends the gateway without closing anything properly, and restarts it with other settings.
    fn restart(&mut self, change: impl FnOnce(&mut Setup)) {
        self.end();
        change(&mut self.setup);
        self.open();
    }

    /// Ends the gateway, and releases its streams.
    fn end(&mut self) {
        // Deliveries, and the thread that manages them, keep the streams open until they end.
        #[cfg(feature = "delivery")]
        self.front().service.firehose.end(MINUTE);
        self.front = None;
    }

    fn front(&self) -> &Arc<Front> {
        self.front.as_ref().unwrap()
    }

    fn call(&self, operation: &str, body: Json) -> Got {
        let (status, body) = self.send(&self.signed(operation, body.to_string()));
        let body = if body.is_empty() { Json::Null } else { serde_json::from_slice(&body).unwrap() };
        Got { status, body }
    }

    #[track_caller]
    fn ok(&self, operation: &str, body: Json) -> Json {
        self.call(operation, body).ok()
    }

    /// Returns the text of an error that has this name.
    #[track_caller]
    fn refused(&self, operation: &str, body: Json, kind: &str) -> String {
        let got = self.call(operation, body);
        let (found, text) = got.error();
        assert_eq!(found, kind, "{text}");
        text.to_owned()
    }

    fn signed(&self, operation: &str, body: impl Into<Bytes>) -> Request {
        let mut headers = HeaderMap::new();
        headers.insert("x-amz-target", format!("Kinesis_20131202.{operation}").parse().unwrap());
        headers.insert("content-type", "application/x-amz-json-1.1".parse().unwrap());
        headers.insert("x-amz-date", "20231114T221320Z".parse().unwrap());
        let authorization = "AWS4-HMAC-SHA256 Credential=a/20231114/us-east-1/kinesis/aws4_request, SignedHeaders=host, Signature=b";
        headers.insert("authorization", authorization.parse().unwrap());
        let peer = "127.0.0.1:1".parse().unwrap();
        Request {
            method: Method::POST,
            uri: "/".parse().unwrap(),
            headers,
            body: body.into(),
            peer,
            is_tls: false,
        }
    }

    fn send(&self, request: &Request) -> (u16, Bytes) {
        let Answer { status, body, .. } = self.answer(request);
        match body {
            Body::Whole(bytes) => (status.as_u16(), bytes),
            Body::Pieces(_) => panic!("events"),
        }
    }

    fn answer(&self, request: &Request) -> Answer {
        match self.begin(request) {
            Answering::Now(answer) => answer,
            Answering::Later(later) => self.runtime.block_on(later),
        }
    }

    /// Returns the answer, or the one that comes later.
    fn begin(&self, request: &Request) -> Answering {
        let Request { method, uri, headers, body, peer, is_tls } = request;
        let request = Request {
            method: method.clone(),
            uri: uri.clone(),
            headers: headers.clone(),
            body: body.clone(),
            peer: *peer,
            is_tls: *is_tls,
        };
        let _entered = self.runtime.enter();
        Arc::clone(self.front()).answer(request)
    }

    /// Returns the events of a subscription, as they come.
    fn subscribe(&self, body: Json) -> Result<Events<'_>, Got> {
        let answer = self.answer(&self.signed("SubscribeToShard", body.to_string()));
        match answer.body {
            Body::Pieces(pieces) => {
                assert_eq!(answer.status, StatusCode::OK);
                Ok(Events { world: self, pieces })
            }
            Body::Whole(body) => {
                Err(Got { status: answer.status.as_u16(), body: serde_json::from_slice(&body).unwrap() })
            }
        }
    }

    fn create(&self, stream: &str, shards: u32) {
        self.ok("CreateStream", json!({"StreamName": stream, "ShardCount": shards}));
    }

    fn create_on_demand(&self, stream: &str) {
        let mode = json!({"StreamMode": "ON_DEMAND"});
        self.ok("CreateStream", json!({"StreamName": stream, "StreamModeDetails": mode}));
    }

    fn arn(&self, stream: &str) -> String {
        format!("arn:aws:kinesis:us-east-1:{ACCOUNT}:stream/{stream}")
    }

    fn put(&self, stream: &str, key: &str, data: &str) -> Json {
        self.ok("PutRecord", json!({"StreamName": stream, "PartitionKey": key, "Data": base64(data)}))
    }

    fn iterator(&self, stream: &str, shard: u32, kind: &str) -> String {
        let shard = format!("shardId-{shard:012}");
        let asked = json!({"StreamName": stream, "ShardId": shard, "ShardIteratorType": kind});
        self.ok("GetShardIterator", asked)["ShardIterator"].as_str().unwrap().to_owned()
    }

    /// Returns the data of a batch of records.
    fn read(&self, iterator: &str) -> Vec<String> {
        data_of(&self.ok("GetRecords", json!({"ShardIterator": iterator})))
    }

    fn status(&self, stream: &str) -> String {
        let described = self.ok("DescribeStreamSummary", json!({"StreamName": stream}));
        described["StreamDescriptionSummary"]["StreamStatus"].as_str().unwrap().to_owned()
    }
}

/// The events of a subscription.
struct Events<'a> {
    world: &'a World,
    pieces: tokio::sync::mpsc::Receiver<Bytes>,
}

impl Events<'_> {
    /// Returns the type and the payload of the next event, or `None` at the end.
    fn next(&mut self) -> Option<(String, Json)> {
        let frame = self.world.runtime.block_on(self.pieces.recv())?;
        let header_bytes = u32::from_be_bytes(frame[4..8].try_into().unwrap()) as usize;
        let headers = String::from_utf8_lossy(&frame[12..12 + header_bytes]).into_owned();
        let kinds = [
            "initial-response",
            "SubscribeToShardEvent",
            "ResourceInUseException",
            "ResourceNotFoundException",
        ];
        let kind = kinds.into_iter().find(|kind| headers.contains(kind)).expect("a known type");
        let payload = serde_json::from_slice(&frame[12 + header_bytes..frame.len() - 4]).unwrap();
        Some((kind.to_owned(), payload))
    }
}

fn base64(data: &str) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(data)
}

fn data_of(answer: &Json) -> Vec<String> {
    use base64::Engine;
    let records = answer["Records"].as_array().unwrap().iter();
    let data = records.map(|record| {
        let bytes = base64::engine::general_purpose::STANDARD.decode(record["Data"].as_str().unwrap());
        String::from_utf8(bytes.unwrap()).unwrap()
    });
    data.collect()
}
