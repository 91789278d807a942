//! Tests of queues.

#[path = "../common/mod.rs"]
mod common;

mod async_queue;
mod kill;
mod model;
mod queue;
