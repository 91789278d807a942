//! Numbers and times as playlists write them.

use std::fmt;

use crate::Timestamp;

/// Microseconds as seconds: `1.001`, with as many decimals as necessary, at least three.
pub(super) struct Seconds(pub(super) u64);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / 1_000_000, self.0 % 1_000_000);
        match rest % 1_000 {
            0 => write!(f, "{whole}.{:03}", rest / 1_000),
            _ => write!(f, "{whole}.{rest:06}"),
        }
    }
}

/// A time with milliseconds, as RFC 3339 writes it.
pub(super) struct Date(pub(super) Timestamp);

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        match text.get(..23).filter(|_| text.ends_with('Z')) {
            Some(start) => write!(f, "{start}Z"),
            // After the year 9999, which no playlist can name.
            None => f.write_str("9999-12-31T23:59:59.999Z"),
        }
    }
}

/// A text in an attribute of XML.
pub(super) struct Attribute<'a>(pub(super) &'a str);

impl fmt::Display for Attribute<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        while let Some(at) = rest.find(['&', '<', '>', '"', '\n', '\r', '\t']) {
            f.write_str(&rest[..at])?;
            write!(f, "&#{};", rest.as_bytes()[at])?;
            rest = &rest[at + 1..];
        }
        f.write_str(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_have_no_more_digits_than_they_need() {
        for (micros, text) in [(0, "0.000"), (2_000_000, "2.000"), (1_234_000, "1.234"), (33_366, "0.033366")]
        {
            assert_eq!(Seconds(micros).to_string(), text);
        }
        let time = Timestamp::from_micros(1_767_225_600_123_456);
        assert_eq!(Date(time).to_string(), "2026-01-01T00:00:00.123Z");
        assert_eq!(Date(Timestamp::from_micros(u64::MAX)).to_string(), "9999-12-31T23:59:59.999Z");
        assert_eq!(Attribute("a&b=\"é\"<").to_string(), "a&#38;b=&#34;é&#34;&#60;");
    }
}
