//! Unpredictable bytes.

use std::io;

/// Returns random bytes from the operating system.
#[cfg(target_os = "linux")]
pub(crate) fn bytes<const COUNT: usize>() -> io::Result<[u8; COUNT]> {
    use rustix::rand::{GetRandomFlags, getrandom};
    let mut bytes = [0; COUNT];
    let mut filled = 0;
    while filled < COUNT {
        match getrandom(&mut bytes[filled..], GetRandomFlags::empty()) {
            Ok(more) => filled += more,
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(bytes)
}

/// Returns random bytes from the operating system.
#[cfg(not(target_os = "linux"))]
pub(crate) fn bytes<const COUNT: usize>() -> io::Result<[u8; COUNT]> {
    use std::io::Read;
    let mut bytes = [0; COUNT];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}
