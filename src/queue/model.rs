//! The state of a queue against a naive one, without a disk: any changes, some of which are undone.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;

use super::entry::{Entries, Entry, Moment};
use super::history::{History, entry_of, restated};
use super::state::{Cursor, Known, Outstanding, Place, Rules, State, Visibility};
use crate::{SequenceNumber, ShardId, Timestamp};

const RULES: Rules = Rules { receives_max: Some(3), keeps_dead_letters: true };

#[derive(Debug, Clone, Copy)]
enum Step {
    Admit { shard: u32, key: u64, delay: u64 },
    HandOut { is_dead: bool, timeout: u64 },
    Acknowledge { pick: usize },
    Release { pick: usize, delay: u64 },
    Extend { pick: usize, timeout: u64 },
    Restore { pick: usize },
    Remember { id: u128, timeout: u64 },
    Settle { by: u64 },
    Forget { shard: u32, from: u64, to: u64 },
    Purge,
    Commit,
    RollBack,
}

fn step() -> impl Strategy<Value = Step> {
    let (pick, time) = (any::<usize>(), 0..20u64);
    prop_oneof![
        6 => (0..3u32, 0..4u64, 0..6u64).prop_map(|(shard, key, delay)| Step::Admit { shard, key, delay: delay.saturating_sub(4) }),
        8 => (prop::bool::weighted(0.2), time.clone()).prop_map(|(is_dead, timeout)| Step::HandOut { is_dead, timeout }),
        4 => pick.prop_map(|pick| Step::Acknowledge { pick }),
        3 => (pick, time.clone()).prop_map(|(pick, delay)| Step::Release { pick, delay: delay.saturating_sub(10) }),
        1 => (pick, time.clone()).prop_map(|(pick, timeout)| Step::Extend { pick, timeout }),
        2 => pick.prop_map(|pick| Step::Restore { pick }),
        1 => (0..4u128, time.clone()).prop_map(|(id, timeout)| Step::Remember { id, timeout }),
        4 => time.prop_map(|by| Step::Settle { by }),
        1 => (0..3u32, 0..20u64, 0..20u64).prop_map(|(shard, from, to)| Step::Forget { shard, from, to }),
        1 => Just(Step::Purge),
        6 => Just(Step::Commit),
        4 => Just(Step::RollBack),
    ]
}

fn time(micros: u64) -> Timestamp {
    Timestamp::from_micros(micros)
}

/// What a state is made of.
type Content = (BTreeMap<ShardId, Cursor>, BTreeMap<Place, Outstanding>, BTreeMap<u128, Known>);

fn content(state: &State) -> Content {
    (state.cursors().clone(), state.outstanding().clone(), state.ids().clone())
}

/// Whether a record can be handed out, by the definition.
fn is_visible(outstanding: &BTreeMap<Place, Outstanding>, place: Place) -> bool {
    let record = &outstanding[&place];
    let is_in_the_way = |(&other, it): (&Place, &Outstanding)| {
        let is_in_flight = matches!(it.visibility, Visibility::InFlight { .. });
        !it.is_dead && it.key == record.key && (other < place || is_in_flight)
    };
    record.visibility == Visibility::Visible
        && (record.is_dead || record.key.is_none() || !outstanding.iter().any(is_in_the_way))
}

/// Compares everything that a state keeps ready with what it is made of.
fn check(state: &State) {
    let outstanding = state.outstanding();
    for is_dead in [false, true] {
        let of_kind = outstanding.iter().filter(|(_, record)| record.is_dead == is_dead);
        let first = of_kind.map(|(&place, _)| place).find(|&place| is_visible(outstanding, place));
        assert_eq!(state.first_visible(is_dead), first);
    }
    let counts = state.counts();
    let count = |is: &dyn Fn(&Outstanding) -> bool| outstanding.values().filter(|it| is(it)).count();
    let in_flight = count(&|it| !it.is_dead && matches!(it.visibility, Visibility::InFlight { .. }));
    let delayed = count(&|it| !it.is_dead && matches!(it.visibility, Visibility::Delayed { .. }));
    assert_eq!(
        (counts.in_flight, counts.delayed, counts.dead),
        (in_flight, delayed, count(&|it| it.is_dead))
    );
    assert_eq!(state.next_due(), outstanding.values().filter_map(Outstanding::until).min());
    for (&shard, cursor) in state.cursors() {
        let below = outstanding.keys().find(|place| place.shard == shard).map(|place| place.sequence);
        assert_eq!(state.first_not_done(shard), Some(below.unwrap_or(cursor.next)));
    }
}

fn run(state: &mut State, step: Step, now: &mut u64, next: &mut [u64; 3], is_ordered: bool) {
    let pick = |state: &State, pick: usize| {
        let count = state.outstanding().len();
        (count > 0)
            .then(|| state.outstanding().iter().nth(pick % count).map(|(&place, it)| (place, *it)))
            .flatten()
    };
    match step {
        Step::Admit { shard, key, delay } => {
            let sequence = SequenceNumber::new(next[shard as usize]);
            next[shard as usize] += 1;
            let place = Place { shard: shard.into(), sequence };
            let until = (delay > 0).then(|| time(*now + delay));
            state.set(place, Some(Outstanding::new(is_ordered.then_some(key), until)));
            let cursor = Cursor { next: sequence.plus(1), last_arrival: None, is_finished: false };
            state.set_cursor(place.shard, Some(cursor));
        }
        Step::HandOut { is_dead, timeout } => {
            let Some(place) = state.first_visible(is_dead) else { return };
            let record = state.outstanding()[&place];
            assert!(!state.is_spent(&record), "it would have been buried");
            state.set(place, Some(record.handed_out(time(*now + timeout), time(7))));
        }
        Step::Acknowledge { pick: which } => {
            let Some((place, record)) = pick(state, which) else { return };
            assert!(!state.acknowledge(place, record.handle + 1));
            assert!(state.acknowledge(place, record.handle));
            assert!(!state.acknowledge(place, record.handle));
        }
        Step::Release { pick: which, delay } => {
            let Some((place, record)) = pick(state, which) else { return };
            let was_in_flight = matches!(record.visibility, Visibility::InFlight { .. });
            let delay = Duration::from_micros(delay);
            assert_eq!(state.release(place, record.handle, time(*now), delay), was_in_flight);
            assert!(!was_in_flight || state.held(place, record.handle).is_none(), "the handle is stale");
        }
        Step::Extend { pick: which, timeout } => {
            let Some((place, record)) = pick(state, which) else { return };
            let was_in_flight = matches!(record.visibility, Visibility::InFlight { .. });
            assert_eq!(state.extend(place, record.handle, time(*now + timeout)), was_in_flight);
        }
        Step::Restore { pick: which } => {
            let Some((place, record)) = pick(state, which) else { return };
            assert_eq!(state.restore(place, record.handle), record.is_dead);
        }
        Step::Remember { id, timeout } => {
            state.set_id(id, Some(Known { until: time(*now + timeout), receipt: None }));
        }
        Step::Settle { by } => {
            *now += by;
            assert!(state.settle(time(*now)));
            let is_over = |until: Timestamp| until <= time(*now);
            assert!(!state.outstanding().values().filter_map(Outstanding::until).any(is_over));
            assert!(!state.ids().values().any(|known| is_over(known.until)));
            let is_spent = |it: &&Outstanding| !it.is_dead && it.receive_count >= 3 && it.until().is_none();
            assert_eq!(
                state.outstanding().values().find(is_spent),
                None,
                "what was handed out too often is buried"
            );
        }
        Step::Forget { shard, from, to } => {
            state.forget(shard.into(), from.into()..to.into());
        }
        Step::Purge => {
            state.purge();
            assert!(state.outstanding().values().all(|record| record.is_dead));
        }
        Step::Commit | Step::RollBack => {}
    }
}

proptest! {
    #[test]
    fn l3_what_a_queue_keeps_ready_is_what_follows_from_its_records_and_changes_are_undone_whole(
        is_ordered in any::<bool>(),
        steps in vec(step(), 1..200)
    ) {
        let mut state = State::new(RULES);
        let (mut now, mut next) = (0, [0; 3]);
        let mut committed = (content(&state), next);
        for step in steps {
            match step {
                Step::Commit => {
                    state.commit();
                    committed = (content(&state), next);
                }
                Step::RollBack => {
                    state.roll_back();
                    prop_assert_eq!(content(&state), committed.0.clone());
                    next = committed.1;
                }
                step => run(&mut state, step, &mut now, &mut next, is_ordered),
            }
            check(&state);
        }
    }

    /// A crash while the whole state is rewritten leaves the earlier records, and the first of those that rewrite it.
    #[test]
    fn l1_a_part_of_the_state_said_again_changes_nothing(
        is_ordered in any::<bool>(),
        steps in vec(step(), 1..100),
        kept_count in 0..200usize
    ) {
        let mut state = State::new(RULES);
        let (mut now, mut next, created) = (0, [0; 3], time(3));
        let mut history = History::default();
        history.apply(Entry::Begun { created, is_ordered });
        let moment = |now: u64| Moment { elapsed: time(now), time_of_day: time(now + 1_000) };
        for step in steps {
            run(&mut state, step, &mut now, &mut next, is_ordered);
            prop_assert!(state.settle(time(now)));
            // As they come from the journal, through their bytes.
            let mut bytes = vec![];
            for change in state.changes() {
                entry_of(&state, change).encode(moment(now), &mut bytes);
            }
            Entries::new(&bytes).for_each(|entry| history.apply(entry.unwrap()));
            state.commit();
        }
        let again = restated(&state, created, is_ordered, moment(now)).flat_map(|(_, bytes)| {
            Entries::new(&bytes).map(Option::unwrap).collect::<Vec<_>>()
        });
        let again: Vec<Entry> = again.collect();
        again.iter().take(kept_count).for_each(|&entry| history.apply(entry));
        let mut all = History::default();
        again.iter().for_each(|&entry| all.apply(entry));
        // The rewritten records are also sufficient by themselves.
        for history in [history, all] {
            prop_assert_eq!(history.begun, Some((created, is_ordered)));
            let mut loaded = State::new(RULES);
            history.load(moment(now), Duration::MAX, &mut loaded);
            check(&loaded);
            prop_assert_eq!(content(&loaded), content(&state));
        }
    }
}
