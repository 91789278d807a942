//! Video streams: creating, describing, changing and deleting them, and their tags.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::token::Purpose;
use super::super::video::{Definition, KnownVideo, RETENTION_HOURS_MAX, answered, base_url};
use super::{Answered, Call, Fault, Input, Reply, Value};
use crate::{HOUR, Timestamp};

/// How many streams a list has by default.
const LIST_DEFAULT: usize = 10_000;
const TAGS_MAX: usize = 50;

/// Returns the video stream that a request names by its name, its ARN, or both.
pub(super) fn find(call: &Call<'_>, input: &Input<'_>) -> Answered<Arc<KnownVideo>> {
    let video = &call.service.video;
    match (input.text("StreamName"), input.text("StreamARN").or(input.text("ResourceARN"))) {
        (None, None) => Err(Fault::invalid("Either StreamName or StreamARN must be provided.")),
        (Some(name), None) => video.stream(name),
        (name, Some(arn)) => {
            let known = video.by_arn(arn)?;
            match name.filter(|name| *name != known.name) {
                Some(name) => Err(Fault::invalid(format!(
                    "StreamName {name} and StreamARN {arn} name different streams."
                ))),
                None => Ok(known),
            }
        }
    }
}

/// Returns the empty answer of an operation.
fn done(call: &Call<'_>) -> Answered<Reply> {
    call.reply(&Value::Map(vec![]))
}

fn owned(input: &Input<'_>, name: &str) -> Option<String> {
    input.text(name).map(str::to_owned)
}

pub(super) fn create(call: &Call<'_>, input: Input<'_>) -> Answered<Reply> {
    let hours = input.integer("DataRetentionInHours").unwrap_or(0);
    check_hours(hours)?;
    let mut tags = BTreeMap::new();
    add_tags(&mut tags, &input)?;
    let definition = Definition {
        version: Definition::new_version()?,
        device: owned(&input, "DeviceName"),
        media_type: owned(&input, "MediaType"),
        key: owned(&input, "KmsKeyId"),
        tags,
    };
    let name = input.required("StreamName");
    let known = call.service.video.create(name, &definition, hours.try_into().unwrap_or(0))?;
    call.reply(&Value::map([("StreamARN", Value::text(known.arn.clone()))]))
}

fn check_hours(hours: i64) -> Answered<()> {
    if (0..=RETENTION_HOURS_MAX).contains(&hours) {
        return Ok(());
    }
    Err(Fault::invalid(format!(
        "A stream keeps its data for 0 to {RETENTION_HOURS_MAX} hours, and not for {hours}."
    )))
}

fn info(known: &KnownVideo) -> Value<'static> {
    let definition = known.definition();
    let text = |text: &Option<String>| text.clone().map(Value::text);
    let hours = known.stream.data_retention().as_secs() / HOUR.as_secs();
    Value::map([
        ("StreamName", Value::text(known.name.clone())),
        ("StreamARN", Value::text(known.arn.clone())),
        ("Version", Value::text(definition.version.clone())),
        ("Status", Value::text("ACTIVE")),
        ("CreationTime", Value::Time(known.created)),
        ("DataRetentionInHours", Value::Integer(i64::try_from(hours).unwrap_or(i64::MAX))),
    ])
    .with("DeviceName", text(&definition.device))
    .with("MediaType", text(&definition.media_type))
    .with("KmsKeyId", text(&definition.key))
}

pub(super) fn describe(call: &Call<'_>, input: Input<'_>) -> Answered<Reply> {
    call.reply(&Value::map([("StreamInfo", info(&*find(call, &input)?))]))
}

pub(super) fn describe_storage(call: &Call<'_>, input: Input<'_>) -> Answered<Reply> {
    let known = find(call, &input)?;
    let tier = Value::map([("DefaultStorageTier", Value::text("HOT"))]);
    call.reply(&Value::map([
        ("StreamName", Value::text(known.name.clone())),
        ("StreamARN", Value::text(known.arn.clone())),
        ("StreamStorageConfiguration", tier),
    ]))
}

pub(super) fn list(call: &Call<'_>, mut input: Input<'_>) -> Answered<Reply> {
    let video = &call.service.video;
    let limit = input.count("MaxResults").map_or(LIST_DEFAULT, |limit| limit as usize);
    let condition = input.take("StreamNameCondition");
    let prefix =
        condition.as_ref().and_then(|condition| condition.text("ComparisonValue")).unwrap_or_default();
    let after: Option<String> = match input.text("NextToken").filter(|token| !token.is_empty()) {
        Some(token) => Some(call.service.sealer.open_page(Purpose::VideoStreams, token, call.now())?),
        None => None,
    };
    let mut names = video.names()?;
    names.retain(|name| name.starts_with(prefix) && after.as_ref().is_none_or(|after| name > after));
    // One that was deleted since then is left out.
    let mut found = names.iter().filter_map(|name| video.stream(name).ok());
    let page: Vec<_> = found.by_ref().take(limit).collect();
    let last = page.last().filter(|_| found.next().is_some());
    let next = last.map(|last| {
        Value::text(call.service.sealer.seal_page(Purpose::VideoStreams, last.name.clone(), call.now()))
    });
    let infos = page.iter().map(|known| info(known)).collect();
    call.reply(&Value::map([("StreamInfoList", Value::List(infos))]).with("NextToken", next))
}

pub(super) fn delete(call: &Call<'_>, input: Input<'_>) -> Answered<Reply> {
    let known = find(call, &input)?;
    known.check_version(&known.definition(), input.text("CurrentVersion"))?;
    call.service.video.delete(&known)?;
    done(call)
}

pub(super) fn update(call: &Call<'_>, input: Input<'_>) -> Answered<Reply> {
    find(call, &input)?.change(input.text("CurrentVersion"), |definition| {
        if let Some(device) = owned(&input, "DeviceName") {
            definition.device = Some(device);
        }
        if let Some(media_type) = owned(&input, "MediaType") {
            definition.media_type = Some(media_type);
        }
        Ok(())
    })?;
    done(call)
}

pub(super) fn update_retention(call: &Call<'_>, input: Input<'_>) -> Answered<Reply> {
    let known = find(call, &input)?;
    known.change(input.text("CurrentVersion"), |_| {
        let change = input.integer("DataRetentionChangeInHours").unwrap_or(0);
        let before = known.stream.data_retention().as_secs() / HOUR.as_secs();
        let before = i64::try_from(before).unwrap_or(i64::MAX);
        let hours = match input.required("Operation") {
            "DECREASE_DATA_RETENTION" => before.saturating_sub(change),
            _ => before.saturating_add(change),
        };
        check_hours(hours)?;
        answered(known.stream.set_data_retention(HOUR * u32::try_from(hours).unwrap_or(0)))
    })?;
    done(call)
}

/// Adds the tags of a request to those that a stream has, if it may have them all.
fn add_tags(tags: &mut BTreeMap<String, String>, input: &Input<'_>) -> Answered<()> {
    // Some operations have them as a map, and some as a list.
    let added = [input.text_map("Tags"), input.tag_list("Tags")].concat();
    for (key, text) in added {
        if !super::super::model::is_tag_text(key) || !super::super::model::is_tag_text(text) {
            return Err(Fault::invalid(format!("{key:?}: {text:?} has characters that no tag has.")));
        }
        tags.insert(key.to_owned(), text.to_owned());
    }
    match tags.len() {
        ..=TAGS_MAX => Ok(()),
        count => Err(Fault::too_many_tags(format!("A stream has {TAGS_MAX} tags at most, and not {count}."))),
    }
}

pub(super) fn tag(call: &Call<'_>, input: Input<'_>) -> Answered<Reply> {
    find(call, &input)?.change(None, |definition| add_tags(&mut definition.tags, &input))?;
    done(call)
}

pub(super) fn untag(call: &Call<'_>, input: Input<'_>) -> Answered<Reply> {
    find(call, &input)?.change(None, |definition| {
        input.texts("TagKeyList").into_iter().for_each(|key| drop(definition.tags.remove(key)));
        Ok(())
    })?;
    done(call)
}

pub(super) fn list_tags(call: &Call<'_>, input: Input<'_>) -> Answered<Reply> {
    let definition = find(call, &input)?.definition();
    let tags = definition.tags.iter().map(|(key, text)| (key.clone().into(), Value::text(text.clone())));
    call.reply(&Value::map([("Tags", Value::Map(tags.collect()))]))
}

/// All data calls go to this server.
pub(super) fn endpoint(call: &Call<'_>, input: Input<'_>) -> Answered<Reply> {
    find(call, &input)?;
    call.reply(&Value::map([("DataEndpoint", Value::text(base_url(call.asked.request)?))]))
}

/// Returns the ends of a range of times.
pub(super) fn range_of(selector: &mut Input<'_>) -> (Option<Timestamp>, Option<Timestamp>) {
    let range = selector.take("TimestampRange");
    let time = |name| range.as_ref().and_then(|range| range.time(name));
    (time("StartTimestamp"), time("EndTimestamp"))
}
