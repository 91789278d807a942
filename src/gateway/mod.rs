//! Kinesis' API over HTTP: `Gateway` serves the streams of a `Store` to boto3, the AWS SDKs, the KCL and the AWS CLI.

mod auth;
mod catalogue;
mod fault;
mod files;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod http;
mod model;
mod names;
mod operations;
mod sequence;
mod token;
mod wire;
