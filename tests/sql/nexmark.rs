//! Queries of Nexmark, the stream-processing benchmark, over generated auctions and bids. Each runs as a pump, whose output must equal the
//! result of the same query over the finished data.
//!
//! Left out are queries that must retract rows (q4, q6, q9), and q10, which writes files. q3 has a time bound, because a join without one would
//! keep everything forever. q8 uses five minutes, and q16 to q19 five or thirty,
//! where Nexmark uses ten seconds and a day.

use crate::common;

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use streamlog::query::{Catalog, Output, PumpOptions, Schema};
use streamlog::{Clock, HOUR, ManualClock, Retention, SECOND, Stream, StreamOptions};

const PERSON: &str = "id BIGINT, name VARCHAR, city VARCHAR, state VARCHAR, time TIMESTAMP";
const AUCTION: &str =
    "id BIGINT, item VARCHAR, seller BIGINT, category BIGINT, reserve BIGINT, time TIMESTAMP";
const BID: &str = "auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, url VARCHAR, time TIMESTAMP";
/// How much later than the highest event time an event may come.
const LATENESS: Duration = Duration::from_secs(2);
const EVENTS: u64 = 4_000;

/// Reproducible pseudorandom numbers.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// Of fifty events, one is a person, three are auctions, and the others bids, as in Nexmark.
struct Generator {
    chance: Chance,
    clock: Arc<ManualClock>,
    streams: [Stream; 3],
    persons: u64,
    auctions: u64,
}

impl Generator {
    fn put(&mut self, number: u64) {
        self.clock.advance(Duration::from_millis(500));
        let jitter = Duration::from_millis(self.chance.below(LATENESS.as_millis() as u64));
        let time = (self.clock.now() - jitter).as_micros() as f64 / 1e6;
        let chance = &mut self.chance;
        let (stream, event) = match number % 50 {
            0 => {
                self.persons += 1;
                let states = ["OR", "ID", "CA", "NY"];
                let state = states[chance.below(4) as usize];
                let name = format!("person {}", self.persons);
                let city = format!("city {}", chance.below(7));
                (0, json!({"id": self.persons, "name": name, "city": city, "state": state, "time": time}))
            }
            1..=3 => {
                self.auctions += 1;
                let (seller, category) = (1 + chance.below(self.persons), 10 + chance.below(5));
                let item = format!("item {}", chance.below(100));
                let reserve = 100 + chance.below(10_000);
                let auction = json!({"id": self.auctions, "item": item, "seller": seller, "category": category,
                    "reserve": reserve, "time": time});
                (1, auction)
            }
            _ => {
                // Some auctions and bidders are hot.
                let recent = |chance: &mut Chance, count: u64| match chance.below(3) {
                    0 => count,
                    _ => 1 + chance.below(count),
                };
                let (auction, bidder) = (recent(chance, self.auctions.max(1)), recent(chance, self.persons));
                let channels = ["Google", "Apple", "Baidu", "channel-9"];
                let channel = channels[chance.below(4) as usize];
                let url = format!("https://auctions.test/{channel}/{}/item.htm", chance.below(20));
                let price = 100 + chance.below(1_000_000);
                let bid = json!({"auction": auction, "bidder": bidder, "price": price, "channel": channel,
                    "url": url, "time": time});
                (2, bid)
            }
        };
        let key = event["auction"].as_u64().or(event["id"].as_u64()).unwrap_or_default().to_string();
        self.streams[stream].put(key, event.to_string()).unwrap();
    }
}

/// A question as a continuous query without its `INSERT INTO`, and as a query over finished data.
struct Question {
    name: &'static str,
    continuous: &'static str,
    finished: &'static str,
}

const QUESTIONS: &[Question] = &[
    Question {
        name: "q0",
        continuous: "SELECT auction, bidder, price, channel, time FROM bid",
        finished: "SELECT auction, bidder, price, channel, time FROM bid",
    },
    Question {
        name: "q1",
        continuous: "SELECT auction, bidder, 0.908 * price AS euros, time FROM bid",
        finished: "SELECT auction, bidder, 0.908 * price AS euros, time FROM bid",
    },
    Question {
        name: "q2",
        continuous: "SELECT auction, price FROM bid WHERE auction % 7 = 0",
        finished: "SELECT auction, price FROM bid WHERE auction % 7 = 0",
    },
    Question {
        name: "q3",
        continuous: "SELECT p.name, p.city, p.state, a.id FROM auction a JOIN person p ON a.seller = p.id \
             AND a.time BETWEEN p.time AND p.time + INTERVAL '10' MINUTE \
             WHERE a.category = 10 AND p.state IN ('OR', 'ID', 'CA')",
        finished: "SELECT p.name, p.city, p.state, a.id FROM auction a JOIN person p ON a.seller = p.id \
             AND a.time BETWEEN p.time AND p.time + INTERVAL '10' MINUTE \
             WHERE a.category = 10 AND p.state IN ('OR', 'ID', 'CA')",
    },
    Question {
        name: "q5",
        continuous: "SELECT auction, n, window_end FROM ( \
               SELECT auction, n, window_end, max(n) OVER (PARTITION BY window_start, window_end) AS highest FROM ( \
                 SELECT auction, count(*) AS n, window_start, window_end \
                 FROM TABLE(HOP(TABLE bid, DESCRIPTOR(time), INTERVAL '10' SECOND, INTERVAL '60' SECOND)) \
                 GROUP BY auction, window_start, window_end)) WHERE n = highest",
        finished: "WITH windows AS ( \
               SELECT auction, date_bin(INTERVAL '10 seconds', time) + arrow_cast(i.i * 10000000, 'Duration(Microsecond)') AS window_end \
               FROM bid CROSS JOIN (VALUES (1), (2), (3), (4), (5), (6)) AS i(i)), \
             counts AS (SELECT auction, count(*) AS n, window_end FROM windows GROUP BY auction, window_end) \
             SELECT auction, n, window_end FROM counts c WHERE n = \
               (SELECT max(n) FROM counts o WHERE o.window_end = c.window_end)",
    },
    Question {
        name: "q7",
        continuous: "SELECT auction, price, bidder, window_end FROM ( \
               SELECT auction, price, bidder, window_end, max(price) OVER (PARTITION BY window_start, window_end) AS highest \
               FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(time), INTERVAL '10' SECOND))) WHERE price = highest",
        finished: "WITH w AS (SELECT auction, price, bidder, \
                 date_bin(INTERVAL '10 seconds', time) + INTERVAL '10 seconds' AS window_end FROM bid) \
             SELECT auction, price, bidder, window_end FROM w a WHERE price = \
               (SELECT max(price) FROM w b WHERE b.window_end = a.window_end)",
    },
    Question {
        name: "q8",
        continuous: "SELECT p.id, p.name, p.window_start FROM ( \
               SELECT id, name, window_start, window_end FROM TABLE(TUMBLE(TABLE person, DESCRIPTOR(time), INTERVAL '5' MINUTE)) \
               GROUP BY id, name, window_start, window_end) AS p JOIN ( \
               SELECT seller, window_start, window_end FROM TABLE(TUMBLE(TABLE auction, DESCRIPTOR(time), INTERVAL '5' MINUTE)) \
               GROUP BY seller, window_start, window_end) AS a \
             ON p.id = a.seller AND p.window_start = a.window_start AND p.window_end = a.window_end",
        finished: "SELECT DISTINCT p.id, p.name, date_bin(INTERVAL '5 minutes', p.time) AS window_start \
             FROM person p JOIN auction a ON p.id = a.seller \
             AND date_bin(INTERVAL '5 minutes', p.time) = date_bin(INTERVAL '5 minutes', a.time)",
    },
    Question {
        name: "q11",
        continuous: "SELECT bidder, count(*) AS n, window_start, window_end \
             FROM TABLE(SESSION(TABLE bid PARTITION BY bidder, DESCRIPTOR(time), INTERVAL '10' SECOND)) \
             GROUP BY bidder, window_start, window_end",
        finished: "WITH marked AS (SELECT bidder, time, CASE WHEN time - lag(time) OVER (PARTITION BY bidder ORDER BY time) \
                 < INTERVAL '10 seconds' THEN 0 ELSE 1 END AS begins FROM bid), \
             numbered AS (SELECT bidder, time, sum(begins) OVER (PARTITION BY bidder ORDER BY time) AS session FROM marked) \
             SELECT bidder, count(*) AS n, min(time) AS window_start, max(time) + INTERVAL '10 seconds' AS window_end \
             FROM numbered GROUP BY bidder, session",
    },
    Question {
        name: "q12",
        continuous: "SELECT STREAM bidder, COUNT(*) AS n FROM bid GROUP BY bidder, STEP(bid.ROWTIME BY INTERVAL '10' SECOND)",
        finished: "SELECT bidder, count(*) AS n FROM bid GROUP BY bidder, date_bin(INTERVAL '10 seconds', _arrival)",
    },
    Question {
        name: "q13",
        continuous: "SELECT b.auction, b.price, s.label FROM bid b JOIN side s ON b.auction % 10 = s.key",
        finished: "SELECT b.auction, b.price, s.label FROM bid b JOIN side s ON b.auction % 10 = s.key",
    },
    Question {
        name: "q14",
        continuous: "SELECT auction, bidder, 0.908 * price AS euros, CASE WHEN price < 500000 THEN 'low' ELSE 'high' END AS class, \
               char_length(url) AS n FROM bid WHERE 0.908 * price > 100000 AND 0.908 * price < 900000",
        finished: "SELECT auction, bidder, 0.908 * price AS euros, CASE WHEN price < 500000 THEN 'low' ELSE 'high' END AS class, \
               char_length(url) AS n FROM bid WHERE 0.908 * price > 100000 AND 0.908 * price < 900000",
    },
    Question {
        name: "q16",
        continuous: "SELECT channel, count(*) AS bids, count(*) FILTER (WHERE price < 10000) AS rank1, count(DISTINCT bidder) AS bidders, \
               count(DISTINCT auction) FILTER (WHERE price >= 500000) AS auctions \
             FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(time), INTERVAL '5' MINUTE)) GROUP BY channel, window_start, window_end",
        finished: "SELECT channel, count(*) AS bids, count(*) FILTER (WHERE price < 10000) AS rank1, count(DISTINCT bidder) AS bidders, \
               count(DISTINCT auction) FILTER (WHERE price >= 500000) AS auctions \
             FROM bid GROUP BY channel, date_bin(INTERVAL '5 minutes', time)",
    },
    Question {
        name: "q17",
        continuous: "SELECT auction, count(*) AS bids, min(price) AS low, max(price) AS high, avg(price) AS mean, sum(price) AS total \
             FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(time), INTERVAL '30' MINUTE)) GROUP BY auction, window_start, window_end",
        finished: "SELECT auction, count(*) AS bids, min(price) AS low, max(price) AS high, avg(price) AS mean, sum(price) AS total \
             FROM bid GROUP BY auction, date_bin(INTERVAL '30 minutes', time)",
    },
    Question {
        name: "q18",
        continuous: "SELECT bidder, auction, price FROM ( \
               SELECT bidder, auction, price, row_number() OVER (PARTITION BY bidder, auction, window_start, window_end \
                 ORDER BY time DESC, price DESC) AS place \
               FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(time), INTERVAL '30' MINUTE))) WHERE place = 1",
        finished: "SELECT bidder, auction, price FROM ( \
               SELECT bidder, auction, price, row_number() OVER (PARTITION BY bidder, auction, date_bin(INTERVAL '30 minutes', time) \
                 ORDER BY time DESC, price DESC) AS place FROM bid) WHERE place = 1",
    },
    Question {
        name: "q19",
        continuous: "SELECT auction, price, place FROM ( \
               SELECT auction, price, row_number() OVER (PARTITION BY auction, window_start, window_end \
                 ORDER BY price DESC) AS place \
               FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(time), INTERVAL '30' MINUTE))) WHERE place <= 10",
        finished: "SELECT auction, price, place FROM ( \
               SELECT auction, price, row_number() OVER (PARTITION BY auction, date_bin(INTERVAL '30 minutes', time) \
                 ORDER BY price DESC) AS place FROM bid) WHERE place <= 10",
    },
    Question {
        name: "q22",
        continuous: "SELECT auction, split_part(url, '/', 4) AS dir1, split_part(url, '/', 5) AS dir2 FROM bid",
        finished: "SELECT auction, split_part(url, '/', 4) AS dir1, split_part(url, '/', 5) AS dir2 FROM bid",
    },
];

/// Returns rows of JSON in a canonical order, without nulls.
fn sorted(rows: impl IntoIterator<Item = String>) -> Vec<String> {
    let plain = |row: String| {
        let mut row: Value = serde_json::from_str(&row).unwrap();
        row.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        row.to_string()
    };
    let mut rows: Vec<_> = rows.into_iter().map(plain).collect();
    rows.sort_unstable();
    rows
}

#[test]
fn l2_pumps_put_what_the_same_questions_return_over_the_finished_data() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let open = |name: &str, shards| {
        let options =
            StreamOptions::new().shards(shards).retention(Retention::forever()).clock(clock.clone());
        options.open(scratch.path().join(name)).unwrap()
    };
    let streams = [open("person", 1), open("auction", 2), open("bid", 3)];
    let side = scratch.path().join("side.csv");
    let lines: String = (0..10).map(|key| format!("{key},label {key}\n")).collect();
    std::fs::write(&side, format!("key,label\n{lines}")).unwrap();
    let mut catalog = Catalog::new().file("side", &side).unwrap();
    for ((name, columns), stream) in
        [("person", PERSON), ("auction", AUCTION), ("bid", BID)].iter().zip(&streams)
    {
        let schema = Schema::json(columns).unwrap().event_time("time", LATENESS).unwrap();
        catalog = catalog.stream(name, stream, schema).unwrap();
    }
    let outputs: Vec<_> = QUESTIONS.iter().map(|question| open(question.name, 1)).collect();
    for (question, output) in QUESTIONS.iter().zip(&outputs) {
        catalog = catalog.output(question.name, Output::stream(output)).unwrap();
    }
    let mut generator = Generator {
        chance: Chance(17),
        clock: clock.clone(),
        streams: streams.clone(),
        persons: 0,
        auctions: 0,
    };
    (0..EVENTS / 2).for_each(|number| generator.put(number));
    let start = |question: &Question| {
        let statement = format!("INSERT INTO {} {}", question.name, question.continuous);
        match catalog.start_with(&statement, PumpOptions::new().idle_timeout(10 * SECOND)) {
            Ok(pump) => pump,
            Err(error) => panic!("{}: {error}", question.name),
        }
    };
    let pumps: Vec<_> = QUESTIONS.iter().map(start).collect();
    (EVENTS / 2..EVENTS).for_each(|number| generator.put(number));
    let begun = Instant::now();
    for (question, (pump, output)) in QUESTIONS.iter().zip(pumps.iter().zip(&outputs)) {
        let mut expected = vec![];
        catalog.query(question.finished).unwrap().write_json(&mut expected).unwrap();
        let expected = sorted(String::from_utf8(expected).unwrap().lines().map(str::to_owned));
        assert!(expected.len() > 20, "{} has {} rows, and proves little", question.name, expected.len());
        while pump.stats().rows_out < expected.len() as u64 && begun.elapsed() < Duration::from_secs(120) {
            // Everything is read eventually, and windows close by the clock.
            if pump.stats().lag.record_count == 0 {
                clock.advance(HOUR);
            }
            thread::sleep(Duration::from_millis(2));
        }
        let stats = pump.stats();
        pump.close().unwrap();
        let found = sorted(common::pumps::texts(output));
        let wrong = found.iter().zip(&expected).find(|(found, expected)| found != expected);
        assert_eq!(wrong, None, "{}: {stats:?}", question.name);
        assert_eq!(found.len(), expected.len(), "{}: {stats:?}", question.name);
        assert_eq!((stats.late, stats.refused, stats.skipped), (0, 0, 0), "{}", question.name);
    }
}
