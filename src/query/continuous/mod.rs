//! Continuous queries: statements that run until they are closed.
//!
//! A **pump** is a thread that works in cycles. `runner` carries them out, `feed` reads, an `operator` keeps rows until time has passed
//! them, `marks` say how far time has come, `evaluate` runs SQL over rows that are there, `halves` finds the rows that it fails for, `putter` puts
//! under the places that `positions` chooses, and `state` keeps what a restart needs.
//!
//! **A cycle of a statement with windows, joins or rows that look back:** batches of the log are read → records that do not fit, and rows that are
//! late, become error rows → the others go into the operator → the watermark advances → released rows go through the statement → **one entry is
//! written to the journal**: the rows that were added, the rows that are to be put, with running numbers, the positions, the watermark → the rows
//! are put → the group commits the positions. What a crash leaves behind:
//!
//! - Before the entry is written as a whole: nothing of the cycle counts. The same records are read again. They may fall into cycles otherwise,
//!   and rows may be late that were not; neither had any effect yet.
//! - After the entry, before all rows are put: the restart reads the journal, and the operator becomes what it was. The rows of the last entry are
//!   put again, under the same place and with the same numbers: a [`Sink`](crate::Sink) knows those that are there. The place is a record of the
//!   input that the group has not committed yet, so the sink has not forgotten it. Rows of earlier entries are there, because an entry is written
//!   only when those of the one before are.
//! - After the rows are put, before the commit: the same, and the sink finds all of them. Reading goes on at the positions of the entry, not at
//!   those of the group.
//! - After the commit: the place is committed, so all rows are there, and none is put.
//! - While the journal is written anew: its old entries are there until the new one is whole, and say the same.
//! - While a shard ends: the commit of its last record ends it. Until then, its position is in the journal, and it is found to be at its end
//!   again. Its mark has gone to its children in the same entry.
//!
//! A cycle that has read records but adds, puts and refuses nothing is not written: only the group commits it. So reading goes on at the
//! higher of both positions, and a shard may have ended that the journal still waits for. Time may also have passed rows of which nothing went
//! out: so an entry with rows says how far it had come before them.
//!
//! **A cycle of a statement whose rows go out at once** needs no journal but for the text of the statement: batches are read → the statement
//! makes rows of them → each row is put under the place of the record that it is made of → the group commits. A crash before the commit lets the
//! same records be read again, and the sink knows the rows that are there. So the statement has to make the same rows of the same record.
//!
//! **A function** as the output is called with the rows of an entry where they would be put. Its calls are not known after a crash, so the last
//! entry's are made again unless the group has committed.

mod columns;
mod errors;
mod evaluate;
mod feed;
mod halves;
mod keyed;
mod keys;
mod marks;
#[cfg(test)]
mod model;
mod operator;
mod options;
mod output;
mod over;
mod overlay;
mod panes;
mod pile;
mod planned;
mod positions;
mod program;
mod pump;
mod putter;
mod queries;
mod runner;
mod sessions;
mod shared;
mod sides;
mod stagger;
mod start;
mod state;
mod store;
#[cfg(test)]
mod tests;
mod text;
mod watch;

pub use options::PumpOptions;
pub use output::Output;
pub use pump::{Pump, PumpStats};
