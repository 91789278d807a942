//! Queues: how they are created, described, changed and deleted, and what survives a restart.

use super::activity::sign;
use super::*;
use crate::Clock;

/// Returns a request for a queue of the stream `clicks`.
fn asked(world: &World, queue: &str) -> Json {
    json!({"QueueName": queue, "StreamConfigurationList": [{"StreamARN": world.arn("clicks")}]})
}

/// Adds members to a request.
pub(super) fn with(mut body: Json, more: Json) -> Json {
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

/// Creates a queue of the stream `clicks`, from its oldest record on, and returns its ARN.
pub(super) fn create(world: &World, queue: &str, attributes: Json) -> String {
    let start = json!({"StreamARN": world.arn("clicks"), "StartingPosition": {"Type": "TRIM_HORIZON"}});
    let body = json!({"QueueName": queue, "StreamConfigurationList": [start], "QueueAttributes": attributes});
    arn_of(&world.ok("CreateQueue", body))
}

fn arn_of(answer: &Json) -> String {
    answer["QueueDescription"]["QueueARN"].as_str().unwrap().to_owned()
}

fn described(world: &World, arn: &str) -> Json {
    world.ok("DescribeQueue", json!({"QueueARN": arn}))["QueueDescription"].clone()
}

fn status(world: &World, arn: &str) -> String {
    described(world, arn)["QueueStatus"].as_str().unwrap().to_owned()
}

fn queue_count(world: &World) -> u64 {
    let summary = world.ok("DescribeStreamSummary", json!({"StreamName": "clicks"}));
    summary["StreamDescriptionSummary"]["QueueCount"].as_u64().unwrap()
}

const DELAY: Duration = Duration::from_millis(500);

/// A world with the delay, and the stream `clicks`, which is active.
fn delayed(limits: Limits) -> World {
    let world = World::with(Setup { delay: DELAY, limits, ..Setup::default() });
    world.create_on_demand("clicks");
    world.clock.advance(DELAY);
    world
}

#[test]
fn a_queue_goes_through_its_states() {
    let world = delayed(Limits::none());
    let first = world.ok("CreateQueue", asked(&world, "jobs"));
    let arn = arn_of(&first);
    let queue = json!({"QueueARN": arn});
    let now = world.clock.now().as_millis() as f64 / 1_000.0;
    let expected = json!({"QueueDescription": {
        "QueueName": "jobs", "QueueARN": arn, "QueueStatus": "CREATING", "QueueCreationTimestamp": now,
        "StreamConfigurationList": [{"StreamARN": world.arn("clicks"), "StartingPosition": {"Type": "LATEST"}}],
        "QueueAttributes": {
            "VisibilityTimeoutSeconds": 30,
            "DeadLetterConfiguration": {"TargetType": "BUILT_IN", "MaxReceiveCount": 6},
        },
    }});
    assert_eq!(first, expected);
    // While it is being created, it delivers no records, and cannot be changed.
    let update = with(queue.clone(), json!({"QueueAttributes": {"VisibilityTimeoutSeconds": 5}}));
    world.refused("ReceiveQueueRecords", queue.clone(), "ResourceNotFoundException");
    let text = world.refused("UpdateQueue", update.clone(), "ResourceInUseException");
    assert_eq!(text, "Queue jobs under account 000000000000 not ACTIVE, instead in state CREATING");
    world.clock.advance(DELAY);
    assert_eq!(status(&world, &arn), "ACTIVE");
    let updated = world.ok("UpdateQueue", update.clone())["QueueDescription"].clone();
    assert_eq!(updated["QueueStatus"], "UPDATING");
    assert_eq!(updated["QueueAttributes"]["VisibilityTimeoutSeconds"], 5);
    assert_eq!(updated["QueueAttributes"]["DeadLetterConfiguration"]["MaxReceiveCount"], 6);
    world.refused("UpdateQueue", update.clone(), "ResourceInUseException");
    world.put("clicks", "a", "1");
    assert_eq!(world.ok("ReceiveQueueRecords", queue.clone())["QueueRecords"].as_array().unwrap().len(), 1);
    world.clock.advance(DELAY);
    assert_eq!((status(&world, &arn).as_str(), queue_count(&world)), ("ACTIVE", 1));
    assert_eq!(world.call("DeleteQueue", queue.clone()), Got { status: 200, body: Json::Null });
    assert_eq!(world.call("DeleteQueue", queue.clone()).status, 200, "again");
    assert_eq!((status(&world, &arn).as_str(), queue_count(&world)), ("DELETING", 1));
    world.refused("ReceiveQueueRecords", queue.clone(), "ResourceNotFoundException");
    world.refused("UpdateQueue", update, "ResourceInUseException");
    world.refused("CreateQueue", asked(&world, "jobs"), "ResourceInUseException");
    world.clock.advance(DELAY);
    for operation in ["DescribeQueue", "DeleteQueue"] {
        let text = world.refused(operation, queue.clone(), "ResourceNotFoundException");
        assert_eq!(text, format!("Queue {arn} under account {ACCOUNT} not found."));
    }
    assert_eq!(queue_count(&world), 0);
    // A new one with the same name is another queue.
    assert_ne!(arn_of(&world.ok("CreateQueue", asked(&world, "jobs"))), arn);
}

#[test]
fn a_queue_may_be_deleted_while_it_is_created_or_changed() {
    let world = delayed(Limits::none());
    let arn = arn_of(&world.ok("CreateQueue", asked(&world, "jobs")));
    world.ok("DeleteQueue", json!({"QueueARN": arn}));
    world.clock.advance(DELAY);
    world.refused("DescribeQueue", json!({"QueueARN": arn}), "ResourceNotFoundException");
}

#[test]
fn only_streams_on_demand_have_queues_and_they_stay_as_long_as_their_queues() {
    let world = World::new();
    world.create("views", 1);
    let body = json!({"QueueName": "jobs", "StreamConfigurationList": [{"StreamARN": world.arn("views")}]});
    let text = world.refused("CreateQueue", body, "ValidationException");
    assert_eq!(text, "Request is invalid. Stream views under account 000000000000 is in Provisioned mode.");
    world.refused("CreateQueue", asked(&world, "jobs"), "ResourceNotFoundException");
    world.create_on_demand("clicks");
    let arn = create(&world, "jobs", json!({}));
    let mode =
        |mode: &str| json!({"StreamARN": world.arn("clicks"), "StreamModeDetails": {"StreamMode": mode}});
    let delete = json!({"StreamName": "clicks", "EnforceConsumerDeletion": true});
    world.refused("DeleteStream", delete.clone(), "ResourceInUseException");
    world.refused("UpdateStreamMode", mode("PROVISIONED"), "ResourceInUseException");
    world.ok("UpdateStreamMode", mode("ON_DEMAND"));
    world.ok("DeleteQueue", json!({"QueueARN": arn}));
    world.ok("UpdateStreamMode", mode("PROVISIONED"));
    world.ok("DeleteStream", delete);
}

#[test]
fn only_an_active_stream_gets_a_queue() {
    let world = World::with(Setup { delay: DELAY, ..Setup::default() });
    world.create_on_demand("clicks");
    let text = world.refused("CreateQueue", asked(&world, "jobs"), "ResourceInUseException");
    assert_eq!(text, "Stream clicks under account 000000000000 not ACTIVE, instead in state CREATING");
}

#[test]
fn names_are_those_of_the_account() {
    let world = World::new();
    for stream in ["clicks", "views"] {
        world.create_on_demand(stream);
    }
    world.ok("CreateQueue", asked(&world, "jobs"));
    let body = json!({"QueueName": "jobs", "StreamConfigurationList": [{"StreamARN": world.arn("views")}]});
    let text = world.refused("CreateQueue", body, "ResourceInUseException");
    assert_eq!(text, "Queue jobs under account 000000000000 already exists.");
    // The longest name.
    let longest = "q".repeat(128);
    assert_eq!(described(&world, &create(&world, &longest, json!({})))["QueueName"], longest);
}

#[test]
fn attributes_that_cannot_be_are_refused() {
    let world = World::new();
    world.create_on_demand("clicks");
    let dead = |dead: Json| json!({"QueueAttributes": {"DeadLetterConfiguration": dead}});
    let start = |start: Json| json!({"StreamConfigurationList": [{"StreamARN": world.arn("clicks"), "StartingPosition": start}]});
    let stream = json!({"StreamARN": world.arn("clicks")});
    for (more, kind, expected) in [
        (
            dead(json!({"TargetType": "BUILT_IN"})),
            "InvalidArgumentException",
            "MaxReceiveCount must be provided",
        ),
        (
            dead(json!({"TargetType": "NONE", "MaxReceiveCount": 2})),
            "InvalidArgumentException",
            "must not be provided",
        ),
        (
            dead(json!({"TargetType": "BUILT_IN", "MaxReceiveCount": 0})),
            "ValidationException",
            "greater than or equal to 1",
        ),
        (
            dead(json!({"TargetType": "BUILT_IN", "MaxReceiveCount": 1_001})),
            "ValidationException",
            "less than or equal to 1000",
        ),
        (
            json!({"QueueAttributes": {"VisibilityTimeoutSeconds": 43_201}}),
            "ValidationException",
            "less than or equal to 43200",
        ),
        (json!({"QueueName": "no/name"}), "ValidationException", "regular expression pattern"),
        (
            json!({"StreamConfigurationList": [stream, stream]}),
            "InvalidArgumentException",
            "exactly one entry, and has 2",
        ),
        (start(json!({"Type": "AT_TIMESTAMP"})), "InvalidArgumentException", "Timestamp must be provided"),
        (
            start(json!({"Type": "AT_TIMESTAMP", "Timestamp": 1_700_000_001})),
            "InvalidArgumentException",
            "in the future",
        ),
        (start(json!({"Type": "AT_SEQUENCE_NUMBER"})), "ValidationException", "enum value set"),
        (json!({"Tags": {"a": "50%"}}), "InvalidArgumentException", "illegal characters"),
    ] {
        let text = world.refused("CreateQueue", with(asked(&world, "jobs"), more), kind);
        assert!(text.contains(expected), "{expected}: {text}");
    }
    // Nothing is left of them.
    let known = world.front().service.catalogue.stream("clicks").unwrap();
    assert_eq!((queue_count(&world), known.stream.queues().unwrap()), (0, vec![]));
    let arn = create(&world, "jobs", json!({"VisibilityTimeoutSeconds": 0}));
    let update = |attributes: Json| json!({"QueueARN": arn, "QueueAttributes": attributes});
    let refused = update(json!({"DeadLetterConfiguration": {"TargetType": "BUILT_IN"}}));
    world.refused("UpdateQueue", refused, "InvalidArgumentException");
    // Attributes that are not given stay.
    world.ok("UpdateQueue", update(json!({"DeadLetterConfiguration": {"TargetType": "NONE"}})));
    world.ok("UpdateQueue", update(json!({})));
    assert_eq!(
        described(&world, &arn)["QueueAttributes"],
        json!({"VisibilityTimeoutSeconds": 0, "DeadLetterConfiguration": {"TargetType": "NONE"}})
    );
    world.ok("UpdateQueue", update(json!({"VisibilityTimeoutSeconds": 43_200})));
    assert_eq!(
        described(&world, &arn)["QueueAttributes"],
        json!({"VisibilityTimeoutSeconds": 43_200, "DeadLetterConfiguration": {"TargetType": "NONE"}})
    );
}

#[test]
fn queues_are_listed_in_pages_and_by_stream() {
    let delay = Duration::ZERO;
    let world = World::with(Setup { delay, ..Setup::default() });
    for stream in ["clicks", "views"] {
        world.create_on_demand(stream);
    }
    for name in ["c", "a", "d"] {
        create(&world, name, json!({}));
    }
    let body = json!({"QueueName": "b", "StreamConfigurationList": [{"StreamARN": world.arn("views")}]});
    let other = world.ok("CreateQueue", body);
    let names = |listed: &Json| -> Vec<String> {
        let queues = listed["QueueSummaries"].as_array().unwrap();
        queues.iter().map(|queue| queue["QueueName"].as_str().unwrap().to_owned()).collect()
    };
    let all = world.ok("ListQueues", json!({}));
    assert_eq!(
        (names(&all), all.get("NextToken")),
        (vec!["a".into(), "b".into(), "c".into(), "d".into()], None)
    );
    let expected = json!({
        "QueueName": "b", "QueueARN": arn_of(&other), "QueueStatus": "ACTIVE", "QueueCreationTimestamp": 1_700_000_000,
        "Streams": [{"StreamARN": world.arn("views"), "StreamCreationTimestamp": 1_700_000_000}],
    });
    assert_eq!(all["QueueSummaries"][1], expected);
    let first = world.ok("ListQueues", json!({"MaxResults": 3}));
    assert_eq!(names(&first).len(), 3);
    let token = first["NextToken"].as_str().unwrap();
    let second = world.ok("ListQueues", json!({"NextToken": token}));
    assert_eq!((names(&second), second.get("NextToken")), (vec!["d".to_owned()], None));
    let of = |filters: Json| names(&world.ok("ListQueues", json!({"StreamFilter": filters})));
    assert_eq!(of(json!([{"StreamARN": world.arn("views")}])), ["b"]);
    assert_eq!(of(json!([{"StreamARN": world.arn("views")}, {"StreamARN": world.arn("clicks")}])).len(), 4);
    assert_eq!(of(json!([{"StreamARN": world.arn("none")}])), [""; 0]);
    let created =
        |seconds: u64| json!([{"StreamARN": world.arn("views"), "StreamCreationTimestamp": seconds}]);
    assert_eq!((of(created(1_700_000_000)).len(), of(created(1_600_000_000)).len()), (1, 0));
    let iterator = world.iterator("clicks", 0, "LATEST");
    for forged in [&iterator, "x"] {
        world.refused("ListQueues", json!({"NextToken": forged}), "InvalidArgumentException");
    }
    world.clock.advance(5 * MINUTE + Duration::from_millis(1));
    world.refused("ListQueues", json!({"NextToken": token}), "ExpiredNextTokenException");
}

#[test]
fn queues_count_as_consumers() {
    let world = delayed(Limits::kinesis());
    let register = |name: &str| {
        let body = json!({"StreamARN": world.arn("clicks"), "ConsumerName": name});
        world.call("RegisterStreamConsumer", body)
    };
    let create = |name: &str| world.call("CreateQueue", asked(&world, name));
    for at in 0..20 {
        if at > 0 && at % 5 == 0 {
            // Five are being created.
            assert_eq!(create("one-more").error().0, "LimitExceededException");
            assert_eq!(register("one-more").error().0, "LimitExceededException");
            world.clock.advance(DELAY);
        }
        let made =
            if at % 2 == 0 { create(&format!("queue-{at}")) } else { register(&format!("consumer-{at}")) };
        made.ok();
    }
    world.clock.advance(DELAY);
    for made in [create("one-more"), register("one-more")] {
        assert_eq!(
            made.error(),
            (
                "LimitExceededException",
                "Stream clicks under account 000000000000 may have 20 registered consumers and queues."
            )
        );
    }
}

#[test]
fn a_queue_has_tags_and_a_policy_of_its_own() {
    let mut world = World::new();
    world.create_on_demand("clicks");
    let body = with(asked(&world, "jobs"), json!({"Tags": {"team": "web"}}));
    let arn = arn_of(&world.ok("CreateQueue", body));
    let queue = json!({"ResourceARN": arn});
    world.ok("TagResource", with(queue.clone(), json!({"Tags": {"stage": "test"}})));
    world.ok("UntagResource", with(queue.clone(), json!({"TagKeys": ["team"]})));
    let statement = json!({"Effect": "Allow", "Principal": "*", "Action": "kinesis:*", "Resource": arn});
    let policy = json!({"Version": "2012-10-17", "Statement": statement}).to_string();
    world.ok("PutResourcePolicy", with(queue.clone(), json!({"Policy": policy})));
    world.restart(|_| {});
    let tags = world.ok("ListTagsForResource", queue.clone());
    assert_eq!(tags, json!({"Tags": [{"Key": "stage", "Value": "test"}]}));
    assert_eq!(world.ok("GetResourcePolicy", queue.clone()), json!({"Policy": policy}));
    world.ok("DeleteResourcePolicy", queue.clone());
    assert_eq!(world.ok("GetResourcePolicy", queue.clone()), json!({"Policy": "{}"}));
    world.ok("DeleteQueue", json!({"QueueARN": arn}));
    world.refused("ListTagsForResource", queue, "ResourceNotFoundException");
}

#[test]
fn policies_decide_who_creates_a_queue_and_who_receives() {
    let mut world = World::new();
    world.create_on_demand("clicks");
    let statement =
        |action: &str, resource: &str| json!({"Effect": "Allow", "Action": action, "Resource": resource});
    let keys = |statements: Json| {
        let policy = json!({"Version": "2012-10-17", "Statement": statements});
        json!({"keys": [{"access_key_id": "AK", "secret_access_key": "s", "user": "bob", "policies": [policy]}]}).to_string()
    };
    let call = |world: &World, operation: &str, body: Json| {
        let mut request = world.signed(operation, body.to_string());
        sign(&mut request);
        let (status, body) = world.send(&request);
        (status, serde_json::from_slice::<Json>(&body).unwrap_or_default())
    };
    let denied = |(status, body): (u16, Json)| status == 400 && body["__type"] == "AccessDeniedException";
    // A queue is a way to read its stream, so the stream decides who may create one.
    let allow = |resource: &str| keys(json!([statement("kinesis:CreateQueue", resource)]));
    let (on_queues, on_stream) = ("arn:aws:kinesis:*:*:queue/*", world.arn("clicks"));
    world.restart(|setup| setup.credentials = Some(allow(on_queues)));
    assert!(denied(call(&world, "CreateQueue", asked(&world, "jobs"))));
    world.restart(|setup| setup.credentials = Some(allow(&on_stream)));
    let created = call(&world, "CreateQueue", asked(&world, "jobs"));
    assert_eq!(created.0, 200, "{}", created.1);
    let arn = arn_of(&created.1);
    let receive = json!({"QueueARN": arn, "WaitTimeSeconds": 1});
    assert!(denied(call(&world, "ReceiveQueueRecords", receive.clone())));
    // All queues of a stream.
    let all = keys(json!([statement(
        "kinesis:*QueueRecords",
        "arn:aws:kinesis:us-east-1:000000000000:queue/clicks.*"
    )]));
    world.restart(|setup| setup.credentials = Some(all.clone()));
    let entries = json!({"QueueARN": arn, "Entries": [{"ReceiptHandle": "x"}]});
    let got = call(&world, "AcknowledgeQueueRecords", entries.clone());
    assert_eq!((got.0, &got.1["Failed"][0]["ErrorCode"]), (200, &json!("InvalidArgumentException")));
    assert!(denied(call(&world, "DescribeQueue", json!({"QueueARN": arn}))));
    // The queue's own policy denies it.
    let deny = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Deny", "Principal": "*", "Action": "kinesis:AcknowledgeQueueRecords", "Resource": arn}]});
    world.restart(|setup| setup.credentials = None);
    world.ok("PutResourcePolicy", json!({"ResourceARN": arn, "Policy": deny.to_string()}));
    world.restart(|setup| setup.credentials = Some(all));
    assert!(denied(call(&world, "AcknowledgeQueueRecords", entries)));
}

#[test]
fn l1_a_crash_while_a_queue_is_created_or_deleted_leaves_nothing_of_it() {
    let mut world = World::new();
    world.create_on_demand("clicks");
    let kept = create(&world, "kept", json!({}));
    let stream = || world.front().service.catalogue.stream("clicks").unwrap().stream.clone();
    // The remains of a creation that was interrupted before the settings were written, and a queue of another program.
    for name in ["kinesis-0123456789abcdef", "of-a-program"] {
        stream().queue(name).open().unwrap().close().unwrap();
    }
    assert_eq!(queue_count(&world), 1);
    world.restart(|_| {});
    assert_eq!((queue_count(&world), status(&world, &kept).as_str()), (1, "ACTIVE"));
    let names = world.front().service.catalogue.stream("clicks").unwrap().stream.queues().unwrap();
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(names.contains(&"of-a-program".to_owned()));
}

#[test]
fn queues_come_and_go_while_they_are_used() {
    for delay in [Duration::ZERO, Duration::from_millis(1)] {
        let world = World::with(Setup { delay, ..Setup::default() });
        world.create_on_demand("clicks");
        world.clock.advance(Duration::from_secs(1));
        std::thread::scope(|scope| {
            (0..4).for_each(|seed| {
                drop(scope.spawn({
                    let world = &world;
                    move || come_and_go(world, seed)
                }));
            });
        });
        world.clock.advance(Duration::from_secs(1));
        for queue in world.ok("ListQueues", json!({}))["QueueSummaries"].as_array().unwrap() {
            world.ok("DeleteQueue", json!({"QueueARN": queue["QueueARN"]}));
        }
        world.clock.advance(Duration::from_secs(1));
        assert_eq!(world.ok("ListQueues", json!({}))["QueueSummaries"], json!([]));
        let known = world.front().service.catalogue.stream("clicks").unwrap();
        assert_eq!(known.stream.queues().unwrap(), [""; 0], "the log has none either");
    }
}

fn come_and_go(world: &World, seed: usize) {
    for round in 0..60 {
        let name = ["a", "b"][(seed + round / 3) % 2];
        let listed = world.ok("ListQueues", json!({}));
        let queues = listed["QueueSummaries"].as_array().unwrap();
        let arn =
            queues.iter().find(|queue| queue["QueueName"] == name).map(|queue| queue["QueueARN"].clone());
        let (operation, body) = match (arn, (seed * 7 + round * 5) % 6) {
            (None, _) => ("CreateQueue", asked(world, name)),
            (Some(arn), 0) => ("DeleteQueue", json!({"QueueARN": arn})),
            (Some(arn), 1) => {
                ("UpdateQueue", json!({"QueueARN": arn, "QueueAttributes": {"VisibilityTimeoutSeconds": 1}}))
            }
            (Some(arn), 2) => ("DescribeQueue", json!({"QueueARN": arn})),
            (Some(arn), _) => {
                world.put("clicks", "a", "1");
                ("ReceiveQueueRecords", json!({"QueueARN": arn}))
            }
        };
        // Another thread may have been faster, but nothing is the server's fault.
        let _entered = world.runtime.enter();
        if let Answering::Now(answer) = world.begin(&world.signed(operation, body.to_string())) {
            assert!([200, 400].contains(&answer.status.as_u16()), "{operation} {body}: {}", answer.status);
        }
        world.clock.advance(Duration::from_micros(300));
    }
}
