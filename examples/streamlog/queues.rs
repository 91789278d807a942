//! `queues` and `purge`: shows the progress of a stream's queues, and drops the contents of one.

use indicatif::{HumanBytes, HumanCount};
use serde_json::{Value, json};
use streamlog::{Error, Queue, QueueDescription, StreamReader};

use crate::failure::{Failure, Outcome};
use crate::output::{counted, print_json, print_text};
use crate::queue_args::{PurgeArgs, QueueArgs, QueuesArgs};
use crate::table::Align::{Left, Right};
use crate::table::{age, span, table};

/// The maximum number of records that one call of the library can restore.
pub(crate) const RECORDS_MAX: usize = 10_000;

/// Lists the queues, or describes one of them.
pub(crate) fn print(stream: &StreamReader, args: &QueuesArgs) -> Outcome {
    if let Some(name) = &args.name {
        let queue = stream.describe_queue(name)?;
        return match args.json {
            true => print_json(&as_json(stream, &queue)),
            false => print_text(&as_text(stream, &queue)),
        };
    }
    let mut queues = vec![];
    for name in stream.queues()? {
        match stream.describe_queue(&name) {
            // It has been deleted since it was listed.
            Err(Error::InvalidArgument(_)) => {}
            queue => queues.push(queue?),
        }
    }
    if args.json {
        let queues: Vec<_> = queues.iter().map(|queue| as_json(stream, queue)).collect();
        return print_json(&json!({ "queues": queues }));
    }
    let count = |count: usize| HumanCount(count as u64).to_string();
    let rows = queues.iter().map(|queue| {
        [
            queue.name.clone(),
            HumanCount(visible_count(queue)).to_string(),
            count(queue.in_flight_count),
            count(queue.delayed_count),
            count(queue.dead_letter_count),
            age(queue.oldest_age),
            span(queue.visibility_timeout),
            queue.max_receive_count.map_or("-".to_owned(), |max| count(max as usize)),
            (if queue.is_ordered_by_key { "by key" } else { "-" }).to_owned(),
        ]
    });
    let columns = [
        ("queue", Left),
        ("visible", Right),
        ("in flight", Right),
        ("delayed", Right),
        ("dead", Right),
        ("oldest", Right),
        ("timeout", Right),
        ("receives", Right),
        ("order", Left),
    ];
    print_text(&table(columns, rows.collect()))
}

/// Returns how many records are not hidden, whether the queue has read them already or not.
fn visible_count(queue: &QueueDescription) -> u64 {
    queue.unread.record_count + queue.visible_count as u64
}

/// Returns the bound of the queue's hold on retention, if it has one.
fn hold_bytes(stream: &StreamReader, queue: &QueueDescription) -> Option<u64> {
    let name = format!("queue:{}", queue.name);
    stream.describe().holds.iter().find(|hold| hold.name == name).map(|hold| hold.bytes_max)
}

fn as_text(stream: &StreamReader, queue: &QueueDescription) -> String {
    let records = |count: usize| counted(count as u64, "record");
    let oldest =
        if queue.oldest_age.is_zero() { "-".to_owned() } else { format!("{} old", span(queue.oldest_age)) };
    let dead = if queue.keep_dead_letters { "" } else { "; they are not kept" };
    let hold = match hold_bytes(stream, queue) {
        Some(bytes) => format!("up to {}", HumanBytes(bytes)),
        None => "none".to_owned(),
    };
    let lines = [
        ("queue", queue.name.clone()),
        ("created", queue.created_at.to_string()),
        (
            "visible",
            format!(
                "{}, {} of them new",
                counted(visible_count(queue), "record"),
                HumanCount(queue.unread.record_count)
            ),
        ),
        ("in flight", records(queue.in_flight_count)),
        ("delayed", records(queue.delayed_count)),
        ("dead letters", format!("{}{dead}", records(queue.dead_letter_count))),
        ("oldest", oldest),
        ("visibility timeout", span(queue.visibility_timeout)),
        (
            "max receives",
            queue.max_receive_count.map_or("any number".to_owned(), |max| HumanCount(max.into()).to_string()),
        ),
        ("max outstanding", HumanCount(queue.outstanding_max as u64).to_string()),
        ("order", (if queue.is_ordered_by_key { "by key" } else { "none" }).to_owned()),
        ("hold on retention", hold),
    ];
    lines.map(|(what, value)| format!("{what:<19}  {value}\n")).concat()
}

fn as_json(stream: &StreamReader, queue: &QueueDescription) -> Value {
    json!({
        "queue": queue.name,
        "created_at": queue.created_at.to_string(),
        "created_at_micros": queue.created_at.as_micros(),
        "visible_count": visible_count(queue),
        "unread_count": queue.unread.record_count,
        "unread_bytes": queue.unread.bytes,
        "in_flight_count": queue.in_flight_count,
        "delayed_count": queue.delayed_count,
        "dead_letter_count": queue.dead_letter_count,
        "oldest_age_seconds": queue.oldest_age.as_secs_f64(),
        "visibility_timeout_seconds": queue.visibility_timeout.as_secs_f64(),
        "max_receive_count": queue.max_receive_count,
        "keep_dead_letters": queue.keep_dead_letters,
        "outstanding_max": queue.outstanding_max,
        "is_ordered_by_key": queue.is_ordered_by_key,
        "hold_bytes_max": hold_bytes(stream, queue),
    })
}

/// Opens an existing queue with its stored settings: other settings could turn its records into dead letters.
pub(crate) fn open(stream: &StreamReader, args: &QueueArgs) -> Result<Queue, Failure> {
    let known = stream.describe_queue(&args.queue)?;
    let options = stream
        .queue(&args.queue)
        .visibility_timeout(known.visibility_timeout)
        .max_receive_count(known.max_receive_count)
        .keep_dead_letters(known.keep_dead_letters)
        .outstanding_max(known.outstanding_max);
    let options = if known.is_ordered_by_key { options.ordered_by_key() } else { options };
    options.open().map_err(|error| refused(&args.queue, error))
}

/// Deletes a queue.
pub(crate) fn delete(stream: &StreamReader, args: &QueueArgs) -> Outcome {
    stream.delete_queue(&args.queue).map_err(|error| refused(&args.queue, error))
}

/// Names the process that has the queue open, if it is in use.
fn refused(queue: &str, error: Error) -> Failure {
    let Error::Locked(by) = error else { return error.into() };
    let who = match (by.process_id, &by.process_name) {
        (Some(id), Some(name)) => format!("process {id} ({name})"),
        (Some(id), None) => format!("process {id}"),
        (None, _) => "another process".to_owned(),
    };
    let hint = "the commands queues and dead-letters still work";
    Failure::Told(format!(
        "the queue {queue:?} is open in {who}: stop it, or make it close the queue; {hint}"
    ))
}

/// Drops all records of a queue, or all its dead letters.
pub(crate) fn purge(stream: &StreamReader, args: &PurgeArgs) -> Outcome {
    let queue = open(stream, &args.queue)?;
    if !args.dead_letters {
        queue.purge()?;
        return Ok(queue.close()?);
    }
    loop {
        let dead = stream.peek_dead_letters(&args.queue.queue, RECORDS_MAX)?;
        if dead.is_empty() {
            return Ok(queue.close()?);
        }
        // No one else has the queue open, so all handles are valid.
        for outcome in queue.acknowledge_batch(dead.iter().map(|dead| &dead.handle))? {
            outcome?;
        }
    }
}
