//! What processors of records from elsewhere share, whatever elsewhere is: the spools of their shards, and their counts.

pub(super) mod spool;
pub(super) mod totals;
