//! Matroska: cutting a producer's data into fragments, writing the output for consumers, and parsing a fragment.

pub(crate) mod cut;
pub(crate) mod element;
pub(crate) mod header;
pub(crate) mod ids;
pub(crate) mod parse;
mod timing;
pub(crate) mod write;
