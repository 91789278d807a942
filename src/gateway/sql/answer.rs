//! Rows, columns and errors of statements in the form of answers.

use serde_json::Value as Json;

use super::super::fault::Fault;
use super::super::names::shard_id;
use super::super::wire::Value;
use crate::query::{Column, QueryError, RefusedRow, Rows, json_lists};

/// Returns columns with their types.
pub(super) fn columns(columns: &[Column]) -> Value<'static> {
    let column = |column: &Column| {
        Value::map([
            ("Name", Value::text(column.name.clone())),
            ("Type", Value::text(column.sql_type.clone())),
        ])
    };
    Value::List(columns.iter().map(column).collect())
}

/// Returns the rows of a batch, each as the list of its values.
pub(super) fn rows<R>(batch: &R) -> Result<impl Iterator<Item = Value<'static>>, QueryError>
where
    R: Clone,
    Rows: From<R>,
{
    // Naming the type of batches would require Arrow, which nothing else here needs.
    let lists = Rows::from(batch.clone()).map(|batch| json_lists(&batch?)).collect::<Result<Vec<_>, _>>()?;
    Ok(lists.into_iter().flatten().map(|row| Value::List(row.into_iter().map(of_json).collect())))
}

fn of_json(json: Json) -> Value<'static> {
    match json {
        Json::Null => Value::Null,
        Json::Bool(is_true) => Value::Bool(is_true),
        Json::Number(number) => match (number.as_i64(), number.is_u64()) {
            (Some(number), _) => Value::Integer(number),
            // A number that JSON readers would round.
            (None, true) => Value::text(number.to_string()),
            (None, false) => number.as_f64().map_or(Value::Null, Value::Float),
        },
        Json::String(text) => Value::text(text),
        Json::Array(items) => Value::List(items.into_iter().map(of_json).collect()),
        Json::Object(members) => {
            Value::Map(members.into_iter().map(|(name, value)| (name.into(), of_json(value))).collect())
        }
    }
}

/// Returns a record that was left out.
pub(super) fn refused(row: RefusedRow) -> Value<'static> {
    Value::map([
        ("StreamName", Value::text(row.table)),
        ("ShardId", Value::text(shard_id(row.shard))),
        ("Sequence", count(row.sequence.get())),
        ("ArrivalMillis", count(row.arrival.as_millis())),
        ("Reason", Value::text(row.reason)),
    ])
}

pub(super) fn count(count: u64) -> Value<'static> {
    Value::Integer(i64::try_from(count).unwrap_or(i64::MAX))
}

pub(super) fn texts(texts: Vec<String>) -> Value<'static> {
    Value::List(texts.into_iter().map(Value::text).collect())
}

/// Returns the answer to an error. The error of a statement shows the position in it.
pub(super) fn fault(error: &QueryError) -> Fault {
    match error {
        QueryError::Statement(error) => Fault::statement(error.to_string()),
        QueryError::Invalid(reason) => Fault::statement(reason.clone()),
        QueryError::Failed(_) => Fault::statement(error.to_string()),
        QueryError::Memory(_) => Fault::limit(
            "The query needs more memory than it may have. Ask for less: fewer groups, a filter, a LIMIT.",
        ),
        QueryError::Stopped => Fault::limit("The query was ended."),
        QueryError::Stream(crate::Error::Closed) => Fault::not_found("A stream was deleted meanwhile."),
        QueryError::Stream(error @ crate::Error::KeyUnavailable(_)) => {
            tracing::error!(%error, "a key is not available");
            Fault::key_unavailable("The key that encrypts a stream is not available to the gateway.")
        }
        QueryError::Stream(_) | QueryError::File { .. } => {
            tracing::error!(%error, "a query failed");
            Fault::internal()
        }
    }
}
