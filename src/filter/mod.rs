//! Filters: EventBridge's event patterns, as Lambda applies them to the records of a stream.

mod condition;
mod field;
mod json;
mod machine;
mod operator;
mod pattern;
mod skip;

use std::fmt;
use std::sync::Arc;

use field::Parts;
#[cfg(any(feature = "parquet", feature = "sql"))]
pub(crate) use json::{Malformed as MalformedJson, decode_json_text};
use machine::{Machine, RULES_PER_MACHINE};
#[cfg(any(feature = "parquet", feature = "sql"))]
pub(crate) use skip::Skip as JsonSkip;
#[cfg(feature = "delivery")]
pub(crate) use skip::{Written, check_json, for_each_member};

use crate::aggregate::UserRecord;
use crate::{Error, Record, Result};

/// Selects records by one or more **event patterns**, in the language of Amazon EventBridge that Lambda's event source mappings use.
///
/// A pattern is a JSON object. It names fields of a record, with a list of values for each. A record matches if each named field has one of
/// its values. A filter of [several patterns](Self::any_of) accepts a record that matches any of them. Compile a filter once, and use it
/// for any number of records, from any number of threads.
///
/// ```
/// use streamlog::{Filter, Position, Stream};
///
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path())?;
/// stream.put("user-17", r#"{"page": "/checkout", "total": 250}"#)?;
/// stream.put("user-4", r#"{"page": "/checkout", "total": 12.5}"#)?;
/// stream.put("user-4", "no JSON")?;
///
/// let large = Filter::new(r#"{"data": {"page": ["/checkout"], "total": [{"numeric": [">=", 100]}]}}"#)?;
/// let by_key = Filter::new(r#"{"partitionKey": [{"prefix": "user-4"}]}"#)?;
///
/// let batch = stream.iterator(stream.shards()[0].id, Position::TrimHorizon)?.next_batch(10)?;
/// assert_eq!(batch.iter().filter(|record| large.matches(record)).count(), 1);
/// assert_eq!(batch.iter().filter(|record| by_key.matches(record)).count(), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Fields
///
/// | field | value |
/// |---|---|
/// | `data` | with an object: the data, read as JSON; with a list: the data as one text |
/// | `partitionKey` | a string; bytes that are not UTF-8 count as U+FFFD |
/// | `sequenceNumber` | a string of digits; a user record has that of the record that holds it |
/// | `approximateArrivalTimestamp` | a number: seconds since 1970 with three decimals |
/// | `kinesisSchemaVersion`, `eventSource`, `eventName`, `eventVersion` | as Lambda writes them: `"1.0"`, `"aws:kinesis"`, `"aws:kinesis:record"`, `"1.0"` |
///
/// A pattern that names any other field is refused.
///
/// - If a pattern looks into `data` with an object, data that is not JSON, or is nested deeper than 127 levels, never matches. This also
///   holds if it looks into `data` in only one of several alternatives.
/// - If it has a list for `data`, the list is compared with the whole text. Data that is an object or a list in JSON then does not match,
///   and neither does data that is not UTF-8.
/// - If a pattern does not name `data`, the data is ignored.
/// - If an object in the data has a name twice, the last one counts.
///
/// # Values
///
/// | in the list | the value of the field |
/// |---|---|
/// | `"a"`, `""`, `true`, `null` | is the same |
/// | `300` | is a number that is written in the same way: neither `300.0` nor `3e2` |
/// | `{"prefix": "a"}`, `{"suffix": "a"}` | is a string that begins or ends so |
/// | `{"equals-ignore-case": "a"}`; also within `prefix` and `suffix` | is the same in upper or lower case |
/// | `{"wildcard": "a*b"}` | is a string in which each `*` stands for any characters; `\*` and `\\` are a star and a backslash |
/// | `{"numeric": [">", 0, "<=", 5]}`; `=`, `<`, `<=`, `>`, `>=` | is a number in this range, compared as a 64-bit float |
/// | `{"cidr": "10.0.0.0/24"}` | is a string with an IPv4 or IPv6 address of this network |
/// | `{"anything-but": …}` with a string, a number, a list of either, or one of the first four operators with a string or a list | is there, of any type, and is none of these; numbers are compared as `numeric` does |
/// | `{"exists": true}`, `{"exists": false}` | is there, or is not. An object and an empty list are no value |
///
/// **Lists in the data.** A list has the values of all its elements. If the pattern has an object where the data has a list of objects, one of
/// these must match on its own. If that object in the pattern only requires fields not to exist, they must not exist in any of them.
///
/// **Alternatives.** `"$or": [{…}, {…}]` in an object of the pattern requires that one of the alternatives matches. The alternatives of a pattern
/// may combine to up to 1,000 rules.
///
/// # Bounds
///
/// A pattern has at most [`PATTERN_CHARS_MAX`](Self::PATTERN_CHARS_MAX) characters, and a filter at most [`PATTERNS_MAX`](Self::PATTERNS_MAX)
/// patterns. Matching takes time in proportion to the length of the data, and memory only for the names in the pattern and for strings that
/// have escapes. Untrusted patterns and data are safe. A pattern of more than 64 rules reads the data once for every 64.
#[derive(Clone)]
pub struct Filter {
    patterns: Arc<[Box<str>]>,
    machines: Arc<[Machine]>,
}

impl Filter {
    /// The longest pattern in characters, as in Lambda.
    pub const PATTERN_CHARS_MAX: usize = 4_096;
    /// The most patterns of a filter, as in Lambda, which allows 5 by default.
    pub const PATTERNS_MAX: usize = 10;

    /// Compiles one pattern.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] with what is wrong and at which field: the pattern is not JSON, is too long, names a field that records do not
    /// have, or contains something that can never match, such as an empty list.
    ///
    /// ```
    /// # use streamlog::Filter;
    /// let error = Filter::new(r#"{"data": {"price": [{"numeric": [">", 5, "<", 3]}]}}"#).unwrap_err();
    /// assert_eq!(
    ///     error.to_string(),
    ///     "the pattern of a filter is wrong: `data.price`: no number is in this `numeric` range: check its ends"
    /// );
    /// ```
    pub fn new(pattern: &str) -> Result<Self> {
        Self::any_of([pattern])
    }

    /// Compiles several patterns. A record matches if any of them matches. The data is read once for all of them.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new), and if there is no pattern or there are more than [`PATTERNS_MAX`](Self::PATTERNS_MAX).
    ///
    /// ```
    /// # use streamlog::Filter;
    /// let filter = Filter::any_of([
    ///     r#"{"partitionKey": ["user-17"]}"#,
    ///     r#"{"data": {"status": [{"anything-but": ["ok", "ignored"]}]}}"#,
    /// ])?;
    /// assert_eq!(filter.patterns().count(), 2);
    /// # Ok::<(), streamlog::Error>(())
    /// ```
    pub fn any_of<P: AsRef<str>>(patterns: impl IntoIterator<Item = P>) -> Result<Self> {
        let (mut texts, mut rules) = (vec![], vec![]);
        for pattern in patterns {
            let text = pattern.as_ref();
            if texts.len() == Self::PATTERNS_MAX {
                let most = Self::PATTERNS_MAX;
                return Err(Error::InvalidArgument(format!("a filter has at most {most} patterns").into()));
            }
            let wrong = |wrong: pattern::Wrong| {
                Error::InvalidArgument(format!("the pattern of a filter is wrong: {}", wrong.0).into())
            };
            let read = pattern::read(text).map_err(wrong)?;
            rules.extend(read.rules.into_iter().map(|rule| (rule, read.data)));
            texts.push(text.into());
        }
        if texts.is_empty() {
            return Err(Error::InvalidArgument(
                "a filter without patterns takes nothing: give it one".into(),
            ));
        }
        let machines = rules.chunks(RULES_PER_MACHINE).map(Machine::new).collect();
        Ok(Self { patterns: texts.into(), machines })
    }

    /// Returns the patterns as they were given.
    pub fn patterns(&self) -> impl ExactSizeIterator<Item = &str> {
        self.patterns.iter().map(|pattern| &**pattern)
    }

    /// Returns whether a record matches one of the patterns.
    pub fn matches(&self, record: &Record<'_>) -> bool {
        self.matches_parts(&Parts {
            partition_key: record.partition_key(),
            data: record.data(),
            sequence: record.sequence(),
            timestamp: record.timestamp(),
        })
    }

    /// Returns whether a user record of an [aggregate](crate::aggregate) matches one of the patterns, by its own key and data.
    pub fn matches_user_record(&self, record: &UserRecord<'_>) -> bool {
        self.matches_parts(&Parts {
            partition_key: record.partition_key(),
            data: record.data(),
            sequence: record.sequence(),
            timestamp: record.timestamp(),
        })
    }

    fn matches_parts(&self, parts: &Parts<'_>) -> bool {
        self.machines.iter().any(|machine| machine.matches(parts))
    }
}

/// Shows the patterns.
impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Filter").field(&self.patterns).finish()
    }
}
