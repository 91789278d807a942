//! The command-line arguments.

use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::{Parser, Subcommand, ValueEnum};
use regex::bytes::Regex;
use streamlog::{Compression, HashKey, KeyHash, Position, Retention, ShardFilter, ShardId, limits};

use crate::archive::{ArchiveArgs, RestoreArgs};
use crate::deliver::DeliverArgs;
use crate::mirror::{MirrorArgs, MirrorsArgs};
use crate::parse::{
    Age, BytesMax, parse_age, parse_beginning, parse_bytes, parse_bytes_max, parse_filter, parse_mode,
    parse_position,
};
use crate::queue_args::{
    AcknowledgeArgs, DeadLettersArgs, DeleteQueueArgs, PurgeArgs, QueuesArgs, ReceiveArgs, ReleaseArgs,
    RestoreDeadLettersArgs,
};
use crate::relay::RelayArgs;
use crate::sql::SqlArgs;
use crate::video::VideoArgs;

const AFTER_HELP: &str = "\
These commands only read: cat, tail, describe, verify, shards, groups, lag, mirrors, processors, queues, dead-letters, sql, and retention without options. \
They work while a program has the stream open, on a file system that is mounted read-only, and for a user who may only read the files. So do archive and snapshot. \
video list and video clip also work while a program has the stream open, but they write beside the stream. consume, deliver, relay, reset and delete-group \
need a group that no other program has open. receive, acknowledge, release, restore-dead-letters, purge and delete-queue need a queue that no other program \
has open. All other commands on an existing stream need one that no program has open. Otherwise, a command fails and names the process.

Ctrl-C ends a command cleanly. Other signals, such as SIGTERM, end it at once: the stream holds what was put before, and the next \
program that opens the stream checks its end first.

Exit codes:
  0    success, also if the reader of a pipe closes it (streamlog cat PATH | head)
  1    an error, printed to standard error; for verify, also if it found damage
  2    the command line is wrong
  130  interrupted by Ctrl-C: what was put before is in the stream, and it was closed cleanly";

/// Writes, reads and administers streams: sharded logs in a directory.
#[derive(Debug, Parser)]
#[command(name = "streamlog", version, after_help = AFTER_HELP, after_long_help = AFTER_HELP)]
pub(crate) struct Args {
    /// Encrypt and decrypt records with the keys in this file; see new-key
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) key_file: Option<PathBuf>,
    /// Read records that retention has dropped from this archive: a directory or an object store URL; see archive.
    /// For cat, tail, describe, verify, shards, groups, lag, consume, deliver, relay and sql
    #[arg(long, value_name = "PLACE", global = true, value_parser = NonEmptyStringValueParser::new())]
    pub(crate) archive: Option<String>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Create(CreateArgs),
    Put(PutArgs),
    Cat(CatArgs),
    Tail(TailArgs),
    Describe(DescribeArgs),
    Verify(VerifyArgs),
    Salvage(SalvageArgs),
    Snapshot(SnapshotArgs),
    Archive(ArchiveArgs),
    Restore(RestoreArgs),
    Shards(ShardsArgs),
    Split(SplitArgs),
    Merge(MergeArgs),
    Scale(ScaleArgs),
    Retention(RetentionArgs),
    Groups(GroupsArgs),
    Lag(LagArgs),
    Consume(ConsumeArgs),
    Reset(ResetArgs),
    DeleteGroup(DeleteGroupArgs),
    Deliver(DeliverArgs),
    Relay(RelayArgs),
    Mirror(MirrorArgs),
    Mirrors(MirrorsArgs),
    Processors(ProcessorsArgs),
    Queues(QueuesArgs),
    DeadLetters(DeadLettersArgs),
    Receive(ReceiveArgs),
    Acknowledge(AcknowledgeArgs),
    Release(ReleaseArgs),
    RestoreDeadLetters(RestoreDeadLettersArgs),
    Purge(PurgeArgs),
    DeleteQueue(DeleteQueueArgs),
    Sql(SqlArgs),
    Video(VideoArgs),
    NewKey(NewKeyArgs),
    RotateKey(RotateKeyArgs),
}

impl Command {
    /// Returns whether the command reads records or shards, and so may read an archive.
    pub(crate) fn reads(&self) -> bool {
        matches!(
            self,
            Self::Cat(_)
                | Self::Tail(_)
                | Self::Describe(_)
                | Self::Verify(_)
                | Self::Shards(_)
                | Self::Groups(_)
                | Self::Lag(_)
                | Self::Consume(_)
                | Self::Deliver(_)
                | Self::Relay(_)
                | Self::Sql(_)
        )
    }
}

/// Create a file with a key for --key-file, and print the key's name.
///
/// Only its owner may read the file. Keep a copy away from the streams: without it, their records cannot be read.
///
/// The first command with --key-file that creates a stream or puts into it turns on encryption: records are encrypted from then on.
#[derive(Debug, clap::Args)]
pub(crate) struct NewKeyArgs {
    /// The file, which must not exist yet
    pub(crate) file: PathBuf,
    /// Add the key to an existing file. Streams use it after their next rotate-key, and still need the older keys for older records
    #[arg(long)]
    pub(crate) add: bool,
}

/// Encrypt new records with a new key, wrapped by the newest one in --key-file.
#[derive(Debug, clap::Args)]
pub(crate) struct RotateKeyArgs {
    /// The stream's directory
    pub(crate) path: PathBuf,
}

/// Create a stream; fails if it exists.
#[derive(Debug, clap::Args)]
pub(crate) struct CreateArgs {
    /// The stream's directory
    pub(crate) path: PathBuf,
    /// Number of shards, 1 to 1024
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) shards: u32,
    /// How partition keys are hashed; md5 places keys as Amazon Kinesis does
    #[arg(long, value_name = "HASH", value_enum, default_value_t = HashName::Xxh3)]
    pub(crate) key_hash: HashName,
    /// How long records are kept: a duration (90m, 24h, 7days) or "forever"
    #[arg(long, value_name = "AGE", default_value = "24h", value_parser = parse_age)]
    pub(crate) retention: Age,
    /// Drop the oldest records beyond this many bytes (8G, 500MiB)
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pub(crate) retention_bytes: Option<u64>,
    /// The size at which a segment file is full (64K to 2G)
    #[arg(long, value_name = "BYTES", default_value = "64M", value_parser = parse_bytes)]
    pub(crate) segment_bytes: u64,
    /// Who may read the files: 600 (their owner), 640 (also their group), 604 or 644 (everybody)
    #[arg(long, value_name = "MODE", default_value = "600", value_parser = parse_mode)]
    pub(crate) file_mode: u32,
    /// How batches are compressed: none, lz4, zstd, or zstd: and a level from -50 to 22
    #[arg(long, value_name = "METHOD", default_value = "none")]
    pub(crate) compression: Compression,
}

impl CreateArgs {
    pub(crate) fn retention(&self) -> Retention {
        let retention = self.retention.0.map_or(Retention::forever(), Retention::age);
        self.retention_bytes.map_or(retention, |bytes| retention.bytes_max(bytes))
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum HashName {
    Xxh3,
    Md5,
}

impl From<HashName> for KeyHash {
    fn from(name: HashName) -> Self {
        match name {
            HashName::Xxh3 => Self::Xxh3,
            HashName::Md5 => Self::Md5,
        }
    }
}

/// Put each line of a file as a record, without its newline.
///
/// Lines may hold any bytes, and may be empty. Carriage returns, zeros and bytes that are not UTF-8 are kept, so cat reproduces a file that
/// was put into one shard byte for byte, except that it adds a missing newline at the end. Compressed files (gzip, zstd, xz, bzip2) are
/// refused: zcat FILE | streamlog put PATH.
///
/// Without a key option, a line's partition key is its line number: the lines spread evenly over the shards and keep their order within
/// each shard. Lines with the same key go to the same shard, in order. A carriage return at the end of a line is not part of the key.
///
/// The command stops at a line that it cannot put (no key, an empty key, too long) and prints its number; the lines before it are in the
/// stream. With --skip-long, it skips lines that are too long.
#[derive(Debug, clap::Args)]
pub(crate) struct PutArgs {
    /// The stream's directory
    pub(crate) path: PathBuf,
    /// The file to read; standard input if omitted or "-"
    pub(crate) file: Option<PathBuf>,
    /// The partition key of every line; with --key-column or --key-regex, only of lines that have no key there
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) key: Option<String>,
    /// Use this column of the line as the partition key, counted from 1
    #[arg(long, value_name = "N", conflicts_with = "key_regex", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) key_column: Option<u32>,
    /// The separator between columns [default: any run of blanks]
    #[arg(long, value_name = "TEXT", requires = "key_column", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) separator: Option<String>,
    /// Use the first group of this regular expression as the partition key, or the whole match if it has no group
    #[arg(long, value_name = "RE")]
    pub(crate) key_regex: Option<Regex>,
    /// Skip lines that are too long for a record, or whose key is too long, and print how many
    #[arg(long)]
    pub(crate) skip_long: bool,
    /// Sync each batch to disk before the next; without it, all lines are synced by the time the command ends
    #[arg(long)]
    pub(crate) power: bool,
    /// Also print each record as soon as it can be read; ends when the output is closed
    #[arg(short, long)]
    pub(crate) follow: bool,
}

/// How records are printed.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct FormatArgs {
    /// Print the partition key and a tab before the data
    #[arg(long, conflicts_with = "json")]
    pub(crate) with_key: bool,
    /// Print one JSON object per line: shard, sequence, timestamp, timestamp_micros, key, data, headers; key_base64 or data_base64 for bytes
    /// that are not UTF-8
    #[arg(long)]
    pub(crate) json: bool,
}

/// Print records, shard after shard.
///
/// The records of each partition key are printed in the order in which they were put, each with a newline after its data. Newlines within
/// the data are printed as they are; with --json, each record is one line. cat prints the records that exist when it starts.
///
/// With -f it then prints new records as they are put, until Ctrl-C or until its output is closed. It follows the stream through splits and
/// merges, and through restarts of the program that writes it. With --shard it ends when that shard is split or merged.
///
/// If retention has dropped records before they were printed, or salvage has given them up, it reports the missing ones and continues.
#[derive(Debug, clap::Args)]
pub(crate) struct CatArgs {
    /// The stream's directory
    pub(crate) path: PathBuf,
    /// Only this shard (shardId-000000000003, or 3)
    #[arg(long, value_name = "ID")]
    pub(crate) shard: Option<ShardId>,
    /// Where to start in each shard: horizon (the oldest record), latest (the end), a sequence number, after:NUMBER, a time in UTC
    /// (2026-01-31T12:00:00Z, "2026-01-31 12:00:00", or seconds since 1970 as @1769860800), or ago:DURATION (ago:15m)
    #[arg(long, value_name = "PLACE", default_value = "horizon", value_parser = parse_position)]
    pub(crate) from: Position,
    /// Print one shard after another (shard), or the records of all shards in order of arrival (time)
    #[arg(long, value_enum, default_value_t = Order::Shard)]
    pub(crate) order: Order,
    /// Stop after this many records in total
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<u64>,
    /// Continue with new records, until Ctrl-C
    #[arg(short, long)]
    pub(crate) follow: bool,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}

/// The order in which records are printed.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(crate) enum Order {
    Shard,
    Time,
}

/// Print the last records of each shard.
///
/// With -f it then prints each record as soon as another program puts it, until Ctrl-C or until its output is closed. It follows the stream
/// through splits and merges, and through restarts of the program that writes it.
///
/// If retention has dropped records before they were printed, or salvage has given them up, it reports the missing ones and continues.
#[derive(Debug, clap::Args)]
pub(crate) struct TailArgs {
    /// The stream's directory
    pub(crate) path: PathBuf,
    /// Number of records from each shard
    #[arg(short = 'n', long = "lines", value_name = "N", default_value_t = 10)]
    pub(crate) count: u64,
    /// Continue with new records, until Ctrl-C
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Do not print shard names, even if there are several shards
    #[arg(short, long)]
    pub(crate) quiet: bool,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}

/// Print settings, shards and counts.
#[derive(Debug, clap::Args)]
pub(crate) struct DescribeArgs {
    /// The stream's directory
    pub(crate) path: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Read everything, check it, and list damage.
///
/// The exit code is 1 if there is damage. verify changes nothing; use salvage to repair.
#[derive(Debug, clap::Args)]
pub(crate) struct VerifyArgs {
    /// The stream's directory
    pub(crate) path: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Repair a damaged stream: give up its damaged records, and list what is lost.
///
/// If you have a copy of the damaged file, restore that instead. Each damaged file is kept next to the repaired one, with ".damaged"
/// appended to its name. cat then skips the lost records and reports them.
#[derive(Debug, clap::Args)]
pub(crate) struct SalvageArgs {
    /// The stream's directory
    pub(crate) path: PathBuf,
}

/// Back up a stream: make a directory that opens as a stream, with the stream's current records and consumer groups.
///
/// On the same file system, only unsealed segments take space. Otherwise, everything is copied. If you run it again with the same directory, it
/// adds only new records. The last snapshot does not change until the new one is complete. If the command is interrupted, run it again: it
/// continues from there.
///
/// Fails if records were put into the snapshot. Opening a snapshot drops the records that have expired by then: to look at an old snapshot,
/// open a copy.
#[derive(Debug, clap::Args)]
pub(crate) struct SnapshotArgs {
    /// The stream's directory
    pub(crate) path: PathBuf,
    /// The snapshot's directory: new, empty, or an earlier snapshot of the stream
    pub(crate) to: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Split a shard in two: its hash keys go to two new shards, its records stay where they are.
#[derive(Debug, clap::Args)]
pub(crate) struct SplitArgs {
    /// The stream's directory
    pub(crate) path: PathBuf,
    /// An open shard (shardId-000000000003, or 3)
    pub(crate) shard: ShardId,
    /// The first hash key of the upper shard, a decimal number below 2^128 [default: the middle]
    #[arg(long, value_name = "HASH_KEY")]
    pub(crate) at: Option<HashKey>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Merge two shards: their hash keys go to one new shard, their records stay where they are.
#[derive(Debug, clap::Args)]
pub(crate) struct MergeArgs {
    /// The stream's directory
    pub(crate) path: PathBuf,
    /// An open shard (shardId-000000000003, or 3)
    pub(crate) shard: ShardId,
    /// The open shard whose hash keys follow those of the first
    pub(crate) adjacent: ShardId,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Split and merge shards until N shards own equal parts of the hash keys.
///
/// If it is interrupted, run it again: it continues from there.
#[derive(Debug, clap::Args)]
pub(crate) struct ScaleArgs {
    /// The stream's directory
    pub(crate) path: PathBuf,
    /// Number of open shards, 1 to 1024
    #[arg(value_name = "N")]
    pub(crate) count: u32,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Print how long records are kept, or change it.
///
/// Changes only the given settings, if any. Expired records are dropped immediately and cannot be restored.
#[derive(Debug, clap::Args)]
pub(crate) struct RetentionArgs {
    /// The stream's directory
    pub(crate) path: PathBuf,
    /// How long records are kept: a duration (90m, 24h, 7days) or "forever"
    #[arg(long, value_name = "AGE", value_parser = parse_age)]
    pub(crate) age: Option<Age>,
    /// Drop the oldest records beyond this many bytes (8G, 500MiB), or "none" for no limit
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes_max)]
    pub(crate) bytes: Option<BytesMax>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

impl RetentionArgs {
    pub(crate) fn changes_nothing(&self) -> bool {
        self.age.is_none() && self.bytes.is_none()
    }
}

/// List the consumer groups and their lag.
#[derive(Debug, clap::Args)]
pub(crate) struct GroupsArgs {
    /// The stream's directory
    pub(crate) path: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Print the lag of a consumer group, shard by shard.
///
/// Omits closed shards that the group has finished. The group may run in any program.
#[derive(Debug, clap::Args)]
pub(crate) struct LagArgs {
    /// The stream's directory
    pub(crate) path: PathBuf,
    /// The group's name
    pub(crate) group: String,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Print the records that a consumer group has not handled yet, and mark them as handled.
///
/// Each batch is committed after it is written to standard output: after a crash, or if the output is closed, the records of the last batch
/// are printed again. A new group is created. The records of each partition key are printed in order. Another program may have the stream
/// open at the same time, but not this group.
#[derive(Debug, clap::Args)]
pub(crate) struct ConsumeArgs {
    /// The stream's directory
    pub(crate) path: PathBuf,
    /// The group's name: 1 to 128 letters, digits, ".", "_" and "-"
    pub(crate) group: String,
    /// Where a new group starts: horizon (the oldest record), latest (the end), or a time as for cat --from
    #[arg(long, value_name = "PLACE", default_value = "horizon", value_parser = parse_beginning)]
    pub(crate) from: Position,
    /// If retention dropped records before they were handled, continue with the oldest one left and print how many were skipped, instead of
    /// failing
    #[arg(long)]
    pub(crate) skip_trimmed: bool,
    /// Continue with new records, until Ctrl-C
    #[arg(short, long)]
    pub(crate) follow: bool,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}

/// Move a consumer group to another position in all shards, backward or forward.
#[derive(Debug, clap::Args)]
pub(crate) struct ResetArgs {
    /// The stream's directory
    pub(crate) path: PathBuf,
    /// The group's name
    pub(crate) group: String,
    /// The new position: horizon or trim-horizon (the oldest record), latest (the end), or a time as for cat --from
    #[arg(value_name = "PLACE", value_parser = parse_beginning)]
    pub(crate) to: Position,
}

/// Delete a consumer group and its checkpoints.
#[derive(Debug, clap::Args)]
pub(crate) struct DeleteGroupArgs {
    /// The stream's directory
    pub(crate) path: PathBuf,
    /// The group's name
    pub(crate) group: String,
}

/// List the processors and their lag, or print one of them shard by shard.
///
/// The lag counts the records that a processor has not committed yet. The age of the oldest one corresponds to AWS Lambda's iterator age. A
/// running processor may be slightly ahead. Only its own program knows its current state, such as calls and errors.
///
/// With a NAME, each lane has a line with its progress and its open tumbling windows.
///
/// A processor reads as a consumer group of the same name, which you can move with reset and delete with delete-group.
#[derive(Debug, clap::Args)]
pub(crate) struct ProcessorsArgs {
    /// The stream's directory
    pub(crate) path: PathBuf,
    /// The name of a processor
    pub(crate) name: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Print the shards as a table, and a picture of their hash-key ranges.
///
/// Shards are listed by number (3 is shardId-000000000003), after their parents.
#[derive(Debug, clap::Args)]
pub(crate) struct ShardsArgs {
    /// The stream's directory
    pub(crate) path: PathBuf,
    /// Which shards: all, horizon (open at the oldest record), latest (open now), at:TIME (open then), from:TIME (open then or
    /// later), or after:SHARD (created after that one); TIME as for cat --from
    #[arg(long, value_name = "WHICH", default_value = "all", value_parser = parse_filter)]
    pub(crate) filter: ShardFilter,
    /// Print one JSON object
    #[arg(long, conflicts_with = "dot")]
    pub(crate) json: bool,
    /// Print a graph for Graphviz, with an edge from each parent to its children
    #[arg(long)]
    pub(crate) dot: bool,
}

const _: () = assert!(limits::SHARD_COUNT_MAX == 1024, "the help of --shards and of scale says so");
