//! A pull parser that reads JSON once from front to back, copies nothing, and skips what nobody asks for.

use std::borrow::Cow;
use std::fmt;

use super::skip::Skip;

/// How deep objects and lists may be nested: as deep as `serde_json` reads them. It bounds the recursion.
pub(super) const DEPTH_MAX: usize = 127;

/// The text is not JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed {
    /// The byte at which reading stopped.
    pub(super) at: usize,
    pub(super) expected: &'static str,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {} at byte {}", self.expected, self.at)
    }
}

/// What a value is, by its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Object,
    List,
    Text,
    Number,
    /// `true`, `false` or `null`.
    Literal,
}

/// A string as it was written, without the quotes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Text<'a> {
    raw: &'a str,
    has_escapes: bool,
}

/// Decodes the escapes of a checked string, given without its quotes.
#[cfg(any(feature = "parquet", feature = "sql"))]
pub(crate) fn decode_json_text(raw: &str) -> String {
    Text { raw, has_escapes: true }.unescape()
}

impl<'a> Text<'a> {
    pub(super) fn decode(self) -> Cow<'a, str> {
        if self.has_escapes { Cow::Owned(self.unescape()) } else { Cow::Borrowed(self.raw) }
    }

    /// Relies on [`Json::text`] or [`Skip::string`], which have checked the escapes.
    fn unescape(self) -> String {
        let mut decoded = String::with_capacity(self.raw.len());
        let mut rest = self.raw;
        while let Some(at) = rest.find('\\') {
            decoded.push_str(&rest[..at]);
            let unit = |at: usize| u16::from_str_radix(&rest[at..at + 4], 16).expect("text() has checked it");
            let (character, len) = match rest.as_bytes()[at + 1] {
                b'b' => ('\u{8}', 2),
                b'f' => ('\u{c}', 2),
                b'n' => ('\n', 2),
                b'r' => ('\r', 2),
                b't' => ('\t', 2),
                b'u' if is_high_surrogate(unit(at + 2)) => {
                    let pair = char::decode_utf16([unit(at + 2), unit(at + 8)]).next();
                    (pair.and_then(Result::ok).expect("text() has checked the pair"), 12)
                }
                b'u' => (char::from_u32(unit(at + 2).into()).expect("text() has checked it"), 6),
                other => (char::from(other), 2), // A quote, a slash or a backslash.
            };
            decoded.push(character);
            rest = &rest[at + len..];
        }
        decoded + rest
    }
}

pub(super) fn is_high_surrogate(unit: u16) -> bool {
    (0xd800..0xdc00).contains(&unit)
}

pub(super) fn is_low_surrogate(unit: u16) -> bool {
    (0xdc00..0xe000).contains(&unit)
}

/// Which bytes stand for themselves within a string.
const PLAIN: [bool; 256] = {
    let mut plain = [true; 256];
    let mut control = 0;
    while control < 0x20 {
        plain[control] = false;
        control += 1;
    }
    plain[b'"' as usize] = false;
    plain[b'\\' as usize] = false;
    plain
};

/// A text that is being read. Each of its methods takes one value, and [`kind`](Self::kind) shows which method fits the next one.
pub(super) struct Json<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl<'a> Json<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0, depth: 0 }
    }

    /// Returns what the next value is, without taking it.
    #[inline]
    pub(super) fn kind(&mut self) -> Result<Kind, Malformed> {
        self.skip_spaces();
        match self.peek() {
            Some(b'{') => Ok(Kind::Object),
            Some(b'[') => Ok(Kind::List),
            Some(b'"') => Ok(Kind::Text),
            Some(b'-' | b'0'..=b'9') => Ok(Kind::Number),
            Some(b't' | b'f' | b'n') => Ok(Kind::Literal),
            _ => Err(self.malformed("a value")),
        }
    }

    /// Takes an object. `each` is called with each name, and takes the value.
    #[inline]
    pub(super) fn members<E: From<Malformed>>(
        &mut self,
        mut each: impl FnMut(&mut Self, Text<'a>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.open(b'{')?;
        if !self.is_closed_by(b'}') {
            loop {
                self.skip_spaces();
                let name = self.text()?;
                self.skip_spaces();
                self.take(b':', "a colon")?;
                each(self, name)?;
                if !self.has_another_before(b'}')? {
                    break;
                }
            }
        }
        self.depth -= 1;
        Ok(())
    }

    /// Takes a list. `each` is called for each element, and takes it.
    #[inline]
    pub(super) fn elements<E: From<Malformed>>(
        &mut self,
        mut each: impl FnMut(&mut Self) -> Result<(), E>,
    ) -> Result<(), E> {
        self.open(b'[')?;
        if !self.is_closed_by(b']') {
            loop {
                each(self)?;
                if !self.has_another_before(b']')? {
                    break;
                }
            }
        }
        self.depth -= 1;
        Ok(())
    }

    /// Takes a string.
    #[inline]
    pub(super) fn text(&mut self) -> Result<Text<'a>, Malformed> {
        self.take(b'"', "a quote")?;
        let (start, mut has_escapes) = (self.at, false);
        loop {
            let rest = &self.text.as_bytes()[self.at..];
            let plain = rest.iter().position(|&byte| !PLAIN[usize::from(byte)]).unwrap_or(rest.len());
            self.at += plain;
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    has_escapes = true;
                    self.escape()?;
                }
                _ => return Err(self.malformed("the end of the string")),
            }
        }
        self.at += 1;
        Ok(Text { raw: &self.text[start..self.at - 1], has_escapes })
    }

    /// Takes a number as it was written.
    pub(super) fn number(&mut self) -> Result<&'a str, Malformed> {
        let start = self.at;
        self.is_next(b'-');
        if !self.is_next(b'0') {
            self.digits()?;
        }
        if self.is_next(b'.') {
            self.digits()?;
        }
        if self.is_next(b'e') || self.is_next(b'E') {
            if !self.is_next(b'+') {
                self.is_next(b'-');
            }
            self.digits()?;
        }
        Ok(&self.text[start..self.at])
    }

    /// Takes `true`, `false` or `null`.
    pub(super) fn literal(&mut self) -> Result<&'static str, Malformed> {
        let rest = &self.text.as_bytes()[self.at..];
        let found = ["true", "false", "null"].into_iter().find(|word| rest.starts_with(word.as_bytes()));
        let word = found.ok_or_else(|| self.malformed("true, false or null"))?;
        self.at += word.len();
        Ok(word)
    }

    /// Takes any value.
    pub(super) fn skip(&mut self) -> Result<(), Malformed> {
        let mut skip = Skip::new(self.text, self.at, self.depth);
        let passed = skip.value();
        self.at = skip.at;
        passed
    }

    /// Checks that nothing follows.
    pub(super) fn end(&mut self) -> Result<(), Malformed> {
        self.skip_spaces();
        if self.at == self.text.len() { Ok(()) } else { Err(self.malformed("the end")) }
    }

    #[cold]
    fn malformed(&self, expected: &'static str) -> Malformed {
        Malformed { at: self.at, expected }
    }

    #[inline]
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    #[inline]
    fn is_next(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    #[inline]
    fn take(&mut self, byte: u8, name: &'static str) -> Result<(), Malformed> {
        if self.is_next(byte) { Ok(()) } else { Err(self.malformed(name)) }
    }

    #[inline]
    fn skip_spaces(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\t' | b'\r')) {
            self.at += 1;
        }
    }

    fn open(&mut self, byte: u8) -> Result<(), Malformed> {
        self.take(byte, "an object or a list")?;
        if self.depth == DEPTH_MAX {
            return Err(self.malformed("less nesting"));
        }
        self.depth += 1;
        Ok(())
    }

    fn is_closed_by(&mut self, close: u8) -> bool {
        self.skip_spaces();
        self.is_next(close)
    }

    #[inline]
    fn has_another_before(&mut self, close: u8) -> Result<bool, Malformed> {
        self.skip_spaces();
        if self.is_next(b',') {
            return Ok(true);
        }
        self.take(close, "a comma or a closing bracket")?;
        Ok(false)
    }

    fn digits(&mut self) -> Result<(), Malformed> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at > start { Ok(()) } else { Err(self.malformed("a digit")) }
    }

    /// Checks and passes an escape in a string. A lone surrogate is not a character.
    fn escape(&mut self) -> Result<(), Malformed> {
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                self.at += 1;
                let unit = self.hex()?;
                if is_high_surrogate(unit) {
                    self.take(b'\\', "the second half of a surrogate pair")?;
                    self.take(b'u', "the second half of a surrogate pair")?;
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
        let digits = self.text.as_bytes().get(self.at..self.at + 4);
        let digits = digits.filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        let digits = digits.ok_or_else(|| self.malformed("four hexadecimal digits"))?;
        self.at += 4;
        Ok(digits.iter().fold(0, |unit, &digit| {
            unit << 4 | char::from(digit).to_digit(16).expect("it is a hexadecimal digit") as u16
        }))
    }
}
