//! The names of objects.

use serde::{Deserialize, Serialize};

use super::part::{Part, Span};
use super::plan::{Rules, utc};
use super::prefix::{Values, random_number};
use super::time_pattern::TimePattern;
use crate::ShardId;

/// How the names of objects end, after their prefix.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Naming {
    /// The name of the delivery, the shard, and the sequence numbers of the first and the last record, so the name shows which records an object
    /// contains.
    #[default]
    Sequence,
    /// The name of the delivery, its version, a time and a random number, as Amazon Data Firehose names its objects.
    Firehose,
}

/// Returns the name of an object.
pub(super) fn name(rules: &Rules, part: &Part, shard: ShardId, span: &Span) -> String {
    let oldest = rules.zoned(span.oldest);
    let (prefix, keys, error_output_type) = match part {
        Part::Records(keys) => (&rules.prefix, &keys[..], ""),
        Part::Errors(kind) => (&rules.error_prefix, &[][..], kind.as_str()),
        Part::Backup => (rules.backup_prefix.as_ref().unwrap_or(&rules.error_prefix), &[][..], "backup"),
    };
    let mut name = prefix.evaluate(&Values { oldest: &oldest, keys, error_output_type, seed: None });
    name.push_str(&own_name(rules, shard, span, &random_uuid()));
    match part {
        Part::Records(_) => name.push_str(&extension(rules)),
        // Whatever the format of the records' objects, these are lines or plain bytes.
        Part::Errors(_) => name.push_str(".jsonl"),
        Part::Backup => {}
    }
    name
}

/// Returns the name in the error output of an object that its sink did not take. Its random part is derived from the object's id: the name is not
/// committed, but must be the same after a crash.
pub(super) fn of_failed(rules: &Rules, shard: ShardId, span: &Span, kind: &str, id: &str) -> String {
    let oldest = rules.zoned(span.oldest);
    let digits = id.bytes().filter_map(|byte| char::from(byte).to_digit(16));
    let seed = Some(digits.fold(1, |seed: u64, digit| seed.rotate_left(4) ^ u64::from(digit)));
    let values = Values { oldest: &oldest, keys: &[], error_output_type: kind, seed };
    rules.error_prefix.evaluate(&values) + &own_name(rules, shard, span, id)
}

fn own_name(rules: &Rules, shard: ShardId, span: &Span, uuid: &str) -> String {
    let delivery = &rules.plan.delivery;
    match rules.plan.naming {
        Naming::Sequence => {
            // A record may be part of several objects. Their first rows then have different indexes.
            let index = if span.first_index > 0 { format!(".{}", span.first_index) } else { String::new() };
            format!("{delivery}-{shard}-{:020}{index}-{:020}", span.first.get(), span.last.get())
        }
        Naming::Firehose => {
            let pattern = TimePattern::parse("yyyy-MM-dd-HH-mm-ss").expect("is a pattern");
            let mut time = String::new();
            pattern.write(&utc(span.oldest), &mut time);
            format!("{delivery}-{}-{time}-{uuid}", rules.plan.version)
        }
    }
}

pub(super) fn random_uuid() -> String {
    uuid((u128::from(random_number()) << 64 | u128::from(random_number())).to_be_bytes())
}

/// Returns the text of a UUID with random bits.
fn uuid(mut bytes: [u8; 16]) -> String {
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

fn extension(rules: &Rules) -> String {
    match &rules.plan.extension {
        Some(extension) => extension.clone(),
        None => format!("{}{}", rules.plan.format.extension(), rules.plan.compression.extension()),
    }
}
