//! Statements that nobody would write: mutated ones, deep ones, long ones.

use std::panic::{AssertUnwindSafe, catch_unwind};

use proptest::prelude::*;

use super::super::tokens::STATEMENT_BYTES_MAX;
use super::{Catalog, kinesis, problem_of, shown};

/// Plans a text, which must return.
fn survive(text: &str) {
    match catch_unwind(AssertUnwindSafe(|| super::super::plan(text, &Catalog))) {
        Ok(Err(problem)) => drop(shown(text, &problem)),
        Ok(Ok(_)) => {}
        Err(_) => panic!("planning panics: {text}"),
    }
}

const WORDS: [&str; 72] = [
    "SELECT",
    "STREAM",
    "FROM",
    "WHERE",
    "GROUP",
    "BY",
    "HAVING",
    "ORDER",
    "LIMIT",
    "OVER",
    "WINDOW",
    "WINDOWED",
    "STAGGER",
    "PARTITION",
    "RANGE",
    "ROWS",
    "PRECEDING",
    "FOLLOWING",
    "CURRENT ROW",
    "INTERVAL '1' MINUTE",
    "INTERVAL",
    "STEP",
    "FLOOR",
    "CEIL",
    "TO",
    "MINUTE",
    "TABLE",
    "TUMBLE",
    "HOP",
    "SESSION",
    "CUMULATE",
    "DESCRIPTOR",
    "DATA =>",
    "=>",
    "ROWTIME",
    "JOIN",
    "LEFT",
    "FULL",
    "ON",
    "USING",
    "UNION",
    "EXCEPT",
    "WITH",
    "AS",
    "IN",
    "EXISTS",
    "CASE",
    "WHEN",
    "THEN",
    "END",
    "NOT",
    "NULL",
    "AND",
    "BETWEEN",
    "clicks",
    "orders",
    "pages",
    "page",
    "at",
    "window_start",
    "window_end",
    "(",
    ")",
    ",",
    ";",
    ".",
    "*",
    "=",
    "'",
    "\"",
    "1",
    "-",
];

#[derive(Clone, Debug)]
enum Change {
    Remove(usize),
    Repeat(usize),
    Swap(usize, usize),
    Insert(usize, &'static str),
    Cut(usize),
    Letter(usize, char),
}

fn change() -> impl Strategy<Value = Change> {
    let word = proptest::sample::select(&WORDS[..]);
    prop_oneof![
        any::<usize>().prop_map(Change::Remove),
        any::<usize>().prop_map(Change::Repeat),
        any::<(usize, usize)>().prop_map(|(one, other)| Change::Swap(one, other)),
        (any::<usize>(), word).prop_map(|(place, word)| Change::Insert(place, word)),
        any::<usize>().prop_map(Change::Cut),
        any::<(usize, char)>().prop_map(|(place, letter)| Change::Letter(place, letter)),
    ]
}

fn changed(text: &str, changes: &[Change]) -> String {
    let mut words: Vec<String> = vec![];
    for letter in text.chars() {
        match words.last_mut() {
            Some(last) if letter.is_alphanumeric() && last.ends_with(char::is_alphanumeric) => {
                last.push(letter)
            }
            _ => words.push(letter.to_string()),
        }
    }
    for change in changes {
        let count = words.len().max(1);
        match *change {
            Change::Remove(place) if !words.is_empty() => drop(words.remove(place % count)),
            Change::Repeat(place) if !words.is_empty() => {
                words.insert(place % count, words[place % count].clone())
            }
            Change::Swap(one, other) if !words.is_empty() => words.swap(one % count, other % count),
            Change::Insert(place, word) => words.insert(place % count, format!(" {word} ")),
            Change::Cut(place) => words.truncate(place % count),
            Change::Letter(place, letter) => words.insert(place % count, letter.to_string()),
            _ => {}
        }
    }
    words.concat()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn l6_mutated_statements_are_planned_or_refused(
        statement in any::<proptest::sample::Index>(),
        changes in proptest::collection::vec(change(), 1..6),
    ) {
        let statements = kinesis::all_statements();
        survive(&changed(statements[statement.index(statements.len())], &changes));
    }

    #[test]
    fn l6_words_in_any_order_are_refused_or_planned(words in proptest::collection::vec(proptest::sample::select(&WORDS[..]), 1..30)) {
        survive(&format!("INSERT INTO out SELECT page FROM clicks {}", words.join(" ")));
        survive(&words.join(" "));
    }
}

fn repeated(start: &str, part: &str, count: usize, end: &str) -> String {
    format!("{start}{}{end}", part.repeat(count))
}

#[test]
fn l6_deep_statements_are_refused_before_they_are_walked() {
    let start = "INSERT INTO out SELECT ";
    let deep = [
        repeated(start, "ms + ", 200_000, "1 FROM clicks"),
        repeated(start, "- ", 200_000, "1 FROM clicks"),
        repeated(start, "NOT ", 200_000, "true FROM clicks"),
        repeated(start, "(", 200_000, "1"),
        repeated(start, "[", 200_000, "1"),
        repeated(start, "CASE WHEN ms + 1 + ", 30_000, "1 FROM clicks"),
        repeated("INSERT INTO out SELECT ms", "::INT", 100_000, " FROM clicks"),
        repeated("INSERT INTO out SELECT ms", " IS NULL", 100_000, " FROM clicks"),
        repeated("INSERT INTO out ", "SELECT page FROM clicks UNION ALL ", 20_000, "SELECT page FROM clicks"),
        repeated("INSERT INTO out SELECT * FROM ", "(SELECT * FROM ", 20_000, "clicks"),
        repeated(start, "(ms + ms + ms + ", 30, &format!("1{} FROM clicks", ") + ms".repeat(30))),
        repeated("INSERT INTO out SELECT a FROM clicks WHERE ", "page = 'x' OR ", 20_000, "true"),
        repeated("CREATE STREAM s (", "a STRUCT<", 50_000, "INT"),
        repeated("CREATE STREAM s (a ", "ARRAY<", 50_000, "INT"),
        repeated("CREATE STREAM s (a INT", "[]", 50_000, ")"),
        repeated("", "SELECT ", 100_000, ""),
        repeated(start, "INTERVAL ", 100_000, "'1' MINUTE FROM clicks"),
        repeated(start, "f(", 100_000, "1"),
        repeated(start, "EXISTS ", 100_000, "1"),
        repeated("INSERT INTO out ", "INSERT INTO out ", 20_000, "SELECT 1"),
        repeated("INSERT INTO out SELECT 1 FROM ", "clicks NATURAL JOIN ", 20_000, "clicks"),
        repeated("INSERT INTO out ", "WITH x AS (", 20_000, "SELECT 1"),
    ];
    for text in deep {
        let problem = super::super::plan(&text, &Catalog).expect_err(&text[..60]);
        assert!(problem.message.len() < 400, "{}", problem.message.len());
    }
}

/// The deepest expressions that are let through, walked by everyone on a thread with the usual 2 MiB.
#[test]
fn l6_statements_at_the_limits_are_planned_on_a_small_stack() {
    let chain = |count| repeated("INSERT INTO out SELECT page FROM clicks WHERE ms > ", "ms + ", count, "1");
    let brackets =
        format!("INSERT INTO out SELECT page FROM clicks WHERE {}ms > 1{}", "(".repeat(18), ")".repeat(18));
    let texts = [chain(490), brackets];
    for text in texts {
        let planned = std::thread::Builder::new().stack_size(2 << 20).spawn(move || {
            let plan = super::super::plan(&text, &Catalog)
                .unwrap_or_else(|problem| panic!("{}", shown(&text, &problem)));
            assert_eq!(plan.pumps.len(), 1);
        });
        planned.unwrap().join().unwrap();
    }
    problem_of(&chain(510));
}

#[test]
fn l6_a_text_that_is_too_long_is_refused() {
    let text =
        format!("INSERT INTO out SELECT page FROM clicks WHERE page = '{}'", "x".repeat(STATEMENT_BYTES_MAX));
    assert!(problem_of(&text).message.ends_with("of 1048576 that are allowed"));
    let fits = format!(
        "INSERT INTO out SELECT page FROM clicks WHERE page = '{}'",
        "x".repeat(STATEMENT_BYTES_MAX - 100)
    );
    assert!(super::super::plan(&fits, &Catalog).is_ok());
}

#[test]
fn l6_parts_that_use_each_other_over_and_over_are_refused() {
    let mut text = "INSERT INTO out WITH p0 AS (SELECT page FROM clicks)".to_owned();
    for number in 1..40 {
        let before = number - 1;
        text +=
            &format!(", p{number} AS (SELECT a.page FROM p{before} a JOIN p{before} b ON a.page = b.page)");
    }
    assert_eq!(
        problem_of(&(text + " SELECT page FROM p39")).message,
        "the parts of WITH use each other too often"
    );
}

/// DataFusion complains of types and functions, but never of columns: those that a plan names are there.
#[test]
fn columns_of_mutated_statements_are_known_to_datafusion() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::{Config, TestRunner};
    let mut runner = TestRunner::new_with_rng(
        Config::default(),
        proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
    );
    let statements = kinesis::all_statements();
    let mut planned = 0;
    for round in 0..6_000 {
        let changes = proptest::collection::vec(change(), 1..3).new_tree(&mut runner).unwrap().current();
        let text = changed(statements[round % statements.len()], &changes);
        let Ok(program) = super::super::plan(&text, &Catalog) else { continue };
        for plan in &program.pumps {
            planned += 1;
            if let Err(error) = super::judged(plan, &program) {
                assert!(!error.contains("No field named"), "{error}\n{text}");
            }
        }
    }
    assert!(planned > 300, "{planned}");
}

#[test]
fn a_window_function_without_arguments_is_refused() {
    let text = "INSERT INTO out SELECT page FROM TABLE(TUMBLE) AS t";
    assert_eq!(problem_of(text).message, "TABLE(TUMBLE) makes no windows");
}
