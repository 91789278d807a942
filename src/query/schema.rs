//! The columns that the data of a record has.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arrow_schema::SchemaRef;

use super::columns;
use super::error::QueryError;
use super::infer;
use super::system::SystemColumn;
use super::types::{Column, SqlType};
use crate::Record;

const IDLE_TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);

/// How the data of a stream's records becomes the columns of a table.
///
/// A table of a stream has six **system columns**, regardless of its data:
///
/// | column | type | |
/// |---|---|---|
/// | `_shard` | `INTEGER UNSIGNED` | the number of the record's shard |
/// | `_sequence` | `BIGINT UNSIGNED` | its sequence number in the shard |
/// | `_arrival` | `TIMESTAMP` | when it arrived |
/// | `_key` | `VARCHAR` | its partition key; bytes that are not UTF-8 become U+FFFD |
/// | `_data` | `VARBINARY` | its data |
/// | `_headers` | a map | its headers |
///
/// They are followed by the columns that the schema names, with SQL types:
///
/// ```
/// use streamlog::query::Schema;
///
/// let schema = Schema::json(
///     "page VARCHAR, ms DOUBLE NOT NULL, at TIMESTAMP, user STRUCT<id BIGINT, name VARCHAR>, tags VARCHAR[]",
/// )?;
/// # let _ = schema;
/// # Ok::<(), streamlog::query::QueryError>(())
/// ```
///
/// # Types
///
/// The type names of Flink, Hive and PostgreSQL are supported. Unquoted names are in lower case, as in statements, and quoted names are exact.
///
/// | type | accepted values |
/// |---|---|
/// | `BOOLEAN` | `true` and `false`, also as strings, in upper or lower case; the numbers 1 and 0 |
/// | `TINYINT`, `SMALLINT`, `INTEGER`, `BIGINT` | a whole number, also as a string: `12.0` and `1.2e1` are whole; `true` is 1 and `false` is 0 |
/// | `REAL`, `DOUBLE` | the nearest number of 32 or 64 bits, also as a string; `NaN`, `Infinity` and `-Infinity` as strings; `true` is 1 and `false` is 0. `FLOAT` is `REAL` |
/// | `DECIMAL(p, s)` | an exact number with `p` digits, `s` of them after the decimal point, also as a string; one with more digits after the point does not fit. Without digits it is `DECIMAL(38, 10)` |
/// | `VARCHAR`, `VARCHAR(n)` | a string, or the JSON text of any other value; characters beyond `n` are cut off. `STRING`, `TEXT` and `CHAR(n)` are the same |
/// | `TIMESTAMP` | a time in UTC, with microseconds: a string in the format of RFC 3339, or with a space instead of the `T`; without an offset it is UTC; a date alone is its midnight. A number, also as a string, counts seconds since 1970, or milliseconds if it is whole and has 13 digits or more |
/// | `DATE`, `TIME` | a string such as `2026-03-01`, or the day in UTC of a timestamp in the formats above; a string such as `12:00:00.5` |
/// | `VARBINARY` | the bytes of a Base64 string, in the standard or the URL alphabet, with or without padding |
/// | `T[]`, `ARRAY<T>` | a list, whose items may be null |
/// | `STRUCT<name T, …>`, `ROW<…>` | an object; members that are not fields are ignored |
///
/// A null or missing value is null, and does not fit a column that is `NOT NULL`. A record with a value that does not fit has no row; the reason
/// names the column, its type and the value that was found.
///
/// A schema has at most 1,000 columns, counting the fields of structs, and is nested at most 10 levels deep.
#[derive(Clone)]
#[must_use]
pub struct Schema {
    format: Format,
    columns: Arc<[Column]>,
    /// With the system columns.
    arrow: SchemaRef,
    is_inferred: bool,
    watermark: Option<Watermark>,
    idle_timeout: Duration,
    do_keys_decide_shards: bool,
}

#[derive(Debug, Clone)]
struct Watermark {
    column: String,
    allowed_lateness: Duration,
}

/// How data is parsed.
#[derive(Debug, Clone)]
pub(super) enum Format {
    Json,
    Csv { delimiter: u8 },
    Raw,
    Function(Function),
}

type Decode = dyn Fn(&Record<'_>) -> Result<serde_json::Value, String> + Send + Sync;

/// A function that converts a record to a JSON object.
#[derive(Clone)]
pub(super) struct Function(Arc<Decode>);

impl Function {
    pub(super) fn call(&self, record: &Record<'_>) -> Result<serde_json::Value, String> {
        (self.0)(record)
    }
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Function")
    }
}

impl Schema {
    /// The data is a JSON object, and its members are the columns.
    ///
    /// A column takes the member of its name or, if there is none, one whose name differs only in upper and lower case. If there are several, the
    /// last one counts. Other members are ignored, after a check that they are JSON. The members of nested objects are the fields of a `STRUCT`.
    ///
    /// Data that is not a JSON object, or that is nested deeper than 127 levels, is refused, but only by statements that use a column of the schema.
    /// Statements that use only system columns, such as `SELECT count(*)`, do not read the data.
    ///
    /// # Errors
    /// `Statement`, with the position, if this is not a list of columns. `Invalid` if a column has the name of a system column.
    ///
    /// ```
    /// # use streamlog::query::Schema;
    /// let error = Schema::json("page VARCHAR, ms NUMBER").unwrap_err();
    /// assert_eq!(
    ///     error.to_string(),
    ///     "column ms: the type NUMBER is unknown here\n\
    ///      1 | page VARCHAR, ms NUMBER\n  \
    ///        |               ^^"
    /// );
    /// ```
    pub fn json(columns: &str) -> Result<Self, QueryError> {
        Self::new(Format::Json, columns::read(columns)?)
    }

    /// The data is a JSON object, whose columns are [inferred](Self::infer) from the first records of the stream when it is added to a catalog.
    pub fn json_inferred() -> Self {
        let schema = Self::with_columns(Format::Json, vec![]);
        Self { is_inferred: true, ..schema }
    }

    /// Infers a JSON schema that fits all of these records. Each column may be null. Columns are in the order in which their names first occur.
    /// Names are in lower case, so statements need no quotes; names that differ only in upper and lower case are one column.
    ///
    /// Types are widened where necessary: whole numbers (`BIGINT`) to `DOUBLE` where others are among them, and all other mixed or always null
    /// values to `VARCHAR`. Whole numbers of more than 64 bits are also `VARCHAR`, so they keep their digits. Strings are never interpreted as
    /// numbers or times. Records that are not JSON objects, and members with the name of a system column, are ignored.
    ///
    /// ```
    /// # use streamlog::query::Schema;
    /// let records = [r#"{"id": 1, "ms": 2, "user": {"id": 7}}"#, r#"{"id": 2, "ms": 2.5, "tags": ["new"]}"#];
    /// let schema = Schema::infer(records)?;
    /// assert_eq!(schema.to_string(), "id BIGINT, ms DOUBLE, user STRUCT<id BIGINT>, tags VARCHAR[]");
    /// # Ok::<(), streamlog::query::QueryError>(())
    /// ```
    ///
    /// # Errors
    /// `Invalid` if no record is a JSON object with members, or if there are too many columns.
    pub fn infer<R: AsRef<[u8]>>(records: impl IntoIterator<Item = R>) -> Result<Self, QueryError> {
        Self::json_inferred().inferred_from(records)
    }

    /// The data is a line of CSV according to RFC 4180, and its fields are the columns, in order. Fields are separated by commas, unless
    /// [`delimiter`](Self::delimiter) sets something else. An empty field without quotation marks is null. A line with another number of fields is
    /// refused. Columns cannot be lists or structs.
    ///
    /// # Errors
    /// `Statement` if this is not a list of columns. `Invalid` if a column is a list or a struct, or has the name of a system column.
    ///
    /// ```
    /// # use streamlog::query::Schema;
    /// let schema = Schema::csv("page VARCHAR, ms DOUBLE")?.delimiter(b';')?;
    /// # let _ = schema;
    /// # Ok::<(), streamlog::query::QueryError>(())
    /// ```
    pub fn csv(columns: &str) -> Result<Self, QueryError> {
        let columns = columns::read(columns)?;
        if let Some(nested) = columns.iter().find(|column| column.of.is_nested()) {
            return Err(wrong(format!("column {}: a field of CSV is no {}", nested.name, nested.of)));
        }
        Self::new(Format::Csv { delimiter: b',' }, columns)
    }

    /// Sets the field delimiter of CSV: an ASCII character other than a quotation mark and a line ending. Default: a comma. It does not affect other
    /// schemas.
    ///
    /// # Errors
    /// `Invalid` for any other character.
    pub fn delimiter(mut self, delimiter: u8) -> Result<Self, QueryError> {
        if !delimiter.is_ascii() || matches!(delimiter, b'"' | b'\r' | b'\n') {
            return Err(wrong(
                "the delimiter is an ASCII character, and no quotation mark or end of a line".into(),
            ));
        }
        if let Format::Csv { delimiter: known } = &mut self.format {
            *known = delimiter;
        }
        Ok(self)
    }

    /// The table has only the system columns. The data is available as `_data`.
    pub fn raw() -> Self {
        Self::with_columns(Format::Raw, vec![])
    }

    /// The data has another format (Avro, Protocol Buffers, MessagePack), and a function converts it to a JSON object, or returns the reason why it
    /// cannot. The members of the object become columns as with [`json`](Self::json).
    ///
    /// # Errors
    /// `Statement` if this is not a list of columns. `Invalid` if a column has the name of a system column.
    ///
    /// ```
    /// # use streamlog::query::Schema;
    /// let schema = Schema::function("level VARCHAR, text VARCHAR", |record| {
    ///     let line = std::str::from_utf8(record.data()).map_err(|error| error.to_string())?;
    ///     let (level, text) = line.split_once(' ').ok_or("a line has a level and a text")?;
    ///     Ok(serde_json::json!({ "level": level, "text": text }))
    /// })?;
    /// # let _ = schema;
    /// # Ok::<(), streamlog::query::QueryError>(())
    /// ```
    pub fn function(
        columns: &str,
        decode: impl Fn(&Record<'_>) -> Result<serde_json::Value, String> + Send + Sync + 'static,
    ) -> Result<Self, QueryError> {
        Self::new(Format::Function(Function(Arc::new(decode))), columns::read(columns)?)
    }

    /// Sets the column of the event time, and how late records may be. Windows of continuous queries then use this time instead of the arrival of
    /// records. Flink calls this a watermark.
    ///
    /// If the columns are still to be [inferred](Self::json_inferred), this one will be a `TIMESTAMP`.
    ///
    /// # Errors
    /// `Invalid` if the schema has no such column, or if it is not a `TIMESTAMP`.
    pub fn event_time(mut self, column: &str, allowed_lateness: Duration) -> Result<Self, QueryError> {
        let known = self.columns.iter().find(|known| known.name == column);
        match known.map(|known| &known.of) {
            Some(SqlType::Timestamp) => {}
            Some(other) => {
                return Err(wrong(format!(
                    "column {column}: the time of an event is a TIMESTAMP, and this is a {other}"
                )));
            }
            None if self.is_inferred => {}
            None => return Err(wrong(format!("there is no column {column} for the time of events"))),
        }
        self.watermark = Some(Watermark { column: column.into(), allowed_lateness });
        Ok(self)
    }

    /// Sets after how long without records a shard no longer holds back the event-time windows of a continuous query. Default: 1 minute.
    pub fn idle_timeout(self, idle_timeout: Duration) -> Self {
        Self { idle_timeout, ..self }
    }

    /// Sets whether all records of a partition key are in the shards that own the key, so a statement with `_key = '…'` reads no others. Leave it
    /// off if records are put with an explicit hash key. Default: off.
    pub fn keys_decide_shards(self, is_on: bool) -> Self {
        Self { do_keys_decide_shards: is_on, ..self }
    }

    fn new(format: Format, columns: Vec<Column>) -> Result<Self, QueryError> {
        let is_system = |name: &str| SystemColumn::ALL.iter().any(|column| column.name() == name);
        if let Some(column) = columns.iter().find(|column| is_system(&column.name)) {
            return Err(wrong(format!("the column {} is one that every stream has", column.name)));
        }
        Ok(Self::with_columns(format, columns))
    }

    fn with_columns(format: Format, columns: Vec<Column>) -> Self {
        let system = SystemColumn::ALL.into_iter().map(SystemColumn::field);
        let fields: Vec<_> = system.chain(columns.iter().map(Column::field)).collect();
        Self {
            format,
            columns: columns.into(),
            arrow: Arc::new(arrow_schema::Schema::new(fields)),
            is_inferred: false,
            watermark: None,
            idle_timeout: IDLE_TIMEOUT_DEFAULT,
            do_keys_decide_shards: false,
        }
    }

    /// Returns the columns as Arrow has them: the system columns first, then the schema's own.
    pub(super) fn columns(&self) -> SchemaRef {
        self.arrow.clone()
    }

    /// Returns the columns that are not system columns.
    pub(super) fn own_columns(&self) -> &[Column] {
        &self.columns
    }

    pub(super) fn format(&self) -> &Format {
        &self.format
    }

    /// Returns whether the columns are still to be inferred from records: see [`inferred_from`](Self::inferred_from).
    pub(super) fn is_inferred(&self) -> bool {
        self.is_inferred
    }

    /// Returns this schema with columns that are inferred from records, and with all other settings.
    pub(super) fn inferred_from<R: AsRef<[u8]>>(
        &self,
        records: impl IntoIterator<Item = R>,
    ) -> Result<Self, QueryError> {
        let time = self.watermark.as_ref().map(|watermark| &*watermark.column);
        let columns = infer::columns(records, time).map_err(wrong)?;
        let Self {
            format: _,
            columns: _,
            arrow: _,
            is_inferred: _,
            watermark,
            idle_timeout,
            do_keys_decide_shards,
        } = self.clone();
        Ok(Self { watermark, idle_timeout, do_keys_decide_shards, ..Self::new(Format::Json, columns)? })
    }

    /// Returns the column of the events' time, if there is one, and how late a record may be.
    pub(super) fn watermark(&self) -> Option<(&str, Duration)> {
        self.watermark.as_ref().map(|watermark| (&*watermark.column, watermark.allowed_lateness))
    }

    /// Returns after how long without records a shard no longer holds back the watermark.
    pub(super) fn idle_time(&self) -> Duration {
        self.idle_timeout
    }

    pub(super) fn do_keys_decide_shards(&self) -> bool {
        self.do_keys_decide_shards
    }
}

fn wrong(reason: String) -> QueryError {
    QueryError::Invalid(format!("the schema is wrong: {reason}"))
}

/// Shows the list of columns.
impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schema")
            .field("format", &self.format)
            .field("columns", &self.to_string())
            .field("watermark", &self.watermark)
            .finish_non_exhaustive()
    }
}

/// Prints the list of columns in the syntax of [`json`](Self::json).
impl fmt::Display for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (column, index) in self.columns.iter().zip(0..) {
            write!(f, "{}{column}", if index > 0 { ", " } else { "" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(schema: Result<Schema, QueryError>) -> String {
        let text = schema.unwrap_err().to_string();
        text.strip_prefix("the schema is wrong: ").expect("the error says so").to_owned()
    }

    #[test]
    fn columns_stand_behind_those_that_every_stream_has() {
        let schema = Schema::json("page VARCHAR, ms DOUBLE NOT NULL").unwrap();
        let columns = schema.columns();
        let names: Vec<_> = columns.fields().iter().map(|field| field.name().as_str()).collect();
        assert_eq!(names, ["_shard", "_sequence", "_arrival", "_key", "_data", "_headers", "page", "ms"]);
        let nullable: Vec<_> = columns.fields().iter().map(|field| field.is_nullable()).collect();
        assert_eq!(nullable, [false, false, false, false, false, false, true, false]);
        assert_eq!(Schema::raw().columns().fields().len(), 6);
        assert_eq!(refused(Schema::json("_key VARCHAR")), "the column _key is one that every stream has");
    }

    #[test]
    fn the_time_of_events_is_a_column_that_is_a_timestamp() {
        let lateness = Duration::from_secs(5);
        let schema = || Schema::json("page VARCHAR, at TIMESTAMP");
        let of = |column| schema().unwrap().event_time(column, lateness);
        assert_eq!(of("at").unwrap().watermark(), Some(("at", lateness)));
        assert_eq!(schema().unwrap().watermark(), None);
        assert_eq!(
            refused(of("page")),
            "column page: the time of an event is a TIMESTAMP, and this is a VARCHAR"
        );
        assert_eq!(refused(of("when")), "there is no column when for the time of events");
    }

    #[test]
    fn what_is_inferred_keeps_the_other_settings() {
        let second = Duration::from_secs(1);
        let schema = Schema::json_inferred().event_time("at", second).unwrap();
        let schema = schema.idle_timeout(second).keys_decide_shards(true);
        assert!(schema.is_inferred());
        let inferred = schema.inferred_from([r#"{"n": 1, "At": "2026-03-01T12:00:00Z"}"#]).unwrap();
        assert_eq!(inferred.to_string(), "n BIGINT, at TIMESTAMP");
        assert_eq!(inferred.watermark(), Some(("at", second)));
        assert_eq!(inferred.idle_time(), second);
        assert!(inferred.do_keys_decide_shards() && !inferred.is_inferred());
        let of_other = schema.inferred_from([r#"{"n": 1}"#]);
        assert_eq!(refused(of_other), "there is no column at for the time of events");
    }

    #[test]
    fn settings_of_csv_are_checked() {
        assert_eq!(refused(Schema::csv("a BIGINT, b BIGINT[]")), "column b: a field of CSV is no BIGINT[]");
        for delimiter in [b'"', b'\r', b'\n', 0x80] {
            let schema = Schema::csv("a BIGINT").unwrap().delimiter(delimiter);
            assert!(refused(schema).starts_with("the delimiter is"));
        }
    }
}
