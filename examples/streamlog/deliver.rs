//! `deliver`: writes a stream into files.

use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use streamlog::Position;

use crate::parse::{parse_age, parse_beginning, parse_bytes};

/// Write the records into files in a directory or an object store, exactly once, as Amazon Data Firehose does.
///
/// The delivery is a consumer group: if you run it again, it continues from where it stopped, also after a crash. A program may have the stream
/// open at the same time, but not this group. Records that do not fit the format go to the error output, with the reason.
///
/// Needs a build with --features delivery.
#[derive(Debug, clap::Args)]
pub(crate) struct DeliverArgs {
    /// The stream's directory
    pub(crate) path: PathBuf,
    /// The directory for the files, or an object store URL: s3://bucket/path, gs://bucket/path, az://container/path. An object store needs a build
    /// with --features object-store; its region and credentials come from the environment (AWS_REGION, AWS_ACCESS_KEY_ID and so on)
    #[arg(long, value_name = "DIRECTORY", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) to: String,
    /// The name of the delivery and of its consumer group
    #[arg(long, default_value = "deliver")]
    pub(crate) name: String,
    /// How records are written to a file: raw (nothing between them), lines, json-lines, or parquet (from JSON objects; needs a build with
    /// --features parquet)
    #[arg(long, default_value = "lines", value_parser = ["raw", "lines", "json-lines", "parquet"])]
    pub(crate) format: String,
    /// The columns of Parquet files, such as: page string not null, price double, tags list<string>. Types are bool, int32, int64, float, double, string,
    /// bytes (in Base64), timestamp, decimal(10, 2), list<...> and struct<...>. Without this, they are taken from the first records and kept with the group
    #[arg(long, value_name = "COLUMNS")]
    pub(crate) schema: Option<String>,
    /// How files are compressed. Parquet files are compressed internally, with none, gzip, snappy (the default) or zstd
    #[arg(long, value_parser = ["none", "gzip", "zip", "snappy", "raw-snappy", "hadoop-snappy", "zstd"])]
    pub(crate) compression: Option<String>,
    /// The prefix of file names, with expressions such as !{timestamp:yyyy/MM/dd}. If it has no time, yyyy/MM/dd/HH/ is added
    #[arg(long, default_value = "")]
    pub(crate) prefix: String,
    /// The prefix of file names in the error output
    #[arg(long, default_value = "errors/!{firehose:error-output-type}/")]
    pub(crate) error_prefix: String,
    /// A partition key and the query for its value, such as country=.address.country. Name it in the prefix: !{partitionKeyFromQuery:country}
    #[arg(long, value_name = "NAME=QUERY")]
    pub(crate) partition_by: Vec<String>,
    /// Where a new delivery starts: horizon (the oldest record), latest (the end), or a time as for cat --from
    #[arg(long, value_name = "PLACE", default_value = "horizon", value_parser = parse_beginning)]
    pub(crate) from: Position,
    /// The size of the records in a file, before formatting and compression: up to 128M
    #[arg(long, value_name = "SIZE", default_value = "64M", value_parser = parse_bytes)]
    pub(crate) buffer_bytes: u64,
    /// How long the first record of a file waits for others: up to 15m
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = parse_age)]
    pub(crate) buffer_interval: crate::parse::Age,
    /// Continue with records that are put later, until Ctrl-C
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Print one JSON object with what was delivered
    #[arg(long)]
    pub(crate) json: bool,
}

#[cfg(not(feature = "delivery"))]
pub(crate) fn deliver(_: &streamlog::StreamReader, _: &DeliverArgs) -> crate::failure::Outcome {
    let how = "this tool was built without deliveries: build it with --features delivery";
    Err(crate::failure::Failure::Told(how.to_owned()))
}

#[cfg(feature = "delivery")]
pub(crate) use with_delivery::deliver;

#[cfg(feature = "delivery")]
mod with_delivery {
    use std::time::Duration;

    use indicatif::HumanBytes;
    use serde_json::json;
    use streamlog::delivery::{
        CompressionFormat, Delivery, DeliveryOptions, DeliveryStats, Directory, Format,
    };
    use streamlog::{SECOND, StreamReader};

    use super::DeliverArgs;
    use crate::check_interrupted;
    use crate::failure::{Failure, Outcome, tell};
    use crate::output::{counted, print_json, print_text, progress};

    /// The interval between progress updates.
    const LOOK: Duration = Duration::from_millis(100);

    pub(crate) fn deliver(stream: &StreamReader, args: &DeliverArgs) -> Outcome {
        let delivery = options(stream, args)?.start()?;
        let outcome = wait(stream, args, &delivery);
        let (stats, schema) = (delivery.stats(), schema_of(&delivery));
        delivery.close()?;
        if stats.skipped > 0 {
            tell(&format!("note: {} skipped, which retention has dropped", counted(stats.skipped, "record")));
        }
        if args.json {
            print_json(&as_json(&stats, schema))?
        } else {
            print_text(&as_text(&stats, schema))?
        }
        outcome
    }

    fn options(stream: &StreamReader, args: &DeliverArgs) -> Result<DeliveryOptions, Failure> {
        let options = stream.delivery(&args.name);
        let options = if args.to.contains("://") {
            to_object_store(options, &args.to)?
        } else {
            options.to(Directory::new(&args.to))
        };
        let mut options = options
            .prefix(&args.prefix)
            .error_prefix(&args.error_prefix)
            .starting_position(args.from)
            .buffer_bytes(usize::try_from(args.buffer_bytes).unwrap_or(usize::MAX))
            .buffer_interval(args.buffer_interval.0.unwrap_or(Duration::MAX))
            .format(match args.format.as_str() {
                "raw" => Format::raw(),
                "json-lines" => Format::json_lines(),
                "parquet" => parquet(args)?,
                _ => Format::lines(),
            });
        if args.format != "parquet" {
            if args.schema.is_some() {
                return Err(Failure::Told(format!(
                    "--schema is for --format parquet, not for {}",
                    args.format
                )));
            }
            options = options.compression(compression(args.compression.as_deref().unwrap_or("none"))?);
        }
        for key in &args.partition_by {
            let Some((name, query)) = key.split_once('=') else {
                return Err(Failure::Told(format!("--partition-by {key}: expected NAME=QUERY")));
            };
            options = options.partition_by(name, query);
        }
        Ok(options)
    }

    #[cfg(feature = "object-store")]
    fn to_object_store(options: DeliveryOptions, url: &str) -> Result<DeliveryOptions, Failure> {
        Ok(options.to(streamlog::delivery::ObjectStorage::from_url(url)?))
    }

    #[cfg(not(feature = "object-store"))]
    fn to_object_store(_: DeliveryOptions, url: &str) -> Result<DeliveryOptions, Failure> {
        let how = "this tool was built without object stores: build it with --features object-store";
        Err(Failure::Told(format!("{url}: {how}")))
    }

    #[cfg(feature = "parquet")]
    fn parquet(args: &DeliverArgs) -> Result<Format, Failure> {
        use streamlog::delivery::{ParquetCompression, ParquetOptions};

        let options = match &args.schema {
            Some(schema) => ParquetOptions::new(schema.parse()?),
            None => ParquetOptions::inferred(),
        };
        let compression = match args.compression.as_deref().unwrap_or("snappy") {
            "none" => ParquetCompression::Uncompressed,
            "gzip" => ParquetCompression::Gzip,
            "snappy" => ParquetCompression::Snappy,
            #[cfg(feature = "zstd")]
            "zstd" => ParquetCompression::Zstd,
            #[cfg(not(feature = "zstd"))]
            "zstd" => return Err(Failure::Told(NO_ZSTD.to_owned())),
            other => {
                let known = "none, gzip, snappy or zstd";
                return Err(Failure::Told(format!(
                    "--compression {other}: Parquet files are compressed with {known}"
                )));
            }
        };
        Ok(Format::parquet(options.compression(compression)))
    }

    #[cfg(not(feature = "parquet"))]
    fn parquet(_: &DeliverArgs) -> Result<Format, Failure> {
        let how = "this tool was built without Parquet: build it with --features parquet";
        Err(Failure::Told(how.to_owned()))
    }

    #[cfg(feature = "parquet")]
    fn schema_of(delivery: &Delivery) -> Option<String> {
        delivery.parquet_schema().map(|schema| schema.to_string())
    }

    #[cfg(not(feature = "parquet"))]
    fn schema_of(_: &Delivery) -> Option<String> {
        None
    }

    #[cfg(not(feature = "zstd"))]
    const NO_ZSTD: &str = "this tool was built without Zstandard: build it with --features delivery,zstd";

    fn compression(name: &str) -> Result<CompressionFormat, Failure> {
        Ok(match name {
            "gzip" => CompressionFormat::Gzip,
            "zip" => CompressionFormat::Zip,
            "snappy" => CompressionFormat::Snappy,
            "raw-snappy" => CompressionFormat::RawSnappy,
            "hadoop-snappy" => CompressionFormat::HadoopSnappy,
            #[cfg(feature = "zstd")]
            "zstd" => CompressionFormat::Zstd,
            #[cfg(not(feature = "zstd"))]
            "zstd" => return Err(Failure::Told(NO_ZSTD.to_owned())),
            _ => CompressionFormat::Uncompressed,
        })
    }

    /// Waits until everything is delivered, or until Ctrl-C.
    fn wait(stream: &StreamReader, args: &DeliverArgs, delivery: &Delivery) -> Outcome {
        let group = stream.group(&args.name);
        let bar = progress(None);
        let mut last_error = None;
        let outcome = loop {
            if let Err(interrupted) = check_interrupted() {
                break Err(interrupted);
            }
            let is_done = if args.follow {
                std::thread::sleep(LOOK);
                delivery.is_over()
            } else {
                // Children begin once their parents are delivered.
                delivery.flush(SECOND) && group.describe()?.lag().record_count == 0 || delivery.is_over()
            };
            let stats = delivery.stats();
            bar.set_position(stats.bytes);
            if stats.last_error.is_some() && stats.last_error != last_error && !delivery.is_over() {
                tell(&format!("note: retried after: {}", stats.last_error.as_deref().unwrap_or_default()));
                last_error = stats.last_error;
            }
            if is_done {
                break Ok(());
            }
        };
        bar.finish_and_clear();
        outcome
    }

    fn as_json(stats: &DeliveryStats, schema: Option<String>) -> serde_json::Value {
        let mut json = json!({
            "record_count": stats.records,
            "file_count": stats.objects,
            "bytes": stats.bytes,
            "failed_record_count": stats.failed_records,
            "skipped_record_count": stats.skipped,
        });
        if let Some(schema) = schema {
            json["schema"] = schema.into();
        }
        json
    }

    fn as_text(stats: &DeliveryStats, schema: Option<String>) -> String {
        let (records, files) = (counted(stats.records, "record"), counted(stats.objects, "file"));
        let failed = match stats.failed_records {
            0 => String::new(),
            count => format!(", {} in the error output", counted(count, "record")),
        };
        let schema = schema.map(|schema| format!("schema: {schema}\n")).unwrap_or_default();
        format!("delivered {records} in {files} with {}{failed}\n{schema}", HumanBytes(stats.bytes))
    }
}
