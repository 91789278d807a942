//! Subscriptions: the records of a shard pushed to a consumer, as events of one long answer.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::super::catalogue::{Known, Pipe, Status};
use super::super::fault::Answered;
use super::super::names::shard_id;
use super::super::sequence::ShardNumbers;
use super::super::wire::{Format, event_stream};
use super::consumers::by_arn;
use super::read::{Asked, child_shards, records_of};
use super::records::fault;
use super::{Call, Fault, Input, Reply, Value};
use crate::{Error, OnTrimmed, Position, Subscription, SubscriptionEvent};

/// How many events wait for a slow client, besides those in its connection.
const EVENTS_AHEAD: usize = 1;
/// The largest event, counting keys and data.
const EVENT_BYTES_MAX: usize = 1 << 20;
const EVENT_RECORDS_MAX: usize = 10_000;

pub(super) fn subscribe_to_shard(call: &Call<'_>, mut input: Input<'_>) -> Answered<Reply> {
    let start = input.take("StartingPosition");
    let arn = input.required("ConsumerARN");
    let (known, consumer) = by_arn(call.service, arn)?;
    if consumer.status != Status::Active {
        return Err(Fault::in_use(format!(
            "Consumer {arn} not ACTIVE, instead in state {}",
            consumer.status.name()
        )));
    }
    let shard = call.shard_id(input.required("ShardId"), &known.name)?;
    let shard = known.shard(shard).ok_or_else(|| call.no_shard(&shard_id(shard), &known.name))?;
    let next = match &start {
        Some(start) => {
            let asked = Asked {
                operation: "SubscribeToShard",
                kind: start.required("Type"),
                number: start.text("SequenceNumber"),
                time: start.time("Timestamp"),
            };
            asked.resolve(&known, &shard)?
        }
        None => return Err(Fault::internal()),
    };
    let subscription = known
        .stream
        .subscribe(&*consumer.description.name, shard.id, Position::At(next))
        .batch_bytes(EVENT_BYTES_MAX)
        .batch_records(EVENT_RECORDS_MAX)
        .duration(call.service.subscription_life)
        .on_trimmed(OnTrimmed::SkipToHorizon)
        .open()
        .map_err(|error| refused(&known, arn, &error))?;
    let (events, answer) = mpsc::channel(EVENTS_AHEAD);
    let pipe = known.pipes.add(&consumer.description.name, shard.id, known.now());
    let pushing = Pushing { known, numbers: ShardNumbers::of(&shard), format: call.format, events, pipe };
    tokio::spawn(pushing.push(subscription));
    Ok(Reply::Events(answer))
}

fn refused(known: &Known, arn: &str, error: &Error) -> Fault {
    match error {
        Error::ConsumerInUse { shard, .. } => Fault::in_use(format!(
            "Another active subscription exists for this consumer: {}:{}:{arn}",
            known.account_id(),
            shard_id(*shard)
        )),
        Error::InvalidArgument(_) => {
            Fault::not_found(format!("Consumer {arn} not found for account {}.", known.account_id()))
        }
        error => fault(known, error),
    }
}

/// A running subscription.
struct Pushing {
    known: Arc<Known>,
    numbers: ShardNumbers,
    format: Format,
    events: mpsc::Sender<Bytes>,
    pipe: Arc<Pipe>,
}

impl Pushing {
    /// Sends events until the subscription or the client ends.
    async fn push(self, mut subscription: Subscription) {
        self.send(&mut subscription).await;
        self.known.pipes.remove(subscription.consumer(), subscription.shard(), &self.pipe);
    }

    async fn send(&self, subscription: &mut Subscription) {
        let started =
            event_stream::event(self.format, "initial-response", &self.format.encode(&Value::Map(vec![])));
        if self.events.send(started.into()).await.is_err() {
            return;
        }
        loop {
            // A client that has left is noticed even while the shard is idle.
            let next = tokio::select! {
                next = subscription.next() => next,
                () = self.events.closed() => return,
            };
            let (frame, is_last) = match next {
                Ok(Some(event)) => (self.event(&event), subscription.is_over()),
                Ok(None) => return,
                Err(Error::Lost { .. }) if subscription.skip_lost().is_ok() => continue,
                Err(error) => (self.exception(&error), true),
            };
            if self.events.send(frame.into()).await.is_err() || is_last {
                return;
            }
        }
    }

    fn event(&self, event: &SubscriptionEvent) -> Vec<u8> {
        let batch = event.batch();
        self.pipe.set_millis_behind(event.millis_behind_latest());
        let continuation = event.next_sequence().map(|next| {
            // The time of the last record, if there is one: no record is in between.
            let time = batch.last_timestamp().unwrap_or_else(|| self.known.now());
            Value::text(self.numbers.before(next, time).to_string())
        });
        let value = Value::map([
            ("Records", Value::List(records_of(batch, &self.numbers))),
            ("MillisBehindLatest", Value::Integer(event.millis_behind_latest() as i64)),
        ]);
        let value = value.with("ContinuationSequenceNumber", Some(continuation.unwrap_or(Value::Null)));
        let value = value.with("ChildShards", child_shards(batch));
        event_stream::event(self.format, "SubscribeToShardEvent", &self.format.encode(&value))
    }

    fn exception(&self, error: &Error) -> Vec<u8> {
        let fault = match error {
            Error::ConsumerInUse { .. } => {
                Fault::in_use("Another subscription of the consumer has taken over.")
            }
            Error::InvalidArgument(_) => Fault::not_found("The consumer was deregistered."),
            error => fault(&self.known, error),
        };
        let kind = if fault.is_internal() { "InternalFailureException" } else { fault.kind };
        let message = fault.message.unwrap_or("Internal Service Failure.".into());
        let payload = self.format.encode(&Value::map([("message", Value::Text(message))]));
        event_stream::exception(self.format, kind, &payload)
    }
}
