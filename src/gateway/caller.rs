//! The caller of a request, and what policies allow it to do.

use hyper::header::USER_AGENT;

use super::auth::{Ask, Decision, Identity, Policy, authorize, denial_message, may_allow};
use super::fault::{Answered, Fault};
use super::http::Request;
use super::model::Input;
use super::operations::{Operation, Service, Tagged};

/// A caller with a key, and one of its requests.
pub(super) struct Caller<'a> {
    pub(super) service: &'a Service,
    pub(super) identity: &'a Identity,
    pub(super) request: &'a Request,
}

impl Caller<'_> {
    /// Fails if the caller may not do this to this resource. Without an input, checks whether the caller may do it in general.
    pub(super) fn check(
        &self,
        operation: &Operation,
        resource: &str,
        input: Option<&Input<'_>>,
    ) -> Answered<()> {
        let Self { service, identity, .. } = self;
        // A missing resource has neither tags nor a policy.
        let tagged = if resource == "*" { None } else { Tagged::by_arn(service, resource).ok() };
        let tags = tagged.as_ref().map(Tagged::tags);
        #[cfg(feature = "delivery")]
        let tags = tags.or_else(|| {
            let name = service.account().delivery_stream_of(resource)?;
            Some(service.firehose.get(name).ok()?.definition().tags.clone())
        });
        #[cfg(feature = "video")]
        let tags = tags.or_else(|| Some(service.video.by_arn(resource).ok()?.definition().tags.clone()));
        let tags = tags.unwrap_or_default();
        let tags: Vec<_> = tags.iter().map(|(key, text)| (key.as_str(), text.as_str())).collect();
        let policy =
            tagged.as_ref().and_then(Tagged::policy).map(|text| Policy::of_resource(&text)).transpose();
        // It was checked when it was put, but perhaps by another version. An unreadable policy may deny this call.
        let policy = policy.map_err(|reason| {
            tracing::error!(resource, reason, "a policy cannot be read, so all is denied");
            Fault::access_denied(format!("The policy of {resource} cannot be read."))
        })?;
        // Kinesis has tags in a map, and Firehose in a list.
        let added =
            input.map(|input| [input.text_map("Tags"), input.tag_list("Tags")].concat()).unwrap_or_default();
        let added = added.into_iter().map(|(key, text)| (key, Some(text)));
        // The names in Kinesis and Firehose, and in Video Streams.
        let removed = input.map(|input| [input.texts("TagKeys"), input.texts("TagKeyList")].concat());
        let removed = removed.unwrap_or_default();
        let removed = removed.into_iter().map(|key| (key, None));
        let request_tags: Vec<_> = added.chain(removed).collect();
        let action = operation.action();
        let ask = Ask { resource, resource_tags: &tags, request_tags: &request_tags, ..self.ask(&action) };
        match authorize(identity, policy.as_ref(), &ask) {
            Decision::Allow => Ok(()),
            Decision::Deny(denial) => Err(Fault::access_denied(denial_message(identity, &ask, denial))),
        }
    }

    /// Returns whether the caller may do this to some resource, according to its own policies.
    pub(super) fn may_somewhere(&self, operation: &Operation) -> bool {
        may_allow(self.identity, &self.ask(&operation.action()))
    }

    /// Returns what the caller asks to do, without a resource yet.
    fn ask<'a>(&'a self, action: &'a str) -> Ask<'a> {
        let Self { service, request, .. } = self;
        Ask {
            action,
            resource: "*",
            region: &service.account().region,
            now: service.clock.now(),
            source: request.peer.ip(),
            is_tls: request.is_tls,
            user_agent: request.headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()),
            resource_tags: &[],
            request_tags: &[],
        }
    }
}
