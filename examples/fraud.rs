//! A fraud rule on payments: a processor whose windows hold the state of each card, and an alarm for each stolen one.
//!
//! A thief tries a stolen card number with small amounts, and then buys something. The rule: three payments of less than 2.00, then one
//! of 500.00 or more, all within a minute. The same payments in another order are not fraud, so the order decides. Four tills pay at the
//! same time. The processor calls its function with several batches at a time, of different cards, and each card's payments come in order.
//! What the function knows of its cards is the state of a window: it is committed together with the position in the stream, and survives a crash.
//!
//! ```text
//! cargo run --example fraud
//! ```

use std::collections::{BTreeSet, HashMap};
use std::error::Error;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use streamlog::{Invocation, ManualClock, Position, Stream, StreamOptions, Timestamp};

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

const SMALL_CENTS: u64 = 200;
const LARGE_CENTS: u64 = 50_000;
const TRIES: usize = 3;
const WITHIN_SECONDS: u64 = 60;

/// The times of each card's small payments within the last minute.
#[derive(Default, Serialize, Deserialize)]
struct Tries(HashMap<String, Vec<u64>>);

fn main() -> Result<()> {
    let directory = tempfile::tempdir()?;
    // All of this happens in one window, however slow the machine is. A program for real payments uses the system's clock.
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_700_000_000_000)));
    let payments = StreamOptions::new().shards(2).clock(clock).open(directory.path().join("payments"))?;
    let alarms = Stream::open(directory.path().join("alarms"))?;
    let to_alarms = alarms.clone();
    let processor = payments
        .processor("fraud")
        .parallelization_factor(4)
        .tumbling_window(Duration::from_secs(900))
        .start_with_state(move |invocation, tries: &mut Tries| watch(invocation, tries, &to_alarms))?;
    thread::scope(|scope| -> Result<()> {
        let payments = &payments;
        let tills: Vec<_> = (0..TILLS).map(|till| scope.spawn(move || pay(payments, till))).collect();
        tills.into_iter().try_for_each(|till| till.join().map_err(|_| "a till has died")?)
    })?;
    while processor.stats().records < 4 * TILLS * CARDS_OF_A_TILL {
        thread::sleep(Duration::from_millis(1));
    }
    processor.close()?;
    let alarms = read(&alarms)?;
    let stolen: BTreeSet<String> =
        (0..TILLS).flat_map(cards_of).filter(|card| story_of(card) == Story::Stolen).collect();
    println!("{} cards, {} of them stolen, {} alarms", TILLS * CARDS_OF_A_TILL, stolen.len(), alarms.len());
    assert_eq!(alarms, stolen, "an alarm for each stolen card, and for no other");
    Ok(())
}

/// Checks a batch of payments, and puts an alarm for each card that matches the rule. An alarm may be put again after a crash.
fn watch(invocation: &Invocation, Tries(tries): &mut Tries, alarms: &Stream) -> Result<()> {
    for payment in invocation.records() {
        let card = std::str::from_utf8(payment.partition_key())?;
        let (second, cents) = std::str::from_utf8(payment.data())?.split_once(' ').ok_or("no payment")?;
        let (second, cents): (u64, u64) = (second.parse()?, cents.parse()?);
        let tries = tries.entry(card.to_owned()).or_default();
        tries.retain(|&at| second - at <= WITHIN_SECONDS);
        if cents < SMALL_CENTS {
            tries.push(second);
        } else if cents >= LARGE_CENTS && tries.len() >= TRIES {
            println!("{card} pays {}.{:02} after {} tries", cents / 100, cents % 100, tries.len());
            alarms.put(card, format!("{cents} cents after {} tries", tries.len()))?;
        }
    }
    // A card without a recent small payment takes no room in the state.
    tries.retain(|_, tries| !tries.is_empty());
    Ok(())
}

/// Returns the cards for which there is an alarm.
fn read(alarms: &Stream) -> Result<BTreeSet<String>> {
    let batch = alarms.iterator(alarms.shards()[0].id, Position::TrimHorizon)?.next_batch(10_000)?;
    batch.iter().map(|alarm| Ok(String::from_utf8(alarm.partition_key().to_vec())?)).collect()
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
