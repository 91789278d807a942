//! The operators of conditions, and the values that they compare with.

use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::dates;
use super::pattern::{Lookup, Pattern, Syntax};
use crate::Timestamp;

/// How two values with an order are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Order {
    fn holds<T: PartialOrd>(self, value: T, wanted: T) -> bool {
        match self {
            Self::Equal => value == wanted,
            Self::Less => value < wanted,
            Self::LessOrEqual => value <= wanted,
            Self::Greater => value > wanted,
            Self::GreaterOrEqual => value >= wanted,
        }
    }
}

/// What an operator compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Text {
        has_wildcards: bool,
        ignores_case: bool,
    },
    Arn,
    Number(Order),
    Date(Order),
    Bool,
    Bytes,
    Address,
    /// Whether the request lacks the key.
    Null,
}

/// An operator without its prefix and suffix. It is negated if it holds when the comparison does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Operator {
    pub(super) comparison: Comparison,
    pub(super) is_negated: bool,
}

impl Operator {
    pub(super) fn parse(name: &str) -> Option<Self> {
        use Comparison::{Address, Arn, Bool, Bytes, Date, Null, Number, Text};
        let (comparison, is_negated) = match name {
            "StringEquals" => (Text { has_wildcards: false, ignores_case: false }, false),
            "StringNotEquals" => (Text { has_wildcards: false, ignores_case: false }, true),
            "StringEqualsIgnoreCase" => (Text { has_wildcards: false, ignores_case: true }, false),
            "StringNotEqualsIgnoreCase" => (Text { has_wildcards: false, ignores_case: true }, true),
            "StringLike" => (Text { has_wildcards: true, ignores_case: false }, false),
            "StringNotLike" => (Text { has_wildcards: true, ignores_case: false }, true),
            "ArnEquals" | "ArnLike" => (Arn, false),
            "ArnNotEquals" | "ArnNotLike" => (Arn, true),
            "Bool" => (Bool, false),
            "BinaryEquals" => (Bytes, false),
            "IpAddress" => (Address, false),
            "NotIpAddress" => (Address, true),
            "Null" => (Null, false),
            _ => {
                let ordered = |kind: fn(Order) -> Comparison, order| {
                    Some(match order {
                        "Equals" => (kind(Order::Equal), false),
                        "NotEquals" => (kind(Order::Equal), true),
                        "LessThan" => (kind(Order::Less), false),
                        "LessThanEquals" => (kind(Order::LessOrEqual), false),
                        "GreaterThan" => (kind(Order::Greater), false),
                        "GreaterThanEquals" => (kind(Order::GreaterOrEqual), false),
                        _ => return None,
                    })
                };
                match (name.strip_prefix("Numeric"), name.strip_prefix("Date")) {
                    (Some(order), _) => ordered(Number, order)?,
                    (_, Some(order)) => ordered(Date, order)?,
                    _ => return None,
                }
            }
        };
        Some(Self { comparison, is_negated })
    }
}

/// A value that a policy compares with.
#[derive(Debug)]
pub(super) enum Wanted {
    Text(Pattern),
    Arn(Vec<Pattern>),
    Number(Order, f64),
    Date(Order, Timestamp),
    Bool(bool),
    Bytes(Vec<u8>),
    Network(Network),
}

impl Wanted {
    /// Parses a value. `has_variables` is that of the policy's version; only texts and ARNs may have them.
    pub(super) fn parse(comparison: Comparison, text: &str, has_variables: bool) -> Result<Self, String> {
        let parsed = match comparison {
            Comparison::Text { has_wildcards, ignores_case } => {
                let syntax = Syntax { has_wildcards, has_variables, ignores_case };
                return Pattern::parse(text, syntax).map(Self::Text);
            }
            Comparison::Arn => {
                let syntax = Syntax { has_wildcards: true, has_variables, ignores_case: false };
                return Pattern::parse(text, syntax).map(|pattern| Self::Arn(pattern.into_arn()));
            }
            Comparison::Number(order) => parse_number(text).map(|number| Self::Number(order, number)),
            Comparison::Date(order) => dates::parse_policy(text).map(|date| Self::Date(order, date)),
            Comparison::Bool | Comparison::Null => parse_bool(text).map(Self::Bool),
            Comparison::Bytes => STANDARD.decode(text).ok().map(Self::Bytes),
            Comparison::Address => Network::parse(text).map(Self::Network),
        };
        let what = match comparison {
            Comparison::Number(_) => "a number",
            Comparison::Date(_) => "a date in ISO 8601 or seconds since 1970",
            Comparison::Bool | Comparison::Null => "true or false",
            Comparison::Bytes => "base64",
            _ => "an IP address or a network such as 203.0.113.0/24",
        };
        parsed.ok_or_else(|| format!("{text:?} is not {what}"))
    }

    /// Returns whether a value of the request is the wanted one. A value that cannot be parsed for the comparison is not.
    pub(super) fn is_match(&self, value: &str, lookup: Lookup<'_>) -> bool {
        match self {
            Self::Text(pattern) => pattern.is_match(value, lookup),
            Self::Arn(wanted) => match &wanted[..] {
                [any] if any.is_any() => true,
                _ => {
                    let parts: Vec<_> = value.splitn(6, ':').collect();
                    parts.len() == 6
                        && wanted.len() == 6
                        && wanted.iter().zip(parts).all(|(wanted, part)| wanted.is_match(part, lookup))
                }
            },
            Self::Number(order, wanted) => {
                parse_number(value).is_some_and(|value| order.holds(value, *wanted))
            }
            Self::Date(order, wanted) => {
                dates::parse_policy(value).is_some_and(|value| order.holds(value, *wanted))
            }
            Self::Bool(wanted) => parse_bool(value) == Some(*wanted),
            Self::Bytes(wanted) => value.as_bytes() == wanted,
            Self::Network(network) => value.parse().is_ok_and(|address| network.contains(address)),
        }
    }
}

fn parse_bool(text: &str) -> Option<bool> {
    text.to_ascii_lowercase().parse().ok()
}

fn parse_number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

/// All addresses that begin with the same bits.
#[derive(Debug)]
pub(super) struct Network {
    address: IpAddr,
    bits: u32,
}

impl Network {
    fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let bits_max = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            Some(bits) if bits.len() <= 3 && bits.bytes().all(|byte| byte.is_ascii_digit()) => {
                bits.parse().ok()?
            }
            Some(_) => return None,
            None => bits_max,
        };
        (bits <= bits_max).then_some(Self { address, bits })
    }

    fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                (own.to_bits() ^ other.to_bits()).leading_zeros() >= self.bits
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                (own.to_bits() ^ other.to_bits()).leading_zeros() >= self.bits
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_match(operator: &str, wanted: &str, value: &str) -> bool {
        let comparison = Operator::parse(operator).unwrap().comparison;
        Wanted::parse(comparison, wanted, true).unwrap().is_match(value, &|_| None)
    }

    #[test]
    fn every_operator_compares_as_it_says() {
        for (operator, wanted, value, expected) in [
            ("StringEquals", "a*", "a*", true),
            ("StringEquals", "a*", "ab", false),
            ("StringEquals", "a", "A", false),
            ("StringEqualsIgnoreCase", "Aé", "aÉ", true),
            ("StringEqualsIgnoreCase", "a*", "ab", false),
            ("StringLike", "a*", "ab", true),
            ("StringLike", "A*", "ab", false),
            ("NumericEquals", "10", "10.0", true),
            ("NumericEquals", "10", "9", false),
            ("NumericLessThan", "10", "9", true),
            ("NumericLessThan", "10", "10", false),
            ("NumericLessThanEquals", "10", "10", true),
            ("NumericLessThanEquals", "10", "11", false),
            ("NumericGreaterThan", "-1", "0", true),
            ("NumericGreaterThan", "0", "0", false),
            ("NumericGreaterThanEquals", "0", "0", true),
            ("NumericGreaterThanEquals", "0", "-0.1", false),
            ("NumericGreaterThan", "0", "many", false),
            ("NumericLessThan", "0", "many", false),
            ("DateEquals", "2026-01-01", "1767225600", true),
            ("DateLessThan", "2026-01-01T00:00:00Z", "2025-12-31T23:59:59Z", true),
            ("DateLessThan", "2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z", false),
            ("DateLessThanEquals", "2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z", true),
            ("DateGreaterThan", "2026-01-01", "2026-01-01T00:00:01Z", true),
            ("DateGreaterThanEquals", "2026-01-01", "2025-12-31T23:59:59Z", false),
            ("DateLessThan", "2026", "soon", false),
            ("Bool", "true", "true", true),
            ("Bool", "TRUE", "false", false),
            ("Bool", "false", "alice", false),
            ("BinaryEquals", "YWxpY2U=", "alice", true),
            ("BinaryEquals", "YWxpY2U=", "YWxpY2U=", false),
            ("IpAddress", "203.0.113.0/24", "203.0.113.255", true),
            ("IpAddress", "203.0.113.77/24", "203.0.113.255", true),
            ("IpAddress", "203.0.113.0/24", "203.0.114.0", false),
            ("IpAddress", "203.0.113.7", "203.0.113.7", true),
            ("IpAddress", "203.0.113.7", "203.0.113.6", false),
            ("IpAddress", "0.0.0.0/0", "255.255.255.255", true),
            ("IpAddress", "0.0.0.0/0", "::1", false),
            ("IpAddress", "2001:db8::/33", "2001:db8:7fff::1", true),
            ("IpAddress", "2001:db8::/33", "2001:db8:8000::1", false),
            ("IpAddress", "::/0", "2001:db8::1", true),
            ("IpAddress", "10.0.0.0/8", "alice", false),
            ("ArnLike", "arn:aws:iam::*:user/a*", "arn:aws:iam::1:user/ab", true),
            ("ArnLike", "arn:aws:*:user/a*", "arn:aws:iam::1:user/ab", false),
            ("ArnLike", "arn:*:user/ab", "arn:aws:iam::1:user/ab", false),
            ("ArnEquals", "arn:aws:iam::1:user/?b", "arn:aws:iam::1:user/ab", true),
            ("ArnEquals", "arn:aws:iam::1:*", "arn:aws:iam::1:a:b:c", true),
            ("ArnEquals", "arn:aws:iam::?:user/ab", "arn:aws:iam:::user/ab", false),
            ("ArnLike", "*", "arn:aws:iam::1:user/ab", true),
        ] {
            assert_eq!(is_match(operator, wanted, value), expected, "{operator} {wanted} {value}");
        }
    }

    #[test]
    fn operators_are_known_by_their_exact_names() {
        let negated = |name| Operator::parse(name).map(|operator| operator.is_negated);
        for name in ["StringNotEquals", "StringNotEqualsIgnoreCase", "StringNotLike", "NumericNotEquals"] {
            assert_eq!(negated(name), Some(true), "{name}");
        }
        for name in ["DateNotEquals", "ArnNotEquals", "ArnNotLike", "NotIpAddress"] {
            assert_eq!(negated(name), Some(true), "{name}");
        }
        for name in ["stringequals", "StringLessThan", "Numeric", "NumericLike", "BoolEquals", "NotNull", ""]
        {
            assert_eq!(Operator::parse(name), None, "{name}");
        }
    }

    #[test]
    fn values_that_cannot_be_compared_are_refused() {
        for (operator, wrong) in [
            ("NumericEquals", "ten"),
            ("NumericEquals", "inf"),
            ("NumericEquals", "${aws:EpochTime}"),
            ("DateEquals", "tomorrow"),
            ("Bool", "yes"),
            ("Null", ""),
            ("BinaryEquals", "a"),
            ("IpAddress", "203.0.113.0/33"),
            ("IpAddress", "::/129"),
            ("IpAddress", "203.0.113.0/+8"),
            ("IpAddress", "203.0.113"),
            ("StringLike", "${"),
        ] {
            let comparison = Operator::parse(operator).unwrap().comparison;
            let error = Wanted::parse(comparison, wrong, true).unwrap_err();
            assert!(error.contains(wrong), "{error}");
        }
    }
}
