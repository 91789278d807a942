//! Tries out the service: clients post continuously, a follower reads a shard and loses its connection again and again, and the process gets a
//! SIGTERM in the middle. Afterwards every answered click must be in the stream, and the follower must have read its shard without a gap.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Signal, getpid, kill_process};
use streamlog::{Position, SequenceNumber, ShardId};

use crate::Result;

const CLIENTS: usize = 8;
const ANSWERS_BEFORE_SIGNAL: usize = 1_000;
const EVENTS_BEFORE_SIGNAL: usize = 100;
/// The follower reconnects after this many events.
const EVENTS_A_CONNECTION: usize = 30;
/// The service is stopped after this time in any case, so that a failure does not hang.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn run() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("clicks");
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let stream = crate::open(&path)?;
    let (answer_count, event_count) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let (answered, followed) = thread::scope(|scope| -> Result<(BTreeSet<String>, Vec<Click>)> {
        let (answer_count, event_count) = (&answer_count, &event_count);
        let follower = scope.spawn(move || follow_first_shard(address, event_count));
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| scope.spawn(move || post_clicks(address, client, answer_count)))
            .collect();
        scope.spawn(|| -> Result<()> {
            let started = Instant::now();
            let is_enough = || {
                answer_count.load(Ordering::Relaxed) >= ANSWERS_BEFORE_SIGNAL
                    && event_count.load(Ordering::Relaxed) >= EVENTS_BEFORE_SIGNAL
            };
            while !is_enough() && started.elapsed() < PATIENCE {
                thread::sleep(Duration::from_millis(1));
            }
            println!(
                "SIGTERM after {} answers and {} events",
                answer_count.load(Ordering::Relaxed),
                event_count.load(Ordering::Relaxed)
            );
            Ok(kill_process(getpid(), Signal::TERM)?)
        });
        crate::serve(listener, stream)?;
        let mut answered = BTreeSet::new();
        for client in clients {
            answered.extend(client.join().map_err(|_| "a client has died")??);
        }
        Ok((answered, follower.join().map_err(|_| "the follower has died")??))
    })?;

    let stream = crate::open(&path)?;
    assert!(stream.recovery().was_closed_cleanly(), "the stream was closed before the service ended");
    let mut found = BTreeSet::new();
    for shard in stream.shards() {
        for record in stream.iterator(shard.id, Position::TrimHorizon)?.records() {
            let page = String::from_utf8_lossy(&record?.data).into_owned();
            assert!(found.insert(page), "each click is there once");
        }
    }
    assert!(answered.len() >= ANSWERS_BEFORE_SIGNAL, "all clients were answered to the end");
    println!("{} clicks were answered, {} are in the stream", answered.len(), found.len());
    assert!(answered.is_subset(&found), "what was answered is there");

    let first = followed.first().ok_or("the follower has seen nothing")?.0;
    let mut iterator = stream.iterator(ShardId::new(0), Position::At(first))?;
    let there = iterator.records().take(followed.len()).map(|click| {
        let click = click?;
        let (user, page) =
            (String::from_utf8_lossy(&click.partition_key), String::from_utf8_lossy(&click.data));
        Ok((click.sequence, format!("{user} {page}")))
    });
    assert!(followed.len() >= EVENTS_BEFORE_SIGNAL, "it was followed to the end");
    assert_eq!(there.collect::<Result<Vec<Click>>>()?, followed, "no click is missing, and none comes twice");
    println!("{} clicks of a shard were followed over many connections", followed.len());
    Ok(())
}

/// A click as the follower sees it: its event's id, and the text.
type Click = (SequenceNumber, String);

/// Follows the first shard until the service ends. Drops its connection after some events, and resumes on a new one.
fn follow_first_shard(address: SocketAddr, event_count: &AtomicUsize) -> Result<Vec<Click>> {
    let mut seen: Vec<Click> = vec![];
    // The listener is gone once the service stops.
    while let Ok(mut connection) = TcpStream::connect(address) {
        let last = seen.last().map(|(last, _)| format!("last-event-id: {last}\r\n")).unwrap_or_default();
        let request = format!("GET /shards/0/live HTTP/1.1\r\nhost: localhost\r\n{last}\r\n");
        if connection.write_all(request.as_bytes()).is_err() {
            break;
        }
        let (mut id, before) = (None, seen.len());
        // The lines between the events are chunk lengths, which cannot be mistaken for event lines.
        for line in BufReader::new(connection).lines() {
            let Ok(line) = line else { break };
            if let Some(value) = line.strip_prefix("id: ") {
                id = Some(value.parse()?);
            } else if let Some(text) = line.strip_prefix("data: ") {
                seen.push((id.take().ok_or("an event without an id")?, text.to_owned()));
                event_count.store(seen.len(), Ordering::Relaxed);
                if seen.len() == before + EVENTS_A_CONNECTION {
                    break;
                }
            }
        }
    }
    Ok(seen)
}

/// Posts clicks over one connection until the service ends it. Returns the answered clicks.
fn post_clicks(address: SocketAddr, client: usize, answer_count: &AtomicUsize) -> Result<Vec<String>> {
    let mut connection = BufReader::new(TcpStream::connect(address)?);
    let mut answered = vec![];
    for number in 0.. {
        let page = format!("/page/{client}/{number}");
        let target = format!("/clicks/user-{}", client * 10 + number % 10);
        let Some((status, receipt)) = request(&mut connection, "POST", &target, &page) else { break };
        assert_eq!(status, 201, "{receipt}");
        if number == 0 {
            let (shard, sequence) = receipt.trim().split_once(' ').ok_or("no receipt")?;
            let shard: ShardId = shard.parse()?;
            let target = format!("/shards/{}/from/{sequence}", shard.get());
            let Some((status, clicks)) = request(&mut connection, "GET", &target, "") else { break };
            let first = clicks.lines().next().unwrap_or_default();
            assert!(
                status == 200 && first.ends_with(&page),
                "a click is to be read at once: {status} {clicks}"
            );
        }
        answered.push(page);
        answer_count.fetch_add(1, Ordering::Relaxed);
    }
    Ok(answered)
}

/// Sends a request. Returns `None` if the service closes the connection instead of answering.
fn request(
    connection: &mut BufReader<TcpStream>,
    method: &str,
    target: &str,
    body: &str,
) -> Option<(u16, String)> {
    let length = body.len();
    let request =
        format!("{method} {target} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n{body}");
    connection.get_mut().write_all(request.as_bytes()).ok()?;
    let (mut status, mut length) = (0, 0);
    loop {
        let mut line = String::new();
        connection.read_line(&mut line).ok().filter(|&bytes| bytes > 0)?;
        let line = line.trim_end().to_ascii_lowercase();
        if let Some(rest) = line.strip_prefix("http/1.1 ") {
            status = rest.get(..3)?.parse().ok()?;
        } else if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.parse().ok()?;
        } else if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    connection.read_exact(&mut body).ok()?;
    Some((status, String::from_utf8(body).ok()?))
}
