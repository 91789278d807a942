//! What the operating system provides: time, randomness, files, directories, locks, blocks and mappings.

mod call;
pub(crate) mod clock;
pub(crate) mod copy;
pub(crate) mod dir;
pub(crate) mod fault;
pub(crate) mod file;
pub(crate) mod lock;
pub(crate) mod map;
pub(crate) mod outside;
pub(crate) mod process;
mod processor;
pub(crate) mod random;
pub(crate) mod replace;
pub(crate) mod root;
#[cfg(feature = "encryption")]
pub(crate) mod secret_file;
pub(crate) mod sync;
pub(crate) mod wake;
pub(crate) mod watermark;
#[cfg(feature = "encryption")]
pub(crate) mod wipe;
pub(crate) mod words;

#[cfg(not(unix))]
compile_error!("streamlog needs a Unix: it maps files, allocates their blocks and takes advisory locks");
#[cfg(not(target_pointer_width = "64"))]
compile_error!("streamlog needs 64-bit addresses: it maps whole segments");
