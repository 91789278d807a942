//! The place of a stream in its store: it is opened, closed and deleted by one thread at a time.

use parking_lot::Mutex;

use crate::{Error, Result, Stream};

/// The place of a stream that may be open. While one thread opens or deletes it, only others that want the same stream wait.
#[derive(Debug, Default)]
pub(super) struct Slot {
    stream: Mutex<Option<Stream>>,
}

impl Slot {
    /// Creates the stream with `open`, which fails if it exists.
    pub(super) fn create(&self, open: impl FnOnce() -> Result<Stream>) -> Result<Stream> {
        let mut stream = self.stream.lock();
        if let Some(known) = stream.as_ref().filter(|known| !known.is_closed()) {
            let path = known.describe().path;
            let reason =
                format!("there is a stream at {} already: open it, or use another name", path.display());
            return Err(Error::InvalidArgument(reason.into()));
        }
        Ok(stream.insert(open()?).clone())
    }

    /// Returns the stream, and opens it with `open` if it is not open.
    pub(super) fn get(&self, open: impl FnOnce() -> Result<Stream>) -> Result<Stream> {
        let mut stream = self.stream.lock();
        // Somebody who has a handle may have closed it.
        match stream.as_ref().filter(|known| !known.is_closed()) {
            Some(known) => Ok(known.clone()),
            None => Ok(stream.insert(open()?).clone()),
        }
    }

    /// Returns the stream if it is open.
    pub(super) fn opened(&self) -> Option<Stream> {
        self.stream.lock().as_ref().filter(|known| !known.is_closed()).cloned()
    }

    /// Closes the stream and deletes it with `delete`.
    pub(super) fn delete(&self, delete: impl FnOnce() -> Result<()>) -> Result<()> {
        let mut stream = self.stream.lock();
        if let Some(known) = stream.take() {
            // It is deleted even if it does not close cleanly.
            let _ = known.close();
        }
        delete()
    }

    /// Closes the stream.
    pub(super) fn close(&self) -> Result<()> {
        let taken = self.stream.lock().take();
        taken.map_or(Ok(()), Stream::close)
    }
}
