//! Tests of `DescribeActivity`, which the console calls.

use super::*;

fn activity(world: &World, body: Json) -> Got {
    activity_of(world, body, |_| {})
}

fn activity_of(world: &World, body: Json, sign: impl FnOnce(&mut Request)) -> Got {
    let mut request = world.signed("DescribeActivity", body.to_string());
    request.headers.insert("x-amz-target", "Streamlog_20261129.DescribeActivity".parse().unwrap());
    sign(&mut request);
    let (status, body) = world.send(&request);
    Got { status, body: serde_json::from_slice(&body).unwrap() }
}

fn names(answer: &Json) -> Vec<&str> {
    answer["Streams"].as_array().unwrap().iter().map(|it| it["StreamName"].as_str().unwrap()).collect()
}

fn allowed(answer: &Json) -> Vec<&str> {
    answer["AllowedOperations"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect()
}

#[test]
fn the_activity_of_all_streams_comes_in_pages() {
    let world = World::new();
    for name in ["a", "b", "c"] {
        world.create(name, 2);
    }
    world.put("b", "key", "hello");
    let all = activity(&world, json!({})).ok();
    assert_eq!(names(&all), ["a", "b", "c"]);
    assert_eq!((&all["HasMoreStreams"], &all["TimeMillis"]), (&json!(false), &json!(START.as_millis())));
    assert!(all.get("Shards").is_none());
    let stream = &all["Streams"][1];
    assert_eq!(stream["StreamStatus"], "ACTIVE");
    assert_eq!(stream["StreamMode"], "PROVISIONED");
    assert_eq!((&stream["OpenShardCount"], &stream["ShardCount"]), (&json!(2), &json!(2)));
    assert_eq!((&stream["RecordCount"], &stream["IncomingRecords"]), (&json!(1), &json!(1)));
    assert_eq!((&stream["OutgoingRecords"], &stream["WriteThrottledRecords"]), (&json!(0), &json!(0)));
    assert!(stream["IncomingBytes"].as_u64().unwrap() >= 8);
    assert!(stream["DiskBytes"].as_u64().unwrap() > 0);
    assert_eq!(all["Streams"][0]["IncomingRecords"], 0);
    let page = activity(&world, json!({"Limit": 2})).ok();
    assert_eq!((names(&page), &page["HasMoreStreams"]), (vec!["a", "b"], &json!(true)));
    let page = activity(&world, json!({"Limit": 2, "ExclusiveStartStreamName": "b"})).ok();
    assert_eq!((names(&page), &page["HasMoreStreams"]), (vec!["c"], &json!(false)));
    assert_eq!(activity(&world, json!({"Limit": 0})).error().0, "ValidationException");
}

#[test]
fn the_activity_of_a_stream_has_its_shards() {
    let world = World::new();
    world.create("clicks", 2);
    world.put("clicks", "key", "hello");
    let iterators =
        [world.iterator("clicks", 0, "TRIM_HORIZON"), world.iterator("clicks", 1, "TRIM_HORIZON")];
    let read: usize = iterators.iter().map(|iterator| world.read(iterator).len()).sum();
    assert_eq!(read, 1);
    world.ok(
        "SplitShard",
        json!({"StreamName": "clicks", "ShardToSplit": "shardId-000000000000", "NewStartingHashKey": "1000"}),
    );
    let got = activity(&world, json!({"StreamName": "clicks"})).ok();
    assert_eq!(names(&got), ["clicks"]);
    assert_eq!(
        (&got["Streams"][0]["OpenShardCount"], &got["Streams"][0]["ShardCount"]),
        (&json!(3), &json!(4))
    );
    let shards = got["Shards"].as_array().unwrap();
    let ids: Vec<_> = shards.iter().map(|shard| shard["ShardId"].as_str().unwrap()).collect();
    assert_eq!(
        ids,
        ["shardId-000000000000", "shardId-000000000001", "shardId-000000000002", "shardId-000000000003"]
    );
    assert_eq!(shards[0]["ClosedMillis"], START.as_millis());
    assert_eq!(
        (shards[1].get("ClosedMillis"), &shards[1]["CreatedMillis"]),
        (None, &json!(START.as_millis()))
    );
    for name in ["IncomingRecords", "OutgoingRecords", "RecordCount"] {
        let sum: u64 = shards.iter().map(|shard| shard[name].as_u64().unwrap()).sum();
        assert_eq!(sum, 1, "{name}");
    }
    assert!(got.get("Consumers").is_none() && got.get("Groups").is_none());
    let by_arn = activity(&world, json!({"StreamARN": world.arn("clicks")})).ok();
    assert_eq!(names(&by_arn), ["clicks"]);
    assert_eq!(activity(&world, json!({"StreamName": "none"})).error().0, "ResourceNotFoundException");
}

#[test]
fn what_is_throttled_is_counted() {
    let limits = Limits::none().write_records_per_second(1);
    let world = World::with(Setup { limits, ..Setup::default() });
    world.create("clicks", 1);
    let put = json!({"StreamName": "clicks", "PartitionKey": "key", "Data": base64("hello")});
    let refused = (0..5).filter(|_| world.call("PutRecord", put.clone()).status != 200).count();
    assert!(refused > 0);
    let got = activity(&world, json!({"StreamName": "clicks"})).ok();
    assert_eq!(got["Streams"][0]["WriteThrottledRecords"], refused);
    assert_eq!(got["Shards"][0]["WriteThrottledRecords"], refused);
}

#[test]
fn queues_come_with_what_they_hold() {
    let world = World::new();
    world.create_on_demand("clicks");
    let jobs = queues::create(&world, "jobs", json!({}));
    for number in 0..3 {
        world.put("clicks", "key", &number.to_string());
    }
    world.ok("ReceiveQueueRecords", json!({"QueueARN": jobs, "Limit": 1}));
    let got = activity(&world, json!({"StreamName": "clicks", "IncludeConsumers": true})).ok();
    let expected = json!([{
        "QueueName": "jobs", "QueueARN": jobs, "QueueStatus": "ACTIVE", "VisibleRecords": 2, "InFlightRecords": 1,
        "DeadLetterRecords": 0,
    }]);
    assert_eq!(got["Queues"], expected);
}

#[test]
fn consumers_come_with_their_subscriptions_and_groups_with_their_lag() {
    let world = World::new();
    world.create("clicks", 1);
    let registered = world
        .ok("RegisterStreamConsumer", json!({"StreamARN": world.arn("clicks"), "ConsumerName": "board"}));
    let arn = registered["Consumer"]["ConsumerARN"].as_str().unwrap();
    let ask = || activity(&world, json!({"StreamName": "clicks", "IncludeConsumers": true})).ok();
    assert_eq!(ask()["Consumers"][0]["Subscriptions"], json!([]));
    for number in 0..3 {
        world.put("clicks", "key", &number.to_string());
    }
    let subscribe = json!({
        "ConsumerARN": arn, "ShardId": "shardId-000000000000", "StartingPosition": {"Type": "TRIM_HORIZON"},
    });
    let mut events = world.subscribe(subscribe).unwrap();
    assert_eq!(events.next().unwrap().0, "initial-response");
    assert_eq!(events.next().unwrap().0, "SubscribeToShardEvent");
    let open = &ask()["Consumers"][0]["Subscriptions"];
    assert_eq!(open.as_array().unwrap().len(), 1, "{open}");
    assert_eq!(
        (&open[0]["ShardId"], &open[0]["MillisBehindLatest"]),
        (&json!("shardId-000000000000"), &json!(0))
    );
    drop(events);
    let is_closed = || ask()["Consumers"][0]["Subscriptions"] == json!([]);
    let begun = std::time::Instant::now();
    while !is_closed() {
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "the subscription of a client that left is still shown"
        );
        std::thread::yield_now();
    }

    let stream = world.front().service.catalogue.stream("clicks").unwrap().stream.clone();
    let mut worker = stream.group("billing").worker().open().unwrap();
    let group = |answer: &Json| answer["Groups"][0].clone();
    let before = group(&ask());
    assert_eq!((&before["GroupName"], &before["WorkerCount"]), (&json!("billing"), &json!(1)));
    assert_eq!((&before["LagRecords"], &before["Shards"][0]["LagRecords"]), (&json!(3), &json!(3)));
    let batch = worker.poll(Duration::from_secs(10)).unwrap().unwrap();
    worker.commit(&batch).unwrap();
    assert_eq!(group(&ask())["LagRecords"], 0);
}

const KEYS: &str = r#"{"keys": [
    {"access_key_id": "AK", "secret_access_key": "s", "user": "reader", "policies": [{"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": ["kinesis:Get*", "streamlog:DescribeActivity"], "Resource": "arn:aws:kinesis:us-east-1:000000000000:stream/clicks"},
        {"Effect": "Allow", "Action": "kinesis:ListStreams", "Resource": "*"}]}]}]}"#;

/// Signs a request with the key `AK` and the secret `s`, as the page does.
pub(super) fn sign(request: &mut Request) {
    sign_for(request, "kinesis");
}

/// Signs a request to a service with that key.
pub(super) fn sign_for(request: &mut Request, service: &str) {
    let hash = |text: &[u8]| hex(ring::digest::digest(&ring::digest::SHA256, text).as_ref());
    let mac = |key: &[u8], text: &str| {
        ring::hmac::sign(&ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key), text.as_bytes())
            .as_ref()
            .to_vec()
    };
    request.headers.insert("host", "here".parse().unwrap());
    let names = ["content-type", "host", "x-amz-date", "x-amz-target"];
    let lines = names.map(|name| format!("{name}:{}\n", request.headers[name].to_str().unwrap())).concat();
    let names = names.join(";");
    let canonical = format!("POST\n/\n\n{lines}\n{names}\n{}", hash(&request.body));
    let scope = format!("20231114/us-east-1/{service}/aws4_request");
    let text = format!("AWS4-HMAC-SHA256\n20231114T221320Z\n{scope}\n{}", hash(canonical.as_bytes()));
    let key = scope.split('/').fold(b"AWS4s".to_vec(), |key, part| mac(&key, part));
    let signature = hex(&mac(&key, &text));
    let authorization =
        format!("AWS4-HMAC-SHA256 Credential=AK/{scope}, SignedHeaders={names}, Signature={signature}");
    request.headers.insert("authorization", authorization.parse().unwrap());
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn policies_decide_on_activity_and_it_says_what_they_allow() {
    let mut world = World::new();
    world.create("clicks", 1);
    world.create("orders", 1);
    // Without keys, all is allowed.
    let all = activity(&world, json!({})).ok();
    assert_eq!((allowed(&all).len(), &all["MayCreateStreams"]), (57, &json!(true)));
    world.restart(|setup| setup.credentials = Some(KEYS.to_owned()));
    let ask = |body: Json| activity_of(&world, body, sign);
    let got = ask(json!({"StreamName": "clicks"})).ok();
    assert_eq!(allowed(&got), ["GetRecords", "GetShardIterator", "ListStreams", "GetResourcePolicy"]);
    for body in [json!({}), json!({"StreamName": "orders"})] {
        let got = ask(body);
        let (kind, text) = got.error();
        assert_eq!(kind, "AccessDeniedException");
        assert!(text.contains("streamlog:DescribeActivity"), "{text}");
    }
    let got = activity(&world, json!({"StreamName": "clicks"}));
    assert_eq!(got.error().0, "InvalidSignatureException", "a signature that is none");

    // A key that may create streams of some names.
    for (action, may_create) in [("kinesis:*", true), ("kinesis:Get*", false)] {
        let keys = KEYS.replace("\"kinesis:Get*\", \"streamlog:DescribeActivity\"", &format!("\"{action}\""));
        let keys = keys.replace("\"kinesis:ListStreams\"", "\"streamlog:*\"");
        world.restart(|setup| setup.credentials = Some(keys));
        let got = activity_of(&world, json!({}), sign).ok();
        assert_eq!((&got["MayCreateStreams"], allowed(&got)), (&json!(may_create), vec![]), "{action}");
    }
}

#[test]
fn the_operation_belongs_to_its_own_service() {
    let world = World::new();
    assert_eq!(world.call("DescribeActivity", json!({})).error().0, "UnknownOperationException");
    let mut request = world.signed("ListStreams", "{}");
    request.headers.insert("x-amz-target", "Streamlog_20261129.ListStreams".parse().unwrap());
    assert_eq!(world.send(&request).0, 400);
}
