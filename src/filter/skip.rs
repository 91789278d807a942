//! A walk over JSON that only checks it, because nobody asks for its content: the fast part of the parser.
//!
//! It has no recursion, and looks at strings eight bytes at a time.

use std::ops::Range;

use super::json::{DEPTH_MAX, Malformed, is_high_surrogate, is_low_surrogate};

/// Checks that a text is one JSON value, nested no deeper than 127 levels. Returns whether it is on one line.
#[cfg(any(feature = "delivery", test))]
pub(crate) fn check_json(text: &str) -> Result<bool, Malformed> {
    let mut skip = Skip::new(text, 0, 0);
    skip.value()?;
    skip.end()?;
    Ok(!skip.has_line_break)
}

/// A value as it was written, or a name without its quotes.
#[cfg(feature = "delivery")]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Written<'a> {
    pub(crate) text: &'a str,
    /// Whether there is a backslash in it.
    pub(crate) has_escapes: bool,
}

/// Calls a function with the name and the value of each member of a JSON object, nested no deeper than 127 levels. An error is found only after
/// the members before it were passed on.
#[cfg(feature = "delivery")]
pub(crate) fn for_each_member<'a>(
    text: &'a str,
    mut each: impl FnMut(Written<'a>, Written<'a>),
) -> Result<(), Malformed> {
    let mut skip = Skip::new(text, 0, 0);
    if skip.pass_spaces() != b'{' {
        return Err(skip.malformed("an object"));
    }
    skip.open()?;
    let mut is_closed = skip.pass_spaces() == b'}';
    while !is_closed {
        let name = skip.name()?;
        let name = Written { text: &text[name], has_escapes: std::mem::take(&mut skip.has_escapes) };
        skip.pass_spaces();
        let begin = skip.at;
        skip.value()?;
        let has_escapes = std::mem::take(&mut skip.has_escapes);
        each(name, Written { text: &text[begin..skip.at], has_escapes });
        is_closed = match skip.pass_spaces() {
            b'}' => true,
            b',' => false,
            _ => return Err(skip.malformed("a comma or a closing bracket")),
        };
        skip.at += usize::from(!is_closed);
    }
    skip.at += 1;
    skip.end()
}

/// A place in a text, and how many objects and lists are open there.
#[derive(Debug)]
pub(crate) struct Skip<'a> {
    bytes: &'a [u8],
    pub(crate) at: usize,
    depth: usize,
    /// Whether a line break was passed between two values.
    has_line_break: bool,
    has_escapes: bool,
}

impl<'a> Skip<'a> {
    pub(crate) fn new(text: &'a str, at: usize, depth: usize) -> Self {
        Self { bytes: text.as_bytes(), at, depth, has_line_break: false, has_escapes: false }
    }

    /// Checks that nothing follows.
    #[cfg(any(feature = "delivery", test))]
    fn end(&mut self) -> Result<(), Malformed> {
        self.pass_spaces();
        if self.at == self.bytes.len() { Ok(()) } else { Err(self.malformed("the end")) }
    }

    /// Passes a value, with the blanks in front of it.
    pub(crate) fn value(&mut self) -> Result<(), Malformed> {
        let outside = self.depth;
        // A bit for each object or list that is open, the innermost one last: whether it is an object.
        let mut are_objects = 0_u128;
        loop {
            match self.pass_spaces() {
                b'"' => drop(self.string()?),
                b'-' | b'0'..=b'9' => self.number()?,
                open @ (b'{' | b'[') => {
                    self.open()?;
                    // In ASCII, the code of each closing bracket is two above that of its opening bracket.
                    if self.pass_spaces() != open + 2 {
                        are_objects = are_objects << 1 | u128::from(open == b'{');
                        if open == b'{' {
                            self.name()?;
                        }
                        continue;
                    }
                    self.at += 1;
                    self.depth -= 1;
                }
                b't' => self.literal("true")?,
                b'f' => self.literal("false")?,
                b'n' => self.literal("null")?,
                _ => return Err(self.malformed("a value")),
            }
            loop {
                if self.depth == outside {
                    return Ok(());
                }
                let is_in_object = are_objects & 1 == 1;
                match self.pass_spaces() {
                    b',' => {
                        self.at += 1;
                        if is_in_object {
                            self.name()?;
                        }
                        break;
                    }
                    b'}' if is_in_object => {}
                    b']' if !is_in_object => {}
                    _ => return Err(self.malformed("a comma or a closing bracket")),
                }
                self.at += 1;
                self.depth -= 1;
                are_objects >>= 1;
            }
        }
    }

    #[cold]
    pub(crate) fn malformed(&self, expected: &'static str) -> Malformed {
        Malformed { at: self.at, expected }
    }

    /// Returns the next byte, or 0 at the end, which is never a byte that a caller expects.
    #[inline(always)]
    pub(crate) fn next(&self) -> u8 {
        self.bytes.get(self.at).copied().unwrap_or_default()
    }

    /// Passes blanks, and returns the byte after them.
    #[inline(always)]
    pub(crate) fn pass_spaces(&mut self) -> u8 {
        match self.next() {
            0..=b' ' => self.pass_some_spaces(),
            other => other,
        }
    }

    #[cold]
    fn pass_some_spaces(&mut self) -> u8 {
        loop {
            match self.next() {
                b' ' | b'\t' => {}
                b'\n' | b'\r' => self.has_line_break = true,
                other => return other,
            }
            self.at += 1;
        }
    }

    /// Passes an opening bracket, after which everything is nested one level deeper.
    pub(crate) fn open(&mut self) -> Result<(), Malformed> {
        self.at += 1;
        if self.depth == DEPTH_MAX {
            return Err(self.malformed("less nesting"));
        }
        self.depth += 1;
        Ok(())
    }

    /// Passes the bracket that closes what [`open`](Self::open) has opened.
    #[cfg(feature = "sql")]
    pub(crate) fn close(&mut self) {
        self.at += 1;
        self.depth -= 1;
    }

    /// Passes the name of a member and the colon. Returns where the name is, without its quotes.
    fn name(&mut self) -> Result<Range<usize>, Malformed> {
        if self.pass_spaces() != b'"' {
            return Err(self.malformed("a quote"));
        }
        let begin = self.at + 1;
        self.string()?;
        let name = begin..self.at - 1;
        if self.pass_spaces() != b':' {
            return Err(self.malformed("a colon"));
        }
        self.at += 1;
        Ok(name)
    }

    /// Passes a string, whose opening quote is next. Returns whether it has escapes.
    #[inline]
    pub(crate) fn string(&mut self) -> Result<bool, Malformed> {
        self.at += 1;
        let mut has_escapes = false;
        loop {
            while let Some(word) = self.bytes.get(self.at..).and_then(<[u8]>::first_chunk) {
                match first_special(u64::from_le_bytes(*word)) {
                    Some(place) => {
                        self.at += place;
                        break;
                    }
                    None => self.at += 8,
                }
            }
            loop {
                match self.next() {
                    b'"' => {
                        self.at += 1;
                        return Ok(has_escapes);
                    }
                    b'\\' => {
                        self.escape()?;
                        has_escapes = true;
                        break;
                    }
                    b' '.. => self.at += 1,
                    _ => return Err(self.malformed("the end of the string")),
                }
            }
        }
    }

    /// Checks and passes an escape. A lone surrogate is not a character.
    #[cold]
    fn escape(&mut self) -> Result<(), Malformed> {
        self.has_escapes = true;
        self.at += 1;
        match self.next() {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => self.at += 1,
            b'u' => {
                self.at += 1;
                let unit = self.hex()?;
                if is_high_surrogate(unit) {
                    if !self.bytes[self.at..].starts_with(b"\\u") {
                        return Err(self.malformed("the second half of a surrogate pair"));
                    }
                    self.at += 2;
                }
                if is_low_surrogate(unit) || is_high_surrogate(unit) && !is_low_surrogate(self.hex()?) {
                    return Err(self.malformed("a surrogate pair"));
                }
            }
            _ => return Err(self.malformed("an escape")),
        }
        Ok(())
    }

    fn hex(&mut self) -> Result<u16, Malformed> {
        let digits = self.bytes.get(self.at..self.at + 4);
        let value = digits.and_then(|digits| {
            digits.iter().try_fold(0, |unit, &digit| Some(unit << 4 | char::from(digit).to_digit(16)? as u16))
        });
        let value = value.ok_or_else(|| self.malformed("four hexadecimal digits"))?;
        self.at += 4;
        Ok(value)
    }

    /// Passes a number.
    #[inline]
    pub(crate) fn number(&mut self) -> Result<(), Malformed> {
        self.at += usize::from(self.next() == b'-');
        match self.next() {
            b'0' => self.at += 1,
            _ => self.digits()?,
        }
        if self.next() == b'.' {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.next(), b'e' | b'E') {
            self.at += 1;
            self.at += usize::from(matches!(self.next(), b'+' | b'-'));
            self.digits()?;
        }
        Ok(())
    }

    #[inline]
    fn digits(&mut self) -> Result<(), Malformed> {
        let start = self.at;
        while self.next().is_ascii_digit() {
            self.at += 1;
        }
        if self.at > start { Ok(()) } else { Err(self.malformed("a digit")) }
    }

    /// Passes a word.
    pub(crate) fn literal(&mut self, word: &str) -> Result<(), Malformed> {
        if !self.bytes[self.at..].starts_with(word.as_bytes()) {
            return Err(self.malformed("true, false or null"));
        }
        self.at += word.len();
        Ok(())
    }
}

/// Returns the index of the first of eight bytes that does not stand for itself within a string: a quote, a backslash or a control character.
#[inline(always)]
fn first_special(word: u64) -> Option<usize> {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    // Sets the highest bit of each byte that is less than `than`. Borrows may also set it in bytes behind the first such one, and in no other.
    let less = |word: u64, than: u64| word.wrapping_sub(ONES * than) & !word & (ONES << 7);
    let equal = |byte: u8| less(word ^ (ONES * u64::from(byte)), 1);
    let special = less(word, 0x20) | equal(b'"') | equal(b'\\');
    (special != 0).then(|| special.trailing_zeros() as usize / 8)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DOCUMENTS: [&str; 6] = [
        r#"{"at":1700000000000,"user":"user-17","page":"/cart","total":-12.50,"is_new":true,"tags":["a",null,{}],"name":"Zo\u00eb \ud83d\ude00"}"#,
        "[1, 2.5e-3, 0, -0.0E+1, [], [[\"\"]], {\"a\": {\"b\": false}}]",
        "{\n  \"lines\": [\n    \"one\",\r\n\t\"two \\\"quoted\\\" \\n\"\n  ]\n}\n",
        r#""a text of more than eight bytes, \\ with a \/ few \b escapes""#,
        " 7 ",
        "null",
    ];

    /// What `serde_json` says. It also refuses numbers that are too large for it.
    fn is_json(text: &str) -> bool {
        let read: Result<serde_json::Value, _> = serde_json::from_str(text);
        read.map_or_else(|error| error.to_string().starts_with("number out of range"), |_| true)
    }

    proptest! {
        #[test]
        fn l6_texts_are_json_if_serde_says_so_and_on_one_line_if_they_have_no_line_break(
            document in prop::sample::select(&DOCUMENTS[..]),
            changes in prop::collection::vec((any::<prop::sample::Index>(), prop::option::of(0_u8..0x80)), 0..3),
        ) {
            let mut bytes = document.as_bytes().to_vec();
            for (place, byte) in changes {
                let place = place.index(bytes.len());
                match byte {
                    Some(byte) => bytes[place] = byte,
                    None => bytes.truncate(place.max(1)),
                }
            }
            let text = String::from_utf8_lossy(&bytes);
            let checked = check_json(&text);
            prop_assert_eq!(checked.is_ok(), is_json(&text), "{:?}: {:?}", text, checked);
            if let Ok(is_on_one_line) = checked {
                prop_assert_eq!(is_on_one_line, !text.contains(['\n', '\r']));
            }
        }
    }

    #[test]
    fn l6_nesting_is_bounded_as_in_serde_json() {
        for depth in [1, 126, 127, 128, 100_000] {
            let lists = "[".repeat(depth) + &"]".repeat(depth);
            let objects = r#"{"a":"#.repeat(depth) + "1" + &"}".repeat(depth);
            for text in [lists, objects] {
                assert_eq!(check_json(&text).is_ok(), is_json(&text), "{depth}");
                assert_eq!(check_json(&text).is_ok(), depth <= DEPTH_MAX);
            }
        }
    }

    #[test]
    fn the_first_special_byte_is_found_wherever_it_is_and_whatever_is_around_it() {
        for around in 0..=u8::MAX {
            for special in 0..=u8::MAX {
                for place in 0..8 {
                    let mut word = [around; 8];
                    word[place] = special;
                    let is_special = |byte: &u8| matches!(byte, 0..0x20 | b'"' | b'\\');
                    assert_eq!(first_special(u64::from_le_bytes(word)), word.iter().position(is_special));
                }
            }
        }
    }
}
