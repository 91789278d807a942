//! A directory as a sink, and as the place of an archive.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::sink::{Object, Sink, SinkError};
use crate::Archive;

/// The suffix of the name of a file that is being written.
const PARTIAL: &str = ".partial";

/// A directory in which each object is a file.
///
/// A file appears under its name only when it is complete and its contents and name are synced, so a delivered object survives power loss. The name
/// of an incomplete file ends with `.partial`. The next delivery of the object replaces such a file.
///
/// It can also hold an [`Archive`]. In that case, the directory must exist: a missing one may be a disk that is not mounted.
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
    /// Delivers into this directory, which is created for the first object.
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
        partial.push(PARTIAL);
        let mut file = File::create(&partial)?;
        file.write_all(object.bytes())?;
        file.sync_all()?;
        fs::rename(&partial, &path)?;
        File::open(parent)?.sync_all()
    }
}

impl Archive for Directory {
    fn locate(&self, name: &str) -> String {
        self.path.join(name).display().to_string()
    }

    fn list(&self, prefix: &str) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(self.path.join(prefix)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return self.check_is_there().map(|()| vec![]);
            }
            entries => entries?,
        };
        let mut names = vec![];
        for entry in entries {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if !name.ends_with(PARTIAL) {
                names.push(format!("{prefix}{name}"));
            }
        }
        Ok(names)
    }

    fn get(&self, name: &str, into: &mut dyn Write) -> io::Result<()> {
        match File::open(self.path.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.check_is_there()?;
                Err(error)
            }
            file => io::copy(&mut file?, into).map(drop),
        }
    }

    fn put(&self, name: &str, from: &mut dyn Read) -> io::Result<()> {
        let path = self.path.join(name);
        let parent = path.parent().unwrap_or(&self.path);
        create_all(parent)?;
        let mut partial = path.clone().into_os_string();
        partial.push(PARTIAL);
        let mut file = open_alone(partial.as_ref())?;
        io::copy(from, &mut file)?;
        file.sync_all()?;
        fs::rename(&partial, &path)?;
        File::open(parent)?.sync_all()
    }
}

impl Directory {
    /// Fails if the directory itself is missing. An unmounted disk is not an empty archive.
    fn check_is_there(&self) -> io::Result<()> {
        match self.path.metadata() {
            Err(error) => Err(io::Error::other(format!("the directory is missing: {error}"))),
            Ok(_) => Ok(()),
        }
    }
}

/// Opens an empty file for writing that nobody else writes. A file that a killed process has left is taken over.
fn open_alone(path: &Path) -> io::Result<File> {
    loop {
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
        file.try_lock()
            .map_err(|_| io::Error::new(io::ErrorKind::WouldBlock, "somebody else writes it now"))?;
        // The previous owner may just have renamed the file to its final name.
        let is_same =
            fs::metadata(path).is_ok_and(|there| file.metadata().is_ok_and(|own| own.ino() == there.ino()));
        if is_same {
            file.set_len(0)?;
            return Ok(file);
        }
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
