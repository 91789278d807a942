//! Queues: creating, describing, changing and deleting them.

use std::sync::Arc;

use ring::rand::{SecureRandom, SystemRandom};

use super::super::catalogue::{Known, Mode, QueueSettings, QueueStart, QueueState, no_queue};
use super::super::token::Purpose;
use super::consumers::check_room;
use super::describe::creation_time;
use super::{Answered, Call, Fault, Input, Reply, Service, Value, tags};
use crate::Timestamp;

/// The defaults of a queue.
const VISIBILITY_SECONDS: u32 = 30;
const RECEIVES_MAX: u32 = 6;
/// The largest page.
const PAGE_MAX: usize = 100;

pub(super) fn create(call: &Call<'_>, mut input: Input<'_>) -> Answered<Reply> {
    let mut streams = input.take_list("StreamConfigurationList");
    if streams.len() != 1 {
        return Err(Fault::invalid(format!(
            "StreamConfigurationList must have exactly one entry, and has {}.",
            streams.len()
        )));
    }
    let mut of_stream = streams.remove(0);
    let known = call.stream(&of_stream)?;
    let name = input.required("QueueName").to_owned();
    let mut settings = QueueSettings {
        tags: tags::of_new(call, &input, &format!("queue {name}"))?,
        name,
        created: known.now().as_millis(),
        start: start(&known, of_stream.take("StartingPosition"))?,
        visibility_seconds: VISIBILITY_SECONDS,
        receives_max: Some(RECEIVES_MAX),
        policy: None,
    };
    if let Some(attributes) = input.take("QueueAttributes") {
        set(&mut settings, attributes)?;
    }
    let has_quotas = call.service.catalogue.behaviour().has_quotas();
    let check = || {
        if known.settings().mode == Mode::Provisioned {
            return Err(Fault::validation(format!(
                "Request is invalid. Stream {} under account {} is in Provisioned mode.",
                known.name,
                known.account_id()
            )));
        }
        if has_quotas { check_room(&known) } else { Ok(()) }
    };
    let queue = call.service.catalogue.create_queue(&known, &new_id()?, settings, check)?;
    describe_one(call, &known, &queue)
}

/// Returns an id that no other queue has.
fn new_id() -> Answered<String> {
    let mut bytes = [0; 8];
    SystemRandom::new().fill(&mut bytes).map_err(|_| Fault::internal())?;
    Ok(format!("{:016x}", u64::from_be_bytes(bytes)))
}

fn start(known: &Known, asked: Option<Input<'_>>) -> Answered<QueueStart> {
    let Some(asked) = asked else { return Ok(QueueStart::Latest) };
    match (asked.required("Type"), asked.time("Timestamp")) {
        ("AT_TIMESTAMP", None) => {
            Err(Fault::invalid("Timestamp must be provided for the StartingPosition type AT_TIMESTAMP."))
        }
        ("AT_TIMESTAMP", Some(time)) if time.as_millis() > known.now().as_millis() => {
            Err(Fault::invalid("The Timestamp of StartingPosition cannot be in the future."))
        }
        ("AT_TIMESTAMP", Some(time)) => Ok(QueueStart::AtTimestamp(time.as_millis())),
        ("TRIM_HORIZON", _) => Ok(QueueStart::TrimHorizon),
        _ => Ok(QueueStart::Latest),
    }
}

/// Sets the attributes that a request has.
fn set(settings: &mut QueueSettings, mut attributes: Input<'_>) -> Answered<()> {
    let seconds = attributes.count("VisibilityTimeoutSeconds");
    settings.visibility_seconds = seconds.unwrap_or(settings.visibility_seconds);
    let Some(dead_letters) = attributes.take("DeadLetterConfiguration") else { return Ok(()) };
    settings.receives_max = match (dead_letters.required("TargetType"), dead_letters.count("MaxReceiveCount"))
    {
        ("BUILT_IN", None) => {
            return Err(Fault::invalid("MaxReceiveCount must be provided for the TargetType BUILT_IN."));
        }
        ("NONE", Some(_)) => {
            return Err(Fault::invalid("MaxReceiveCount must not be provided for the TargetType NONE."));
        }
        (_, count) => count,
    };
    Ok(())
}

pub(super) fn describe(call: &Call<'_>, input: Input<'_>) -> Answered<Reply> {
    let (known, queue) = by_arn(call.service, input.required("QueueARN"))?;
    describe_one(call, &known, &queue)
}

pub(super) fn update(call: &Call<'_>, mut input: Input<'_>) -> Answered<Reply> {
    let attributes = input.take("QueueAttributes");
    let (known, queue) = by_arn(call.service, input.required("QueueARN"))?;
    let change =
        |settings: &mut QueueSettings| attributes.map_or(Ok(()), |attributes| set(settings, attributes));
    let updated = known.update_queue(&queue.id, change)?;
    describe_one(call, &known, &updated)
}

pub(super) fn delete(call: &Call<'_>, input: Input<'_>) -> Answered<Reply> {
    let (known, queue) = by_arn(call.service, input.required("QueueARN"))?;
    known.delete_queue(&queue.id)?;
    Ok(Reply::Empty)
}

/// Returns the queue of an ARN, in any state.
pub(in crate::gateway) fn by_arn(service: &Service, arn: &str) -> Answered<(Arc<Known>, QueueState)> {
    let missing = || no_queue(arn, &service.account().id);
    let (stream, id) = service.account().queue_of(arn).ok_or_else(missing)?;
    let known = service.catalogue.stream(stream).map_err(|fault| fault.or_missing(missing))?;
    let queue = known.queue(id)?;
    Ok((known, queue))
}

pub(super) fn list(call: &Call<'_>, mut input: Input<'_>) -> Answered<Reply> {
    let filters = input.take_list("StreamFilter");
    let is_asked_for = |known: &Known| {
        let is_of = |filter: &Input<'_>| {
            let created = filter.time("StreamCreationTimestamp");
            filter.text("StreamARN") == Some(&*known.arn())
                && created.is_none_or(|time| time.as_millis() / 1_000 == known.created_at.as_millis() / 1_000)
        };
        filters.is_empty() || filters.iter().any(is_of)
    };
    // The name of the last queue of the page before, and its id.
    let after: Option<(String, String)> = match input.text("NextToken") {
        Some(token) => Some(call.service.sealer.open_page(Purpose::Queues, token, call.now())?),
        None => None,
    };
    let limit = input.count("MaxResults").map_or(PAGE_MAX, |limit| PAGE_MAX.min(limit as usize));
    let queues = call.service.catalogue.queues()?;
    let is_left = |queue: &QueueState| {
        after.as_ref().is_none_or(|(name, id)| (&queue.settings.name, &queue.id) > (name, id))
    };
    let mut left = queues.iter().filter(|(known, queue)| is_left(queue) && is_asked_for(known));
    let page: Vec<_> = left.by_ref().take(limit).collect();
    let last = page.last().filter(|_| left.next().is_some());
    let next = last.map(|(_, queue)| {
        let page = (&queue.settings.name, &queue.id);
        Value::text(call.service.sealer.seal_page(Purpose::Queues, page, call.now()))
    });
    let summaries = page.into_iter().map(|(known, queue)| {
        let stream = Value::map([
            ("StreamARN", Value::text(known.arn())),
            ("StreamCreationTimestamp", Value::Time(creation_time(known))),
        ]);
        head(known, queue).with("Streams", Some(Value::List(vec![stream])))
    });
    let answer = Value::map([("QueueSummaries", Value::List(summaries.collect()))]);
    call.reply(&answer.with("NextToken", next))
}

/// Returns the members that both descriptions and summaries have.
fn head(known: &Known, queue: &QueueState) -> Value<'static> {
    Value::map([
        ("QueueName", Value::text(queue.settings.name.clone())),
        ("QueueARN", Value::text(known.queue_arn(&queue.id))),
        ("QueueStatus", Value::text(queue.status.name())),
        ("QueueCreationTimestamp", Value::Time(Timestamp::from_millis(queue.settings.created))),
    ])
}

fn describe_one(call: &Call<'_>, known: &Known, queue: &QueueState) -> Answered<Reply> {
    let QueueSettings { start, visibility_seconds, receives_max, .. } = &queue.settings;
    let time = match start {
        QueueStart::AtTimestamp(millis) => Some(Value::Time(Timestamp::from_millis(*millis))),
        QueueStart::TrimHorizon | QueueStart::Latest => None,
    };
    let position = Value::map([("Type", Value::text(start.name()))]).with("Timestamp", time);
    let stream = Value::map([("StreamARN", Value::text(known.arn())), ("StartingPosition", position)]);
    let target = if receives_max.is_some() { "BUILT_IN" } else { "NONE" };
    let dead_letters = Value::map([("TargetType", Value::text(target))])
        .with("MaxReceiveCount", receives_max.map(|count| Value::Integer(count.into())));
    let attributes = Value::map([
        ("VisibilityTimeoutSeconds", Value::Integer((*visibility_seconds).into())),
        ("DeadLetterConfiguration", dead_letters),
    ]);
    let description = head(known, queue)
        .with("StreamConfigurationList", Some(Value::List(vec![stream])))
        .with("QueueAttributes", Some(attributes));
    call.reply(&Value::map([("QueueDescription", description)]))
}
