//! Protobuf's wire format, read with the same tolerance as the Java library that the KCL uses.

/// How deep messages and groups may be nested.
const DEPTH_MAX: u32 = 100;

/// The bytes are not a message.
#[derive(Debug)]
pub(super) struct Malformed;

/// A part of a message. It takes 8 bytes, so that the tables of an aggregate stay small.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    start: u32,
    len: u32,
}

impl Span {
    pub(super) fn of(self, message: &[u8]) -> &[u8] {
        message.get(self.start as usize..).and_then(|from| from.get(..self.len as usize)).unwrap_or_default()
    }
}

/// The value of a field.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value {
    Number(u64),
    /// Text, bytes or a message.
    Bytes(Span),
    /// A value of a type that no known field has.
    Other,
}

/// The fields of a message, one after the other.
pub(super) struct Fields<'a> {
    /// The outermost message, up to the end of this one.
    bytes: &'a [u8],
    at: usize,
    depth_left: u32,
}

impl<'a> Fields<'a> {
    /// Returns the fields of a message of up to 4 GiB.
    pub(super) fn of(message: &'a [u8]) -> Result<Self, Malformed> {
        if u32::try_from(message.len()).is_err() {
            return Err(Malformed);
        }
        Ok(Self { bytes: message, at: 0, depth_left: DEPTH_MAX })
    }

    /// Returns the fields of a message within this one.
    pub(super) fn within(&self, span: Span) -> Self {
        let (start, end) = (span.start as usize, span.start as usize + span.len as usize);
        Self { bytes: &self.bytes[..end], at: start, depth_left: self.depth_left - 1 }
    }

    /// Returns the number and the value of the next field.
    #[inline]
    pub(super) fn next(&mut self) -> Result<Option<(u32, Value)>, Malformed> {
        let Some((number, wire_type)) = self.tag()? else { return Ok(None) };
        let value = match wire_type {
            0 => Value::Number(self.varint()?),
            2 => Value::Bytes(self.bytes()?),
            _ => {
                self.skip(number, wire_type, self.depth_left)?;
                Value::Other
            }
        };
        Ok(Some((number, value)))
    }

    /// Returns the number and the wire type of the next field.
    #[inline]
    fn tag(&mut self) -> Result<Option<(u32, u32)>, Malformed> {
        if self.at == self.bytes.len() {
            return Ok(None);
        }
        // Java drops the bits above 32.
        let tag = self.varint()? as u32;
        if tag >> 3 == 0 { Err(Malformed) } else { Ok(Some((tag >> 3, tag & 7))) }
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, Malformed> {
        match self.bytes.get(self.at) {
            Some(&byte) if byte < 0x80 => {
                self.at += 1;
                Ok(byte.into())
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let &byte = self.bytes.get(self.at).ok_or(Malformed)?;
            self.at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    #[inline]
    fn bytes(&mut self) -> Result<Span, Malformed> {
        // Java drops the bits above 32 and rejects a negative result. No message is that long anyway.
        let len = self.varint()? as u32;
        let start = self.at;
        self.advance(len as usize)?;
        Ok(Span { start: start as u32, len })
    }

    #[inline]
    fn advance(&mut self, len: usize) -> Result<(), Malformed> {
        if len > self.bytes.len() - self.at {
            return Err(Malformed);
        }
        self.at += len;
        Ok(())
    }

    /// Skips the value of a field that is not known.
    fn skip(&mut self, number: u32, wire_type: u32, depth_left: u32) -> Result<(), Malformed> {
        match wire_type {
            0 => self.varint().map(|_| ()),
            1 => self.advance(8),
            2 => self.bytes().map(|_| ()),
            3 => self.skip_group(number, depth_left),
            5 => self.advance(4),
            _ => Err(Malformed),
        }
    }

    fn skip_group(&mut self, group: u32, depth_left: u32) -> Result<(), Malformed> {
        const END_OF_GROUP: u32 = 4;
        let depth_left = depth_left.checked_sub(1).ok_or(Malformed)?;
        loop {
            match self.tag()? {
                Some((number, END_OF_GROUP)) if number == group => return Ok(()),
                Some((number, wire_type)) => self.skip(number, wire_type, depth_left)?,
                None => return Err(Malformed),
            }
        }
    }
}

/// Returns how many bytes a number takes.
#[inline]
pub(super) fn varint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

#[inline]
pub(super) fn write_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the numbers of the fields of a message, if it is one.
    fn numbers(message: &[u8]) -> Option<Vec<u32>> {
        let mut fields = Fields::of(message).ok()?;
        let mut numbers = vec![];
        while let Some((number, _)) = fields.next().ok()? {
            numbers.push(number);
        }
        Some(numbers)
    }

    #[test]
    fn l6_varints_are_read_as_in_java() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            let mut bytes = vec![];
            write_varint(&mut bytes, value);
            assert_eq!(bytes.len(), varint_len(value), "{value}");
            let mut fields = Fields::of(&bytes).unwrap();
            assert_eq!((fields.varint().unwrap(), fields.at), (value, bytes.len()));
        }
        let varint = |bytes: &[u8]| Fields::of(bytes).unwrap().varint().ok();
        assert_eq!(varint(&[0x81, 0x80, 0x80, 0x00]), Some(1), "longer than it needs to be");
        let ten = |last: u8| [[0xff; 9].as_slice(), &[last]].concat();
        assert_eq!(varint(&ten(0x7f)), Some(u64::MAX), "bits above 64 are dropped");
        assert_eq!((varint(&ten(0x80)), varint(&[0x80])), (None, None));
    }

    #[test]
    fn l6_fields_that_are_not_known_are_skipped_and_must_be_whole() {
        assert_eq!(numbers(&[]), Some(vec![]));
        assert_eq!(
            numbers(&[0x08, 1, 0x11, 0, 0, 0, 0, 0, 0, 0, 0, 0x1a, 1, 7, 0x25, 0, 0, 0, 0]),
            Some(vec![1, 2, 3, 4])
        );
        let truncated: [&[u8]; 5] = [&[0x08], &[0x11, 0, 0], &[0x1a, 2, 7], &[0x25, 0], &[0x80]];
        for message in truncated {
            assert_eq!(numbers(message), None, "{message:?}");
        }
        for message in [[0x00, 0], [0x0e, 0], [0x0f, 0], [0x0c, 0]] {
            assert_eq!(numbers(&message), None, "field 0, an unknown wire type, an end of no group");
        }
        assert_eq!(numbers(&[0x1a, 0xff, 0xff, 0xff, 0xff, 0x0f]), None, "a length of 4 GiB");
    }

    #[test]
    fn l6_groups_are_skipped_down_to_the_depth_that_java_permits() {
        assert_eq!(numbers(&[0x0b, 0x10, 1, 0x0c, 0x18, 1]), Some(vec![1, 3]));
        assert_eq!(numbers(&[0x0b, 0x10, 1, 0x14]), None, "another group ends");
        assert_eq!(numbers(&[0x0b, 0x10, 1]), None, "it does not end");
        let nested = |depth| [vec![0x0b; depth], vec![0x0c; depth]].concat();
        assert_eq!(numbers(&nested(100)), Some(vec![1]));
        assert_eq!(numbers(&nested(101)), None);
        assert_eq!(numbers(&vec![0x0b; 1 << 20]), None);
    }
}
