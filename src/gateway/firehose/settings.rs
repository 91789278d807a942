//! The settings of the delivery of a delivery stream, and the features of Firehose that this server lacks.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value as Json;

use super::Rules;
use super::definition::{Definition, Kind, Members, Source};
use super::destinations::{allowed, bucket};
use super::processors::{self, Processing};
use crate::delivery::{CompressionFormat, DeliveryOptions, HttpEndpoint, OpenSearchBulk, SplunkHec};
use crate::gateway::fault::{Answered, Fault};
use crate::{Clock, Error};

/// How many objects of one delivery stream are delivered at the same time.
const CONCURRENCY: usize = 2;
/// The smallest buffer if partitions or columnar formats turn a large buffer into small objects.
const LARGE_MIB_MIN: usize = 64;

/// A destination, or the bucket in one. Members that requests require are present.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Destination {
    #[serde(rename = "BucketARN")]
    bucket_arn: Option<String>,
    prefix: Option<String>,
    error_output_prefix: Option<String>,
    buffering_hints: Option<Hints>,
    compression_format: Option<String>,
    encryption_configuration: Option<Json>,
    pub(super) processing_configuration: Option<Processing>,
    #[serde(rename = "S3BackupMode")]
    backup_mode: Option<String>,
    #[serde(rename = "S3BackupConfiguration")]
    backup: Option<Box<Self>>,
    #[serde(rename = "S3Configuration")]
    s3: Option<Box<Self>>,
    data_format_conversion_configuration: Option<Json>,
    dynamic_partitioning_configuration: Option<Json>,
    file_extension: Option<String>,
    custom_time_zone: Option<String>,
    endpoint_configuration: Option<Endpoint>,
    request_configuration: Option<Request>,
    retry_options: Option<Retry>,
    secrets_manager_configuration: Option<Json>,
    #[serde(rename = "HECEndpoint")]
    hec_endpoint: Option<String>,
    #[serde(rename = "HECEndpointType")]
    hec_kind: Option<String>,
    #[serde(rename = "HECToken")]
    hec_token: Option<String>,
    #[serde(rename = "HECAcknowledgmentTimeoutInSeconds")]
    hec_seconds: Option<u64>,
    cluster_endpoint: Option<String>,
    #[serde(rename = "DomainARN")]
    domain_arn: Option<String>,
    index_name: Option<String>,
    type_name: Option<String>,
    index_rotation_period: Option<String>,
    document_id_options: Option<Json>,
    vpc_configuration: Option<Json>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Hints {
    #[serde(rename = "SizeInMBs")]
    size: usize,
    interval_in_seconds: u64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Endpoint {
    url: String,
    access_key: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Request {
    content_encoding: Option<String>,
    #[serde(default)]
    common_attributes: Vec<Attribute>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Attribute {
    attribute_name: String,
    attribute_value: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Retry {
    duration_in_seconds: Option<u64>,
}

/// What a delivery needs besides its definition.
pub(super) struct Surroundings<'a> {
    pub(super) name: &'a str,
    pub(super) arn: &'a str,
    pub(super) rules: &'a Rules,
    pub(super) clock: &'a Arc<dyn Clock>,
}

/// Returns the settings of the delivery of a definition, which has no stream yet. They are checked.
pub(super) fn options(definition: &Definition, of: &Surroundings<'_>) -> Answered<DeliveryOptions> {
    let destination = parse(&definition.destination)?;
    let options = DeliveryOptions::new(of.name)
        .firehose_names(of.name, definition.version)
        .memory_bytes_max(of.rules.memory_bytes_each())
        .concurrency(CONCURRENCY)
        // As in Firehose, for records that come from the Kinesis Producer Library.
        .deaggregation(matches!(definition.source, Source::Kinesis { .. }));
    let options = buffer(options, &destination)?;
    let options = match definition.kind {
        Kind::S3 => to_bucket(options, &destination, of)?,
        Kind::Http => to_endpoint(options, &destination, of)?,
        Kind::Splunk => to_splunk(options, &destination, of)?,
        Kind::OpenSearch => to_search(options, &destination, of)?,
    };
    options.validate().map_err(|error| invalid(&error))?;
    Ok(options)
}

fn parse(members: &Members) -> Answered<Destination> {
    serde_json::from_value(Json::Object(members.clone())).map_err(|error| {
        tracing::error!(%error, "the destination of a delivery stream cannot be read");
        Fault::internal()
    })
}

/// Returns the error for a request with invalid settings.
fn invalid(error: &Error) -> Fault {
    match error {
        Error::InvalidArgument(reason) => Fault::invalid(reason.to_string()),
        error => crate::gateway::catalogue::internal(error),
    }
}

fn refused(what: &str, why: &str) -> Fault {
    Fault::invalid(format!("{what} is not supported by this server: {why}."))
}

fn buffer(options: DeliveryOptions, destination: &Destination) -> Answered<DeliveryOptions> {
    let Some(hints) = &destination.buffering_hints else { return Ok(options) };
    Ok(options.buffer_bytes(hints.size << 20).buffer_interval(Duration::from_secs(hints.interval_in_seconds)))
}

fn to_bucket(
    options: DeliveryOptions,
    destination: &Destination,
    of: &Surroundings<'_>,
) -> Answered<DeliveryOptions> {
    let sink = open_bucket(destination, of)?;
    let is_partitioned = is_on(destination.dynamic_partitioning_configuration.as_ref());
    let is_converted = is_on(destination.data_format_conversion_configuration.as_ref());
    let size = destination.buffering_hints.as_ref().map_or(LARGE_MIB_MIN, |hints| hints.size);
    if (is_partitioned || is_converted) && size < LARGE_MIB_MIN {
        return Err(Fault::invalid(format!(
            "BufferingHints.SizeInMBs must be at least {LARGE_MIB_MIN} with dynamic partitioning or format conversion."
        )));
    }
    let mut options =
        processors::apply(options, destination.processing_configuration.as_ref(), is_partitioned)?
            .to(sink)
            .prefix(destination.prefix.as_deref().unwrap_or_default())
            .error_prefix(error_prefix(destination));
    options = options.compression(match destination.compression_format.as_deref() {
        Some("GZIP") => CompressionFormat::Gzip,
        Some("ZIP") => CompressionFormat::Zip,
        Some("Snappy") => CompressionFormat::Snappy,
        Some("HADOOP_SNAPPY") => CompressionFormat::HadoopSnappy,
        _ => CompressionFormat::Uncompressed,
    });
    if let Some(extension) = destination.file_extension.as_deref().filter(|it| !it.is_empty()) {
        options = options.extension(extension);
    }
    if let Some(zone) = destination.custom_time_zone.as_deref().filter(|it| !it.is_empty()) {
        options = options.time_zone(zone);
    }
    if let Some(conversion) =
        destination.data_format_conversion_configuration.as_ref().filter(|_| is_converted)
    {
        options = super::conversion::apply(options, conversion, of.rules)?;
    }
    match (destination.backup_mode.as_deref(), &destination.backup) {
        (Some("Enabled"), Some(backup)) => back_up(options, backup, of),
        (Some("Enabled"), None) => {
            Err(Fault::invalid("S3BackupMode Enabled needs an S3BackupConfiguration."))
        }
        _ => Ok(options),
    }
}

fn is_on(part: Option<&Json>) -> bool {
    part.is_some_and(|part| part["Enabled"] != Json::Bool(false))
}

/// Returns the prefix of the error output. Without its own prefix, it uses that of the records.
fn error_prefix(destination: &Destination) -> &str {
    let own = destination.error_output_prefix.as_deref().filter(|prefix| !prefix.is_empty());
    let of_records = destination.prefix.as_deref().filter(|prefix| !prefix.contains("!{"));
    own.or(of_records).unwrap_or_default()
}

fn open_bucket(destination: &Destination, of: &Surroundings<'_>) -> Answered<Arc<dyn crate::delivery::Sink>> {
    let encryption = destination.encryption_configuration.as_ref();
    if encryption.is_some_and(|it| !it["KMSEncryptionConfig"].is_null()) {
        let why = "there is no KMS here. Let the bucket encrypt what it takes";
        return Err(refused("EncryptionConfiguration.KMSEncryptionConfig", why));
    }
    bucket(of.rules.buckets.as_ref(), destination.bucket_arn.as_deref().unwrap_or_default())
}

/// Adds a backup of the unchanged records.
fn back_up(
    options: DeliveryOptions,
    backup: &Destination,
    of: &Surroundings<'_>,
) -> Answered<DeliveryOptions> {
    check_uncompressed(backup)?;
    Ok(options.backup_to(open_bucket(backup, of)?, backup.prefix.as_deref().unwrap_or_default()))
}

fn check_uncompressed(bucket: &Destination) -> Answered<()> {
    match bucket.compression_format.as_deref() {
        None | Some("UNCOMPRESSED") => Ok(()),
        Some(format) => Err(refused(
            &format!("CompressionFormat {format} of a backup"),
            "backups are written as they are",
        )),
    }
}

/// Sets the options that all destinations other than buckets have.
fn to_server(
    options: DeliveryOptions,
    destination: &Destination,
    all: &str,
    of: &Surroundings<'_>,
) -> Answered<DeliveryOptions> {
    if destination.secrets_manager_configuration.as_ref().is_some_and(|it| it["Enabled"] == Json::Bool(true))
    {
        return Err(refused("SecretsManagerConfiguration", "there is no Secrets Manager here"));
    }
    let Some(s3) = &destination.s3 else { return Err(Fault::internal()) };
    check_uncompressed(s3)?;
    let seconds = destination.retry_options.as_ref().and_then(|retry| retry.duration_in_seconds);
    let options = processors::apply(options, destination.processing_configuration.as_ref(), false)?
        .errors_to(open_bucket(s3, of)?)
        .error_prefix(error_prefix(s3))
        .retry_duration(Duration::from_secs(seconds.unwrap_or(300)));
    if destination.backup_mode.as_deref() == Some(all) { back_up(options, s3, of) } else { Ok(options) }
}

fn to_endpoint(
    options: DeliveryOptions,
    destination: &Destination,
    of: &Surroundings<'_>,
) -> Answered<DeliveryOptions> {
    let Some(endpoint) = &destination.endpoint_configuration else { return Err(Fault::internal()) };
    allowed(&of.rules.endpoints, &endpoint.url)?;
    let build = || {
        let sink = HttpEndpoint::new(&endpoint.url)?.source_arn(of.arn)?.clock(Arc::clone(of.clock));
        let sink = sink.access_key(endpoint.access_key.as_deref().unwrap_or_default())?;
        let Some(request) = &destination.request_configuration else { return Ok(sink) };
        let sink = sink.gzip(request.content_encoding.as_deref() == Some("GZIP"));
        let add = |sink: HttpEndpoint, attribute: &Attribute| {
            sink.common_attribute(&attribute.attribute_name, &attribute.attribute_value)
        };
        Ok(request.common_attributes.iter().fold(sink, add))
    };
    let sink = build().map_err(|error| invalid(&error))?;
    Ok(to_server(options, destination, "AllData", of)?.to(sink))
}

fn to_splunk(
    options: DeliveryOptions,
    destination: &Destination,
    of: &Surroundings<'_>,
) -> Answered<DeliveryOptions> {
    let url = destination.hec_endpoint.as_deref().unwrap_or_default();
    allowed(&of.rules.endpoints, url)?;
    let Some(token) = &destination.hec_token else {
        return Err(Fault::invalid("HECToken must be given: there is no Secrets Manager here."));
    };
    let sink = SplunkHec::new(url, token).map_err(|error| invalid(&error))?;
    let sink = sink
        .raw(destination.hec_kind.as_deref() == Some("Raw"))
        .acknowledgement_timeout(Duration::from_secs(destination.hec_seconds.unwrap_or(180)));
    Ok(to_server(options, destination, "AllEvents", of)?.to(sink))
}

fn to_search(
    options: DeliveryOptions,
    destination: &Destination,
    of: &Surroundings<'_>,
) -> Answered<DeliveryOptions> {
    if destination.vpc_configuration.is_some() {
        return Err(refused("VpcConfiguration", "there is no VPC here"));
    }
    if destination.index_rotation_period.as_deref() != Some("NoRotation") {
        let why = "all documents go into one index. Set NoRotation";
        return Err(refused("An IndexRotationPeriod, whose default is OneDay,", why));
    }
    if destination.type_name.as_deref().is_some_and(|name| !name.is_empty()) {
        return Err(refused("TypeName", "OpenSearch has no types"));
    }
    let ids = destination.document_id_options.as_ref();
    if ids.is_some_and(|it| it["DefaultDocumentIdFormat"] == "NO_DOCUMENT_ID") {
        let why = "documents have ids, so that none is there twice";
        return Err(refused("The DefaultDocumentIdFormat NO_DOCUMENT_ID", why));
    }
    let (Some(url), None) = (&destination.cluster_endpoint, &destination.domain_arn) else {
        return Err(refused("DomainARN", "there are no domains here. Give the ClusterEndpoint"));
    };
    let authorization = allowed(&of.rules.endpoints, url)?;
    let build = || {
        let sink = OpenSearchBulk::new(url, destination.index_name.as_deref().unwrap_or_default())?;
        match authorization {
            Some(authorization) => sink.authorization(authorization),
            None => Ok(sink),
        }
    };
    let sink = build().map_err(|error| invalid(&error))?;
    Ok(to_server(options, destination, "AllDocuments", of)?.to(sink))
}
