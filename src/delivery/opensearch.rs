//! OpenSearch and Elasticsearch, by their bulk API.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::http::{Answer, Client, invalid};
use super::json;
use super::sink::{Object, Sink, SinkError, no_rows};
use crate::Result;

/// An index of OpenSearch or Elasticsearch, in which each row becomes a document.
///
/// Rows are JSON objects. Each delivered object is one request to `_bulk`. The id of a document is the [id of the object](Object::id), a hyphen and
/// the number of the row in it, so a repeated request replaces its own documents: each row is there exactly once, unless the delivery starts from
/// scratch.
///
/// If the index temporarily rejects some of the rows (429, or 500 and above), the whole request is retried. Rows with any other error and rows that
/// are not JSON objects can never be delivered: they alone go to the error output immediately. After all other failures, the object goes there after
/// the [retry duration](super::DeliveryOptions::retry_duration), under the word `AmazonOpenSearchService-failed`. Requests are not signed. AWS' own
/// service requires signatures where it checks IAM policies, but it also accepts a name and a password.
///
/// ```no_run
/// use streamlog::Stream;
/// use streamlog::delivery::{Directory, OpenSearchBulk};
///
/// let stream = Stream::open("clicks")?;
/// let search = OpenSearchBulk::new("https://search.example.com:9200", "clicks")?
///     .password("writer", std::env::var("SEARCH_PASSWORD")?)?;
/// let delivery =
///     stream.delivery("search").to(search).errors_to(Directory::new("not-delivered")).start()?;
/// # delivery.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct OpenSearchBulk {
    client: Client,
    path: String,
}

impl fmt::Debug for OpenSearchBulk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenSearchBulk").field("client", &self.client).field("path", &self.path).finish()
    }
}

impl OpenSearchBulk {
    /// Delivers to an index of the cluster at this URL.
    ///
    /// # Errors
    /// `InvalidArgument` if it is not an HTTP or HTTPS URL, or if the index has characters other than lowercase letters, digits, `-`, `_` and `.`,
    /// or begins with one of these three.
    pub fn new(url: &str, index: &str) -> Result<Self> {
        let is_valid =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
        if index.is_empty() || index.starts_with(['-', '_', '.']) || !index.bytes().all(is_valid) {
            return Err(invalid(format!("no index is called {index:?}: small letters, digits, - _ .")));
        }
        Ok(Self { client: Client::new(url.trim_end_matches('/'))?, path: format!("/{index}/_bulk") })
    }

    /// Sets a user name and its password.
    ///
    /// # Errors
    /// `InvalidArgument` if there is a colon in the name.
    pub fn password(self, name: impl AsRef<str>, password: impl AsRef<str>) -> Result<Self> {
        let (name, password) = (name.as_ref(), password.as_ref());
        if name.contains(':') {
            return Err(invalid("a name must not have a colon"));
        }
        self.authorization(format!("Basic {}", STANDARD.encode(format!("{name}:{password}"))))
    }

    /// Sets the header `Authorization`, such as `ApiKey …`. Errors and `Debug` never show it.
    ///
    /// # Errors
    /// `InvalidArgument` if it has characters that are not allowed in a header.
    pub fn authorization(mut self, value: impl AsRef<str>) -> Result<Self> {
        self.client = self.client.with_secret("the authorization", value.as_ref())?;
        Ok(self)
    }

    /// Sets the trusted certificates, in PEM: those of authorities, or that of the server itself. No others are then trusted. Default: the
    /// authorities that Mozilla trusts.
    ///
    /// # Errors
    /// `InvalidArgument` if it contains no certificate, or anything else, such as a key.
    pub fn root_certificates(mut self, pem: impl AsRef<[u8]>) -> Result<Self> {
        self.client = self.client.with_root_certificates(pem.as_ref())?;
        Ok(self)
    }

    /// Returns which of the sent rows the index will never accept, and why.
    fn judge(&self, answer: &Answer, sent: &[usize]) -> std::result::Result<(Vec<usize>, String), SinkError> {
        let json = answer.json();
        if answer.status != 200 {
            let reason = reason_of(&json["error"]);
            let complaint = self.client.complaint(&format!("answered {}", answer.status), &reason);
            let is_permanent = answer.status == 413;
            return Err(if is_permanent {
                SinkError::permanent(complaint)
            } else {
                SinkError::temporary(complaint)
            });
        }
        let items = json["items"].as_array().filter(|items| items.len() == sent.len());
        let Some(items) = items else {
            return Err(SinkError::temporary(
                self.client.complaint("answered with other than one item for each row", ""),
            ));
        };
        let (mut rejected, mut why) = (vec![], String::new());
        for (item, &row) in items.iter().zip(sent) {
            let item = &item["index"];
            match item["status"].as_u64() {
                Some(200..300) => {}
                Some(status @ (400..=428 | 430..=499)) => {
                    if why.is_empty() {
                        let reason = format!("refused a row with {status}");
                        why = self.client.complaint(&reason, &reason_of(&item["error"]));
                    }
                    rejected.push(row);
                }
                status => {
                    let status = status.map_or("no status".into(), |status| status.to_string());
                    let reason = format!("answered {status} for a row");
                    let complaint = self.client.complaint(&reason, &reason_of(&item["error"]));
                    return Err(SinkError::temporary(complaint));
                }
            }
        }
        Ok((rejected, why))
    }
}

fn reason_of(error: &Value) -> String {
    match (error["type"].as_str(), error["reason"].as_str()) {
        (Some(kind), Some(reason)) => format!("{kind}: {reason}"),
        _ => error.as_str().unwrap_or_default().to_owned(),
    }
}

/// Adds a row as a document on one line. Returns false if it is no JSON object.
fn push_document(id: &str, row: &[u8], to: &mut Vec<u8>) -> bool {
    if !row.trim_ascii_start().starts_with(b"{") || json::check(row).is_err() {
        return false;
    }
    let action = serde_json::json!({ "index": { "_id": id } });
    to.extend_from_slice(action.to_string().as_bytes());
    to.push(b'\n');
    // Between JSON tokens, a line end is whitespace; inside tokens there is none.
    to.extend(row.iter().map(|&byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte }));
    to.push(b'\n');
    true
}

impl Sink for OpenSearchBulk {
    fn put(&self, object: &Object) -> std::result::Result<(), SinkError> {
        if object.rows().next().is_none() {
            return Err(no_rows("OpenSearch"));
        }
        let (mut body, mut sent, mut rejected) = (vec![], vec![], vec![]);
        for (index, row) in object.rows().enumerate() {
            match push_document(&format!("{}-{index}", object.id()), row, &mut body) {
                true => sent.push(index),
                false => rejected.push(index),
            }
        }
        let mut why = "it is no JSON object".to_owned();
        if !sent.is_empty() {
            let mut headers = vec![("Content-Type", "application/x-ndjson")];
            headers.extend(self.client.secret().map(|value| ("Authorization", value)));
            let answer = self.client.post(&self.path, &headers, &body)?;
            let (refused, reason) = self.judge(&answer, &sent)?;
            if !refused.is_empty() {
                why = if rejected.is_empty() { reason } else { format!("{why}, or {reason}") };
                rejected.extend(refused);
            }
        }
        match rejected.is_empty() {
            true => Ok(()),
            false => Err(SinkError::rejected(why, rejected)),
        }
    }

    fn wants_rows(&self) -> bool {
        true
    }

    fn error_output_type(&self) -> Option<&'static str> {
        Some("AmazonOpenSearchService-failed")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l5_a_row_that_would_spoil_the_request_of_the_others_is_no_document() {
        let mut body = vec![];
        assert!(push_document("1", b" {\"page\":\n\"/cart\"}", &mut body));
        assert_eq!(body, b"{\"index\":{\"_id\":\"1\"}}\n {\"page\": \"/cart\"}\n");
        for row in
            [&b"{\"page\":\"\xff\"}"[..], b"{\"page\":\"\\ud800\"}", b"{\"page\":1}}", b"[1]", b"1", b""]
        {
            assert!(!push_document("2", row, &mut body), "{row:?}");
        }
        assert_eq!(body.iter().filter(|&&byte| byte == b'\n').count(), 2);
    }
}
