//! The certificate for TLS, which may change while the server runs.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::{self, ServerConfig};
use zeroize::Zeroizing;

/// The names of HTTP/2 and HTTP/1.1 in TLS.
pub(super) const HTTP2_NAME: &[u8] = b"h2";
const HTTP1_NAME: &[u8] = b"http/1.1";

/// A certificate chain, the server's own certificate first, and its private key, both as PEM.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::gateway) struct Certificate {
    pub(in crate::gateway) chain: Vec<u8>,
    pub(in crate::gateway) key: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").finish_non_exhaustive()
    }
}

/// Where a server's certificate comes from.
pub(in crate::gateway) trait CertificateSource: Send + Sync + 'static {
    /// Returns the current certificate. It is called every few seconds, on a thread that may block.
    fn read(&self) -> io::Result<Certificate>;
}

/// The certificate in use.
pub(super) struct Certificates {
    source: Arc<dyn CertificateSource>,
    config: ArcSwap<ServerConfig>,
}

impl Certificates {
    /// Reads the first certificate, and returns it beside the source.
    pub(super) fn open(source: Arc<dyn CertificateSource>) -> io::Result<(Arc<Self>, Certificate)> {
        let first = source.read()?;
        let config = ArcSwap::from(config(&first)?);
        Ok((Arc::new(Self { source, config }), first))
    }

    pub(super) fn config(&self) -> Arc<ServerConfig> {
        self.config.load_full()
    }

    /// Rereads the certificate at each interval, and uses it from then on if it has changed and is usable.
    pub(super) async fn follow(self: Arc<Self>, mut last: Certificate, interval: Duration) {
        let mut last_failure = None;
        loop {
            tokio::time::sleep(interval).await;
            let this = self.clone();
            let job = move || {
                let failure = this.reload(&mut last).err();
                (last, failure)
            };
            let Ok((seen, failure)) = tokio::task::spawn_blocking(job).await else {
                tracing::error!(
                    "the source of certificates panicked: the last one stays in use until a restart"
                );
                return;
            };
            last = seen;
            let failure = failure.map(|failure| failure.to_string());
            if let Some(failure) = failure.as_ref().filter(|&failure| last_failure.as_ref() != Some(failure))
            {
                tracing::warn!(%failure, "the new certificate cannot be used: the last one stays in use");
            }
            last_failure = failure;
        }
    }

    fn reload(&self, last: &mut Certificate) -> io::Result<()> {
        let read = self.source.read()?;
        if read != *last {
            self.config.store(config(&read)?);
            tracing::info!("a new certificate is in use");
            *last = read;
        }
        Ok(())
    }
}

fn config(certificate: &Certificate) -> io::Result<Arc<ServerConfig>> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&certificate.chain).collect();
    let chain = chain.map_err(|failure| unusable("certificate chain", &failure))?;
    if chain.is_empty() {
        return Err(unusable("certificate chain", &pem::Error::NoItemsFound));
    }
    let key = PrivateKeyDer::from_pem_slice(&certificate.key)
        .map_err(|failure| unusable("private key", &failure))?;
    let provider = CryptoProvider::get_default().cloned();
    let provider = provider.unwrap_or_else(|| Arc::new(ring::default_provider()));
    let build = || -> Result<_, rustls::Error> {
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        builder.with_no_client_auth().with_single_cert(chain, key)
    };
    let mut config = build().map_err(|failure| unusable("certificate", &failure))?;
    config.alpn_protocols = vec![HTTP2_NAME.to_vec(), HTTP1_NAME.to_vec()];
    Ok(Arc::new(config))
}

fn unusable(what: &str, failure: &dyn fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the {what} for TLS cannot be used: {failure}"))
}
