//! What the operator of a gateway says of delivery streams.

use super::{Buckets, Endpoint};
#[cfg(feature = "parquet")]
use crate::delivery::ParquetSchema;
use crate::gateway::Gateway;

impl Gateway {
    /// Sets where the buckets are that delivery streams name. Default: there are none, so that no delivery stream can be created.
    ///
    /// Whoever may create or update delivery streams may write into all of them. Requests hold no credentials: those of the buckets are the
    /// gateway's.
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

    /// Lets delivery streams send records to this server, given by its scheme, host and port, such as `https://collector.example.com:8443`: as an
    /// HTTP endpoint, or to Splunk. Default: to none, so that no caller can have the gateway send requests into its network.
    ///
    /// A server without TLS is given with `http://`.
    pub fn allow_endpoint(mut self, url: &str) -> Self {
        self.endpoints.push(Endpoint::new(url, None));
        self
    }

    /// Lets delivery streams send records to this OpenSearch cluster, likewise. Requests to it have this header `Authorization`, such as
    /// `Basic …` or `ApiKey …`.
    pub fn allow_cluster(mut self, url: &str, authorization: impl Into<String>) -> Self {
        self.endpoints.push(Endpoint::new(url, Some(authorization.into())));
        self
    }

    /// Sets how many delivery streams there may be. Default: 50. Each has up to three threads.
    pub fn delivery_streams_max(mut self, count: usize) -> Self {
        self.firehose.streams_max = count;
        self
    }

    /// Sets how much memory the buffers of all delivery streams may take. Each may use its part of it, as many parts as there may be
    /// delivery streams; when a part is full, its largest objects are delivered before their time. A part has 1 MiB at least. Default: 1 GiB.
    pub fn delivery_memory_bytes_max(mut self, bytes: usize) -> Self {
        self.firehose.memory_bytes_max = bytes;
        self
    }

    /// Gives the schema that format conversion uses for this table of this database. Default: there are none, as there is no Glue.
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
