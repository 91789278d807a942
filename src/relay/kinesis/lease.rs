//! A row of the KCL's lease table: who reads a shard, and how far.

use std::cmp::Ordering;

/// How far a shard is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Checkpoint {
    AtTimestamp,
    TrimHorizon,
    Latest,
    /// All records below this number are done, and in the record with this number, the user records up to this index.
    Number(String, u64),
    ShardEnd,
}

impl Checkpoint {
    /// Parses the two attributes of a checkpoint. Returns `None` if they are invalid.
    pub(super) fn parse(text: &str, sub: u64) -> Option<Self> {
        Some(match text {
            "AT_TIMESTAMP" => Self::AtTimestamp,
            "TRIM_HORIZON" => Self::TrimHorizon,
            "LATEST" => Self::Latest,
            "SHARD_END" => Self::ShardEnd,
            digits if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                Self::Number(digits.to_owned(), sub)
            }
            _ => return None,
        })
    }

    pub(super) fn text(&self) -> &str {
        match self {
            Self::AtTimestamp => "AT_TIMESTAMP",
            Self::TrimHorizon => "TRIM_HORIZON",
            Self::Latest => "LATEST",
            Self::ShardEnd => "SHARD_END",
            Self::Number(number, _) => number,
        }
    }

    pub(super) fn sub(&self) -> u64 {
        if let Self::Number(_, sub) = self { *sub } else { 0 }
    }

    /// Returns whether something of the shard was done: its records are being read.
    pub(super) fn has_begun(&self) -> bool {
        matches!(self, Self::Number(..) | Self::ShardEnd)
    }
}

/// Compares two sequence numbers, which are decimal text.
pub(super) fn compare_numbers(one: &str, other: &str) -> Ordering {
    let [one, other] = [one, other].map(|number| number.trim_start_matches('0'));
    one.len().cmp(&other.len()).then_with(|| one.cmp(other))
}

/// A row. Its key is the id of the shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lease {
    pub(super) key: String,
    pub(super) owner: Option<String>,
    /// Each write by the owner changes it.
    pub(super) counter: u64,
    pub(super) checkpoint: Checkpoint,
    pub(super) owner_switches: u64,
    pub(super) parents: Vec<String>,
    /// Known once the shard has ended.
    pub(super) children: Vec<String>,
    /// The least and the greatest hash key, as decimal text.
    pub(super) hash_range: Option<(String, String)>,
    /// The state that one of our workers stored with this checkpoint. It is empty if a KCL worker has moved the checkpoint since.
    pub(super) state: Vec<u8>,
}

impl Lease {
    /// Returns a row that nobody owns.
    pub(super) fn new(key: impl Into<String>, checkpoint: Checkpoint) -> Self {
        Self {
            key: key.into(),
            owner: None,
            counter: 0,
            checkpoint,
            owner_switches: 0,
            parents: vec![],
            children: vec![],
            hash_range: None,
            state: vec![],
        }
    }

    pub(super) fn is_ended(&self) -> bool {
        self.checkpoint == Checkpoint::ShardEnd
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkpoints_are_those_of_the_kcl() {
        for text in [
            "AT_TIMESTAMP",
            "TRIM_HORIZON",
            "LATEST",
            "SHARD_END",
            "49590338271490256608559692538361571095921575989136588898",
        ] {
            let checkpoint = Checkpoint::parse(text, 3).unwrap();
            assert_eq!(checkpoint.text(), text);
            assert_eq!(checkpoint.sub(), if text.starts_with('4') { 3 } else { 0 });
        }
        for text in ["", "SHARD_START", "-1", "12a"] {
            assert_eq!(Checkpoint::parse(text, 0), None, "{text:?}");
        }
    }

    #[test]
    fn numbers_are_compared_as_numbers() {
        assert_eq!(compare_numbers("9", "10"), Ordering::Less);
        assert_eq!(compare_numbers("010", "10"), Ordering::Equal);
        assert_eq!(compare_numbers("21", "12"), Ordering::Greater);
    }
}
