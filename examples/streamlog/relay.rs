//! `relay`: forwarding a stream to Amazon Kinesis or to Kafka.

use std::path::PathBuf;

use streamlog::Position;

use crate::kafka::KafkaArgs;
use crate::kinesis::KinesisArgs;
use crate::parse::{parse_beginning, parse_bytes};

/// Forward the records to an Amazon Kinesis stream or a Kafka topic, or to a system that speaks their protocols, until Ctrl-C.
///
/// Each record is sent at least once, and the records of each key arrive in order. The relay is a consumer group: if you run it again, it continues
/// from where it stopped, also after a crash. A program may have the stream open at the same time, but not this group. While the link is down, it
/// retries and prints a note.
///
/// For Kinesis, the region and credentials are found as the AWS CLI finds them. Needs a build with --features relay-kinesis or relay-kafka.
#[derive(Debug, clap::Args)]
pub(crate) struct RelayArgs {
    /// The stream's directory
    pub(crate) path: PathBuf,
    /// The name of the relay and of its consumer group
    #[arg(long, default_value = "relay")]
    pub(crate) name: String,
    /// The Kinesis stream: its name or its ARN
    #[arg(long, value_name = "STREAM", required_unless_present = "to_kafka", conflicts_with = "to_kafka")]
    pub(crate) to_kinesis: Option<String>,
    #[command(flatten)]
    pub(crate) kinesis: KinesisArgs,
    /// Aggregate records as the Kinesis Producer Library does
    #[arg(long)]
    pub(crate) aggregate: bool,
    /// The Kafka topic
    #[arg(long, value_name = "TOPIC", requires = "bootstrap_servers")]
    pub(crate) to_kafka: Option<String>,
    #[command(flatten)]
    pub(crate) kafka: KafkaArgs,
    /// Relay to Kafka exactly once, in transactions. No other relay or program may use this ID
    #[arg(long, value_name = "ID", requires = "to_kafka")]
    pub(crate) transactional_id: Option<String>,
    /// Assign keys to Kafka partitions as Kafka's Java client does (murmur2), or as this stream does (hash-key)
    #[arg(long, default_value = "murmur2", value_parser = ["murmur2", "hash-key"])]
    pub(crate) partitioning: String,
    /// How many batches of a shard are in flight at a time: up to 10
    #[arg(long, default_value_t = 1)]
    pub(crate) lanes: usize,
    /// The number of records in a batch: up to 10000. After a crash, up to one batch per lane is sent again
    #[arg(long, value_name = "RECORDS", default_value_t = 500)]
    pub(crate) batch_size: usize,
    /// What to do with headers, which Kinesis does not support: refuse (do not send such a record), drop (send it without headers), or envelope (send
    /// all records as JSON with headers, data and position)
    #[arg(long, default_value = "refuse", value_parser = ["refuse", "drop", "envelope"])]
    pub(crate) headers: String,
    /// Write a line of JSON to this file for each record that Kinesis can never accept
    #[arg(long, value_name = "FILE")]
    pub(crate) refused: Option<PathBuf>,
    /// Keep retention from dropping records that are not relayed yet, up to this size, such as 10G
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    pub(crate) hold: Option<u64>,
    /// Where a new relay starts: horizon (the oldest record), latest (the end), or a time as for cat --from
    #[arg(long, value_name = "PLACE", default_value = "horizon", value_parser = parse_beginning)]
    pub(crate) from: Position,
    /// Exit when all existing records are relayed
    #[arg(long)]
    pub(crate) drain: bool,
    /// Print one JSON object at the end with what was relayed
    #[arg(long)]
    pub(crate) json: bool,
}

#[cfg(not(any(feature = "relay-kinesis", feature = "relay-kafka")))]
pub(crate) fn relay(_: &streamlog::StreamReader, _: &RelayArgs) -> crate::failure::Outcome {
    let how = "this tool was built without relays: build it with --features relay-kinesis or relay-kafka";
    Err(crate::failure::Failure::Told(how.to_owned()))
}

#[cfg(any(feature = "relay-kinesis", feature = "relay-kafka"))]
pub(crate) use with_relays::relay;

#[cfg(any(feature = "relay-kinesis", feature = "relay-kafka"))]
mod with_relays {
    use std::fs::File;
    use std::time::Duration;

    use indicatif::HumanBytes;
    use serde_json::json;
    #[cfg(feature = "relay-kafka")]
    use streamlog::relay::Partitioning;
    #[cfg(feature = "relay-kinesis")]
    use streamlog::relay::RelayHeaders;
    use streamlog::relay::{Relay, RelayOptions, RelayStats};
    use streamlog::{Destination, StreamReader};

    use super::RelayArgs;
    use crate::check_interrupted;
    use crate::failure::{Failure, Outcome, tell};
    use crate::output::{counted, print_json, print_text, progress};

    /// The interval between progress updates.
    const LOOK: Duration = Duration::from_millis(100);

    pub(crate) fn relay(stream: &StreamReader, args: &RelayArgs) -> Outcome {
        let relay = start(stream, args)?;
        let outcome = wait(args, &relay);
        let stats = relay.stats();
        relay.close()?;
        if stats.skipped > 0 {
            tell(&format!("note: {} skipped, which retention has dropped", counted(stats.skipped, "record")));
        }
        if args.json {
            print_json(&as_json(&stats))?
        } else {
            print_text(&as_text(&stats))?
        }
        outcome
    }

    fn start(stream: &StreamReader, args: &RelayArgs) -> Result<Relay, Failure> {
        let relay = stream.relay(&args.name).lanes(args.lanes).batch_size(args.batch_size);
        let mut relay = relay.starting_position(args.from);
        if let Some(hold) = args.hold {
            relay = relay.hold(hold);
        }
        if let Some(path) = &args.refused {
            let file = File::options().append(true).create(true).open(path);
            let file = file.map_err(|error| Failure::Told(format!("{}: {error}", path.display())))?;
            relay = relay.on_failure(Destination::lines(file));
        }
        match (&args.to_kinesis, &args.to_kafka) {
            (_, Some(topic)) => to_kafka(relay, args, topic),
            (Some(stream), None) => to_kinesis(relay, args, stream),
            (None, None) => Err(Failure::Told("name a destination: --to-kinesis or --to-kafka".to_owned())),
        }
    }

    #[cfg(not(feature = "relay-kinesis"))]
    fn to_kinesis(_: RelayOptions, _: &RelayArgs, _: &str) -> Result<Relay, Failure> {
        let how = "this tool was built without Kinesis: build it with --features relay-kinesis";
        Err(Failure::Told(how.to_owned()))
    }

    #[cfg(feature = "relay-kinesis")]
    fn to_kinesis(relay: RelayOptions, args: &RelayArgs, stream: &str) -> Result<Relay, Failure> {
        let headers = match &*args.headers {
            "drop" => RelayHeaders::Drop,
            "envelope" => RelayHeaders::Envelope,
            _ => RelayHeaders::Refuse,
        };
        let relay = relay.to_kinesis(&args.kinesis.client()?, stream).headers(headers);
        Ok(relay.aggregate(args.aggregate).start()?)
    }

    #[cfg(not(feature = "relay-kafka"))]
    fn to_kafka(_: RelayOptions, _: &RelayArgs, _: &str) -> Result<Relay, Failure> {
        let how = "this tool was built without Kafka: build it with --features relay-kafka";
        Err(Failure::Told(how.to_owned()))
    }

    #[cfg(feature = "relay-kafka")]
    fn to_kafka(relay: RelayOptions, args: &RelayArgs, topic: &str) -> Result<Relay, Failure> {
        let relay = relay.to_kafka(&args.kafka.client()?, topic).partitioning(match &*args.partitioning {
            "hash-key" => Partitioning::HashKey,
            _ => Partitioning::Murmur2,
        });
        let relay = match &args.transactional_id {
            Some(id) => relay.transactional_id(id),
            None => relay,
        };
        Ok(relay.start()?)
    }

    /// Waits until Ctrl-C, or until everything is relayed if the command should end then.
    fn wait(args: &RelayArgs, relay: &Relay) -> Outcome {
        let bar = progress(None);
        let (mut last_error, mut was_failing) = (None, false);
        let outcome = loop {
            if let Err(interrupted) = check_interrupted() {
                break Err(interrupted);
            }
            let stats = relay.stats();
            bar.set_position(stats.bytes);
            let is_failing = stats.failing_since.is_some();
            if stats.last_error != last_error {
                tell(&format!("note: {}", stats.last_error.as_deref().unwrap_or_default()));
            } else if was_failing && !is_failing {
                tell("note: the link is up again");
            }
            (last_error, was_failing) = (stats.last_error, is_failing);
            if relay.is_over() || args.drain && stats.lag.is_some_and(|lag| lag.record_count == 0) {
                break Ok(());
            }
            std::thread::sleep(LOOK);
        };
        bar.finish_and_clear();
        outcome
    }

    fn as_json(stats: &RelayStats) -> serde_json::Value {
        json!({
            "record_count": stats.records,
            "sent_count": stats.sent,
            "bytes": stats.bytes,
            "request_count": stats.requests,
            "failed_request_count": stats.failed_requests,
            "throttled_count": stats.throttled,
            "retry_count": stats.retries,
            "refused_record_count": stats.discarded,
            "skipped_record_count": stats.skipped,
            "lag_record_count": stats.lag.map(|lag| lag.record_count),
            "last_error": stats.last_error,
        })
    }

    fn as_text(stats: &RelayStats) -> String {
        let (records, requests) = (counted(stats.records, "record"), counted(stats.requests, "request"));
        let refused = match stats.discarded {
            0 => String::new(),
            count => format!(", {} refused", counted(count, "record")),
        };
        let left = match stats.lag {
            Some(lag) if lag.record_count > 0 => format!(", {} to go", counted(lag.record_count, "record")),
            _ => String::new(),
        };
        format!("relayed {records} in {requests} with {}{refused}{left}\n", HumanBytes(stats.bytes))
    }
}
