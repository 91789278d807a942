//! A stream as a table.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;

use super::prune::{self, Bounds, Interval};
use super::read::{Early, Job, Piece};
use super::run::{NotedShard, Run};
use super::scan::StreamScan;
use super::schema::Schema;
use crate::{Error, KeyHash, Position, SequenceNumber, ShardId, StreamReader, Timestamp};

/// How many columns of a table come from the log itself: `_shard _sequence _arrival _key _data _headers`.
pub(super) const SYSTEM_COLUMNS: usize = 6;

/// A stream that statements may name.
#[derive(Debug)]
pub(super) struct StreamSource {
    /// The name of its table.
    pub(super) name: String,
    pub(super) reader: StreamReader,
    pub(super) schema: Schema,
    /// The columns of its table.
    pub(super) columns: SchemaRef,
}

/// The table of a stream, for one run of a statement.
#[derive(Debug)]
pub(super) struct StreamTable {
    source: Arc<StreamSource>,
    shards: Arc<Vec<NotedShard>>,
    run: Arc<Run>,
}

impl StreamTable {
    /// Returns the table of a stream. Statements see the stream as it was when this was called first for the run.
    pub(super) fn new(source: &Arc<StreamSource>, run: &Arc<Run>) -> crate::Result<Self> {
        let shards = run.note(&source.name, &source.reader)?;
        Ok(Self { source: Arc::clone(source), shards, run: Arc::clone(run) })
    }

    /// Returns whether a filter needs only the log's own columns.
    fn is_early(&self, filter: &Expr) -> bool {
        let is_system =
            |name: &str| self.source.columns.index_of(name).is_ok_and(|index| index < SYSTEM_COLUMNS);
        let columns = filter.column_refs();
        !columns.is_empty() && columns.iter().all(|column| is_system(&column.name)) && is_plain(filter)
    }

    fn pieces(&self, filters: &[Expr]) -> Vec<Piece> {
        let key_hash =
            self.source.schema.do_keys_decide_shards().then(|| self.source.reader.describe().key_hash);
        let pieces = self.shards.iter().filter_map(|shard| self.piece(shard, filters, key_hash));
        pieces.filter(|piece| piece.len() > 0).collect()
    }

    fn piece(&self, shard: &NotedShard, filters: &[Expr], key_hash: Option<KeyHash>) -> Option<Piece> {
        let Bounds { sequence, arrival, keys, .. } = prune::bounds(filters, shard.id.get())?;
        if let (Some(key_hash), Some(keys)) = (key_hash, keys)
            && !keys.iter().any(|key| shard.hash_key_range.contains(key_hash.hash(key.as_bytes())))
        {
            return None;
        }
        let clamp = |number: i128| number.clamp(shard.from.into(), shard.to.into()) as u64;
        let numbers =
            Piece { shard: shard.id, from: clamp(sequence.low), to: clamp(sequence.high.saturating_add(1)) };
        Some(self.within(numbers, arrival))
    }

    /// Narrows a piece to the records that arrived within an interval.
    fn within(&self, piece: Piece, arrival: Interval) -> Piece {
        let Piece { shard, mut from, mut to } = piece;
        let time = |micros: i128| Some(Timestamp::from_micros(u64::try_from(micros).ok()?));
        if from >= to || arrival.high < 0 || arrival.low > u64::MAX.into() {
            return Piece { to: from, ..piece };
        }
        if let Some(low) = time(arrival.low).filter(|low| low.as_micros() > 0) {
            let found = self.first_at(shard, low, to).clamp(from, to);
            // If the clock has jumped, a search by time may end behind records with that time.
            let is_found =
                found == from || self.arrival_of(shard, found - 1).is_some_and(|before| before < low);
            from = if is_found { found } else { from };
        }
        if let Some(above) = time(arrival.high.saturating_add(1)) {
            let found = self.first_at(shard, above, to).clamp(from, to);
            // It may also end before records that are older, or fail.
            let is_found = found == to || self.arrival_of(shard, found).is_some_and(|behind| behind >= above);
            to = if is_found { found } else { to };
        }
        Piece { shard, from, to }
    }

    /// Returns the first record that arrived at a time or later. If it cannot be found, all records are read, so that reading reports the cause.
    fn first_at(&self, shard: ShardId, time: Timestamp, end: u64) -> u64 {
        match self.source.reader.iterator(shard, Position::AtTimestamp(time)) {
            Ok(iterator) => iterator.next_sequence().get(),
            Err(Error::InvalidArgument(_)) => end,
            Err(_) => 0,
        }
    }

    fn arrival_of(&self, shard: ShardId, sequence: u64) -> Option<Timestamp> {
        let position = Position::At(SequenceNumber::new(sequence));
        let batch = self.source.reader.iterator(shard, position).ok()?.next_batch(1).ok()?;
        batch.last_timestamp()
    }
}

/// Returns whether an expression depends only on its row, and is deterministic.
fn is_plain(filter: &Expr) -> bool {
    let mut is_plain = !filter.is_volatile();
    let visited = filter.apply(|expr| {
        is_plain &= !matches!(
            expr,
            Expr::Exists(_)
                | Expr::InSubquery(_)
                | Expr::SetComparison(_)
                | Expr::ScalarSubquery(_)
                | Expr::OuterReferenceColumn(..)
                | Expr::Placeholder(_)
                | Expr::AggregateFunction(_)
                | Expr::WindowFunction(_)
                | Expr::Unnest(_)
                | Expr::GroupingSet(_)
        );
        Ok(if is_plain { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    });
    is_plain && visited.is_ok()
}

#[async_trait]
impl TableProvider for StreamTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.source.columns)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let decide = |filter: &&Expr| match self.is_early(filter) {
            true => TableProviderFilterPushDown::Exact,
            false => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(decide).collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let pieces = tokio::task::block_in_place(|| self.pieces(filters));
        // A filter that holds for every record of the pieces need not be checked for each.
        let is_sure = |filter: &&Expr| {
            let filter = std::slice::from_ref(*filter);
            let shards = pieces.iter().map(|piece| piece.shard.get());
            shards.into_iter().all(|shard| prune::bounds(filter, shard).is_some_and(|bounds| bounds.is_exact))
        };
        let unsure = filters.iter().filter(|filter| !is_sure(filter)).cloned();
        let early = conjunction(unsure).map(|filter| self.early(state, &filter)).transpose()?;
        let columns =
            projection.cloned().unwrap_or_else(|| (0..self.source.columns.fields().len()).collect());
        let job = Job {
            source: Arc::clone(&self.source),
            run: Arc::clone(&self.run),
            schema: Arc::new(self.source.columns.project(&columns)?),
            columns,
            early,
            pieces,
            limit,
        };
        let filters = filters.iter().map(ToString::to_string).collect();
        let partitions_max = state.config().target_partitions();
        Ok(Arc::new(StreamScan::new(job, self.shards.len(), filters, partitions_max)))
    }
}

impl StreamTable {
    fn early(&self, state: &dyn Session, filter: &Expr) -> Result<Early> {
        let index = |name: &str| self.source.columns.index_of(name).map_err(DataFusionError::from);
        let columns = filter.column_refs().into_iter().map(|column| index(&column.name));
        let mut columns = columns.collect::<Result<Vec<_>>>()?;
        columns.sort_unstable();
        columns.dedup();
        let schema = DFSchema::try_from(self.source.columns.project(&columns)?)?;
        Ok(Early { filter: state.create_physical_expr(filter.clone(), &schema)?, columns })
    }
}
