//! The stream that is watched: one of this process, or one that another process may have open.

use std::path::{Path, PathBuf};

use streamlog::{Error, GroupDescription, Maintenance, Stream, StreamOptions, StreamReader};

use crate::text;

#[derive(Clone)]
pub enum Watched {
    /// This process has it open.
    Own(Stream),
    /// Another process may have it open. Watching changes nothing of it.
    Other { reader: StreamReader, path: PathBuf },
}

impl Watched {
    /// Watches a stream that another process may have open.
    pub fn open(path: &Path) -> streamlog::Result<Self> {
        Ok(Self::Other { reader: StreamReader::open(path)?, path: path.to_owned() })
    }

    pub fn reader(&self) -> &StreamReader {
        match self {
            Self::Own(stream) => stream,
            Self::Other { reader, .. } => reader,
        }
    }

    pub fn is_own(&self) -> bool {
        matches!(self, Self::Own(_))
    }

    /// Describes what the last opening of the stream found, if this process opened it.
    pub fn state(&self) -> String {
        match self {
            Self::Own(stream) => text::recovery(stream.recovery()),
            Self::Other { .. } => "read only; another process may write it".to_owned(),
        }
    }

    /// Returns how far the consumer groups are, whichever process runs them.
    pub fn groups(&self) -> streamlog::Result<Vec<GroupDescription>> {
        let mut groups = vec![];
        for name in self.reader().groups()? {
            match self.reader().group(name).describe() {
                // It has been deleted since it was listed.
                Err(Error::InvalidArgument(_)) => {}
                group => groups.push(group?),
            }
        }
        Ok(groups)
    }

    /// Changes the stream. One of another process has to be opened for that, which fails and names the process that has it open.
    pub fn change<T>(&self, change: impl FnOnce(&Stream) -> streamlog::Result<T>) -> streamlog::Result<T> {
        match self {
            Self::Own(stream) => change(stream),
            Self::Other { path, .. } => {
                let options = StreamOptions::new().must_exist().maintenance(Maintenance::Manual);
                let stream = options.open(path)?;
                let changed = change(&stream);
                let closed = stream.close();
                changed.and_then(|changed| closed.map(|()| changed))
            }
        }
    }
}
