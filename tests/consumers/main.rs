//! Tests of consumer groups, of their workers and of pushed subscriptions.

#[path = "../common/mod.rs"]
mod common;

mod async_worker;
mod consumer;
mod edges;
mod kill;
mod model;
mod subscription;
