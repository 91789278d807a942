//! Streams come, change and go.

use super::*;

fn described(world: &World, stream: &str) -> Json {
    world.ok("DescribeStream", json!({"StreamName": stream}))["StreamDescription"].clone()
}

#[test]
fn a_stream_is_created_changed_and_deleted_after_the_delay() {
    let delay = Duration::from_millis(500);
    let world = World::with(Setup { delay, ..Setup::default() });
    world.create("clicks", 2);
    let before = described(&world, "clicks");
    assert_eq!((&before["StreamStatus"], &before["Shards"]), (&json!("CREATING"), &json!([])));
    let put = json!({"StreamName": "clicks", "PartitionKey": "a", "Data": ""});
    let text = world.refused("PutRecord", put.clone(), "ResourceNotFoundException");
    assert_eq!(text, "Stream clicks under account 000000000000 not found.");
    let iterator = json!({"StreamName": "clicks", "ShardId": "shardId-0", "ShardIteratorType": "LATEST"});
    let text = world.refused("GetShardIterator", iterator, "ResourceNotFoundException");
    assert_eq!(text, "Shard shardId-000000000000 in stream clicks under account 000000000000 does not exist");
    let split = json!({"StreamName": "clicks", "ShardToSplit": "0", "NewStartingHashKey": "2"});
    let text = world.refused("SplitShard", split.clone(), "ResourceInUseException");
    assert_eq!(text, "Stream clicks under account 000000000000 not ACTIVE, instead in state CREATING");
    let text = world.refused(
        "CreateStream",
        json!({"StreamName": "clicks", "ShardCount": 1}),
        "ResourceInUseException",
    );
    assert_eq!(text, "Stream clicks under account 000000000000 already exists.");
    let too_many = json!({"StreamName": "clicks", "ShardCount": 20_001});
    assert_eq!(world.refused("CreateStream", too_many, "ResourceInUseException"), text);

    world.clock.advance(delay);
    let after = described(&world, "clicks");
    assert_eq!((&after["StreamStatus"], after["Shards"].as_array().unwrap().len()), (&json!("ACTIVE"), 2));
    world.ok("SplitShard", split.clone());
    assert_eq!(world.status("clicks"), "UPDATING");
    world.ok("PutRecord", put);
    let text = world.refused("SplitShard", split, "ResourceInUseException");
    assert_eq!(text, "Stream clicks under account 000000000000 not ACTIVE, instead in state UPDATING");

    world.clock.advance(delay);
    world.ok("DeleteStream", json!({"StreamName": "clicks"}));
    assert_eq!(world.status("clicks"), "DELETING");
    assert_eq!(world.read(&world.iterator("clicks", 1, "TRIM_HORIZON")), [""; 0]);
    world.refused("DeleteStream", json!({"StreamName": "clicks"}), "ResourceInUseException");
    world.clock.advance(delay);
    world.refused("DescribeStream", json!({"StreamName": "clicks"}), "ResourceNotFoundException");
    world.create("clicks", 1);
}

#[test]
fn l6_names_that_no_stream_can_have_are_refused() {
    let world = World::new();
    let long = "x".repeat(129);
    for name in [".", "..", ".gateway-secret"] {
        world.refused(
            "CreateStream",
            json!({"StreamName": name, "ShardCount": 1}),
            "InvalidArgumentException",
        );
        world.refused("DescribeStream", json!({"StreamName": name}), "ResourceNotFoundException");
        world.refused("DeleteStream", json!({"StreamName": name}), "ResourceNotFoundException");
    }
    // The pattern of ARNs allows more than that of names.
    for name in [".", "..", ".gateway-secret", "é", "a%2f", "x\\y", &long] {
        let arn = world.arn(name);
        world.refused("DescribeStream", json!({"StreamARN": arn}), "ResourceNotFoundException");
        let put = json!({"StreamARN": arn, "PartitionKey": "a", "Data": ""});
        world.refused("PutRecord", put, "ResourceNotFoundException");
        world.refused("ListTagsForResource", json!({"ResourceARN": arn}), "ResourceNotFoundException");
    }
    let consumer = json!({"ConsumerARN": format!("{}/consumer/c:1", world.arn(&long))});
    world.refused("DescribeStreamConsumer", consumer, "ResourceNotFoundException");
}

#[test]
fn a_deletion_goes_on_after_a_restart() {
    let mut world = World::with(Setup { delay: Duration::from_secs(1), ..Setup::default() });
    // The thread that opens all streams and the request may open it at the same time.
    for _ in 0..20 {
        world.create("clicks", 1);
        world.clock.advance(Duration::from_secs(1));
        world.ok("DeleteStream", json!({"StreamName": "clicks"}));
        world.restart(|_| {});
        world.refused("DescribeStream", json!({"StreamName": "clicks"}), "ResourceNotFoundException");
    }
}

#[test]
fn what_kinesis_knows_of_a_stream_survives_a_restart() {
    let mut world = World::new();
    let stream = json!({"StreamName": "clicks"});
    world.ok("CreateStream", json!({"StreamName": "clicks", "StreamModeDetails": {"StreamMode": "ON_DEMAND"}, "Tags": {"team": "web"}}));
    world.ok("IncreaseStreamRetentionPeriod", json!({"StreamName": "clicks", "RetentionPeriodHours": 48}));
    world.ok(
        "EnableEnhancedMonitoring",
        json!({"StreamName": "clicks", "ShardLevelMetrics": ["IncomingBytes"]}),
    );
    world.ok("UpdateMaxRecordSize", json!({"StreamARN": world.arn("clicks"), "MaxRecordSizeInKiB": 2048}));
    world.ok(
        "UpdateStreamRecordDistributionStrategy",
        json!({"StreamARN": world.arn("clicks"), "RecordDistributionStrategy": "AUTO"}),
    );
    let all = |world: &World| {
        let description = described(world, "clicks");
        (
            description,
            world.ok("DescribeStreamSummary", stream.clone()),
            world.ok("ListTagsForStream", stream.clone()),
        )
    };
    let before = all(&world);
    assert_eq!(before.0["RetentionPeriodHours"], 48);
    assert_eq!(before.0["StreamModeDetails"]["StreamMode"], "ON_DEMAND");
    assert_eq!(before.0["EnhancedMonitoring"], json!([{"ShardLevelMetrics": ["IncomingBytes"]}]));
    assert_eq!(before.1["StreamDescriptionSummary"]["MaxRecordSizeInKiB"], 2048);
    assert_eq!(before.1["StreamDescriptionSummary"]["RecordDistributionStrategy"], "AUTO");
    assert_eq!(before.2["Tags"], json!([{"Key": "team", "Value": "web"}]));
    assert_eq!(before.0["Shards"].as_array().unwrap().len(), 4);
    world.restart(|_| {});
    assert_eq!(all(&world), before);
}

#[test]
fn retention_is_changed_within_its_bounds() {
    let world = World::new();
    world.create("clicks", 1);
    let hours = |hours: u32| json!({"StreamName": "clicks", "RetentionPeriodHours": hours});
    let (increase, decrease) = ("IncreaseStreamRetentionPeriod", "DecreaseStreamRetentionPeriod");
    let invalid = "InvalidArgumentException";
    assert_eq!(
        world.refused(increase, hours(23), invalid),
        "Minimum allowed retention period is 24 hours. Requested retention period (23 hours) is too short."
    );
    world.refused(increase, hours(8_761), invalid);
    world.ok(increase, hours(8_760));
    world.ok(increase, hours(8_760));
    assert_eq!(
        world.refused(increase, hours(24), invalid),
        "Requested retention period (24 hours) for stream clicks can not be shorter than existing retention period (8760 \
         hours). Use DecreaseRetentionPeriod API."
    );
    world.ok(decrease, hours(24));
    assert_eq!(
        world.refused(decrease, hours(25), invalid),
        "Requested retention period (25 hours) for stream clicks can not be longer than existing retention period (24 hours). \
         Use IncreaseRetentionPeriod API."
    );
}

#[test]
fn streams_are_listed_in_pages() {
    let world = World::new();
    for name in ["a", "b", "c"] {
        world.create(name, 1);
    }
    let first = world.ok("ListStreams", json!({"Limit": 2}));
    assert_eq!((&first["StreamNames"], &first["HasMoreStreams"]), (&json!(["a", "b"]), &json!(true)));
    assert_eq!(first["StreamSummaries"][0]["StreamARN"], json!(world.arn("a")));
    let token = first["NextToken"].as_str().unwrap();
    let second = world.ok("ListStreams", json!({"NextToken": token}));
    assert_eq!((&second["StreamNames"], &second["HasMoreStreams"]), (&json!(["c"]), &json!(false)));
    assert!(second.get("NextToken").is_none());
    let second = world.ok("ListStreams", json!({"ExclusiveStartStreamName": "b"}));
    assert_eq!(second["StreamNames"], json!(["c"]));
    world.clock.advance(5 * MINUTE + Duration::from_millis(1));
    world.refused("ListStreams", json!({"NextToken": token}), "ExpiredNextTokenException");
    world.refused("ListStreams", json!({"NextToken": "x"}), "InvalidArgumentException");
}

#[test]
fn the_account_has_as_many_shards_as_it_may() {
    let world = World::with(Setup { shards_max: 3, ..Setup::default() });
    world.create("clicks", 2);
    let text = world.refused(
        "CreateStream",
        json!({"StreamName": "more", "ShardCount": 2}),
        "LimitExceededException",
    );
    assert!(text.starts_with(
        "This request would exceed the shard limit for the account 000000000000 in us-east-1. Current shard count for the \
         account: 2. Limit: 3. Number of additional shards that would have resulted from this request: 2. Refer"
    ));
    world.ok("SplitShard", json!({"StreamName": "clicks", "ShardToSplit": "0", "NewStartingHashKey": "2"}));
    world.refused("SplitShard", json!({"StreamName": "clicks", "ShardToSplit": "1", "NewStartingHashKey": (u128::MAX - 5).to_string()}), "LimitExceededException");
    let limits = world.ok("DescribeLimits", json!({}));
    assert_eq!((&limits["ShardLimit"], &limits["OpenShardCount"]), (&json!(3), &json!(3)));
}

#[test]
fn quotas_hold_only_with_limits() {
    let world = World::with(Setup { limits: Limits::kinesis(), ..Setup::default() });
    world.create("clicks", 1);
    let mode =
        |mode: &str| json!({"StreamARN": world.arn("clicks"), "StreamModeDetails": {"StreamMode": mode}});
    world.ok("UpdateStreamMode", mode("ON_DEMAND"));
    world.ok("UpdateStreamMode", mode("ON_DEMAND"));
    world.ok("UpdateStreamMode", mode("PROVISIONED"));
    world.refused("UpdateStreamMode", mode("ON_DEMAND"), "LimitExceededException");
    world.clock.advance(crate::DAY);
    world.ok("UpdateStreamMode", mode("ON_DEMAND"));
}

#[test]
fn a_stream_is_named_by_its_name_or_its_arn() {
    let world = World::new();
    world.create("clicks", 1);
    let (name, arn) = ("clicks", world.arn("clicks"));
    for names in [
        json!({"StreamName": name}),
        json!({"StreamARN": arn}),
        json!({"StreamName": name, "StreamARN": arn}),
    ] {
        world.ok("DescribeStreamSummary", names);
    }
    world.refused("DescribeStreamSummary", json!({}), "InvalidArgumentException");
    let other = json!({"StreamName": "views", "StreamARN": arn});
    world.refused("DescribeStreamSummary", other, "InvalidArgumentException");
    let elsewhere = arn.replace("us-east-1", "eu-west-1");
    world.refused("DescribeStreamSummary", json!({"StreamARN": elsewhere}), "ResourceNotFoundException");
}

#[test]
fn a_dry_run_changes_nothing() {
    let world = World::new();
    world.create("clicks", 1);
    let put = json!({"StreamName": "clicks", "PartitionKey": "a", "Data": "", "DryRun": true});
    world.refused("PutRecord", put, "DryRunOperationException");
    assert_eq!(world.read(&world.iterator("clicks", 0, "TRIM_HORIZON")), [""; 0]);
}

#[test]
fn what_the_server_does_not_have_is_not_found() {
    let world = World::new();
    let channel = format!("arn:aws:kinesis:us-east-1:{ACCOUNT}:channel/archive");
    world.refused("DescribeChannel", json!({"ChannelARN": channel}), "ResourceNotFoundException");
    assert_eq!(world.ok("ListChannels", json!({})), json!({"ChannelSummaries": []}));
    let settings = world.ok("DescribeAccountSettings", json!({}));
    assert_eq!(settings["MinimumThroughputBillingCommitment"]["Status"], "DISABLED");
}

#[test]
fn a_change_of_the_mode_changes_no_shard() {
    let mut world = World::new();
    world.create("clicks", 2);
    let shards = |world: &World| described(world, "clicks")["Shards"].as_array().unwrap().len();
    for mode in ["ON_DEMAND", "PROVISIONED", "ON_DEMAND"] {
        world.ok(
            "UpdateStreamMode",
            json!({"StreamARN": world.arn("clicks"), "StreamModeDetails": {"StreamMode": mode}}),
        );
        assert_eq!(shards(&world), 2);
    }
    world.restart(|_| {});
    assert_eq!(shards(&world), 2);
}

#[test]
fn only_an_active_stream_is_deleted() {
    let delay = Duration::from_millis(500);
    let world = World::with(Setup { delay, ..Setup::default() });
    world.create("clicks", 1);
    let stream = json!({"StreamName": "clicks"});
    let text = world.refused("DeleteStream", stream.clone(), "ResourceInUseException");
    assert_eq!(text, "Stream clicks under account 000000000000 not ACTIVE, instead in state CREATING");
    world.clock.advance(delay);
    world.ok("IncreaseStreamRetentionPeriod", json!({"StreamName": "clicks", "RetentionPeriodHours": 48}));
    let text = world.refused("DeleteStream", stream.clone(), "ResourceInUseException");
    assert_eq!(text, "Stream clicks under account 000000000000 not ACTIVE, instead in state UPDATING");
    world.clock.advance(delay);
    world.ok("DeleteStream", stream);
}

#[test]
fn a_clock_that_is_set_back_leaves_streams_active() {
    let delay = Duration::from_millis(500);
    let world = World::with(Setup { delay, ..Setup::default() });
    world.create("clicks", 1);
    world.clock.advance(delay);
    world.ok("IncreaseStreamRetentionPeriod", json!({"StreamName": "clicks", "RetentionPeriodHours": 48}));
    world.clock.set(Timestamp::from_millis(START.as_millis() - 3_600_000));
    assert_eq!(world.status("clicks"), "ACTIVE");
}

#[test]
fn names_that_no_stream_can_have_are_refused() {
    let world = World::new();
    world.refused("CreateStream", json!({"StreamName": "..", "ShardCount": 1}), "InvalidArgumentException");
    world.refused("DescribeStream", json!({"StreamName": "."}), "ResourceNotFoundException");
    for name in ["ä", "a:b", "..", &"x".repeat(200)] {
        let stream = json!({"StreamARN": world.arn(name)});
        world.refused("DescribeStream", stream, "ResourceNotFoundException");
    }
}

#[test]
fn a_stream_that_its_owner_closed_is_opened_again() {
    let world = World::new();
    world.create("clicks", 1);
    world.put("clicks", "a", "1");
    let known = world.front().service.catalogue.stream("clicks").unwrap();
    known.stream.clone().close().unwrap();
    assert_eq!(world.read(&world.iterator("clicks", 0, "TRIM_HORIZON")), ["1"]);
}

#[test]
fn what_meets_the_end_of_a_stream_does_not_find_it() {
    let world = World::new();
    world.create("clicks", 1);
    let known = world.front().service.catalogue.stream("clicks").unwrap();
    world.ok("DeleteStream", json!({"StreamName": "clicks"}));
    let fault = known.change_now(|changing| changing.set(|settings| settings.tags.clear())).unwrap_err();
    assert_eq!(fault, world.front().service.catalogue.missing("clicks"));
}

#[test]
fn warm_throughput_is_refused() {
    let world = World::new();
    world.create("clicks", 1);
    let on_demand = json!({"StreamMode": "ON_DEMAND"});
    let arn = world.arn("clicks");
    for (operation, body) in [
        (
            "CreateStream",
            json!({"StreamName": "views", "StreamModeDetails": on_demand, "WarmThroughputMiBps": 10}),
        ),
        (
            "UpdateStreamMode",
            json!({"StreamARN": arn, "StreamModeDetails": on_demand, "WarmThroughputMiBps": 10}),
        ),
        ("UpdateStreamWarmThroughput", json!({"StreamARN": arn, "WarmThroughputMiBps": 10})),
    ] {
        world.refused(operation, body, "ValidationException");
    }
}

#[test]
fn a_stream_that_is_open_elsewhere_is_in_use() {
    let mut world = World::new();
    world.create("clicks", 1);
    world.end();
    let elsewhere = crate::Stream::open(world.directory.path().join("clicks")).unwrap();
    world.open();
    let text = world.refused("DescribeStream", json!({"StreamName": "clicks"}), "ResourceInUseException");
    assert_eq!(
        text,
        "Stream clicks under account 000000000000 is open in another process on the machine of this server."
    );
    world.refused("CreateStream", json!({"StreamName": "clicks", "ShardCount": 1}), "ResourceInUseException");
    elsewhere.close().unwrap();
    world.put("clicks", "a", "1");
}
