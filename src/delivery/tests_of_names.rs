//! Tests of the names of objects: two objects never have the same, and none leads out of the place where objects belong.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::compress::CompressionFormat;
use super::format::Format;
use super::name::{self, Naming};
use super::part::{ErrorKind, Part, Span};
use super::plan::{Plan, Rules};
use super::prefix::{KeySource, Prefix, Use, Values};
use crate::{SequenceNumber, ShardId, Timestamp};

/// Prefixes with two keys, and how many slashes names have then.
const PREFIXES: [(&str, usize); 5] = [
    ("!{partitionKeyFromLambda:k}/!{partitionKeyFromLambda:l}/!{timestamp:yyyy}/", 3),
    ("x/!{partitionKeyFromLambda:k}!{timestamp:'/'HH'/'}!{partitionKeyFromLambda:l}", 3),
    // Different keys may give the same beginning.
    ("!{partitionKeyFromLambda:k}!{partitionKeyFromLambda:l}!{timestamp:yyyy}", 0),
    ("..!{partitionKeyFromLambda:k}/.!{partitionKeyFromLambda:l}!{timestamp:'.'}", 1),
    ("!{partitionKeyFromLambda:l}-!{partitionKeyFromLambda:k}-", 4),
];

fn rules(prefix: &str) -> Rules {
    let plan = Plan {
        delivery: "a-1.b".into(),
        version: 1,
        format: Format::lines(),
        compression: CompressionFormat::Gzip,
        naming: Naming::Sequence,
        extension: None,
        prefix: prefix.into(),
        error_prefix: "e-!{firehose:error-output-type}".into(),
        backup_prefix: Some("b".into()),
        manifests: None,
        time_zone: "UTC".into(),
        keys: vec![(KeySource::Lambda, "k".into()), (KeySource::Lambda, "l".into())],
        queries: vec![],
        decompresses: false,
        deaggregates: false,
        extracts_messages: false,
        sub_records: None,
    };
    Rules::new(plan).unwrap()
}

/// A value of a partition key: what is dangerous in a name, what other names consist of, any text, and a long one.
fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        "[./%\\\\a\u{0}\u{7}\u{7f}\u{85}ü]{1,5}",
        "[0-9a.-]{1,6}",
        "\\PC{1,20}",
        any::<char>().prop_map(String::from),
        (1..200usize).prop_map(|count| "/".repeat(count)),
        Just("0/a-1.b-shardId-000000000001-".into()),
    ]
}

fn part() -> impl Strategy<Value = Part> {
    prop_oneof![
        6 => (key(), key()).prop_map(|(k, l)| Part::Records(vec![k, l])),
        1 => prop_oneof![Just(ErrorKind::Processing), Just(ErrorKind::FormatConversion)].prop_map(Part::Errors),
        1 => Just(Part::Backup),
    ]
}

/// An object by its part, its shard, its first row, and how many more records it holds.
type Made = (Part, u32, u64, u32, u64);

fn object() -> impl Strategy<Value = Made> {
    let number = || prop_oneof![0..30u64, any::<u64>().prop_map(|number| number >> 1)];
    let index = prop_oneof![0..12u32, any::<u32>()];
    (part(), prop_oneof![0..3u32, any::<u32>()], number(), index, number())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(200),
        ..ProptestConfig::default()
    })]

    #[test]
    fn l2_l6_names_never_collide_and_never_leave_their_place(
        which in 0..PREFIXES.len(),
        objects in vec(object(), 1..40),
    ) {
        let (prefix, depth) = PREFIXES[which];
        let rules = rules(prefix);
        let mut names: BTreeMap<String, (u32, u64, u32)> = BTreeMap::new();
        for (part, shard, first, first_index, more) in objects {
            if let Part::Records(keys) = &part && !rules.prefix.has_room_for(keys) {
                // Such a row goes to the error output.
                continue;
            }
            let last = SequenceNumber::from(first.saturating_add(more));
            let oldest = Timestamp::from_millis(1_700_000_000_000);
            let span = Span { first: first.into(), first_index, last, oldest };
            let shard_id = ShardId::new(shard);
            let name = name::name(&rules, &part, shard_id, &span);
            prop_assert!(!name.starts_with('/') && name.split('/').all(|segment| !matches!(segment, "" | "." | "..")), "{name:?}");
            prop_assert!(!name.contains(|char: char| char.is_control() || char == '\\'), "{name:?}");
            prop_assert!(name.len() <= 512 + 160, "{name:?}");
            if matches!(part, Part::Records(_)) {
                prop_assert_eq!(name.matches('/').count(), depth, "{:?}", name);
            }
            // No two objects begin with the same row.
            if let Some(other) = names.insert(name.clone(), (shard, first, first_index)) {
                prop_assert_eq!(other, (shard, first, first_index), "{:?}", name);
            }
            // The error output's name of a rejected object is unique, too.
            if matches!(part, Part::Records(_)) {
                let failed = name::of_failed(&rules, shard_id, &span, "delivery-failed", "");
                let other = names.insert(failed.clone(), (shard, first, first_index));
                prop_assert!(other.is_none_or(|other| other == (shard, first, first_index)), "{failed:?}");
            }
        }
    }

    #[test]
    fn l6_a_prefix_of_any_text_is_refused_or_stays_in_its_place(
        text in "(a|[.]|[.][.]|/|[\\\\]|\u{7}|!\\{timestamp:('[./\\\\]{1,3}'|[./]{1,3}|yyyy)\\}|!\\{firehose:random-string\\}){0,6}",
    ) {
        let Ok(prefix) = Prefix::parse(&text, Use::Records(&[])) else { return Ok(()) };
        let rules = rules(PREFIXES[0].0);
        let oldest = rules.zoned(Timestamp::from_millis(1_700_000_000_000));
        let name = prefix.evaluate(&Values { oldest: &oldest, keys: &[], error_output_type: "", seed: None }) + "name";
        prop_assert!(!name.starts_with('/'), "{text:?} becomes {name:?}");
        prop_assert!(name.split('/').all(|segment| !matches!(segment, "." | "..")), "{text:?} becomes {name:?}");
        prop_assert!(!name.contains(|char: char| char.is_control() || char == '\\'), "{text:?} becomes {name:?}");
    }
}
