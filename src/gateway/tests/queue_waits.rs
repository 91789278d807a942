//! Calls that wait for the records of a queue, and queues after a restart.

use std::task::{Context, Poll, Waker};

use super::queue_records::{
    STALE, Waiting, acknowledge, begin, data, do_with, done, failed, got, receive, receive_dead, receive_one,
    seconds, set_visibility, world,
};
use super::queues::{create, with};
use super::*;

/// Begins to wait for records when there are none yet.
fn wait(world: &World, queue: &str, more: Json) -> Waiting {
    let body = with(json!({"QueueARN": queue}), more);
    begin(world, "ReceiveQueueRecords", body).expect_err("there is nothing to receive")
}

/// Looks whether a call has ended.
fn look(world: &World, waiting: &mut Waiting) -> Option<Got> {
    let _entered = world.runtime.enter();
    match waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => Some(got(answer)),
        Poll::Pending => None,
    }
}

#[test]
fn l7_a_call_waits_for_records_until_its_time_is_over() {
    let world = world();
    let jobs = create(&world, "jobs", json!({}));
    for (more, last) in
        [(json!({}), 9), (json!({"WaitTimeSeconds": 20}), 20), (json!({"WaitTimeSeconds": 1}), 1)]
    {
        let mut waiting = wait(&world, &jobs, more);
        world.clock.advance(seconds(last) - Duration::from_millis(1));
        assert_eq!(look(&world, &mut waiting), None);
        world.clock.advance(Duration::from_millis(1));
        assert_eq!(look(&world, &mut waiting).unwrap().ok(), json!({"QueueRecords": []}));
    }
    // A record that is put in time is received, and by nobody else.
    let mut waiting = wait(&world, &jobs, json!({}));
    world.put("clicks", "a", "1");
    let answer = world.runtime.block_on(&mut waiting);
    assert_eq!(got(answer).ok()["QueueRecords"].as_array().unwrap().len(), 1);
    assert!(receive(&world, &jobs).is_empty());
}

#[test]
fn a_call_that_waits_gets_what_comes_back() {
    let world = world();
    let dead = json!({"TargetType": "BUILT_IN", "MaxReceiveCount": 3});
    let jobs = create(&world, "jobs", json!({"DeadLetterConfiguration": dead}));
    world.put("clicks", "a", "1");
    let first = receive_one(&world, &jobs);
    let records = |answer: Answer| got(answer).ok()["QueueRecords"].as_array().unwrap().clone();
    // By a call.
    let waiting = wait(&world, &jobs, json!({"VisibilityTimeoutSeconds": 5}));
    set_visibility(&world, "UpdateQueueRecordsVisibility", &jobs, &first["ReceiptHandle"], 0);
    assert_eq!(records(world.runtime.block_on(waiting))[0]["ReceiveCount"], 2);
    // By time.
    let mut waiting = wait(&world, &jobs, json!({"VisibilityTimeoutSeconds": 1}));
    world.clock.advance(seconds(5));
    let again = look(&world, &mut waiting).expect("it is visible again").ok();
    assert_eq!(again["QueueRecords"][0]["ReceiveCount"], 3);
    // A dead letter.
    let body = json!({"QueueARN": jobs});
    let waiting = begin(&world, "ReceiveDeadLetterQueueRecords", body).expect_err("there is none yet");
    world.clock.advance(seconds(1));
    assert!(receive(&world, &jobs).is_empty());
    assert_eq!(records(world.runtime.block_on(waiting)).len(), 1);
}

#[test]
fn l5_a_client_that_leaves_takes_nothing_along() {
    let world = world();
    let jobs = create(&world, "jobs", json!({}));
    drop(wait(&world, &jobs, json!({})));
    world.put("clicks", "a", "1");
    // A waiting call would take it now.
    world.runtime.block_on(async {
        for _ in 0..10_000 {
            tokio::task::yield_now().await;
        }
    });
    assert_eq!(receive_one(&world, &jobs)["ReceiveCount"], 1);
}

#[test]
fn a_call_ends_with_its_queue_and_with_the_gateway() {
    let world = world();
    let jobs = create(&world, "jobs", json!({}));
    let waiting = wait(&world, &jobs, json!({}));
    world.ok("DeleteQueue", json!({"QueueARN": jobs}));
    let ended = got(world.runtime.block_on(waiting));
    assert_eq!(ended.error().0, "ResourceNotFoundException");
    let jobs = create(&world, "jobs", json!({}));
    let waiting = wait(&world, &jobs, json!({}));
    world.front().service.ending.send_replace(true);
    assert_eq!(got(world.runtime.block_on(waiting)).ok(), json!({"QueueRecords": []}));
}

#[test]
fn l1_a_queue_goes_on_after_a_restart() {
    let mut world = world();
    let dead = json!({"TargetType": "BUILT_IN", "MaxReceiveCount": 1});
    let jobs =
        create(&world, "jobs", json!({"DeadLetterConfiguration": dead, "VisibilityTimeoutSeconds": 20}));
    let latest =
        json!({"QueueName": "latest", "StreamConfigurationList": [{"StreamARN": world.arn("clicks")}]});
    let latest = world.ok("CreateQueue", latest)["QueueDescription"].clone();
    // Nobody has used it yet, and it begins where it was created.
    world.put("clicks", "a", "dead");
    world.restart(|_| {});
    let queue = json!({"QueueARN": latest["QueueARN"]});
    assert_eq!(world.ok("DescribeQueue", queue)["QueueDescription"], latest);
    assert_eq!(data(&receive(&world, latest["QueueARN"].as_str().unwrap())), ["dead"]);
    receive_one(&world, &jobs);
    world.clock.advance(seconds(20));
    world.put("clicks", "a", "acknowledged");
    world.put("clicks", "a", "in flight");
    let records = receive(&world, &jobs);
    assert_eq!(data(&records), ["acknowledged", "in flight"]);
    assert_eq!(acknowledge(&world, &jobs, &records[0]), done());
    let letter = receive_dead(&world, &jobs).remove(0);
    world.clock.advance(seconds(5));
    world.restart(|_| {});
    // Handles from before the restart are valid, and records in flight stay in flight.
    assert!(receive(&world, &jobs).is_empty() && receive_dead(&world, &jobs).is_empty());
    let handles = [&letter["ReceiptHandle"]];
    assert_eq!(do_with(&world, "RestoreDeadLetterQueueRecords", &jobs, &handles), done());
    assert_eq!(data(&receive(&world, &jobs)), ["dead"]);
    assert_eq!(acknowledge(&world, &jobs, &records[0]), failed(STALE));
    world.clock.advance(seconds(15));
    assert!(receive(&world, &jobs).is_empty());
    assert_eq!(data(&receive_dead(&world, &jobs)), ["in flight"]);
    assert_eq!(acknowledge(&world, &jobs, &records[1]), failed(STALE));
}
