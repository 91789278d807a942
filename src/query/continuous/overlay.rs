//! The tables of a pump, in front of those of its catalog.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, CatalogProviderList, SchemaProvider, TableProvider};
use datafusion::error::Result;
use parking_lot::Mutex;

/// Tables with names of their own, in front of others. It is all three levels of what DataFusion calls a catalog.
#[derive(Debug, Clone)]
pub(super) struct Overlay {
    own: Arc<Mutex<BTreeMap<String, Arc<dyn TableProvider>>>>,
    /// The names of the levels.
    catalog: String,
    schema: String,
    others: Option<Arc<dyn SchemaProvider>>,
}

impl Overlay {
    /// Puts tables in front of those in a schema of a catalog.
    pub(super) fn new(list: &Arc<dyn CatalogProviderList>, catalog: &str, schema: &str) -> Self {
        let others = list.catalog(catalog).and_then(|found| found.schema(schema));
        Self { own: Arc::default(), catalog: catalog.to_owned(), schema: schema.to_owned(), others }
    }

    /// Adds a table, replacing one of the same name.
    pub(super) fn set(&self, name: &str, table: Arc<dyn TableProvider>) {
        self.own.lock().insert(name.to_owned(), table);
    }

    /// Returns the current table of this name behind its own tables.
    pub(super) async fn behind(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        match &self.others {
            Some(others) => others.table(name).await,
            None => Ok(None),
        }
    }

    /// Returns whether a table is its own.
    pub(super) fn has(&self, name: &str) -> bool {
        self.own.lock().contains_key(name)
    }
}

impl CatalogProviderList for Overlay {
    fn register_catalog(
        &self,
        _name: String,
        _catalog: Arc<dyn CatalogProvider>,
    ) -> Option<Arc<dyn CatalogProvider>> {
        None
    }

    fn catalog_names(&self) -> Vec<String> {
        vec![self.catalog.clone()]
    }

    fn catalog(&self, name: &str) -> Option<Arc<dyn CatalogProvider>> {
        (name == self.catalog).then(|| Arc::new(self.clone()) as _)
    }
}

impl CatalogProvider for Overlay {
    fn schema_names(&self) -> Vec<String> {
        vec![self.schema.clone()]
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        (name == self.schema).then(|| Arc::new(self.clone()) as _)
    }
}

#[async_trait]
impl SchemaProvider for Overlay {
    fn table_names(&self) -> Vec<String> {
        let others = self.others.iter().flat_map(|others| others.table_names());
        self.own.lock().keys().cloned().chain(others).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let own = self.own.lock().get(name).cloned();
        if own.is_some() { Ok(own) } else { self.behind(name).await }
    }

    fn table_exist(&self, name: &str) -> bool {
        self.has(name) || self.others.as_ref().is_some_and(|others| others.table_exist(name))
    }
}
