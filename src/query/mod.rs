//! SQL over streams: whole tables now, and windows that run for ever.

mod catalog;
mod columns;
mod continuous;
mod csv;
mod decode;
mod engine;
mod error;
mod field;
mod functions;
mod infer;
mod json;
mod scalar;
mod schema;
mod statement;
mod system;
mod time;
mod types;

pub use continuous::{Output, Pump, PumpOptions, PumpStats};
pub use schema::Schema;
