//! The vault's lock: one process at a time, by the kernel.
//!
//! Invariant: the lock is the kernel's on an open file, so it ends with its process however that
//! ends; the file's existence and the number in it mean nothing but whom to name in a message.

use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, Write};

use crate::real_fs::RealFs;

const LOCK_FILE: &str = "lock";

/// Why a vault cannot be locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error("the vault is in use by another process{}", by(*.pid))]
    Held {
        /// Which, if it has said so already.
        pid: Option<u32>,
    },
    /// The lock file cannot be opened, or this disk has no locks.
    #[error("cannot lock the vault")]
    Io(#[from] io::Error),
}

/// Held as long as it lives.
#[derive(Debug)]
pub struct VaultLock {
    // Closing the file gives the lock back.
    _file: File,
}

impl VaultLock {
    /// Takes the lock for the process `pid`, or says who has it. Never waits.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn acquire(fs: &RealFs, pid: u32) -> Result<Self, LockError> {
        let mut file = fs.open_state_file(LOCK_FILE)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(LockError::Held { pid: holder(&file) }),
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{pid}")?;
        Ok(Self { _file: file })
    }
}

fn holder(file: &File) -> Option<u32> {
    let mut text = String::new();
    // For a message only: what cannot be read is not named.
    file.take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

fn by(pid: Option<u32>) -> String {
    pid.map(|pid| format!(" (process {pid})")).unwrap_or_default()
}
