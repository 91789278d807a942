//! Matroska: cutting what a producer sends into fragments, and writing what a consumer gets.

pub(crate) mod cut;
pub(crate) mod element;
pub(crate) mod header;
pub(crate) mod ids;
mod timing;
pub(crate) mod write;
