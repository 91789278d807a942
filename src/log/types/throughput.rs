//! The limits of a stream's throughput, for each shard.

use super::error::{Error, Result};

/// Limits on the write and read throughput of each shard. [`StreamOptions::limits`](crate::StreamOptions::limits) and
/// [`Stream::set_limits`](crate::Stream::set_limits) set them. By default there are none.
///
/// Each limit is a token bucket that holds one second's worth. Each shard has its own, so a stream with twice as many shards takes twice as
/// much. A call beyond a limit fails with [`Error::Throttled`], which says when to retry.
///
/// ```
/// # use streamlog::{Error, Limits, StreamOptions};
/// # let directory = tempfile::tempdir()?;
/// let limits = Limits::none().write_records_per_second(1);
/// let stream = StreamOptions::new().limits(limits).open(directory.path())?;
/// stream.put("user-17", "/")?;
/// match stream.put("user-17", "/cart") {
///     Err(Error::Throttled { shard, retry_after }) => println!("{shard} takes more in {retry_after:?}"),
///     other => panic!("{other:?}"),
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Limits {
    /// The bytes of keys, data and headers that may be put to a shard in a second. `None` means no such limit, as in all fields.
    pub write_bytes_per_second: Option<u64>,
    /// The records that may be put to a shard in a second.
    pub write_records_per_second: Option<u64>,
    /// The bytes of keys, data and headers that may be read from a shard in a second.
    pub read_bytes_per_second: Option<u64>,
    /// The calls in a second that may read from a shard.
    pub read_calls_per_second: Option<u64>,
}

impl Limits {
    /// Returns no limits.
    pub const fn none() -> Self {
        Self {
            write_bytes_per_second: None,
            write_records_per_second: None,
            read_bytes_per_second: None,
            read_calls_per_second: None,
        }
    }

    /// Returns the limits of Kinesis: 1 MiB and 1,000 records a second to write, 2 MiB and 5 calls a second to read.
    ///
    /// ```
    /// # use streamlog::Limits;
    /// assert_eq!(Limits::kinesis().write_records_per_second, Some(1_000));
    /// ```
    pub const fn kinesis() -> Self {
        Self::none()
            .write_bytes_per_second(1 << 20)
            .write_records_per_second(1_000)
            .read_bytes_per_second(2 << 20)
            .read_calls_per_second(5)
    }

    /// Limits the bytes that are put to a shard. A record that is larger than a second's worth is taken once the bucket is full, and then
    /// the shard takes nothing until the bucket has made up for it.
    #[must_use]
    pub const fn write_bytes_per_second(mut self, bytes: u64) -> Self {
        self.write_bytes_per_second = Some(bytes);
        self
    }

    /// Limits the records that are put to a shard.
    #[must_use]
    pub const fn write_records_per_second(mut self, records: u64) -> Self {
        self.write_records_per_second = Some(records);
        self
    }

    /// Limits the bytes that are read from a shard. As in Kinesis, a read succeeds while any tokens are left, and returns up to five
    /// seconds' worth; the next reads are throttled until the bucket has made up for it.
    #[must_use]
    pub const fn read_bytes_per_second(mut self, bytes: u64) -> Self {
        self.read_bytes_per_second = Some(bytes);
        self
    }

    /// Limits the calls that read from a shard. A call that finds nothing counts, too.
    #[must_use]
    pub const fn read_calls_per_second(mut self, calls: u64) -> Self {
        self.read_calls_per_second = Some(calls);
        self
    }

    pub(crate) fn limits_writes(&self) -> bool {
        self.write_bytes_per_second.is_some() || self.write_records_per_second.is_some()
    }

    pub(crate) fn check(&self) -> Result<()> {
        let all = [
            self.write_bytes_per_second,
            self.write_records_per_second,
            self.read_bytes_per_second,
            self.read_calls_per_second,
        ];
        if all.contains(&Some(0)) {
            return Err(Error::invalid(
                "a limit of 0 a second lets nothing pass: leave it out to have no limit",
            ));
        }
        Ok(())
    }
}
