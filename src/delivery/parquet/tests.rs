//! Tests of which JSON becomes which value, which does not fit, and of files that are read back.

use std::mem::discriminant;

use ::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use ::parquet::file::reader::{FileReader, SerializedFileReader};
use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::{
    Decimal128Type, Float32Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType,
};
use bytes::Bytes;
use proptest::prelude::*;

use super::schema::ParquetType;
use super::*;

/// Writes records. Returns the file, and why the others were refused.
fn written<R: AsRef<[u8]>>(
    options: &ParquetOptions,
    records: impl IntoIterator<Item = R>,
) -> (Bytes, Vec<String>) {
    options.check().unwrap();
    let mut rows = Box::new(options.begin());
    let refused = records.into_iter().filter_map(|record| rows.push(record.as_ref()).err()).collect();
    (rows.finish().unwrap().bytes, refused)
}

fn read(file: &Bytes) -> RecordBatch {
    let builder = ParquetRecordBatchReaderBuilder::try_new(file.clone()).unwrap();
    let mut batches: Vec<_> = builder.with_batch_size(1 << 20).build().unwrap().map(Result::unwrap).collect();
    assert_eq!(batches.len(), 1);
    batches.remove(0)
}

/// Returns the reason why a value does not fit into a column, or `None` if it does.
fn refused(of: impl Into<ParquetType>, json: &str) -> Option<String> {
    let options = ParquetOptions::new(ParquetSchema::new().column("c", of));
    let mut rows = options.begin();
    rows.push(format!("{{\"c\": {json}}}").as_bytes()).err()
}

/// Reads a column of values that all fit.
fn column(of: ParquetType, values: &[&str]) -> arrow_array::ArrayRef {
    let options = ParquetOptions::new(ParquetSchema::new().column("c", of));
    let (file, refused) = written(&options, values.iter().map(|value| format!("{{\"c\": {value}}}")));
    assert_eq!(refused, [""; 0]);
    read(&file).column(0).clone()
}

#[test]
fn values_are_coerced_as_openx_does() {
    let bools = column(ParquetType::Bool, &["true", "\"TRUE\"", "1", "false", "\"False\"", "\"0\"", "null"]);
    let bools: Vec<_> = bools.as_boolean().iter().collect();
    assert_eq!(bools, [Some(true), Some(true), Some(true), Some(false), Some(false), Some(false), None]);

    let ints = column(ParquetType::Int32, &["-2147483648", "\" 12 \"", "12.0", "1.2e1", "null"]);
    let ints: Vec<_> = ints.as_primitive::<Int32Type>().iter().collect();
    assert_eq!(ints, [Some(i32::MIN), Some(12), Some(12), Some(12), None]);

    let longs = column(ParquetType::Int64, &["9223372036854775807", "\"-9223372036854775808\""]);
    assert_eq!(longs.as_primitive::<Int64Type>().values()[..], [i64::MAX, i64::MIN]);

    let floats = column(ParquetType::Float, &["0.1", "\"1e3\""]);
    assert_eq!(floats.as_primitive::<Float32Type>().values()[..], [0.1, 1_000.0]);
    let doubles = column(ParquetType::Double, &["0.1", "\"-Infinity\"", "3"]);
    assert_eq!(doubles.as_primitive::<Float64Type>().values()[..], [0.1, f64::NEG_INFINITY, 3.0]);

    let texts =
        column(ParquetType::String, &["\"a\\u00fc\\n\"", "1.50", "true", "{\"a\": [1]}", "\"\"", "null"]);
    let texts: Vec<_> = texts.as_string::<i32>().iter().collect();
    assert_eq!(texts, [Some("aü\n"), Some("1.50"), Some("true"), Some("{\"a\": [1]}"), Some(""), None]);

    let bytes = column(ParquetType::Bytes, &["\"AP8=\"", "\"\""]);
    assert_eq!(bytes.as_binary::<i32>().iter().collect::<Vec<_>>(), [Some(&[0, 255][..]), Some(&[])]);

    let decimals = column(
        ParquetType::Decimal { precision: 6, scale: 2 },
        &["12.5", "\"-1234.56\"", "1e3", "0.0700", "12e-1"],
    );
    assert_eq!(decimals.as_primitive::<Decimal128Type>().values()[..], [1_250, -123_456, 100_000, 7, 120]);

    let times = [
        "\"2024-02-05T08:09:03.123456Z\"",
        "\"2024-02-05T10:09:03.123456+02:00\"",
        "\"2024-02-05 08:09:03.123456\"",
        "1707120543.123456",
        "\"1707120543\"",
        "1707120543123",
        "-1",
    ];
    let times = column(ParquetType::Timestamp, &times);
    let micros = 1_707_120_543_123_456;
    let second = 1_707_120_543_000_000;
    assert_eq!(
        times.as_primitive::<TimestampMicrosecondType>().values()[..],
        [micros, micros, micros, micros, second, second + 123_000, -1_000_000]
    );
}

#[test]
fn what_does_not_fit_is_refused_with_column_type_and_value() {
    let decimal = ParquetType::Decimal { precision: 4, scale: 2 };
    for (of, json) in [
        (ParquetType::Bool, "\"yes\""),
        (ParquetType::Bool, "2"),
        (ParquetType::Int32, "2147483648"),
        (ParquetType::Int32, "1.5"),
        (ParquetType::Int32, "\"\""),
        (ParquetType::Int64, "9223372036854775808"),
        (ParquetType::Int64, "true"),
        (ParquetType::Int64, "[1]"),
        (ParquetType::Float, "1e39"),
        (ParquetType::Double, "1e309"),
        (ParquetType::Double, "{}"),
        (ParquetType::Bytes, "\"?\""),
        (ParquetType::Bytes, "1"),
        (ParquetType::Timestamp, "\"yesterday\""),
        (ParquetType::Timestamp, "1e300"),
        (decimal.clone(), "100"),
        (decimal.clone(), "0.001"),
        (decimal.clone(), "\".\""),
        (decimal.clone(), "\"1.x\""),
        (decimal, "1e400"),
        (ParquetType::list(ParquetType::Int32), "1"),
        (ParquetSchema::new().column("a", ParquetType::Int32).into(), "[]"),
        (ParquetType::String, "\"\\ud800\""),
    ] {
        let reason = format!("column c: expected {of}, found {json}");
        assert_eq!(refused(of, json), Some(reason));
    }
    let nested = ParquetSchema::new().required("b", ParquetType::list(ParquetType::Bool));
    let reason = |json| refused(nested.clone(), json).unwrap();
    assert_eq!(reason("{\"b\": [true, 7]}"), "column c.b[]: expected bool, found 7");
    assert_eq!(reason("{}"), "column c.b: expected list, found nothing");
    assert_eq!(reason("{\"b\": null}"), "column c.b: expected list, found null");
    assert_eq!(refused(nested, "null"), None, "the struct itself may be null");
    let long = refused(ParquetType::Int32, &format!("\"a{}\"", "ü".repeat(200))).unwrap();
    assert_eq!(long, format!("column c: expected int32, found \"a{}…", "ü".repeat(49)));

    let options = ParquetOptions::new(ParquetSchema::new().column("c", ParquetType::Int32));
    let records = ["[]", "{\"c\": 1}", "{\"c\": 1", "", "{\"c\": 1} 2", "{\"c\": \"x\"}", "{\"c\": 3}"];
    let (file, refused) = written(&options, records);
    assert_eq!(refused.len(), 5);
    assert!(refused[..4].iter().all(|reason| reason.starts_with("it is no JSON object: ")), "{refused:?}");
    assert_eq!(read(&file).column(0).as_primitive::<Int32Type>().values()[..], [1, 3], "the rest goes on");
}

#[test]
fn members_find_their_columns() {
    let schema = || {
        ParquetSchema::new()
            .column("Page", ParquetType::String)
            .column("a_b", ParquetType::Int32)
            .column("time", ParquetType::String)
            .column("user", ParquetSchema::new().column("first_name", ParquetType::String))
    };
    let record = r#"{"pAGE": "x", "a.b": 1, "ts": "mapped", "time": "own", "USER": {"First.Name": "Ann"}, "other": 1}"#;
    let cells = |options: ParquetOptions| {
        let batch = read(&written(&options, [record]).0);
        let text = |array: &dyn arrow_array::Array| {
            array.is_valid(0).then(|| array.as_string::<i32>().value(0).to_owned())
        };
        let user = batch.column(3).as_struct();
        let name = if arrow_array::Array::is_valid(user, 0) { text(user.column(0)) } else { None };
        let number = batch.column(1).as_primitive::<Int32Type>().iter().next().unwrap();
        (text(batch.column(0)), number, text(batch.column(2)), name)
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(cells(ParquetOptions::new(schema())), (some("x"), None, some("own"), None));
    let mapped = ParquetOptions::new(schema()).convert_dots_to_underscores(true).json_key("time", "TS");
    assert_eq!(cells(mapped), (some("x"), Some(1), some("mapped"), some("Ann")));
    let exact = ParquetOptions::new(schema()).case_insensitive(false).convert_dots_to_underscores(true);
    assert_eq!(cells(exact.clone()), (None, Some(1), some("own"), None));
    assert_eq!(cells(exact.json_key("Page", "pAGE")).0, some("x"));
}

/// A schema with all types, nested in each other.
fn wide() -> ParquetSchema {
    let inner = ParquetSchema::new()
        .required("n", ParquetType::Int64)
        .column("tags", ParquetType::list(ParquetType::list(ParquetType::String)));
    ParquetSchema::new()
        .required("id", ParquetType::Int64)
        .column("text", ParquetType::String)
        .column("price", ParquetType::Double)
        .column("is_new", ParquetType::Bool)
        .column("at", ParquetType::Timestamp)
        .column("cents", ParquetType::Decimal { precision: 20, scale: 2 })
        .column("raw", ParquetType::Bytes)
        .column("inner", inner.clone())
        .column("list", ParquetType::list(inner))
}

fn record(number: u64) -> String {
    let inner = format!("{{\"n\": {number}, \"tags\": [[\"a\", null], null, [], [\"b{number}\"]]}}");
    match number % 4 {
        0 => format!("{{\"id\": {number}}}"),
        1 => format!(
            "{{\"id\": {number}, \"text\": \"text {}\", \"price\": {number}.25, \"list\": []}}",
            number % 7
        ),
        2 => format!(
            "{{\"id\": {number}, \"is_new\": true, \"at\": {number}, \"cents\": {number}.5, \"raw\": \"AAEC\", \"inner\": {inner}}}"
        ),
        _ => format!("{{\"id\": {number}, \"inner\": null, \"list\": [{inner}, null, {{\"n\": 0}}]}}"),
    }
}

#[test]
fn the_same_rows_are_the_same_bytes_with_each_setting_and_are_read_back() {
    let codecs = [
        ParquetCompression::Uncompressed,
        ParquetCompression::Snappy,
        ParquetCompression::Gzip,
        #[cfg(feature = "zstd")]
        ParquetCompression::Zstd,
    ];
    let mut first: Option<RecordBatch> = None;
    for (codec, number) in codecs.into_iter().cycle().take(8).zip(0..) {
        let options = ParquetOptions::new(wide())
            .compression(codec)
            .dictionary(number & 1 == 0)
            .statistics(number & 2 == 0)
            .writer_version(if number & 4 == 0 { ParquetVersion::V1 } else { ParquetVersion::V2 })
            .row_group_bytes(64 << 10)
            .page_bytes(4 << 10);
        // As it is committed and restored.
        let stored = serde_json::to_vec(&options).unwrap();
        let options_again: ParquetOptions = serde_json::from_slice(&stored).unwrap();
        assert_eq!(options_again, options);
        let (file, refused) = written(&options, (0..5_000).map(record));
        assert_eq!(refused, [""; 0]);
        assert_eq!(written(&options_again, (0..5_000).map(record)).0, file, "{options:?}");

        let reader = SerializedFileReader::new(file.clone()).unwrap();
        let metadata = reader.metadata();
        assert_eq!(metadata.file_metadata().created_by(), Some(CREATED_BY));
        let groups = metadata.row_groups();
        let is_large = codec == ParquetCompression::Uncompressed;
        assert!(groups.len() > 1 || !is_large, "row groups are bounded: {options:?}");
        assert!(groups.iter().all(|group| group.compressed_size() < 100 << 10), "{options:?}");
        let chunk = groups[0].column(0);
        assert_eq!(chunk.statistics().is_some(), number & 2 == 0);
        assert_eq!(chunk.dictionary_page_offset().is_some(), number & 1 == 0);
        let compression = options.properties().compression(chunk.column_path());
        // The file does not have the level.
        assert_eq!(discriminant(&chunk.compression()), discriminant(&compression));
        let batch = read(&file);
        assert_eq!(batch.num_rows(), 5_000);
        match &first {
            None => first = Some(batch),
            Some(first) => assert_eq!(*first, batch, "settings do not change values"),
        }
    }
}

#[test]
fn nested_values_are_read_back_as_they_were() {
    let inner = ParquetSchema::new()
        .required("n", ParquetType::Int64)
        .column("tags", ParquetType::list(ParquetType::list(ParquetType::String)));
    let schema = ParquetSchema::new().column("inner", inner.clone()).column("list", ParquetType::list(inner));
    let (file, _) = written(&ParquetOptions::new(schema), (0..4).map(record));
    let reader = SerializedFileReader::new(file).unwrap();
    let rows: Vec<_> = reader.get_row_iter(None).unwrap().map(|row| row.unwrap().to_string()).collect();
    let inner = |number| format!("{{n: {number}, tags: [[\"a\", null], null, [], [\"b{number}\"]]}}");
    assert_eq!(
        rows,
        [
            "{inner: null, list: null}".to_owned(),
            "{inner: null, list: []}".to_owned(),
            format!("{{inner: {}, list: null}}", inner(2)),
            format!("{{inner: null, list: [{}, null, {{n: 0, tags: null}}]}}", inner(3)),
        ]
    );
}

#[test]
fn memory_is_counted() {
    let options = ParquetOptions::new(wide());
    let mut rows = options.begin();
    let empty = rows.memory_bytes();
    let mut before = empty;
    for number in 0..5_000 {
        rows.push(record(number).as_bytes()).unwrap();
        assert!(rows.memory_bytes() >= before, "it never shrinks");
        before = rows.memory_bytes();
        assert!(rows.push(b"{\"id\": 1, \"text\": \"a long text that is not kept\", \"list\": 1}").is_err());
        assert_eq!(rows.memory_bytes(), before, "what does not fit leaves nothing");
    }
    let text = "x".repeat(4 << 20);
    rows.push(format!("{{\"id\": 1, \"text\": \"{text}\"}}").as_bytes()).unwrap();
    assert!(rows.memory_bytes() >= 4 << 20 && before < 2 << 20);
}

#[test]
fn settings_that_break_a_rule_are_refused_with_a_sentence() {
    let refused = |options: ParquetOptions| options.check().unwrap_err();
    let of = |schema: ParquetSchema| ParquetOptions::new(schema);
    let one = || ParquetSchema::new().column("a", ParquetType::Int32);
    assert!(refused(of(ParquetSchema::new())).contains("at least one column"));
    assert!(refused(of(one().column("s", ParquetSchema::new()))).contains("at least one column"));
    assert!(refused(of(one().column("", ParquetType::Int32))).contains("no name"));
    assert!(refused(of(one().column("A", ParquetType::Int32))).contains("\"A\" twice"));
    assert!(of(one().column("A", ParquetType::Int32)).case_insensitive(false).check().is_ok());
    for (precision, scale) in [(0, 0), (39, 0), (3, 4)] {
        let decimal = ParquetType::list(ParquetType::Decimal { precision, scale });
        assert!(refused(of(one().column("d", decimal))).contains("\"d\" is a decimal"));
    }
    let nested = |depth| (1..depth).fold(ParquetType::Int32, |of, _| ParquetType::list(of));
    assert!(of(one().column("n", nested(crate::TYPE_DEPTH_MAX))).check().is_ok());
    assert!(refused(of(one().column("n", nested(crate::TYPE_DEPTH_MAX + 1)))).contains("deeper"));
    assert!(refused(of(one()).row_group_bytes(1)).contains("row_group_bytes is out of range"));
    assert!(refused(of(one()).page_bytes(1 << 30)).contains("page_bytes is out of range"));
    assert!(refused(of(one()).json_key("b", "c")).contains("the column \"b\""));
    let two = one().column("b", ParquetType::Int32);
    assert!(refused(of(two.clone()).json_key("b", "A")).contains("take the same member"));
    assert!(of(two).json_key("b", "a").json_key("a", "b").check().is_ok());
    let many =
        (0..10_000).fold(one(), |schema, number| schema.column(number.to_string(), ParquetType::Int32));
    assert!(refused(of(many)).contains("as JSON"));
}

#[test]
fn a_schema_is_inferred_by_widening() {
    let records = [
        r#"{"id": 1, "n": 1, "b": true, "mixed": 1, "nothing": null, "big": 18446744073709551616, "o": {}}"#,
        "no json",
        "[]",
        r#"{"n": 2.5, "ID": 2, "s": "2024-02-05T08:09:03Z", "mixed": {"a": 1}, "l": [], "huge": 1e400}"#,
        r#"{"l": [1, null, 2.5], "o": {"x": 1}, "e": {}}"#,
        r#"{"o": {"y": [{"z": false}], "X": 7}, "": 1}"#,
    ];
    let inner = ParquetSchema::new()
        .column("x", ParquetType::Int64)
        .column("y", ParquetType::list(ParquetSchema::new().column("z", ParquetType::Bool)));
    let expected = ParquetSchema::new()
        .column("id", ParquetType::Int64)
        .column("n", ParquetType::Double)
        .column("b", ParquetType::Bool)
        .column("mixed", ParquetType::String)
        .column("nothing", ParquetType::String)
        .column("big", ParquetType::String)
        .column("o", inner)
        .column("s", ParquetType::String)
        .column("l", ParquetType::list(ParquetType::Double))
        .column("huge", ParquetType::String)
        .column("e", ParquetType::String);
    assert_eq!(ParquetSchema::infer(records).unwrap(), expected);
    assert!(matches!(ParquetSchema::infer(["1", "{}"]), Err(crate::Error::InvalidArgument(_))));
    assert!(ParquetSchema::infer([""; 0]).is_err());
}

/// A JSON value, nested deeper than a schema may be.
fn json(depth: u32) -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<u64>().prop_map(Into::into),
        (-1e9..1e9f64).prop_map(Into::into),
        "[a-c\"\u{fc}]{0,3}".prop_map(Into::into),
    ];
    leaf.prop_recursive(depth, 40, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Into::into),
            proptest::collection::btree_map("[abA]?", inner, 0..3)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn all_records_fit_into_the_schema_that_was_inferred_from_them(
        values in proptest::collection::vec(json(12), 1..8),
    ) {
        let records: Vec<_> = values.iter().map(|value| format!("{{\"v\": {value}}}")).collect();
        let options = ParquetOptions::new(ParquetSchema::infer(&records).unwrap());
        let (file, refused) = written(&options, &records);
        prop_assert_eq!(refused, [""; 0]);
        prop_assert_eq!(read(&file).num_rows(), records.len());
    }
}
