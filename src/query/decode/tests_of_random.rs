//! Tests that random documents decode as in a plain implementation over `serde_json`.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::tests::cell;
use super::*;
use crate::query::columns;
use crate::query::types::{Column, SqlType};

/// The text between the values of a document.
#[derive(Debug, Clone, Copy)]
struct Style {
    comma: &'static str,
    colon: &'static str,
    open: &'static str,
}

const STYLES: [Style; 3] = [
    Style { comma: ",", colon: ":", open: "" },
    Style { comma: ", ", colon: ": ", open: "" },
    Style { comma: "\n,\t", colon: " :\r\n", open: "  " },
];

fn written(value: &Value, style: Style) -> String {
    let blanks = style.open;
    match value {
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(|item| written(item, style)).collect();
            format!("[{blanks}{}{blanks}]", items.join(style.comma))
        }
        Value::Object(members) => {
            let members: Vec<_> = members.iter().map(|(name, value)| member(name, value, style)).collect();
            format!("{{{blanks}{}{blanks}}}", members.join(style.comma))
        }
        scalar => scalar.to_string(),
    }
}

fn member(name: &str, value: &Value, style: Style) -> String {
    format!("{}{}{}", Value::from(name), style.colon, written(value, style))
}

/// The same as the decoder, in the plainest way. `Err` if the value does not fit.
fn plain(value: Option<&Value>, of: &SqlType, style: Style) -> Result<String, ()> {
    let Some(value) = value.filter(|value| !value.is_null()) else { return Ok("null".into()) };
    let text = match value {
        Value::String(text) => text.clone(),
        other => written(other, style),
    };
    let number = match (value, text.trim()) {
        (Value::Bool(is), _) => if *is { "1" } else { "0" }.to_owned(),
        (Value::Array(_) | Value::Object(_), _) => String::new(),
        (_, text) => text.to_owned(),
    };
    let whole = || {
        let exact = |number: f64| number.fract() == 0.0 && number.abs() <= 9_007_199_254_740_992.0;
        let number: Result<i64, _> = number.parse().or_else(|_| {
            number.parse::<f64>().ok().filter(|number| exact(*number)).map(|number| number as i64).ok_or(())
        });
        number
    };
    let in_range = |min: i64, max: i64| whole().ok().filter(|number| (min..=max).contains(number)).ok_or(());
    Ok(match of {
        SqlType::Varchar(length) => {
            format!("{:?}", text.chars().take(length.unwrap_or(u32::MAX) as usize).collect::<String>())
        }
        SqlType::Boolean => match (value, number.to_lowercase().as_str()) {
            (Value::Bool(is), _) => is.to_string(),
            (_, "true") => "true".into(),
            (_, "false") => "false".into(),
            (_, number) => match number.parse::<f64>() {
                Ok(1.0) => "true".into(),
                Ok(0.0) => "false".into(),
                _ => return Err(()),
            },
        },
        SqlType::TinyInt => in_range(-128, 127)?.to_string(),
        SqlType::SmallInt => in_range(-32_768, 32_767)?.to_string(),
        SqlType::Integer => in_range(-2_147_483_648, 2_147_483_647)?.to_string(),
        SqlType::BigInt => whole()?.to_string(),
        SqlType::Double => match number.parse::<f64>() {
            Ok(double) if double.is_finite() || !number.contains(char::is_numeric) => format!("{double:?}"),
            _ => return Err(()),
        },
        SqlType::Timestamp => match value {
            Value::Bool(_) | Value::Array(_) | Value::Object(_) => return Err(()),
            _ => match STAMPS.iter().find(|(stamp, _)| *stamp == text.trim()) {
                Some((_, micros)) => micros.to_string(),
                None => match number.parse::<i64>() {
                    Ok(whole) if number.trim_start_matches('-').len() >= 13 => {
                        whole.checked_mul(1_000).ok_or(())?.to_string()
                    }
                    Ok(whole) => (whole * 1_000_000).to_string(),
                    Err(_) => match number.parse::<f64>() {
                        Ok(seconds) if (seconds * 1e6).round().abs() < i64::MAX as f64 => {
                            ((seconds * 1e6).round() as i64).to_string()
                        }
                        _ => return Err(()),
                    },
                },
            },
        },
        SqlType::Array(of) => {
            let items = value.as_array().ok_or(())?.iter().map(|item| plain(Some(item), of, style));
            format!("[{}]", items.collect::<Result<Vec<_>, _>>()?.join(","))
        }
        SqlType::Struct(fields) => {
            let members = value.as_object().ok_or(())?;
            let fields = fields.iter().map(|(name, of)| plain(members.get(name), of, style));
            format!("({})", fields.collect::<Result<Vec<_>, _>>()?.join(","))
        }
        other => panic!("no random column is {other}"),
    })
}

const STAMPS: [(&str, i64); 3] = [
    ("2026-03-01T12:00:00Z", 1_772_366_400_000_000),
    ("1969-12-31 23:59:59.25", -750_000),
    ("2000-02-29T12:00:00.123456+02:00", 951_818_400_123_456),
];
const NAMES: [&str; 6] =
    ["a", "page", "a\"b", "ünï", "long_name_of_a_column_that_is_more_than_sixteen_bytes", ""];

fn types() -> impl Strategy<Value = SqlType> {
    let scalar = prop_oneof![
        3 => Just(SqlType::Varchar(None)),
        1 => Just(SqlType::Varchar(Some(3))),
         1 => Just(SqlType::Boolean),
         1 => Just(SqlType::TinyInt),
         1 => Just(SqlType::SmallInt),
         1 => Just(SqlType::Integer),
        3 => Just(SqlType::BigInt),
        3 => Just(SqlType::Double),
        2 => Just(SqlType::Timestamp),
    ];
    scalar.prop_recursive(3, 12, 4, |inner| {
        let fields = prop::collection::btree_map(prop::sample::select(&NAMES[..5]), inner.clone(), 1..4);
        prop_oneof![
            inner.prop_map(|of| SqlType::Array(Box::new(of))),
            fields.prop_map(|fields| {
                SqlType::Struct(fields.into_iter().map(|(name, of)| (name.to_owned(), of)).collect())
            }),
        ]
    })
}

fn values() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-200_i64..200).prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(|number| json!(number)),
        (-100_000_i32..100_000).prop_map(|number| json!(f64::from(number) / 1_000.0)),
        any::<String>().prop_map(Value::from),
        "[ -]?[0-9]{1,18}(\\.[0-9]{0,9})?(e[0-9])?".prop_map(Value::from),
        prop::sample::select(vec!["true", "False", "NaN", "1", " 0 ", STAMPS[0].0, STAMPS[1].0, STAMPS[2].0])
            .prop_map(Value::from),
    ];
    scalar.prop_recursive(3, 20, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(prop::sample::select(&NAMES[..]), inner, 0..4).prop_map(|members| {
                members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
            }),
        ]
    })
}

/// A value that fits into a type, mostly.
fn fitting(of: &SqlType) -> BoxedStrategy<Value> {
    let fits = match of {
        SqlType::Array(items) => prop::collection::vec(fitting(items), 0..4).prop_map(Value::from).boxed(),
        SqlType::Struct(fields) => {
            let fields: Vec<_> = fields.iter().map(|(name, of)| (Just(name.clone()), fitting(of))).collect();
            let pick =
                |(members, count): (Vec<(String, Value)>, usize)| members.into_iter().take(count).collect();
            (fields, 0_usize..4).prop_map(pick).boxed()
        }
        SqlType::Boolean => any::<bool>().prop_map(Value::from).boxed(),
        SqlType::Varchar(_) => any::<String>().prop_map(Value::from).boxed(),
        SqlType::Timestamp => prop::sample::select(&STAMPS[..]).prop_map(|(text, _)| text.into()).boxed(),
        SqlType::Double => any::<f32>().prop_map(|number| json!(number)).boxed(),
        _ => (-128_i64..128).prop_map(Value::from).boxed(),
    };
    prop_oneof![30 => fits, 2 => Just(Value::Null), 1 => values()].boxed()
}

/// Members of an object in some order, of which some are there twice and some are of no column.
type Members = Vec<(String, Value)>;

fn documents(columns: &[(String, SqlType)]) -> impl Strategy<Value = (Members, Style)> + use<> {
    let columns: Vec<_> = columns.iter().map(|(name, of)| (Just(name.clone()), fitting(of))).collect();
    let others =
        prop::collection::vec((prop::sample::select(&NAMES[..]).prop_map(str::to_owned), values()), 0..3);
    let members = (columns, others, any::<prop::sample::Index>(), 0..4).prop_flat_map(
        |(mut all, others, drop, kind)| {
            match kind {
                0 => all.extend(others),
                1 => drop_one(&mut all, drop),
                _ => {}
            }
            let shuffled = Just(all.clone()).prop_shuffle();
            prop_oneof![3 => Just(all), 1 => shuffled]
        },
    );
    (members, prop::sample::select(&STYLES[..]))
}

fn drop_one(all: &mut Members, place: prop::sample::Index) {
    if !all.is_empty() {
        all.remove(place.index(all.len()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn l6_any_document_becomes_what_the_plain_implementation_says(
        (columns, documents) in prop::collection::btree_map(prop::sample::select(&NAMES[..5]), types(), 1..5)
            .prop_map(|columns| columns.into_iter().map(|(name, of)| (name.to_owned(), of)).collect::<Vec<_>>())
            .prop_flat_map(|columns| {
                let documents = prop::collection::vec(documents(&columns), 1..12);
                (Just(columns), documents)
            }),
        asked in prop::collection::vec(any::<bool>(), 5),
    ) {
        let columns: Vec<_> = columns.into_iter().zip(asked).filter(|(_, is_asked)| *is_asked).map(|(column, _)| column).collect();
        prop_assume!(!columns.is_empty());
        let fields = columns.iter().map(|(name, of)| {
            let column = Column { name: name.clone(), of: of.clone(), is_required: false };
            (name.clone(), Field::of_column(&column))
        });
        let mut object = Object::new(fields);
        let mut expected = vec![];
        for (members, style) in &documents {
            let text: Vec<_> = members.iter().map(|(name, value)| member(name, value, *style)).collect();
            let text = format!("{0}{{{0}{1}{0}}}{0}", style.open, text.join(style.comma));
            let row: Result<Vec<_>, ()> = columns
                .iter()
                .map(|(name, of)| {
                    let last = members.iter().rev().find(|(other, _)| other == name);
                    plain(last.map(|(_, value)| value), of, *style)
                })
                .collect();
            let pushed = object.push(&text, &mut (1 << 26));
            prop_assert_eq!(pushed.is_ok(), row.is_ok(), "{} {:?} {:?}", text, pushed, row);
            match row {
                Ok(row) => expected.push(row),
                Err(()) => object.truncate(expected.len()),
            }
        }
        let arrays = object.take();
        for (row, values) in expected.iter().enumerate() {
            for (array, value) in arrays.iter().zip(values) {
                prop_assert_eq!(&cell(array, row), value);
            }
        }
        for ((_, of), array) in columns.iter().zip(&arrays) {
            prop_assert_eq!(array.len(), expected.len());
            prop_assert_eq!(array.data_type(), &of.data_type());
        }
    }

    #[test]
    fn l6_damaged_documents_are_refused_if_serde_refuses_them(
        changes in prop::collection::vec((any::<prop::sample::Index>(), prop::option::of(any::<u8>())), 0..3),
        teach in any::<bool>(),
    ) {
        const DOCUMENT: &str = r#"{"a": 17, "b": {"c": [1.5, "x\n\u00eb", {}], "d": null}, "e": "text of a length", "f": true}"#;
        let schema = columns::read("a VARCHAR, b STRUCT<c VARCHAR[], d VARCHAR>, e VARCHAR, f VARCHAR").unwrap();
        let mut object = Object::new(schema.iter().map(|column| (column.name.clone(), Field::of_column(column))));
        let mut rows = 0;
        if teach {
            object.push(DOCUMENT, &mut (1 << 26)).unwrap();
            rows += 1;
        }
        let mut bytes = DOCUMENT.as_bytes().to_vec();
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            match byte {
                Some(byte) => bytes[place] = byte,
                None => bytes.truncate(place.max(1)),
            }
        }
        let Ok(text) = std::str::from_utf8(&bytes) else { return Ok(()) };
        let pushed = object.push(text, &mut (1 << 26));
        let read: Result<serde_json::Map<String, Value>, _> = serde_json::from_str(text);
        let is_json = read.as_ref().is_ok() || read.as_ref().is_err_and(|error| error.to_string().starts_with("number out of range"));
        match pushed {
            Ok(()) => {
                prop_assert!(is_json, "{text}");
                rows += 1;
            }
            Err(reason) => {
                // All columns are texts: only the struct and the list do not take everything.
                let is_of_column = reason.starts_with("column b");
                prop_assert_eq!(!is_of_column, !is_json, "{}: {}", text, reason);
                object.truncate(rows);
            }
        }
        prop_assert!(object.take().iter().all(|array| array.len() == rows));
    }
}
