//! The service model: the members of each request, their types and bounds, and the texts of violations.

pub(super) mod channels;
mod constraints;
#[cfg(feature = "delivery")]
mod destinations;
#[cfg(feature = "delivery")]
pub(super) mod firehose;
mod input;
mod pattern;
pub(super) mod queues;
mod shape;
pub(super) mod shapes;
mod types;
#[cfg(feature = "video")]
pub(super) mod video;

pub(super) use input::Input;
pub(super) use pattern::{is_name, is_tag_text};
pub(super) use shape::{Member, Profile};

use super::fault::Answered;
use super::wire::Value;

/// Checks a request: first the types of all members, then their bounds. Members that the service does not know are dropped.
pub(super) fn check<'a>(
    request: Value<'a>,
    members: &'static [Member],
    profile: Profile,
) -> Answered<Input<'a>> {
    let checked = types::structure(request, members)?;
    constraints::check(&checked, members, profile)?;
    Ok(Input::new(checked))
}

#[cfg(test)]
mod tests;
