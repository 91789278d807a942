//! The command for processors, beside the program that runs one and after it.

use streamlog::{MINUTE, SECOND, Timestamp};

use super::*;

/// Returns the lines of a table, each as its words.
pub(crate) fn words(table: &str) -> Vec<Vec<&str>> {
    table.lines().map(|line| line.split_whitespace().collect()).collect()
}

#[test]
fn l8_processors_are_listed_with_their_lag_and_windows_while_they_run_and_afterwards() {
    let place = Place::create(&["--shards", "2"]);
    assert_eq!(place.json("processors", &[]), serde_json::json!({ "processors": [] }));
    assert_eq!(words(&place.print("processors", &[])).len(), 1, "the headings");
    let stream = Stream::open(place.stream()).unwrap();
    let _worker = stream.group("billing").worker().open().unwrap();
    let watch = |name: &str| {
        let options = stream.processor(name).tumbling_window(15 * MINUTE).batch_size(1);
        options.start_with_state(|invocation, seen: &mut u32| {
            if invocation.records().any(|record| record.data() == b"bad") {
                return Err("not this one");
            }
            *seen += invocation.len() as u32;
            Ok(())
        })
    };
    let processor = watch("fraud").unwrap();
    let plain = stream.processor("audit").start(|_| ()).unwrap();
    // Each shard has a good record, and the first one has a bad one behind it.
    let ranges: Vec<_> = stream.shards().iter().map(|shard| shard.hash_key_range).collect();
    let put = |shard: usize, data: &str| {
        stream.put_record(&PutRecord::new("k", data).explicit_hash_key(ranges[shard].start)).unwrap()
    };
    let before = Timestamp::from(SystemTime::now());
    put(0, "good");
    put(1, "good");
    put(0, "bad");
    let listed = || place.json("processors", &[]);
    let fraud = || listed()["processors"][1].clone();
    assert!(comes_true(|| fraud()["window_count"] == 2 && fraud()["record_count"] == 1), "{}", listed());
    assert!(comes_true(|| listed()["processors"][0]["record_count"] == 0));
    let listing = listed();
    let fraud = &listing["processors"][1];
    assert_eq!((&fraud["processor"], &fraud["shard_count"]), (&"fraud".into(), &2.into()));
    assert!(fraud["committed_at_micros"].as_u64().unwrap() >= before.as_micros(), "{fraud}");
    assert!(fraud["age_seconds"].as_f64().unwrap() > 0.0);
    let audit = &listing["processors"][0];
    assert_eq!((&audit["processor"], &audit["window_count"]), (&"audit".into(), &0.into()));
    let printed = place.print("processors", &[]);
    let table = words(&printed);
    assert_eq!(table[0].join(" "), "processor shards records bytes oldest windows last commit");
    assert_eq!((table[1][..3].join(" "), table[2][..3].join(" ")), ("audit 2 0".into(), "fraud 2 1".into()));
    assert!(printed.lines().all(|line| line.trim_end() == line) && printed.trim_end().ends_with(" ago"));

    let shards = place.json("processors", &["fraud"]);
    let [first, second] = &shards["shards"].as_array().unwrap()[..] else { panic!("{shards}") };
    assert_eq!((&first["next_sequence"], &first["record_count"]), (&1.into(), &1.into()));
    assert_eq!((&second["next_sequence"], &second["record_count"]), (&1.into(), &0.into()));
    let window = &first["lanes"][0]["windows"][0];
    assert_eq!((&window["is_over"], &window["state_bytes"]), (&false.into(), &1.into()));
    let micros = |end: &str| window[end].as_u64().unwrap();
    assert_eq!(micros("end_micros") - micros("start_micros"), 900_000_000);
    let printed = place.print("processors", &["fraud"]);
    assert!(printed.starts_with("processor    fraud\nlast commit  20"), "{printed}");
    assert!(printed.contains("\nto do        1 record, ") && printed.contains(", the oldest "), "{printed}");
    let table = words(&printed);
    assert_eq!(table[4].join(" "), "shard next records bytes oldest lane next window");
    assert_eq!(table[5][..3].join(" "), "shardId-000000000000 1 1");
    assert!(table[5].join(" ").contains(" 0 1 15m from 20"), "{printed}");
    assert!(table[6].join(" ").ends_with(", state of 1 B"), "{printed}");

    for name in ["billing", "other"] {
        fails(&place.run("processors", &[name]), &[&format!("the stream has no processor \"{name}\"")]);
    }
    processor.close().unwrap();
    plain.close().unwrap();
    stream.close().unwrap();
    let left = place.json("processors", &["fraud"]);
    assert_eq!(left["shards"][0]["lanes"], shards["shards"][0]["lanes"], "while nobody runs it");
    let printed = place.print("processors", &["audit"]);
    assert_eq!(words(&printed)[5].join(" "), "shardId-000000000000 2 0 0 B - - - -");
}

#[test]
fn l8_a_processor_by_event_time_is_listed_with_its_watermark() {
    let place = Place::create(&[]);
    let stream = Stream::open(place.stream()).unwrap();
    let options = stream.processor("per-minute").tumbling_window(MINUTE).event_time(|record| {
        let millis = std::str::from_utf8(record.data()).map_err(|error| error.to_string())?;
        millis.parse().map(Timestamp::from_millis).map_err(|error| error.to_string())
    });
    let processor = options.allowed_lateness(5 * SECOND).start_with_state(|_, _: &mut u32| ()).unwrap();
    assert!(!place.print("processors", &["per-minute"]).contains("watermark"), "there is none yet");
    for millis in ["30000", "35000"] {
        stream.put("sensor-17", millis).unwrap();
    }
    let shard = || place.json("processors", &["per-minute"])["shards"][0].clone();
    assert!(comes_true(|| shard()["record_count"] == 0), "{}", shard());
    assert_eq!(shard()["watermark_micros"], 30_000_000);
    processor.close().unwrap();
    let printed = place.print("processors", &["per-minute"]);
    assert!(printed.contains("\nwatermark    1970-01-01T00:00:30"), "{printed}");
}
