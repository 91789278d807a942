//! The tables that statements can name, as planning gets them from the catalog.

use std::collections::BTreeMap;

use datafusion::sql::sqlparser::ast::Ident;

use super::parse::name;
use super::scope::find_in;

/// The columns that each stream has besides those of its schema.
pub(super) const SYSTEM: [&str; 6] = ["_shard", "_sequence", "_arrival", "_key", "_data", "_headers"];

/// The tables of a catalog.
pub(in crate::query) trait Tables {
    /// A table, by its exact name.
    fn table(&self, name: &str) -> Option<Table>;

    /// The names of all tables.
    fn names(&self) -> Vec<String>;
}

/// A table of a catalog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::query) struct Table {
    /// Exact names, in their order: of a stream the system columns first.
    pub(in crate::query) columns: Vec<String>,
    /// Whether rows are added as time passes. Other tables are read completely whenever a statement needs them.
    pub(in crate::query) kind: TableKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::query) enum TableKind {
    /// A stream, and the column of its schema that is its event time, if there is one.
    Stream { event_time: Option<String> },
    /// A file, for example.
    Fixed,
}

/// The tables of a catalog and the streams that a program declares.
pub(super) struct Names<'a> {
    pub(super) tables: &'a dyn Tables,
    /// The own columns of each declared stream.
    pub(super) declared: BTreeMap<String, Vec<String>>,
}

impl Names<'_> {
    /// The table that an identifier names.
    pub(super) fn find(&self, ident: &Ident) -> Option<(String, Table)> {
        let wanted = name(ident);
        if let Some(table) = self.exact(&wanted) {
            return Some((wanted, table));
        }
        let names = self.names();
        let found = find_in(&names, ident)?;
        Some((found.to_owned(), self.exact(found)?))
    }

    fn exact(&self, name: &str) -> Option<Table> {
        let declared = self.declared.get(name).map(|own| {
            let columns = SYSTEM.iter().map(|&column| column.to_owned()).chain(own.iter().cloned()).collect();
            Table { columns, kind: TableKind::Stream { event_time: None } }
        });
        declared.or_else(|| self.tables.table(name))
    }

    pub(super) fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = self.declared.keys().cloned().chain(self.tables.names()).collect();
        names.sort();
        names.dedup();
        names
    }
}
