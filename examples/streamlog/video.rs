//! `video`: ingests video into a stream, lists its fragments, exports clips as MP4, and prints the URL at which a gateway plays it.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{ArgGroup, Subcommand};
use streamlog::Timestamp;

use crate::parse::parse_time;

#[cfg(feature = "video")]
mod clip;
#[cfg(feature = "video")]
mod list;
#[cfg(feature = "video")]
mod open;
#[cfg(feature = "video")]
mod play_url;
#[cfg(feature = "video")]
mod put;

const EXAMPLES: &str = "\
Examples:
  ffmpeg -i rtsp://camera/1 -c copy -f matroska -live 1 -cluster_time_limit 20000 -cluster_size_limit 40M - | streamlog video put /data/door -
  streamlog video list /data/door --from ago:15m
  streamlog video clip /data/door --last 1m -o minute.mp4
  streamlog video clip /data/door --from ago:2h --to ago:1h -o - | ffplay -
  streamlog video play-url http://127.0.0.1:4567 door";

/// Put video into a stream, list it, make clips of it, and play it.
///
/// A video stream holds fragments. Each fragment is a Matroska cluster that should begin with a key frame.
///
/// list and clip work while a program has the stream open. They read a copy beside the stream: the newest part of the log is copied, and sealed
/// segments are linked.
///
/// Needs a build with --features video.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, after_long_help = EXAMPLES)]
pub(crate) struct VideoArgs {
    #[command(subcommand)]
    pub(crate) command: VideoCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum VideoCommand {
    Put(VideoPutArgs),
    List(VideoListArgs),
    Clip(VideoClipArgs),
    PlayUrl(PlayUrlArgs),
}

/// Put Matroska from a file or standard input into a stream, until the input ends or Ctrl-C. Creates the stream if it does not exist.
///
/// Each cluster becomes a fragment, which is stored as soon as it is complete. ffmpeg begins a cluster with each key frame (-g and
/// -force_key_frames set how often those come). When it writes to a pipe, it also begins one after each second or 32 KiB, unless you set
/// -cluster_time_limit 20000 and -cluster_size_limit 40M.
///
/// This command refuses what Kinesis Video Streams would refuse, with the same error number. What came before it is in the stream.
#[derive(Debug, clap::Args)]
pub(crate) struct VideoPutArgs {
    /// The stream's directory
    pub(crate) path: PathBuf,
    /// The file to read; standard input if "-"
    pub(crate) file: PathBuf,
    /// How long fragments are kept, such as 90m or 30days; 0s keeps only what live viewers need [default: unchanged, or 24h for a new stream]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) retention: Option<Duration>,
    /// Timecodes count from 1970 instead of from the start
    #[arg(long, conflicts_with = "start")]
    pub(crate) absolute: bool,
    /// When the producer started; timecodes count from this time. A time as for cat --from [default: now]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub(crate) start: Option<Timestamp>,
    /// Add a tag to each fragment. May be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_tag)]
    pub(crate) tag: Vec<(String, String)>,
    /// Accept fragments that have no frames of some track, as is often the case for the last one of a file
    #[arg(long)]
    pub(crate) sparse_tracks: bool,
    /// Sync each fragment to disk before it is acknowledged; without it, all are synced by the time the command ends
    #[arg(long)]
    pub(crate) power: bool,
    /// Print the acknowledgements as the JSON that Kinesis sends, one per line
    #[arg(long)]
    pub(crate) acks: bool,
}

/// A time range.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct RangeArgs {
    /// Only fragments that begin at this time or later: a time as for cat --from
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub(crate) from: Option<Timestamp>,
    /// Only fragments that begin at this time or earlier
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub(crate) to: Option<Timestamp>,
    /// Apply --from and --to to the time at which fragments arrived, instead of when they begin by the producer's clock
    #[arg(long)]
    pub(crate) by_arrival: bool,
}

/// Print the fragments: number, start time by the producer's clock, arrival time, length, size.
#[derive(Debug, clap::Args)]
pub(crate) struct VideoListArgs {
    /// The stream's directory
    pub(crate) path: PathBuf,
    #[command(flatten)]
    pub(crate) range: RangeArgs,
    /// Print only the last N fragments
    #[arg(short = 'n', long, value_name = "N")]
    pub(crate) count: Option<usize>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Write a part of the video as an MP4 file, without decoding it.
///
/// The file holds the fragments that begin in the range. It can hold H.264, H.265, AAC, PCM and G.711.
#[derive(Debug, clap::Args)]
#[command(group(ArgGroup::new("piece").required(true).multiple(true).args(["last", "from", "to", "all"])))]
pub(crate) struct VideoClipArgs {
    /// The stream's directory
    pub(crate) path: PathBuf,
    /// The last minute (1m), hour (1h) and so on before the end of the newest fragment
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, conflicts_with_all = ["from", "to", "all"])]
    pub(crate) last: Option<Duration>,
    /// Everything
    #[arg(long, conflicts_with_all = ["from", "to"])]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) range: RangeArgs,
    /// The file to write, which is replaced if it exists; standard output if "-"
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
}

/// Print an HLS URL at which a player or browser can play a video stream of a gateway.
///
/// It asks the gateway as AWS clients do (GetHLSStreamingSessionURL), but without credentials. The gateway must allow calls from anybody on the
/// machine, as the example kinesis_server does with --no-auth.
#[derive(Debug, clap::Args)]
pub(crate) struct PlayUrlArgs {
    /// The gateway's address, such as http://127.0.0.1:4567
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub(crate) gateway: String,
    /// The name of the video stream on the gateway
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub(crate) stream: String,
    /// How long the URL is valid: 5m to 12h
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = humantime::parse_duration)]
    pub(crate) expires: Duration,
    /// Play from this time on, and then live: a time as for cat --from [default: live]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub(crate) from: Option<Timestamp>,
    /// Stop at this time
    #[arg(long, value_name = "TIME", value_parser = parse_time, requires = "from")]
    pub(crate) to: Option<Timestamp>,
}

fn parse_tag(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("a tag is NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

#[cfg(not(feature = "video"))]
pub(crate) fn video(_: &VideoArgs, _: Option<&std::path::Path>) -> crate::failure::Outcome {
    let how = "this tool was built without video: build it with --features video";
    Err(crate::failure::Failure::Told(how.to_owned()))
}

#[cfg(feature = "video")]
pub(crate) fn video(args: &VideoArgs, key_file: Option<&std::path::Path>) -> crate::failure::Outcome {
    match &args.command {
        VideoCommand::Put(args) => put::put(args, key_file),
        VideoCommand::List(args) => open::to_look(&args.path, key_file, |stream| list::list(stream, args)),
        VideoCommand::Clip(args) => open::to_look(&args.path, key_file, |stream| clip::clip(stream, args)),
        VideoCommand::PlayUrl(args) => play_url::play_url(args),
    }
}
