//! SQL over streams: queries of whole tables, and continuous queries over windows.
//!
//! A [`Catalog`] holds the tables that statements can name: streams, each with a [`Schema`] that turns its records' data into columns, and files.
//! [`Catalog::query`] runs a statement over the existing records, and returns its [`Rows`] as Apache Arrow batches, as JSON, as CSV or as a
//! human-readable table.
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
//! - A query sees each stream as it was when the query began, in all shards that have not expired, including closed ones.
//! - Filters on `_shard`, `_sequence` and `_arrival` use the log's index: a query for the last minute reads only the last minute. Filters on the
//!   log's other columns, `_key`, `_data` and `_headers`, are evaluated before data is parsed. Only the columns that a statement needs are parsed.
//! - Shards are read in parallel, long ones in several parts. A `LIMIT` ends the reading early.
//! - Without `ORDER BY`, the rows of a query come in any order. `ORDER BY _shard, _sequence` costs nothing, and `ORDER BY _arrival DESC LIMIT 10`
//!   reads only the newest records, in up to 64 shards.
//! - A record that was aggregated by the Kinesis Producer Library is one row. Its `_data` is the aggregate.
//! - Records that retention drops while the query runs are left out, and [`Rows::trimmed`] counts them. Records whose data does not fit the schema
//!   are also left out, and [`Rows::refused`] reports them. Damage ends a query with an error.
//!
//! `EXPLAIN` shows the plan, and how many shards and records it reads. `SHOW TABLES`, `DESCRIBE table` and `SHOW FUNCTIONS` list what is available.
//!
//! # Names
//!
//! An unquoted name matches the table, column or field regardless of case, and a name in double quotes is exact. Access the fields of a `STRUCT`
//! with a dot, `user.id`, and the items of a list with an index from 1, `tags[1]`. Strings are in single quotes.
//!
//! # Statements from others
//!
//! A statement reads the tables of the catalog and nothing else: it changes no setting, writes no file, and reads no file that was not added. Its
//! length, its depth and its memory for grouping, sorting and joining are limited; see [`Catalog::memory_limit`]. Its time is not: drop the [`Rows`]
//! to end it.
//!
//! Functions that expand a few bytes into long values, such as `repeat`, `lpad` and `range`, are **not** covered by that limit. So only run
//! statements of people whom you trust with the memory of the process.

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
