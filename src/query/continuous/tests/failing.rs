//! Rows and pairs for which a statement fails, among others.

use super::*;

#[test]
fn l5_a_row_for_which_looking_back_fails_takes_no_other_with_it() {
    let world = World::new(1);
    let sql = r#"SELECT part, s, _shard AS _place_shard, _sequence AS _place_sequence FROM (
        SELECT *, 100 / ms AS part, sum(ms) OVER (PARTITION BY "user" ORDER BY _time RANGE INTERVAL '1 minute' PRECEDING) AS s
        FROM _rows_1) WHERE _is_new"#;
    for ms in [1, 50, 0, 25, 0, 10] {
        world.put("ada", ms);
        world.clock.advance(SECOND);
    }
    let plan = plan(BY_ARRIVAL, Shape::Over { keep: vec![Lookback::Range(MINUTE)], sql: sql.to_owned() });
    let pump = world.start(&plan);
    let expected =
        [r#"{"part":100,"s":1}"#, r#"{"part":2,"s":51}"#, r#"{"part":4,"s":76}"#, r#"{"part":10,"s":86}"#];
    assert_eq!(world.rows(4), expected);
    wait_for(|| pump.stats().refused == 2, || format!("{:?}", pump.stats()));
    let errors = texts(&world.errors);
    assert!(errors[0].contains("record 2 of shard 0: ") && errors[1].contains("record 4 of "), "{errors:?}");
    world.put("ada", 4);
    world.clock.advance(SECOND);
    assert_eq!(world.rows(5)[4], r#"{"part":25,"s":90}"#);
}

#[test]
fn l5_a_pair_for_which_a_join_fails_takes_no_other_with_it() {
    for kind in [JoinKind::Inner, JoinKind::Full] {
        let world = World::new(1);
        let mut plan = join(kind);
        let Shape::Join { sql, .. } = &mut plan.shape else { unreachable!("it is a join") };
        // Two of the right side's rows fail.
        *sql = sql.replacen("r.ms AS r", "100 / (r.ms - 7) AS r", 1);
        for (user, ms) in
            [("ada", 0), ("ada", 2), ("ada", 7), ("ada", 12), ("bob", 7), ("bob", 0), ("ada", 57)]
        {
            world.put(user, ms);
        }
        let pump = world.start(&plan);
        let expected = [r#"{"l":"ada","r":-20}"#, r#"{"l":"ada","r":20}"#, r#"{"l":"ada","r":2}"#];
        let mut rows = world.rows(3);
        rows.sort();
        assert_eq!(rows, expected);
        wait_for(|| pump.stats().refused == 2, || format!("{:?}", pump.stats()));
        world.put("ada", 8);
        assert_eq!(world.rows(4)[3], r#"{"l":"ada","r":100}"#);
        pump.close().unwrap();
    }
}
