//! A schema from sample records: the narrowest types that all of them fit into.

use super::schema::{ParquetSchema, ParquetType};
use crate::{Error, Result, Sampled, sample_members};

impl ParquetSchema {
    /// Infers a schema that fits all of these records. Each column may be null. Columns are in the order in which their names first occur; names
    /// that differ only in upper and lower case are one column.
    ///
    /// Types are widened where necessary: whole numbers ([`Int64`](ParquetType::Int64)) to `Double` where others are among them, and all other mixed
    /// or always null values to `String`. Whole numbers of more than 64 bits are also a `String`, so they keep their digits. Strings are never
    /// interpreted as numbers, times or bytes. Records that are not JSON objects are ignored: the delivery sends them to the error output.
    ///
    /// The schema of a delivery does not follow its records. Use [`ParquetOptions::inferred`](super::ParquetOptions::inferred), or save the returned
    /// schema and use it each time you start the delivery, so its objects can be read as one table.
    ///
    /// ```
    /// use streamlog::delivery::{ParquetSchema, ParquetType};
    ///
    /// let records = [r#"{"id": 1, "price": 2}"#, r#"{"id": 2, "price": 2.5, "tags": ["new"]}"#];
    /// let expected = ParquetSchema::new()
    ///     .column("id", ParquetType::Int64)
    ///     .column("price", ParquetType::Double)
    ///     .column("tags", ParquetType::list(ParquetType::String));
    /// assert_eq!(ParquetSchema::infer(records)?, expected);
    /// # Ok::<(), streamlog::Error>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidArgument` if no record is a JSON object with members.
    pub fn infer<R: AsRef<[u8]>>(records: impl IntoIterator<Item = R>) -> Result<Self> {
        let members = sample_members(records);
        if members.is_empty() {
            return Err(Error::InvalidArgument("no record is a JSON object with members".into()));
        }
        Ok(schema(members))
    }
}

fn schema(members: Vec<(String, Sampled)>) -> ParquetSchema {
    members
        .into_iter()
        .fold(ParquetSchema::new(), |schema, (name, sampled)| schema.column(name, type_of(sampled)))
}

fn type_of(sampled: Sampled) -> ParquetType {
    match sampled {
        Sampled::Boolean => ParquetType::Bool,
        Sampled::Whole => ParquetType::Int64,
        Sampled::Double => ParquetType::Double,
        Sampled::List(items) => ParquetType::list(type_of(*items)),
        Sampled::Struct(members) if !members.is_empty() => schema(members).into(),
        Sampled::Struct(_) | Sampled::Text | Sampled::Nothing => ParquetType::String,
    }
}
