//! Records become rows as a plain implementation over `serde_json` says, and what does not fit is refused with its reason.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    Time64NanosecondType, TimestampMicrosecondType, UInt32Type, UInt64Type,
};
use arrow_array::{Array, RecordBatch};
use arrow_schema::{DataType, TimeUnit};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::query::types::{Column, SqlType};
use crate::query::{Catalog, columns};
use crate::{ManualClock, Position, PutRecord, Stream, StreamOptions, Timestamp};

/// Shows one value of a column, so that it can be compared.
fn cell(array: &dyn Array, row: usize) -> String {
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

/// A stream of one shard, whose clock stands at 2026.
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

/// Returns what becomes of one value of a column of a type: the value, or the reason.
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
    // The good ones have taught the decoder what stands between values.
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

/// What stands between the values of a document.
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
