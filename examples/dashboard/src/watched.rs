//! The watched stream: one of this process, or one that another process may have open.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use streamlog::{Error, GroupDescription, Maintenance, Processor, Stream, StreamOptions, StreamReader};

use crate::text;

#[derive(Clone)]
pub enum Watched {
    /// This process has it open, and runs these processors.
    Own { stream: Stream, processors: Arc<[Processor]> },
    /// Another process may have it open. Watching does not change it.
    Other { reader: StreamReader, path: PathBuf },
}

impl Watched {
    /// Watches a stream that another process may have open.
    pub fn open(path: &Path) -> streamlog::Result<Self> {
        Ok(Self::Other { reader: StreamReader::open(path)?, path: path.to_owned() })
    }

    pub fn reader(&self) -> &StreamReader {
        match self {
            Self::Own { stream, .. } => stream,
            Self::Other { reader, .. } => reader,
        }
    }

    pub fn is_own(&self) -> bool {
        matches!(self, Self::Own { .. })
    }

    /// Describes what the last opening of the stream found, if this process opened it.
    pub fn state(&self) -> String {
        match self {
            Self::Own { stream, .. } => text::recovery(stream.recovery()),
            Self::Other { .. } => "read only; another process may write it".to_owned(),
        }
    }

    /// Returns the processors of this process.
    pub fn processors(&self) -> &[Processor] {
        match self {
            Self::Own { processors, .. } => processors,
            Self::Other { .. } => &[],
        }
    }

    /// Returns the progress of the consumer groups, whichever process runs them.
    pub fn groups(&self) -> streamlog::Result<Vec<GroupDescription>> {
        self.described(self.reader().groups()?, |reader, name| reader.group(name).describe())
    }

    /// Describes each named part of the stream, except those deleted meanwhile.
    pub fn described<T>(
        &self,
        names: Vec<String>,
        describe: impl Fn(&StreamReader, &str) -> streamlog::Result<T>,
    ) -> streamlog::Result<Vec<T>> {
        let mut all = vec![];
        for name in names {
            match describe(self.reader(), &name) {
                // It has been deleted since it was listed.
                Err(Error::InvalidArgument(_)) => {}
                described => all.push(described?),
            }
        }
        Ok(all)
    }

    /// Changes the stream. A stream of another process must be opened for that, which fails and names the process that has it open.
    pub fn change<T>(&self, change: impl FnOnce(&Stream) -> streamlog::Result<T>) -> streamlog::Result<T> {
        match self {
            Self::Own { stream, .. } => change(stream),
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
