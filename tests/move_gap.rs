//! Simulates producers that move from a local stream to a distributed one behind a relay: which rule keeps the order of each key,
//! and how long the gap is. `docs/SCALING.md` has the rule, and the picture that this draws.
//!
//! This is pure arithmetic: no stream, no clock, no thread. After an intended change, draw the picture again and look at it:
//! `STREAMLOG_UPDATE=1 cargo test --test move_gap`.

#[path = "../benches/chart/mod.rs"]
#[allow(dead_code, unreachable_pub, missing_docs, reason = "the benchmarks draw the other kinds")]
mod chart;
#[path = "move_gap/model.rs"]
#[allow(unreachable_pub, reason = "one file of a test")]
mod model;

use chart::{Axis, Curve};
use model::{Move, Outcome, Producer, Relay, Rule};
use proptest::prelude::*;

const MS: u64 = 1_000;
const SECOND: u64 = 1_000_000;
/// What each producer puts, in 32 seconds.
const RECORDS: u64 = 1_600;

/// Twenty producers with a key each put 1,000 records a second. The relay can send 2,000, and stalls for 5 seconds from second 10 on.
fn scene(rule: Rule) -> Move {
    let producer = |number: u64| Producer {
        first: number * MS,
        every: 20 * MS,
        records: RECORDS,
        keys: vec![number as u32],
        switch_at: u64::MAX,
    };
    Move {
        producers: (0..20).map(producer).collect(),
        relay: Relay {
            batch: 500,
            per_record: 450,
            travel: 20 * MS,
            commit: 2 * MS,
            outages: vec![(10 * SECOND, 15 * SECOND)],
            crash: None,
        },
        put: 15 * MS,
        rule,
    }
}

/// Lets the first producer switch at a time.
fn first_goes(at: u64, rule: Rule) -> Outcome {
    let mut scene = scene(rule);
    scene.producers[0].switch_at = at;
    scene.run()
}

#[test]
fn l3_a_switch_before_the_relay_has_caught_up_breaks_the_order_and_the_rule_keeps_it() {
    // The switch time, the rule, the number of its records out of order, and the longest time between two of them, in ms.
    let table = [
        // With the outage just over, 5 seconds of records wait, and the relay needs half as long for them.
        (15 * SECOND, Rule::AtOnce, 248..=252, 2_400..=2_800),
        // With the outage just begun, few records wait, but for a long time.
        (10 * SECOND + 100 * MS, Rule::AtOnce, 1..=7, 4_900..=5_300),
        // The relay has caught up: its lag is one or two batches.
        (28 * SECOND, Rule::AtOnce, 1..=4, 10..=70),
        (15 * SECOND, Rule::LagBelow(100 * MS), 1..=5, 10..=100),
        (15 * SECOND, Rule::HeldUntilVisible(100 * MS), 0..=0, 0..=0),
        (15 * SECOND, Rule::HeldUntilCommitted(100 * MS), 0..=0, 0..=0),
        // The lag only bounds how long the first put is held.
        (15 * SECOND, Rule::HeldUntilCommitted(u64::MAX), 0..=0, 0..=0),
    ];
    for (at, rule, out_of_order, window) in table {
        let outcome = first_goes(at, rule);
        let found = (outcome.out_of_order(), outcome.window() / MS);
        assert!(out_of_order.contains(&found.0) && window.contains(&found.1), "{rule:?} at {at}: {found:?}");
        assert!(outcome.keys.values().all(|seen| seen.records == RECORDS), "{rule:?}: a record is missing");
    }
}

#[test]
fn the_lag_bounds_how_long_a_producer_keeps_records() {
    let [early, late] =
        [u64::MAX, 100 * MS].map(|lag| first_goes(15 * SECOND, Rule::HeldUntilCommitted(lag)));
    assert!((2_600 * MS..2_800 * MS).contains(&early.held), "{} µs", early.held);
    // The records put within the lag, the batch in flight, and the next one, which has the last record.
    assert!((1..=250 * MS).contains(&late.held), "{} µs", late.held);
    assert!(early.kept >= 130 && late.kept <= 12, "{} and {}", early.kept, late.kept);
    // 5,000 records of backlog, less 1,000 a second that come, at 500 in 247 ms.
    let waited = late.switched_at[0].expect("it went over") - 15 * SECOND;
    assert!((4_300 * MS..5_300 * MS).contains(&waited), "{waited} µs");
}

/// A relay that dies after readers have a batch, but before it is committed, sends the batch again.
#[test]
fn l3_a_record_that_is_only_visible_may_come_again_behind_newer_ones() {
    let died = |rule| {
        let mut scene = scene(rule);
        scene.relay.outages.clear();
        scene.relay.commit = 500 * MS;
        scene.producers[0].switch_at = 20 * SECOND;
        // A moment at which the batch with the last record is visible but not committed.
        let quiet = scene.run();
        let last = quiet.switched_at[0].expect("it went over") - 20 * MS + quiet.keys[&0].lag;
        scene.relay.crash = Some((last + 250 * MS, last + SECOND));
        scene.run()
    };
    let visible = died(Rule::HeldUntilVisible(u64::MAX));
    assert_eq!(visible.out_of_order(), 0);
    assert!(visible.late_again() > 0, "the relay has to die in between");
    let committed = died(Rule::HeldUntilCommitted(u64::MAX));
    assert_eq!((committed.out_of_order(), committed.late_again()), (0, 0));
}

#[test]
fn l3_a_key_of_several_producers_needs_them_to_go_over_together() {
    let shared = |rule| {
        let mut scene = scene(rule);
        for (producer, at) in scene.producers.iter_mut().take(2).zip([20 * SECOND, 28 * SECOND]) {
            producer.keys = vec![0];
            producer.switch_at = at;
        }
        scene.run()
    };
    assert!(shared(Rule::HeldUntilCommitted(u64::MAX)).keys[&0].out_of_order > 0);
    assert_eq!(shared(Rule::AllHeldUntilCommitted(u64::MAX)).keys[&0].out_of_order, 0);
}

/// Calculates the lag of a record that is put some time after an outage: the rest of the backlog, at the pace of the relay.
fn lag_after(outage: f64, since: f64, rate: f64, pace: f64) -> f64 {
    (rate * outage - (pace - rate) * since).max(0.0) / pace
}

#[test]
fn the_gap_and_the_lag_are_as_their_formulas_say() {
    let (every, put, commit) = (20 * MS as i64, 15 * MS as i64, 2 * MS as i64);
    for at in (1..30).step_by(2).map(|second| second * SECOND + 300 * MS) {
        let lag = |outcome: &Outcome| outcome.keys[&0].lag as i64;
        let at_once = first_goes(at, Rule::AtOnce);
        assert_eq!(at_once.keys[&0].gap, Some(every + put - lag(&at_once)));
        let held = first_goes(at, Rule::HeldUntilCommitted(u64::MAX));
        assert_eq!(held.keys[&0].gap, Some((every - lag(&held)).max(commit) + put));
        assert_eq!(held.held as i64, (lag(&held) + commit - every).max(0));

        // A full batch takes 500 × 0.45 + 22 ms.
        let pace = 500.0 / 0.247;
        let since = (at as f64 - 15e6) / 1e6;
        if since > 0.0 {
            let expected = lag_after(5.0, since, 1_000.0, pace);
            let found = lag(&held) as f64 / 1e6;
            // A record waits for the batch in flight, and for its own.
            assert!((0.0..0.5).contains(&(found - expected)), "{since} s: {found}, not {expected}");
        }
    }
}

fn any_move() -> impl Strategy<Value = Move> {
    // Keys are numbered so that no two producers share one.
    let producer = (0..SECOND, 1..200 * MS, 1..60u64, 1..4u32, 0..3 * SECOND);
    let relay = (1..50usize, 1..5 * MS, 0..100 * MS, 0..50 * MS);
    let outage = (0..3 * SECOND, 0..2 * SECOND);
    let crash = prop::option::of((0..4 * SECOND, 0..SECOND));
    let producers = prop::collection::vec(producer, 1..6);
    let outages = prop::collection::vec(outage, 0..3);
    let lag = prop_oneof![Just(u64::MAX), MS..SECOND];
    (producers, relay, outages, crash, 0..100 * MS, lag).prop_map(
        |(producers, (batch, per_record, travel, commit), outages, crash, put, lag)| Move {
            producers: producers
                .into_iter()
                .zip(0..)
                .map(|((first, every, records, keys, switch_at), number)| Producer {
                    first,
                    every,
                    records,
                    keys: (0..keys).map(|key| number * 10 + key).collect(),
                    switch_at,
                })
                .collect(),
            relay: Relay {
                batch,
                per_record,
                travel,
                commit,
                outages: outages.into_iter().map(|(from, length)| (from, from + length)).collect(),
                crash: crash.map(|(at, pause)| (at, at + pause)),
            },
            put,
            rule: Rule::HeldUntilCommitted(lag),
        },
    )
}

proptest! {
    #[test]
    fn l3_with_the_rule_no_key_is_out_of_order_and_nothing_is_missing(scene in any_move()) {
        let outcome = scene.run();
        prop_assert_eq!(outcome.out_of_order(), 0);
        prop_assert_eq!(outcome.late_again(), 0);
        let seen: u64 = outcome.keys.values().map(|seen| seen.records).sum();
        prop_assert_eq!(seen, scene.producers.iter().map(|producer| producer.records).sum::<u64>());
        for gap in outcome.keys.values().filter_map(|seen| seen.gap) {
            prop_assert!(gap >= scene.put as i64, "{}", gap);
        }
    }

    /// Without the hold, a key is out of order exactly if a record of the old side is slower than the next one of the new side.
    #[test]
    fn without_the_rule_the_gap_says_whether_a_key_is_out_of_order(mut scene in any_move()) {
        scene.rule = Rule::AtOnce;
        let outcome = scene.run();
        for seen in outcome.keys.values() {
            if let Some(gap) = seen.gap {
                prop_assert_eq!(gap < 0, seen.out_of_order > 0);
                prop_assert_eq!(seen.window as i64, (-gap).max(0));
            }
        }
    }
}

/// The name of a line, its class, the rule, and the values to draw.
type Drawn<'a> = (&'a str, &'a str, Rule, &'a dyn Fn(&Outcome) -> f64);

#[test]
fn the_picture_shows_what_was_simulated() {
    const RULE: Rule = Rule::HeldUntilCommitted(100 * MS);
    let gap = |outcome: &Outcome| outcome.keys[&0].gap.expect("it went over") as f64;
    let held = |outcome: &Outcome| outcome.held as f64;
    let lines: [Drawn<'_>; 4] = [
        ("at once", "bare", Rule::AtOnce, &gap),
        ("once the lag is below 0.1 s", "peer", Rule::LagBelow(100 * MS), &gap),
        ("with the rule", "ours", RULE, &gap),
        ("held by the rule", "more", RULE, &held),
    ];
    let points = lines.map(|(_, _, rule, of)| {
        let point = |tenths: u64| {
            let outcome = first_goes(tenths * SECOND / 10, rule);
            (tenths as f64 / 10.0, of(&outcome) / 1e6)
        };
        (10..=300).step_by(10).map(point).collect::<Vec<_>>()
    });
    assert!(points[0].iter().any(|(_, gap)| *gap < -4.8) && points[2].iter().all(|(_, gap)| *gap > 0.0));
    let curves: Vec<_> =
        lines.iter().zip(&points).map(|((name, class, ..), points)| Curve { name, class, points }).collect();
    let axis = Axis {
        name: "when the producer is to go over; the relay stands still from second 10 to 15",
        is_logarithmic: false,
    };
    let title = "From the last record of the old side to the first of the new one";
    let svg = chart::curves(
        title,
        "seconds; below zero the new side is first, and the key is out of order",
        axis,
        &curves,
    );
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/charts/move-gap.svg");
    if std::env::var_os("STREAMLOG_UPDATE").is_some() {
        std::fs::write(path, &svg).expect("the picture");
    }
    let kept = std::fs::read_to_string(path).expect("docs/charts/move-gap.svg");
    assert!(
        svg == kept,
        "docs/charts/move-gap.svg is not what the simulation draws: see the top of this file"
    );
}
