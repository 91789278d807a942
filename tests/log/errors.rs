//! Every error, provoked once: its text says what happened, where, and what to do about it.

use crate::common;

use std::fs;
use std::path::Path;
use std::time::Duration;

use streamlog::{
    Error, Limits, Position, PutRecord, Retention, SECOND, ShardId, Stream, StreamOptions, StreamReader,
};

const SHARD: ShardId = ShardId::new(0);
const NAME: &str = "shardId-000000000000";

/// Checks that the text contains all parts in order, in one line, and shows no debug output.
#[track_caller]
fn says(error: &Error, parts: &[&str]) {
    let text = error.to_string();
    println!("{text}");
    let mut rest = &text[..];
    for part in parts {
        let Some(at) = rest.find(part) else { panic!("no {part:?}, or out of order, in: {text}") };
        rest = &rest[at + part.len()..];
    }
    assert!(!text.contains(['\n', '{', '"']), "{text}");
}

fn open_error(path: &Path) -> Error {
    common::small(&common::clock()).open(path).unwrap_err()
}

/// Makes a closed stream whose one shard holds `first`, `second` and `third`.
fn three_records(path: &Path) {
    let stream = common::small(&common::clock()).open(path).unwrap();
    for data in ["first", "second", "third"] {
        stream.put("key", data).unwrap();
    }
    stream.close().unwrap();
}

/// Flips a bit of the record `second`.
fn damage(path: &Path) -> String {
    let segment = common::segment_files(path, 0).remove(0);
    let mut bytes = fs::read(&segment).unwrap();
    let at = bytes.windows(6).position(|window| window == b"second").unwrap();
    bytes[at] ^= 1;
    fs::write(&segment, bytes).unwrap();
    segment.to_str().unwrap().to_owned()
}

#[test]
fn every_variant_is_provoked_here() {
    // `Error::KeyUnavailable` needs the feature `encryption`.
    let source = include_str!("../../src/log/types/error.rs");
    let body = source.split("pub enum Error {").nth(1).unwrap().split("\n}").next().unwrap();
    let names = body.lines().filter_map(|line| line.strip_prefix("    "));
    let names = names.filter(|line| line.starts_with(|first: char| first.is_ascii_uppercase()));
    let names: Vec<_> = names.map(|line| line.split(['(', ' ', ',']).next().unwrap()).collect();
    assert!(names.len() >= 13, "{names:?}");
    for name in names {
        assert!(include_str!("errors.rs").contains(&format!("Error::{name}")), "{name} is not provoked");
    }
}

#[test]
fn a_consumer_that_reads_a_shard_already_is_named_with_its_shard() {
    let scratch = common::scratch();
    let stream = common::small(&common::clock()).open(scratch.path()).unwrap();
    stream.register_consumer("dashboard").unwrap();
    let _first = stream.subscribe("dashboard", SHARD, Position::Latest).open().unwrap();
    let error = stream.subscribe("dashboard", SHARD, Position::Latest).open().unwrap_err();
    assert!(matches!(error, Error::ConsumerInUse { .. }) && error.is_retryable(), "{error}");
    assert_eq!(error.shard(), Some(SHARD));
    says(&error, &["another subscription", "dashboard", NAME, "leave it", "5 seconds"]);
}

#[test]
fn a_throttled_put_names_its_shard_and_when_to_try_again() {
    let scratch = common::scratch();
    let limits = Limits::none().write_records_per_second(4);
    let stream = common::small(&common::clock()).limits(limits).open(scratch.path()).unwrap();
    (0..4).for_each(|_| _ = stream.put("key", "data").unwrap());
    let error = stream.put("key", "data").unwrap_err();
    assert!(matches!(error, Error::Throttled { .. }) && error.is_retryable(), "{error}");
    assert_eq!(error.shard(), Some(SHARD));
    says(&error, &[NAME, "used up", "limits", "again in 250ms", "raise the limits"]);
}

#[test]
fn an_invalid_argument_names_itself_and_its_range() {
    let scratch = common::scratch();
    let error = StreamOptions::new().shards(2_000).open(scratch.path()).unwrap_err();
    assert!(matches!(error, Error::InvalidArgument(_)));
    says(&error, &["a shard count of 2000 is out of range", "1 to 1024"]);
    let stream = Stream::open(scratch.path()).unwrap();
    says(&stream.update_shard_count(0).unwrap_err(), &["a shard count of 0", "1 to 1024"]);
    says(
        &stream.merge_shards(SHARD, SHARD).unwrap_err(),
        &[NAME, "cannot be merged", "must begin right after"],
    );
    let future = Position::AtTimestamp(streamlog::Timestamp::from_micros(u64::MAX));
    says(&stream.iterator(SHARD, future).unwrap_err(), &["is in the future", "use Latest"]);
    stream.split_shard_evenly(SHARD).unwrap();
    says(&stream.split_shard_evenly(SHARD).unwrap_err(), &[NAME, "is closed already", "its children"]);
    drop(stream);
    let again = StreamOptions::new().must_be_new().open(scratch.path()).unwrap_err();
    says(&again, &[scratch.path().to_str().unwrap(), "already", "open it, or name another path"]);
}

#[test]
fn a_property_that_is_too_large_is_named_and_nothing_is_changed() {
    let scratch = common::scratch();
    let (long_name, long_text) = ("n".repeat(256), "t".repeat((64 << 10) + 1));
    for (name, text, parts) in [
        ("", "text", ["name of a property has 0 bytes", "1 to 255"]),
        (&*long_name, "text", ["name of a property has 256 bytes", "1 to 255"]),
        ("note", &*long_text, ["property note has 65537 bytes", "65536"]),
    ] {
        let options = common::small(&common::clock()).property(name, text);
        says(&options.open(scratch.path()).unwrap_err(), &parts);
        let stream = common::small(&common::clock()).open(scratch.path()).unwrap();
        says(&stream.set_property(name, Some(text)).unwrap_err(), &parts);
        assert!(stream.describe().properties.is_empty());
        stream.set_property(&long_name[1..], Some(&long_text[1..])).unwrap();
        stream.set_property(&long_name[1..], None).unwrap();
    }
}

#[test]
fn an_invalid_record_is_named_by_its_place() {
    let scratch = common::scratch();
    let stream = Stream::open(scratch.path()).unwrap();
    let records = [PutRecord::new("key", "data"), PutRecord::new("", "data")];
    let error = stream.put_batch(&records).unwrap_err();
    assert!(matches!(error, Error::InvalidRecord { index: 1, .. }));
    says(
        &error,
        &["index 1", "nothing was written", "its partition key is empty", "correct it or leave it out"],
    );
}

#[test]
fn a_missing_shard_is_named() {
    let scratch = common::scratch();
    let stream = Stream::open(scratch.path()).unwrap();
    let error = stream.iterator(ShardId::new(7), Position::Latest).unwrap_err();
    assert!(matches!(error, Error::ShardNotFound(_)));
    says(&error, &["the stream has no shardId-000000000007", "expired", "list the shards"]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_named_with_the_ways_to_free_it() {
    use common::mounts::{Ballast, Kind, Mount};
    let Some(mount) = Mount::new(Kind::Tmpfs) else { return };
    let path = mount.path().join("stream");
    let stream = common::small(&common::clock()).open(&path).unwrap();
    let _ballast = Ballast::fill(mount.path());
    let error = stream.put("key", "data").unwrap_err();
    assert!(matches!(error, Error::StorageFull(_)), "{error}");
    says(&error, &["no room on the disk", path.to_str().unwrap(), "free space or shorten the retention"]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_record_that_a_producer_gave_up_says_why() {
    use common::mounts::{Ballast, Kind, Mount};
    let Some(mount) = Mount::new(Kind::Tmpfs) else { return };
    let clock = common::clock();
    let stream = common::small(&clock).open(mount.path().join("stream")).unwrap();
    let millisecond = Duration::from_millis(1);
    let options = stream.producer().time_to_live(10 * SECOND).backoff(millisecond, millisecond);
    let producer = options.start().unwrap();
    let _ballast = Ballast::fill(mount.path());
    let pending = producer.put("key", "data").unwrap();
    clock.advance(10 * SECOND);
    let error = pending.wait().unwrap_err();
    assert!(matches!(error, Error::ProducerExpired { .. }), "{error}");
    says(&error, &["expired", "not in the stream", "put it again", "no room on the disk"]);
}

#[test]
fn a_producer_whose_buffer_is_full_says_what_to_call_instead() {
    let scratch = common::scratch();
    let stream = Stream::open(scratch.path()).unwrap();
    let producer = stream.producer().buffer_bytes(64 << 10).batch_bytes(1_000).start().unwrap();
    let (open, gate) = std::sync::mpsc::channel::<()>();
    // A callback that does not return holds up the sender.
    producer
        .put_then(&PutRecord::new("key", "data"), move |_| {
            let _ = gate.recv();
        })
        .unwrap();
    let error = loop {
        if let Err(error) = producer.try_put("key", "data") {
            break error;
        }
    };
    drop(open);
    assert!(matches!(error, Error::ProducerFull), "{error}");
    says(&error, &["buffer is full", "try again", "the call that waits"]);
}

#[test]
fn a_reader_that_retention_has_overtaken_learns_where_to_continue() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let options = common::small(&clock).retention(Retention::age(10 * SECOND));
    let stream = options.open(scratch.path()).unwrap();
    stream.put("key", "old").unwrap();
    let mut iterator = stream.iterator(SHARD, Position::TrimHorizon).unwrap();
    clock.advance(Duration::from_secs(11));
    stream.maintain().unwrap();
    let error = iterator.next_batch(10).unwrap_err();
    assert!(matches!(error, Error::Trimmed { .. }), "{error}");
    says(&error, &[NAME, "no longer holds sequence number 0", "trim horizon is 1", "continue from there"]);
}

#[test]
fn damage_names_file_byte_and_record_and_both_ways_out() {
    let scratch = common::scratch();
    three_records(scratch.path());
    let file = damage(scratch.path());
    let stream = common::small(&common::clock()).open(scratch.path()).unwrap();
    let error = stream.iterator(SHARD, Position::At(1.into())).unwrap().next_batch(1).unwrap_err();
    assert!(matches!(error, Error::Corrupt(_)), "{error}");
    let parts =
        [&file, "damaged at byte", NAME, "sequence number 1", "checksum", "restore the file", "salvage"];
    says(&error, &parts);
}

#[test]
fn a_reader_of_records_that_are_gone_is_told_where_the_shard_ends_now() {
    let scratch = common::scratch();
    common::small(&common::clock()).open(scratch.path()).unwrap().close().unwrap();
    let empty = fs::read(scratch.path().join("manifest.json")).unwrap();
    three_records(scratch.path());
    let reader = StreamReader::open(scratch.path()).unwrap();
    let mut iterator = reader.iterator(ShardId::new(0), Position::Latest).unwrap();
    fs::write(scratch.path().join("manifest.json"), empty).unwrap();
    fs::remove_file(common::segment_files(scratch.path(), 0).remove(0)).unwrap();
    let _stream = common::small(&common::clock()).open(scratch.path()).unwrap();
    let error = iterator.next_batch(1).unwrap_err();
    assert!(matches!(error, Error::Cut { .. }), "{error}");
    says(&error, &[NAME, "was cut", "sequence number 3", "ends before 0", "seek"]);
}

#[test]
fn a_damaged_manifest_can_only_be_restored() {
    let scratch = common::scratch();
    three_records(scratch.path());
    let manifest = scratch.path().join("manifest.json");
    fs::write(&manifest, "no json").unwrap();
    let error = open_error(scratch.path());
    says(&error, &[manifest.to_str().unwrap(), "is damaged", "restore the file from a copy"]);
    assert!(!error.to_string().contains("salvage"), "{error}");
    fs::remove_file(&manifest).unwrap();
    says(
        &open_error(scratch.path()),
        &["manifest.json is damaged", "is missing, but there are segments", "restore the file"],
    );
}

#[test]
fn records_that_were_given_up_are_named() {
    let scratch = common::scratch();
    three_records(scratch.path());
    damage(scratch.path());
    let stream = common::small(&common::clock()).salvage(true).open(scratch.path()).unwrap();
    let error = stream.iterator(SHARD, Position::At(1.into())).unwrap().next_batch(1).unwrap_err();
    assert!(matches!(error, Error::Lost { .. }), "{error}");
    says(&error, &[NAME, "lost the records from sequence number 1 to before 2", "skip what is lost"]);
}

#[cfg(feature = "encryption")]
#[derive(Debug)]
struct Refuses;

#[cfg(feature = "encryption")]
impl streamlog::KeyProvider for Refuses {
    fn wrap(&self, _: &streamlog::DataKey, _: &[u8]) -> Result<streamlog::WrappedKey, streamlog::KeyError> {
        Err("the service is down".into())
    }

    fn unwrap(&self, _: &streamlog::WrappedKey, _: &[u8]) -> Result<streamlog::DataKey, streamlog::KeyError> {
        Err("the service is down".into())
    }
}

#[test]
#[cfg(feature = "encryption")]
fn a_key_that_is_not_there_is_named_with_the_ways_to_give_it() {
    let scratch = common::scratch();
    let path = scratch.path().join("stream");
    let keys = streamlog::KeyFile::create(scratch.path().join("keys")).unwrap();
    let name = keys.key_id().to_owned();
    common::small(&common::clock()).encryption(keys).open(&path).unwrap().put("key", "data").unwrap();
    let stream = common::small(&common::clock()).open(&path).unwrap();
    let error = stream.put("key", "data").unwrap_err();
    assert!(matches!(error, Error::KeyUnavailable(_)), "{error}");
    let ways = ["StreamOptions::encryption", "--key-file"];
    says(&error, &[&name, "is needed for", path.to_str().unwrap(), "data key 0", ways[0], ways[1]]);
    let wrong = streamlog::KeyFile::create(scratch.path().join("wrong")).unwrap();
    drop(stream);
    let error = common::small(&common::clock()).encryption(wrong).open(&path).unwrap_err();
    says(&error, &[&name, "was not unwrapped", "wrong does not have it"]);
    let first =
        common::small(&common::clock()).encryption(Refuses).open(scratch.path().join("other")).unwrap_err();
    says(&first, &["a key is needed for", "was not wrapped: the service is down"]);
}

#[test]
fn a_stream_that_is_open_already_is_named() {
    let scratch = common::scratch();
    let _stream = Stream::open(scratch.path()).unwrap();
    let error = Stream::open(scratch.path()).unwrap_err();
    assert!(matches!(error, Error::Locked(_)));
    says(
        &error,
        &[
            scratch.path().to_str().unwrap(),
            "is open already in this process",
            "share that handle or close it",
        ],
    );
    let Error::Locked(by) = &error else { panic!("{error:?}") };
    assert_eq!((by.process_id, by.is_this_process), (Some(std::process::id()), true));
    assert_eq!(error.path(), Some(scratch.path()));
    // The file says that another process has it.
    fs::write(scratch.path().join("LOCK"), "4711 clickd\n0123456789abcdef\n").unwrap();
    let error = Stream::open(scratch.path()).unwrap_err();
    let text = format!(
        "{} is open in process 4711 (clickd): stop it, or open the stream read-only",
        scratch.path().display()
    );
    assert_eq!(error.to_string(), text);
}

#[test]
fn a_path_without_a_stream_is_named_with_what_is_there() {
    let scratch = common::scratch();
    let file = scratch.path().join("file");
    fs::write(&file, "text").unwrap();
    let error = open_error(&file);
    assert!(matches!(error, Error::NotAStream(_)));
    says(&error, &[file.to_str().unwrap(), "is not a stream", "it is a file", "name another path"]);
    let nothing = StreamOptions::new().must_exist().open(scratch.path().join("nothing")).unwrap_err();
    says(&nothing, &["nothing is not a stream", "there is nothing at this path", "name another path"]);
}

#[test]
fn another_format_is_named_with_who_can_read_it() {
    let scratch = common::scratch();
    three_records(scratch.path());
    let manifest = scratch.path().join("manifest.json");
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, text.replace("\"version\": 1", "\"version\": 7")).unwrap();
    let error = open_error(scratch.path());
    assert!(matches!(error, Error::UnsupportedFormat(_)), "{error}");
    says(&error, &[manifest.to_str().unwrap(), "version 7", "cannot read", "the version that wrote it"]);
}

#[test]
fn a_failed_sync_and_its_consequences_advise_to_check_the_disk_and_open_again() {
    let scratch = common::scratch();
    let stream = common::small(&common::clock()).open(scratch.path()).unwrap();
    stream.put("key", "data").unwrap();
    let segment = common::segment_files(scratch.path(), 0).remove(0);
    fs::remove_file(&segment).unwrap();
    let error = stream.sync().unwrap_err();
    assert!(matches!(&error, Error::Io(failure) if failure.action == "sync"), "{error}");
    says(
        &error,
        &["cannot sync", segment.to_str().unwrap(), "it was removed", "put it back, then open the stream"],
    );
    let error = stream.put("key", "data").unwrap_err();
    assert!(matches!(error, Error::Poisoned(_)), "{error}");
    says(
        &error,
        &[NAME, "takes no more puts", "a sync failed", "check the disk, then open the stream again"],
    );
}

#[test]
fn a_closed_stream_says_so() {
    let scratch = common::scratch();
    let stream = Stream::open(scratch.path()).unwrap();
    stream.clone().close().unwrap();
    let error = stream.put("key", "data").unwrap_err();
    assert!(matches!(error, Error::Closed));
    says(&error, &["the stream is closed", "open it again"]);
}

#[test]
fn a_failed_system_call_is_named_with_its_reason_and_a_remedy() {
    let scratch = common::scratch();
    let file = scratch.path().join("file");
    fs::write(&file, "text").unwrap();
    let below = file.join("stream");
    let error = open_error(&below);
    assert!(matches!(error, Error::Io(_)), "{error}");
    says(
        &error,
        &[
            "cannot open the directory",
            below.to_str().unwrap(),
            "Not a directory",
            "remove the cause, then try again",
        ],
    );
    assert_eq!((error.path(), error.is_retryable()), (Some(&*below), false));
}

#[test]
fn a_lost_lease_names_shard_and_group() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = common::small(&clock).open(scratch.path()).unwrap();
    stream.put("key", "data").unwrap();
    let mut silent = stream.group("billing").worker().open().unwrap();
    let batch = silent.poll(Duration::ZERO).unwrap().unwrap();
    clock.advance(Duration::from_secs(60));
    let mut other = stream.group("billing").worker().open().unwrap();
    assert!(other.poll(Duration::ZERO).unwrap().is_some());
    let error = silent.commit(&batch).unwrap_err();
    assert!(matches!(error, Error::GroupLeaseLost { .. }));
    says(&error, &["no lease", NAME, "billing", "did not move", "keep polling"]);
}

#[test]
fn a_receipt_handle_that_is_no_longer_valid_names_the_record() {
    let scratch = common::scratch();
    let stream = common::small(&common::clock()).open(scratch.path().join(NAME)).unwrap();
    let queue = stream.queue("jobs").open().unwrap();
    stream.put("key", "data").unwrap();
    let record = queue.receive(1, Duration::ZERO).unwrap().remove(0);
    queue.acknowledge(&record.handle).unwrap();
    let error = queue.acknowledge(&record.handle).unwrap_err();
    assert!(matches!(error, Error::ReceiptHandleInvalid { .. }));
    says(
        &error,
        &[
            "receipt handle",
            "record 0 of shard",
            "no longer valid",
            "nothing was changed",
            "visibility timeout",
        ],
    );
}
