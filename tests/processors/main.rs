//! Tests of processors, of the filters before them and the sinks behind them.

#[path = "../common/mod.rs"]
mod common;

mod event_time;
mod event_time_kill;
mod filter;
mod filter_model;
mod kill;
mod processor;
mod sink;
