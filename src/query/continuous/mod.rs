//! Continuous queries: statements that run until they are closed.

mod columns;
mod keyed;
mod keys;
#[cfg(test)]
mod model;
mod operator;
mod over;
mod panes;
mod pile;
mod sessions;
mod sides;
mod stagger;
mod store;
