//! The command-line arguments.

use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::{Parser, Subcommand, ValueEnum};
use regex::bytes::Regex;
use streamlog::{HashKey, KeyHash, Position, Retention, ShardFilter, ShardId, limits};

use crate::parse::{
    Age, BytesMax, parse_age, parse_beginning, parse_bytes, parse_bytes_max, parse_filter, parse_position,
};

const AFTER_HELP: &str = "\
One process has a stream open at a time. While a program has it open, every command here fails and says so.

Exit codes:
  0    done; also when the reader of a pipe has seen enough (streamlog cat PATH | head)
  1    an error, told on standard error; for verify also: damage was found
  2    the command line is wrong
  130  Ctrl-C: what was put before is in the stream, which was closed in good order";

/// Puts, reads and looks after streams: logs with shards, in a directory.
#[derive(Debug, Parser)]
#[command(name = "streamlog", version, after_help = AFTER_HELP, after_long_help = AFTER_HELP)]
pub(crate) struct Args {
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
}

/// Create a stream; fails if there is one.
#[derive(Debug, clap::Args)]
pub(crate) struct CreateArgs {
    /// The stream's directory
    pub(crate) path: PathBuf,
    /// How many shards, 1 to 1024
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

/// Put lines, one record a line, without their newline.
///
/// Lines may hold any bytes, and may be empty. Without a key option, a line's partition key is its number: the lines spread evenly
/// over the shards, and keep their order within each shard. Lines with the same key go to the same shard, in order.
///
/// A line that cannot be put (no key, an empty key, too long) ends the command and is named by its number; the lines before it are
/// in the stream.
#[derive(Debug, clap::Args)]
pub(crate) struct PutArgs {
    /// The stream's directory
    pub(crate) path: PathBuf,
    /// The file to read; standard input if there is none, or if it is "-"
    pub(crate) file: Option<PathBuf>,
    /// The partition key of every line; with --key-column or --key-regex, of the lines in which those find none
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) key: Option<String>,
    /// The partition key is this column of the line, from 1
    #[arg(long, value_name = "N", conflicts_with = "key_regex", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) key_column: Option<u32>,
    /// What is between columns; without it, any run of blanks
    #[arg(long, value_name = "TEXT", requires = "key_column", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) separator: Option<String>,
    /// The partition key is the first group of this regular expression, or all of what it matches if it has no group
    #[arg(long, value_name = "RE")]
    pub(crate) key_regex: Option<Regex>,
    /// Make each batch survive power loss before the next; without it, that is so at the latest when the command ends
    #[arg(long)]
    pub(crate) power: bool,
    /// Also print each record as soon as it can be read; ends when nobody reads the output any more
    #[arg(short, long)]
    pub(crate) follow: bool,
}

/// How records are printed.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct FormatArgs {
    /// Print the partition key and a tab before the data
    #[arg(long, conflicts_with = "json")]
    pub(crate) with_key: bool,
    /// Print one JSON object a line: shard, sequence, timestamp, timestamp_micros, key, data, headers; key_base64 or data_base64 for what
    /// is not UTF-8
    #[arg(long)]
    pub(crate) json: bool,
}

/// Print records, shard after shard.
///
/// The records of each partition key are printed in the order in which they were put.
#[derive(Debug, clap::Args)]
pub(crate) struct CatArgs {
    /// The stream's directory
    pub(crate) path: PathBuf,
    /// Only this shard (shardId-000000000003, or 3)
    #[arg(long, value_name = "ID")]
    pub(crate) shard: Option<ShardId>,
    /// Where to begin in each shard: horizon (the oldest record), latest (the end), a sequence number, after:NUMBER, a time in UTC
    /// (2026-01-31T12:00:00Z, "2026-01-31 12:00:00", or seconds since 1970 as @1769860800), or ago:DURATION (ago:15m)
    #[arg(long, value_name = "PLACE", default_value = "horizon", value_parser = parse_position)]
    pub(crate) from: Position,
    /// Print the shards one after the other (shard), or the records of all shards by their time of arrival (time)
    #[arg(long, value_enum, default_value_t = Order::Shard)]
    pub(crate) order: Order,
    /// Stop after this many records in all
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<u64>,
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
/// With -f it goes on to wait for more. One process has a stream open at a time, so it sees what its own process puts, and while it
/// runs no other can put: to watch what is being put, let the command that puts print it (streamlog put --follow). If another
/// process has the stream open, this one ends and says so.
#[derive(Debug, clap::Args)]
pub(crate) struct TailArgs {
    /// The stream's directory
    pub(crate) path: PathBuf,
    /// How many records of each shard
    #[arg(short = 'n', long = "lines", value_name = "N", default_value_t = 10)]
    pub(crate) count: u64,
    /// Go on with what is put later, until Ctrl-C
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Print no line with the name of the shard where there are several
    #[arg(short, long)]
    pub(crate) quiet: bool,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}

/// Print settings, shards, counts, and what opening found.
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
/// The exit code is 1 if there is damage.
#[derive(Debug, clap::Args)]
pub(crate) struct VerifyArgs {
    /// The stream's directory
    pub(crate) path: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Open a damaged stream, give up what is damaged, and say what is lost.
///
/// Restore the damaged file from a copy instead, if there is one. A damaged file is kept beside the mended one, with ".damaged"
/// behind its name; cat passes over what is lost and says so.
#[derive(Debug, clap::Args)]
pub(crate) struct SalvageArgs {
    /// The stream's directory
    pub(crate) path: PathBuf,
}

/// Split a shard in two: its hash keys go to two new shards, its records stay where they are.
#[derive(Debug, clap::Args)]
pub(crate) struct SplitArgs {
    /// The stream's directory
    pub(crate) path: PathBuf,
    /// An open shard (shardId-000000000003, or 3)
    pub(crate) shard: ShardId,
    /// The first hash key of the upper half, a decimal number below 2^128; without it, the middle
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

/// Split and merge until so many shards own equal parts of the hash keys.
///
/// What was done when it is killed stays; the same command goes on from there.
#[derive(Debug, clap::Args)]
pub(crate) struct ScaleArgs {
    /// The stream's directory
    pub(crate) path: PathBuf,
    /// How many open shards, 1 to 1024
    pub(crate) count: u32,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Print how long records are kept, or change it.
///
/// An option that is not given leaves its part as it is. What has expired is dropped at once, and does not come back.
#[derive(Debug, clap::Args)]
pub(crate) struct RetentionArgs {
    /// The stream's directory
    pub(crate) path: PathBuf,
    /// How long records are kept: a duration (90m, 24h, 7days) or "forever"
    #[arg(long, value_name = "AGE", value_parser = parse_age)]
    pub(crate) age: Option<Age>,
    /// Drop the oldest records beyond this many bytes (8G, 500MiB), or "none" for no such bound
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes_max)]
    pub(crate) bytes: Option<BytesMax>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// List the consumer groups, and how far each is behind.
#[derive(Debug, clap::Args)]
pub(crate) struct GroupsArgs {
    /// The stream's directory
    pub(crate) path: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Print how far a consumer group is behind, shard by shard.
///
/// Shards that the group has handled to their end are left out.
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

/// Print the records that a consumer group has not handled yet, and count them as handled.
///
/// Each batch is committed once it is written to standard output: after a crash, or where a pipe's reader goes away, the records of the
/// last batch come again. A group that is new is created. Each partition key's records are printed in order.
#[derive(Debug, clap::Args)]
pub(crate) struct ConsumeArgs {
    /// The stream's directory
    pub(crate) path: PathBuf,
    /// The group's name: 1 to 128 letters, digits, ".", "_" and "-"
    pub(crate) group: String,
    /// Where a group begins that is new: horizon (the oldest record), latest (the end), or a time as for cat --from
    #[arg(long, value_name = "PLACE", default_value = "horizon", value_parser = parse_beginning)]
    pub(crate) from: Position,
    /// Where retention has dropped records before they were handled, go on with the oldest one that is left, and say how many are
    /// skipped; without it that is an error
    #[arg(long)]
    pub(crate) skip_trimmed: bool,
    /// Go on with what is put later, until Ctrl-C
    #[arg(short, long)]
    pub(crate) follow: bool,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}

/// Put a consumer group to another place in all shards, back or forth.
#[derive(Debug, clap::Args)]
pub(crate) struct ResetArgs {
    /// The stream's directory
    pub(crate) path: PathBuf,
    /// The group's name
    pub(crate) group: String,
    /// Where to: horizon or trim-horizon (the oldest record), latest (the end), or a time as for cat --from
    #[arg(value_name = "PLACE", value_parser = parse_beginning)]
    pub(crate) to: Position,
}

/// Delete a consumer group, with all that it knows of what is handled.
#[derive(Debug, clap::Args)]
pub(crate) struct DeleteGroupArgs {
    /// The stream's directory
    pub(crate) path: PathBuf,
    /// The group's name
    pub(crate) group: String,
}

/// Print the shards as a table, and a picture of which hash keys each owns.
///
/// A shard goes by its number: 3 is shardId-000000000003. Each comes after its parents.
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
