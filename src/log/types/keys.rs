//! The keys that encrypt a stream, and the providers of the keys that wrap them.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// The size of a key of AES-256.
pub(crate) const KEY_BYTES: usize = 32;

/// Wraps and unwraps the data keys of streams: a key management service, a hardware module, or a `KeyFile`.
///
/// The wrapping keys never leave it. A stream has one data key at a time, and a new one after each
/// [`rotate_key`](crate::Stream::rotate_key). It stores the wrapped data keys, each with the name of its wrapping key. It unwraps each of
/// them at most once while it is open, and never during a put.
///
/// Both calls get a `context`, which identifies the stream. A provider should authenticate it, so that a wrapped key cannot be moved to
/// another stream. KMS calls it the encryption context; others call it additional authenticated data.
///
/// ```
/// # #[cfg(feature = "encryption")] {
/// # use streamlog::{DataKey, KeyError, KeyProvider, StreamOptions, WrappedKey};
/// /// Wraps by adding a secret to each byte. Do not do this: it is no encryption.
/// #[derive(Debug)]
/// struct Toy(u8);
///
/// impl KeyProvider for Toy {
///     fn wrap(&self, key: &DataKey, _context: &[u8]) -> Result<WrappedKey, KeyError> {
///         let bytes = key.as_bytes().iter().map(|byte| byte.wrapping_add(self.0)).collect();
///         Ok(WrappedKey { key_id: "toy".to_owned(), bytes })
///     }
///
///     fn unwrap(&self, wrapped: &WrappedKey, _context: &[u8]) -> Result<DataKey, KeyError> {
///         let bytes: Vec<u8> = wrapped.bytes.iter().map(|byte| byte.wrapping_sub(self.0)).collect();
///         Ok(DataKey::new(bytes.try_into().map_err(|_| "a wrapped key has 32 bytes")?))
///     }
/// }
///
/// # let directory = tempfile::tempdir()?;
/// let stream = StreamOptions::new().encryption(Toy(7)).open(directory.path())?;
/// stream.put("user-17", "clicked")?;
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait KeyProvider: fmt::Debug + Send + Sync {
    /// Wraps a new data key with the key that is in use now.
    ///
    /// # Errors
    /// Any: the call that needed the key fails with [`Error::KeyUnavailable`](crate::Error::KeyUnavailable), which passes it on.
    fn wrap(&self, key: &DataKey, context: &[u8]) -> Result<WrappedKey, KeyError>;

    /// Unwraps a data key that was wrapped with the same context, perhaps with a key that is no longer in use.
    ///
    /// # Errors
    /// Any: the call that needed the key fails with [`Error::KeyUnavailable`](crate::Error::KeyUnavailable), which passes it on.
    fn unwrap(&self, wrapped: &WrappedKey, context: &[u8]) -> Result<DataKey, KeyError>;
}

/// The reason why a [`KeyProvider`] does not wrap or unwrap a key.
pub type KeyError = Box<dyn std::error::Error + Send + Sync>;

impl<P: KeyProvider + ?Sized> KeyProvider for Arc<P> {
    fn wrap(&self, key: &DataKey, context: &[u8]) -> Result<WrappedKey, KeyError> {
        (**self).wrap(key, context)
    }

    fn unwrap(&self, wrapped: &WrappedKey, context: &[u8]) -> Result<DataKey, KeyError> {
        (**self).unwrap(wrapped, context)
    }
}

/// A key that encrypts records. It is wiped from memory when it is dropped.
///
/// ```
/// # use streamlog::DataKey;
/// let key = DataKey::new([7; 32]);
/// assert_eq!(format!("{key:?}"), "DataKey(..)");
/// ```
#[derive(Clone)]
pub struct DataKey([u8; KEY_BYTES]);

impl DataKey {
    /// Returns the key with these bytes.
    pub fn new(bytes: [u8; KEY_BYTES]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes of the key.
    pub fn as_bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }
}

#[cfg(feature = "encryption")]
impl Drop for DataKey {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.0);
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataKey(..)")
    }
}

/// A data key as its stream keeps it: encrypted by a [`KeyProvider`].
///
/// ```
/// # use streamlog::WrappedKey;
/// let wrapped = WrappedKey { key_id: "alias/clicks".to_owned(), bytes: vec![1, 2, 3] };
/// println!("{wrapped:?}");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrappedKey {
    /// The name of the wrapping key, for the provider and for people.
    pub key_id: String,
    /// The encrypted key.
    pub bytes: Vec<u8>,
}

/// The key that encrypts new records. [`StreamDescription`](crate::StreamDescription) contains it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct EncryptionDescription {
    /// The number of the data key. The first one of a stream has the number 0.
    pub data_key: u32,
    /// The name of the provider's key that wraps it.
    pub key_id: String,
}

/// The details of [`Error::KeyUnavailable`](crate::Error::KeyUnavailable).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is needed for {} (data key {data_key}): {reason}", self.name(), .path.display())]
#[non_exhaustive]
pub struct UnavailableKey {
    /// The stream's directory.
    pub path: PathBuf,
    /// The name of the provider's key, or empty if there is none.
    pub key_id: String,
    /// The number of the data key.
    pub data_key: u32,
    /// Why the key is unavailable, and what to do.
    pub reason: String,
}

impl UnavailableKey {
    fn name(&self) -> String {
        if self.key_id.is_empty() { "a key".to_owned() } else { format!("the key {}", self.key_id) }
    }
}

/// The data keys of a stream, as its manifest lists them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct KeyList {
    /// Names the stream, also in copies of it. All zeros as long as there are no keys.
    pub(crate) stream_id: [u8; 16],
    /// Whether new records are encrypted, with the last key.
    pub(crate) is_on: bool,
    /// The data keys by their numbers, from 0 on.
    pub(crate) keys: Vec<WrappedKey>,
}

impl KeyList {
    /// Returns the number of the key that encrypts new records, unless they stay plain.
    pub(crate) fn current(&self) -> Option<u32> {
        self.is_on.then(|| self.keys.len().checked_sub(1)).flatten().map(|last| last as u32)
    }

    /// Describes the key that encrypts new records.
    pub(crate) fn describe(&self) -> Option<EncryptionDescription> {
        let data_key = self.current()?;
        Some(EncryptionDescription { data_key, key_id: self.keys[data_key as usize].key_id.clone() })
    }
}
