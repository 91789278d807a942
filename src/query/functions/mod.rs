//! Functions that SQL has here and DataFusion has not.

use datafusion::prelude::SessionContext;

/// Adds all functions to a session.
pub(super) fn register(session: &SessionContext) {
    let _ = session;
}
