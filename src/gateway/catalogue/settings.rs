//! The settings of a stream in Kinesis that the log lacks.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{Position, Timestamp};

/// The settings of a stream, which are stored as a property of it. Missing ones have Kinesis' values for a new stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::gateway) struct Settings {
    pub(in crate::gateway) mode: Mode,
    pub(in crate::gateway) retention_hours: u32,
    pub(in crate::gateway) max_record_kib: u32,
    pub(in crate::gateway) strategy: Strategy,
    /// The metrics of shards that are switched on.
    pub(in crate::gateway) shard_metrics: BTreeSet<String>,
    /// The name of the key that encrypts records.
    pub(in crate::gateway) key_id: Option<String>,
    /// The policy of the stream.
    pub(in crate::gateway) policy: Option<String>,
    pub(in crate::gateway) is_deleting: bool,
    /// When the number of shards was changed in the last day, in milliseconds.
    pub(in crate::gateway) shard_count_changes: Vec<u64>,
    /// When the mode was changed, likewise.
    pub(in crate::gateway) mode_changes: Vec<u64>,
    pub(in crate::gateway) encryption_changes: Vec<u64>,
    /// The settings of consumers, in addition to those in the log.
    pub(in crate::gateway) consumers: BTreeMap<String, ConsumerSettings>,
    /// The queues of the stream, by their ids.
    pub(in crate::gateway) queues: BTreeMap<String, QueueSettings>,
    pub(in crate::gateway) tags: BTreeMap<String, String>,
}

/// The settings of a queue. Its id is the last part of its ARN, and the queue of the log is named after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::gateway) struct QueueSettings {
    pub(in crate::gateway) name: String,
    /// When it was created, in milliseconds.
    pub(in crate::gateway) created: u64,
    pub(in crate::gateway) start: QueueStart,
    pub(in crate::gateway) visibility_seconds: u32,
    /// After how many receives a record is a dead letter, if ever.
    pub(in crate::gateway) receives_max: Option<u32>,
    pub(in crate::gateway) tags: BTreeMap<String, String>,
    pub(in crate::gateway) policy: Option<String>,
}

/// Where a queue begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::gateway) enum QueueStart {
    TrimHorizon,
    Latest,
    /// In milliseconds.
    AtTimestamp(u64),
}

impl QueueStart {
    pub(in crate::gateway) fn name(self) -> &'static str {
        match self {
            Self::TrimHorizon => "TRIM_HORIZON",
            Self::Latest => "LATEST",
            Self::AtTimestamp(_) => "AT_TIMESTAMP",
        }
    }

    pub(in crate::gateway) fn position(self) -> Position {
        match self {
            Self::TrimHorizon => Position::TrimHorizon,
            Self::Latest => Position::Latest,
            Self::AtTimestamp(millis) => Position::AtTimestamp(Timestamp::from_millis(millis)),
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::gateway) struct ConsumerSettings {
    pub(in crate::gateway) tags: BTreeMap<String, String>,
    pub(in crate::gateway) policy: Option<String>,
}

/// How the number of shards of a stream is decided: by its owner, or by the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(in crate::gateway) enum Mode {
    #[default]
    Provisioned,
    OnDemand,
}

impl Mode {
    pub(in crate::gateway) fn parse(text: &str) -> Self {
        if text == "ON_DEMAND" { Self::OnDemand } else { Self::Provisioned }
    }

    pub(in crate::gateway) fn name(self) -> &'static str {
        match self {
            Self::Provisioned => "PROVISIONED",
            Self::OnDemand => "ON_DEMAND",
        }
    }
}

/// How records find their shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(in crate::gateway) enum Strategy {
    #[default]
    PartitionKey,
    /// The gateway spreads them.
    Auto,
}

impl Strategy {
    pub(in crate::gateway) fn parse(text: &str) -> Self {
        if text == "AUTO" { Self::Auto } else { Self::PartitionKey }
    }

    pub(in crate::gateway) fn name(self) -> &'static str {
        match self {
            Self::PartitionKey => "USER_PARTITION_KEY",
            Self::Auto => "AUTO",
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            retention_hours: 24,
            max_record_kib: 1_024,
            strategy: Strategy::default(),
            shard_metrics: BTreeSet::new(),
            key_id: None,
            policy: None,
            is_deleting: false,
            shard_count_changes: vec![],
            mode_changes: vec![],
            encryption_changes: vec![],
            consumers: BTreeMap::new(),
            queues: BTreeMap::new(),
            tags: BTreeMap::new(),
        }
    }
}
