//! From the text of a statement to what a pump does.

pub(super) mod plan;
