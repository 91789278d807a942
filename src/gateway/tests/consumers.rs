//! Registered consumers, and what is pushed to them.

use super::*;

fn register(world: &World, consumer: &str) -> String {
    let registered = world
        .ok("RegisterStreamConsumer", json!({"StreamARN": world.arn("clicks"), "ConsumerName": consumer}));
    registered["Consumer"]["ConsumerARN"].as_str().unwrap().to_owned()
}

fn from(consumer: &str, position: Json) -> Json {
    json!({"ConsumerARN": consumer, "ShardId": "shardId-000000000000", "StartingPosition": position})
}

fn horizon(consumer: &str) -> Json {
    from(consumer, json!({"Type": "TRIM_HORIZON"}))
}

/// Returns the next event with its contents.
fn event(events: &mut Events<'_>) -> Json {
    let (kind, payload) = events.next().expect("an event");
    assert_eq!(kind, "SubscribeToShardEvent", "{payload}");
    payload
}

fn begin<'a>(world: &'a World, body: Json) -> Events<'a> {
    let mut events = world.subscribe(body).map_err(|got| got.body).unwrap();
    assert_eq!(events.next(), Some(("initial-response".to_owned(), json!({}))));
    events
}

#[test]
fn consumers_are_registered_described_and_removed() {
    let delay = Duration::from_millis(500);
    let world = World::with(Setup { delay, ..Setup::default() });
    world.create("clicks", 1);
    let stream = world.arn("clicks");
    let by_name = json!({"StreamARN": stream, "ConsumerName": "fraud"});
    world.refused("RegisterStreamConsumer", by_name.clone(), "ResourceInUseException");
    world.clock.advance(delay);
    let consumer = world.ok("RegisterStreamConsumer", by_name.clone())["Consumer"].clone();
    let arn = format!("{stream}/consumer/fraud:1700000000");
    assert_eq!((&consumer["ConsumerARN"], &consumer["ConsumerStatus"]), (&json!(arn), &json!("CREATING")));
    world.refused("RegisterStreamConsumer", by_name.clone(), "ResourceInUseException");
    let got = world.subscribe(horizon(&arn)).err().unwrap();
    assert_eq!(got.error().0, "ResourceInUseException");
    world.clock.advance(delay);
    for body in [by_name.clone(), json!({"ConsumerARN": arn})] {
        let described = world.ok("DescribeStreamConsumer", body)["ConsumerDescription"].clone();
        assert_eq!(
            (&described["ConsumerStatus"], &described["StreamARN"]),
            (&json!("ACTIVE"), &json!(stream))
        );
    }
    world.refused("DeleteStream", json!({"StreamName": "clicks"}), "ResourceInUseException");
    world.ok("DeregisterStreamConsumer", json!({"ConsumerARN": arn}));
    assert_eq!(
        world.ok("DescribeStreamConsumer", by_name.clone())["ConsumerDescription"]["ConsumerStatus"],
        "DELETING"
    );
    world.clock.advance(delay);
    world.refused("DescribeStreamConsumer", by_name.clone(), "ResourceNotFoundException");
    world.refused("DeregisterStreamConsumer", json!({"ConsumerARN": arn}), "ResourceNotFoundException");
    // One that is registered again is another one.
    assert_ne!(world.ok("RegisterStreamConsumer", by_name)["Consumer"]["ConsumerARN"], json!(arn));
    world.ok("DeleteStream", json!({"StreamName": "clicks", "EnforceConsumerDeletion": true}));
}

#[test]
fn consumers_are_listed_in_pages_and_keep_their_tags() {
    let mut world = World::new();
    world.create("clicks", 1);
    let stream = json!({"StreamARN": world.arn("clicks")});
    for name in ["c", "a", "b"] {
        register(&world, name);
    }
    let first = world.ok("ListStreamConsumers", json!({"StreamARN": world.arn("clicks"), "MaxResults": 2}));
    assert_eq!(first["Consumers"][0]["ConsumerName"], "a");
    let second = world.ok(
        "ListStreamConsumers",
        json!({"StreamARN": world.arn("clicks"), "NextToken": first["NextToken"]}),
    );
    assert_eq!(second["Consumers"].as_array().unwrap().len(), 1);
    let arn = second["Consumers"][0]["ConsumerARN"].clone();
    world.ok("TagResource", json!({"ResourceARN": arn, "Tags": {"team": "web"}}));
    world.restart(|_| {});
    assert_eq!(
        world.ok("ListTagsForResource", json!({"ResourceARN": arn}))["Tags"],
        json!([{"Key": "team", "Value": "web"}])
    );
    assert_eq!(world.ok("ListStreamConsumers", stream)["Consumers"].as_array().unwrap().len(), 3);
}

#[test]
fn records_are_pushed_and_a_subscription_goes_on_where_another_ended() {
    let world = World::new();
    world.create("clicks", 1);
    let consumer = register(&world, "fraud");
    world.put("clicks", "a", "1");
    let mut events = begin(&world, horizon(&consumer));
    let first = event(&mut events);
    assert_eq!((data_of(&first), &first["MillisBehindLatest"]), (vec!["1".to_owned()], &json!(0)));
    assert_eq!(first["ContinuationSequenceNumber"], first["Records"][0]["SequenceNumber"]);
    world.put("clicks", "a", "2");
    let second = event(&mut events);
    assert_eq!(data_of(&second), ["2"]);
    drop(events);
    world.put("clicks", "a", "3");
    // Only five seconds after it began may another one take its place, or once it has ended.
    let after =
        |number: &Json| from(&consumer, json!({"Type": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": number}));
    world.clock.advance(Duration::from_secs(5));
    let mut events = begin(&world, after(&second["ContinuationSequenceNumber"]));
    assert_eq!(data_of(&event(&mut events)), ["3"]);
}

#[test]
fn an_idle_shard_has_events_that_pass_no_unseen_record() {
    let world = World::new();
    world.create("clicks", 1);
    let consumer = register(&world, "fraud");
    let mut events = begin(&world, from(&consumer, json!({"Type": "LATEST"})));
    world.clock.advance(Duration::from_secs(6));
    world.front().service.catalogue.stream("clicks").unwrap().stream.maintain().unwrap();
    let idle = event(&mut events);
    assert_eq!((&idle["Records"], &idle["MillisBehindLatest"]), (&json!([]), &json!(0)));
    assert!(idle.get("ChildShards").is_none());
    world.put("clicks", "a", "1");
    let number = idle["ContinuationSequenceNumber"].clone();
    drop(events);
    world.clock.advance(Duration::from_secs(6));
    let position = json!({"Type": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": number});
    assert_eq!(data_of(&event(&mut begin(&world, from(&consumer, position.clone())))), ["1"]);
    let asked = json!({"StreamName": "clicks", "ShardId": "0", "ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": number});
    let iterator = world.ok("GetShardIterator", asked)["ShardIterator"].as_str().unwrap().to_owned();
    assert_eq!(world.read(&iterator), ["1"]);
}

#[test]
fn the_end_of_a_shard_has_its_children_and_no_number() {
    let world = World::new();
    world.create("clicks", 1);
    let consumer = register(&world, "fraud");
    world.put("clicks", "a", "1");
    world.ok("SplitShard", json!({"StreamName": "clicks", "ShardToSplit": "0", "NewStartingHashKey": "2"}));
    let mut events = begin(&world, horizon(&consumer));
    let mut last = event(&mut events);
    let mut data = data_of(&last);
    while last.get("ChildShards").is_none() {
        assert_ne!(last["ContinuationSequenceNumber"], Json::Null);
        last = event(&mut events);
        data.extend(data_of(&last));
    }
    assert_eq!(data, ["1"]);
    assert_eq!(last["ContinuationSequenceNumber"], Json::Null);
    assert_eq!(last["ChildShards"][1]["ShardId"], "shardId-000000000002");
    assert_eq!(events.next(), None);
}

#[test]
fn a_subscription_ends_after_five_minutes() {
    let world = World::new();
    world.create("clicks", 1);
    let consumer = register(&world, "fraud");
    let mut events = begin(&world, from(&consumer, json!({"Type": "LATEST"})));
    world.clock.advance(5 * MINUTE);
    world.front().service.catalogue.stream("clicks").unwrap().stream.maintain().unwrap();
    assert_eq!(events.next(), None);
}

#[test]
fn another_subscription_takes_over_after_five_seconds() {
    let world = World::new();
    world.create("clicks", 1);
    let consumer = register(&world, "fraud");
    let mut events = begin(&world, from(&consumer, json!({"Type": "LATEST"})));
    let got = world.subscribe(horizon(&consumer)).err().unwrap();
    assert_eq!(got.error().0, "ResourceInUseException");
    world.clock.advance(Duration::from_secs(5));
    let _other = begin(&world, from(&consumer, json!({"Type": "LATEST"})));
    let mut last = events.next();
    while last.as_ref().is_some_and(|(kind, _)| kind == "SubscribeToShardEvent") {
        last = events.next();
    }
    assert_eq!(last.unwrap().0, "ResourceInUseException");
    assert_eq!(events.next(), None);
}

#[test]
fn a_consumer_that_is_removed_loses_its_subscription() {
    let world = World::new();
    world.create("clicks", 1);
    let consumer = register(&world, "fraud");
    let mut events = begin(&world, from(&consumer, json!({"Type": "LATEST"})));
    world.ok("DeregisterStreamConsumer", json!({"ConsumerARN": consumer}));
    assert_eq!(events.next().unwrap().0, "ResourceNotFoundException");
    assert_eq!(events.next(), None);
}

#[test]
fn a_subscription_ends_with_its_stream() {
    let world = World::new();
    world.create("clicks", 1);
    let consumer = register(&world, "fraud");
    let mut events = begin(&world, from(&consumer, json!({"Type": "LATEST"})));
    world.ok("DeleteStream", json!({"StreamName": "clicks", "EnforceConsumerDeletion": true}));
    assert_eq!(events.next().unwrap().0, "ResourceNotFoundException");
    assert_eq!(events.next(), None);
    let got = world.subscribe(horizon(&consumer)).err().unwrap();
    assert_eq!(got.error().0, "ResourceNotFoundException");
}

#[test]
fn a_number_without_a_record_means_the_next_record() {
    let world = World::new();
    world.create("clicks", 1);
    let consumer = register(&world, "fraud");
    world.put("clicks", "a", "1");
    let mut events = begin(&world, horizon(&consumer));
    event(&mut events);
    world.clock.advance(Duration::from_secs(6));
    world.front().service.catalogue.stream("clicks").unwrap().stream.maintain().unwrap();
    let number = event(&mut events)["ContinuationSequenceNumber"].clone();
    world.put("clicks", "a", "2");
    for kind in ["AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER"] {
        let asked = json!({"StreamName": "clicks", "ShardId": "0", "ShardIteratorType": kind, "StartingSequenceNumber": number});
        let iterator = world.ok("GetShardIterator", asked)["ShardIterator"].as_str().unwrap().to_owned();
        assert_eq!(world.read(&iterator), ["2"], "{kind}");
    }
}

#[test]
fn a_consumer_has_nothing_of_an_earlier_one_of_its_name() {
    let delay = Duration::from_millis(500);
    let world = World::with(Setup { delay, ..Setup::default() });
    world.create("clicks", 1);
    world.clock.advance(delay);
    let earlier = json!({"ResourceARN": register(&world, "fraud")});
    world.clock.advance(delay);
    for _ in 0..2 {
        world.ok("DeregisterStreamConsumer", json!({"ConsumerARN": earlier["ResourceARN"]}));
    }
    let statement = json!({"Effect": "Allow", "Principal": "*", "Action": "kinesis:*", "Resource": earlier["ResourceARN"]});
    let policy = json!({"Statement": statement}).to_string();
    world.ok("PutResourcePolicy", json!({"ResourceARN": earlier["ResourceARN"], "Policy": policy}));
    world.clock.advance(delay);
    let later = json!({"ResourceARN": register(&world, "fraud")});
    assert_eq!(world.ok("GetResourcePolicy", later), json!({"Policy": "{}"}));
}

#[test]
fn consumers_are_registered_within_their_quotas() {
    let delay = Duration::from_millis(500);
    let world = World::with(Setup { delay, limits: Limits::kinesis(), ..Setup::default() });
    world.create("clicks", 1);
    world.clock.advance(delay);
    for at in 0..20 {
        if at > 0 && at % 5 == 0 {
            let sixth = json!({"StreamARN": world.arn("clicks"), "ConsumerName": "one-more"});
            world.refused("RegisterStreamConsumer", sixth, "LimitExceededException");
            world.clock.advance(delay);
        }
        register(&world, &format!("consumer-{at}"));
    }
    world.clock.advance(delay);
    let more = json!({"StreamARN": world.arn("clicks"), "ConsumerName": "one-more"});
    world.refused("RegisterStreamConsumer", more, "LimitExceededException");
    let tags: serde_json::Map<_, _> = (0..51).map(|at| (format!("tag-{at}"), json!(""))).collect();
    for tags in [json!(tags), json!({"a": "50%"})] {
        let body = json!({"StreamARN": world.arn("clicks"), "ConsumerName": "tagged", "Tags": tags});
        world.refused("RegisterStreamConsumer", body, "InvalidArgumentException");
    }
}
