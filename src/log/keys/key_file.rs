//! A file of keys, which wraps the data keys of streams.

use std::fmt;
use std::path::{Path, PathBuf};

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::Zeroizing;

use crate::log::sys::wipe::Wiped;
use crate::log::sys::{random, secret_file};
use crate::log::types::error::{Error, Result};
use crate::log::types::hex;
use crate::log::types::keys::{DataKey, KeyError, KeyProvider, WrappedKey};

const HEADING: &str = "# Keys of streamlog, the newest last. Whoever can read this file can read what is encrypted with them.\n";

/// A file of keys that only its owner may read: the built-in [`KeyProvider`].
///
/// Each line of the file is the name of a key and its 256 bits as 64 hexadecimal digits. The last key wraps new data keys; the others
/// unwrap older ones. One file can serve any number of streams. **Keep a copy of it away from the streams: without it, their records cannot
/// be read.**
///
/// ```
/// # use streamlog::{KeyFile, StreamOptions};
/// # let directory = tempfile::tempdir()?;
/// # let (path, stream_path) = (directory.path().join("keys"), directory.path().join("clicks"));
/// KeyFile::create(&path)?; // once
/// let stream = StreamOptions::new().encryption(KeyFile::open(&path)?).open(stream_path)?;
/// stream.put("user-17", "clicked")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct KeyFile {
    path: PathBuf,
    /// The newest last. There is at least one.
    keys: Vec<(String, Wiped<LessSafeKey>)>,
}

impl fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyFile").field("path", &self.path).finish_non_exhaustive()
    }
}

impl KeyFile {
    /// Creates a file with one new key, which only its owner may read (mode 0600).
    ///
    /// # Durability
    /// When it returns, the file survives power loss.
    ///
    /// # Errors
    /// `Io`, also if the file exists: [`open`](Self::open) it. `StorageFull`.
    pub fn create(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let text = Zeroizing::new(format!("{HEADING}{}", &*new_line(path)?));
        secret_file::create(path, &text).map_err(|error| Error::io("create", path, error))?;
        Self::open(path)
    }

    /// Reads a file of keys.
    ///
    /// # Errors
    /// `Io` if there is none, or if users other than its owner may read or change it: `chmod 600`. `InvalidArgument` if it holds something else.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let text = read(path)?;
        let lines = text.lines().zip(1..).filter(|(line, _)| !line.is_empty() && !line.starts_with('#'));
        let keys: Vec<_> = lines.map(|(line, at)| parse(path, line, at)).collect::<Result<_>>()?;
        if keys.is_empty() {
            return Err(Error::invalid(format!("{} holds no key", path.display())));
        }
        Ok(Self { path: path.to_owned(), keys })
    }

    /// Adds a new key to a file, and reads the file. Existing keys still unwrap the data keys that they have wrapped; the next
    /// [`rotate_key`](crate::Stream::rotate_key) of a stream that is opened with it uses the new one.
    ///
    /// # Durability
    /// When it returns, the new key survives power loss. A crash leaves the file with or without it.
    ///
    /// # Errors
    /// Same as [`open`](Self::open); `StorageFull`.
    pub fn add_key(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::open(path)?;
        let text = read(path)?;
        let end = if text.ends_with('\n') { "" } else { "\n" };
        let text = Zeroizing::new(format!("{}{end}{}", &*text, &*new_line(path)?));
        secret_file::replace(path, &text).map_err(|error| Error::io("replace", path, error))?;
        Self::open(path)
    }

    /// Returns the name of the key that wraps new data keys.
    pub fn key_id(&self) -> &str {
        self.keys.last().map_or("", |(name, _)| name)
    }
}

fn read(path: &Path) -> Result<Zeroizing<String>> {
    secret_file::read(path).map(Zeroizing::new).map_err(|error| Error::io("read the keys in", path, error))
}

fn new_line(path: &Path) -> Result<Zeroizing<String>> {
    let random = |error| Error::io("get random bytes for", path, error);
    let name: [u8; 4] = random::bytes().map_err(random)?;
    let key = DataKey::new(random::bytes().map_err(random)?);
    let digits = Zeroizing::new(hex::encode(key.as_bytes()));
    Ok(Zeroizing::new(format!("key-{} {}\n", hex::encode(&name), &*digits)))
}

fn parse(path: &Path, line: &str, at: usize) -> Result<(String, Wiped<LessSafeKey>)> {
    let parsed = line.split_once(' ').and_then(|(name, digits)| {
        let bytes = Zeroizing::new(hex::decode(digits.trim())?);
        // It refuses any other length than that of a key.
        let key = UnboundKey::new(&AES_256_GCM, &bytes).ok()?;
        Some((name.to_owned(), Wiped::new(LessSafeKey::new(key))))
    });
    // The line itself is a secret.
    let expected = "expected the name of a key, a space and 64 hexadecimal digits";
    parsed.ok_or_else(|| Error::invalid(format!("{}, line {at}: {expected}", path.display())))
}

impl KeyProvider for KeyFile {
    fn wrap(&self, key: &DataKey, context: &[u8]) -> Result<WrappedKey, KeyError> {
        let (name, wrapping) = self.keys.last().ok_or("there is no key")?;
        let nonce: [u8; NONCE_LEN] = random::bytes()?;
        let mut bytes = nonce.to_vec();
        let mut body = Zeroizing::new(*key.as_bytes());
        let tag = wrapping
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(context), &mut *body)
            .map_err(|_| "the cipher refuses it")?;
        bytes.extend_from_slice(&*body);
        bytes.extend_from_slice(tag.as_ref());
        Ok(WrappedKey { key_id: name.clone(), bytes })
    }

    fn unwrap(&self, wrapped: &WrappedKey, context: &[u8]) -> Result<DataKey, KeyError> {
        let named = self.keys.iter().find(|(name, _)| *name == wrapped.key_id);
        let (_, wrapping) = named.ok_or_else(|| format!("{} does not have it", self.path.display()))?;
        let (nonce, body) = wrapped.bytes.split_first_chunk().ok_or("it is too short")?;
        let mut body = Zeroizing::new(body.to_vec());
        let opened = wrapping
            .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(context), &mut body)
            .map_err(|_| "it is not what the key of that name has wrapped for this stream")?;
        let key: [u8; 32] = (&*opened).try_into().map_err(|_| "it is no data key")?;
        Ok(DataKey::new(key))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_wrapped_key_unwraps_for_its_stream_only_and_with_the_file_that_has_its_key() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys");
        let first = KeyFile::create(&path).unwrap();
        let key = DataKey::new([7; 32]);
        let wrapped = first.wrap(&key, b"clicks").unwrap();
        let second = KeyFile::add_key(&path).unwrap();
        assert_ne!(first.key_id(), second.key_id());
        for file in [&first, &second] {
            assert_eq!(file.unwrap(&wrapped, b"clicks").unwrap().as_bytes(), key.as_bytes());
            assert!(file.unwrap(&wrapped, b"orders").is_err(), "of another stream");
        }
        for at in 0..wrapped.bytes.len() {
            let mut changed = wrapped.clone();
            changed.bytes[at] ^= 1;
            assert!(second.unwrap(&changed, b"clicks").is_err(), "byte {at}");
            changed.bytes.truncate(at);
            assert!(second.unwrap(&changed, b"clicks").is_err(), "{at} bytes");
        }
        let other = KeyFile::create(directory.path().join("other")).unwrap();
        let refused = other.unwrap(&wrapped, b"clicks").unwrap_err().to_string();
        assert!(refused.contains("does not have it"), "{refused}");
        let again = first.wrap(&key, b"clicks").unwrap();
        assert_ne!(wrapped.bytes, again.bytes, "no nonce is used twice");
    }

    #[test]
    fn a_file_that_others_may_read_is_refused_and_one_of_ours_is_not_readable_by_others() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys");
        KeyFile::create(&path).unwrap();
        assert!(matches!(KeyFile::create(&path), Err(Error::Io(_))), "it is not written over");
        KeyFile::add_key(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        for mode in [0o640, 0o604, 0o620, 0o601] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let refused = KeyFile::open(&path).unwrap_err().to_string();
            assert!(refused.contains("chmod 600"), "{refused}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        KeyFile::open(&path).unwrap();
    }

    #[test]
    fn errors_and_debug_texts_show_no_key() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys");
        let file = KeyFile::create(&path).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let digits = text.lines().last().unwrap().split_once(' ').unwrap().1.to_owned();
        assert_eq!(digits.len(), 64);
        assert!(!format!("{file:?}").contains(&digits[..8]));
        fs::write(&path, text.replace(&digits, &digits[..62])).unwrap();
        let refused = KeyFile::open(&path).unwrap_err().to_string();
        assert!(refused.contains("line 2") && !refused.contains(&digits[..8]), "{refused}");
        fs::write(&path, HEADING).unwrap();
        assert!(KeyFile::open(&path).unwrap_err().to_string().contains("holds no key"));
    }
}
