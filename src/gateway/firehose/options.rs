//! The settings of a gateway for delivery streams.

use super::{Buckets, Endpoint};
#[cfg(feature = "parquet")]
use crate::delivery::ParquetSchema;
use crate::gateway::Gateway;

impl Gateway {
    /// Sets where the buckets of delivery streams are. Default: none, so that no delivery stream can be created.
    ///
    /// A caller that may create or update delivery streams may write into all buckets. Requests contain no credentials for them: the
    /// gateway uses its own.
    ///
    /// ```
    /// # use streamlog::{Store, StreamOptions};
    /// use streamlog::gateway::{Buckets, Gateway};
    ///
    /// # let directory = tempfile::tempdir()?;
    /// let store = Store::open(directory.path().join("streams"), StreamOptions::new())?;
    /// let running = Gateway::new(store)
    ///     .without_authentication()
    ///     .buckets(Buckets::in_directory(directory.path().join("buckets")))
    ///     .start("127.0.0.1:0")?;
    /// println!("aws --endpoint-url http://{} firehose list-delivery-streams", running.local_address());
    /// running.close()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn buckets(mut self, buckets: Buckets) -> Self {
        self.firehose.buckets = Some(buckets);
        self
    }

    /// Lets delivery streams send records to this HTTP endpoint or Splunk server, given by its scheme, host and port, such as
    /// `https://collector.example.com:8443`. Default: none, so that no caller can make the gateway send requests into its network.
    ///
    /// For a server without TLS, use `http://`.
    pub fn allow_endpoint(mut self, url: &str) -> Self {
        self.endpoints.push(Endpoint::new(url, None));
        self
    }

    /// Lets delivery streams send records to this OpenSearch cluster, given in the same form. Requests to it have this `Authorization`
    /// header, such as `Basic …` or `ApiKey …`.
    pub fn allow_cluster(mut self, url: &str, authorization: impl Into<String>) -> Self {
        self.endpoints.push(Endpoint::new(url, Some(authorization.into())));
        self
    }

    /// Sets the maximum number of delivery streams. Default: 50. Each has up to three threads.
    pub fn delivery_streams_max(mut self, count: usize) -> Self {
        self.firehose.streams_max = count;
        self
    }

    /// Sets how much memory the buffers of all delivery streams may take. Each delivery stream may use an equal part of it, at least 1 MiB;
    /// when its part is full, its largest objects are delivered early. Default: 1 GiB.
    pub fn delivery_memory_bytes_max(mut self, bytes: usize) -> Self {
        self.firehose.memory_bytes_max = bytes;
        self
    }

    /// Sets the schema that format conversion uses for this table of this database. Default: none, because there is no Glue.
    #[cfg(feature = "parquet")]
    pub fn table(
        mut self,
        database: impl Into<String>,
        table: impl Into<String>,
        schema: ParquetSchema,
    ) -> Self {
        self.firehose.tables.insert((database.into(), table.into()), schema);
        self
    }
}
