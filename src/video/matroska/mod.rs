//! Matroska: cutting what a producer sends into fragments, writing what a consumer gets, and reading a fragment.

pub(crate) mod cut;
pub(crate) mod element;
pub(crate) mod header;
pub(crate) mod ids;
pub(crate) mod parse;
mod timing;
pub(crate) mod write;
