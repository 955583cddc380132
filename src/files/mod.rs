//! How files are opened: those that people name in a configuration, and those of the daemon's own.
//!
//! Reading order: [`given`] reads what was named, [`private`] makes what is ours, [`pem`] says what a file of certificates or keys holds, `outward` why a request over HTTP failed.
//!
//! Invariants
//! - A named file is a regular one of bounded size before a byte of it is read: no pipe, device or directory keeps a thread.
//! - A file of ours can be read and written by its owner alone, whatever the umask, and also if an older version made it.
//! - No error holds anything that stands in a file. Errors of libraries that parse files are matched and never formatted, because they may quote.

pub mod given;
pub(crate) mod outward;
pub mod pem;
pub mod private;
