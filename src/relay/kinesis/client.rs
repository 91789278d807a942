//! A client of Amazon Kinesis, on a thread of its own.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, mpsc};

use aws_config::{BehaviorVersion, Region};
use aws_sdk_kinesis::config::Credentials;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use tokio::runtime::{Builder, Runtime};

use crate::{IoFailure, Result};

/// A client of Amazon Kinesis, or of any other server with its API. Cloning it is cheap.
///
/// It finds its region and credentials like every AWS SDK: in the environment, in `~/.aws`, by a web identity, or from the metadata of a container
/// or machine. [`KinesisClientOptions`] overrides them. Requests run on a thread that the client shares with its clones, so it may be used from any
/// thread. It blocks the calling thread, even if that belongs to an async runtime.
///
/// ```no_run
/// use streamlog::relay::KinesisClient;
///
/// let client = KinesisClient::options().region("eu-west-1").connect()?;
/// # Ok::<(), streamlog::Error>(())
/// ```
#[derive(Clone)]
pub struct KinesisClient {
    requests: Arc<Requests>,
    pub(in crate::relay) kinesis: aws_sdk_kinesis::Client,
    pub(in crate::relay) dynamodb: aws_sdk_dynamodb::Client,
}

impl fmt::Debug for KinesisClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let region = self.kinesis.config().region().map(ToString::to_string);
        f.debug_struct("KinesisClient").field("region", &region).finish_non_exhaustive()
    }
}

/// The thread on which requests run.
struct Requests(Option<Runtime>);

impl Drop for Requests {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // The last clone may be dropped by a task of another runtime, which must not be blocked.
            runtime.shutdown_background();
        }
    }
}

/// Settings of a [`KinesisClient`]. [`KinesisClient::options`] returns them. Unset values are found like in every AWS SDK.
#[derive(Clone, Default)]
pub struct KinesisClientOptions {
    region: Option<String>,
    profile: Option<String>,
    credentials: Option<Credentials>,
    endpoint_url: Option<String>,
    dynamodb_endpoint_url: Option<String>,
}

impl fmt::Debug for KinesisClientOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KinesisClientOptions")
            .field("region", &self.region)
            .field("profile", &self.profile)
            .field("endpoint_url", &self.endpoint_url)
            .field("dynamodb_endpoint_url", &self.dynamodb_endpoint_url)
            .finish_non_exhaustive()
    }
}

impl KinesisClientOptions {
    /// Sets the region, such as `eu-west-1`.
    pub fn region(mut self, region: impl Into<String>) -> Self {
        self.region = Some(region.into());
        self
    }

    /// Sets which profile of `~/.aws/config` and `~/.aws/credentials` to use.
    pub fn profile(mut self, profile: impl Into<String>) -> Self {
        self.profile = Some(profile.into());
        self
    }

    /// Sets an access key, its secret, and a session token if they have one.
    pub fn credentials(
        mut self,
        access_key_id: impl Into<String>,
        secret_access_key: impl Into<String>,
        session_token: impl Into<Option<String>>,
    ) -> Self {
        let (access_key_id, secret) = (access_key_id.into(), secret_access_key.into());
        self.credentials =
            Some(Credentials::new(access_key_id, secret, session_token.into(), None, "streamlog"));
        self
    }

    /// Sets the endpoint of Kinesis, if it is not Amazon's: `http://127.0.0.1:4567`.
    pub fn endpoint_url(mut self, url: impl Into<String>) -> Self {
        self.endpoint_url = Some(url.into());
        self
    }

    /// Sets the endpoint of DynamoDB, if it is not Amazon's. DynamoDB stores the leases of shards.
    pub fn dynamodb_endpoint_url(mut self, url: impl Into<String>) -> Self {
        self.dynamodb_endpoint_url = Some(url.into());
        self
    }

    /// Creates the client. It sends nothing to Kinesis yet.
    ///
    /// # Errors
    /// `Io` if no thread can be started.
    pub fn connect(self) -> Result<KinesisClient> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("streamlog-relay")
            .enable_all()
            .build()
            .map_err(|source| IoFailure::new("start a thread for", "a client of Kinesis", source))?;
        let requests = Arc::new(Requests(Some(runtime)));
        let http = aws_smithy_http_client::Builder::new()
            .tls_provider(Provider::Rustls(CryptoMode::Ring))
            .build_https();
        let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12()).http_client(http);
        if let Some(region) = self.region {
            loader = loader.region(Region::new(region));
        }
        if let Some(profile) = self.profile {
            loader = loader.profile_name(profile);
        }
        if let Some(credentials) = self.credentials {
            loader = loader.credentials_provider(credentials);
        }
        let config = requests.run(loader.load()).ok_or_else(|| {
            let panicked = std::io::Error::other("it has panicked");
            IoFailure::new("read the settings of", "a client of Kinesis", panicked)
        })?;
        let mut kinesis = aws_sdk_kinesis::config::Builder::from(&config);
        kinesis.set_endpoint_url(self.endpoint_url.or(config.endpoint_url().map(str::to_owned)));
        let mut dynamodb = aws_sdk_dynamodb::config::Builder::from(&config);
        dynamodb.set_endpoint_url(self.dynamodb_endpoint_url.or(config.endpoint_url().map(str::to_owned)));
        Ok(KinesisClient {
            requests,
            kinesis: aws_sdk_kinesis::Client::from_conf(kinesis.build()),
            dynamodb: aws_sdk_dynamodb::Client::from_conf(dynamodb.build()),
        })
    }
}

impl KinesisClient {
    /// Returns default settings: all values are found like in every AWS SDK.
    pub fn options() -> KinesisClientOptions {
        KinesisClientOptions::default()
    }

    /// Runs a request on the client's thread, and waits for it. Returns `None` if it has panicked.
    pub(in crate::relay) fn run<T: Send + 'static>(
        &self,
        request: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        self.requests.run(request)
    }
}

impl Requests {
    fn run<T: Send + 'static>(&self, request: impl Future<Output = T> + Send + 'static) -> Option<T> {
        // The caller may be inside of a runtime of its own, where blocking on a future panics.
        let (sender, receiver) = mpsc::sync_channel(1);
        self.0.as_ref()?.spawn(async move {
            // The receiver waits.
            let _ = sender.send(request.await);
        });
        receiver.recv().ok()
    }
}
