//! What a stream shows other processes while it is open: how far each shard is, and a bell for those that wait.
//!
//! Two files in the stream's directory hold words that are mapped and never synced:
//! - `live` is written by the process that has the stream open, and read by others. After each put, it has the new end of the shard. It is valid
//!   only on the machine that wrote it, until that machine restarts: power loss may have taken records that it shows.
//! - `bell` is written by both. A process that waits for a shard sets a mark there. A put that sees the mark rings.
//!
//! **Order.** A put stores the committed offset, then the end. A roll fills the place of the next segment, then counts it as begun. A reader
//! loads the end before the places, so the places cover the end. The horizon is raised before a file is removed, and loaded after
//! the directory was listed, so a file that is missing from the list is behind the horizon.
//!
//! **Opening.** The next process that opens the stream prepares slots of its own, with the number of its opening, and stores that number in the
//! header once recovery is done. Until then, the slots of the last opening count, even if its process was killed: recovery keeps everything that
//! could be read. Then they are free.
//!
//! **Wake.** A waiter stores its mark in the bell, makes all threads pass a barrier, and checks for records once more. A put stores the end and
//! then checks for marks. At least one of the two sees what the other has stored, so a put pays only one load if nobody waits. A ring clears the
//! mark, even if it was for another shard with the same mark, so a waiter that keeps waiting sets its mark again and checks once more.

pub(crate) mod bell;
pub(crate) mod hold_file;
pub(crate) mod publish;
pub(crate) mod watch;

pub(crate) const LIVE_NAME: &str = "live";
pub(crate) const BELL_NAME: &str = "bell";
