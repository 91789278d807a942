//! A process that the supervisor starts: it prints a line at least twice a second, and ends when its standard input does.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use clap::ValueEnum;

use super::board::SILENCE_MAX;
use super::message::Message;
use super::report::Memory;
use super::{Args, Result, Role};

/// A process that uses more memory of its own than this has a leak.
const OWN_BYTES_MAX: u64 = 256 << 20;

/// A running process.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    lines: Receiver<(Instant, String)>,
    role: Role,
    heard: Instant,
}

/// What a process has printed, or that it will print no more.
#[derive(Debug)]
pub(crate) enum Heard {
    /// A message and its arrival time.
    Message(Instant, Message),
    /// Nothing within the timeout, or a line that a kill has cut short.
    Nothing,
    End,
}

/// Kills the process: however the supervisor ends, no process outlives it.
impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    pub(crate) fn start(args: &Args, role: Role, round: u32, run: u32) -> Result<Self> {
        let durability = args.durability.to_possible_value().ok_or("no such durability")?;
        let role_value = role.to_possible_value().ok_or("no such role")?;
        let dir = args.dir.as_deref().ok_or("no directory")?;
        let mut child = Command::new(std::env::current_exe()?)
            .args(["--writers", &args.writers.to_string(), "--shards", &args.shards.to_string()])
            .args(["--durability", durability.get_name(), "--rate", &args.rate.to_string()])
            .args(["--seed", &args.seed.unwrap_or_default().to_string()])
            .args([Path::new("--dir"), dir])
            .args(["--role", role_value.get_name()])
            .args(["--round", &round.to_string(), "--run", &run.to_string()])
            // A separate process group, so that Ctrl-C does not reach the process.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut out = BufReader::new(child.stdout.take().ok_or("a process has no output")?);
        let (sender, lines) = channel();
        thread::spawn(move || {
            let mut line = String::new();
            while matches!(out.read_line(&mut line), Ok(1..))
                && sender.send((Instant::now(), std::mem::take(&mut line))).is_ok()
            {}
        });
        Ok(Self { child, lines, role, heard: Instant::now() })
    }

    /// Returns the next message of the process. Waits for it for a while.
    pub(crate) fn hear(&mut self, timeout: Duration) -> Heard {
        match self.lines.recv_timeout(timeout) {
            Ok((at, line)) => {
                self.heard = at;
                Message::parse(&line).map_or(Heard::Nothing, |message| Heard::Message(at, message))
            }
            Err(RecvTimeoutError::Timeout) => Heard::Nothing,
            Err(RecvTimeoutError::Disconnected) => Heard::End,
        }
    }

    /// Checks a process after all its messages were read: it must not hang.
    pub(crate) fn check_silence(&self) -> Result<()> {
        if self.heard.elapsed() <= SILENCE_MAX {
            return Ok(());
        }
        let (role, id) = (self.role, self.child.id());
        Err(format!("a {role:?} (process {id}) hangs: it said nothing for {SILENCE_MAX:?}").into())
    }

    /// Returns the memory of the process, if the system provides it. Fails if it is too much.
    pub(crate) fn memory(&self) -> Result<Option<Memory>> {
        match Memory::of_process(self.child.id()) {
            Some(memory) if memory.own_bytes > OWN_BYTES_MAX => {
                Err(format!("a {:?} takes too much memory: {memory:?}", self.role).into())
            }
            memory => Ok(memory),
        }
    }

    /// Asks the process to end.
    pub(crate) fn ask_to_end(&mut self) {
        drop(self.child.stdin.take());
    }

    pub(crate) fn kill(&mut self) -> Result<()> {
        Ok(self.child.kill()?)
    }

    /// Waits for the end of a process that has ended, or was killed.
    pub(crate) fn end(&mut self) -> Result<ExitStatus> {
        Ok(self.child.wait()?)
    }

    /// Describes a process that ended without being asked to.
    pub(crate) fn ended_by_itself(&mut self) -> Result<String> {
        let status = self.end()?;
        Ok(format!("a {:?} ended by itself: {status}", self.role))
    }
}
