//! Checks the bounds of a request's members, and words up to ten violations as the service does.

use std::fmt::Write;

use super::shape::{Bounds, Member, Profile, Required, Shape};
use crate::gateway::fault::{Answered, Fault};
use crate::gateway::wire::{Map, Value};

/// The greatest number of violations in an answer.
const ENTRIES_MAX: usize = 10;

/// Checks the members of a request.
pub(super) fn check(given: &Map<'_>, members: &'static [Member], profile: Profile) -> Answered<()> {
    let mut checker = Checker { profile, path: String::new(), entries: vec![] };
    checker.structure(given, members);
    let Checker { entries, .. } = checker;
    match entries.len() {
        0 => Ok(()),
        count => {
            let plural = if count == 1 { "" } else { "s" };
            let entries = entries.join("; ");
            Err(Fault::validation(format!("{count} validation error{plural} detected: {entries}")))
        }
    }
}

struct Checker {
    profile: Profile,
    /// The current path, with a dot at the end.
    path: String,
    entries: Vec<String>,
}

impl Checker {
    fn structure(&mut self, given: &Map<'_>, members: &'static [Member]) {
        let null = Value::Null;
        // The members of both are in one order.
        let mut given = given.iter().peekable();
        for member in members {
            let value = given.next_if(|(name, _)| name == member.name).map_or(&null, |(_, value)| value);
            self.member(value, member);
        }
    }

    fn member(&mut self, value: &Value<'_>, member: &'static Member) {
        let is_required = match member.required {
            Required::No => false,
            Required::Yes => true,
            Required::In2018 => self.profile == Profile::Year2018,
        };
        match (value, member.shape) {
            (Value::Null, _) => {
                if is_required {
                    self.refuse("null", member.name, "Member must not be null");
                }
            }
            (Value::Map(given), Shape::Structure(members)) => {
                self.below(member.name, |checker| checker.structure(given, members));
            }
            (value, shape) => self.value(value, shape, member.name),
        }
    }

    /// Checks what lies below a member.
    fn below(&mut self, name: &str, check: impl FnOnce(&mut Self)) {
        let length = self.path.len();
        self.path.push_str(&lower_first(name));
        self.path.push('.');
        check(self);
        self.path.truncate(length);
    }

    fn value(&mut self, value: &Value<'_>, shape: &'static Shape, name: &str) {
        let shown = || show(value, shape);
        match (shape, value) {
            (Shape::Text { length, pattern, values }, Value::Text(text)) => {
                if let Some(pattern) = pattern.filter(|pattern| !pattern.matches(text)) {
                    let constraint =
                        format!("Member must satisfy regular expression pattern: {}", pattern.text());
                    self.refuse(&shown(), name, &constraint);
                }
                self.within(text.encode_utf16().count(), "length", length, shown, name);
                if !values.is_empty() && !values.contains(&&**text) {
                    let constraint = format!("Member must satisfy enum value set: [{}]", values.join(", "));
                    self.refuse(&shown(), name, &constraint);
                }
            }
            (Shape::Integer(bounds), Value::Integer(number)) => {
                self.within(*number, "value", bounds, shown, name);
            }
            (Shape::Blob(bounds), Value::Blob(bytes)) => {
                self.within(bytes.len(), "length", bounds, shown, name);
            }
            (Shape::Texts { count, each }, Value::List(items)) => {
                self.within(items.len(), "length", count, shown, name);
                let lengths = items.iter().map(length_of);
                self.each_within(lengths, each, "Member must", shown, name);
            }
            (Shape::TextMap { count, names, texts }, Value::Map(members)) => {
                self.within(members.len(), "length", count, shown, name);
                let lengths = members.iter().map(|(name, _)| name.encode_utf16().count());
                self.each_within(lengths, names, "Map keys must", shown, name);
                let lengths = members.iter().map(|(_, text)| length_of(text));
                self.each_within(lengths, texts, "Map value must", shown, name);
            }
            (Shape::Structures { count, members, .. }, Value::List(items)) => {
                self.within(items.len(), "length", count, shown, name);
                self.below(name, |checker| {
                    for (item, number) in items.iter().zip(1..) {
                        let length = checker.path.len();
                        // Writing to a string does not fail.
                        let _ = write!(checker.path, "{number}.member.");
                        if let Value::Map(given) = item {
                            checker.structure(given, members);
                        }
                        checker.path.truncate(length);
                    }
                });
            }
            _ => {}
        }
    }

    /// Checks a value or a length.
    fn within<N: TryInto<i64>>(
        &mut self,
        number: N,
        what: &str,
        bounds: &Bounds,
        shown: impl Fn() -> String,
        name: &str,
    ) {
        let number = number.try_into().unwrap_or(i64::MAX);
        if let Some(min) = bounds.min.filter(|min| number < *min) {
            let constraint = format!("Member must have {what} greater than or equal to {min}");
            self.refuse(&shown(), name, &constraint);
        }
        if let Some(max) = bounds.max_in(self.profile).filter(|max| number > *max) {
            let constraint = format!("Member must have {what} less than or equal to {max}");
            self.refuse(&shown(), name, &constraint);
        }
    }

    /// Checks the lengths of the parts of a list or a map.
    fn each_within(
        &mut self,
        mut lengths: impl Iterator<Item = usize>,
        bounds: &Bounds,
        subject: &str,
        shown: impl Fn() -> String,
        name: &str,
    ) {
        let (min, max) = (bounds.min.unwrap_or(0), bounds.max.unwrap_or(i64::MAX));
        if !lengths.all(|length| (min..=max).contains(&(length as i64))) {
            let constraint = format!(
                "{subject} satisfy constraint: [Member must have length less than or equal to {max}, \
                 Member must have length greater than or equal to {min}]"
            );
            self.refuse(&shown(), name, &constraint);
        }
    }

    fn refuse(&mut self, shown: &str, name: &str, constraint: &str) {
        if self.entries.len() < ENTRIES_MAX {
            let quote = if shown == "null" { "" } else { "'" };
            let path = format!("{}{}", self.path, lower_first(name));
            self.entries.push(format!(
                "Value {quote}{shown}{quote} at '{path}' failed to satisfy constraint: {constraint}"
            ));
        }
    }
}

fn length_of(text: &Value<'_>) -> usize {
    match text {
        Value::Text(text) => text.encode_utf16().count(),
        _ => 0,
    }
}

/// `StreamName` is called `streamName` in errors.
fn lower_first(name: &str) -> String {
    let mut characters = name.chars();
    characters.next().map_or_else(String::new, |first| first.to_lowercase().chain(characters).collect())
}

/// Shows a value as Java prints it.
fn show(value: &Value<'_>, shape: &Shape) -> String {
    match value {
        Value::Text(text) => text.to_string(),
        Value::Integer(number) => number.to_string(),
        Value::Blob(bytes) => format!("java.nio.HeapByteBuffer[pos=0 lim={0} cap={0}]", bytes.len()),
        Value::List(items) => {
            let class = match shape {
                Shape::Structures { class, .. } => Some(*class),
                _ => None,
            };
            let items = items.iter().map(|item| class.map_or_else(|| show(item, shape), str::to_owned));
            format!("[{}]", items.collect::<Vec<_>>().join(", "))
        }
        Value::Map(members) => {
            let members = members.iter().map(|(name, text)| format!("{name}={}", show(text, shape)));
            format!("{{{}}}", members.collect::<Vec<_>>().join(", "))
        }
        _ => "null".to_owned(),
    }
}
