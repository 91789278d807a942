//! The basics in a minute: put records, read them in order, wait for the next one, close, and find all records again.
//!
//! ```text
//! cargo run --example quick_start
//! ```

use std::error::Error;
use std::thread;

use streamlog::{Position, SECOND, Stream, StreamOptions};

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

const CLICKS: [(&str, &str); 6] = [
    ("user-17", "/"),
    ("user-4", "/"),
    ("user-17", "/cart"),
    ("user-8", "/help"),
    ("user-4", "/search"),
    ("user-17", "/checkout"),
];

fn main() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("clicks");

    // A stream is a directory. The hash of a record's partition key (here the user) selects the shard.
    let stream = StreamOptions::new().shards(4).open(&path)?;
    for (user, page) in CLICKS {
        let receipt = stream.put(user, page)?;
        println!("put   {user:<8} {page:<10} in {}, sequence number {}", receipt.shard, receipt.sequence);
    }

    // All records of a key are in one shard, in the order in which they were put.
    let receipt = stream.put("user-17", "/thanks")?;
    let mut iterator = stream.iterator(receipt.shard, Position::TrimHorizon)?;
    let batch = iterator.next_batch(1_000)?;
    let of_user = batch.iter().filter(|record| record.partition_key() == b"user-17");
    let pages: Vec<_> = of_user.map(|record| String::from_utf8_lossy(record.data())).collect();
    println!("read  user-17: {}", pages.join(" -> "));
    assert_eq!(pages, ["/", "/cart", "/checkout", "/thanks"]);

    // A reader at the end of the shard sleeps until more records arrive.
    let reader = thread::spawn(move || -> Result<String> {
        while !iterator.wait(SECOND)? {}
        let batch = iterator.next_batch(1)?;
        let record = batch.iter().next().ok_or("the wait said that there is a record")?;
        Ok(String::from_utf8_lossy(record.data()).into_owned())
    });
    stream.put("user-17", "/orders")?;
    let page = reader.join().map_err(|_| "the reader has died")??;
    println!("woken by {page}");
    assert_eq!(page, "/orders");

    // Records survive closing the stream, and also a kill of the process.
    stream.close()?;
    let stream = Stream::open(&path)?;
    println!("opened again in {:.1?}", stream.recovery().duration);
    let mut count = 0;
    for shard in stream.shards() {
        for record in stream.iterator(shard.id, Position::TrimHorizon)?.records() {
            let (key, data) = record.map(|record| (record.partition_key, record.data))?;
            println!("found {:<8} {}", String::from_utf8_lossy(&key), String::from_utf8_lossy(&data));
            count += 1;
        }
    }
    assert_eq!(count, CLICKS.len() + 2);
    stream.close()?;
    Ok(())
}
