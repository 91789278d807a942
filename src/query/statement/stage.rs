//! The one place of a statement where rows wait for time to pass, and what is known of it so far.

use std::collections::BTreeSet;
use std::time::Duration;

use datafusion::sql::sqlparser::ast::{Expr, Ident, TableFactor};
use datafusion::sql::sqlparser::tokenizer::Location;

use super::plan::{Input, JoinKind, Lookback, Window};
use super::scope::{Relation, Time};
use super::tree::{all_of, column, item, query};

pub(super) struct Stage {
    pub(super) kind: StageKind,
    pub(super) inputs: Vec<StageInput>,
    pub(super) place: Location,
}

pub(super) enum StageKind {
    Each,
    /// `is_aligned`: whether the SQL can get the rows of many windows at the same time, as far as the `SELECT` of the window is concerned.
    Windows {
        kind: Window,
        time: Time,
        is_aligned: bool,
    },
    Over {
        keep: Vec<Lookback>,
    },
    Join {
        keep_left: Duration,
        keep_right: Duration,
        kind: JoinKind,
        alone: Option<String>,
    },
}

pub(super) struct StageInput {
    pub(super) stream: String,
    pub(super) time: Time,
    event_time: Option<String>,
    factor: TableFactor,
    /// All columns that the source has.
    pub(super) columns: Vec<String>,
    pub(super) alias: Option<Ident>,
    pub(super) conditions: Vec<Expr>,
    /// The names that the later SQL uses: of these columns, and of others.
    pub(super) names: BTreeSet<String>,
    /// Expressions that are keys of windows, with the columns that they become.
    pub(super) computed: Vec<(Expr, String)>,
}

impl StageInput {
    pub(super) fn new(relation: &Relation, time: Time) -> Option<Self> {
        let source = relation.source.as_ref()?;
        Some(Self {
            stream: source.stream.clone(),
            time,
            event_time: source.event_time.clone(),
            factor: source.factor.clone(),
            columns: relation.columns.iter().filter(|column| !is_end(column)).cloned().collect(),
            alias: relation.alias.clone(),
            conditions: vec![],
            names: BTreeSet::new(),
            computed: vec![],
        })
    }

    /// The column that a key is in: its own, or one that `prepare` computes.
    pub(super) fn key(&mut self, key: &Expr) -> String {
        let own = match key {
            Expr::Identifier(ident) => Some(ident),
            Expr::CompoundIdentifier(parts) if parts.len() == 2 => parts.last(),
            _ => None,
        };
        if let Some(own) = own.map(super::parse::name).filter(|own| self.columns.contains(own)) {
            self.names.insert(own.clone());
            return own;
        }
        if let Some((_, name)) = self.computed.iter().find(|(computed, _)| computed == key) {
            return name.clone();
        }
        let name = format!("_key_{}", self.computed.len() + 1);
        self.computed.push((key.clone(), name.clone()));
        name
    }

    pub(super) fn into_input(self, number: usize) -> Input {
        const ALWAYS: [&str; 3] = ["_shard", "_sequence", "_arrival"];
        let needed = self
            .columns
            .iter()
            .filter(|column| self.names.contains(*column) && !ALWAYS.contains(&&***column));
        let mut items: Vec<_> = needed.map(|name| item(column(name), name)).collect();
        items.extend(self.computed.iter().map(|(expr, name)| item(expr.clone(), name)));
        items.extend(ALWAYS.map(|name| item(column(name), name)));
        let time = match (self.time, &self.event_time) {
            (Time::Event, Some(event_time)) => column(event_time),
            _ => column("_arrival"),
        };
        items.push(item(time, "_time"));
        let prepare = query(super::output::plain_items(items), self.factor, all_of(self.conditions));
        Input {
            stream: self.stream,
            alias: rows(number),
            prepare: prepare.to_string(),
            by_event_time: self.time == Time::Event,
        }
    }
}

fn is_end(column: &str) -> bool {
    matches!(column, "window_start" | "window_end")
}

/// The name of the table that the later SQL reads.
pub(super) fn rows(number: usize) -> String {
    format!("_rows_{}", number + 1)
}
