//! Tests that records become rows by the rules of the columns' types, and that misfits are refused with their reason.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    Time64NanosecondType, TimestampMicrosecondType, UInt32Type, UInt64Type,
};
use arrow_array::{Array, RecordBatch};
use arrow_schema::{DataType, TimeUnit};
use serde_json::json;

use super::*;
use crate::query::{Catalog, columns};
use crate::{ManualClock, Position, PutRecord, Stream, StreamOptions, Timestamp};

/// Shows one value of a column, so that it can be compared.
pub(super) fn cell(array: &dyn Array, row: usize) -> String {
    if array.is_null(row) {
        return "null".into();
    }
    let all = |items: &dyn Array| (0..items.len()).map(|row| cell(items, row)).collect::<Vec<_>>().join(",");
    match array.data_type() {
        DataType::Boolean => array.as_boolean().value(row).to_string(),
        DataType::Int8 => array.as_primitive::<Int8Type>().value(row).to_string(),
        DataType::Int16 => array.as_primitive::<Int16Type>().value(row).to_string(),
        DataType::Int32 => array.as_primitive::<Int32Type>().value(row).to_string(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).to_string(),
        DataType::UInt32 => array.as_primitive::<UInt32Type>().value(row).to_string(),
        DataType::UInt64 => array.as_primitive::<UInt64Type>().value(row).to_string(),
        DataType::Float32 => format!("{:?}", array.as_primitive::<Float32Type>().value(row)),
        DataType::Float64 => format!("{:?}", array.as_primitive::<Float64Type>().value(row)),
        DataType::Decimal128(..) => array.as_primitive::<Decimal128Type>().value(row).to_string(),
        DataType::Date32 => array.as_primitive::<Date32Type>().value(row).to_string(),
        DataType::Time64(_) => array.as_primitive::<Time64NanosecondType>().value(row).to_string(),
        DataType::Timestamp(TimeUnit::Microsecond, Some(zone)) if &**zone == "UTC" => {
            array.as_primitive::<TimestampMicrosecondType>().value(row).to_string()
        }
        DataType::Utf8 => format!("{:?}", array.as_string::<i32>().value(row)),
        DataType::Utf8View => format!("{:?}", array.as_string_view().value(row)),
        DataType::Binary => format!("b{:?}", String::from_utf8_lossy(array.as_binary::<i32>().value(row))),
        DataType::List(_) => format!("[{}]", all(&array.as_list::<i32>().value(row))),
        DataType::Struct(_) => {
            let fields = array.as_struct().columns().iter().map(|field| cell(field, row));
            format!("({})", fields.collect::<Vec<_>>().join(","))
        }
        DataType::Map(..) => format!("[{}]", all(&array.as_map().value(row))),
        other => panic!("no column is {other}"),
    }
}

fn rows(batch: &RecordBatch) -> Vec<String> {
    let row = |row| batch.columns().iter().map(|column| cell(column, row)).collect::<Vec<_>>().join(" ");
    (0..batch.num_rows()).map(row).collect()
}

/// A stream of one shard, whose clock is stopped in 2026.
struct Records {
    _directory: tempfile::TempDir,
    stream: Stream,
}

impl Records {
    fn new(data: &[&[u8]]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_772_366_400_000)));
        let stream = StreamOptions::new().clock(clock).open(directory.path().join("stream")).unwrap();
        for data in data {
            stream.put("user-17", data).unwrap();
        }
        Self { _directory: directory, stream }
    }

    /// Decodes all records. Returns the rows and the reasons of those that are refused.
    fn decode(&self, schema: &Schema, projection: &[usize]) -> (RecordBatch, Vec<String>) {
        let mut decoder = Decoder::new(schema, projection);
        let shard = self.stream.shards()[0].id;
        let batch = self.stream.iterator(shard, Position::TrimHorizon).unwrap().next_batch(10_000).unwrap();
        let refused = batch.iter().filter_map(|record| decoder.push(shard, &record).err());
        let refused = refused.map(|refused| refused.reason).collect();
        (decoder.finish(), refused)
    }
}

/// Decodes data with all columns of a schema but the system columns.
fn decode(schema: &Schema, data: &[&str]) -> (Vec<String>, Vec<String>) {
    let data: Vec<_> = data.iter().map(|data| data.as_bytes()).collect();
    let first = SystemColumn::ALL.len();
    let projection: Vec<_> = (first..schema.columns().fields().len()).collect();
    let (batch, refused) = Records::new(&data).decode(schema, &projection);
    (rows(&batch), refused)
}

/// Decodes one value of a column of a type: returns the value, or the reason why it does not fit.
fn one(of: &str, value: &str) -> String {
    let schema = Schema::json(&format!("a {of}")).unwrap();
    let (rows, refused) = decode(&schema, &[&format!("{{\"a\":{value}}}")]);
    rows.into_iter().chain(refused).collect::<Vec<_>>().join(" and ")
}

#[test]
fn system_columns_say_where_a_record_is_and_do_not_look_at_its_data() {
    let records = Records::new(&[b"no JSON"]);
    let record = PutRecord::new(b"a\xff", b"\xfe").header("h", "1").header("h", "2");
    records.stream.put_batch(&[record]).unwrap();
    let schema = Schema::json("page VARCHAR").unwrap();
    let (batch, refused) = records.decode(&schema, &[3, 0, 1, 2, 4, 5, 0]);
    assert!(refused.is_empty());
    let expected = [
        r#""user-17" 0 0 1772366400000000 b"no JSON" [] 0"#,
        r#""a�" 0 1 1772366400000000 b"�" [("h",b"1"),("h",b"2")] 0"#,
    ];
    assert_eq!(rows(&batch), expected);
    let names: Vec<_> = batch.schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, ["_key", "_shard", "_sequence", "_arrival", "_data", "_headers", "_shard"]);
    let (batch, refused) = records.decode(&schema, &[]);
    assert_eq!((batch.num_rows(), batch.num_columns(), refused.len()), (2, 0, 0));
    let (batch, refused) = records.decode(&schema, &[6, 1]);
    assert_eq!((batch.num_rows(), refused.len()), (0, 2), "{refused:?}");
}

#[test]
fn a_schema_can_be_tried_out_on_records() {
    let records = Records::new(&[br#"{"page":"/","ms":1}"#, br#"{"page":"/","ms":"x"}"#, br#"{"ms":2.5}"#]);
    let schema = Schema::json("page VARCHAR, ms DOUBLE").unwrap();
    let shard = records.stream.shards()[0].id;
    let batch = records.stream.iterator(shard, Position::TrimHorizon).unwrap().next_batch(10).unwrap();
    let decoded = schema.decode(shard, &batch, &["ms", "_sequence"]).unwrap();
    assert_eq!(rows(&decoded.rows), ["1.0 0", "2.5 2"]);
    let reasons: Vec<_> = decoded.refused.iter().map(|(at, reason)| (at.get(), reason.as_str())).collect();
    assert_eq!(reasons, [(1, "column ms: expected DOUBLE, found \"x\"")]);
    let error = schema.decode(shard, &batch, &["Page"]).unwrap_err().to_string();
    assert_eq!(
        error,
        "there is no column Page: there are _shard, _sequence, _arrival, _key, _data, _headers, page, ms"
    );
}

#[test]
fn scalars_become_values_by_the_rules_of_their_type() {
    for (of, value, expected) in [
        ("BOOLEAN", "true", "true"),
        ("BOOLEAN", r#""FALSE""#, "false"),
        ("BOOLEAN", "1", "true"),
        ("BOOLEAN", r#"" 0 ""#, "false"),
        ("BOOLEAN", "1.0", "true"),
        ("BOOLEAN", "2", "column a: expected BOOLEAN, found 2"),
        ("BOOLEAN", r#""yes""#, "column a: expected BOOLEAN, found \"yes\""),
        ("TINYINT", "-128", "-128"),
        ("TINYINT", "128", "column a: expected TINYINT, found 128"),
        ("SMALLINT", "1.2e1", "12"),
        ("SMALLINT", "32768", "column a: expected SMALLINT, found 32768"),
        ("INTEGER", "true", "1"),
        ("INTEGER", r#"" 7 ""#, "7"),
        ("INT", "2147483648", "column a: expected INTEGER, found 2147483648"),
        ("BIGINT", "-9223372036854775808", "-9223372036854775808"),
        ("BIGINT", "12.0", "12"),
        ("BIGINT", "12.5", "column a: expected BIGINT, found 12.5"),
        ("BIGINT", "9223372036854775808", "column a: expected BIGINT, found 9223372036854775808"),
        ("BIGINT", r#""x""#, "column a: expected BIGINT, found \"x\""),
        ("BIGINT", "[1]", "column a: expected BIGINT, found [1]"),
        ("BIGINT", "{}", "column a: expected BIGINT, found {}"),
        ("BIGINT NOT NULL", "null", "column a: expected BIGINT NOT NULL, found null"),
        ("REAL", "0.1", "0.1"),
        ("FLOAT", "1e39", "column a: expected REAL, found 1e39"),
        ("DOUBLE", "false", "0.0"),
        ("DOUBLE", "-0.0", "-0.0"),
        ("DOUBLE", r#""1.5e3""#, "1500.0"),
        ("DOUBLE", r#""NaN""#, "NaN"),
        ("DOUBLE", r#""-Infinity""#, "-inf"),
        ("DOUBLE", "1e400", "column a: expected DOUBLE, found 1e400"),
        ("DOUBLE", r#""""#, "column a: expected DOUBLE, found \"\""),
        ("DECIMAL(5, 2)", "12.30", "1230"),
        ("DECIMAL(5, 2)", "-1e2", "-10000"),
        ("DECIMAL(5, 2)", "12.345", "column a: expected DECIMAL(5, 2), found 12.345"),
        ("DECIMAL(5, 2)", "1000", "column a: expected DECIMAL(5, 2), found 1000"),
        (
            "DECIMAL(38, 0)",
            r#""99999999999999999999999999999999999999""#,
            "99999999999999999999999999999999999999",
        ),
        ("DECIMAL(5)", "1e2147483647", "column a: expected DECIMAL(5, 0), found 1e2147483647"),
        ("DECIMAL(5)", "0e2147483647", "0"),
        ("VARCHAR", r#""Zo\u00eb \ud83d\ude00""#, "\"Zoë 😀\""),
        ("VARCHAR", "1.50", "\"1.50\""),
        ("VARCHAR", "true", "\"true\""),
        ("VARCHAR", r#"{"b": [1, 2]}"#, r#""{\"b\": [1, 2]}""#),
        ("VARCHAR", "null", "null"),
        ("VARCHAR(2)", r#""äöü""#, "\"äö\""),
        ("CHAR(3)", "12345", "\"123\""),
        ("VARBINARY", r#""YWI=""#, "b\"ab\""),
        ("BYTES", r#""YWI""#, "b\"ab\""),
        ("VARBINARY", r#""a""#, "column a: expected VARBINARY, found \"a\""),
        ("VARBINARY", "12", "column a: expected VARBINARY, found 12"),
        ("DATE", r#""1970-01-03""#, "2"),
        ("DATE", "2", "column a: expected DATE, found 2"),
        ("TIME", r#""00:00:01.5""#, "1500000000"),
        ("TIMESTAMP", r#""2026-03-01T12:00:00Z""#, "1772366400000000"),
        ("TIMESTAMP(3)", "1772366400000", "1772366400000000"),
        ("TIMESTAMP", "1772366400.5", "1772366400500000"),
        ("TIMESTAMP", "true", "column a: expected TIMESTAMP, found true"),
        ("TIMESTAMP_LTZ(3)", r#""soon""#, "column a: expected TIMESTAMP, found \"soon\""),
        ("VARCHAR[]", r#"["a", null, 1, []]"#, r#"["a",null,"1","[]"]"#),
        ("BIGINT[]", "[]", "[]"),
        ("BIGINT[]", "{}", "column a: expected BIGINT[], found {}"),
        ("BIGINT[]", "1", "column a: expected BIGINT[], found 1"),
        ("BIGINT[]", r#"[1, "x"]"#, "column a[]: expected BIGINT, found \"x\""),
        ("ARRAY<ARRAY<INT>>", "[[1], [], null, [2, 3]]", "[[1],[],null,[2,3]]"),
        ("STRUCT<id BIGINT, tags VARCHAR[]>", r#"{"tags":["x"],"ID":1}"#, r#"(1,["x"])"#),
        ("ROW<id BIGINT>", "{}", "(null)"),
        ("ROW<id BIGINT>", "null", "null"),
        ("STRUCT<id: BIGINT>", "[]", "column a: expected STRUCT<id BIGINT>, found []"),
        ("STRUCT<id BIGINT>", r#"{"id":"x"}"#, "column a.id: expected BIGINT, found \"x\""),
        (
            "STRUCT<x STRUCT<y DOUBLE>>[]",
            r#"[{"x":{"y":1}},{},null,{"x":{"y":2,"y":3}}]"#,
            "[((1.0)),(null),null,((3.0))]",
        ),
    ] {
        assert_eq!(one(of, value), expected, "{of} of {value}");
    }
    let long = format!("\"{}é\"", "x".repeat(98));
    assert_eq!(one("BIGINT", &long), format!("column a: expected BIGINT, found \"{}…", "x".repeat(98)));
}

#[test]
fn the_last_of_several_members_counts_and_the_exact_name_before_others() {
    let schema = Schema::json("page VARCHAR, \"Page\" VARCHAR, n BIGINT NOT NULL").unwrap();
    let (rows, refused) = decode(
        &schema,
        &[
            r#"{"n":1,"page":"a","Page":"b"}"#,
            r#"{"N":"x","PAGE":"a","n":2,"page":"b","page":"c"}"#,
            r#"{"n":"x","PAGE":"a","PAGE":"b","n":3,"N":"y"}"#,
            r#"{"pa\u0067e":"a" , "n" : 4}"#,
            r#"{}"#,
            r#" {"n":5,"pag":1,"pagee":2, "other":{"page":[1,{"n":2}]}} "#,
        ],
    );
    assert_eq!(rows, [r#""a" "b" 1"#, r#""c" null 2"#, r#""b" null 3"#, r#""a" null 4"#, "null null 5"]);
    assert_eq!(refused, ["column n: expected BIGINT NOT NULL, found nothing"]);
}

#[test]
fn blanks_between_values_may_come_and_go_from_record_to_record() {
    let schema = Schema::json("a BIGINT, b STRUCT<c VARCHAR>, l DOUBLE[]").unwrap();
    let records = [
        r#"{"a":1,"b":{"c":"x"},"l":[1,2]}"#,
        r#"{"a": 2,"b": {"c": "x"},"l": [1, 2]}"#,
        "{ \"a\" :\t3 ,\n\"b\" : { \"c\"\r:  \"x\" } , \"l\":[ 1 , 2 ] }\n",
    ];
    for first in 0..3 {
        let data: Vec<_> = (0..9).map(|place| records[(place + first) % 3]).collect();
        let (rows, refused) = decode(&schema, &data);
        let expected: Vec<_> =
            (0..9).map(|place| format!(r#"{} ("x") [1.0,2.0]"#, (place + first) % 3 + 1)).collect();
        assert_eq!((rows, refused), (expected, vec![]));
    }
}

#[test]
fn l6_data_that_is_no_json_object_is_refused_whatever_is_asked_for() {
    let schema = Schema::json("a BIGINT").unwrap();
    let good = r#"{"a":1,"b":2}"#;
    // The decoder has learned the text between values from the good ones.
    for bad in [
        r#"{"a":1{"a":2}"#,
        r#"{"a":1"b":2}"#,
        r#"{,"b":1}"#,
        r#"{"a":1,}"#,
        r#"{"a":1,"b":2"#,
        r#"{"a":1,"b":2}}"#,
        r#"{"a":1,"b":2} x"#,
        r#"{"a":1,"b":}"#,
        r#"{"a":01}"#,
        r#"{"b":"\ud800","a":1}"#,
        r#"{"b":"\udc00\ud800"}"#,
        "{\"b\":\"\u{1}\"}",
        r#"{"a":1,"b":+2}"#,
        r#"{"a" 1}"#,
        r#"{a:1}"#,
        "",
        " ",
        "[1]",
        "1",
        "null",
        "{",
        r#"{""#,
        r#"{"a":1,"b":tru}"#,
        r#"{"a":nul}"#,
        r#"{"a":1e}"#,
        r#"{"a":--1}"#,
        r#"{'a':1}"#,
    ] {
        let (decoded, refused) = decode(&schema, &[good, bad, good]);
        assert_eq!(decoded, ["1", "1"], "{bad}");
        assert!(refused[0].starts_with("the data is no JSON object: expected "), "{bad}: {refused:?}");
    }
    let records = Records::new(&[b"{\"a\":1,\"b\":\"\xff\"}", b"\xff", b"{\"a\":2}"]);
    let (batch, refused) = records.decode(&schema, &[6]);
    assert_eq!(rows(&batch), ["2"]);
    assert!(refused[0].starts_with("the data is no UTF-8 text: "), "{refused:?}");
}

#[test]
fn l6_nesting_and_numbers_without_end_are_refused_or_taken_in_bounded_memory() {
    let schema =
        Schema::json("a VARCHAR[], b DOUBLE, c DECIMAL(38, 10), d BIGINT, e STRUCT<x BIGINT[]>").unwrap();
    let deep = format!("{{\"z\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let deep_column = format!("{{\"e\":{}", "{\"x\":[".repeat(100_000));
    let digits = "9".repeat(100_000);
    let (rows, refused) = decode(
        &schema,
        &[
            &deep,
            &deep_column,
            &format!("{{\"b\":0.{digits}}}"),
            &format!("{{\"b\":{digits}}}"),
            &format!("{{\"c\":{digits}}}"),
            &format!("{{\"d\":1e{digits}}}"),
            &format!("{{\"c\":1.{}}}", "0".repeat(100_000)),
        ],
    );
    assert_eq!(rows, ["null 1.0 null null null", "null null 10000000000 null null"]);
    assert_eq!(refused.len(), 5, "{refused:?}");
    assert!(refused.iter().all(|reason| reason.len() < 250), "{refused:?}");

    // Each item of 3 bytes would be a struct of a thousand columns.
    let fields: Vec<_> = (0..900).map(|index| format!("f{index} DOUBLE")).collect();
    let schema = Schema::json(&format!("a STRUCT<{}>[]", fields.join(", "))).unwrap();
    let many = format!("{{\"a\":[{}{{}}]}}", "{},".repeat(100_000));
    let (rows, refused) = decode(&schema, &[&many, r#"{"a":[]}"#]);
    assert_eq!(rows, ["[]"]);
    assert_eq!(refused, ["column a[]: there are too many items in the lists of a record or a batch"]);
}

#[test]
fn l6_names_that_never_come_again_are_not_remembered_without_end() {
    let columns = columns::read("a BIGINT").unwrap();
    let mut object = Object::new([("a".to_owned(), Field::of_column(&columns[0]))]);
    for record in 0..2_000 {
        let data = format!("{{\"n{record}\":1,\"m{record}\":2,\"a\":{record}}}");
        object.push(&data, &mut 0).unwrap();
    }
    let values = object.take();
    assert!((0..2_000).all(|row| cell(&values[0], row) == row.to_string()));
    assert!(object.remembered() <= 128);
}

#[test]
fn a_refused_record_leaves_nothing_behind_and_the_next_batch_begins_anew() {
    let schema =
        Schema::json("s VARCHAR, l STRUCT<v VARCHAR, n BIGINT>[], b BOOLEAN, n BIGINT NOT NULL").unwrap();
    let good = |n: usize| format!(r#"{{"s":"s{n}","l":[{{"v":"v{n}","n":{n}}}],"b":true,"n":{n}}}"#);
    let bad = |n: usize| {
        format!(r#"{{"s":"bad","l":[{{"v":"bad","n":1}},{{"v":"bad","n":"x"}}],"b":false,"n":{n}}}"#)
    };
    let worse = r#"{"s":"bad","l":[{"v":"bad","n":1}],"b":false,"n":null}"#.to_owned();
    let data: Vec<_> = (0..30).map(|n| [good(n), bad(n), worse.clone()][n % 3].clone()).collect();
    let data: Vec<_> = data.iter().map(String::as_bytes).collect();
    let records = Records::new(&data);
    let shard = records.stream.shards()[0].id;
    let batch = records.stream.iterator(shard, Position::TrimHorizon).unwrap().next_batch(100).unwrap();
    let mut decoder = Decoder::new(&schema, &[1, 6, 7, 8, 9]);
    for round in 0..3 {
        for (record, n) in batch.iter().zip(0..) {
            assert_eq!(decoder.push(shard, &record).is_ok(), n % 3 == 0);
        }
        assert_eq!(decoder.len(), 10);
        let expected = (0..10).map(|n| n * 3).map(|n| format!(r#"{n} "s{n}" [("v{n}",{n})] true {n}"#));
        assert_eq!(rows(&decoder.finish()), expected.collect::<Vec<_>>(), "{round}");
        assert_eq!(decoder.len(), 0);
    }
    assert_eq!(decoder.finish().num_rows(), 0);
}

#[test]
fn lines_of_csv_become_rows_field_by_field() {
    let schema = Schema::csv("page VARCHAR, ms DOUBLE NOT NULL, note VARCHAR").unwrap();
    let (lines, refused) = decode(
        &schema,
        &[
            "/cart,12.5,",
            "\"/a,b\",\"1\",\"say \"\"hi\"\"\r\nagain\"\r\n",
            ",2,\"\"\n",
            "/x,,y",
            "/x,1",
            "/x,1,y,z,a",
            "/x,1,\"y",
            "/x,1,\"y\"z",
            "/x,1,y\"z",
            "/x,1,y\n/x,1,y",
            "/x,one,y",
            "",
        ],
    );
    let expected = [r#""/cart" 12.5 null"#, r#""/a,b" 1.0 "say \"hi\"\r\nagain""#, r#"null 2.0 """#];
    assert_eq!(lines, expected);
    let reasons = [
        "column ms: expected DOUBLE NOT NULL, found nothing",
        "expected 3 fields, found 2",
        "expected 3 fields, found 4 or more",
        "the quotation mark at byte 5 is not closed",
        "expected a delimiter behind the quotation mark, at byte 8",
        "a quotation mark is within a field without any, at byte 6",
        "the data has more than one line: the first ends at byte 6",
        "column ms: expected DOUBLE NOT NULL, found \"one\"",
        "expected 3 fields, found 1",
    ];
    assert_eq!(refused, reasons);

    let schema = Schema::csv("a BIGINT, b VARCHAR").unwrap().delimiter(b'\t').unwrap();
    let (batch, refused) = Records::new(&[b"1\tx,y", b"x\ty"]).decode(&schema, &[7]);
    assert_eq!((rows(&batch), refused.len()), (vec![r#""x,y""#.to_owned(), r#""y""#.to_owned()], 0));
}

#[test]
fn statements_compute_with_columns_of_each_type() {
    let records = Records::new(&[
        br#"{"b":true,"n":7,"d":2.5,"p":"19.90","s":"x","at":"2026-03-01T12:30:00Z","day":"2026-03-01","t":"12:00:01","u":{"id":3,"name":"Ann"},"l":["a","b"],"r":[{"q":2}]}"#,
        br#"{"b":0,"n":"8","d":1,"p":0.1,"s":12345678901234567890,"at":1772366400,"u":{"id":4},"l":[],"r":[]}"#,
        br#"{"n":"no number"}"#,
        br#"{}"#,
    ]);
    let schema = Schema::json(
        "b BOOLEAN, n BIGINT, d DOUBLE, p DECIMAL(10, 2), s VARCHAR, at TIMESTAMP, day DATE, t TIME, \
         u STRUCT<id BIGINT, name VARCHAR>, l VARCHAR[], r STRUCT<q INT>[]",
    );
    let catalog = Catalog::new().stream("t", &records.stream, schema.unwrap()).unwrap();
    let value = |select: &str| {
        let mut json = vec![];
        catalog.query(&format!("SELECT {select} AS x FROM t")).unwrap().write_json(&mut json).unwrap();
        String::from_utf8(json).unwrap().trim_end().to_owned()
    };
    for (select, expected) in [
        ("sum(n)", r#"{"x":15}"#),
        ("count(*)", r#"{"x":4}"#),
        ("count(b)", r#"{"x":2}"#),
        ("avg(d)", r#"{"x":1.75}"#),
        ("sum(p)", r#"{"x":20.00}"#),
        ("max(s)", r#"{"x":"x"}"#),
        ("string_agg(s, '+' ORDER BY n)", r#"{"x":"x+12345678901234567890"}"#),
        ("max(at) - min(at) = INTERVAL '30 minutes'", r#"{"x":true}"#),
        ("max(day) = DATE '2026-03-01'", r#"{"x":true}"#),
        ("max(t) = TIME '12:00:01'", r#"{"x":true}"#),
        ("sum(u['id'])", r#"{"x":7}"#),
        ("max(u['name'])", r#"{"x":"Ann"}"#),
        ("sum(array_length(l))", r#"{"x":2}"#),
        ("max(l[2])", r#"{"x":"b"}"#),
        ("max(r[1]['q'])", r#"{"x":2}"#),
        ("max(_key)", r#"{"x":"user-17"}"#),
    ] {
        assert_eq!(value(select), expected, "{select}");
    }
}

#[test]
fn a_function_may_read_any_format_and_its_refusals_are_reasons() {
    let schema = Schema::function("n BIGINT, key VARCHAR", |record| match record.data() {
        b"list" => Ok(json!([1])),
        [number] => Ok(json!({"N": number, "key": String::from_utf8_lossy(record.partition_key())})),
        _ => Err("it has more than one byte".into()),
    });
    let (rows, refused) = decode(&schema.unwrap(), &["\u{7}", "12", "list"]);
    assert_eq!(rows, [r#"7 "user-17""#]);
    assert_eq!(refused, ["it has more than one byte", "the function returned no JSON object"]);
}
