//! Prefixes of object names: literal text with expressions, as Amazon Data Firehose has them.

use std::fmt::Write as _;
use std::hash::{BuildHasher, Hasher, RandomState};

use jiff::ZonedDateTime;
use serde::{Deserialize, Serialize};

use super::plan::utc;
use super::time_pattern::TimePattern;
use crate::Timestamp;

/// The longest prefix, as it is written and as it is evaluated, in bytes.
const WRITTEN_MAX: usize = 1_024;
const EVALUATED_MAX: usize = 512;
/// Any time, for which prefixes are evaluated to check them.
const SAMPLE: Timestamp = Timestamp::from_millis(1_000_000_000_000);
/// A prefix without a time gets this one.
const TIME_DEFAULT: &str = "yyyy/MM/dd/HH/";

/// A prefix that was parsed.
#[derive(Debug, Clone)]
pub(super) struct Prefix {
    text: String,
    pieces: Vec<Piece>,
    /// Its evaluated length without the values of keys.
    fixed_bytes: usize,
}

#[derive(Debug, Clone)]
enum Piece {
    Literal(String),
    Time(TimePattern),
    RandomString,
    ErrorOutputType,
    /// The index of a partition key.
    Key(usize),
}

/// What the expressions of a prefix stand for.
pub(super) struct Values<'a> {
    /// When the oldest record of the object arrived.
    pub(super) oldest: &'a ZonedDateTime,
    /// The values of the partition keys.
    pub(super) keys: &'a [String],
    pub(super) error_output_type: &'a str,
    /// The seed of random strings, if they must be the same each time.
    pub(super) seed: Option<u64>,
}

/// Which expressions a prefix may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use<'a> {
    /// For the names of the records' objects, with the names of the partition keys and the source of each value.
    Records(&'a [(KeySource, String)]),
    Errors,
}

/// Where the value of a partition key comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum KeySource {
    Query,
    Lambda,
}

impl Prefix {
    /// Parses a prefix. The error is a sentence for the caller.
    pub(super) fn parse(text: &str, of: Use<'_>) -> Result<Self, String> {
        if text.len() > WRITTEN_MAX {
            return Err(format!("a prefix of {} bytes: it may have {WRITTEN_MAX}", text.len()));
        }
        let mut pieces = vec![];
        let mut rest = text;
        while let Some(at) = rest.find("!{") {
            push_literal(&mut pieces, &rest[..at]);
            let inside = &rest[at + 2..];
            let end =
                inside.find('}').ok_or_else(|| format!("the expression {:?} has no end", &rest[at..]))?;
            pieces.push(piece(&inside[..end], of)?);
            rest = &inside[end + 1..];
        }
        push_literal(&mut pieces, rest);
        check_path(&pieces)?;
        let mut prefix = Self { text: text.to_owned(), pieces, fixed_bytes: 0 };
        if !prefix.has(|piece| matches!(piece, Piece::Time(_))) {
            let is_plain = !prefix.has_expressions();
            // Errors of different kinds do not mix.
            if of == Use::Errors && is_plain {
                prefix.pieces.push(Piece::ErrorOutputType);
                push_literal(&mut prefix.pieces, "/");
            }
            prefix.pieces.push(Piece::Time(TimePattern::parse(TIME_DEFAULT)?));
        }
        prefix.fixed_bytes = sample(&prefix.pieces, "").len();
        if prefix.fixed_bytes > EVALUATED_MAX {
            let bytes = prefix.fixed_bytes;
            return Err(format!("a prefix that becomes {bytes} bytes long: it may become {EVALUATED_MAX}"));
        }
        match of {
            Use::Errors if !prefix.has(|piece| matches!(piece, Piece::ErrorOutputType)) => {
                Err("an error prefix with expressions needs !{firehose:error-output-type}".into())
            }
            Use::Records(keys) => {
                let unused = (0..keys.len())
                    .find(|&key| !prefix.has(|piece| matches!(piece, Piece::Key(at) if *at == key)));
                match unused {
                    Some(key) => Err(format!("the prefix does not name the partition key {:?}", keys[key].1)),
                    None => Ok(prefix),
                }
            }
            Use::Errors => Ok(prefix),
        }
    }

    /// Returns whether there is an expression in the text.
    pub(super) fn has_expressions(&self) -> bool {
        self.text.contains("!{")
    }

    fn has(&self, is: impl Fn(&Piece) -> bool) -> bool {
        self.pieces.iter().any(is)
    }

    /// Returns whether the prefix is short enough with these values of the partition keys.
    pub(super) fn has_room_for(&self, keys: &[String]) -> bool {
        let bytes_of = |piece: &Piece| match piece {
            Piece::Key(at) => escaped(&keys[*at]).len(),
            _ => 0,
        };
        self.fixed_bytes + self.pieces.iter().map(bytes_of).sum::<usize>() <= EVALUATED_MAX
    }

    /// Returns the prefix of an object.
    pub(super) fn evaluate(&self, values: &Values<'_>) -> String {
        let mut evaluated = String::new();
        let mut seed = values.seed;
        for piece in &self.pieces {
            match piece {
                Piece::Literal(text) => evaluated.push_str(text),
                Piece::Time(pattern) => pattern.write(values.oldest, &mut evaluated),
                Piece::RandomString => {
                    seed = seed.map(|seed| seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29));
                    evaluated.push_str(&random_string(seed.unwrap_or_else(random_number)));
                }
                Piece::ErrorOutputType => evaluated.push_str(values.error_output_type),
                Piece::Key(at) => evaluated.push_str(&escaped(&values.keys[*at])),
            }
        }
        evaluated
    }
}

fn push_literal(pieces: &mut Vec<Piece>, text: &str) {
    match pieces.last_mut() {
        _ if text.is_empty() => {}
        Some(Piece::Literal(before)) => before.push_str(text),
        _ => pieces.push(Piece::Literal(text.to_owned())),
    }
}

fn piece(expression: &str, of: Use<'_>) -> Result<Piece, String> {
    let (namespace, value) = expression
        .split_once(':')
        .ok_or_else(|| format!("!{{{expression}}} is no expression: it has no namespace and colon"))?;
    let source = match (namespace, value) {
        ("timestamp", pattern) => return TimePattern::parse(pattern).map(Piece::Time),
        ("firehose", "random-string") => return Ok(Piece::RandomString),
        ("firehose", "error-output-type") if of == Use::Errors => return Ok(Piece::ErrorOutputType),
        ("firehose", "error-output-type") => {
            return Err("!{firehose:error-output-type} may only stand in the error prefix".into());
        }
        ("partitionKeyFromQuery", _) => KeySource::Query,
        ("partitionKeyFromLambda", _) => KeySource::Lambda,
        _ => return Err(format!("!{{{expression}}} is unknown")),
    };
    let Use::Records(keys) = of else {
        return Err(format!("!{{{expression}}} may not stand in the error prefix"));
    };
    let at = keys.iter().position(|(of, name)| *of == source && name == value);
    at.map(Piece::Key).ok_or_else(|| format!("!{{{expression}}} names no partition key of the delivery"))
}

/// Refuses a prefix that would lead names out of their directory.
pub(super) fn check_text(text: &str) -> Result<(), String> {
    check_path(&[Piece::Literal(text.to_owned())])
}

/// Refuses text that would lead names out of their directory.
fn check_path(pieces: &[Piece]) -> Result<(), String> {
    let path = sample(pieces, "x");
    if path.starts_with('/') {
        return Err("a prefix that begins with a slash: names are relative".into());
    }
    if path.contains(|char: char| char.is_control() || char == '\\') {
        return Err("a prefix with a control character or a backslash".into());
    }
    let is_wrong = |segment: &str| matches!(segment, "." | "..");
    // The last segment continues with the object's name.
    let mut segments: Vec<_> = path.split('/').collect();
    segments.pop();
    if segments.into_iter().any(is_wrong) {
        return Err("a prefix with a segment `.` or `..`".into());
    }
    Ok(())
}

/// Returns the path of a prefix at some time, with this text for the values of keys.
fn sample(pieces: &[Piece], key: &str) -> String {
    let mut path = String::new();
    for piece in pieces {
        match piece {
            Piece::Literal(text) => path.push_str(text),
            // It may have slashes and dots in quotation marks.
            Piece::Time(pattern) => pattern.write(&utc(SAMPLE), &mut path),
            Piece::RandomString => path.push_str(&"x".repeat(RANDOM_LEN)),
            Piece::ErrorOutputType => path.push_str("processing-failed"),
            Piece::Key(_) => path.push_str(key),
        }
    }
    path
}

/// Escapes the value of a partition key, so that it always stays within one segment of the name: characters that would end the segment, and the
/// percent sign, become `%` and two digits, as in a URL. So do the dots of a value that has only dots.
fn escaped(value: &str) -> String {
    let mut to = String::with_capacity(value.len());
    let is_dots = value.chars().all(|char| char == '.');
    for char in value.chars() {
        if matches!(char, '/' | '\\' | '%') || char.is_control() || is_dots {
            let mut bytes = [0; 4];
            for byte in char.encode_utf8(&mut bytes).bytes() {
                let _ = write!(to, "%{byte:02X}");
            }
        } else {
            to.push(char);
        }
    }
    to
}

/// The characters of a random string.
const RANDOM_CHARS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const RANDOM_LEN: usize = 11;

/// Returns 11 characters that differ from number to number. They are not secret.
fn random_string(mut number: u64) -> String {
    let mut random = String::new();
    for _ in 0..RANDOM_LEN {
        random.push(RANDOM_CHARS[(number % RANDOM_CHARS.len() as u64) as usize].into());
        number /= RANDOM_CHARS.len() as u64;
    }
    random
}

/// Returns a number that differs from call to call. It is not secret.
pub(super) fn random_number() -> u64 {
    RandomState::new().build_hasher().finish()
}
