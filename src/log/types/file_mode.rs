//! Who may read a stream's files.

use super::error::{Error, Result};

/// The permissions of a stream's files: its owner reads and writes them, and others may read them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileMode(u32);

impl Default for FileMode {
    fn default() -> Self {
        Self::OWNER_ONLY
    }
}

impl FileMode {
    pub(crate) const OWNER_ONLY: Self = Self(0o600);

    /// Returns a mode, or refuses it if others could write, execute, or not even the owner could read and write.
    pub(crate) fn new(mode: u32) -> Result<Self> {
        const OTHERS_READ: u32 = 0o044;
        if mode & !OTHERS_READ == Self::OWNER_ONLY.0 {
            return Ok(Self(mode));
        }
        Err(Error::invalid(format!(
            "a file_mode of {mode:#05o} is refused: use 0o600, 0o640, 0o604 or 0o644; whoever else could write to a mapped file could \
             truncate it, which kills the processes that read it"
        )))
    }

    /// Returns the permissions of a file.
    pub(crate) fn of_files(self) -> u32 {
        self.0
    }

    /// Returns the permissions of a directory: whoever may read may enter, too.
    pub(crate) fn of_directories(self) -> u32 {
        self.0 | (self.0 & 0o444) >> 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_may_read_may_enter() {
        let modes = [0o600, 0o640, 0o604, 0o644].map(|mode| FileMode::new(mode).unwrap().of_directories());
        assert_eq!(modes, [0o700, 0o750, 0o705, 0o755]);
    }

    #[test]
    fn only_the_owner_writes_and_nobody_executes() {
        let accepted: Vec<_> = (0..=0o20_000).filter(|&mode| FileMode::new(mode).is_ok()).collect();
        assert_eq!(accepted, [0o600, 0o604, 0o640, 0o644]);
        assert!(FileMode::new(u32::MAX).is_err());
    }
}
