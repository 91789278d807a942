//! `cat` and `tail`: reading shards in order, and following them.

use std::collections::HashSet;
use std::time::Duration;

use streamlog::{Position, SequenceNumber, ShardDescription, ShardId, ShardIterator, Stream, wait_any};

use crate::args::{CatArgs, TailArgs};
use crate::check_interrupted;
use crate::failure::{Failure, Outcome, tell};
use crate::output::Printer;

/// A read takes as much as is worth a look at the Ctrl-C flag.
const RECORDS_AT_A_TIME: usize = 10_000;
const BYTES_AT_A_TIME: usize = 4 << 20;
/// How soon a waiting command sees Ctrl-C.
const WAIT: Duration = Duration::from_millis(100);

/// Prints the shards one after the other. Parents come before their children, so each key's records are in order.
pub(crate) fn cat(stream: &Stream, args: &CatArgs) -> Outcome {
    let mut printer = Printer::new(args.format);
    let mut left = args.count.unwrap_or(u64::MAX);
    for shard in shards_to_read(stream, args)? {
        let mut iterator = stream.iterator(shard, args.from)?;
        while left > 0 {
            check_interrupted()?;
            let records_max = left.min(RECORDS_AT_A_TIME as u64) as usize;
            let batch = match iterator.next_batch_within(records_max, BYTES_AT_A_TIME) {
                Ok(batch) if batch.is_empty() => break,
                Ok(batch) => batch,
                // What was read before the damage is printed before it is told.
                Err(error) => return printer.flush().and(Err(error.into())),
            };
            printer.print(&batch)?;
            left -= batch.len() as u64;
        }
    }
    printer.flush()
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

/// Prints the last records of each shard, and with `-f` what comes after them.
pub(crate) fn tail(stream: &Stream, args: &TailArgs) -> Outcome {
    let mut iterators = vec![];
    for shard in stream.stats()?.shards {
        let first = shard.next_sequence.get().saturating_sub(args.count).max(shard.horizon.get());
        iterators.push(stream.iterator(shard.shard, Position::At(SequenceNumber::new(first)))?);
    }
    let mut follower = Follower::new(stream, iterators, Printer::new(args.format), args.quiet);
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
        wait_any(&follower.iterators, WAIT)?;
    }
}

/// Prints what is put from now on, shard by shard as it comes, and goes on with the children of shards that are closed.
#[derive(Debug)]
pub(crate) struct Follower {
    stream: Stream,
    iterators: Vec<ShardIterator>,
    /// All shards that are or were read, so that none is read twice.
    known: HashSet<ShardId>,
    printer: Printer,
    /// The shard that was printed last, if shards are told apart.
    printed: Option<ShardId>,
    has_headings: bool,
}

impl Follower {
    /// Follows all shards from their ends, as they are now.
    pub(crate) fn from_latest(stream: &Stream, printer: Printer) -> Result<Self, Failure> {
        let open = stream.shards().into_iter().filter(ShardDescription::is_open);
        let iterators =
            open.map(|shard| stream.iterator(shard.id, Position::Latest)).collect::<Result<_, _>>()?;
        Ok(Self::new(stream, iterators, printer, true))
    }

    fn new(stream: &Stream, iterators: Vec<ShardIterator>, printer: Printer, is_quiet: bool) -> Self {
        let has_headings = !is_quiet && !printer.is_json() && iterators.len() > 1;
        let known = iterators.iter().map(ShardIterator::shard).collect();
        Self { stream: stream.clone(), iterators, known, printer, printed: None, has_headings }
    }

    /// Prints some of what can be read now; `false` if that was all, and then nothing is held back.
    pub(crate) fn print_some(&mut self) -> Result<bool, Failure> {
        // An open shard that is read to its end is no longer ready, a closed one leaves the list.
        match wait_any(&self.iterators, Duration::ZERO)? {
            Some(ready) => self.print_batch(ready).map(|()| true),
            None => self.printer.flush().map(|()| false),
        }
    }

    fn print_batch(&mut self, ready: usize) -> Outcome {
        let batch = self.iterators[ready].next_batch_within(RECORDS_AT_A_TIME, BYTES_AT_A_TIME)?;
        if self.has_headings && !batch.is_empty() && self.printed != Some(batch.shard()) {
            let gap = if self.printed.is_some() { "\n" } else { "" };
            self.printer.line(&format!("{gap}==> {} <==", batch.shard()))?;
            self.printed = Some(batch.shard());
        }
        self.printer.print(&batch)?;
        if let Some(children) = batch.end_of_shard() {
            self.iterators.remove(ready);
            self.take_up(children)?;
        } else {
            // The shards take turns: one that is always ready does not hide the others.
            self.iterators.rotate_left(1);
        }
        Ok(())
    }

    /// Begins with the children whose parents have all ended; the last parent to end brings a child in.
    fn take_up(&mut self, children: &[ShardDescription]) -> Outcome {
        for child in children {
            let is_read = |shard: ShardId| self.iterators.iter().any(|iterator| iterator.shard() == shard);
            if !child.parents().any(is_read) && self.known.insert(child.id) {
                self.iterators.push(self.stream.iterator(child.id, Position::TrimHorizon)?);
            }
        }
        Ok(())
    }
}
