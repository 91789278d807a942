//! A checked request: its members by name, with their verified types.

use crate::Timestamp;
use crate::gateway::wire::{Map, Value};

/// A request, or a structure in it, whose types and bounds have been checked.
#[derive(Debug)]
pub(in crate::gateway) struct Input<'a> {
    members: Map<'a>,
}

impl<'a> Input<'a> {
    pub(super) fn new(members: Map<'a>) -> Self {
        Self { members }
    }

    /// Returns the structure as it is written.
    #[cfg(any(fuzzing, feature = "delivery"))]
    pub(in crate::gateway) fn into_value(self) -> Value<'a> {
        Value::Map(self.members)
    }

    fn get(&self, name: &str) -> Option<&Value<'a>> {
        self.members.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    pub(in crate::gateway) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    pub(in crate::gateway) fn text(&self, name: &str) -> Option<&str> {
        match self.get(name)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Returns a text that the checks require.
    pub(in crate::gateway) fn required(&self, name: &str) -> &str {
        self.text(name).unwrap_or_default()
    }

    pub(in crate::gateway) fn integer(&self, name: &str) -> Option<i64> {
        match self.get(name)? {
            Value::Integer(number) => Some(*number),
            _ => None,
        }
    }

    /// Returns a number whose bounds say that it is not negative.
    pub(in crate::gateway) fn count(&self, name: &str) -> Option<u32> {
        self.integer(name).map(|number| u32::try_from(number).unwrap_or_default())
    }

    pub(in crate::gateway) fn is_true(&self, name: &str) -> bool {
        matches!(self.get(name), Some(Value::Bool(true)))
    }

    pub(in crate::gateway) fn time(&self, name: &str) -> Option<Timestamp> {
        match self.get(name)? {
            Value::Time(time) => Some(*time),
            _ => None,
        }
    }

    pub(in crate::gateway) fn blob(&self, name: &str) -> &[u8] {
        match self.get(name) {
            Some(Value::Blob(bytes)) => bytes,
            _ => &[],
        }
    }

    pub(in crate::gateway) fn texts(&self, name: &str) -> Vec<&str> {
        let Some(Value::List(items)) = self.get(name) else { return vec![] };
        let texts = items.iter().map(|item| match item {
            Value::Text(text) => &**text,
            _ => "",
        });
        texts.collect()
    }

    /// Returns a text of the first structure in a list.
    pub(in crate::gateway) fn first_text(&self, list: &str, name: &str) -> Option<&str> {
        let Some(Value::List(items)) = self.get(list) else { return None };
        let Some(Value::Map(members)) = items.first() else { return None };
        match members.iter().find(|(known, _)| known == name) {
            Some((_, Value::Text(text))) => Some(text),
            _ => None,
        }
    }

    /// Returns the texts of a map, by name.
    pub(in crate::gateway) fn text_map(&self, name: &str) -> Vec<(&str, &str)> {
        let Some(Value::Map(members)) = self.get(name) else { return vec![] };
        let members = members.iter().map(|(name, text)| match text {
            Value::Text(text) => (&**name, &**text),
            _ => (&**name, ""),
        });
        members.collect()
    }

    /// Returns the pairs of a list of tags.
    pub(in crate::gateway) fn tag_list(&self, name: &str) -> Vec<(&str, &str)> {
        let Some(Value::List(items)) = self.get(name) else { return vec![] };
        items.iter().filter_map(tag).collect()
    }

    /// Takes a structure out of the request.
    pub(in crate::gateway) fn take(&mut self, name: &str) -> Option<Self> {
        match self.take_value(name)? {
            Value::Map(members) => Some(Self { members }),
            _ => None,
        }
    }

    /// Takes a list of structures out of the request.
    pub(in crate::gateway) fn take_list(&mut self, name: &str) -> Vec<Self> {
        let Some(Value::List(items)) = self.take_value(name) else { return vec![] };
        let structure = |item| match item {
            Value::Map(members) => Self { members },
            _ => Self { members: vec![] },
        };
        items.into_iter().map(structure).collect()
    }

    fn take_value(&mut self, name: &str) -> Option<Value<'a>> {
        let at = self.members.iter().position(|(known, _)| known == name)?;
        Some(self.members.remove(at).1)
    }
}

/// Returns the key and the text of a tag in a list.
fn tag<'b>(item: &'b Value<'_>) -> Option<(&'b str, &'b str)> {
    let Value::Map(members) = item else { return None };
    let text = |name: &str| match members.iter().find(|(known, _)| known == name) {
        Some((_, Value::Text(text))) => Some(&**text),
        _ => None,
    };
    Some((text("Key")?, text("Value").unwrap_or_default()))
}
