//! Expressions that round times: as the grouping of windows, and as DataFusion evaluates them elsewhere.

use std::time::Duration;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CeilFloorKind, DateTimeField, Expr, Value, ValueWithSpan,
};

use super::duration::{field_unit, interval, positive, unit_milliseconds};
use super::plan::Window;
use super::problem::{Problem, Result};
use super::tree::{arguments, binary, call, function_name, text};

/// `STEP(x BY …)`, `FLOOR(x TO …)` and the like: times rounded to windows.
pub(super) struct Bucket {
    pub(super) time: Expr,
    /// Its windows, or why they have no fixed length.
    pub(super) kind: Result<Window>,
    /// Whether the value is the end of a window, not its start.
    pub(super) is_end: bool,
}

/// Returns the rounding of an expression, if it is one.
pub(super) fn bucket(expr: &Expr) -> Option<Bucket> {
    let tumble = |time: &Expr, size: Result<Duration>| {
        let kind = size.map(|size| Window::Tumble { size, offset: Duration::ZERO });
        Some(Bucket { time: time.clone(), kind, is_end: false })
    };
    match expr {
        Expr::Nested(inner) => bucket(inner),
        Expr::Floor { expr: time, field: CeilFloorKind::DateTimeField(field) } => {
            let kind = field_window(expr, field)?;
            Some(Bucket { time: (**time).clone(), kind, is_end: false })
        }
        Expr::Ceil { expr: time, field: CeilFloorKind::DateTimeField(field) } => {
            let kind = field_window(expr, field)?;
            Some(Bucket { time: (**time).clone(), kind, is_end: true })
        }
        Expr::Function(function) => match (&*function_name(function), &arguments(function)[..]) {
            ("step" | "tumble", [time, size]) | ("date_bin", [size, time]) => tumble(time, positive(size)),
            ("date_trunc", [unit, time]) => {
                let Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(unit), .. }) = unit else {
                    return None;
                };
                Some(Bucket {
                    time: (*time).clone(),
                    kind: unit_window(expr, &unit.to_lowercase()),
                    is_end: false,
                })
            }
            ("hop", [time, slide, size]) => {
                let kind = positive(slide).and_then(|slide| {
                    Ok(Window::Hop { size: positive(size)?, slide, offset: Duration::ZERO })
                });
                Some(Bucket { time: (*time).clone(), kind, is_end: false })
            }
            ("session", [time, gap]) => {
                let kind = positive(gap).map(|gap| Window::Session { gap, keys: vec![] });
                Some(Bucket { time: (*time).clone(), kind, is_end: false })
            }
            _ => None,
        },
        _ => None,
    }
}

fn field_window(expr: &Expr, field: &DateTimeField) -> Option<Result<Window>> {
    if *field == DateTimeField::NoDateTime {
        return None;
    }
    let unit = field_unit(field).map_or_else(|| field.to_string().to_lowercase(), str::to_owned);
    Some(unit_window(expr, &unit))
}

fn unit_window(expr: &Expr, unit: &str) -> Result<Window> {
    let Some(milliseconds) = unit_milliseconds(unit) else {
        let problem = Problem::new(expr, format!("windows of a {unit} have no fixed length"));
        return Err(
            problem.hint("the longest unit is WEEK; others are written STEP(ROWTIME BY INTERVAL '30' DAY)")
        );
    };
    let size = Duration::from_millis(milliseconds.unsigned_abs());
    // 1970 began on a Thursday, weeks begin on Mondays.
    let offset = if unit == "week" { Duration::from_secs(4 * 86_400) } else { Duration::ZERO };
    Ok(Window::Tumble { size, offset })
}

/// Functions of Flink that name the ends of a window of `GROUP BY TUMBLE(…)`.
pub(super) fn window_end_function(expr: &Expr) -> Option<&'static str> {
    let Expr::Function(function) = expr else { return None };
    match &*function_name(function) {
        "tumble_start" | "hop_start" | "session_start" => Some("window_start"),
        "tumble_end" | "hop_end" | "session_end" => Some("window_end"),
        _ => None,
    }
}

/// Rewrites an expression that DataFusion does not know.
pub(super) fn translate(expr: &mut Expr) -> Result<()> {
    let replacement = match expr {
        Expr::Floor { expr: time, field: CeilFloorKind::DateTimeField(field) } => {
            let Some(unit) = rounding_unit(time, field, "FLOOR")? else { return Ok(()) };
            call("date_trunc", vec![text(unit), (**time).clone()])
        }
        Expr::Ceil { expr: time, field: CeilFloorKind::DateTimeField(field) } => {
            let Some(unit) = rounding_unit(time, field, "CEIL")? else { return Ok(()) };
            let Some(milliseconds) = unit_milliseconds(unit) else {
                let problem = Problem::new(&**time, format!("CEIL to a {unit} is not possible"));
                return Err(problem.hint(format!("write FLOOR(x TO {unit}) + INTERVAL '1' {unit}")));
            };
            let almost = interval(u128::from(milliseconds.unsigned_abs()) * 1_000 - 1);
            let moved = binary((**time).clone(), BinaryOperator::Plus, almost);
            call("date_trunc", vec![text(unit), moved])
        }
        Expr::Function(function) => match (&*function_name(function), &arguments(function)[..]) {
            ("step", [time, size]) => {
                let size = positive(size)?;
                call("date_bin", vec![interval(size.as_micros()), (*time).clone()])
            }
            ("step", _) => {
                let problem = Problem::new(&*expr, "STEP takes a time and an interval");
                return Err(problem.hint("write STEP(ROWTIME BY INTERVAL '60' SECOND)"));
            }
            ("tumble" | "hop" | "session", [_, _, ..]) | ("tumble_rowtime" | "tumble_proctime", _) => {
                let problem =
                    Problem::new(&*expr, format!("{expr} stands only in a GROUP BY that makes windows"));
                return Err(problem.hint("write TUMBLE_START(…) or TUMBLE_END(…) in the list of columns"));
            }
            _ => return Ok(()),
        },
        _ => return Ok(()),
    };
    *expr = replacement;
    Ok(())
}

fn rounding_unit(time: &Expr, field: &DateTimeField, function: &str) -> Result<Option<&'static str>> {
    if *field == DateTimeField::NoDateTime {
        return Ok(None);
    }
    let unit = field_unit(field).ok_or_else(|| {
        let problem = Problem::new(time, format!("{function} to {field} is not possible"));
        problem.hint("the units are SECOND, MINUTE, HOUR, DAY, WEEK, MONTH, QUARTER and YEAR")
    })?;
    Ok(Some(unit))
}
