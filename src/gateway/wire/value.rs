//! A value of the service's data model, whatever its format.

use std::borrow::Cow;

use crate::Timestamp;

/// The members of a structure or a map, in their order.
pub(in crate::gateway) type Map<'a> = Vec<(Cow<'a, str>, Value<'a>)>;

/// A value that was read or is to be written. Texts and blobs are borrowed from the input if possible.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::gateway) enum Value<'a> {
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(Cow<'a, str>),
    /// Base64 in JSON. A value read from JSON is a text until its shape says that it is a blob.
    Blob(Cow<'a, [u8]>),
    /// Seconds in JSON, milliseconds in CBOR. A value read from JSON is a number until its shape says that it is a time.
    Time(Timestamp),
    List(Vec<Self>),
    Map(Map<'a>),
}

impl<'a> Value<'a> {
    /// Returns a structure with these members.
    pub(in crate::gateway) fn map<const COUNT: usize>(members: [(&'static str, Value<'a>); COUNT]) -> Self {
        Self::Map(members.into_iter().map(|(name, value)| (Cow::Borrowed(name), value)).collect())
    }

    /// Returns a text.
    pub(in crate::gateway) fn text(text: impl Into<Cow<'a, str>>) -> Self {
        Self::Text(text.into())
    }

    /// Adds a member to a structure, unless it is `None`: absent members are not written.
    pub(in crate::gateway) fn with(mut self, name: &'static str, value: Option<Self>) -> Self {
        if let (Self::Map(members), Some(value)) = (&mut self, value) {
            members.push((Cow::Borrowed(name), value));
        }
        self
    }

    /// Returns about how many bytes it takes in JSON.
    pub(super) fn bytes_estimate(&self) -> usize {
        match self {
            Self::Null | Self::Bool(_) | Self::Integer(_) | Self::Float(_) | Self::Time(_) => 16,
            Self::Text(text) => text.len() + 4,
            Self::Blob(blob) => blob.len().div_ceil(3) * 4 + 4,
            Self::List(items) => items.iter().map(Self::bytes_estimate).sum::<usize>() + 2,
            Self::Map(members) => {
                let bytes = members.iter().map(|(name, value)| name.len() + 4 + value.bytes_estimate());
                bytes.sum::<usize>() + 2
            }
        }
    }
}
