//! Filters: each operator and each rule of event patterns by itself, what is refused and how, and the limits: L6.

use crate::common;

use common::{clock, scratch, small};
use streamlog::aggregate::{Aggregator, deaggregate};
use streamlog::{Error, Filter, Position, PutRecord, Stream, Timestamp};
use tempfile::TempDir;

const KEY: &str = "user-17";

/// A stream that takes records of 10 MiB. Dropped before its directory.
fn stream() -> (Stream, TempDir) {
    let directory = scratch();
    let options = small(&clock()).segment_bytes(64 << 20).record_bytes_max(11 << 20);
    (options.open(directory.path()).unwrap(), directory)
}

thread_local! {
    static STREAM: (Stream, TempDir) = stream();
}

/// Whether each record that is put matches, with its sequence number.
fn outcomes(filter: &Filter, records: &[(&str, &[u8])]) -> Vec<bool> {
    STREAM.with(|(stream, _)| {
        let put = |(key, data): &(&str, &[u8])| {
            let receipt = stream.put(key, data).unwrap();
            let mut iterator = stream.iterator(receipt.shard, Position::At(receipt.sequence)).unwrap();
            let batch = iterator.next_batch(1).unwrap();
            let record = batch.iter().next().unwrap();
            let user_record = deaggregate(&batch).next().unwrap();
            assert_eq!(filter.matches(&record), filter.matches_user_record(&user_record));
            filter.matches(&record)
        };
        records.iter().map(put).collect()
    })
}

fn matches(pattern: &str, data: impl AsRef<[u8]>) -> bool {
    outcomes(&Filter::new(pattern).unwrap(), &[(KEY, data.as_ref())])[0]
}

/// Checks which data a pattern matches.
#[track_caller]
fn check(pattern: &str, matching: &[&str], others: &[&str]) {
    let filter = Filter::new(pattern).unwrap();
    let all = || matching.iter().chain(others);
    let records: Vec<_> = all().map(|data| (KEY, data.as_bytes())).collect();
    for (index, (data, is_match)) in all().zip(outcomes(&filter, &records)).enumerate() {
        assert_eq!(is_match, index < matching.len(), "{pattern} and {data}");
    }
}

/// Checks which values of the field `x` a list in a pattern matches. `-` means that the field is missing.
#[track_caller]
fn check_values(list: &str, matching: &[&str], others: &[&str]) {
    let document = |value: &&str| match *value {
        "-" => r#"{"y": 1}"#.to_owned(),
        value => format!(r#"{{"y": 1, "x": {value}}}"#),
    };
    let [matching, others] = [matching, others].map(|values| values.iter().map(document).collect::<Vec<_>>());
    let pattern = format!(r#"{{"data": {{"x": {list}}}}}"#);
    check(
        &pattern,
        &matching.iter().map(String::as_str).collect::<Vec<_>>(),
        &others.iter().map(String::as_str).collect::<Vec<_>>(),
    );
}

#[test]
fn a_list_matches_each_of_its_values_and_nothing_else() {
    check_values(r#"["a", "b"]"#, &[r#""a""#, r#""b""#], &[r#""c""#, r#""A""#, r#""ab""#, r#""""#, "1", "-"]);
    check_values(r#"[true]"#, &["true"], &["false", r#""true""#, "1"]);
}

#[test]
fn strings_are_compared_by_characters_however_they_are_written() {
    check_values(
        r#"["é\n\"😀"]"#,
        &[r#""é\n\"😀""#, r#""\u00e9\u000A\u0022\uD83D\uDE00""#],
        &[r#""e\n\"😀""#],
    );
    check_values(r#"["\ud83d\ude00\/\\\b\f\r\t"]"#, &[r#""😀/\\\u0008\u000c\u000d\u0009""#], &[]);
    check(r#"{"data": {"x": [1]}}"#, &[r#"{"\u0078": 1}"#], &[r#"{"\u0079": 1}"#]);
}

#[test]
fn numbers_in_a_list_are_compared_by_their_text() {
    check_values("[300]", &["300"], &["300.0", "3.0e2", "3e2", "30", r#""300""#]);
    check_values("[3.0e2]", &["3.0e2"], &["300", "3.0E2"]);
    check_values("[12345678901234567890]", &["12345678901234567890"], &["12345678901234567891"]);
}

#[test]
fn null_and_the_empty_string_are_values_of_their_own() {
    check_values("[null]", &["null"], &[r#""""#, r#""null""#, "0", "false", "-"]);
    check_values(r#"[""]"#, &[r#""""#], &["null", r#"" ""#, "0", "-"]);
}

#[test]
fn a_prefix_is_of_strings() {
    check_values(
        r#"[{"prefix": "us-"}]"#,
        &[r#""us-""#, r#""us-east-1""#],
        &[r#""us""#, r#""eu-us-""#, "1", "-"],
    );
    check_values(r#"[{"prefix": "1"}]"#, &[r#""12""#], &["1", "12"]);
    check_values(r#"[{"prefix": ""}]"#, &[r#""""#, r#""a""#], &["1", "null", "-"]);
}

#[test]
fn a_suffix_is_of_strings() {
    check_values(
        r#"[{"suffix": ".png"}]"#,
        &[r#""a.png""#, r#"".png""#],
        &[r#""a.PNG""#, r#""png""#, r#"".png.""#],
    );
    check_values(r#"[{"suffix": "2"}]"#, &[r#""12""#], &["12"]);
}

#[test]
fn equals_ignore_case_folds_every_letter() {
    let list = r#"[{"equals-ignore-case": "Straße É"}]"#;
    check_values(list, &[r#""STRAßE é""#, r#""straße É""#], &[r#""strasse é""#, r#""straße""#, "1"]);
}

#[test]
fn prefix_and_suffix_can_ignore_case() {
    let list = r#"[{"prefix": {"equals-ignore-case": "ÉventB"}}]"#;
    check_values(list, &[r#""éVENTBridge""#, r#""éventb""#], &[r#""évent""#, r#""xéventb""#, "1"]);
    let list = r#"[{"suffix": {"equals-ignore-case": ".Pné"}}]"#;
    check_values(list, &[r#""a.pNÉ""#, r#"".pné""#], &[r#""a.pnx""#, r#""pné""#, r#"".pnéx""#, "1"]);
    // A letter that becomes two.
    let list = r#"[{"suffix": {"equals-ignore-case": "xİ"}}, {"prefix": {"equals-ignore-case": "İx"}}]"#;
    check_values(list, &[r#""aXİ""#, r#""İXa""#], &[r#""aİ""#, r#""xa""#]);
}

#[test]
fn a_wildcard_stands_for_any_characters_or_none() {
    check_values(
        r#"[{"wildcard": "dir/*.png"}]"#,
        &[r#""dir/a.png""#, r#""dir/.png""#, r#""dir/a/b.png""#],
        &[r#""dir/apng""#, r#""a/dir/b.png""#, r#""dir/a.png ""#, "1"],
    );
    check_values(r#"[{"wildcard": "*"}]"#, &[r#""""#, r#""é""#], &["1", "null", "-"]);
    check_values(r#"[{"wildcard": "a"}]"#, &[r#""a""#], &[r#""aa""#, r#""""#]);
    check_values(r#"[{"wildcard": "a*a"}]"#, &[r#""aa""#, r#""aba""#], &[r#""a""#]);
    check_values(
        r#"[{"wildcard": "*ab*abc*"}]"#,
        &[r#""ababc""#, r#""xabyabcz""#],
        &[r#""abc""#, r#""abcab""#],
    );
    check_values(r#"[{"wildcard": "a\\*\\\\*"}]"#, &[r#""a*\\""#, r#""a*\\b""#], &[r#""ab\\""#, r#""a*b""#]);
}

#[test]
fn numeric_compares_numbers_however_they_are_written() {
    check_values(
        r#"[{"numeric": ["=", 3.018e2]}]"#,
        &["301.8", "3018e-1", "301.80"],
        &["301.81", r#""301.8""#, "-"],
    );
    check_values(r#"[{"numeric": ["=", 0]}]"#, &["0", "-0", "0.0", "0e5"], &["1e-300", "null", "false"]);
}

#[test]
fn numeric_has_ranges_with_and_without_their_ends() {
    check_values(r#"[{"numeric": ["<", 5]}]"#, &["4.999", "-1e300"], &["5", "6", r#""4""#]);
    check_values(r#"[{"numeric": ["<=", 5]}]"#, &["5", "4"], &["5.001"]);
    check_values(r#"[{"numeric": [">", 5]}]"#, &["5.001", "1e300"], &["5", "4"]);
    check_values(r#"[{"numeric": [">=", 5]}]"#, &["5", "6"], &["4.999"]);
    check_values(r#"[{"numeric": [">", 0, "<=", 5]}]"#, &["0.1", "5"], &["0", "5.1", "-1"]);
    check_values(r#"[{"numeric": [">=", 0, "<", 5]}]"#, &["0", "4.9"], &["-0.1", "5"]);
    check_values(r#"[{"numeric": [">=", 5, "<=", 5]}]"#, &["5"], &["4", "6"]);
}

#[test]
fn cidr_takes_the_addresses_of_a_network() {
    check_values(
        r#"[{"cidr": "10.1.2.77/24"}]"#,
        &[r#""10.1.2.0""#, r#""10.1.2.255""#],
        &[r#""10.1.3.0""#, r#""10.1.2""#, r#""::ffff:10.1.2.0""#, r#""10.1.2.0/24""#, "10", "-"],
    );
    check_values(r#"[{"cidr": "0.0.0.0/0"}]"#, &[r#""255.1.2.3""#], &[r#""::1""#, r#""a""#]);
    check_values(r#"[{"cidr": "10.0.0.1/32"}]"#, &[r#""10.0.0.1""#], &[r#""10.0.0.0""#]);
    let list = r#"[{"cidr": "2001:db8::/33"}]"#;
    check_values(
        list,
        &[r#""2001:db8:7fff::1""#, r#""2001:0DB8::""#],
        &[r#""2001:db8:8000::""#, r#""10.0.0.1""#],
    );
    check_values(r#"[{"cidr": "::/0"}]"#, &[r#""2001:db8::1""#], &[r#""1.2.3.4""#]);
}

#[test]
fn anything_but_takes_values_of_any_type_that_are_not_listed() {
    check_values(
        r#"[{"anything-but": "a"}]"#,
        &[r#""b""#, r#""""#, "1", "null", "true"],
        &[r#""a""#, "-", "{}", "[]"],
    );
    let list = r#"[{"anything-but": ["b", "a"]}]"#;
    check_values(list, &[r#""c""#, r#""A""#, "1"], &[r#""a""#, r#""b""#, "-"]);
}

#[test]
fn anything_but_compares_numbers_by_value() {
    check_values(
        r#"[{"anything-but": 123}]"#,
        &["124", r#""123""#, "null"],
        &["123", "123.0", "1.23e2", "-"],
    );
    check_values(r#"[{"anything-but": [3, 1, 2, -0]}]"#, &["4", r#""a""#], &["1", "2.0", "3", "0", "-"]);
}

#[test]
fn anything_but_takes_each_operator_on_strings_with_one_or_a_list() {
    let list = r#"[{"anything-but": {"prefix": "init"}}]"#;
    check_values(list, &[r#""running""#, "1", "null"], &[r#""initializing""#, r#""init""#, "-"]);
    check_values(r#"[{"anything-but": {"prefix": ["a", "b"]}}]"#, &[r#""ca""#], &[r#""ac""#, r#""bc""#]);
    check_values(r#"[{"anything-but": {"suffix": ".png"}}]"#, &[r#""a.jpg""#, "1"], &[r#""a.png""#]);
    check_values(r#"[{"anything-but": {"suffix": ["g", "f"]}}]"#, &[r#""ga""#], &[r#""ag""#, r#""af""#]);
    check_values(
        r#"[{"anything-but": {"equals-ignore-case": "Ab"}}]"#,
        &[r#""abc""#, "1"],
        &[r#""aB""#, r#""AB""#],
    );
    check_values(
        r#"[{"anything-but": {"equals-ignore-case": ["a", "B"]}}]"#,
        &[r#""c""#],
        &[r#""A""#, r#""b""#],
    );
    check_values(
        r#"[{"anything-but": {"wildcard": "*/lib/*"}}]"#,
        &[r#""/bin/""#, "1"],
        &[r#""/usr/lib/x""#],
    );
    check_values(
        r#"[{"anything-but": {"wildcard": ["*a*", "b*"]}}]"#,
        &[r#""cb""#],
        &[r#""xax""#, r#""bc""#],
    );
}

#[test]
fn values_and_operators_stand_in_one_list() {
    let list = r#"["a", 5, {"prefix": "b"}, {"numeric": [">", 100]}, null]"#;
    check_values(list, &[r#""a""#, "5", r#""bc""#, "101", "null"], &[r#""c""#, "6", "100", "true", "-"]);
}

#[test]
fn exists_true_takes_any_value_but_no_object() {
    let others = ["-", "{}", r#"{"a": 1}"#, "[]", "[{}]", "[[], {}]"];
    check_values(r#"[{"exists": true}]"#, &["1", "null", r#""""#, "false", "[1]", "[[], [{}, 1]]"], &others);
}

#[test]
fn exists_false_takes_what_is_not_there_or_is_an_object() {
    let matching = ["-", "{}", r#"{"a": 1}"#, "[]", "[{}]"];
    check_values(r#"[{"exists": false}]"#, &matching, &["1", "null", r#""""#, "[1]", "[{}, 1]"]);
    check_values(
        r#"[{"exists": false}, "a"]"#,
        &["-", r#""a""#, r#"["b", "a"]"#],
        &[r#""b""#, "null", r#"["b"]"#],
    );
}

#[test]
fn exists_false_in_an_object_that_is_not_there_matches() {
    let pattern = r#"{"data": {"a": {"b": [{"exists": false}]}}}"#;
    check(pattern, &["{}", r#"{"a": 1}"#, r#"{"a": {"c": 1}}"#, "[]", "5"], &[r#"{"a": {"b": 1}}"#]);
}

#[test]
fn all_fields_have_to_match() {
    let pattern = r#"{"data": {"a": [1], "b": {"c": [2], "d": {"e": [3]}}}}"#;
    check(
        pattern,
        &[
            r#"{"a": 1, "b": {"c": 2, "d": {"e": 3}}}"#,
            r#"{"z": 0, "b": {"d": {"e": 3, "f": 4}, "c": 2}, "a": 1}"#,
        ],
        &[
            r#"{"a": 1, "b": {"c": 2, "d": {"e": 4}}}"#,
            r#"{"a": 2, "b": {"c": 2, "d": {"e": 3}}}"#,
            r#"{"a": 1, "b": {"c": 2}, "d": {"e": 3}}"#,
            r#"{"a": 1, "b": {"c": 2, "d": 3}}"#,
            r#"{"a": 1}"#,
        ],
    );
}

#[test]
fn a_name_with_a_dot_is_one_name() {
    check(r#"{"data": {"a.b": [1]}}"#, &[r#"{"a.b": 1}"#], &[r#"{"a": {"b": 1}}"#]);
    check(r#"{"data": {"a": {"b": [1]}}}"#, &[r#"{"a": {"b": 1}}"#], &[r#"{"a.b": 1}"#]);
}

#[test]
fn a_list_in_the_data_has_the_values_of_its_elements() {
    let others = [r#"["c"]"#, "[]", r#"[{"x": "a"}]"#];
    check_values(r#"["a", "b"]"#, &[r#"["c", "a"]"#, r#"[["c"], ["b"]]"#, r#"[{}, "a"]"#], &others);
    check_values(r#"[{"anything-but": "a"}]"#, &[r#"["a", "b"]"#], &[r#"["a"]"#, r#"["a", ["a"]]"#]);
}

#[test]
fn one_object_of_a_list_has_to_match_by_itself() {
    let pattern = r#"{"data": {"people": {"first": ["Anna"], "last": ["Jones"]}}}"#;
    check(
        pattern,
        &[
            r#"{"people": [{"first": "John", "last": "Doe"}, {"first": "Anna", "last": "Jones"}]}"#,
            r#"{"people": [[{"first": "Anna", "last": "Jones"}], [{}]]}"#,
        ],
        &[
            r#"{"people": [{"first": "Anna", "last": "Smith"}, {"first": "Peter", "last": "Jones"}]}"#,
            r#"{"people": [[{"first": "Anna"}], [{"last": "Jones"}]]}"#,
            r#"{"people": []}"#,
        ],
    );
    let nested = r#"{"data": {"a": {"b": {"c": [1], "d": [2]}, "e": [3]}}}"#;
    check(
        nested,
        &[r#"{"a": [{"e": 4}, {"b": [{"c": 1}, {"c": 1, "d": 2}], "e": 3}]}"#],
        &[
            r#"{"a": [{"b": [{"c": 1}, {"d": 2}], "e": 3}]}"#,
            r#"{"a": [{"b": [{"c": 1, "d": 2}]}, {"e": 3}]}"#,
        ],
    );
}

#[test]
fn what_must_not_exist_must_be_absent_where_the_rest_matches_or_everywhere() {
    let both = r#"{"data": {"a": {"b": [1], "c": [{"exists": false}]}}}"#;
    check(both, &[r#"{"a": [{"b": 1}, {"c": 2}]}"#], &[r#"{"a": [{"b": 1, "c": 2}, {"b": 3}]}"#]);
    let alone = r#"{"data": {"a": {"c": [{"exists": false}]}}}"#;
    check(alone, &[r#"{"a": [{"b": 1}, {}]}"#, r#"{"a": []}"#], &[r#"{"a": [{"b": 1}, {"c": 2}]}"#]);
}

#[test]
fn alternatives_need_one_of_them() {
    let pattern = r#"{"data": {"s": [1], "$or": [{"a": [1]}, {"b": [2], "c": [3]}, {"d": {"e": [4]}}]}}"#;
    check(
        pattern,
        &[r#"{"s": 1, "a": 1}"#, r#"{"s": 1, "b": 2, "c": 3}"#, r#"{"s": 1, "a": 2, "d": {"e": 4}}"#],
        &[r#"{"a": 1}"#, r#"{"s": 1, "b": 2}"#, r#"{"s": 1}"#, r#"{"s": 2, "a": 1, "b": 2, "c": 3}"#],
    );
}

#[test]
fn alternatives_may_be_nested_and_stand_side_by_side() {
    let nested = r#"{"data": {"$or": [{"a": [1]}, {"b": [2], "$or": [{"c": [3]}, {"d": [4]}]}]}}"#;
    check(nested, &[r#"{"a": 1}"#, r#"{"b": 2, "d": 4}"#], &[r#"{"b": 2}"#, r#"{"c": 3, "d": 4}"#]);
    let parallel = r#"{"data": {"$or": [{"a": [1]}, {"b": [2]}], "x": {"$or": [{"c": [3]}, {"d": [4]}]}}}"#;
    check(parallel, &[r#"{"b": 2, "x": {"c": 3}}"#], &[r#"{"a": 1, "b": 2, "x": {}}"#, r#"{"x": {"c": 3}}"#]);
}

#[test]
fn alternatives_keep_to_one_object_of_a_list() {
    let pattern = r#"{"data": {"a": {"b": [1]}, "$or": [{"a": {"c": [2]}}, {"a": {"d": [3]}}]}}"#;
    check(
        pattern,
        &[r#"{"a": [{"c": 2}, {"b": 1, "d": 3}]}"#],
        &[r#"{"a": [{"b": 1}, {"c": 2}]}"#, r#"{"a": [{"c": 2, "d": 3}]}"#],
    );
}

#[test]
fn no_element_of_a_list_is_a_value_and_an_object_at_once() {
    let pattern = r#"{"data": {"a": {"b": [1]}, "$or": [{"a": [5]}, {"c": [1]}]}}"#;
    check(
        pattern,
        &[r#"{"a": {"b": 1}, "c": 1}"#],
        &[r#"{"a": [5]}"#, r#"{"a": [5, {"b": 1}]}"#, r#"{"a": {"b": 1}}"#],
    );
}

#[test]
fn alternatives_among_the_fields_of_a_record() {
    let pattern = r#"{"$or": [{"partitionKey": ["user-4"]}, {"data": {"a": [1]}}]}"#;
    let filter = Filter::new(pattern).unwrap();
    let records: [(&str, &[u8]); 4] =
        [("user-4", b"{}"), ("user-17", br#"{"a": 1}"#), ("user-17", b"{}"), ("user-4", b"no JSON")];
    assert_eq!(
        outcomes(&filter, &records),
        [true, true, false, false],
        "data that is not JSON never matches"
    );
}

#[test]
fn of_names_that_are_there_twice_the_last_one_counts() {
    check_values("[1]", &[r#"2, "x": 1"#, r#"{"a": 1}, "x": 1"#], &[r#"1, "x": 2"#, r#"1, "x": {"a": 1}"#]);
    let nested = r#"{"data": {"x": {"a": [1], "b": [2]}}}"#;
    check(nested, &[r#"{"x": 5, "x": {"a": 1, "b": 2}}"#], &[r#"{"x": {"a": 1}, "x": {"b": 2}}"#]);
}

#[test]
fn data_that_is_not_json_matches_no_pattern_that_looks_into_it() {
    let pattern = r#"{"data": {"x": [{"exists": false}]}}"#;
    let json = ["{}", " [1, 2.5e-3, true, null, \"\"] ", "5", "\"a\"", "\t\r\n{\"y\":{}}", "[-0, 0.0, 1E+2]"];
    let others = [
        "",
        " ",
        "a",
        "{",
        "{}}",
        "{} {}",
        "{\"y\"}",
        "{\"y\":}",
        "{y:1}",
        "{'y':1}",
        "{\"y\":1,}",
        "{,}",
        "[1,]",
        "[1 2]",
        "[,]",
        "]",
        "nul",
        "nulll",
        "TRUE",
        "01",
        "1.",
        ".5",
        "-",
        "+1",
        "1e",
        "1e+",
        "--1",
        "0x1",
        "NaN",
        "\"",
        "\"\n\"",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\u12g4\"",
        "\"\\ud800\"",
        "\"\\ud800\\n\"",
        "\"\\udc00\"",
        "\"\\ud800\\ud800\"",
        "{} //",
        "\u{feff}{}",
        "{\"y\":\"\\\"}",
        "[1}",
        "{\"a\":1]",
    ];
    check(pattern, &json, &others);
    for text in others {
        assert!(serde_json::from_str::<serde_json::Value>(text).is_err(), "{text}");
    }
    assert!(!matches(pattern, b"{\"y\": \"\xff\"}"), "it is not UTF-8");
    assert!(!matches(pattern, [&[0xf3, 0x89, 0x9a, 0xc2], &b"{}"[..]].concat()));
}

#[test]
fn a_value_after_a_match_must_still_be_json() {
    check_values("[1]", &[], &[r#"1, "z": tru"#, r#"1, "z": "\q""#, r#"1, "z": {"a": [}"#, r#"1} {"#]);
}

#[test]
fn data_with_a_list_is_compared_as_text() {
    check(r#"{"data": ["clicked"]}"#, &["clicked"], &["clicked ", "\"clicked\"", ""]);
    check(r#"{"data": [""]}"#, &[""], &[" "]);
    check(
        r#"{"data": [{"prefix": "ERROR "}, {"wildcard": "*panic*"}]}"#,
        &["ERROR 1", "a panic!"],
        &["WARN"],
    );
    check(r#"{"data": ["12"]}"#, &["12"], &["12.0"]);
    check(r#"{"data": [12, {"numeric": ["=", 12]}]}"#, &[], &["12"]);
    check(r#"{"data": [{"exists": true}]}"#, &["", "a", "[INFO] a", "{a}", "12", "null"], &[]);
    check(r#"{"data": [{"exists": false}]}"#, &[], &["", "a", "{}"]);
}

#[test]
fn data_that_is_json_matches_no_list() {
    let json = ["{}", "[]", r#" {"a": "ERROR"} "#, "[1, 2]"];
    check(r#"{"data": [{"exists": true}]}"#, &[], &json);
    check(r#"{"data": [{"anything-but": "a"}]}"#, &["b", "{"], &json);
    assert!(!matches(r#"{"data": [{"exists": true}]}"#, b"\xff"), "it is not UTF-8");
}

#[test]
fn data_that_is_not_named_may_be_anything() {
    let pattern = r#"{"partitionKey": ["user-17"]}"#;
    for data in [&b"\xff"[..], b"{", b"", b"{}"] {
        assert!(matches(pattern, data));
    }
}

#[test]
fn the_partition_key_is_a_string() {
    let filter = Filter::new(r#"{"partitionKey": [{"prefix": "user-"}, "é"]}"#).unwrap();
    let keys = [("user-1", &b""[..]), ("é", b""), ("User-1", b""), ("e", b"")];
    assert_eq!(outcomes(&filter, &keys), [true, true, false, false]);
}

#[test]
fn a_partition_key_that_is_not_utf_8_has_replacement_characters() {
    STREAM.with(|(stream, _)| {
        let receipt = stream.put(b"a\xffb", "").unwrap();
        let batch =
            stream.iterator(receipt.shard, Position::At(receipt.sequence)).unwrap().next_batch(1).unwrap();
        let record = batch.iter().next().unwrap();
        for (list, is_match) in [
            ("[\"a\u{fffd}b\"]", true),
            ("[{\"prefix\": \"a\"}]", true),
            ("[{\"anything-but\": \"x\"}]", true),
            ("[\"ab\"]", false),
        ] {
            let filter = Filter::new(&format!("{{\"partitionKey\": {list}}}")).unwrap();
            assert_eq!(filter.matches(&record), is_match, "{list}");
        }
    });
}

#[test]
fn the_sequence_number_is_a_string_and_the_arrival_a_number_of_seconds() {
    let (clock, directory) = (clock(), scratch());
    clock.set(Timestamp::from_micros(1_700_000_000_050_999));
    let stream = small(&clock).open(directory.path()).unwrap();
    stream.put(KEY, "").unwrap();
    stream.put(KEY, "").unwrap();
    let batch = stream.iterator(stream.shards()[0].id, Position::TrimHorizon).unwrap().next_batch(2).unwrap();
    let matching = |pattern: &str| {
        let filter = Filter::new(pattern).unwrap();
        batch.iter().map(|record| filter.matches(&record)).collect::<Vec<_>>()
    };
    assert_eq!(matching(r#"{"sequenceNumber": ["1"]}"#), [false, true]);
    assert_eq!(matching(r#"{"sequenceNumber": [1, {"numeric": [">=", 0]}]}"#), [false, false]);
    let arrival = |list: &str| matching(&format!(r#"{{"approximateArrivalTimestamp": {list}}}"#))[0];
    assert!(arrival("[1700000000.050]"));
    assert!(!arrival("[1700000000.05]") && !arrival(r#"["1700000000.050"]"#));
    assert!(arrival(r#"[{"numeric": ["=", 1700000000.05]}]"#));
    assert!(arrival(r#"[{"numeric": [">=", 1700000000, "<", 1700000001]}]"#));
    assert!(!arrival(r#"[{"numeric": [">", 1700000001]}]"#));
}

#[test]
fn the_constants_of_events_are_there() {
    let pattern = r#"{
        "kinesisSchemaVersion": ["1.0"], "eventSource": ["aws:kinesis"], "eventName": [{"suffix": ":record"}], "eventVersion": ["1.0"]
    }"#;
    assert!(matches(pattern, ""));
    assert!(!matches(r#"{"eventSource": ["aws:sqs"]}"#, ""));
    assert!(!matches(r#"{"eventSource": [{"exists": false}]}"#, ""));
}

#[test]
fn a_user_record_matches_by_its_own_key_and_data() {
    let (stream, _directory) = stream();
    let mut aggregator = Aggregator::new();
    for (key, data) in [("a", r#"{"x": 1}"#), ("b", r#"{"x": 1}"#), ("a", r#"{"x": 2}"#)] {
        aggregator.add(&PutRecord::new(key, data)).unwrap();
    }
    stream.put_record(&aggregator.finish().unwrap().as_put()).unwrap();
    let batch = stream.iterator(stream.shards()[0].id, Position::TrimHorizon).unwrap().next_batch(1).unwrap();
    let filter = Filter::new(r#"{"partitionKey": ["a"], "data": {"x": [1]}}"#).unwrap();
    let found: Vec<_> = deaggregate(&batch).map(|record| filter.matches_user_record(&record)).collect();
    assert_eq!(found, [true, false, false]);
    assert!(!filter.matches(&batch.iter().next().unwrap()), "the aggregate itself is no JSON");
}

#[test]
fn a_filter_of_several_patterns_takes_what_matches_one() {
    let patterns = [
        r#"{"partitionKey": ["user-4"]}"#,
        r#"{"data": {"x": [1], "y": [1]}}"#,
        r#"{"data": {"x": [2]}}"#,
        r#"{"data": ["plain"]}"#,
    ];
    let filter = Filter::any_of(patterns).unwrap();
    assert!(filter.patterns().eq(patterns));
    let records: [(&str, &[u8]); 7] = [
        ("user-4", b"\xff"),
        ("user-17", br#"{"x": 1, "y": 1}"#),
        ("user-17", br#"{"x": 2}"#),
        ("user-17", b"plain"),
        ("user-17", br#"{"x": 1, "y": 2}"#),
        ("user-17", b"other"),
        ("user-17", b"\xff"),
    ];
    assert_eq!(outcomes(&filter, &records), [true, true, true, true, false, false, false]);
}

#[track_caller]
fn refusal(pattern: &str) -> String {
    match Filter::new(pattern) {
        Err(Error::InvalidArgument(text)) => {
            text.strip_prefix("the pattern of a filter is wrong: ").expect("it says what is wrong").to_owned()
        }
        other => panic!("{pattern}: {other:?}"),
    }
}

#[test]
fn a_wrong_pattern_is_refused_with_the_place_and_the_reason() {
    let cases = [
        ("", "it is not JSON: expected a value at byte 0"),
        ("[]", r#"it must be an object with fields of a record, such as {"data": …}"#),
        (r#"{"data": {"a": [1]}"#, "it is not JSON: expected a comma or a closing bracket at byte 19"),
        (r#"{"data": {"a": [1]}} x"#, "it is not JSON: expected the end at byte 21"),
        (
            r#"{"data": {"a": ["\ud800"]}}"#,
            "it is not JSON: expected the second half of a surrogate pair at byte 23",
        ),
        ("{}", "an object without fields matches nothing: name a field in it"),
        (r#"{"data": {"a": {}}}"#, "`data.a`: an object without fields matches nothing: name a field in it"),
        (
            r#"{"kinesis": {"partitionKey": ["a"]}}"#,
            "a record has no field `kinesis`: it has `data`, `partitionKey`, `sequenceNumber`, `approximateArrivalTimestamp`, \
             `kinesisSchemaVersion`, `eventSource`, `eventName`, `eventVersion`",
        ),
        (
            r#"{"partitionKey": {"a": [1]}}"#,
            "`partitionKey`: it is one value, without fields: write a list of values",
        ),
        (
            r#"{"data": "clicked"}"#,
            "`data`: write a list of values, or an object of fields: a value alone is neither",
        ),
        (r#"{"data": {"a": [1], "a": [2]}}"#, "`data`: `a` is there twice: join the two"),
        (r#"{"data": {"a": []}}"#, "`data.a`: an empty list matches nothing: write a value into it"),
        (
            r#"{"data": {"a": [[1]]}}"#,
            "`data.a`: a list within the list of values: write its values by themselves",
        ),
        (
            r#"{"data": {"a": [{"like": "b"}]}}"#,
            "`data.a`: there is no operator `like`: there are `prefix`, `suffix`, `equals-ignore-case`, `wildcard`, `anything-but`, \
             `numeric`, `exists`, `cidr`",
        ),
        (r#"{"data": {"a": [{}]}}"#, "`data.a`: write each operator in an object of its own"),
        (
            r#"{"data": {"a": [{"prefix": "a", "suffix": "b"}]}}"#,
            "`data.a`: write each operator in an object of its own",
        ),
        (r#"{"data": {"a": [{"exists": 1}]}}"#, "`data.a`: `exists` takes true or false"),
        (r#"{"data": {"a": [{"exists": null}]}}"#, "`data.a`: `exists` takes true or false"),
        (r#"{"data": {"a": [{"prefix": 1}]}}"#, "`data.a`: `prefix` takes a string"),
        (
            r#"{"data": {"a": [{"equals-ignore-case": ["a"]}]}}"#,
            "`data.a`: `equals-ignore-case` takes a string",
        ),
        (
            r#"{"data": {"a": [{"suffix": {"prefix": "a"}}]}}"#,
            "`data.a`: `suffix` takes a string, or an object with `equals-ignore-case`",
        ),
        (
            r#"{"data": {"a": [{"prefix": {}}]}}"#,
            "`data.a`: `prefix` takes a string, or an object with `equals-ignore-case`",
        ),
        (
            r#"{"data": {"a": [{"wildcard": "a**b"}]}}"#,
            "`data.a`: `wildcard` takes no two stars in a row: one is enough",
        ),
        (
            r#"{"data": {"a": [{"wildcard": "a\\b"}]}}"#,
            "`data.a`: in a `wildcard`, a backslash stands before a star or a backslash",
        ),
        (
            r#"{"data": {"a": [{"wildcard": "a\\"}]}}"#,
            "`data.a`: in a `wildcard`, a backslash stands before a star or a backslash",
        ),
        (
            r#"{"data": {"a": [{"cidr": "10.0.0.0/33"}]}}"#,
            "`data.a`: \"10.0.0.0/33\" is no range of addresses, such as \"10.0.0.0/24\"",
        ),
        (
            r#"{"data": {"a": [{"cidr": "10.0.0.0"}]}}"#,
            "`data.a`: \"10.0.0.0\" is no range of addresses, such as \"10.0.0.0/24\"",
        ),
        (r#"{"data": {"a": {"$or": [{"b": [1]}]}}}"#, "`data.a`: `$or` takes a list of at least two objects"),
        (r#"{"$or": {"data": [1]}}"#, "`$or` takes a list of at least two objects"),
        (r#"{"$or": [{"data": ["a"]}, 1]}"#, "`$or` takes a list of at least two objects"),
        (
            r#"{"data": {"$or": [{"numeric": [1]}, {"a": [1]}]}}"#,
            "`data`: `numeric` is an operator, and cannot be a field within `$or`",
        ),
        (
            r#"{"data": {"a": [1], "$or": [{"a": [2]}, {"b": [3]}]}}"#,
            "`data.a`: it has a list within `$or` and another one beside it: write both into one list",
        ),
        (
            r#"{"$or": [{"data": ["a"]}, {"data": {"a": [1]}}]}"#,
            "`data` is an object in one place and a list in another: no data is JSON and plain text at once",
        ),
    ];
    for (pattern, expected) in cases {
        assert_eq!(refusal(pattern), expected, "{pattern}");
    }
}

#[test]
fn a_wrong_numeric_or_anything_but_is_refused() {
    let form = r#"`data.a`: `numeric` takes ["=", 5], ["<", 5], or [">", 0, "<=", 5]"#;
    for operand in [
        "5",
        "[]",
        r#"["="]"#,
        r#"["=", "5"]"#,
        r#"[5]"#,
        r#"["!=", 5]"#,
        r#"["=", 5, 6]"#,
        r#"["=", 5, "<", 6]"#,
        r#"["<", 5, ">", 1]"#,
        r#"[">", 1, "<"]"#,
        r#"[">", 1, "<", 5, "<", 6]"#,
        r#"[">", 1, ">", 5]"#,
        r#"["=", null]"#,
    ] {
        assert_eq!(
            refusal(&format!(r#"{{"data": {{"a": [{{"numeric": {operand}}}]}}}}"#)),
            form,
            "{operand}"
        );
    }
    let empty = "`data.a`: no number is in this `numeric` range: check its ends";
    for operand in
        [r#"[">", 5, "<", 5]"#, r#"[">=", 5, "<", 5]"#, r#"[">", 5, "<=", 5]"#, r#"[">=", 6, "<=", 5]"#]
    {
        assert_eq!(
            refusal(&format!(r#"{{"data": {{"a": [{{"numeric": {operand}}}]}}}}"#)),
            empty,
            "{operand}"
        );
    }
    let large = r#"{"data": {"a": [{"numeric": ["<", 1e999]}]}}"#;
    assert_eq!(refusal(large), "`data.a`: 1e999 is too large");
    let form = "`data.a`: `anything-but` takes a string, a number, a list of only strings or only numbers, or one operator on strings";
    for operand in [
        "null",
        "true",
        "[]",
        r#"["a", 1]"#,
        "[null]",
        r#"[["a"]]"#,
        "{}",
        r#"{"prefix": []}"#,
        r#"{"prefix": "a", "suffix": "b"}"#,
        r#"[{"prefix": "a"}]"#,
    ] {
        assert_eq!(
            refusal(&format!(r#"{{"data": {{"a": [{{"anything-but": {operand}}}]}}}}"#)),
            form,
            "{operand}"
        );
    }
    assert_eq!(
        refusal(r#"{"data": {"a": [{"anything-but": {"numeric": ["=", 1]}}]}}"#),
        "`data.a`: `anything-but` takes `prefix`, `suffix`, `equals-ignore-case` or `wildcard`, not `numeric`"
    );
    assert_eq!(
        refusal(r#"{"data": {"a": [{"anything-but": {"prefix": ""}}]}}"#),
        "`data.a`: each string has the empty `prefix`, so that nothing is anything but that"
    );
    assert_eq!(
        refusal(r#"{"data": {"a": [{"anything-but": {"prefix": [1]}}]}}"#),
        "`data.a`: `prefix` takes a string"
    );
}

#[test]
fn the_number_of_patterns_is_bounded() {
    let pattern = r#"{"partitionKey": ["a"]}"#;
    assert!(Filter::any_of([pattern; 10]).is_ok());
    let text = |filter: streamlog::Result<Filter>| filter.unwrap_err().to_string();
    assert_eq!(text(Filter::any_of([pattern; 11])), "a filter has at most 10 patterns");
    assert_eq!(text(Filter::any_of([""; 0])), "a filter without patterns takes nothing: give it one");
}

#[test]
fn l6_the_length_of_a_pattern_is_bounded_in_characters() {
    let pattern = |len: usize| {
        let frame = r#"{"partitionKey": [""]}"#;
        frame.replace(r#""""#, &format!("\"{}\"", "é".repeat(len - frame.len())))
    };
    assert!(Filter::new(&pattern(Filter::PATTERN_CHARS_MAX)).is_ok());
    let refused = refusal(&pattern(Filter::PATTERN_CHARS_MAX + 1));
    assert_eq!(refused, "it is longer than 4096 characters: shorten it");
}

#[test]
fn l6_the_nesting_of_a_pattern_is_bounded() {
    let nested =
        |depth: usize| format!(r#"{{"data": {}[1]{}}}"#, r#"{"a":"#.repeat(depth), "}".repeat(depth));
    assert!(Filter::new(&nested(125)).is_ok());
    assert_eq!(refusal(&nested(126)), "it is not JSON: expected less nesting at byte 640");
    assert!(refusal(&r#"{"data":"#.repeat(500)).contains("less nesting"));
    assert!(refusal(&format!(r#"{{"data":{{"a":[{}"#, "[".repeat(4_000))).contains("a list within"));
}

/// `count` alternatives of one field each, in groups of these sizes, side by side.
fn alternatives(sizes: &[usize]) -> String {
    let group = |(index, &size): (usize, &usize)| {
        let choices = (0..size).map(|choice| format!(r#"{{"{choice}":[1]}}"#)).collect::<Vec<_>>().join(",");
        format!(r#""{}":{{"$or":[{choices}]}}"#, char::from(b'a' + index as u8))
    };
    format!(r#"{{"data":{{{}}}}}"#, sizes.iter().enumerate().map(group).collect::<Vec<_>>().join(","))
}

#[test]
fn l6_the_rules_of_alternatives_are_bounded() {
    let most = alternatives(&[10, 10, 10]);
    check(
        &most,
        &[r#"{"a": {"9": 1}, "b": {"0": 1}, "c": {"8": 1}}"#],
        &[r#"{"a": {"9": 1}, "b": {"0": 1}, "c": {"8": 2}}"#],
    );
    let refused = "its alternatives combine to more than 1000 rules: leave out some, or use several patterns";
    assert_eq!(refusal(&alternatives(&[7, 11, 13])), refused);
    assert_eq!(refusal(&alternatives(&[7; 26])), refused, "the product does not overflow");
    let deep = (0..60).fold(r#"{"a":[1]}"#.to_owned(), |inner, _| {
        format!(r#"{{"b":{inner},"$or":[{{"c":[1]}},{{"d":[1]}}]}}"#)
    });
    assert_eq!(refusal(&format!(r#"{{"data":{deep}}}"#)), refused);
}

#[test]
fn l6_the_largest_filter_is_compiled_and_used() {
    let choices = alternatives(&[10, 10, 10]);
    let choices = choices.strip_suffix("}}").unwrap();
    let left = Filter::PATTERN_CHARS_MAX - choices.len() - 2;
    let fields: String = (0..left / 11).map(|name| format!(r#","{name:04}":[1]"#)).collect();
    let pattern = format!("{choices}{fields}}}}}");
    assert!(pattern.len() > Filter::PATTERN_CHARS_MAX - 11);
    let filter = Filter::any_of([&pattern; 10]).unwrap();
    let document = |last: &str| {
        let fields: String = (0..left / 11).map(|name| format!(r#","{name:04}":1"#)).collect();
        format!(r#"{{"a":{{"9":1}},"b":{{"9":1}},"c":{{"9":{last}}}{fields}}}"#)
    };
    let (matching, other) = (document("1"), document("2"));
    assert_eq!(outcomes(&filter, &[(KEY, matching.as_bytes()), (KEY, other.as_bytes())]), [true, false]);
}

#[test]
fn more_rules_than_a_machine_has_bits() {
    let pattern = alternatives(&[200]);
    for choice in [0, 63, 64, 65, 127, 128, 199] {
        check(
            &pattern,
            &[&format!(r#"{{"a": {{"{choice}": 1}}}}"#)],
            &[&format!(r#"{{"a": {{"{choice}": 2}}}}"#)],
        );
    }
}

#[test]
fn many_names_in_a_pattern() {
    let fields: Vec<_> = (0..300).map(|name| format!(r#""{name}":[1]"#)).collect();
    let document = |value: u32| {
        let all = (0..300).map(|name| format!(r#""{name}":{}"#, if name == 299 { value } else { 1 }));
        format!("{{{}}}", all.collect::<Vec<_>>().join(","))
    };
    check(&format!(r#"{{"data":{{{}}}}}"#, fields.join(",")), &[&document(1)], &[&document(2), "{}"]);
}

/// The bytes of a large document: as many as a record can have in Kinesis, or fewer where the code is slow.
const MANY: usize = if cfg!(debug_assertions) { 1 << 20 } else { 10 << 20 };

#[test]
fn l6_wildcards_take_linear_time() {
    let stars = format!(r#"{{"data": {{"x": [{{"wildcard": "{}b"}}]}}}}"#, "*a".repeat(2_000));
    let text = "a".repeat(MANY - 20);
    check(&stars, &[&format!(r#"{{"x": "{text}b"}}"#)], &[&format!(r#"{{"x": "{text}"}}"#)]);
    let halves = format!(r#"{{"data": [{{"wildcard": "*{0}b*{0}c*"}}]}}"#, "a".repeat(1_000));
    check(&halves, &[], &[&text]);
}

#[test]
fn l6_documents_of_any_depth_end_early() {
    let pattern = r#"{"data": {"x": {"y": [{"exists": false}]}}}"#;
    let nested = |open: &str, inner: &str, close: &str, depth: usize| {
        [open.repeat(depth), inner.to_owned(), close.repeat(depth)].concat()
    };
    for (open, close) in [("[", "]"), (r#"{"x":"#, "}"), (r#"[{"x":["#, "]}]"), (r#"{"z":"#, "}")] {
        let step = open.matches(['[', '{']).count();
        let deepest = 127 / step;
        check(
            pattern,
            &[&nested(open, "1", close, deepest)],
            &[
                &nested(open, "1", close, deepest + 1),
                &nested(open, "1", close, MANY / (open.len() + close.len())),
                &open.repeat(MANY / open.len()),
            ],
        );
    }
}

#[test]
fn l6_large_documents_of_any_kind() {
    let lists = r#"{"data": {"x": ["none", {"suffix": "zz"}, {"numeric": ["<", 0]}], "y": {"z": [{"exists": false}]}}}"#;
    let repeated = |part: &str| {
        let whole = vec![part; MANY / (part.len() + 1)];
        format!(r#"{{"x": [{}]}}"#, whole.join(","))
    };
    for part in ["1", r#""""#, "[]", r#"{"x": 1}"#, r#""\u00e9\n""#, "null", r#"{"a": {"b": [1, 2, 3]}}"#] {
        let document = repeated(part);
        let matching = document.replacen("[", "[-1,", 1);
        check(lists, &[&matching], &[&document, &document[..document.len() - 1]]);
    }
    let twice = format!("{{{}\"x\": -1}}", r#""x": 1,"#.repeat(MANY / 10));
    check(lists, &[&twice], &[&twice.replace("-1}", "1}")]);
    let text = format!(r#"{{"x": "{}zz"}}"#, r"\n".repeat(MANY / 2 - 20));
    check(lists, &[&text], &[&text.replace("zz", "zy")]);
}

#[test]
fn l6_many_rules_read_a_large_document_once_for_every_64() {
    let pattern = alternatives(&[10, 10, 10]);
    let document = format!(
        r#"{{"a": [{}{{"9": 1}}], "b": {{"9": 1}}, "c": {{"9": 1}}}}"#,
        r#"{"10": 1},"#.repeat(MANY / 20)
    );
    check(&pattern, &[&document], &[&document.replace(r#""c": {"9": 1}"#, r#""c": {"9": 2}"#)]);
}

#[test]
fn a_filter_is_shared_by_threads_and_shows_its_patterns() {
    fn is_shareable<T: Send + Sync + Clone + 'static>(_: &T) {}
    let filter = Filter::new(r#"{"partitionKey": ["a"]}"#).unwrap();
    is_shareable(&filter);
    assert_eq!(format!("{filter:?}"), r#"Filter(["{\"partitionKey\": [\"a\"]}"])"#);
}
