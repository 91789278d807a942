//! `groups`, `lag`, `consume`, `reset` and `delete-group`: consumer groups.

use std::fmt::Write;
use std::time::Duration;

use indicatif::{HumanBytes, HumanCount};
use serde_json::{Value, json};
use streamlog::{Error, Group, GroupDescription, Lag, OnTrimmed, StreamReader};

use crate::args::{ConsumeArgs, GroupsArgs, LagArgs, ResetArgs};
use crate::check_interrupted;
use crate::failure::{Outcome, tell};
use crate::output::{Printer, counted, print_json, print_text};

/// The longest time before a waiting command notices Ctrl-C.
const WAIT: Duration = Duration::from_millis(100);
/// The command is the only worker of its group, so it may wait indefinitely for the reader of a pipe.
const LEASE_TIMEOUT: Duration = Duration::MAX;

/// Lists the groups and their lags.
pub(crate) fn list(stream: &StreamReader, args: &GroupsArgs) -> Outcome {
    let mut groups = vec![];
    for name in stream.groups()? {
        match stream.group(name).describe() {
            // It has been deleted since it was listed.
            Err(Error::InvalidArgument(_)) => {}
            group => groups.push(group?),
        }
    }
    if args.json {
        let of_group = |group: &GroupDescription| {
            let mut value = lag_as_json(group.lag());
            value["group"] = json!(group.name);
            value
        };
        return print_json(&json!({ "groups": groups.iter().map(of_group).collect::<Vec<_>>() }));
    }
    let rows = groups.iter().map(|group| (group.name.clone(), String::new(), group.lag())).collect();
    print_text(&table("group", "", rows))
}

/// Prints the lag of a group, shard by shard.
pub(crate) fn lag(stream: &StreamReader, args: &LagArgs) -> Outcome {
    let group = stream.group(&args.group).describe()?;
    if args.json {
        let shards = group.shards.iter().map(|shard| {
            let mut value = lag_as_json(shard.lag);
            value["shard"] = json!(shard.shard.to_string());
            value["next_sequence"] = json!(shard.next_sequence.get());
            value
        });
        let mut value = lag_as_json(group.lag());
        value["group"] = json!(group.name);
        value["shards"] = shards.collect();
        return print_json(&value);
    }
    let mut rows: Vec<_> = group
        .shards
        .iter()
        .map(|shard| (shard.shard.to_string(), shard.next_sequence.to_string(), shard.lag))
        .collect();
    rows.push(("all".into(), String::new(), group.lag()));
    print_text(&table("shard", "next", rows))
}

pub(crate) fn lag_as_json(lag: Lag) -> Value {
    json!({ "record_count": lag.record_count, "bytes": lag.bytes, "age_seconds": lag.age.as_secs_f64() })
}

/// Formats a table of names, positions (if any), and lags.
fn table(name: &str, place: &str, rows: Vec<(String, String, Lag)>) -> String {
    let cells = rows.into_iter().map(|(name, place, lag)| {
        // Round down to milliseconds: smaller parts change faster than anyone can read them.
        let age = Duration::from_millis(u64::try_from(lag.age.as_millis()).unwrap_or(u64::MAX));
        let age =
            if lag.record_count == 0 { "-".into() } else { humantime::format_duration(age).to_string() };
        [name, place, HumanCount(lag.record_count).to_string(), HumanBytes(lag.bytes).to_string(), age]
    });
    let headings = [name, place, "records", "bytes", "oldest"].map(str::to_owned);
    let cells: Vec<[String; 5]> = [headings].into_iter().chain(cells).collect();
    let width = |column: usize| cells.iter().map(|row| row[column].len()).max().unwrap_or_default();
    let widths = [0, 1, 2, 3].map(width);
    let mut text = String::new();
    for [name, place, records, bytes, age] in &cells {
        let _ = write!(text, "{name:<0$}", widths[0]);
        if widths[1] > 0 {
            let _ = write!(text, "  {place:>0$}", widths[1]);
        }
        let _ = writeln!(text, "  {records:>0$}  {bytes:>1$}  {age}", widths[2], widths[3]);
    }
    text
}

/// Prints the records that the group has not handled yet, and commits each batch after writing it.
pub(crate) fn consume(stream: &StreamReader, args: &ConsumeArgs) -> Outcome {
    let options = stream.group(&args.group).worker().start_at(args.from).lease_timeout(LEASE_TIMEOUT);
    let options = if args.skip_trimmed { options.on_trimmed(OnTrimmed::SkipToHorizon) } else { options };
    let mut printer = Printer::new(args.format)?;
    let mut worker = options.open()?;
    let mut skipped = 0;
    let wait = if args.follow { WAIT } else { Duration::ZERO };
    loop {
        check_interrupted()?;
        match worker.poll(wait) {
            Ok(Some(batch)) => {
                printer.print(&batch)?;
                // Flush first: records count as handled only after the output has accepted them.
                printer.flush()?;
                worker.commit(&batch)?;
            }
            Ok(None) if args.follow => printer.check_reader()?,
            Ok(None) => return Ok(()),
            Err(lost @ Error::Lost { shard, .. }) => {
                tell(&format!("note: {lost}"));
                worker.skip_lost(shard)?;
            }
            Err(error) => {
                if let Error::Trimmed { .. } = error {
                    tell("note: with --skip-trimmed, consume continues with the oldest record left");
                }
                return Err(error.into());
            }
        }
        let all_skipped = worker.skipped_count();
        if all_skipped > skipped {
            tell(&format!(
                "note: {} skipped, which retention has dropped",
                counted(all_skipped - skipped, "record")
            ));
            skipped = all_skipped;
        }
    }
}

/// Moves a group to another position.
pub(crate) fn reset(stream: &StreamReader, args: &ResetArgs) -> Outcome {
    Ok(stream.group(&args.group).reset(args.to)?)
}

/// Deletes a group.
pub(crate) fn delete(group: &Group) -> Outcome {
    Ok(group.delete()?)
}
