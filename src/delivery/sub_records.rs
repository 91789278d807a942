//! Records that hold several records.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The most sub-records of one record, so that the output of a record is bounded.
const COUNT_MAX: usize = 10_000;

/// How a record contains several sub-records, as some producers pack them to fill up records.
///
/// These are not the [aggregates](crate::aggregate) of the Kinesis Producer Library, which have a
/// [separate step](super::DeliveryOptions::deaggregation).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum SubRecords {
    /// Concatenated JSON objects, with or without whitespace between them.
    Json,
    /// Sub-records separated by this delimiter. Empty ones are ignored.
    Delimited(Vec<u8>),
}

impl SubRecords {
    /// Checks the setting. The error is a sentence for the caller.
    pub(super) fn check(&self) -> Result<(), String> {
        match self {
            Self::Delimited(delimiter) if delimiter.is_empty() => {
                Err("the delimiter of sub-records is empty".into())
            }
            Self::Delimited(_) | Self::Json => Ok(()),
        }
    }

    /// Returns the sub-records in the data of a record, or why there are none. It returns all of them or none.
    pub(super) fn split<'a>(&self, data: &'a [u8]) -> Result<Vec<&'a [u8]>, String> {
        let records = match self {
            Self::Json => objects(data)?,
            Self::Delimited(delimiter) => between(data, delimiter),
        };
        if records.len() > COUNT_MAX {
            return Err(format!("it holds more than {COUNT_MAX} sub-records"));
        }
        Ok(records)
    }
}

fn objects(data: &[u8]) -> Result<Vec<&[u8]>, String> {
    let values = serde_json::Deserializer::from_slice(data).into_iter::<&RawValue>();
    let mut objects = vec![];
    for value in values.take(COUNT_MAX + 1) {
        let value = value.map_err(|error| format!("a sub-record is no JSON: {error}"))?.get();
        if !value.starts_with('{') {
            return Err("a sub-record is JSON, but no object".into());
        }
        objects.push(value.as_bytes());
    }
    Ok(objects)
}

fn between<'a>(mut data: &'a [u8], delimiter: &[u8]) -> Vec<&'a [u8]> {
    let mut found = vec![];
    while !data.is_empty() && found.len() <= COUNT_MAX {
        let end = data.windows(delimiter.len()).position(|window| window == delimiter);
        let (record, rest) = match end {
            Some(end) => (&data[..end], &data[end + delimiter.len()..]),
            None => (data, &data[data.len()..]),
        };
        if !record.is_empty() {
            found.push(record);
        }
        data = rest;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(how: &SubRecords, data: &str) -> Result<Vec<String>, String> {
        let records = how.split(data.as_bytes())?;
        Ok(records.into_iter().map(|record| String::from_utf8_lossy(record).into_owned()).collect())
    }

    #[test]
    fn json_objects_stand_one_behind_the_other() {
        let split = |data| split(&SubRecords::Json, data);
        assert_eq!(
            split("{\"a\": 1}{\"b\":\"}{\"}\n\t {\"c\":{}}\n").unwrap(),
            ["{\"a\": 1}", "{\"b\":\"}{\"}", "{\"c\":{}}"]
        );
        assert_eq!(split(" ").unwrap(), [""; 0]);
        // The whole record fails, so that no sub-record is duplicated when somebody fixes the record and sends it again.
        assert!(split("{\"a\":1} x").unwrap_err().contains("no JSON"));
        assert!(split("{\"a\":1}[{\"a\":2}]").unwrap_err().contains("no object"));
        assert!(split("{\"a\":").is_err());
    }

    #[test]
    fn delimiters_may_have_several_bytes() {
        let split = |data| split(&SubRecords::Delimited(b"||".to_vec()), data);
        assert_eq!(split("a|b||c||||d|").unwrap(), ["a|b", "c", "d|"]);
        assert_eq!(split("").unwrap(), [""; 0]);
        assert_eq!(split("a||").unwrap(), ["a"]);
        assert!(SubRecords::Delimited(vec![]).check().is_err());
    }

    #[test]
    fn l6_a_record_of_very_many_sub_records_fails_as_a_whole() {
        for (how, one) in [(SubRecords::Json, "{}"), (SubRecords::Delimited(b",".to_vec()), "x,")] {
            assert_eq!(split(&how, &one.repeat(COUNT_MAX)).unwrap().len(), COUNT_MAX);
            assert!(split(&how, &one.repeat(COUNT_MAX + 1)).unwrap_err().contains("more than"));
        }
    }
}
