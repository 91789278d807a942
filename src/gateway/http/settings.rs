//! The limits and timeouts of a server.

use std::fmt;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::counts::Counts;
use super::tls::CertificateSource;

/// The settings of a server. The defaults suit a server that strangers can reach.
#[derive(Clone)]
pub(in crate::gateway) struct Settings {
    /// Threads that serve connections and give quick answers. Default: one per processor.
    pub(in crate::gateway) threads: usize,
    /// Threads that give answers that take time. Requests beyond that wait. Default: 64.
    pub(in crate::gateway) blocking_threads: usize,
    /// Open connections. The server accepts further ones and closes them immediately, so that their clients fail instead of hanging. Default: 10,000.
    pub(in crate::gateway) connections_max: usize,
    /// Requests that an HTTP/2 connection may have open at the same time. Default: 128.
    pub(in crate::gateway) streams_max: u32,
    /// Requests that an HTTP/2 client may reset before the server has processed them. Beyond that, the connection ends. Default: 20.
    pub(in crate::gateway) early_resets_max: usize,
    /// Requests of an HTTP/2 connection that the server may reset because of errors of the client. Beyond that, the connection ends.
    /// Default: 256.
    pub(in crate::gateway) error_resets_max: usize,
    /// Bytes of the request line and the headers; beyond that, 431. Default: 32 KiB.
    pub(in crate::gateway) header_bytes_max: usize,
    /// Headers of a request; beyond that, 431. Default: 100.
    pub(in crate::gateway) header_count_max: usize,
    /// Bytes of a request's body; beyond that, 413. Default: 16 MiB.
    pub(in crate::gateway) body_bytes_max: usize,
    /// Bytes of all bodies: of requests that are arriving or being answered, and of large answers that their clients have not taken yet.
    /// A request that does not fit gets 503 and `Retry-After`. It does not wait,
    /// because requests that each hold a part of the memory while they wait for more could block one another. Default: 512 MiB.
    pub(in crate::gateway) memory_bytes_max: usize,
    /// From the start of a connection to the end of the TLS handshake. Default: 10 seconds.
    pub(in crate::gateway) handshake_time: Duration,
    /// From the start of a connection to the end of its first request's headers, and from the first to the last byte of later ones.
    /// Default: 30 seconds.
    pub(in crate::gateway) header_time: Duration,
    /// From the headers of a request to the end of its body; beyond that, 408. Default: 2 minutes.
    pub(in crate::gateway) body_time: Duration,
    /// Between two parts of a body; beyond that, 408. Default: 15 seconds.
    pub(in crate::gateway) body_pause_time: Duration,
    /// How long a connection may stay open without a request. Clients keep connections to use them again. Default: 10 minutes.
    pub(in crate::gateway) idle_time: Duration,
    /// How long an HTTP/2 connection is silent before the server sends a ping. Default: 30 seconds.
    pub(in crate::gateway) ping_interval: Duration,
    /// How long the server waits for the answer to a ping before it ends the connection. Default: 15 seconds.
    pub(in crate::gateway) ping_time: Duration,
    /// Within this time, a client must take 64 KiB of the data that is ready for it, or all of it. Otherwise the connection ends, or only the answer
    /// if HTTP/2 flow control blocks a single one. The total time of an answer is unlimited. Default: 30 seconds.
    pub(in crate::gateway) stall_time: Duration,
    /// The same for answers in pieces, and for connections that have any. A client that handles each piece before it takes the next is legitimate,
    /// and holds up only the sender of the pieces, which should have a time limit, too. Default: 6 minutes, which is longer than Kinesis lets a
    /// subscription live.
    pub(in crate::gateway) pieces_stall_time: Duration,
    /// Where the certificate and the key for TLS come from. Default: none, and no TLS.
    pub(in crate::gateway) certificates: Option<Arc<dyn CertificateSource>>,
    /// How often the server asks for the certificate again. Default: 5 seconds.
    pub(in crate::gateway) certificate_interval: Duration,
    /// Where the server counts. The service may keep a clone to report it. Default: new counts.
    pub(in crate::gateway) counts: Arc<Counts>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            threads: available_parallelism().map_or(1, usize::from),
            blocking_threads: 64,
            connections_max: 10_000,
            streams_max: 128,
            early_resets_max: 20,
            error_resets_max: 256,
            header_bytes_max: 32 << 10,
            header_count_max: 100,
            body_bytes_max: 16 << 20,
            memory_bytes_max: 512 << 20,
            handshake_time: Duration::from_secs(10),
            header_time: Duration::from_secs(30),
            body_time: Duration::from_secs(120),
            body_pause_time: Duration::from_secs(15),
            idle_time: Duration::from_secs(600),
            ping_interval: Duration::from_secs(30),
            ping_time: Duration::from_secs(15),
            stall_time: Duration::from_secs(30),
            pieces_stall_time: Duration::from_secs(360),
            certificates: None,
            certificate_interval: Duration::from_secs(5),
            counts: Arc::default(),
        }
    }
}

/// The longest and the shortest time. A longer one could overflow when added to the current time, and with none, a server would only poll its clock.
const TIME_MAX: Duration = Duration::from_secs(10 * 365 * 86_400);
const TIME_MIN: Duration = Duration::from_millis(1);

/// The most threads of a kind.
const THREADS_MAX: usize = 10_000;

/// The most that headers may have. The parser allocates room for all headers in advance.
const HEADER_BYTES_MAX: usize = 16 << 20;
const HEADER_COUNT_MAX: usize = 10_000;

impl Settings {
    /// Returns the settings with each value in the range that works.
    pub(super) fn within_range(mut self) -> Self {
        for time in [
            &mut self.handshake_time,
            &mut self.header_time,
            &mut self.body_time,
            &mut self.body_pause_time,
            &mut self.idle_time,
            &mut self.ping_interval,
            &mut self.ping_time,
            &mut self.stall_time,
            &mut self.pieces_stall_time,
            &mut self.certificate_interval,
        ] {
            *time = (*time).clamp(TIME_MIN, TIME_MAX);
        }
        for threads in [&mut self.threads, &mut self.blocking_threads] {
            *threads = (*threads).clamp(1, THREADS_MAX);
        }
        self.header_bytes_max = self.header_bytes_max.min(HEADER_BYTES_MAX);
        self.header_count_max = self.header_count_max.min(HEADER_COUNT_MAX);
        self.connections_max = self.connections_max.min(Semaphore::MAX_PERMITS);
        self
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("has_tls", &self.certificates.is_some()).finish_non_exhaustive()
    }
}
