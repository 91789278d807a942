//! The history that comes with `DescribeActivity`.

use super::*;
use crate::{Clock, DAY, HOUR, SECOND};

fn ask(world: &World, with: Json) -> Json {
    let mut body = json!({"StreamName": "clicks", "IncludeHistory": true});
    body.as_object_mut().unwrap().extend(with.as_object().unwrap().clone());
    let mut request = world.signed("DescribeActivity", body.to_string());
    request.headers.insert("x-amz-target", "Streamlog_20261129.DescribeActivity".parse().unwrap());
    let (status, body) = world.send(&request);
    assert_eq!(status, 200, "{body:?}");
    serde_json::from_slice(&body).unwrap()
}

/// Lets time pass and samples all streams, as the server does periodically.
fn look_after(world: &World, passed: Duration) {
    world.clock.advance(passed);
    world.front().service.catalogue.record();
}

fn numbers(line: &Json, name: &str) -> Vec<Option<f64>> {
    line[name].as_array().unwrap_or_else(|| panic!("{name} in {line}")).iter().map(Json::as_f64).collect()
}

fn last(line: &Json, name: &str) -> Option<f64> {
    *numbers(line, name).last().unwrap()
}

#[test]
fn rates_are_kept_in_three_steps() {
    let world = World::new();
    world.create("clicks", 2);
    for number in 0..20 {
        world.put("clicks", &format!("k{number}"), "hello");
    }
    look_after(&world, 5 * SECOND);
    for _ in 0..2 {
        world.put("clicks", "key", "hello");
    }
    look_after(&world, 5 * SECOND);
    let got = ask(&world, json!({}));
    let lines = got["History"].as_array().unwrap();
    let steps: Vec<_> = lines.iter().map(|line| line["StepMillis"].as_u64().unwrap()).collect();
    assert_eq!(steps, [5_000, 30_000, 300_000]);
    assert_eq!(numbers(&lines[0], "IncomingRecords"), [Some(4.0), Some(0.4)]);
    assert_eq!(numbers(&lines[0], "OutgoingRecords"), [Some(0.0), Some(0.0)]);
    assert_eq!(lines[0]["EndMillis"], (START + 10 * SECOND).as_millis());
    let bytes = last(&lines[0], "IncomingBytes").unwrap();
    assert!(bytes >= 2.0 * 8.0 / 5.0, "{bytes}");
    assert!(numbers(&lines[2], "IncomingRecords").is_empty(), "five minutes have not passed");
    // Nobody reads, so no reader is behind.
    assert_eq!(numbers(&lines[0], "IteratorAgeMilliseconds"), [None, None]);
    assert!(ask(&world, json!({"IncludeHistory": false})).get("History").is_none());

    for _ in 0..60 {
        look_after(&world, 5 * SECOND);
    }
    let got = ask(&world, json!({}));
    let lines = &got["History"];
    // The clock began between two steps of five minutes, so the first one is shorter.
    let [first, ..] = numbers(&lines[2], "IncomingRecords")[..] else { panic!("nothing") };
    let began = START.as_millis() % 300_000;
    let seconds = (300_000 - began) as f64 / 1_000.0;
    assert!((first.unwrap() - 22.0 / seconds).abs() < 0.001, "{first:?} in {seconds} s");
    assert_eq!(last(&lines[0], "IncomingRecords"), Some(0.0));
    assert_eq!(numbers(&lines[0], "IncomingRecords")[..2], [Some(4.0), Some(0.4)]);
}

#[test]
fn it_goes_back_a_day_and_no_further() {
    let world = World::new();
    world.create("clicks", 1);
    let begun = world.clock.now();
    let put_and_look = || {
        world.put("clicks", "key", "hello");
        look_after(&world, 150 * SECOND);
    };
    put_and_look();
    let line = ask(&world, json!({}))["History"][0].clone();
    assert_eq!(numbers(&line, "IncomingRecords"), [Some(0.007); 30], "all the steps that were missed");
    assert_eq!(line["EndMillis"], (START + 150 * SECOND).as_millis());
    while world.clock.now() < begun + DAY + HOUR {
        put_and_look();
    }
    let got = ask(&world, json!({}));
    let lengths: Vec<_> = (0..3).map(|at| numbers(&got["History"][at], "IncomingRecords").len()).collect();
    assert_eq!(lengths, [120, 120, 288]);
    // After a late sample, all missed steps get the average.
    for line in got["History"].as_array().unwrap() {
        assert!(numbers(line, "IncomingRecords").iter().all(|rate| *rate == Some(0.007)), "{line}");
    }
}

#[test]
fn a_list_of_streams_has_their_last_two_minutes() {
    let world = World::new();
    world.create("clicks", 1);
    for _ in 0..30 {
        look_after(&world, 5 * SECOND);
    }
    world.put("clicks", "key", "hello");
    look_after(&world, 5 * SECOND);
    let mut request = world.signed("DescribeActivity", json!({"IncludeHistory": true}).to_string());
    request.headers.insert("x-amz-target", "Streamlog_20261129.DescribeActivity".parse().unwrap());
    let got: Json = serde_json::from_slice(&world.send(&request).1).unwrap();
    let lines = got["Streams"][0]["History"].as_array().unwrap();
    assert_eq!(lines.len(), 1);
    let bytes = numbers(&lines[0], "IncomingBytes");
    assert!(bytes.len() == 24 && bytes[23] > Some(0.0) && bytes[..23].iter().all(|it| *it == Some(0.0)));
    assert_eq!(last(&lines[0], "IncomingRecords"), Some(0.2));
    assert!(lines[0].get("WriteThrottledRecords").is_none());
}

#[test]
fn what_is_throttled_and_who_is_behind_is_kept() {
    let limits = Limits::none().write_records_per_second(1);
    let world = World::with(Setup { limits, ..Setup::default() });
    world.create("clicks", 1);
    let put = json!({"StreamName": "clicks", "PartitionKey": "key", "Data": base64("hello")});
    let refused = (0..5).filter(|_| world.call("PutRecord", put.clone()).status != 200).count();
    let stream = world.front().service.catalogue.stream("clicks").unwrap().stream.clone();
    let iterator = stream.iterator(stream.shards()[0].id, crate::Position::TrimHorizon).unwrap();
    look_after(&world, 5 * SECOND);
    let line = ask(&world, json!({}))["History"][0].clone();
    assert_eq!(last(&line, "WriteThrottledRecords"), Some(refused as f64 / 5.0));
    assert_eq!(last(&line, "IteratorAgeMilliseconds"), Some(5_000.0));
    drop(iterator);
}

#[test]
fn a_clock_that_is_set_back_begins_anew_and_a_restart_forgets() {
    let mut world = World::new();
    world.create("clicks", 1);
    look_after(&world, 5 * SECOND);
    look_after(&world, 5 * SECOND);
    world.put("clicks", "key", "hello");
    world.clock.set(START - HOUR);
    world.front().service.catalogue.record();
    let lines = ask(&world, json!({}))["History"].clone();
    assert!((0..3).all(|at| numbers(&lines[at], "IncomingRecords").is_empty()), "{lines}");
    look_after(&world, 5 * SECOND);
    let line = ask(&world, json!({}))["History"][0].clone();
    assert_eq!(numbers(&line, "IncomingRecords"), [Some(0.0)], "only what came after");
    assert_eq!(line["EndMillis"], (START - HOUR + 5 * SECOND).as_millis());

    world.restart(|_| {});
    let lines = ask(&world, json!({}))["History"].clone();
    assert!((0..3).all(|at| numbers(&lines[at], "IncomingRecords").is_empty()), "{lines}");
}

#[test]
fn readers_have_a_history_until_they_are_gone_for_a_day() {
    let world = World::new();
    world.create("clicks", 1);
    let registered = world
        .ok("RegisterStreamConsumer", json!({"StreamARN": world.arn("clicks"), "ConsumerName": "board"}));
    let subscribe = json!({
        "ConsumerARN": registered["Consumer"]["ConsumerARN"], "ShardId": "shardId-000000000000",
        "StartingPosition": {"Type": "LATEST"},
    });
    let mut events = world.subscribe(subscribe).unwrap();
    assert_eq!(events.next().unwrap().0, "initial-response");
    let stream = world.front().service.catalogue.stream("clicks").unwrap().stream.clone();
    let mut worker = stream.group("billing").worker().open().unwrap();
    for number in 0..3 {
        world.put("clicks", "key", &number.to_string());
    }
    look_after(&world, 30 * SECOND);
    look_after(&world, 30 * SECOND);
    let ask = || ask(&world, json!({"IncludeConsumers": true}))["ReaderHistory"].clone();
    let readers = ask();
    assert_eq!(readers.as_array().unwrap().len(), 2, "{readers}");
    let (board, billing) = (&readers[0], &readers[1]);
    assert_eq!((&board["ConsumerName"], &billing["GroupName"]), (&json!("board"), &json!("billing")));
    let steps: Vec<_> = (0..2).map(|at| billing["Lines"][at]["StepMillis"].as_u64().unwrap()).collect();
    assert_eq!(steps, [30_000, 300_000]);
    assert_eq!(last(&billing["Lines"][0], "LagRecords"), Some(3.0));
    assert_eq!(last(&billing["Lines"][0], "LagMillis"), Some(60_000.0));
    assert_eq!(last(&board["Lines"][0], "MillisBehindLatest"), Some(0.0));
    assert!(board["Lines"][0].get("LagRecords").is_none());

    let batch = worker.poll(Duration::from_secs(10)).unwrap().unwrap();
    worker.commit(&batch).unwrap();
    look_after(&world, 30 * SECOND);
    assert_eq!(last(&ask()[1]["Lines"][0], "LagRecords"), Some(0.0), "it has caught up");

    worker.close();
    stream.group("billing").delete().unwrap();
    look_after(&world, 30 * SECOND);
    let readers = ask();
    let billing = &readers[1]["Lines"][0];
    assert_eq!(last(billing, "LagRecords"), None, "the group is gone, and its past is not");
    assert!(numbers(billing, "LagRecords").contains(&Some(3.0)));
    for _ in 0..26 {
        look_after(&world, HOUR);
    }
    let readers = ask();
    assert_eq!(readers.as_array().unwrap().len(), 1, "{readers}");
}

#[test]
fn shards_have_a_byte_for_each_step() {
    use base64::Engine;
    let world = World::new();
    world.create("clicks", 2);
    let all_levels = || {
        let got = ask(&world, json!({"IncludeShardHistory": true}))["ShardHistory"].clone();
        let steps: Vec<_> = (0..2).map(|at| got[at]["StepMillis"].as_u64().unwrap()).collect();
        assert_eq!(steps, [30_000, 300_000]);
        move |at: usize, shard: u32| {
            let text = got[at]["Levels"][format!("shardId-{shard:012}")].as_str()?;
            base64::engine::general_purpose::STANDARD.decode(text).ok()
        }
    };
    let put = |shard: u32, bytes: usize| {
        let hash_key = [0, u128::MAX][shard as usize].to_string();
        let data = base64(&"x".repeat(bytes));
        let names =
            json!({"StreamName": "clicks", "PartitionKey": "key", "ExplicitHashKey": hash_key, "Data": data});
        world.ok("PutRecord", names);
    };
    put(0, 300_000);
    look_after(&world, 30 * SECOND);
    put(1, 3_000);
    look_after(&world, 30 * SECOND);
    let levels = all_levels();
    // 10,000 and 100 bytes a second, with what the log adds.
    let rate = |level: u8| 2_f64.powf(f64::from(level - 1) / 6.0);
    let (first, second) = (levels(0, 0).unwrap(), levels(0, 1).unwrap());
    assert_eq!((first.len(), first[1], second[0]), (2, 0, 0));
    assert!((rate(first[0]) / 10_000.0 - 1.0).abs() < 0.13, "{first:?}");
    assert!((rate(second[1]) / 101.0 - 1.0).abs() < 0.13, "{second:?}");

    // Children begin when they are first seen, with their totals by then. Closed shards continue with nothing.
    world.ok(
        "SplitShard",
        json!({"StreamName": "clicks", "ShardToSplit": "shardId-000000000000", "NewStartingHashKey": "1000"}),
    );
    put(0, 30);
    look_after(&world, 30 * SECOND);
    look_after(&world, 30 * SECOND);
    let levels = all_levels();
    assert_eq!(levels(0, 0).unwrap()[2..], [0, 0]);
    let child = levels(0, 2).unwrap();
    assert!(child.len() == 1 && (rate(child[0]) * 30.0) > 30.0, "{child:?}");
    assert!(levels(0, 9).is_none());
    assert!(ask(&world, json!({})).get("ShardHistory").is_none());
}
