//! `mirror` and `mirrors`: copies a stream of Amazon Kinesis or a topic of Kafka into this stream, and shows the progress.

use std::path::PathBuf;

use streamlog::Position;

use crate::kafka::KafkaArgs;
use crate::kinesis::KinesisArgs;
use crate::parse::parse_beginning;

/// Copy an Amazon Kinesis stream or a Kafka topic, or one of a system that speaks their protocols, into this stream, until Ctrl-C.
///
/// Each record is put exactly once, and the records of each key stay in order. If you run it again, it continues from where it stopped, also after
/// a crash. While the link is down, it retries and prints a note.
///
/// For Kinesis, the region and credentials are found as the AWS CLI finds them. Needs a build with --features relay-kinesis or relay-kafka.
#[derive(Debug, clap::Args)]
pub(crate) struct MirrorArgs {
    /// The stream's directory
    pub(crate) path: PathBuf,
    /// The mirror's name, under which its position is kept
    #[arg(long, default_value = "mirror")]
    pub(crate) name: String,
    /// The Kinesis stream: its name or its ARN
    #[arg(
        long,
        value_name = "STREAM",
        required_unless_present = "from_kafka",
        conflicts_with = "from_kafka"
    )]
    pub(crate) from_kinesis: Option<String>,
    #[command(flatten)]
    pub(crate) kinesis: KinesisArgs,
    /// The Kafka topic
    #[arg(long, value_name = "TOPIC", requires = "bootstrap_servers")]
    pub(crate) from_kafka: Option<String>,
    #[command(flatten)]
    pub(crate) kafka: KafkaArgs,
    /// Where a new mirror starts: horizon (the oldest record), latest (the end), or a time as for cat --from
    #[arg(long, value_name = "PLACE", default_value = "horizon", value_parser = parse_beginning)]
    pub(crate) start: Position,
    /// How many shards are read at a time: up to 256
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub(crate) threads: usize,
    /// Write a line of JSON to this file for each record that this stream cannot hold. Without it, the mirror waits at such a record
    #[arg(long, value_name = "FILE")]
    pub(crate) refused: Option<PathBuf>,
    /// Make each put survive power loss, at the cost of a sync. Without this, the mirror syncs every few seconds; it is exact after power loss, too
    #[arg(long)]
    pub(crate) power: bool,
    /// Exit when all existing records are mirrored
    #[arg(long)]
    pub(crate) until_caught_up: bool,
    /// Print one JSON object at the end with what was mirrored
    #[arg(long)]
    pub(crate) json: bool,
}

/// List the mirrors of a stream, or print the progress of one in each shard of its source.
///
/// Needs a build with --features relay-kinesis or relay-kafka.
#[derive(Debug, clap::Args)]
pub(crate) struct MirrorsArgs {
    /// The stream's directory
    pub(crate) path: PathBuf,
    /// The name of a mirror
    pub(crate) name: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[cfg(not(any(feature = "relay-kinesis", feature = "relay-kafka")))]
const HOW: &str =
    "this tool was built without mirrors: build it with --features relay-kinesis or relay-kafka";

#[cfg(not(any(feature = "relay-kinesis", feature = "relay-kafka")))]
pub(crate) fn mirror(_: &MirrorArgs, _: Option<&std::path::Path>) -> crate::failure::Outcome {
    Err(crate::failure::Failure::Told(HOW.to_owned()))
}

#[cfg(not(any(feature = "relay-kinesis", feature = "relay-kafka")))]
pub(crate) fn print(_: &streamlog::StreamReader, _: &MirrorsArgs) -> crate::failure::Outcome {
    Err(crate::failure::Failure::Told(HOW.to_owned()))
}

#[cfg(any(feature = "relay-kinesis", feature = "relay-kafka"))]
pub(crate) use with_mirrors::{mirror, print};

#[cfg(any(feature = "relay-kinesis", feature = "relay-kafka"))]
mod with_mirrors {
    use std::fs::File;
    use std::io::Write;
    use std::path::Path;
    use std::sync::Mutex;
    use std::time::Duration;

    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use indicatif::HumanBytes;
    use serde_json::{Value, json};
    use streamlog::relay::{
        Mirror, MirrorDescription, MirrorName, MirrorOptions, MirrorPartitionStats, MirrorStats, Refused,
    };
    use streamlog::{Durability, Error, Stream, StreamOptions, StreamReader};

    use super::{MirrorArgs, MirrorsArgs};
    use crate::failure::{Failure, Outcome, tell};
    use crate::output::{counted, print_json, print_text, progress};
    use crate::table::Align::{Left, Right};
    use crate::table::{age, span, table};
    use crate::{check_interrupted, keys, with_stream};

    /// The interval between progress updates.
    const LOOK: Duration = Duration::from_millis(100);

    pub(crate) fn mirror(args: &MirrorArgs, key_file: Option<&Path>) -> Outcome {
        let durability = if args.power { Durability::Power } else { Durability::Process };
        let options = keys::with_keys(StreamOptions::new().durability(durability), key_file)?;
        with_stream(options.must_exist().open(&args.path)?, |stream| {
            let mirror = options_of(stream, args)?.start()?;
            let outcome = wait(args, &mirror);
            let stats = mirror.stats();
            mirror.close()?;
            if stats.skipped > 0 {
                let gaps = counted(stats.skipped, "gap");
                tell(&format!("note: {gaps}: the source dropped records before they were read"));
            }
            if args.json {
                print_json(&as_json(&stats))?
            } else {
                print_text(&as_text(&stats))?
            }
            outcome
        })
    }

    fn options_of(stream: &Stream, args: &MirrorArgs) -> Result<MirrorOptions, Failure> {
        let mirror = stream.mirror(&args.name);
        let options = match (&args.from_kinesis, &args.from_kafka) {
            (_, Some(topic)) => of_kafka(mirror, args, topic)?,
            (Some(stream), None) => of_kinesis(mirror, args, stream)?,
            (None, None) => {
                return Err(Failure::Told("name a source: --from-kinesis or --from-kafka".to_owned()));
            }
        };
        let options = options.starting_position(args.start).threads(args.threads);
        let Some(path) = &args.refused else { return Ok(options) };
        let file = File::options().create(true).append(true).open(path);
        let file =
            file.map_err(|error| Failure::Told(format!("cannot write {}: {error}", path.display())))?;
        let file = Mutex::new(file);
        Ok(options.on_refused(move |refused| {
            let line = format!("{}\n", refused_as_json(refused));
            let mut file = file.lock().map_err(|error| error.to_string())?;
            file.write_all(line.as_bytes()).and_then(|()| file.sync_data()).map_err(|error| error.to_string())
        }))
    }

    #[cfg(not(feature = "relay-kinesis"))]
    fn of_kinesis(_: MirrorName, _: &MirrorArgs, _: &str) -> Result<MirrorOptions, Failure> {
        let how = "this tool was built without Kinesis: build it with --features relay-kinesis";
        Err(Failure::Told(how.to_owned()))
    }

    #[cfg(feature = "relay-kinesis")]
    fn of_kinesis(mirror: MirrorName, args: &MirrorArgs, stream: &str) -> Result<MirrorOptions, Failure> {
        Ok(mirror.from_kinesis(&args.kinesis.client()?, stream))
    }

    #[cfg(not(feature = "relay-kafka"))]
    fn of_kafka(_: MirrorName, _: &MirrorArgs, _: &str) -> Result<MirrorOptions, Failure> {
        let how = "this tool was built without Kafka: build it with --features relay-kafka";
        Err(Failure::Told(how.to_owned()))
    }

    #[cfg(feature = "relay-kafka")]
    fn of_kafka(mirror: MirrorName, args: &MirrorArgs, topic: &str) -> Result<MirrorOptions, Failure> {
        Ok(mirror.from_kafka(&args.kafka.client()?, topic))
    }

    fn refused_as_json(refused: &Refused<'_>) -> Value {
        json!({
            "shard": refused.partition,
            "sequence_number": refused.place,
            "arrived_at": refused.arrived_at.map(|time| time.to_string()),
            "key": String::from_utf8_lossy(refused.partition_key),
            "data_base64": STANDARD.encode(refused.data),
            "reason": refused.reason,
        })
    }

    /// Waits until everything is mirrored, or until Ctrl-C.
    fn wait(args: &MirrorArgs, mirror: &Mirror) -> Outcome {
        let bar = progress(None);
        let mut last_error = None;
        let outcome = loop {
            if let Err(interrupted) = check_interrupted() {
                // Without an end of its own, the mirror ends by Ctrl-C.
                break if args.until_caught_up { Err(interrupted) } else { Ok(()) };
            }
            let stats = mirror.stats();
            bar.set_position(stats.bytes);
            if stats.last_error.is_some() && stats.last_error != last_error && !mirror.is_over() {
                tell(&format!("note: retrying after: {}", stats.last_error.as_deref().unwrap_or_default()));
                last_error = stats.last_error;
            }
            if mirror.is_over() || args.until_caught_up && mirror.is_caught_up() {
                break Ok(());
            }
            std::thread::sleep(LOOK);
        };
        bar.finish_and_clear();
        outcome
    }

    fn as_text(stats: &MirrorStats) -> String {
        let shards = counted(stats.partitions.len() as u64, "shard");
        let records = counted(stats.records, "record");
        let refused = match stats.refused {
            0 => String::new(),
            count => format!(", {} refused", counted(count, "record")),
        };
        let behind = match stats.behind_latest() {
            Some(Duration::ZERO) => ", up to date".to_owned(),
            Some(behind) => format!(", {} behind", span(behind)),
            None => String::new(),
        };
        format!("mirrored {records} of {shards} with {}{refused}{behind}\n", HumanBytes(stats.bytes))
    }

    fn as_json(stats: &MirrorStats) -> Value {
        let shard = |shard: &MirrorPartitionStats| {
            json!({
                "shard": shard.partition,
                "sequence_number": shard.place,
                "is_ended": shard.is_ended,
                "behind_latest_ms": shard.behind_latest.map(|behind| behind.as_millis() as u64),
            })
        };
        json!({
            "record_count": stats.records,
            "bytes": stats.bytes,
            "recognised_record_count": stats.recognised,
            "refused_record_count": stats.refused,
            "request_count": stats.requests,
            "throttled_count": stats.throttled,
            "gap_count": stats.skipped,
            "last_error": stats.last_error,
            "shards": stats.partitions.iter().map(shard).collect::<Vec<_>>(),
        })
    }

    /// Lists all mirrors, or prints one shard by shard.
    pub(crate) fn print(stream: &StreamReader, args: &MirrorsArgs) -> Outcome {
        if let Some(name) = &args.name {
            let described = stream.describe_mirror(name)?;
            if args.json {
                return print_json(&described_as_json(&described));
            }
            let rows = described.partitions.iter().map(|shard| {
                let place = shard.place.clone().unwrap_or_else(|| "-".to_owned());
                [shard.partition.clone(), place, if shard.is_ended { "yes" } else { "no" }.to_owned()]
            });
            let columns = [("shard", Left), ("done up to", Right), ("ended", Left)];
            return print_text(&table(columns, rows.collect()));
        }
        let mut all = vec![];
        for name in stream.mirrors()? {
            match stream.describe_mirror(&name) {
                // It has been deleted since it was listed.
                Err(Error::InvalidArgument(_)) => {}
                described => all.push(described?),
            }
        }
        if args.json {
            return print_json(&json!({ "mirrors": all.iter().map(described_as_json).collect::<Vec<_>>() }));
        }
        let rows = all.iter().map(|mirror| {
            let open = mirror.partitions.iter().filter(|shard| !shard.is_ended).count();
            let ago = format!("{} ago", age(stream.now().since(mirror.committed_at)));
            [mirror.name.clone(), format!("{} {}", mirror.kind, mirror.origin), open.to_string(), ago]
        });
        let columns = [("mirror", Left), ("of", Left), ("open shards", Right), ("last checkpoint", Left)];
        print_text(&table(columns, rows.collect()))
    }

    fn described_as_json(mirror: &MirrorDescription) -> Value {
        let shards = mirror.partitions.iter().map(|shard| {
            json!({ "shard": shard.partition, "sequence_number": shard.place, "is_ended": shard.is_ended })
        });
        json!({
            "name": mirror.name,
            "kind": mirror.kind,
            "origin": mirror.origin,
            "committed_at": mirror.committed_at.to_string(),
            "shards": shards.collect::<Vec<_>>(),
        })
    }
}
