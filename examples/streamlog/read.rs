//! `cat` and `tail`: reading shards in order, and following them.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet, VecDeque};
use std::time::Duration;

use streamlog::{
    Batch, Error, OwnedRecord, Position, Record, SequenceNumber, ShardDescription, ShardFilter, ShardId,
    ShardIterator, Stream, wait_any,
};

use crate::args::{CatArgs, Order, TailArgs};
use crate::check_interrupted;
use crate::failure::{Failure, Outcome, tell};
use crate::output::Printer;
use crate::shards::with_counts;

/// The limits of a read, small enough to check the Ctrl-C flag often.
const RECORDS_AT_A_TIME: usize = 10_000;
const BYTES_AT_A_TIME: usize = 4 << 20;
/// The limits of reading ahead in each shard when merging by time. A stream may have 1,024 shards.
const MERGED_RECORDS: usize = 1_000;
const MERGED_BYTES: usize = 256 << 10;
/// The longest time before a waiting command notices Ctrl-C.
const WAIT: Duration = Duration::from_millis(100);

/// Prints the records of the shards.
pub(crate) fn cat(stream: &Stream, args: &CatArgs) -> Outcome {
    let mut printer = Printer::new(args.format)?;
    let shards = shards_to_read(stream, args)?.into_iter().map(|shard| stream.iterator(shard, args.from));
    let shards = shards.collect::<Result<Vec<_>, _>>()?;
    let count = args.count.unwrap_or(u64::MAX);
    let outcome = match args.order {
        Order::Shard => cat_in_turn(shards, count, &mut printer),
        Order::Time => cat_by_time(shards, count, &mut printer),
    };
    // Print everything read before the damage, then report the damage.
    printer.flush().and(outcome)
}

/// Prints the shards one after another. Parents come before their children, so each key's records are in order.
fn cat_in_turn(shards: Vec<ShardIterator>, mut left: u64, printer: &mut Printer) -> Outcome {
    for mut iterator in shards {
        while left > 0 {
            let records_max = left.min(RECORDS_AT_A_TIME as u64) as usize;
            let batch = read(&mut iterator, records_max, BYTES_AT_A_TIME)?;
            if batch.is_empty() {
                break;
            }
            printer.print(&batch)?;
            left -= batch.len() as u64;
        }
    }
    Ok(())
}

/// Prints the records of all shards by arrival time. Records with the same time are printed by shard, parents before children, so each
/// key's records are in order here too.
fn cat_by_time(mut shards: Vec<ShardIterator>, count: u64, printer: &mut Printer) -> Outcome {
    let mut read_ahead: Vec<VecDeque<OwnedRecord>> = shards.iter().map(|_| VecDeque::new()).collect();
    let mut next = BinaryHeap::new();
    let ids: Vec<_> = shards.iter().map(ShardIterator::shard).collect();
    let mut refill = |at: usize, next: &mut BinaryHeap<_>, records: &mut VecDeque<OwnedRecord>| {
        if records.is_empty() {
            let batch = read(&mut shards[at], MERGED_RECORDS, MERGED_BYTES)?;
            records.extend(batch.iter().map(Record::into_owned));
        }
        next.extend(records.front().map(|record| Reverse((record.timestamp, at))));
        Ok::<(), Failure>(())
    };
    for (at, records) in read_ahead.iter_mut().enumerate() {
        refill(at, &mut next, records)?;
    }
    for _ in 0..count {
        let Some(Reverse((_, at))) = next.pop() else { break };
        let Some(record) = read_ahead[at].pop_front() else { break };
        printer.print_owned(ids[at], &record)?;
        refill(at, &mut next, &mut read_ahead[at])?;
    }
    Ok(())
}

/// Reads a batch, skipping lost records. The batch is empty at the end of the shard.
fn read(iterator: &mut ShardIterator, records_max: usize, bytes_max: usize) -> Result<Batch, Failure> {
    loop {
        check_interrupted()?;
        match iterator.next_batch_within(records_max, bytes_max) {
            Err(error @ Error::Lost { .. }) => pass_over(iterator, &error)?,
            batch => return Ok(batch?),
        }
    }
}

fn shards_to_read(stream: &Stream, args: &CatArgs) -> Result<Vec<ShardId>, Failure> {
    let shards: Vec<_> = stream.shards().iter().map(|shard| shard.id).collect();
    match (args.shard, args.from) {
        (Some(shard), _) => Ok(vec![shard]),
        (None, Position::At(_) | Position::After(_)) if shards.len() > 1 => Err(Failure::Told(
            "a sequence number counts the records of one shard: say which with --shard".into(),
        )),
        _ => Ok(shards),
    }
}

/// Reports records that were lost to damage and given up, and continues after them.
fn pass_over(iterator: &mut ShardIterator, lost: &Error) -> Outcome {
    tell(&format!("note: {lost}"));
    Ok(iterator.skip_lost().map(drop)?)
}

/// Prints the last records of each shard. With `-f`, also prints the records that follow.
pub(crate) fn tail(stream: &Stream, args: &TailArgs) -> Outcome {
    let mut shards = vec![];
    for (shard, counts) in with_counts(stream, stream.shards())? {
        let first = counts.next_sequence.get().saturating_sub(args.count).max(counts.horizon.get());
        let iterator = stream.iterator(shard.id, Position::At(SequenceNumber::new(first)))?;
        shards.push((shard, iterator));
    }
    let mut follower = Follower::new(stream, shards, Printer::new(args.format)?, args.quiet);
    if args.follow {
        tell("following; while this runs, no other process can open the stream");
    }
    loop {
        check_interrupted()?;
        if follower.print_some()? {
            continue;
        }
        if !args.follow {
            return Ok(());
        }
        follower.check_reader()?;
        wait_any(&follower.reading, WAIT)?;
    }
}

/// Prints new records, shard by shard as they arrive. Reads a child only after all its parents are read to the end, so that each key's
/// records are in order.
#[derive(Debug)]
pub(crate) struct Follower {
    stream: Stream,
    reading: Vec<ShardIterator>,
    /// Shards with a parent that is not yet read to the end.
    waiting: Vec<(ShardDescription, ShardIterator)>,
    /// Shards that are read to the end, and the parents of the first shards to read.
    done: HashSet<ShardId>,
    printer: Printer,
    /// The shard printed last, if shards have headings.
    printed: Option<ShardId>,
    has_headings: bool,
}

impl Follower {
    /// Follows all open shards from their current ends.
    pub(crate) fn from_latest(stream: &Stream, printer: Printer) -> Result<Self, Failure> {
        let open = stream.list_shards(ShardFilter::AtLatest).into_iter();
        let shards = open.map(|shard| stream.iterator(shard.id, Position::Latest).map(|at| (shard, at)));
        Ok(Self::new(stream, shards.collect::<Result<_, _>>()?, printer, true))
    }

    fn new(
        stream: &Stream,
        shards: Vec<(ShardDescription, ShardIterator)>,
        printer: Printer,
        is_quiet: bool,
    ) -> Self {
        let has_headings = !is_quiet && !printer.is_json() && shards.len() > 1;
        let listed: HashSet<_> = shards.iter().map(|(shard, _)| shard.id).collect();
        let parents = shards.iter().flat_map(|(shard, _)| shard.parents());
        let done = parents.filter(|parent| !listed.contains(parent)).collect();
        let (stream, reading) = (stream.clone(), vec![]);
        let mut follower =
            Self { stream, reading, waiting: shards, done, printer, printed: None, has_headings };
        follower.begin_with_those_that_can();
        follower
    }

    /// Prints some of the available records. Returns `false` if none were left; then the output is flushed.
    pub(crate) fn print_some(&mut self) -> Result<bool, Failure> {
        // An open shard that is read to its end is not ready; a closed one leaves the list.
        match wait_any(&self.reading, Duration::ZERO)? {
            Some(ready) => self.print_batch(ready).map(|()| true),
            None => self.printer.flush().map(|()| false),
        }
    }

    /// Fails if the reader of the output has closed it.
    pub(crate) fn check_reader(&self) -> Outcome {
        self.printer.check_reader()
    }

    fn print_batch(&mut self, ready: usize) -> Outcome {
        let batch = match self.reading[ready].next_batch_within(RECORDS_AT_A_TIME, BYTES_AT_A_TIME) {
            Err(error @ Error::Lost { .. }) => return pass_over(&mut self.reading[ready], &error),
            batch => batch?,
        };
        if self.has_headings && !batch.is_empty() && self.printed != Some(batch.shard()) {
            let gap = if self.printed.is_some() { "\n" } else { "" };
            self.printer.line(&format!("{gap}==> {} <==", batch.shard()))?;
            self.printed = Some(batch.shard());
        }
        self.printer.print(&batch)?;
        if let Some(children) = batch.child_shards() {
            self.done.insert(self.reading.remove(ready).shard());
            self.take_up(children)?;
        } else {
            // Rotate the shards, so that a shard that is always ready does not block the others.
            self.reading.rotate_left(1);
        }
        Ok(())
    }

    /// Takes up the children of a shard that was read to its end. The child of a merge comes once per parent.
    fn take_up(&mut self, children: &[ShardDescription]) -> Outcome {
        for child in children {
            if !self.waiting.iter().any(|(shard, _)| shard.id == child.id) {
                let iterator = self.stream.iterator(child.id, Position::TrimHorizon)?;
                self.waiting.push((child.clone(), iterator));
            }
        }
        self.begin_with_those_that_can();
        Ok(())
    }

    /// Starts reading the shards whose parents are all done.
    fn begin_with_those_that_can(&mut self) {
        let is_ready = |shard: &ShardDescription| shard.parents().all(|parent| self.done.contains(&parent));
        for (_, iterator) in self.waiting.extract_if(.., |(shard, _)| is_ready(shard)) {
            self.reading.push(iterator);
        }
    }
}
