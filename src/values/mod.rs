//! What columns of Parquet and of SQL have in common: which texts are values of which type, and which type holds the values of samples.

pub(crate) mod moment;
mod sample;
pub(crate) mod scalar;

pub(crate) use sample::{Sampled, sample_members};

/// How deep the types of columns may be nested.
pub(crate) const TYPE_DEPTH_MAX: usize = 10;
/// The bytes of a value that a reason shows.
const FOUND_BYTES_MAX: usize = 100;

/// Returns the beginning of a value that does not fit, for the reason, and what stands for the rest of it.
pub(crate) fn shorten(found: &str) -> (&str, &'static str) {
    let mut ends = (0..=FOUND_BYTES_MAX.min(found.len())).rev();
    let end = ends.find(|&end| found.is_char_boundary(end)).unwrap_or_default();
    (&found[..end], if end < found.len() { "…" } else { "" })
}
