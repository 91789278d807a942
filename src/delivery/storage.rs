//! An object store as a sink: S3 and what speaks its protocol, Google Cloud Storage, Azure, or any of the crate `object_store`.

use std::error::Error as _;
use std::fmt;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, Error as StoreError, MultipartUpload, ObjectStore, PutMultipartOptions,
    PutOptions, RetryConfig,
};
use tokio::runtime::{Builder, Runtime};

use super::sink::{Object, Sink, SinkError};
use crate::extend::check_range;
use crate::{Error, IoFailure, Result};

/// S3's smallest part of a multipart upload, except for the last.
const PART_BYTES_MIN: usize = 5 << 20;
const PART_BYTES_MAX: usize = 1 << 30;
const PART_BYTES: usize = 16 << 20;

/// An object store: Amazon S3 and compatible stores, Google Cloud Storage, Azure, or any other that the crate `object_store` (0.13) supports.
///
/// A repeated delivery replaces the object, so each record is stored exactly once, even after a crash or a lost connection. An object appears when
/// it is complete. An object of more than [`part_bytes`](Self::part_bytes) is uploaded in parts. If the process dies meanwhile, the invisible parts
/// remain, and cost money, until a lifecycle rule of the bucket removes them.
///
/// Objects have the type of their format as `Content-Type`, and `Content-Encoding: gzip` if they are compressed with it, except in stores without
/// attributes, such as a local directory. Some tools decompress objects with that encoding when they download them.
///
/// It can also hold an [`Archive`](crate::Archive).
///
/// A failed request is retried three times, and then the delivery retries the object according to its settings. Errors show the URL and the key of
/// the object, but no credentials. All clones share their connections and one thread for requests.
///
/// ```no_run
/// use streamlog::Stream;
/// use streamlog::delivery::{CompressionFormat, Format, ObjectStorage};
///
/// let stream = Stream::open("clicks")?;
/// let delivery = stream
///     .delivery("archive")
///     .format(Format::json_lines())
///     .compression(CompressionFormat::Gzip)
///     .to(ObjectStorage::from_url("s3://my-bucket/clicks")?)
///     .start()?;
/// # delivery.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct ObjectStorage {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) prefix: String,
    /// What comes before a key, for people to read.
    pub(super) shown: String,
    pub(super) part_bytes: usize,
    /// Values of options that no error shows.
    pub(super) secrets: Vec<String>,
    pub(super) requests: Arc<Requests>,
}

/// The thread on which requests run.
pub(super) struct Requests(pub(super) Option<Runtime>);

impl Drop for Requests {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // The last clone may be dropped by a task of another runtime, which must not be blocked.
            runtime.shutdown_background();
        }
    }
}

impl fmt::Debug for ObjectStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectStorage")
            .field("at", &format_args!("{}{}", self.shown, self.prefix))
            .field("part_bytes", &self.part_bytes)
            .finish_non_exhaustive()
    }
}

/// Builds a store: applies the settings of the environment, then those of the caller.
macro_rules! build {
    ($builder:ty, $url:expr, $options:expr) => {{
        let mut builder = <$builder>::from_env().with_url($url).with_retry(retries());
        for (key, value) in $options {
            let key = key.to_ascii_lowercase();
            let key = key.parse().map_err(|_| invalid(format!("an object store has no option {key:?}")))?;
            builder = builder.with_config(key, value);
        }
        builder.build().map(|store| Arc::new(store) as Arc<dyn ObjectStore>)
    }};
}

impl ObjectStorage {
    /// Delivers to a URL: `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix`, or `file:///directory`.
    ///
    /// Credentials, region and endpoint come from the environment, under the names that the tools of these clouds use, such as `AWS_ACCESS_KEY_ID`,
    /// `AWS_REGION`, `AWS_ENDPOINT_URL`, `GOOGLE_APPLICATION_CREDENTIALS` or `AZURE_STORAGE_ACCOUNT_NAME`. On a machine of the cloud, they come from
    /// the machine. Unlike in a [`Directory`](super::Directory), objects at a `file` URL may not survive power loss.
    ///
    /// # Errors
    /// `InvalidArgument` if it is not such a URL or a setting is missing; `Io` if a thread cannot be started.
    pub fn from_url(url: &str) -> Result<Self> {
        Self::from_url_with(url, [])
    }

    /// Delivers to a URL, with options that override those of the environment: `aws_access_key_id`, `aws_secret_access_key`, `aws_region`,
    /// `aws_endpoint`, `allow_http` and so on, as the crate `object_store` names them.
    ///
    /// # Errors
    /// The same as [`from_url`](Self::from_url), and `InvalidArgument` for an option that the store does not have.
    ///
    /// ```
    /// use streamlog::delivery::ObjectStorage;
    ///
    /// let options = [
    ///     ("aws_endpoint", "http://127.0.0.1:9000"),
    ///     ("allow_http", "true"),
    ///     ("aws_access_key_id", "minio"),
    ///     ("aws_secret_access_key", "minio123"),
    /// ];
    /// let bucket = ObjectStorage::from_url_with("s3://my-bucket/clicks", options)?;
    /// # let _ = bucket;
    /// # Ok::<(), streamlog::Error>(())
    /// ```
    pub fn from_url_with<'a>(
        url: &str,
        options: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self> {
        Self::open(url, options, None)
    }

    /// Delivers to another URL, with requests on the same thread.
    #[cfg(feature = "gateway")]
    pub(crate) fn beside<'a>(
        &self,
        url: &str,
        options: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self> {
        Self::open(url, options, Some(Arc::clone(&self.requests)))
    }

    fn open<'a>(
        url: &str,
        options: impl IntoIterator<Item = (&'a str, &'a str)>,
        requests: Option<Arc<Requests>>,
    ) -> Result<Self> {
        let options: Vec<_> = options.into_iter().collect();
        let (scheme, rest) = url.split_once("://").unwrap_or((url, ""));
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let (at, options_of) = (format!("{scheme}://{bucket}"), options.iter().copied());
        let store = match (scheme, bucket) {
            ("file", "") if options.is_empty() => Ok(Arc::new(LocalFileSystem::new()) as _),
            ("s3" | "gs" | "az", "") => return Err(invalid(format!("the URL {url:?} names no bucket"))),
            ("s3", _) => build!(AmazonS3Builder, &at, options_of),
            ("gs", _) => build!(GoogleCloudStorageBuilder, &at, options_of),
            ("az", _) => build!(MicrosoftAzureBuilder, &at, options_of),
            _ => {
                let schemes =
                    "s3://bucket/prefix, gs://bucket/prefix, az://container/prefix or file:///directory";
                return Err(invalid(format!("{scheme:?} is no URL of an object store: {schemes}")));
            }
        };
        let is_secret =
            |key: &str| ["key", "secret", "token", "password"].iter().any(|word| key.contains(word));
        let secrets: Vec<_> = options
            .iter()
            .filter(|(key, value)| is_secret(&key.to_ascii_lowercase()) && !value.is_empty())
            .map(|(_, value)| (*value).to_owned())
            .collect();
        let store = store
            .map_err(|error| invalid(hide(&secrets, format!("cannot use {at}: {}", text_of(&error)))))?;
        Self::with(store, prefix, format!("{at}/"), secrets, requests)
    }

    /// Delivers to a store of the crate `object_store`, under keys that begin with this prefix and a slash, unless it is empty.
    ///
    /// # Errors
    /// `InvalidArgument` for a prefix that is not allowed in keys; `Io` if a thread cannot be started.
    pub fn new(store: Arc<dyn ObjectStore>, prefix: &str) -> Result<Self> {
        let shown = format!("{store}/");
        Self::with(store, prefix, shown, vec![], None)
    }

    fn with(
        store: Arc<dyn ObjectStore>,
        prefix: &str,
        shown: String,
        secrets: Vec<String>,
        requests: Option<Arc<Requests>>,
    ) -> Result<Self> {
        let prefix = Path::parse(prefix).map_err(|error| invalid(error.to_string()))?.to_string();
        let requests = match requests {
            Some(requests) => requests,
            None => {
                let runtime = Builder::new_multi_thread()
                    .worker_threads(1)
                    .thread_name("streamlog-store")
                    .enable_all()
                    .build()
                    .map_err(|source| IoFailure::new("start a thread for", &shown, source))?;
                Arc::new(Requests(Some(runtime)))
            }
        };
        Ok(Self { store, prefix, shown, part_bytes: PART_BYTES, secrets, requests })
    }

    /// Sets the size above which objects are uploaded in parts, and the size of the parts: 5 MiB to 1 GiB. Default: 16 MiB.
    ///
    /// # Errors
    /// `InvalidArgument` if it is out of range.
    pub fn part_bytes(mut self, bytes: usize) -> Result<Self> {
        check_range("part_bytes", bytes, PART_BYTES_MIN..=PART_BYTES_MAX)?;
        self.part_bytes = bytes;
        Ok(self)
    }
}

impl Sink for ObjectStorage {
    fn put(&self, object: &Object) -> std::result::Result<(), SinkError> {
        let slash = if self.prefix.is_empty() { "" } else { "/" };
        let key = format!("{}{slash}{}", self.prefix, object.name());
        let failed =
            |reason: String| hide(&self.secrets, format!("cannot write {}{key}: {reason}", self.shown));
        let path = Path::parse(&key).map_err(|error| SinkError::permanent(failed(error.to_string())))?;
        let upload = Upload {
            store: Arc::clone(&self.store),
            path,
            bytes: object.bytes().clone(),
            part_bytes: self.part_bytes,
            attributes: attributes(object),
        };
        let Some(runtime) = &self.requests.0 else {
            return Err(SinkError::temporary(failed("it was dropped".into())));
        };
        // The caller may be inside of a runtime of its own, where blocking on a future panics.
        let (sender, receiver) = mpsc::sync_channel(1);
        runtime.spawn(async move {
            // The receiver waits.
            let _ = sender.send(upload.run().await);
        });
        match receiver.recv() {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(SinkError::temporary(failed(text_of(&error)))),
            Err(_) => Err(SinkError::temporary(failed("the store has panicked".into()))),
        }
    }
}

/// An object on its way.
struct Upload {
    store: Arc<dyn ObjectStore>,
    path: Path,
    bytes: Bytes,
    part_bytes: usize,
    attributes: Attributes,
}

impl Upload {
    async fn run(mut self) -> object_store::Result<()> {
        match self.put().await {
            // The store has no attributes, like a local directory.
            Err(StoreError::NotImplemented { .. } | StoreError::NotSupported { .. })
                if !self.attributes.is_empty() =>
            {
                self.attributes = Attributes::new();
                self.put().await
            }
            put => put,
        }
    }

    async fn put(&self) -> object_store::Result<()> {
        let attributes = self.attributes.clone();
        if self.bytes.len() <= self.part_bytes {
            let options = PutOptions { attributes, ..PutOptions::default() };
            self.store.put_opts(&self.path, self.bytes.clone().into(), options).await?;
            return Ok(());
        }
        let options = PutMultipartOptions { attributes, ..PutMultipartOptions::default() };
        let mut upload = self.store.put_multipart_opts(&self.path, options).await?;
        let put = self.put_parts(&mut *upload).await;
        if put.is_err() {
            // If that fails too, a lifecycle rule removes the parts.
            let _ = upload.abort().await;
        }
        put
    }

    async fn put_parts(&self, upload: &mut dyn MultipartUpload) -> object_store::Result<()> {
        for begin in (0..self.bytes.len()).step_by(self.part_bytes) {
            let end = self.bytes.len().min(begin + self.part_bytes);
            upload.put_part(self.bytes.slice(begin..end).into()).await?;
        }
        upload.complete().await.map(|_| ())
    }
}

fn attributes(object: &Object) -> Attributes {
    let mut attributes = Attributes::new();
    attributes.insert(Attribute::ContentType, object.content_type().into());
    if let Some(encoding) = object.content_encoding() {
        attributes.insert(Attribute::ContentEncoding, encoding.into());
    }
    attributes
}

fn retries() -> RetryConfig {
    RetryConfig { max_retries: 3, retry_timeout: Duration::from_secs(60), ..RetryConfig::default() }
}

/// Returns the text of an error, with the causes that it does not mention itself.
pub(super) fn text_of(error: &StoreError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

pub(super) fn hide(secrets: &[String], text: String) -> String {
    secrets.iter().fold(text, |text, secret| text.replace(secret, "(hidden)"))
}

fn invalid(reason: impl Into<String>) -> Error {
    Error::InvalidArgument(reason.into().into())
}
