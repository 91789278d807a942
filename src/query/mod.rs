//! SQL over streams: whole tables now, and windows that run for ever.

mod ask;
mod bounded;
mod catalog;
mod continuous;
mod decode;
mod engine;
mod error;
mod explain;
mod files;
mod functions;
mod output;
mod plain;
mod prune;
mod read;
mod rows;
mod run;
mod scan;
mod schema;
mod sql_types;
mod statement;
mod table;
mod tables;
mod words;

pub use bounded::Column;
pub use catalog::Catalog;
pub use error::{QueryError, StatementError};
pub use rows::Rows;
pub use run::{RefusedRow, RefusedRows};
pub use schema::Schema;
