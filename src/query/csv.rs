//! Lines of CSV, as RFC 4180 describes them: one record is one line, and its fields are the columns in their order.

use arrow_array::ArrayRef;

use super::field::{Field, Found};

/// The columns that are taken from lines.
#[derive(Debug)]
pub(super) struct Line {
    delimiter: u8,
    /// How many fields a line has.
    count: usize,
    /// The fields that are columns, and their places in the line.
    places: Vec<usize>,
    fields: Vec<Field>,
    /// Where the fields of the line that is being read are.
    slots: Vec<Slot>,
}

/// A field in a line, without its quotes.
#[derive(Debug, Clone, Copy)]
struct Slot {
    start: usize,
    end: usize,
    is_quoted: bool,
    /// Whether there are quotes in it, each of them twice.
    has_quotes: bool,
}

impl Line {
    pub(super) fn new(delimiter: u8, count: usize, fields: impl IntoIterator<Item = (usize, Field)>) -> Self {
        let (places, fields) = fields.into_iter().unzip();
        Self { delimiter, count, places, fields, slots: vec![] }
    }

    /// Adds the values of a line. If it does not fit, the fields need to be [truncated](Self::truncate).
    pub(super) fn push(&mut self, text: &str) -> Result<(), String> {
        let line = text.strip_suffix('\n').unwrap_or(text);
        let line = line.strip_suffix('\r').unwrap_or(line);
        self.read(line)?;
        if self.slots.len() != self.count {
            let more = if self.slots.len() > self.count { " or more" } else { "" };
            return Err(format!("expected {} fields, found {}{more}", self.count, self.slots.len()));
        }
        for (&place, field) in self.places.iter().zip(&mut self.fields) {
            let slot = self.slots[place];
            let value = &line[slot.start..slot.end];
            match slot {
                Slot { has_quotes: true, .. } => {
                    field.push(Found::Text(&value.replace("\"\"", "\"")), &mut 0)?
                }
                Slot { is_quoted: false, .. } if value.is_empty() => field.push(Found::Nothing, &mut 0)?,
                _ => field.push(Found::Text(value), &mut 0)?,
            }
        }
        Ok(())
    }

    /// Finds the fields.
    fn read(&mut self, line: &str) -> Result<(), String> {
        self.slots.clear();
        let bytes = line.as_bytes();
        let mut at = 0;
        loop {
            // Fields behind the last column are not kept, and the line is refused.
            if self.slots.len() > self.count {
                return Ok(());
            }
            let slot = match bytes.get(at) {
                Some(b'"') => quoted(bytes, at + 1)?,
                _ => {
                    let rest = &bytes[at..];
                    let len = rest.iter().position(|&byte| byte == self.delimiter || is_special(byte));
                    let end = len.map_or(bytes.len(), |len| at + len);
                    Slot { start: at, end, is_quoted: false, has_quotes: false }
                }
            };
            at = slot.end + usize::from(slot.is_quoted);
            self.slots.push(slot);
            match bytes.get(at) {
                None => return Ok(()),
                Some(&byte) if byte == self.delimiter => at += 1,
                Some(b'\r' | b'\n') => {
                    return Err(format!("the data has more than one line: the first ends at byte {at}"));
                }
                Some(_) if slot.is_quoted => {
                    return Err(format!("expected a delimiter behind the quotation mark, at byte {at}"));
                }
                Some(_) => {
                    return Err(format!("a quotation mark is within a field without any, at byte {at}"));
                }
            }
        }
    }

    pub(super) fn truncate(&mut self, len: usize) {
        self.fields.iter_mut().for_each(|field| field.truncate(len));
    }

    pub(super) fn take(&mut self) -> Vec<ArrayRef> {
        self.fields.iter_mut().map(Field::take).collect()
    }
}

/// Returns whether a byte cannot be in a field without quotes.
fn is_special(byte: u8) -> bool {
    matches!(byte, b'"' | b'\r' | b'\n')
}

/// Returns the field whose opening quotation mark is in front of a place.
fn quoted(line: &[u8], start: usize) -> Result<Slot, String> {
    let (mut at, mut has_quotes) = (start, false);
    loop {
        let mark = line[at..].iter().position(|&byte| byte == b'"');
        let end =
            at + mark.ok_or_else(|| format!("the quotation mark at byte {} is not closed", start - 1))?;
        if line.get(end + 1) != Some(&b'"') {
            return Ok(Slot { start, end, is_quoted: true, has_quotes });
        }
        has_quotes = true;
        at = end + 2;
    }
}
