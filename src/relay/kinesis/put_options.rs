//! The settings of a relay to Kinesis.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::super::options::RelayOptions;
use super::super::relay::Relay;
use super::client::KinesisClient;
use super::put::{Sender, Settings};
use super::put_client::FarStream;
use super::put_plan::Limits;
use super::put_prepare::{RelayHeaders, Rules};
use crate::aggregate::BYTES_MAX_DEFAULT;
use crate::extend::check_range;
use crate::{Error, HashKey, Record, Result, SECOND};

const REQUEST_RECORDS_MAX: usize = 500;
const REQUEST_BYTES_MAX: usize = 10 << 20;
const REQUEST_BYTES_MIN: usize = 1 << 10;
const STREAM_NAME_MAX: usize = 128;

/// The settings of a relay to a stream of Amazon Kinesis, or of any other server with its API. [`RelayOptions::to_kinesis`] returns them, and
/// [`start`](Self::start) starts the relay.
///
/// ```no_run
/// use streamlog::relay::{KinesisClient, RelayHeaders};
/// use streamlog::{Destination, Stream};
///
/// let orders = Stream::open("/var/lib/shop/orders")?;
/// let refused = Stream::open("/var/lib/shop/orders-refused")?;
/// let client = KinesisClient::options().region("eu-west-1").connect()?;
/// let relay = orders
///     .relay("up")
///     .lanes(4)
///     .hold(10 << 30)
///     .on_failure(Destination::stream(&refused))
///     .to_kinesis(&client, "orders")
///     .headers(RelayHeaders::Envelope)
///     .start()?;
/// println!("{:?}", relay.stats());
/// relay.close()?;
/// # Ok::<(), streamlog::Error>(())
/// ```
#[derive(Clone)]
#[must_use]
pub struct KinesisRelayOptions {
    relay: RelayOptions,
    client: KinesisClient,
    stream: String,
    settings: Settings,
    request_timeout: Duration,
}

impl fmt::Debug for KinesisRelayOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KinesisRelayOptions")
            .field("relay", &self.relay)
            .field("stream", &self.stream)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl RelayOptions {
    /// Sends to a stream of Amazon Kinesis, by its name or its ARN. The stream need not exist yet.
    pub fn to_kinesis(self, client: &KinesisClient, stream: impl Into<String>) -> KinesisRelayOptions {
        let path = self.stream.describe().path;
        let own = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let rules = Rules {
            headers: RelayHeaders::default(),
            stream: own,
            hash_key_of: None,
            record_bytes_max: 1 << 20,
        };
        let limits = Limits { records: REQUEST_RECORDS_MAX, bytes: 5 << 20, aggregate_bytes: None };
        KinesisRelayOptions {
            relay: self,
            client: client.clone(),
            stream: stream.into(),
            settings: Settings { rules, limits, is_paced: true },
            request_timeout: 30 * SECOND,
        }
    }
}

impl KinesisRelayOptions {
    /// Sets how to handle headers, which Kinesis does not have. Default: a record with headers is refused.
    pub fn headers(mut self, headers: RelayHeaders) -> Self {
        self.settings.rules.headers = headers;
        self
    }

    /// Sets the name of the stream in envelopes. Default: that of its directory.
    pub fn origin(mut self, stream: impl Into<String>) -> Self {
        self.settings.rules.stream = stream.into();
        self
    }

    /// Sets whether to aggregate records for the same shard, like the Kinesis Producer Library: [`aggregate`](crate::aggregate). Readers with the
    /// KCL, and those of this crate, split the aggregates again. Default: no.
    ///
    /// A request then has many more records, including several of one key. Aggregates have up to 50 KiB: see
    /// [`aggregate_bytes`](Self::aggregate_bytes).
    pub fn aggregate(mut self, aggregate: bool) -> Self {
        let most = self.settings.limits.aggregate_bytes.unwrap_or(BYTES_MAX_DEFAULT);
        self.settings.limits.aggregate_bytes = aggregate.then_some(most);
        self
    }

    /// [Aggregates](Self::aggregate) records up to this many bytes: 1 KiB up to [`record_bytes_max`](Self::record_bytes_max).
    pub fn aggregate_bytes(mut self, bytes: usize) -> Self {
        self.settings.limits.aggregate_bytes = Some(bytes);
        self
    }

    /// Sets a function that returns the explicit hash key of a record. A stream does not store the one that a record was put with, so the function
    /// must find it elsewhere, such as in a header. It must return the same key for the same record. Default: none, so the partition key decides.
    pub fn explicit_hash_key(
        mut self,
        hash_key_of: impl Fn(&Record<'_>) -> Option<HashKey> + Send + Sync + 'static,
    ) -> Self {
        self.settings.rules.hash_key_of = Some(Arc::new(hash_key_of));
        self
    }

    /// Sets whether to pace each shard to its limits: 1,000 records and 1 MiB per second. This relay is then rarely throttled because of its own
    /// traffic. Otherwise it sends until it is throttled. Default: yes. Pacing needs the permission for `ListShards`; without it, nothing is paced.
    pub fn pacing(mut self, is_paced: bool) -> Self {
        self.settings.is_paced = is_paced;
        self
    }

    /// Sets the largest record that the stream accepts, key and data together: 1 byte to 10 MiB. A larger one is given up. Default: 1 MiB, the
    /// default `MaxRecordSizeInKiB` of Kinesis streams.
    pub fn record_bytes_max(mut self, bytes: usize) -> Self {
        self.settings.rules.record_bytes_max = bytes;
        self
    }

    /// Sets how many bytes a request has at most, keys and data together: 1 KiB to 10 MiB, Kinesis' limit. A larger record gets its own request.
    /// Default: 5 MiB, which all servers accept.
    pub fn request_bytes_max(mut self, bytes: usize) -> Self {
        self.settings.limits.bytes = bytes;
        self
    }

    /// Sets how many records a request has at most: 1 to 500, Kinesis' limit. Default: 500.
    pub fn request_records_max(mut self, records: usize) -> Self {
        self.settings.limits.records = records;
        self
    }

    /// Sets how long to wait for the response to a request before it is sent again: 1 second to an hour. Default: 30 seconds.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// Starts the relay. It sends nothing to Kinesis before this returns, so errors of the stream, region or credentials appear in
    /// [`stats`](Relay::stats).
    ///
    /// # Durability
    /// Each record is sent **at least once**. A crash repeats at most a batch of each lane. A request whose response is lost is repeated, too.
    ///
    /// # Errors
    /// `InvalidArgument` for a setting out of range; otherwise the same as [`WorkerOptions::open`](crate::WorkerOptions::open).
    pub fn start(self) -> Result<Relay> {
        self.check()?;
        let to = format!("the stream {} of Kinesis", self.stream);
        let far = FarStream::new(self.client, &self.stream, self.request_timeout);
        let sender = Sender::new(far, self.settings);
        Relay::start(self.relay, to, move |invocation, link| sender.carry(invocation, link))
    }

    fn check(&self) -> Result<()> {
        let Settings { rules, limits, .. } = &self.settings;
        let is_name_char = |char: char| char.is_ascii_alphanumeric() || "_.-".contains(char);
        let is_name =
            (1..=STREAM_NAME_MAX).contains(&self.stream.len()) && self.stream.chars().all(is_name_char);
        if !is_name && !self.stream.starts_with("arn:") {
            let reason = format!(
                "a stream of Kinesis is not named {:?}: 1 to {STREAM_NAME_MAX} of a-z, A-Z, 0-9, _ . -, or an ARN",
                self.stream
            );
            return Err(Error::InvalidArgument(reason.into()));
        }
        check_range("record_bytes_max", rules.record_bytes_max, 1..=REQUEST_BYTES_MAX)?;
        check_range("request_bytes_max", limits.bytes, REQUEST_BYTES_MIN..=REQUEST_BYTES_MAX)?;
        check_range("request_records_max", limits.records, 1..=REQUEST_RECORDS_MAX)?;
        if let Some(bytes) = limits.aggregate_bytes {
            check_range(
                "aggregate_bytes",
                bytes,
                REQUEST_BYTES_MIN..=rules.record_bytes_max.max(REQUEST_BYTES_MIN),
            )?;
        }
        let seconds = self.request_timeout.as_secs();
        check_range("request_timeout (in seconds)", seconds, 1..=3_600)
    }
}
