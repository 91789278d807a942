//! A directory as a sink.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::sink::{Object, Sink, SinkError};

/// A directory in which each object is a file.
///
/// A file appears under its name when it is complete and synced, together with the name: an object that was delivered survives power loss. A file that
/// is being written has a name that ends with `.partial`. The next delivery of the object replaces it.
///
/// ```
/// # use streamlog::Stream;
/// use streamlog::delivery::{Directory, Format};
///
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path().join("clicks"))?;
/// stream.put("user-17", r#"{"page":"/cart"}"#)?;
/// let archive = Directory::new(directory.path().join("archive"));
/// let delivery = stream.delivery("archive").format(Format::json_lines()).to(archive).start()?;
/// delivery.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Directory {
    path: PathBuf,
}

impl Directory {
    /// Delivers into this directory. It is created when the first object comes.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Returns the path of the directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn write(&self, object: &Object) -> io::Result<()> {
        let path = self.path.join(object.name());
        let parent = path.parent().unwrap_or(&self.path);
        create_all(parent)?;
        let mut partial = path.clone().into_os_string();
        partial.push(".partial");
        let mut file = File::create(&partial)?;
        file.write_all(object.bytes())?;
        file.sync_all()?;
        fs::rename(&partial, &path)?;
        File::open(parent)?.sync_all()
    }
}

/// Creates a directory and its missing parents, so that their names survive power loss.
fn create_all(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent {
        create_all(parent)?;
    }
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
        created => created?,
    }
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

impl Sink for Directory {
    fn put(&self, object: &Object) -> Result<(), SinkError> {
        self.write(object).map_err(|error| {
            let text = format!("cannot write {} in {}: {error}", object.name(), self.path.display());
            match error.kind() {
                // The value of a partition key may be longer than the name of a file.
                io::ErrorKind::InvalidFilename => SinkError::permanent(text),
                _ => SinkError::temporary(text),
            }
        })
    }
}
