//! What ends the tool early, and the exit code that each has.

use std::io;
use std::path::Path;
use std::process::ExitCode;

/// The exit code after Ctrl-C, as shells have it: 128 and the number of the signal.
pub(crate) const EXIT_INTERRUPTED: u8 = 130;

/// What a command comes to.
pub(crate) type Outcome = Result<(), Failure>;

/// Why a command ended before its time.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The library said no.
    Stream(streamlog::Error),
    /// Standard output could not be written; no failure if it is a pipe that its reader has closed.
    Output(io::Error),
    /// Anything else, in words.
    Told(String),
    /// The command has told what is wrong already.
    AlreadyTold,
    /// Ctrl-C.
    Interrupted,
}

impl Failure {
    /// The failure to read an input.
    pub(crate) fn input(path: &Path, error: &io::Error) -> Self {
        Self::Told(format!("cannot read {}: {error}", path.display()))
    }

    /// Says it on standard error, and gives the exit code.
    pub(crate) fn report(self) -> ExitCode {
        let message = match self {
            // `streamlog cat | head` has all that it wants.
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

/// Says something on standard error. That it may be closed too is no reason to panic, as `eprintln!` does.
pub(crate) fn tell(message: &str) {
    let _ = io::Write::write_all(&mut io::stderr(), format!("streamlog: {message}\n").as_bytes());
}
