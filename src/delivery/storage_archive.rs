//! An object store as the place of an archive.

use std::future::Future;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::mpsc;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{Error as StoreError, GetOptions, GetRange, MultipartUpload, ObjectStore, ObjectStoreExt};

use super::storage::{ObjectStorage, hide, text_of};
use crate::Archive;

impl ObjectStorage {
    fn key(&self, name: &str) -> String {
        let slash = if self.prefix.is_empty() { "" } else { "/" };
        format!("{}{slash}{name}", self.prefix)
    }

    fn path(&self, name: &str) -> io::Result<Path> {
        Path::parse(self.key(name))
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error.to_string()))
    }

    /// Waits for a request.
    fn request<T: Send + 'static>(
        &self,
        request: impl Future<Output = object_store::Result<T>> + Send + 'static,
    ) -> io::Result<T> {
        let Some(runtime) = &self.requests.0 else { return Err(io::Error::other("it was dropped")) };
        // The caller may be inside of a runtime of its own, where blocking on a future panics.
        let (sender, receiver) = mpsc::sync_channel(1);
        runtime.spawn(async move {
            // The receiver waits.
            let _ = sender.send(request.await);
        });
        match receiver.recv() {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error @ StoreError::NotFound { .. })) => {
                Err(io::Error::new(io::ErrorKind::NotFound, hide(&self.secrets, text_of(&error))))
            }
            Ok(Err(error)) => Err(io::Error::other(hide(&self.secrets, text_of(&error)))),
            Err(_) => Err(io::Error::other("the store has panicked")),
        }
    }

    /// Returns a part of an object, and the length of the whole.
    fn part(&self, path: &Path, begin: u64) -> io::Result<(Bytes, u64)> {
        let (store, path) = (Arc::clone(&self.store), path.clone());
        let range = GetRange::Bounded(begin..begin + self.part_bytes as u64);
        self.request(async move {
            let options = GetOptions { range: Some(range), ..GetOptions::default() };
            let got = store.get_opts(&path, options).await?;
            let bytes_in_all = got.meta.size;
            Ok((got.bytes().await?, bytes_in_all))
        })
    }

    /// Uploads an object in parts: the first is given, and the others are read from `from`.
    fn put_parts(&self, path: &Path, first: Bytes, from: &mut dyn Read) -> io::Result<()> {
        let (store, to) = (Arc::clone(&self.store), path.clone());
        let mut upload = self.request(async move { store.put_multipart(&to).await })?;
        let mut part = Ok(first);
        loop {
            match part {
                Ok(bytes) if bytes.is_empty() => break,
                Ok(bytes) => {
                    let put = upload.put_part(bytes.into());
                    if let Err(error) = self.request(put) {
                        return self.abort(upload, error);
                    }
                }
                Err(error) => return self.abort(upload, error),
            }
            part = read_part(from, self.part_bytes);
        }
        self.request(async move { upload.complete().await }).map(drop)
    }

    fn abort(&self, mut upload: Box<dyn MultipartUpload>, error: io::Error) -> io::Result<()> {
        // If that fails too, a lifecycle rule removes the parts.
        let _ = self.request(async move { upload.abort().await });
        Err(error)
    }
}

/// Reads this many bytes, or what is left.
fn read_part(from: &mut dyn Read, bytes: usize) -> io::Result<Bytes> {
    let mut part = Vec::with_capacity(bytes.min(1 << 20));
    from.take(bytes as u64).read_to_end(&mut part)?;
    Ok(part.into())
}

impl Archive for ObjectStorage {
    fn locate(&self, name: &str) -> String {
        format!("{}{}", self.shown, self.key(name))
    }

    fn list(&self, prefix: &str) -> io::Result<Vec<String>> {
        let (store, path) = (Arc::clone(&self.store), self.path(prefix.trim_end_matches('/'))?);
        let listed = self.request(async move { store.list_with_delimiter(Some(&path)).await })?;
        let of = self.key("");
        let names = listed.objects.iter().filter_map(|object| object.location.as_ref().strip_prefix(&of));
        Ok(names.map(str::to_owned).collect())
    }

    fn get(&self, name: &str, into: &mut dyn Write) -> io::Result<()> {
        let path = self.path(name)?;
        let mut at = 0;
        loop {
            let (bytes, bytes_in_all) = self.part(&path, at)?;
            into.write_all(&bytes)?;
            at += bytes.len() as u64;
            if at >= bytes_in_all || bytes.is_empty() {
                return Ok(());
            }
        }
    }

    fn put(&self, name: &str, from: &mut dyn Read) -> io::Result<()> {
        let path = self.path(name)?;
        let first = read_part(from, self.part_bytes)?;
        // Not if it ends exactly there: `from` has not said yet that it is whole.
        if first.len() == self.part_bytes {
            return self.put_parts(&path, first, from);
        }
        let store = Arc::clone(&self.store);
        self.request(async move { store.put(&path, first.into()).await }).map(drop)
    }
}
