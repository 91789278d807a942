//! From records to the columns of a table.
