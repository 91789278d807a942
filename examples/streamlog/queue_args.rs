//! The command-line arguments of the commands for queues.

use std::path::PathBuf;
use std::time::Duration;

use streamlog::ReceiptHandle;

use crate::args::FormatArgs;

/// Which queue.
#[derive(Debug, clap::Args)]
pub(crate) struct QueueArgs {
    /// The stream's directory
    pub(crate) path: PathBuf,
    /// The queue's name
    pub(crate) queue: String,
}

/// List the queues, or describe one of them with its settings.
///
/// visible: ready to be received, or waiting for another record of its key. in flight: received, and hidden until its visibility timeout ends.
/// delayed: hidden until later. dead: received too often, see dead-letters. oldest: the age of the oldest record that is not done, not counting
/// dead letters. timeout and receives: the visibility timeout and the maximum receive count with which the queue was last opened.
#[derive(Debug, clap::Args)]
pub(crate) struct QueuesArgs {
    /// The stream's directory
    pub(crate) path: PathBuf,
    /// The name of a queue
    pub(crate) name: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Print the dead letters of a queue: the records that were received too often.
///
/// Prints the receipt handle and a tab before the data of each. Changes nothing: this does not count as receiving them, and a program may have
/// the queue open at the same time. With --json, each record also shows how often it was received, and when it was first received.
///
/// To restore all that mention a customer: streamlog dead-letters PATH QUEUE | grep customer-17 | cut -f1 | xargs streamlog restore-dead-letters PATH QUEUE
#[derive(Debug, clap::Args)]
pub(crate) struct DeadLettersArgs {
    #[command(flatten)]
    pub(crate) queue: QueueArgs,
    /// The maximum number of dead letters to print, 1 to 10000
    #[arg(short = 'n', long, value_name = "N", default_value_t = 10_000, value_parser = records)]
    pub(crate) count: usize,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}

/// Receive records from a queue, as one of its workers does, and print them.
///
/// Prints the receipt handle and a tab before the data of each. The records are hidden from other workers until acknowledge or release is called
/// with their handles, or until the visibility timeout ends. Each receive counts: a record that is received too often becomes a dead letter.
/// Records that cannot be printed are released.
///
/// The queue must exist, and no other program may have it open.
#[derive(Debug, clap::Args)]
pub(crate) struct ReceiveArgs {
    #[command(flatten)]
    pub(crate) queue: QueueArgs,
    /// The maximum number of records to print, 1 to 10000
    #[arg(short = 'n', long, value_name = "N", default_value_t = 1, value_parser = records)]
    pub(crate) count: usize,
    /// How long to wait for a record if none is visible (30s, 5m)
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = humantime::parse_duration)]
    pub(crate) wait: Duration,
    /// How long the records are hidden, up to 12h [default: the queue's visibility timeout]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) timeout: Option<Duration>,
    /// Acknowledge the records once they are printed
    #[arg(long, conflicts_with = "timeout")]
    pub(crate) acknowledge: bool,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}

/// Mark records or dead letters as done: they are never received again.
#[derive(Debug, clap::Args)]
pub(crate) struct AcknowledgeArgs {
    #[command(flatten)]
    pub(crate) queue: QueueArgs,
    /// The receipt handles, as receive and dead-letters print them
    #[arg(value_name = "HANDLE", required = true)]
    pub(crate) handles: Vec<ReceiptHandle>,
}

/// Return records to a queue, so that they can be received again.
#[derive(Debug, clap::Args)]
pub(crate) struct ReleaseArgs {
    #[command(flatten)]
    pub(crate) queue: QueueArgs,
    /// The receipt handles, as receive prints them
    #[arg(value_name = "HANDLE", required = true)]
    pub(crate) handles: Vec<ReceiptHandle>,
    /// How long the records stay hidden, up to 12h
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = humantime::parse_duration)]
    pub(crate) delay: Duration,
}

/// Move dead letters back to the other records of a queue, as if they had never been received.
#[derive(Debug, clap::Args)]
pub(crate) struct RestoreDeadLettersArgs {
    #[command(flatten)]
    pub(crate) queue: QueueArgs,
    /// The receipt handles, as dead-letters prints them
    #[arg(value_name = "HANDLE", required_unless_present = "all", conflicts_with = "all")]
    pub(crate) handles: Vec<ReceiptHandle>,
    /// All dead letters
    #[arg(long)]
    pub(crate) all: bool,
}

/// Discard all records of a queue that were put until now, except dead letters. With --dead-letters, discard only those.
///
/// The records stay in the stream. This cannot be undone.
#[derive(Debug, clap::Args)]
pub(crate) struct PurgeArgs {
    #[command(flatten)]
    pub(crate) queue: QueueArgs,
    /// Discard all dead letters, and nothing else
    #[arg(long)]
    pub(crate) dead_letters: bool,
}

/// Delete a queue with its dead letters. The records stay in the stream.
#[derive(Debug, clap::Args)]
pub(crate) struct DeleteQueueArgs {
    #[command(flatten)]
    pub(crate) queue: QueueArgs,
}

/// Parses how many records a call of the library takes.
fn records(text: &str) -> Result<usize, String> {
    let count: usize = text.parse().map_err(|_| format!("{text:?} is not a number"))?;
    if (1..=10_000).contains(&count) { Ok(count) } else { Err(format!("{count} is not between 1 and 10000")) }
}
