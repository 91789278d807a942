//! Tests of pruning: records that pass a filter are never outside of its bounds.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, BooleanArray, RecordBatch, StringArray, TimestampMicrosecondArray, UInt32Array,
    UInt64Array,
};
use datafusion::common::DFSchema;
use datafusion::logical_expr::{cast, col, in_list, lit, not, try_cast};
use datafusion::prelude::SessionContext;
use proptest::prelude::*;

use super::*;

/// The parts of a record that pruning knows.
#[derive(Debug, Clone)]
struct Row {
    shard: u32,
    sequence: u64,
    arrival: i64,
    key: String,
}

const DAY: i64 = 86_400_000_000;
/// Times around which rows and literals lie: midnights, and whole seconds.
const TIME: i64 = 20_000 * DAY;

fn time() -> impl Strategy<Value = i64> {
    (-2..3_i64, prop_oneof![Just(DAY), Just(1_000_000), Just(1_000), Just(1)], -2..3_i64)
        .prop_map(|(count, unit, beside)| TIME + count * unit + beside)
}

fn row() -> impl Strategy<Value = Row> {
    (0..4_u32, 0..12_u64, time(), prop_oneof!["[ab]{0,2}", Just("\u{fffd}".to_owned())])
        .prop_map(|(shard, sequence, arrival, key)| Row { shard, sequence, arrival, key })
}

fn utc() -> Option<Arc<str>> {
    Some("UTC".into())
}

fn literal_time() -> impl Strategy<Value = ScalarValue> {
    prop_oneof![
        time().prop_map(|time| ScalarValue::TimestampMicrosecond(Some(time), utc())),
        (time(), -1..2_i64)
            .prop_map(|(time, ns)| ScalarValue::TimestampNanosecond(Some(time * 1_000 + ns), utc())),
        time().prop_map(|time| ScalarValue::TimestampMillisecond(Some(time / 1_000), utc())),
        time().prop_map(|time| ScalarValue::TimestampSecond(Some(time / 1_000_000), None)),
        time().prop_map(|time| ScalarValue::TimestampMicrosecond(Some(time), Some("+02:00".into()))),
        time().prop_map(|time| ScalarValue::TimestampMicrosecond(Some(time), None)),
        Just(ScalarValue::TimestampMicrosecond(None, utc())),
    ]
}

fn literal_number() -> impl Strategy<Value = ScalarValue> {
    prop_oneof![
        (-3..15_i64).prop_map(|number| ScalarValue::Int64(Some(number))),
        (0..15_u64).prop_map(|number| ScalarValue::UInt64(Some(number))),
        (-30..150_i128).prop_map(|number| ScalarValue::Decimal128(Some(number), 20, 1)),
        (-3..15_i32).prop_map(|number| ScalarValue::Float64(Some(f64::from(number) + 0.5))),
        Just(ScalarValue::Int64(None)),
    ]
}

/// A side of a comparison with a column, and literals that suit it.
fn side() -> impl Strategy<Value = (Expr, BoxedStrategy<ScalarValue>)> {
    let number = |column: Expr, to| (column, to);
    prop_oneof![
        prop_oneof![
            Just(col(SHARD)),
            Just(col(SEQUENCE)),
            Just(cast(col(SEQUENCE), DataType::Int64)),
            Just(cast(col(SEQUENCE), DataType::Decimal128(20, 0))),
            Just(try_cast(col(SHARD), DataType::Int8)),
            Just(cast(col(SEQUENCE), DataType::Float64)),
        ]
        .prop_map(move |column| number(column, literal_number().boxed())),
        prop_oneof![
            Just(col(ARRIVAL)),
            Just(cast(col(ARRIVAL), DataType::Timestamp(TimeUnit::Second, None))),
            Just(cast(col(ARRIVAL), DataType::Timestamp(TimeUnit::Microsecond, Some("+02:00".into())))),
            Just(cast(col(ARRIVAL), DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())))),
            Just(cast(col(ARRIVAL), DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())))),
        ]
        .prop_map(move |column| number(column, literal_time().boxed())),
        Just(()).prop_map(move |()| {
            let days = (-2..3_i32).prop_map(|days| ScalarValue::Date32(Some(20_000 + days)));
            number(cast(col(ARRIVAL), DataType::Date32), days.boxed())
        }),
        Just(()).prop_map(move |()| {
            let keys = prop_oneof![
                "[ab]{0,2}".prop_map(|key| ScalarValue::Utf8(Some(key))),
                Just(ScalarValue::Utf8(Some("\u{fffd}".to_owned()))),
                Just(ScalarValue::Utf8(None)),
            ];
            number(col(KEY), keys.boxed())
        }),
    ]
}

fn operator() -> impl Strategy<Value = Operator> {
    use Operator::*;
    prop_oneof![Just(Eq), Just(NotEq), Just(Lt), Just(LtEq), Just(Gt), Just(GtEq), Just(IsDistinctFrom)]
}

fn comparison() -> impl Strategy<Value = Expr> {
    let binary = |left: Expr, op, right: Expr| {
        Expr::BinaryExpr(BinaryExpr { left: Box::new(left), op, right: Box::new(right) })
    };
    side().prop_flat_map(move |(column, values)| {
        let one = column.clone();
        let two = column.clone();
        let three = column.clone();
        prop_oneof![
            (operator(), values.clone(), any::<bool>()).prop_map(move |(op, value, is_left)| match is_left {
                true => binary(one.clone(), op, lit(value)),
                false => binary(lit(value), op, one.clone()),
            }),
            (values.clone(), values.clone(), any::<bool>()).prop_map(
                move |(low, high, negated)| match negated {
                    true => two.clone().not_between(lit(low), lit(high)),
                    false => two.clone().between(lit(low), lit(high)),
                }
            ),
            (proptest::collection::vec(values, 1..4), any::<bool>()).prop_map(
                move |(list, negated)| in_list(three.clone(), list.into_iter().map(lit).collect(), negated)
            ),
        ]
    })
}

fn filter() -> impl Strategy<Value = Expr> {
    let leaf = prop_oneof![
        12 => comparison(),
        1 => Just(lit(true)),
        1 => Just(lit(false)),
        1 => Just(lit(ScalarValue::Boolean(None))),
        1 => Just(col(KEY).is_null()),
        1 => Just(col(SHARD).is_not_null()),
        1 => Just(col(KEY).like(lit("a%"))),
    ];
    leaf.prop_recursive(4, 24, 2, |inner| {
        let pair = || (inner.clone(), inner.clone());
        prop_oneof![
            pair().prop_map(|(one, two)| one.and(two)),
            pair().prop_map(|(one, two)| one.or(two)),
            inner.clone().prop_map(not),
            inner.clone().prop_map(|one| one.is_true()),
            inner.clone().prop_map(|one| one.is_not_true()),
            inner.clone().prop_map(|one| one.is_false()),
            inner.clone().prop_map(|one| one.is_not_false()),
            inner.clone().prop_map(|one| one.is_unknown()),
        ]
    })
}

/// Evaluates a filter on rows with DataFusion. Returns `None` if it refuses the types.
fn evaluate(filter: &Expr, rows: &[Row]) -> Option<Vec<bool>> {
    let columns: [(&str, ArrayRef); 4] = [
        (SHARD, Arc::new(UInt32Array::from_iter_values(rows.iter().map(|row| row.shard)))),
        (SEQUENCE, Arc::new(UInt64Array::from_iter_values(rows.iter().map(|row| row.sequence)))),
        (
            ARRIVAL,
            Arc::new(
                TimestampMicrosecondArray::from_iter_values(rows.iter().map(|row| row.arrival))
                    .with_timezone("UTC"),
            ),
        ),
        (KEY, Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row.key)))),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let schema = DFSchema::try_from(batch.schema()).unwrap();
    let filter = SessionContext::new().create_physical_expr(filter.clone(), &schema).ok()?;
    let passed = filter.evaluate(&batch).ok()?.into_array(rows.len()).ok()?;
    let passed = passed.as_any().downcast_ref::<BooleanArray>()?;
    Some((0..rows.len()).map(|row| passed.is_valid(row) && passed.value(row)).collect())
}

/// Returns filters that compare arrival times with these values of different types.
fn filters_with(times: [ScalarValue; 2]) -> [Expr; 2] {
    let [low, high] = times.map(lit);
    let arrival = || cast(col(ARRIVAL), DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())));
    [arrival().not_between(low.clone(), high.clone()).is_false(), in_list(arrival(), vec![low, high], false)]
}

#[test]
fn values_of_several_types_are_compared_rounded() {
    let at = TIME - 1_000_000;
    let row = Row { shard: 0, sequence: 0, arrival: at, key: String::new() };
    let times = [
        ScalarValue::TimestampMillisecond(Some(at / 1_000 + 999), utc()),
        ScalarValue::TimestampSecond(Some(TIME / 1_000_000), None),
    ];
    for filter in filters_with(times) {
        assert_eq!(evaluate(&filter, std::slice::from_ref(&row)), Some(vec![true]), "as whole seconds");
        let bounds = bounds(&[filter], 0).expect("some records pass");
        assert!(bounds.arrival.contains(at.into()), "{bounds:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn what_passes_is_within_the_bounds(
        filters in proptest::collection::vec(filter(), 1..3),
        rows in proptest::collection::vec(row(), 1..60),
    ) {
        let evaluated: Option<Vec<_>> = filters.iter().map(|filter| evaluate(filter, &rows)).collect();
        prop_assume!(evaluated.is_some());
        let evaluated = evaluated.unwrap();
        for (index, row) in rows.iter().enumerate() {
            let passes = evaluated.iter().all(|passed| passed[index]);
            let bounds = bounds(&filters, row.shard);
            let is_within = bounds.as_ref().is_some_and(|bounds| {
                bounds.sequence.contains(row.sequence.into())
                    && bounds.arrival.contains(row.arrival.into())
                    && bounds.keys.as_ref().is_none_or(|keys| keys.contains(&row.key))
            });
            prop_assert!(!passes || is_within, "{row:?} passes, and is outside of {bounds:?}");
            let is_sure = is_within && bounds.as_ref().is_some_and(|bounds| bounds.is_exact);
            prop_assert!(!is_sure || passes, "{row:?} does not pass, and {bounds:?} are exact");
        }
    }
}

fn number(value: i64) -> Expr {
    lit(ScalarValue::Int64(Some(value)))
}

fn at(time: i64) -> Expr {
    lit(ScalarValue::TimestampMicrosecond(Some(time), utc()))
}

#[test]
fn bounds_are_as_tight_as_the_filter() {
    let sequence = |low, high| Some(Interval { low, high });
    let of = |filter: Expr| bounds(&[filter], 2);
    let numbers = |filter| of(filter).map(|bounds| bounds.sequence);
    assert_eq!(numbers(col(SEQUENCE).gt(number(5)).and(number(9).gt_eq(col(SEQUENCE)))), sequence(6, 9));
    assert_eq!(numbers(col(SEQUENCE).between(number(3), number(4))), sequence(3, 4));
    assert_eq!(numbers(not(col(SEQUENCE).lt(number(3)).or(col(SEQUENCE).gt(number(4))))), sequence(3, 4));
    assert_eq!(numbers(in_list(col(SEQUENCE), vec![number(7), number(3)], false)), sequence(3, 7));
    assert_eq!(numbers(col(SEQUENCE).eq(number(1)).or(col(SEQUENCE).eq(number(8)))), sequence(1, 8));
    assert_eq!(of(col(SHARD).eq(number(1))), None);
    assert_eq!(of(col(SHARD).eq(number(2))), Some(Bounds::ALL));
    let of_shards = col(SHARD).eq(number(1)).and(col(SEQUENCE).lt(number(4)));
    let of_shards = of_shards.or(col(SHARD).eq(number(2)).and(col(SEQUENCE).gt_eq(number(10))));
    assert_eq!(numbers(of_shards), sequence(10, i128::MAX));
    let day = cast(col(ARRIVAL), DataType::Date32).eq(lit(ScalarValue::Date32(Some(20_000))));
    let within = Interval { low: TIME.into(), high: (TIME + DAY - 1).into() };
    assert_eq!(of(day).map(|bounds| bounds.arrival), Some(within));
    let since = col(ARRIVAL).gt_eq(at(TIME));
    assert_eq!(of(since).map(|bounds| bounds.arrival.low), Some(TIME.into()));
    let keys = in_list(col(KEY), vec![lit("a"), lit("b")], false);
    assert_eq!(of(keys).and_then(|bounds| bounds.keys).map(|keys| keys.len()), Some(2));
    assert_eq!(of(col(KEY).eq(lit("a")).and(col(KEY).eq(lit("b")))), None);
}
