//! The definition of a delivery stream: its source and its destination, as in requests and in the store.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};

use crate::gateway::fault::{Answered, Fault};

/// The members of a destination, by the names that requests have for them.
pub(in crate::gateway) type Members = Map<String, Json>;

/// The stored definition of a delivery stream, a property of the stream behind it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(in crate::gateway) struct Definition {
    /// Incremented by each change of the destination.
    pub(in crate::gateway) version: u64,
    /// Distinguishes delivery streams of the same name.
    pub(in crate::gateway) id: String,
    pub(in crate::gateway) source: Source,
    pub(in crate::gateway) kind: Kind,
    pub(in crate::gateway) destination: Members,
    pub(in crate::gateway) encryption: Encryption,
    /// When the destination was changed, in milliseconds.
    pub(in crate::gateway) updated: Option<u64>,
    pub(in crate::gateway) is_deleting: bool,
    pub(in crate::gateway) tags: BTreeMap<String, String>,
}

/// Where the records come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::gateway) enum Source {
    /// Producers put them directly.
    DirectPut { throughput_hint: Option<u32> },
    /// From a stream, beginning with records put at a time in milliseconds.
    Kinesis { stream: String, role: String, since: u64 },
}

impl Source {
    pub(in crate::gateway) fn name(&self) -> &'static str {
        match self {
            Self::DirectPut { .. } => "DirectPut",
            Self::Kinesis { .. } => "KinesisStreamAsSource",
        }
    }
}

/// Whether records are encrypted while they wait to be delivered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::gateway) struct Encryption {
    pub(in crate::gateway) key: Option<Key>,
    /// When that was changed, in milliseconds.
    pub(in crate::gateway) changed: Option<u64>,
}

/// A key by its names, which are only reported: the keys are those of the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::gateway) struct Key {
    pub(in crate::gateway) kind: String,
    pub(in crate::gateway) arn: Option<String>,
}

/// The kinds of destinations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::gateway) enum Kind {
    S3,
    Http,
    Splunk,
    OpenSearch,
}

/// The suffix of the members of requests that contain a destination.
const CONFIGURATION: &str = "DestinationConfiguration";
const UPDATE: &str = "DestinationUpdate";

/// The prefixes of these members.
const KINDS: [(&str, Kind); 5] = [
    ("S3", Kind::S3),
    ("ExtendedS3", Kind::S3),
    ("HttpEndpoint", Kind::Http),
    ("Splunk", Kind::Splunk),
    ("Amazonopensearchservice", Kind::OpenSearch),
];

/// The prefixes of those that this server does not support, and why.
const ABSENT: [(&str, &str); 5] = [
    ("Redshift", "Redshift loads from a bucket: deliver to S3, and let Redshift copy from there"),
    ("Elasticsearch", "use AmazonopensearchserviceDestinationConfiguration, whose protocol is the same"),
    ("AmazonOpenSearchServerless", "its requests have to be signed for IAM, which this server does not do"),
    ("Snowflake", "Snowflake loads from a bucket: deliver to S3, and let Snowflake copy from there"),
    ("Iceberg", "this server writes no Iceberg tables: deliver Parquet to S3"),
];

impl Kind {
    /// Returns the name of the destination's member in descriptions.
    pub(in crate::gateway) fn description(self) -> &'static str {
        match self {
            Self::S3 => "ExtendedS3DestinationDescription",
            Self::Http => "HttpEndpointDestinationDescription",
            Self::Splunk => "SplunkDestinationDescription",
            Self::OpenSearch => "AmazonopensearchserviceDestinationDescription",
        }
    }

    /// Returns the default values of a request.
    fn defaults(self) -> Json {
        match self {
            Self::S3 => json!({"S3BackupMode": "Disabled"}),
            Self::Http => json!({
                "BufferingHints": {"SizeInMBs": 5, "IntervalInSeconds": 300},
                "CloudWatchLoggingOptions": {"Enabled": false},
                "RequestConfiguration": {"ContentEncoding": "NONE"},
                "RetryOptions": {"DurationInSeconds": 300},
                "S3BackupMode": "FailedDataOnly",
            }),
            Self::Splunk => json!({
                "BufferingHints": {"SizeInMBs": 5, "IntervalInSeconds": 60},
                "CloudWatchLoggingOptions": {"Enabled": false},
                "HECAcknowledgmentTimeoutInSeconds": 180,
                "RetryOptions": {"DurationInSeconds": 300},
                "S3BackupMode": "FailedEventsOnly",
            }),
            Self::OpenSearch => json!({
                "BufferingHints": {"SizeInMBs": 5, "IntervalInSeconds": 300},
                "CloudWatchLoggingOptions": {"Enabled": false},
                "DocumentIdOptions": {"DefaultDocumentIdFormat": "FIREHOSE_DEFAULT"},
                "IndexRotationPeriod": "OneDay",
                "RetryOptions": {"DurationInSeconds": 300},
                "S3BackupMode": "FailedDocumentsOnly",
            }),
        }
    }
}

/// Returns the destination of a request that creates a delivery stream.
pub(in crate::gateway) fn created(request: &mut Members) -> Answered<(Kind, Members)> {
    let (kind, mut members) = take_one(request, CONFIGURATION)?;
    fill(kind, &mut members)?;
    Ok((kind, members))
}

/// Returns a destination after the changes of a request.
pub(in crate::gateway) fn updated(definition: &Definition, request: &mut Members) -> Answered<Members> {
    let (kind, changes) = take_one(request, UPDATE)?;
    if kind != definition.kind {
        return Err(Fault::invalid(
            "The kind of a destination cannot be changed: create another delivery stream.",
        ));
    }
    let mut members = definition.destination.clone();
    for (name, value) in changes {
        // Nested bucket updates are also replaced member by member.
        match (name.as_str(), value) {
            ("S3Update", Json::Object(changes)) => extend(&mut members, "S3Configuration", changes),
            ("S3BackupUpdate", Json::Object(changes)) => {
                extend(&mut members, "S3BackupConfiguration", changes)
            }
            (_, value) => drop(members.insert(name, value)),
        }
    }
    fill(kind, &mut members)?;
    Ok(members)
}

fn extend(members: &mut Members, name: &str, changes: Members) {
    match members.get_mut(name) {
        Some(Json::Object(known)) => known.extend(changes),
        _ => drop(members.insert(name.to_owned(), Json::Object(changes))),
    }
}

/// Takes the one destination out of a request.
fn take_one(request: &mut Members, end: &str) -> Answered<(Kind, Members)> {
    for (begin, why) in ABSENT {
        if request.contains_key(&format!("{begin}{end}")) {
            return Err(Fault::invalid(format!("{begin}{end} is not supported by this server: {why}.")));
        }
    }
    let mut found = vec![];
    for (begin, kind) in KINDS {
        if let Some(Json::Object(members)) = request.remove(&format!("{begin}{end}")) {
            found.push((kind, members));
        }
    }
    match (found.pop(), found.is_empty()) {
        (Some(one), true) => Ok(one),
        _ => Err(Fault::invalid(format!("Exactly one destination has to be given, a {end}."))),
    }
}

/// Adds the default values of a request.
fn fill(kind: Kind, members: &mut Members) -> Answered<()> {
    if kind == Kind::S3 {
        fill_bucket(
            members,
            is_on(members, "DynamicPartitioningConfiguration")
                || is_on(members, "DataFormatConversionConfiguration"),
        )?;
    }
    for bucket in ["S3Configuration", "S3BackupConfiguration"] {
        if let Some(Json::Object(bucket)) = members.get_mut(bucket) {
            fill_bucket(bucket, false)?;
        }
    }
    fill_with(members, kind.defaults());
    check_hints(members)
}

fn fill_bucket(members: &mut Members, is_large: bool) -> Answered<()> {
    check_hints(members)?;
    let size = if is_large { 128 } else { 5 };
    fill_with(
        members,
        json!({
            "BufferingHints": {"SizeInMBs": size, "IntervalInSeconds": 300},
            "CloudWatchLoggingOptions": {"Enabled": false},
            "CompressionFormat": "UNCOMPRESSED",
            "EncryptionConfiguration": {"NoEncryptionConfig": "NoEncryption"},
        }),
    );
    Ok(())
}

fn fill_with(members: &mut Members, defaults: Json) {
    let Json::Object(defaults) = defaults else { return };
    for (name, value) in defaults {
        members.entry(name).or_insert(value);
    }
}

fn check_hints(members: &Members) -> Answered<()> {
    let Some(Json::Object(hints)) = members.get("BufferingHints") else { return Ok(()) };
    match hints.len() {
        1 => Err(Fault::invalid("BufferingHints must have both SizeInMBs and IntervalInSeconds.")),
        _ => Ok(()),
    }
}

/// Returns whether a part of a destination is present and enabled.
fn is_on(members: &Members, name: &str) -> bool {
    members.get(name).is_some_and(|part| part["Enabled"] != Json::Bool(false))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(value: Json) -> Members {
        match value {
            Json::Object(members) => members,
            _ => Members::new(),
        }
    }

    fn definition(destination: Json) -> Definition {
        Definition {
            version: 1,
            id: String::new(),
            source: Source::DirectPut { throughput_hint: None },
            kind: Kind::Http,
            destination: members(destination),
            encryption: Encryption::default(),
            updated: None,
            is_deleting: false,
            tags: BTreeMap::new(),
        }
    }

    #[test]
    fn an_update_replaces_what_it_names_and_nothing_else() {
        let before = json!({
            "EndpointConfiguration": {"Url": "https://a.com", "AccessKey": "secret"},
            "S3BackupMode": "AllData",
            "S3Configuration": {"BucketARN": "arn:aws:s3:::one", "Prefix": "p/"},
        });
        let update = json!({"HttpEndpointDestinationUpdate": {
            "EndpointConfiguration": {"Url": "https://b.com"},
            "S3Update": {"Prefix": "q/"},
        }});
        let after = updated(&definition(before), &mut members(update)).unwrap();
        // The key was for the other server.
        assert_eq!(after["EndpointConfiguration"], json!({"Url": "https://b.com"}));
        assert_eq!(after["S3BackupMode"], "AllData");
        assert_eq!(after["S3Configuration"]["BucketARN"], "arn:aws:s3:::one");
        assert_eq!(after["S3Configuration"]["Prefix"], "q/");
    }

    #[test]
    fn one_destination_has_to_be_given() {
        let bucket = json!({"BucketARN": "arn:aws:s3:::one"});
        for wrong in [
            json!({}),
            json!({"S3DestinationConfiguration": bucket, "ExtendedS3DestinationConfiguration": bucket}),
            json!({"S3DestinationConfiguration": bucket, "HttpEndpointDestinationConfiguration": {}}),
            json!({"S3DestinationConfiguration": bucket, "RedshiftDestinationConfiguration": {}}),
        ] {
            assert!(created(&mut members(wrong.clone())).is_err(), "{wrong}");
        }
        let (kind, filled) = created(&mut members(json!({"S3DestinationConfiguration": bucket}))).unwrap();
        assert_eq!(kind, Kind::S3);
        assert_eq!(filled["BufferingHints"], json!({"SizeInMBs": 5, "IntervalInSeconds": 300}));
    }
}
