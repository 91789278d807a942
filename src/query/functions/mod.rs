//! SQL functions in addition to those of DataFusion.
//!
//! | function | returns |
//! |---|---|
//! | `json_value(json, path)`, `json_query(json, path)` | the scalar as a text, or the object or list as JSON, that lies at a path such as `$.user.tags[0]`; null if there is none |
//! | `tsdiff(start, end)` | the milliseconds from one moment to another |
//! | `unix_timestamp(time)` | the seconds since 1970 |
//! | `regex_log_parse(text, pattern)` | a struct with the groups of a regular expression: `column1`, `column2`, … |
//! | `w3c_log_parse(text, format)` | a struct with the parts of a line that a web server has logged |
//! | `fixed_column_log_parse(text, columns)`, `variable_column_log_parse(text, columns, delimiter)` | a struct with the fields of a line |
//! | `sys_log_parse(text)` | a struct with the time and the message of a line of syslog |
//! | `random_cut_forest(number, …) OVER (ROWS 255 PRECEDING)` | how unusual a row is among the rows before it |
//!
//! The log parsers are those of Kinesis Data Analytics. All of their arguments but the first are constants, since the columns follow from them.

mod columns;
pub(super) mod forest;
mod json;
mod json_path;
mod logs;
mod split;
#[cfg(test)]
mod tests;
mod time;
mod w3c;

use datafusion::prelude::SessionContext;

/// Adds all functions to a session.
pub(super) fn register(session: &SessionContext) {
    let functions = json::functions().into_iter().chain(time::functions()).chain(logs::functions());
    functions.for_each(|function| session.register_udf(function));
    session.register_udaf(forest::function());
}
