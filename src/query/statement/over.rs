//! Sliding windows: functions with `OVER`, which look back from each row.

use std::collections::BTreeMap;

use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, NamedWindowDefinition,
    NamedWindowExpr, NullTreatment, Select, TableFactor, Value, ValueWithSpan, WindowFrame, WindowFrameBound,
    WindowFrameUnits, WindowSpec, WindowType,
};
use datafusion::sql::sqlparser::tokenizer::Location;

use super::dialect::frame_range;
use super::duration::interval;
use super::parse::name;
use super::plan::Lookback;
use super::planner::{Planner, carry_places, row_times};
use super::problem::{Place, Problem, Result};
use super::scope::{Relation, Time};
use super::stage::{StageInput, StageKind};
use super::tree::{
    arguments, ascending, change, column, function_name, has, item, item_name, over, query, select_of, table,
};
use crate::query::functions::forest;

/// More rows than this are not kept for a key.
const ROWS_MAX: u64 = 1_000_000;

pub(super) const FOREST_WINDOW: &str = "write OVER (PARTITION BY k ROWS 255 PRECEDING)";

const BOUND: &str = "write OVER (PARTITION BY k RANGE INTERVAL '1' MINUTE PRECEDING) or OVER (PARTITION BY k ROWS 10 PRECEDING)";

impl Planner<'_> {
    /// Makes a `SELECT` with `OVER` the stage. Returns the columns for the runner.
    pub(super) fn over(&mut self, select: &mut Select, relations: &[Relation]) -> Result<Vec<String>> {
        let place = select.select_token.0.span.start;
        let relation = relations.iter().find(|relation| relation.source.is_some());
        let relation = relation.expect("the caller has counted the sources");
        let input = self.take_source(select, relations)?;
        let mut windows = Over {
            relation,
            input,
            keep: vec![],
            time: None,
            named: named(select)?,
            is_joined: relations.len() > 1,
        };
        if let Some(selection) = &select.selection
            && has(selection, |expr| over(expr).is_some())
        {
            let problem = Problem::new(selection, "WHERE is checked before OVER");
            return Err(problem.hint("put the SELECT into brackets: SELECT * FROM (SELECT …, lag(x) OVER … AS before FROM s) WHERE …"));
        }
        change(select, |expr| windows.function(expr))?;
        let Over { mut input, keep, time, .. } = windows;
        // All of them have become inline ones.
        select.named_window = vec![];
        row_times(select)?;
        input.time = time.unwrap_or(Time::Arrival);
        self.push_conditions(select, relations, &mut input);
        if let Some(left) = &select.selection
            && keep.iter().any(|lookback| matches!(lookback, Lookback::Rows { .. }))
        {
            let problem = Problem::new(left, "rows are counted before this condition is checked");
            return Err(
                problem.hint("let one pump check it and write into a stream, or look back by time: RANGE")
            );
        }
        let carries = carry_places(select, relations);
        self.begin(StageKind::Over { keep }, vec![input], select, place)?;
        only_new(select);
        Ok(carries)
    }
}

/// Puts the `SELECT` into one that leaves out the rows that are only looked back at.
fn only_new(select: &mut Select) {
    let items =
        select.projection.iter().filter_map(item_name).map(|name| item(column(&name), &name)).collect();
    select.projection.extend([item(column("_is_new"), "_is_new"), item(column("_time"), "_time")]);
    let mut inner = query(vec![], table(Ident::new("input"), None), None);
    if let Some(body) = select_of(&mut inner) {
        std::mem::swap(body, select);
    }
    let inner = TableFactor::Derived { lateral: false, subquery: Box::new(inner), alias: None, sample: None };
    let mut outer = query(items, inner, Some(column("_is_new")));
    if let Some(body) = select_of(&mut outer) {
        std::mem::swap(body, select);
    }
}

fn named(select: &Select) -> Result<BTreeMap<String, WindowSpec>> {
    let mut named = BTreeMap::new();
    for NamedWindowDefinition(of, window) in &select.named_window {
        let NamedWindowExpr::WindowSpec(spec) = window else {
            let problem = Problem::new(of, format!("{of} is another window"));
            return Err(problem.hint("use the other name in OVER"));
        };
        named.insert(name(of), spec.clone());
    }
    Ok(named)
}

struct Over<'a> {
    relation: &'a Relation,
    input: StageInput,
    keep: Vec<Lookback>,
    /// The time that the windows use, once one window has specified it.
    time: Option<Time>,
    named: BTreeMap<String, WindowSpec>,
    is_joined: bool,
}

impl Over<'_> {
    /// Makes the window of a function one that DataFusion can evaluate, and notes which rows it needs.
    fn function(&mut self, expr: &mut Expr) -> Result<()> {
        let place = Place::from(&*expr).location();
        let Expr::Function(function) = expr else { return Ok(()) };
        let spec = match &function.over {
            None => return Ok(()),
            Some(WindowType::WindowSpec(spec)) => spec.clone(),
            Some(WindowType::NamedWindow(of)) => self.named.get(&name(of)).cloned().ok_or_else(|| {
                let problem = Problem::new(of, format!("there is no window {of}"));
                problem.nearest(&of.value, self.named.keys().map(String::as_str)).or_hint(BOUND)
            })?,
        };
        if spec.window_name.is_some() {
            return Err(Problem::new(place, "a window that extends another one is not possible").hint(BOUND));
        }
        self.set_time(&spec, place)?;
        let name = function_name(function);
        let (lookback, frame) = match &*name {
            "lag" => (Some(lag(function)?), None),
            "lead" => {
                let problem = Problem::new(place, "LEAD looks ahead, to rows that have not come");
                return Err(problem.hint("write LAG, which looks back"));
            }
            "row_number" | "rank" | "dense_rank" | "percent_rank" | "cume_dist" | "ntile" => {
                let message = format!("{} counts rows from the beginning of the stream", name.to_uppercase());
                let hint = "number the rows of a window that ends: FROM TABLE(TUMBLE(TABLE s, DESCRIPTOR(ROWTIME), INTERVAL '1' \
                            MINUTE)), with PARTITION BY window_start, window_end";
                return Err(Problem::new(place, message).hint(hint));
            }
            _ => self.frame(&spec, place)?,
        };
        if *name == *forest::NAME {
            check_forest(lookback, place)?;
            // Rows that are only looked back at have had their scores.
            if let FunctionArguments::List(list) = &mut function.args {
                list.args.push(FunctionArg::Unnamed(FunctionArgExpr::Expr(column("_is_new"))));
            }
        }
        let mut per: Vec<(Expr, String)> = vec![];
        for key in &spec.partition_by {
            per.push((key.clone(), self.key(key)?));
        }
        let is_range = frame.as_ref().is_some_and(|frame| frame.units == WindowFrameUnits::Range);
        self.keep_rows(lookback, frame.as_ref(), per.iter().map(|(_, name)| name.clone()).collect(), place)?;
        let time = column("_time");
        let order = if is_range { vec![time] } else { vec![time, column("_shard"), column("_sequence")] };
        let partition_by = per.iter().map(|(_, name)| column(name)).collect();
        let spec =
            WindowSpec { window_name: None, partition_by, order_by: ascending(&order), window_frame: frame };
        function.over = Some(WindowType::WindowSpec(spec));
        Ok(())
    }

    fn key(&mut self, key: &Expr) -> Result<String> {
        let mut evaluated = key.clone();
        change(&mut evaluated, |expr| {
            super::planner::row_time(expr)?;
            super::buckets::translate(expr)
        })?;
        Ok(self.input.key(&evaluated))
    }

    fn set_time(&mut self, spec: &WindowSpec, place: Location) -> Result<()> {
        let time = match &spec.order_by[..] {
            [] => return Ok(()),
            [one] if one.options.asc != Some(false) => self.relation.time(&one.expr),
            [one, ..] => {
                let problem = Problem::new(&one.expr, "rows are looked back at in the order of time");
                return Err(problem.hint("write ORDER BY ROWTIME, or leave it out"));
            }
        };
        let Some(time) = time else {
            let expr = &spec.order_by[0].expr;
            let problem =
                Problem::new(expr, format!("{expr} is neither ROWTIME nor the stream's event time"));
            return Err(
                problem.hint("write ORDER BY ROWTIME, or declare the column as the schema's event time")
            );
        };
        if self.time.is_some_and(|other| other != time) {
            let problem = Problem::new(place, "some windows go by ROWTIME, others by event time");
            return Err(problem.hint("order all of them by the same time"));
        }
        self.time = Some(time);
        Ok(())
    }

    /// How far a frame looks back in rows, if it counts rows, and the frame for DataFusion.
    fn frame(&self, spec: &WindowSpec, place: Location) -> Result<(Option<u64>, Option<WindowFrame>)> {
        let Some(frame) = &spec.window_frame else {
            return Err(
                Problem::new(place, "this window looks back to the beginning of the stream").hint(BOUND)
            );
        };
        let looks_ahead = |bound: &WindowFrameBound| matches!(bound, WindowFrameBound::Following(_));
        if looks_ahead(&frame.start_bound) || frame.end_bound.as_ref().is_some_and(looks_ahead) {
            return Err(Problem::new(
                place,
                "a window with FOLLOWING looks ahead, to rows that have not come",
            )
            .hint(BOUND));
        }
        let end = Some(frame.end_bound.clone().unwrap_or(WindowFrameBound::CurrentRow));
        match (frame.units, &frame.start_bound) {
            (WindowFrameUnits::Groups, _) => Err(Problem::new(place, "GROUPS is not possible").hint(BOUND)),
            (_, WindowFrameBound::Preceding(None)) => {
                Err(Problem::new(place, "this window looks back to the beginning of the stream").hint(BOUND))
            }
            (WindowFrameUnits::Rows, start) => {
                let count = match start {
                    WindowFrameBound::Preceding(Some(bound)) => count(bound)?,
                    _ => 0,
                };
                let frame = WindowFrame { units: frame.units, start_bound: start.clone(), end_bound: end };
                Ok((Some(count), Some(frame)))
            }
            (WindowFrameUnits::Range, _) => {
                let Some(range) = frame_range(frame)? else {
                    let problem = Problem::new(place, "a window of time ends at its row");
                    return Err(problem.hint(BOUND));
                };
                let start = WindowFrameBound::Preceding(Some(Box::new(interval(range.as_micros()))));
                Ok((None, Some(WindowFrame { units: frame.units, start_bound: start, end_bound: end })))
            }
        }
    }

    fn keep_rows(
        &mut self,
        rows: Option<u64>,
        frame: Option<&WindowFrame>,
        per: Vec<String>,
        place: Location,
    ) -> Result<()> {
        let lookback = match rows {
            Some(_) if self.is_joined => {
                let problem = Problem::new(place, "rows are counted before the join, and seen after it");
                return Err(problem.hint("look back in a pump of its own, and join the stream that it writes; RANGE is possible here"));
            }
            Some(count) => Lookback::Rows { per, count },
            None => {
                let range = frame.map(frame_range).transpose()?.flatten();
                Lookback::Range(range.expect("a frame without rows has a range"))
            }
        };
        if !self.keep.contains(&lookback) {
            self.keep.push(lookback);
        }
        Ok(())
    }
}

fn count(expr: &Expr) -> Result<u64> {
    let count = match expr {
        Expr::Value(ValueWithSpan { value: Value::Number(number, _), .. }) => number.parse().ok(),
        _ => None,
    };
    match count {
        Some(count) if count <= ROWS_MAX => Ok(count),
        Some(_) => Err(Problem::new(expr, format!("a window has at most {ROWS_MAX} rows"))
            .hint("look back by time: RANGE")),
        None => Err(Problem::new(expr, format!("{expr} is no number of rows")).hint(BOUND)),
    }
}

/// A forest scores the last row of its window, but rows of the same time would share a window.
fn check_forest(rows: Option<u64>, place: Location) -> Result<()> {
    let message = match rows {
        Some(rows) if rows < forest::ROWS_MAX as u64 => return Ok(()),
        Some(_) => format!("{} compares {} rows at most", forest::NAME, forest::ROWS_MAX),
        None => format!("{} goes by a number of rows", forest::NAME),
    };
    Err(Problem::new(place, message).hint(FOREST_WINDOW))
}

fn lag(function: &Function) -> Result<u64> {
    if function.null_treatment == Some(NullTreatment::IgnoreNulls) {
        let place = function.name.0.first().and_then(|part| part.as_ident());
        let place = place.map_or(Location::empty(), |ident| ident.span.start);
        let problem =
            Problem::new(place, "LAG with IGNORE NULLS may look back to the beginning of the stream");
        return Err(problem.hint(
            "leave out rows with NULL by WHERE, or write LAST_VALUE(x) IGNORE NULLS OVER (ROWS 10 PRECEDING)",
        ));
    }
    arguments(function).get(1).map_or(Ok(1), |offset| count(offset))
}
