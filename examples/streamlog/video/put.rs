//! `video put`: ingests Matroska as fragments.
//!
//! A thread reads the input, so that Ctrl-C works even while the input is silent. Clusters may arrive far apart, as from cameras.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use indicatif::{HumanBytes, ProgressBar};
use streamlog::video::{Ack, Ingest, IngestOptions, Timecodes, VideoStream};

use super::list::extent;
use super::{VideoPutArgs, open};
use crate::failure::{Failure, Outcome, tell};
use crate::input::Input;
use crate::output::{counted, progress};
use crate::table::span;
use crate::{check_interrupted, standard};

/// How much is read at a time.
const PIECE_BYTES: usize = 256 << 10;
/// The longest time before the command notices Ctrl-C while the input is silent.
const WAIT: Duration = Duration::from_millis(100);

/// Ingests the input into a stream, and prints how much was stored.
pub(super) fn put(args: &VideoPutArgs, key_file: Option<&Path>) -> Outcome {
    // Open the file first, so that no stream is created if it does not exist.
    let (input, bytes) = Input::of(Some(&args.file))?;
    let name = input.name();
    let input = input.open().map_err(|error| Failure::input(&name, &error))?;
    open::finish(open::to_put(args, key_file)?, |stream| {
        let bar = progress(bytes);
        let printed = Acks::new(args.acks)?;
        let print = printed.clone();
        let ingest = stream.ingest(options(args), move |ack| print.print(ack))?;
        let put = Put { stream, ingest: Some(ingest), printed, bar, name, bytes: 0 };
        put.all(input)
    })
}

fn options(args: &VideoPutArgs) -> IngestOptions {
    let mut options = IngestOptions::new();
    if args.absolute {
        options = options.timecodes(Timecodes::Absolute);
    }
    if let Some(start) = args.start {
        options = options.producer_start(start);
    }
    if args.sparse_tracks {
        options = options.sparse_tracks();
    }
    args.tag.iter().fold(options, |options, (name, value)| options.tag(name, value))
}

/// Prints acknowledgements, and keeps the error if that fails.
#[derive(Clone)]
struct Acks {
    out: Option<Arc<Mutex<Printed>>>,
}

struct Printed {
    out: File,
    failed: Option<std::io::Error>,
}

impl Acks {
    fn new(is_printing: bool) -> Result<Self, Failure> {
        let open = || standard::output().map(|out| Arc::new(Mutex::new(Printed { out, failed: None })));
        let out = is_printing.then(open).transpose().map_err(Failure::Output)?;
        Ok(Self { out })
    }

    fn print(&self, ack: Ack) {
        let Some(out) = &self.out else { return };
        let mut printed = out.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = printed.out.write_all(format!("{ack}\n").as_bytes()) {
            printed.failed.get_or_insert(error);
        }
    }

    /// Fails if something could not be printed, or if the output's reader is gone.
    fn check(&self) -> Outcome {
        let Some(out) = &self.out else { return Ok(()) };
        let mut printed = out.lock().unwrap_or_else(PoisonError::into_inner);
        match printed.failed.take() {
            Some(error) => Err(Failure::Output(error)),
            None if standard::has_lost_its_reader(&printed.out) => {
                Err(Failure::Output(ErrorKind::BrokenPipe.into()))
            }
            None => Ok(()),
        }
    }
}

struct Put<'s> {
    stream: &'s VideoStream,
    /// `None` once it has ended.
    ingest: Option<Ingest>,
    printed: Acks,
    bar: ProgressBar,
    name: String,
    bytes: u64,
}

impl Put<'_> {
    fn all(mut self, input: File) -> Outcome {
        let mut ingested = Default::default();
        let outcome = self.pieces(&read_in_background(input), &mut ingested);
        self.bar.finish_and_clear();
        let count = ingested.fragment_count;
        if outcome.is_ok() || count > 0 {
            let fragments = self.stream.newest_fragments(usize::try_from(count).unwrap_or(usize::MAX));
            tell(&format!(
                "{} of {}, {} read",
                counted(count, "fragment"),
                span(extent(&fragments)),
                HumanBytes(self.bytes)
            ));
        }
        outcome
    }

    /// Processes chunks until the input ends, and notes what was stored.
    fn pieces(
        &mut self,
        pieces: &Receiver<std::io::Result<Vec<u8>>>,
        stored: &mut streamlog::video::Ingested,
    ) -> Outcome {
        loop {
            check_interrupted()?;
            self.printed.check()?;
            let Some(ingest) = &mut self.ingest else { return Ok(()) };
            let taken = match pieces.recv_timeout(WAIT) {
                Ok(Ok(piece)) => {
                    self.bytes += piece.len() as u64;
                    self.bar.inc(piece.len() as u64);
                    ingest.write(&piece)
                }
                Ok(Err(error)) => {
                    if let Some(ingest) = self.ingest.take() {
                        // The acknowledgement also reports it.
                        ingest.abort(error.to_string());
                    }
                    return Err(Failure::input(&self.name, &error));
                }
                Err(RecvTimeoutError::Timeout) => ingest.check(),
                Err(RecvTimeoutError::Disconnected) => match self.ingest.take() {
                    Some(ingest) => ingest.finish().map(|ingested| *stored = ingested),
                    None => Ok(()),
                },
            };
            if let Some(ingest) = &self.ingest {
                *stored = ingest.ingested();
            }
            taken?;
        }
    }
}

/// Reads the input in a thread, to its end or until the receiver is gone.
fn read_in_background(input: File) -> Receiver<std::io::Result<Vec<u8>>> {
    let (sender, receiver) = sync_channel(4);
    // Do not join the thread: it may wait forever for input, and has nothing to clean up.
    thread::spawn(move || read(input, &sender));
    receiver
}

fn read(mut input: File, sender: &SyncSender<std::io::Result<Vec<u8>>>) {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let sent = match input.read(&mut piece) {
            Ok(0) => return,
            Ok(len) => sender.send(Ok(piece[..len].to_vec())),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => {
                let _ = sender.send(Err(error));
                return;
            }
        };
        if sent.is_err() {
            return;
        }
    }
}
