//! The destinations that the operator of the gateway allows for delivery streams.
//!
//! In this file, a *bucket* is the S3 bucket that a delivery stream names in its ARN, such as `clicks`. The operator decides where it is stored:
//! in a directory, in a bucket of the same name in an object store, or below a prefix in one bucket of an object store.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use hyper::Uri;

#[cfg(feature = "object-store")]
use crate::delivery::ObjectStorage;
use crate::delivery::{Directory, Sink};
use crate::gateway::fault::{Answered, Fault};

/// Where the buckets that delivery streams name are stored: see [`Gateway::buckets`](crate::gateway::Gateway::buckets).
///
/// ```
/// use streamlog::gateway::Buckets;
///
/// // The bucket `clicks` of a delivery stream is the directory `buckets/clicks`.
/// let buckets = Buckets::in_directory("buckets");
/// # let _ = buckets;
/// ```
#[derive(Clone)]
pub struct Buckets(Root);

#[derive(Clone)]
enum Root {
    Directory(PathBuf),
    #[cfg(feature = "object-store")]
    Url {
        root: String,
        options: Vec<(String, String)>,
        /// The storage whose thread all buckets share.
        first: ObjectStorage,
    },
}

impl fmt::Debug for Buckets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Root::Directory(path) => f.debug_tuple("Buckets").field(path).finish(),
            // The options may contain secrets.
            #[cfg(feature = "object-store")]
            Root::Url { root, .. } => f.debug_tuple("Buckets").field(root).finish(),
        }
    }
}

impl Buckets {
    /// Stores each bucket as a directory in this one, and its objects as files, as [`Directory`] writes them. The first object creates the
    /// directory of its bucket.
    pub fn in_directory(path: impl Into<PathBuf>) -> Self {
        Self(Root::Directory(path.into()))
    }

    /// Stores the buckets in an object store. With `s3://`, `gs://` or `az://` alone, each bucket is the bucket of the same name in the store.
    /// If the URL names a bucket of the store, all buckets are prefixes in that one: with `s3://archive/firehose`, the bucket `clicks` of a
    /// delivery stream is everything below `s3://archive/firehose/clicks/`.
    ///
    /// Credentials and the endpoint come from the environment, as with [`ObjectStorage::from_url`].
    ///
    /// # Errors
    /// Same as [`ObjectStorage::from_url`].
    #[cfg(feature = "object-store")]
    pub fn at_url(url: &str) -> crate::Result<Self> {
        Self::at_url_with(url, [])
    }

    /// Same as [`at_url`](Self::at_url), with options that override those of the environment: see [`ObjectStorage::from_url_with`].
    ///
    /// # Errors
    /// Same as [`ObjectStorage::from_url_with`].
    #[cfg(feature = "object-store")]
    pub fn at_url_with<'a>(
        url: &str,
        options: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> crate::Result<Self> {
        let options: Vec<_> =
            options.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        let root =
            if url.ends_with("://") { url.to_owned() } else { format!("{}/", url.trim_end_matches('/')) };
        // The name `bucket` is a placeholder. This only checks the URL and the options, and starts the shared thread.
        let first = ObjectStorage::from_url_with(&format!("{root}bucket"), borrowed(&options))?;
        Ok(Self(Root::Url { root, options, first }))
    }

    /// Returns the sink of a bucket. The caller has checked the name.
    fn open(&self, bucket: &str) -> crate::Result<Arc<dyn Sink>> {
        match &self.0 {
            Root::Directory(path) => Ok(Arc::new(Directory::new(path.join(bucket)))),
            #[cfg(feature = "object-store")]
            Root::Url { root, options, first } => {
                Ok(Arc::new(first.beside(&format!("{root}{bucket}"), borrowed(options))?))
            }
        }
    }
}

#[cfg(feature = "object-store")]
fn borrowed(options: &[(String, String)]) -> impl Iterator<Item = (&str, &str)> {
    options.iter().map(|(key, value)| (&**key, &**value))
}

/// Returns the name of the bucket in an ARN, if S3 allows the name. Such a name is a single path segment, and neither `.` nor `..`.
fn bucket_name(arn: &str) -> Option<&str> {
    let (_, name) = arn.rsplit_once(":::")?;
    let is_outer = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = name.as_bytes();
    let is_right = (3..=63).contains(&bytes.len())
        && bytes.first().is_some_and(is_outer)
        && bytes.last().is_some_and(is_outer)
        && bytes.iter().all(|byte| is_outer(byte) || matches!(byte, b'-' | b'.'))
        && !name.contains("..");
    is_right.then_some(name)
}

/// Returns the sink of the bucket that an ARN names.
pub(super) fn bucket(buckets: Option<&Buckets>, arn: &str) -> Answered<Arc<dyn Sink>> {
    let name = bucket_name(arn).ok_or_else(|| {
        Fault::invalid(format!(
            "{arn} names no bucket: 3 to 63 small letters, digits, hyphens and single dots, the first and the last of which are \
             letters or digits."
        ))
    })?;
    let buckets = buckets.ok_or_else(|| {
        Fault::invalid(
            "This server has no buckets: whoever runs it has to say where they are (Gateway::buckets, or --buckets of kinesis_server).",
        )
    })?;
    buckets.open(name).map_err(|error| {
        tracing::error!(%error, bucket = name, "a bucket cannot be used");
        Fault::invalid(format!("The bucket {name} cannot be used: {error}"))
    })
}

/// A server that delivery streams may send records to.
#[derive(Clone)]
pub(in crate::gateway) struct Endpoint {
    origin: Origin,
    /// The `Authorization` header of requests to a cluster. `Debug` never shows it.
    authorization: Option<String>,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Endpoint").field(&self.origin).finish()
    }
}

/// The scheme, the host and the port of a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Origin {
    is_tls: bool,
    host: String,
    port: u16,
}

impl Origin {
    /// Returns the origin of a URL, and whether the URL has a path or a query as well.
    fn of(url: &str) -> Option<(Self, bool)> {
        let uri: Uri = url.parse().ok()?;
        let is_tls = match uri.scheme_str()? {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let authority = uri.authority()?;
        // A user name and a password would be sent along, and people can mistake them for a host.
        if authority.as_str().contains('@') || authority.host().is_empty() {
            return None;
        }
        let port = authority.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let has_more = uri.path() != "/" || uri.query().is_some();
        Some((Self { is_tls, host: authority.host().to_ascii_lowercase(), port }, has_more))
    }
}

impl Endpoint {
    /// Returns the server that a URL without a path or a query names. The error is a sentence for the operator.
    pub(in crate::gateway) fn new(url: &str, authorization: Option<String>) -> Result<Self, String> {
        match Origin::of(url) {
            Some((origin, false)) => Ok(Self { origin, authorization }),
            _ => Err(format!(
                "{url:?} is no server that delivery streams may send to: give the scheme, the host and the port only, such as \
                 https://collector.example.com:8443"
            )),
        }
    }
}

/// Returns the `Authorization` header for requests to a URL, if there is one. Fails unless the operator allows its server.
pub(super) fn allowed<'a>(endpoints: &'a [Endpoint], url: &str) -> Answered<Option<&'a str>> {
    let found = Origin::of(url).and_then(|(origin, _)| endpoints.iter().find(|it| it.origin == origin));
    // A caller must not learn by trial which other servers exist.
    let endpoint = found.ok_or_else(|| {
        Fault::invalid(
            "This server may not send records to that URL: whoever runs it has to allow its scheme, host and port \
             (Gateway::allow_endpoint, or --allow-endpoint of kinesis_server).",
        )
    })?;
    Ok(endpoint.authorization.as_deref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l6_names_of_buckets_lead_nowhere_else() {
        assert_eq!(bucket_name("arn:aws:s3:::clicks.eu-1"), Some("clicks.eu-1"));
        for name in
            ["", "ab", "..", "...", "a..b", ".abc", "abc.", "-abc", "Abc", "a_c", "a/c", "a\\c", "a%2fc"]
        {
            assert_eq!(bucket_name(&format!("arn:aws:s3:::{name}")), None, "{name}");
        }
        assert_eq!(bucket_name(&format!("arn:aws:s3:::{}", "a".repeat(64))), None);
    }

    #[test]
    fn l6_only_servers_that_are_allowed_are_sent_to() {
        let endpoints = [
            Endpoint::new("https://collector.example.com", None).unwrap(),
            Endpoint::new("http://127.0.0.1:8080", Some("Basic eA==".into())).unwrap(),
        ];
        let allowed = |url| allowed(&endpoints, url);
        assert_eq!(allowed("https://collector.example.com/v1/records?a=b"), Ok(None));
        assert_eq!(allowed("https://COLLECTOR.example.com:443/"), Ok(None));
        assert_eq!(allowed("http://127.0.0.1:8080/x"), Ok(Some("Basic eA==")));
        for url in [
            "http://collector.example.com/",
            "https://collector.example.com:8443/",
            "https://collector.example.com.evil.com/",
            "https://collector.example.com@evil.com/",
            "https://user@collector.example.com/",
            "https://evil.com/https://collector.example.com",
            "https://evil.com#@collector.example.com/",
            "http://127.0.0.1/",
            "http://127.0.0.1:80800/",
            "http://127.1:8080/",
            "http://0x7f000001:8080/",
            "http://[::1]:8080/",
            "http://169.254.169.254/latest/meta-data",
            "file:///etc/passwd",
            "https:///",
            "collector.example.com",
            "",
        ] {
            assert!(allowed(url).is_err(), "{url}");
        }
        for url in ["https://a.com/path", "https://a.com?x", "ftp://a.com", "a.com", "https://u@a.com"] {
            assert!(Endpoint::new(url, None).is_err(), "{url}");
        }
    }
}
