//! Channels, which this server does not have: it answers as for an account without any.

use super::{Answered, Call, Fault, Input, Reply, Value};

pub(super) fn channel(call: &Call<'_>, input: Input<'_>) -> Answered<Reply> {
    let arn = input.required("ChannelARN");
    Err(Fault::not_found(format!("Channel {arn} under account {} not found.", call.account().id)))
}

pub(super) fn list_channels(call: &Call<'_>, _: Input<'_>) -> Answered<Reply> {
    call.reply(&Value::map([("ChannelSummaries", Value::List(vec![]))]))
}

pub(super) fn create_channel(_: &Call<'_>, _: Input<'_>) -> Answered<Reply> {
    Err(Fault::limit("This request would exceed the limit of 0 channels: this server has no channels."))
}
