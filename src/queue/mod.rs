//! Queues: a stream's records, delivered and acknowledged one by one, as in Amazon SQS.

mod acknowledge;
mod describe;
mod entry;
mod handle;
mod history;
mod keys;
mod look;
#[cfg(test)]
mod model;
mod open;
mod options;
mod put;
mod queues;
mod receive;
mod settings;
mod shared;
mod source;
mod state;
mod take;

pub use describe::QueueDescription;
pub use handle::{QueueRecord, ReceiptHandle};
pub use options::QueueOptions;
pub use receive::NextRecords;
pub use shared::Queue;
