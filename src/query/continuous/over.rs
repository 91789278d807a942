//! Looking back: each row goes out with the rows before it, of its key or within a time.

use std::collections::VecDeque;

use datafusion::arrow::array::{BooleanArray, RecordBatch, UInt32Array};
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::SchemaRef;

use super::columns::{Micros, Result, filter, marked_schema, micros, places, take, times, with_mark};
use super::keys::Keys;
use super::operator::{Held, Released};
use super::pile::Pile;
use super::store::{Place, Store};
use crate::query::statement::plan::Lookback;

/// Rows that wait for the watermark, and rows that are looked back at.
#[derive(Debug)]
pub(super) struct Over {
    schema: SchemaRef,
    marked: SchemaRef,
    waiting: Pile,
    /// The rows that have gone out and may be looked back at.
    store: Store,
    /// Where each of them is, and how many rows need it. Their numbers are indices.
    kept: Vec<(Place, u32)>,
    free: Vec<u32>,
    /// How far rows look back in time, and the rows within it, in the order of their times.
    range: Option<Micros>,
    recent: VecDeque<(Micros, u32)>,
    by_count: Vec<ByCount>,
}

/// The last rows of each key.
#[derive(Debug)]
struct ByCount {
    count: usize,
    keys: Keys,
    last: Vec<VecDeque<u32>>,
}

impl Over {
    pub(super) fn new(keep: &[Lookback], schema: &SchemaRef) -> Result<Self> {
        let mut over = Self {
            schema: schema.clone(),
            marked: marked_schema(schema),
            waiting: Pile::default(),
            store: Store::new(schema.clone()),
            kept: vec![],
            free: vec![],
            range: None,
            recent: VecDeque::new(),
            by_count: vec![],
        };
        for lookback in keep {
            match lookback {
                Lookback::Range(range) => over.range = over.range.max(Some(micros(*range))),
                Lookback::Rows { count: 0, .. } => {}
                Lookback::Rows { per, count } => over.by_count.push(ByCount {
                    count: usize::try_from(*count).unwrap_or(usize::MAX),
                    keys: Keys::new(std::slice::from_ref(schema), per)?,
                    last: vec![],
                }),
            }
        }
        Ok(over)
    }

    pub(super) fn push(&mut self, rows: RecordBatch) -> Result<()> {
        self.waiting.push(rows)
    }

    pub(super) fn due(&self) -> Result<Option<Micros>> {
        let mut first = None;
        for batch in self.waiting.batches() {
            let of_batch = times(batch)?.iter().min().map(|time| time + 1);
            first = first.into_iter().chain(of_batch).min();
        }
        Ok(first)
    }

    /// Releases the rows that the watermark has passed, in the order of their times, and those that they look back at.
    pub(super) fn advance(&mut self, watermark: Micros) -> Result<Released> {
        let mut passed = vec![];
        let mut left = Pile::default();
        for batch in std::mem::take(&mut self.waiting).into_batches() {
            let times = times(&batch)?;
            if times.iter().all(|&time| time < watermark) {
                passed.push(batch);
                continue;
            }
            let is_passed: BooleanArray = times.iter().map(|&time| Some(time < watermark)).collect();
            let is_left: BooleanArray = times.iter().map(|&time| Some(time >= watermark)).collect();
            passed.push(filter(&batch, &is_passed)?);
            left.push(filter(&batch, &is_left)?)?;
        }
        self.waiting = left;
        let passed = concat_batches(&self.schema, &passed)?;
        if passed.num_rows() == 0 {
            return Ok(Released { tables: vec![vec![]], reached: watermark });
        }
        let rows = take(&passed, &order_of(&passed)?)?;
        let seen = self.seen_by(&rows)?;
        let table = vec![with_mark(&seen, &self.marked, false)?, with_mark(&rows, &self.marked, true)?];
        self.keep(rows, watermark)?;
        Ok(Released { tables: vec![table], reached: watermark })
    }

    /// Returns the rows that these look back at.
    fn seen_by(&mut self, rows: &RecordBatch) -> Result<RecordBatch> {
        let mut seen = vec![];
        if let (Some(range), Some(first)) = (self.range, times(rows)?.first()) {
            let begin = self.recent.partition_point(|&(time, _)| time < first - range);
            seen.extend(self.recent.range(begin..).map(|&(_, id)| id));
        }
        for by_count in &mut self.by_count {
            let keys = by_count.keys.of(0, rows)?;
            let mut numbers: Vec<u32> =
                (0..rows.num_rows()).filter_map(|row| by_count.keys.known(&keys, row)).collect();
            numbers.sort_unstable();
            numbers.dedup();
            seen.extend(numbers.into_iter().flat_map(|number| &by_count.last[number as usize]));
        }
        seen.sort_unstable();
        seen.dedup();
        let places: Vec<Place> = seen.into_iter().map(|id| self.kept[id as usize].0).collect();
        self.store.gather(&places)
    }

    /// Keeps rows that later ones may look back at, and drops the others.
    fn keep(&mut self, rows: RecordBatch, watermark: Micros) -> Result<()> {
        if self.range.is_none() && self.by_count.is_empty() {
            return Ok(());
        }
        let times = times(&rows)?.to_vec();
        let needed_by = self.by_count.len() as u32 + u32::from(self.range.is_some());
        let mut unneeded = vec![];
        let keys: Result<Vec<_>> =
            self.by_count.iter_mut().map(|by_count| by_count.keys.of(0, &rows)).collect();
        let (keys, batch) = (keys?, self.store.add(rows));
        for (row, &time) in times.iter().enumerate() {
            let kept = ((batch, row as u32), needed_by);
            let id = match self.free.pop() {
                Some(id) => {
                    self.kept[id as usize] = kept;
                    id
                }
                None => {
                    self.kept.push(kept);
                    (self.kept.len() - 1) as u32
                }
            };
            if self.range.is_some() {
                self.recent.push_back((time, id));
            }
            for (by_count, keys) in self.by_count.iter_mut().zip(&keys) {
                let number = by_count.keys.number(keys, row) as usize;
                if by_count.last.len() <= number {
                    by_count.last.resize_with(number + 1, VecDeque::new);
                }
                let last = &mut by_count.last[number];
                last.push_back(id);
                if last.len() > by_count.count {
                    unneeded.extend(last.pop_front());
                }
            }
        }
        if let Some(range) = self.range {
            // The next row comes at the watermark at the earliest.
            while let Some(&(time, id)) = self.recent.front()
                && time < watermark - range
            {
                unneeded.push(id);
                self.recent.pop_front();
            }
        }
        self.drop_unneeded(unneeded)
    }

    fn drop_unneeded(&mut self, unneeded: Vec<u32>) -> Result<()> {
        let mut dropped = vec![];
        for id in unneeded {
            let (place, needed_by) = &mut self.kept[id as usize];
            *needed_by -= 1;
            if *needed_by == 0 {
                dropped.push(*place);
                self.free.push(id);
            }
        }
        self.store.drop_rows(&dropped);
        if self.store.is_scattered() {
            let kept = self.kept.iter_mut().filter(|(_, needed_by)| *needed_by > 0);
            let mut places: Vec<&mut Place> = kept.map(|(place, _)| place).collect();
            self.store.put_together(&mut places)?;
        }
        Ok(())
    }

    /// Takes rows from a snapshot. Those before the watermark have gone out.
    pub(super) fn restore(&mut self, rows: RecordBatch, watermark: Micros) -> Result<()> {
        let has_gone: BooleanArray = times(&rows)?.iter().map(|&time| Some(time < watermark)).collect();
        let waits: BooleanArray = times(&rows)?.iter().map(|&time| Some(time >= watermark)).collect();
        self.keep(filter(&rows, &has_gone)?, watermark)?;
        self.waiting.push(filter(&rows, &waits)?)
    }

    pub(super) fn held(&self) -> Held {
        let waiting = Held { rows: self.waiting.row_count, bytes: self.waiting.bytes };
        let of_keys: usize = self.by_count.iter().map(|it| it.keys.bytes() + 40 * it.last.len()).sum();
        let bytes = self.kept.len() * 16 + self.recent.len() * 16 + of_keys;
        self.store.held().plus(waiting).plus(Held { rows: 0, bytes })
    }

    /// Returns the rows that are kept, and then those that wait.
    pub(super) fn snapshot(&self) -> Result<Vec<RecordBatch>> {
        let kept = self.kept.iter().filter(|(_, needed_by)| *needed_by > 0);
        let places: Vec<Place> = kept.map(|(place, _)| *place).collect();
        let kept = self.store.gather(&places)?;
        let kept = take(&kept, &order_of(&kept)?)?;
        Ok([kept].into_iter().chain(self.waiting.batches().iter().cloned()).collect())
    }
}

/// Returns the order of rows by their times, shards and sequence numbers.
fn order_of(rows: &RecordBatch) -> Result<UInt32Array> {
    let (shards, sequences) = places(rows, "_shard", "_sequence")?;
    let times = times(rows)?;
    let mut order: Vec<u32> = (0..rows.num_rows() as u32).collect();
    order.sort_by_key(|&row| (times[row as usize], shards[row as usize], sequences[row as usize]));
    Ok(order.into())
}
