//! Statements from the command line or from standard input: the first that fails ends the command.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use super::print::Screen;
use super::shell;
use super::split::{Pieces, is_command, is_complete};
use super::tables::Opened;
use crate::check_interrupted;
use crate::failure::{Failure, Outcome};

pub(crate) const INPUT: &str = "standard input";
/// How soon Ctrl-C is noticed while the input is silent.
const WAIT: Duration = Duration::from_millis(100);
/// The longest statement that the library accepts. Several may arrive in one piece.
const TEXT_BYTES_MAX: usize = 64 << 20;

/// Runs the statements of an input, each as soon as its semicolon arrives.
pub(crate) fn run(input: File, opened: &Opened, screen: &mut Screen) -> Outcome {
    let lines = lines(input);
    let mut text = String::new();
    loop {
        match lines.recv_timeout(WAIT) {
            Ok(line) => {
                let line = line?;
                let may_end = line.contains(';') || is_command(line.trim_start());
                text += &line;
                if text.len() > TEXT_BYTES_MAX {
                    return Err(Failure::Told("a statement on standard input is too long".to_owned()));
                }
                if may_end
                    && is_complete(&text)
                    && all(&std::mem::take(&mut text), opened, screen)?.is_break()
                {
                    return Ok(());
                }
            }
            Err(RecvTimeoutError::Timeout) => check_interrupted()?,
            Err(RecvTimeoutError::Disconnected) => return all(&text, opened, screen).map(|_| ()),
        }
    }
}

/// Runs all statements and commands of a text. Returns `Break` if a command ends the script.
pub(crate) fn all(text: &str, opened: &Opened, screen: &mut Screen) -> Result<ControlFlow<()>, Failure> {
    for piece in Pieces::of(text) {
        check_interrupted()?;
        if !is_command(piece) {
            screen.run(&opened.catalog, piece)?;
        } else if shell::command(piece, opened, screen)?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// Reads lines in a thread that is never joined: it may wait forever.
fn lines(input: File) -> Receiver<Result<String, Failure>> {
    let (sender, receiver) = sync_channel(64);
    thread::spawn(move || {
        let mut input = BufReader::new(input);
        loop {
            let mut line = String::new();
            let read = match input.read_line(&mut line) {
                Ok(0) => return,
                Ok(_) => Ok(line),
                Err(error) => Err(Failure::input(INPUT, &error)),
            };
            let is_last = read.is_err();
            // If the receiver is gone, it has reported why.
            if sender.send(read).is_err() || is_last {
                return;
            }
        }
    });
    receiver
}
