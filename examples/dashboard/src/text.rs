//! Formats numbers for people.

use std::time::Duration;

use streamlog::{RecoveryReport, Retention, ShardId};

/// `1,234,567`
pub fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1.2 MiB`
pub fn bytes(bytes: u64) -> String {
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1_000.0 && unit < 4 {
        (value, unit) = (value / 1_024.0, unit + 1);
    }
    let unit_name = ["B", "KiB", "MiB", "GiB", "TiB"][unit];
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {unit_name}") }
}

/// `97 ns`, `35 µs`, `1.2 ms`, `3.4 s`, `5 min`
pub fn duration(duration: Duration) -> String {
    match duration.as_micros() {
        0 => format!("{} ns", duration.as_nanos()),
        micros @ 1..1_000 => format!("{micros} µs"),
        micros @ 1_000..1_000_000 => format!("{:.1} ms", micros as f64 / 1e3),
        micros @ 1_000_000..120_000_000 => format!("{:.1} s", micros as f64 / 1e6),
        micros => format!("{} min", micros / 60_000_000),
    }
}

/// `12,345` or `0.4`
pub fn rate(per_second: f64) -> String {
    if per_second == 0.0 || per_second >= 10.0 {
        count(per_second as u64)
    } else {
        format!("{per_second:.1}")
    }
}

/// Returns the shard's number, because the full name is too long for a screen with many shards.
pub fn shard(shard: ShardId) -> String {
    shard.get().to_string()
}

pub fn retention(retention: Retention) -> String {
    let age = retention.age.map(|age| match age.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3_600),
    });
    let bound = retention.bytes_max.map(bytes);
    match (age, bound) {
        (Some(age), Some(bound)) => format!("keeps {age}, up to {bound}"),
        (Some(age), None) => format!("keeps {age}"),
        (None, Some(bound)) => format!("keeps up to {bound}"),
        (None, None) => "keeps all".to_owned(),
    }
}

/// Describes what the last opening found.
pub fn recovery(report: &RecoveryReport) -> String {
    let mut text = match report.was_closed_cleanly() {
        true => "opened clean".to_owned(),
        false => {
            let scanned: u64 = report.shards.iter().map(|shard| shard.scanned_bytes).sum();
            format!("recovered after a crash, {} scanned", bytes(scanned))
        }
    };
    let torn_bytes: u64 =
        report.shards.iter().filter_map(|shard| shard.torn_tail.as_ref()).map(|tail| tail.bytes).sum();
    if torn_bytes > 0 {
        text += &format!(", torn tail of {} cut", bytes(torn_bytes));
    }
    let lost_count: u64 =
        report.lost().map(|lost| lost.sequences.end.get() - lost.sequences.start.get()).sum();
    if lost_count > 0 {
        text += &format!(", {} records given up", count(lost_count));
    }
    format!("{text}, in {}", duration(report.duration))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_have_their_unit() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([0, 999, 1_000, 1 << 20].map(bytes), ["0 B", "999 B", "1.0 KiB", "1.0 MiB"]);
        assert_eq!([0.0, 0.04, 9.94, 10.0, 12_345.6].map(rate), ["0", "0.0", "9.9", "10", "12,345"]);
        let durations =
            [0, 999, 1_500, 2_340_000, 300_000_000].map(|micros| duration(Duration::from_micros(micros)));
        assert_eq!(durations, ["0 ns", "999 µs", "1.5 ms", "2.3 s", "5 min"]);
    }
}
