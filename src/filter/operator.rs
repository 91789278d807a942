//! Reads the list of values that a pattern has for a field, with the operators in it.

use super::condition::{Bound, Condition, Network, Range, Test, Wildcard, fold};
use super::json::{Json, Kind};
use super::pattern::Wrong;

const PREFIX: &str = "prefix";
const SUFFIX: &str = "suffix";
const IGNORE_CASE: &str = "equals-ignore-case";
const WILDCARD: &str = "wildcard";

/// The names of all operators.
pub(super) const OPERATORS: [&str; 8] =
    [PREFIX, SUFFIX, IGNORE_CASE, WILDCARD, "anything-but", "numeric", "exists", "cidr"];

/// Reads the list for the field at `path`.
pub(super) fn read_condition(json: &mut Json<'_>, path: &[String]) -> Result<Condition, Wrong> {
    let mut condition = Condition::default();
    let mut is_empty = true;
    json.elements(|json| {
        is_empty = false;
        match json.kind()? {
            Kind::Text => condition.texts.push(json.text()?.decode().into_owned()),
            Kind::Number => condition.words.push(json.number()?.to_owned()),
            Kind::Literal => condition.words.push(json.literal()?.to_owned()),
            Kind::Object => match read_operator(json, path)? {
                Some(test) => condition.tests.push(test),
                None => condition.accepts_absence = true,
            },
            Kind::List => {
                return Err(Wrong::at(
                    path,
                    "a list within the list of values: write its values by themselves",
                ));
            }
        }
        Ok(())
    })?;
    if is_empty {
        return Err(Wrong::at(path, "an empty list matches nothing: write a value into it"));
    }
    condition.texts.sort_unstable();
    condition.words.sort_unstable();
    Ok(condition)
}

/// Reads an operator, or nothing if it is `{"exists": false}`, which no value meets.
fn read_operator(json: &mut Json<'_>, path: &[String]) -> Result<Option<Test>, Wrong> {
    let (mut found, mut count) = (None, 0);
    json.members(|json, name| {
        count += 1;
        let name = name.decode();
        found = match &*name {
            PREFIX | SUFFIX if json.kind()? == Kind::Object => Some(read_folded_end(json, path, &name)?),
            PREFIX | SUFFIX | IGNORE_CASE | WILDCARD => {
                let operand = read_text(json, path, &name)?;
                Some(text_test(&name, operand, path)?)
            }
            "anything-but" => Some(Test::AnythingBut(read_anything_but(json, path)?)),
            "numeric" => Some(Test::Numeric(read_range(json, path)?)),
            "exists" => match json.kind()? {
                Kind::Literal => match json.literal()? {
                    "true" => Some(Test::Exists),
                    "false" => None,
                    _ => return Err(wrong_exists(path)),
                },
                _ => return Err(wrong_exists(path)),
            },
            "cidr" => {
                let text = read_text(json, path, "cidr")?;
                let wrong = || format!("{text:?} is no range of addresses, such as \"10.0.0.0/24\"");
                Some(Test::Cidr(Network::parse(&text).ok_or_else(|| Wrong::at(path, wrong()))?))
            }
            _ => {
                let known = OPERATORS.join("`, `");
                return Err(Wrong::at(path, format!("there is no operator `{name}`: there are `{known}`")));
            }
        };
        Ok(())
    })?;
    if count == 1 { Ok(found) } else { Err(Wrong::at(path, "write each operator in an object of its own")) }
}

fn wrong_exists(path: &[String]) -> Wrong {
    Wrong::at(path, "`exists` takes true or false")
}

fn read_text(json: &mut Json<'_>, path: &[String], operator: &str) -> Result<String, Wrong> {
    match json.kind()? {
        Kind::Text => Ok(json.text()?.decode().into_owned()),
        _ => Err(Wrong::at(path, format!("`{operator}` takes a string"))),
    }
}

/// The test of an operator on strings.
fn text_test(operator: &str, operand: String, path: &[String]) -> Result<Test, Wrong> {
    Ok(match operator {
        PREFIX => Test::Prefix(operand),
        SUFFIX => Test::Suffix(operand),
        IGNORE_CASE => Test::EqualsIgnoreCase(fold(&operand).collect()),
        _ => Test::Wildcard(read_wildcard(&operand, path)?),
    })
}

/// `{"equals-ignore-case": …}` within `prefix` or `suffix`.
fn read_folded_end(json: &mut Json<'_>, path: &[String], operator: &str) -> Result<Test, Wrong> {
    let wrong = || Wrong::at(path, format!("`{operator}` takes a string, or an object with `{IGNORE_CASE}`"));
    let mut operands = vec![];
    json.members(|json, name| {
        if name.decode() != IGNORE_CASE {
            return Err(wrong());
        }
        operands.push(fold(&read_text(json, path, IGNORE_CASE)?).collect());
        Ok(())
    })?;
    match (operands.pop(), operands.pop()) {
        (Some(folded), None) if operator == PREFIX => Ok(Test::PrefixIgnoreCase(folded)),
        (Some(folded), None) => Ok(Test::SuffixIgnoreCase(folded)),
        _ => Err(wrong()),
    }
}

/// Splits at the stars that have no backslash before them.
fn read_wildcard(operand: &str, path: &[String]) -> Result<Wildcard, Wrong> {
    let (mut parts, mut part) = (vec![], String::new());
    let mut characters = operand.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '*' if characters.peek() == Some(&'*') => {
                return Err(Wrong::at(path, "`wildcard` takes no two stars in a row: one is enough"));
            }
            '*' => parts.push(std::mem::take(&mut part)),
            '\\' => match characters.next() {
                Some(escaped @ ('*' | '\\')) => part.push(escaped),
                _ => {
                    let what = "in a `wildcard`, a backslash stands before a star or a backslash";
                    return Err(Wrong::at(path, what));
                }
            },
            other => part.push(other),
        }
    }
    parts.push(part);
    Ok(Wildcard { parts })
}

/// The operand of `anything-but`: a string, a number, a list of either, or an operator on strings with one or a list of them.
fn read_anything_but(json: &mut Json<'_>, path: &[String]) -> Result<Condition, Wrong> {
    let mut condition = Condition::default();
    if json.kind()? == Kind::Object {
        let mut count = 0;
        json.members(|json, name| {
            count += 1;
            let name = name.decode();
            if ![PREFIX, SUFFIX, IGNORE_CASE, WILDCARD].contains(&&*name) {
                let what = format!(
                    "`anything-but` takes `{PREFIX}`, `{SUFFIX}`, `{IGNORE_CASE}` or `{WILDCARD}`, not `{name}`"
                );
                return Err(Wrong::at(path, what));
            }
            each_or_one(json, |json| {
                let operand = read_text(json, path, &name)?;
                if operand.is_empty() && [PREFIX, SUFFIX].contains(&&*name) {
                    let what = format!("each string has the empty `{name}`, so that nothing is anything but that");
                    return Err(Wrong::at(path, what));
                }
                condition.tests.push(text_test(&name, operand, path)?);
                Ok(())
            })
        })?;
        let is_right = count == 1 && !condition.tests.is_empty();
        return if is_right { Ok(condition) } else { Err(wrong_anything_but(path)) };
    }
    let mut numbers = vec![];
    each_or_one(json, |json| {
        match json.kind()? {
            Kind::Text => condition.texts.push(json.text()?.decode().into_owned()),
            Kind::Number => numbers.push(read_number(json, path)?),
            _ => return Err(wrong_anything_but(path)),
        }
        Ok(())
    })?;
    if condition.texts.is_empty() == numbers.is_empty() {
        return Err(wrong_anything_but(path));
    }
    condition.texts.sort_unstable();
    if !numbers.is_empty() {
        numbers.sort_unstable_by(|a, b| a.partial_cmp(b).expect("JSON has no NaN"));
        condition.tests.push(Test::Numbers(numbers));
    }
    Ok(condition)
}

fn wrong_anything_but(path: &[String]) -> Wrong {
    let what = "`anything-but` takes a string, a number, a list of only strings or only numbers, or one operator on strings";
    Wrong::at(path, what)
}

/// Calls `each` for each element of a list, or for the one value that is not a list.
fn each_or_one<'a>(
    json: &mut Json<'a>,
    mut each: impl FnMut(&mut Json<'a>) -> Result<(), Wrong>,
) -> Result<(), Wrong> {
    if json.kind()? == Kind::List { json.elements(each) } else { each(json) }
}

fn read_number(json: &mut Json<'_>, path: &[String]) -> Result<f64, Wrong> {
    let text = json.number()?;
    let number: f64 = text.parse().expect("a number of JSON is one of Rust");
    if number.is_finite() { Ok(number) } else { Err(Wrong::at(path, format!("{text} is too large"))) }
}

/// `["=", 5]`, `["<", 5]` or `[">", 0, "<=", 5]`.
fn read_range(json: &mut Json<'_>, path: &[String]) -> Result<Range, Wrong> {
    let wrong = || Wrong::at(path, "`numeric` takes [\"=\", 5], [\"<\", 5], or [\">\", 0, \"<=\", 5]");
    let (mut comparisons, mut numbers) = (vec![], vec![]);
    if json.kind()? != Kind::List {
        return Err(wrong());
    }
    json.elements(|json| {
        match json.kind()? {
            Kind::Text if comparisons.len() == numbers.len() => comparisons.push(json.text()?.decode()),
            Kind::Number if comparisons.len() == numbers.len() + 1 => numbers.push(read_number(json, path)?),
            _ => return Err(wrong()),
        }
        Ok(())
    })?;
    let bounds: Vec<_> =
        comparisons.iter().map(|comparison| &**comparison).zip(numbers.iter().copied()).collect();
    let range = match (comparisons.len() == numbers.len(), &bounds[..]) {
        (true, [("=", value)]) => {
            let bound = Bound { value: *value, is_included: true };
            Range { from: bound, to: bound }
        }
        (true, [(below @ ("<" | "<="), to)]) => Range { to: bound(below, *to), ..Range::ALL },
        (true, [(above @ (">" | ">="), from)]) => Range { from: bound(above, *from), ..Range::ALL },
        (true, [(above @ (">" | ">="), from), (below @ ("<" | "<="), to)]) => {
            Range { from: bound(above, *from), to: bound(below, *to) }
        }
        _ => return Err(wrong()),
    };
    if range.is_empty() {
        return Err(Wrong::at(path, "no number is in this `numeric` range: check its ends"));
    }
    Ok(range)
}

fn bound(comparison: &str, value: f64) -> Bound {
    Bound { value, is_included: comparison.ends_with('=') }
}
