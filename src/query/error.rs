//! Why a statement cannot be run.
