//! Authentication and authorization of requests: signatures, credentials and policies.

mod ask;
mod authorize;
mod canonical;
mod claim;
mod condition;
mod credentials;
mod dates;
mod json;
mod operator;
mod pattern;
mod policy;
mod principal;
mod sigv4;
#[cfg(test)]
mod vectors;

pub(in crate::gateway) use ask::Ask;
#[cfg(fuzzing)]
pub(in crate::gateway) use authorize::Denial;
pub(in crate::gateway) use authorize::{Decision, authorize, denial_message, may_allow};
pub(in crate::gateway) use claim::check_form;
pub(in crate::gateway) use credentials::{Credentials, Identity};
pub(in crate::gateway) use policy::Policy;
pub(in crate::gateway) use sigv4::authenticate;

/// Why a request could not be authenticated: the `__type` of the answer, and its message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::gateway) struct AuthError {
    pub(in crate::gateway) kind: &'static str,
    pub(in crate::gateway) message: String,
}

impl AuthError {
    fn new(kind: &'static str, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    fn incomplete(message: impl Into<String>) -> Self {
        Self::new("IncompleteSignatureException", message)
    }

    fn invalid(message: impl Into<String>) -> Self {
        Self::new("InvalidSignatureException", message)
    }
}
