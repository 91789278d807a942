//! Policies of streams, consumers and queues.

use super::super::auth::Policy;
use super::super::catalogue::Settings;
use super::tags::Tagged;
use super::{Answered, Call, Fault, Input, Reply, Value};

/// The answer for a resource without a policy.
const NO_POLICY: &str = "{}";

pub(super) fn put(call: &Call<'_>, input: Input<'_>) -> Answered<Reply> {
    let text = input.required("Policy");
    if let Err(reason) = Policy::of_resource(text) {
        return Err(Fault::invalid(format!("The policy is not valid: {reason}")));
    }
    set(call, &input, Some(text.to_owned()))
}

pub(super) fn delete(call: &Call<'_>, input: Input<'_>) -> Answered<Reply> {
    let subject = subject(call, &input)?;
    if subject.policy().is_none() {
        return Err(Fault::not_found(format!(
            "No policy found for resource {} under account {}.",
            input.required("ResourceARN"),
            call.account().id
        )));
    }
    set(call, &input, None)
}

pub(super) fn get(call: &Call<'_>, input: Input<'_>) -> Answered<Reply> {
    let policy = subject(call, &input)?.policy();
    call.reply(&Value::map([("Policy", Value::text(policy.unwrap_or_else(|| NO_POLICY.to_owned())))]))
}

fn subject(call: &Call<'_>, input: &Input<'_>) -> Answered<Tagged> {
    Tagged::by_arn(call.service, input.required("ResourceARN"))
}

fn set(call: &Call<'_>, input: &Input<'_>, policy: Option<String>) -> Answered<Reply> {
    let subject = subject(call, input)?;
    subject.known().change_now(|changing| {
        changing.set(|settings: &mut Settings| match &subject {
            Tagged::Stream(_) => settings.policy = policy,
            Tagged::Consumer(_, name) => settings.consumers.entry(name.clone()).or_default().policy = policy,
            Tagged::Queue(_, id) => drop(settings.queues.get_mut(id).map(|queue| queue.policy = policy)),
        })
    })?;
    Ok(Reply::Empty)
}
