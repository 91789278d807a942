//! `put`: lines become records.
//!
//! A thread reads the input and sends all complete lines available at that time; see `input`. The main thread puts them as one batch. So
//! lines of a slow input are put immediately, a fast input is put in large batches, and Ctrl-C works even while the input is silent.

use std::borrow::Cow;
use std::io::{self, IsTerminal};
use std::mem;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, HumanCount, ProgressBar};
use regex::bytes::Regex;
use streamlog::{Error, PutRecord, Stream};

use crate::args::{FormatArgs, PutArgs};
use crate::check_interrupted;
use crate::failure::{Failure, Outcome, tell};
use crate::follow::Follower;
use crate::input::{Chunk, Chunks, Input, Sizes, read_in_background};
use crate::output::{Printer, counted, progress};

/// The longest time before the command notices Ctrl-C while the input is silent.
const WAIT: Duration = Duration::from_millis(100);

/// Puts the lines of the input, and prints how many.
pub(crate) fn put(stream: &Stream, args: &PutArgs) -> Outcome {
    let (input, bytes) = Input::of(args.file.as_deref())?;
    let sizes = Sizes::of(stream);
    let format = FormatArgs { with_key: false, json: false };
    let follow = || Follower::from_latest(stream, Printer::new(format)?);
    let follower = args.follow.then(follow).transpose()?;
    let chunks = read_in_background(input, sizes);
    // A bar and records would overwrite each other on a terminal.
    let is_mixed = args.follow && io::stdout().is_terminal();
    let bar = if is_mixed { ProgressBar::hidden() } else { progress(bytes) };
    let (keys, is_skipping) = (&Keys::new(args), args.skip_long);
    let mut putter =
        Putter { stream, keys, sizes, is_skipping, line_count: 0, skipped_count: 0, bytes: 0, bar, follower };
    let started = Instant::now();
    let outcome = putter.put_all(&chunks);
    putter.bar.finish_and_clear();
    if outcome.is_ok() || putter.line_count > 0 {
        tell(&putter.summary(started.elapsed(), &outcome));
    }
    outcome
}

/// Puts chunks of lines.
struct Putter<'s> {
    stream: &'s Stream,
    keys: &'s Keys,
    sizes: Sizes,
    /// Whether lines that are too long are skipped.
    is_skipping: bool,
    /// The number of lines put or skipped.
    line_count: u64,
    skipped_count: u64,
    /// The bytes of the lines put.
    bytes: u64,
    bar: ProgressBar,
    follower: Option<Follower>,
}

/// Why a line cannot be put.
struct Refusal {
    reason: String,
    is_too_long: bool,
}

impl<'s> Putter<'s> {
    fn put_all(&mut self, chunks: &Chunks) -> Outcome {
        loop {
            match chunks.recv_timeout(WAIT) {
                Ok(chunk) => self.put_chunk(&chunk?)?,
                // The input is silent. After Ctrl-C, or if no one sees the records that follow, there is no reason to wait.
                Err(RecvTimeoutError::Timeout) => {
                    check_interrupted()?;
                    self.follower.as_ref().map_or(Ok(()), Follower::check_reader)?;
                }
                // The input has ended, or the reader stopped after Ctrl-C. All lines read so far are put by now, because they cannot be returned to
                // a pipe.
                Err(RecvTimeoutError::Disconnected) => return check_interrupted(),
            }
        }
    }

    fn put_chunk(&mut self, chunk: &Chunk) -> Outcome {
        match chunk {
            Chunk::Lines(lines) => {
                self.put_lines(lines)?;
                self.bar.inc(lines.len() as u64);
            }
            Chunk::LongLine(bytes) => {
                self.refuse(&self.too_long(*bytes))?;
                self.bar.inc(*bytes);
            }
        }
        if let Some(follower) = &mut self.follower {
            while follower.print_some()? {}
        }
        Ok(())
    }

    /// Puts lines as one batch, or as several if there are lines between them to skip.
    fn put_lines(&mut self, lines: &[u8]) -> Outcome {
        let mut batch = vec![];
        for line in lines.split_inclusive(|&byte| byte == b'\n').map(without_newline) {
            match self.key_of(line, self.line_count + batch.len() as u64 + 1) {
                Ok(key) => batch.push((key, line)),
                Err(refusal) => {
                    self.put_batch(&mem::take(&mut batch))?;
                    self.refuse(&refusal)?;
                }
            }
        }
        self.put_batch(&batch)
    }

    /// Returns the key of a line that can be put.
    fn key_of<'a>(&self, line: &'a [u8], number: u64) -> Result<Cow<'a, [u8]>, Refusal>
    where
        's: 'a,
    {
        if line.len() > self.sizes.line_bytes_max {
            return Err(self.too_long(line.len() as u64));
        }
        let key = self.keys.of_line(line, number);
        let key = key.ok_or_else(|| Refusal { reason: self.keys.reason(), is_too_long: false })?;
        match self.stream.check_record(&PutRecord::new(&key, line)) {
            // An empty key would also be invalid, but no key is empty here.
            Err(Error::InvalidRecord { reason, .. }) => {
                Err(Refusal { reason: reason.into(), is_too_long: true })
            }
            _ => Ok(key),
        }
    }

    fn too_long(&self, bytes: u64) -> Refusal {
        let reason = format!("it has {bytes} bytes, and a record may have {}", self.sizes.line_bytes_max);
        Refusal { reason, is_too_long: true }
    }

    /// Skips the line after those already put or skipped, or fails because of it.
    fn refuse(&mut self, Refusal { reason, is_too_long }: &Refusal) -> Outcome {
        let number = self.line_count + 1;
        if !(self.is_skipping && *is_too_long) {
            let hint = if *is_too_long { "; --skip-long skips such lines" } else { "" };
            let before = if self.line_count > 0 { "; the lines before it were put" } else { "" };
            return Err(Failure::Told(format!("line {number}: {reason}{hint}{before}")));
        }
        if self.skipped_count == 0 {
            let note =
                format!("note: line {number} is skipped: {reason}; later skipped lines are only counted");
            self.bar.suspend(|| tell(&note));
        }
        self.line_count += 1;
        self.skipped_count += 1;
        Ok(())
    }

    fn put_batch(&mut self, batch: &[(Cow<'_, [u8]>, &[u8])]) -> Outcome {
        let records: Vec<_> = batch.iter().map(|(key, line)| PutRecord::new(key, *line)).collect();
        let outcomes = self.stream.put_batch(&records)?;
        let failed = outcomes.iter().filter(|outcome| outcome.is_err()).count();
        for (outcome, (_, line)) in outcomes.into_iter().zip(batch) {
            if let Err(error) = outcome {
                let number = self.line_count + 1;
                let lines = match failed {
                    1 => format!("line {number} was"),
                    _ => format!("line {number} and {} of the lines right after it were", failed - 1),
                };
                return Err(Failure::Told(format!("{lines} not put: {error}")));
            }
            self.line_count += 1;
            self.bytes += line.len() as u64;
        }
        Ok(())
    }

    fn summary(&self, took: Duration, outcome: &Outcome) -> String {
        let seconds = took.as_secs_f64().max(1e-6);
        let per_second = |count: u64| (count as f64 / seconds) as u64;
        let count = self.line_count - self.skipped_count;
        let skipped = match self.skipped_count {
            0 => String::new(),
            skipped => format!("; skipped {}", counted(skipped, "long line")),
        };
        let ended = match outcome {
            Err(_) if self.line_count > 0 => format!("; stopped after line {}", self.line_count),
            _ => String::new(),
        };
        format!(
            "put {}, {} in {seconds:.2} s ({} records/s, {}/s){skipped}{ended}",
            counted(count, "record"),
            HumanBytes(self.bytes),
            HumanCount(per_second(count)),
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

    /// Returns the key of a line. A carriage return at its end, as in files from Windows, is not part of a key.
    fn of_line<'a>(&'a self, line: &'a [u8], number: u64) -> Option<Cow<'a, [u8]>> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
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
            KeySource::Regex(regex) => format!("{:?} found no key, or an empty key", regex.as_str()),
            KeySource::LineNumber | KeySource::Constant => "there is no key".to_owned(),
        };
        format!("{what}, and there is no --key to use instead")
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
