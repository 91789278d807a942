//! Delivery streams, as their callers see them.

mod endpoint;
mod refusals;

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::thread;
use std::time::Instant;

use super::activity::sign_for;
use super::*;
use crate::SECOND;
use crate::gateway::firehose::{Buckets, Endpoint};

const ROLE: &str = "arn:aws:iam::000000000000:role/delivery";

/// A gateway whose buckets are directories.
struct Hoses {
    world: World,
    buckets: TempDir,
}

impl Hoses {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Setup)) -> Self {
        let buckets = tempfile::tempdir().unwrap();
        let mut setup = Setup::default();
        setup.firehose.buckets = Some(Buckets::in_directory(buckets.path()));
        change(&mut setup);
        Self { world: World::with(setup), buckets }
    }

    fn request(&self, operation: &str, body: &Json) -> Request {
        let mut request = self.world.signed(operation, body.to_string());
        request.headers.insert("x-amz-target", format!("Firehose_20150804.{operation}").parse().unwrap());
        request
    }

    fn send(&self, request: &Request) -> Got {
        let (status, body) = self.world.send(request);
        Got { status, body: serde_json::from_slice(&body).unwrap() }
    }

    fn call(&self, operation: &str, body: &Json) -> Got {
        self.send(&self.request(operation, body))
    }

    #[track_caller]
    fn ok(&self, operation: &str, body: Json) -> Json {
        self.call(operation, &body).ok()
    }

    #[track_caller]
    fn refused(&self, operation: &str, body: Json, kind: &str) -> String {
        let got = self.call(operation, &body);
        let (found, text) = got.error();
        assert_eq!(found, kind, "{text}");
        text.to_owned()
    }

    /// Creates a delivery stream to a bucket, with these members of its destination.
    fn create(&self, name: &str, more: Json) {
        self.ok("CreateDeliveryStream", to_bucket(name, more));
    }

    fn put<T: AsRef<[u8]>>(&self, name: &str, data: impl IntoIterator<Item = T>) {
        use base64::Engine;
        let encode = |data: T| base64::engine::general_purpose::STANDARD.encode(data);
        let records: Vec<_> = data.into_iter().map(|data| json!({"Data": encode(data)})).collect();
        for records in records.chunks(500) {
            let body = json!({"DeliveryStreamName": name, "Records": records});
            assert_eq!(self.ok("PutRecordBatch", body)["FailedPutCount"], 0);
        }
    }

    /// Waits until a delivery runs with the settings of a version.
    fn running(&self, name: &str, version: u64) {
        let stream = || self.world.front().service.firehose.get(name).unwrap();
        until("the settings have taken effect", || stream().running_version() == Some(version));
    }

    fn describe(&self, name: &str) -> Json {
        let answer = self.ok("DescribeDeliveryStream", json!({"DeliveryStreamName": name}));
        answer["DeliveryStreamDescription"].clone()
    }

    /// Returns the destination, by the name of its member.
    fn destination(&self, name: &str, member: &str) -> Json {
        self.describe(name)["Destinations"][0][member].clone()
    }

    /// Returns the objects in a bucket, by name.
    fn objects(&self, bucket: &str) -> BTreeMap<String, Vec<u8>> {
        let mut found = BTreeMap::new();
        let root = self.buckets.path().join(bucket);
        add_files(&root, &root, &mut found);
        found
    }

    /// Waits until a bucket has this many bytes, and returns its objects.
    fn delivered(&self, bucket: &str, bytes: usize) -> BTreeMap<String, Vec<u8>> {
        let size = || self.objects(bucket).values().map(Vec::len).sum::<usize>();
        until("everything is delivered", || size() >= bytes);
        let objects = self.objects(bucket);
        assert_eq!(size(), bytes, "{objects:?}");
        objects
    }
}

fn add_files(root: &Path, directory: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(directory).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            add_files(root, &path, found);
        } else if path.extension().is_none_or(|extension| extension != "partial") {
            // It may have got its last name meanwhile.
            let Ok(bytes) = fs::read(&path) else { continue };
            let name = path.strip_prefix(root).unwrap();
            found.insert(name.to_str().unwrap().to_owned(), bytes);
        }
    }
}

/// Waits for other threads.
#[track_caller]
fn until(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < end, "after 30 seconds, not so: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A request for a delivery stream to the bucket `archive`, which delivers immediately.
fn to_bucket(name: &str, more: Json) -> Json {
    let mut destination = json!({
        "RoleARN": ROLE,
        "BucketARN": "arn:aws:s3:::archive",
        "BufferingHints": {"SizeInMBs": 64, "IntervalInSeconds": 0},
    });
    for (member, value) in more.as_object().unwrap() {
        destination[member] = value.clone();
    }
    json!({"DeliveryStreamName": name, "ExtendedS3DestinationConfiguration": destination})
}

fn from_stream(name: &str, arn: &str) -> Json {
    let mut request = to_bucket(name, json!({}));
    request["DeliveryStreamType"] = json!("KinesisStreamAsSource");
    request["KinesisStreamSourceConfiguration"] = json!({"KinesisStreamARN": arn, "RoleARN": ROLE});
    request
}

fn processors(all: Json) -> Json {
    json!({"Enabled": true, "Processors": all})
}

fn all_bytes(objects: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    objects.values().flatten().copied().collect()
}

#[test]
fn what_is_put_is_delivered_in_order_and_under_firehoses_names() {
    let hoses = Hoses::new();
    let created = hoses.ok(
        "CreateDeliveryStream",
        to_bucket("clicks", json!({"BufferingHints": {"SizeInMBs": 1, "IntervalInSeconds": 60}})),
    );
    assert_eq!(created["DeliveryStreamARN"], "arn:aws:firehose:us-east-1:000000000000:deliverystream/clicks");
    let put = hoses.ok("PutRecord", json!({"DeliveryStreamName": "clicks", "Record": {"Data": base64("a")}}));
    assert_eq!(put["Encrypted"], false);
    let batch = json!({"DeliveryStreamName": "clicks", "Records": [{"Data": base64("b")}, {"Data": ""}, {"Data": base64("c")}]});
    let batch = hoses.ok("PutRecordBatch", batch);
    let ids: Vec<_> =
        batch["RequestResponses"].as_array().unwrap().iter().map(|it| &it["RecordId"]).collect();
    assert!(ids.is_sorted_by_key(|id| id.as_str().unwrap()) && !ids.contains(&&put["RecordId"]), "{ids:?}");
    assert_eq!((ids.len(), &batch["FailedPutCount"]), (3, &json!(0)));
    until("all is read", || {
        hoses.world.metric("aws_firehose_DataReadFromKinesisStream_Records_total") == 4.0
    });
    assert!(hoses.objects("archive").is_empty(), "the buffer is neither full nor old");
    hoses.world.clock.advance(61 * SECOND);
    let objects = hoses.delivered("archive", 3);
    let (name, bytes) = objects.first_key_value().unwrap();
    assert_eq!((objects.len(), &bytes[..]), (1, &b"abc"[..]));
    assert!(name.starts_with("2023/11/14/22/clicks-1-2023-11-14-22-13-20-"), "{name}");
    until("the counts are there", || hoses.world.metric("aws_firehose_Delivery_Records_total") == 4.0);
    assert_eq!(hoses.world.metric("aws_firehose_IncomingBytes_total"), 3.0);
    // Callers do not see the stream behind it.
    assert_eq!(hoses.world.ok("ListStreams", json!({}))["StreamNames"], json!([]));
    for stream in [".gateway-firehose-clicks", "firehose-clicks", "clicks"] {
        hoses.world.refused("DescribeStream", json!({"StreamName": stream}), "ResourceNotFoundException");
    }
    let create = json!({"StreamName": ".gateway-firehose-other", "ShardCount": 1});
    hoses.world.refused("CreateStream", create, "InvalidArgumentException");
}

#[test]
fn a_delivery_stream_is_described_as_it_was_created() {
    let hoses = Hoses::new();
    hoses.ok("CreateDeliveryStream", json!({
        "DeliveryStreamName": "plain",
        "S3DestinationConfiguration": {"RoleARN": ROLE, "BucketARN": "arn:aws:s3:::archive", "Prefix": "p/"},
        "DirectPutSourceConfiguration": {"ThroughputHintInMBs": 5},
    }));
    let described = hoses.describe("plain");
    let expected = json!({
        "RoleARN": ROLE,
        "BucketARN": "arn:aws:s3:::archive",
        "Prefix": "p/",
        "BufferingHints": {"SizeInMBs": 5, "IntervalInSeconds": 300},
        "CompressionFormat": "UNCOMPRESSED",
        "EncryptionConfiguration": {"NoEncryptionConfig": "NoEncryption"},
        "CloudWatchLoggingOptions": {"Enabled": false},
    });
    assert_eq!(described["Destinations"][0]["S3DestinationDescription"], expected);
    let mut extended = expected;
    extended["S3BackupMode"] = json!("Disabled");
    assert_eq!(described["Destinations"][0]["ExtendedS3DestinationDescription"], extended);
    for (member, value) in [
        ("DeliveryStreamName", json!("plain")),
        ("DeliveryStreamARN", json!("arn:aws:firehose:us-east-1:000000000000:deliverystream/plain")),
        ("DeliveryStreamStatus", json!("ACTIVE")),
        ("DeliveryStreamType", json!("DirectPut")),
        ("DeliveryStreamEncryptionConfiguration", json!({"Status": "DISABLED"})),
        ("VersionId", json!("1")),
        ("CreateTimestamp", json!(1_700_000_000.0)),
        ("HasMoreDestinations", json!(false)),
        ("Source", json!({"DirectPutSourceDescription": {"ThroughputHintInMBs": 5}})),
    ] {
        let is_same =
            described[member] == value || described[member].as_f64() == value.as_f64() && value.is_number();
        assert!(is_same, "{member}: {}", described[member]);
    }
    assert!(described.get("LastUpdateTimestamp").is_none());
}

#[test]
fn lists_have_pages_and_kinds() {
    let hoses = Hoses::new();
    hoses.world.create("source", 1);
    for number in 0..12 {
        hoses.create(&format!("hose-{number:02}"), json!({}));
    }
    hoses.ok("CreateDeliveryStream", from_stream("reading", &hoses.world.arn("source")));
    let list = |body: Json| {
        let answer = hoses.ok("ListDeliveryStreams", body);
        let names: Vec<_> = answer["DeliveryStreamNames"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it.as_str().unwrap().to_owned())
            .collect();
        (names, answer["HasMoreDeliveryStreams"].as_bool().unwrap())
    };
    let (names, has_more) = list(json!({}));
    assert_eq!((names.len(), &*names[9], has_more), (10, "hose-09", true));
    let (names, has_more) = list(json!({"ExclusiveStartDeliveryStreamName": "hose-09"}));
    assert_eq!((names, has_more), (vec!["hose-10".into(), "hose-11".into(), "reading".into()], false));
    assert!(!list(json!({"Limit": 13})).1);
    let (names, _) = list(json!({"DeliveryStreamType": "KinesisStreamAsSource"}));
    assert_eq!(names, ["reading"]);
    assert_eq!(list(json!({"DeliveryStreamType": "MSKAsSource"})), (vec![], false));
}

#[test]
fn processors_partitions_and_compression_shape_the_objects() {
    let hoses = Hoses::new();
    hoses.create("shop", json!({
        "Prefix": "country=!{partitionKeyFromQuery:country}/day=!{timestamp:dd}/",
        "ErrorOutputPrefix": "failed/!{firehose:error-output-type}/",
        "CompressionFormat": "GZIP",
        "FileExtension": ".json.gz",
        "CustomTimeZone": "Asia/Tokyo",
        "DynamicPartitioningConfiguration": {"Enabled": true},
        "ProcessingConfiguration": processors(json!([
            {"Type": "MetadataExtraction", "Parameters": [
                {"ParameterName": "MetadataExtractionQuery", "ParameterValue": "{country: .country | ascii_downcase}"},
                {"ParameterName": "JsonParsingEngine", "ParameterValue": "JQ-1.6"}]},
            {"Type": "AppendDelimiterToRecord", "Parameters": [{"ParameterName": "Delimiter", "ParameterValue": "\\n"}]},
            {"Type": "RecordDeAggregation", "Parameters": [{"ParameterName": "SubRecordType", "ParameterValue": "JSON"}]},
        ])),
    }));
    hoses.put(
        "shop",
        [r#"{"country":"FR","n":1}{"country":"JP","n":2}"#, r#"{"country":"FR","n":3}"#, "no JSON"],
    );
    let parts = || {
        let mut parts = BTreeMap::<String, String>::new();
        for (name, bytes) in hoses.objects("archive") {
            let text = match name.ends_with(".json.gz") {
                true => gunzip(&bytes),
                false => String::from_utf8(bytes).unwrap(),
            };
            let folder = name.rsplit_once('/').unwrap().0.to_owned();
            parts.entry(folder).or_default().push_str(&text);
        }
        parts
    };
    until("three parts are there", || {
        parts().len() == 3 && parts().get("country=fr/day=15").is_some_and(|text| text.lines().count() == 2)
    });
    let parts = parts();
    // 22:13 in UTC is the next day in Tokyo.
    assert_eq!(parts["country=fr/day=15"], "{\"country\":\"FR\",\"n\":1}\n{\"country\":\"FR\",\"n\":3}\n");
    assert_eq!(parts["country=jp/day=15"], "{\"country\":\"JP\",\"n\":2}\n");
    let (folder, failed) = parts.iter().find(|(folder, _)| folder.starts_with("failed/")).unwrap();
    assert!(folder.starts_with("failed/processing-failed"), "{folder}");
    let failed: Json = serde_json::from_str(failed.trim()).unwrap();
    assert_eq!(failed["rawData"], base64("no JSON"));
}

fn gunzip(bytes: &[u8]) -> String {
    let mut text = String::new();
    flate2::read::MultiGzDecoder::new(bytes).read_to_string(&mut text).unwrap();
    text
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn messages_of_cloudwatch_logs_are_taken_out_of_what_it_sends() {
    let hoses = Hoses::new();
    let parameter = |name: &str, value: &str| json!({"ParameterName": name, "ParameterValue": value});
    let all = json!([
        {"Type": "Decompression", "Parameters": [parameter("CompressionFormat", "GZIP")]},
        {"Type": "CloudWatchLogProcessing", "Parameters": [parameter("DataMessageExtraction", "true")]},
        {"Type": "AppendDelimiterToRecord"},
    ]);
    hoses.create("logs", json!({ "ProcessingConfiguration": processors(all) }));
    let sent = |kind: &str, messages: &[&str]| {
        let events: Vec<_> =
            messages.iter().map(|message| json!({"id": "1", "timestamp": 2, "message": message})).collect();
        gzip(json!({"messageType": kind, "logGroup": "web", "logEvents": events}).to_string().as_bytes())
    };
    let check = ["CWL CONTROL MESSAGE: Checking health of destination Firehose."];
    hoses.put("logs", [sent("CONTROL_MESSAGE", &check), sent("DATA_MESSAGE", &["GET /", "GET /cart"])]);
    assert_eq!(all_bytes(&hoses.delivered("archive", 16)), b"GET /\nGET /cart\n");
}

#[test]
fn delimited_and_compressed_records_are_taken_apart() {
    let hoses = Hoses::new();
    let parameter = |name: &str, value: &str| json!({"ParameterName": name, "ParameterValue": value});
    hoses.create(
        "lines",
        json!({
            "S3BackupMode": "Enabled",
            "S3BackupConfiguration": {"RoleARN": ROLE, "BucketARN": "arn:aws:s3:::backup", "Prefix": "raw/"},
            "ProcessingConfiguration": processors(json!([
                {"Type": "Decompression", "Parameters": [parameter("CompressionFormat", "GZIP")]},
                {"Type": "RecordDeAggregation", "Parameters": [
                    parameter("SubRecordType", "DELIMITED"), parameter("Delimiter", &base64("||"))]},
                {"Type": "AppendDelimiterToRecord"},
            ])),
        }),
    );
    let compressed = gzip(b"one||two");
    hoses.put("lines", [&compressed[..], b"three||"]);
    let objects = hoses.delivered("archive", 14);
    assert_eq!(all_bytes(&objects), b"one\ntwo\nthree\n");
    // The backup has what was put.
    let backup = hoses.delivered("backup", compressed.len() + 7);
    assert!(backup.keys().all(|name| name.starts_with("raw/2023/11/14/22/lines-1-")), "{backup:?}");
    assert!(all_bytes(&backup).ends_with(b"three||"));
}

#[test]
fn a_stream_is_delivered_from_when_the_delivery_stream_was_created() {
    let mut hoses = Hoses::new();
    hoses.world.create("source", 2);
    hoses.world.put("source", "a", "before,");
    hoses.world.clock.advance(SECOND);
    hoses.ok("CreateDeliveryStream", from_stream("reading", &hoses.world.arn("source")));
    let puts = json!({"DeliveryStreamName": "reading", "Record": {"Data": ""}});
    let text = hoses.refused("PutRecord", puts, "InvalidSourceException");
    assert!(text.contains("KinesisStreamAsSource"), "{text}");
    hoses.world.put("source", "a", "after,");
    // As in Firehose, aggregates of the Kinesis Producer Library are split.
    let mut aggregator = crate::aggregate::Aggregator::new();
    for data in ["one,", "two,"] {
        let _ = aggregator.add(&crate::PutRecord::new("a", data)).unwrap();
    }
    let known = hoses.world.front().service.catalogue.stream("source").unwrap();
    known.stream.put_record(&aggregator.finish().unwrap().as_put()).unwrap();
    drop(known);
    let objects = hoses.delivered("archive", "after,one,two,".len());
    assert_eq!(all_bytes(&objects), b"after,one,two,");
    let source = &hoses.describe("reading")["Source"]["KinesisStreamSourceDescription"];
    assert_eq!(
        (&source["KinesisStreamARN"], &source["RoleARN"]),
        (&json!(hoses.world.arn("source")), &json!(ROLE))
    );
    // It continues by itself after a restart, also in the children of a split.
    hoses.world.restart(|_| {});
    hoses.world.ok(
        "SplitShard",
        json!({"StreamName": "source", "ShardToSplit": "shardId-000000000000", "NewStartingHashKey": "1000"}),
    );
    for key in ["a", "b", "c", "d"] {
        hoses.world.put("source", key, "more,");
    }
    hoses.delivered("archive", "after,one,two,".len() + 4 * "more,".len());
    // Nothing of it is left in the source.
    let groups = |hoses: &Hoses| {
        hoses.world.front().service.catalogue.stream("source").unwrap().stream.groups().unwrap()
    };
    assert_eq!(groups(&hoses).len(), 1);
    hoses.ok("DeleteDeliveryStream", json!({"DeliveryStreamName": "reading"}));
    until("the group is deleted", || groups(&hoses).is_empty());
}

#[test]
fn l2_an_update_takes_effect_and_each_record_is_delivered_once() {
    let hoses = Hoses::new();
    hoses.create(
        "clicks",
        json!({"Prefix": "one/", "BufferingHints": {"SizeInMBs": 1, "IntervalInSeconds": 900}}),
    );
    hoses.put("clicks", ["a", "b"]);
    let update = |version: &str, changes: Json| {
        json!({
            "DeliveryStreamName": "clicks",
            "CurrentDeliveryStreamVersionId": version,
            "DestinationId": "destinationId-000000000001",
            "ExtendedS3DestinationUpdate": changes,
        })
    };
    hoses.world.clock.advance(SECOND);
    let changes = json!({"Prefix": "two/", "BufferingHints": {"SizeInMBs": 1, "IntervalInSeconds": 0}});
    hoses.ok("UpdateDestination", update("1", changes));
    let described = hoses.describe("clicks");
    assert_eq!(
        (&described["VersionId"], &described["LastUpdateTimestamp"]),
        (&json!("2"), &json!(1_700_000_001))
    );
    let destination = hoses.destination("clicks", "S3DestinationDescription");
    assert_eq!(
        (&destination["Prefix"], &destination["BucketARN"]),
        (&json!("two/"), &json!("arn:aws:s3:::archive"))
    );
    hoses.running("clicks", 2);
    hoses.put("clicks", ["c"]);
    let objects = hoses.delivered("archive", 3);
    let mut bytes = all_bytes(&objects);
    bytes.sort_unstable();
    assert_eq!(bytes, b"abc");
    let name = objects.keys().find(|name| name.starts_with("two/")).unwrap();
    assert!(name.contains("/clicks-2-2023-"), "{name}");

    let text = hoses.refused("UpdateDestination", update("1", json!({})), "ConcurrentModificationException");
    assert!(text.contains("current version id: 2") && text.contains("version id: 1"), "{text}");
    let mut other = update("2", json!({}));
    other["DestinationId"] = json!("destinationId-000000000002");
    hoses.refused("UpdateDestination", other, "InvalidArgumentException");
    let partitioned = json!({"DynamicPartitioningConfiguration": {"Enabled": true}});
    let text = hoses.refused("UpdateDestination", update("2", partitioned), "InvalidArgumentException");
    assert!(text.contains("when a delivery stream is created"), "{text}");
    let backup = json!({"RoleARN": ROLE, "BucketARN": "arn:aws:s3:::backup"});
    hoses.ok("UpdateDestination", update("2", json!({"S3BackupMode": "Enabled", "S3BackupUpdate": backup})));
    let text = hoses.refused(
        "UpdateDestination",
        update("3", json!({"S3BackupMode": "Disabled"})),
        "InvalidArgumentException",
    );
    assert!(text.contains("from Enabled to Disabled"), "{text}");
    hoses.running("clicks", 3);
    hoses.put("clicks", ["d"]);
    assert_eq!(all_bytes(&hoses.delivered("backup", 1)), b"d");
    // A refused request changes nothing.
    let wrong = json!({"Prefix": "!{nonsense:x}/", "ErrorOutputPrefix": "x/"});
    hoses.refused("UpdateDestination", update("3", wrong), "InvalidArgumentException");
    assert_eq!(hoses.describe("clicks")["VersionId"], "3");
    assert_eq!(hoses.destination("clicks", "S3DestinationDescription")["Prefix"], "two/");
}

#[test]
fn l1_definitions_and_records_survive_a_restart() {
    let mut hoses = Hoses::new();
    let mut request = to_bucket("clicks", json!({"Prefix": "p/"}));
    request["Tags"] = json!([{"Key": "team", "Value": "web"}]);
    hoses.ok("CreateDeliveryStream", request);
    hoses.create("gone", json!({}));
    hoses.put("clicks", ["a"]);
    hoses.delivered("archive", 1);
    let before = hoses.describe("clicks");
    // The deletion is interrupted before anything of it is done.
    hoses.world.setup.delay = MINUTE;
    hoses.world.restart(|_| {});
    hoses.world.clock.advance(2 * MINUTE);
    hoses.ok("DeleteDeliveryStream", json!({"DeliveryStreamName": "gone"}));
    assert_eq!(hoses.describe("gone")["DeliveryStreamStatus"], "DELETING");
    hoses.world.restart(|_| {});
    until("the deletion has gone on", || {
        hoses.ok("ListDeliveryStreams", json!({}))["DeliveryStreamNames"] == json!(["clicks"])
    });
    assert_eq!(hoses.describe("clicks"), before);
    let tags = hoses.ok("ListTagsForDeliveryStream", json!({"DeliveryStreamName": "clicks"}));
    assert_eq!(tags["Tags"], json!([{"Key": "team", "Value": "web"}]));
    hoses.put("clicks", ["b"]);
    assert_eq!(all_bytes(&hoses.delivered("archive", 2)), b"ab");
}

#[test]
fn states_are_shown_while_they_last() {
    let hoses = Hoses::with(|setup| setup.delay = SECOND);
    let name = json!({"DeliveryStreamName": "clicks"});
    hoses.create("clicks", json!({}));
    assert_eq!(hoses.describe("clicks")["DeliveryStreamStatus"], "CREATING");
    let put = json!({"DeliveryStreamName": "clicks", "Record": {"Data": ""}});
    hoses.refused("PutRecord", put.clone(), "ResourceNotFoundException");
    hoses.refused("DeleteDeliveryStream", name.clone(), "ResourceInUseException");
    hoses.refused("StartDeliveryStreamEncryption", name.clone(), "ResourceInUseException");
    hoses.refused("CreateDeliveryStream", to_bucket("clicks", json!({})), "ResourceInUseException");
    hoses.world.clock.advance(SECOND);
    assert_eq!(hoses.describe("clicks")["DeliveryStreamStatus"], "ACTIVE");
    hoses.ok("PutRecord", put.clone());
    for _ in 0..2 {
        hoses.ok("DeleteDeliveryStream", name.clone());
        assert_eq!(hoses.describe("clicks")["DeliveryStreamStatus"], "DELETING");
    }
    hoses.refused("PutRecord", put, "ResourceNotFoundException");
    hoses.refused("CreateDeliveryStream", to_bucket("clicks", json!({})), "ResourceInUseException");
    hoses.world.clock.advance(SECOND);
    until("it is gone", || hoses.call("DescribeDeliveryStream", &name).status == 400);
    // Another one with this name has nothing of the first.
    hoses.create("clicks", json!({"BucketARN": "arn:aws:s3:::second"}));
    hoses.world.clock.advance(SECOND);
    hoses.put("clicks", ["x"]);
    assert_eq!(all_bytes(&hoses.delivered("second", 1)), b"x");
}

#[test]
fn l4_delivery_streams_are_counted_and_those_that_are_being_deleted_too() {
    let hoses = Hoses::with(|setup| {
        setup.firehose.streams_max = 2;
        setup.delay = SECOND;
    });
    hoses.create("a", json!({}));
    hoses.create("b", json!({}));
    let text = hoses.refused("CreateDeliveryStream", to_bucket("c", json!({})), "LimitExceededException");
    assert!(text.contains("quota of 2"), "{text}");
    hoses.world.clock.advance(SECOND);
    hoses.ok("DeleteDeliveryStream", json!({"DeliveryStreamName": "a"}));
    hoses.refused("CreateDeliveryStream", to_bucket("c", json!({})), "LimitExceededException");
    hoses.world.clock.advance(SECOND);
    until("there is room", || hoses.call("CreateDeliveryStream", &to_bucket("c", json!({}))).status == 200);
}

#[test]
fn tags_come_and_go_page_by_page() {
    let hoses = Hoses::new();
    hoses.create("clicks", json!({}));
    let tags = |from: usize, to: usize| {
        let all: Vec<_> =
            (from..to).map(|n| json!({"Key": format!("k{n:02}"), "Value": format!("v{n}")})).collect();
        json!({"DeliveryStreamName": "clicks", "Tags": all})
    };
    hoses.ok("TagDeliveryStream", tags(0, 50));
    hoses.ok("TagDeliveryStream", json!({"DeliveryStreamName": "clicks", "Tags": [{"Key": "k07"}]}));
    let text = hoses.refused("TagDeliveryStream", tags(50, 51), "LimitExceededException");
    assert!(text.contains("50 tags"), "{text}");
    let twice = json!({"DeliveryStreamName": "clicks", "Tags": [{"Key": "k01"}, {"Key": "k01"}]});
    hoses.refused("TagDeliveryStream", twice, "InvalidArgumentException");
    let page = hoses.ok("ListTagsForDeliveryStream", json!({"DeliveryStreamName": "clicks", "Limit": 8}));
    assert_eq!((&page["Tags"][7], &page["HasMoreTags"]), (&json!({"Key": "k07", "Value": ""}), &json!(true)));
    let page = json!({"DeliveryStreamName": "clicks", "Limit": 8, "ExclusiveStartTagKey": "k41"});
    let page = hoses.ok("ListTagsForDeliveryStream", page);
    assert_eq!((&page["Tags"][0]["Key"], &page["HasMoreTags"]), (&json!("k42"), &json!(false)));
    hoses.ok("UntagDeliveryStream", json!({"DeliveryStreamName": "clicks", "TagKeys": ["k00", "none"]}));
    let left = hoses.ok("ListTagsForDeliveryStream", json!({"DeliveryStreamName": "clicks"}));
    assert_eq!(left["Tags"].as_array().unwrap().len(), 49);
}

#[test]
fn records_wait_encrypted_if_that_is_switched_on() {
    let mut hoses = Hoses::with(|setup| setup.has_keys = true);
    hoses.world.create("source", 1);
    let mut request = to_bucket("clicks", json!({}));
    request["DeliveryStreamEncryptionConfigurationInput"] = json!({"KeyType": "AWS_OWNED_CMK"});
    hoses.ok("CreateDeliveryStream", request.clone());
    let state = |hoses: &Hoses| hoses.describe("clicks")["DeliveryStreamEncryptionConfiguration"].clone();
    assert_eq!(state(&hoses), json!({"Status": "ENABLED", "KeyType": "AWS_OWNED_CMK"}));
    let put = |hoses: &Hoses| {
        let body = json!({"DeliveryStreamName": "clicks", "Record": {"Data": base64("secret,")}});
        let answer = hoses.ok("PutRecord", body);
        // The descriptions are true.
        let stream = hoses.world.front().service.firehose.get("clicks").unwrap().stream.clone();
        let is_encrypted = stream.describe().encryption.is_some();
        assert_eq!(answer["Encrypted"], is_encrypted);
        is_encrypted
    };
    assert!(put(&hoses));
    hoses.world.restart(|_| {});
    assert!(put(&hoses));
    hoses.ok("StopDeliveryStreamEncryption", json!({"DeliveryStreamName": "clicks"}));
    assert_eq!(state(&hoses), json!({"Status": "DISABLED"}));
    assert!(!put(&hoses));
    let key = "arn:aws:kms:us-east-1:000000000000:key/k";
    let start = |key: Json| json!({"DeliveryStreamName": "clicks", "DeliveryStreamEncryptionConfigurationInput": key});
    hoses.ok(
        "StartDeliveryStreamEncryption",
        start(json!({"KeyType": "CUSTOMER_MANAGED_CMK", "KeyARN": key})),
    );
    assert_eq!(state(&hoses), json!({"Status": "ENABLED", "KeyType": "CUSTOMER_MANAGED_CMK", "KeyARN": key}));
    assert!(put(&hoses));
    hoses.delivered("archive", 4 * "secret,".len());
    for wrong in
        [json!({"KeyType": "CUSTOMER_MANAGED_CMK"}), json!({"KeyType": "AWS_OWNED_CMK", "KeyARN": key})]
    {
        hoses.refused("StartDeliveryStreamEncryption", start(wrong), "InvalidArgumentException");
    }
    let mut reading = from_stream("reading", &hoses.world.arn("source"));
    reading["DeliveryStreamEncryptionConfigurationInput"] = json!({"KeyType": "AWS_OWNED_CMK"});
    hoses.refused("CreateDeliveryStream", reading, "InvalidArgumentException");
    let without = Hoses::new();
    without.refused("CreateDeliveryStream", request, "InvalidKMSResourceException");
    without.create("plain", json!({}));
    let start = json!({"DeliveryStreamName": "plain"});
    without.refused("StartDeliveryStreamEncryption", start, "InvalidKMSResourceException");
}

#[test]
fn policies_decide_who_does_what() {
    let mut hoses = Hoses::new();
    hoses.world.create("source", 1);
    let mut request = to_bucket("clicks", json!({}));
    request["Tags"] = json!([{"Key": "team", "Value": "web"}]);
    hoses.ok("CreateDeliveryStream", request.clone());
    hoses.create("orders", json!({}));
    let statement = |action: Json, resource: &str, condition: Json| json!({"Effect": "Allow", "Action": action, "Resource": resource, "Condition": condition});
    let arn = "arn:aws:firehose:us-east-1:000000000000:deliverystream/";
    let statements = json!([
        statement(json!("firehose:PutRecord"), &format!("{arn}clicks"), json!({})),
        statement(json!("firehose:Describe*"), "*", json!({"StringEquals": {"aws:ResourceTag/team": "web"}})),
        statement(
            json!("firehose:CreateDeliveryStream"),
            "*",
            json!({"StringEquals": {"aws:RequestTag/team": "web"}})
        ),
        statement(json!("kinesis:*"), "arn:aws:kinesis:*:*:stream/other", json!({})),
    ]);
    let policy = json!({"Version": "2012-10-17", "Statement": statements});
    let key = json!({"access_key_id": "AK", "secret_access_key": "s", "user": "bob", "policies": [policy]});
    hoses.world.restart(|setup| setup.credentials = Some(json!({"keys": [key]}).to_string()));
    let call = |operation: &str, body: Json, service: &str| {
        let mut request = hoses.request(operation, &body);
        sign_for(&mut request, service);
        let got = hoses.send(&request);
        match got.status {
            200 => "OK".to_owned(),
            _ => got.error().0.to_owned(),
        }
    };
    let name = |name: &str| json!({"DeliveryStreamName": name});
    let put = |name: &str| json!({"DeliveryStreamName": name, "Record": {"Data": ""}});
    assert_eq!(call("PutRecord", put("clicks"), "firehose"), "OK");
    assert_eq!(call("PutRecord", put("clicks"), "kinesis"), "InvalidSignatureException");
    assert_eq!(call("PutRecord", put("orders"), "firehose"), "AccessDeniedException");
    // A caller without permission does not learn what exists.
    assert_eq!(call("PutRecord", put("none"), "firehose"), "AccessDeniedException");
    assert_eq!(call("DescribeDeliveryStream", name("clicks"), "firehose"), "OK");
    assert_eq!(call("DescribeDeliveryStream", name("orders"), "firehose"), "AccessDeniedException");
    assert_eq!(call("ListDeliveryStreams", json!({}), "firehose"), "AccessDeniedException");
    request["DeliveryStreamName"] = json!("more");
    assert_eq!(call("CreateDeliveryStream", request, "firehose"), "OK");
    assert_eq!(
        call("CreateDeliveryStream", to_bucket("untagged", json!({})), "firehose"),
        "AccessDeniedException"
    );
    // The caller sees what is delivered.
    let mut reading = from_stream("reading", &hoses.world.arn("source"));
    reading["Tags"] = json!([{"Key": "team", "Value": "web"}]);
    assert_eq!(call("CreateDeliveryStream", reading.clone(), "firehose"), "AccessDeniedException");
    reading["KinesisStreamSourceConfiguration"]["KinesisStreamARN"] = json!(hoses.world.arn("other"));
    assert_eq!(
        call("CreateDeliveryStream", reading, "firehose"),
        "InvalidArgumentException",
        "no such stream"
    );
    // The operations of one service are not those of the other.
    let mut request = hoses.world.signed("PutRecord", "{}");
    sign_for(&mut request, "firehose");
    assert_eq!(hoses.send(&request).error().0, "InvalidSignatureException");
    assert_eq!(hoses.call("CreateStream", &json!({})).error().0, "UnknownOperationException");
}

#[cfg(feature = "parquet")]
#[test]
fn json_becomes_parquet_by_a_schema_of_the_operator() {
    use crate::delivery::{ParquetSchema, ParquetType};

    let schema = ParquetSchema::new().column("page", ParquetType::String).column("n", ParquetType::Int64);
    let hoses = Hoses::with(|setup| {
        drop(setup.firehose.tables.insert(("shop".into(), "clicks".into()), schema));
    });
    let conversion = |table: &str| {
        json!({
            "SchemaConfiguration": {"RoleARN": ROLE, "DatabaseName": "shop", "TableName": table, "Region": "us-east-1"},
            "InputFormatConfiguration": {"Deserializer": {"OpenXJsonSerDe": {"ColumnToJsonKeyMappings": {"page": "url"}}}},
            "OutputFormatConfiguration": {"Serializer": {"ParquetSerDe": {"Compression": "GZIP", "PageSizeBytes": 65_536}}},
        })
    };
    let unknown = to_bucket("clicks", json!({"DataFormatConversionConfiguration": conversion("orders")}));
    let text = hoses.refused("CreateDeliveryStream", unknown, "InvalidArgumentException");
    assert!(text.contains("no Glue") && text.contains("\"orders\""), "{text}");
    hoses.create("clicks", json!({"DataFormatConversionConfiguration": conversion("clicks")}));
    hoses.put("clicks", [r#"{"url": "/cart", "n": 7}"#, r#"{"n": "seven"}"#]);
    let is_of = |kind: &'static str| move |name: &&String| name.contains(kind);
    until("the object and the error are there", || hoses.objects("archive").len() == 2);
    let objects = hoses.objects("archive");
    assert_eq!(objects.keys().filter(is_of("format-conversion-failed/")).count(), 1, "{objects:?}");
    let name = objects.keys().find(is_of(".parquet")).unwrap();
    assert!(objects[name].starts_with(b"PAR1") && objects[name].ends_with(b"PAR1"));
}

impl World {
    /// Returns a value on the page of metrics.
    fn metric(&self, name: &str) -> f64 {
        let mut request = self.signed("", "");
        request.method = Method::GET;
        request.uri = "/metrics".parse().unwrap();
        let text = String::from_utf8(self.send(&request).1.to_vec()).unwrap();
        let line = text.lines().find(|line| line.starts_with(name));
        line.map_or(0.0, |line| line.rsplit_once(' ').unwrap().1.parse().unwrap())
    }
}
