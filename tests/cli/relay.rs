//! Relays from the command line.

use super::*;

#[test]
#[cfg(not(feature = "relay-kinesis"))]
fn a_tool_without_relays_says_so() {
    let place = Place::create(&[]);
    let said = ["built without", "--features relay-kinesis"];
    fails(&place.run("relay", &["--to-kinesis", "far"]), &said);
}

#[test]
#[cfg(feature = "relay-kafka")]
fn a_stream_is_relayed_to_kafka_and_in_transactions() {
    let place = Place::create(&[]);
    let lines: Vec<String> = (0..100).map(|number| format!("{number}\n")).collect();
    succeeds(&place.put(lines.concat().as_bytes(), &[]));
    let broker = common::kafka_broker::Broker::new(&[("far", 3)]);
    let servers = broker.servers();
    let fixed = [
        "--to-kafka",
        "far",
        "--bootstrap-servers",
        &servers,
        "--property",
        "linger.ms=1",
        "--drain",
        "--json",
    ];
    for (round, more) in
        [&["--partitioning", "hash-key"][..], &["--name", "tx", "--transactional-id", "far-up"]]
            .into_iter()
            .enumerate()
    {
        let output = place.run("relay", &[&fixed[..], more].concat());
        succeeds(&output);
        let stats: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((&stats["record_count"], &stats["lag_record_count"]), (&100.into(), &0.into()), "{stats}");
        assert_eq!(broker.committed_records("far"), 100 * (round as i64 + 1));
    }
    let output = place.run("relay", &["--to-kafka", "far"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--bootstrap-servers"));
    let wrong = ["--to-kafka", "far", "--bootstrap-servers", &servers, "--property", "linger.ms"];
    fails(&place.run("relay", &wrong), &["NAME=VALUE"]);
    let wrong = ["--to-kafka", "far", "--bootstrap-servers", &servers, "--property", "no.such=1"];
    fails(&place.run("relay", &wrong), &["no.such"]);
}

#[cfg(all(feature = "relay-kinesis", feature = "gateway"))]
mod to_kinesis {
    use streamlog::gateway::{Gateway, RunningGateway};
    use streamlog::{Position, Store, StreamOptions};

    use super::*;

    fn serve(store: &Store) -> RunningGateway {
        let gateway = Gateway::new(store.clone()).without_authentication().delay(Duration::ZERO);
        gateway.start("127.0.0.1:0").unwrap()
    }

    /// Runs the relay, with a client that finds its credentials in the environment.
    fn relay(place: &Place, url: &str, options: &[&str]) -> Child {
        let fixed = ["--to-kinesis", "far", "--endpoint-url", url, "--region", "us-east-1", "--json"];
        Command::new(tool())
            .arg("relay")
            .arg(place.stream())
            .args(fixed)
            .args(options)
            .env("AWS_ACCESS_KEY_ID", "access")
            .env("AWS_SECRET_ACCESS_KEY", "secret")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Presses Ctrl-C.
    fn interrupt(child: &Child) {
        let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
        assert!(kill.success());
    }

    fn data(stream: &Stream) -> Vec<Vec<u8>> {
        let shard = stream.shards()[0].id;
        let batch = stream.iterator(shard, Position::TrimHorizon).unwrap().next_batch(1_000).unwrap();
        batch.iter().map(|record| record.data().to_vec()).collect()
    }

    #[test]
    fn a_stream_is_relayed_once_and_then_what_is_new_until_ctrl_c() {
        let place = Place::create(&[]);
        let store = Store::open(place.directory.path().join("far"), StreamOptions::new()).unwrap();
        let far = store.create("far", StreamOptions::new()).unwrap();
        let running = serve(&store);
        let url = format!("http://{}", running.local_address());
        let lines: Vec<String> = (0..100).map(|number| format!("{number}\n")).collect();
        succeeds(&place.put(lines.concat().as_bytes(), &[]));
        let output = relay(&place, &url, &["--drain"]).wait_with_output().unwrap();
        succeeds(&output);
        let stats: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((&stats["record_count"], &stats["lag_record_count"]), (&100.into(), &0.into()), "{stats}");
        assert_eq!(data(&far).len(), 100);

        let child = relay(&place, &url, &["--headers", "envelope", "--lanes", "2"]);
        succeeds(&place.put(b"100\n", &[]));
        let begun = Instant::now();
        while data(&far).len() < 101 {
            assert!(begun.elapsed() < Duration::from_secs(60), "it is not relayed");
            thread::sleep(Duration::from_millis(10));
        }
        interrupt(&child);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130), "{output:?}");
        let stats: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(stats["record_count"], 1, "{stats}");
        let last = data(&far).pop().unwrap();
        assert!(streamlog::relay::Envelope::decode(&last).is_some_and(|envelope| envelope.data == b"100"));
        running.close().unwrap();
    }

    #[test]
    fn a_relay_says_why_it_does_not_go_on() {
        let place = Place::create(&[]);
        succeeds(&place.put(b"1\n", &[]));
        let mut child = relay(&place, "http://127.0.0.1:1", &[]);
        let mut line = String::new();
        BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains("note: ") && line.contains("refused"), "{line}");
        interrupt(&child);
        assert_eq!(child.wait().unwrap().code(), Some(130));
    }
}
