//! A schema from sample records: the narrowest types that all of them fit into.

use super::columns;
use super::system::SystemColumn;
use super::types::{Column, SqlType};
use crate::{Sampled, sample_members};

/// Returns columns into which all records fit. The column of the events' `time` is a timestamp. The error is a sentence for the caller.
pub(super) fn columns<R: AsRef<[u8]>>(
    records: impl IntoIterator<Item = R>,
    time: Option<&str>,
) -> Result<Vec<Column>, String> {
    let column = |(name, sampled): (String, Sampled)| {
        let name = name.to_ascii_lowercase();
        let of = if time == Some(&name) { SqlType::Timestamp } else { type_of(sampled) };
        Column { name, of, is_required: false }
    };
    let mut columns: Vec<_> = sample_members(records).into_iter().map(column).collect();
    columns.retain(|column| SystemColumn::ALL.iter().all(|system| system.name() != column.name));
    if columns.is_empty() {
        return Err("no record is a JSON object with members".into());
    }
    columns::check(&columns)?;
    if let Some(time) = time.filter(|time| columns.iter().all(|column| column.name != *time)) {
        return Err(format!("there is no column {time} for the time of events"));
    }
    Ok(columns)
}

fn type_of(sampled: Sampled) -> SqlType {
    match sampled {
        Sampled::Boolean => SqlType::Boolean,
        Sampled::Whole => SqlType::BigInt,
        Sampled::Double => SqlType::Double,
        Sampled::List(items) => SqlType::Array(Box::new(type_of(*items))),
        Sampled::Struct(members) if !members.is_empty() => {
            let field = |(name, sampled): (String, Sampled)| (name.to_ascii_lowercase(), type_of(sampled));
            SqlType::Struct(members.into_iter().map(field).collect())
        }
        Sampled::Struct(_) | Sampled::Text | Sampled::Nothing => SqlType::Varchar(None),
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
