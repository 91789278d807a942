//! Registered consumers, for enhanced fan-out.

use std::sync::Arc;

use super::super::catalogue::{ConsumerSettings, ConsumerState, Known, Status};
use super::super::token::Purpose;
use super::list::check_creation;
use super::tags;
use super::{Answered, Call, Fault, Input, Reply, Service, Value};

/// How many consumers and queues a stream may have.
const CONSUMERS_MAX: usize = 20;
/// How many of them may be in creation at the same time.
const CREATING_MAX: usize = 5;
/// The largest page.
const PAGE_MAX: usize = 100;

pub(super) fn register(call: &Call<'_>, input: Input<'_>) -> Answered<Reply> {
    let known = call.stream(&input)?;
    let name = input.required("ConsumerName");
    let tags = tags::of_new(call, &input, &format!("consumer {name} of stream {}", known.name))?;
    let has_quotas = call.service.catalogue.behaviour().has_quotas();
    let consumer = known.change_now(|changing| {
        known.check_active(changing.now)?;
        let consumers = known.consumers()?;
        if consumers.iter().any(|consumer| consumer.description.name == name) {
            return Err(Fault::in_use(format!(
                "Consumer {name} under stream {} already exists for account {}.",
                known.arn(),
                known.account_id()
            )));
        }
        if has_quotas {
            check_room(&known)?;
        }
        // Settings without a consumer have no effect, so they are written first: a crash leaves no consumer without its tags. They replace leftovers
        // of an earlier consumer of the name.
        changing.set(|settings| {
            let consumer = ConsumerSettings { tags, policy: None };
            settings.consumers.insert(name.to_owned(), consumer);
        })?;
        known.stream.register_consumer(name).map_err(|error| match error {
            crate::Error::InvalidArgument(reason) => Fault::invalid(reason.to_string()),
            error => known.failed(&error),
        })
    })?;
    let gone = || call.service.catalogue.missing(&known.name);
    let found = known.consumer(&consumer.name)?.ok_or_else(gone)?;
    call.reply(&Value::map([("Consumer", consumer_value(&known, &found))]))
}

/// Fails if the stream may have no more consumers. Queues count as such.
pub(super) fn check_room(known: &Known) -> Answered<()> {
    let states: Vec<_> = known
        .consumers()?
        .into_iter()
        .map(|consumer| consumer.status)
        .chain(known.queues().into_iter().map(|queue| queue.status))
        .collect();
    let creating = states.iter().filter(|status| **status == Status::Creating).count();
    for (count, max, state) in
        [(states.len(), CONSUMERS_MAX, "registered"), (creating, CREATING_MAX, "CREATING")]
    {
        if count >= max {
            return Err(Fault::limit(format!(
                "Stream {} under account {} may have {max} {state} consumers and queues.",
                known.name,
                known.account_id()
            )));
        }
    }
    Ok(())
}

pub(super) fn deregister(call: &Call<'_>, input: Input<'_>) -> Answered<Reply> {
    let (known, consumer) = find(call, &input)?;
    known.remove_consumer(&consumer)?;
    Ok(Reply::Empty)
}

pub(super) fn describe(call: &Call<'_>, input: Input<'_>) -> Answered<Reply> {
    let (known, consumer) = find(call, &input)?;
    let value = consumer_value(&known, &consumer).with("StreamARN", Some(Value::text(known.arn())));
    call.reply(&Value::map([("ConsumerDescription", value)]))
}

pub(super) fn list(call: &Call<'_>, input: Input<'_>) -> Answered<Reply> {
    let known = call.stream(&input)?;
    check_creation(&known, input.time("StreamCreationTimestamp"))?;
    let after = match input.text("NextToken") {
        Some(token) => {
            let (stream, created, after): (String, u64, String) =
                call.service.sealer.open_page(Purpose::Consumers, token, call.now())?;
            if (stream.as_str(), created) != (known.name.as_str(), known.created_at.as_micros()) {
                return Err(Fault::invalid("NextToken is invalid."));
            }
            Some(after)
        }
        None => None,
    };
    let limit = input.count("MaxResults").map_or(PAGE_MAX, |limit| PAGE_MAX.min(limit as usize));
    let consumers = known.consumers()?;
    let mut consumers =
        consumers.iter().filter(|it| after.as_ref().is_none_or(|after| it.description.name > *after));
    let page: Vec<_> = consumers.by_ref().take(limit).collect();
    let last = page.last().filter(|_| consumers.next().is_some());
    let next = last.map(|last| {
        let page = (&known.name, known.created_at.as_micros(), &last.description.name);
        Value::text(call.service.sealer.seal_page(Purpose::Consumers, page, call.now()))
    });
    let page = page.into_iter().map(|consumer| consumer_value(&known, consumer)).collect();
    call.reply(&Value::map([("Consumers", Value::List(page))]).with("NextToken", next))
}

fn consumer_value(known: &Known, consumer: &ConsumerState) -> Value<'static> {
    Value::map([
        ("ConsumerName", Value::text(consumer.description.name.clone())),
        ("ConsumerARN", Value::text(known.consumer_arn(consumer))),
        ("ConsumerStatus", Value::text(consumer.status.name())),
        (
            "ConsumerCreationTimestamp",
            Value::Time(crate::Timestamp::from_millis(consumer.created_seconds() * 1_000)),
        ),
    ])
}

/// Returns the consumer that a request names by its ARN, or by its stream's ARN and its name.
pub(super) fn find(call: &Call<'_>, input: &Input<'_>) -> Answered<(Arc<Known>, ConsumerState)> {
    if let Some(arn) = input.text("ConsumerARN") {
        return by_arn(call.service, arn);
    }
    let (Some(arn), Some(name)) = (input.text("StreamARN"), input.text("ConsumerName")) else {
        return Err(Fault::invalid(
            "Either ConsumerARN or both StreamARN and ConsumerName must be provided.",
        ));
    };
    let known = call.stream(input)?;
    match known.consumer(name)? {
        Some(consumer) => Ok((known, consumer)),
        None => Err(Fault::not_found(format!(
            "Consumer {name} under stream {arn} not found for account {}.",
            call.account().id
        ))),
    }
}

/// Returns the consumer of an ARN.
pub(super) fn by_arn(service: &Service, arn: &str) -> Answered<(Arc<Known>, ConsumerState)> {
    let missing =
        || Fault::not_found(format!("Consumer {arn} not found for account {}.", service.account().id));
    let named = service.account().consumer_of(arn).ok_or_else(missing)?;
    let known = service.catalogue.stream(named.stream).map_err(|fault| fault.or_missing(missing))?;
    let consumer = known.consumer(named.consumer)?;
    let consumer = consumer.filter(|it| it.created_seconds() == named.created).ok_or_else(missing)?;
    Ok((known, consumer))
}
