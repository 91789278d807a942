//! A Python with a library that a test compares results with.

use std::path::{Path, PathBuf};
use std::process::Command;

fn has(python: &Path, module: &str) -> bool {
    let import = Command::new(python).args(["-c", &format!("import {module}")]).output();
    import.is_ok_and(|output| output.status.success())
}

/// Returns a Python with a module: the one that `STREAMLOG_PYTHON` names, or else the one that `.ci/run` installs in `target/python`. Without
/// any, prints a note and returns `None`; if `STREAMLOG_PYTHON` is set, panics.
pub fn with(module: &str) -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("STREAMLOG_PYTHON").map(PathBuf::from) {
        assert!(has(&named, module), "{} has no {module}: .ci/run installs it", named.display());
        return Some(named);
    }
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/python/bin/python");
    let found = has(&installed, module).then_some(installed);
    if found.is_none() {
        println!("skipped: there is no Python with {module}; `.ci/run` installs one in target/python");
    }
    found
}
