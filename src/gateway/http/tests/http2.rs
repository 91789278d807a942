//! Clients that speak HTTP/2, honest and otherwise.

use super::*;
