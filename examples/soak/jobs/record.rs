//! The records of the stream of jobs: which key and number they have, and which are bad.

use super::super::record::Number;

/// The number of keys.
pub(super) const KEY_COUNT: u16 = 48;

/// A record: its key, and its number within the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Job {
    pub(super) key: u16,
    pub(super) number: Number,
}

impl Job {
    pub(super) fn partition_key(self) -> String {
        format!("job-{:02}", self.key)
    }

    pub(super) fn data(self) -> String {
        format!("{} {}", self.number.run, self.number.count)
    }

    pub(super) fn of(partition_key: &[u8], data: &[u8]) -> Result<Self, String> {
        let parse = || {
            let key = std::str::from_utf8(partition_key).ok()?.strip_prefix("job-")?.parse().ok()?;
            let (run, count) = std::str::from_utf8(data).ok()?.split_once(' ')?;
            let number = Number { run: run.parse().ok()?, count: count.parse().ok()? };
            Some(Self { key, number }).filter(|job| job.key < KEY_COUNT)
        };
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        parse().ok_or_else(|| {
            format!("P9: nobody has put {:?} with the key {:?}", text(data), text(partition_key))
        })
    }

    pub(super) fn is_bad(self) -> bool {
        is_bad(self.number.count)
    }
}

/// Returns whether the record with this number is bad, so that no one can handle it. The key does not matter.
pub(super) fn is_bad(count: u64) -> bool {
    count % 151 == 17
}

/// Returns the first number at or after this one that is not bad.
pub(super) fn good_from(count: u64) -> u64 {
    count + u64::from(is_bad(count))
}
