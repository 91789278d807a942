//! Access to the private parts of the gateway for the fuzz targets, compiled only for them.

mod auth;
mod body;
mod requests;
mod token;

pub use auth::{policy, signature};
pub use body::body;
pub use requests::Requests;
pub use token::token;
