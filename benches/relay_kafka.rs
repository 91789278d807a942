//! Relaying to Kafka, compared with a bare librdkafka producer that sends the same records with the same settings, to a cluster in this process.
//!
//! `cargo bench --features relay-kafka --bench relay_kafka`. The figures are medians over the rounds, whose order alternates. The cluster runs on the same
//! machine and keeps everything in memory, so each measurement has its own. Time counts from the answers to the first quarter on: in about every second
//! run, librdkafka waits half a second before it asks for the id of an idempotent producer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};
use rdkafka::{ClientConfig, ClientContext};
use streamlog::relay::KafkaClient;
use streamlog::{Position, PutRecord, Stream, StreamOptions};

const ROUNDS: usize = 7;
const TOPIC: &str = "bench";
const PARTITIONS: i32 = 8;
const KEYS: u64 = 1_000;
/// How many records are in flight at most, of each contender. The shards and lanes of a relay have a batch each.
const UNDER_WAY: usize = 40_000;
/// So that batches of larger records have as many.
const BATCH_BYTES: usize = 16 << 20;
const SHARDS: u32 = 4;

/// A name, the number of lanes of each shard, and a function for one run, which returns records a second.
type Way = (&'static str, usize, fn(&Stream, usize, usize, u64) -> f64);

fn main() {
    println!("| bytes of data | shards and lanes | way | records/s | of the bare producer |");
    println!("|---|---|---|---|---|");
    for (bytes, records) in [(100, 1_000_000), (1_024, 400_000)] {
        let directory = tempfile::tempdir().expect("a directory to work in");
        let stream =
            StreamOptions::new().shards(SHARDS).open(directory.path().join("bench")).expect("a stream");
        fill(&stream, bytes, records);
        let ways: [Way; 3] = [("bare producer", 0, bare), ("relay", 1, relay), ("relay", 4, relay)];
        let mut rates = vec![vec![]; ways.len()];
        for round in 0..ROUNDS {
            for at in 0..ways.len() {
                // The last way of one round is the first of the next.
                let at = if round % 2 == 0 { at } else { ways.len() - 1 - at };
                rates[at].push((ways[at].2)(&stream, ways[at].1, round, records));
            }
        }
        let rates: Vec<f64> = rates.into_iter().map(median).collect();
        for ((way, lanes, _), rate) in ways.iter().zip(&rates) {
            let lanes = if *lanes == 0 { "-".to_owned() } else { format!("{SHARDS} × {lanes}") };
            println!("| {bytes} | {lanes} | {way} | {rate:.0} | {:.2} |", rate / rates[0]);
        }
    }
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

/// Returns how many records a second are answered, after the first quarter of them.
fn rate(records: u64, answered: impl Fn() -> u64) -> f64 {
    let wait_for = |count| {
        loop {
            let answered = answered();
            if answered >= count {
                return (answered, Instant::now());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    let ((first, begin), (last, end)) = (wait_for(records / 4), wait_for(records));
    (last - first) as f64 / (end - begin).as_secs_f64()
}

fn fill(stream: &Stream, bytes: usize, records: u64) {
    let data: Vec<u8> = (0..bytes).map(|at| (at * 31 % 251) as u8).collect();
    let keys: Vec<String> = (0..KEYS).map(|key| format!("user-{key}")).collect();
    let batch: Vec<_> = keys.iter().map(|key| PutRecord::new(key, &data)).collect();
    for _ in 0..records / KEYS {
        for outcome in stream.put_batch(&batch).expect("a batch") {
            outcome.expect("put");
        }
    }
}

fn cluster() -> MockCluster<'static, rdkafka::producer::DefaultProducerContext> {
    let cluster = MockCluster::new(1).expect("a cluster");
    cluster.create_topic(TOPIC, PARTITIONS, 1).expect("a topic");
    cluster
}

fn relay(stream: &Stream, lanes: usize, round: usize, records: u64) -> f64 {
    let cluster = cluster();
    let client = KafkaClient::options().bootstrap_servers(cluster.bootstrap_servers());
    let client = client.connect().expect("a client");
    let relay = stream
        .relay(format!("up-{lanes}-{round}"))
        .batch_size(UNDER_WAY / SHARDS as usize / lanes)
        .batch_bytes(BATCH_BYTES)
        .lanes(lanes);
    let relay = relay.to_kafka(&client, TOPIC);
    let relay = relay.start().expect("a relay");
    let rate = rate(records, || relay.stats().records);
    assert_eq!(relay.stats().retries, 0, "the cluster has taken all at once");
    relay.close().expect("closed");
    rate
}

/// Counts what is delivered.
struct Delivered(Arc<AtomicU64>);

impl ClientContext for Delivered {}

impl ProducerContext for Delivered {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        assert!(result.is_ok(), "the cluster takes all");
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Reads the stream and sends its records, with the header that identifies copies. As many are in flight as with the relay: a full buffer would
/// slow it down.
fn bare(stream: &Stream, _: usize, _: usize, records: u64) -> f64 {
    let cluster = cluster();
    let delivered = Arc::new(AtomicU64::new(0));
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", cluster.bootstrap_servers()).set("enable.idempotence", "true");
    config
        .set("enable.gapless.guarantee", "true")
        .set("message.timeout.ms", "0")
        .set("partitioner", "murmur2");
    let producer: ThreadedProducer<Delivered> =
        config.create_with_context(Delivered(Arc::clone(&delivered))).expect("a producer");
    let rate = std::thread::scope(|scope| {
        let rate = scope.spawn(|| rate(records, || delivered.load(Ordering::Relaxed)));
        send_all(stream, &producer, &delivered);
        rate.join().expect("measured")
    });
    producer.flush(Duration::from_secs(10)).expect("flushed");
    rate
}

fn send_all(stream: &Stream, producer: &ThreadedProducer<Delivered>, delivered: &AtomicU64) {
    let mut sent = 0;
    for shard in stream.shards() {
        let mut iterator = stream.iterator(shard.id, Position::TrimHorizon).expect("an iterator");
        loop {
            let batch = iterator.next_batch(10_000).expect("a batch");
            if batch.is_empty() {
                break;
            }
            for record in &batch {
                while sent - delivered.load(Ordering::Relaxed) >= UNDER_WAY as u64 {
                    std::thread::sleep(Duration::from_micros(100));
                }
                sent += 1;
                let origin = format!("bench {} {}", shard.id, record.sequence());
                let headers = Header { key: "streamlog-origin", value: Some(&origin) };
                let mut message = BaseRecord::to(TOPIC)
                    .key(record.partition_key())
                    .payload(record.data())
                    .timestamp(record.timestamp().as_millis() as i64)
                    .headers(OwnedHeaders::new_with_capacity(1).insert(headers));
                while let Err((_, again)) = producer.send(message) {
                    std::thread::sleep(Duration::from_millis(1));
                    message = again;
                }
            }
        }
    }
}
