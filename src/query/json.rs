//! JSON objects, parsed in one pass: only the members that are columns are examined.
//!
//! Records of a stream mostly have the same members in the same order, with the same blanks between them. So the text between two values is compared
//! with that of earlier records, eight or sixteen bytes at a time, and only if it differs is a name read and looked up.

use std::collections::HashMap;

use arrow_array::ArrayRef;

use super::field::{Field, Found};
use crate::{JsonSkip, MalformedJson, decode_json_text};

/// How many texts between values are remembered.
const GAPS_MAX: usize = 128;
/// After this many, no more are learned: the names do not repeat.
const LEARNED_MAX: usize = 1_024;
/// The longest gap that is remembered.
const GAP_BYTES_MAX: usize = 256;
/// The bytes of a gap that are compared in one step.
const HEAD_BYTES: usize = size_of::<u128>();

/// The columns that are taken from objects.
#[derive(Debug)]
pub(super) struct Object {
    fields: Vec<Field>,
    /// Where the value of each field is in the object that is being read.
    slots: Vec<Slot>,
    names: Names,
    gaps: Gaps,
}

/// A value in a text.
#[derive(Debug, Clone, Copy)]
struct Slot {
    start: usize,
    end: usize,
    kind: Kind,
    /// Whether the member has the name of the column, also in upper and lower case.
    is_exact: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Nothing,
    Null,
    Word,
    Number,
    Text,
    Escaped,
    Nested,
}

const EMPTY: Slot = Slot { start: 0, end: 0, kind: Kind::Nothing, is_exact: false };

impl Slot {
    #[inline]
    fn found(self, text: &str) -> Found<'_> {
        let value = &text[self.start..self.end];
        match self.kind {
            Kind::Nothing => Found::Nothing,
            Kind::Null => Found::Null,
            Kind::Word => Found::Word(value),
            Kind::Number => Found::Number(value),
            Kind::Text => Found::Text(value),
            Kind::Escaped => Found::Escaped(value),
            Kind::Nested => Found::Nested(value),
        }
    }
}

/// The field that a member belongs to.
#[derive(Debug, Clone, Copy)]
struct Target {
    field: usize,
    is_exact: bool,
}

/// Which member belongs to which field: the one with its name, or if there is none, one whose name differs only in case.
#[derive(Debug)]
struct Names {
    exact: HashMap<String, usize>,
    folded: HashMap<String, usize>,
}

impl Names {
    fn target(&self, name: &str) -> Option<Target> {
        if let Some(&field) = self.exact.get(name) {
            return Some(Target { field, is_exact: true });
        }
        let field = *self.folded.get(&name.to_lowercase())?;
        Some(Target { field, is_exact: false })
    }
}

/// The text between two values, with the name of the second one: `,"page":`.
#[derive(Debug)]
struct Gap {
    /// The first bytes, and which bits of them count.
    head: u128,
    mask: u128,
    text: Box<[u8]>,
    /// Whether it precedes the first value. After a value, it would be malformed.
    is_first: bool,
    target: Option<Target>,
}

impl Gap {
    fn new(text: &[u8], is_first: bool, target: Option<Target>) -> Self {
        let (mut head, mut mask) = ([0; HEAD_BYTES], [0; HEAD_BYTES]);
        let count = text.len().min(HEAD_BYTES);
        head[..count].copy_from_slice(&text[..count]);
        mask[..count].fill(u8::MAX);
        let (head, mask) = (u128::from_ne_bytes(head), u128::from_ne_bytes(mask));
        Self { head, mask, text: text.into(), is_first, target }
    }

    /// Returns whether a text begins with it.
    #[inline(always)]
    fn begins(&self, text: &[u8]) -> bool {
        match text.first_chunk() {
            Some(head) => {
                u128::from_ne_bytes(*head) & self.mask == self.head
                    && (self.text.len() <= HEAD_BYTES || text.starts_with(&self.text))
            }
            None => text.starts_with(&self.text),
        }
    }
}

/// The gaps of earlier objects, in their order.
#[derive(Debug, Default)]
struct Gaps {
    known: Vec<Gap>,
    learned: usize,
}

impl Gaps {
    /// Returns which gap a text begins with, if it is known. It is probably the one at `expected`.
    #[inline(always)]
    fn find(&self, text: &[u8], expected: usize, is_first: bool) -> Option<usize> {
        match self.known.get(expected) {
            Some(gap) if gap.is_first == is_first && gap.begins(text) => Some(expected),
            _ => self.find_elsewhere(text, expected, is_first),
        }
    }

    #[inline(never)]
    fn find_elsewhere(&self, text: &[u8], expected: usize, is_first: bool) -> Option<usize> {
        let expected = expected.min(self.known.len());
        let (before, behind) = self.known.split_at(expected);
        let is_it = |gap: &Gap| gap.is_first == is_first && gap.begins(text);
        let found = behind.iter().position(is_it).map(|place| expected + place);
        found.or_else(|| before.iter().position(is_it))
    }

    /// Remembers a gap at its place among the others.
    fn learn(&mut self, place: usize, gap: Gap) {
        if self.learned == LEARNED_MAX || gap.text.len() > GAP_BYTES_MAX {
            return;
        }
        self.learned += 1;
        // Gaps that did not recur make room for new ones.
        if self.known.len() == GAPS_MAX {
            self.known.clear();
        }
        self.known.insert(place.min(self.known.len()), gap);
    }
}

/// Skips the next value, and returns where it is. Blanks may precede it, as a known gap may have fewer of them.
#[inline(always)]
fn slot(skip: &mut JsonSkip<'_>, is_exact: bool) -> Result<Slot, MalformedJson> {
    let first = skip.pass_spaces();
    let start = skip.at;
    let kind = match first {
        b'"' => {
            let kind = if skip.string()? { Kind::Escaped } else { Kind::Text };
            return Ok(Slot { start: start + 1, end: skip.at - 1, kind, is_exact });
        }
        b'-' | b'0'..=b'9' => {
            skip.number()?;
            Kind::Number
        }
        _ => {
            skip.value()?;
            match first {
                b'n' => Kind::Null,
                b't' | b'f' => Kind::Word,
                _ => Kind::Nested,
            }
        }
    };
    Ok(Slot { start, end: skip.at, kind, is_exact })
}

impl Object {
    pub(super) fn new(fields: impl IntoIterator<Item = (String, Field)>) -> Self {
        let (mut exact, mut folded) = (HashMap::new(), HashMap::new());
        let mut columns = vec![];
        for ((name, field), index) in fields.into_iter().zip(0..) {
            // Of two that differ only in case, the first one counts.
            folded.entry(name.to_lowercase()).or_insert(index);
            exact.insert(name, index);
            columns.push(field);
        }
        Self {
            slots: vec![EMPTY; columns.len()],
            fields: columns,
            names: Names { exact, folded },
            gaps: Gaps::default(),
        }
    }

    /// Returns how many gaps are remembered.
    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        self.gaps.known.len()
    }

    /// Adds the values of one object, which is the whole text. If the object does not fit, the fields need to be [truncated](Self::truncate).
    pub(super) fn push(&mut self, text: &str, room: &mut usize) -> Result<(), String> {
        let mut skip = JsonSkip::new(text, 0, 0);
        let mut read = self.read(text, &mut skip);
        if read.is_ok() {
            skip.pass_spaces();
            read = if skip.at == text.len() { Ok(()) } else { Err(skip.malformed("the end")) };
        }
        read.map_err(|malformed| format!("the data is no JSON object: {malformed}"))?;
        self.push_slots(text, room)
    }

    /// Adds the values of an object within another one, which has been checked.
    pub(super) fn push_nested(&mut self, text: &str, room: &mut usize) -> Result<(), String> {
        let mut skip = JsonSkip::new(text, 0, 0);
        self.read(text, &mut skip).map_err(|malformed| malformed.to_string())?;
        self.push_slots(text, room)
    }

    #[inline]
    fn push_slots(&mut self, text: &str, room: &mut usize) -> Result<(), String> {
        let mut slots = self.fields.iter_mut().zip(&self.slots);
        slots.try_for_each(|(field, slot)| field.push(slot.found(text), room))
    }

    pub(super) fn push_nulls(&mut self) -> Result<(), String> {
        self.fields.iter_mut().try_for_each(|field| field.push(Found::Null, &mut 0))
    }

    pub(super) fn truncate(&mut self, len: usize) {
        self.fields.iter_mut().for_each(|field| field.truncate(len));
    }

    pub(super) fn take(&mut self) -> Vec<ArrayRef> {
        self.fields.iter_mut().map(Field::take).collect()
    }

    /// Finds the values of the fields in the next object, and skips it.
    fn read(&mut self, text: &str, skip: &mut JsonSkip<'_>) -> Result<(), MalformedJson> {
        self.slots.fill(EMPTY);
        if skip.pass_spaces() != b'{' {
            return Err(skip.malformed("an object"));
        }
        skip.open()?;
        let bytes = text.as_bytes();
        let (mut expected, mut is_first) = (0, true);
        loop {
            if skip.next() == b'}' {
                break;
            }
            let target = match self.gaps.find(&bytes[skip.at..], expected, is_first) {
                Some(place) => {
                    let gap = &self.gaps.known[place];
                    skip.at += gap.text.len();
                    expected = place + 1;
                    gap.target
                }
                None => {
                    let start = skip.at;
                    let Some(target) = self.read_gap(text, skip, is_first)? else { break };
                    self.gaps.learn(expected, Gap::new(&bytes[start..skip.at], is_first, target));
                    expected += 1;
                    target
                }
            };
            is_first = false;
            match target {
                None => drop(slot(skip, false)?),
                Some(Target { field, is_exact }) => {
                    let slot = slot(skip, is_exact)?;
                    let known = &mut self.slots[field];
                    // Of several members, the last one counts.
                    if is_exact || !known.is_exact {
                        *known = slot;
                    }
                }
            }
        }
        skip.close();
        Ok(())
    }

    /// Skips the text before a value. Returns the field that the value belongs to, if any, or nothing at the end of the object.
    #[inline(never)]
    fn read_gap(
        &self,
        text: &str,
        skip: &mut JsonSkip<'_>,
        is_first: bool,
    ) -> Result<Option<Option<Target>>, MalformedJson> {
        match skip.pass_spaces() {
            b'}' => return Ok(None),
            b',' if !is_first => {
                skip.at += 1;
                skip.pass_spaces();
            }
            _ if is_first => {}
            _ => return Err(skip.malformed("a comma or a closing bracket")),
        }
        if skip.next() != b'"' {
            return Err(skip.malformed("a quote"));
        }
        let start = skip.at + 1;
        let has_escapes = skip.string()?;
        let raw = &text[start..skip.at - 1];
        if skip.pass_spaces() != b':' {
            return Err(skip.malformed("a colon"));
        }
        skip.at += 1;
        skip.pass_spaces();
        let target = match has_escapes {
            true => self.names.target(&decode_json_text(raw)),
            false => self.names.target(raw),
        };
        Ok(Some(target))
    }
}

/// Adds the items of a list, which has been checked.
pub(super) fn push_items(list: &str, items: &mut Field, room: &mut usize) -> Result<(), String> {
    let item_bytes = items.value_bytes();
    let mut skip = JsonSkip::new(list, 0, 0);
    let wrong = |malformed: MalformedJson| malformed.to_string();
    skip.open().map_err(wrong)?;
    if skip.pass_spaces() == b']' {
        return Ok(());
    }
    loop {
        let slot = slot(&mut skip, true).map_err(wrong)?;
        *room = room.checked_sub(item_bytes).ok_or_else(|| items.too_many())?;
        items.push(slot.found(list), room)?;
        if skip.pass_spaces() != b',' {
            return Ok(());
        }
        skip.at += 1;
    }
}
