//! Tests of the gateway, with the clients that people use.
#![cfg(feature = "gateway")]

#[path = "../common/mod.rs"]
mod common;

mod clients;
mod console;
mod gateway;
#[cfg(all(feature = "gateway", feature = "relay-kinesis"))]
mod sdk;
#[cfg(all(feature = "gateway", feature = "video"))]
mod video;
