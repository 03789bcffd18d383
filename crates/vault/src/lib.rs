//! The folder on disk, and only it: scan, watch, names, and writes that lose nothing.
//!
//! Blocking I/O, no async, no clock and no randomness of its own. In reading order: [`fs`] is the
//! few operations a folder needs, each of which a simulator can fail, and [`real_fs`] is the
//! kernel's; [`content`] says what a file is; [`scan`] lists the truth, [`ignore`] what is left
//! out of it, [`foreign`] what other tools left behind; [`name`] says under which name a path can
//! exist here; [`mod@write`] puts bytes in place by swapping and looking at what was displaced, and
//! [`trash`] keeps what was removed; [`watch`] hints when to scan; [`lock`] keeps a second
//! process out.

pub mod content;
pub mod foreign;
pub mod fs;
pub mod ignore;
#[cfg(unix)]
pub mod lock;
pub mod name;
#[cfg(unix)]
pub mod real_fs;
pub mod scan;
pub mod trash;
pub mod watch;
pub mod write;
