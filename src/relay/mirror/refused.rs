//! Records that the stream of a mirror cannot hold.

use std::fmt;
use std::sync::Arc;

use super::origin::Incoming;
use crate::{Error, Timestamp, extend};

type Function = dyn Fn(&Refused<'_>) -> Result<(), String> + Send + Sync;

/// The function that takes records that the stream cannot hold.
#[derive(Clone)]
pub(super) struct OnRefused(Arc<Function>);

impl fmt::Debug for OnRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnRefused")
    }
}

impl OnRefused {
    pub(super) fn new(function: impl Fn(&Refused<'_>) -> Result<(), String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(function))
    }

    pub(super) fn take(&self, refused: &Refused<'_>) -> Result<(), String> {
        let panicked = || Err("the function that takes refused records has panicked".to_owned());
        extend::run_callback(|| (self.0)(refused)).unwrap_or_else(panicked)
    }
}

/// A record that the stream of a mirror cannot hold, because it is too large or has no valid key. The mirror passes it to the function of
/// [`on_refused`](super::options::MirrorOptions::on_refused).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refused<'a> {
    /// The name of the mirror.
    pub mirror: &'a str,
    /// The name of the mirrored stream or topic.
    pub origin: &'a str,
    /// The shard or partition of the record.
    pub partition: &'a str,
    /// Its position there: a sequence number or an offset, as decimal text.
    pub place: String,
    /// When it arrived, if the source provides it.
    pub arrived_at: Option<Timestamp>,
    /// Its partition key.
    pub partition_key: &'a [u8],
    /// Its data.
    pub data: &'a [u8],
    /// Why the stream cannot hold it.
    pub reason: String,
}

impl<'a> Refused<'a> {
    pub(super) fn new(
        mirror: &'a str,
        origin: &'a str,
        partition: &'a str,
        record: &'a Incoming,
        error: &Error,
    ) -> Self {
        let reason = match error {
            Error::InvalidRecord { reason, .. } => reason.to_string(),
            error => error.to_string(),
        };
        Self {
            mirror,
            origin,
            partition,
            place: record.place.to_string(),
            arrived_at: record.arrived,
            partition_key: &record.partition_key,
            data: &record.data,
            reason,
        }
    }
}
