//! A server: its threads, the loop that accepts connections, and its end.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Semaphore, watch};

use super::connection;
use super::exchange::Shared;
use super::memory::Memory;
use super::message::Service;
use super::settings::Settings;
use super::tls::Certificates;

/// How long the server waits after it could not accept a connection, as when the process has no more descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Starts servers.
#[derive(Debug)]
pub(in crate::gateway) struct Server;

/// A server that runs on its own threads. Dropping it ends the server and aborts unanswered requests.
pub(in crate::gateway) struct Running {
    runtime: Option<Runtime>,
    address: SocketAddr,
    closing: watch::Sender<bool>,
    /// Ends when no connection holds its other half.
    connections: Mutex<mpsc::Receiver<()>>,
}

impl Server {
    /// Serves the connections that come in through a listener. May be called from within any runtime.
    ///
    /// # Errors
    ///
    /// The certificate cannot be read or used, or the system refuses a thread or the use of the listener.
    pub(in crate::gateway) fn start(
        listener: std::net::TcpListener,
        service: Arc<dyn Service>,
        settings: Settings,
    ) -> io::Result<Running> {
        let settings = settings.within_range();
        let certificates = settings.certificates.clone().map(Certificates::open).transpose()?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = Builder::new_multi_thread()
            .worker_threads(settings.threads)
            // One more reads certificates.
            .max_blocking_threads(settings.blocking_threads + 1)
            .thread_name("streamlog-http")
            .enable_io()
            .enable_time()
            .build()?;
        let listener = {
            let _inside = runtime.enter();
            TcpListener::from_std(listener)?
        };
        let certificates = certificates.map(|(certificates, first)| {
            runtime.spawn(certificates.clone().follow(first, settings.certificate_interval));
            certificates
        });
        let (closing, is_closing) = watch::channel(false);
        let (held, connections) = mpsc::channel();
        let shared = Arc::new(Shared {
            service,
            counts: settings.counts.clone(),
            memory: Memory::new(settings.memory_bytes_max),
            threads: Arc::new(Semaphore::new(settings.blocking_threads)),
            settings,
        });
        runtime.spawn(accept(listener, shared, certificates, is_closing, held));
        let connections = Mutex::new(connections);
        Ok(Running { runtime: Some(runtime), address, closing, connections })
    }
}

/// Accepts connections until the server closes. Each holds a clone of `held`.
async fn accept(
    listener: TcpListener,
    shared: Arc<Shared>,
    certificates: Option<Arc<Certificates>>,
    mut closing: watch::Receiver<bool>,
    held: mpsc::Sender<()>,
) {
    let places = Arc::new(Semaphore::new(shared.settings.connections_max));
    let mut is_failing = false;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = closing.wait_for(|&is_closing| is_closing) => return,
        };
        let (tcp, address) = match accepted {
            Ok(accepted) => accepted,
            Err(failure) => {
                if !is_failing {
                    tracing::warn!(%failure, "connections cannot be accepted: the server tries again and again");
                }
                is_failing = true;
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        is_failing = false;
        shared.counts.accepted.fetch_add(1, Relaxed);
        let Ok(place) = places.clone().try_acquire_owned() else {
            shared.counts.refused.fetch_add(1, Relaxed);
            continue;
        };
        let (shared, certificates) = (shared.clone(), certificates.clone());
        let (closing, held) = (closing.clone(), held.clone());
        let task = async move {
            connection::serve(tcp, address, shared, certificates, closing).await;
            drop((place, held));
        };
        tokio::spawn(task);
    }
}

impl Running {
    pub(in crate::gateway) fn local_address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts no more connections, lets open requests finish within `grace`, and aborts the others. Blocks the calling thread until then. Returns
    /// whether all requests ended. If not, calls of the service may still run in their threads.
    pub(in crate::gateway) fn close(self, grace: Duration) -> bool {
        self.closing.send_replace(true);
        // Nothing is ever sent: the channel ends with the last connection.
        self.connections.lock().recv_timeout(grace) == Err(mpsc::RecvTimeoutError::Disconnected)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Does not wait, and is allowed within another runtime.
            runtime.shutdown_background();
        }
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("address", &self.address).finish_non_exhaustive()
    }
}
