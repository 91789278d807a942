//! The tables that statements may name.
