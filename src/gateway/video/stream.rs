//! A video stream of the gateway: its definition, and its fragments.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};

use super::fault;
use crate::Timestamp;
use crate::gateway::catalogue::Behaviour;
use crate::gateway::fault::{Answered, Fault};
use crate::video::VideoStream;

/// The property of a stream that holds a definition.
pub(super) const PROPERTY: &str = "kinesis-video";

/// The settings of a video stream in Kinesis that the log lacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::gateway) struct Definition {
    /// Changes with each change. Clients send it to identify the definition that they have seen.
    pub(in crate::gateway) version: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::gateway) device: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::gateway) media_type: Option<String>,
    /// The key of the encryption, as the caller named it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::gateway) key: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(in crate::gateway) tags: BTreeMap<String, String>,
}

impl Definition {
    /// Returns a version that no definition has had.
    pub(in crate::gateway) fn new_version() -> Answered<String> {
        let mut bytes = [0; 10];
        SystemRandom::new().fill(&mut bytes).map_err(|_| Fault::internal())?;
        Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    pub(super) fn to_text(&self) -> String {
        serde_json::to_string(self).expect("texts and maps of texts can be written")
    }
}

/// A video stream that is open.
#[derive(Debug)]
pub(in crate::gateway) struct KnownVideo {
    pub(in crate::gateway) name: String,
    pub(in crate::gateway) arn: String,
    pub(in crate::gateway) created: Timestamp,
    pub(in crate::gateway) stream: VideoStream,
    /// Replaced as a whole, so that readers do not hold up a change.
    definition: RwLock<Arc<Definition>>,
    /// Locked while the definition changes.
    changes: Mutex<()>,
}

impl KnownVideo {
    pub(super) fn load(name: &str, stream: VideoStream, behaviour: &Behaviour) -> Answered<Self> {
        let description = stream.reader().describe();
        let text = description.properties.get(PROPERTY);
        let definition = text.and_then(|text| serde_json::from_str::<Definition>(text).ok());
        let Some(definition) = definition else {
            tracing::error!(name, "the definition of a video stream cannot be read");
            return Err(Fault::internal());
        };
        let created = Timestamp::from_millis(description.created_at.as_millis());
        Ok(Self {
            name: name.to_owned(),
            arn: behaviour.account.video_stream_arn(name, created),
            created,
            stream,
            definition: RwLock::new(Arc::new(definition)),
            changes: Mutex::default(),
        })
    }

    /// Returns the current definition.
    pub(in crate::gateway) fn definition(&self) -> Arc<Definition> {
        Arc::clone(&self.definition.read())
    }

    /// Changes the definition. If a version is given, it must be the current one.
    pub(in crate::gateway) fn change(
        &self,
        version: Option<&str>,
        change: impl FnOnce(&mut Definition) -> Answered<()>,
    ) -> Answered<()> {
        let _alone = self.changes.lock();
        let mut definition = (*self.definition()).clone();
        self.check_version(&definition, version)?;
        change(&mut definition)?;
        if version.is_some() {
            definition.version = Definition::new_version()?;
        }
        let text = definition.to_text();
        self.stream.set_property(PROPERTY, Some(&text)).map_err(|error| fault(&error))?;
        *self.definition.write() = Arc::new(definition);
        Ok(())
    }

    pub(in crate::gateway) fn check_version(
        &self,
        definition: &Definition,
        version: Option<&str>,
    ) -> Answered<()> {
        match version {
            Some(version) if version != definition.version => Err(Fault::version_mismatch(format!(
                "The version {version} is not the current one of stream {}: describe the stream, and try again.",
                self.name
            ))),
            _ => Ok(()),
        }
    }
}
