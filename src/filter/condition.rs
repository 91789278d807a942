//! What a pattern demands of the value of one field.

use std::borrow::Cow;
use std::net::IpAddr;

use super::json::{Json, Kind, Malformed};

/// A value that is neither an object nor a list.
#[derive(Debug, Clone)]
pub(super) enum Scalar<'a> {
    Text(Cow<'a, str>),
    /// As it was written.
    Number(Cow<'a, str>),
    /// `true`, `false` or `null`.
    Literal(&'static str),
}

impl<'a> Scalar<'a> {
    /// Takes the next value, whose kind is neither an object nor a list.
    #[inline]
    pub(super) fn take(json: &mut Json<'a>, kind: Kind) -> Result<Self, Malformed> {
        match kind {
            Kind::Text => Ok(Self::Text(json.text()?.decode())),
            Kind::Number => Ok(Self::Number(json.number()?.into())),
            _ => Ok(Self::Literal(json.literal()?)),
        }
    }
}

/// The list of values in a pattern: a value that is one of them, or that fulfils one of them, matches.
#[derive(Debug, Default)]
pub(super) struct Condition {
    /// Exact strings, in order.
    pub(super) texts: Vec<String>,
    /// Exact numbers, `true`, `false` and `null`, by their texts, in order.
    pub(super) words: Vec<String>,
    pub(super) tests: Vec<Test>,
    /// Whether the field may also be absent.
    pub(super) accepts_absence: bool,
}

/// An operator with its operand.
#[derive(Debug)]
pub(super) enum Test {
    Exists,
    Prefix(String),
    Suffix(String),
    Wildcard(Wildcard),
    /// The operands of the next three are folded.
    EqualsIgnoreCase(String),
    PrefixIgnoreCase(String),
    SuffixIgnoreCase(String),
    Numeric(Range),
    /// Any of these numbers, in order.
    Numbers(Vec<f64>),
    Cidr(Network),
    AnythingBut(Condition),
}

impl Condition {
    #[inline]
    pub(super) fn is_met_by(&self, value: &Scalar<'_>) -> bool {
        let is_listed = match value {
            Scalar::Text(text) => contains(&self.texts, text),
            Scalar::Number(word) => contains(&self.words, word),
            Scalar::Literal(word) => contains(&self.words, word),
        };
        is_listed || self.tests.iter().any(|test| test.is_met_by(value))
    }
}

fn contains(sorted: &[String], text: &str) -> bool {
    sorted.binary_search_by(|one| one.as_str().cmp(text)).is_ok()
}

impl Test {
    fn is_met_by(&self, value: &Scalar<'_>) -> bool {
        match self {
            Self::Exists => true,
            Self::AnythingBut(condition) => !condition.is_met_by(value),
            _ => match value {
                Scalar::Text(text) => self.is_met_by_text(text),
                Scalar::Number(number) => self.is_met_by_number(number),
                Scalar::Literal(_) => false,
            },
        }
    }

    fn is_met_by_text(&self, text: &str) -> bool {
        match self {
            Self::Prefix(prefix) => text.starts_with(prefix.as_str()),
            Self::Suffix(suffix) => text.ends_with(suffix.as_str()),
            Self::Wildcard(wildcard) => wildcard.matches(text),
            Self::EqualsIgnoreCase(folded) => fold(text).eq(folded.chars()),
            Self::PrefixIgnoreCase(folded) => begins_with(fold(text), folded.chars()),
            Self::SuffixIgnoreCase(folded) => {
                let backwards = text.chars().rev().flat_map(|character| character.to_lowercase().rev());
                begins_with(backwards, folded.chars().rev())
            }
            Self::Cidr(network) => text.parse().is_ok_and(|address| network.contains(address)),
            _ => false,
        }
    }

    fn is_met_by_number(&self, number: &str) -> bool {
        let is_met = |test: &dyn Fn(f64) -> bool| number.parse().is_ok_and(test);
        match self {
            Self::Numeric(range) => is_met(&|number| range.contains(number)),
            Self::Numbers(sorted) => is_met(&|number| {
                sorted.binary_search_by(|one| one.partial_cmp(&number).expect("JSON has no NaN")).is_ok()
            }),
            _ => false,
        }
    }
}

/// Folds each character by itself, so that the beginning of a text folds to the beginning of the folded text.
pub(super) fn fold(text: &str) -> impl Iterator<Item = char> {
    text.chars().flat_map(char::to_lowercase)
}

fn begins_with(
    mut characters: impl Iterator<Item = char>,
    mut beginning: impl Iterator<Item = char>,
) -> bool {
    beginning.all(|wanted| characters.next() == Some(wanted))
}

/// A pattern with `*`, as the parts between the stars. There is one more part than stars.
#[derive(Debug)]
pub(super) struct Wildcard {
    pub(super) parts: Vec<String>,
}

impl Wildcard {
    /// The first part must be at the start and the last one at the end. Each other part is taken where it first occurs, so nothing is tried twice,
    /// and the time is linear.
    fn matches(&self, text: &str) -> bool {
        let [first, middle @ .., last] = &self.parts[..] else { return text == self.parts[0] };
        let rest = text.strip_prefix(first.as_str()).and_then(|rest| rest.strip_suffix(last.as_str()));
        let Some(mut rest) = rest else { return false };
        for part in middle {
            let Some(at) = rest.find(part.as_str()) else { return false };
            rest = &rest[at + part.len()..];
        }
        true
    }
}

/// Numbers from one to another.
#[derive(Debug, Clone, Copy)]
pub(super) struct Range {
    pub(super) from: Bound,
    pub(super) to: Bound,
}

/// One end of a range.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bound {
    pub(super) value: f64,
    pub(super) is_included: bool,
}

impl Range {
    pub(super) const ALL: Self = Self {
        from: Bound { value: f64::NEG_INFINITY, is_included: true },
        to: Bound { value: f64::INFINITY, is_included: true },
    };

    pub(super) fn is_empty(&self) -> bool {
        let is_one_number = self.from.value == self.to.value && self.from.is_included && self.to.is_included;
        self.from.value >= self.to.value && !is_one_number
    }

    fn contains(&self, number: f64) -> bool {
        let Self { from, to } = self;
        (number > from.value || from.is_included && number == from.value)
            && (number < to.value || to.is_included && number == to.value)
    }
}

/// The addresses that begin with the same bits.
#[derive(Debug)]
pub(super) struct Network {
    pub(super) address: IpAddr,
    pub(super) prefix_bits: u32,
}

impl Network {
    /// Reads `10.0.0.0/24` or `2001:db8::/32`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (address, prefix_bits) = text.split_once('/')?;
        let (address, prefix_bits): (IpAddr, u32) = (address.parse().ok()?, prefix_bits.parse().ok()?);
        (prefix_bits <= bits(address).1).then_some(Self { address, prefix_bits })
    }

    fn contains(&self, address: IpAddr) -> bool {
        let ((ours, len), (theirs, their_len)) = (bits(self.address), bits(address));
        len == their_len && (ours ^ theirs).checked_shr(len - self.prefix_bits).unwrap_or(0) == 0
    }
}

/// An address as a number, and how many bits it has.
fn bits(address: IpAddr) -> (u128, u32) {
    match address {
        IpAddr::V4(address) => (address.to_bits().into(), u32::BITS),
        IpAddr::V6(address) => (address.to_bits(), u128::BITS),
    }
}
