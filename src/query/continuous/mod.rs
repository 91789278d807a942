//! Continuous queries: statements that run until they are closed.
