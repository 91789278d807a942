//! The server: connections, their limits and their time limits, for HTTP/1.1 and HTTP/2, with and without TLS.

mod activity;
mod body;
mod connection;
mod counts;
mod exchange;
mod memory;
mod message;
mod preface;
mod server;
mod settings;
mod socket;
mod tls;

pub(super) use counts::Counts;
pub(super) use message::{Answer, Answering, Body, Request, Service};
#[cfg(any(test, feature = "video"))]
pub(super) use message::{Piece, Pieces};
pub(super) use server::{Running, Server};
pub(super) use settings::Settings;
pub(super) use tls::{Certificate, CertificateSource};

#[cfg(test)]
mod tests;
