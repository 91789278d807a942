//! An HTTP function with Lambda's contract, rule by rule, and with every fault that a server may have.

use streamlog::delivery::{Directory, HttpFunction};

use super::*;

/// Answers each record with what `of` returns for its data: a result, and data and partition keys.
fn answer_each(request: &Request, of: impl Fn(&str) -> Value) -> Value {
    let json = request.json();
    let records = json["records"].as_array().unwrap().iter().map(|record| {
        let data = STANDARD.decode(record["data"].as_str().unwrap()).unwrap();
        let mut answer = of(std::str::from_utf8(&data).unwrap());
        answer["recordId"] = record["recordId"].clone();
        answer
    });
    json!({ "records": records.collect::<Vec<_>>() })
}

fn ok(data: &str) -> Value {
    json!({ "result": "Ok", "data": STANDARD.encode(data) })
}

fn upper(request: &Request) -> Value {
    answer_each(request, |data| ok(&data.to_uppercase()))
}

fn transformed(stream: &Stream, path: &Path, function: HttpFunction) -> DeliveryOptions {
    let options = stream.delivery("enriched").backoff(Duration::ZERO, Duration::ZERO).format(Format::lines());
    options.transform_over_http(function).to(Directory::new(path))
}

fn function(server: &Server) -> HttpFunction {
    HttpFunction::new(&server.url("/call?code=s3cret")).unwrap()
}

/// Returns the lines of the files below a directory that are not error output.
fn rows(path: &Path) -> Vec<String> {
    let mut rows = vec![];
    let mut paths = vec![path.to_owned()];
    while let Some(at) = paths.pop() {
        if at.is_dir() {
            paths.extend(std::fs::read_dir(at).unwrap().map(|entry| entry.unwrap().path()));
        } else if at.exists() && at.extension().is_none() {
            let lines = std::fs::read_to_string(&at).unwrap();
            rows.extend(lines.lines().map(str::to_owned));
        }
    }
    rows.sort();
    rows
}

fn errors(path: &Path) -> Vec<Value> {
    lines_below(&path.join("processing-failed")).into_iter().map(|(_, line)| line).collect()
}

#[test]
fn a_call_is_that_of_firehose_and_its_answer_says_what_becomes_of_each_record() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(&scratch.path().join("stream"), &clock);
    let server = Server::start(|_, request| {
        let mut body = answer_each(request, |data| match data {
            "drop" => json!({ "result": "Dropped", "data": STANDARD.encode("unused") }),
            "fail" => json!({ "result": "ProcessingFailed", "data": "" }),
            "no key" => ok("no key"),
            data => json!({
                "result": "Ok", "data": STANDARD.encode(data.to_uppercase()), "other": 1,
                "metadata": { "partitionKeys": { "user": data, "other": "1" } },
            }),
        });
        // In any order.
        body["records"].as_array_mut().unwrap().reverse();
        answer(200, body)
    });
    let put = ["one", "drop", "fail", "no key", "two"];
    let receipts: Vec<_> = put.iter().map(|data| stream.put("k\"ey", data).unwrap()).collect();
    let arrived = clock.now().as_millis();
    clock.advance(SECOND);
    let archive = scratch.path().join("archive");
    let function = function(&server)
        .header("Authorization", "Bearer s3cret")
        .unwrap()
        .delivery_stream_arn("arn:aws:firehose:eu-west-1:123456789012:deliverystream/clicks");
    assert!(!format!("{function:?}").contains("s3cret"), "{function:?}");
    let delivery = transformed(&stream, &archive, function)
        .partition_keys(["user"])
        .prefix("user=!{partitionKeyFromLambda:user}/")
        .error_prefix("!{firehose:error-output-type}/")
        .start()
        .unwrap();
    flush(&delivery);
    let stats = delivery.stats();
    assert_eq!((stats.records, stats.failed_records, stats.function_calls), (2, 2, 1), "{stats:?}");
    delivery.close().unwrap();

    let requests = server.requests();
    assert_eq!(requests.len(), 1);
    let request = &requests[0];
    assert_eq!(request.line, "POST /call?code=s3cret HTTP/1.1");
    assert_eq!(request.headers["content-type"], "application/json");
    assert_eq!(request.headers["authorization"], "Bearer s3cret");
    let json = request.json();
    assert_eq!(json["invocationId"].as_str().unwrap().len(), 36);
    let shard = stream.shards()[0].id;
    let records = receipts.iter().zip(put).map(|(receipt, data)| {
        let sequence = receipt.sequence;
        json!({
            "recordId": format!("{shard}.{sequence}.0"), "approximateArrivalTimestamp": arrived,
            "data": STANDARD.encode(data),
            "kinesisRecordMetadata": {
                "sequenceNumber": sequence.to_string(), "subsequenceNumber": 0, "partitionKey": "k\"ey",
                "shardId": shard.to_string(), "approximateArrivalTimestamp": arrived,
            },
        })
    });
    assert_eq!(
        json,
        json!({
            "invocationId": json["invocationId"], "region": "eu-west-1",
            "deliveryStreamArn": "arn:aws:firehose:eu-west-1:123456789012:deliverystream/clicks",
            "records": records.collect::<Vec<_>>(),
        })
    );
    assert_eq!(rows(&archive.join("user=one")), ["ONE"]);
    assert_eq!(rows(&archive.join("user=two")), ["TWO"]);
    let errors = errors(&archive);
    assert_eq!(errors.len(), 2);
    assert_eq!(
        errors[0],
        json!({
            "attemptsMade": 1, "arrivalTimestamp": arrived, "attemptEndingTimestamp": arrived + 1_000,
            "errorCode": "Lambda.ProcessingFailedStatus", "errorMessage": "the function has answered ProcessingFailed",
            "rawData": STANDARD.encode("fail"), "shardId": shard.to_string(),
            "sequenceNumber": receipts[2].sequence.to_string(), "lambdaArn": format!("http://{}/call", server.address),
        })
    );
    assert_eq!(errors[1]["errorCode"], "DynamicPartitioning.MetadataExtractionFailed");
    assert_eq!(
        errors[1]["errorMessage"],
        "the partition key \"user\" has no value: the function has given none"
    );
}

/// Makes a server always answer a call about three records in this way. Returns the requests, and the lines of the error output.
fn failing(reply: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> (Vec<Request>, Vec<Value>) {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(&scratch.path().join("stream"), &clock);
    let server = Server::start(move |_, request| reply(request));
    for data in ["one", "three", "two"] {
        stream.put("key", data).unwrap();
    }
    let archive = scratch.path().join("archive");
    let function = function(&server).header("X-Api-Key", "s3cret").unwrap();
    let delivery =
        transformed(&stream, &archive, function).transform_timeout(Duration::from_secs(1)).start().unwrap();
    flush(&delivery);
    let stats = delivery.stats();
    assert_eq!((stats.records, stats.failed_records), (0, 3), "{stats:?}");
    assert_eq!(stats.function_calls, stats.failed_function_calls);
    delivery.close().unwrap();
    let (requests, errors) = (server.requests(), errors(&archive));
    let raw: Vec<_> = errors.iter().map(|line| line["rawData"].as_str().unwrap()).collect();
    assert_eq!(raw, ["b25l", "dGhyZWU=", "dHdv"], "all records of the call, as they were put");
    for line in &errors {
        assert_eq!(line["attemptsMade"], requests.len());
        assert_eq!(line["lambdaArn"], format!("http://{}/call", server.address));
        let message = line["errorMessage"].as_str().unwrap();
        assert!(!message.contains("s3cret"), "{message}");
    }
    for request in &requests {
        assert_eq!(request.json()["records"], requests[0].json()["records"], "the same again");
    }
    (requests, errors)
}

/// Makes each call fail. Returns the code, and the part of the message about the function.
fn failure(reply: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> (String, String) {
    let (requests, errors) = failing(reply);
    assert_eq!(requests.len(), 4, "three more");
    let text = |name: &str| errors[0][name].as_str().unwrap().to_owned();
    let message = text("errorMessage");
    (text("errorCode"), message.split_once("/call ").map_or(message.clone(), |(_, said)| said.to_owned()))
}

#[test]
fn l5_a_call_that_fails_is_repeated_three_times_and_then_all_of_its_records_are_error_output() {
    let changed = |change: fn(&mut Vec<Value>)| {
        failure(move |request| {
            let mut body = upper(request);
            change(body["records"].as_array_mut().unwrap());
            answer(200, body)
        })
    };
    let id = "shardId-000000000000";
    let malformed = "Lambda.JsonProcessingException";
    for ((code, said), expected, begin) in [
        (
            changed(|records| _ = records.pop()),
            "Lambda.MissingRecordId",
            format!("did not answer for the record \"{id}."),
        ),
        (
            changed(|records| records.push(records[0].clone())),
            "Lambda.DuplicatedRecordId",
            format!("answered twice for the record \"{id}."),
        ),
        (
            changed(|records| records[1]["recordId"] = "another".into()),
            malformed,
            "answered for the record \"another\", which it did not get".into(),
        ),
        (
            changed(|records| records[2]["result"] = "ok".into()),
            malformed,
            format!("gave the record \"{id}.2.0\" the unknown result \"ok\""),
        ),
        (
            changed(|records| records[2]["data"] = "?".into()),
            malformed,
            format!("gave data for the record \"{id}.2.0\" that is no Base64: "),
        ),
        (
            changed(|records| _ = records[0].as_object_mut().unwrap().remove("data")),
            malformed,
            format!("gave no data for the record \"{id}.0.0\""),
        ),
        (
            changed(|records| _ = records[0].as_object_mut().unwrap().remove("result")),
            malformed,
            "answered with what is no list of records: missing field `result`".into(),
        ),
        (
            failure(|_| Reply::Answer(200, "text/html", "<p>fine</p>".into())),
            malformed,
            "answered with what is no list of records: ".into(),
        ),
        (
            failure(|_| answer(200, json!({ "errorType": "KeyError", "errorMessage": "'user' s3cret" }))),
            "Lambda.FunctionError",
            "has failed: 'user' (hidden)".into(),
        ),
        (
            failure(|_| answer(500, json!({ "errorMessage": "out of memory" }))),
            "Lambda.FunctionError",
            "answered 500: out of memory".into(),
        ),
        (
            failure(|_| Reply::Answer(302, "text/html", String::new())),
            "Lambda.FunctionError",
            "answered 302".into(),
        ),
    ] {
        assert_eq!(code, expected, "{said}");
        assert!(said.starts_with(&begin), "{said}, and not {begin}");
    }
    let unreached = "Lambda.FunctionRequestFailed";
    assert_eq!(failure(|_| Reply::Lost).0, unreached);
    assert_eq!(
        failure(|_| Reply::Bytes("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"rec".into())).0,
        unreached
    );
    let (code, said) = failure(|_| answer(200, json!({ "records": [], "long": " ".repeat(6 << 20) })));
    assert!(code == unreached && said.starts_with("no answer from http://"), "{said}");
    let (code, said) = failure(|_| Reply::Silent);
    assert!(code == unreached && said == "did not answer within 1s", "{said}");
    let (requests, errors) = failing(|_| answer(413, json!({})));
    assert_eq!(requests.len(), 1, "the same request would be too large again");
    assert!(errors[0]["errorMessage"].as_str().unwrap().ends_with("answered 413: the request is too large"));
}

#[test]
fn a_call_that_works_at_last_is_as_if_it_had_at_once() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(&scratch.path().join("stream"), &clock);
    let server = Server::start(|number, request| match number {
        0 => Reply::Lost,
        1 => answer(503, json!({})),
        2 => answer(200, json!({ "records": [] })),
        _ => answer(200, upper(request)),
    });
    stream.put("key", "one").unwrap();
    let delivery = transformed(&stream, &scratch.path().join("archive"), function(&server)).start().unwrap();
    flush(&delivery);
    let stats = delivery.stats();
    assert_eq!((stats.records, stats.function_calls, stats.failed_function_calls), (1, 4, 3));
    delivery.close().unwrap();
    assert_eq!(rows(&scratch.path().join("archive")), ["ONE"]);
}

#[test]
fn records_are_gathered_for_a_call_by_bytes_and_by_time() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = StreamOptions::new()
        .segment_bytes(8 << 20)
        .clock(clock.clone())
        .open(scratch.path().join("s"))
        .unwrap();
    let server = Server::start(|_, request| answer(200, upper(request)));
    let delivery = transformed(&stream, &scratch.path().join("archive"), function(&server)).start().unwrap();
    // 1 MiB and 60 seconds, as in Firehose.
    let large = "x".repeat((100 << 10) - 4);
    for _ in 0..10 {
        stream.put("key", &large).unwrap();
    }
    // Nothing signals that it is waiting.
    thread::sleep(Duration::from_millis(200));
    assert!(server.requests().is_empty(), "1,000 KiB are not enough");
    stream.put("key", &large).unwrap();
    eventually(|| server.requests().len() == 1);
    eventually(|| delivery.stats().read_records == 10);
    assert_eq!(server.requests()[0].records().len(), 10, "the last one would be too much");
    clock.advance(59 * SECOND);
    // Nothing signals that it is waiting.
    thread::sleep(Duration::from_millis(200));
    assert_eq!(server.requests().len(), 1);
    clock.advance(SECOND);
    eventually(|| server.requests().len() == 2);
    eventually(|| delivery.stats().read_records == 11);
    // A flush does not wait.
    stream.put("key", "one").unwrap();
    flush(&delivery);
    assert_eq!(server.requests().len(), 3);
    delivery.close().unwrap();
}

#[test]
fn no_request_is_larger_than_lambda_takes() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = StreamOptions::new()
        .segment_bytes(32 << 20)
        .clock(clock.clone())
        .open(scratch.path().join("s"))
        .unwrap();
    let server = Server::start(|_, request| answer(200, answer_each(request, |data| ok(&data[..1]))));
    // Many small records, whose metadata is longer than their data.
    for number in 0..40_000 {
        stream.put("key", (number % 10).to_string()).unwrap();
    }
    let delivery = transformed(&stream, &scratch.path().join("archive"), function(&server))
        .transform_buffer(3 << 20, MINUTE)
        .start()
        .unwrap();
    flush(&delivery);
    assert_eq!((delivery.stats().records, delivery.stats().failed_records), (40_000, 0));
    delivery.close().unwrap();
    let sizes: Vec<_> = server.requests().iter().map(|request| request.body.len()).collect();
    assert!(sizes.len() >= 2 && sizes.iter().all(|&size| size <= 6 << 20), "{sizes:?}");
    assert_eq!(rows(&scratch.path().join("archive")).len(), 40_000);
}

#[test]
fn l5_a_shard_whose_function_is_silent_does_not_hold_up_others() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let options = StreamOptions::new().shards(2).segment_bytes(64 << 10).clock(clock.clone());
    let stream = options.open(scratch.path().join("stream")).unwrap();
    let server = Server::start(|_, request| match request.records().iter().any(|data| data == "silent") {
        true => Reply::Silent,
        false => answer(200, upper(request)),
    });
    let shard = stream.put("a", "silent").unwrap().shard;
    let keys = (0..100).map(|number| number.to_string());
    let others = keys.filter(|key| stream.put(key, "heard").unwrap().shard != shard).count();
    let archive = scratch.path().join("archive");
    let options = transformed(&stream, &archive, function(&server)).transform_buffer(1 << 20, Duration::ZERO);
    let delivery = options.buffer_bytes(1).start().unwrap();
    eventually(|| delivery.stats().records == others as u64);
    assert_eq!(rows(&archive).len(), others);
    let begun = Instant::now();
    delivery.close().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5), "closing does not wait for it");
}

/// Whatever happens to calls and to the delivery, each record is in the output exactly once: as a row, or in the error output.
#[test]
fn l2_each_record_is_there_once_after_faults_and_restarts() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(&scratch.path().join("stream"), &clock);
    let state = Mutex::new(7);
    let server = Server::start(move |_, request| match next(&mut state.lock()) % 10 {
        0 => Reply::Lost,
        1 | 2 => answer(500, json!({})),
        3 => answer(200, json!({ "records": [] })),
        _ => answer(
            200,
            answer_each(request, |data| match data {
                data if data.ends_with('3') => json!({ "result": "Dropped" }),
                data if data.ends_with('7') => json!({ "result": "ProcessingFailed" }),
                data => ok(data),
            }),
        ),
    });
    let archive = scratch.path().join("archive");
    let mut expected = vec![];
    let mut faults = 0;
    for round in 0..30 {
        let delivery = transformed(&stream, &archive, function(&server).retries(1).unwrap())
            .transform_buffer(6 * 208, Duration::ZERO)
            .buffer_bytes(64)
            .start()
            .unwrap();
        for number in 0..40 {
            let data = format!("{round:02} {number:02}");
            stream.put("key", data.clone()).unwrap();
            expected.push(data);
        }
        if round % 3 == 2 {
            flush(&delivery);
        }
        faults += delivery.stats().failed_function_calls;
        assert_eq!(delivery.stats().changed_objects, 0);
        // The records of a call then come again.
        delivery.close().unwrap();
    }
    assert!(faults > 50, "the faults were seen: {faults}");
    let failed = errors(&archive)
        .into_iter()
        .map(|line| String::from_utf8(STANDARD.decode(line["rawData"].as_str().unwrap()).unwrap()).unwrap());
    let failed: Vec<_> = failed.collect();
    let rows = rows(&archive);
    assert!(failed.iter().any(|data| data.ends_with('1')) && rows.len() > 500, "calls failed, and worked");
    let mut found: Vec<_> = rows.into_iter().chain(failed.iter().cloned()).collect();
    found.sort();
    // A dropped record is in the error output only if its call failed.
    expected.retain(|data| !data.ends_with('3') || failed.contains(data));
    assert_eq!(found, expected);
}

#[test]
fn settings_of_a_function_that_do_not_work_are_refused() {
    let text = |error: Error| error.to_string();
    let function = || HttpFunction::new("https://user:password@functions.example.com/").unwrap();
    assert!(text(HttpFunction::new("functions").unwrap_err()).contains("the URL of an endpoint"));
    assert!(text(function().header("X-A", "two\nlines").unwrap_err()).contains("no header may have"));
    assert!(text(function().header("X A", "one").unwrap_err()).contains("\"X A\" is no name of a header"));
    assert!(text(function().retries(301).unwrap_err()).contains("retries"));
    let scratch = common::scratch();
    let stream = Stream::open(scratch.path()).unwrap();
    let options = || transformed(&stream, scratch.path(), function());
    let refused = |options: DeliveryOptions| text(options.start().unwrap_err());
    assert!(refused(options().transform_buffer(0, MINUTE)).contains("the bytes of transform_buffer"));
    assert!(refused(options().transform_buffer(4 << 20, MINUTE)).contains("the bytes of transform_buffer"));
    assert!(refused(options().transform_buffer(1, 16 * MINUTE)).contains("up to 15 minutes"));
    assert!(refused(options().transform_timeout(6 * MINUTE)).contains("up to 5 minutes"));
    assert!(refused(options().transform_timeout(Duration::ZERO)).contains("up to 5 minutes"));
}
