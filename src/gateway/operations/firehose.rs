//! Delivery streams: creating, describing, changing and deleting them, and their tags.

use std::collections::BTreeMap;
use std::sync::Arc;

use ring::rand::{SecureRandom, SystemRandom};
use serde_json::{Map, Value as Json};

use super::super::firehose::{
    DESTINATION_ID, Definition, DeliveryStream, Encryption, Key, Kind, Source, created,
    describe as description, no_keys, updated,
};
use super::{Answered, Call, Fault, Input, Reply, Value, table};
use crate::{Error, Timestamp};

/// How many delivery streams a list has by default.
const LIST_DEFAULT: usize = 10;
const TAGS_MAX: usize = 50;
/// The name of a key that is not the caller's.
const OWNED_KEY: &str = "AWS_OWNED_CMK";

pub(super) fn create(call: &Call<'_>, mut input: Input<'_>) -> Answered<Reply> {
    let name = input.required("DeliveryStreamName").to_owned();
    let source = source(call, &mut input)?;
    let key = input.take("DeliveryStreamEncryptionConfigurationInput").map(|key| key_of(&key)).transpose()?;
    if key.is_some() && matches!(source, Source::Kinesis { .. }) {
        return Err(not_direct());
    }
    let mut tags = BTreeMap::new();
    add_tags(&mut tags, &input)?;
    let mut request = to_json(input)?;
    let (kind, destination) = created(&mut request)?;
    let mut bytes = [0; 8];
    SystemRandom::new().fill(&mut bytes).map_err(|_| Fault::internal())?;
    let definition = Definition {
        version: 1,
        id: format!("{:016x}", u64::from_be_bytes(bytes)),
        source,
        kind,
        destination,
        encryption: Encryption { key, changed: None },
        updated: None,
        is_deleting: false,
        tags,
    };
    let stream = call.service.firehose.create(&name, definition)?;
    call.reply(&Value::map([("DeliveryStreamARN", Value::text(stream.arn.clone()))]))
}

/// Returns a request as JSON, as definitions have it.
fn to_json(input: Input<'_>) -> Answered<Map<String, Json>> {
    let body = super::Format::Json.encode(&input.into_value());
    serde_json::from_slice(&body).map_err(|_| Fault::internal())
}

fn source(call: &Call<'_>, input: &mut Input<'_>) -> Answered<Source> {
    let kinesis = input.take("KinesisStreamSourceConfiguration");
    let direct = input.take("DirectPutSourceConfiguration");
    for absent in ["MSKSourceConfiguration", "DatabaseSourceConfiguration"] {
        if input.has(absent) {
            return Err(no_source(absent));
        }
    }
    match (input.text("DeliveryStreamType").unwrap_or("DirectPut"), kinesis, direct) {
        ("DirectPut", None, direct) => Ok(Source::DirectPut {
            throughput_hint: direct.and_then(|direct| direct.count("ThroughputHintInMBs")),
        }),
        ("KinesisStreamAsSource", Some(kinesis), None) => of_stream(call, &kinesis),
        ("DirectPut", Some(_), _) => Err(Fault::invalid(
            "KinesisStreamSourceConfiguration is only for the type KinesisStreamAsSource.",
        )),
        ("KinesisStreamAsSource", None, _) => {
            Err(Fault::invalid("The type KinesisStreamAsSource needs a KinesisStreamSourceConfiguration."))
        }
        ("KinesisStreamAsSource", ..) => {
            Err(Fault::invalid("DirectPutSourceConfiguration is only for the type DirectPut."))
        }
        (kind, ..) => Err(no_source(kind)),
    }
}

fn no_source(what: &str) -> Fault {
    Fault::invalid(format!(
        "{what} is not supported by this server: records come from producers or from a stream of this server."
    ))
}

/// Returns a stream as a source. The caller must be allowed to read it, because the caller gets the delivered records.
fn of_stream(call: &Call<'_>, asked: &Input<'_>) -> Answered<Source> {
    let arn = asked.required("KinesisStreamARN");
    let missing = || Fault::invalid(format!("There is no stream {arn} at this server."));
    for operation in ["GetShardIterator", "GetRecords"] {
        let operation = table::find("Kinesis_20131202", operation).ok_or_else(Fault::internal)?;
        if !(call.may)(operation, arn) {
            return Err(Fault::access_denied(format!(
                "The caller may not read the source: {} on {arn} is not allowed.",
                operation.action()
            )));
        }
    }
    let name = call.account().stream_of(arn).ok_or_else(missing)?;
    let known = call.service.catalogue.stream(name).map_err(|fault| fault.or_missing(missing))?;
    known.check_active(known.now())?;
    Ok(Source::Kinesis {
        stream: name.to_owned(),
        role: asked.required("RoleARN").to_owned(),
        since: known.now().as_millis(),
    })
}

fn find(call: &Call<'_>, input: &Input<'_>) -> Answered<Arc<DeliveryStream>> {
    call.service.firehose.get(input.required("DeliveryStreamName"))
}

/// Returns the empty answer of an operation.
fn done(call: &Call<'_>) -> Answered<Reply> {
    call.reply(&Value::Map(vec![]))
}

pub(super) fn delete(call: &Call<'_>, input: Input<'_>) -> Answered<Reply> {
    call.service.firehose.delete(&*find(call, &input)?)?;
    done(call)
}

pub(super) fn describe(call: &Call<'_>, input: Input<'_>) -> Answered<Reply> {
    let stream = find(call, &input)?;
    call.reply(&Value::map([("DeliveryStreamDescription", description(&stream))]))
}

pub(super) fn list(call: &Call<'_>, input: Input<'_>) -> Answered<Reply> {
    let limit = input.count("Limit").map_or(LIST_DEFAULT, |limit| limit as usize);
    let kind = input.text("DeliveryStreamType");
    let after = input.text("ExclusiveStartDeliveryStreamName");
    let is_asked_for = |stream: &Arc<DeliveryStream>| {
        after.is_none_or(|after| &*stream.name > after)
            && kind.is_none_or(|kind| stream.definition().source.name() == kind)
    };
    let all = call.service.firehose.all();
    let mut left = all.iter().filter(|stream| is_asked_for(stream));
    let names = left.by_ref().take(limit).map(|stream| Value::text(stream.name.clone())).collect();
    let has_more = left.next().is_some();
    call.reply(&Value::map([
        ("DeliveryStreamNames", Value::List(names)),
        ("HasMoreDeliveryStreams", Value::Bool(has_more)),
    ]))
}

pub(super) fn update(call: &Call<'_>, input: Input<'_>) -> Answered<Reply> {
    let stream = find(call, &input)?;
    let id = input.required("DestinationId").to_owned();
    let asked = input.required("CurrentDeliveryStreamVersionId").to_owned();
    let mut request = to_json(input)?;
    if id != DESTINATION_ID {
        return Err(Fault::invalid(format!(
            "Destination Id {id} not found: the only one of Firehose {} is {DESTINATION_ID}.",
            stream.name
        )));
    }
    call.service.firehose.update(&stream, |definition| {
        if asked != definition.version.to_string() {
            return Err(Fault::concurrent(format!(
                "Cannot update firehose: {} since the current version id: {} and specified version id: {asked} do not match",
                stream.name, definition.version
            )));
        }
        let destination = updated(definition, &mut request)?;
        if definition.kind == Kind::S3 {
            check_switches(&definition.destination, &destination)?;
        }
        definition.destination = destination;
        Ok(())
    })?;
    done(call)
}

/// Refuses changes that Firehose does not have: its buckets would hold objects of both kinds.
fn check_switches(before: &Map<String, Json>, after: &Map<String, Json>) -> Answered<()> {
    let is_partitioned = |members: &Map<String, Json>| {
        let partitioning = members.get("DynamicPartitioningConfiguration");
        partitioning.is_some_and(|it| it["Enabled"] != Json::Bool(false))
    };
    if is_partitioned(after) && !is_partitioned(before) {
        return Err(Fault::invalid(
            "Dynamic partitioning can only be enabled when a delivery stream is created.",
        ));
    }
    let is_kept = |members: &Map<String, Json>| members.get("S3BackupMode").is_some_and(|it| it == "Enabled");
    match is_kept(before) && !is_kept(after) {
        true => Err(Fault::invalid("S3BackupMode cannot be changed from Enabled to Disabled.")),
        false => Ok(()),
    }
}

fn key_of(input: &Input<'_>) -> Answered<Key> {
    let (kind, arn) = (input.required("KeyType"), input.text("KeyARN"));
    match (kind == OWNED_KEY, arn) {
        (true, Some(_)) => {
            Err(Fault::invalid(format!("KeyARN must not be given for the KeyType {OWNED_KEY}.")))
        }
        (false, None) => Err(Fault::invalid(format!("KeyARN must be given for the KeyType {kind}."))),
        _ => Ok(Key { kind: kind.to_owned(), arn: arn.map(str::to_owned) }),
    }
}

fn not_direct() -> Fault {
    Fault::invalid(
        "Encryption is for delivery streams of the type DirectPut. Encrypt the source of this one.",
    )
}

pub(super) fn start_encryption(call: &Call<'_>, mut input: Input<'_>) -> Answered<Reply> {
    let key = input.take("DeliveryStreamEncryptionConfigurationInput").map(|key| key_of(&key)).transpose()?;
    let key = key.unwrap_or(Key { kind: OWNED_KEY.to_owned(), arn: None });
    set_key(call, &input, Some(key))
}

pub(super) fn stop_encryption(call: &Call<'_>, input: Input<'_>) -> Answered<Reply> {
    set_key(call, &input, None)
}

fn set_key(call: &Call<'_>, input: &Input<'_>, key: Option<Key>) -> Answered<Reply> {
    let stream = find(call, input)?;
    let failed = |error: Error| match error {
        Error::KeyUnavailable(_) => no_keys(),
        error => stream.failed(&error),
    };
    let is_on = key.is_some();
    // Whatever a crash leaves in between, a delivery stream shown as encrypted is encrypted.
    let change = |definition: &mut Definition| {
        stream.check_active()?;
        if matches!(definition.source, Source::Kinesis { .. }) {
            return Err(not_direct());
        }
        if let Some(changed) = definition.encryption.changed
            && stream.is_shown(Timestamp::from_millis(changed))
        {
            return Err(Fault::in_use("The encryption of the delivery stream is being changed."));
        }
        if is_on {
            stream.stream.set_encrypted(true).map_err(failed)?;
        }
        definition.encryption = Encryption { key, changed: Some(stream.now().as_millis()) };
        Ok(())
    };
    let then = || if is_on { Ok(()) } else { stream.stream.set_encrypted(false).map_err(failed) };
    stream.change_and(change, then)?;
    done(call)
}

fn add_tags(tags: &mut BTreeMap<String, String>, input: &Input<'_>) -> Answered<()> {
    let asked = input.tag_list("Tags");
    for (at, (key, text)) in asked.iter().enumerate() {
        if asked[..at].iter().any(|(before, _)| before == key) {
            return Err(Fault::invalid(format!("The tag {key} is there twice.")));
        }
        tags.insert((*key).to_owned(), (*text).to_owned());
    }
    match tags.len() > TAGS_MAX {
        true => Err(Fault::limit(format!("A delivery stream may have {TAGS_MAX} tags."))),
        false => Ok(()),
    }
}

pub(super) fn tag(call: &Call<'_>, input: Input<'_>) -> Answered<Reply> {
    find(call, &input)?.change(|definition| add_tags(&mut definition.tags, &input))?;
    done(call)
}

pub(super) fn untag(call: &Call<'_>, input: Input<'_>) -> Answered<Reply> {
    find(call, &input)?.change(|definition| {
        input.texts("TagKeys").into_iter().for_each(|key| drop(definition.tags.remove(key)));
        Ok(())
    })?;
    done(call)
}

pub(super) fn list_tags(call: &Call<'_>, input: Input<'_>) -> Answered<Reply> {
    let definition = find(call, &input)?.definition();
    let limit = input.count("Limit").map_or(TAGS_MAX, |limit| limit as usize);
    let after = input.text("ExclusiveStartTagKey");
    let mut left = definition.tags.iter().filter(|(key, _)| after.is_none_or(|after| key.as_str() > after));
    let pair = |(key, text): (&String, &String)| {
        Value::map([("Key", Value::text(key.clone())), ("Value", Value::text(text.clone()))])
    };
    let tags = left.by_ref().take(limit).map(pair).collect();
    let has_more = left.next().is_some();
    call.reply(&Value::map([("Tags", Value::List(tags)), ("HasMoreTags", Value::Bool(has_more))]))
}
