//! Continuous queries: statements that run until they are closed.

mod columns;
mod errors;
mod evaluate;
mod feed;
mod keyed;
mod keys;
mod marks;
#[cfg(test)]
mod model;
mod operator;
mod options;
mod output;
mod over;
mod overlay;
mod panes;
mod pile;
mod pump;
mod putter;
mod queries;
mod runner;
mod sessions;
mod shared;
mod sides;
mod stagger;
mod start;
mod state;
mod store;
#[cfg(test)]
mod tests;
mod text;

pub use options::PumpOptions;
pub use output::Output;
pub use pump::{Pump, PumpStats};
pub(in crate::query) use start::Source;
