//! Tests that rows come out exactly once, and completely, whatever happens meanwhile: restarts, trims, limits, silent shards.

use super::*;
use crate::{HOUR, Limits};

/// The origins of the output's rows, as the sink has noted them: a shard and a sequence number.
fn origins(stream: &Stream) -> Vec<(u32, u64)> {
    let mut iterator = stream.iterator(stream.shards()[0].id, Position::TrimHorizon).unwrap();
    let batch = iterator.next_batch(10_000).unwrap();
    let origin = |record: crate::Record<'_>| {
        let origin = record.headers().find(|(name, _)| *name == "origin").unwrap().1;
        let words: Vec<&str> = std::str::from_utf8(origin).unwrap().split(' ').collect();
        (words[1].parse::<crate::ShardId>().unwrap().get(), words[2].parse().unwrap())
    };
    batch.iter().map(origin).collect()
}

fn close(world: World, pump: Pump) -> World {
    pump.close().unwrap();
    drop(pump);
    world.reopen()
}

#[test]
fn l1_a_shard_that_ended_with_rows_nobody_wants_does_not_hold_time_back_after_a_restart() {
    let mut world = World::new(1);
    let plan = counts(minutes(), &format!("{BY_ARRIVAL} WHERE ms > 10"));
    let pump = world.start(&plan);
    world.put("ada", 11);
    wait_until_read(&pump, 1);
    // A cycle without effects is not written.
    world.put("ada", 1);
    wait_until_read(&pump, 2);
    world.input.split_shard_evenly(world.input.shards()[0].id).unwrap();
    wait_until_read(&pump, 2);
    world = close(world, pump);
    let pump = world.start(&plan);
    world.put("ada", 20);
    wait_until_read(&pump, 1);
    world.clock.advance(2 * MINUTE);
    assert_eq!(
        world.rows(1),
        [r#"{"user":"ada","window_start":"2023-11-14T22:14:00.000000Z","n":2,"ms":31}"#]
    );
}

#[test]
fn l4_what_is_put_is_not_remembered_until_a_silent_shard_speaks() {
    let world = World::new(2);
    let pump = world.start(&counts(minutes(), BY_ARRIVAL));
    // Of the shard that is not the newest.
    let names = ["ada", "bob", "cy", "dan", "eve", "fay"];
    let is_first = |name: &&str| world.input.put(*name, r#"{"ms": 0}"#).unwrap().shard.get() == 0;
    let user = names.into_iter().find(is_first).unwrap();
    for round in 1..=10 {
        let before = texts(&world.output).len();
        world.put(user, 1);
        wait_for(|| pump.stats().lag.record_count == 0, || format!("{:?}", pump.stats()));
        world.clock.advance(MINUTE);
        wait_for(|| texts(&world.output).len() > before, || format!("round {round}: {:?}", pump.stats()));
    }
    let group = world.input.group("sql-counts").describe().unwrap();
    let is_remembered = |(shard, sequence): &(u32, u64)| {
        group.shards.iter().any(|known| known.shard.get() == *shard && *sequence >= known.next_sequence.get())
    };
    let remembered = origins(&world.output).iter().filter(|origin| is_remembered(origin)).count();
    assert!(remembered <= 1, "{remembered} of {:?}", origins(&world.output));
}

#[test]
fn l1_rows_are_put_after_records_were_trimmed_before_they_were_read() {
    let mut world = World::new(1);
    let plan = counts(minutes(), BY_ARRIVAL);
    let pump = world.start(&plan);
    // More than a sink puts before it checks what the group has committed.
    const USERS: usize = 1_500;
    (0..USERS).for_each(|user| world.put(&format!("user-{user}"), 1));
    wait_until_read(&pump, USERS as u64);
    world = close(world, pump);
    world.put("ada", 1);
    let shard = world.input.shards()[0].id;
    world.input.trim_before(shard, (USERS as u64 + 1).into()).unwrap();
    world.clock.advance(MINUTE);
    let pump = world.start(&plan);
    assert_eq!(world.rows(USERS).len(), USERS);
    wait_for(|| pump.stats().held_rows == 0, || format!("{:?}", pump.stats()));
    assert_eq!(pump.stats().skipped, 1);
    pump.close().unwrap();
}

#[test]
fn l2_a_session_that_ended_without_a_row_takes_in_none_after_a_restart() {
    let run = |restarts: bool| {
        let mut world = World::new(1);
        let schema = schema().event_time("at", 5 * SECOND).unwrap().idle_timeout(10 * SECOND);
        let sessions = Window::Session { gap: MINUTE, keys: vec!["user".to_owned()] };
        let sql = r#"SELECT "user", count(*) AS n FROM _rows_1 GROUP BY "user", window_start, window_end HAVING count(*) > 1"#;
        let shape = Shape::Windows { kind: sessions, sql: sql.to_owned(), separately: false };
        let plan = plan(BY_EVENT_TIME, shape);
        let start = |world: &World| world.try_start_with(&plan, schema.clone(), PumpOptions::new()).unwrap();
        let mut pump = start(&world);
        world.put_at("ada", 0);
        wait_until_read(&pump, 1);
        world.clock.advance(66 * SECOND);
        wait_for(|| pump.stats().held_rows == 0, || format!("{:?}", pump.stats()));
        // Its own session is still open, and the one before has ended.
        world.put_at("ada", 30_000);
        wait_until_read(&pump, 2);
        assert_eq!((pump.stats().held_rows, pump.stats().late), (1, 0));
        if restarts {
            world = close(world, pump);
            pump = start(&world);
            wait_for(|| pump.rests() > 1, || format!("{:?}", pump.stats()));
            assert_eq!(pump.stats().held_rows, 1);
        }
        world.clock.advance(HOUR);
        wait_for(|| pump.stats().held_rows == 0, || format!("{:?}", pump.stats()));
        pump.close().unwrap();
        texts(&world.output)
    };
    assert_eq!(run(false), [""; 0]);
    assert_eq!(run(true), [""; 0]);
}

#[test]
fn a_shard_that_the_limits_hold_up_is_not_taken_for_read_to_its_end() {
    let world = World::new(1);
    let window = Window::Tumble { size: Duration::from_millis(100), offset: Duration::ZERO };
    let pump = world.start(&counts(window, BY_ARRIVAL));
    world.input.set_limits(Limits::none().read_calls_per_second(1)).unwrap();
    world.put("ada", 1);
    wait_until_read(&pump, 1);
    world.clock.advance(Duration::from_millis(50));
    world.put("ada", 2);
    let rests = pump.rests();
    world.clock.advance(Duration::from_millis(150));
    wait_for(|| pump.rests() >= rests + 3, || format!("{:?}", pump.stats()));
    assert_eq!((texts(&world.output), pump.stats().records_in), (vec![], 1));
    world.clock.advance(SECOND);
    assert_eq!(
        world.rows(1),
        [r#"{"user":"ada","window_start":"2023-11-14T22:14:00.000000Z","n":2,"ms":3}"#]
    );
}

#[test]
fn an_output_of_another_kind_is_refused_while_rows_may_have_to_be_put_again() {
    let world = World::new(1);
    let plan = counts(minutes(), BY_ARRIVAL);
    let function = || Output::function(|_: &datafusion::arrow::array::RecordBatch| Ok::<_, String>(()));
    let start = |output: Output| {
        let source = Source { reader: (*world.input).clone(), schema: schema() };
        Pump::start(&plan, vec![source], &SessionContext::new(), output, PumpOptions::new())
    };
    for (first, second) in
        [(function(), Output::stream(&world.output)), (Output::stream(&world.output), function())]
    {
        let options = PumpOptions::new().begin_anew(true);
        let source = Source { reader: (*world.input).clone(), schema: schema() };
        let pump = Pump::start(&plan, vec![source], &SessionContext::new(), first.clone(), options).unwrap();
        world.put("ada", 1);
        wait_for(|| pump.stats().held_rows > 0, || format!("{:?}", pump.stats()));
        world.clock.advance(MINUTE);
        wait_for(|| pump.stats().held_rows == 0, || format!("{:?}", pump.stats()));
        pump.close().unwrap();
        let Err(QueryError::Invalid(reason)) = start(second) else { panic!("it has another kind") };
        assert!(reason.contains("begin anew"), "{reason}");
        start(first).unwrap().close().unwrap();
    }
    // Errors may go elsewhere, or nowhere.
    let plan = Plan { name: "others".to_owned(), ..plan.clone() };
    let pump = world.start(&plan);
    world.input.put("x", "no JSON").unwrap();
    wait_for(|| pump.stats().refused == 1, || format!("{:?}", pump.stats()));
    pump.close().unwrap();
    for errors in [None, Some(function())] {
        let source = Source { reader: (*world.input).clone(), schema: schema() };
        let options = errors.into_iter().fold(PumpOptions::new(), PumpOptions::error_output);
        let output = Output::stream(&world.output);
        let pump = Pump::start(&plan, vec![source], &SessionContext::new(), output, options).unwrap();
        pump.close().unwrap();
    }
}

#[test]
fn l5_a_row_without_a_key_and_an_error_that_is_too_large_do_not_end_the_pump() {
    let mut world = World::new(1);
    let options = StreamOptions::new().record_bytes_max(1_000).maintenance(Maintenance::Manual);
    world.errors = options.open(world.directory.path().join("small")).unwrap();
    let each =
        r#"SELECT "user" AS _key, ms, _shard AS _place_shard, _sequence AS _place_sequence FROM _rows_1"#;
    let plan = plan(BY_ARRIVAL, Shape::Each { sql: each.to_owned() });
    let pump = world.start(&plan);
    world.input.put("x", format!(r#"{{"user": "ada", "ms": "{}"}}"#, "many".repeat(200))).unwrap();
    world.input.put("x", r#"{"user": "", "ms": 1}"#).unwrap();
    world.put("ada", 2);
    assert_eq!(world.rows(2), [r#"{"ms":1}"#, r#"{"ms":2}"#]);
    assert_eq!((pump.stats().refused, texts(&world.errors).len()), (1, 0));
    pump.close().unwrap();
}
