//! Manifests: a file beside each object that says where the object is, for tools that load objects into a database.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::prefix;
use super::sink::Object;

/// Where the manifests are, and the objects that they name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Manifests {
    prefix: String,
    /// Ends with a slash.
    url: String,
}

impl Manifests {
    pub(super) fn new(prefix: String, mut url: String) -> Self {
        if !url.ends_with('/') {
            url.push('/');
        }
        Self { prefix, url }
    }

    /// Checks the settings. The error is a sentence for the caller.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.prefix.is_empty() || self.prefix.contains("!{") {
            return Err("the prefix of manifests must be a text without expressions".into());
        }
        prefix::check_text(&self.prefix)?;
        match self.url.split_once("://") {
            Some((scheme, rest)) if !scheme.is_empty() && rest.len() > 1 => Ok(()),
            _ => Err(format!("{:?} is no URL of a place with objects", self.url)),
        }
    }

    /// Returns the manifest of an object, as Redshift reads it. It is the same each time.
    pub(super) fn of(&self, object: &Object) -> Object {
        let url = format!("{}{}", self.url, object.name);
        let meta = json!({ "content_length": object.bytes.len() });
        let manifest = json!({ "entries": [{ "url": url, "mandatory": true, "meta": meta }] });
        Object {
            name: format!("{}{}.manifest", self.prefix, object.name),
            id: format!("{}-manifest", object.id),
            content_type: "application/json",
            content_encoding: None,
            bytes: Bytes::from(manifest.to_string()),
            body: None,
            origins: vec![],
            ..object.clone()
        }
    }
}
