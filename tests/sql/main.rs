//! Tests of SQL over streams and files.
#![cfg(feature = "sql")]

#[path = "../common/mod.rs"]
mod common;

mod duckdb;
mod errors;
mod forest;
mod nexmark;
mod pump;
mod pump_kill;
mod pump_model;
mod queries;
