//! Putting records.

use super::*;

#[test]
fn a_record_gets_the_number_with_which_it_is_read() {
    let world = World::new();
    world.create("clicks", 3);
    world.clock.advance(Duration::from_secs(7));
    let put = world.put("clicks", "pk-1", "hello");
    assert_eq!(put["ShardId"], "shardId-000000000002");
    // Created at 1700000000, index 1, arrived 7 seconds later, shard 2.
    let read = world.ok("GetRecords", json!({"ShardIterator": world.iterator("clicks", 2, "TRIM_HORIZON")}));
    let record = &read["Records"][0];
    assert_eq!(record["SequenceNumber"], put["SequenceNumber"]);
    assert_eq!(record["ApproximateArrivalTimestamp"], json!(1_700_000_007));
    assert_eq!((&record["PartitionKey"], &record["Data"]), (&json!("pk-1"), &json!(base64("hello"))));
    assert!(record.get("EncryptionType").is_none());
    let next = world.put("clicks", "pk-1", "");
    assert!(next["SequenceNumber"].as_str() > put["SequenceNumber"].as_str());
}

#[test]
fn a_clock_that_is_set_back_changes_no_number() {
    let world = World::new();
    world.create("clicks", 1);
    world.clock.advance(Duration::from_secs(60));
    world.put("clicks", "a", "1");
    world.clock.set(START);
    let put = world.put("clicks", "a", "2");
    let batch = world
        .ok("PutRecords", json!({"StreamName": "clicks", "Records": [{"PartitionKey": "a", "Data": ""}]}));
    let read = world.ok("GetRecords", json!({"ShardIterator": world.iterator("clicks", 0, "TRIM_HORIZON")}));
    assert_eq!(read["Records"][1]["SequenceNumber"], put["SequenceNumber"]);
    assert_eq!(read["Records"][2]["SequenceNumber"], batch["Records"][0]["SequenceNumber"]);
}

#[test]
fn records_of_a_batch_succeed_and_fail_one_by_one() {
    let limits = Limits::none().write_records_per_second(2);
    let world = World::with(Setup { limits, ..Setup::default() });
    world.create("clicks", 2);
    let records: Vec<_> = ["a", "b", "a", "a", "b"]
        .iter()
        .map(|key| json!({"PartitionKey": key, "Data": base64(key)}))
        .collect();
    let got = world.ok("PutRecords", json!({"StreamName": "clicks", "Records": records}));
    assert_eq!(got["FailedRecordCount"], 1);
    let outcome = |at: usize| got["Records"][at].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(outcome(0), ["SequenceNumber", "ShardId"]);
    assert_eq!(outcome(3), ["ErrorCode", "ErrorMessage"]);
    assert_eq!(got["Records"][3]["ErrorCode"], "ProvisionedThroughputExceededException");
    assert_eq!(
        got["Records"][3]["ErrorMessage"],
        "Rate exceeded for shard shardId-000000000000 in stream clicks under account 000000000000."
    );
    let text = world.refused(
        "PutRecord",
        json!({"StreamName": "clicks", "PartitionKey": "a", "Data": ""}),
        "ProvisionedThroughputExceededException",
    );
    assert!(text.starts_with("Rate exceeded for shard"));
}

#[test]
fn one_bad_entry_refuses_the_whole_batch() {
    let world = World::new();
    world.create("clicks", 1);
    let refuse = |entry: Json| {
        let good = json!({"PartitionKey": "a", "Data": ""});
        let text = world.refused(
            "PutRecords",
            json!({"StreamName": "clicks", "Records": [good, entry]}),
            "InvalidArgumentException",
        );
        assert_eq!(world.read(&world.iterator("clicks", 0, "TRIM_HORIZON")), [""; 0]);
        text
    };
    assert_eq!(
        refuse(
            json!({"PartitionKey": "a", "Data": "", "ExplicitHashKey": "340282366920938463463374607431768211456"})
        ),
        "Invalid ExplicitHashKey. ExplicitHashKey must be in the range: [0, 2^128-1]. Specified value was \
         340282366920938463463374607431768211456"
    );
    refuse(json!({"Data": ""}));
    // A record of exactly the limit is accepted: data and key count.
    let data = |bytes: usize| base64(&"x".repeat(bytes));
    refuse(json!({"PartitionKey": "a", "Data": data(1 << 20)}));
    world.ok("PutRecord", json!({"StreamName": "clicks", "PartitionKey": "a", "Data": data((1 << 20) - 1)}));
    // Eleven of almost a MiB are more than a request may have.
    let entries = vec![json!({"PartitionKey": "a", "Data": data((1 << 20) - 1)}); 11];
    let text = world.refused(
        "PutRecords",
        json!({"StreamName": "clicks", "Records": entries}),
        "InvalidArgumentException",
    );
    assert_eq!(text, "Records size exceeds 10 MB limit");
}

#[test]
fn larger_records_pass_once_the_stream_allows_them() {
    let world = World::new();
    world.create("clicks", 1);
    let put = json!({"StreamName": "clicks", "PartitionKey": "a", "Data": base64(&"x".repeat(3 << 20))});
    world.refused("PutRecord", put.clone(), "InvalidArgumentException");
    world.ok("UpdateMaxRecordSize", json!({"StreamARN": world.arn("clicks"), "MaxRecordSizeInKiB": 10_240}));
    world.ok("PutRecord", put);
    assert_eq!(world.read(&world.iterator("clicks", 0, "TRIM_HORIZON"))[0].len(), 3 << 20);
}

#[test]
fn a_number_for_ordering_is_one_that_was_given_out() {
    let world = World::new();
    world.create("clicks", 1);
    let first = world.put("clicks", "a", "1");
    let with = |number: &str| json!({"StreamName": "clicks", "PartitionKey": "a", "Data": "", "SequenceNumberForOrdering": number});
    let second = world.ok("PutRecord", with(first["SequenceNumber"].as_str().unwrap()));
    assert!(second["SequenceNumber"].as_str() > first["SequenceNumber"].as_str());
    world.ok("PutRecord", with("0"));
    for number in ["99999999999999999999999999999999999999999999999999999999", &*"9".repeat(100)] {
        let text = world.refused("PutRecord", with(number), "InvalidArgumentException");
        assert_eq!(
            text,
            format!(
                "ExclusiveMinimumSequenceNumber {number} used in PutRecord on stream clicks under account 000000000000 is invalid."
            )
        );
    }
    // A number issued by a shard that has just begun.
    let split = json!({"StreamName": "clicks", "ShardToSplit": "0", "NewStartingHashKey": "2"});
    world.ok("SplitShard", split);
    let third = world.put("clicks", "a", "");
    let fourth = world.ok("PutRecord", with(third["SequenceNumber"].as_str().unwrap()));
    assert!(fourth["SequenceNumber"].as_str() > third["SequenceNumber"].as_str());
    // One that arrives later than now.
    world.clock.advance(Duration::from_secs(10));
    let later = world.put("clicks", "a", "3");
    world.clock.set(START);
    world.refused("PutRecord", with(later["SequenceNumber"].as_str().unwrap()), "InvalidArgumentException");
}

#[test]
fn records_without_keys_are_spread() {
    let world = World::new();
    world.ok("CreateStream", json!({"StreamName": "clicks", "RecordDistributionStrategy": "AUTO"}));
    for _ in 0..40 {
        world.ok("PutRecord", json!({"StreamName": "clicks", "Data": base64("x")}));
        world.ok("PutRecord", json!({"StreamName": "clicks", "PartitionKey": "same", "Data": base64("x")}));
    }
    for shard in 0..4 {
        let read =
            world.ok("GetRecords", json!({"ShardIterator": world.iterator("clicks", shard, "TRIM_HORIZON")}));
        let records = read["Records"].as_array().unwrap();
        assert!(records.len() >= 15, "{shard}: {}", records.len());
        assert!(records.iter().any(|record| record.get("PartitionKey").is_none()));
        assert!(records.iter().any(|record| record["PartitionKey"] == "same"));
    }
    world.ok(
        "UpdateStreamRecordDistributionStrategy",
        json!({"StreamARN": world.arn("clicks"), "RecordDistributionStrategy": "USER_PARTITION_KEY"}),
    );
    world.refused("PutRecord", json!({"StreamName": "clicks", "Data": ""}), "InvalidArgumentException");
}
