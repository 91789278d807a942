//! The counts of a server.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The counts of a server, which all its connections share.
#[derive(Debug, Default)]
pub(in crate::gateway) struct Counts {
    pub(super) accepted: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) open: AtomicU64,
    pub(super) http1_requests: AtomicU64,
    pub(super) http2_requests: AtomicU64,
    pub(super) bytes_in: AtomicU64,
    pub(super) bytes_out: AtomicU64,
}

/// The counts at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::gateway) struct CountsNow {
    /// Connections accepted since the start, with those refused.
    pub(in crate::gateway) accepted: u64,
    /// Connections closed immediately because too many were open.
    pub(in crate::gateway) refused: u64,
    /// Connections that are open.
    pub(in crate::gateway) open: u64,
    /// Requests over HTTP/1 that have not been answered to the end.
    pub(in crate::gateway) http1_requests: u64,
    /// Requests over HTTP/2 that have not been answered to the end.
    pub(in crate::gateway) http2_requests: u64,
    /// Bytes received, with those of TLS.
    pub(in crate::gateway) bytes_in: u64,
    /// Bytes sent, with those of TLS.
    pub(in crate::gateway) bytes_out: u64,
}

impl Counts {
    /// Returns the current counts. They are read one after the other.
    pub(in crate::gateway) fn now(&self) -> CountsNow {
        CountsNow {
            accepted: self.accepted.load(Relaxed),
            refused: self.refused.load(Relaxed),
            open: self.open.load(Relaxed),
            http1_requests: self.http1_requests.load(Relaxed),
            http2_requests: self.http2_requests.load(Relaxed),
            bytes_in: self.bytes_in.load(Relaxed),
            bytes_out: self.bytes_out.load(Relaxed),
        }
    }
}
