//! Consumer groups: workers that share the shards of a stream, and checkpoints that remember how far each group is.

#[cfg(feature = "futures")]
mod batches;
mod bell;
mod checkpoint;
mod checkpoints;
mod describe;
mod group;
mod groups;
mod leases;
mod next;
mod options;
mod readable;
mod shared;
mod start;
mod user_records;
mod worker;

#[cfg(feature = "futures")]
pub use batches::WorkerBatches;
pub(crate) use bell::{Bell, Patience};
pub use describe::{GroupDescription, GroupShard};
pub use groups::Group;
pub(crate) use leases::Term;
pub use leases::WorkerId;
pub use next::NextBatch;
pub use options::{OnTrimmed, WorkerOptions};
pub use user_records::Handled;
pub use worker::Worker;
