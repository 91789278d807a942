//! The processors of a delivery stream, as steps of its delivery.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::query;
use crate::delivery::{DeliveryOptions, Format, SubRecords};
use crate::gateway::fault::{Answered, Fault};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Processing {
    enabled: Option<bool>,
    #[serde(default)]
    processors: Vec<Processor>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Processor {
    #[serde(rename = "Type")]
    kind: String,
    #[serde(default)]
    parameters: Vec<Parameter>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Parameter {
    parameter_name: String,
    parameter_value: String,
}

impl Processor {
    /// Returns the value of a parameter.
    fn get(&self, name: &str) -> Option<&str> {
        let found = self.parameters.iter().find(|parameter| parameter.parameter_name == name);
        found.map(|parameter| parameter.parameter_value.as_str())
    }

    /// Fails if there is a parameter that is not one of these, or one of them twice.
    fn check(&self, names: &[&str]) -> Answered<()> {
        for (at, Parameter { parameter_name: name, .. }) in self.parameters.iter().enumerate() {
            if !names.contains(&name.as_str()) {
                return Err(self.wrong(&format!("it has no parameter {name}")));
            }
            if self.parameters[..at].iter().any(|before| before.parameter_name == *name) {
                return Err(self.wrong(&format!("its parameter {name} is there twice")));
            }
        }
        Ok(())
    }

    fn wrong(&self, why: &str) -> Fault {
        Fault::invalid(format!("The processor {} is not valid: {why}.", self.kind))
    }

    fn absent(&self, why: &str) -> Fault {
        Fault::invalid(format!("The processor {} is not supported by this server: {why}.", self.kind))
    }
}

/// Adds the steps of the processors to a delivery. Their order is that of the delivery, which is Firehose's.
pub(super) fn apply(
    mut options: DeliveryOptions,
    processing: Option<&Processing>,
    is_partitioned: bool,
) -> Answered<DeliveryOptions> {
    let processing = processing.filter(|processing| processing.enabled != Some(false));
    let processors = processing.map_or(&[][..], |processing| &processing.processors);
    let mut has_keys = false;
    for (at, processor) in processors.iter().enumerate() {
        if processors[..at].iter().any(|before| before.kind == processor.kind) {
            return Err(processor.wrong("it is there twice"));
        }
        options = match processor.kind.as_str() {
            "Decompression" => decompress(options, processor)?,
            "RecordDeAggregation" => options.sub_records(sub_records(processor)?),
            "AppendDelimiterToRecord" => options.format(Format::delimited(delimiter(processor)?)),
            "MetadataExtraction" if !is_partitioned => {
                return Err(
                    processor.wrong("it needs DynamicPartitioningConfiguration, which only buckets have")
                );
            }
            "MetadataExtraction" => {
                has_keys = true;
                extract(options, processor)?
            }
            "Lambda" => {
                return Err(processor.absent(
                    "there is no Lambda here. Let a program read the stream, and put what it makes of it",
                ));
            }
            // The service model has no others.
            _ if !processors.iter().any(|other| other.kind == "Decompression") => {
                return Err(processor.wrong("it needs the processor Decompression"));
            }
            _ => extract_messages(options, processor)?,
        };
    }
    match is_partitioned && !has_keys {
        true => Err(Fault::invalid("Dynamic partitioning needs the processor MetadataExtraction.")),
        false => Ok(options),
    }
}

fn decompress(options: DeliveryOptions, processor: &Processor) -> Answered<DeliveryOptions> {
    processor.check(&["CompressionFormat"])?;
    match processor.get("CompressionFormat") {
        Some("GZIP") => Ok(options.decompression(true)),
        _ => Err(processor.wrong("its CompressionFormat must be GZIP")),
    }
}

/// Extracts the messages from data of CloudWatch Logs, if requested.
fn extract_messages(options: DeliveryOptions, processor: &Processor) -> Answered<DeliveryOptions> {
    processor.check(&["DataMessageExtraction"])?;
    match processor.get("DataMessageExtraction") {
        Some("true") => Ok(options.cloudwatch_logs(true)),
        Some("false") | None => Ok(options),
        Some(_) => Err(processor.wrong("its DataMessageExtraction must be true or false")),
    }
}

fn sub_records(processor: &Processor) -> Answered<SubRecords> {
    processor.check(&["SubRecordType", "Delimiter"])?;
    match (processor.get("SubRecordType"), processor.get("Delimiter")) {
        (Some("JSON"), None) => Ok(SubRecords::Json),
        (Some("DELIMITED"), Some(text)) => {
            let bytes = STANDARD.decode(text).ok().filter(|bytes| !bytes.is_empty());
            bytes.map(SubRecords::Delimited).ok_or_else(|| processor.wrong("its Delimiter is no Base64"))
        }
        _ => Err(processor.wrong("its SubRecordType must be JSON, or DELIMITED with a Delimiter in Base64")),
    }
}

/// Returns the bytes after each record. Requests write a line feed as `\n`.
fn delimiter(processor: &Processor) -> Answered<String> {
    processor.check(&["Delimiter"])?;
    let Some(text) = processor.get("Delimiter") else { return Ok("\n".to_owned()) };
    let mut bytes = String::new();
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        bytes.push(match (char, char == '\\') {
            (_, true) => match chars.next() {
                Some('n') => '\n',
                Some('r') => '\r',
                Some('t') => '\t',
                Some('\\') => '\\',
                _ => {
                    return Err(
                        processor.wrong("behind a backslash its Delimiter must have n, r, t or a backslash")
                    );
                }
            },
            (char, false) => char,
        });
    }
    Ok(bytes)
}

fn extract(options: DeliveryOptions, processor: &Processor) -> Answered<DeliveryOptions> {
    processor.check(&["MetadataExtractionQuery", "JsonParsingEngine"])?;
    let (Some(text), Some("JQ-1.6")) =
        (processor.get("MetadataExtractionQuery"), processor.get("JsonParsingEngine"))
    else {
        return Err(processor.wrong("it needs a MetadataExtractionQuery, and the JsonParsingEngine JQ-1.6"));
    };
    let keys = query::partition_keys(text)
        .map_err(|why| processor.wrong(&format!("of its MetadataExtractionQuery, {why}")))?;
    Ok(keys.into_iter().fold(options, |options, (name, query)| options.partition_by(name, query)))
}
