//! The columns that the data of a record has.
