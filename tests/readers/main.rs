//! Tests of readers in other processes, and of `replay`.

#[path = "../common/mod.rs"]
mod common;

mod groups;
mod model;
mod reader;
mod replay;
mod stress;
