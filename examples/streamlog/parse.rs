//! Parsing of command-line values: ages, bytes, positions, times, filters.

use std::time::{Duration, SystemTime};

use streamlog::{Position, SequenceNumber, ShardFilter, Timestamp};

/// How long records are kept; `None` means forever.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Age(pub(crate) Option<Duration>);

/// The size limit beyond which records are dropped; `None` means no limit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BytesMax(pub(crate) Option<u64>);

pub(crate) fn parse_age(text: &str) -> Result<Age, String> {
    if text == "forever" {
        return Ok(Age(None));
    }
    let age = humantime::parse_duration(text);
    age.map(|age| Age(Some(age))).map_err(|error| format!("{error}; or \"forever\""))
}

pub(crate) fn parse_bytes_max(text: &str) -> Result<BytesMax, String> {
    if text == "none" {
        return Ok(BytesMax(None));
    }
    parse_bytes(text).map(|bytes| BytesMax(Some(bytes))).map_err(|error| format!("{error}; or \"none\""))
}

/// Parses a number of bytes with a suffix: K, M, G, T are powers of 1,024, optionally followed by `iB` or `B`.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim().to_ascii_lowercase().trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return Err(format!("{unit:?} is not a unit of bytes: use K, M, G or T")),
    };
    let number: u64 = number.parse().map_err(|_| "expected a number of bytes, such as 64M".to_owned())?;
    number.checked_mul(1 << shift).ok_or_else(|| "the number of bytes is too large".to_owned())
}

/// Parses permissions as `chmod` does.
pub(crate) fn parse_mode(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text, 8).map_err(|error| error.to_string())
}

pub(crate) fn parse_position(text: &str) -> Result<Position, String> {
    let number = |digits: &str| digits.parse().map(SequenceNumber::new).map_err(|error| error.to_string());
    match text.split_once(':') {
        _ if text == "horizon" => Ok(Position::TrimHorizon),
        _ if text == "latest" => Ok(Position::Latest),
        Some(("after", digits)) => number(digits).map(Position::After),
        _ if text.bytes().all(|byte| byte.is_ascii_digit()) => number(text).map(Position::At),
        _ => parse_time(text)
            .map(Position::AtTimestamp)
            .map_err(|error| format!("{error}; or horizon, latest, NUMBER, after:NUMBER")),
    }
}

/// Parses a position that applies to all shards.
pub(crate) fn parse_beginning(text: &str) -> Result<Position, String> {
    match text {
        "horizon" | "trim-horizon" => Ok(Position::TrimHorizon),
        "latest" => Ok(Position::Latest),
        _ => parse_time(text)
            .map(Position::AtTimestamp)
            .map_err(|error| format!("{error}; or horizon, latest")),
    }
}

pub(crate) fn parse_filter(text: &str) -> Result<ShardFilter, String> {
    match text.split_once(':') {
        _ if text == "all" => Ok(ShardFilter::FromTrimHorizon),
        _ if text == "horizon" => Ok(ShardFilter::AtTrimHorizon),
        _ if text == "latest" => Ok(ShardFilter::AtLatest),
        Some(("at", time)) => parse_time(time).map(ShardFilter::AtTimestamp),
        Some(("from", time)) => parse_time(time).map(ShardFilter::FromTimestamp),
        Some(("after", shard)) => {
            shard.parse().map(ShardFilter::AfterShard).map_err(|error: streamlog::Error| error.to_string())
        }
        _ => Err("expected all, horizon, latest, at:TIME, from:TIME or after:SHARD".into()),
    }
}

/// Parses seconds since 1970, and drops decimals beyond microseconds. A floating-point number would not hold all microseconds.
fn parse_seconds(text: &str) -> Option<Timestamp> {
    let (seconds, decimals) = text.split_once('.').unwrap_or((text, ""));
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let micros: u64 = format!("{decimals:0<6}").get(..6).filter(|_| is_number(decimals))?.parse().ok()?;
    Some(Timestamp::from_micros(seconds.parse::<u64>().ok()?.checked_mul(1_000_000)?.checked_add(micros)?))
}

pub(crate) fn parse_time(text: &str) -> Result<Timestamp, String> {
    if let Some(duration) = text.strip_prefix("ago:") {
        let ago = humantime::parse_duration(duration).map_err(|error| error.to_string())?;
        return Ok(Timestamp::from(SystemTime::now()) - ago);
    }
    if let Some(seconds) = text.strip_prefix('@') {
        return parse_seconds(seconds).ok_or_else(|| format!("{seconds:?} is not a number of seconds"));
    }
    humantime::parse_rfc3339_weak(text)
        .map(Timestamp::from)
        .map_err(|error| format!("{error}; a time is YYYY-MM-DDTHH:MM:SSZ, @SECONDS or ago:DURATION"))
}
