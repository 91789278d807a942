//! SQL over streams: whole tables now, and windows that run for ever.
//!
//! A [`Catalog`] holds the tables that statements may name: streams, each with a [`Schema`] that makes columns of its records' data, and
//! files. [`Catalog::query`] runs a statement over what is there, and returns its [`Rows`] as batches of Apache Arrow, as JSON, as CSV or
//! as a table for people.
//!
//! ```
//! use streamlog::Stream;
//! use streamlog::query::{Catalog, Schema};
//!
//! # let directory = tempfile::tempdir()?;
//! # let stream = Stream::open(directory.path())?;
//! stream.put("user-17", r#"{"page": "/home", "ms": 12.5}"#)?;
//! stream.put("user-42", r#"{"page": "/cart", "ms": 80.0}"#)?;
//! stream.put("user-17", r#"{"page": "/cart", "ms": 40.0}"#)?;
//!
//! let catalog = Catalog::new().stream("clicks", &stream, Schema::json("page VARCHAR, ms DOUBLE")?)?;
//! let mut rows = catalog.query(
//!     "SELECT page, count(*) AS clicks, avg(ms) AS ms
//!      FROM clicks
//!      WHERE _arrival > now() - INTERVAL '1 minute'
//!      GROUP BY page
//!      ORDER BY clicks DESC",
//! )?;
//! assert_eq!(
//!     rows.to_table()?,
//!     "+-------+--------+------+\n\
//!      | page  | clicks | ms   |\n\
//!      +-------+--------+------+\n\
//!      | /cart | 2      | 60.0 |\n\
//!      | /home | 1      | 12.5 |\n\
//!      +-------+--------+------+\n"
//! );
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What a query reads
//!
//! - A query sees each stream as it was when the query began, in all shards that have not expired, also closed ones.
//! - Filters on `_shard`, `_sequence` and `_arrival` are looked up in the log: a query of the last minute reads the last minute. Filters on
//!   the other columns that the log knows, `_key`, `_data` and `_headers`, are decided before data is parsed. Only the columns that a
//!   statement needs are parsed.
//! - Shards are read in parallel, long ones in several parts. A `LIMIT` ends the reading early.
//! - The rows of a query without `ORDER BY` come in any order. `ORDER BY _shard, _sequence` costs nothing, and
//!   `ORDER BY _arrival DESC LIMIT 10` reads the newest records only, in up to 64 shards.
//! - A record that was aggregated by the Kinesis Producer Library is one row. Its `_data` is the aggregate.
//! - Records that retention drops while the query runs are left out, and [`Rows::trimmed`] counts them. [`Rows::refused`] tells of those
//!   whose data does not fit the schema. Damage ends a query with an error.
//!
//! `EXPLAIN` shows the plan, and how many shards and records it reads. `SHOW TABLES`, `DESCRIBE table` and `SHOW FUNCTIONS` list what there
//! is.
//!
//! # Names
//!
//! A name without quotes means the table, column or field that is written like it, whatever the case; a name in double quotes is exact.
//! The fields of a `STRUCT` are reached with a dot, `user.id`, and the items of a list with a number from 1, `tags[1]`. Texts stand between
//! single quotes.
//!
//! # Statements from others
//!
//! A statement reads the tables of the catalog and nothing else: it changes no setting, writes no file, and reads no file that was not added.
//! Its length, its depth and the memory of what it groups, sorts and joins are bounded; see [`Catalog::memory_limit`]. Its time is not: drop
//! the [`Rows`] to end it.
//!
//! Functions that make long values of a few bytes, such as `repeat`, `lpad` and `range`, are **not** bounded by that memory. So run statements only of
//! people whom you trust with the memory of the process.

mod ask;
mod bounded;
mod catalog;
mod columns;
mod continuous;
mod csv;
mod decode;
mod engine;
mod error;
mod explain;
mod field;
mod files;
mod functions;
mod headings;
mod infer;
mod interrupt;
mod json;
mod ordered;
mod output;
mod plain;
mod prune;
mod read;
mod rows;
mod run;
mod sample;
mod scan;
mod schema;
mod sql_types;
mod statement;
mod system;
mod table;
mod tables;
mod types;
mod words;

pub use bounded::Column;
pub use catalog::Catalog;
pub use continuous::{Output, Pump, PumpOptions, PumpStats};
pub use decode::Decoded;
pub use error::{QueryError, StatementError};
#[cfg(feature = "gateway")]
pub(crate) use output::json_lists;
pub use rows::{Rows, Stopper};
pub use run::{RefusedRow, RefusedRows};
pub use sample::FoundSchema;
pub use schema::Schema;
