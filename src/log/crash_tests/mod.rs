//! Tests that fail calls to the operating system, or stop at one, and check what a crash there leaves.

mod power_loss;
mod readers;
mod removed;
mod room;
mod steps;
