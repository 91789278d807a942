//! Requests at the same time that create, change, use and delete the same streams.

use std::thread;

use super::*;

/// Numbers that look random, the same in each run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// Sends a request, and checks that the server did not fail.
fn send(world: &World, operation: &str, body: Json) -> Option<Json> {
    let (status, answer) = world.send(&world.signed(operation, body.to_string()));
    assert!(status == 200 || status == 400, "{operation} {body}: {status}");
    (status == 200 && !answer.is_empty()).then(|| serde_json::from_slice(&answer).unwrap())
}

fn run(world: &World, seed: u64) {
    let mut numbers = Numbers(seed);
    for _ in 0..200 {
        let name = ["a", "b"][numbers.below(2) as usize];
        let stream = json!({"StreamName": name});
        match numbers.below(10) {
            0 => drop(send(world, "CreateStream", json!({"StreamName": name, "ShardCount": 1}))),
            1 => drop(send(
                world,
                "DeleteStream",
                json!({"StreamName": name, "EnforceConsumerDeletion": true}),
            )),
            2 => world.clock.advance(Duration::from_millis(1)),
            3 => drop(send(world, "DescribeStreamSummary", stream)),
            4 => drop(send(world, "ListStreams", json!({}))),
            5 => drop(send(world, "AddTagsToStream", json!({"StreamName": name, "Tags": {"k": "v"}}))),
            6 => drop(send(
                world,
                "SplitShard",
                json!({"StreamName": name, "ShardToSplit": "0", "NewStartingHashKey": "2"}),
            )),
            7 => subscribe(world, name),
            8 => drop(send(world, "PutRecord", json!({"StreamName": name, "PartitionKey": "k", "Data": ""}))),
            _ => read(world, name),
        }
    }
}

fn read(world: &World, stream: &str) {
    let asked = json!({"StreamName": stream, "ShardId": "0", "ShardIteratorType": "TRIM_HORIZON"});
    if let Some(got) = send(world, "GetShardIterator", asked) {
        send(world, "GetRecords", json!({"ShardIterator": got["ShardIterator"]}));
    }
}

fn subscribe(world: &World, stream: &str) {
    let body = json!({"StreamARN": world.arn(stream), "ConsumerName": "fraud"});
    send(world, "RegisterStreamConsumer", body.clone());
    let Some(described) = send(world, "DescribeStreamConsumer", body) else { return };
    let consumer = &described["ConsumerDescription"]["ConsumerARN"];
    let start = json!({"ConsumerARN": consumer, "ShardId": "0", "StartingPosition": {"Type": "LATEST"}});
    match world.subscribe(start) {
        Ok(mut events) => assert_eq!(events.next().unwrap().0, "initial-response"),
        Err(got) => assert_eq!(got.status, 400, "{}", got.body),
    }
}

#[test]
fn streams_come_and_go_while_they_are_used() {
    for delay in [Duration::ZERO, Duration::from_millis(1)] {
        let world = World::with(Setup { delay, ..Setup::default() });
        thread::scope(|scope| {
            (0..4).for_each(|seed| {
                drop(scope.spawn({
                    let world = &world;
                    move || run(world, seed)
                }))
            });
        });
        world.clock.advance(Duration::from_secs(1));
        let names = world.ok("ListStreams", json!({}))["StreamNames"].clone();
        for name in names.as_array().unwrap() {
            world.ok("DescribeStream", json!({"StreamName": name}));
            world.ok("DeleteStream", json!({"StreamName": name, "EnforceConsumerDeletion": true}));
        }
        world.clock.advance(Duration::from_secs(1));
        assert_eq!(world.ok("ListStreams", json!({}))["StreamNames"], json!([]));
    }
}
