//! The directories around a stream, by their paths.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::call::attempt;
use crate::log::types::error::{Error, Result};
use crate::log::types::file_mode::FileMode;

/// Creates a directory and its missing parents, and makes their names survive power loss.
pub(crate) fn create_durably(path: &Path, mode: FileMode) -> Result<()> {
    let missing: Vec<_> = path.ancestors().take_while(|ancestor| !is_there(ancestor)).collect();
    let create = || fs::DirBuilder::new().recursive(true).mode(mode.of_directories()).create(path);
    attempt("create the directory", path, create)?;
    // The umask may have taken permissions. A path that ends with `..` leads to a directory that was there.
    let created =
        missing.iter().filter(|created| mode != FileMode::OWNER_ONLY && created.file_name().is_some());
    created.rev().try_for_each(|created| add_permissions(created, mode.of_directories()))?;
    missing.iter().rev().try_for_each(|created| sync_name_of(created))
}

fn add_permissions(path: &Path, mode: u32) -> Result<()> {
    attempt("change the mode of", path, || {
        let mut permissions = fs::metadata(path)?.permissions();
        permissions.set_mode(permissions.mode() & 0o7777 | mode);
        fs::set_permissions(path, permissions)
    })
}

fn is_there(path: &Path) -> bool {
    !matches!(fs::symlink_metadata(path), Err(error) if error.kind() == io::ErrorKind::NotFound)
}

/// Makes the name of a directory survive power loss.
pub(crate) fn sync_name_of(path: &Path) -> Result<()> {
    let parent = match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => return Ok(()),
    };
    let opened = fs::File::open(parent).map_err(|error| Error::io("open the directory", parent, error))?;
    attempt("sync the directory", parent, || opened.sync_all())
}

/// Returns the paths in a directory that hold a file of this name, or none if the directory does not exist. A path that cannot be looked
/// into is left out.
pub(crate) fn directories_with(path: &Path, name: &str) -> Result<Vec<PathBuf>> {
    let failed = |error| Error::io("list the directory", path, error);
    let entries = match fs::read_dir(path) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(vec![]);
        }
        entries => entries.map_err(failed)?,
    };
    let paths: Vec<_> = entries.map(|entry| Ok(entry.map_err(failed)?.path())).collect::<Result<_>>()?;
    Ok(paths.into_iter().filter(|path| path.join(name).symlink_metadata().is_ok()).collect())
}

/// Returns where a path leads, without links, up to the last directory of it that exists.
pub(crate) fn nearest_existing(path: &Path) -> Result<PathBuf> {
    let absolute = std::path::absolute(path).map_err(|error| Error::io("look at", path, error))?;
    let mut existing = absolute.as_path();
    while let (false, Some(parent)) = (is_there(existing), existing.parent()) {
        existing = parent;
    }
    without_links(existing)
}

/// Returns where a path leads in the end, without links.
pub(crate) fn without_links(path: &Path) -> Result<PathBuf> {
    fs::canonicalize(path).map_err(|error| Error::io("look at", path, error))
}

/// Removes an empty directory, or a link to one that is gone.
pub(crate) fn remove_name(path: &Path) -> Result<()> {
    attempt("remove", path, || {
        let is_link = fs::symlink_metadata(path)?.is_symlink();
        if is_link { fs::remove_file(path) } else { fs::remove_dir(path) }
    })
}
