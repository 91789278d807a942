//! The settings that all sources have.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::random;
use super::spool::SpoolStream;
use crate::extend::{check_name, check_range};
use crate::{Error, PartProcessor, Position, Result, Stream};

/// Where spools are, and how large they get.
#[derive(Debug, Clone)]
pub(in crate::relay) struct Spools {
    pub(in crate::relay) directory: Option<PathBuf>,
    pub(in crate::relay) bytes: u64,
}

impl Default for Spools {
    fn default() -> Self {
        Self { directory: None, bytes: 32 << 20 }
    }
}

impl Spools {
    pub(in crate::relay) fn check(&self) -> Result<()> {
        check_range("spool_bytes", self.bytes, 64 << 10..=16 << 30)
    }

    /// Deletes spools that a crash has left in a dedicated directory. A spool in use is locked, and stays.
    pub(in crate::relay) fn delete_old(&self) {
        for spool in self.directory.iter().flat_map(|spools| Stream::list(spools).unwrap_or_default()) {
            let _ = Stream::delete(spool);
        }
    }

    /// Makes the spool of a shard or partition.
    pub(in crate::relay) fn create(&self, of: impl Display) -> Result<SpoolStream> {
        let directory = self.directory.clone().unwrap_or_else(std::env::temp_dir);
        SpoolStream::create(directory.join(format!("streamlog-{:016x}-{of}", random())), self.bytes)
    }
}

/// Checks the start settings of a service.
pub(in crate::relay) fn check_start(service: &str, part: &PartProcessor) -> Result<()> {
    // It is the name of a consumer group in each spool.
    check_name("a processor", part.name())?;
    match part.start_at() {
        Position::TrimHorizon | Position::Latest | Position::AtTimestamp(_) => Ok(()),
        _ => Err(Error::InvalidArgument(
            format!("a processor of {service} begins at TrimHorizon, Latest or AtTimestamp").into(),
        )),
    }
}

pub(in crate::relay) fn check_millis(
    name: &str,
    value: Duration,
    range: RangeInclusive<Duration>,
) -> Result<()> {
    let millis = range.start().as_millis()..=range.end().as_millis();
    check_range(&format!("{name} in milliseconds"), value.as_millis(), millis)
}
