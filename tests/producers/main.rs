//! Tests of producers and of aggregated records.

#[path = "../common/mod.rs"]
mod common;

mod aggregate;
mod aggregate_groups;
mod aggregate_python;
mod producer;
