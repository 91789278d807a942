//! The number of shards follows the load: hot shards are split, cold neighbours are merged.
//!
//! **Look:** a maintenance pass takes the stream's counts, at most once an interval → the load of each shard in the interval → the planner decides,
//! without I/O or clock (`plan.rs`) → for a shard that is to be split, the keys of some of its last records are read, and the cut is between
//! them (`cut.rs`) → each decision is carried out, and reported. A put does nothing for all this. Nothing is stored: after a crash, the shards
//! are as the last split or merge has left them, and looking begins anew.

mod cut;
mod decision;
mod driver;
mod plan;
mod sample;
mod settings;
#[cfg(test)]
mod simulation;

pub use decision::ScalingDecision;
pub use settings::Scaling;
