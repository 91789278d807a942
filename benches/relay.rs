//! The speed of a relay to Kinesis, compared with a bare loop of the official SDK and with boto3: the same records to a gateway on loopback.
//!
//! `cargo bench --features relay-kinesis,gateway --bench relay`; `-- --quick` is a smoke run. `STREAMLOG_PYTHON` names a Python with boto3; without it,
//! that contender is left out. The contenders take turns, and each figure is the median over the rounds. The gateway runs in a process of its own, which
//! is this program with `--serve`. The bare loop and boto3 have the records in memory, send 500 at a time, and ignore keys. A relay reads them
//! from its stream, keeps the order of each key, and commits.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use aws_sdk_kinesis::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::PutRecordsRequestEntry;
use streamlog::gateway::Gateway;
use streamlog::relay::KinesisClient;
use streamlog::{PutRecord, Store, Stream, StreamOptions};

const RECORD_BYTES: usize = 200;
const SHARDS: u32 = 4;

/// Sends the records of a file, which all have this length, and prints the time taken. A key is a number of 8 digits at the beginning.
const BOTO3: &str = r#"
import sys, time
import boto3
url, stream, path, size = sys.argv[1:]
size = int(size)
kinesis = boto3.client("kinesis", endpoint_url=url, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b")
data = open(path, "rb").read()
records = [data[at:at + size] for at in range(0, len(data), size)]
kinesis.list_shards(StreamName=stream)
begun = time.perf_counter()
for at in range(0, len(records), 500):
    batch = [{"PartitionKey": record[:8].decode(), "Data": record} for record in records[at:at + 500]]
    assert kinesis.put_records(StreamName=stream, Records=batch)["FailedRecordCount"] == 0
print(time.perf_counter() - begun)
"#;

/// A measurement: its name, and a function for one run.
type Contender<'a> = (&'a str, &'a dyn Fn(&mut Bench) -> Duration);

fn main() {
    let args: Vec<_> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    if let [flag, directory] = &args[..]
        && flag == "--serve"
    {
        return serve(Path::new(directory));
    }
    let is_quick = args.iter().any(|arg| arg == "--quick" || arg == "--test");
    let (count, rounds) = if is_quick { (2_000, 1) } else { (60_000, 5) };
    let work = tempfile::tempdir().expect("a directory to write in");
    let server = Server::start(&work.path().join("served"));
    let near = StreamOptions::new().shards(SHARDS).open(work.path().join("near")).expect("a stream");
    let records: Vec<Vec<u8>> = (0..count).map(record).collect();
    let file = work.path().join("records");
    std::fs::write(&file, records.concat()).expect("a file");
    for chunk in records.chunks(500) {
        let batch: Vec<_> = chunk.iter().map(|record| PutRecord::new(&record[..8], record)).collect();
        near.put_batch(&batch).expect("a put").into_iter().for_each(|put| _ = put.expect("a put"));
    }
    println!("{count} records of {RECORD_BYTES} B, 10,007 keys, to {SHARDS} shards; records/s");

    let mut bench = Bench { server, near, records, runs: 0 };
    let python = std::env::var_os("STREAMLOG_PYTHON");
    let contenders: [Contender<'_>; 7] = [
        ("bare loop of the SDK", &|bench| bench.bare(1)),
        ("bare loops, 4 threads", &|bench| bench.bare(4)),
        ("boto3", &|bench| bench.boto3(python.as_ref().expect("it is set").as_ref(), &file)),
        ("relay, one at a time", &|bench| bench.relay(1, 1, 500, false)),
        ("relay", &|bench| bench.relay(64, 1, 500, false)),
        ("relay, batches of 2,000", &|bench| bench.relay(64, 1, 2_000, false)),
        ("relay, aggregates", &|bench| bench.relay(64, 1, 5_000, true)),
    ];
    let is_there = |name: &str| name != "boto3" || python.is_some();
    let contenders: Vec<_> = contenders.into_iter().filter(|(name, _)| is_there(name)).collect();
    let mut times = vec![vec![]; contenders.len()];
    for _ in 0..rounds {
        for ((_, run), times) in contenders.iter().zip(&mut times) {
            times.push(run(&mut bench));
        }
    }
    for ((name, _), times) in contenders.iter().zip(&mut times) {
        times.sort_unstable();
        let rate = |time: Duration| count as f64 / time.as_secs_f64();
        let (median, fast, slow) = (times[times.len() / 2], times[0], times[times.len() - 1]);
        println!("{name:24} {:9.0}  ({:.0} to {:.0})", rate(median), rate(slow), rate(fast));
    }
}

fn record(number: usize) -> Vec<u8> {
    let hash = (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut record = format!("{:08}", hash % 10_007).into_bytes();
    record.extend((record.len()..RECORD_BYTES).map(|at| b'a' + (hash >> (at % 56)) as u8 % 26));
    record
}

/// Serves a directory until the input ends.
fn serve(directory: &Path) {
    let store = Store::open(directory, StreamOptions::new()).expect("a directory of streams");
    let gateway = Gateway::new(store).without_authentication().delay(Duration::ZERO);
    let running = gateway.start("127.0.0.1:0").expect("a port");
    println!("{}", running.local_address());
    let _ = std::io::stdin().read_to_end(&mut vec![]);
    running.close().expect("an end");
}

struct Server {
    address: String,
    child: Child,
    _input: ChildStdin,
}

impl Server {
    fn start(directory: &Path) -> Self {
        let program = std::env::current_exe().expect("this program");
        let mut command = Command::new(program);
        let command = command.arg("--serve").arg(directory).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("a server");
        let mut address = String::new();
        BufReader::new(child.stdout.take().expect("it is piped"))
            .read_line(&mut address)
            .expect("an address");
        let input = child.stdin.take().expect("it is piped");
        Self { address: address.trim().to_owned(), child, _input: input }
    }

    fn create(&self, name: &str) {
        let body = format!(r#"{{"StreamName": "{name}", "ShardCount": {SHARDS}}}"#);
        let (address, length) = (&self.address, body.len());
        let mut socket = TcpStream::connect(address).expect("the server listens");
        write!(
            socket,
            "POST / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/x-amz-json-1.1\r\n\
             X-Amz-Date: 20200101T000000Z\r\nX-Amz-Target: Kinesis_20131202.CreateStream\r\nAuthorization: AWS4-HMAC-SHA256 \
             Credential=a/20200101/us-east-1/kinesis/aws4_request, SignedHeaders=host, Signature=0\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        )
        .expect("it takes a request");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Bench {
    server: Server,
    near: Stream,
    records: Vec<Vec<u8>>,
    runs: u32,
}

impl Bench {
    /// Creates a stream for another run.
    fn next(&mut self) -> String {
        self.runs += 1;
        let name = format!("run-{}", self.runs);
        self.server.create(&name);
        name
    }

    fn url(&self) -> String {
        format!("http://{}", self.server.address)
    }

    /// Sends with this many bare loops, each with a part of the records.
    fn bare(&mut self, threads: usize) -> Duration {
        let stream = self.next();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads");
        let config = aws_sdk_kinesis::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .credentials_provider(Credentials::new("a", "b", None, None, "bench"))
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .endpoint_url(self.url());
        let client = aws_sdk_kinesis::Client::from_conf(config.build());
        let part = self.records.len().div_ceil(threads);
        let begun = Instant::now();
        let tasks = self.records.chunks(part).map(|part| {
            let (part, client, stream) = (part.to_vec(), client.clone(), stream.clone());
            runtime.spawn(async move {
                for chunk in part.chunks(500) {
                    let entry = |record: &Vec<u8>| {
                        let key = String::from_utf8_lossy(&record[..8]);
                        let entry = PutRecordsRequestEntry::builder()
                            .partition_key(key)
                            .data(Blob::new(record.clone()));
                        entry.build().expect("it is complete")
                    };
                    let entries = chunk.iter().map(entry).collect();
                    let request = client.put_records().stream_name(&stream).set_records(Some(entries));
                    assert_eq!(request.send().await.expect("an answer").failed_record_count, Some(0));
                }
            })
        });
        let tasks: Vec<_> = tasks.collect();
        runtime.block_on(async {
            for task in tasks {
                task.await.expect("it does not panic");
            }
        });
        begun.elapsed()
    }

    fn boto3(&mut self, python: &Path, file: &Path) -> Duration {
        let stream = self.next();
        let mut command = Command::new(python);
        let command =
            command.args(["-c", BOTO3, &self.url(), &stream]).arg(file).arg(RECORD_BYTES.to_string());
        let output = command.output().expect("it runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).expect("a number");
        Duration::from_secs_f64(text.trim().parse().expect("a number"))
    }

    fn relay(&mut self, concurrency: usize, lanes: usize, batch: usize, aggregate: bool) -> Duration {
        let stream = self.next();
        let client = KinesisClient::options().region("us-east-1").credentials("a", "b", None);
        let client = client.endpoint_url(self.url()).connect().expect("a client");
        let relay = self.near.relay(&stream).concurrency(concurrency).lanes(lanes).batch_size(batch);
        let relay = relay.to_kinesis(&client, &stream).pacing(false).aggregate(aggregate);
        let begun = Instant::now();
        let relay = relay.start().expect("a relay");
        while (relay.stats().records as usize) < self.records.len() {
            std::thread::sleep(Duration::from_millis(5));
        }
        let took = begun.elapsed();
        assert_eq!(relay.stats().discarded, 0);
        relay.close().expect("an end");
        self.near.group(&stream).delete().expect("it has ended");
        took
    }
}
