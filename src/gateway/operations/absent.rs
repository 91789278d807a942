//! Queues and channels, which this server does not have: it answers as for an account without any.

use super::{Answered, Call, Fault, Input, Reply, Value};

pub(super) fn queue(call: &Call<'_>, input: Input<'_>) -> Answered<Reply> {
    missing(call, "Queue", input.required("QueueARN"))
}

pub(super) fn channel(call: &Call<'_>, input: Input<'_>) -> Answered<Reply> {
    missing(call, "Channel", input.required("ChannelARN"))
}

fn missing(call: &Call<'_>, what: &str, arn: &str) -> Answered<Reply> {
    Err(Fault::not_found(format!("{what} {arn} under account {} not found.", call.account().id)))
}

pub(super) fn list_queues(call: &Call<'_>, _: Input<'_>) -> Answered<Reply> {
    call.reply(&Value::map([("QueueSummaries", Value::List(vec![]))]))
}

pub(super) fn list_channels(call: &Call<'_>, _: Input<'_>) -> Answered<Reply> {
    call.reply(&Value::map([("ChannelSummaries", Value::List(vec![]))]))
}

pub(super) fn create_queue(_: &Call<'_>, _: Input<'_>) -> Answered<Reply> {
    Err(Fault::limit("This request would exceed the limit of 0 queues: this server has no queues."))
}

pub(super) fn create_channel(_: &Call<'_>, _: Input<'_>) -> Answered<Reply> {
    Err(Fault::limit("This request would exceed the limit of 0 channels: this server has no channels."))
}
