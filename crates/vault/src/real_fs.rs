//! `RealFs`: the kernel's file system, held by a handle on the vault's root.
//!
//! Invariant: no call leaves the vault or follows a symlink, whatever others do to the folder
//! meanwhile. On Linux the kernel promises it (`openat2` with `RESOLVE_BENEATH` and
//! `RESOLVE_NO_SYMLINKS`); elsewhere, and on kernels without it, the path is walked one
//! component at a time from the handle, never following one. Strings checked earlier are never
//! trusted.
//!
//! Where the file system has no exchange of its own (NFS, exFAT, some FUSE), it is emulated:
//! a second name is linked to what is visible, the new file is renamed over it, the second name
//! takes the new file's old place. The visible name is never absent, what was displaced is held
//! by the link before anything is renamed, and a stop in between leaves both under names that
//! the next start looks at. What remains: a file put there by another program's rename within
//! the microseconds between the last look and the rename is lost, which only the kernel could
//! prevent. Where there are no hard links either, bytes come before presence: the visible file is
//! moved aside first, and its name is absent for as long.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Timespec, Timestamps, UTIME_NOW};
use rustix::io::Errno;

use crate::fs::{
    Entry, Facts, FileKind, FileSystem, STATE_DIR, Stat, TMP_DIR, UNDO_PREFIX, file_name,
    is_within, join, not_a_folder, parent, too_large,
};
use crate::write::remove_tree;

/// Why a folder cannot be opened as a vault's.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It is not there, no folder, or not readable.
    #[error("cannot open the folder {path}", path = path.display())]
    Root {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The state folder could not be made or written, so what the disk can do is unknown.
    #[error("cannot write {STATE_DIR} in {path}", path = path.display())]
    State {
        /// Of which vault.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A vault's folder on a real disk.
#[derive(Debug)]
pub struct RealFs {
    root: OwnedFd,
    /// Where the handle was opened; only to notice that another folder is there now.
    place: PathBuf,
    identity: (u64, u64),
    facts: Facts,
    /// Whether `RENAME_NOREPLACE` is the kernel's here.
    renames_new: bool,
}

impl RealFs {
    /// Opens a folder, makes its state folder where it is missing, and finds out what its disk
    /// can do with a few files under names made from `unique`, which was never used before. A
    /// vault on a full or read-only disk is taken to be on this system's usual one.
    ///
    /// # Errors
    /// [`OpenError`]; nothing but the state folder is left behind.
    pub fn open(place: &Path, unique: &str) -> Result<Self, OpenError> {
        let open = || -> io::Result<Self> {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let root = rustix::fs::open(place, flags, Mode::empty())?;
            let stat = rustix::fs::fstat(&root)?;
            Ok(Self {
                root,
                place: place.to_owned(),
                identity: identity(&stat_of(&stat)),
                facts: Facts::LINUX,
                renames_new: true,
            })
        };
        let at = || place.to_owned();
        let mut fs = open().map_err(|source| OpenError::Root { path: at(), source })?;
        match fs.probe(unique) {
            Ok(()) => {}
            // Nothing can be tried out on a full or read-only disk; nothing will be changed either.
            Err(error) if is_unwritable(&error) && fs.stat(STATE_DIR).is_ok() => {
                fs.facts = Facts::USUAL;
            }
            Err(source) => return Err(OpenError::State { path: at(), source }),
        }
        Ok(fs)
    }

    /// Where the folder was opened.
    pub fn place(&self) -> &Path {
        &self.place
    }

    /// Whether the folder that was opened is still the one at its place. Moved away, deleted,
    /// replaced, or hidden by a mount it still answers, and must not be taken for the vault.
    pub fn is_in_place(&self) -> bool {
        rustix::fs::stat(&self.place).is_ok_and(|stat| identity(&stat_of(&stat)) == self.identity)
    }

    /// Opens, or makes, a file of ours in the state folder for reading and writing.
    pub(crate) fn open_state_file(&self, name: &str) -> io::Result<File> {
        let dir = self.dir(STATE_DIR)?;
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&dir, name, flags, Mode::from_raw_mode(0o600))?;
        regular(File::from(fd))
    }

    /// A handle on a folder below the root, reached without following a symlink.
    fn dir(&self, dir: &str) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if dir.is_empty() {
            return Ok(rustix::fs::openat(&self.root, c".", flags, Mode::empty())?);
        }
        check(dir)?;
        open_beneath(self.root.as_fd(), dir, flags).map_err(in_the_way)
    }

    /// A handle on the folder `path` is in, and its name there.
    fn split<'p>(&self, path: &'p str) -> io::Result<(OwnedFd, &'p str)> {
        check(path)?;
        Ok((self.dir(parent(path))?, file_name(path)))
    }

    fn open_file(&self, path: &str, flags: OFlags) -> io::Result<File> {
        check(path)?;
        // A pipe would block the open for ever without NONBLOCK.
        let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = open_beneath(self.root.as_fd(), path, flags).map_err(in_the_way)?;
        regular(File::from(fd))
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        let (from_dir, from) = self.split(from)?;
        let (to_dir, to) = self.split(to)?;
        Ok(rustix::fs::linkat(&from_dir, from, &to_dir, to, AtFlags::empty())?)
    }

    /// See the head of the file.
    fn exchange_emulated(&self, one: &str, other: &str) -> io::Result<()> {
        let aside = match is_within(one, STATE_DIR) {
            true => format!("{one}-displaced"),
            false => join(parent(one), &format!("{UNDO_PREFIX}{}", file_name(one))),
        };
        let is_linked = match self.link(other, &aside) {
            Ok(()) if self.stat(other)?.inode == self.stat(&aside)?.inode => true,
            Ok(()) => {
                self.remove_file(&aside)?;
                return Err(io::ErrorKind::Interrupted.into());
            }
            Err(error) if is_unsupported(&error) => {
                self.rename_new(other, &aside)?;
                false
            }
            Err(error) => return Err(error),
        };
        if let Err(error) = self.respell(one, other) {
            // Should this fail, too, the bytes stay under a name that the next start looks at.
            if is_linked {
                self.remove_file(&aside)?;
            } else {
                self.rename_new(&aside, other)?;
            }
            return Err(error);
        }
        self.respell(&aside, one)
    }

    fn rename_new_emulated(&self, from: &str, to: &str) -> io::Result<()> {
        if self.stat(from)?.kind == FileKind::File {
            match self.link(from, to) {
                Ok(()) => return self.remove_file(from),
                Err(error) if is_unsupported(&error) => {}
                Err(error) => return Err(error),
            }
        }
        match self.stat(to) {
            Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.respell(from, to),
            Err(error) => Err(error),
        }
    }

    fn probe(&mut self, unique: &str) -> io::Result<()> {
        for dir in [STATE_DIR, TMP_DIR] {
            match self.make_dir(dir) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        let dir = join(TMP_DIR, &format!("probe-{unique}"));
        self.make_dir(&dir)?;
        let found = self.probe_in(&dir);
        remove_tree(self, &dir)?;
        self.facts = found?;
        Ok(())
    }

    fn probe_in(&mut self, dir: &str) -> io::Result<Facts> {
        let [one, other, third] = ["a", "b", "c"].map(|name| join(dir, name));
        self.create(&one, b"1")?;
        self.create(&other, b"2")?;
        let exchanges = native(|| rename_with(self, &one, &other, Flag::Exchange))?;
        self.renames_new = native(|| rename_with(self, &one, &third, Flag::NoReplace))?;
        self.create(&join(dir, "e\u{301}"), b"")?;
        let windows_name = join(dir, "d:?");
        let time = self.stat(&other)?.mtime_ns;
        Ok(Facts {
            folds_case: self.stat(&join(dir, "B")).is_ok(),
            normalises: self.stat(&join(dir, "\u{e9}")).is_ok(),
            windows_names: self.create(&windows_name, b"").is_err(),
            exchanges,
            name_bytes_max: name_bytes_max(&self.root),
            time_grain_ns: if time % 1_000_000_000 == 0 {
                // Whole seconds, of which FAT keeps every other.
                2_000_000_000
            } else {
                Facts::LINUX.time_grain_ns
            },
        })
    }
}

impl FileSystem for RealFs {
    type Reader = File;

    fn facts(&self) -> Facts {
        self.facts
    }

    fn clock_ns(&self) -> io::Result<i64> {
        let file = self.open_state_file("clock")?;
        // The kernel, or the server, fills in its own now; needs no space on a full disk.
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        rustix::fs::futimens(&file, &Timestamps { last_access: now, last_modification: now })?;
        Ok(stat_of(&rustix::fs::fstat(&file)?).mtime_ns)
    }

    fn list(&self, dir: &str) -> io::Result<Vec<Entry>> {
        if dir.is_empty() && !self.is_in_place() {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                "the vault's folder was moved, replaced or unmounted",
            ));
        }
        let handle = self.dir(dir)?;
        let mut entries = Vec::new();
        for entry in Dir::read_from(&handle)? {
            let entry = entry?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            match rustix::fs::statat(&handle, name, AtFlags::SYMLINK_NOFOLLOW) {
                // Gone since it was listed: as if it had gone before.
                Err(Errno::NOENT) => {}
                stat => entries.push(Entry {
                    name: OsString::from_vec(name.to_bytes().to_vec()),
                    stat: stat.map(|stat| stat_of(&stat)).map_err(io::Error::from),
                }),
            }
        }
        entries.sort_unstable_by(|a, b| a.name.as_bytes().cmp(b.name.as_bytes()));
        Ok(entries)
    }

    fn stat(&self, path: &str) -> io::Result<Stat> {
        if path.is_empty() {
            return Ok(stat_of(&rustix::fs::fstat(&self.root)?));
        }
        let (dir, name) = self.split(path)?;
        Ok(stat_of(&rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW)?))
    }

    fn read(&self, path: &str, bytes_max: u64) -> io::Result<Vec<u8>> {
        let file = self.open_file(path, OFlags::RDONLY)?;
        let size = file.metadata()?.len();
        if size > bytes_max {
            return Err(too_large());
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0) + 1);
        let limit = bytes_max.saturating_add(1);
        file.take(limit).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > bytes_max { Err(too_large()) } else { Ok(bytes) }
    }

    fn open(&self, path: &str) -> io::Result<File> {
        self.open_file(path, OFlags::RDONLY)
    }

    fn create(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let (dir, name) = self.split(path)?;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&dir, name, flags, Mode::from_raw_mode(0o666))?;
        File::from(fd).write_all(bytes)
    }

    fn append(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        self.open_file(path, OFlags::WRONLY | OFlags::APPEND)?.write_all(bytes)
    }

    fn set_mode(&self, path: &str, mode: u32) -> io::Result<()> {
        let file = self.open_file(path, OFlags::RDONLY)?;
        let mode = Mode::from_raw_mode((mode & 0o7777) as rustix::fs::RawMode);
        Ok(rustix::fs::fchmod(&file, mode)?)
    }

    fn sync_file(&self, path: &str) -> io::Result<()> {
        self.open_file(path, OFlags::RDONLY)?.sync_all()
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        File::from(self.dir(dir)?).sync_all()
    }

    fn sync_all(&self) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        rustix::fs::syncfs(&self.root)?;
        #[cfg(not(target_os = "linux"))]
        rustix::fs::sync();
        Ok(())
    }

    fn exchange(&self, one: &str, other: &str) -> io::Result<()> {
        if self.facts.exchanges {
            match rename_with(self, one, other, Flag::Exchange) {
                // A folder on another kind of disk than the root.
                Err(error) if is_unsupported(&error) => {}
                done => return done,
            }
        }
        self.exchange_emulated(one, other)
    }

    fn rename_new(&self, from: &str, to: &str) -> io::Result<()> {
        if self.renames_new {
            match rename_with(self, from, to, Flag::NoReplace) {
                Err(error) if is_unsupported(&error) => {}
                done => return done,
            }
        }
        self.rename_new_emulated(from, to)
    }

    fn respell(&self, from: &str, to: &str) -> io::Result<()> {
        let (from_dir, from) = self.split(from)?;
        let (to_dir, to) = self.split(to)?;
        Ok(rustix::fs::renameat(&from_dir, from, &to_dir, to)?)
    }

    fn remove_file(&self, path: &str) -> io::Result<()> {
        let (dir, name) = self.split(path)?;
        Ok(rustix::fs::unlinkat(&dir, name, AtFlags::empty())?)
    }

    fn make_dir(&self, path: &str) -> io::Result<()> {
        let (dir, name) = self.split(path)?;
        Ok(rustix::fs::mkdirat(&dir, name, Mode::from_raw_mode(0o777))?)
    }

    fn remove_dir(&self, path: &str) -> io::Result<()> {
        let (dir, name) = self.split(path)?;
        Ok(rustix::fs::unlinkat(&dir, name, AtFlags::REMOVEDIR)?)
    }
}

#[derive(Clone, Copy)]
enum Flag {
    Exchange,
    NoReplace,
}

#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
fn rename_with(fs: &RealFs, from: &str, to: &str, flag: Flag) -> io::Result<()> {
    use rustix::fs::RenameFlags;
    let (from_dir, from) = fs.split(from)?;
    let (to_dir, to) = fs.split(to)?;
    let flags = match flag {
        Flag::Exchange => RenameFlags::EXCHANGE,
        Flag::NoReplace => RenameFlags::NOREPLACE,
    };
    Ok(rustix::fs::renameat_with(&from_dir, from, &to_dir, to, flags)?)
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
fn rename_with(_fs: &RealFs, _from: &str, _to: &str, _flag: Flag) -> io::Result<()> {
    Err(Errno::NOSYS.into())
}

/// Whether a call of the kernel's works here; an error that says otherwise is one.
fn native(call: impl Fn() -> io::Result<()>) -> io::Result<bool> {
    match call() {
        Ok(()) => Ok(true),
        Err(error) if is_unsupported(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

fn is_unwritable(error: &io::Error) -> bool {
    use io::ErrorKind::{PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(error.kind(), PermissionDenied | QuotaExceeded | ReadOnlyFilesystem | StorageFull)
}

/// What file systems and kernels answer to a flag or a link they do not know.
fn is_unsupported(error: &io::Error) -> bool {
    [Errno::INVAL, Errno::NOSYS, Errno::NOTSUP, Errno::OPNOTSUPP, Errno::PERM]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Opens a path from a handle; a symlink anywhere in it is `ELOOP` or `ENOTDIR`.
fn open_beneath(root: BorrowedFd<'_>, path: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::ResolveFlags;
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        match rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) {
            // Kernels before 5.6, and sandboxes that refuse what they do not know.
            Err(Errno::NOSYS | Errno::PERM) => {}
            // A rename elsewhere raced with `..` checks; the kernel asks to try again.
            Err(Errno::AGAIN) => {}
            opened => return opened,
        }
    }
    open_by_steps(root, path, flags)
}

fn open_by_steps(root: BorrowedFd<'_>, path: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let step = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut above: Option<OwnedFd> = None;
    let mut rest = path;
    while let Some((component, below)) = rest.split_once('/') {
        let at = above.as_ref().map_or(root, AsFd::as_fd);
        above = Some(rustix::fs::openat(at, component, step, Mode::empty())?);
        rest = below;
    }
    let at = above.as_ref().map_or(root, AsFd::as_fd);
    rustix::fs::openat(at, rest, flags | OFlags::NOFOLLOW, Mode::empty())
}

fn in_the_way(errno: Errno) -> io::Error {
    if errno == Errno::LOOP { not_a_folder() } else { errno.into() }
}

/// Refuses what a path from a vault never holds; the handles are the wall, this is the fence.
fn check(path: &str) -> io::Result<()> {
    let fine = path.split('/').all(|part| !matches!(part, "" | "." | "..") && !part.contains('\0'));
    if fine { Ok(()) } else { Err(io::Error::new(io::ErrorKind::InvalidInput, "not a vault path")) }
}

fn regular(file: File) -> io::Result<File> {
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
    }
}

fn name_bytes_max(root: &OwnedFd) -> usize {
    let found = rustix::fs::fstatvfs(root).map_or(0, |stat| stat.f_namemax);
    match usize::try_from(found) {
        Ok(bytes) if bytes >= 64 => bytes.min(255),
        Ok(_) | Err(_) => 255,
    }
}

fn identity(stat: &Stat) -> (u64, u64) {
    (stat.dev, stat.inode)
}

// Field types differ between systems and architectures.
#[allow(clippy::unnecessary_cast, clippy::useless_conversion)]
fn stat_of(stat: &rustix::fs::Stat) -> Stat {
    let ns = |seconds: i64, rest: i64| seconds.saturating_mul(1_000_000_000).saturating_add(rest);
    Stat {
        kind: match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => FileKind::File,
            FileType::Directory => FileKind::Dir,
            FileType::Symlink => FileKind::Symlink,
            _ => FileKind::Other,
        },
        size: stat.st_size as u64,
        mtime_ns: ns(stat.st_mtime as i64, stat.st_mtime_nsec as i64),
        ctime_ns: ns(stat.st_ctime as i64, stat.st_ctime_nsec as i64),
        inode: stat.st_ino as u64,
        dev: stat.st_dev as u64,
        mode: stat.st_mode as u32 & 0o7777,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk without renames that exchange or refuse to replace.
    fn plain() -> (tempfile::TempDir, RealFs) {
        let dir = tempfile::TempDir::new().unwrap();
        let mut fs = RealFs::open(dir.path(), "probe").unwrap();
        fs.facts.exchanges = false;
        fs.renames_new = false;
        (dir, fs)
    }

    #[test]
    fn an_emulated_exchange_keeps_both_files_and_leaves_no_third() {
        let (_dir, fs) = plain();
        fs.make_dir(".crucible/undo").unwrap();
        for staged in [".crucible/undo/u1", "visible-too"] {
            fs.create(staged, b"new").unwrap();
            fs.create("a.md", b"old").unwrap();
            fs.exchange(staged, "a.md").unwrap();
            assert_eq!(fs.read("a.md", 9).unwrap(), b"new");
            assert_eq!(fs.read(staged, 9).unwrap(), b"old");
            fs.remove_file("a.md").unwrap();
            fs.remove_file(staged).unwrap();
        }
        assert_eq!(fs.list(".crucible/undo").unwrap().len(), 0);
        assert_eq!(fs.list("").unwrap().len(), 1);
    }

    #[test]
    fn an_emulated_exchange_with_nothing_changes_nothing() {
        let (_dir, fs) = plain();
        fs.create("a", b"1").unwrap();
        assert_eq!(fs.exchange("a", "no").unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(fs.exchange("no", "a").unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(fs.read("a", 9).unwrap(), b"1");
        assert_eq!(fs.list("").unwrap().len(), 2);
    }

    #[test]
    fn an_emulated_rename_never_replaces() {
        let (_dir, fs) = plain();
        fs.create("a", b"1").unwrap();
        fs.create("b", b"2").unwrap();
        assert_eq!(fs.rename_new("a", "b").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        fs.rename_new("a", "c").unwrap();
        fs.make_dir("d").unwrap();
        fs.rename_new("d", "e").unwrap();
        assert_eq!(fs.rename_new("e", "b").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs.rename_new("no", "f").unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(
            (fs.read("b", 9).unwrap(), fs.read("c", 9).unwrap()),
            (b"2".into(), b"1".into())
        );
    }

    #[test]
    fn a_path_walked_step_by_step_follows_no_symlink_either() {
        let (dir, fs) = plain();
        std::os::unix::fs::symlink("/etc", dir.path().join("out")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("link")).unwrap();
        fs.make_dir("d").unwrap();
        fs.create("d/a", b"1").unwrap();
        let open = |path| open_by_steps(fs.root.as_fd(), path, OFlags::RDONLY);
        assert!(open("d/a").is_ok());
        assert!(open("out/passwd").is_err());
        assert!(open("link").is_err());
    }
}
