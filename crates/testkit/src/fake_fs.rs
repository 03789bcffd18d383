//! `FakeFs`: a folder in memory that does what disks and people do, from a seed.
//!
//! - Before every call a hook may let somebody edit ([`Disk`]'s `user_…` methods), move the clock,
//!   or take a look; so an edit can fall between any two calls.
//! - Any call can fail with any error, or be the last before a crash: from then on every call
//!   fails until [`FakeFs::reboot`].
//! - What was not synced survives a crash or does not, by the seed: bytes of a file may be the
//!   old ones, the new ones, cut, or none; names go back one by one, but never out of order for
//!   one name, and a rename or exchange never by half. What users do is durable at once.
//! - Names fold, decompose or follow the rules of Windows, times are coarse, inode numbers are
//!   used again, and people have files open while they are replaced.
//!
//! Deterministic: equal calls with an equal seed give equal results. See `disk` for the model.

use std::ffi::OsString;
use std::io::{self, ErrorKind, Read};
use std::os::unix::ffi::OsStringExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use crucible_vault::fs::{Entry, Facts, FileSystem, Stat};

mod disk;
mod user;

pub use disk::{Disk, Image, Variant};
pub use user::Handle;

/// A call of [`FileSystem`], as the hook sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call<'a> {
    /// Which call of this disk it is, from 1.
    pub number: u64,
    /// What it does.
    pub op: Op,
    /// To what; the first of two paths.
    pub path: &'a str,
}

/// The methods of [`FileSystem`], and reading on from an open file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each is the method of its name")]
pub enum Op {
    ClockNs,
    List,
    Stat,
    Read,
    Open,
    ReadOn,
    Create,
    Append,
    SetMode,
    SyncFile,
    SyncDir,
    SyncAll,
    Exchange,
    RenameNew,
    Respell,
    RemoveFile,
    MakeDir,
    RemoveDir,
}

/// What goes wrong at a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The machine stops before it has an effect.
    CrashBefore,
    /// The machine stops after it had its effect.
    CrashAfter,
    /// It fails; writing may have begun.
    Error(ErrorKind),
    /// It has its effect and says that it failed, as over a network.
    ErrorAfter(ErrorKind),
}

/// What every call answers after a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Crashed;

impl std::fmt::Display for Crashed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the machine has crashed")
    }
}

impl std::error::Error for Crashed {}

/// Whether an error, or one it comes from, is the simulated crash.
pub fn is_crash(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut error = Some(error);
    while let Some(one) = error {
        let inner = one.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if one.is::<Crashed>() || inner.is_some_and(|inner| inner.is::<Crashed>()) {
            return true;
        }
        error = one.source();
    }
    false
}

/// Whether the machine of a [`Disk`] is up: what else is in that machine asks it.
#[derive(Debug, Clone, Default)]
pub struct Power(Arc<AtomicBool>);

impl Power {
    /// Whether the machine has stopped.
    pub fn is_off(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn set_off(&self, off: bool) {
        self.0.store(off, Ordering::Relaxed);
    }
}

/// A handle on a [`Disk`]; clones are handles on the same one.
#[derive(Debug, Clone)]
pub struct FakeFs {
    disk: Arc<Mutex<Disk>>,
}

impl FakeFs {
    /// An empty folder on a disk of this kind.
    pub fn new(variant: Variant) -> Self {
        Self { disk: Arc::new(Mutex::new(Disk::new(variant))) }
    }

    /// A folder copied from another, or restored from a backup.
    pub fn from_image(image: &Image) -> Self {
        Self { disk: Arc::new(Mutex::new(Disk::from_image(image))) }
    }

    /// The disk itself: users, clock, faults. Not to be held across a call of [`FileSystem`].
    pub fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().expect("a panic inside a call has failed the test already")
    }

    /// The power of the machine it is in.
    pub fn power(&self) -> Power {
        self.disk().power.clone()
    }

    /// Comes up again after a crash, with what the seed lets survive.
    pub fn reboot(&self, seed: u64) {
        self.disk().reboot(seed);
    }

    fn call<T>(
        &self,
        op: Op,
        path: &str,
        effect: impl FnOnce(&mut Disk) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut disk = self.disk();
        let fault = disk.begin(op, path)?;
        match fault {
            None => effect(&mut disk),
            Some(Fault::Error(kind)) => Err(kind.into()),
            Some(Fault::ErrorAfter(kind)) => effect(&mut disk).and(Err(kind.into())),
            Some(Fault::CrashBefore) => Err(disk.crash()),
            Some(Fault::CrashAfter) => {
                // The machine is gone before anybody learns how it went.
                let _ = effect(&mut disk);
                Err(disk.crash())
            }
        }
    }

    /// A call that writes bytes: when it fails, a part may be there.
    fn write_call(
        &self,
        op: Op,
        path: &str,
        bytes: &[u8],
        effect: impl FnOnce(&mut Disk, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut disk = self.disk();
        let fault = disk.begin(op, path)?;
        let half = &bytes[..bytes.len() / 2];
        match fault {
            None => effect(&mut disk, bytes),
            Some(Fault::Error(kind)) => {
                effect(&mut disk, half)?;
                Err(kind.into())
            }
            Some(Fault::ErrorAfter(kind)) => effect(&mut disk, bytes).and(Err(kind.into())),
            Some(Fault::CrashBefore) => {
                // As above.
                let _ = effect(&mut disk, half);
                Err(disk.crash())
            }
            Some(Fault::CrashAfter) => {
                // As above.
                let _ = effect(&mut disk, bytes);
                Err(disk.crash())
            }
        }
    }
}

impl FileSystem for FakeFs {
    type Reader = FakeReader;

    fn facts(&self) -> Facts {
        self.disk().facts()
    }

    fn clock_ns(&self) -> io::Result<i64> {
        self.call(Op::ClockNs, "", |disk| Ok(disk.coarse_now_ns()))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<Entry>> {
        self.call(Op::List, dir, |disk| {
            let entries = disk.list(dir)?.into_iter();
            Ok(entries
                .map(|(name, stat)| Entry { name: OsString::from_vec(name), stat: Ok(stat) })
                .collect())
        })
    }

    fn stat(&self, path: &str) -> io::Result<Stat> {
        self.call(Op::Stat, path, |disk| disk.stat(path))
    }

    fn read(&self, path: &str, bytes_max: u64) -> io::Result<Vec<u8>> {
        self.call(Op::Read, path, |disk| {
            let bytes = disk.bytes_of(path)?;
            if bytes.len() as u64 > bytes_max {
                return Err(crucible_vault::fs::too_large());
            }
            Ok(bytes.to_vec())
        })
    }

    fn open(&self, path: &str) -> io::Result<FakeReader> {
        let inode = self.call(Op::Open, path, |disk| disk.open(path))?;
        Ok(FakeReader { fs: self.clone(), inode, path: path.to_owned(), offset: 0 })
    }

    fn create(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        self.write_call(Op::Create, path, bytes, |disk, bytes| disk.create(path, bytes))
    }

    fn append(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        self.write_call(Op::Append, path, bytes, |disk, bytes| disk.append(path, bytes))
    }

    fn set_mode(&self, path: &str, mode: u32) -> io::Result<()> {
        self.call(Op::SetMode, path, |disk| disk.set_mode(path, mode))
    }

    fn sync_file(&self, path: &str) -> io::Result<()> {
        self.call(Op::SyncFile, path, |disk| disk.sync_file(path))
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.call(Op::SyncDir, dir, |disk| disk.sync_dir(dir))
    }

    fn sync_all(&self) -> io::Result<()> {
        self.call(Op::SyncAll, "", |disk| {
            disk.sync_all();
            Ok(())
        })
    }

    fn exchange(&self, one: &str, other: &str) -> io::Result<()> {
        self.call(Op::Exchange, one, |disk| disk.exchange(one, other))
    }

    fn rename_new(&self, from: &str, to: &str) -> io::Result<()> {
        self.call(Op::RenameNew, from, |disk| disk.rename_new(from, to))
    }

    fn respell(&self, from: &str, to: &str) -> io::Result<()> {
        self.call(Op::Respell, from, |disk| disk.rename_over(from, to))
    }

    fn remove_file(&self, path: &str) -> io::Result<()> {
        self.call(Op::RemoveFile, path, |disk| disk.remove_file(path))
    }

    fn make_dir(&self, path: &str) -> io::Result<()> {
        self.call(Op::MakeDir, path, |disk| disk.make_dir(path))
    }

    fn remove_dir(&self, path: &str) -> io::Result<()> {
        self.call(Op::RemoveDir, path, |disk| disk.remove_dir(path))
    }
}

/// An open file: reads what the file holds at the time of each read, wherever its name went.
#[derive(Debug)]
pub struct FakeReader {
    fs: FakeFs,
    inode: disk::Index,
    path: String,
    offset: usize,
}

impl Read for FakeReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (inode, offset) = (self.inode, self.offset);
        let count = self.fs.call(Op::ReadOn, &self.path, |disk| {
            let rest = disk.bytes_at(inode).get(offset..).unwrap_or_default();
            let count = rest.len().min(buffer.len());
            buffer[..count].copy_from_slice(&rest[..count]);
            Ok(count)
        })?;
        self.offset += count;
        Ok(count)
    }
}
