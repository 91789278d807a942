//! SQL over streams: whole tables now, and windows that run for ever.

mod catalog;
mod continuous;
mod decode;
mod engine;
mod error;
mod functions;
mod schema;
mod statement;
