//! Encryption: `--key-file`, and the commands `new-key` and `rotate-key`.

use std::path::Path;

use streamlog::StreamOptions;

use crate::args::NewKeyArgs;
use crate::failure::{Failure, Outcome};

/// Encrypts what is put with the keys of a file, and decrypts what is read.
#[cfg(feature = "encryption")]
pub(crate) fn with_keys(options: StreamOptions, file: Option<&Path>) -> Result<StreamOptions, Failure> {
    match file {
        Some(file) => Ok(options.encryption(streamlog::KeyFile::open(file)?)),
        None => Ok(options),
    }
}

/// Creates a file of keys, or adds a key to one.
#[cfg(feature = "encryption")]
pub(crate) fn new_key(args: &NewKeyArgs) -> Outcome {
    use streamlog::KeyFile;
    let file = if args.add { KeyFile::add_key(&args.file)? } else { KeyFile::create(&args.file)? };
    crate::output::print_text(&format!("{}\n", file.key_id()))
}

#[cfg(not(feature = "encryption"))]
pub(crate) fn with_keys(options: StreamOptions, file: Option<&Path>) -> Result<StreamOptions, Failure> {
    if file.is_some() { Err(refused()) } else { Ok(options) }
}

#[cfg(not(feature = "encryption"))]
pub(crate) fn new_key(_: &NewKeyArgs) -> Outcome {
    Err(refused())
}

#[cfg(not(feature = "encryption"))]
fn refused() -> Failure {
    Failure::Told("this tool was built without encryption: build it with --features encryption".to_owned())
}
