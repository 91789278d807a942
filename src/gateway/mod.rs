//! Kinesis' API over HTTP: `Gateway` serves the streams of a `Store` to boto3, the AWS SDKs, the KCL and the AWS CLI.

mod auth;
mod catalogue;
mod fault;
mod files;
mod http;
mod model;
mod names;
mod sequence;
mod token;
mod wire;
