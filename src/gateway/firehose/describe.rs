//! Descriptions of delivery streams.

use serde_json::Value as Json;

use super::definition::{Definition, Kind, Members, Source};
use super::stream::DeliveryStream;
use crate::Timestamp;
use crate::gateway::wire::{Map, Value};

/// The only destination of a delivery stream.
pub(in crate::gateway) const DESTINATION_ID: &str = "destinationId-000000000001";

/// The members that requests may have, and descriptions leave out.
const SECRETS: [&str; 2] = ["AccessKey", "HECToken"];

/// The members of a bucket's description for clients that do not know the extended ones.
const PLAIN_MEMBERS: [&str; 8] = [
    "RoleARN",
    "BucketARN",
    "Prefix",
    "ErrorOutputPrefix",
    "BufferingHints",
    "CompressionFormat",
    "EncryptionConfiguration",
    "CloudWatchLoggingOptions",
];

/// Returns the description of a delivery stream.
pub(in crate::gateway) fn describe(stream: &DeliveryStream) -> Value<'static> {
    let definition = stream.definition();
    let time = |millis: u64| Value::Time(Timestamp::from_millis(millis));
    Value::map([
        ("DeliveryStreamName", Value::text(stream.name.clone())),
        ("DeliveryStreamARN", Value::text(stream.arn.clone())),
        ("DeliveryStreamStatus", Value::text(stream.status().name())),
        ("DeliveryStreamEncryptionConfiguration", encryption(stream, &definition)),
        ("DeliveryStreamType", Value::text(definition.source.name())),
        ("VersionId", Value::text(definition.version.to_string())),
        ("CreateTimestamp", time(stream.created_at.as_millis())),
        ("Destinations", Value::List(vec![destination(&definition)])),
        ("HasMoreDestinations", Value::Bool(false)),
    ])
    .with("LastUpdateTimestamp", definition.updated.map(time))
    .with("Source", source(stream, &definition))
}

fn encryption(stream: &DeliveryStream, definition: &Definition) -> Value<'static> {
    let state = &definition.encryption;
    let is_changing = state.changed.is_some_and(|changed| stream.is_shown(Timestamp::from_millis(changed)));
    let status = match (&state.key, is_changing) {
        (Some(_), true) => "ENABLING",
        (Some(_), false) => "ENABLED",
        (None, true) => "DISABLING",
        (None, false) => "DISABLED",
    };
    let key = state.key.as_ref();
    Value::map([("Status", Value::text(status))])
        .with("KeyType", key.map(|key| Value::text(key.kind.clone())))
        .with("KeyARN", key.and_then(|key| key.arn.clone()).map(Value::text))
}

fn source(stream: &DeliveryStream, definition: &Definition) -> Option<Value<'static>> {
    match &definition.source {
        Source::DirectPut { throughput_hint } => {
            let hint = Value::Integer((*throughput_hint)?.into());
            Some(Value::map([("DirectPutSourceDescription", Value::map([("ThroughputHintInMBs", hint)]))]))
        }
        Source::Kinesis { stream: of, role, since } => Some(Value::map([(
            "KinesisStreamSourceDescription",
            Value::map([
                ("KinesisStreamARN", Value::text(stream.behaviour.account.stream_arn(of))),
                ("RoleARN", Value::text(role.clone())),
                ("DeliveryStartTimestamp", Value::Time(Timestamp::from_millis(*since))),
            ]),
        )])),
    }
}

fn destination(definition: &Definition) -> Value<'static> {
    let members = &definition.destination;
    let plain = (definition.kind == Kind::S3).then(|| {
        let is_plain = |name: &String| PLAIN_MEMBERS.contains(&name.as_str());
        let members = members.iter().filter(|(name, _)| is_plain(name));
        to_map(members.map(|(name, value)| (name.clone(), value.clone())).collect())
    });
    Value::map([
        ("DestinationId", Value::text(DESTINATION_ID)),
        (definition.kind.description(), to_map(members.clone())),
    ])
    .with("S3DestinationDescription", plain)
}

/// Returns members for a description, without secrets.
fn to_map(members: Members) -> Value<'static> {
    let members = members.into_iter().filter(|(name, _)| !SECRETS.contains(&name.as_str()));
    let member = |(name, value): (String, Json)| {
        let name = match name.as_str() {
            "S3Configuration" => "S3DestinationDescription".to_owned(),
            "S3BackupConfiguration" => "S3BackupDescription".to_owned(),
            _ => name,
        };
        (name.into(), to_value(value))
    };
    Value::Map(members.map(member).collect::<Map<'static>>())
}

fn to_value(value: Json) -> Value<'static> {
    match value {
        Json::Null => Value::Null,
        Json::Bool(bool) => Value::Bool(bool),
        Json::Number(number) => match number.as_i64() {
            Some(integer) => Value::Integer(integer),
            None => Value::Float(number.as_f64().unwrap_or_default()),
        },
        Json::String(text) => Value::Text(text.into()),
        Json::Array(items) => Value::List(items.into_iter().map(to_value).collect()),
        Json::Object(members) => to_map(members),
    }
}
