//! The tables of a catalog as one run of a statement sees them.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, CatalogProviderList, SchemaProvider, TableProvider};
use datafusion::error::{DataFusionError, Result};

use super::files::FileTable;
use super::run::Run;
use super::table::{StreamSource, StreamTable};

/// Names that statements do not have to write.
pub(super) const CATALOG: &str = "streamlog";
pub(super) const SCHEMA: &str = "public";

/// A table of a catalog.
#[derive(Debug, Clone)]
pub(super) enum Table {
    Stream(Arc<StreamSource>),
    File(Arc<FileTable>),
}

/// The tables for one run. It is all three levels of what DataFusion calls a catalog.
#[derive(Debug, Clone)]
pub(super) struct Tables {
    pub(super) tables: Arc<BTreeMap<String, Table>>,
    pub(super) run: Arc<Run>,
}

impl CatalogProviderList for Tables {
    fn register_catalog(
        &self,
        _name: String,
        _catalog: Arc<dyn CatalogProvider>,
    ) -> Option<Arc<dyn CatalogProvider>> {
        None
    }

    fn catalog_names(&self) -> Vec<String> {
        vec![CATALOG.to_owned()]
    }

    fn catalog(&self, name: &str) -> Option<Arc<dyn CatalogProvider>> {
        (name == CATALOG).then(|| Arc::new(self.clone()) as _)
    }
}

impl CatalogProvider for Tables {
    fn schema_names(&self) -> Vec<String> {
        vec![SCHEMA.to_owned()]
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        (name == SCHEMA).then(|| Arc::new(self.clone()) as _)
    }
}

#[async_trait]
impl SchemaProvider for Tables {
    fn table_names(&self) -> Vec<String> {
        self.tables.keys().cloned().collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let Some(table) = self.tables.get(name) else { return Ok(None) };
        Ok(Some(match table {
            Table::Stream(source) => {
                // It reads where the shards end, which may ask the operating system.
                let table = tokio::task::block_in_place(|| StreamTable::new(source, &self.run));
                Arc::new(table.map_err(|error| DataFusionError::External(Box::new(error)))?)
            }
            Table::File(file) => {
                file.check().map_err(|error| DataFusionError::External(Box::new(error)))?;
                Arc::clone(&file.provider)
            }
        }))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.tables.contains_key(name)
    }
}
