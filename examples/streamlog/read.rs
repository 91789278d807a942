//! `cat` and `tail`: reading shards in order.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use streamlog::{
    Batch, Error, OwnedRecord, Position, Record, SequenceNumber, ShardDescription, ShardId, ShardIterator,
    StreamReader,
};

use crate::args::{CatArgs, Order, TailArgs};
use crate::check_interrupted;
use crate::failure::{Failure, Outcome, tell};
use crate::follow::{Follower, Headed};
use crate::output::{Printer, counted};
use crate::shards::with_counts;

/// The limits of a read, small enough to check the Ctrl-C flag often.
pub(crate) const RECORDS_AT_A_TIME: usize = 10_000;
pub(crate) const BYTES_AT_A_TIME: usize = 4 << 20;
/// The limits of reading ahead in each shard when merging by time. A stream may have 1,024 shards.
const MERGED_RECORDS: usize = 1_000;
const MERGED_BYTES: usize = 256 << 10;

/// A shard to print, up to its end when the command began. Otherwise a stream that is written meanwhile would have no end.
#[derive(Debug)]
struct Span {
    shard: ShardDescription,
    iterator: ShardIterator,
    end: SequenceNumber,
}

/// Prints the records of the shards.
pub(crate) fn cat(stream: &StreamReader, args: &CatArgs) -> Outcome {
    let mut printer = Printer::new(args.format)?;
    let mut spans = spans_of(stream, args)?;
    let mut left = args.count.unwrap_or(u64::MAX);
    let outcome = match args.order {
        Order::Shard => cat_in_turn(&mut spans, &mut left, &mut printer),
        Order::Time => cat_by_time(&mut spans, &mut left, &mut printer),
    };
    // Print everything read before the damage, then report the damage.
    printer.flush().and(outcome)?;
    if !args.follow {
        return Ok(());
    }
    let has_children = args.shard.is_none();
    follower(stream, spans, Headed::without_headings(printer), left, has_children).follow()
}

/// Prints the shards one after another. Parents come before their children, so each key's records are in order.
fn cat_in_turn(spans: &mut [Span], left: &mut u64, printer: &mut Printer) -> Outcome {
    for span in spans {
        while *left > 0 {
            let records_max = (*left).min(RECORDS_AT_A_TIME as u64);
            let Some(batch) = span.read(records_max, BYTES_AT_A_TIME)? else { break };
            printer.print(&batch)?;
            *left -= batch.len() as u64;
        }
    }
    Ok(())
}

/// Prints the records of all shards by arrival time. Records with the same time are printed by shard, parents before children, so each
/// key's records are in order here too.
fn cat_by_time(spans: &mut [Span], left: &mut u64, printer: &mut Printer) -> Outcome {
    let mut read_ahead: Vec<VecDeque<OwnedRecord>> = spans.iter().map(|_| VecDeque::new()).collect();
    let mut next = BinaryHeap::new();
    let ids: Vec<_> = spans.iter().map(|span| span.shard.id).collect();
    let mut refill = |at: usize, next: &mut BinaryHeap<_>, records: &mut VecDeque<OwnedRecord>| {
        if records.is_empty() {
            let batch = spans[at].read(MERGED_RECORDS as u64, MERGED_BYTES)?;
            records.extend(batch.iter().flat_map(Batch::iter).map(Record::into_owned));
        }
        next.extend(records.front().map(|record| Reverse((record.timestamp, at))));
        Ok::<(), Failure>(())
    };
    for (at, records) in read_ahead.iter_mut().enumerate() {
        refill(at, &mut next, records)?;
    }
    while *left > 0 {
        let Some(Reverse((_, at))) = next.pop() else { break };
        let Some(record) = read_ahead[at].pop_front() else { break };
        printer.print_owned(ids[at], &record)?;
        *left -= 1;
        refill(at, &mut next, &mut read_ahead[at])?;
    }
    Ok(())
}

impl Span {
    /// Reads a batch. Returns `None` at the end.
    fn read(&mut self, records_max: u64, bytes_max: usize) -> Result<Option<Batch>, Failure> {
        loop {
            check_interrupted()?;
            let left = self.end.get().saturating_sub(self.iterator.next_sequence().get());
            if left == 0 {
                return Ok(None);
            }
            match self.iterator.next_batch_within(left.min(records_max) as usize, bytes_max) {
                Ok(batch) => return Ok(Some(batch).filter(|batch| !batch.is_empty())),
                Err(error) => pass_over(&mut self.iterator, error)?,
            }
        }
    }
}

/// Returns the shards to print, parents before children.
fn spans_of(stream: &StreamReader, args: &CatArgs) -> Result<Vec<Span>, Failure> {
    let shards = with_counts(stream, stream.shards())?;
    if let (None, Position::At(_) | Position::After(_), 2..) = (args.shard, args.from, shards.len()) {
        return Err(Failure::Told(
            "a sequence number belongs to one shard: name the shard with --shard".into(),
        ));
    }
    let is_meant = |id: ShardId| args.shard.is_none_or(|shard| shard == id);
    let mut spans = vec![];
    for (shard, counts) in shards.into_iter().filter(|(shard, _)| is_meant(shard.id)) {
        let iterator = match stream.iterator(shard.id, args.from) {
            // It has expired since it was listed.
            Err(Error::ShardNotFound(_)) => continue,
            iterator => iterator?,
        };
        spans.push(Span { shard, iterator, end: counts.next_sequence });
    }
    match args.shard {
        Some(shard) if spans.is_empty() => Err(Error::ShardNotFound(shard).into()),
        _ => Ok(spans),
    }
}

/// Returns a follower that continues where printing has stopped.
fn follower(
    stream: &StreamReader,
    spans: Vec<Span>,
    headed: Headed,
    left: u64,
    has_children: bool,
) -> Follower {
    let shards = spans.into_iter().map(|span| (span.shard, span.iterator)).collect();
    Follower::new(stream, shards, headed).limit(left).with_children(has_children)
}

/// Reports dropped records, and continues after them. Fails for every other reason to stop reading.
pub(crate) fn pass_over(iterator: &mut ShardIterator, error: Error) -> Outcome {
    match error {
        Error::Lost { .. } => {
            tell(&format!("note: {error}"));
            iterator.skip_lost()?;
        }
        Error::Trimmed { .. } => {
            let first = iterator.next_sequence();
            tell_trimmed(iterator.shard(), first, iterator.skip_to_horizon());
        }
        Error::Cut { .. } => {
            tell("note: run the command again to print the current records");
            return Err(error.into());
        }
        _ => return Err(error.into()),
    }
    Ok(())
}

fn tell_trimmed(shard: ShardId, first: SequenceNumber, count: u64) {
    let dropped = counted(count, "record");
    tell(&format!(
        "note: {shard}: retention dropped {dropped} before they were read, from sequence number {first} on"
    ));
}

/// Returns an iterator that begins with a sequence number, or with the oldest record if retention has dropped some after that number.
pub(crate) fn iterator_from(
    stream: &StreamReader,
    shard: ShardId,
    first: SequenceNumber,
) -> Result<ShardIterator, Failure> {
    match stream.iterator(shard, Position::At(first)) {
        Err(Error::Trimmed { .. }) => {
            let iterator = stream.iterator(shard, Position::TrimHorizon)?;
            tell_trimmed(shard, first, iterator.next_sequence().get().saturating_sub(first.get()));
            Ok(iterator)
        }
        iterator => Ok(iterator?),
    }
}

/// Prints the last records of each shard. With `-f`, also prints the records that follow.
pub(crate) fn tail(stream: &StreamReader, args: &TailArgs) -> Outcome {
    let mut spans = vec![];
    for (shard, counts) in with_counts(stream, stream.shards())? {
        let end = counts.next_sequence;
        let first = end.get().saturating_sub(args.count).max(counts.horizon.get());
        let iterator = iterator_from(stream, shard.id, SequenceNumber::new(first))?;
        spans.push(Span { shard, iterator, end });
    }
    let has_headings = !args.quiet && !args.format.json && spans.len() > 1;
    let mut headed = Headed::new(Printer::new(args.format)?, has_headings);
    let mut print_all = || {
        spans.iter_mut().try_for_each(|span| {
            while let Some(batch) = span.read(RECORDS_AT_A_TIME as u64, BYTES_AT_A_TIME)? {
                headed.print(&batch)?;
            }
            Ok(())
        })
    };
    let outcome = print_all();
    headed.flush().and(outcome)?;
    if !args.follow {
        return Ok(());
    }
    follower(stream, spans, headed, u64::MAX, true).follow()
}
