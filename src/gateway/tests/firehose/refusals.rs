//! Tests of refused delivery streams, one by one.

use super::*;

/// Why there is no Parquet without a schema.
const NO_SCHEMA: &str =
    if cfg!(feature = "parquet") { "has no schema of a table" } else { "without the feature `parquet`" };

/// Requests that are refused: what is changed in a good one, and a part of the text.
fn changes() -> Vec<(Json, &'static str)> {
    let parameter = |name: &str, value: &str| json!({"ParameterName": name, "ParameterValue": value});
    let with = |processor: Json| json!({"ProcessingConfiguration": processors(json!([processor]))});
    let partitioned = |query: &str, engine: &str, prefix: &str| {
        json!({
            "DynamicPartitioningConfiguration": {"Enabled": true},
            "Prefix": prefix,
            "ErrorOutputPrefix": "e/!{firehose:error-output-type}/",
            "ProcessingConfiguration": processors(json!([{"Type": "MetadataExtraction", "Parameters": [
                parameter("MetadataExtractionQuery", query), parameter("JsonParsingEngine", engine)]}])),
        })
    };
    let converted = |input: Json, output: Json| {
        json!({"DataFormatConversionConfiguration": {
            "InputFormatConfiguration": {"Deserializer": input}, "OutputFormatConfiguration": {"Serializer": output}}})
    };
    let prefix = "k=!{partitionKeyFromQuery:k}/";
    vec![
        (json!({"BucketARN": "arn:aws:s3:::.."}), "names no bucket"),
        (json!({"BucketARN": "arn:aws:s3:::..."}), "names no bucket"),
        (json!({"BucketARN": "arn:aws:s3:::.gateway"}), "names no bucket"),
        (json!({"BucketARN": "arn:aws:s3:::Archive"}), "names no bucket"),
        (json!({"Prefix": "../outside/"}), "segment `.` or `..`"),
        (json!({"Prefix": "/etc/"}), "begins with a slash"),
        (json!({"Prefix": "a\\b"}), "backslash"),
        (json!({"Prefix": "!{timestamp:yyyy}/../../"}), "segment `.` or `..`"),
        (json!({"ErrorOutputPrefix": "../outside/"}), "segment `.` or `..`"),
        (json!({"Prefix": "!{timestamp:yyyy}/"}), "needs an error prefix"),
        (
            json!({"Prefix": "!{timestamp:yyyy}/", "ErrorOutputPrefix": "!{timestamp:yyyy}/"}),
            "error-output-type",
        ),
        (
            json!({"Prefix": "!{firehose:error-output-type}/", "ErrorOutputPrefix": "e/"}),
            "only stand in the error prefix",
        ),
        (json!({"Prefix": "!{secret:x}/", "ErrorOutputPrefix": "e/"}), "is unknown"),
        (json!({"Prefix": "!{timestamp:yyyy", "ErrorOutputPrefix": "e/"}), "has no end"),
        (json!({"CustomTimeZone": "Mars/Olympus"}), "time zone"),
        (json!({"BufferingHints": {"SizeInMBs": 5}}), "both SizeInMBs and IntervalInSeconds"),
        (
            json!({"EncryptionConfiguration": {"KMSEncryptionConfig": {"AWSKMSKeyARN": "arn:aws:kms:us-east-1:000000000000:key/k"}}}),
            "no KMS here",
        ),
        (json!({"S3BackupMode": "Enabled"}), "needs an S3BackupConfiguration"),
        (
            json!({"S3BackupMode": "Enabled", "S3BackupConfiguration": {"RoleARN": ROLE, "BucketARN": "arn:aws:s3:::b..b"}}),
            "names no bucket",
        ),
        (
            json!({"S3BackupMode": "Enabled", "S3BackupConfiguration": {"RoleARN": ROLE, "BucketARN": "arn:aws:s3:::back", "CompressionFormat": "GZIP"}}),
            "backups are written as they are",
        ),
        (
            json!({"S3BackupMode": "Enabled", "S3BackupConfiguration": {"RoleARN": ROLE, "BucketARN": "arn:aws:s3:::back", "Prefix": "../"}}),
            "segment `.` or `..`",
        ),
        (
            with(
                json!({"Type": "Lambda", "Parameters": [parameter("LambdaArn", "arn:aws:lambda:us-east-1:000000000000:function:f")]}),
            ),
            "no Lambda here",
        ),
        (with(json!({"Type": "CloudWatchLogProcessing"})), "needs the processor Decompression"),
        (
            json!({"ProcessingConfiguration": processors(json!([
                {"Type": "CloudWatchLogProcessing", "Parameters": [parameter("DataMessageExtraction", "yes")]},
                {"Type": "Decompression", "Parameters": [parameter("CompressionFormat", "GZIP")]},
            ]))}),
            "must be true or false",
        ),
        (with(json!({"Type": "MetadataExtraction"})), "needs DynamicPartitioningConfiguration"),
        (with(json!({"Type": "Decompression"})), "must be GZIP"),
        (
            with(json!({"Type": "Decompression", "Parameters": [parameter("CompressionFormat", "Snappy")]})),
            "must be GZIP",
        ),
        (with(json!({"Type": "RecordDeAggregation"})), "SubRecordType must be JSON"),
        (
            with(
                json!({"Type": "RecordDeAggregation", "Parameters": [parameter("SubRecordType", "DELIMITED")]}),
            ),
            "with a Delimiter",
        ),
        (
            with(
                json!({"Type": "RecordDeAggregation", "Parameters": [parameter("SubRecordType", "DELIMITED"), parameter("Delimiter", "*")]}),
            ),
            "no Base64",
        ),
        (
            with(json!({"Type": "AppendDelimiterToRecord", "Parameters": [parameter("Delimiter", "\\x")]})),
            "backslash",
        ),
        (
            with(
                json!({"Type": "AppendDelimiterToRecord", "Parameters": [parameter("NumberOfRetries", "1")]}),
            ),
            "no parameter NumberOfRetries",
        ),
        (
            with(
                json!({"Type": "AppendDelimiterToRecord", "Parameters": [parameter("Delimiter", ","), parameter("Delimiter", ";")]}),
            ),
            "there twice",
        ),
        (
            json!({"ProcessingConfiguration": processors(json!([{"Type": "AppendDelimiterToRecord"}, {"Type": "AppendDelimiterToRecord"}]))}),
            "there twice",
        ),
        (
            json!({"DynamicPartitioningConfiguration": {"Enabled": true}}),
            "needs the processor MetadataExtraction",
        ),
        (partitioned("{k: .k}", "JQ-1.5", prefix), "JQ-1.6"),
        (partitioned(".k", "JQ-1.6", prefix), "it is no object"),
        (partitioned("{k: .k | env}", "JQ-1.6", prefix), ""),
        (partitioned("{k: .k, l: .l}", "JQ-1.6", prefix), "does not name the partition key \"l\""),
        (partitioned("{k: .k}", "JQ-1.6", "k=!{partitionKeyFromQuery:other}/"), "names no partition key"),
        (json!({"DataFormatConversionConfiguration": {"Enabled": true}}), "needs an OpenXJsonSerDe"),
        (converted(json!({"OpenXJsonSerDe": {}}), json!({"OrcSerDe": {}})), "it writes Parquet"),
        (converted(json!({"HiveJsonSerDe": {}}), json!({"ParquetSerDe": {}})), "OpenXJsonSerDe does"),
        (converted(json!({"OpenXJsonSerDe": {}}), json!({"ParquetSerDe": {}})), NO_SCHEMA),
    ]
}

#[test]
fn l6_each_setting_that_cannot_be_is_refused_with_the_reason() {
    let hoses = Hoses::new();
    for (change, expected) in changes() {
        let request = to_bucket("clicks", change.clone());
        let text = hoses.refused("CreateDeliveryStream", request, "InvalidArgumentException");
        assert!(text.contains(expected), "{change}: {text}");
    }
    let mut small = changes().into_iter().find(|(_, text)| text.contains("JQ-1.6")).unwrap().0;
    small["BufferingHints"] = json!({"SizeInMBs": 63, "IntervalInSeconds": 60});
    let text = hoses.refused("CreateDeliveryStream", to_bucket("clicks", small), "InvalidArgumentException");
    assert!(text.contains("at least 64"), "{text}");
    // Nothing is left of any of them, neither in the store nor beside it.
    assert_eq!(hoses.ok("ListDeliveryStreams", json!({}))["DeliveryStreamNames"], json!([]));
    assert!(hoses.world.front().service.catalogue.own_names().unwrap().is_empty());
    assert_eq!(fs::read_dir(hoses.buckets.path()).unwrap().count(), 0);
}

#[test]
fn destinations_and_sources_that_are_not_there_are_refused_by_name() {
    let hoses = Hoses::new();
    for (destination, expected) in [
        ("Redshift", "Redshift loads from a bucket"),
        ("Elasticsearch", "use Amazonopensearchservice"),
        ("AmazonOpenSearchServerless", "signed for IAM"),
        ("Snowflake", "Snowflake loads from a bucket"),
        ("Iceberg", "no Iceberg tables"),
    ] {
        let member = format!("{destination}DestinationConfiguration");
        let request = json!({"DeliveryStreamName": "clicks", member: {"RoleARN": ROLE}});
        let text = hoses.refused("CreateDeliveryStream", request, "InvalidArgumentException");
        assert!(text.starts_with(destination) && text.contains(expected), "{text}");
    }
    let text = hoses.refused(
        "CreateDeliveryStream",
        json!({"DeliveryStreamName": "clicks"}),
        "InvalidArgumentException",
    );
    assert!(text.contains("Exactly one destination"), "{text}");
    let with = |member: &str, value: Json| {
        let mut request = to_bucket("clicks", json!({}));
        request[member] = value;
        hoses.refused("CreateDeliveryStream", request, "InvalidArgumentException")
    };
    for kind in ["MSKAsSource", "DatabaseAsSource"] {
        assert!(with("DeliveryStreamType", json!(kind)).contains("is not supported"));
    }
    assert!(with("MSKSourceConfiguration", json!({})).contains("MSKSourceConfiguration is not supported"));
    assert!(
        with("DeliveryStreamType", json!("KinesisStreamAsSource")).contains("needs a KinesisStreamSource")
    );
    let source = json!({"KinesisStreamARN": hoses.world.arn("none"), "RoleARN": ROLE});
    assert!(with("KinesisStreamSourceConfiguration", source).contains("only for the type"));
    let missing = from_stream("clicks", &hoses.world.arn("none"));
    let text = hoses.refused("CreateDeliveryStream", missing, "InvalidArgumentException");
    assert!(text.contains("There is no stream"), "{text}");
    // Without buckets, there is nowhere to deliver to.
    let none = Hoses::with(|setup| setup.firehose.buckets = None);
    let text =
        none.refused("CreateDeliveryStream", to_bucket("clicks", json!({})), "InvalidArgumentException");
    assert!(text.contains("has no buckets"), "{text}");
}

#[test]
fn requests_have_the_bounds_of_firehose() {
    let hoses = Hoses::new();
    hoses.create("clicks", json!({}));
    let data = |bytes: usize| base64(&"x".repeat(bytes));
    let put = |bytes: usize| json!({"DeliveryStreamName": "clicks", "Record": {"Data": data(bytes)}});
    hoses.ok("PutRecord", put(1_024_000));
    let text = hoses.refused("PutRecord", put(1_024_001), "ValidationException");
    assert!(text.contains("'record.data' failed to satisfy constraint: Member must have length less than or equal to 1024000"), "{text}");
    let batch = |sizes: &[usize]| {
        let records: Vec<_> = sizes.iter().map(|bytes| json!({"Data": data(*bytes)})).collect();
        json!({"DeliveryStreamName": "clicks", "Records": records})
    };
    let full = [1_024_000, 1_024_000, 1_024_000, 1_024_000, 98_304];
    hoses.ok("PutRecordBatch", batch(&full));
    let text =
        hoses.refused("PutRecordBatch", batch(&[&full[..], &[1]].concat()), "InvalidArgumentException");
    assert!(text.contains("4 MB"), "{text}");
    hoses.ok("PutRecordBatch", batch(&[0; 500]));
    hoses.refused("PutRecordBatch", batch(&[0; 501]), "ValidationException");
    hoses.refused("PutRecordBatch", batch(&[]), "ValidationException");
    hoses.refused(
        "PutRecord",
        json!({"DeliveryStreamName": "none", "Record": {"Data": ""}}),
        "ResourceNotFoundException",
    );
    for name in ["", "a/b", "..//", &"x".repeat(65)] {
        let mut request = to_bucket("clicks", json!({}));
        request["DeliveryStreamName"] = json!(name);
        hoses.refused("CreateDeliveryStream", request, "ValidationException");
    }
    // These are names, and lead nowhere.
    for name in [".", "..", "-", &"x".repeat(64)] {
        let mut request = to_bucket("clicks", json!({}));
        request["DeliveryStreamName"] = json!(name);
        hoses.ok("CreateDeliveryStream", request);
        hoses.put(name, ["x"]);
    }
    let is_inside = |path: fs::DirEntry| ["archive"].contains(&path.file_name().to_str().unwrap());
    hoses.delivered("archive", 2 * 4 * 1_024_000 + 98_304 - 3 * 1_024_000 + 4);
    assert!(fs::read_dir(hoses.buckets.path()).unwrap().all(|entry| is_inside(entry.unwrap())));
}
