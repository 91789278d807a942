//! The state that is committed with the checkpoint of a shard: the objects that are decided and may not be delivered yet.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::noted::Noted;
use super::part::{Part, Span};
use super::plan::Plan;
use crate::{SequenceNumber, Timestamp};

/// How far the parts of a shard are, if the checkpoint alone does not say it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct State {
    /// The plan under which the objects were decided.
    pub(super) plan: Plan,
    /// The parts that are further than the checkpoint, and up to which record, exclusively, they are decided.
    pub(super) decided: Vec<(Part, SequenceNumber)>,
    pub(super) objects: Vec<Decided>,
    pub(super) noted: Noted,
}

/// An object whose borders are decided.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Decided {
    pub(super) part: Part,
    pub(super) span: Span,
    pub(super) name: String,
    /// The same for each attempt to deliver the object.
    pub(super) id: String,
    /// The checksum of its rows; see [`Building`](super::objects::Building).
    pub(super) checksum: u64,
}

/// About how many bytes the names of members, the numbers, the id and the checksum of an object take.
const OBJECT_BYTES: usize = 232;

/// Returns about how many bytes a part takes, including how far it is decided.
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
    /// The first and the last of records that follow each other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    failed: Vec<(u64, u64)>,
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
    checksum: u64,
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
            checksum: object.checksum,
        };
        let stored = Stored {
            version: VERSION,
            delivery: self.plan.clone(),
            decided: self.decided.iter().map(|(part, end)| (part.clone(), end.get())).collect(),
            objects: self.objects.iter().map(object).collect(),
            overflowed: self.noted.overflowed(),
            failed: self.noted.failed_ranges(),
        };
        serde_json::to_vec(&stored).expect("texts and numbers always serialize")
    }

    /// Decodes a state. The error says why that is impossible, as the end of a sentence.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, String> {
        let stored = stored(bytes)?;
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
            checksum: object.checksum,
        };
        Ok(Self {
            plan: stored.delivery,
            decided: stored.decided.into_iter().map(|(part, end)| (part, end.into())).collect(),
            objects: stored.objects.into_iter().map(object).collect(),
            noted: Noted::decode(stored.overflowed, stored.failed),
        })
    }
}

fn stored(bytes: &[u8]) -> Result<Stored, String> {
    let json: Value = serde_json::from_slice(bytes).unwrap_or_default();
    let (Some(version), true) = (json["version"].as_u64(), json["delivery"].is_object()) else {
        return Err("is no delivery's: give the delivery another name".into());
    };
    if version != u64::from(VERSION) {
        return Err(format!(
            "has version {version}, and this version of the library knows version {VERSION}: use the one that wrote it"
        ));
    }
    if let Some(feature) = missing_feature(&json["delivery"]) {
        return Err(format!(
            "needs the cargo feature `{feature}`, which this program was built without: run one that has it until all is delivered, \
             or delete the group to start anew"
        ));
    }
    serde_json::from_slice(bytes).map_err(|error| {
        format!(
            "is none that this version of the library can read ({error}): use the one that wrote it, or delete the group to start anew"
        )
    })
}

/// Returns the feature that a plan needs and this build lacks.
fn missing_feature(plan: &Value) -> Option<&'static str> {
    let parquet = plan["format"].get("Parquet");
    let compressions = [Some(&plan["compression"]), parquet.map(|parquet| &parquet["compression"])];
    let is_zstd = compressions.into_iter().flatten().any(|compression| compression == "Zstd");
    let needed = [
        ("parquet", parquet.is_some(), cfg!(feature = "parquet")),
        ("zstd", is_zstd, cfg!(feature = "zstd")),
    ];
    needed.into_iter().find(|(_, is_needed, is_there)| *is_needed && !is_there).map(|(feature, ..)| feature)
}
