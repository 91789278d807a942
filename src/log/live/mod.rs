//! What a stream shows other processes while it is open: how far each shard is, and a bell for those that wait.
//!
//! Two files in the stream's directory hold words that are mapped and never synced:
//! - `live` is written by the process that has the stream open, and read by others. After each put, it has the new end of the shard. It
//!   counts only on the machine that wrote it, since that machine was started: power loss may have taken records that it speaks of.
//! - `bell` is written by both. A process that waits for a shard says so there. A put that sees this rings.
//!
//! **Order.** A put stores the committed offset, then the end. A roll fills the place of the next segment, then counts it as begun. A reader
//! loads the end before the places, so the places cover the end. The horizon is raised before a file is removed, and loaded after
//! the directory was listed, so a file that is missing from the list is behind the horizon.
//!
//! **Opening.** The process that opens the stream next prepares slots of its own, with the number of its opening, and shows that number in the
//! header once recovery is done. Until then, the slots of the last opening count, whose process may have been killed: recovery keeps
//! everything that could be read. Then they are free.
//!
//! **Wake.** A waiter stores its mark in the bell, lets all threads pass a barrier, and looks for records once more. A put stores the end and
//! then looks for marks. One of the two sees what the other has stored. So a put pays one load if nobody waits. A ring takes the mark away, even
//! if it was for another shard with the same mark, so whoever goes on waiting marks again and looks once more.

pub(crate) mod bell;
pub(crate) mod hold_file;
pub(crate) mod publish;
pub(crate) mod watch;

pub(crate) const LIVE_NAME: &str = "live";
pub(crate) const BELL_NAME: &str = "bell";
