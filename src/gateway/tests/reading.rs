//! Shard iterators, and what is read with them.

use super::*;

fn asked(world: &World, kind: &str, more: Json) -> Got {
    let mut body =
        json!({"StreamName": "clicks", "ShardId": "shardId-000000000000", "ShardIteratorType": kind});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    world.call("GetShardIterator", body)
}

fn read(world: &World, kind: &str, more: Json) -> Vec<String> {
    world.read(asked(world, kind, more).ok()["ShardIterator"].as_str().unwrap())
}

fn numbered(number: &Json) -> Json {
    json!({"StartingSequenceNumber": number})
}

#[test]
fn positions_are_those_of_kinesis() {
    let world = World::new();
    world.create("clicks", 1);
    let numbers: Vec<_> = (0..3)
        .map(|at| {
            world.clock.advance(Duration::from_secs(1));
            world.put("clicks", "a", &at.to_string())["SequenceNumber"].clone()
        })
        .collect();
    assert_eq!(read(&world, "TRIM_HORIZON", json!({})), ["0", "1", "2"]);
    assert_eq!(read(&world, "AT_SEQUENCE_NUMBER", numbered(&numbers[1])), ["1", "2"]);
    assert_eq!(read(&world, "AFTER_SEQUENCE_NUMBER", numbered(&numbers[1])), ["2"]);
    assert_eq!(read(&world, "AT_TIMESTAMP", json!({"Timestamp": 1_700_000_002})), ["1", "2"]);
    assert_eq!(read(&world, "AT_TIMESTAMP", json!({"Timestamp": 1_700_000_002.001})), ["2"]);
    assert_eq!(read(&world, "AT_TIMESTAMP", json!({"Timestamp": 0})), ["0", "1", "2"]);
    // Just after the newest record at the time of the call.
    let latest = asked(&world, "LATEST", json!({})).ok()["ShardIterator"].as_str().unwrap().to_owned();
    world.put("clicks", "a", "3");
    assert_eq!(world.read(&latest), ["3"]);
    assert_eq!(world.read(&latest), ["3"], "a token is a value");
    // The start of the shard, which no record has.
    let shards = world.ok("ListShards", json!({"StreamName": "clicks"}));
    let start = &shards["Shards"][0]["SequenceNumberRange"]["StartingSequenceNumber"];
    for kind in ["AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER"] {
        assert_eq!(read(&world, kind, numbered(start)).len(), 4);
    }
}

#[test]
fn positions_that_cannot_be_are_refused_in_kinesis_words() {
    let world = World::new();
    world.create("clicks", 2);
    world.create("views", 1);
    world.clock.advance(Duration::from_secs(5));
    world.create("later", 1);
    let number = world.put("clicks", "a", "")["SequenceNumber"].clone();
    let other_shard = world.put("clicks", "b", "")["SequenceNumber"].clone();
    let other_stream = world.put("later", "a", "")["SequenceNumber"].clone();
    let refused = |kind: &str, more: Json| {
        let got = asked(&world, kind, more);
        let (error, text) = got.error();
        assert_eq!(error, "InvalidArgumentException", "{text}");
        text.to_owned()
    };
    assert_eq!(
        refused("LATEST", numbered(&number)),
        "Must either specify (1) AT_SEQUENCE_NUMBER or AFTER_SEQUENCE_NUMBER and StartingSequenceNumber or (2) TRIM_HORIZON or \
         LATEST and no StartingSequenceNumber. Request specified LATEST and also a StartingSequenceNumber."
    );
    assert!(
        refused("AT_SEQUENCE_NUMBER", json!({}))
            .ends_with("Request specified AT_SEQUENCE_NUMBER and no StartingSequenceNumber.")
    );
    assert_eq!(
        refused("AT_SEQUENCE_NUMBER", numbered(&other_shard)),
        "Invalid StartingSequenceNumber. It encodes shardId-000000000001, while it was used in a call to a shard with \
         shardId-000000000000"
    );
    let text = refused("AT_SEQUENCE_NUMBER", numbered(&other_stream));
    assert!(text.ends_with("is invalid because it did not come from this stream."), "{text}");
    let invalid = json!("9".repeat(100));
    assert!(
        refused("AFTER_SEQUENCE_NUMBER", numbered(&invalid))
            .ends_with("under account 000000000000 is invalid.")
    );
    assert_eq!(asked(&world, "AT_SEQUENCE_NUMBER", numbered(&json!("0"))).status, 500);
    assert_eq!(
        refused("AT_TIMESTAMP", json!({})),
        "Must specify timestampInMillis parameter for iterator of type AT_TIMESTAMP. Current request has no timestamp parameter."
    );
    assert_eq!(
        refused("AT_TIMESTAMP", json!({"Timestamp": 1_700_000_005.5})),
        "The timestampInMillis parameter cannot be greater than the currentTimestampInMillis. timestampInMillis: \
         1700000005500, currentTimestampInMillis: 1700000005000"
    );
    let shard =
        |shard: &str| json!({"StreamName": "clicks", "ShardId": shard, "ShardIteratorType": "LATEST"});
    let text = world.refused("GetShardIterator", shard("shardId-5"), "ResourceNotFoundException");
    assert_eq!(text, "Shard shardId-000000000005 in stream clicks under account 000000000000 does not exist");
    let text = world.refused("GetShardIterator", shard("shardId-x"), "ResourceNotFoundException");
    assert_eq!(text, "Could not find shard shardId-x in stream clicks under account 000000000000.");
}

#[test]
fn an_iterator_is_good_for_five_minutes_and_for_its_stream() {
    let mut world = World::new();
    world.create("clicks", 1);
    world.put("clicks", "a", "1");
    let iterator = world.iterator("clicks", 0, "TRIM_HORIZON");
    world.clock.advance(5 * MINUTE);
    assert_eq!(world.read(&iterator), ["1"]);
    // Earlier tokens are valid after a restart.
    world.restart(|_| {});
    assert_eq!(world.read(&format!("\"{iterator}\"")), ["1"]);
    let mut forged = iterator.clone().into_bytes();
    forged[60] ^= 1;
    let forged = String::from_utf8(forged).unwrap();
    for token in [&*forged, "", "x", &"A".repeat(512)] {
        if !token.is_empty() {
            let text =
                world.refused("GetRecords", json!({"ShardIterator": token}), "InvalidArgumentException");
            assert_eq!(text, "Invalid ShardIterator.");
        }
    }
    let fresh = world.iterator("clicks", 0, "TRIM_HORIZON");
    world.clock.advance(Duration::from_millis(1));
    world.ok("DeleteStream", json!({"StreamName": "clicks"}));
    world.create("clicks", 1);
    // The check of the age comes before that of the stream.
    world.refused("GetRecords", json!({"ShardIterator": iterator}), "ExpiredIteratorException");
    let text = world.refused("GetRecords", json!({"ShardIterator": fresh}), "ResourceNotFoundException");
    assert_eq!(text, "Shard shardId-000000000000 in stream clicks under account 000000000000 does not exist");
}

#[test]
fn reading_stops_at_the_limit_and_goes_on_with_the_next_iterator() {
    let world = World::new();
    world.create("clicks", 1);
    for at in 0..5 {
        world.put("clicks", "a", &at.to_string());
        world.clock.advance(Duration::from_secs(1));
    }
    let mut iterator = world.iterator("clicks", 0, "TRIM_HORIZON");
    let mut all = vec![];
    for (expected, behind) in [(2, 4_000), (2, 2_000), (1, 0), (0, 0)] {
        let got = world.ok("GetRecords", json!({"ShardIterator": iterator, "Limit": 2}));
        let data = data_of(&got);
        assert_eq!(data.len(), expected);
        assert_eq!(got["MillisBehindLatest"].as_u64().unwrap() > 0, behind > 0, "{got}");
        assert!(got.get("ChildShards").is_none());
        let next = got["NextShardIterator"].as_str().unwrap();
        assert_ne!(next, iterator);
        iterator = next.to_owned();
        all.extend(data);
    }
    assert_eq!(all, ["0", "1", "2", "3", "4"]);
}

#[test]
fn an_answer_has_ten_mebibytes_at_most() {
    let world = World::new();
    world.create("clicks", 1);
    let data = "x".repeat((1 << 20) - 1);
    for _ in 0..12 {
        world.put("clicks", "a", &data);
    }
    let count = world.read(&world.iterator("clicks", 0, "TRIM_HORIZON")).len();
    assert!((9..=10).contains(&count), "{count}");
}

#[test]
fn what_retention_dropped_is_skipped_in_silence() {
    let world = World::new();
    world.create("clicks", 1);
    let old = world.put("clicks", "a", "old")["SequenceNumber"].clone();
    world.clock.advance(2 * crate::DAY);
    world.put("clicks", "a", "new");
    world.front().service.catalogue.stream("clicks").unwrap().stream.maintain().unwrap();
    assert_eq!(read(&world, "AT_SEQUENCE_NUMBER", numbered(&old)), ["new"]);
    assert_eq!(read(&world, "TRIM_HORIZON", json!({})), ["new"]);
}

#[test]
fn a_shard_is_read_no_faster_than_its_limit() {
    let world = World::with(Setup { limits: Limits::none().read_calls_per_second(5), ..Setup::default() });
    world.create("clicks", 1);
    let iterator = world.iterator("clicks", 0, "TRIM_HORIZON");
    for _ in 0..5 {
        world.ok("GetRecords", json!({"ShardIterator": iterator}));
    }
    world.refused("GetRecords", json!({"ShardIterator": iterator}), "ProvisionedThroughputExceededException");
    world.clock.advance(Duration::from_secs(1));
    world.ok("GetRecords", json!({"ShardIterator": iterator}));
}
