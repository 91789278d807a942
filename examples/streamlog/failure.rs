//! The reasons why the tool ends early, and the exit code of each.

use std::fmt::Display;
use std::io;
use std::process::ExitCode;

/// The exit code after Ctrl-C, as in shells: 128 plus the signal number.
pub(crate) const EXIT_INTERRUPTED: u8 = 130;

/// The result of a command.
pub(crate) type Outcome = Result<(), Failure>;

/// Why a command ended early.
#[derive(Debug)]
pub(crate) enum Failure {
    /// An error from the library.
    Stream(streamlog::Error),
    /// Standard output cannot be written. Not a failure if it is a pipe whose reader has closed it.
    Output(io::Error),
    /// Any other failure, as a message.
    Told(String),
    /// The command has already printed the failure.
    AlreadyTold,
    /// Ctrl-C.
    Interrupted,
}

impl Failure {
    /// Returns the failure to read an input.
    pub(crate) fn input(name: impl Display, error: &io::Error) -> Self {
        Self::Told(format!("cannot read {name}: {error}"))
    }

    /// Prints the failure on standard error, and returns the exit code.
    pub(crate) fn report(self) -> ExitCode {
        let message = match self {
            // The reader has seen enough, as in `streamlog cat | head`.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => return ExitCode::SUCCESS,
            Self::Interrupted => return ExitCode::from(EXIT_INTERRUPTED),
            Self::AlreadyTold => return ExitCode::FAILURE,
            Self::Stream(error) => error.to_string(),
            Self::Output(error) => format!("cannot write to standard output: {error}"),
            Self::Told(message) => message,
        };
        tell(&message);
        ExitCode::FAILURE
    }
}

impl From<streamlog::Error> for Failure {
    fn from(error: streamlog::Error) -> Self {
        Self::Stream(error)
    }
}

/// Prints a message on standard error. Unlike `eprintln!`, it does not panic if standard error is closed.
pub(crate) fn tell(message: &str) {
    let _ = io::Write::write_all(&mut io::stderr(), format!("streamlog: {message}\n").as_bytes());
}
