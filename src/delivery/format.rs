//! The formats of objects: how rows are encoded into them.

use std::io;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::compress::CompressionFormat;
use super::csv::CsvOptions;
use super::json::{self, push_on_one_line};
#[cfg(feature = "parquet")]
use super::parquet::ParquetOptions;

/// The format of the records in an object.
///
/// ```
/// use streamlog::delivery::Format;
///
/// let format = Format::lines();
/// # let _ = format;
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Format(Kind);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Kind {
    Delimited {
        delimiter: Vec<u8>,
    },
    JsonLines,
    Csv(CsvOptions),
    #[cfg(feature = "parquet")]
    Parquet(ParquetOptions),
}

impl Format {
    /// The data of the records, concatenated without delimiters, as Amazon Data Firehose does. This is the default.
    pub fn raw() -> Self {
        Self::delimited([])
    }

    /// The data of each record, followed by a line feed. Line feeds in the data are not escaped.
    pub fn lines() -> Self {
        Self::delimited("\n")
    }

    /// The data of each record, followed by these bytes.
    pub fn delimited(delimiter: impl AsRef<[u8]>) -> Self {
        Self(Kind::Delimited { delimiter: delimiter.as_ref().to_vec() })
    }

    /// JSON on one line for each record. Data that is not JSON goes to the error output. Whitespace between tokens is removed, and everything else
    /// is unchanged.
    pub fn json_lines() -> Self {
        Self(Kind::JsonLines)
    }

    /// CSV according to RFC 4180, from records that are JSON objects: a line for each record, ended by a carriage return and a line feed. Other data
    /// goes to the error output. A missing or null member is an empty field, a string is written as it is, numbers keep their digits, and an object
    /// or array is written as JSON.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use streamlog::Stream;
    /// use streamlog::delivery::{CsvOptions, Directory, Format};
    ///
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path().join("clicks"))?;
    /// let archive = directory.path().join("archive");
    /// let delivery = stream
    ///     .delivery("archive")
    ///     .format(Format::csv(CsvOptions::new(["page", ".user.name"]).header(true)))
    ///     .prefix("clicks/!{timestamp:yyyy}/")
    ///     .error_prefix("errors/!{firehose:error-output-type}/")
    ///     .to(Directory::new(&archive))
    ///     .start()?;
    /// stream.put("user-17", r#"{"page": "/cart", "user": {"name": "Ann", "age": 31}}"#)?;
    /// assert!(delivery.flush(Duration::from_secs(10)));
    /// let year = std::fs::read_dir(archive.join("clicks"))?.next().unwrap()?;
    /// let object = std::fs::read_dir(year.path())?.next().unwrap()?;
    /// assert_eq!(std::fs::read_to_string(object.path())?, "page,user.name\r\n/cart,Ann\r\n");
    /// # delivery.close()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn csv(options: CsvOptions) -> Self {
        Self(Kind::Csv(options))
    }

    /// Apache Parquet from records that are JSON objects, with a given schema or one [inferred from the first records](ParquetOptions::inferred). A
    /// record that does not fit the schema goes to the error output, with a reason that names the column, its type and the value. See
    /// [`ParquetOptions`] for an example and for the rules.
    ///
    /// Parquet objects are compressed internally, so the delivery's own [compression](super::DeliveryOptions::compression) must be off, and
    /// endpoints do not accept them. Large files are faster to read: Firehose requires [buffers](super::DeliveryOptions::buffer_bytes) of 64 to 128
    /// MiB here, while this crate allows any size. An object takes the memory of its values, plus that of the file while it is written.
    #[cfg(feature = "parquet")]
    pub fn parquet(options: ParquetOptions) -> Self {
        Self(Kind::Parquet(options))
    }

    /// Checks the format, and whether its objects may have this compression. The error is a sentence for the caller.
    #[cfg_attr(not(feature = "parquet"), expect(unused_variables, reason = "all of them may be compressed"))]
    pub(super) fn check(&self, compression: CompressionFormat) -> Result<(), String> {
        match &self.0 {
            Kind::Csv(options) => options.check(),
            #[cfg(feature = "parquet")]
            Kind::Parquet(_) if compression != CompressionFormat::Uncompressed => {
                Err("Parquet is compressed inside: set its compression by ParquetOptions, and leave that of the delivery off".into())
            }
            #[cfg(feature = "parquet")]
            Kind::Parquet(options) => options.check(),
            Kind::Delimited { .. } | Kind::JsonLines => Ok(()),
        }
    }

    /// Returns whether the schema must be inferred from the first records.
    pub(super) fn is_undecided(&self) -> bool {
        match &self.0 {
            #[cfg(feature = "parquet")]
            Kind::Parquet(options) => options.schema().is_none(),
            _ => false,
        }
    }

    /// Infers a schema from rows, as text. The error says why that is impossible.
    #[cfg_attr(not(feature = "parquet"), expect(unused_variables, reason = "no other format has one"))]
    pub(super) fn schema_of<'a>(&self, rows: impl Iterator<Item = &'a [u8]>) -> Result<String, String> {
        match &self.0 {
            #[cfg(feature = "parquet")]
            Kind::Parquet(options) => options.schema_of(rows),
            _ => Err("the format has none".into()),
        }
    }

    /// Returns the format with a schema that was inferred from rows.
    #[cfg_attr(not(feature = "parquet"), expect(unused_variables, reason = "no other format has one"))]
    pub(super) fn with_schema(&self, schema: &str) -> Result<Self, String> {
        match &self.0 {
            #[cfg(feature = "parquet")]
            Kind::Parquet(options) => Ok(Self(Kind::Parquet(options.clone().with_schema(schema)?))),
            _ => Ok(self.clone()),
        }
    }

    #[cfg(feature = "parquet")]
    pub(super) fn parquet_schema(&self) -> Option<&super::ParquetSchema> {
        match &self.0 {
            Kind::Parquet(options) => options.schema(),
            _ => None,
        }
    }

    /// Returns whether the rows are stored one after the other.
    pub(super) fn has_rows(&self) -> bool {
        match &self.0 {
            Kind::Delimited { .. } | Kind::JsonLines | Kind::Csv(_) => true,
            #[cfg(feature = "parquet")]
            Kind::Parquet(_) => false,
        }
    }

    /// Returns the extension of object names, with the dot.
    pub(super) fn extension(&self) -> &'static str {
        match self.0 {
            Kind::Delimited { .. } => "",
            Kind::JsonLines => ".jsonl",
            Kind::Csv(_) => ".csv",
            #[cfg(feature = "parquet")]
            Kind::Parquet(_) => ".parquet",
        }
    }

    pub(super) fn content_type(&self) -> &'static str {
        match self.0 {
            Kind::Delimited { .. } => "application/octet-stream",
            Kind::JsonLines => "application/x-ndjson",
            Kind::Csv(_) => "text/csv",
            #[cfg(feature = "parquet")]
            Kind::Parquet(_) => "application/vnd.apache.parquet",
        }
    }

    /// Returns the encoder of an object, which writes into this empty buffer.
    pub(super) fn begin(&self, buffer: Vec<u8>) -> Box<dyn Encode> {
        let (delimiter, is_json) = match &self.0 {
            Kind::Delimited { delimiter } => (delimiter.clone(), false),
            Kind::JsonLines => (b"\n".to_vec(), true),
            Kind::Csv(options) => return Box::new(options.begin(buffer)),
            #[cfg(feature = "parquet")]
            Kind::Parquet(options) => return Box::new(options.begin()),
        };
        Box::new(Rows { delimiter, is_json, bytes: buffer, ends: vec![] })
    }
}

impl Default for Format {
    fn default() -> Self {
        Self::raw()
    }
}

/// The smallest buffer.
const ROOM_BYTES: usize = 256;

/// Writes an object row by row. The same rows give the same bytes.
pub(super) trait Encode: std::fmt::Debug + Send {
    /// Adds a row. If it does not fit into the format, nothing is added, and the error says why.
    fn push(&mut self, data: &[u8]) -> Result<(), String>;

    /// Returns whether a row fits into the format, as [`push`](Self::push) does.
    fn check(&self, data: &[u8]) -> Result<(), String>;

    /// Returns the bytes that it takes in memory.
    fn memory_bytes(&self) -> usize;

    /// Returns the object. Fails only if memory runs out, or if the library that writes the format fails.
    fn finish(self: Box<Self>) -> io::Result<Body>;
}

/// The bytes of an object before compression.
#[derive(Debug, Clone)]
pub(super) struct Body {
    pub(super) bytes: Bytes,
    /// Where the first row begins.
    pub(super) begin: usize,
    /// Where each row ends, with its delimiter. Empty if the rows are not stored one after the other.
    pub(super) row_ends: Vec<usize>,
    pub(super) delimiter_bytes: usize,
}

impl Body {
    /// Returns the rows without their delimiters.
    pub(super) fn rows(&self) -> impl Iterator<Item = &[u8]> {
        let begins = std::iter::once(self.begin).chain(self.row_ends.iter().copied());
        begins.zip(&self.row_ends).map(|(begin, &end)| &self.bytes[begin..end - self.delimiter_bytes])
    }
}

#[derive(Debug)]
struct Rows {
    delimiter: Vec<u8>,
    is_json: bool,
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Encode for Rows {
    fn check(&self, data: &[u8]) -> Result<(), String> {
        if self.is_json { json::check(data).map(drop) } else { Ok(()) }
    }

    fn push(&mut self, data: &[u8]) -> Result<(), String> {
        let is_on_one_line = if self.is_json { Some(json::check(data)?) } else { None };
        make_room(&mut self.bytes, data.len() + self.delimiter.len());
        match is_on_one_line {
            Some(is_on_one_line) => push_on_one_line(data, is_on_one_line, &mut self.bytes),
            None => self.bytes.extend_from_slice(data),
        }
        self.bytes.extend_from_slice(&self.delimiter);
        make_room(&mut self.ends, 1);
        self.ends.push(self.bytes.len());
        Ok(())
    }

    fn memory_bytes(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * size_of::<usize>()
    }

    fn finish(self: Box<Self>) -> io::Result<Body> {
        let delimiter_bytes = self.delimiter.len();
        Ok(Body { bytes: self.bytes.into(), begin: 0, row_ends: self.ends, delimiter_bytes })
    }
}

/// Makes room for more. Hundreds of buffers may grow at the same time and must not double their memory, so each grows by an eighth.
pub(super) fn make_room<T>(buffer: &mut Vec<T>, count: usize) {
    if buffer.capacity() - buffer.len() < count {
        buffer.reserve_exact(count.max(buffer.capacity() / 8).max(ROOM_BYTES / size_of::<T>()));
    }
}
