//! `video clip`: exports a piece of video as an MP4 file.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use indicatif::HumanBytes;
use streamlog::video::{CodecChanges, FragmentSelector, VideoError, VideoStream};

use super::VideoClipArgs;
use super::list::extent;
use crate::failure::{Failure, Outcome};
use crate::output::{counted, print_text};
use crate::standard;
use crate::table::span;

const OUT_BUFFER_BYTES: usize = 1 << 20;

/// Writes a clip, and prints a summary.
pub(super) fn clip(stream: &VideoStream, args: &VideoClipArgs) -> Outcome {
    let selector = match (args.last, stream.newest()) {
        (Some(last), Some(newest)) => {
            let end = newest.producer_end();
            FragmentSelector::ProducerTime(end - last..=end)
        }
        _ => args.range.selector(),
    };
    if args.output == Path::new("-") {
        let out = standard::output().map_err(Failure::Output)?;
        return write(stream, &selector, out).map_err(|error| error.on_output(Failure::Output)).map(drop);
    }
    let bytes = to_file(stream, &selector, &args.output)?;
    let fragments = stream.fragments(&selector)?;
    print_text(&format!(
        "{}: {} of {}, {}\n",
        args.output.display(),
        counted(fragments.len() as u64, "fragment"),
        span(extent(&fragments)),
        HumanBytes(bytes)
    ))
}

/// Writes a clip into a file, which appears under its name only when it is complete. Returns its bytes.
fn to_file(stream: &VideoStream, selector: &FragmentSelector, path: &Path) -> Result<u64, Failure> {
    let partial = partial(path);
    let told = |error: io::Error| Failure::Told(format!("cannot write {}: {error}", path.display()));
    let written = File::create(&partial).map_err(told).and_then(|file| {
        let bytes = write(stream, selector, file).map_err(|error| error.on_output(told))?;
        fs::rename(&partial, path).map_err(told)?;
        Ok(bytes)
    });
    if written.is_err() {
        // It may not even have been created.
        let _ = fs::remove_file(&partial);
    }
    written
}

/// Returns the name of a file while it is being written.
fn partial(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}

/// Why a clip was not written.
struct Unwritten {
    error: VideoError,
    /// The output's error, if that was the cause.
    output: Option<io::Error>,
}

impl Unwritten {
    /// Returns the failure. `failure` wraps an error of the output.
    fn on_output(self, failure: impl FnOnce(io::Error) -> Failure) -> Failure {
        match self.output {
            Some(error) => failure(error),
            None => self.error.into(),
        }
    }
}

fn write(stream: &VideoStream, selector: &FragmentSelector, out: File) -> Result<u64, Unwritten> {
    let mut out = BufWriter::with_capacity(OUT_BUFFER_BYTES, Counted { out, bytes: 0, failed: None });
    match stream.clip(selector, CodecChanges::Describe, &mut out) {
        Ok(()) => Ok(out.get_ref().bytes),
        Err(error) => Err(Unwritten { error, output: out.get_mut().failed.take() }),
    }
}

/// Counts the bytes written, and keeps the error if writing fails.
struct Counted {
    out: File,
    bytes: u64,
    failed: Option<io::Error>,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.out.write(bytes) {
            Ok(len) => {
                self.bytes += len as u64;
                Ok(len)
            }
            Err(error) => {
                let kind = error.kind();
                self.failed = Some(error);
                Err(kind.into())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
