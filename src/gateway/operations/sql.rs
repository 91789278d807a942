//! SQL statements over the streams that the caller may read.

use std::sync::Arc;
use std::time::Duration;

use super::super::catalogue::{Known, Status};
use super::super::sql::{Kind, Session, Wanted};
use super::table::find;
use super::{Answered, Call, Fault, Input, Reply};
use crate::Position;

/// How many rows an answer has, unless the request says otherwise.
const ROWS: u32 = 1_000;

/// Runs a statement that reads, over the streams as they are now.
pub(super) fn query(call: &Call<'_>, input: Input<'_>) -> Answered<Reply> {
    let sql = &call.service.sql;
    let asked = input.count("TimeoutMillis").map(|millis| Duration::from_millis(millis.into()));
    let wanted = Wanted {
        rows_max: input.count("MaxRows").unwrap_or(ROWS) as usize,
        time: asked.unwrap_or(sql.time_max()).min(sql.time_max()),
        format: call.format,
    };
    sql.query(session(call, &input, Kind::Once)?, wanted).map(Reply::Later)
}

/// Runs a statement over arriving records, until the client leaves.
pub(super) fn watch(call: &Call<'_>, mut input: Input<'_>) -> Answered<Reply> {
    let start = match input.take("StartingPosition") {
        Some(start) => match (start.required("Type"), start.time("Timestamp")) {
            ("TRIM_HORIZON", _) => Position::TrimHorizon,
            ("AT_TIMESTAMP", Some(time)) => Position::AtTimestamp(time),
            ("AT_TIMESTAMP", None) => {
                return Err(Fault::invalid("The position AT_TIMESTAMP needs a Timestamp."));
            }
            _ => Position::Latest,
        },
        None => Position::Latest,
    };
    call.service.sql.live(session(call, &input, Kind::Live)?, start).map(Reply::Lines)
}

fn session(call: &Call<'_>, input: &Input<'_>, kind: Kind) -> Answered<Session> {
    Ok(Session {
        place: call.service.sql.enter(kind, call.peer)?,
        streams: readable(call)?,
        statement: input.required("Statement").to_owned(),
        ending: call.service.ending.subscribe(),
    })
}

/// Returns the streams whose records the caller may get.
fn readable(call: &Call<'_>) -> Answered<Vec<Arc<Known>>> {
    let get_records = find("Kinesis_20131202", "GetRecords").ok_or_else(Fault::internal)?;
    let names = call.service.catalogue.names()?;
    let may = |name: &String| (call.may)(get_records, &call.account().stream_arn(name));
    // A stream that was deleted since then, or is open elsewhere, is not a table.
    let known = names.into_iter().filter(may).filter_map(|name| call.service.catalogue.stream(&name).ok());
    Ok(known.filter(|known| known.status(known.now()) != Status::Creating).collect())
}
