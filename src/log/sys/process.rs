//! Which process this is, as opposed to a child that `fork` makes of it.
//!
//! Such a child has the memory, the mappings and the locks of its parent, but none of its threads.
//!
//! A process also has an id, a name and a mark, which show others which process has a stream open.
//!
//! The invariant that the unsafe code relies on, besides those of `map.rs`:
//! - **I6** what runs in a child before `fork` returns there only adds to an atomic number, as a signal handler may.
//!
//! A put checks that number at no measurable cost. Getting the process id would be a system call each time.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Once, OnceLock};

use super::random;
use crate::log::format::holder::Holder;
use crate::log::types::error::{Error, Result};

/// How many forks lie between the first process and this one.
static FORKS: AtomicU64 = AtomicU64::new(0);

/// A process, as opposed to the children that `fork` makes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process(u64);

type Handler = Option<extern "C" fn()>;

// SAFETY: this is how POSIX declares it. What is passed to it keeps I6.
unsafe extern "C" {
    fn pthread_atfork(before: Handler, in_parent: Handler, in_child: Handler) -> c_int;
}

extern "C" fn note_fork() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

impl Process {
    /// Returns the calling process.
    pub(crate) fn this() -> Self {
        static START: Once = Once::new();
        START.call_once(|| {
            // SAFETY: the handler is a function of the right type that lives as long as this code, and does only what I6 allows.
            let _ = unsafe { pthread_atfork(None, None, Some(note_fork)) };
            // It fails only without memory. Then no child is recognized, and all else works.
        });
        Self(FORKS.load(Ordering::Relaxed))
    }

    /// Fails unless this is the calling process, which has opened something at a path.
    #[inline]
    pub(crate) fn check(self, path: &Path) -> Result<()> {
        if self.is_this() { Ok(()) } else { refuse_child(path) }
    }

    /// Returns whether this is the calling process.
    #[inline]
    pub(crate) fn is_this(self) -> bool {
        FORKS.load(Ordering::Relaxed) == self.0
    }
}

#[cold]
fn refuse_child(path: &Path) -> Result<()> {
    Err(Error::invalid(format!(
        "a child made by fork cannot use {}, which its parent has open: open a stream after forking, in one of the two",
        path.display()
    )))
}

/// Returns the identity of the machine's boot, in two words that differ after each boot. Zeros where the system does not provide it.
pub(crate) fn boot_id() -> [u64; 2] {
    static ID: OnceLock<[u64; 2]> = OnceLock::new();
    *ID.get_or_init(|| {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
        let half =
            |from: usize| digits.get(from..from + 16).and_then(|half| u64::from_str_radix(half, 16).ok());
        [half(0), half(16)].map(Option::unwrap_or_default)
    })
}

/// Returns the calling process as the holder of a stream.
pub(super) fn as_holder() -> Holder {
    Holder { id: std::process::id(), name: program_name(), mark: mark() }
}

/// Returns whether a holder is the calling process. A child made by `fork` has the mark of its parent, and a process in another container
/// may have the same id.
pub(super) fn is_this(holder: &Holder) -> bool {
    holder.id == std::process::id() && holder.mark.is_some() && holder.mark == mark()
}

/// Returns the name of the file that the process runs, as far as the system provides it.
fn program_name() -> String {
    let program = std::env::current_exe().unwrap_or_default();
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    // Linux adds this if the file was replaced, for example by an update.
    name.trim_end_matches(" (deleted)").to_owned()
}

/// Returns a number that the process draws once.
fn mark() -> Option<u64> {
    static MARK: OnceLock<Option<u64>> = OnceLock::new();
    *MARK.get_or_init(|| random::bytes().ok().map(u64::from_ne_bytes))
}
