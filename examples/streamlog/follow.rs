//! Following a stream: prints records as they arrive, in the process that writes it or in another one.

use std::collections::HashSet;
use std::time::Duration;

use streamlog::{
    Batch, Position, ShardDescription, ShardFilter, ShardId, ShardIterator, StreamReader, wait_any,
};

use crate::check_interrupted;
use crate::failure::{Failure, Outcome};
use crate::output::Printer;
use crate::read::{BYTES_AT_A_TIME, RECORDS_AT_A_TIME, iterator_from, pass_over};

/// The longest time before a waiting command notices Ctrl-C.
const WAIT: Duration = Duration::from_millis(100);

/// Prints the records of a stream as they arrive, shard by shard. Reads a child only after all its parents are read to the end, so that each
/// key's records are in order.
#[derive(Debug)]
pub(crate) struct Follower {
    stream: StreamReader,
    reading: Vec<ShardIterator>,
    /// Shards with a parent that is not yet read to the end.
    waiting: Vec<(ShardDescription, ShardIterator)>,
    /// Shards that are read to the end, and the parents of the first shards to read.
    done: HashSet<ShardId>,
    headed: Headed,
    /// How many records to print.
    left: u64,
    has_children: bool,
}

impl Follower {
    /// Follows all open shards from their current ends.
    pub(crate) fn from_latest(stream: &StreamReader, printer: Printer) -> Result<Self, Failure> {
        let open = stream.list_shards(ShardFilter::AtLatest).into_iter();
        let shards = open.map(|shard| stream.iterator(shard.id, Position::Latest).map(|at| (shard, at)));
        Ok(Self::new(stream, shards.collect::<Result<_, _>>()?, Headed::without_headings(printer)))
    }

    pub(crate) fn new(
        stream: &StreamReader,
        shards: Vec<(ShardDescription, ShardIterator)>,
        headed: Headed,
    ) -> Self {
        let listed: HashSet<_> = shards.iter().map(|(shard, _)| shard.id).collect();
        let parents = shards.iter().flat_map(|(shard, _)| shard.parents());
        let done = parents.filter(|parent| !listed.contains(parent)).collect();
        let mut follower = Self {
            stream: stream.clone(),
            reading: vec![],
            waiting: shards,
            done,
            headed,
            left: u64::MAX,
            has_children: true,
        };
        follower.begin_with_those_that_can();
        follower
    }

    /// Stops after this many records.
    pub(crate) fn limit(self, left: u64) -> Self {
        Self { left, ..self }
    }

    /// Sets whether shards are followed into their children.
    pub(crate) fn with_children(self, has_children: bool) -> Self {
        Self { has_children, ..self }
    }

    /// Prints records until Ctrl-C, until the reader of the output closes it, or until no more can arrive.
    pub(crate) fn follow(mut self) -> Outcome {
        let outcome = self.follow_on();
        self.headed.flush().and(outcome)
    }

    fn follow_on(&mut self) -> Outcome {
        loop {
            check_interrupted()?;
            if self.left == 0 || self.reading.is_empty() {
                return Ok(());
            }
            if !self.print_some()? {
                self.check_reader()?;
                wait_any(&self.reading, WAIT)?;
            }
        }
    }

    /// Prints some of the available records. Returns `false` if none were left; then the output is flushed.
    pub(crate) fn print_some(&mut self) -> Result<bool, Failure> {
        // An open shard that is read to its end is not ready; a closed one leaves the list.
        match wait_any(&self.reading, Duration::ZERO)? {
            Some(ready) => self.print_batch(ready).map(|()| true),
            None => self.headed.flush().map(|()| false),
        }
    }

    /// Fails if the reader of the output has closed it.
    pub(crate) fn check_reader(&self) -> Outcome {
        self.headed.printer.check_reader()
    }

    fn print_batch(&mut self, ready: usize) -> Outcome {
        let records_max = self.left.min(RECORDS_AT_A_TIME as u64) as usize;
        let batch = match self.reading[ready].next_batch_within(records_max, BYTES_AT_A_TIME) {
            Ok(batch) => batch,
            Err(error) => return pass_over(&mut self.reading[ready], error),
        };
        self.headed.print(&batch)?;
        self.left -= batch.len() as u64;
        if let Some(children) = batch.child_shards() {
            self.done.insert(self.reading.remove(ready).shard());
            if self.has_children {
                self.take_up(children)?;
            }
        } else {
            // Rotate the shards, so that a shard that is always ready does not block the others.
            self.reading.rotate_left(1);
        }
        Ok(())
    }

    /// Adds the children of a shard that was read to its end. The child of a merge is added once per parent.
    fn take_up(&mut self, children: &[ShardDescription]) -> Outcome {
        for child in children {
            if !self.waiting.iter().any(|(shard, _)| shard.id == child.id) {
                let iterator = iterator_from(&self.stream, child.id, child.first_sequence)?;
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

/// Prints batches, with the name of the shard where it changes.
#[derive(Debug)]
pub(crate) struct Headed {
    printer: Printer,
    has_headings: bool,
    /// The shard printed last.
    printed: Option<ShardId>,
}

impl Headed {
    pub(crate) fn new(printer: Printer, has_headings: bool) -> Self {
        Self { printer, has_headings, printed: None }
    }

    pub(crate) fn without_headings(printer: Printer) -> Self {
        Self::new(printer, false)
    }

    pub(crate) fn print(&mut self, batch: &Batch) -> Outcome {
        if self.has_headings && !batch.is_empty() && self.printed != Some(batch.shard()) {
            let gap = if self.printed.is_some() { "\n" } else { "" };
            self.printer.line(&format!("{gap}==> {} <==", batch.shard()))?;
            self.printed = Some(batch.shard());
        }
        self.printer.print(batch)
    }

    pub(crate) fn flush(&mut self) -> Outcome {
        self.printer.flush()
    }
}
