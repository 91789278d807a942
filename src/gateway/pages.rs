//! The answers to `GET`: the pages for monitoring, and the console.

use hyper::StatusCode;

use super::console;
use super::front::{Door, Front, whole};
use super::http::{Answer, Request};

impl Front {
    /// Returns a page for monitoring, or a file of the console.
    pub(super) fn page(&self, request: &Request) -> Option<Answer> {
        match request.uri.path() {
            "/health" => Some(match self.service.catalogue.names() {
                Ok(_) => whole(StatusCode::OK, "text/plain", "ok\n"),
                Err(_) => whole(StatusCode::SERVICE_UNAVAILABLE, "text/plain", "the store cannot be read\n"),
            }),
            "/metrics" => {
                let text = self.watch.prometheus(&self.service);
                Some(whole(StatusCode::OK, "text/plain; version=0.0.4", text))
            }
            "/console/server.json" => {
                let region = &self.service.account().region;
                let needs_key = matches!(self.door, Door::Keys(_));
                let limits = self.service.catalogue.behaviour().limits;
                #[cfg(feature = "sql")]
                let has_sql = self.service.sql.is_on();
                #[cfg(not(feature = "sql"))]
                let has_sql = false;
                Some(console::server(region, needs_key, has_sql, limits))
            }
            path => console::file(path, &request.headers),
        }
    }
}
