//! `receive`, `acknowledge`, `release`, `dead-letters` and `restore-dead-letters`: single records of a queue.

use std::time::{Duration, Instant};

use streamlog::{Queue, QueueRecord, ReceiptHandle, StreamReader};

use crate::check_interrupted;
use crate::failure::{Failure, Outcome, tell};
use crate::output::Printer;
use crate::queue_args::{
    AcknowledgeArgs, DeadLettersArgs, QueueArgs, ReceiveArgs, ReleaseArgs, RestoreDeadLettersArgs,
};
use crate::queues::{RECORDS_MAX, open};

/// The longest time before a waiting command notices Ctrl-C.
const WAIT: Duration = Duration::from_millis(100);

/// Prints dead letters without changing anything.
pub(crate) fn dead_letters(stream: &StreamReader, args: &DeadLettersArgs) -> Outcome {
    let mut printer = Printer::new(args.format)?;
    for dead in stream.peek_dead_letters(&args.queue.queue, args.count)? {
        check_interrupted()?;
        printer.print_delivered(&dead)?;
    }
    printer.flush()
}

/// Receives records from a queue and prints them.
pub(crate) fn receive(stream: &StreamReader, args: &ReceiveArgs) -> Outcome {
    let mut printer = Printer::new(args.format)?;
    let queue = open(stream, &args.queue)?;
    let records = wait_for_records(&queue, args, &printer)?;
    if let Err(failure) = print(&mut printer, &records) {
        for record in &records {
            queue.release(&record.handle, Duration::ZERO)?;
        }
        return Err(failure);
    }
    if args.acknowledge {
        for outcome in queue.acknowledge_batch(records.iter().map(|record| &record.handle))? {
            outcome?;
        }
    }
    Ok(queue.close()?)
}

fn wait_for_records(
    queue: &Queue,
    args: &ReceiveArgs,
    printer: &Printer,
) -> Result<Vec<QueueRecord>, Failure> {
    let began = Instant::now();
    loop {
        check_interrupted()?;
        let left = args.wait.saturating_sub(began.elapsed());
        let records = match args.timeout {
            Some(timeout) => queue.receive_for(args.count, left.min(WAIT), timeout)?,
            None => queue.receive(args.count, left.min(WAIT))?,
        };
        if !records.is_empty() || left.is_zero() {
            return Ok(records);
        }
        printer.check_reader()?;
    }
}

fn print(printer: &mut Printer, records: &[QueueRecord]) -> Outcome {
    records.iter().try_for_each(|record| printer.print_delivered(record))?;
    printer.flush()
}

/// Acknowledges records.
pub(crate) fn acknowledge(stream: &StreamReader, args: &AcknowledgeArgs) -> Outcome {
    change(stream, &args.queue, &args.handles, Queue::acknowledge)
}

/// Releases records.
pub(crate) fn release(stream: &StreamReader, args: &ReleaseArgs) -> Outcome {
    change(stream, &args.queue, &args.handles, |queue, handle| queue.release(handle, args.delay))
}

/// Restores dead letters.
pub(crate) fn restore(stream: &StreamReader, args: &RestoreDeadLettersArgs) -> Outcome {
    if !args.all {
        return change(stream, &args.queue, &args.handles, Queue::restore);
    }
    let queue = open(stream, &args.queue)?;
    loop {
        let dead = stream.peek_dead_letters(&args.queue.queue, RECORDS_MAX)?;
        if dead.is_empty() {
            return Ok(queue.close()?);
        }
        // No one else has the queue open, so all handles are valid.
        for dead in dead {
            check_interrupted()?;
            queue.restore(&dead.handle)?;
        }
    }
}

/// Changes records by their handles. An invalid handle does not prevent the changes of the others.
fn change(
    stream: &StreamReader,
    args: &QueueArgs,
    handles: &[ReceiptHandle],
    change: impl Fn(&Queue, &ReceiptHandle) -> streamlog::Result<()>,
) -> Outcome {
    let queue = open(stream, args)?;
    let mut failed = false;
    for handle in handles {
        if let Err(error) = change(&queue, handle) {
            tell(&format!("{handle}: {error}"));
            failed = true;
        }
    }
    queue.close()?;
    if failed { Err(Failure::AlreadyTold) } else { Ok(()) }
}
