//! Which records of a shard can pass the filters of a statement, from the filters alone.

use std::collections::BTreeSet;

use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::logical_expr::expr::{Between, BinaryExpr, Cast, InList, TryCast};
use datafusion::logical_expr::{Expr, Operator};
use datafusion::scalar::ScalarValue;

/// The names of the columns that the log itself knows.
pub(super) const SHARD: &str = "_shard";
pub(super) const SEQUENCE: &str = "_sequence";
pub(super) const ARRIVAL: &str = "_arrival";
pub(super) const KEY: &str = "_key";

/// Whole numbers from `low` to `high`, including both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Interval {
    pub(super) low: i128,
    pub(super) high: i128,
}

impl Interval {
    const ALL: Self = Self { low: i128::MIN, high: i128::MAX };

    pub(super) fn contains(self, value: i128) -> bool {
        (self.low..=self.high).contains(&value)
    }

    fn and(self, other: Self) -> Self {
        Self { low: self.low.max(other.low), high: self.high.min(other.high) }
    }

    fn or(self, other: Self) -> Self {
        Self { low: self.low.min(other.low), high: self.high.max(other.high) }
    }
}

/// Bounds of the records of one shard that pass. Every record that passes is within all of these bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bounds {
    /// Their sequence numbers.
    pub(super) sequence: Interval,
    /// Their arrival times, in microseconds after 1970.
    pub(super) arrival: Interval,
    /// Their partition keys; `None` if any key can pass.
    pub(super) keys: Option<BTreeSet<String>>,
    /// Whether every record whose number is within the bounds passes, whatever its other values.
    pub(super) is_exact: bool,
}

impl Bounds {
    const ALL: Self = Self { sequence: Interval::ALL, arrival: Interval::ALL, keys: None, is_exact: true };

    /// No known bound. The records have to be examined.
    const UNKNOWN: Self = Self { is_exact: false, ..Self::ALL };

    fn is_empty(&self) -> bool {
        let is_none = |interval: Interval| interval.low > interval.high;
        is_none(self.sequence) || is_none(self.arrival) || self.keys.as_ref().is_some_and(BTreeSet::is_empty)
    }

    fn and(self, other: Self) -> Option<Self> {
        let keys = match (self.keys, other.keys) {
            (Some(one), Some(two)) => Some(&one & &two),
            (one, two) => one.or(two),
        };
        let both = Self {
            sequence: self.sequence.and(other.sequence),
            arrival: self.arrival.and(other.arrival),
            keys,
            is_exact: self.is_exact && other.is_exact,
        };
        (!both.is_empty()).then_some(both)
    }

    fn or(self, other: Self) -> Self {
        // Everything between two bounds is within the result, even if it passes neither.
        let is_exact = self == Self::ALL || other == Self::ALL;
        let keys = self.keys.zip(other.keys).map(|(one, two)| &one | &two);
        Self {
            sequence: self.sequence.or(other.sequence),
            arrival: self.arrival.or(other.arrival),
            keys,
            is_exact,
        }
    }
}

/// Returns bounds for the records of a shard for which all filters are true, or `None` if there is no such record.
pub(super) fn bounds(filters: &[Expr], shard: u32) -> Option<Bounds> {
    filters.iter().try_fold(Bounds::ALL, |bounds, filter| bounds.and(when(filter, true, shard)?))
}

/// Returns bounds for the records for which an expression is true, or false. A record for which it is NULL is in neither group.
fn when(expr: &Expr, wanted: bool, shard: u32) -> Option<Bounds> {
    match expr {
        Expr::Alias(alias) => when(&alias.expr, wanted, shard),
        Expr::Literal(value, _) => match value {
            ScalarValue::Boolean(Some(is_true)) => (*is_true == wanted).then_some(Bounds::ALL),
            value if value.is_null() => None,
            _ => Some(Bounds::UNKNOWN),
        },
        Expr::Not(inner) => when(inner, !wanted, shard),
        // Columns of the log are never NULL; expressions over them may be.
        Expr::IsNull(inner) | Expr::IsNotNull(inner) if is_own_column(inner) => {
            (matches!(expr, Expr::IsNotNull(_)) == wanted).then_some(Bounds::ALL)
        }
        Expr::IsTrue(inner) if wanted => when(inner, true, shard),
        Expr::IsFalse(inner) if wanted => when(inner, false, shard),
        Expr::IsNotTrue(inner) if !wanted => when(inner, true, shard),
        Expr::IsNotFalse(inner) if !wanted => when(inner, false, shard),
        Expr::BinaryExpr(binary) => when_binary(binary, wanted, shard),
        // Values of several types are compared as a common type, perhaps rounded.
        Expr::Between(between) if !is_of_one_type([&*between.low, &*between.high]) => Some(Bounds::UNKNOWN),
        Expr::InList(in_list) if !is_of_one_type(&in_list.list) => Some(Bounds::UNKNOWN),
        Expr::Between(Between { expr, negated, low, high }) => {
            let (at_least, at_most) = (Operator::GtEq, Operator::LtEq);
            if *negated != wanted {
                let low = compare(expr, at_least, low, shard)?;
                low.and(compare(expr, at_most, high, shard)?)
            } else {
                either(
                    || compare(expr, Operator::Lt, low, shard),
                    || compare(expr, Operator::Gt, high, shard),
                )
            }
        }
        Expr::InList(InList { expr, list, negated }) => {
            if *negated != wanted {
                let mut items = list.iter().filter_map(|item| compare(expr, Operator::Eq, item, shard));
                let first = items.next()?;
                Some(items.fold(first, Bounds::or))
            } else {
                list.iter().try_fold(Bounds::ALL, |bounds, item| {
                    bounds.and(compare(expr, Operator::NotEq, item, shard)?)
                })
            }
        }
        _ => Some(Bounds::UNKNOWN),
    }
}

/// Returns whether these are literals of the same type.
fn is_of_one_type<'e>(values: impl IntoIterator<Item = &'e Expr>) -> bool {
    let mut types = values.into_iter().map(|value| match value {
        Expr::Literal(value, _) => Some(value.data_type()),
        _ => None,
    });
    let first = types.next().flatten();
    first.is_some() && types.all(|other| other == first)
}

fn either(one: impl FnOnce() -> Option<Bounds>, two: impl FnOnce() -> Option<Bounds>) -> Option<Bounds> {
    match (one(), two()) {
        (Some(one), Some(two)) => Some(one.or(two)),
        (one, two) => one.or(two),
    }
}

fn when_binary(BinaryExpr { left, op, right }: &BinaryExpr, wanted: bool, shard: u32) -> Option<Bounds> {
    match (op, wanted) {
        (Operator::And, true) | (Operator::Or, false) => {
            when(left, wanted, shard)?.and(when(right, wanted, shard)?)
        }
        (Operator::And, false) | (Operator::Or, true) => {
            either(|| when(left, wanted, shard), || when(right, wanted, shard))
        }
        (op, true) => compare(left, *op, right, shard),
        (op, false) => match op.negate() {
            Some(opposite) => compare(left, opposite, right, shard),
            None => Some(Bounds::UNKNOWN),
        },
    }
}

/// Returns bounds for the records for which a comparison is true.
fn compare(left: &Expr, op: Operator, right: &Expr, shard: u32) -> Option<Bounds> {
    let (column, op, value) = match (Side::of(left), Side::of(right)) {
        (Some(column), None) => (column, op, right),
        (None, Some(column)) => match op.swap() {
            Some(op) => (column, op, left),
            None => return Some(Bounds::UNKNOWN),
        },
        _ => return Some(Bounds::UNKNOWN),
    };
    let Expr::Literal(value, _) = value else { return Some(Bounds::UNKNOWN) };
    let is_comparison = matches!(
        op,
        Operator::Eq | Operator::NotEq | Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq
    );
    if !is_comparison {
        return Some(Bounds::UNKNOWN);
    }
    if value.is_null() {
        return None;
    }
    if column.name == KEY {
        let key = value.try_as_str().flatten().filter(|_| op == Operator::Eq && column.cast.is_none());
        // Keys that are not UTF-8 are shown with this character, so any of them may match.
        let key = key.filter(|key| !key.contains(char::REPLACEMENT_CHARACTER));
        let keys = key.map(|key| BTreeSet::from([key.to_owned()]));
        return Some(Bounds { keys, ..Bounds::UNKNOWN });
    }
    let Some(interval) = column.interval(op, value) else { return Some(Bounds::UNKNOWN) };
    // A conversion may result in NULL.
    let is_exact = column.cast.is_none();
    match column.name {
        SHARD => {
            let passes = match interval {
                Within::These(interval) => interval.contains(shard.into()),
                Within::AllBut(value) => value != Some(shard.into()),
            };
            passes.then_some(Bounds { is_exact, ..Bounds::ALL })
        }
        SEQUENCE => match interval {
            Within::These(sequence) => Bounds { sequence, is_exact, ..Bounds::ALL }.and(Bounds::ALL),
            Within::AllBut(_) => Some(Bounds::UNKNOWN),
        },
        _ => match interval {
            // The first record of an arrival time is found by a search, and checked record by record.
            Within::These(arrival) => Bounds { arrival, ..Bounds::UNKNOWN }.and(Bounds::ALL),
            Within::AllBut(_) => Some(Bounds::UNKNOWN),
        },
    }
}

fn is_own_column(expr: &Expr) -> bool {
    Side::of(expr).is_some_and(|side| side.cast.is_none())
}

/// A column of the log in a comparison, perhaps converted.
struct Side<'e> {
    name: &'static str,
    cast: Option<&'e DataType>,
}

/// The values that a comparison lets pass.
enum Within {
    These(Interval),
    /// All but one, which may not be a whole number.
    AllBut(Option<i128>),
}

impl<'e> Side<'e> {
    fn of(expr: &'e Expr) -> Option<Self> {
        let (expr, cast) = match expr {
            Expr::Cast(Cast { expr, field }) | Expr::TryCast(TryCast { expr, field }) => {
                (&**expr, Some(field.data_type()))
            }
            expr => (expr, None),
        };
        let Expr::Column(column) = expr else { return None };
        let name = [SHARD, SEQUENCE, ARRIVAL, KEY].into_iter().find(|name| *name == column.name)?;
        Some(Self { name, cast })
    }

    /// Returns the values of the column, before it is converted, for which the comparison is true. `None` if that is not known.
    fn interval(&self, op: Operator, value: &ScalarValue) -> Option<Within> {
        if self.name != ARRIVAL {
            let is_whole = |cast: &&DataType| {
                cast.is_integer() || matches!(cast, DataType::Decimal128(_, scale) if *scale >= 0)
            };
            if self.cast.is_some() && self.cast.filter(is_whole).is_none() {
                return None;
            }
            return Some(compare_with(Fraction::of_number(value)?, op));
        }
        let of_column = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        match self.cast.unwrap_or(&of_column) {
            // Times of different units are compared in one of them, which rounds, and times of different zones may be shifted.
            DataType::Timestamp(unit, zone) if is_like(*unit, zone.as_deref(), value) => {
                let time = Fraction::of_time(value)?;
                match micros_of(*unit) {
                    Some(micros) => truncated(time.value / micros, micros, op),
                    None => Some(compare_with(time, op)),
                }
            }
            DataType::Date32 => match value {
                ScalarValue::Date32(Some(day)) => truncated((*day).into(), 86_400_000_000, op),
                _ => None,
            },
            _ => None,
        }
    }
}

/// A number that may not be whole: `value / over`.
struct Fraction {
    value: i128,
    over: i128,
}

impl Fraction {
    fn of_number(value: &ScalarValue) -> Option<Self> {
        let whole = |value: i128| Some(Self { value, over: 1 });
        match value {
            ScalarValue::Int8(Some(value)) => whole((*value).into()),
            ScalarValue::Int16(Some(value)) => whole((*value).into()),
            ScalarValue::Int32(Some(value)) => whole((*value).into()),
            ScalarValue::Int64(Some(value)) => whole((*value).into()),
            ScalarValue::UInt8(Some(value)) => whole((*value).into()),
            ScalarValue::UInt16(Some(value)) => whole((*value).into()),
            ScalarValue::UInt32(Some(value)) => whole((*value).into()),
            ScalarValue::UInt64(Some(value)) => whole((*value).into()),
            ScalarValue::Decimal128(Some(value), _, scale) => {
                let scale = u32::try_from(*scale).ok()?;
                Some(Self { value: *value, over: 10_i128.checked_pow(scale)? })
            }
            _ => None,
        }
    }

    /// A time as microseconds after 1970.
    fn of_time(value: &ScalarValue) -> Option<Self> {
        let times = |value: &i64, factor: i128| Some(Self { value: i128::from(*value) * factor, over: 1 });
        match value {
            ScalarValue::TimestampSecond(Some(value), _) => times(value, 1_000_000),
            ScalarValue::TimestampMillisecond(Some(value), _) => times(value, 1_000),
            ScalarValue::TimestampMicrosecond(Some(value), _) => times(value, 1),
            ScalarValue::TimestampNanosecond(Some(value), _) => {
                Some(Self { value: (*value).into(), over: 1_000 })
            }
            _ => None,
        }
    }

    fn floor(&self) -> i128 {
        self.value.div_euclid(self.over)
    }

    fn is_whole(&self) -> bool {
        self.value.rem_euclid(self.over) == 0
    }

    fn ceiling(&self) -> i128 {
        self.floor() + i128::from(!self.is_whole())
    }
}

/// Returns the whole numbers for which a comparison with a number is true.
fn compare_with(with: Fraction, op: Operator) -> Within {
    let these = |low, high| Within::These(Interval { low, high });
    match op {
        Operator::Gt => these(with.floor() + 1, i128::MAX),
        Operator::GtEq => these(with.ceiling(), i128::MAX),
        Operator::Lt => these(i128::MIN, with.ceiling() - 1),
        Operator::LtEq => these(i128::MIN, with.floor()),
        Operator::Eq => these(with.ceiling(), with.floor()),
        _ => Within::AllBut(with.is_whole().then(|| with.floor())),
    }
}

/// Returns the values for which a comparison of a number with `value / unit`, rounded down, is true.
fn truncated(number: i128, unit: i128, op: Operator) -> Option<Within> {
    let (first, next) = (number * unit, (number + 1) * unit);
    let these = |low, high| Some(Within::These(Interval { low, high }));
    match op {
        Operator::Gt => these(next, i128::MAX),
        Operator::GtEq => these(first, i128::MAX),
        Operator::Lt => these(i128::MIN, first - 1),
        Operator::LtEq => these(i128::MIN, next - 1),
        Operator::Eq => these(first, next - 1),
        _ => None,
    }
}

/// Returns whether a value is a time of this unit that means the same moment in this zone.
fn is_like(unit: TimeUnit, zone: Option<&str>, value: &ScalarValue) -> bool {
    let DataType::Timestamp(of_value, zone_of_value) = value.data_type() else { return false };
    let is_utc = |zone: Option<&str>| zone.is_none_or(|zone| zone == "UTC");
    let zone_of_value = zone_of_value.as_deref();
    // A time without a zone is local time in the zone of the other one.
    let is_moment = zone.is_some() == zone_of_value.is_some() || is_utc(zone) && is_utc(zone_of_value);
    of_value == unit && is_moment
}

/// Returns how many microseconds a unit has, if that is more than one.
fn micros_of(unit: TimeUnit) -> Option<i128> {
    match unit {
        TimeUnit::Second => Some(1_000_000),
        TimeUnit::Millisecond => Some(1_000),
        TimeUnit::Microsecond | TimeUnit::Nanosecond => None,
    }
}

#[cfg(test)]
mod tests;
