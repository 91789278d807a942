//! Mirrors from the command line.

use super::*;

#[test]
#[cfg(not(feature = "relay-kinesis"))]
fn a_tool_without_mirrors_says_so() {
    let place = Place::create(&[]);
    let why = ["built without", "--features relay-kinesis"];
    fails(&place.run("mirror", &["--from-kinesis", "orders"]), &why);
    if cfg!(not(feature = "relay-kafka")) {
        fails(&place.run("mirrors", &[]), &why);
    }
}

#[test]
#[cfg(feature = "relay-kafka")]
fn a_topic_of_kafka_is_mirrored() {
    let place = Place::create(&[]);
    let broker = common::kafka_broker::Broker::new(&[("orders", 2)]);
    let servers = broker.servers();
    let lines: Vec<String> = (0..50).map(|number| format!("{number}\n")).collect();
    succeeds(&place.put(lines.concat().as_bytes(), &[]));
    let relay = ["--to-kafka", "orders", "--bootstrap-servers", &servers, "--drain"];
    succeeds(&place.run("relay", &relay));
    let copy = Place::create(&["--shards", "2"]);
    let output =
        copy.run("mirror", &["--from-kafka", "orders", "--bootstrap-servers", &servers, "--until-caught-up"]);
    succeeds(&output);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        said.starts_with("mirrored 50 records of 2 shards with ") && said.contains("up to date"),
        "{said}"
    );
    assert!(copy.print("mirrors", &[]).contains("kafka orders"));
}

#[test]
#[cfg(all(feature = "relay-kinesis", feature = "gateway"))]
fn a_stream_of_kinesis_is_mirrored_and_then_what_is_new() {
    use streamlog::gateway::Gateway;
    use streamlog::{Store, StreamOptions};

    let place = Place::create(&["--shards", "2"]);
    let store = Store::open(place.directory.path().join("kinesis"), StreamOptions::new()).unwrap();
    let source = store.create("orders", StreamOptions::new().record_bytes_max(2 << 20)).unwrap();
    let gateway = Gateway::new(store).without_authentication().delay(Duration::ZERO);
    let running = gateway.start("127.0.0.1:0").unwrap();
    let url = format!("http://{}", running.local_address());
    let mirror = |more: &[&str]| {
        let mut command = place.command("mirror", &["--from-kinesis", "orders", "--region", "us-east-1"]);
        command.args(["--endpoint-url", &url]).args(more);
        command.env("AWS_ACCESS_KEY_ID", "key").env("AWS_SECRET_ACCESS_KEY", "secret");
        command
    };
    for number in 0..100 {
        source.put(format!("user-{}", number % 7), number.to_string()).unwrap();
    }
    let output = mirror(&["--until-caught-up"]).output().unwrap();
    succeeds(&output);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        said.starts_with("mirrored 100 records of 1 shard with ") && said.contains("up to date"),
        "{said}"
    );
    // Ctrl-C ends it in good order, and a new run continues.
    source.put("user-1", "100").unwrap();
    source.put("user-1", "x".repeat(1_500_000)).unwrap();
    source.put("user-1", "101").unwrap();
    let refused = place.directory.path().join("refused");
    let mut child = mirror(&["--json", "--refused", refused.to_str().unwrap()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while std::fs::read_to_string(&refused).unwrap_or_default().is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(60), "nothing was refused");
        thread::sleep(Duration::from_millis(20));
    }
    // Later records are put.
    while !place.print("cat", &[]).ends_with("101\n") && place.print("cat", &[]).lines().count() < 102 {
        assert!(begun.elapsed() < Duration::from_secs(60), "nothing came behind it");
        thread::sleep(Duration::from_millis(20));
    }
    let process = rustix::process::Pid::from_raw(child.id() as i32).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::INT).unwrap();
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    let output = child.wait_with_output().unwrap();
    succeeds(&output);
    let stats: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&stats["record_count"], &stats["refused_record_count"]), (&2.into(), &1.into()), "{stats}");
    let line: Value = serde_json::from_str(std::fs::read_to_string(&refused).unwrap().trim()).unwrap();
    assert_eq!((&line["shard"], &line["key"]), (&"shardId-000000000000".into(), &"user-1".into()));
    assert!(line["reason"].as_str().unwrap().contains("bytes"), "{line}");

    let mirrors = place.json("mirrors", &[]);
    let known = &mirrors["mirrors"][0];
    assert_eq!(
        (&known["name"], &known["kind"], &known["origin"]),
        (&"mirror".into(), &"kinesis".into(), &"orders".into())
    );
    assert_eq!(known["shards"][0]["sequence_number"], stats["shards"][0]["sequence_number"]);
    let text = place.print("mirrors", &["mirror"]);
    assert!(text.contains("shardId-000000000000"), "{text}");
    assert!(place.print("mirrors", &[]).contains("kinesis orders"));
    let other = place.run("mirror", &["--from-kinesis", "payments", "--region", "us-east-1"]);
    fails(&other, &["is one of kinesis \"orders\", not of kinesis \"payments\""]);
    let wrong = place.run("mirrors", &["none"]);
    fails(&wrong, &["no mirror \"none\""]);
    running.close().unwrap();
}
