//! How unusual a row is among the rows before it: `random_cut_forest`.
//!
//! Guha, Mishra, Roy, Schrijvers: *Robust random cut forest based anomaly detection on streams*, 2016. Random cuts divide the box around points until
//! each point is alone. A point far from all others is cut off early, when many points are left.
//!
//! The cut of a box depends only on the box and the number of the tree. So a tree depends only on its points, and not on what happened before: a
//! restart with the same rows gives the same scores. And since only the last row of a window is scored, only the path to that row is built of each
//! tree.

use std::collections::VecDeque;
use std::hash::Hasher;
use std::mem::size_of;

use arrow_array::cast::AsArray;
use arrow_array::types::Float64Type;
use arrow_array::{Array, ArrayRef};
use arrow_schema::DataType;
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility};
use xxhash_rust::xxh3::Xxh3;

pub(in crate::query) const NAME: &str = "random_cut_forest";

/// More rows than this are not compared with each other. Kinesis' subSampleSize has the same limit.
pub(in crate::query) const ROWS_MAX: usize = 1_000;

/// Kinesis' default of numberOfTrees.
const TREES: u64 = 100;

pub(super) fn function() -> AggregateUDF {
    AggregateUDF::from(RandomCutForest { signature: Signature::user_defined(Volatility::Immutable) })
}

/// Its arguments are numbers. A condition may follow them: rows for which it is not true have no score, which saves time.
#[derive(Debug, PartialEq, Eq, Hash)]
struct RandomCutForest {
    signature: Signature,
}

impl AggregateUDFImpl for RandomCutForest {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        let (numbers, condition) = match arguments {
            [numbers @ .., DataType::Boolean] => (numbers, Some(DataType::Boolean)),
            numbers => (numbers, None),
        };
        if numbers.is_empty() || numbers.iter().any(|kind| !kind.is_numeric() && !kind.is_null()) {
            return plan_err!("{NAME} takes one number or more");
        }
        Ok(numbers.iter().map(|_| DataType::Float64).chain(condition).collect())
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn accumulator(&self, _: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        plan_err!("{NAME} compares a row with those before it: write OVER (ORDER BY … ROWS 255 PRECEDING)")
    }

    fn create_sliding_accumulator(&self, _: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Forest::default()))
    }
}

/// The rows of a window.
#[derive(Debug, Default)]
struct Forest {
    rows: VecDeque<Row>,
}

#[derive(Debug)]
struct Row {
    /// `None` if one of the numbers is missing or not finite. Such a row is compared with nothing.
    point: Option<Box<[f64]>>,
    is_wanted: bool,
}

impl Accumulator for Forest {
    fn update_batch(&mut self, columns: &[ArrayRef]) -> Result<()> {
        let (numbers, condition) = match columns {
            [numbers @ .., last] if *last.data_type() == DataType::Boolean => {
                (numbers, Some(last.as_boolean()))
            }
            numbers => (numbers, None),
        };
        let numbers: Vec<_> = numbers.iter().map(|column| column.as_primitive::<Float64Type>()).collect();
        let count = columns.first().map_or(0, |column| column.len());
        self.rows.extend((0..count).map(|row| {
            let number = |column: &&arrow_array::Float64Array| {
                let value = column.is_valid(row).then(|| column.value(row))?;
                // Turns -0 into the equal 0.
                value.is_finite().then_some(value + 0.0)
            };
            let is_wanted = condition.is_none_or(|column| column.is_valid(row) && column.value(row));
            Row { point: numbers.iter().map(number).collect(), is_wanted }
        }));
        Ok(())
    }

    /// The rows that leave a window are the first ones.
    fn retract_batch(&mut self, columns: &[ArrayRef]) -> Result<()> {
        self.rows.drain(..columns.first().map_or(0, |column| column.len()));
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        if self.rows.len() > ROWS_MAX {
            return exec_err!("a window of {NAME} has at most {ROWS_MAX} rows");
        }
        let last = self.rows.back().filter(|row| row.is_wanted).and_then(|row| row.point.as_deref());
        let score = last.map(|last| {
            let points: Vec<&[f64]> = self.rows.iter().filter_map(|row| row.point.as_deref()).collect();
            (0..TREES).map(|tree| displacement(last, points.clone(), tree)).sum::<f64>() / TREES as f64
        });
        Ok(ScalarValue::Float64(score))
    }

    fn size(&self) -> usize {
        let of_point =
            self.rows.iter().find_map(|row| row.point.as_ref()).map_or(0, |point| size_of_val(&**point));
        size_of::<Self>() + self.rows.capacity() * size_of::<Row>() + self.rows.len() * of_point
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        exec_err!("{NAME} is not computed in parts")
    }

    fn merge_batch(&mut self, _: &[ArrayRef]) -> Result<()> {
        exec_err!("{NAME} is not computed in parts")
    }
}

/// Returns the collusive displacement of a point of a tree: the largest ratio, over all boxes that the cuts leave around it, of points that are cut
/// off to points that stay.
fn displacement(of: &[f64], mut points: Vec<&[f64]>, tree: u64) -> f64 {
    let mut most: f64 = 0.0;
    while let Some((dimension, cut)) = Bounds::around(&points).cut(tree) {
        let before = points.len();
        let is_low = of[dimension] <= cut;
        points.retain(|point| (point[dimension] <= cut) == is_low);
        most = most.max((before - points.len()) as f64 / points.len() as f64);
    }
    most
}

/// The smallest box around points.
#[derive(Debug)]
struct Bounds {
    low: Box<[f64]>,
    high: Box<[f64]>,
}

impl Bounds {
    fn around(points: &[&[f64]]) -> Self {
        let first = points.first().copied().unwrap_or_default();
        let mut bounds = Self { low: first.into(), high: first.into() };
        for point in points {
            bounds.low.iter_mut().zip(*point).for_each(|(low, at)| *low = low.min(*at));
            bounds.high.iter_mut().zip(*point).for_each(|(high, at)| *high = high.max(*at));
        }
        bounds
    }

    /// Returns where to cut: a dimension, with a probability in proportion to its length, and a place within it. Points up to it are on one side, and
    /// the others on the other. Returns `None` if the box is a point.
    fn cut(&self, tree: u64) -> Option<(usize, f64)> {
        let is_long = |&dimension: &usize| self.low[dimension] < self.high[dimension];
        let last = (0..self.low.len()).rev().find(is_long)?;
        // The half of a length is finite, however long it is.
        let halves = || self.low.iter().zip(&self.high).map(|(low, high)| high / 2.0 - low / 2.0);
        let longest = halves().fold(0.0, f64::max);
        let total: f64 = halves().map(|half| half / longest).sum();
        let mut place = total * self.random(tree);
        for (dimension, half) in halves().enumerate() {
            let length = half / longest;
            if place < length {
                let (low, high) = (self.low[dimension], self.high[dimension]);
                let cut = low + place * longest + place * longest;
                return Some((dimension, if cut < high { cut } else { low }));
            }
            place -= length;
        }
        // The sum was rounded up, or the box is so small that its half is nothing.
        Some((last, self.low[last]))
    }

    /// Returns a number from 0 (inclusive) to 1 (exclusive).
    fn random(&self, tree: u64) -> f64 {
        let mut hash = Xxh3::with_seed(tree);
        self.low.iter().chain(&self.high).for_each(|side| hash.write_u64(side.to_bits()));
        (hash.finish() >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// A whole tree, as the paper defines it.
    enum Tree {
        Leaf(usize),
        Branch { dimension: usize, cut: f64, low: Box<Tree>, high: Box<Tree> },
    }

    impl Tree {
        fn of(points: &[&[f64]], tree: u64) -> Self {
            let Some((dimension, cut)) = Bounds::around(points).cut(tree) else {
                return Self::Leaf(points.len());
            };
            let (low, high): (Vec<_>, Vec<_>) = points.iter().partition(|point| point[dimension] <= cut);
            assert!(!low.is_empty() && !high.is_empty(), "{dimension} {cut} {points:?}");
            let [low, high] = [low, high].map(|side| Box::new(Self::of(&side, tree)));
            Self::Branch { dimension, cut, low, high }
        }

        fn count(&self) -> usize {
            match self {
                Self::Leaf(count) => *count,
                Self::Branch { low, high, .. } => low.count() + high.count(),
            }
        }

        /// Returns what leaving out each box around a point would displace, for each point in the box.
        fn displacements(&self, point: &[f64]) -> Vec<f64> {
            let Self::Branch { dimension, cut, low, high } = self else { return vec![] };
            let (side, other) = if point[*dimension] <= *cut { (low, high) } else { (high, low) };
            let mut displacements = side.displacements(point);
            displacements.push(other.count() as f64 / side.count() as f64);
            displacements
        }
    }

    fn coordinate() -> impl Strategy<Value = f64> {
        prop_oneof![
            4 => (-3i32..3).prop_map(f64::from),
            2 => -1e3..1e3,
            1 => prop_oneof![Just(f64::MAX), Just(f64::MIN), Just(f64::MIN_POSITIVE), Just(5e-324), Just(1e-300)],
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_way_to_a_point_is_that_of_a_whole_tree(
            points in (1usize..4).prop_flat_map(|dimensions| vec(vec(coordinate(), dimensions), 1..40)),
            tree: u64,
        ) {
            let points: Vec<&[f64]> = points.iter().map(Vec::as_slice).collect();
            let whole = Tree::of(&points, tree);
            for point in &points {
                let most = whole.displacements(point).into_iter().fold(0.0, f64::max);
                prop_assert_eq!(displacement(point, points.clone(), tree), most);
            }
        }
    }

    /// The distribution of the paper: a dimension in proportion to its length, and a uniform place within it.
    #[test]
    fn cuts_are_where_they_are_as_often_as_the_paper_says() {
        let bounds = Bounds::around(&[&[0.0, -1.0, 7.0], &[3.0, 0.0, 7.0]]);
        let cuts: Vec<(usize, f64)> = (0..20_000).filter_map(|tree| bounds.cut(tree)).collect();
        let share =
            |of: &dyn Fn(&(usize, f64)) -> bool| cuts.iter().filter(|cut| of(cut)).count() as f64 / 20_000.0;
        for (found, right) in [
            (share(&|(dimension, _)| *dimension == 0), 0.75),
            (share(&|(dimension, _)| *dimension == 1), 0.25),
            (share(&|&(dimension, cut)| dimension == 0 && cut < 1.0), 0.25),
            (share(&|&(dimension, cut)| dimension == 0 && cut >= 2.0), 0.25),
            (share(&|&(dimension, cut)| dimension == 1 && cut < -0.5), 0.125),
        ] {
            assert!((found - right).abs() < 0.015, "{found}, not {right}");
        }
    }
}
