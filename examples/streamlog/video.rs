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

/// Take video into a stream, list it, make clips of it, and play it.
///
/// A video stream keeps fragments, each of which is a cluster of Matroska that should begin with a key frame.
///
/// list and clip work while a program has the stream open: they look at a copy, for which the newest part of the log is copied beside the
/// stream, and sealed segments are linked.
///
/// Needs a tool that was built with --features video.
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

/// Take Matroska from a file or standard input, until it ends or Ctrl-C. Creates the stream if it is not there.
///
/// Each cluster becomes a fragment, stored as soon as it is whole. ffmpeg begins one with each key frame (-g and -force_key_frames say how often those come), but into a
/// pipe also after each second or 32 KiB, unless -cluster_time_limit 20000 and -cluster_size_limit 40M say otherwise.
///
/// What is refused, Kinesis Video Streams would refuse, too, with the same number. What came before it is in the stream.
#[derive(Debug, clap::Args)]
pub(crate) struct VideoPutArgs {
    /// The stream's directory
    pub(crate) path: PathBuf,
    /// The file to read; standard input if "-"
    pub(crate) file: PathBuf,
    /// How long fragments are kept, such as 90m or 30days; 0s keeps only what live viewers need [default: as it is, and 24h for a new stream]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) retention: Option<Duration>,
    /// The timecodes count from 1970, and not from the start
    #[arg(long, conflicts_with = "start")]
    pub(crate) absolute: bool,
    /// When the producer started, which is what timecodes count from: a time as for cat --from [default: now]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub(crate) start: Option<Timestamp>,
    /// Add a tag to each fragment. May be given several times
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_tag)]
    pub(crate) tag: Vec<(String, String)>,
    /// Take fragments that lack frames of some track, as the last one of many files does
    #[arg(long)]
    pub(crate) sparse_tracks: bool,
    /// Sync each fragment to disk before it is acknowledged; without it, all are synced by the time the command ends
    #[arg(long)]
    pub(crate) power: bool,
    /// Print the acknowledgements, as the JSON that Kinesis sends, one on each line
    #[arg(long)]
    pub(crate) acks: bool,
}

/// A range of time.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct RangeArgs {
    /// Only fragments that begin at this time or later: a time as for cat --from
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub(crate) from: Option<Timestamp>,
    /// Only fragments that begin at this time or earlier
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub(crate) to: Option<Timestamp>,
    /// --from and --to say when fragments arrived, and not when they begin by the producer's clock
    #[arg(long)]
    pub(crate) by_arrival: bool,
}

/// Print the fragments: number, when they begin by the producer's clock, when they arrived, length, size.
#[derive(Debug, clap::Args)]
pub(crate) struct VideoListArgs {
    /// The stream's directory
    pub(crate) path: PathBuf,
    #[command(flatten)]
    pub(crate) range: RangeArgs,
    /// Print only so many, the last ones
    #[arg(short = 'n', long, value_name = "N")]
    pub(crate) count: Option<usize>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Write a piece of video as an MP4 file, without decoding it.
///
/// It holds the fragments that begin in the range. H.264, H.265, AAC, PCM and G.711 can be in it.
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
    /// The file to write, which is replaced if it is there; standard output if "-"
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
}

/// Print a URL of HLS that plays a video stream of a gateway, for a player or a browser.
///
/// It asks the gateway as the clients of AWS do (GetHLSStreamingSessionURL), without credentials: for one that lets anybody on the machine call, such as the
/// example kinesis_server with --no-auth.
#[derive(Debug, clap::Args)]
pub(crate) struct PlayUrlArgs {
    /// Where the gateway is, such as http://127.0.0.1:4567
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub(crate) gateway: String,
    /// The name of the video stream there
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub(crate) stream: String,
    /// How long the URL works: 5m to 12h
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = humantime::parse_duration)]
    pub(crate) expires: Duration,
    /// Play what came from this time on, and then live: a time as for cat --from [default: live]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub(crate) from: Option<Timestamp>,
    /// End there
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
