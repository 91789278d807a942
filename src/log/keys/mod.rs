//! The keys of a stream: data keys, unwrapped when they are first needed, and from each of them a key for each segment.

#[cfg(feature = "encryption")]
pub(crate) mod key_file;
pub(crate) mod segment_key;

use std::path::Path;
use std::sync::Arc;

use parking_lot::RwLock;

use super::sys::random;
use super::sys::root::OwnPath;
use super::types::error::{Error, Result};
use super::types::keys::{DataKey, KeyError, KeyList, KeyProvider, UnavailableKey, WrappedKey};
use super::types::options::Encryption;

use segment_key::{Encryptor, SegmentKey, SegmentName};

/// The keys of a stream.
#[derive(Debug)]
pub(crate) struct Keys {
    stream_dir: OwnPath,
    /// Wraps and unwraps them. Without it, what is encrypted cannot be read.
    provider: Option<Arc<dyn KeyProvider>>,
    known: RwLock<Known>,
}

/// The keys that the manifest lists.
#[derive(Debug, Default)]
struct Known {
    list: KeyList,
    /// Those that were unwrapped.
    unwrapped: Vec<Option<DataKey>>,
}

impl Keys {
    pub(crate) fn new(stream_dir: &OwnPath, provider: Option<Arc<dyn KeyProvider>>, list: KeyList) -> Self {
        let keys = Self { stream_dir: stream_dir.clone(), provider, known: RwLock::default() };
        keys.set_list(list);
        keys
    }

    /// Returns the provider that wraps and unwraps the keys.
    pub(crate) fn provider(&self) -> Option<&Arc<dyn KeyProvider>> {
        self.provider.as_ref()
    }

    /// Takes over the list of a newer manifest. Keys are only ever added to it, unless somebody has restored an older one.
    pub(crate) fn set_list(&self, list: KeyList) {
        let mut known = self.known.write();
        let kept = known.list.keys.iter().zip(&list.keys).take_while(|(old, new)| old == new).count();
        known.unwrapped.truncate(kept);
        known.unwrapped.resize_with(list.keys.len(), || None);
        known.list = list;
    }

    /// Returns whether new records are encrypted.
    pub(crate) fn is_on(&self) -> bool {
        self.known.read().list.is_on
    }

    /// Returns the list that the stream has from this opening on.
    pub(crate) fn adopt(&self, asked: Option<&Encryption>) -> Result<KeyList> {
        let mut list = self.known.read().list.clone();
        match asked {
            None | Some(Encryption::Kept(_)) => {}
            Some(Encryption::Off(_)) => list.is_on = false,
            Some(Encryption::On(_)) => {
                // A wrong key is noticed now, and not by the first reader.
                if let Some(last) = list.keys.len().checked_sub(1) {
                    self.unwrapped(last as u32)?;
                }
                if !list.is_on {
                    list = self.with_new_key(list)?;
                }
            }
        }
        Ok(list)
    }

    /// Returns the list with a new key, which encrypts new records once the manifest lists it.
    pub(crate) fn rotated(&self) -> Result<KeyList> {
        self.check_can_encrypt()?;
        self.with_new_key(self.known.read().list.clone())
    }

    /// Returns the list with which new records stay plain.
    pub(crate) fn switched_off(&self) -> KeyList {
        KeyList { is_on: false, ..self.known.read().list.clone() }
    }

    fn with_new_key(&self, mut list: KeyList) -> Result<KeyList> {
        let number = list.keys.len() as u32;
        let provider = self.provider.as_ref().ok_or_else(|| self.unavailable(number, "", NO_PROVIDER))?;
        if list.keys.is_empty() {
            list.stream_id = self.random()?;
        }
        let key = DataKey::new(self.random()?);
        let refused = |error: KeyError| self.unavailable(number, "", format!("it was not wrapped: {error}"));
        list.keys.push(provider.wrap(&key, &list.stream_id).map_err(refused)?);
        list.is_on = true;
        Ok(list)
    }

    /// Returns what is needed to encrypt the frames of a segment from now on, or `None` if they stay plain.
    ///
    /// A put that began before encryption was switched off may still come with a frame to encrypt. So a key that is at hand stays in use.
    pub(crate) fn to_encrypt(&self) -> Result<Option<SegmentSecrets>> {
        let (number, stream_id) = {
            let Known { list, unwrapped } = &*self.known.read();
            let at_hand = unwrapped.len().checked_sub(1).filter(|last| unwrapped[*last].is_some());
            let Some(number) = list.current().or(at_hand.map(|last| last as u32)) else { return Ok(None) };
            (number, list.stream_id)
        };
        let data_key = self.unwrapped(number)?;
        Ok(Some(SegmentSecrets { number, data_key, stream_id, random: self.random()? }))
    }

    fn random<const COUNT: usize>(&self) -> Result<[u8; COUNT]> {
        let path: &Path = &self.stream_dir;
        random::bytes().map_err(|error| Error::io("get random bytes for", path, error))
    }

    /// Returns whether a data key is listed.
    pub(crate) fn lists(&self, number: u32) -> bool {
        (number as usize) < self.known.read().list.keys.len()
    }

    /// Returns the key that a data key gives for a segment.
    pub(crate) fn segment_key(&self, number: u32, segment: &SegmentName<'_>) -> Result<SegmentKey> {
        let data_key = self.unwrapped(number)?;
        let stream_id = self.known.read().list.stream_id;
        Ok(SegmentKey::derive(&data_key, &stream_id, segment))
    }

    fn unwrapped(&self, number: u32) -> Result<DataKey> {
        let known = self.known.read();
        let at = number as usize;
        if let Some(Some(key)) = known.unwrapped.get(at) {
            return Ok(key.clone());
        }
        let stream_id = known.list.stream_id;
        let Some(wrapped) = known.list.keys.get(at).cloned() else {
            return Err(self.unavailable(number, "", "the manifest does not list it: restore manifest.json"));
        };
        // A provider may be slow, and several threads may call it at the same time.
        drop(known);
        let key = self.unwrap(number, &wrapped, &stream_id)?;
        if let Some(place) = self.known.write().unwrapped.get_mut(at) {
            *place = Some(key.clone());
        }
        Ok(key)
    }

    fn unwrap(&self, number: u32, wrapped: &WrappedKey, stream_id: &[u8]) -> Result<DataKey> {
        let WrappedKey { key_id, .. } = wrapped;
        let provider = self.provider.as_ref().ok_or_else(|| self.unavailable(number, key_id, NO_PROVIDER))?;
        let refused =
            |error: KeyError| self.unavailable(number, key_id, format!("it was not unwrapped: {error}"));
        provider.unwrap(wrapped, stream_id).map_err(refused)
    }

    /// Fails if new records are to be encrypted and the key cannot be unwrapped.
    pub(crate) fn check_can_encrypt(&self) -> Result<()> {
        let current = self.known.read().list.current();
        current.map_or(Ok(()), |number| self.unwrapped(number).map(drop))
    }

    /// Returns the error of a put that was to be encrypted by an opening without the key.
    pub(crate) fn locked(&self) -> Error {
        let number = self.known.read().list.current().unwrap_or_default();
        self.check_can_encrypt().err().unwrap_or_else(|| self.unavailable(number, "", NO_PROVIDER))
    }

    #[cold]
    fn unavailable(&self, data_key: u32, key_id: &str, reason: impl Into<String>) -> Error {
        let (path, key_id, reason) = (self.stream_dir.to_path_buf(), key_id.to_owned(), reason.into());
        Error::KeyUnavailable(Box::new(UnavailableKey { path, key_id, data_key, reason }))
    }
}

/// What is needed to encrypt the frames of a segment.
#[derive(Debug)]
pub(crate) struct SegmentSecrets {
    number: u32,
    data_key: DataKey,
    stream_id: [u8; 16],
    random: [u8; 8],
}

impl SegmentSecrets {
    /// Returns what encrypts the frames of this segment. It is made once for each segment that is begun or continued.
    pub(crate) fn encryptor(self, segment: &SegmentName<'_>) -> Encryptor {
        let key = SegmentKey::derive(&self.data_key, &self.stream_id, segment);
        Encryptor::new(key, self.number, self.random)
    }
}

#[cfg(not(feature = "encryption"))]
const NO_PROVIDER: &str = "build with the cargo feature `encryption`, and open the stream with the keys";
#[cfg(feature = "encryption")]
const NO_PROVIDER: &str = "open the stream with the keys: StreamOptions::encryption, or --key-file";
