//! A fraud rule on payments: state per card without locks, because all payments of a card are in one shard and in order.
//!
//! A thief tries a stolen card number with small amounts, and then buys something. The rule: three payments of less than 2.00, then one
//! of 500.00 or more, all within a minute. The same payments in another order are not fraud, so the order decides. Four tills pay at the
//! same time. One thread per shard watches the cards of its shard independently of the others.
//!
//! ```text
//! cargo run --example fraud
//! ```

use std::collections::{BTreeSet, HashMap};
use std::error::Error;
use std::thread;

use streamlog::{Error as StreamError, Position, SECOND, ShardIterator, Stream, StreamOptions};

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

const SMALL_CENTS: u64 = 200;
const LARGE_CENTS: u64 = 50_000;
const TRIES: usize = 3;
const WITHIN_SECONDS: u64 = 60;

fn main() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let payments = StreamOptions::new().shards(4).open(directory.path().join("payments"))?;
    let watchers: Vec<ShardIterator> = payments
        .shards()
        .iter()
        .map(|shard| payments.iterator(shard.id, Position::TrimHorizon))
        .collect::<Result<_, _>>()?;
    let alarms = thread::scope(|scope| -> Result<BTreeSet<String>> {
        let watchers: Vec<_> =
            watchers.into_iter().map(|iterator| scope.spawn(move || watch(iterator))).collect();
        let pay = |till| {
            let payments = &payments;
            scope.spawn(move || pay(payments, till))
        };
        let tills: Vec<_> = (0..TILLS).map(pay).collect();
        let paid: Vec<_> = tills.into_iter().map(|till| till.join()).collect();
        // Closing the stream ends the watchers, after they have read everything.
        payments.clone().close()?;
        let mut alarms = BTreeSet::new();
        for watcher in watchers {
            alarms.extend(watcher.join().map_err(|_| "a watcher has died")??);
        }
        for outcome in paid {
            outcome.map_err(|_| "a till has died")??;
        }
        Ok(alarms)
    })?;
    let stolen: BTreeSet<String> =
        (0..TILLS).flat_map(cards_of).filter(|card| story_of(card) == Story::Stolen).collect();
    println!("{} cards, {} of them stolen, {} alarms", TILLS * CARDS_OF_A_TILL, stolen.len(), alarms.len());
    assert_eq!(alarms, stolen, "an alarm for each stolen card, and for no other");
    Ok(())
}

/// Watches the cards of one shard until the stream is closed. Returns the cards that match the rule.
fn watch(mut iterator: ShardIterator) -> Result<BTreeSet<String>> {
    // The times of each card's small payments within the last minute.
    let mut tries: HashMap<String, Vec<u64>> = HashMap::new();
    let mut alarms = BTreeSet::new();
    loop {
        match iterator.wait(SECOND) {
            Err(StreamError::Closed) => return Ok(alarms),
            waited => waited?,
        };
        for payment in &iterator.next_batch(1_000)? {
            let card = std::str::from_utf8(payment.partition_key())?;
            let (second, cents) = std::str::from_utf8(payment.data())?.split_once(' ').ok_or("no payment")?;
            let (second, cents): (u64, u64) = (second.parse()?, cents.parse()?);
            let tries = tries.entry(card.to_owned()).or_default();
            tries.retain(|&at| second - at <= WITHIN_SECONDS);
            if cents < SMALL_CENTS {
                tries.push(second);
            } else if cents >= LARGE_CENTS && tries.len() >= TRIES {
                println!("{card} pays {}.{:02} after {} tries", cents / 100, cents % 100, tries.len());
                alarms.insert(card.to_owned());
            }
        }
    }
}

// ---- The payments ----

const TILLS: u64 = 4;
const CARDS_OF_A_TILL: u64 = 500;

/// What happens to a card.
#[derive(PartialEq)]
enum Story {
    Stolen,
    /// The large amount first, then the small ones.
    OtherOrder,
    /// The payments of a stolen card, but spread over hours.
    Slow,
    Usual,
}

fn story_of(card: &str) -> Story {
    match &card[card.len() - 3..] {
        "113" => Story::Stolen,
        "114" => Story::OtherOrder,
        "115" => Story::Slow,
        _ => Story::Usual,
    }
}

/// Returns the payments of a card in order, each as (second, cents).
fn payments_of(card: &str) -> [(u64, u64); 4] {
    match story_of(card) {
        Story::Stolen => [(1_000, 100), (1_010, 150), (1_020, 100), (1_040, 89_900)],
        Story::OtherOrder => [(1_000, 89_900), (1_010, 100), (1_020, 150), (1_040, 100)],
        Story::Slow => [(1_000, 100), (4_600, 150), (8_200, 100), (8_210, 89_900)],
        Story::Usual => [(900, 1_250), (1_500, 180), (2_700, 62_000), (9_000, 3_499)],
    }
}

fn cards_of(till: u64) -> impl Iterator<Item = String> {
    (0..CARDS_OF_A_TILL).map(move |card| format!("card-{till}-{card:03}"))
}

/// Puts the payments of a till's cards: the first payment of each card, then the second of each, and so on.
fn pay(payments: &Stream, till: u64) -> Result<()> {
    for turn in 0..4 {
        for card in cards_of(till) {
            let (second, cents) = payments_of(&card)[turn];
            payments.put(card, format!("{second} {cents}"))?;
        }
    }
    Ok(())
}
