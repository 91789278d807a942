//! What the process gets from the shell: standard input and output as files, so that no error is lost, and its limit of open files.
//!
//! `std::io::stdout()` reports success if standard output is closed or cannot be written, and `std::io::stdin()` then reports an empty
//! input. So `consume` would mark records as handled that were never printed.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit, setrlimit};

static IS_INPUT_CLOSED: AtomicBool = AtomicBool::new(false);
static IS_OUTPUT_CLOSED: AtomicBool = AtomicBool::new(false);

/// Runs before `main`, because by then Rust has opened `/dev/null` in place of closed streams.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "the attribute alone: the function makes system calls and stores two flags")]
#[unsafe(link_section = ".init_array")]
#[used]
static BEFORE_MAIN: extern "C" fn() = note_closed_streams;

#[cfg(target_os = "linux")]
extern "C" fn note_closed_streams() {
    use rustix::fs::{AtFlags, CWD};
    let is_missing =
        |path: &str| rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW).err() == Some(Errno::NOENT);
    // Without /proc, nothing is known.
    if !is_missing("/proc/self/fd") {
        IS_INPUT_CLOSED.store(is_missing("/proc/self/fd/0"), Ordering::Relaxed);
        IS_OUTPUT_CLOSED.store(is_missing("/proc/self/fd/1"), Ordering::Relaxed);
    }
}

/// Returns standard input. Fails if it was closed when the program started.
pub(crate) fn input() -> io::Result<File> {
    open(&IS_INPUT_CLOSED, io::stdin())
}

/// Returns standard output. Fails if it was closed when the program started.
pub(crate) fn output() -> io::Result<File> {
    open(&IS_OUTPUT_CLOSED, io::stdout())
}

fn open(is_closed: &AtomicBool, stream: impl AsFd) -> io::Result<File> {
    if is_closed.load(Ordering::Relaxed) {
        return Err(Errno::BADF.into());
    }
    Ok(stream.as_fd().try_clone_to_owned()?.into())
}

/// Returns whether `output` is a pipe or a socket whose reader is gone.
pub(crate) fn has_lost_its_reader(output: &File) -> bool {
    let mut polled = [PollFd::new(output, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut polled, Some(&now)).is_ok() && polled[0].revents().intersects(PollFlags::ERR | PollFlags::HUP)
}

/// Raises the limit of open files as far as allowed. A reader needs one file for each open segment, and a stream may have 1,024 shards.
pub(crate) fn allow_many_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // If this fails, opening a file fails with its own error.
    let _ = setrlimit(Resource::Nofile, limit);
}
