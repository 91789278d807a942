//! `put`: lines become records.
//!
//! A thread reads the input and sends all complete lines available at that time. The main thread puts them as one batch. So lines of a
//! slow input are put at once, a fast input is put in large batches, and Ctrl-C works even while the input is silent.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, HumanCount, ProgressBar};
use regex::bytes::Regex;
use streamlog::{Error, PutRecord, Stream};

use crate::args::{FormatArgs, PutArgs};
use crate::check_interrupted;
use crate::failure::{Failure, Outcome, tell};
use crate::output::{Printer, counted, progress};
use crate::read::Follower;
use crate::standard;

/// The maximum number of bytes in one read, and so in one batch. A flipped bit on disk costs the whole batch, and larger batches are not
/// faster.
const CHUNK_BYTES_MAX: usize = 256 << 10;
/// The longest time before the command notices Ctrl-C while the input is silent.
const WAIT: Duration = Duration::from_millis(100);

/// Puts the lines of the input, and prints how many.
pub(crate) fn put(stream: &Stream, args: &PutArgs) -> Outcome {
    let (input, bytes) = open_input(args.file.as_deref())?;
    let format = FormatArgs { with_key: false, json: false };
    let follow = || Follower::from_latest(stream, Printer::new(format)?);
    let follower = args.follow.then(follow).transpose()?;
    let chunks = read_in_background(input, Sizes::of(stream));
    // A bar and records would overwrite each other on a terminal.
    let is_mixed = args.follow && io::stdout().is_terminal();
    let bar = if is_mixed { ProgressBar::hidden() } else { progress(bytes) };
    let mut putter = Putter { stream, keys: Keys::new(args), line_count: 0, bytes: 0, bar, follower };
    let started = Instant::now();
    let outcome = putter.put_all(&chunks);
    putter.bar.finish_and_clear();
    tell(&putter.summary(started.elapsed(), &outcome));
    outcome
}

/// Opens the input. Returns it with its size, if the size is known.
fn open_input(file: Option<&Path>) -> Result<(Box<dyn Read + Send>, Option<u64>), Failure> {
    let Some(path) = file.filter(|path| *path != Path::new("-")) else {
        let input = standard::input().map_err(|error| Failure::input("standard input", &error))?;
        return Ok((Box::new(input), None));
    };
    let opened = File::open(path).and_then(|file| Ok((file.metadata()?, file)));
    let (metadata, file) = opened.map_err(|error| Failure::input(path.display(), &error))?;
    if metadata.is_dir() {
        return Err(Failure::Told(format!("{} is a directory: name a file", path.display())));
    }
    Ok((Box::new(file), metadata.is_file().then_some(metadata.len())))
}

/// The sizes for reading the input.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    chunk_bytes: usize,
    /// A longer line cannot be put.
    line_bytes_max: usize,
}

impl Sizes {
    fn of(stream: &Stream) -> Self {
        let settings = stream.describe();
        let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        // Several batches fit into a segment, so that small segments stay near their configured size.
        let chunk_bytes = CHUNK_BYTES_MAX.min(size(settings.segment_bytes / 4));
        Self { chunk_bytes, line_bytes_max: size(settings.record_bytes_max) }
    }
}

/// What the reading thread sends: complete lines, each with its newline except possibly the last line of the input.
type Chunk = Result<Vec<u8>, Failure>;

fn read_in_background(mut input: Box<dyn Read + Send>, sizes: Sizes) -> Receiver<Chunk> {
    let (sender, receiver) = sync_channel(4);
    // Do not join the thread: it may wait forever for input, and has nothing to clean up.
    thread::spawn(move || {
        if let Err(failure) = read_chunks(&mut input, sizes, &sender) {
            let _ = sender.send(Err(failure));
        }
    });
    receiver
}

fn read_chunks(input: &mut dyn Read, sizes: Sizes, sender: &SyncSender<Chunk>) -> Outcome {
    let mut chunk = vec![];
    while check_interrupted().is_ok() {
        let at = chunk.len();
        // A line longer than a chunk makes the chunk grow.
        let size = sizes.chunk_bytes.max(at.saturating_mul(2));
        chunk.resize(size, 0);
        let read = loop {
            match input.read(&mut chunk[at..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                outcome => break outcome,
            }
        };
        let read = read.map_err(|error| Failure::Told(format!("cannot read the input: {error}")))?;
        chunk.truncate(at + read);
        let is_end = read == 0;
        let whole = match memrchr(b'\n', &chunk[at..]) {
            _ if is_end => chunk.len(),
            Some(newline) => at + newline + 1,
            // The putter reports that this line is too long, so reading can stop.
            None if chunk.len() > sizes.line_bytes_max => chunk.len(),
            None => continue,
        };
        let rest = chunk.split_off(whole);
        // The putter has ended, and has reported why.
        if !chunk.is_empty() && sender.send(Ok(chunk)).is_err() || is_end {
            return Ok(());
        }
        chunk = rest;
    }
    Ok(())
}

fn memrchr(byte: u8, bytes: &[u8]) -> Option<usize> {
    bytes.iter().rposition(|&found| found == byte)
}

/// Puts chunks of lines.
struct Putter<'s> {
    stream: &'s Stream,
    keys: Keys,
    /// The number of lines put.
    line_count: u64,
    /// The bytes of those lines.
    bytes: u64,
    bar: ProgressBar,
    follower: Option<Follower>,
}

impl Putter<'_> {
    fn put_all(&mut self, chunks: &Receiver<Chunk>) -> Outcome {
        loop {
            match chunks.recv_timeout(WAIT) {
                Ok(chunk) => self.put_chunk(&chunk?)?,
                // The input is silent. After Ctrl-C there is no reason to wait, and neither if nobody sees the records that follow.
                Err(RecvTimeoutError::Timeout) => {
                    check_interrupted()?;
                    self.follower.as_ref().map_or(Ok(()), Follower::check_reader)?;
                }
                // The input has ended, or the reader stopped after Ctrl-C. All lines read so far are put by now, because a pipe cannot take
                // them back.
                Err(RecvTimeoutError::Disconnected) => return check_interrupted(),
            }
        }
    }

    /// Puts the lines of a chunk as one batch, up to the first invalid line.
    fn put_chunk(&mut self, chunk: &[u8]) -> Outcome {
        let lines: Vec<&[u8]> = chunk.split_inclusive(|&byte| byte == b'\n').map(without_newline).collect();
        let first = self.line_count + 1;
        let (keys, refused) = self.keys.of_lines(&lines, first);
        let records: Vec<_> = keys.iter().zip(&lines).map(|(key, line)| PutRecord::new(key, *line)).collect();
        match self.stream.put_batch(&records) {
            Ok(outcomes) => self.count(&lines, outcomes)?,
            // The call put nothing. Put the records before the invalid one, and report that one.
            Err(Error::InvalidRecord { index, reason }) => {
                let outcomes = self.stream.put_batch(&records[..index as usize])?;
                self.count(&lines, outcomes)?;
                return Err(self.refusal(&reason));
            }
            Err(error) => return Err(error.into()),
        }
        self.bar.inc(chunk.len() as u64);
        if let Some(follower) = &mut self.follower {
            while follower.print_some()? {}
        }
        refused.map_or(Ok(()), |reason| Err(self.refusal(&reason)))
    }

    /// Counts the lines put, and reports the first one that failed.
    fn count(&mut self, lines: &[&[u8]], outcomes: Vec<streamlog::Result<streamlog::Receipt>>) -> Outcome {
        let failed = outcomes.iter().filter(|outcome| outcome.is_err()).count();
        let first = self.line_count + 1;
        for (outcome, (line, number)) in outcomes.into_iter().zip(lines.iter().zip(first..)) {
            match outcome {
                Ok(_) => {
                    self.line_count += 1;
                    self.bytes += line.len() as u64;
                }
                Err(error) if failed > 1 => {
                    return Err(Failure::Told(format!(
                        "line {number} and {} of those right after it were not put: {error}",
                        failed - 1
                    )));
                }
                Err(error) => return Err(Failure::Told(format!("line {number} was not put: {error}"))),
            }
        }
        Ok(())
    }

    /// Returns the failure for the line after those already put.
    fn refusal(&self, reason: &str) -> Failure {
        let before = if self.line_count > 0 { "; the lines before it were put" } else { "" };
        Failure::Told(format!("line {}: {reason}{before}", self.line_count + 1))
    }

    fn summary(&self, took: Duration, outcome: &Outcome) -> String {
        let seconds = took.as_secs_f64().max(1e-6);
        let per_second = |count: u64| (count as f64 / seconds) as u64;
        let ended = match outcome {
            Ok(()) => String::new(),
            Err(_) if self.line_count == 0 => String::new(),
            Err(_) => format!("; stopped after line {}", self.line_count),
        };
        format!(
            "put {}, {} in {seconds:.2} s ({} records/s, {}/s){ended}",
            counted(self.line_count, "record"),
            HumanBytes(self.bytes),
            HumanCount(per_second(self.line_count)),
            HumanBytes(per_second(self.bytes)),
        )
    }
}

fn without_newline(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\n").unwrap_or(line)
}

/// The source of the partition keys of lines.
struct Keys {
    source: KeySource,
    /// The key of every line, or of the lines in which the source finds no key.
    fallback: Option<Vec<u8>>,
}

enum KeySource {
    LineNumber,
    /// Always the fallback.
    Constant,
    /// Counted from 0. Without a separator, blanks separate the columns.
    Column {
        index: usize,
        separator: Option<Vec<u8>>,
    },
    Regex(Regex),
}

impl Keys {
    fn new(args: &PutArgs) -> Self {
        let source = match (args.key_column, &args.key_regex, &args.key) {
            (Some(column), ..) => KeySource::Column {
                index: column as usize - 1,
                separator: args.separator.clone().map(String::into_bytes),
            },
            (None, Some(regex), _) => KeySource::Regex(regex.clone()),
            (None, None, Some(_)) => KeySource::Constant,
            (None, None, None) => KeySource::LineNumber,
        };
        Self { source, fallback: args.key.clone().map(String::into_bytes) }
    }

    /// Returns the keys of the lines up to the first line without a key, and the reason for stopping there.
    fn of_lines<'a>(&'a self, lines: &[&'a [u8]], first: u64) -> (Vec<Cow<'a, [u8]>>, Option<String>) {
        let mut keys = Vec::with_capacity(lines.len());
        for (line, number) in lines.iter().zip(first..) {
            match self.of_line(line, number) {
                Some(key) => keys.push(key),
                None => return (keys, Some(self.reason())),
            }
        }
        (keys, None)
    }

    fn of_line<'a>(&'a self, line: &'a [u8], number: u64) -> Option<Cow<'a, [u8]>> {
        let found = match &self.source {
            KeySource::LineNumber => return Some(Cow::Owned(number.to_string().into_bytes())),
            KeySource::Constant => None,
            KeySource::Column { index, separator: None } => {
                line.split(u8::is_ascii_whitespace).filter(|column| !column.is_empty()).nth(*index)
            }
            KeySource::Column { index, separator: Some(separator) } => column(line, separator, *index),
            KeySource::Regex(regex) => regex
                .captures(line)
                .and_then(|found| found.get(1).or(found.get(0)))
                .map(|found| found.as_bytes()),
        };
        found.filter(|key| !key.is_empty()).or(self.fallback.as_deref()).map(Cow::Borrowed)
    }

    fn reason(&self) -> String {
        let what = match &self.source {
            KeySource::Column { index, .. } => format!("column {} is missing or empty", index + 1),
            KeySource::Regex(regex) => format!("{:?} finds no key, or an empty one", regex.as_str()),
            KeySource::LineNumber | KeySource::Constant => "there is no key".to_owned(),
        };
        format!("{what}, and no --key says what to take instead")
    }
}

/// Returns the part of a line after `index` separators.
fn column<'a>(line: &'a [u8], separator: &[u8], index: usize) -> Option<&'a [u8]> {
    let mut rest = line;
    for _ in 0..index {
        rest = &rest[find(rest, separator)? + separator.len()..];
    }
    Some(&rest[..find(rest, separator).unwrap_or(rest.len())])
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}
