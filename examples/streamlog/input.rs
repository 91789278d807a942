//! The input of `put`, read by a thread in chunks of complete lines.

use std::fs::File;
use std::io::{self, Read};
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use streamlog::Stream;

use crate::failure::Failure;
use crate::{check_interrupted, standard};

/// The maximum number of bytes in one read, and so in one batch. A flipped bit on disk costs the whole batch, and larger batches are not
/// faster.
const CHUNK_BYTES_MAX: usize = 256 << 10;
const STANDARD_INPUT: &str = "standard input";
/// The programs that compress logs: the first bytes of their output, their names, and the commands that decompress.
const COMPRESSED: [(&[u8], &str, &str); 4] = [
    (b"\x1f\x8b\x08", "gzip", "zcat"),
    (b"\x28\xb5\x2f\xfd", "zstd", "zstdcat"),
    (b"\xfd7zXZ\0", "xz", "xzcat"),
    (b"BZh91AY&SY", "bzip2", "bzcat"),
];

/// What to read.
pub(crate) enum Input {
    Standard(File),
    Named(PathBuf),
}

impl Input {
    /// Returns the input with its size, if the size is known.
    pub(crate) fn of(file: Option<&Path>) -> Result<(Self, Option<u64>), Failure> {
        let Some(path) = file.filter(|path| *path != Path::new("-")) else {
            let file = standard::input().map_err(|error| Failure::input(STANDARD_INPUT, &error))?;
            return Ok((Self::Standard(file), None));
        };
        let metadata = path.metadata().map_err(|error| Failure::input(path.display(), &error))?;
        if metadata.is_dir() {
            return Err(Failure::Told(format!("{} is a directory: name a file", path.display())));
        }
        Ok((Self::Named(path.into()), metadata.is_file().then_some(metadata.len())))
    }

    /// Opens the input. This waits until somebody writes to a named pipe.
    pub(crate) fn open(self) -> io::Result<File> {
        match self {
            Self::Standard(file) => Ok(file),
            Self::Named(path) => File::open(path),
        }
    }

    pub(crate) fn name(&self) -> String {
        match self {
            Self::Standard(_) => STANDARD_INPUT.into(),
            Self::Named(path) => path.display().to_string(),
        }
    }
}

/// The sizes for reading the input.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    chunk_bytes: usize,
    /// A longer line cannot be put.
    pub(crate) line_bytes_max: usize,
}

impl Sizes {
    pub(crate) fn of(stream: &Stream) -> Self {
        let settings = stream.describe();
        let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        // Several batches fit into a segment, so that small segments stay near their configured size.
        let chunk_bytes = CHUNK_BYTES_MAX.min(size(settings.segment_bytes / 4));
        Self { chunk_bytes, line_bytes_max: size(settings.record_bytes_max) }
    }
}

/// What the reading thread sends.
pub(crate) enum Chunk {
    /// Complete lines, each with its newline except possibly the last line of the input.
    Lines(Vec<u8>),
    /// The length of a line that is too long to put, and was not kept.
    LongLine(u64),
}

/// Where the chunks arrive. The last one may be a read error.
pub(crate) type Chunks = Receiver<Result<Chunk, Failure>>;

/// Reads the input in a thread.
pub(crate) fn read_in_background(input: Input, sizes: Sizes) -> Chunks {
    let (sender, receiver) = sync_channel(4);
    // Do not join the thread: it may wait forever for input, and has nothing to clean up.
    thread::spawn(move || {
        let name = input.name();
        let outcome = input.open().and_then(|mut file| read_chunks(&mut file, sizes, &sender));
        if let Err(error) = outcome {
            let _ = sender.send(Err(Failure::input(name, &error)));
        }
    });
    receiver
}

fn read_chunks(
    input: &mut File,
    sizes: Sizes,
    sender: &SyncSender<Result<Chunk, Failure>>,
) -> io::Result<()> {
    let mut chunk = vec![];
    // Whether the chunk starts at the start of the input.
    let mut is_start = true;
    // How many bytes of a line that is too long were read and dropped. The line is read to its end, so that the error can give its length.
    let mut long_bytes = 0;
    // If the receiver is gone, it has reported why.
    let send = |chunk| sender.send(Ok(chunk)).is_ok();
    while check_interrupted().is_ok() {
        let at = chunk.len();
        // A line longer than a chunk makes the chunk grow.
        chunk.resize(sizes.chunk_bytes.max(at.saturating_mul(2)), 0);
        let read = read(input, &mut chunk[at..])?;
        chunk.truncate(at + read);
        let is_end = read == 0;
        if is_start {
            refuse_compressed(&chunk)?;
        }
        if long_bytes > 0 {
            let end = chunk.iter().position(|&byte| byte == b'\n');
            long_bytes += end.unwrap_or(chunk.len()) as u64;
            if end.is_none() && !is_end {
                chunk.clear();
                continue;
            }
            if !send(Chunk::LongLine(mem::take(&mut long_bytes))) {
                return Ok(());
            }
            chunk.drain(..end.map_or(chunk.len(), |end| end + 1));
        }
        let whole = match memrchr(b'\n', &chunk[at..]) {
            _ if is_end => chunk.len(),
            Some(newline) => at + newline + 1,
            None if chunk.len() > sizes.line_bytes_max => {
                long_bytes = chunk.len() as u64;
                is_start = false;
                chunk.clear();
                continue;
            }
            None => continue,
        };
        let rest = chunk.split_off(whole);
        is_start &= chunk.is_empty();
        if !chunk.is_empty() && !send(Chunk::Lines(chunk)) || is_end {
            return Ok(());
        }
        chunk = rest;
    }
    Ok(())
}

fn read(input: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match input.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

fn memrchr(byte: u8, bytes: &[u8]) -> Option<usize> {
    bytes.iter().rposition(|&found| found == byte)
}

/// Fails if the input starts like a compressed file. Its lines would be garbage, and could not be removed from the stream again.
fn refuse_compressed(start: &[u8]) -> io::Result<()> {
    match COMPRESSED.iter().find(|(magic, ..)| start.starts_with(magic)) {
        Some((_, name, command)) => Err(io::Error::other(format!(
            "it is compressed by {name}: use {command} FILE | streamlog put PATH"
        ))),
        None => Ok(()),
    }
}
