//! The server: connections, their limits and their time limits, for HTTP/1.1 and HTTP/2, with and without TLS.

mod message;

pub(super) use message::{Answer, Body, Request, Service};
