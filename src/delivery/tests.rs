//! A model of one shard: whatever is decided, committed, delivered or forgotten in a crash, and whatever calls of a function fail, each row is in
//! exactly one object.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;

use super::compress::CompressionFormat;
use super::error_output::{self, Failure, Source};
use super::format::Format;
use super::name::Naming;
use super::objects::Ready;
use super::part::{ErrorKind, Part, Row};
use super::plan::{Plan, Rules};
use super::prefix::{KeySource, Prefix, Use, Values};
use super::shard::{Limits, Shard};
use super::state::State;
use crate::{SequenceNumber, ShardId, Timestamp};

pub(super) const SHARD: ShardId = ShardId::new(3);

pub(super) fn plan(number: u8) -> Plan {
    Plan {
        delivery: "archive".into(),
        version: 1,
        format: if number.is_multiple_of(2) { Format::lines() } else { Format::json_lines() },
        compression: CompressionFormat::Uncompressed,
        naming: if number % 3 == 2 { Naming::Firehose } else { Naming::Sequence },
        extension: None,
        prefix: format!("{number}/k=!{{partitionKeyFromLambda:k}}/"),
        error_prefix: "errors/!{firehose:error-output-type}/".into(),
        backup_prefix: None,
        manifests: None,
        time_zone: "UTC".into(),
        keys: vec![(KeySource::Lambda, "k".into())],
        queries: vec![],
        decompresses: false,
        deaggregates: false,
        extracts_messages: false,
        sub_records: None,
    }
}

fn rules(number: u8) -> Arc<Rules> {
    Arc::new(Rules::new(plan(number)).unwrap())
}

/// The keys of the rows that a record becomes. A row with a key of 10 or more is not JSON, and belongs to the part of its last digit.
type Made = Vec<u8>;

#[derive(Debug, Clone)]
enum Op {
    Read(u8),
    /// The next records form one call of the function, which fails.
    Fail(u8),
    DecideLarge(u8),
    DecideAll,
    /// With or without an object that is delivered while the commit is written.
    Commit {
        delivers: bool,
    },
    /// Delivers one of the objects that may be delivered, and notes that or not.
    Deliver {
        which: u8,
        is_noted: bool,
    },
    Crash {
        plan: u8,
        parts_max: usize,
    },
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (1..6u8).prop_map(Op::Read),
        2 => (1..6u8).prop_map(Op::Fail),
        2 => (0..40u8).prop_map(Op::DecideLarge),
        1 => Just(Op::DecideAll),
        4 => any::<bool>().prop_map(|delivers| Op::Commit { delivers }),
        4 => (any::<u8>(), any::<bool>()).prop_map(|(which, is_noted)| Op::Deliver { which, is_noted }),
        1 => (0..4u8, 1..8usize).prop_map(|(plan, parts_max)| Op::Crash { plan, parts_max }),
    ]
}

/// More than the size of a plan in a state, and of two objects that begin at the same record.
const PLAN_BYTES: usize = 650;
const OBJECT_BYTES_MAX: usize = 700;

fn key_of_all() -> Cow<'static, [u8]> {
    Cow::Borrowed(b"key")
}

struct World {
    log: Vec<Made>,
    parts_max: usize,
    rules: Arc<Rules>,
    shard: Shard,
    state_bytes_max: usize,
    ready: Vec<Ready>,
    committed: (SequenceNumber, Vec<u8>),
    /// The contents of the sink: rows by the names of objects.
    objects: BTreeMap<String, Vec<String>>,
}

impl World {
    fn new(log: Vec<Made>, parts_max: usize, state_bytes_max: usize) -> Self {
        let rules = rules(0);
        let mut world = Self {
            log,
            parts_max,
            shard: Shard::new(SHARD, SequenceNumber::ZERO, Arc::clone(&rules), None).unwrap(),
            rules,
            state_bytes_max,
            ready: vec![],
            committed: (SequenceNumber::ZERO, vec![]),
            objects: BTreeMap::new(),
        };
        world.begin(SequenceNumber::ZERO, None);
        world
    }

    fn begin(&mut self, next: SequenceNumber, state: Option<State>) {
        self.shard = Shard::new(SHARD, next, Arc::clone(&self.rules), state).unwrap();
        self.shard.keeps_origins = true;
        self.shard.state_bytes_max = self.state_bytes_max;
    }

    /// Reads the next record, if there is one and it may be read. The call for it fails, unless it is read again: then the call is repeated until
    /// it works, or not made at all if it has failed before.
    fn read(&mut self, fails: bool) -> bool {
        let rules = Arc::clone(&self.rules);
        if !self.shard.adopt(&rules) {
            return false;
        }
        let sequence = self.shard.read_to;
        let Some(made) = self.log.get(sequence.get() as usize) else { return false };
        let has_failed = !self.shard.noted.failed(sequence..sequence.plus(1)).is_empty()
            || fails && !self.shard.is_replaying();
        let failed = Failure::transform("the call has failed".into());
        let data = sequence.to_string();
        let source = Source {
            shard: SHARD,
            sequence,
            arrival: Timestamp::from_millis(1_700_000_000_000 + sequence.get() * 60_000),
            data: data.as_bytes(),
            now: Timestamp::from_millis(1_800_000_000_000),
        };
        let rows = made.iter().zip(0..).map(|(&key, index): (_, usize)| {
            if has_failed {
                let line = error_output::line(&source, &failed);
                return Row {
                    part: Part::Errors(ErrorKind::Processing),
                    data: line.into(),
                    key: key_of_all(),
                };
            }
            let text =
                if key >= 10 { format!("no json {sequence}") } else { format!("[{sequence},{index}]") };
            let part = Part::Records(vec![(key % 10).to_string()]);
            Row { part, data: text.into_bytes().into(), key: key_of_all() }
        });
        let rows: Vec<_> = rows.collect();
        if has_failed {
            self.shard.noted.fail(sequence);
        }
        let mut room = self.parts_max.saturating_sub(self.shard.active_parts());
        let may_begin = || {
            let has_room = room > 0;
            room = room.saturating_sub(1);
            has_room
        };
        self.shard.push(&source, &rows, Duration::ZERO, may_begin);
        assert_eq!(self.shard.take_changed(), [""; 0], "L2: the same objects come again");
        self.ready.extend(self.shard.take_ready());
        true
    }

    fn commit(&mut self, delivers: bool) {
        let (next, state) = self.shard.take_checkpoint();
        let bytes_max = self.state_bytes_max.saturating_add(PLAN_BYTES + OBJECT_BYTES_MAX);
        assert!(state.len() <= bytes_max, "{} bytes: {}", state.len(), String::from_utf8_lossy(&state));
        if delivers {
            self.deliver(0, true);
        }
        assert!(next >= self.committed.0, "a checkpoint never goes back");
        self.committed = (next, state);
        self.ready.extend(self.shard.note_commit(next));
    }

    fn deliver(&mut self, which: u8, is_noted: bool) {
        if self.ready.is_empty() {
            return;
        }
        let at = usize::from(which) % self.ready.len();
        let ready = &self.ready[at];
        if is_noted {
            let Ready { object, decided, building, .. } = self.ready.swap_remove(at);
            let body = building.rows.finish().unwrap();
            let rows: Vec<_> = body.rows().map(|row| String::from_utf8(row.to_vec()).unwrap()).collect();
            assert_eq!(building.origins.len(), rows.len());
            if matches!(decided.part, Part::Records(_)) {
                for (origin, row) in building.origins.iter().zip(&rows) {
                    let place = format!("[{},{}]", origin.sequence, origin.index);
                    let is_no_json = row.starts_with("no json");
                    assert!(*row == place || is_no_json && row.ends_with(&origin.sequence.to_string()));
                }
            }
            let before = self.objects.insert(decided.name.clone(), rows);
            let after = &self.objects[&decided.name];
            assert!(
                before.is_none_or(|before| is_same(&before, after)),
                "L2: {} has other rows",
                decided.name
            );
            self.shard.note_delivered(object, None);
        } else {
            // The sink has the object, but the delivery does not know. Its contents are checked when it comes again.
            self.objects.entry(ready.decided.name.clone()).or_insert_with(|| vec!["?".into()]);
        }
    }

    fn crash(&mut self, plan: u8) {
        self.ready.clear();
        self.rules = rules(plan);
        let (next, state) = self.committed.clone();
        let state = (!state.is_empty()).then(|| State::decode(&state).expect("it was encoded"));
        self.begin(next, state);
    }

    /// Delivers everything that is left.
    fn finish(&mut self) {
        for _ in 0..10_000 {
            while self.read(false) {}
            self.shard.decide_all();
            if self.shard.must_commit() || self.shard.is_changed() {
                self.commit(false);
            }
            if self.ready.is_empty()
                && self.shard.is_clear()
                && self.shard.read_to.get() as usize == self.log.len()
            {
                return;
            }
            while !self.ready.is_empty() {
                self.deliver(0, true);
            }
        }
        panic!("it does not end");
    }

    fn run(&mut self, ops: Vec<Op>) {
        for op in ops {
            match op {
                Op::Read(count) => (0..count).for_each(|_| _ = self.read(false)),
                Op::Fail(count) => (0..count).for_each(|_| _ = self.read(true)),
                Op::DecideLarge(bytes) => {
                    let limits =
                        Limits { buffer_bytes: bytes.into(), buffer_interval: Duration::from_secs(1) };
                    self.shard.decide_due(limits, Duration::ZERO);
                }
                Op::DecideAll => self.shard.decide_all(),
                Op::Commit { delivers } => self.commit(delivers),
                Op::Deliver { which, is_noted } => self.deliver(which, is_noted),
                Op::Crash { plan, parts_max } => {
                    self.parts_max = parts_max;
                    self.crash(plan);
                }
            }
        }
    }

    /// How often each record is in the output.
    fn counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.log.len()];
        for (name, rows) in &self.objects {
            for row in rows {
                let json: serde_json::Value = match serde_json::from_str(row) {
                    Ok(json) => json,
                    // The format of lines accepts data that is not JSON.
                    Err(_) => row
                        .rsplit(' ')
                        .next()
                        .unwrap()
                        .parse::<u64>()
                        .map(|number| vec![number])
                        .unwrap()
                        .into(),
                };
                let number = match &json["sequenceNumber"] {
                    serde_json::Value::String(number) => number.parse().unwrap(),
                    _ => json[0].as_u64().unwrap_or_else(|| panic!("{name}: {row}")) as usize,
                };
                counts[number] += 1;
            }
        }
        counts
    }
}

/// Whether rows are the same, except for what was not checked and for the times of errors.
fn is_same(before: &[String], after: &[String]) -> bool {
    before == ["?"] || before == after
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn l2_each_row_is_in_exactly_one_object(
        log in vec(vec(prop_oneof![8 => 0..5u8, 1 => 10..15u8], 0..4), 1..60),
        parts_max in 1..8usize,
        state_bytes_max in prop_oneof![Just(usize::MAX), 1..3_000usize],
        ops in vec(op(), 1..120),
    ) {
        let expected: Vec<_> = log.iter().map(Vec::len).collect();
        let mut world = World::new(log, parts_max, state_bytes_max);
        world.run(ops);
        world.finish();
        prop_assert_eq!(world.counts(), expected);
        prop_assert_eq!(world.committed.0.get() as usize, world.log.len());
        prop_assert!(world.committed.1.is_empty(), "a state is left");
        prop_assert_eq!(world.shard.memory_bytes, 0);
    }
}

fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(200)
}

/// Formats a time with a pattern.
fn formatted(pattern: &str, zone: &str, micros: u64) -> String {
    let rules = Rules::new(Plan { time_zone: zone.into(), ..plan(0) }).unwrap();
    let prefix = Prefix::parse(&format!("!{{timestamp:{pattern}}}"), Use::Records(&[])).unwrap();
    let oldest = rules.zoned(Timestamp::from_micros(micros));
    prefix.evaluate(&Values { oldest: &oldest, keys: &[], error_output_type: "", seed: None })
}

#[test]
fn times_are_written_as_java_writes_them() {
    // 2024-02-05T08:09:03.123456Z, a Monday.
    let micros = 1_707_120_543_123_456;
    for (pattern, expected) in [
        ("yyyy/MM/dd/HH/", "2024/02/05/08/"),
        ("y-M-d", "2024-2-5"),
        ("yy MMM MMMM MMMMM", "24 Feb February F"),
        ("D DDD", "36 036"),
        ("E EEEE", "Mon Monday"),
        ("h a, K, k", "8 AM, 8, 8"),
        ("H:mm:ss.SSS", "8:09:03.123"),
        ("'year='yyyy''", "year=2024'"),
        ("Q QQQ", "1 Q1"),
        ("X XXX Z VV", "Z Z +0000 UTC"),
        ("A n", "29343123 123456000"),
    ] {
        assert_eq!(formatted(pattern, "UTC", micros), expected, "{pattern}");
    }
    assert_eq!(
        formatted("yyyy/MM/dd/HH XXX x VV", "Asia/Kolkata", micros),
        "2024/02/05/13 +05:30 +0530 Asia/Kolkata"
    );
    assert_eq!(formatted("HH", "America/New_York", micros), "03");
    // Summer time.
    assert_eq!(formatted("HH X", "Europe/Paris", 1_720_000_000_000_000), "11 +02");
}

#[test]
fn prefixes_follow_the_rules_of_firehose() {
    let (rules, oldest) = (rules(0), Timestamp::from_millis(1_707_120_543_000));
    let oldest = rules.zoned(oldest);
    let evaluate = |text: &str, of: Use<'_>| {
        let prefix = Prefix::parse(text, of).unwrap();
        prefix.evaluate(&Values {
            oldest: &oldest,
            keys: &["v".into()],
            error_output_type: "processing-failed",
            seed: None,
        })
    };
    let records = Use::Records(&[]);
    assert_eq!(evaluate("", records), "2024/02/05/08/");
    assert_eq!(evaluate("x", records), "x2024/02/05/08/", "no slash is added");
    assert_eq!(evaluate("", Use::Errors), "processing-failed/2024/02/05/08/");
    assert_eq!(evaluate("bad/", Use::Errors), "bad/processing-failed/2024/02/05/08/");
    let with_type = "bad/!{firehose:error-output-type}/";
    assert_eq!(evaluate(with_type, Use::Errors), "bad/processing-failed/2024/02/05/08/");
    let keys = [(KeySource::Query, "k".to_owned())];
    let keyed = "!{partitionKeyFromQuery:k}/!{timestamp:yyyy}/";
    assert_eq!(evaluate(keyed, Use::Records(&keys)), "v/2024/");
    let random: Vec<_> =
        (0..2).map(|_| evaluate("!{firehose:random-string}!{timestamp:'/'}", records)).collect();
    assert!(random.iter().all(|random| random.len() == 12) && random[0] != random[1], "{random:?}");
    let twice = evaluate("!{firehose:random-string}!{firehose:random-string}", records);
    assert!(twice[..11] != twice[11..22], "{twice}: a new one each time");
    let times = "!{timestamp:yyyy}/!{timestamp:MM}/!{timestamp:'!{'ss}";
    assert_eq!(
        evaluate(times, records),
        "2024/02/!{03",
        "all of the same time, and what is in quotation marks stays"
    );
    let error_of = |text: &str, of: Use<'_>| Prefix::parse(text, of).unwrap_err();
    assert!(error_of(&"a".repeat(1_025), records).contains("it may have 1024"));
    assert!(error_of(&"a".repeat(499), records).contains("it may become 512"));
    assert!(Prefix::parse(&"a".repeat(498), records).is_ok());
    for unknown in ["!{Timestamp:yyyy}", "!{timeStamp:yyyy}", "!{firehose:Random-String}", "!{aws:yyyy}"] {
        assert!(error_of(unknown, records).contains("unknown"), "{unknown}");
    }
    for no_expression in ["!{", "a!{}", "!{yyyy}"] {
        assert!(Prefix::parse(no_expression, records).is_err(), "{no_expression}");
    }
    for key in ["!{partitionKeyFromQuery:k}", "!{partitionKeyFromLambda:k}"] {
        let text = format!("{with_type}{key}");
        assert!(error_of(&text, Use::Errors).contains("may not stand in the error prefix"), "{key}");
    }
    for outside in ["!{timestamp:'/'yyyy}/", "!{timestamp:'..'}/", "a/!{timestamp:..}/", ".!{timestamp:'.'}/"]
    {
        assert!(Prefix::parse(outside, records).is_err(), "{outside}");
    }
    let long = vec!["/".repeat(170)];
    let prefix = Prefix::parse(keyed, Use::Records(&keys)).unwrap();
    assert!(!prefix.has_room_for(&long) && prefix.has_room_for(&["a".repeat(500)]));
    assert!(
        Prefix::parse("!{partitionKeyFromLambda:k}/", Use::Records(&keys)).is_err(),
        "it comes from a query"
    );
}

#[test]
fn json_comes_on_one_line_and_what_is_none_is_refused() {
    let mut rows = Format::json_lines().begin(vec![]);
    rows.push(b" {\"a\": 1}\r\n").unwrap();
    rows.push(b"{\n  \"a b\": \"c \\\" \\\\\",\n  \"d\": [1,\n 2]\n}").unwrap();
    assert!(rows.push(b"{\"a\": 1} {}").is_err());
    assert!(rows.push(b"\xff").is_err());
    let memory_bytes = rows.memory_bytes();
    assert!(rows.push(&[b'x'; 10_000]).is_err());
    assert_eq!(rows.memory_bytes(), memory_bytes, "what is refused takes no memory that nobody counts");
    let body = rows.finish().unwrap();
    assert_eq!(
        std::str::from_utf8(&body.bytes).unwrap(),
        "{\"a\": 1}\n{\"a b\":\"c \\\" \\\\\",\"d\":[1,2]}\n"
    );
    assert_eq!(
        body.rows().collect::<Vec<_>>(),
        [&b"{\"a\": 1}"[..], b"{\"a b\":\"c \\\" \\\\\",\"d\":[1,2]}"]
    );
}

/// Returns the state of a shard with an object that was decided under this plan, as it is committed.
fn committed(plan: Plan) -> serde_json::Value {
    let mut world = World::new(vec![vec![1]], 1, usize::MAX);
    world.rules = Arc::new(Rules::new(plan).unwrap());
    world.shard = Shard::new(SHARD, SequenceNumber::ZERO, Arc::clone(&world.rules), None).unwrap();
    assert!(world.read(false));
    world.shard.decide_all();
    serde_json::from_slice(&world.shard.take_checkpoint().1).unwrap()
}

/// Returns why a delivery cannot continue with a state.
fn unusable(state: &serde_json::Value) -> String {
    let state = State::decode(&serde_json::to_vec(state).unwrap());
    state
        .and_then(|state| Shard::new(SHARD, SequenceNumber::ZERO, rules(0), Some(state)).map(drop))
        .unwrap_err()
}

#[test]
fn a_state_that_cannot_be_used_is_named_for_what_it_lacks_and_never_replaced() {
    let state = committed(plan(1));
    assert!(State::decode(&serde_json::to_vec(&state).unwrap()).is_ok());
    let with = |path: &str, value: serde_json::Value| {
        let mut state = state.clone();
        *state.pointer_mut(path).unwrap() = value;
        unusable(&state)
    };
    let reason = with("/delivery/time_zone", "Mars/Olympus".into());
    assert!(
        reason.starts_with("has settings that are not valid here: the time zone \"Mars/Olympus\" is unknown"),
        "{reason}"
    );
    assert!(reason.ends_with("delete the group to start anew"), "{reason}");
    let reason = with("/version", 2.into());
    assert!(reason.starts_with("has version 2, and this version of the library knows version 1"), "{reason}");
    let reason = with("/delivery/format", "Avro".into());
    assert!(
        reason.contains("unknown variant `Avro`") && reason.contains("use the one that wrote it"),
        "{reason}"
    );
    for (path, value, feature, is_there) in [
        ("/delivery/format", serde_json::json!({ "Parquet": {} }), "parquet", cfg!(feature = "parquet")),
        ("/delivery/compression", "Zstd".into(), "zstd", cfg!(feature = "zstd")),
    ] {
        if !is_there {
            let reason = with(path, value);
            assert!(
                reason.starts_with(&format!("needs the cargo feature `{feature}`, which this")),
                "{reason}"
            );
        }
    }
    for other in [serde_json::json!({ "count": 7 }), 7.into(), serde_json::json!({ "version": 1 })] {
        assert_eq!(unusable(&other), "is no delivery's: give the delivery another name");
    }
}
