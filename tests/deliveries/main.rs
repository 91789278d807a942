//! Tests of deliveries, and of archives in object stores.
#![cfg(feature = "delivery")]

#[path = "../common/mod.rs"]
mod common;

mod archive;
mod delivery;
mod function_kill;
mod http;
mod kill;
#[cfg(feature = "object-store")]
mod storage;
