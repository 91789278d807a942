//! Filters compared with a plain implementation of the rules: any patterns, any documents, whole or damaged: L6.
//!
//! The model works as the documentation of EventBridge's matcher describes it. It splits a document into its values, each with its
//! path and its places in lists, and tries for each rule all ways to choose a value for each condition so that no two are in different
//! elements of one list.

use crate::common;

use std::cell::Cell;

use common::{clock, scratch, small};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use streamlog::{Filter, Position, Stream};
use tempfile::TempDir;

/// A value that is neither an object nor a list.
#[derive(Debug, Clone, PartialEq)]
enum Scalar {
    Text(&'static str),
    /// As it is written.
    Number(&'static str),
    Word(&'static str),
}

#[derive(Debug, Clone)]
enum Document {
    Scalar(Scalar),
    List(Vec<Document>),
    /// A name may occur twice.
    Object(Vec<(&'static str, Document)>),
}

/// An element of a list in a pattern.
#[derive(Debug, Clone)]
enum Value {
    Exact(Scalar),
    Exists(bool),
    /// An operator on strings with its operand.
    Text(&'static str, &'static str),
    /// `prefix` or `suffix` without regard to case.
    Folded(&'static str, &'static str),
    Numeric(Vec<(&'static str, &'static str)>),
    AnyBut(Vec<Scalar>),
    AnyButText(&'static str, Vec<&'static str>),
}

#[derive(Debug, Clone, Default)]
struct Fields {
    members: Vec<(&'static str, Member)>,
    choices: Vec<Vec<Fields>>,
}

#[derive(Debug, Clone)]
enum Member {
    List(Vec<Value>),
    Fields(Fields),
}

const TEXTS: [&str; 9] = ["", "a", "A", "ab", "aBc", "é\"\\", "É", "1", "\u{1}😀"];
const NUMBERS: [&str; 8] = ["0", "-0.0", "1", "1.0", "10e-1", "-2.5", "3", "1E2"];
const WORDS: [&str; 3] = ["true", "false", "null"];
const NAMES: [&str; 4] = ["a", "b", "c", "é"];
const TEXT_OPERATORS: [&str; 4] = ["prefix", "suffix", "equals-ignore-case", "wildcard"];
/// Operands that are valid for each operator.
const OPERANDS: [&str; 7] = ["a", "b", "B", "É", "ab", "\u{1}", "1"];
const WILDCARDS: [&str; 6] = ["*", "a*", "*b*", "a*c", "a*a", "*é*"];

fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

/// A string written with more escapes than it needs.
fn escaped(text: &str) -> String {
    let units = text.encode_utf16().map(|unit| format!("\\u{unit:04X}"));
    format!("\"{}\"", units.collect::<String>())
}

impl Scalar {
    fn print(&self, quote: fn(&str) -> String) -> String {
        match self {
            Self::Text(text) => quote(text),
            Self::Number(word) | Self::Word(word) => (*word).to_owned(),
        }
    }
}

impl Document {
    fn print(&self, quote: fn(&str) -> String, space: &str) -> String {
        let comma = format!("{space},{space}");
        match self {
            Self::Scalar(scalar) => scalar.print(quote),
            Self::List(elements) => {
                let elements: Vec<_> = elements.iter().map(|element| element.print(quote, space)).collect();
                format!("[{space}{}{space}]", elements.join(&comma))
            }
            Self::Object(members) => {
                let member = |(name, value): &(&str, Document)| {
                    format!("{}{space}:{space}{}", quote(name), value.print(quote, space))
                };
                format!("{{{space}{}{space}}}", members.iter().map(member).collect::<Vec<_>>().join(&comma))
            }
        }
    }
}

fn list(parts: impl Iterator<Item = String>) -> String {
    format!("[{}]", parts.collect::<Vec<_>>().join(","))
}

impl Value {
    fn print(&self) -> String {
        match self {
            Self::Exact(scalar) => scalar.print(quoted),
            Self::Exists(exists) => format!(r#"{{"exists": {exists}}}"#),
            Self::Text(operator, operand) => format!(r#"{{"{operator}": {}}}"#, quoted(operand)),
            Self::Folded(end, operand) => {
                format!(r#"{{"{end}": {{"equals-ignore-case": {}}}}}"#, quoted(operand))
            }
            Self::Numeric(bounds) => {
                let parts =
                    bounds.iter().flat_map(|(comparison, number)| [quoted(comparison), (*number).to_owned()]);
                format!(r#"{{"numeric": {}}}"#, list(parts))
            }
            Self::AnyBut(scalars) => {
                let one_or_list = match &scalars[..] {
                    [one] => one.print(quoted),
                    more => list(more.iter().map(|scalar| scalar.print(quoted))),
                };
                format!(r#"{{"anything-but": {one_or_list}}}"#)
            }
            Self::AnyButText(operator, operands) => {
                let operands = list(operands.iter().map(|operand| quoted(operand)));
                format!(r#"{{"anything-but": {{"{operator}": {operands}}}}}"#)
            }
        }
    }

    /// Returns whether a present value fulfils this.
    fn takes(&self, value: &Scalar) -> bool {
        match (self, value) {
            (Self::Exact(scalar), value) => scalar == value,
            (Self::Exists(exists), _) => *exists,
            (Self::Text(operator, operand), Scalar::Text(text)) => is_text(operator, operand, text),
            (Self::Folded("prefix", operand), Scalar::Text(text)) => {
                text.to_lowercase().starts_with(&operand.to_lowercase())
            }
            (Self::Folded(_, operand), Scalar::Text(text)) => {
                text.to_lowercase().ends_with(&operand.to_lowercase())
            }
            (Self::Numeric(bounds), Scalar::Number(number)) => {
                let number: f64 = number.parse().unwrap();
                bounds.iter().all(|(comparison, bound)| {
                    let bound: f64 = bound.parse().unwrap();
                    match *comparison {
                        "=" => number == bound,
                        "<" => number < bound,
                        "<=" => number <= bound,
                        ">" => number > bound,
                        _ => number >= bound,
                    }
                })
            }
            (Self::AnyBut(scalars), value) => !scalars.iter().any(|scalar| match (scalar, value) {
                (Scalar::Number(a), Scalar::Number(b)) => {
                    a.parse::<f64>().unwrap() == b.parse::<f64>().unwrap()
                }
                (scalar, value) => scalar == value,
            }),
            (Self::AnyButText(operator, operands), Scalar::Text(text)) => {
                !operands.iter().any(|operand| is_text(operator, operand, text))
            }
            (Self::AnyButText(..), _) => true,
            _ => false,
        }
    }
}

fn is_text(operator: &str, operand: &str, text: &str) -> bool {
    match operator {
        "prefix" => text.starts_with(operand),
        "suffix" => text.ends_with(operand),
        "equals-ignore-case" => text.to_lowercase() == operand.to_lowercase(),
        _ => is_like(&operand.chars().collect::<Vec<_>>(), &text.chars().collect::<Vec<_>>()),
    }
}

fn is_like(wildcard: &[char], text: &[char]) -> bool {
    match wildcard {
        [] => text.is_empty(),
        ['*', rest @ ..] => (0..=text.len()).any(|skipped| is_like(rest, &text[skipped..])),
        [first, rest @ ..] => text.first() == Some(first) && is_like(rest, &text[1..]),
    }
}

impl Fields {
    fn print(&self) -> String {
        let member = |(name, member): &(&str, Member)| {
            let member = match member {
                Member::List(values) => list(values.iter().map(Value::print)),
                Member::Fields(fields) => fields.print(),
            };
            format!("{}: {member}", quoted(name))
        };
        let choice = |choices: &Vec<Fields>| format!(r#""$or": {}"#, list(choices.iter().map(Fields::print)));
        let parts = self.members.iter().map(member).chain(self.choices.iter().map(choice));
        format!("{{{}}}", parts.collect::<Vec<_>>().join(", "))
    }

    /// The rules: for each, its paths with their lists.
    fn rules(&self, path: &str) -> Vec<Vec<(String, Vec<Value>)>> {
        let mut rules = vec![vec![]];
        let mut multiply = |alternatives: Vec<Vec<_>>| {
            let pairs = rules.iter().flat_map(|rule: &Vec<_>| {
                alternatives.iter().map(|alternative| [rule.clone(), alternative.clone()].concat())
            });
            rules = pairs.collect();
        };
        for (name, member) in &self.members {
            let path = format!("{path}/{name}");
            match member {
                Member::List(values) => multiply(vec![vec![(path, values.clone())]]),
                Member::Fields(fields) => multiply(fields.rules(&path)),
            }
        }
        for choices in &self.choices {
            multiply(choices.iter().flat_map(|choice| choice.rules(path)).collect());
        }
        rules
    }
}

/// A value of a document: its path, and for each list around it, the list's place and the element's index.
struct Found {
    path: String,
    places: Vec<(String, usize)>,
    value: Scalar,
}

fn take_apart(
    document: &Document,
    path: &str,
    place: &str,
    places: &[(String, usize)],
    found: &mut Vec<Found>,
) {
    match document {
        Document::Scalar(value) => {
            found.push(Found { path: path.to_owned(), places: places.to_vec(), value: value.clone() });
        }
        Document::List(elements) => {
            for (index, element) in elements.iter().enumerate() {
                let places = [places, &[(place.to_owned(), index)]].concat();
                take_apart(element, path, &format!("{place}[{index}]"), &places, found);
            }
        }
        Document::Object(members) => {
            for (index, (name, value)) in members.iter().enumerate() {
                if members[index + 1..].iter().all(|(later, _)| later != name) {
                    let [path, place] = [path, place].map(|around| format!("{around}/{name}"));
                    take_apart(value, &path, &place, places, found);
                }
            }
        }
    }
}

fn agree(a: &[(String, usize)], b: &[(String, usize)]) -> bool {
    a.iter().all(|(list, index)| b.iter().all(|(other, at)| list != other || index == at))
}

/// Returns whether values that agree with those chosen can meet the remaining conditions, and those left for absent are.
fn is_followed(
    conditions: &[(String, Vec<Value>)],
    found: &[Found],
    chosen: &[(String, usize)],
    absent: &[&str],
) -> bool {
    let Some(((path, values), rest)) = conditions.split_first() else {
        return found.iter().all(|value| !absent.contains(&&*value.path) || !agree(&value.places, chosen));
    };
    let can_be_absent = values.iter().any(|value| matches!(value, Value::Exists(false)));
    if can_be_absent && is_followed(rest, found, chosen, &[absent, &[path]].concat()) {
        return true;
    }
    let fits = |candidate: &&Found| {
        candidate.path == *path
            && agree(&candidate.places, chosen)
            && values.iter().any(|value| value.takes(&candidate.value))
    };
    found
        .iter()
        .filter(fits)
        .any(|candidate| is_followed(rest, found, &[chosen, &candidate.places].concat(), absent))
}

fn scalars() -> impl Strategy<Value = Scalar> {
    prop_oneof![
        3 => prop::sample::select(&TEXTS).prop_map(Scalar::Text),
        3 => prop::sample::select(&NUMBERS).prop_map(Scalar::Number),
        1 => prop::sample::select(&WORDS).prop_map(Scalar::Word),
    ]
}

fn documents() -> impl Strategy<Value = Document> {
    scalars().prop_map(Document::Scalar).prop_recursive(5, 40, 4, |inner| {
        prop_oneof![
            1 => vec(inner.clone(), 0..4).prop_map(Document::List),
            3 => vec((prop::sample::select(&NAMES), inner), 0..5).prop_map(Document::Object),
        ]
    })
}

fn operand(operator: &'static str) -> impl Strategy<Value = &'static str> {
    if operator == "wildcard" {
        prop::sample::select(&WILDCARDS[..])
    } else {
        prop::sample::select(&OPERANDS[..])
    }
}

fn values() -> impl Strategy<Value = Value> {
    let text_operator = || prop::sample::select(&TEXT_OPERATORS);
    let number = || prop::sample::select(&NUMBERS);
    let text = text_operator()
        .prop_flat_map(|operator| operand(operator).prop_map(move |text| Value::Text(operator, text)));
    let any_but_text = text_operator().prop_flat_map(|operator| {
        vec(operand(operator), 1..3).prop_map(move |texts| Value::AnyButText(operator, texts))
    });
    let range = (prop::sample::select(&[">", ">="]), prop::sample::select(&["<", "<="]))
        .prop_map(|(above, below)| Value::Numeric(vec![(above, "-2.5"), (below, "1.0")]));
    let bound = (prop::sample::select(&["=", "<", "<=", ">", ">="]), number())
        .prop_map(|(comparison, number)| Value::Numeric(vec![(comparison, number)]));
    prop_oneof![
        4 => scalars().prop_map(Value::Exact),
        2 => any::<bool>().prop_map(Value::Exists),
        1 => text,
        1 => (prop::sample::select(&["prefix", "suffix"]), prop::sample::select(&OPERANDS[..]))
            .prop_map(|(end, text)| Value::Folded(end, text)),
        1 => range,
        1 => bound,
        1 => vec(prop::sample::select(&TEXTS).prop_map(Scalar::Text), 1..3).prop_map(Value::AnyBut),
        1 => vec(number().prop_map(Scalar::Number), 1..3).prop_map(Value::AnyBut),
        1 => any_but_text,
    ]
}

/// Each name once: a pattern object with a duplicate name is refused.
fn unique<T>(members: Vec<(&'static str, T)>) -> Vec<(&'static str, T)> {
    let mut kept: Vec<(&str, T)> = vec![];
    for (name, member) in members {
        if kept.iter().all(|(known, _)| *known != name) {
            kept.push((name, member));
        }
    }
    kept
}

fn fields() -> impl Strategy<Value = Fields> {
    let list = || vec(values(), 1..3).prop_map(Member::List);
    let leaf = vec((prop::sample::select(&NAMES), list()), 1..3)
        .prop_map(|members| Fields { members: unique(members), choices: vec![] });
    leaf.prop_recursive(3, 16, 3, move |inner| {
        let member = prop_oneof![list(), inner.clone().prop_map(Member::Fields)];
        let choices = vec(vec(inner, 2..4), 0..2);
        let members = vec((prop::sample::select(&NAMES), member), 1..3).prop_map(unique);
        (members, choices).prop_map(|(members, choices)| Fields { members, choices })
    })
}

/// Numbers for decisions, used from the first on.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }
}

/// A document that follows a rule, or nearly so: random documents rarely do.
fn made_for(rule: &[(String, Vec<Value>)], other: &Document, dice: &mut Dice) -> Document {
    let texts = TEXTS.into_iter().map(Scalar::Text);
    let scalars = texts.chain(NUMBERS.map(Scalar::Number)).chain(WORDS.map(Scalar::Word));
    let scalars: Vec<Scalar> = scalars.collect();
    let mut leaves = vec![];
    for (path, values) in rule {
        let is_wrong = dice.roll(8) == 0;
        let right: Vec<_> = scalars
            .iter()
            .filter(|scalar| is_wrong || values.iter().any(|value| value.takes(scalar)))
            .collect();
        let names: Vec<_> = path.split('/').skip(1).collect();
        if !right.is_empty() {
            leaves.push((names, right[dice.roll(right.len())].clone()));
        }
    }
    object_of(&leaves, other, dice)
}

fn object_of(leaves: &[(Vec<&str>, Scalar)], other: &Document, dice: &mut Dice) -> Document {
    let mut members = vec![];
    for name in NAMES {
        let below = leaves.iter().filter(|(names, _)| names[0] == name);
        let below: Vec<_> = below.map(|(names, scalar)| (names[1..].to_vec(), scalar.clone())).collect();
        let mut parts = vec![];
        parts.extend(
            below
                .iter()
                .filter(|(names, _)| names.is_empty())
                .map(|(_, scalar)| Document::Scalar(scalar.clone())),
        );
        let deeper: Vec<_> = below.into_iter().filter(|(names, _)| !names.is_empty()).collect();
        if !deeper.is_empty() {
            parts.push(object_of(&deeper, other, dice));
        }
        if dice.roll(4) == 0 {
            parts.insert(dice.roll(parts.len() + 1), other.clone());
        }
        match parts.len() {
            0 => {}
            1 if dice.roll(3) > 0 => members.push((name, parts.remove(0))),
            _ => members.push((name, Document::List(parts))),
        }
    }
    Document::Object(members)
}

/// Dropped before its directory.
struct Records {
    stream: Stream,
    _directory: TempDir,
}

impl Records {
    fn matches(&self, filter: &Filter, data: &str) -> bool {
        let receipt = self.stream.put("k", data).unwrap();
        let mut iterator = self.stream.iterator(receipt.shard, Position::At(receipt.sequence)).unwrap();
        filter.matches(&iterator.next_batch(1).unwrap().iter().next().unwrap())
    }
}

thread_local! {
    static RECORDS: Records = {
        let directory = scratch();
        Records { stream: small(&clock()).open(directory.path()).unwrap(), _directory: directory }
    };
    /// The numbers of documents that matched and that did not.
    static COUNTS: [Cell<u32>; 2] = const { [const { Cell::new(0) }; 2] };
}

fn matches(pattern: &str, data: &str) -> bool {
    RECORDS.with(|records| records.matches(&Filter::new(pattern).unwrap(), data))
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 8 * ProptestConfig::default().cases,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct("tests/processors/filter_model.regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn filters_agree_with_a_plain_reading_of_the_rules(
        fields in vec(fields(), 1..4),
        documents in vec((documents(), any::<u64>(), any::<bool>(), prop::sample::select(&["", " ", "\r\n\t"])), 1..8),
    ) {
        let (mut patterns, mut rules) = (vec![], vec![]);
        for fields in &fields {
            let (pattern, own) = (format!(r#"{{"data": {}}}"#, fields.print()), fields.rules(""));
            let is_double = |rule: &Vec<(String, Vec<Value>)>| {
                (1..rule.len()).any(|index| rule[..index].iter().any(|(path, _)| *path == rule[index].0))
            };
            let is_too_much = own.len() > 1_000 || pattern.chars().count() > Filter::PATTERN_CHARS_MAX;
            let is_right = !is_too_much && !own.iter().any(is_double);
            prop_assert_eq!(Filter::new(&pattern).is_ok(), is_right, "{}", pattern);
            if is_right {
                patterns.push(pattern);
                rules.extend(own);
            }
        }
        let Ok(filter) = Filter::any_of(&patterns) else { return Ok(()) };
        let pattern = patterns.join(" or ");
        for (other, seed, is_escaped, space) in documents {
            let mut dice = Dice(seed);
            let document = match dice.roll(4) {
                0 => other,
                _ => made_for(&rules[dice.roll(rules.len())], &other, &mut dice),
            };
            let mut found = vec![];
            take_apart(&document, "", "", &[], &mut found);
            let expected = rules.iter().any(|rule| is_followed(rule, &found, &[], &[]));
            let text = document.print(if is_escaped { escaped } else { quoted }, space);
            let is_match = RECORDS.with(|records| records.matches(&filter, &text));
            prop_assert_eq!(is_match, expected, "{} and {}", pattern, text);
            let counter = usize::from(is_match);
            COUNTS.with(|counts| counts[counter].set(counts[counter].get() + 1));
        }
    }

    /// Any pieces of JSON joined together: the same texts are JSON here as for `serde_json`.
    #[test]
    fn what_is_json_is_what_serde_json_reads(pieces in vec(prop::sample::select(&PIECES), 0..12)) {
        let text = pieces.concat();
        let is_json = serde_json::from_str::<serde_json::Value>(&text).is_ok();
        prop_assert_eq!(matches(r#"{"data": {"none": [{"exists": false}]}}"#, &text), is_json, "{}", text);
    }

    /// A whole document with one character removed or changed.
    #[test]
    fn damaged_documents_are_json_if_serde_json_reads_them(
        document in documents(),
        at in any::<prop::sample::Index>(),
        other in prop::option::of(prop::sample::select(&['"', '\\', '{', ']', ',', ':', '0', '-', 'e', 'u', ' ', '\u{1f}'])),
    ) {
        let mut text: Vec<char> = document.print(quoted, "").chars().collect();
        let at = at.index(text.len());
        text.splice(at..=at, other);
        let text: String = text.into_iter().collect();
        let read = serde_json::from_str::<serde_json::Value>(&text);
        let is_json = read.is_ok() || read.is_err_and(|error| error.to_string().contains("number out of range"));
        prop_assert_eq!(matches(r#"{"data": {"none": [{"exists": false}]}}"#, &text), is_json, "{}", text);
    }

    #[test]
    fn l6_no_text_is_a_pattern_that_panics(pieces in vec(prop::sample::select(&PATTERN_PIECES), 0..24)) {
        let text = pieces.concat();
        if let Ok(filter) = Filter::new(&text) {
            RECORDS.with(|records| records.matches(&filter, r#"{"a": [1, {"a": "b"}]}"#));
        }
        let Ok(filter) = Filter::new(&format!(r#"{{"data": {{"a": [{text}]}}}}"#)) else { return Ok(()) };
        RECORDS.with(|records| records.matches(&filter, r#"{"a": [1, {"a": "b"}]}"#));
    }
}

const PIECES: [&str; 32] = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    " ",
    "\n",
    "\"",
    "\\",
    "\"a\"",
    "\"a\":",
    "\"\\u0041\\uD83D\\uDE00\"",
    "\"\\ud800\"",
    "\"\\uDC00\"",
    "\"\\n\\/\"",
    "\"\\x\"",
    "0",
    "1",
    "-",
    ".",
    "e",
    "E+",
    "12.5e-3",
    "true",
    "false",
    "null",
    "nul",
    "{}",
    "[]",
    "\u{7f}",
    "é",
];

const PATTERN_PIECES: [&str; 32] = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"data\":",
    "\"a\":",
    "\"$or\":",
    "\"prefix\":",
    "\"suffix\":",
    "\"equals-ignore-case\":",
    "\"wildcard\":",
    "\"anything-but\":",
    "\"numeric\":",
    "\"exists\":",
    "\"cidr\":",
    "\"a\"",
    "\"a*\\\\*\"",
    "\"<\"",
    "\"=\"",
    "\">\"",
    "5",
    "1e999",
    "true",
    "false",
    "null",
    "\"10.0.0.0/8\"",
    "\"::/129\"",
    "[{",
    "}]",
    "\"\"",
];

/// The patterns and documents above prove something only if both outcomes are frequent.
#[test]
fn the_model_sees_both_outcomes() {
    filters_agree_with_a_plain_reading_of_the_rules();
    COUNTS.with(|counts| {
        let [other, matching] = counts.each_ref().map(Cell::get);
        let least = (matching + other) / 10;
        assert!(matching > least && other > least, "{matching} documents matched, {other} did not");
    });
}
