//! Files that nobody but their owner may read, anywhere in the file system.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// The largest file that is read.
const BYTES_MAX: u64 = 1 << 20;

/// Reads a file, unless users other than its owner may read or change it.
pub(crate) fn read(path: &Path) -> io::Result<String> {
    let file = File::open(path)?;
    let found = file.metadata()?;
    let refuse = |reason: String| Err(io::Error::new(io::ErrorKind::PermissionDenied, reason));
    // Directories and pipes have no keys in them.
    if !found.is_file() || found.len() > BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is not a file of keys"));
    }
    if found.mode() & 0o077 != 0 {
        let mode = found.mode() & 0o777;
        return refuse(format!("its mode is {mode:04o}, and others may use it: chmod 600"));
    }
    let user = rustix::process::geteuid().as_raw();
    if found.uid() != user && found.uid() != 0 {
        return refuse(format!("it belongs to user {}, not to this one ({user})", found.uid()));
    }
    let mut text = String::new();
    file.take(BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// Creates a file that nobody but its owner may read, durably. There must be none yet.
pub(crate) fn create(path: &Path, content: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    // The mask may have taken bits away.
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.write_all(content.as_bytes())?;
    file.sync_all()?;
    sync_directory_of(path)
}

/// Replaces a file with one that nobody but its owner may read, durably: a crash leaves the old content or the new one.
pub(crate) fn replace(path: &Path, content: &str) -> io::Result<()> {
    // Through a link, to the file itself.
    let path = path.canonicalize()?;
    let mut aside = path.clone().into_os_string();
    aside.push(".new");
    let aside = Path::new(&aside);
    match std::fs::remove_file(aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    create(aside, content)?;
    std::fs::rename(aside, &path)?;
    sync_directory_of(&path)
}

fn sync_directory_of(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}
