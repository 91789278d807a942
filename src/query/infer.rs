//! A schema from sample records: the narrowest types that all of them fit into.

use super::columns;
use super::system::SystemColumn;
use super::types::{Column, DEPTH_MAX, SqlType};
use crate::{JsonSkip, MalformedJson, decode_json_text};

/// What is known of the values of a column.
#[derive(Debug, Clone, PartialEq)]
enum Seen {
    Nothing,
    Boolean,
    BigInt,
    Double,
    /// Values that have no narrower type in common, too.
    Text,
    List(Box<Seen>),
    Struct(Vec<(String, Seen)>),
}

/// Returns columns into which all records fit. The one of the events' `time` is a timestamp. The error is a sentence for the caller.
pub(super) fn columns<R: AsRef<[u8]>>(
    records: impl IntoIterator<Item = R>,
    time: Option<&str>,
) -> Result<Vec<Column>, String> {
    let mut seen = vec![];
    for record in records {
        let Ok(text) = std::str::from_utf8(record.as_ref()) else { continue };
        let mut skip = JsonSkip::new(text, 0, 0);
        // All of it first: what is malformed at its end is no JSON.
        if skip.value().is_err() || !text[skip.at..].trim_ascii_start().is_empty() {
            continue;
        }
        if let Ok(Seen::Struct(members)) = Seen::of(text.trim_ascii(), 0) {
            merge_members(&mut seen, members);
        }
    }
    seen.retain(|(name, _)| SystemColumn::ALL.iter().all(|column| column.name() != name));
    if seen.is_empty() {
        return Err("no record is a JSON object with members".into());
    }
    let column = |(name, seen): (String, Seen)| {
        let of = if time == Some(&name) { SqlType::Timestamp } else { seen.into_type() };
        Column { name, of, is_required: false }
    };
    let columns: Vec<_> = seen.into_iter().map(column).collect();
    columns::check(&columns)?;
    if let Some(time) = time.filter(|time| columns.iter().all(|column| column.name != *time)) {
        return Err(format!("there is no column {time} for the time of events"));
    }
    Ok(columns)
}

impl Seen {
    /// `depth` is that of the value: 1 for one of a column. The value has been checked, and is without blanks around it.
    fn of(value: &str, depth: usize) -> Result<Self, MalformedJson> {
        let is_deepest = depth == DEPTH_MAX;
        Ok(match value.as_bytes().first() {
            Some(b'n') => Self::Nothing,
            Some(b't' | b'f') => Self::Boolean,
            Some(b'[') if !is_deepest => {
                let mut items = Self::Nothing;
                each(value, |_, item| {
                    items = std::mem::replace(&mut items, Self::Nothing).merge(Self::of(item, depth + 1)?);
                    Ok(())
                })?;
                Self::List(Box::new(items))
            }
            Some(b'{') if !is_deepest => {
                let mut members = vec![];
                each(value, |name, member| {
                    add(&mut members, &name.to_ascii_lowercase(), Self::of(member, depth + 1)?);
                    Ok(())
                })?;
                // Without members, it might be anything.
                Self::Struct(members)
            }
            Some(b'-' | b'0'..=b'9') if value.parse::<i64>().is_ok() => Self::BigInt,
            Some(b'-' | b'0'..=b'9') if is_fraction(value) => Self::Double,
            _ => Self::Text,
        })
    }

    /// Returns what holds values of both.
    fn merge(self, other: Self) -> Self {
        match (self, other) {
            (Self::Nothing, other) | (other, Self::Nothing) => other,
            (Self::BigInt, Self::Double) | (Self::Double, Self::BigInt) => Self::Double,
            (Self::List(a), Self::List(b)) => Self::List(Box::new(a.merge(*b))),
            (Self::Struct(mut a), Self::Struct(b)) => {
                merge_members(&mut a, b);
                Self::Struct(a)
            }
            (a, b) if a == b => a,
            _ => Self::Text,
        }
    }

    fn into_type(self) -> SqlType {
        match self {
            Self::Boolean => SqlType::Boolean,
            Self::BigInt => SqlType::BigInt,
            Self::Double => SqlType::Double,
            Self::List(items) => SqlType::Array(Box::new(items.into_type())),
            Self::Struct(members) if !members.is_empty() => {
                SqlType::Struct(members.into_iter().map(|(name, seen)| (name, seen.into_type())).collect())
            }
            Self::Struct(_) | Self::Text | Self::Nothing => SqlType::Varchar(None),
        }
    }
}

/// Calls a function with each item of a list or each member of an object, which has been checked. An item has no name.
fn each(
    value: &str,
    mut call: impl FnMut(&str, &str) -> Result<(), MalformedJson>,
) -> Result<(), MalformedJson> {
    let mut skip = JsonSkip::new(value, 0, 0);
    let is_object = skip.next() == b'{';
    skip.open()?;
    if matches!(skip.pass_spaces(), b']' | b'}') {
        return Ok(());
    }
    loop {
        let mut name = String::new();
        skip.pass_spaces();
        if is_object {
            let start = skip.at + 1;
            skip.string()?;
            name = decode_json_text(&value[start..skip.at - 1]);
            skip.pass_spaces();
            skip.at += 1;
            skip.pass_spaces();
        }
        let start = skip.at;
        skip.value()?;
        call(&name, &value[start..skip.at])?;
        if skip.pass_spaces() != b',' {
            return Ok(());
        }
        skip.at += 1;
    }
}

/// Returns whether a number that is not whole, or not written so, is a double.
fn is_fraction(text: &str) -> bool {
    text.contains(['.', 'e', 'E']) && text.parse::<f64>().is_ok_and(f64::is_finite)
}

fn merge_members(members: &mut Vec<(String, Seen)>, more: Vec<(String, Seen)>) {
    more.into_iter().for_each(|(name, seen)| add(members, &name, seen));
}

fn add(members: &mut Vec<(String, Seen)>, name: &str, seen: Seen) {
    let is_same = |other: &str| other == name || other.to_lowercase() == name.to_lowercase();
    match members.iter_mut().find(|(other, _)| is_same(other)) {
        Some((_, known)) => *known = std::mem::replace(known, Seen::Nothing).merge(seen),
        // A column has a name.
        None if name.is_empty() => {}
        None => members.push((name.to_owned(), seen)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::query::Schema;

    fn inferred(records: &[&str]) -> String {
        match columns(records, None) {
            Ok(columns) => columns.iter().map(Column::to_string).collect::<Vec<_>>().join(", "),
            Err(error) => error,
        }
    }

    #[test]
    fn types_are_as_wide_as_they_have_to_be() {
        for (records, expected) in [
            (&[r#"{"a":1}"#, r#"{"a":-9223372036854775808}"#][..], "a BIGINT"),
            (&[r#"{"a":1}"#, r#"{"a":1.0}"#], "a DOUBLE"),
            (&[r#"{"a":9223372036854775808}"#], "a VARCHAR"),
            (&[r#"{"a":1e999}"#], "a VARCHAR"),
            (&[r#"{"a":1}"#, r#"{"a":"1"}"#], "a VARCHAR"),
            (&[r#"{"a":true}"#, r#"{"a":null}"#], "a BOOLEAN"),
            (&[r#"{"a":true}"#, r#"{"a":0}"#], "a VARCHAR"),
            (&[r#"{"a":null}"#], "a VARCHAR"),
            (&[r#"{"a":"2026-03-01T12:00:00Z"}"#], "a VARCHAR"),
            (&[r#"{"a":[]}"#], "a VARCHAR[]"),
            (&[r#"{"a":[1]}"#, r#"{"a":[2.5, null]}"#], "a DOUBLE[]"),
            (&[r#"{"a":{}}"#], "a VARCHAR"),
            (&[r#"{"a":{"x":1}}"#, r#"{"a":{"y":"z"}}"#], "a STRUCT<x BIGINT, y VARCHAR>"),
            (&[r#"{"a":[{"x":1},{"x":2.5}]}"#], "a STRUCT<x DOUBLE>[]"),
            (&[r#"{"userId":1,"USERID":2.5,"":3,"_key":4}"#], "userid DOUBLE"),
            (&[r#" {"a" : 1 , "b\u0020c" : [ ] } "#], "a BIGINT, \"b c\" VARCHAR[]"),
            (&["no JSON", "[1]", r#"{"a":1}"#, r#"{"b":1"#, r#"{"c":1} 2"#], "a BIGINT"),
            (&["{}", "1"], "no record is a JSON object with members"),
        ] {
            assert_eq!(inferred(records), expected, "{records:?}");
        }
    }

    #[test]
    fn l6_records_without_end_have_a_schema_or_none() {
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(50), "]".repeat(50));
        assert_eq!(inferred(&[&deep]), format!("a VARCHAR{}", "[]".repeat(9)));
        let too_deep = format!("{{\"a\":{}", "[".repeat(100_000));
        assert_eq!(inferred(&[&too_deep]), "no record is a JSON object with members");
        let wide: Vec<_> = (0..1_001).map(|index| format!("\"c{index}\":1")).collect();
        let wide = inferred(&[&format!("{{{}}}", wide.join(","))]);
        assert_eq!(wide, "there are 1001 columns with those within structs: there may be 1000");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]

        #[test]
        fn each_record_fits_into_what_is_inferred(
            records in prop::collection::vec(prop::collection::btree_map(names(), values(), 1..4), 1..8),
        ) {
            let records: Vec<_> = records.iter().map(|record| serde_json::to_string(record).unwrap()).collect();
            let schema = Schema::infer(&records).unwrap();
            prop_assert_eq!(Schema::json(&schema.to_string()).unwrap().columns(), schema.columns());
            let named = schema.own_columns().iter().map(|column| {
                (column.name.clone(), crate::query::field::Field::of_column(column))
            });
            let mut object = crate::query::json::Object::new(named);
            for record in &records {
                prop_assert_eq!(object.push(record, &mut (1 << 20)), Ok(()), "{} {}", record, schema);
            }
        }
    }

    fn names() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec!["a", "b", "A", "ü", "Ü"])
    }

    fn values() -> impl Strategy<Value = serde_json::Value> {
        let scalar = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<u64>().prop_map(Into::into),
            any::<f64>().prop_map(Into::into),
            prop::sample::select(vec!["", "1", "2.5", "true", "a"]).prop_map(Into::into),
        ];
        scalar.prop_recursive(3, 12, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Into::into),
                prop::collection::btree_map(names(), inner, 0..3).prop_map(|members| members
                    .into_iter()
                    .map(|(name, value)| (name.to_owned(), value))
                    .collect()),
            ]
        })
    }
}
