//! Joins of two streams whose rows meet if they are near in time.

use std::time::Duration;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, JoinConstraint, JoinOperator, Select, SetExpr, Spanned,
};

use super::dialect::Mark;
use super::duration::{interval, signed_milliseconds};
use super::plan::JoinKind;
use super::planner::{Planner, Position, row_times};
use super::problem::{Problem, Result};
use super::relations::{is_about, put_rows};
use super::scope::{Relation, Time};
use super::stage::{StageInput, StageKind};
use super::tree::{
    all_of, binary, call, column, column_of, conjuncts, constraint, constraint_mut, has, item, over,
};

const BOUND: &str = "write … ON a.k = b.k AND b.ROWTIME BETWEEN a.ROWTIME AND a.ROWTIME + INTERVAL '10' MINUTE, or FROM a OVER \
                     (RANGE INTERVAL '10' MINUTE PRECEDING) JOIN b OVER (RANGE INTERVAL '10' MINUTE PRECEDING) ON …";

/// How much later than the left row a right one may be, at least and at most, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Bounds {
    from: Option<i64>,
    to: Option<i64>,
    time: Option<Time>,
}

struct Sides<'a> {
    left: &'a Relation,
    right: &'a Relation,
}

impl Planner<'_> {
    /// Makes a join of two streams the stage. Returns the columns for the runner.
    pub(super) fn join(
        &mut self,
        select: &mut Select,
        relations: &[Relation],
        position: Position,
    ) -> Result<Vec<String>> {
        let start = select.select_token.0.span.start;
        let places: Vec<usize> =
            (0..relations.len()).filter(|&place| relations[place].source.is_some()).collect();
        let &[first, second] = &places[..] else {
            let problem = Problem::new(relations[places[2]].place, "more than two streams are joined");
            return Err(problem.hint(
                "let one pump join two of them into a stream, and another one join that with the third",
            ));
        };
        let sides = Sides { left: &relations[first], right: &relations[second] };
        if position != Position::Root {
            let problem = Problem::new(sides.left.place, "streams are joined in a subquery");
            return Err(
                problem.hint("let one pump join them into a stream, and another one select from that")
            );
        }
        if let Some(expr) = super::tree::find(select, |expr| over(expr).map(|_| expr.clone())) {
            let problem = Problem::new(&expr, "streams are joined and looked back at in one SELECT");
            return Err(
                problem.hint("let one pump join them into a stream, and another one look back in that")
            );
        }
        let kind = kind_of(select, relations, second)?;
        check_names(select)?;
        let mut bounds = Bounds::default();
        let on = join_conditions(select);
        let conditions = select.selection.iter().filter(|_| kind == JoinKind::Inner).cloned();
        for condition in on.into_iter().chain(conditions).flat_map(conjuncts) {
            sides.bound(&condition, &mut bounds)?;
        }
        let marked = self.marked(select, &sides, &mut bounds)?;
        let (Some(from), Some(to)) = (bounds.from, bounds.to) else {
            let what = if bounds.from.is_none() && bounds.to.is_none() { "none" } else { "only one" };
            let message = format!("a join of two streams needs two bounds in time, and there is {what}");
            return Err(Problem::new(sides.right.place, message).hint(BOUND));
        };
        if from > to {
            let problem = Problem::new(sides.right.place, "no row can keep both bounds in time");
            return Err(problem.hint(BOUND));
        }
        let time = bounds.time.unwrap_or(Time::Arrival);
        let mut inputs: Vec<StageInput> =
            [sides.left, sides.right].into_iter().filter_map(|side| StageInput::new(side, time)).collect();
        put_rows(select, first, 0, sides.left.alias.as_ref());
        put_rows(select, second, 1, sides.right.alias.as_ref());
        row_times(select)?;
        if let Some(marked) = marked {
            add_condition(select, second, marked)?;
        }
        push(select, relations, &sides, &mut inputs, kind);
        let alone = (kind != JoinKind::Inner).then(|| alone(select)).transpose()?;
        self.begin_join(select, &sides, inputs, (from, to), kind, alone, start)
    }

    /// The condition that windows of both sides stand for, and their bounds.
    fn marked(&self, select: &Select, sides: &Sides<'_>, bounds: &mut Bounds) -> Result<Option<Expr>> {
        let range = |side: &Relation| match side.mark {
            Some(Mark::Range(range)) => Some(range),
            _ => None,
        };
        let (left, right) = (range(sides.left), range(sides.right));
        if left.is_none() && right.is_none() {
            return Ok(None);
        }
        if bounds.time == Some(Time::Event) {
            let problem = Problem::new(sides.left.place, "OVER goes by ROWTIME, a condition by event time");
            return Err(problem.hint("write the bounds in one way only"));
        }
        let (Some(left_alias), Some(right_alias)) = (&sides.left.alias, &sides.right.alias) else {
            let problem = Problem::new(select.select_token.0.span, "a joined query has no name");
            return Err(problem.hint("write (SELECT …) AS a"));
        };
        let (left, right) = (left.unwrap_or_default(), right.unwrap_or_default());
        let (earliest, latest) = (-milliseconds(right), milliseconds(left));
        bounds.from = Some(bounds.from.map_or(earliest, |from| from.max(earliest)));
        bounds.to = Some(bounds.to.map_or(latest, |to| to.min(latest)));
        let time = |alias| column_of(alias, "_time");
        let least = binary(time(left_alias), BinaryOperator::Minus, interval(right.as_micros()));
        let most = binary(time(left_alias), BinaryOperator::Plus, interval(left.as_micros()));
        let between = |bound: Expr, op| binary(time(right_alias), op, bound);
        Ok(all_of(vec![between(least, BinaryOperator::GtEq), between(most, BinaryOperator::LtEq)]))
    }

    #[expect(clippy::too_many_arguments, reason = "each is a part of the stage")]
    fn begin_join(
        &mut self,
        select: &mut Select,
        sides: &Sides<'_>,
        inputs: Vec<StageInput>,
        (from, to): (i64, i64),
        kind: JoinKind,
        alone: Option<String>,
        start: datafusion::sql::sqlparser::tokenizer::Location,
    ) -> Result<Vec<String>> {
        let of = |side: &Relation, name: &str| match &side.alias {
            Some(alias) => column_of(alias, name),
            None => column(name),
        };
        let is_new = binary(of(sides.left, "_is_new"), BinaryOperator::Or, of(sides.right, "_is_new"));
        let mut carries = vec![];
        for (side, which) in [(sides.left, "left"), (sides.right, "right")] {
            for system in ["_shard", "_sequence"] {
                let carried = format!("_{which}{system}");
                select.projection.push(item(of(side, system), &carried));
                carries.push(carried);
            }
        }
        let selection = select.selection.take();
        if kind == JoinKind::Inner {
            select.selection = all_of(selection.into_iter().chain([is_new]).collect());
        } else {
            let kept = match selection {
                Some(selection) => call("coalesce", vec![selection, truth(false)]),
                None => truth(true),
            };
            select.projection.push(item(kept, "_kept"));
            carries.push("_kept".to_owned());
            select.selection = Some(is_new);
            for join in select.from.iter_mut().flat_map(|one| &mut one.joins) {
                if let Some(on) = constraint(&join.join_operator).cloned() {
                    join.join_operator = JoinOperator::Inner(on);
                }
            }
        }
        let keep = |latest: i64| Duration::from_millis(latest.max(0).unsigned_abs());
        let kind = StageKind::Join { keep_left: keep(to), keep_right: keep(-from), kind, alone };
        self.begin(kind, inputs, select, start)?;
        Ok(carries)
    }
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn truth(value: bool) -> Expr {
    Expr::Value(datafusion::sql::sqlparser::ast::Value::Boolean(value).into())
}

/// Which rows go out alone, from the operator before the second stream.
fn kind_of(select: &Select, relations: &[Relation], second: usize) -> Result<JoinKind> {
    use JoinOperator as J;
    let operators = || {
        select.from.iter().flat_map(|one| {
            std::iter::once(None).chain(one.joins.iter().map(|join| Some(&join.join_operator)))
        })
    };
    let kind = |operator: Option<&JoinOperator>| match operator {
        None | Some(J::Join(_) | J::Inner(_) | J::CrossJoin(_)) => Some(JoinKind::Inner),
        Some(J::Left(_) | J::LeftOuter(_)) => Some(JoinKind::Left),
        Some(J::Right(_) | J::RightOuter(_)) => Some(JoinKind::Right),
        Some(J::FullOuter(_)) => Some(JoinKind::Full),
        _ => None,
    };
    let Some(of_second) = operators().nth(second).and_then(kind) else {
        let problem =
            Problem::new(relations[second].place, "this kind of join is not possible between streams");
        return Err(problem.hint("write JOIN, LEFT JOIN, RIGHT JOIN or FULL JOIN"));
    };
    let is_inner = operators().all(|operator| kind(operator) == Some(JoinKind::Inner));
    if !is_inner && relations.len() > 2 {
        let problem =
            Problem::new(relations[second].place, "an outer join of streams has further tables beside it");
        return Err(problem.hint("let one pump join the streams, and another one join the tables"));
    }
    Ok(of_second)
}

fn join_conditions(select: &Select) -> Vec<Expr> {
    let joins = select.from.iter().flat_map(|one| &one.joins);
    let on = joins.filter_map(|join| match constraint(&join.join_operator) {
        Some(JoinConstraint::On(on)) => Some(on.clone()),
        _ => None,
    });
    on.collect()
}

/// Two columns of one name would become one field.
fn check_names(select: &Select) -> Result<()> {
    let names: Vec<_> = select.projection.iter().filter_map(super::tree::item_name).collect();
    for (place, name) in names.iter().enumerate() {
        if names[..place].contains(name) {
            let place = match &select.projection[place] {
                datafusion::sql::sqlparser::ast::SelectItem::ExprWithAlias { expr, .. } => expr.span(),
                other => other.span(),
            };
            let place = if place.start.line == 0 { select.select_token.0.span } else { place };
            let problem = Problem::new(place, format!("two columns of the output are called {name}"));
            return Err(problem.hint(format!("give one another name: b.{name} AS b_{name}")));
        }
    }
    Ok(())
}

/// Adds a condition to the join with a relation.
fn add_condition(select: &mut Select, relation: usize, condition: Expr) -> Result<()> {
    let mut place = 0;
    for one in &mut select.from {
        for join in &mut one.joins {
            place += 1;
            if place != relation {
                continue;
            }
            match constraint_mut(&mut join.join_operator) {
                Some(JoinConstraint::On(on)) => {
                    *on = binary(Expr::Nested(Box::new(on.clone())), BinaryOperator::And, condition)
                }
                Some(none @ JoinConstraint::None) => *none = JoinConstraint::On(condition),
                _ => {
                    let problem =
                        Problem::new(join.relation.span(), "a join of streams with windows needs ON");
                    return Err(problem.hint("write ON a.k = b.k"));
                }
            }
            if let JoinOperator::CrossJoin(on) = &join.join_operator {
                join.join_operator = JoinOperator::Inner(on.clone());
            }
            return Ok(());
        }
        place += 1;
    }
    // After a comma, the condition is added to the others.
    select.selection = all_of(select.selection.take().into_iter().chain([condition]).collect());
    Ok(())
}

/// Moves the conditions on one side to its input, if rows of that side need them to go out.
fn push(
    select: &mut Select,
    relations: &[Relation],
    sides: &Sides<'_>,
    inputs: &mut [StageInput],
    kind: JoinKind,
) {
    let Some(selection) = select.selection.take() else { return };
    let mut kept = vec![];
    for condition in conjuncts(selection) {
        let is_left =
            matches!(kind, JoinKind::Inner | JoinKind::Left) && is_about(&condition, sides.left, relations);
        let is_right =
            matches!(kind, JoinKind::Inner | JoinKind::Right) && is_about(&condition, sides.right, relations);
        match (is_left, is_right) {
            (true, _) => inputs[0].conditions.push(condition),
            (_, true) => inputs[1].conditions.push(condition),
            _ => kept.push(condition),
        }
    }
    select.selection = all_of(kept);
}

/// The join as it stands: what it returns for rows of one side if the other one is empty.
fn alone(select: &Select) -> Result<String> {
    let mut select = select.clone();
    select.projection = super::output::plain_items(select.projection);
    Ok(SetExpr::Select(Box::new(select)).to_string())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Left,
    Right,
}

impl Sides<'_> {
    /// Narrows the bounds by a condition, if it compares the times of both sides.
    fn bound(&self, condition: &Expr, bounds: &mut Bounds) -> Result<()> {
        use BinaryOperator as B;
        match condition {
            Expr::Nested(inner) => self.bound(inner, bounds),
            Expr::Between { expr, negated: false, low, high } => {
                self.at_most(low, expr, bounds)?;
                self.at_most(expr, high, bounds)
            }
            Expr::BinaryOp { left, op: B::LtEq | B::Lt, right } => self.at_most(left, right, bounds),
            Expr::BinaryOp { left, op: B::GtEq | B::Gt, right } => self.at_most(right, left, bounds),
            Expr::BinaryOp { left, op: B::Eq, right } => {
                self.at_most(left, right, bounds)?;
                self.at_most(right, left, bounds)
            }
            _ => Ok(()),
        }
    }

    /// `earlier <= later`
    fn at_most(&self, earlier: &Expr, later: &Expr, bounds: &mut Bounds) -> Result<()> {
        let (Some(earlier_time), Some(later_time)) = (self.time(earlier)?, self.time(later)?) else {
            return Ok(());
        };
        let ((side, time, start), (other, other_time, end)) = (earlier_time, later_time);
        if side == other {
            return Ok(());
        }
        if time != other_time || bounds.time.is_some_and(|known| known != time) {
            let problem = Problem::new(earlier, "arrival is compared with event time");
            return Err(problem.hint("compare ROWTIME with ROWTIME, or the event times of both streams"));
        }
        bounds.time = Some(time);
        if side == Side::Left {
            // left + start <= right + end
            let from = start.saturating_sub(end);
            bounds.from = Some(bounds.from.map_or(from, |known| known.max(from)));
        } else {
            let to = end.saturating_sub(start);
            bounds.to = Some(bounds.to.map_or(to, |known| known.min(to)));
        }
        Ok(())
    }

    /// A time of one side, with the amount that is added to it.
    fn time(&self, expr: &Expr) -> Result<Option<(Side, Time, i64)>> {
        match expr {
            Expr::Nested(inner) => self.time(inner),
            Expr::BinaryOp { left, op: op @ (BinaryOperator::Plus | BinaryOperator::Minus), right } => {
                let (time, added) = match (&**left, &**right) {
                    (time, added @ Expr::Interval(_)) => (time, added),
                    (added @ Expr::Interval(_), time) if *op == BinaryOperator::Plus => (time, added),
                    _ => return Ok(None),
                };
                let Some((side, time, sum)) = self.time(time)? else { return Ok(None) };
                let added = signed_milliseconds(added)?;
                let added = if *op == BinaryOperator::Plus { added } else { -added };
                Ok(Some((side, time, sum.saturating_add(added))))
            }
            Expr::Identifier(_) | Expr::CompoundIdentifier(_) => {
                let of = |side: &Relation| {
                    let is_only = !has(expr, |expr| matches!(expr, Expr::Identifier(_))) || {
                        is_about(expr, side, &[self.left.clone(), self.right.clone()])
                    };
                    side.time(expr).filter(|_| is_only)
                };
                let left = of(self.left).map(|time| (Side::Left, time, 0));
                Ok(left.or_else(|| of(self.right).map(|time| (Side::Right, time, 0))))
            }
            _ => Ok(None),
        }
    }
}
