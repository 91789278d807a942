//! Kinesis' API over HTTP: a [`Gateway`] serves the streams of a [`Store`] to boto3, the AWS SDKs, the KCL and the AWS CLI.
//!
//! ```
//! use streamlog::gateway::Gateway;
//! use streamlog::{Store, StreamOptions};
//!
//! # let directory = tempfile::tempdir()?;
//! let store = Store::open(directory.path(), StreamOptions::new())?;
//! let running = Gateway::new(store).without_authentication().start("127.0.0.1:0")?;
//! println!("aws --endpoint-url http://{} kinesis list-streams", running.local_address());
//! running.close()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! With the feature `delivery`, it also serves Amazon Data Firehose's API: `docs/FIREHOSE.md`. With the feature `video`, it also serves that
//! of Amazon Kinesis Video Streams: `docs/VIDEO.md`.
//!
//! `docs/KINESIS.md` lists what is the same as in AWS, and what differs.

mod auth;
mod builder;
mod caller;
mod catalogue;
mod console;
mod fault;
mod files;
#[cfg(feature = "delivery")]
mod firehose;
mod front;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod http;
mod model;
mod names;
mod operations;
mod pages;
mod sequence;
#[cfg(feature = "sql")]
mod sql;
mod token;
#[cfg(feature = "video")]
mod video;
mod watch;
mod wire;

#[cfg(doc)]
use crate::Store;

pub use builder::{Gateway, GatewayError, Profile, RunningGateway};
#[cfg(feature = "delivery")]
pub use firehose::Buckets;

#[cfg(test)]
mod tests;
