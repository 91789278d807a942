//! A Kinesis server on a directory: boto3, the AWS CLI, the AWS SDKs and the KCL use it by its endpoint, and people by its console.
//!
//! ```sh
//! cargo run --release --features gateway --example kinesis_server -- --demo --no-auth
//! ```

mod demo;
mod own_key;

use std::error::Error;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use clap::{ArgGroup, Parser, ValueEnum};
use streamlog::gateway::{Gateway, Profile};
use streamlog::{Durability, KeyFile, Limits, Store, StreamOptions};
use tracing_subscriber::filter::LevelFilter;

use own_key::OwnKey;

/// Serves the streams of a directory by the API of Amazon Kinesis Data Streams.
#[derive(Debug, Parser)]
#[command(group(ArgGroup::new("access").args(["credentials", "no_auth"])))]
#[command(group(ArgGroup::new("tls").multiple(true).requires_all(["tls_cert", "tls_key"]).args(["tls_cert", "tls_key"])))]
struct Arguments {
    /// The directory of the streams. It is created if it is not there
    #[arg(long, default_value = "kinesis-data")]
    dir: PathBuf,
    /// The port to listen on; 0 for any
    #[arg(long, default_value_t = 4567)]
    port: u16,
    /// The address to listen on
    #[arg(long, default_value = "127.0.0.1")]
    host: IpAddr,
    /// A JSON file of access keys and their policies. Without it, the server makes a key of its own and prints it
    #[arg(long, value_name = "FILE")]
    credentials: Option<PathBuf>,
    /// Let anybody on this machine call
    #[arg(long)]
    no_auth: bool,
    /// Make a stream with traffic, to have something to look at
    #[arg(long)]
    demo: bool,
    /// A PEM file with the certificate chain
    #[arg(long, value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// A PEM file with the private key
    #[arg(long, value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// Limit what each shard takes and hands out
    #[arg(long, value_enum, default_value_t = Limit::None)]
    limits: Limit,
    /// Answer as Kinesis did in 2018
    #[arg(long, value_parser = ["2018"])]
    profile: Option<String>,
    /// How long streams stay CREATING, UPDATING and DELETING
    #[arg(long, default_value_t = 500, value_name = "MILLISECONDS")]
    delay_ms: u64,
    /// The region of the streams
    #[arg(long, default_value = "us-east-1")]
    region: String,
    /// The account of the streams, 12 digits
    #[arg(long, default_value = "000000000000")]
    account: String,
    /// How many shards of provisioned streams may be open
    #[arg(long, default_value_t = 20_000)]
    shard_limit: u32,
    /// What an answered put survives
    #[arg(long, value_enum, default_value_t = Survives::Process)]
    durability: Survives,
    /// A file of keys for server-side encryption. It is created if it is not there
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Where the buckets of delivery streams are: a directory, or a URL such as s3:// (with the feature object-store)
    #[cfg(feature = "delivery")]
    #[arg(long, value_name = "DIRECTORY|URL")]
    buckets: Option<String>,
    /// A server that delivery streams may send to, such as https://collector.example.com:8443. May be given several times
    #[cfg(feature = "delivery")]
    #[arg(long, value_name = "URL")]
    allow_endpoint: Vec<String>,
    /// Threads that serve
    #[arg(long)]
    threads: Option<usize>,
    /// Print a line for each request
    #[arg(long)]
    access_log: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Limit {
    None,
    /// Those of Kinesis: 1 MiB and 1,000 records a second in, 2 MiB and 5 calls a second out
    Kinesis,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Survives {
    /// The death of the process
    Process,
    /// Power loss, too
    Power,
}

fn main() {
    if let Err(error) = serve(&Arguments::parse()) {
        eprintln!("kinesis_server: {error}");
        std::process::exit(1);
    }
}

/// Sets what delivery streams need.
#[cfg(feature = "delivery")]
fn delivery_streams(mut gateway: Gateway, arguments: &Arguments) -> Result<Gateway, Box<dyn Error>> {
    use streamlog::gateway::Buckets;

    gateway = match &arguments.buckets {
        #[cfg(feature = "object-store")]
        Some(url) if url.contains("://") => gateway.buckets(Buckets::at_url(url)?),
        #[cfg(not(feature = "object-store"))]
        Some(url) if url.contains("://") => {
            return Err(format!("{url} needs the feature object-store").into());
        }
        Some(directory) => gateway.buckets(Buckets::in_directory(directory)),
        None => gateway,
    };
    Ok(arguments.allow_endpoint.iter().fold(gateway, |gateway, url| gateway.allow_endpoint(url)))
}

fn serve(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let level = if arguments.access_log { LevelFilter::INFO } else { LevelFilter::WARN };
    let log = tracing_subscriber::fmt().with_max_level(level).with_target(false).with_ansi(false);
    log.with_writer(std::io::stderr).init();
    let mut options = StreamOptions::new().durability(match arguments.durability {
        Survives::Process => Durability::Process,
        Survives::Power => Durability::Power,
    });
    if let Some(path) = &arguments.key_file {
        let keys = if path.exists() { KeyFile::open(path)? } else { KeyFile::create(path)? };
        options = options.encryption_keys(keys);
    }
    let store = Store::open(&arguments.dir, options)?;
    let mut gateway = Gateway::new(store.clone())
        .account(&arguments.account, &arguments.region)
        .delay(Duration::from_millis(arguments.delay_ms))
        .shards_max(arguments.shard_limit);
    let own_key = match arguments.no_auth || arguments.credentials.is_some() {
        true => None,
        false => Some(OwnKey::in_directory(&arguments.dir)?),
    };
    let keys = arguments.credentials.as_ref().or(own_key.as_ref().map(|key| &key.file));
    gateway = match keys {
        Some(file) => gateway.credentials(file),
        None => gateway.without_authentication(),
    };
    if let (Some(certificates), Some(key)) = (&arguments.tls_cert, &arguments.tls_key) {
        gateway = gateway.tls(certificates, key);
    }
    if arguments.limits == Limit::Kinesis {
        gateway = gateway.limits(Limits::kinesis());
    }
    if arguments.profile.is_some() {
        gateway = gateway.profile(Profile::Year2018);
    }
    if let Some(threads) = arguments.threads {
        gateway = gateway.threads(threads);
    }
    #[cfg(feature = "delivery")]
    {
        gateway = delivery_streams(gateway, arguments)?;
    }
    let running = gateway.start((arguments.host, arguments.port))?;

    let scheme = if arguments.tls_cert.is_some() { "https" } else { "http" };
    let url = format!("{scheme}://{}", running.local_address());
    let region = &arguments.region;
    println!("Kinesis at {url}, streams in {}", arguments.dir.display());
    println!("  console {url}/console");
    println!("  boto3   boto3.client(\"kinesis\", endpoint_url=\"{url}\", region_name=\"{region}\")");
    println!("  CLI     aws --endpoint-url {url} --region {region} kinesis list-streams");
    println!("  metrics {url}/metrics");
    if let Some(OwnKey { file, id, secret }) = &own_key {
        println!("Its key, for clients and the console, is in {}:", file.display());
        println!("  export AWS_ACCESS_KEY_ID={id} AWS_SECRET_ACCESS_KEY={secret}");
    }
    if arguments.no_auth {
        println!("Anybody on this machine may call: clients need some access key, and any will do.");
    }
    let demo = match arguments.demo {
        true => {
            println!("The stream {} gets traffic until the server stops.", demo::STREAM);
            Some(demo::start(&store)?)
        }
        false => {
            println!("With --demo there is a stream with traffic to look at. Ctrl-C stops the server.");
            None
        }
    };

    let (stop, stopped) = mpsc::channel();
    ctrlc::set_handler(move || {
        // No one would receive it once the server ends.
        let _ = stop.send(());
    })?;
    stopped.recv()?;
    drop(demo);
    running.close()?;
    Ok(())
}
