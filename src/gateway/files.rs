//! The files of the operator: credentials, certificates and the secret of the gateway.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use ring::rand::{SecureRandom, SystemRandom};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use zeroize::Zeroizing;

use super::http::{Certificate, CertificateSource};

/// Bytes of a secret.
const SECRET_BYTES: usize = 32;

/// The most bytes of a text file that people write.
const TEXT_BYTES_MAX: u64 = 16 << 20;

/// Returns the text in a file.
///
/// # Errors
///
/// It cannot be read, is not UTF-8, or has more than 16 MiB. The text of the error has the path.
pub(in crate::gateway) fn read_text(path: &Path) -> io::Result<String> {
    let read = || {
        let mut text = String::new();
        File::open(path)?.take(TEXT_BYTES_MAX + 1).read_to_string(&mut text)?;
        if text.len() as u64 > TEXT_BYTES_MAX {
            return Err(io::Error::new(ErrorKind::FileTooLarge, "the file has more than 16 MiB"));
        }
        Ok(text)
    };
    read().map_err(|failure| at(path, &failure))
}

/// Returns the secret in a file, 64 hex digits, and creates it first if there is none. If several processes do this at the same time, all return the
/// same secret. A secret that this call has created survives power loss.
///
/// # Errors
///
/// The file cannot be read or created, holds anything else, or other users have permissions for it.
pub(in crate::gateway) fn secret(path: &Path) -> io::Result<[u8; SECRET_BYTES]> {
    match read_secret(path) {
        Err(failure) if failure.kind() == ErrorKind::NotFound => {}
        outcome => return outcome.map_err(|failure| at(path, &failure)),
    }
    create_secret(path).and_then(|()| read_secret(path)).map_err(|failure| at(path, &failure))
}

fn read_secret(path: &Path) -> io::Result<[u8; SECRET_BYTES]> {
    let mut file = File::open(path)?;
    if file.metadata()?.permissions().mode() & 0o077 != 0 {
        let what = format!("other users have permissions for this secret: run chmod 600 {}", path.display());
        return Err(io::Error::new(ErrorKind::PermissionDenied, what));
    }
    let mut text = Zeroizing::new([0; 2 * SECRET_BYTES + 2]);
    let mut len = 0;
    while len < text.len() {
        match file.read(&mut text[len..])? {
            0 => break,
            bytes => len += bytes,
        }
    }
    let unusable = || io::Error::new(ErrorKind::InvalidData, "the file does not hold 64 hex digits");
    let digits = text[..len].trim_ascii_end();
    if digits.len() != 2 * SECRET_BYTES {
        return Err(unusable());
    }
    let mut secret = [0; SECRET_BYTES];
    for (byte, pair) in secret.iter_mut().zip(digits.chunks_exact(2)) {
        let value = |digit: u8| (digit as char).to_digit(16);
        let (high, low) = value(pair[0]).zip(value(pair[1])).ok_or_else(unusable)?;
        *byte = (high << 4 | low) as u8;
    }
    Ok(secret)
}

/// Creates a file with a new secret, unless another process is faster.
fn create_secret(path: &Path) -> io::Result<()> {
    let name = path.file_name().ok_or_else(|| io::Error::new(ErrorKind::InvalidInput, "it names no file"))?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut temporary_name = name.to_owned();
    temporary_name.push(format!(".new-{}", &*random_hex(8)?));
    let temporary = directory.join(temporary_name);
    match write_secret(&temporary).and_then(|()| place(&temporary, path)) {
        Ok(true) => File::open(directory)?.sync_all(),
        Ok(false) => fs::remove_file(&temporary),
        Err(failure) => {
            let _ = fs::remove_file(&temporary); // The first failure says more.
            Err(failure)
        }
    }
}

fn write_secret(path: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(random_hex(SECRET_BYTES)?.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()
}

/// Renames a file, unless the name is taken. Returns whether it did.
fn place(temporary: &Path, path: &Path) -> io::Result<bool> {
    match renameat_with(CWD, temporary, CWD, path, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::EXIST) => Ok(false),
        // Some file systems cannot rename like that, but can link.
        Err(rustix::io::Errno::INVAL) => match fs::hard_link(temporary, path) {
            Ok(()) => fs::remove_file(temporary).map(|()| true),
            Err(failure) if failure.kind() == ErrorKind::AlreadyExists => Ok(false),
            Err(failure) => Err(failure),
        },
        Err(failure) => Err(failure.into()),
    }
}

fn random_hex(bytes: usize) -> io::Result<Zeroizing<String>> {
    let mut random = Zeroizing::new([0; SECRET_BYTES]);
    let random = &mut random[..bytes];
    SystemRandom::new().fill(random).map_err(|_| io::Error::other("the system has no random bytes"))?;
    let digit = |value: u8| char::from_digit(value.into(), 16).expect("half a byte is one digit");
    Ok(Zeroizing::new(random.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()))
}

fn at(path: &Path, failure: &io::Error) -> io::Error {
    io::Error::new(failure.kind(), format!("{}: {failure}", path.display()))
}

/// Creates a directory, unless it is there.
pub(in crate::gateway) fn create_directory(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path).map_err(|error| at(path, &error))
}

/// A certificate and its key in two files, which may be replaced while the server runs.
#[derive(Debug)]
pub(in crate::gateway) struct CertificateFiles {
    pub(in crate::gateway) chain: PathBuf,
    pub(in crate::gateway) key: PathBuf,
}

impl CertificateSource for CertificateFiles {
    /// Reads both files. They are small, and their contents show changes more reliably than their times.
    fn read(&self) -> io::Result<Certificate> {
        let chain = read_text(&self.chain)?.into_bytes();
        let key = Zeroizing::new(read_text(&self.key)?.into_bytes());
        Ok(Certificate { chain, key })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::thread;

    use super::*;

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_secret_is_created_once_and_only_for_its_owner() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        let first = secret(&path).unwrap();
        assert_ne!(first, [0; 32]);
        assert_eq!(secret(&path).unwrap(), first);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_ne!(secret(&directory.path().join("other")).unwrap(), first);
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 2, "a temporary file was left");
    }

    #[test]
    fn threads_that_create_a_secret_at_the_same_time_get_the_same() {
        for _ in 0..50 {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("secret");
            let barrier = Barrier::new(8);
            let secrets: Vec<_> = thread::scope(|scope| {
                let create = || {
                    barrier.wait();
                    secret(&path).unwrap()
                };
                let threads: Vec<_> = (0..8).map(|_| scope.spawn(create)).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            assert!(secrets.iter().all(|secret| *secret == secrets[0]), "{secrets:?}");
            assert_eq!(fs::read_dir(&directory).unwrap().count(), 1, "a temporary file was left");
        }
    }

    #[test]
    fn a_secret_that_others_may_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        let first = secret(&path).unwrap();
        for bad in [0o640, 0o604, 0o620, 0o601] {
            mode(&path, bad);
            let text = secret(&path).unwrap_err().to_string();
            assert!(text.ends_with(&format!("run chmod 600 {}", path.display())), "{text}");
        }
        mode(&path, 0o400);
        assert_eq!(secret(&path).unwrap(), first);
    }

    #[test]
    fn a_file_without_a_secret_is_refused_and_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        let digits = "0123456789abcdefABCDEF".repeat(3);
        for bad in
            ["", "abc", &digits[..63], &format!("{}g", &digits[..63]), &digits[..65], &digits.repeat(9)]
        {
            fs::write(&path, bad).unwrap();
            mode(&path, 0o600);
            let failure = secret(&path).unwrap_err();
            assert_eq!(failure.kind(), ErrorKind::InvalidData, "{bad}");
            assert!(failure.to_string().contains("64 hex digits"), "{failure}");
            assert_eq!(fs::read_to_string(&path).unwrap(), bad);
        }
        fs::write(&path, format!("{}\r\n", &digits[..64])).unwrap();
        let read = secret(&path).unwrap();
        assert_eq!((read[0], read[1], read[11], read[31]), (0x01, 0x23, 0x01, 0xcd), "{read:x?}");
    }

    #[test]
    fn the_path_is_in_every_error() {
        let directory = tempfile::tempdir().unwrap();
        let missing = directory.path().join("missing/secret");
        for failure in [secret(&missing).unwrap_err(), read_text(&missing).unwrap_err()] {
            assert_eq!(failure.kind(), ErrorKind::NotFound);
            assert!(failure.to_string().contains("missing/secret"), "{failure}");
        }
        assert!(secret(directory.path()).unwrap_err().to_string().contains("chmod 600"));
    }

    #[test]
    fn text_is_read_up_to_its_bound() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("text");
        fs::write(&path, "grüße").unwrap();
        assert_eq!(read_text(&path).unwrap(), "grüße");
        fs::write(&path, [0xff]).unwrap();
        assert_eq!(read_text(&path).unwrap_err().kind(), ErrorKind::InvalidData);
        File::create(&path).unwrap().set_len(TEXT_BYTES_MAX + 1).unwrap();
        assert_eq!(read_text(&path).unwrap_err().kind(), ErrorKind::FileTooLarge);
    }
}
