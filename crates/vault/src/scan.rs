//! The scan: what is in the folder. It is the truth; a watcher only says when to look.
//!
//! Invariants:
//! - A file that looks as it did when it was hashed is not opened, unless it was changed so close
//!   to that scan that a later change could look the same; such a file is hashed again.
//! - A hash is of bytes that were there between two looks at the file that agree.
//! - What could not be read, listed or understood is *unknown*, with all below it. Only
//!   [`Scan::absence`] says that something is gone, and it never says so of what is unknown,
//!   ignored, or hidden by something that is not synced.
//! - The result does not depend on how many threads looked, nor on the order of the disk.
//!
//! Paths are as on disk: `name` leads to those of the model.

use std::collections::{BTreeSet, HashMap};
use std::io::{self, ErrorKind};
use std::num::NonZero;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crucible_core::hash::ContentHash;
use crucible_core::vault_path::{PathError, VaultPath};
use crucible_core::version::Kind;

use unicode_normalization::UnicodeNormalization;

use crate::content::{Naming, identify_sized};
use crate::foreign::{self, Tool};
use crate::fs::{
    Entry, Facts, FileKind, FileSystem, STATE_DIR, Stat, TMP_PREFIX, UNDO_PREFIX, is_within, join,
};
use crate::ignore::{self, Chain, PathKind, RULES_BYTES_MAX, RULES_FILE, RuleError, Rules};
use crate::name::DiskKey;
use crate::write::Leftover;

/// How often a file that changes while it is read is read again.
const READ_TRIES: usize = 3;

/// What an earlier scan found out about a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cached {
    /// How it looked.
    pub stat: Stat,
    /// Its content.
    pub hash: ContentHash,
    /// Note or asset.
    pub kind: Kind,
    /// When the scan began that hashed it, on the file system's clock.
    pub scanned_at_ns: i64,
}

/// Whether a folder must prove to be the vault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Root {
    /// It must hold [`STATE_DIR`], else all of it is unknown: a mount that is not there.
    Vault,
    /// Any folder, to be imported.
    PlainFolder,
}

/// What a scan needs to know.
pub struct Request<'a, C> {
    /// What is known of a file, by its path on disk.
    pub cached: C,
    /// [`FileSystem::clock_ns`] now, before anything is looked at.
    pub now_ns: i64,
    /// [`Scan::mounts`] of the last scan: where one of them is gone, its files are unknown.
    pub known_mounts: &'a [String],
    /// Folders that another disk hides: what is below them is unknown.
    pub covered: &'a [String],
    /// Vault or not.
    pub root: Root,
}

/// A file that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its path on disk.
    pub path: VaultPath,
    /// How it looks.
    pub stat: Stat,
    /// Its content.
    pub hash: ContentHash,
    /// Note or asset.
    pub kind: Kind,
    /// Whether this scan read it; if so its cache entry is out of date.
    pub was_hashed: bool,
}

/// Why it is not known what is at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownReason {
    /// The system did not let us look.
    Unreadable(ErrorKind),
    /// It changed each time it was read.
    ChangedWhileRead,
    /// The rules that say what to leave out here cannot be read, and nothing goes out by mistake.
    RulesUnreadable,
    /// A mount was here, and is not.
    MountGone,
    /// Another disk was mounted over what was here.
    Covered,
    /// The folder does not hold [`STATE_DIR`]: whatever this is, it is not the vault.
    NotTheVault,
}

/// A path, and all below it, of which nothing is known; `""` is the whole vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown {
    /// Where.
    pub path: String,
    /// Why.
    pub reason: UnknownReason,
}

/// Why something that is there is not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SkipReason {
    /// A symbolic link.
    Symlink,
    /// A pipe, a socket, a device.
    Special,
    /// Its name is not UTF-8.
    NotUtf8,
    /// Its path cannot be one in a vault.
    Path(PathError),
}

/// Something that is there and is not synced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// Where, as [`escaped`].
    pub path: String,
    /// Why.
    pub reason: SkipReason,
}

/// A conflict copy that another tool left; it is among the files, too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignCopy {
    /// Where.
    pub path: VaultPath,
    /// Which tool names them so.
    pub tool: Tool,
}

/// What is not there, and whether that means anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absence {
    /// It is there, perhaps under another spelling that is one name on this disk.
    Present,
    /// It is gone: somebody removed or renamed it.
    Gone,
    /// Nobody can say.
    Unknown,
    /// It is left out by a rule, there or not.
    Ignored,
}

/// What is in the folder; every list is in the order of its paths.
#[derive(Debug, Default)]
pub struct Scan {
    /// The files.
    pub files: Vec<Found>,
    /// What nobody can say.
    pub unknown: Vec<Unknown>,
    /// What is there and not synced.
    pub skipped: Vec<Skipped>,
    /// The topmost ignored paths.
    pub ignored: Vec<String>,
    /// Copies of other tools.
    pub foreign_copies: Vec<ForeignCopy>,
    /// Displaced bytes beside their files, see `write`.
    pub leftovers: Vec<Leftover>,
    /// Unfinished files of ours beside their targets, for `write::discard_tmp` at a start.
    pub stale_tmp: Vec<String>,
    /// Folders on another device than the one they are in.
    pub mounts: Vec<String>,
    /// Lines of [`RULES_FILE`]s that are no rules.
    pub rule_errors: Vec<RuleError>,
    /// The rules in force.
    pub rules: Rules,
    /// When it began, on the file system's clock: the `scanned_at_ns` of what it hashed.
    pub began_ns: i64,
    spellings: Spellings,
}

/// Finds files by any spelling that is one name on this disk.
#[derive(Debug)]
struct Spellings {
    facts: Facts,
    /// Empty where each name has one spelling.
    by_key: HashMap<DiskKey, usize>,
}

impl Default for Spellings {
    fn default() -> Self {
        Self { facts: Facts::LINUX, by_key: HashMap::new() }
    }
}

impl Scan {
    /// The file at a path on disk, by any spelling that is one name here.
    pub fn find(&self, path: &VaultPath) -> Option<&Found> {
        let exact = self.files.binary_search_by(|found| found.path.cmp(path)).ok();
        let by_key = || self.spellings.by_key.get(&self.key(path.as_str())).copied();
        exact.or_else(by_key).map(|index| &self.files[index])
    }

    /// Spells files as `known` has them, where that is the same name here. A folder has the spelling
    /// it was first made with, whatever the notes in it call it, and some disks decompose every
    /// name; only the case of a file's own name is its owner's to change.
    pub fn spell_as<'k>(&mut self, known: impl IntoIterator<Item = &'k VaultPath>) {
        if self.spellings.by_key.is_empty() {
            return;
        }
        let exact = |path: &VaultPath| self.files.binary_search_by(|found| found.path.cmp(path));
        let decomposes = self.spellings.facts.normalises;
        let mut respelled = Vec::new();
        for path in known.into_iter().filter(|path| exact(path).is_err()) {
            let Some(&at) = self.spellings.by_key.get(&self.key(path.as_str())) else { continue };
            let (found, known) = (self.files[at].path.name(), path.name());
            if found == known || decomposes && found.nfc().eq(known.nfc()) {
                respelled.push((at, path.clone()));
            }
        }
        let is_respelled = !respelled.is_empty();
        for (at, path) in respelled {
            self.files[at].path = path;
        }
        if is_respelled {
            self.files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
            self.index();
        }
    }

    /// Whether a path on disk is gone, which is the only ground for a deletion.
    pub fn absence(&self, path: &VaultPath) -> Absence {
        if self.find(path).is_some() {
            return Absence::Present;
        }
        let key = self.key(path.as_str());
        let hides = |above: &str| is_within(key.as_str(), self.key(above).as_str());
        let is_unknown = self.unknown.iter().any(|unknown| hides(&unknown.path));
        if is_unknown || self.skipped.iter().any(|skipped| hides(&skipped.path)) {
            return Absence::Unknown;
        }
        let is_ignored = self.rules.is_ignored(path.as_str(), PathKind::File);
        if is_ignored || self.ignored.iter().any(|ignored| hides(ignored)) {
            return Absence::Ignored;
        }
        Absence::Gone
    }

    /// Whether anything was left unsaid that a person should hear of.
    pub fn is_complete(&self) -> bool {
        self.unknown.is_empty() && self.skipped.is_empty()
    }

    fn key(&self, path: &str) -> DiskKey {
        DiskKey::of(path, &self.spellings.facts)
    }

    fn absorb(&mut self, other: Self) {
        self.files.extend(other.files);
        self.unknown.extend(other.unknown);
        self.skipped.extend(other.skipped);
        self.ignored.extend(other.ignored);
        self.foreign_copies.extend(other.foreign_copies);
        self.leftovers.extend(other.leftovers);
        self.stale_tmp.extend(other.stale_tmp);
        self.mounts.extend(other.mounts);
        self.rule_errors.extend(other.rule_errors);
        self.rules.extend(other.rules);
    }

    fn finish<C>(mut self, facts: Facts, request: &Request<'_, C>) -> Self {
        self.files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        self.skipped.sort_by(|a, b| a.path.cmp(&b.path));
        self.ignored.sort_unstable();
        self.foreign_copies.sort_by(|a, b| a.path.cmp(&b.path));
        self.leftovers.sort_by(|a, b| a.at.cmp(&b.at));
        self.stale_tmp.sort_unstable();
        self.mounts.sort_unstable();
        self.rule_errors.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
        let seen: BTreeSet<_> = self.mounts.iter().collect();
        for gone in request.known_mounts.iter().filter(|mount| !seen.contains(mount)) {
            if !self.unknown.iter().any(|unknown| is_within(gone, &unknown.path)) {
                let reason = UnknownReason::MountGone;
                self.unknown.push(Unknown { path: gone.clone(), reason });
            }
        }
        self.unknown.sort_by(|a, b| a.path.cmp(&b.path));
        self.began_ns = request.now_ns;
        self.spellings.facts = facts;
        self.index();
        self
    }

    fn index(&mut self) {
        let facts = self.spellings.facts;
        if facts.folds_case || facts.normalises {
            let files = self.files.iter().enumerate();
            let keyed = files.map(|(at, found)| (DiskKey::of(found.path.as_str(), &facts), at));
            self.spellings.by_key = keyed.collect();
        }
    }
}

/// Scans on this thread.
pub fn scan<F, C>(fs: &F, request: &Request<'_, C>) -> Scan
where
    F: FileSystem,
    C: Fn(&str) -> Option<Cached>,
{
    let facts = fs.facts();
    let mut found = Scan::default();
    let mut waiting = vec![Folder::root()];
    while let Some(folder) = waiting.pop() {
        let visit = Visit { fs, request, facts, folder: &folder };
        waiting.extend(visit.run(&mut found));
    }
    found.finish(facts, request)
}

/// Scans on several threads; the result is that of [`scan`].
pub fn scan_parallel<F, C>(fs: &F, request: &Request<'_, C>, threads: NonZero<usize>) -> Scan
where
    F: FileSystem + Sync,
    C: Fn(&str) -> Option<Cached> + Sync,
{
    let facts = fs.facts();
    let queue = Queue::new(Folder::root());
    let work = || {
        let mut found = Scan::default();
        while let Some(folder) = queue.next() {
            let visit = Visit { fs, request, facts, folder: &folder };
            queue.done(visit.run(&mut found));
        }
        found
    };
    let mut all = Scan::default();
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads.get()).map(|_| scope.spawn(work)).collect();
        all.absorb(work());
        for other in others {
            match other.join() {
                Ok(found) => all.absorb(found),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    all.finish(facts, request)
}

/// A folder to be looked at.
struct Folder {
    path: String,
    rules: Chain,
    dev: Option<u64>,
}

impl Folder {
    fn root() -> Self {
        Self { path: String::new(), rules: Chain::default(), dev: None }
    }
}

/// The folders that wait, and how many are being looked at.
struct Queue {
    state: Mutex<(Vec<Folder>, usize)>,
    changed: Condvar,
}

impl Queue {
    fn new(first: Folder) -> Self {
        Self { state: Mutex::new((vec![first], 0)), changed: Condvar::new() }
    }

    /// The next folder; `None` when all are done.
    fn next(&self) -> Option<Folder> {
        // A panic elsewhere leaves two plain values, and is raised again at the join.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(folder) = state.0.pop() {
                state.1 += 1;
                return Some(folder);
            }
            if state.1 == 0 {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn done(&self, more: Vec<Folder>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.0.extend(more);
        state.1 -= 1;
        self.changed.notify_all();
    }
}

struct Visit<'a, F, C> {
    fs: &'a F,
    request: &'a Request<'a, C>,
    facts: Facts,
    folder: &'a Folder,
}

impl<F: FileSystem, C: Fn(&str) -> Option<Cached>> Visit<'_, F, C> {
    /// Looks at one folder; returns those below it.
    fn run(&self, found: &mut Scan) -> Vec<Folder> {
        let dir = &self.folder.path;
        let entries = match self.fs.list(dir) {
            Ok(entries) => entries,
            // Removed since the folder above was listed. The root cannot be.
            Err(error) if error.kind() == ErrorKind::NotFound && !dir.is_empty() => {
                return Vec::new();
            }
            Err(error) => return give_up(found, dir, UnknownReason::Unreadable(error.kind())),
        };
        let named = |name: &str| entries.iter().find(|entry| entry.name == *name);
        if dir.is_empty() && self.request.root == Root::Vault {
            let state = named(STATE_DIR).and_then(|entry| entry.stat.as_ref().ok());
            if state.is_none_or(|stat| stat.kind != FileKind::Dir) {
                return give_up(found, dir, UnknownReason::NotTheVault);
            }
        }
        let mut rules = self.folder.rules.clone();
        if let Some(entry) = named(RULES_FILE) {
            match self.read_rules(entry) {
                Ok(Some(text)) => {
                    let (matcher, errors) = ignore::compile(dir, &text);
                    found.rule_errors.extend(errors);
                    found.rules.insert(dir, Arc::clone(&matcher));
                    rules.push(dir, matcher);
                }
                Ok(None) => {}
                Err(_) => return give_up(found, dir, UnknownReason::RulesUnreadable),
            }
        }
        let mut below = Vec::new();
        for entry in entries {
            self.entry(entry, &rules, found, &mut below);
        }
        below
    }

    /// The text of a file of rules; `None` when it was removed meanwhile.
    fn read_rules(&self, entry: &Entry) -> io::Result<Option<String>> {
        match &entry.stat {
            Ok(stat) if stat.kind == FileKind::File => {}
            Ok(_) | Err(_) => return Err(ErrorKind::InvalidData.into()),
        }
        match self.fs.read(&join(&self.folder.path, RULES_FILE), RULES_BYTES_MAX) {
            Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn entry(&self, entry: Entry, rules: &Chain, found: &mut Scan, below: &mut Vec<Folder>) {
        let dir = &self.folder.path;
        let name = match entry.name.into_string() {
            Ok(name) => name,
            Err(name) => {
                let path = join(dir, &escaped(name.as_encoded_bytes()));
                found.skipped.push(Skipped { path, reason: SkipReason::NotUtf8 });
                return;
            }
        };
        let path = join(dir, &name);
        let stat = match entry.stat {
            Ok(stat) => stat,
            Err(error) => {
                give_up(found, &path, UnknownReason::Unreadable(error.kind()));
                return;
            }
        };
        if name.starts_with(UNDO_PREFIX) {
            found.leftovers.extend(Leftover::at(&path, stat));
            return;
        }
        if name.starts_with(TMP_PREFIX) {
            found.stale_tmp.push(path);
            return;
        }
        if path == STATE_DIR {
            return;
        }
        let kind = if stat.kind == FileKind::Dir { PathKind::Dir } else { PathKind::File };
        if rules.ignores(&path, kind) {
            found.ignored.push(path);
            return;
        }
        // Decomposed, as some disks list it, a name can be too long for what it is composed.
        let composed = |error| match self.facts.normalises {
            true => VaultPath::new(&path.nfc().collect::<String>()),
            false => Err(error),
        };
        let vault_path = match VaultPath::new(&path).or_else(composed) {
            Ok(vault_path) => vault_path,
            Err(error) => {
                let path = join(dir, &escaped(name.as_bytes()));
                found.skipped.push(Skipped { path, reason: SkipReason::Path(error) });
                return;
            }
        };
        match stat.kind {
            FileKind::File => self.file(vault_path, stat, found),
            FileKind::Dir => below.extend(self.folder_below(path, &stat, rules, found)),
            FileKind::Symlink => {
                found.skipped.push(Skipped { path, reason: SkipReason::Symlink });
            }
            FileKind::Other => found.skipped.push(Skipped { path, reason: SkipReason::Special }),
        }
    }

    fn folder_below(
        &self,
        path: String,
        stat: &Stat,
        rules: &Chain,
        found: &mut Scan,
    ) -> Option<Folder> {
        if self.request.covered.contains(&path) {
            give_up(found, &path, UnknownReason::Covered);
            return None;
        }
        let above = match self.folder.dev {
            Some(dev) => Some(dev),
            None => self.fs.stat("").ok().map(|root| root.dev),
        };
        if above.is_some_and(|dev| dev != stat.dev) {
            found.mounts.push(path.clone());
        } else if self.request.known_mounts.contains(&path) {
            give_up(found, &path, UnknownReason::MountGone);
            return None;
        }
        Some(Folder { path, rules: rules.clone(), dev: Some(stat.dev) })
    }

    fn file(&self, path: VaultPath, stat: Stat, found: &mut Scan) {
        if let Some(tool) = foreign::conflict_copy(path.name()) {
            found.foreign_copies.push(ForeignCopy { path: path.clone(), tool });
        }
        if let Some(cached) = (self.request.cached)(path.as_str())
            && stat.is_unchanged_since(&cached.stat)
            && !self.is_racy(&stat, cached.scanned_at_ns)
        {
            let Cached { hash, kind, .. } = cached;
            found.files.push(Found { path, stat, hash, kind, was_hashed: false });
            return;
        }
        match self.hash(&path, stat) {
            Ok(Some(hashed)) => found.files.push(hashed),
            Ok(None) => {}
            Err(reason) => {
                give_up(found, path.as_str(), reason);
            }
        }
    }

    /// Whether a change after the scan that hashed a file could have left it looking the same.
    /// A time of content ahead of the clock was set by somebody, and says nothing.
    fn is_racy(&self, stat: &Stat, scanned_at_ns: i64) -> bool {
        let close = |time: i64| time.saturating_add(self.facts.time_grain_ns) >= scanned_at_ns;
        close(stat.ctime_ns) || stat.mtime_ns <= scanned_at_ns && close(stat.mtime_ns)
    }

    /// Reads a file between two looks that agree; `None` when it is removed meanwhile.
    fn hash(&self, path: &VaultPath, stat: Stat) -> Result<Option<Found>, UnknownReason> {
        let naming = Naming::of(path);
        let mut before = stat;
        for _ in 0..READ_TRIES {
            let read = identify_sized(self.fs, path.as_str(), naming, &before);
            let after = match self.fs.stat(path.as_str()) {
                Ok(after) => after,
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(UnknownReason::Unreadable(error.kind())),
            };
            match read {
                Ok(identity)
                    if after.is_unchanged_since(&before) && identity.bytes == after.size =>
                {
                    return Ok(Some(Found {
                        path: path.clone(),
                        stat: after,
                        hash: identity.hash,
                        kind: identity.kind,
                        was_hashed: true,
                    }));
                }
                Err(error) if after.is_unchanged_since(&before) => {
                    return Err(UnknownReason::Unreadable(error.kind()));
                }
                Ok(_) | Err(_) if after.kind != FileKind::File => {
                    return Err(UnknownReason::ChangedWhileRead);
                }
                Ok(_) | Err(_) => before = after,
            }
        }
        Err(UnknownReason::ChangedWhileRead)
    }
}

/// A name as text from which its bytes can be had again: what is not UTF-8 and control characters
/// become `\\xNN`, and then a backslash is doubled; any other name is itself.
pub fn escaped(name: &[u8]) -> String {
    let plain = std::str::from_utf8(name).ok().filter(|text| !text.contains(char::is_control));
    if let Some(text) = plain {
        return text.to_owned();
    }
    let mut text = String::new();
    for chunk in name.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => text.push_str("\\\\"),
                c if c.is_control() => {
                    let mut bytes = [0; 4];
                    push_hex(&mut text, c.encode_utf8(&mut bytes).as_bytes());
                }
                c => text.push(c),
            }
        }
        push_hex(&mut text, chunk.invalid());
    }
    text
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        text.push_str(&format!("\\x{byte:02x}"));
    }
}

fn give_up(found: &mut Scan, path: &str, reason: UnknownReason) -> Vec<Folder> {
    found.unknown.push(Unknown { path: path.to_owned(), reason });
    Vec::new()
}
