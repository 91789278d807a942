//! Tokens that hold all data that the server needs and that nobody else can forge: shard iterators, receipt handles, and page tokens.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::fault::{Answered, Fault};
use crate::Timestamp;

/// How long a token is valid.
pub(super) const LIFE_MS: u64 = 300_000;
/// The prefix of each of Kinesis' iterators.
const HEADING: [u8; 8] = [0, 0, 0, 0, 0, 0, 0, 1];
const TAG_LEN: usize = 16;
/// The least room for the contents of a token, so that tokens look alike. Room is added in steps.
const ROOM_MIN: usize = 116;
const ROOM_STEP: usize = 16;

/// Makes tokens, and reads those that it has made.
pub(super) struct Sealer {
    key: LessSafeKey,
    random: SystemRandom,
}

/// The purposes of tokens. A token is valid only for its purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    ShardIterator,
    Streams,
    Shards,
    Consumers,
    Queues,
    Receipt,
    #[cfg(feature = "video")]
    VideoSession,
    #[cfg(feature = "video")]
    VideoStreams,
}

impl Purpose {
    fn name(self) -> &'static [u8] {
        match self {
            Self::ShardIterator => b"shard iterator",
            Self::Streams => b"streams",
            Self::Shards => b"shards",
            Self::Consumers => b"consumers",
            Self::Queues => b"queues",
            Self::Receipt => b"receipt handle",
            #[cfg(feature = "video")]
            Self::VideoSession => b"video session",
            #[cfg(feature = "video")]
            Self::VideoStreams => b"video streams",
        }
    }
}

/// A place in a shard, as an iterator holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    /// When the token was made, in milliseconds.
    #[serde(rename = "t")]
    pub(super) issued: u64,
    /// When the stream was created, in microseconds: distinguishes streams of the same name.
    #[serde(rename = "c")]
    pub(super) created: u64,
    #[serde(rename = "s")]
    pub(super) shard: u32,
    /// The number of the next record in the log.
    #[serde(rename = "n")]
    pub(super) next: u64,
    #[serde(rename = "N")]
    pub(super) stream: String,
}

impl Sealer {
    pub(super) fn new(secret: [u8; 32]) -> Self {
        let key = UnboundKey::new(&AES_256_GCM, &secret).expect("a key has 32 bytes");
        Self { key: LessSafeKey::new(key), random: SystemRandom::new() }
    }

    /// Returns a token that holds a value.
    pub(super) fn seal(&self, purpose: Purpose, value: &impl Serialize) -> String {
        let mut body = serde_json::to_vec(value).expect("what tokens hold can be written");
        let room = body.len().saturating_sub(ROOM_MIN).next_multiple_of(ROOM_STEP) + ROOM_MIN;
        // Trailing spaces do not change JSON.
        body.resize(room, b' ');
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).expect("the system has random bytes");
        let aad = Aad::from(purpose.name());
        let nonce_used = Nonce::assume_unique_for_key(nonce);
        let tag = self.key.seal_in_place_separate_tag(nonce_used, aad, &mut body).expect("it is short");
        STANDARD.encode([&HEADING[..], &nonce, &body, tag.as_ref()].concat())
    }

    /// Returns the contents of a token, or `None` if this gateway did not make it for this purpose.
    pub(super) fn open<T: DeserializeOwned>(&self, purpose: Purpose, token: &str) -> Option<T> {
        // A token that was copied together with its quotes is valid, too.
        let token = token.strip_prefix('"').and_then(|token| token.strip_suffix('"')).unwrap_or(token);
        let mut bytes = STANDARD.decode(token).ok()?;
        let sealed = bytes.strip_prefix(&HEADING).filter(|sealed| sealed.len() >= NONCE_LEN + TAG_LEN)?.len();
        let start = bytes.len() - sealed;
        let (nonce, body) = bytes[start..].split_first_chunk_mut::<NONCE_LEN>()?;
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let body = self.key.open_in_place(nonce, Aad::from(purpose.name()), body).ok()?;
        serde_json::from_slice(body).ok()
    }

    /// Returns the place that a shard iterator holds.
    pub(super) fn open_iterator(&self, token: &str, now: Timestamp) -> Answered<Place> {
        let now = now.as_millis();
        let place: Option<Place> = self.open(Purpose::ShardIterator, token);
        let Some(place) = place.filter(|place| place.issued <= now) else {
            return Err(Fault::invalid("Invalid ShardIterator."));
        };
        if now - place.issued > LIFE_MS {
            let (issued, now) = (java_date(place.issued), java_date(now));
            return Err(Fault::expired_iterator(format!(
                "Iterator expired. The iterator was created at time {issued} while right now it is {now} which is further in \
                 the future than the tolerated delay of {LIFE_MS} milliseconds."
            )));
        }
        Ok(place)
    }

    /// Returns the token of the next page.
    pub(super) fn seal_page(&self, purpose: Purpose, page: impl Serialize, now: Timestamp) -> String {
        self.seal(purpose, &(now.as_millis(), page))
    }

    /// Returns the contents of a page token.
    pub(super) fn open_page<T: DeserializeOwned>(
        &self,
        purpose: Purpose,
        token: &str,
        now: Timestamp,
    ) -> Answered<T> {
        let now = now.as_millis();
        match self.open::<(u64, T)>(purpose, token) {
            Some((issued, page)) if issued <= now && now - issued <= LIFE_MS => Ok(page),
            Some((issued, _)) if issued <= now => Err(Fault::expired_token(format!(
                "The pagination token passed to the operation has expired. It is good for {} seconds.",
                LIFE_MS / 1_000
            ))),
            _ => Err(Fault::invalid("NextToken is invalid.")),
        }
    }
}

/// Writes a time as Java's `Date` does: `Thu Jan 22 01:22:02 UTC 2015`.
fn java_date(millis: u64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let time = Timestamp::from_millis(millis).to_string();
    // 2015-01-22T01:22:02…
    let month = time[5..7].parse::<usize>().map_or("", |month| MONTHS[month - 1]);
    let day = DAYS[(millis / 86_400_000 % 7) as usize];
    format!("{day} {month} {} {} UTC {}", &time[8..10], &time[11..19], &time[..4])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_421_889_722_000);

    fn place(stream: &str) -> Place {
        let issued = NOW.as_millis();
        Place { issued, created: 1, shard: 2, next: 3, stream: stream.to_owned() }
    }

    #[test]
    fn iterators_are_good_for_five_minutes() {
        let sealer = Sealer::new([7; 32]);
        let token = sealer.seal(Purpose::ShardIterator, &place("clicks"));
        let after = |ms| Timestamp::from_millis(NOW.as_millis() + ms);
        assert_eq!(sealer.open_iterator(&token, after(LIFE_MS)), Ok(place("clicks")));
        let expired = sealer.open_iterator(&token, after(LIFE_MS + 1)).unwrap_err();
        assert_eq!(expired.kind, "ExpiredIteratorException");
        let text = expired.message.unwrap();
        assert!(
            text.contains("at time Thu Jan 22 01:22:02 UTC 2015 while right now it is Thu Jan 22 01:27:02"),
            "{text}"
        );
        let early = Timestamp::from_millis(NOW.as_millis() - 1);
        assert_eq!(sealer.open_iterator(&token, early).unwrap_err().kind, "InvalidArgumentException");
        assert_eq!(sealer.open_iterator(&format!("\"{token}\""), NOW), Ok(place("clicks")));
    }

    #[test]
    fn iterators_have_the_form_of_kinesis_iterators() {
        let sealer = Sealer::new([7; 32]);
        for length in [1, 13, 14, 60, 128] {
            let token = sealer.seal(Purpose::ShardIterator, &place(&"s".repeat(length)));
            let bytes = STANDARD.decode(&token).unwrap();
            assert_eq!((&bytes[..8], bytes.len() % 16), (&HEADING[..], 152 % 16), "{length}");
            assert!(bytes.len() >= 152 && token.len() <= 512, "{length}");
        }
    }

    proptest! {
        #[test]
        fn tokens_cannot_be_changed_or_used_for_something_else(at in 0usize..200, bit in 0u8..8) {
            let sealer = Sealer::new([7; 32]);
            let token = sealer.seal(Purpose::ShardIterator, &place("clicks"));
            let mut bytes = STANDARD.decode(&token).unwrap();
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            prop_assert_eq!(sealer.open::<Place>(Purpose::ShardIterator, &STANDARD.encode(bytes)), None);
            prop_assert_eq!(sealer.open::<Place>(Purpose::Shards, &token), None);
            prop_assert_eq!(Sealer::new([8; 32]).open::<Place>(Purpose::ShardIterator, &token), None);
        }

        #[test]
        fn any_text_is_refused(text: String) {
            prop_assert_eq!(Sealer::new([7; 32]).open::<Place>(Purpose::ShardIterator, &text), None);
        }
    }
}
