//! The settings that decide how records become objects.

use jiff::tz::TimeZone;
use jiff::{Timestamp as Moment, ZonedDateTime};
use serde::{Deserialize, Serialize};

use super::compress::CompressionFormat;
use super::format::Format;
use super::manifest::Manifests;
use super::name::Naming;
use super::prefix::{KeySource, Prefix, Use};
use super::query::Query;
use super::sub_records::SubRecords;
use crate::Timestamp;

/// The settings that decide which records an object holds, and how it is written.
///
/// As long as objects are decided and not yet delivered, this is in the checkpoint of their shard. After a crash they are written again
/// under the settings under which they were decided, even if the delivery has others by then.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Plan {
    /// The name of the delivery.
    pub(super) delivery: String,
    /// The version in Firehose's names of objects: it counts the changes of the settings.
    #[serde(default = "first_version")]
    pub(super) version: u64,
    pub(super) format: Format,
    pub(super) compression: CompressionFormat,
    pub(super) naming: Naming,
    pub(super) extension: Option<String>,
    pub(super) prefix: String,
    pub(super) error_prefix: String,
    pub(super) backup_prefix: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) manifests: Option<Manifests>,
    pub(super) time_zone: String,
    /// Where the values of the partition keys come from, and their names.
    pub(super) keys: Vec<(KeySource, String)>,
    /// The queries of those keys that come from one, in their order.
    pub(super) queries: Vec<String>,
    pub(super) decompresses: bool,
    pub(super) deaggregates: bool,
    /// Whether the log events of CloudWatch are extracted.
    pub(super) extracts_messages: bool,
    #[serde(default)]
    pub(super) sub_records: Option<SubRecords>,
}

impl Plan {
    /// Returns whether each record is a row as it is, and all of them are of one part.
    pub(super) fn takes_whole_records(&self) -> bool {
        let has_steps = self.decompresses || self.deaggregates || self.extracts_messages;
        !has_steps && self.sub_records.is_none() && self.keys.is_empty()
    }
}

fn first_version() -> u64 {
    1
}

/// A plan that was checked.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) plan: Plan,
    pub(super) prefix: Prefix,
    pub(super) error_prefix: Prefix,
    pub(super) backup_prefix: Option<Prefix>,
    pub(super) queries: Vec<Query>,
    time_zone: TimeZone,
}

impl Rules {
    /// Checks a plan. The error is a sentence for the caller.
    pub(super) fn new(plan: Plan) -> Result<Self, String> {
        let time_zone = match plan.time_zone.as_str() {
            "UTC" => TimeZone::UTC,
            name => {
                TimeZone::get(name).map_err(|error| format!("the time zone {name:?} is unknown: {error}"))?
            }
        };
        plan.format.check(plan.compression)?;
        plan.sub_records.iter().try_for_each(SubRecords::check)?;
        plan.extension.as_deref().map_or(Ok(()), check_extension)?;
        plan.manifests.as_ref().map_or(Ok(()), Manifests::check)?;
        let prefix = Prefix::parse(&plan.prefix, Use::Records(&plan.keys))?;
        let error_prefix = Prefix::parse(&plan.error_prefix, Use::Errors)?;
        if prefix.has_expressions() && plan.error_prefix.is_empty() {
            return Err("a prefix with expressions needs an error prefix too".into());
        }
        let backup = plan.backup_prefix.as_deref();
        let backup_prefix = backup.map(|text| Prefix::parse(text, Use::Records(&[]))).transpose()?;
        let queries = plan.queries.iter().map(|query| Query::parse(query)).collect::<Result<_, _>>()?;
        Ok(Self { prefix, error_prefix, backup_prefix, queries, time_zone, plan })
    }

    /// Returns a time in the zone of the plan.
    pub(super) fn zoned(&self, time: Timestamp) -> ZonedDateTime {
        ZonedDateTime::new(moment(time), self.time_zone.clone())
    }
}

/// Firehose's rule for extensions, except that capital letters are allowed, too.
fn check_extension(extension: &str) -> Result<(), String> {
    let is_valid = |byte: u8| byte.is_ascii_alphanumeric() || b"!-_.*'()".contains(&byte);
    let is_empty = extension.is_empty();
    if is_empty || extension.starts_with('.') && extension.bytes().all(is_valid) && extension.len() <= 128 {
        return Ok(());
    }
    Err(format!("{extension:?} is no extension: a dot and up to 127 letters, digits and !-_.*'()"))
}

pub(super) fn utc(time: Timestamp) -> ZonedDateTime {
    ZonedDateTime::new(moment(time), TimeZone::UTC)
}

fn moment(time: Timestamp) -> Moment {
    let micros = i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
    // A clock that shows the year 10,000 is wrong anyway.
    Moment::from_microsecond(micros).unwrap_or(Moment::MAX)
}
