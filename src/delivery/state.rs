//! What is committed with the checkpoint of a shard: the objects that are decided and may not be there yet.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::part::{Part, Span};
use super::plan::Plan;
use crate::{SequenceNumber, Timestamp};

/// How far the parts of a shard are, if the checkpoint alone does not say it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct State {
    /// The plan under which the objects were decided.
    pub(super) plan: Plan,
    /// The parts that are further than the checkpoint, and up to which record they are decided. The record is not among these.
    pub(super) decided: Vec<(Part, SequenceNumber)>,
    pub(super) objects: Vec<Decided>,
    /// Rows for which there were too many parts.
    pub(super) overflowed: BTreeSet<(SequenceNumber, u32)>,
}

/// An object whose borders are decided.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Decided {
    pub(super) part: Part,
    pub(super) span: Span,
    pub(super) name: String,
    /// The same for each attempt to deliver the object.
    pub(super) id: String,
}

/// About how many bytes a row takes for which there were too many parts.
pub(super) const OVERFLOWED_BYTES: usize = 26;
/// About how many bytes the names of members, the numbers and the id of an object take.
const OBJECT_BYTES: usize = 200;

/// Returns about how many bytes a part takes, with how far it is decided.
pub(super) fn part_bytes(part: &Part) -> usize {
    let keys: &[String] = if let Part::Records(keys) = part { keys } else { &[] };
    // A quotation mark takes two bytes, a control character six.
    50 + keys.iter().map(|key| 3 * (key.len() + 1)).sum::<usize>()
}

impl Decided {
    /// Returns about how many bytes it takes.
    pub(super) fn state_bytes(&self) -> usize {
        OBJECT_BYTES + part_bytes(&self.part) + self.name.len()
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    delivery: Plan,
    decided: Vec<(Part, u64)>,
    objects: Vec<StoredObject>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    overflowed: Vec<(u64, u32)>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredObject {
    part: Part,
    first: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    first_index: u32,
    last: u64,
    oldest_micros: u64,
    name: String,
    id: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

const VERSION: u32 = 1;

impl State {
    pub(super) fn encode(&self) -> Vec<u8> {
        let object = |object: &Decided| StoredObject {
            part: object.part.clone(),
            first: object.span.first.get(),
            first_index: object.span.first_index,
            last: object.span.last.get(),
            oldest_micros: object.span.oldest.as_micros(),
            name: object.name.clone(),
            id: object.id.clone(),
        };
        let stored = Stored {
            version: VERSION,
            delivery: self.plan.clone(),
            decided: self.decided.iter().map(|(part, end)| (part.clone(), end.get())).collect(),
            objects: self.objects.iter().map(object).collect(),
            overflowed: self.overflowed.iter().map(|&(sequence, index)| (sequence.get(), index)).collect(),
        };
        serde_json::to_vec(&stored).expect("texts and numbers always serialize")
    }

    /// Returns `None` for bytes that are no such state.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let stored: Stored = serde_json::from_slice(bytes).ok()?;
        let object = |object: StoredObject| Decided {
            part: object.part,
            span: Span {
                first: object.first.into(),
                first_index: object.first_index,
                last: object.last.into(),
                oldest: Timestamp::from_micros(object.oldest_micros),
            },
            name: object.name,
            id: object.id,
        };
        (stored.version == VERSION).then(|| Self {
            plan: stored.delivery,
            decided: stored.decided.into_iter().map(|(part, end)| (part, end.into())).collect(),
            objects: stored.objects.into_iter().map(object).collect(),
            overflowed: stored
                .overflowed
                .into_iter()
                .map(|(sequence, index)| (sequence.into(), index))
                .collect(),
        })
    }
}
