//! One fraud rule, wherever the payments are: in a local stream, in Amazon Kinesis, or in Kafka.
//!
//! One line differs: the one that makes the source.
//!
//! The rule, with its windows, retries and dead letters, is a short form of the example `fraud`: three payments of less than 2.00, then one of 500.00
//! or more, with the same card. With Kinesis or Kafka, several machines share the shards, and on Kinesis they may include workers of the KCL.
//!
//! ```text
//! cargo run --example fraud_anywhere
//! cargo run --example fraud_anywhere --features relay-kinesis -- kinesis payments
//! cargo run --example fraud_anywhere --features relay-kafka -- kafka payments localhost:9092
//! ```
//!
//! The other forms read the named stream or topic until the standard input ends. The second one finds its region and credentials as every AWS SDK
//! does, and takes the endpoint from `AWS_ENDPOINT_URL` if set. A payment is a record with the card as its key and the cents as its data.

use std::collections::HashMap;
use std::error::Error;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use streamlog::{Destination, Invocation, Processor, Source, Stream};

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

const SMALL_CENTS: u64 = 200;
const LARGE_CENTS: u64 = 50_000;
const TRIES: u32 = 3;

/// The number of small payments of each card in a window.
#[derive(Default, Serialize, Deserialize)]
struct Tries(HashMap<String, u32>);

/// Starts the rule. It does not depend on where the payments come from.
fn start(source: &Source, alarms: &Stream) -> Result<Processor> {
    let (dead_letters, alarms) = (Destination::stream(alarms), alarms.clone());
    let processor = source
        .processor("fraud")
        .parallelization_factor(4)
        .tumbling_window(Duration::from_secs(900))
        .maximum_retry_attempts(3)
        .bisect_batch_on_function_error(true)
        .on_failure(dead_letters)
        .start_with_state(move |invocation, tries: &mut Tries| watch(invocation, tries, &alarms))?;
    Ok(processor)
}

fn watch(invocation: &Invocation, Tries(tries): &mut Tries, alarms: &Stream) -> Result<()> {
    for payment in invocation.records() {
        let card = std::str::from_utf8(payment.partition_key())?;
        let cents: u64 = std::str::from_utf8(payment.data())?.parse()?;
        let small = tries.entry(card.to_owned()).or_default();
        if cents < SMALL_CENTS {
            *small += 1;
        } else if cents >= LARGE_CENTS && *small >= TRIES {
            println!(
                "{card} pays {}.{:02} after {small} tries, in {}",
                cents / 100,
                cents % 100,
                invocation.shard()
            );
            alarms.put(card, cents.to_string())?;
        }
    }
    Ok(())
}

fn main() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let alarms = Stream::open(directory.path().join("alarms"))?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => {
            let payments = Stream::open(directory.path().join("payments"))?;
            let source = Source::stream(&payments);
            let processor = start(&source, &alarms)?;
            for cents in [100, 150, 120, 89_900] {
                payments.put("card-113", cents.to_string())?;
                payments.put("card-114", (100_000 - cents).to_string())?;
            }
            while processor.stats().records < 8 {
                std::thread::sleep(Duration::from_millis(1));
            }
            processor.close()?;
            assert_eq!(alarms.stats()?.shards[0].next_sequence.get(), 1, "one card was stolen");
        }
        #[cfg(feature = "relay-kinesis")]
        ["kinesis", stream] => {
            let client = streamlog::relay::KinesisClient::options().connect()?;
            let source = Source::kinesis(&client, *stream);
            run_until_the_input_ends(start(&source, &alarms)?)?;
        }
        #[cfg(feature = "relay-kafka")]
        ["kafka", topic, servers] => {
            let client = streamlog::relay::KafkaClient::options().bootstrap_servers(*servers).connect()?;
            let source = Source::kafka(&client, *topic);
            run_until_the_input_ends(start(&source, &alarms)?)?;
        }
        _ => return Err("no arguments; with the features relay-kinesis and relay-kafka: kinesis STREAM, kafka TOPIC SERVERS".into()),
    }
    Ok(())
}

#[cfg(any(feature = "relay-kafka", feature = "relay-kinesis"))]
fn run_until_the_input_ends(processor: Processor) -> Result<()> {
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    println!("{:#?}", processor.stats());
    Ok(processor.close()?)
}
