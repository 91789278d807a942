//! Format conversion: from JSON to Parquet, with a schema that the operator has given to the gateway under the name of a table.

use serde_json::Value as Json;

use super::Rules;
use crate::delivery::DeliveryOptions;
use crate::gateway::fault::{Answered, Fault};

/// Adds format conversion to a delivery.
pub(super) fn apply(options: DeliveryOptions, conversion: &Json, rules: &Rules) -> Answered<DeliveryOptions> {
    let input = &conversion["InputFormatConfiguration"]["Deserializer"];
    let output = &conversion["OutputFormatConfiguration"]["Serializer"];
    if !output["OrcSerDe"].is_null() {
        return Err(Fault::invalid("OrcSerDe is not supported by this server: it writes Parquet."));
    }
    if !input["HiveJsonSerDe"].is_null() {
        return Err(Fault::invalid(
            "HiveJsonSerDe is not supported by this server: it reads JSON as OpenXJsonSerDe does.",
        ));
    }
    if input["OpenXJsonSerDe"].is_null() || output["ParquetSerDe"].is_null() {
        return Err(Fault::invalid(
            "DataFormatConversionConfiguration needs an OpenXJsonSerDe as Deserializer and a ParquetSerDe as Serializer.",
        ));
    }
    to_parquet(options, conversion, rules)
}

#[cfg(not(feature = "parquet"))]
fn to_parquet(_: DeliveryOptions, _: &Json, _: &Rules) -> Answered<DeliveryOptions> {
    Err(Fault::invalid(
        "DataFormatConversionConfiguration is not supported by this server: it was built without the feature `parquet`.",
    ))
}

#[cfg(feature = "parquet")]
fn to_parquet(options: DeliveryOptions, conversion: &Json, rules: &Rules) -> Answered<DeliveryOptions> {
    use crate::delivery::{Format, ParquetCompression, ParquetOptions, ParquetVersion};

    let schema = &conversion["SchemaConfiguration"];
    let name = |member: &str| schema[member].as_str().unwrap_or_default().to_owned();
    let (database, table) = (name("DatabaseName"), name("TableName"));
    let Some(schema) = rules.tables.get(&(database.clone(), table.clone())) else {
        return Err(Fault::invalid(format!(
            "This server has no schema of a table {table:?} in a database {database:?}: there is no Glue here. Whoever runs it has to \
             give the schema (Gateway::table)."
        )));
    };
    let input = &conversion["InputFormatConfiguration"]["Deserializer"]["OpenXJsonSerDe"];
    let output = &conversion["OutputFormatConfiguration"]["Serializer"]["ParquetSerDe"];
    let bytes = |member: &str| output[member].as_u64().map(|bytes| bytes as usize);
    let mut parquet = ParquetOptions::new(schema.clone())
        .case_insensitive(input["CaseInsensitive"].as_bool().unwrap_or(true))
        .convert_dots_to_underscores(input["ConvertDotsInJsonKeysToUnderscores"].as_bool().unwrap_or(false))
        .dictionary(output["EnableDictionaryCompression"].as_bool().unwrap_or(false))
        .compression(match output["Compression"].as_str() {
            Some("UNCOMPRESSED") => ParquetCompression::Uncompressed,
            Some("GZIP") => ParquetCompression::Gzip,
            _ => ParquetCompression::Snappy,
        })
        .writer_version(match output["WriterVersion"].as_str() {
            Some("V2") => ParquetVersion::V2,
            _ => ParquetVersion::V1,
        });
    if let Some(keys) = input["ColumnToJsonKeyMappings"].as_object() {
        for (column, key) in keys {
            parquet = parquet.json_key(column, key.as_str().unwrap_or_default());
        }
    }
    if let Some(bytes) = bytes("BlockSizeBytes") {
        parquet = parquet.row_group_bytes(bytes);
    }
    if let Some(bytes) = bytes("PageSizeBytes") {
        parquet = parquet.page_bytes(bytes);
    }
    Ok(options.format(Format::parquet(parquet)))
}
