//! Setting up, starting and closing a gateway.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use ring::rand::SystemRandom;
use tokio::sync::watch;

use super::auth::Credentials;
use super::catalogue::{Behaviour, Catalogue, Janitor, Recorder};
use super::files::{self, CertificateFiles};
#[cfg(feature = "delivery")]
use super::firehose::{Endpoint, Firehose, Rules};
use super::front::{Door, Front};
use super::http::{Running, Server, Settings};
use super::model;
use super::names::Account;
use super::operations::Service;
use super::token::Sealer;
#[cfg(feature = "video")]
use super::video::Video;
use super::watch::Watch;
use crate::{Clock, Limits, MINUTE, Store, SystemClock};

/// The file of a store that holds the secret of the tokens.
const SECRET: &str = ".gateway-secret";
/// How long running requests may continue when the gateway is closed.
const GRACE: Duration = Duration::from_secs(5);

/// Serves the streams of a store through Kinesis' API.
///
/// ```
/// # use streamlog::{Store, StreamOptions};
/// # use streamlog::gateway::Gateway;
/// # let directory = tempfile::tempdir()?;
/// # let keys = directory.path().join("credentials.json");
/// std::fs::write(&keys, r#"{"keys": [{
///     "access_key_id": "AKIDEXAMPLE", "secret_access_key": "secret", "user": "alice",
///     "policies": [{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "kinesis:*", "Resource": "*"}]}]
/// }]}"#)?;
/// let store = Store::open(directory.path().join("streams"), StreamOptions::new())?;
/// let running = Gateway::new(store).credentials(&keys).start("127.0.0.1:0")?;
/// # running.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Gateway {
    store: Store,
    access: Access,
    certificates: Option<(PathBuf, PathBuf)>,
    account: Account,
    delay: Duration,
    limits: Limits,
    shards_max: u32,
    profile: Profile,
    clock: Arc<dyn Clock>,
    subscription_life: Duration,
    threads: Option<usize>,
    #[cfg(feature = "sql")]
    pub(super) sql: super::sql::Rules,
    #[cfg(feature = "delivery")]
    pub(super) firehose: Rules,
    /// The servers that delivery streams may send to, or what is wrong with an address.
    #[cfg(feature = "delivery")]
    pub(super) endpoints: Vec<Result<Endpoint, String>>,
    #[cfg(feature = "video")]
    pub(super) video: super::video::Rules,
}

#[derive(Debug, Clone)]
enum Access {
    /// It is not set who may call.
    Unknown,
    Anybody,
    Keys(PathBuf),
}

/// Which version of Kinesis' behaviour a gateway follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Profile {
    /// Kinesis today.
    #[default]
    Today,
    /// The limits and responses of 2018, which older test suites expect.
    Year2018,
}

/// Why a gateway does not start, or was not closed cleanly.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GatewayError {
    /// An invalid setting, with the remedy.
    #[error("{0}")]
    InvalidSetting(String),
    /// The address cannot be used, or a file cannot be read.
    #[error("{action}: {source}")]
    Io {
        /// The action that failed.
        action: String,
        /// The error of the system.
        source: io::Error,
    },
    /// An error of the store.
    #[error(transparent)]
    Store(#[from] crate::Error),
}

impl Gateway {
    /// Returns a gateway to a store. Before you start it, call [`credentials`](Self::credentials) or
    /// [`without_authentication`](Self::without_authentication).
    pub fn new(store: Store) -> Self {
        Self {
            store,
            access: Access::Unknown,
            certificates: None,
            account: Account { id: "000000000000".to_owned(), region: "us-east-1".to_owned() },
            delay: Duration::from_millis(500),
            limits: Limits::none(),
            shards_max: 20_000,
            profile: Profile::default(),
            clock: Arc::new(SystemClock),
            subscription_life: 5 * MINUTE,
            threads: None,
            #[cfg(feature = "sql")]
            sql: super::sql::Rules::default(),
            #[cfg(feature = "delivery")]
            firehose: Rules::default(),
            #[cfg(feature = "delivery")]
            endpoints: vec![],
            #[cfg(feature = "video")]
            video: super::video::Rules::default(),
        }
    }

    /// Accepts requests that are signed with a key of this file, within the policies of the key and of the streams.
    ///
    /// The file is JSON: `{"keys": [{"access_key_id": …, "secret_access_key": …, "user": …, "policies": […]}]}`, with `session_token` if
    /// the key has one. Policies are IAM policies. A key without policies may do nothing.
    pub fn credentials(mut self, file: impl Into<PathBuf>) -> Self {
        self.access = Access::Keys(file.into());
        self
    }

    /// Accepts requests from anybody who can reach the address, which must be reachable only from this machine, such as `127.0.0.1`. Requests must
    /// be signed, as all clients do, but with any key.
    pub fn without_authentication(mut self) -> Self {
        self.access = Access::Anybody;
        self
    }

    /// Serves over TLS, with the certificate chain and the private key in these files (PEM). They are reloaded when they change.
    pub fn tls(mut self, certificates: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.certificates = Some((certificates.into(), key.into()));
        self
    }

    /// Sets the id of the account, 12 digits, and the region. Default: `000000000000` and `us-east-1`.
    pub fn account(mut self, id: impl Into<String>, region: impl Into<String>) -> Self {
        self.account = Account { id: id.into(), region: region.into() };
        self
    }

    /// Sets how long streams and consumers stay `CREATING`, `UPDATING` and `DELETING`. Default: 500 milliseconds. With 0, tests need not wait.
    ///
    /// The gateway performs each change immediately, and only reports the state for this long. But a resource that is being deleted exists until the
    /// end.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Limits what each shard accepts and returns, and with [`Limits::kinesis`] also how often settings may be changed per day. Default: no limits.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets how many shards of provisioned streams may be open. Default: 20,000.
    pub fn shards_max(mut self, count: u32) -> Self {
        self.shards_max = count;
        self
    }

    /// Sets which version of Kinesis' behaviour to follow. Default: Kinesis today.
    pub fn profile(mut self, profile: Profile) -> Self {
        self.profile = profile;
        self
    }

    /// Sets the source of the time. Give the store's streams the same clock. Default: the system's clock.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Sets after how long a subscription ends, so its client opens another one. Default: 5 minutes, as in Kinesis.
    pub fn subscription_life(mut self, life: Duration) -> Self {
        self.subscription_life = life;
        self
    }

    /// Sets how many threads serve requests. Default: one for each processor.
    pub fn threads(mut self, count: usize) -> Self {
        self.threads = Some(count);
        self
    }

    /// Starts to serve at an address, such as `127.0.0.1:4567`. With port 0, the system chooses one.
    ///
    /// The gateway opens the streams of the store in the background. A stream that is requested is opened first.
    ///
    /// # Errors
    /// `InvalidSetting` if neither credentials nor access without authentication is set, if access without authentication is set for an address that
    /// other machines reach, or if a file has invalid contents; `Io` if a file cannot be read or the address cannot be used.
    pub fn start(self, address: impl ToSocketAddrs) -> Result<RunningGateway, GatewayError> {
        let failed = |action: &str| {
            let action = action.to_owned();
            |source| GatewayError::Io { action, source }
        };
        let addresses: Vec<SocketAddr> =
            address.to_socket_addrs().map_err(failed("find the address"))?.collect();
        let door = self.door(&addresses)?;
        let listing: Vec<_> = addresses.iter().map(SocketAddr::to_string).collect();
        let listen = format!("listen at {}", listing.join(", "));
        let listener = TcpListener::bind(&*addresses).map_err(failed(&listen))?;
        let directory = self.store.directory().to_owned();
        let secret = self.secret(&directory)?;
        let options = self.store.options().clone();
        let behaviour = Behaviour {
            account: self.account.clone(),
            delay: self.delay,
            limits: self.limits,
            shards_max: self.shards_max,
            options,
        };
        let catalogue = Arc::new(Catalogue::new(self.store.clone(), behaviour));
        let janitor = Janitor::start(Arc::clone(&catalogue)).map_err(failed("start a thread"))?;
        #[cfg(feature = "delivery")]
        let firehose = self.start_firehose(&catalogue)?;
        #[cfg(feature = "video")]
        let video = Video::new(&directory, Arc::clone(catalogue.behaviour()), self.video.clone())?;
        let recorder = Recorder::start(Arc::clone(&catalogue)).map_err(failed("start a thread"))?;
        let service = Service {
            catalogue,
            janitor,
            #[cfg(feature = "sql")]
            sql: super::sql::Sql::new(self.sql.clone()),
            #[cfg(feature = "delivery")]
            firehose,
            #[cfg(feature = "video")]
            video,
            recorder: Some(recorder),
            sealer: Arc::new(Sealer::new(secret)),
            clock: Arc::clone(&self.clock),
            profile: match self.profile {
                Profile::Today => model::Profile::Today,
                Profile::Year2018 => model::Profile::Year2018,
            },
            subscription_life: self.subscription_life,
            ending: watch::Sender::new(false),
        };
        let mut settings = Settings::default();
        let front = Arc::new(Front {
            service,
            door,
            watch: Watch::new(Arc::clone(&settings.counts)),
            random: SystemRandom::new(),
            requests: AtomicU64::default(),
        });
        settings.threads = self.threads.unwrap_or(settings.threads);
        if let Some((chain, key)) = self.certificates {
            settings.certificates = Some(Arc::new(CertificateFiles { chain, key }));
        }
        let running =
            Server::start(listener, Arc::clone(&front) as _, settings).map_err(failed("start the server"))?;
        Ok(RunningGateway { running, front, store: self.store })
    }

    #[cfg(feature = "delivery")]
    fn start_firehose(&self, catalogue: &Arc<Catalogue>) -> Result<Firehose, GatewayError> {
        let endpoints = self.endpoints.iter().cloned().collect::<Result<_, _>>();
        let endpoints = endpoints.map_err(GatewayError::InvalidSetting)?;
        let rules = Rules { endpoints, ..self.firehose.clone() };
        Firehose::start(Arc::clone(catalogue), rules)
            .map_err(|source| GatewayError::Io { action: "start a thread".to_owned(), source })
    }

    fn door(&self, addresses: &[SocketAddr]) -> Result<Door, GatewayError> {
        let invalid = |reason: String| GatewayError::InvalidSetting(reason);
        match &self.access {
            Access::Unknown => Err(invalid(
                "say who may call: Gateway::credentials with a file of keys, or Gateway::without_authentication".to_owned(),
            )),
            Access::Anybody => match addresses.iter().map(SocketAddr::ip).find(|ip: &IpAddr| !ip.is_loopback()) {
                Some(ip) => Err(invalid(format!(
                    "{ip} can be reached by other machines: use 127.0.0.1, or give credentials"
                ))),
                None => Ok(Door::Open),
            },
            Access::Keys(file) => {
                let text = files::read_text(file)
                    .map_err(|source| GatewayError::Io { action: "read the credentials".to_owned(), source })?;
                let credentials = Credentials::parse(&text, &self.account.id);
                credentials.map(Door::Keys).map_err(|reason| invalid(format!("{}: {reason}", file.display())))
            }
        }
    }

    fn secret(&self, directory: &Path) -> Result<[u8; 32], GatewayError> {
        let failed = |source| GatewayError::Io { action: "keep the secret of the tokens".to_owned(), source };
        files::create_directory(directory).map_err(failed)?;
        files::secret(&directory.join(SECRET)).map_err(failed)
    }
}

/// A running gateway. Dropping it ends it, and aborts the requests that run.
pub struct RunningGateway {
    running: Running,
    front: Arc<Front>,
    store: Store,
}

impl fmt::Debug for RunningGateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunningGateway").field("address", &self.local_address()).finish_non_exhaustive()
    }
}

impl RunningGateway {
    /// Returns the address at which it serves.
    pub fn local_address(&self) -> SocketAddr {
        self.running.local_address()
    }

    /// Stops serving: lets requests that run finish, for up to 5 seconds, and closes the streams of the store.
    ///
    /// It delivers what delivery streams have buffered, with one attempt for each object, for up to 5 seconds. The rest is delivered after the next
    /// start.
    ///
    /// # Errors
    /// The first error of a stream that was not closed cleanly.
    pub fn close(self) -> Result<(), GatewayError> {
        self.front.service.ending.send_replace(true);
        self.running.close(GRACE);
        #[cfg(feature = "sql")]
        self.front.service.sql.end(GRACE);
        // An aborted request may still run, and must not open a stream again.
        self.front.service.janitor.end();
        self.front.service.recorder.iter().for_each(Recorder::end);
        #[cfg(feature = "delivery")]
        self.front.service.firehose.end(GRACE);
        #[cfg(feature = "video")]
        self.front.service.video.close();
        self.front.service.catalogue.close();
        Ok(self.store.close()?)
    }
}
