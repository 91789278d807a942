//! Tags, metrics of shards, and policies.

use super::*;

#[test]
fn tags_are_added_replaced_listed_and_removed() {
    let world = World::new();
    world.create("clicks", 1);
    let arn = world.arn("clicks");
    world.ok("AddTagsToStream", json!({"StreamName": "clicks", "Tags": {"b": "2", "a": "1", "c": ""}}));
    world.ok("TagResource", json!({"ResourceARN": arn, "Tags": {"b": "two"}}));
    let expected =
        json!([{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "two"}, {"Key": "c", "Value": ""}]);
    assert_eq!(world.ok("ListTagsForResource", json!({"ResourceARN": arn})), json!({"Tags": expected}));
    let page = world
        .ok("ListTagsForStream", json!({"StreamName": "clicks", "Limit": 1, "ExclusiveStartTagKey": "a"}));
    assert_eq!(page, json!({"Tags": [{"Key": "b", "Value": "two"}], "HasMoreTags": true}));
    world.ok("RemoveTagsFromStream", json!({"StreamName": "clicks", "TagKeys": ["a", "nope"]}));
    world.ok("UntagResource", json!({"ResourceARN": arn, "TagKeys": ["c"]}));
    let left = world.ok("ListTagsForStream", json!({"StreamName": "clicks"}));
    assert_eq!(left, json!({"Tags": [{"Key": "b", "Value": "two"}], "HasMoreTags": false}));
}

#[test]
fn tags_that_cannot_be_are_refused() {
    let world = World::new();
    world.create("clicks", 1);
    let add = |tags: Json| {
        world.refused(
            "AddTagsToStream",
            json!({"StreamName": "clicks", "Tags": tags}),
            "InvalidArgumentException",
        )
    };
    assert_eq!(
        add(json!({"a!": ""})),
        "Some tags contain invalid characters. Valid characters: Unicode letters, digits, white space, _ . / = + - % @."
    );
    assert!(add(json!({"a": "50%"})).contains("because some tags contained illegal characters"));
    for part in 0..5 {
        let tags: serde_json::Map<_, _> = (0..10).map(|at| (format!("tag-{part}-{at}"), json!(""))).collect();
        world.ok("AddTagsToStream", json!({"StreamName": "clicks", "Tags": tags}));
    }
    let text = add(json!({"one-more": ""}));
    assert_eq!(
        text,
        "Failed to add tags to stream clicks under account 000000000000 because a given stream cannot have more than 50 tags associated with it."
    );
    world.ok("AddTagsToStream", json!({"StreamName": "clicks", "Tags": {"tag-0-0": "changed"}}));
}

#[test]
fn in_2018_a_text_said_ten_tags_and_batches_were_smaller() {
    let world = World::with(Setup { profile: Profile::Year2018, ..Setup::default() });
    world.create("clicks", 1);
    let tags = |from: u32| {
        let tags: serde_json::Map<_, _> =
            (from..from + 6).map(|at| (format!("tag-{at}"), json!(""))).collect();
        json!({"StreamName": "clicks", "Tags": tags})
    };
    for from in (0..48).step_by(6) {
        world.ok("AddTagsToStream", tags(from));
    }
    let text = world.refused("AddTagsToStream", tags(48), "InvalidArgumentException");
    assert!(text.contains("more than 10 tags"), "{text}");
    let entries = vec![json!({"PartitionKey": "a", "Data": base64(&"x".repeat((1 << 20) - 1))}); 6];
    let text = world.refused(
        "PutRecords",
        json!({"StreamName": "clicks", "Records": entries}),
        "InvalidArgumentException",
    );
    assert_eq!(text, "Records size exceeds 5 MB limit");
}

#[test]
fn metrics_of_shards_are_switched_on_and_off() {
    let world = World::new();
    world.create("clicks", 1);
    let body = |metrics: &[&str]| json!({"StreamName": "clicks", "ShardLevelMetrics": metrics});
    let got = world.ok("EnableEnhancedMonitoring", body(&["IncomingBytes", "OutgoingBytes"]));
    assert_eq!(
        (&got["CurrentShardLevelMetrics"], &got["DesiredShardLevelMetrics"]),
        (&json!([]), &json!(["IncomingBytes", "OutgoingBytes"]))
    );
    let got = world.ok("DisableEnhancedMonitoring", body(&["IncomingBytes", "IncomingRecords"]));
    assert_eq!(got["DesiredShardLevelMetrics"], json!(["OutgoingBytes"]));
    let got = world.ok("EnableEnhancedMonitoring", body(&["ALL"]));
    assert_eq!(got["DesiredShardLevelMetrics"].as_array().unwrap().len(), 7);
    world.refused("EnableEnhancedMonitoring", body(&["Nope"]), "ValidationException");
}

#[test]
fn policies_are_kept_with_streams_and_consumers() {
    let mut world = World::new();
    world.create("clicks", 1);
    let stream = world.arn("clicks");
    let consumer = world.ok("RegisterStreamConsumer", json!({"StreamARN": stream, "ConsumerName": "fraud"}))
        ["Consumer"]["ConsumerARN"]
        .clone();
    for arn in [json!(stream), consumer] {
        let resource = json!({"ResourceARN": arn});
        assert_eq!(world.ok("GetResourcePolicy", resource.clone()), json!({"Policy": "{}"}));
        world.refused("DeleteResourcePolicy", resource.clone(), "ResourceNotFoundException");
        let statement = json!({"Effect": "Allow", "Principal": "*", "Action": "kinesis:*", "Resource": arn});
        let policy = json!({"Version": "2012-10-17", "Statement": [statement]}).to_string();
        world.ok("PutResourcePolicy", json!({"ResourceARN": arn, "Policy": policy}));
        world.restart(|_| {});
        assert_eq!(world.ok("GetResourcePolicy", resource.clone()), json!({"Policy": policy}));
        world.refused(
            "PutResourcePolicy",
            json!({"ResourceARN": arn, "Policy": "{"}),
            "InvalidArgumentException",
        );
        world.ok("DeleteResourcePolicy", resource);
    }
}
