//! Apache Parquet from JSON objects: values are kept in Arrow's layout until the object is decided, and then the whole file is written.

mod column;
mod convert;
mod infer;
pub(super) mod schema;
#[cfg(test)]
mod tests;
mod text;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::ops::RangeInclusive;
use std::sync::{Arc, OnceLock};

use ::parquet::arrow::ArrowWriter;
use ::parquet::arrow::arrow_writer::ArrowWriterOptions;
use ::parquet::basic::{Compression, GzipLevel};
use ::parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use arrow_array::RecordBatch;
use arrow_schema::{ArrowError, Schema};
use serde::{Deserialize, Serialize};

use super::format::{Body, Encode};
use column::Values;
use convert::{Cell, Keys, Shape};
use schema::ParquetSchema;

const ROW_GROUP_BYTES: RangeInclusive<usize> = 64 << 10..=1 << 30;
const PAGE_BYTES: RangeInclusive<usize> = 1 << 10..=64 << 20;
/// The settings are committed beside the objects that were decided. A state may have 1 MB.
const JSON_BYTES_MAX: usize = 256 << 10;
/// A group keeps a text of up to 64 KiB.
const SCHEMA_BYTES_MAX: usize = 64 << 10;
/// The rows that the writer gets at a time, after which it checks whether the row group is full.
const ROWS_PER_WRITE: usize = 1_024;
/// The writer that files name, in the form that readers parse to find out whether statistics can be trusted. It is the same for each version of this
/// crate, so that the same rows become the same bytes.
const CREATED_BY: &str = "streamlog version 1.0";

/// How the pages of a Parquet file are compressed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ParquetCompression {
    /// No compression.
    Uncompressed,
    /// Snappy.
    #[default]
    Snappy,
    /// GZIP, at level 6.
    Gzip,
    /// Zstandard, at level 3.
    #[cfg(feature = "zstd")]
    Zstd,
}

/// The version of a Parquet file's data pages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ParquetVersion {
    /// Version 1, which every reader supports.
    #[default]
    V1,
    /// Version 2, with encodings that some readers do not support.
    V2,
}

/// The settings of [`Format::parquet`](super::Format::parquet), with the names and, unless stated otherwise, the defaults of Amazon Data Firehose.
///
/// A record is a JSON object. Each member goes into the column of its name, ignoring case; members without a column are ignored.
/// [`ParquetType`](super::ParquetType) lists which values fit which type. A record with another value, or without one for a
/// [required](ParquetSchema::required) column, goes to the error output, and the others are not affected. If a record has several members for a
/// column, the last one counts.
///
/// The same records become the same bytes, with the same version of this crate and of `parquet`.
///
/// ```
/// # use std::time::Duration;
/// # use streamlog::Stream;
/// use streamlog::delivery::{Directory, Format, ParquetOptions, ParquetSchema, ParquetType};
///
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path().join("clicks"))?;
/// let schema = ParquetSchema::new()
///     .required("page", ParquetType::String)
///     .column("time", ParquetType::Timestamp)
///     .column("price", ParquetType::Double);
/// let delivery = stream
///     .delivery("archive")
///     .format(Format::parquet(ParquetOptions::new(schema)))
///     .buffer_bytes(128 << 20)
///     .to(Directory::new(directory.path().join("archive")))
///     .start()?;
/// stream.put("user-17", r#"{"Page": "/cart", "time": "2026-03-01T12:00:00Z", "price": "19.90"}"#)?;
/// stream.put("user-17", r#"{"page": "/cart", "price": "free"}"#)?;
/// assert!(delivery.flush(Duration::from_secs(10)));
/// assert_eq!((delivery.stats().records, delivery.stats().failed_records), (1, 1));
/// # delivery.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[must_use]
pub struct ParquetOptions {
    /// `None` until it is taken from the first records.
    schema: Option<ParquetSchema>,
    is_case_insensitive: bool,
    dots_to_underscores: bool,
    keys: BTreeMap<String, String>,
    row_group_bytes: usize,
    page_bytes: usize,
    compression: ParquetCompression,
    has_dictionaries: bool,
    has_statistics: bool,
    version: ParquetVersion,
    #[serde(skip)]
    plan: PlanOnce,
}

impl ParquetOptions {
    /// Returns the default settings for objects of a schema.
    pub fn new(schema: ParquetSchema) -> Self {
        Self { schema: Some(schema), ..Self::inferred() }
    }

    /// Returns the default settings for objects whose schema is [inferred](ParquetSchema::infer) from the first records of the delivery: from about
    /// 1,000 records or 1 MiB, or from fewer when the first of them has waited for the [buffer interval](super::DeliveryOptions::buffer_interval),
    /// or when the delivery is flushed or closed.
    ///
    /// The schema is decided once, for all shards and workers, and stored with the delivery's consumer group before the first object is delivered,
    /// so it remains the same after a restart. [`Delivery::parquet_schema`](super::Delivery::parquet_schema) returns it. Later records that do not
    /// fit go to the error output. To use another schema, pass it to [`new`](Self::new). To infer it again, delete the group, or give the delivery
    /// another name.
    ///
    /// If none of the first records is a JSON object with members, the delivery ends with an error that says so.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use streamlog::Stream;
    /// use streamlog::delivery::{Directory, Format, ParquetOptions};
    ///
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path().join("clicks"))?;
    /// stream.put("user-17", r#"{"page": "/cart", "price": 2}"#)?;
    /// stream.put("user-17", r#"{"page": "/", "price": 2.5}"#)?;
    /// let delivery = stream
    ///     .delivery("archive")
    ///     .format(Format::parquet(ParquetOptions::inferred()))
    ///     .to(Directory::new(directory.path().join("archive")))
    ///     .start()?;
    /// assert!(delivery.flush(Duration::from_secs(10)));
    /// assert_eq!(delivery.parquet_schema().expect("it is decided").to_string(), "page string, price double");
    /// # delivery.close()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn inferred() -> Self {
        Self {
            schema: None,
            is_case_insensitive: true,
            dots_to_underscores: false,
            keys: BTreeMap::new(),
            row_group_bytes: 256 << 20,
            page_bytes: 1 << 20,
            compression: ParquetCompression::default(),
            has_dictionaries: true,
            has_statistics: true,
            version: ParquetVersion::default(),
            plan: PlanOnce::default(),
        }
    }

    /// Sets whether members match columns whose names differ in upper and lower case. Default: they do.
    pub fn case_insensitive(mut self, is_on: bool) -> Self {
        self.is_case_insensitive = is_on;
        self
    }

    /// Sets whether dots in the names of members become underscores, for Hive, which does not allow dots. Default: they do not.
    pub fn convert_dots_to_underscores(mut self, is_on: bool) -> Self {
        self.dots_to_underscores = is_on;
        self
    }

    /// Fills a column from the member of another name. This works for columns, not for the fields of structs.
    pub fn json_key(mut self, column: impl Into<String>, key: impl Into<String>) -> Self {
        self.keys.insert(column.into(), key.into());
        self
    }

    /// Sets the size of a row group in the file: 64 KiB to 1 GiB. Firehose calls this the block size, and requires at least 64 MiB. Default: 256
    /// MiB.
    pub fn row_group_bytes(mut self, bytes: usize) -> Self {
        self.row_group_bytes = bytes;
        self
    }

    /// Sets the size of a page before compression: 1 KiB to 64 MiB. Firehose requires at least 64 KiB. Default: 1 MiB.
    pub fn page_bytes(mut self, bytes: usize) -> Self {
        self.page_bytes = bytes;
        self
    }

    /// Sets how pages are compressed. Default: Snappy.
    pub fn compression(mut self, compression: ParquetCompression) -> Self {
        self.compression = compression;
        self
    }

    /// Sets whether columns have dictionaries, as long as these stay small. Default: they do, unlike in Firehose.
    pub fn dictionary(mut self, is_on: bool) -> Self {
        self.has_dictionaries = is_on;
        self
    }

    /// Sets whether the file contains the lowest and highest value of each column, by page and row group. Default: it does.
    pub fn statistics(mut self, is_on: bool) -> Self {
        self.has_statistics = is_on;
        self
    }

    /// Sets the version of the file's data pages. Default: version 1.
    pub fn writer_version(mut self, version: ParquetVersion) -> Self {
        self.version = version;
        self
    }

    /// Checks the settings. The error is a sentence for the caller.
    pub(super) fn check(&self) -> Result<(), String> {
        let range = |name: &str, value: usize, range: RangeInclusive<usize>| match range.contains(&value) {
            true => Ok(()),
            false => Err(format!("{name} is out of range: {} to {} bytes", range.start(), range.end())),
        };
        range("row_group_bytes", self.row_group_bytes, ROW_GROUP_BYTES)?;
        range("page_bytes", self.page_bytes, PAGE_BYTES)?;
        // Otherwise it is checked once it is decided.
        let Some(schema) = &self.schema else { return Ok(()) };
        schema.check_all(self.is_case_insensitive)?;
        let columns = &schema.columns;
        if let Some(unknown) = self.keys.keys().find(|key| columns.iter().all(|column| column.name != **key))
        {
            return Err(format!("json_key names the column {unknown:?}, which the schema does not have"));
        }
        let keys = self.json_keys();
        let mut taken = HashMap::new();
        for column in columns {
            let key = keys.of_column(&column.name);
            if let Some(other) = taken.insert(key, &column.name) {
                return Err(format!("the columns {other:?} and {:?} take the same member", column.name));
            }
        }
        let json_bytes = serde_json::to_vec(self).map_or(usize::MAX, |json| json.len());
        if json_bytes > JSON_BYTES_MAX {
            return Err(format!("the schema takes {json_bytes} bytes as JSON: it may take {JSON_BYTES_MAX}"));
        }
        Ok(())
    }

    fn json_keys(&self) -> Keys {
        Keys {
            is_case_insensitive: self.is_case_insensitive,
            dots_to_underscores: self.dots_to_underscores,
            by_column: self.keys.clone().into_iter().collect(),
        }
    }

    pub(super) fn schema(&self) -> Option<&ParquetSchema> {
        self.schema.as_ref()
    }

    /// Infers a schema from rows, as text. The error says why that is impossible.
    pub(super) fn schema_of<'a>(&self, rows: impl Iterator<Item = &'a [u8]>) -> Result<String, String> {
        let mut schema =
            ParquetSchema::infer(rows).map_err(|_| "none is a JSON object with members".to_owned())?;
        if self.dots_to_underscores {
            schema.rename_columns(&|name| name.replace('.', "_"));
        }
        let keys = self.json_keys();
        for column in &mut schema.columns {
            let of_key = self.keys.iter().find(|(name, _)| keys.of_column(name) == keys.folded(&column.name));
            if let Some((name, _)) = of_key {
                column.name.clone_from(name);
            }
        }
        let text = schema.to_string();
        if text.len() > SCHEMA_BYTES_MAX {
            return Err(format!(
                "they have columns of {} bytes as a text, of which {SCHEMA_BYTES_MAX} are allowed",
                text.len()
            ));
        }
        self.clone().with_schema(&text)?.check()?;
        Ok(text)
    }

    /// Returns the settings with a schema that was inferred from rows.
    pub(super) fn with_schema(self, text: &str) -> Result<Self, String> {
        let schema = text.parse().map_err(|error: crate::Error| error.to_string())?;
        Ok(Self { schema: Some(schema), plan: PlanOnce::default(), ..self })
    }

    /// Without a schema, no row fits.
    pub(super) fn begin(&self) -> ParquetRows {
        let plan = Arc::clone(self.plan.0.get_or_init(|| Arc::new(Plan::new(self))));
        let columns = plan.schema.columns().map(|(_, of)| Values::new(of)).collect();
        ParquetRows { plan, columns, row_count: 0, memory_bytes: 0 }
    }

    fn properties(&self) -> WriterProperties {
        let compression = match self.compression {
            ParquetCompression::Uncompressed => Compression::UNCOMPRESSED,
            ParquetCompression::Snappy => Compression::SNAPPY,
            ParquetCompression::Gzip => Compression::GZIP(GzipLevel::default()),
            #[cfg(feature = "zstd")]
            ParquetCompression::Zstd => {
                Compression::ZSTD(::parquet::basic::ZstdLevel::try_new(3).unwrap_or_default())
            }
        };
        let statistics = if self.has_statistics { EnabledStatistics::Page } else { EnabledStatistics::None };
        let version = match self.version {
            ParquetVersion::V1 => WriterVersion::PARQUET_1_0,
            ParquetVersion::V2 => WriterVersion::PARQUET_2_0,
        };
        WriterProperties::builder()
            .set_created_by(CREATED_BY.to_owned())
            .set_writer_version(version)
            .set_compression(compression)
            .set_dictionary_enabled(self.has_dictionaries)
            .set_statistics_enabled(statistics)
            .set_data_page_size_limit(self.page_bytes)
            .set_dictionary_page_size_limit(self.page_bytes)
            .set_max_row_group_row_count(None)
            .set_max_row_group_bytes(Some(self.row_group_bytes))
            .build()
    }
}

/// The data that all objects of a delivery share, in memory once: there may be hundreds of objects, and a schema may have hundreds of columns.
#[derive(Debug)]
struct Plan {
    shape: Shape,
    schema: ParquetSchema,
    properties: WriterProperties,
}

impl Plan {
    fn new(options: &ParquetOptions) -> Self {
        let schema = options.schema.clone().unwrap_or_default();
        Self { shape: Shape::new(&schema, options.json_keys()), schema, properties: options.properties() }
    }
}

/// The plan of the settings, made when the first object is begun. A copy of the settings may be changed, so it starts without a plan.
#[derive(Debug, Default)]
struct PlanOnce(OnceLock<Arc<Plan>>);

impl Clone for PlanOnce {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl PartialEq for PlanOnce {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for PlanOnce {}

/// An object of Parquet that is built.
#[derive(Debug)]
pub(super) struct ParquetRows {
    plan: Arc<Plan>,
    columns: Vec<Values>,
    row_count: usize,
    memory_bytes: usize,
}

impl ParquetRows {
    fn cells<'a>(&self, data: &'a [u8]) -> Result<Vec<Cell<'a>>, String> {
        if self.columns.is_empty() {
            return Err("the schema is not decided".into());
        }
        self.plan.shape.cells(data)
    }
}

impl Encode for ParquetRows {
    fn check(&self, data: &[u8]) -> Result<(), String> {
        self.cells(data).map(drop)
    }

    fn push(&mut self, data: &[u8]) -> Result<(), String> {
        // All values first, so that a row is added as a whole or not at all.
        let cells = self.cells(data)?;
        self.columns.iter_mut().zip(cells).for_each(|(column, cell)| column.push(cell));
        self.row_count += 1;
        self.memory_bytes = self.columns.iter().map(Values::memory_bytes).sum();
        Ok(())
    }

    fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    fn finish(self: Box<Self>) -> io::Result<Body> {
        let properties = self.plan.properties.clone();
        let schema = Arc::new(Schema::new(self.plan.schema.fields()));
        let arrays = self.columns.into_iter().zip(schema.fields());
        let arrays = arrays.map(|(column, field)| column.into_array(field.data_type()));
        let arrays = arrays.collect::<Result<_, ArrowError>>().map_err(io::Error::other)?;
        let rows = RecordBatch::try_new(schema.clone(), arrays).map_err(io::Error::other)?;
        let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
        let mut writer = ArrowWriter::try_new_with_options(vec![], schema, options)?;
        for begin in (0..self.row_count).step_by(ROWS_PER_WRITE) {
            writer.write(&rows.slice(begin, ROWS_PER_WRITE.min(self.row_count - begin)))?;
        }
        let bytes = writer.into_inner()?;
        Ok(Body { bytes: bytes.into(), begin: 0, row_ends: vec![], delimiter_bytes: 0 })
    }
}
