//! A schema from sample records: the narrowest types that all of them fit into.

use super::schema::{ParquetSchema, ParquetType};
use crate::{Error, Result, Sampled, sample_members};

impl ParquetSchema {
    /// Makes a schema into which all of these records fit. Each column may be null, and stands where its name came first; names that differ in
    /// upper and lower case only are one.
    ///
    /// Types are widened where they have to be: whole numbers ([`Int64`](ParquetType::Int64)) to `Double` where others are among them, and
    /// everything else that differs, or is always null, to `String`. Whole numbers of more than 64 bits are a `String` too, so that they
    /// keep their digits. No text is taken for a number, a time or bytes. Records that are no JSON objects are left out: the delivery
    /// sends them to the error output.
    ///
    /// The schema of a delivery does not follow its records. Use [`ParquetOptions::inferred`](super::ParquetOptions::inferred), or keep what this
    /// returns, and give the same schema each time that the delivery is started, so that its objects can be read as one table.
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
    /// `InvalidArgument` if no record is a JSON object that has members.
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
