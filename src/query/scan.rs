//! The part of a query's plan that reads a stream.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::Statistics;
use datafusion::common::stats::Precision;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::col;
use datafusion::physical_expr::{EquivalenceProperties, Partitioning, PhysicalSortExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::sort_pushdown::SortOrderPushdownResult;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures_core::Stream;
use tokio::time::{Sleep, sleep};

use super::ordered::{self, AnyReader};
use super::prune::{ARRIVAL, SEQUENCE, SHARD};
use super::read::{BATCH_ROWS, Job, Piece, Step};

/// The longest pause that the limits of a stream cause before they are asked again.
const PAUSE_MAX: Duration = Duration::from_millis(100);
/// A scan of fewer records is not divided.
const DIVIDED_RECORDS_MIN: u64 = 4 * BATCH_ROWS as u64;

/// The most shards whose records are merged in their order instead of being sorted.
const MERGED_SHARDS_MAX: usize = 64;

/// Reads a stream in one partition or more, each a run of consecutive pieces.
#[derive(Debug, Clone)]
pub(super) struct StreamScan {
    /// The jobs of the partitions: they differ in their pieces only.
    jobs: Arc<Vec<Job>>,
    /// How many shards the stream has, whether they are read or not.
    shard_count: usize,
    /// The filters, as they were written.
    filters: Vec<String>,
    /// Whether each partition is read from its last record to its first.
    is_backward: bool,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl StreamScan {
    /// Divides a job into partitions.
    pub(super) fn new(job: Job, shard_count: usize, filters: Vec<String>, partitions_max: usize) -> Self {
        let total: u64 = job.pieces.iter().map(Piece::len).sum();
        let is_small = total < DIVIDED_RECORDS_MIN || job.early.is_none() && job.limit.is_some();
        let parts = if is_small { 1 } else { partitions_max.max(1) as u64 };
        let jobs: Vec<_> = divide(&job.pieces, parts).map(|pieces| Job { pieces, ..job.clone() }).collect();
        let orders = orders(&job);
        Self {
            properties: properties(&job, orders, jobs.len()),
            jobs: Arc::new(jobs),
            shard_count,
            filters,
            is_backward: false,
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }

    /// Returns a scan of the same records whose partitions are in an order, if the log has them in that order.
    fn in_order(&self, order: &[PhysicalSortExpr]) -> Option<Self> {
        let is_backward = ordered::direction(order)?;
        let shards = ordered::by_shard(self.jobs.iter().flat_map(|job| &job.pieces));
        let [job, ..] = &self.jobs[..] else { return None };
        // The plan above a scan with one partition expects one. Each partition holds batches.
        let is_possible = match shards.len() {
            0 => false,
            1 => true,
            count => self.jobs.len() > 1 && count <= MERGED_SHARDS_MAX,
        };
        if !is_possible || job.limit.is_some() {
            return None;
        }
        let jobs: Vec<_> = shards.into_iter().map(|pieces| Job { pieces, ..job.clone() }).collect();
        Some(Self {
            properties: properties(job, vec![order.to_vec()], jobs.len()),
            jobs: Arc::new(jobs),
            is_backward,
            metrics: ExecutionPlanMetricsSet::new(),
            ..self.clone()
        })
    }

    fn records(&self) -> u64 {
        self.jobs.iter().flat_map(|job| &job.pieces).map(Piece::len).sum()
    }
}

fn properties(job: &Job, orders: Vec<Vec<PhysicalSortExpr>>, partitions: usize) -> Arc<PlanProperties> {
    let equivalence = EquivalenceProperties::new_with_orderings(Arc::clone(&job.schema), orders);
    let partitioning = Partitioning::UnknownPartitioning(partitions);
    Arc::new(PlanProperties::new(equivalence, partitioning, EmissionType::Incremental, Boundedness::Bounded))
}

/// Divides pieces into parts with equally many records. The parts, one after the other, are the pieces in their order.
fn divide(pieces: &[Piece], parts: u64) -> impl Iterator<Item = Vec<Piece>> {
    let total: u128 = pieces.iter().map(|piece| u128::from(piece.len())).sum();
    let border = move |part: u64| (total * u128::from(part) / u128::from(parts)) as u64;
    (0..parts).map(move |part| {
        let (from, to) = (border(part), border(part + 1));
        let mut before = 0;
        let mut taken = Vec::new();
        for piece in pieces {
            let (first, end) = (from.max(before), to.min(before + piece.len()));
            if first < end {
                let at = |record| piece.from + (record - before);
                taken.push(Piece { shard: piece.shard, from: at(first), to: at(end) });
            }
            before += piece.len();
        }
        taken
    })
}

/// The orders in which the rows of each partition come.
fn orders(job: &Job) -> Vec<Vec<PhysicalSortExpr>> {
    let sorted = |names: &[&str]| {
        let column =
            |name: &&str| Some(PhysicalSortExpr::new(col(name, &job.schema).ok()?, SortOptions::default()));
        names.iter().map(column).collect::<Option<Vec<_>>>()
    };
    let is_one_shard = job.pieces.windows(2).all(|pair| pair[0].shard == pair[1].shard);
    let mut orders = vec![sorted(&[SHARD, SEQUENCE])];
    if is_one_shard {
        orders.extend([sorted(&[SEQUENCE]), sorted(&[ARRIVAL])]);
    } else {
        orders.push(sorted(&[SHARD, ARRIVAL]));
    }
    orders.into_iter().flatten().collect()
}

impl DisplayAs for StreamScan {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [job, ..] = &self.jobs[..] else { return f.write_str("StreamScan") };
        let mut shards: Vec<_> =
            self.jobs.iter().flat_map(|job| &job.pieces).map(|piece| piece.shard).collect();
        shards.dedup();
        write!(f, "StreamScan: stream={}, shards={} of {}", job.source.name, shards.len(), self.shard_count)?;
        write!(f, ", records={}, partitions={}", self.records(), self.jobs.len())?;
        let columns: Vec<_> = job.schema.fields().iter().map(|field| field.name().as_str()).collect();
        write!(f, ", columns=[{}]", columns.join(", "))?;
        if self.is_backward {
            f.write_str(", from the end")?;
        }
        if !self.filters.is_empty() {
            write!(f, ", filters=[{}]", self.filters.join(", "))?;
        }
        if let Some(limit) = job.limit {
            write!(f, ", limit={limit}")?;
        }
        Ok(())
    }
}

impl ExecutionPlan for StreamScan {
    fn name(&self) -> &str {
        "StreamScan"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![]
    }

    fn with_new_children(
        self: Arc<Self>,
        _children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, partition: usize, _context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let job = self.jobs.get(partition);
        let job =
            job.ok_or_else(|| DataFusionError::Internal(format!("there is no partition {partition}")))?;
        Ok(Box::pin(Reading {
            schema: Arc::clone(&job.schema),
            reader: AnyReader::new(job.clone(), self.is_backward),
            pause: None,
            metrics: BaselineMetrics::new(&self.metrics, partition),
        }))
    }

    fn try_pushdown_sort(
        &self,
        order: &[PhysicalSortExpr],
    ) -> Result<SortOrderPushdownResult<Arc<dyn ExecutionPlan>>> {
        Ok(match self.in_order(order) {
            Some(inner) => SortOrderPushdownResult::Exact { inner: Arc::new(inner) },
            None => SortOrderPushdownResult::Unsupported,
        })
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn partition_statistics(&self, partition: Option<usize>) -> Result<Arc<Statistics>> {
        let records = match partition {
            Some(partition) => self.jobs[partition].pieces.iter().map(Piece::len).sum(),
            None => self.records(),
        };
        // Some may be filtered, refused or trimmed.
        let num_rows = Precision::Inexact(usize::try_from(records).unwrap_or(usize::MAX));
        Ok(Arc::new(Statistics { num_rows, ..Statistics::new_unknown(&self.schema()) }))
    }
}

/// The rows of one partition.
struct Reading {
    schema: SchemaRef,
    reader: AnyReader,
    /// The pause before the next step.
    pause: Option<Pin<Box<Sleep>>>,
    metrics: BaselineMetrics,
}

impl Stream for Reading {
    type Item = Result<RecordBatch>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(pause) = &mut this.pause {
                if pause.as_mut().poll(context).is_pending() {
                    return Poll::Pending;
                }
                this.pause = None;
            }
            let timer = this.metrics.elapsed_compute().timer();
            // It reads files, and an archive may take long to answer: meanwhile, the other tasks of the thread move to another one.
            let step = tokio::task::block_in_place(|| this.reader.step());
            timer.done();
            let found = match step {
                Ok(Step::Rows(batch)) => Some(Ok(batch)),
                Ok(Step::End) => None,
                Ok(Step::Wait(time)) => {
                    this.pause = Some(Box::pin(sleep(time.min(PAUSE_MAX))));
                    continue;
                }
                Ok(Step::Nothing) => {
                    // A query that finds little must still be able to end when nobody wants its rows any more.
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Err(error) => Some(Err(error)),
            };
            return this.metrics.record_poll(Poll::Ready(found));
        }
    }
}

impl RecordBatchStream for Reading {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ShardId;

    #[test]
    fn parts_are_the_pieces_in_order_and_equally_long() {
        let piece = |shard, from, to| Piece { shard: ShardId::new(shard), from, to };
        let pieces = [piece(0, 5, 15), piece(1, 0, 0), piece(2, 100, 103), piece(3, 7, 24)];
        for parts in 1..40 {
            let divided: Vec<_> = divide(&pieces, parts).collect();
            let lengths: Vec<u64> = divided.iter().map(|part| part.iter().map(Piece::len).sum()).collect();
            assert!(lengths.iter().max().unwrap() - lengths.iter().min().unwrap() <= 1, "{lengths:?}");
            let records = |pieces: &[Piece]| {
                let of = |piece: &Piece| (piece.from..piece.to).map(|record| (piece.shard, record)).collect();
                pieces.iter().flat_map(|piece| -> Vec<_> { of(piece) }).collect::<Vec<_>>()
            };
            assert_eq!(records(&divided.concat()), records(&pieces));
        }
    }
}
