//! The feature `serde`: values go to JSON and come back.

use crate::common;

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use streamlog::{
    Durability, HOUR, HashKey, HashKeyRange, KeyHash, Limits, OnTrimmed, Position, Retention, ShardFilter,
    ShardId, Timestamp,
};

#[track_caller]
fn comes_back<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: T) -> Value {
    let json = serde_json::to_value(&value).unwrap();
    assert_eq!(serde_json::from_value::<T>(json.clone()).unwrap(), value, "{json}");
    json
}

#[test]
fn values_come_back_as_they_were() {
    let time = Timestamp::from_millis(1_700_000_000_000);
    assert_eq!(comes_back(time), json!("2023-11-14T22:13:20.000000Z"));
    assert_eq!(
        comes_back(Timestamp::from_micros(u64::MAX)),
        json!("18446744073709551615 microseconds after 1970")
    );
    assert_eq!(comes_back(ShardId::new(3)), json!("shardId-000000000003"));
    assert_eq!(comes_back(HashKey::MAX), json!("340282366920938463463374607431768211455"));
    assert_eq!(comes_back(HashKeyRange::ALL)["start"], json!("0"));
    assert_eq!(comes_back(Position::At(17.into())), json!({"At": 17}));
    assert_eq!(comes_back(Position::AtTimestamp(time)), json!({"AtTimestamp": time.to_string()}));
    assert_eq!(
        comes_back(ShardFilter::AfterShard(ShardId::new(1))),
        json!({"AfterShard": "shardId-000000000001"})
    );
    assert_eq!(comes_back(Durability::Power), json!("Power"));
    assert_eq!(comes_back(Limits::kinesis())["read_calls_per_second"], json!(5));
    comes_back((KeyHash::Md5, OnTrimmed::SkipToHorizon, Retention::age(HOUR).bytes_max(1 << 30)));
}

#[test]
fn what_a_stream_returns_goes_to_json() {
    let scratch = common::scratch();
    let stream = common::small(&common::clock()).shards(2).open(scratch.path().join("stream")).unwrap();
    let receipt = comes_back(stream.put("key", "data").unwrap());
    assert_eq!(receipt["sequence"], json!(0));
    stream.split_shard_evenly(ShardId::new(0)).unwrap();
    let description = comes_back(stream.describe());
    assert_eq!(description["shards"].as_array().unwrap().len(), 4);
    comes_back(stream.recovery().clone());
    comes_back(stream.verify(|_| std::ops::ControlFlow::Continue(())).unwrap());
    let mut worker = stream.group("readers").worker().start_at(Position::TrimHorizon).open().unwrap();
    worker.poll(std::time::Duration::ZERO).unwrap();
    let group = comes_back(worker.group().describe().unwrap());
    assert_eq!(group["name"], json!("readers"));
    let queue = comes_back(stream.queue("jobs").open().unwrap().describe().unwrap());
    assert_eq!(queue["name"], json!("jobs"));
    let _processor = stream.processor("audit").start(|_| ()).unwrap();
    let processor = comes_back(stream.describe_processor("audit").unwrap());
    assert_eq!(processor["name"], json!("audit"));
    let stats = serde_json::to_value(stream.stats().unwrap()).unwrap();
    assert_eq!(stats["shards"].as_array().unwrap().len(), 4);
    #[cfg(feature = "metrics")]
    assert!(stats["puts"]["put_latency"]["p99"].is_object(), "{stats}");
}

#[test]
fn what_is_no_value_is_refused_with_its_reason() {
    let refused = |json: Value| serde_json::from_value::<ShardId>(json).unwrap_err().to_string();
    assert!(refused(json!("shard")).contains("\"shard\" is not a shard id"));
    assert!(refused(json!(3)).contains("expected a string"));
}
