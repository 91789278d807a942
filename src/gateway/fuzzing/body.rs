//! Bodies of requests from arbitrary bytes.

use crate::gateway::model::{self, Profile};
use crate::gateway::operations;
use crate::gateway::wire::{Format, Value};

const FORMATS: [Format; 2] = [Format::Json, Format::Cbor];

/// Reads what follows the name of an operation and a line feed as the body of its request, in each format. What was read can be written and
/// read again, and a request that passes its checks passes them again in the other format.
pub fn body(bytes: &[u8]) {
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else { return };
    let name = std::str::from_utf8(&bytes[..end]).ok();
    let Some(operation) = name.and_then(|name| operations::find("Kinesis_20131202", name)) else { return };
    for format in FORMATS {
        let Ok(value) = format.decode(&bytes[end + 1..]) else { continue };
        let written = format.encode(&value);
        let again = format.decode(&written).expect("what was written is read");
        // The last digits of fractions differ, which are of no use to the service.
        assert!(format.encode(&again) == written || has_fraction(&value));
        for profile in [Profile::Today, Profile::Year2018] {
            let Ok(input) = model::check(value.clone(), operation.members, profile) else { continue };
            let checked = input.into_value();
            for format in FORMATS {
                let written = format.encode(&checked);
                let again = format.decode(&written).expect("what was checked is read");
                let again = model::check(again, operation.members, profile).expect("it passes again");
                assert_eq!(format.encode(&again.into_value()), written);
            }
        }
    }
}

fn has_fraction(value: &Value<'_>) -> bool {
    match value {
        Value::Float(_) => true,
        Value::List(items) => items.iter().any(has_fraction),
        Value::Map(members) => members.iter().any(|(_, value)| has_fraction(value)),
        _ => false,
    }
}
