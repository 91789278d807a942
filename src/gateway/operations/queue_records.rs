//! The records of queues: received, also after a wait, and taken back.

use std::borrow::Cow;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep};

use super::super::catalogue::{Known, QueueState, Status};
use super::super::token::{Purpose, Sealer};
use super::super::wire::Format;
use super::queues::by_arn;
use super::read::headers;
use super::records::{NO_KEY, fault};
use super::{Answered, Call, Fault, Input, Later, Reply, Value};
use crate::{Clock, Error, Queue, QueueRecord, ReceiptHandle, Result};

const RECORDS_MAX: u32 = 10;
/// How long a call waits by default.
const WAIT_SECONDS: u32 = 9;
/// An answer has less data than this, and one record more.
const ANSWER_BYTES_MAX: usize = 10 << 20;

/// The contents of a receipt handle of the service.
#[derive(Debug, Serialize, Deserialize)]
struct Receipt {
    /// Whether a dead letter was received. The operations of dead letters take no other handles, and the others do not take these.
    #[serde(rename = "d")]
    is_dead: bool,
    #[serde(rename = "h")]
    handle: String,
}

/// Returns the queue of a request, if records can be received from it.
fn in_use(call: &Call<'_>, input: &Input<'_>) -> Answered<(Arc<Known>, QueueState, Queue)> {
    let (known, queue) = by_arn(call.service, input.required("QueueARN"))?;
    match queue.status {
        Status::Active | Status::Updating => {
            let of_log = known.open_queue(&queue.id)?;
            Ok((known, queue, of_log))
        }
        Status::Creating | Status::Deleting => Err(known.no_queue(&queue.id)),
    }
}

/// Returns the answer to an error of the queue. If it is closed, it was deleted in the meantime.
fn failed(known: &Known, id: &str, error: &Error) -> Fault {
    match error {
        Error::Closed if !known.stream.is_closed() => known.no_queue(id),
        error => fault(known, error),
    }
}

pub(super) fn receive(call: &Call<'_>, input: Input<'_>) -> Answered<Reply> {
    receive_some(call, &input, false)
}

pub(super) fn receive_dead(call: &Call<'_>, input: Input<'_>) -> Answered<Reply> {
    receive_some(call, &input, true)
}

fn receive_some(call: &Call<'_>, input: &Input<'_>, is_dead: bool) -> Answered<Reply> {
    let (known, QueueState { id, settings, .. }, queue) = in_use(call, input)?;
    let seconds = |count: u32| Duration::from_secs(count.into());
    let timeout = input.count("VisibilityTimeoutSeconds").unwrap_or(settings.visibility_seconds);
    let asked = Asked {
        records_max: input.count("Limit").unwrap_or(RECORDS_MAX) as usize,
        wait: seconds(input.count("WaitTimeSeconds").unwrap_or(WAIT_SECONDS)),
        visibility_timeout: seconds(timeout),
        is_dead,
    };
    let (clock, sealer) = (Arc::clone(&call.service.clock), Arc::clone(&call.service.sealer));
    let (format, mut ending) = (call.format, call.service.ending.subscribe());
    let mut later: Later = Box::pin(async move {
        let received = tokio::select! {
            biased;
            received = asked.receive(&queue, &*clock) => received,
            // The gateway ends.
            _ = ending.wait_for(|&is_ending| is_ending) => Ok(vec![]),
        };
        let records = received.map_err(|error| failed(&known, &id, &error))?;
        encode(&known, &sealer, format, &records, is_dead)
    });
    // Available records are answered on this thread, which may wait for the disk.
    match later.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answered) => answered.map(Reply::Body),
        Poll::Pending => Ok(Reply::Later(later)),
    }
}

/// What a call asks for.
#[derive(Debug, Clone, Copy)]
struct Asked {
    records_max: usize,
    wait: Duration,
    visibility_timeout: Duration,
    is_dead: bool,
}

impl Asked {
    /// Takes records, or waits for some until the time is over. The clock measures the wait; the timer only says when to check it.
    async fn receive(self, queue: &Queue, clock: &dyn Clock) -> Result<Vec<QueueRecord>> {
        let next = queue
            .next(self.records_max)
            .bytes_max(ANSWER_BYTES_MAX)
            .visibility_timeout(self.visibility_timeout);
        let mut next = pin!(if self.is_dead { next.dead_letters() } else { next });
        let deadline = clock.elapsed() + self.wait;
        let mut timer = pin!(sleep(self.wait));
        let poll = |context: &mut Context<'_>| loop {
            // Taking records may wait for the disk.
            let taken = block_in_place(|| next.as_mut().poll(context));
            if taken.is_ready() {
                return taken;
            }
            let left = deadline.saturating_sub(clock.elapsed());
            if left.is_zero() {
                return Poll::Ready(Ok(vec![]));
            }
            if timer.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            timer.as_mut().reset(Instant::now() + left);
        };
        std::future::poll_fn(poll).await
    }
}

fn encode(
    known: &Known,
    sealer: &Sealer,
    format: Format,
    records: &[QueueRecord],
    is_dead: bool,
) -> Answered<Vec<u8>> {
    let records = records.iter().map(|record| to_value(known, sealer, record, is_dead));
    let records = records.collect::<Answered<Vec<_>>>()?;
    Ok(format.encode(&Value::map([("QueueRecords", Value::List(records))])))
}

fn to_value<'a>(
    known: &Known,
    sealer: &Sealer,
    received: &'a QueueRecord,
    is_dead: bool,
) -> Answered<Value<'a>> {
    let record = &received.record;
    // A shard whose record has just been read has not expired.
    let numbers = known.numbers(received.shard).ok_or_else(Fault::internal)?;
    let receipt = Receipt { is_dead, handle: received.handle.to_string() };
    let key = || Value::Text(String::from_utf8_lossy(&record.partition_key));
    let value = Value::map([
        ("ReceiptHandle", Value::text(sealer.seal(Purpose::Receipt, &receipt))),
        // The sequence number that readers of the shard see: it is the same in all queues, and has digits only.
        ("RecordId", Value::text(numbers.record(record.sequence, record.timestamp).to_string())),
        ("Data", Value::Blob(Cow::Borrowed(&record.data))),
        ("ApproximateArrivalTimestamp", Value::Time(record.timestamp)),
        ("FirstReceiveTimestamp", Value::Time(received.first_received)),
        ("ReceiveCount", Value::Integer(received.receive_count.into())),
    ]);
    let has_key = record.headers().get(NO_KEY).is_none();
    Ok(value.with("PartitionKey", has_key.then(key)).with("Headers", headers(record.headers())))
}

pub(super) fn acknowledge(call: &Call<'_>, input: Input<'_>) -> Answered<Reply> {
    take_back(call, input, false, |queue, entries| {
        queue.acknowledge_batch(entries.iter().map(|entry| &entry.handle))
    })
}

pub(super) fn acknowledge_dead(call: &Call<'_>, input: Input<'_>) -> Answered<Reply> {
    take_back(call, input, true, |queue, entries| {
        queue.acknowledge_batch(entries.iter().map(|entry| &entry.handle))
    })
}

pub(super) fn restore(call: &Call<'_>, input: Input<'_>) -> Answered<Reply> {
    take_back(call, input, true, |queue, entries| {
        Ok(entries.iter().map(|entry| queue.restore(&entry.handle)).collect())
    })
}

pub(super) fn update_visibility(call: &Call<'_>, input: Input<'_>) -> Answered<Reply> {
    take_back(call, input, false, extend)
}

pub(super) fn update_dead_visibility(call: &Call<'_>, input: Input<'_>) -> Answered<Reply> {
    take_back(call, input, true, extend)
}

fn extend(queue: &Queue, entries: &[Entry]) -> Result<Vec<Result<()>>> {
    Ok(entries.iter().map(|entry| queue.extend(&entry.handle, entry.timeout)).collect())
}

/// An entry of a batch whose handle is one of this service.
struct Entry {
    handle: ReceiptHandle,
    timeout: Duration,
}

/// Applies an operation to the records of a batch, and answers the outcome of each.
fn take_back(
    call: &Call<'_>,
    mut input: Input<'_>,
    is_dead: bool,
    run: impl FnOnce(&Queue, &[Entry]) -> Result<Vec<Result<()>>>,
) -> Answered<Reply> {
    let asked = input.take_list("Entries");
    let (known, QueueState { id, .. }, queue) = in_use(call, &input)?;
    let handles =
        asked.iter().map(|entry| open(&call.service.sealer, entry.required("ReceiptHandle"), is_dead));
    let handles: Vec<_> = handles.collect();
    let timeouts = asked.iter().map(|entry| entry.count("VisibilityTimeoutSeconds").unwrap_or_default());
    let entries: Vec<_> = handles
        .iter()
        .zip(timeouts)
        .filter_map(|(handle, seconds)| {
            let handle = handle.as_ref().ok().copied()?;
            Some(Entry { handle, timeout: Duration::from_secs(seconds.into()) })
        })
        .collect();
    let outcomes = run(&queue, &entries).map_err(|error| failed(&known, &id, &error))?;
    let mut outcomes = outcomes.into_iter();
    let (mut successful, mut refused) = (vec![], vec![]);
    for (entry, handle) in asked.iter().zip(handles) {
        let outcome = handle.and_then(|_| match outcomes.next() {
            Some(Ok(())) => Ok(()),
            Some(Err(error)) => Err(entry_fault(&known, &error)),
            None => Err(Fault::internal()),
        });
        let value = Value::map([("ReceiptHandle", Value::text(entry.required("ReceiptHandle")))]);
        match outcome {
            Ok(()) => successful.push(value),
            Err(fault) => {
                let code = if fault.is_internal() { "InternalFailureException" } else { fault.kind };
                let message = fault.message.unwrap_or(Cow::Borrowed("Internal Service Failure."));
                let value = value.with("ErrorCode", Some(Value::text(code)));
                refused.push(value.with("ErrorMessage", Some(Value::text(message))));
            }
        }
    }
    call.reply(&Value::map([("Successful", Value::List(successful)), ("Failed", Value::List(refused))]))
}

/// Reads a receipt handle.
fn open(sealer: &Sealer, text: &str, is_dead: bool) -> Answered<ReceiptHandle> {
    let receipt: Option<Receipt> = sealer.open(Purpose::Receipt, text);
    let Some(receipt) = receipt else { return Err(Fault::invalid("The receipt handle is invalid.")) };
    match (receipt.is_dead, is_dead) {
        (true, false) => Err(Fault::invalid("The receipt handle is that of a dead-letter record.")),
        (false, true) => Err(Fault::invalid("The receipt handle is not that of a dead-letter record.")),
        _ => receipt.handle.parse().map_err(|_| Fault::internal()),
    }
}

/// Returns the error of an entry among others.
fn entry_fault(known: &Known, error: &Error) -> Fault {
    match error {
        Error::ReceiptHandleInvalid { .. } => Fault::not_found(
            "The receipt handle is no longer valid: the record is done or has expired, or its visibility timeout has ended.",
        ),
        Error::InvalidArgument(_) => Fault::invalid("The receipt handle is one of another queue."),
        error => match fault(known, error) {
            fault if fault.is_not_found() => fault,
            _ => Fault::internal(),
        },
    }
}
