//! Tests that fail calls to the operating system, or stop at one, and check what a crash there leaves.

mod outside;
mod power_loss;

mod removed;
mod room;
mod snapshot;
mod steps;
