//! Windows that end: the windows of a `SELECT`, and the SQL over the rows that they release.

use std::mem::discriminant;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Distinct, Expr, GroupByExpr, Ident, OrderBy, Select, SelectItem, Value, ValueWithSpan,
};
use datafusion::sql::sqlparser::tokenizer::Location;

use super::buckets::{Bucket, bucket, translate, window_end_function};
use super::dialect::Mark;
use super::duration::interval;
use super::parse::name;
use super::plan::Window;
use super::planner::{Planner, Tail};
use super::problem::{Place, Problem, Result, quoted};
use super::relations::{check_preserved, put_rows, using_names};
use super::scope::{Relation, Scope, Time};
use super::stage::{Stage, StageInput, StageKind};
use super::tree::{binary, change, column, find, has, has_subquery, is_aggregate, names_in, over};

/// A source of a `SELECT` with its windows.
pub(super) struct Windowed {
    /// The index of the relation.
    source: usize,
    kind: Window,
    time: Time,
    /// The keys that have separate windows, for sessions and stagger windows.
    keys: Vec<Expr>,
    by: By,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Function,
    Stagger,
    Group,
}

impl Planner<'_> {
    /// The windows of the sources of a `SELECT`, if it has some.
    pub(super) fn windows_of(
        &self,
        select: &Select,
        relations: &[Relation],
    ) -> Result<Option<Vec<Windowed>>> {
        let sources = || relations.iter().enumerate().filter(|(_, relation)| relation.source.is_some());
        let by_function = sources().filter_map(|(source, relation)| match &relation.mark {
            Some(Mark::Function(function)) => Some(by_function(source, relation, function)),
            _ => None,
        });
        let by_function = by_function.collect::<Result<Vec<_>>>()?;
        if !by_function.is_empty() {
            let other = sources().find(|(_, relation)| !matches!(relation.mark, Some(Mark::Function(_))));
            if let Some((_, other)) = other {
                let problem = Problem::new(other.place, "a stream with windows is joined with one without");
                return Err(problem.hint("read both through the same windows"));
            }
            return Ok(Some(by_function));
        }
        let stagger = self.marks.stagger.as_ref();
        let stagger = stagger.filter(|stagger| stagger.select == select.select_token.0.span.start);
        let (source, relation) = sources().next().expect("the caller has counted the sources");
        if let Some(stagger) = stagger {
            if sources().count() > 1 {
                return Err(joined(stagger.place));
            }
            let (size, keys) = (stagger.size, stagger.keys.clone());
            let kind = Window::Stagger { size, keys: vec![] };
            return Ok(Some(vec![Windowed { source, kind, time: Time::Arrival, keys, by: By::Stagger }]));
        }
        let keys = group_keys(select);
        let buckets: Vec<(&Expr, Bucket)> = keys.iter().filter_map(|key| Some((key, bucket(key)?))).collect();
        let timed = |wanted: Time| {
            buckets
                .iter()
                .find(|(_, bucket)| relation.time(&bucket.time) == Some(wanted))
                .map(|found| (found, wanted))
        };
        if let Some(((key, bucket), time)) = timed(Time::Arrival).or_else(|| timed(Time::Event)) {
            if sources().count() > 1 {
                return Err(joined(*key));
            }
            let kind = bucket.kind.clone()?;
            let others = keys.iter().filter(|other| other != key);
            let keys =
                if matches!(kind, Window::Session { .. }) { others.cloned().collect() } else { vec![] };
            return Ok(Some(vec![Windowed { source, kind, time, keys, by: By::Group }]));
        }
        if let Some((key, bucket)) = buckets.first() {
            let stream = relation.source.as_ref().map_or("", |source| &*source.stream);
            let message = format!("{} is neither ROWTIME nor the event time of {stream}", bucket.time);
            let hint = match relation.source.as_ref().and_then(|source| source.event_time.as_deref()) {
                Some(event_time) => format!("group by ROWTIME, or by {}", quoted(event_time)),
                None => "group by ROWTIME, or declare the column as the schema's event time".to_owned(),
            };
            return Err(Problem::new(*key, message).hint(hint));
        }
        Ok(None)
    }

    /// Makes the windows the stage, and rewrites the `SELECT` so that it reads the rows that they release.
    pub(super) fn windows(
        &mut self,
        select: &mut Select,
        tail: &mut Tail<'_>,
        relations: &[Relation],
        windowed: Vec<Windowed>,
    ) -> Result<()> {
        let start = select.select_token.0.span.start;
        let mut indexes = vec![];
        for one in &windowed {
            let relation = &relations[one.source];
            check_preserved(select, relations, one.source)?;
            let index = self.input_of(relation, one)?;
            put_rows(select, one.source, index, relation.alias.as_ref());
            indexes.push(index);
        }
        let first = &windowed[0];
        let is_grouped = first.by == By::Stagger || !group_keys(select).is_empty();
        let mut keys: Vec<(Expr, Expr)> = vec![];
        let mut names = vec![];
        let stage = self.stage.as_mut().expect("input_of has made it");
        for key in &first.keys {
            let mut evaluated = key.clone();
            change(&mut evaluated, |expr| {
                super::planner::row_time(expr)?;
                translate(expr)
            })?;
            let name = stage.inputs[indexes[0]].key(&evaluated);
            keys.push((key.clone(), column(&name)));
            names.push(name);
        }
        if let StageKind::Windows {
            kind: Window::Session { keys, .. } | Window::Stagger { keys, .. }, ..
        } = &mut stage.kind
        {
            if indexes[0] > 0 && *keys != names {
                return Err(different(relations[first.source].place));
            }
            *keys = names;
        }
        if let Some(limit) = tail.limit.filter(|_| !first.keys.is_empty()) {
            let problem = Problem::new(
                start,
                format!(
                    "{} has nothing to choose from: each key has its own windows",
                    limit.to_string().trim()
                ),
            );
            return Err(problem.hint("choose by a condition: HAVING count(*) > 100"));
        }
        self.rewrite(select, tail, relations, first, &keys, is_grouped)?;
        self.push_window_conditions(select, relations, &windowed, &indexes)?;
        let is_aligned = is_aligned(select, tail, is_grouped);
        let stage = self.stage.as_mut().expect("input_of has made it");
        if let StageKind::Windows { is_aligned: all, .. } = &mut stage.kind {
            *all &= is_aligned;
        }
        for input in &mut stage.inputs {
            names_in(select, &mut input.names);
            names_in(&*tail.order_by, &mut input.names);
            using_names(select, &mut input.names);
        }
        Ok(())
    }

    /// The input for a source with windows, which may already exist.
    fn input_of(&mut self, relation: &Relation, windowed: &Windowed) -> Result<usize> {
        let source = relation.source.as_ref().expect("windows are made of sources");
        let input = StageInput::new(relation, windowed.time).expect("it is a source");
        let kind = windowed.kind.clone();
        let stage = self.stage.get_or_insert_with(|| Stage {
            kind: StageKind::Windows { kind, time: windowed.time, is_aligned: true },
            inputs: vec![],
            place: relation.place,
        });
        let StageKind::Windows { kind, time, .. } = &stage.kind else {
            let problem =
                Problem::new(relation.place, "windows stand beside a query of a stream without windows");
            return Err(problem.hint("let one pump write into a stream, and another one read that"));
        };
        if !is_same(kind, &windowed.kind) || *time != windowed.time {
            return Err(different(relation.place));
        }
        if self.reads.get(&source.stream).is_some_and(|&reads| reads > 1) && !source.is_bare {
            let problem =
                Problem::new(relation.place, format!("{} is read by several queries", source.stream));
            return Err(
                problem.hint("make windows of the stream itself, and write the conditions behind them")
            );
        }
        if let Some(known) = stage.inputs.iter().position(|other| other.stream == source.stream) {
            return Ok(known);
        }
        stage.inputs.push(input);
        Ok(stage.inputs.len() - 1)
    }

    fn rewrite(
        &self,
        select: &mut Select,
        tail: &mut Tail<'_>,
        relations: &[Relation],
        windowed: &Windowed,
        keys: &[(Expr, Expr)],
        is_grouped: bool,
    ) -> Result<()> {
        let relation = &relations[windowed.source];
        // Conditions on rows are checked before windows are formed.
        let mut selection = select.selection.take();
        let mut from = std::mem::take(&mut select.from);
        let is_window = |expr: &Expr| {
            let bucket = bucket(expr).filter(|_| windowed.by == By::Group)?;
            let is_same = bucket.kind.as_ref() == Ok(&windowed.kind)
                && relation.time(&bucket.time) == Some(windowed.time);
            is_same.then_some(if bucket.is_end { "window_end" } else { "window_start" })
        };
        let mut rewrite = |expr: &mut Expr| {
            if let Some(name) = is_window(expr).or_else(|| window_end_function(expr)) {
                *expr = column(name);
                return Ok(());
            }
            if let Some((_, key)) = keys.iter().find(|(key, _)| key == expr) {
                *expr = key.clone();
                return Ok(());
            }
            if is_aggregate(expr) || bucket(expr).is_some() || !is_grouped {
                change(expr, arrival)?;
            }
            window_names(expr);
            translate(expr)
        };
        let group_by = group_keys(select);
        if let (By::Stagger, Some(key)) = (windowed.by, group_by.first()) {
            let problem = Problem::new(key, "a stagger window groups by its PARTITION BY");
            return Err(problem.hint("leave GROUP BY out"));
        }
        select.group_by = GroupByExpr::Expressions(vec![], vec![]);
        change(select, &mut rewrite)?;
        change(tail.order_by, &mut rewrite)?;
        let mut group_by = group_by;
        change(&mut group_by, &mut rewrite)?;
        if windowed.by == By::Stagger {
            group_by = keys.iter().map(|(_, key)| key.clone()).collect();
        }
        if windowed.by != By::Function {
            let ends = [column("window_start"), column("window_end")];
            group_by.retain(|key| !ends.contains(key));
            group_by.splice(0..0, ends);
        }
        select.group_by = GroupByExpr::Expressions(group_by, vec![]);
        let row = |expr: &mut Expr| {
            arrival(expr)?;
            window_names(expr);
            translate(expr)
        };
        change(&mut selection, row)?;
        change(&mut from, row)?;
        select.selection = selection;
        select.from = from;
        Ok(())
    }

    fn push_window_conditions(
        &mut self,
        select: &mut Select,
        relations: &[Relation],
        windowed: &[Windowed],
        indexes: &[usize],
    ) -> Result<()> {
        for (one, &index) in windowed.iter().zip(indexes) {
            let stream = relations[one.source].source.as_ref().map(|source| &source.stream);
            let is_shared = stream.and_then(|stream| self.reads.get(stream)).is_some_and(|&reads| reads > 1);
            // A function makes sessions of all rows. Conditions come later, and do not cut sessions in two.
            let is_later = one.by == By::Function && matches!(one.kind, Window::Session { .. });
            let mut stage = self.stage.take().expect("input_of has made it");
            if !is_shared && !is_later {
                self.push_conditions(select, relations, &mut stage.inputs[index]);
            }
            self.stage = Some(stage);
            let is_by_rows = matches!(one.kind, Window::Session { .. } | Window::Stagger { .. });
            if let Some(left) = select.selection.as_ref().filter(|_| is_by_rows && !is_later) {
                let problem =
                    Problem::new(left, "the rows of a key make its windows before this condition is checked");
                return Err(
                    problem.hint("let one pump check it and write into a stream, and another one read that")
                );
            }
        }
        Ok(())
    }
}

fn by_function(
    source: usize,
    relation: &Relation,
    function: &super::functions::WindowFunction,
) -> Result<Windowed> {
    let scope = Scope { relations: std::slice::from_ref(relation), aliases: &[], outer: &[] };
    let mut time = Expr::Identifier(function.time.clone());
    scope.resolve(&mut time)?;
    let Some(time) = relation.time(&time) else {
        let stream = relation.source.as_ref().map_or("", |source| &*source.stream);
        let message = format!("{} is neither ROWTIME nor the event time of {stream}", function.time);
        let hint = match relation.source.as_ref().and_then(|source| source.event_time.as_deref()) {
            Some(event_time) => format!("write DESCRIPTOR(ROWTIME) or DESCRIPTOR({})", quoted(event_time)),
            None => "write DESCRIPTOR(ROWTIME), or declare the column as the schema's event time".to_owned(),
        };
        return Err(Problem::new(&function.time, message).hint(hint));
    };
    let mut keys: Vec<Expr> = function.keys.iter().cloned().map(Expr::Identifier).collect();
    for key in &mut keys {
        scope.resolve(key)?;
    }
    Ok(Windowed { source, kind: function.kind.clone(), time, keys, by: By::Function })
}

fn joined(place: impl Into<Place>) -> Problem {
    let problem = Problem::new(place, "streams are joined and grouped by windows in one SELECT");
    problem.hint("let one pump join them into a stream, and another one group that")
}

fn different(place: Location) -> Problem {
    let problem = Problem::new(place, "a statement has windows of one kind, and here are others");
    problem.hint("let one pump write its windows into a stream, and another one read that")
}

/// Whether windows are the same except for their keys, which are known later.
fn is_same(one: &Window, other: &Window) -> bool {
    match (one, other) {
        (Window::Session { gap, .. }, Window::Session { gap: other, .. }) => gap == other,
        (Window::Stagger { size, .. }, Window::Stagger { size: other, .. }) => size == other,
        _ => discriminant(one) == discriminant(other) && one == other,
    }
}

/// The grouping keys of a `SELECT`, with expressions instead of their names and numbers.
fn group_keys(select: &Select) -> Vec<Expr> {
    let GroupByExpr::Expressions(keys, _) = &select.group_by else { return vec![] };
    let item = |wanted: &dyn Fn(usize, &Ident) -> bool| {
        select.projection.iter().enumerate().find_map(|(place, item)| match item {
            SelectItem::ExprWithAlias { expr, alias } if wanted(place, alias) => Some(expr.clone()),
            _ => None,
        })
    };
    let written_out = |key: &Expr| match key {
        Expr::Value(ValueWithSpan { value: Value::Number(number, _), .. }) => {
            let number = number.parse::<usize>().ok();
            item(&|place, _| Some(place + 1) == number)
        }
        // A column of the same name goes first, and stands for itself in the list, too.
        Expr::Identifier(key) => {
            item(&|_, alias| name(alias) == name(key)).filter(|expr| bucket(expr).is_some())
        }
        _ => None,
    };
    keys.iter().map(|key| written_out(key).unwrap_or_else(|| key.clone())).collect()
}

fn arrival(expr: &mut Expr) -> Result<()> {
    match expr {
        Expr::Identifier(ident) if ident.value == "_rowtime" => "_arrival".clone_into(&mut ident.value),
        Expr::CompoundIdentifier(parts) if parts.len() == 2 && parts[1].value == "_rowtime" => {
            "_arrival".clone_into(&mut parts[1].value);
        }
        _ => {}
    }
    Ok(())
}

/// `ROWTIME` of a window is its end. Flink's `window_time` is the last millisecond within.
fn window_names(expr: &mut Expr) {
    let last = match expr {
        Expr::Identifier(ident) => &*ident.value,
        Expr::CompoundIdentifier(parts) if parts.len() == 2 => &*parts[1].value,
        _ => return,
    };
    match last {
        "_rowtime" => *expr = column("window_end"),
        "_window_time" => {
            let almost = binary(column("window_end"), BinaryOperator::Minus, interval(1_000));
            *expr = Expr::Nested(Box::new(almost));
        }
        _ => {}
    }
}

/// Whether the SQL can get the rows of many windows at the same time.
fn is_aligned(select: &Select, tail: &Tail<'_>, is_grouped: bool) -> bool {
    let names = |wanted: &str| {
        group_keys(select).iter().any(|key| match key {
            Expr::Identifier(ident) => ident.value == wanted,
            Expr::CompoundIdentifier(parts) => parts.last().is_some_and(|ident| ident.value == wanted),
            _ => false,
        })
    };
    let order: &Option<OrderBy> = tail.order_by;
    let is_by_window = match is_grouped {
        true => names("window_start") && names("window_end"),
        false => find(select, |expr| is_aggregate(expr).then_some(())).is_none(),
    };
    is_by_window
        && order.is_none()
        && tail.limit.is_none()
        && matches!(select.distinct, None | Some(Distinct::All))
        && !has(select, |expr| over(expr).is_some())
        && !has_subquery(select)
}
