//! Tokens from arbitrary text.

use crate::Timestamp;
use crate::gateway::token::{LIFE_MS, Place, Purpose, Sealer};

const PURPOSES: [Purpose; 4] =
    [Purpose::ShardIterator, Purpose::Streams, Purpose::Shards, Purpose::Consumers];
const ISSUED: u64 = 1_700_000_000_000;

/// Reads any text as a token, which nobody can make; and a good token with a part of it replaced, which is then good no more.
pub fn token(text: &str, at: usize, age_ms: u64) {
    let sealer = Sealer::new([7; 32]);
    let now = Timestamp::from_millis(ISSUED + age_ms % (2 * LIFE_MS));
    for purpose in PURPOSES {
        assert!(sealer.open::<serde_json::Value>(purpose, text).is_none());
        assert!(sealer.open_page::<String>(purpose, text, now).is_err());
    }
    assert!(sealer.open_iterator(text, now).is_err());

    let place = Place {
        issued: ISSUED,
        created: age_ms,
        shard: at as u32,
        next: age_ms,
        stream: text.chars().filter(char::is_ascii_alphanumeric).take(128).collect(),
    };
    let good = sealer.seal(Purpose::ShardIterator, &place);
    assert!(good.len() <= 512, "a client can send it back");
    let is_fresh = now.as_millis() <= ISSUED + LIFE_MS;
    assert_eq!(sealer.open_iterator(&good, now).ok(), is_fresh.then(|| place.clone()));
    assert_eq!(sealer.open_iterator(&format!("\"{good}\""), now).is_ok(), is_fresh);
    assert!(sealer.open_iterator(&good, Timestamp::from_millis(ISSUED - 1)).is_err());
    for purpose in &PURPOSES[1..] {
        assert!(sealer.open::<serde_json::Value>(*purpose, &good).is_none());
    }

    let at = at % good.len();
    let end = (at + text.len()).min(good.len());
    let changed = format!("{}{text}{}", &good[..at], &good[end..]);
    let is_same = [good.clone(), format!("\"{good}\"")].contains(&changed);
    assert_eq!(sealer.open::<Place>(Purpose::ShardIterator, &changed).is_some(), is_same);
}
