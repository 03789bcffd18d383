//! `FileSystem`: the few operations the vault is built from, each a point where the world can act.
//!
//! Everything that reads or changes the folder goes through this trait, so that a simulator can
//! fail, crash or let somebody edit between any two calls (`testkit::fake_fs`). Laws:
//! - A path is relative to the vault's root, `/`-separated, UTF-8; `""` is the root. No call ever
//!   follows a symlink, in the last component or above it, or leaves the root.
//! - `exchange`, `rename_new` and `respell` are atomic for whoever reads the folder.
//! - Nothing is durable before `sync_file`, `sync_dir` or `sync_all` of it returned.
//!
//! Ours inside the vault, never synced: [`STATE_DIR`] with `tmp` (unfinished files of ours, never
//! anybody's words), `undo` (what a swap displaced) and `trash`. New bytes are staged in
//! `.crucible/tmp`, so other tools never see them; only where a folder is on another device than
//! the root, between which nothing can be renamed, are they staged beside their target, as
//! [`TMP_PREFIX`] and [`UNDO_PREFIX`] names, which every scan leaves out and reports.

use std::ffi::OsString;
use std::fmt;
use std::io;

/// The vault's own folder inside the vault.
pub const STATE_DIR: &str = ".crucible";
/// Unfinished files; may be deleted at every start.
pub const TMP_DIR: &str = ".crucible/tmp";
/// Displaced bytes; each is looked at before it goes.
pub const UNDO_DIR: &str = ".crucible/undo";
/// Removed files, by day.
pub const TRASH_DIR: &str = ".crucible/trash";
/// An unfinished file staged beside its target.
pub const TMP_PREFIX: &str = ".crucible-tmp-";
/// Displaced bytes beside what displaced them.
pub const UNDO_PREFIX: &str = ".crucible-undo-";

/// What is under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A folder.
    Dir,
    /// A symbolic link, never followed.
    Symlink,
    /// A socket, a pipe, a device.
    Other,
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::File => "file",
            Self::Dir => "folder",
            Self::Symlink => "symbolic link",
            Self::Other => "special file",
        })
    }
}

/// What the file system says about one name without opening it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stat {
    /// What it is.
    pub kind: FileKind,
    /// Size in bytes.
    pub size: u64,
    /// Last change of the content, nanoseconds since 1970 on the file system's clock.
    pub mtime_ns: i64,
    /// Last change of content, name or attributes, likewise.
    pub ctime_ns: i64,
    /// The file's number; kept by a rename, reused after a removal.
    pub inode: u64,
    /// The device; differs from the root's inside a mount.
    pub dev: u64,
    /// Permission bits, `0o7777` at most.
    pub mode: u32,
}

impl Stat {
    /// Whether the owner may write.
    pub fn is_writable(&self) -> bool {
        self.mode & 0o200 != 0
    }

    /// Whether nothing says that the content changed since `earlier`. Device numbers do not
    /// survive a restart and are not compared.
    pub fn is_unchanged_since(&self, earlier: &Self) -> bool {
        (self.kind, self.size, self.mtime_ns, self.ctime_ns, self.inode)
            == (earlier.kind, earlier.size, earlier.mtime_ns, earlier.ctime_ns, earlier.inode)
    }
}

/// One name in a folder.
#[derive(Debug)]
pub struct Entry {
    /// The name as the system spells it; not always UTF-8.
    pub name: OsString,
    /// What it is; an error is about this entry alone.
    pub stat: io::Result<Stat>,
}

/// What the folder's file system can hold and do, found out when the vault is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Whether names that differ by case alone are one name.
    pub folds_case: bool,
    /// Whether names that differ by Unicode normalisation alone are one name.
    pub normalises: bool,
    /// Whether names follow the rules of Windows: `<>:"|?*\`, `CON`, final dots and spaces.
    pub windows_names: bool,
    /// Whether [`FileSystem::exchange`] is one operation of the kernel; see `real_fs` if not.
    pub exchanges: bool,
    /// Longest name of one component in bytes.
    pub name_bytes_max: usize,
    /// Two changes closer than this may carry equal times.
    pub time_grain_ns: i64,
}

impl Facts {
    /// An ordinary Linux file system.
    pub const LINUX: Self = Self {
        folds_case: false,
        normalises: false,
        windows_names: false,
        exchanges: true,
        name_bytes_max: 255,
        time_grain_ns: 20_000_000,
    };

    /// What this system's file systems usually are.
    pub const USUAL: Self = Self {
        folds_case: cfg!(target_vendor = "apple"),
        normalises: cfg!(target_vendor = "apple"),
        ..Self::LINUX
    };
}

/// A folder on a disk; see the laws above. Errors are the system's, unchanged in kind.
pub trait FileSystem {
    /// A file opened for reading.
    type Reader: io::Read + 'static;

    /// What this file system can do.
    fn facts(&self) -> Facts;

    /// The file system's own clock in nanoseconds since 1970: the one its times are from.
    ///
    /// # Errors
    /// When the state folder cannot be written.
    fn clock_ns(&self) -> io::Result<i64>;

    /// Lists a folder in the byte order of its names, without `.` and `..`.
    ///
    /// # Errors
    /// When it is not, or not readably, a folder; an incomplete list is an error as well.
    fn list(&self, dir: &str) -> io::Result<Vec<Entry>>;

    /// Looks at one name.
    ///
    /// # Errors
    /// `NotFound` when nothing is there.
    fn stat(&self, path: &str) -> io::Result<Stat>;

    /// Reads a whole regular file of at most `bytes_max` bytes.
    ///
    /// # Errors
    /// `FileTooLarge` when it is longer.
    fn read(&self, path: &str, bytes_max: u64) -> io::Result<Vec<u8>>;

    /// Opens a regular file for reading piece by piece.
    ///
    /// # Errors
    /// When it is not, or not readably, a regular file.
    fn open(&self, path: &str) -> io::Result<Self::Reader>;

    /// Makes a file with these bytes under a name that is free.
    ///
    /// # Errors
    /// `AlreadyExists` when the name is taken; after another error a cut file may be there.
    fn create(&self, path: &str, bytes: &[u8]) -> io::Result<()>;

    /// Adds bytes at the end of a file that exists.
    ///
    /// # Errors
    /// After an error any part of the bytes may be there.
    fn append(&self, path: &str, bytes: &[u8]) -> io::Result<()>;

    /// Sets the permission bits of a regular file.
    ///
    /// # Errors
    /// The system's.
    fn set_mode(&self, path: &str, mode: u32) -> io::Result<()>;

    /// Makes a file's bytes durable; says nothing about its name.
    ///
    /// # Errors
    /// When they may not be.
    fn sync_file(&self, path: &str) -> io::Result<()>;

    /// Makes the names in a folder durable.
    ///
    /// # Errors
    /// When they may not be.
    fn sync_dir(&self, dir: &str) -> io::Result<()>;

    /// Makes everything durable, bytes and names: cheaper than one by one for many files.
    ///
    /// # Errors
    /// When something may not be.
    fn sync_all(&self) -> io::Result<()>;

    /// Lets two names change places; neither is ever absent.
    ///
    /// # Errors
    /// `NotFound` when either is missing, `CrossesDevices` across devices; nothing changed then.
    fn exchange(&self, one: &str, other: &str) -> io::Result<()>;

    /// Moves a file or folder to a name that is free.
    ///
    /// # Errors
    /// `AlreadyExists` when it is not, `CrossesDevices` across devices; nothing changed then.
    fn rename_new(&self, from: &str, to: &str) -> io::Result<()>;

    /// Changes the spelling of a name to one that the file system takes for the same name.
    ///
    /// # Errors
    /// The system's; nothing changed then.
    fn respell(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// The system's.
    fn remove_file(&self, path: &str) -> io::Result<()>;

    /// Makes a folder in one that exists.
    ///
    /// # Errors
    /// `AlreadyExists` when the name is taken.
    fn make_dir(&self, path: &str) -> io::Result<()>;

    /// Removes a folder that is empty.
    ///
    /// # Errors
    /// `DirectoryNotEmpty` when it is not.
    fn remove_dir(&self, path: &str) -> io::Result<()>;
}

/// The folder a path is in; `""` for names at the top.
pub fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(dir, _)| dir)
}

/// The last component of a path.
pub fn file_name(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

/// The path of `name` inside `dir`.
pub fn join(dir: &str, name: &str) -> String {
    if dir.is_empty() { name.to_owned() } else { format!("{dir}/{name}") }
}

/// Whether `path` is `folder` or below it; everything is below `""`.
pub fn is_within(path: &str, folder: &str) -> bool {
    folder.is_empty()
        || path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// What every implementation answers when a path leads through something that is no folder.
pub fn not_a_folder() -> io::Error {
    io::Error::new(io::ErrorKind::NotADirectory, "a part of the path is not a folder")
}

/// What every implementation answers when a file is longer than the caller takes.
pub fn too_large() -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, "the file is larger than expected")
}
