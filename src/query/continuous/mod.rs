//! Continuous queries: statements that run until they are closed.
//!
//! A **pump** is a thread that works in cycles. `runner` runs them, `feed` reads, an `operator` keeps rows until time has passed them, `marks` track
//! the progress of time, `evaluate` runs SQL over existing rows, `halves` finds the rows that it fails for, `putter` puts under the places that
//! `positions` chooses, and `state` stores what a restart needs.
//!
//! **A cycle of a statement with windows, joins or rows that look back:** batches of the log are read → records that do not fit, and rows that are
//! late, become error rows → the others go into the operator → the watermark advances → released rows go through the statement → **one entry is
//! written to the journal**: the added rows, the rows to be put, with running numbers, the positions, the watermark → the rows are put → the group
//! commits the positions. The effects of a crash:
//!
//! - Before the entry is written as a whole: nothing of the cycle counts. The same records are read again. They may be divided into other cycles, and
//!   other rows may be late; neither had any effect yet.
//! - After the entry, before all rows are put: the restart reads the journal, and restores the operator. The rows of the last entry are put again,
//!   under the same place and with the same numbers: a [`Sink`](crate::Sink) recognises those that are already there. The place is a record of the
//!   input that the group has not committed yet, so the sink has not forgotten it. Rows of earlier entries are there, because an entry is written
//!   only after the rows of the previous one are put.
//! - After the rows are put, before the commit: the same, and the sink finds all of them. Reading continues at the positions of the entry, not at
//!   those of the group.
//! - After the commit: the place is committed, so all rows are there, and none is put again.
//! - While the journal is rewritten: its old entries stay until the new one is complete, and have the same content.
//! - While a shard ends: the commit of its last record ends it. Until then, its position is in the journal, and its end is found again. The same
//!   entry has passed its mark to its children.
//!
//! A cycle that has read records but adds, puts and refuses nothing is not written: only the group commits it. So reading continues at the higher of
//! both positions, and a shard that the journal still waits for may have ended. Time may also have passed rows that caused no output: so an entry
//! with rows includes the watermark before them.
//!
//! **A cycle of a statement whose rows go out immediately** needs the journal only for the text of the statement: batches are read → the statement
//! turns them into rows → each row is put under the place of its source record → the group commits. After a crash before the commit, the same records
//! are read again, and the sink recognises the rows that are already there. So the statement must make the same rows of the same record.
//!
//! **A function** as the output is called with the rows of an entry where they would be put. Its calls are not recorded, so after a crash, those of
//! the last entry are repeated unless the group has committed.

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
