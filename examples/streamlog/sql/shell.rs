//! The shell: statements from a terminal, with a history and completion.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustyline::config::Configurer;
use rustyline::error::{ReadlineError, Signal};
use rustyline::history::FileHistory;
use rustyline::{CompletionType, Config, Editor};

use super::RowFormat;
use super::complete::Completion;
use super::print::Screen;
use super::split::{Pieces, command_within, is_command};
use super::tables::Opened;
use crate::failure::{Failure, Outcome, tell};
use crate::{INTERRUPTED, IS_SHELL};

const PROMPT: &str = "sql> ";
const HISTORY_LINES: usize = 10_000;

const COMMANDS: &str = "\
Statements end with a semicolon, and may have several lines. Ctrl-C stops a statement, Ctrl-D ends the shell.
  \\d              lists the tables
  \\d TABLE        lists the columns of a table
  \\df             lists the functions
  \\format FORMAT  prints rows as table, lines, csv or json
  \\?              prints this
  \\q              ends the shell
";

/// Reads statements from the terminal and runs them, until the user ends it.
pub(crate) fn run(opened: &Opened, mut screen: Screen) -> Outcome {
    IS_SHELL.store(true, Ordering::Relaxed);
    let mut editor = editor(opened)?;
    let history = history_file();
    if let Some(file) = &history {
        // The first session has no history file.
        let _ = editor.load_history(file);
    }
    screen.text("A semicolon ends a statement. \\? lists the commands of this shell, Ctrl-D ends it.\n")?;
    let mut begun = String::new();
    loop {
        let text = match editor.readline_with_initial(PROMPT, (&std::mem::take(&mut begun), "")) {
            Ok(text) => text,
            Err(ReadlineError::Interrupted | ReadlineError::Signal(Signal::Interrupt)) => continue,
            Err(ReadlineError::Signal(_)) => continue,
            Err(ReadlineError::Eof) => return Ok(()),
            Err(error) => return Err(Failure::Told(format!("cannot read from the terminal: {error}"))),
        };
        if text.trim().is_empty() {
            continue;
        }
        let _ = editor.add_history_entry(text.trim_end());
        if let Some(file) = &history {
            keep(&mut editor, file);
        }
        let mut runs = text.as_str();
        if let Some((statement, command)) = command_within(&text) {
            begun = statement.to_owned();
            runs = command;
        }
        if all(runs, opened, &mut screen)?.is_break() {
            return Ok(());
        }
    }
}

fn editor(opened: &Opened) -> Result<Editor<Completion, FileHistory>, Failure> {
    let failed = |error: ReadlineError| Failure::Told(format!("cannot use the terminal: {error}"));
    let config = Config::builder().completion_type(CompletionType::List).history_ignore_space(true).build();
    let mut editor = Editor::with_config(config).map_err(failed)?;
    editor.set_max_history_size(HISTORY_LINES).map_err(failed)?;
    editor.set_helper(Some(Completion::of(&opened.catalog)));
    Ok(editor)
}

/// Runs all statements and commands of a text. Prints each failure; a failure ends only this text.
fn all(text: &str, opened: &Opened, screen: &mut Screen) -> Result<ControlFlow<()>, Failure> {
    for piece in Pieces::of(text) {
        INTERRUPTED.store(false, Ordering::Relaxed);
        let outcome = match piece {
            _ if is_command(piece) => command(piece, opened, screen),
            _ if ["exit", "quit"].contains(&piece.to_ascii_lowercase().as_str()) => {
                Ok(ControlFlow::Break(()))
            }
            _ if piece.eq_ignore_ascii_case("help") => command("\\?", opened, screen),
            _ => statement(piece, opened, screen).map(ControlFlow::Continue),
        };
        match outcome {
            Ok(ControlFlow::Continue(())) => {}
            Ok(end) => return Ok(end),
            Err(Failure::Interrupted) => {
                tell("stopped");
                break;
            }
            // The output is gone.
            Err(failure @ Failure::Output(_)) => return Err(failure),
            Err(failure) => {
                failure.report();
                break;
            }
        }
    }
    Ok(ControlFlow::Continue(()))
}

fn statement(text: &str, opened: &Opened, screen: &mut Screen) -> Outcome {
    let (count, time) = screen.timed(&opened.catalog, text)?;
    let time = time_text(time);
    let summary = match count {
        Some(1) => format!("1 row in {time}"),
        Some(count) => format!("{count} rows in {time}"),
        None => time,
    };
    // The output may go to a file, and this is for the user.
    let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("{summary}\n").as_bytes());
    Ok(())
}

fn time_text(time: Duration) -> String {
    if time < Duration::from_secs(1) {
        return format!("{:.1} ms", time.as_secs_f64() * 1e3);
    }
    format!("{:.2} s", time.as_secs_f64())
}

/// Runs a command of the shell: see `\?`. Returns `Break` if it ends the shell.
pub(crate) fn command(text: &str, opened: &Opened, screen: &mut Screen) -> Result<ControlFlow<()>, Failure> {
    let (name, argument) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    match (name, argument.trim()) {
        ("\\q", "") => return Ok(ControlFlow::Break(())),
        ("\\?" | "\\h", "") => screen.text(COMMANDS)?,
        ("\\d" | "\\dt", "") => screen.run(&opened.catalog, "SHOW TABLES")?,
        ("\\d", table) => screen.run(&opened.catalog, &format!("DESCRIBE {table}"))?,
        ("\\df", "") => screen.run(&opened.catalog, "SHOW FUNCTIONS")?,
        ("\\format", "table") => screen.format = RowFormat::Table,
        ("\\format", "lines") => screen.format = RowFormat::Lines,
        ("\\format", "csv") => screen.format = RowFormat::Csv,
        ("\\format", "json") => screen.format = RowFormat::Json,
        _ => return Err(Failure::Told(format!("{text:?} is no command of the shell: \\? lists them"))),
    }
    Ok(ControlFlow::Continue(()))
}

/// Returns the path of the history. Creates its directory if needed.
fn history_file() -> Option<PathBuf> {
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/state"));
    let directory = state.or_else(home)?.join("streamlog");
    match make_private(&directory) {
        Ok(()) => Some(directory.join("sql_history")),
        Err(error) => {
            tell(&format!("note: the history is not kept: {}: {error}", directory.display()));
            None
        }
    }
}

fn make_private(directory: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

/// Appends the newest entry to the file, so that it survives a crash of the shell.
fn keep(editor: &mut Editor<Completion, FileHistory>, file: &Path) {
    // The shell works without it.
    let _ = editor.append_history(file);
}
