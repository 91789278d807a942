//! Files as tables: CSV, JSON lines, Parquet.

use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::csv::CsvFormat;
use datafusion::datasource::file_format::json::JsonFormat;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl};
use datafusion::execution::SessionState;

use super::engine::Engine;
use super::error::QueryError;

/// A file that statements may name.
#[derive(Debug)]
pub(super) struct FileTable {
    pub(super) path: PathBuf,
    pub(super) provider: Arc<dyn TableProvider>,
}

impl FileTable {
    /// Fails if the file is gone. Otherwise the file listing would treat it as a table without rows.
    pub(super) fn check(&self) -> Result<(), QueryError> {
        let is_there = self.path.metadata();
        let fault = |reason: String| QueryError::File { path: self.path.clone(), reason };
        is_there.map(drop).map_err(|error| fault(error.to_string()))
    }

    /// Opens a file, and determines its columns.
    pub(super) fn open(path: &Path, state: SessionState, engine: &Engine) -> Result<Self, QueryError> {
        let fault = |reason: String| QueryError::File { path: path.to_path_buf(), reason };
        let format = format_of(path).map_err(fault)?;
        // Links and relative paths are resolved here.
        let whole = path.canonicalize().map_err(|error| fault(error.to_string()))?;
        if !whole.is_file() {
            return Err(fault("this is no file".to_owned()));
        }
        let url = ListingTableUrl::parse(url_of(&whole)).map_err(|error| fault(error.to_string()))?;
        let opened = engine.run(async move {
            let options = ListingOptions::new(format).with_file_extension("").with_collect_stat(true);
            let config =
                ListingTableConfig::new(url).with_listing_options(options).infer_schema(&state).await;
            let table = config.and_then(ListingTable::try_new);
            table.map_err(|error| QueryError::Failed(error.strip_backtrace()))
        });
        let table = opened.map_err(|error| match error {
            QueryError::Failed(reason) => fault(reason),
            error => error,
        })?;
        let provider: Arc<dyn TableProvider> = Arc::new(table);
        if provider.schema().fields().is_empty() {
            return Err(fault("it has no columns; a file must not be empty".to_owned()));
        }
        Ok(Self { path: path.to_path_buf(), provider })
    }
}

fn format_of(path: &Path) -> Result<Arc<dyn FileFormat>, String> {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    match extension.to_ascii_lowercase().as_str() {
        "csv" => Ok(Arc::new(CsvFormat::default().with_has_header(true))),
        "tsv" => Ok(Arc::new(CsvFormat::default().with_has_header(true).with_delimiter(b'\t'))),
        "json" | "jsonl" | "ndjson" => Ok(Arc::new(JsonFormat::default())),
        "parquet" => Ok(Arc::new(ParquetFormat::default())),
        _ => Err("its name must end with .csv, .tsv, .json, .jsonl, .ndjson or .parquet".to_owned()),
    }
}

/// Returns the URL of a file. Every byte with a special meaning in a URL is percent-encoded.
fn url_of(path: &Path) -> String {
    let mut url = "file://".to_owned();
    for byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~".contains(byte) {
            url.push(char::from(*byte));
        } else {
            // Writing to a text never fails.
            let _ = write!(url, "%{byte:02X}");
        }
    }
    url
}
