//! The threads that queries run on.
