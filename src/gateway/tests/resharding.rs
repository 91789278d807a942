//! Shards are split, merged and scaled, and read across it.

use super::*;

fn shards(world: &World, filter: Json) -> Vec<String> {
    let listed = world.ok("ListShards", json!({"StreamName": "clicks", "ShardFilter": filter}));
    let ids = listed["Shards"].as_array().unwrap().iter();
    ids.map(|shard| shard["ShardId"].as_str().unwrap().trim_start_matches("shardId-00000000000").to_owned())
        .collect()
}

fn split(world: &World, shard: u32, at: u128) {
    let body = json!({"StreamName": "clicks", "ShardToSplit": format!("shardId-{shard}"), "NewStartingHashKey": at.to_string()});
    world.ok("SplitShard", body);
}

fn merge(shard: u32, adjacent: u32) -> Json {
    json!({"StreamName": "clicks", "ShardToMerge": shard.to_string(), "AdjacentShardToMerge": adjacent.to_string()})
}

#[test]
fn readers_go_from_a_shard_to_its_children() {
    let world = World::new();
    world.create("clicks", 1);
    let before = world.put("clicks", "a", "1");
    let iterator = world.iterator("clicks", 0, "TRIM_HORIZON");
    split(&world, 0, 1 << 127);
    let after = world.put("clicks", "a", "2");
    assert!(after["SequenceNumber"].as_str() > before["SequenceNumber"].as_str());
    let mut got = world.ok("GetRecords", json!({"ShardIterator": iterator}));
    assert_eq!(data_of(&got), ["1"]);
    while let Some(next) = got.get("NextShardIterator") {
        assert!(got.get("ChildShards").is_none(), "both or neither");
        got = world.ok("GetRecords", json!({"ShardIterator": next}));
    }
    let parents = json!(["shardId-000000000000"]);
    assert_eq!(got["ChildShards"][0]["ShardId"], "shardId-000000000001");
    assert_eq!(
        (&got["ChildShards"][0]["ParentShards"], &got["ChildShards"][1]["ParentShards"]),
        (&parents, &parents)
    );
    assert_eq!(world.read(&world.iterator("clicks", 1, "TRIM_HORIZON")), ["2"]);
    // At the end of a closed shard there is nothing more to come.
    let got = world.ok("GetRecords", json!({"ShardIterator": world.iterator("clicks", 0, "LATEST")}));
    assert!(got.get("NextShardIterator").is_none() && got.get("ChildShards").is_some());
    world.ok("MergeShards", merge(1, 2));
    let got = world.ok("GetRecords", json!({"ShardIterator": world.iterator("clicks", 2, "TRIM_HORIZON")}));
    let both = json!(["shardId-000000000001", "shardId-000000000002"]);
    assert_eq!(got["ChildShards"][0]["ParentShards"], both);
}

#[test]
fn shards_are_described_with_their_lineage_and_numbers() {
    let world = World::new();
    world.create("clicks", 1);
    world.clock.advance(Duration::from_secs(10));
    split(&world, 0, 1 << 127);
    let described = world.ok("DescribeStream", json!({"StreamName": "clicks"}));
    let shards = &described["StreamDescription"]["Shards"];
    let (parent, child) = (&shards[0], &shards[1]);
    let end = parent["SequenceNumberRange"]["EndingSequenceNumber"].as_str().unwrap();
    let start = child["SequenceNumberRange"]["StartingSequenceNumber"].as_str().unwrap();
    assert!(start > end, "all numbers of a child are above those of its parents");
    assert_eq!(child["ParentShardId"], "shardId-000000000000");
    assert!(child["SequenceNumberRange"].get("EndingSequenceNumber").is_none());
    assert_eq!(
        child["HashKeyRange"],
        json!({"StartingHashKey": "0", "EndingHashKey": ((1u128 << 127) - 1).to_string()})
    );
    let asked = |kind: &str| json!({"StreamName": "clicks", "ShardId": "shardId-0", "ShardIteratorType": kind, "StartingSequenceNumber": end});
    for kind in ["AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER"] {
        let text = world.refused("GetShardIterator", asked(kind), "InvalidArgumentException");
        assert_eq!(
            text,
            format!(
                "Invalid SequenceNumber for ShardIteratorType {kind}, SequenceNumber has reached max possible value for the shard."
            )
        );
    }
    let page = world.ok("DescribeStream", json!({"StreamName": "clicks", "Limit": 2}));
    assert_eq!(page["StreamDescription"]["HasMoreShards"], true);
    let rest = world.ok(
        "DescribeStream",
        json!({"StreamName": "clicks", "ExclusiveStartShardId": "shardId-000000000001"}),
    );
    assert_eq!(
        (
            rest["StreamDescription"]["Shards"].as_array().unwrap().len(),
            &rest["StreamDescription"]["HasMoreShards"]
        ),
        (1, &json!(false))
    );
}

#[test]
fn splits_and_merges_that_cannot_be_are_refused() {
    let world = World::new();
    world.create("clicks", 3);
    let split = |shard: &str, at: u128| json!({"StreamName": "clicks", "ShardToSplit": shard, "NewStartingHashKey": at.to_string()});
    let end = u128::MAX / 3;
    for at in [0, 1, end - 1, end] {
        let text = world.refused("SplitShard", split("0", at), "InvalidArgumentException");
        assert!(
            text.starts_with(&format!(
                "NewStartingHashKey {at} used in SplitShard() on shard shardId-000000000000"
            )),
            "{text}"
        );
    }
    assert_eq!(
        world.refused("SplitShard", split("shardId-x", 2), "ResourceNotFoundException"),
        "Could not find shard shardId-x in stream clicks under account 000000000000."
    );
    assert_eq!(
        world.refused("SplitShard", split("9", 2), "ResourceNotFoundException"),
        "Could not find shard shardId-000000000009 in stream clicks under account 000000000000."
    );
    for (shard, adjacent) in [(1, 0), (0, 2), (0, 0)] {
        let text = world.refused("MergeShards", merge(shard, adjacent), "InvalidArgumentException");
        assert!(text.ends_with("are not an adjacent pair of shards eligible for merging"), "{text}");
    }
    world.ok("SplitShard", split("0", 2));
    world.refused("SplitShard", split("0", 2), "InvalidArgumentException");
    world.refused("MergeShards", merge(0, 1), "InvalidArgumentException");
    world.ok(
        "UpdateStreamMode",
        json!({"StreamARN": world.arn("clicks"), "StreamModeDetails": {"StreamMode": "ON_DEMAND"}}),
    );
    let text = world.refused("SplitShard", split("1", 2), "ValidationException");
    assert_eq!(text, "Request is invalid. Stream clicks under account 000000000000 is in On-Demand mode.");
    world.refused("MergeShards", merge(1, 2), "ValidationException");
    let scale = json!({"StreamName": "clicks", "TargetShardCount": 4, "ScalingType": "UNIFORM_SCALING"});
    world.refused("UpdateShardCount", scale, "ValidationException");
}

#[test]
fn filters_choose_shards_as_in_kinesis() {
    let world = World::new();
    world.create("clicks", 1);
    let created = START.as_millis() / 1_000;
    world.clock.advance(Duration::from_secs(100));
    split(&world, 0, 1 << 127);
    world.clock.advance(Duration::from_secs(100));
    world.ok("MergeShards", merge(1, 2));
    let at = |seconds: u64| json!({"Type": "AT_TIMESTAMP", "Timestamp": seconds});
    let from = |seconds: u64| json!({"Type": "FROM_TIMESTAMP", "Timestamp": seconds});
    assert_eq!(shards(&world, json!({"Type": "AT_LATEST"})), ["3"]);
    assert_eq!(shards(&world, json!({"Type": "AT_TRIM_HORIZON"})), ["0"]);
    assert_eq!(shards(&world, json!({"Type": "FROM_TRIM_HORIZON"})), ["0", "1", "2", "3"]);
    assert_eq!(
        shards(&world, json!({"Type": "AFTER_SHARD_ID", "ShardId": "shardId-000000000001"})),
        ["2", "3"]
    );
    assert_eq!(shards(&world, at(created + 50)), ["0"]);
    assert_eq!(shards(&world, at(created + 150)), ["1", "2"]);
    assert_eq!(shards(&world, at(0)), ["0"]);
    assert_eq!(shards(&world, from(created + 150)), ["1", "2", "3"]);
    assert_eq!(shards(&world, from(0)), ["0", "1", "2", "3"]);
    let missing = json!({"StreamName": "clicks", "ShardFilter": {"Type": "AT_TIMESTAMP"}});
    world.refused("ListShards", missing, "InvalidArgumentException");
}

#[test]
fn shards_are_listed_in_pages() {
    let world = World::new();
    world.create("clicks", 5);
    let first = world.ok("ListShards", json!({"StreamName": "clicks", "MaxResults": 2}));
    let token = first["NextToken"].as_str().unwrap();
    let second = world.ok("ListShards", json!({"NextToken": token, "MaxResults": 2}));
    assert_eq!(second["Shards"][0]["ShardId"], "shardId-000000000002");
    let third = world.ok("ListShards", json!({"NextToken": second["NextToken"]}));
    assert_eq!((third["Shards"].as_array().unwrap().len(), third.get("NextToken")), (1, None));
    let invalid = "InvalidArgumentException";
    let text = world.refused("ListShards", json!({"StreamName": "clicks", "NextToken": token}), invalid);
    assert_eq!(text, "NextToken and StreamName cannot be provided together.");
    assert_eq!(
        world.refused("ListShards", json!({}), invalid),
        "Either NextToken or StreamName should be provided."
    );
    let created = json!({"StreamName": "clicks", "StreamCreationTimestamp": 1_600_000_000});
    world.refused("ListShards", created, "ResourceNotFoundException");
    world.ok("ListShards", json!({"StreamName": "clicks", "StreamCreationTimestamp": 1_700_000_000}));
    world.ok("DeleteStream", json!({"StreamName": "clicks"}));
    world.clock.advance(Duration::from_secs(1));
    world.create("clicks", 5);
    world.refused("ListShards", json!({"NextToken": token}), "ResourceNotFoundException");
    world.clock.advance(5 * MINUTE);
    world.refused("ListShards", json!({"NextToken": token}), "ExpiredNextTokenException");
}

#[test]
fn the_number_of_shards_is_at_most_doubled_or_halved() {
    let world = World::new();
    world.create("clicks", 2);
    let to = |count: u32| json!({"StreamName": "clicks", "TargetShardCount": count, "ScalingType": "UNIFORM_SCALING"});
    world.refused("UpdateShardCount", to(5), "InvalidArgumentException");
    let scaled = world.ok("UpdateShardCount", to(3));
    assert_eq!((&scaled["CurrentShardCount"], &scaled["TargetShardCount"]), (&json!(2), &json!(3)));
    assert_eq!(shards(&world, json!({"Type": "AT_LATEST"})).len(), 3);
    world.refused("UpdateShardCount", to(1), "InvalidArgumentException");
    world.ok("UpdateShardCount", to(3));
}

#[test]
fn the_number_of_shards_is_changed_ten_times_a_day_if_quotas_hold() {
    let world = World::with(Setup { limits: Limits::kinesis(), ..Setup::default() });
    world.create("clicks", 1);
    let to = |count: u32| json!({"StreamName": "clicks", "TargetShardCount": count, "ScalingType": "UNIFORM_SCALING"});
    for at in 0..10 {
        world.ok("UpdateShardCount", to(2 - at % 2));
    }
    world.refused("UpdateShardCount", to(2), "LimitExceededException");
}

#[test]
fn a_closed_shard_expires_with_its_records() {
    let world = World::new();
    world.create("clicks", 1);
    world.put("clicks", "a", "1");
    split(&world, 0, 1 << 127);
    let put = world.put("clicks", "a", "2");
    let child = world.ok("ListShards", json!({"StreamName": "clicks"}))["Shards"][1].clone();
    let known = world.front().service.catalogue.stream("clicks").unwrap();
    world.clock.advance(crate::DAY - Duration::from_secs(1));
    known.stream.maintain().unwrap();
    assert_eq!(shards(&world, json!({"Type": "AT_TRIM_HORIZON"})), ["0"]);
    world.clock.advance(Duration::from_secs(2));
    known.stream.maintain().unwrap();
    for filter in ["AT_TRIM_HORIZON", "FROM_TRIM_HORIZON"] {
        assert_eq!(shards(&world, json!({"Type": filter})), ["1", "2"]);
    }
    // A time before all records means the horizon.
    for seconds in [0, START.as_millis() / 1_000] {
        assert_eq!(shards(&world, json!({"Type": "AT_TIMESTAMP", "Timestamp": seconds})), ["1", "2"]);
    }
    let gone = json!({"StreamName": "clicks", "ShardId": "0", "ShardIteratorType": "TRIM_HORIZON"});
    let text = world.refused("GetShardIterator", gone, "ResourceNotFoundException");
    assert_eq!(text, "Shard shardId-000000000000 in stream clicks under account 000000000000 does not exist");
    // A shard stays what it was when its parent has expired.
    assert_eq!(world.ok("ListShards", json!({"StreamName": "clicks"}))["Shards"][0], child);
    let asked = json!({"StreamName": "clicks", "ShardId": "1", "ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": put["SequenceNumber"]});
    world.ok("GetShardIterator", asked);
}

#[test]
fn at_the_moment_of_a_reshard_no_hash_key_is_without_a_shard() {
    let world = World::new();
    world.create("clicks", 1);
    world.clock.advance(Duration::from_millis(1_234));
    split(&world, 0, 1 << 127);
    let at = START.as_millis() + 1_234;
    world.clock.advance(Duration::from_secs(2));
    for (millis, expected) in
        [(at - 1, vec!["0"]), (at, vec!["1", "2"]), (at + 1, vec!["1", "2"]), (at + 1_000, vec!["1", "2"])]
    {
        let time = json!({"Type": "AT_TIMESTAMP", "Timestamp": millis as f64 / 1_000.0});
        assert_eq!(shards(&world, time), expected, "{millis}");
    }
}

#[test]
fn a_number_above_all_of_a_closed_shard_means_its_end() {
    let world = World::new();
    world.create("clicks", 1);
    let number = world.put("clicks", "a", "1")["SequenceNumber"].as_str().unwrap().to_owned();
    let Some(crate::gateway::sequence::Parsed::Number(number)) = crate::gateway::sequence::parse(&number)
    else {
        panic!("a number")
    };
    let above = crate::gateway::sequence::KinesisNumber { index: 1 << 40, ..number }.to_string();
    let asked = json!({"StreamName": "clicks", "ShardId": "0", "ShardIteratorType": "AT_SEQUENCE_NUMBER", "StartingSequenceNumber": above});
    let open = world.ok("GetShardIterator", asked.clone());
    split(&world, 0, 1 << 127);
    for iterator in [open, world.ok("GetShardIterator", asked)] {
        let got = world.ok("GetRecords", json!({"ShardIterator": iterator["ShardIterator"]}));
        assert_eq!(got["ChildShards"].as_array().map(Vec::len), Some(2), "{got}");
    }
}

#[test]
fn a_token_of_shards_is_that_of_its_stream() {
    let world = World::new();
    world.create("clicks", 2);
    world.create("views", 1);
    let token = world.ok("ListShards", json!({"StreamName": "clicks", "MaxResults": 1}))["NextToken"].clone();
    let body = |stream: &str| json!({"StreamARN": world.arn(stream), "NextToken": token});
    // Policies decide by the ARN.
    world.refused("ListShards", body("views"), "InvalidArgumentException");
    world.ok("ListShards", body("clicks"));
    for operation in ["DescribeStream", "ListShards"] {
        let body = json!({"StreamName": "clicks", "ExclusiveStartShardId": "shardId-x"});
        let text = world.refused(operation, body, "ResourceNotFoundException");
        assert_eq!(text, "Could not find shard shardId-x in stream clicks under account 000000000000.");
    }
}
