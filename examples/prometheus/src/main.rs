//! A stream with puts and reads, and a page of its metrics for Prometheus.
//!
//! ```text
//! cargo run --release -p prometheus                    # serves on a port that it names, until Ctrl-C
//! cargo run --release -p prometheus -- 127.0.0.1:9464  # on this one
//! cargo run --release -p prometheus -- --check         # scrapes itself once, and ends
//! ```
//!
//! Prometheus does not allow dots in names: `GetRecords.Bytes` is `GetRecords_Bytes` here. A metric of the whole stream has no label
//! `shard`; a metric of one shard has it. If both have the same name, `shard=""` selects the metric of the whole stream, so that nothing
//! counts twice.
//!
//! Panels for Grafana:
//!
//! | panel | query |
//! |---|---|
//! | Records in and out a second | `rate(IncomingRecords{shard=""}[1m])`, `rate(GetRecords_Records[1m])` |
//! | Bytes in a second, by shard | `rate(IncomingBytes{shard!=""}[1m])` |
//! | How far readers are behind (ms): alert when it grows | `GetRecords_IteratorAgeMilliseconds` |
//! | Put latency (ms) | `PutRecord_Latency{quantile="0.99"}` |
//! | Puts that failed a second: alert above 0 | `rate(PutRecord_FailedRecords[1m])`, `rate(PutRecords_FailedRecords[1m])` |

use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use streamlog::{Position, Stream, StreamOptions};

type Outcome = Result<(), Box<dyn Error>>;

fn main() -> Outcome {
    let argument = std::env::args().nth(1);
    let is_check = argument.as_deref() == Some("--check");
    let address = argument.filter(|_| !is_check).unwrap_or_else(|| "127.0.0.1:0".into());

    // From here on, metrics recorded through the facade go to this exporter.
    let page = PrometheusBuilder::new().install_recorder()?;
    let directory = tempfile::tempdir()?;
    let options = StreamOptions::new().shards(2).report_stats(streamlog::metrics::reporter());
    let stream = options.open(directory.path().join("clicks"))?;

    let listener = TcpListener::bind(address)?;
    let address = listener.local_addr()?;
    println!("http://{address}/metrics");
    thread::spawn(move || serve(&listener, &page));
    if is_check {
        return check(&stream, address);
    }
    let reader = stream.clone();
    thread::spawn(move || read(&reader).expect("a stream that can be read"));
    for number in 0u64.. {
        stream.put(format!("user-{}", number % 100), format!("/item/{number}"))?;
        thread::sleep(Duration::from_micros(100));
    }
    Ok(())
}

fn read(stream: &Stream) -> streamlog::Result<()> {
    let mut iterator = stream.lineage_iterator(Position::TrimHorizon)?;
    loop {
        iterator.next_batch(1_000)?;
        iterator.wait(Duration::from_secs(1))?;
    }
}

fn serve(listener: &TcpListener, page: &PrometheusHandle) {
    for connection in listener.incoming() {
        // Ignore failed connections: the client will try again.
        let _ = connection.and_then(|mut connection| answer(&mut connection, page));
    }
}

/// Answers any request with all metrics.
fn answer(connection: &mut TcpStream, page: &PrometheusHandle) -> std::io::Result<()> {
    connection.set_read_timeout(Some(Duration::from_secs(1)))?;
    let request = BufReader::new((&*connection).take(16 << 10));
    for line in request.lines() {
        if line?.is_empty() {
            break;
        }
    }
    page.run_upkeep();
    let page = page.render();
    write!(
        connection,
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{page}",
        page.len()
    )
}

/// Puts and reads a few records, scrapes the page, and checks the expected metrics.
fn check(stream: &Stream, address: SocketAddr) -> Outcome {
    for number in 0..1_000 {
        stream.put(format!("user-{number}"), "data")?;
    }
    let mut iterator = stream.lineage_iterator(Position::TrimHorizon)?;
    while !iterator.next_batch(100)?.is_empty() {}
    stream.maintain()?;
    let mut connection = TcpStream::connect(address)?;
    write!(connection, "GET /metrics HTTP/1.1\r\nHost: {address}\r\n\r\n")?;
    let mut page = String::new();
    connection.read_to_string(&mut page)?;
    let has = |name: &str, value: &str| {
        let of_stream = page.lines().filter(|line| line.starts_with(name) && !line.contains("shard="));
        of_stream.into_iter().any(|line| line.ends_with(&format!("clicks\"}} {value}")))
    };
    for (name, value) in [
        ("IncomingRecords{", "1000"),
        ("GetRecords_Records{", "1000"),
        ("GetRecords_IteratorAgeMilliseconds{", "0"),
        ("PutRecord_Latency_count{", "15"),
        ("PutRecord_FailedRecords{", "0"),
    ] {
        if !has(name, value) {
            return Err(format!("expected {name} of {value} in:\n{page}").into());
        }
    }
    println!("all counts are there");
    Ok(())
}
