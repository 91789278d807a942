//! Reads the text of a pattern into rules, one of which a record has to follow.

use std::collections::BTreeSet;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use super::Filter;
use super::condition::Condition;
use super::field::{DATA, FIELDS};
use super::json::{Json, Kind, Malformed};
use super::operator::{self, OPERATORS};

/// How many rules the alternatives of a pattern may make, as in EventBridge.
pub(super) const RULES_MAX: usize = 1_000;
/// The name that introduces alternatives.
const OR: &str = "$or";
/// The names from a record down to a value in it.
pub(super) type Path = Rc<[String]>;

/// Conditions for different fields, all of which must be met: a pattern with one alternative chosen of each `$or`.
pub(super) type Rule = Vec<(Path, Arc<Condition>)>;

/// How a pattern looks at the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DataForm {
    /// Not at all.
    Any,
    Text,
    Json,
}

/// A pattern that was read.
pub(super) struct Pattern {
    pub(super) rules: Vec<Rule>,
    pub(super) data: DataForm,
}

/// What is wrong with a pattern.
#[derive(Debug)]
pub(super) struct Wrong(pub(super) String);

impl Wrong {
    /// An error at a path.
    pub(super) fn at(path: &[String], what: impl fmt::Display) -> Self {
        Self(if path.is_empty() { what.to_string() } else { format!("`{}`: {what}", path.join(".")) })
    }
}

impl From<Malformed> for Wrong {
    fn from(Malformed { at, expected }: Malformed) -> Self {
        Self(format!("it is not JSON: expected {expected} at byte {at}"))
    }
}

/// The object of a pattern at some path.
#[derive(Default)]
struct Fields {
    members: Vec<Member>,
    /// The alternatives of each `$or`.
    choices: Vec<Vec<Fields>>,
}

enum Member {
    Fields(Fields),
    Condition(Path, Arc<Condition>),
}

/// Reads a pattern.
pub(super) fn read(text: &str) -> Result<Pattern, Wrong> {
    if text.chars().nth(Filter::PATTERN_CHARS_MAX).is_some() {
        return Err(Wrong(format!("it is longer than {} characters: shorten it", Filter::PATTERN_CHARS_MAX)));
    }
    let mut json = Json::new(text);
    if json.kind()? != Kind::Object {
        return Err(Wrong(format!(
            "it must be an object with fields of a record, such as {{\"{DATA}\": …}}"
        )));
    }
    let fields = read_fields(&mut json, &mut vec![], false)?;
    json.end()?;
    if rule_count(&fields) > RULES_MAX {
        return Err(Wrong(format!(
            "its alternatives combine to more than {RULES_MAX} rules: leave out some, or use several patterns"
        )));
    }
    let rules = rules_of(&fields);
    for rule in &rules {
        check_rule(rule)?;
    }
    let data = data_form(&rules)?;
    Ok(Pattern { rules, data })
}

/// Reads an object of fields. `path` leads to it.
fn read_fields(json: &mut Json<'_>, path: &mut Vec<String>, is_alternative: bool) -> Result<Fields, Wrong> {
    let (mut fields, mut names) = (Fields::default(), BTreeSet::new());
    json.members(|json, name| {
        let name = name.decode().into_owned();
        if !names.insert(name.clone()) {
            return Err(Wrong::at(path, format!("`{name}` is there twice: join the two")));
        }
        if name == OR {
            fields.choices.push(read_choices(json, path)?);
            return Ok(());
        }
        if path.is_empty() && name != DATA && FIELDS.iter().all(|(field, _)| *field != name) {
            let known = FIELDS.map(|(field, _)| field).join("`, `");
            return Err(Wrong(format!("a record has no field `{name}`: it has `{DATA}`, `{known}`")));
        }
        if is_alternative && OPERATORS.contains(&name.as_str()) {
            return Err(Wrong::at(
                path,
                format!("`{name}` is an operator, and cannot be a field within `{OR}`"),
            ));
        }
        path.push(name);
        let member = read_member(json, path, is_alternative)?;
        path.pop();
        fields.members.push(member);
        Ok(())
    })?;
    if names.is_empty() {
        return Err(Wrong::at(path, "an object without fields matches nothing: name a field in it"));
    }
    Ok(fields)
}

fn read_member(json: &mut Json<'_>, path: &mut Vec<String>, is_alternative: bool) -> Result<Member, Wrong> {
    let is_within_data = path[0] == DATA;
    match json.kind()? {
        Kind::List => {
            Ok(Member::Condition(path.as_slice().into(), operator::read_condition(json, path)?.into()))
        }
        Kind::Object if is_within_data => Ok(Member::Fields(read_fields(json, path, is_alternative)?)),
        Kind::Object => Err(Wrong::at(path, "it is one value, without fields: write a list of values")),
        _ => Err(Wrong::at(path, "write a list of values, or an object of fields: a value alone is neither")),
    }
}

fn read_choices(json: &mut Json<'_>, path: &mut Vec<String>) -> Result<Vec<Fields>, Wrong> {
    let mut choices = vec![];
    let wrong = |path: &[String]| Wrong::at(path, format!("`{OR}` takes a list of at least two objects"));
    if json.kind()? != Kind::List {
        return Err(wrong(path));
    }
    json.elements(|json| {
        if json.kind()? != Kind::Object {
            return Err(wrong(path));
        }
        choices.push(read_fields(json, path, true)?);
        Ok(())
    })?;
    if choices.len() < 2 { Err(wrong(path)) } else { Ok(choices) }
}

/// How many rules there are. It saturates, and stays above `RULES_MAX` from there on because no factor is 0.
fn rule_count(fields: &Fields) -> usize {
    let members = fields.members.iter().map(|member| match member {
        Member::Fields(fields) => rule_count(fields),
        Member::Condition(..) => 1,
    });
    let sum = |choices: &Vec<Fields>| choices.iter().map(rule_count).fold(0, usize::saturating_add);
    members.chain(fields.choices.iter().map(sum)).fold(1, usize::saturating_mul)
}

fn rules_of(fields: &Fields) -> Vec<Rule> {
    let mut rules: Vec<Rule> = vec![vec![]];
    for member in &fields.members {
        match member {
            Member::Fields(fields) => rules = combine(&rules, &rules_of(fields)),
            Member::Condition(path, condition) => {
                rules.iter_mut().for_each(|rule| rule.push((path.clone(), condition.clone())));
            }
        }
    }
    for choices in &fields.choices {
        let alternatives: Vec<Rule> = choices.iter().flat_map(rules_of).collect();
        rules = combine(&rules, &alternatives);
    }
    rules
}

fn combine(left: &[Rule], right: &[Rule]) -> Vec<Rule> {
    let pairs = left.iter().flat_map(|left| right.iter().map(move |right| (left, right)));
    pairs.map(|(left, right)| left.iter().chain(right).cloned().collect()).collect()
}

/// Two lists for one field, one of them in a `$or`, could be meant as both or as either.
fn check_rule(rule: &Rule) -> Result<(), Wrong> {
    let mut paths = BTreeSet::new();
    match rule.iter().find(|(path, _)| !paths.insert(path)) {
        Some((path, _)) => Err(Wrong::at(
            path,
            format!("it has a list within `{OR}` and another one beside it: write both into one list"),
        )),
        None => Ok(()),
    }
}

fn data_form(rules: &[Rule]) -> Result<DataForm, Wrong> {
    let conditions = || rules.iter().flatten().filter(|(path, _)| path[0] == DATA);
    let (is_text, is_json) =
        (conditions().any(|(path, _)| path.len() == 1), conditions().any(|(path, _)| path.len() > 1));
    match (is_text, is_json) {
        (true, true) => Err(Wrong(format!(
            "`{DATA}` is an object in one place and a list in another: no data is JSON and plain text at once"
        ))),
        (true, false) => Ok(DataForm::Text),
        (false, true) => Ok(DataForm::Json),
        (false, false) => Ok(DataForm::Any),
    }
}
