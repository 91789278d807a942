//! The records of queues: received, taken back, buried and restored.

use std::pin::Pin;

use super::queues::{create, with};
use super::*;

/// A world with the stream `clicks`, which is on demand.
pub(super) fn world() -> World {
    let world = World::new();
    world.create_on_demand("clicks");
    world
}

/// A call that waits for records.
pub(super) type Waiting = Pin<Box<dyn Future<Output = Answer> + Send>>;

pub(super) fn begin(world: &World, operation: &str, body: Json) -> Result<Got, Waiting> {
    match world.begin(&world.signed(operation, body.to_string())) {
        Answering::Now(answer) => Ok(got(answer)),
        Answering::Later(waiting) => Err(waiting),
    }
}

pub(super) fn got(answer: Answer) -> Got {
    let Body::Whole(body) = answer.body else { panic!("events") };
    assert!(answer.headers.contains_key("x-amzn-requestid"));
    Got { status: answer.status.as_u16(), body: serde_json::from_slice(&body).unwrap() }
}

/// Returns the records that can be received immediately.
fn receive_with(world: &World, operation: &str, queue: &str, more: Json) -> Vec<Json> {
    match begin(world, operation, with(json!({"QueueARN": queue}), more)) {
        Ok(got) => got.ok()["QueueRecords"].as_array().unwrap().clone(),
        Err(_) => vec![],
    }
}

pub(super) fn receive(world: &World, queue: &str) -> Vec<Json> {
    receive_with(world, "ReceiveQueueRecords", queue, json!({}))
}

pub(super) fn receive_dead(world: &World, queue: &str) -> Vec<Json> {
    receive_with(world, "ReceiveDeadLetterQueueRecords", queue, json!({}))
}

pub(super) fn receive_one(world: &World, queue: &str) -> Json {
    let mut records = receive(world, queue);
    assert_eq!(records.len(), 1, "{records:?}");
    records.remove(0)
}

/// Applies an operation to records by their handles, and returns the number of successes and the codes of failures.
pub(super) fn do_with(
    world: &World,
    operation: &str,
    queue: &str,
    handles: &[&Json],
) -> (usize, Vec<String>) {
    let entries: Vec<_> = handles.iter().map(|handle| json!({"ReceiptHandle": handle})).collect();
    outcome(&world.ok(operation, json!({"QueueARN": queue, "Entries": entries})))
}

fn outcome(answer: &Json) -> (usize, Vec<String>) {
    let failed = answer["Failed"].as_array().unwrap().iter();
    let codes = failed.map(|entry| {
        assert!(entry["ReceiptHandle"].is_string() && entry["ErrorMessage"].is_string(), "{entry}");
        entry["ErrorCode"].as_str().unwrap().to_owned()
    });
    (answer["Successful"].as_array().unwrap().len(), codes.collect())
}

pub(super) fn set_visibility(
    world: &World,
    operation: &str,
    queue: &str,
    handle: &Json,
    seconds: u32,
) -> (usize, Vec<String>) {
    let entry = json!({"ReceiptHandle": handle, "VisibilityTimeoutSeconds": seconds});
    outcome(&world.ok(operation, json!({"QueueARN": queue, "Entries": [entry]})))
}

pub(super) fn acknowledge(world: &World, queue: &str, record: &Json) -> (usize, Vec<String>) {
    do_with(world, "AcknowledgeQueueRecords", queue, &[&record["ReceiptHandle"]])
}

pub(super) fn done() -> (usize, Vec<String>) {
    (1, vec![])
}

pub(super) fn failed(code: &str) -> (usize, Vec<String>) {
    (0, vec![code.to_owned()])
}

pub(super) const STALE: &str = "ResourceNotFoundException";
const INVALID: &str = "InvalidArgumentException";

pub(super) fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

pub(super) fn data(records: &[Json]) -> Vec<String> {
    data_of(&json!({"Records": records}))
}

#[test]
fn a_record_has_what_kinesis_says_and_keeps_its_id() {
    let world = world();
    let jobs = create(&world, "jobs", json!({}));
    let put = world.put("clicks", "user-17", "hello");
    world.clock.advance(seconds(5));
    let first = receive_one(&world, &jobs);
    let handle = first["ReceiptHandle"].as_str().unwrap();
    let id = first["RecordId"].as_str().unwrap();
    assert!((1..=1_024).contains(&handle.len()), "{handle}");
    assert!((1..=64).contains(&id.len()), "{id}");
    assert!(id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()), "{id}");
    assert_eq!(first["RecordId"], put["SequenceNumber"]);
    let expected = json!({
        "ReceiptHandle": handle, "RecordId": id, "Data": base64("hello"), "ApproximateArrivalTimestamp": 1_700_000_000,
        "FirstReceiveTimestamp": 1_700_000_005, "ReceiveCount": 1, "PartitionKey": "user-17",
    });
    assert_eq!(first.as_object().unwrap().len(), expected.as_object().unwrap().len(), "{first}");
    for name in ["Data", "ReceiveCount", "PartitionKey"] {
        assert_eq!(first[name], expected[name]);
    }
    for name in ["ApproximateArrivalTimestamp", "FirstReceiveTimestamp"] {
        assert_eq!(first[name].as_f64(), expected[name].as_f64(), "{name}");
    }
    world.clock.advance(seconds(30));
    let second = receive_one(&world, &jobs);
    assert_eq!((&second["RecordId"], &second["ReceiveCount"]), (&first["RecordId"], &json!(2)));
    assert_eq!(second["FirstReceiveTimestamp"], first["FirstReceiveTimestamp"]);
    assert_ne!(second["ReceiptHandle"], first["ReceiptHandle"]);
    // It is the same in another queue.
    let other = create(&world, "others", json!({}));
    assert_eq!(receive_one(&world, &other)["RecordId"], first["RecordId"]);
}

#[test]
fn a_queue_begins_where_it_is_told() {
    let world = world();
    world.put("clicks", "a", "1");
    world.clock.advance(seconds(1));
    world.put("clicks", "a", "2");
    world.clock.advance(seconds(1));
    let from = |name: &str, start: Json| {
        let stream = json!({"StreamARN": world.arn("clicks"), "StartingPosition": start});
        let body = json!({"QueueName": name, "StreamConfigurationList": [stream]});
        let description = world.ok("CreateQueue", body)["QueueDescription"].clone();
        let given = &description["StreamConfigurationList"][0]["StartingPosition"];
        assert_eq!(
            (&given["Type"], given["Timestamp"].as_f64()),
            (&start["Type"], start["Timestamp"].as_f64())
        );
        description["QueueARN"].as_str().unwrap().to_owned()
    };
    let queues = [
        from("horizon", json!({"Type": "TRIM_HORIZON"})),
        from("time", json!({"Type": "AT_TIMESTAMP", "Timestamp": 1_700_000_000.5})),
        from("latest", json!({"Type": "LATEST"})),
    ];
    world.put("clicks", "a", "3");
    for (queue, expected) in queues.iter().zip([&["1", "2", "3"][..], &["2", "3"], &["3"]]) {
        let mut found = data(&receive(&world, queue));
        found.sort();
        assert_eq!(found, expected);
    }
}

#[test]
fn a_call_receives_up_to_its_limit_and_ten_by_default() {
    let world = world();
    let jobs = create(&world, "jobs", json!({}));
    for at in 0..15 {
        world.put("clicks", &at.to_string(), "x");
    }
    assert_eq!(receive_with(&world, "ReceiveQueueRecords", &jobs, json!({"Limit": 3})).len(), 3);
    assert_eq!(receive(&world, &jobs).len(), 10);
    assert_eq!(receive(&world, &jobs).len(), 2);
    for (member, wrong) in [
        ("Limit", 0),
        ("Limit", 11),
        ("WaitTimeSeconds", 0),
        ("WaitTimeSeconds", 21),
        ("VisibilityTimeoutSeconds", 43_201),
    ] {
        for operation in ["ReceiveQueueRecords", "ReceiveDeadLetterQueueRecords"] {
            world.refused(operation, json!({"QueueARN": jobs, member: wrong}), "ValidationException");
        }
    }
}

#[test]
fn l4_an_answer_has_less_than_ten_mebibytes_and_one_record_more() {
    let world = world();
    let size = json!({"StreamARN": world.arn("clicks"), "MaxRecordSizeInKiB": 10_240});
    world.ok("UpdateMaxRecordSize", size);
    let jobs = create(&world, "jobs", json!({}));
    for _ in 0..4 {
        world.put("clicks", "a", &"x".repeat(5 << 20));
    }
    assert_eq!(receive(&world, &jobs).len(), 2);
    assert_eq!(receive(&world, &jobs).len(), 2);
}

#[test]
fn a_record_is_hidden_until_its_timeout_ends() {
    let world = world();
    let jobs = create(&world, "jobs", json!({"VisibilityTimeoutSeconds": 10}));
    world.put("clicks", "a", "1");
    let first = receive_one(&world, &jobs);
    world.clock.advance(seconds(10) - Duration::from_millis(1));
    assert!(receive(&world, &jobs).is_empty());
    world.clock.advance(Duration::from_millis(1));
    // A timeout of its own.
    let own = json!({"VisibilityTimeoutSeconds": 3});
    assert_eq!(receive_with(&world, "ReceiveQueueRecords", &jobs, own).len(), 1);
    assert_eq!(acknowledge(&world, &jobs, &first), failed(STALE), "it was handed out again");
    world.clock.advance(seconds(3));
    let third = receive_one(&world, &jobs);
    assert_eq!(third["ReceiveCount"], 3);
    // A new timeout of the queue does not affect records in flight.
    world.ok("UpdateQueue", json!({"QueueARN": jobs, "QueueAttributes": {"VisibilityTimeoutSeconds": 100}}));
    world.clock.advance(seconds(9));
    assert!(receive(&world, &jobs).is_empty());
    world.clock.advance(seconds(1));
    receive_one(&world, &jobs);
    world.clock.advance(seconds(99));
    assert!(receive(&world, &jobs).is_empty());
    // A timeout of zero: it is visible immediately.
    world.clock.advance(seconds(1));
    let own = json!({"VisibilityTimeoutSeconds": 0});
    assert_eq!(receive_with(&world, "ReceiveQueueRecords", &jobs, own).len(), 1);
    receive_one(&world, &jobs);
}

#[test]
fn the_timeout_of_a_record_is_changed() {
    let world = world();
    let jobs = create(&world, "jobs", json!({}));
    world.put("clicks", "a", "1");
    let first = receive_one(&world, &jobs);
    let set = |seconds| {
        set_visibility(&world, "UpdateQueueRecordsVisibility", &jobs, &first["ReceiptHandle"], seconds)
    };
    world.clock.advance(seconds(20));
    assert_eq!(set(60), done());
    world.clock.advance(seconds(59));
    assert!(receive(&world, &jobs).is_empty());
    assert_eq!(set(0), done());
    assert_eq!(set(60), failed(STALE), "it is not in flight");
    receive_one(&world, &jobs);
    assert_eq!(set(60), failed(STALE));
    let wrong =
        json!({"QueueARN": jobs, "Entries": [{"ReceiptHandle": "x", "VisibilityTimeoutSeconds": 43_201}]});
    world.refused("UpdateQueueRecordsVisibility", wrong, "ValidationException");
}

#[test]
fn l1_what_was_acknowledged_never_comes_again() {
    let world = world();
    let jobs = create(&world, "jobs", json!({}));
    for at in 0..3 {
        world.put("clicks", "a", &at.to_string());
    }
    let records = receive(&world, &jobs);
    let handles: Vec<_> = records.iter().map(|record| &record["ReceiptHandle"]).collect();
    // Each entry has its own outcome, and the call succeeds.
    let foreign = json!("no handle");
    let entries = [handles[0], &foreign, handles[1], handles[0]];
    let (count, codes) = do_with(&world, "AcknowledgeQueueRecords", &jobs, &entries);
    assert_eq!((count, codes), (2, vec![INVALID.to_owned(), STALE.to_owned()]));
    world.clock.advance(seconds(30));
    let left = receive(&world, &jobs);
    assert_eq!(data(&left), data(&records[2..]));
    // The record stays in the stream.
    assert_eq!(receive(&world, &create(&world, "others", json!({}))).len(), 3);
    for count in [0, 11] {
        let entries = vec![json!({"ReceiptHandle": "x"}); count];
        for operation in
            ["AcknowledgeQueueRecords", "AcknowledgeDeadLetterQueueRecords", "RestoreDeadLetterQueueRecords"]
        {
            let body = json!({"QueueARN": jobs, "Entries": entries});
            world.refused(operation, body, "ValidationException");
        }
    }
}

#[test]
fn a_handle_is_good_after_its_timeout_until_the_record_comes_again() {
    let world = world();
    let jobs = create(&world, "jobs", json!({}));
    world.put("clicks", "a", "1");
    let first = receive_one(&world, &jobs);
    world.clock.advance(seconds(31));
    assert_eq!(acknowledge(&world, &jobs, &first), done());
    world.clock.advance(seconds(31));
    assert!(receive(&world, &jobs).is_empty());
}

#[test]
fn a_record_received_too_often_is_a_dead_letter() {
    let world = world();
    let dead = json!({"TargetType": "BUILT_IN", "MaxReceiveCount": 2});
    let jobs = create(&world, "jobs", json!({"DeadLetterConfiguration": dead}));
    world.put("clicks", "a", "1");
    receive_one(&world, &jobs);
    world.clock.advance(seconds(30));
    let last = receive_one(&world, &jobs);
    assert!(receive_dead(&world, &jobs).is_empty(), "it may still be acknowledged");
    world.clock.advance(seconds(30));
    assert!(receive(&world, &jobs).is_empty());
    assert_eq!(acknowledge(&world, &jobs, &last), failed(STALE));
    let letter = receive_dead(&world, &jobs).remove(0);
    assert_eq!(
        (data(std::slice::from_ref(&letter)), &letter["RecordId"]),
        (vec!["1".to_owned()], &last["RecordId"])
    );
    assert!(receive_dead(&world, &jobs).is_empty(), "it is in flight");
    // Each kind of operation takes its own handles only.
    let handle = &letter["ReceiptHandle"];
    assert_eq!(acknowledge(&world, &jobs, &letter), failed(INVALID));
    let set = |operation, seconds| set_visibility(&world, operation, &jobs, handle, seconds);
    assert_eq!(set("UpdateQueueRecordsVisibility", 5), failed(INVALID));
    let live = &last["ReceiptHandle"];
    for operation in ["AcknowledgeDeadLetterQueueRecords", "RestoreDeadLetterQueueRecords"] {
        assert_eq!(do_with(&world, operation, &jobs, &[live]), failed(INVALID));
    }
    assert_eq!(set("UpdateDeadLetterQueueRecordsVisibility", 100), done());
    world.clock.advance(seconds(99));
    assert!(receive_dead(&world, &jobs).is_empty());
    assert_eq!(set("UpdateDeadLetterQueueRecordsVisibility", 0), done());
    let letter = receive_dead(&world, &jobs).remove(0);
    // Once it is restored, its receives are counted from zero.
    let handles = [&letter["ReceiptHandle"]];
    assert_eq!(do_with(&world, "RestoreDeadLetterQueueRecords", &jobs, &handles), done());
    assert_eq!(do_with(&world, "RestoreDeadLetterQueueRecords", &jobs, &handles), failed(STALE));
    let again = receive_one(&world, &jobs);
    assert_eq!((&again["ReceiveCount"], &again["RecordId"]), (&json!(1), &last["RecordId"]));
    world.clock.advance(seconds(30));
    receive_one(&world, &jobs);
    world.clock.advance(seconds(30));
    let letter = receive_dead(&world, &jobs).remove(0);
    let handles = [&letter["ReceiptHandle"]];
    assert_eq!(do_with(&world, "AcknowledgeDeadLetterQueueRecords", &jobs, &handles), done());
    world.clock.advance(seconds(100));
    assert!(receive_dead(&world, &jobs).is_empty() && receive(&world, &jobs).is_empty());
}

#[test]
fn without_dead_letters_a_record_comes_until_it_is_acknowledged() {
    let world = world();
    let jobs = create(&world, "jobs", json!({"DeadLetterConfiguration": {"TargetType": "NONE"}}));
    world.put("clicks", "a", "1");
    for count in 1..=1_001 {
        let own = json!({"VisibilityTimeoutSeconds": 0});
        let records = receive_with(&world, "ReceiveQueueRecords", &jobs, own);
        assert_eq!(records[0]["ReceiveCount"], count);
    }
    assert!(receive_dead(&world, &jobs).is_empty());
}

#[test]
fn another_number_of_receives_counts_from_the_next_one_on() {
    let mut world = world();
    let jobs = create(&world, "jobs", json!({}));
    world.put("clicks", "a", "1");
    let dead = |count: u32| {
        let dead = json!({"DeadLetterConfiguration": {"TargetType": "BUILT_IN", "MaxReceiveCount": count}});
        json!({"QueueARN": jobs, "QueueAttributes": dead})
    };
    receive_one(&world, &jobs);
    world.ok("UpdateQueue", dead(3));
    for count in 2..=3 {
        world.clock.advance(seconds(30));
        assert_eq!(receive_one(&world, &jobs)["ReceiveCount"], count);
    }
    world.clock.advance(seconds(30));
    assert!(receive(&world, &jobs).is_empty());
    assert_eq!(receive_dead(&world, &jobs).len(), 1);
    // A visible record that was received that often becomes a dead letter immediately.
    world.put("clicks", "a", "visible");
    receive_with(&world, "ReceiveQueueRecords", &jobs, json!({"VisibilityTimeoutSeconds": 0}));
    world.ok("UpdateQueue", dead(1));
    assert_eq!(data(&receive_dead(&world, &jobs)), ["visible"]);
    // Also for a queue that is opened with it.
    world.put("clicks", "a", "2");
    world.restart(|_| {});
    receive_one(&world, &jobs);
    world.clock.advance(seconds(30));
    assert!(receive(&world, &jobs).is_empty());
    assert_eq!(receive_dead(&world, &jobs).len(), 3);
}

#[test]
fn l6_handles_cannot_be_forged() {
    let world = world();
    let (jobs, others) = (create(&world, "jobs", json!({})), create(&world, "others", json!({})));
    world.put("clicks", "a", "1");
    let record = receive_one(&world, &jobs);
    let handle = record["ReceiptHandle"].as_str().unwrap();
    let known = world.front().service.catalogue.stream("clicks").unwrap();
    // A handle of the log itself is not a handle of the service.
    let plain = known.stream.queue("plain").open().unwrap().receive(1, Duration::ZERO).unwrap().remove(0);
    let mut forged = vec![plain.handle.to_string(), world.iterator("clicks", 0, "LATEST"), "x".repeat(1_024)];
    for at in 0..handle.len() {
        let mut bytes = handle.as_bytes().to_vec();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        forged.push(String::from_utf8(bytes).unwrap());
    }
    for forged in forged {
        for operation in
            ["AcknowledgeQueueRecords", "AcknowledgeDeadLetterQueueRecords", "RestoreDeadLetterQueueRecords"]
        {
            assert_eq!(do_with(&world, operation, &jobs, &[&json!(forged)]), failed(INVALID), "{forged}");
        }
    }
    assert_eq!(acknowledge(&world, &others, &record), failed(INVALID), "it is one of another queue");
    assert_eq!(acknowledge(&world, &jobs, &record), done());
}

#[test]
fn a_deleted_queue_takes_nothing_back() {
    let world = world();
    let jobs = create(&world, "jobs", json!({}));
    world.put("clicks", "a", "1");
    let record = receive_one(&world, &jobs);
    world.ok("DeleteQueue", json!({"QueueARN": jobs}));
    let entries = json!([{"ReceiptHandle": record["ReceiptHandle"], "VisibilityTimeoutSeconds": 1}]);
    for operation in [
        "AcknowledgeQueueRecords",
        "UpdateQueueRecordsVisibility",
        "AcknowledgeDeadLetterQueueRecords",
        "RestoreDeadLetterQueueRecords",
        "UpdateDeadLetterQueueRecordsVisibility",
        "ReceiveQueueRecords",
        "ReceiveDeadLetterQueueRecords",
    ] {
        let body = json!({"QueueARN": jobs, "Entries": entries});
        world.refused(operation, body, "ResourceNotFoundException");
    }
    // Nor does a call that found it just before it was deleted bring it back.
    let (_, id) = world.front().service.account().queue_of(&jobs).unwrap();
    let known = world.front().service.catalogue.stream("clicks").unwrap();
    assert!(known.open_queue(id).unwrap_err().is_not_found());
    assert_eq!(known.stream.queues().unwrap(), [""; 0]);
    // A new one with this name starts over, and does not accept the old handles.
    let again = create(&world, "jobs", json!({}));
    assert_eq!(acknowledge(&world, &again, &record), failed(INVALID));
    assert_eq!(receive_one(&world, &again)["ReceiveCount"], 1);
}

#[test]
fn retention_drops_what_was_not_received() {
    let world = world();
    let jobs = create(&world, "jobs", json!({}));
    world.put("clicks", "a", "old");
    receive_one(&world, &jobs);
    world.put("clicks", "a", "older than it");
    world.clock.advance(2 * crate::DAY);
    world.put("clicks", "a", "new");
    world.front().service.catalogue.stream("clicks").unwrap().stream.maintain().unwrap();
    assert_eq!(data(&receive(&world, &jobs)), ["new"]);
}

#[test]
fn a_queue_reads_through_splits() {
    let world = world();
    let jobs = create(&world, "jobs", json!({}));
    world.put("clicks", "a", "parent");
    let known = world.front().service.catalogue.stream("clicks").unwrap();
    let owner =
        known.stream.shards().into_iter().find(|shard| shard.hash_key_range.start.get() == 0).unwrap();
    known.stream.split_shard_evenly(owner.id).unwrap();
    world.put("clicks", "a", "child");
    let mut found = data(&receive(&world, &jobs));
    found.extend(data(&receive(&world, &jobs)));
    assert_eq!(found, ["parent", "child"]);
}

#[test]
fn a_record_without_a_key_has_none_and_headers_come_along() {
    let world = world();
    world.ok(
        "UpdateStreamRecordDistributionStrategy",
        json!({"StreamARN": world.arn("clicks"), "RecordDistributionStrategy": "AUTO"}),
    );
    let jobs = create(&world, "jobs", json!({}));
    world.ok("PutRecord", json!({"StreamName": "clicks", "Data": base64("1")}));
    let record = receive_one(&world, &jobs);
    assert!(record.get("PartitionKey").is_none() && record.get("Headers").is_none(), "{record}");
    let known = world.front().service.catalogue.stream("clicks").unwrap();
    known.stream.put_record(&crate::PutRecord::new("a", "2").header("type", "click")).unwrap();
    assert_eq!(receive_one(&world, &jobs)["Headers"], json!([{"Name": "type", "Value": base64("click")}]));
}

#[test]
fn records_of_an_encrypted_stream_need_its_key() {
    let mut world = World::with(Setup { has_keys: true, ..Setup::default() });
    world.create_on_demand("clicks");
    world.ok("StartStreamEncryption", json!({"StreamName": "clicks", "EncryptionType": "KMS", "KeyId": "k"}));
    let jobs = create(&world, "jobs", json!({}));
    world.put("clicks", "a", "secret");
    assert_eq!(data(&[receive_one(&world, &jobs)]), ["secret"]);
    world.clock.advance(seconds(30));
    world.restart(|setup| setup.has_keys = false);
    let got = world.call("ReceiveQueueRecords", json!({"QueueARN": jobs}));
    assert_eq!(got.error().0, "KMSInvalidStateException");
}
