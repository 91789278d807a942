//! Copying the bytes of files.

use std::ops::Range;

use super::fault;
use super::file::DataFile;
use crate::log::format::bytes::is_zero;
use crate::log::types::error::Result;

/// How many bytes are read and written at a time where the system does not copy by itself. They are left out if they are zeros.
const BUFFER_BYTES: u64 = 64 << 10;

/// Lets a new, empty file share the blocks of another one, where the file system can do that. Either of them gets blocks of its own where it
/// is written to later. Returns whether it worked.
#[cfg(target_os = "linux")]
pub(crate) fn share_blocks(from: &DataFile, to: &DataFile) -> bool {
    rustix::fs::ioctl_ficlone(to.std(), from.std()).is_ok()
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn share_blocks(_: &DataFile, _: &DataFile) -> bool {
    false
}

/// Copies some bytes of a file to the same place in another one, as far as the file has them. Returns how many there were. It writes no
/// zeros over what was never written.
pub(crate) fn copy_bytes(from: &DataFile, to: &DataFile, bytes: Range<u64>) -> Result<u64> {
    fault::point("copy to", to.path()).map_err(|error| to.error("copy to", error))?;
    let copied = in_kernel(from, to, bytes.clone())?;
    if copied == bytes.end - bytes.start {
        return Ok(copied);
    }
    Ok(copied + copy_in_order(from, to, bytes.start + copied..bytes.end)?)
}

/// Lets the system copy, as far as it does that between these files.
#[cfg(target_os = "linux")]
fn in_kernel(from: &DataFile, to: &DataFile, bytes: Range<u64>) -> Result<u64> {
    use rustix::io::Errno;
    let (mut read_at, mut write_at) = (bytes.start, bytes.start);
    while read_at < bytes.end {
        let wanted = (bytes.end - read_at) as usize;
        let (from, to_file) = (from.std(), to.std());
        match rustix::fs::copy_file_range(from, Some(&mut read_at), to_file, Some(&mut write_at), wanted) {
            Ok(0) => break,
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG)) => {
                return Err(to.error("copy to", errno.into()));
            }
            // Reading and writing will show any other obstacle.
            Err(_) => break,
        }
    }
    Ok(write_at - bytes.start)
}

#[cfg(not(target_os = "linux"))]
fn in_kernel(_: &DataFile, _: &DataFile, _: Range<u64>) -> Result<u64> {
    Ok(0)
}

/// Does the same from the first byte to the last, for a file that is written to meanwhile: what the beginning of the copy says about later bytes
/// was true before those were read.
pub(crate) fn copy_in_order(from: &DataFile, to: &DataFile, bytes: Range<u64>) -> Result<u64> {
    let mut buffer = vec![0; BUFFER_BYTES.min(bytes.end - bytes.start) as usize];
    let mut at = bytes.start;
    while at < bytes.end {
        let wanted = BUFFER_BYTES.min(bytes.end - at) as usize;
        let found = from.read_at(&mut buffer[..wanted], at)?;
        if found == 0 {
            break;
        }
        if !is_zero(&buffer[..found]) {
            to.write_all_at(&buffer[..found], at)?;
        }
        at += found as u64;
    }
    Ok(at - bytes.start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::sys::root::OwnPath;

    #[test]
    fn bytes_are_copied_to_their_places_as_far_as_there_are_any() {
        for is_in_kernel in [true, false] {
            let directory = tempfile::tempdir().unwrap();
            let root = OwnPath::open_root(directory.path()).unwrap();
            let (from, to) = (root.join("from"), root.join("to"));
            let (from, to) = (DataFile::create(&from).unwrap(), DataFile::create(&to).unwrap());
            let content: Vec<u8> = (0..3_000_000u32).map(|at| (at / 251) as u8).collect();
            from.write_all_at(&content, 0).unwrap();
            let copy = if is_in_kernel { copy_bytes } else { copy_in_order };
            assert_eq!(copy(&from, &to, 1_000..2_500_000).unwrap(), 2_499_000);
            assert_eq!(copy(&from, &to, 2_500_000..9_000_000).unwrap(), 500_000, "the file ends before");
            let mut copied = vec![1; content.len()];
            to.read_exact_at(&mut copied, 0).unwrap();
            assert_eq!(copied[..1_000], [0; 1_000]);
            assert_eq!(copied[1_000..], content[1_000..]);
        }
    }
}
