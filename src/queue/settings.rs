//! The settings with which a queue was last opened, kept with its journal for processes that look at it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::options::QueueOptions;
use super::state::Rules;
use crate::{Journal, Result, SECOND};

/// The name under which the journal keeps them.
const NAME: &str = "options";

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Settings {
    visibility_timeout_micros: u64,
    pub(super) max_receive_count: Option<u32>,
    pub(super) keep_dead_letters: bool,
    pub(super) outstanding_max: usize,
}

impl Settings {
    /// What [`QueueOptions`] begin with.
    pub(super) const DEFAULT: Self = Self {
        visibility_timeout_micros: 30 * SECOND.as_micros() as u64,
        max_receive_count: Some(6),
        keep_dead_letters: true,
        outstanding_max: 120_000,
    };

    pub(super) fn of(options: &QueueOptions) -> Self {
        Self {
            // 12 hours at most.
            visibility_timeout_micros: options.visibility_timeout.as_micros() as u64,
            max_receive_count: options.receives_max,
            keep_dead_letters: options.keeps_dead_letters,
            outstanding_max: options.outstanding_max,
        }
    }

    pub(super) fn visibility_timeout(self) -> Duration {
        Duration::from_micros(self.visibility_timeout_micros)
    }

    pub(super) fn rules(self) -> Rules {
        Rules { receives_max: self.max_receive_count, keeps_dead_letters: self.keep_dead_letters }
    }

    /// Keeps them with the journal.
    pub(super) fn keep(self, journal: &Journal) -> Result<()> {
        journal.keep(NAME, &serde_json::to_string(&self).expect("numbers always serialize"))
    }

    /// Returns those that are kept with a journal. Before its first opening was done, a queue has none.
    pub(super) fn kept(kept: &BTreeMap<String, String>) -> Self {
        kept.get(NAME).and_then(|text| serde_json::from_str(text).ok()).unwrap_or(Self::DEFAULT)
    }
}
