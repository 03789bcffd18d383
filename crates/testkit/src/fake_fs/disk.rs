//! The disk: a tree of inodes, what of it is durable, and what goes wrong when.
//!
//! Invariant: every change of a name that is not durable is in `pending`, in order; taking them
//! back in reverse order gives the durable tree. A file with bytes that are not durable is in
//! `dirty` and holds the durable ones beside the visible ones.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::io::{self, ErrorKind};

use crucible_core::vault_path::FoldKey;
use crucible_vault::fs::{
    Facts, FileKind, STATE_DIR, Stat, TMP_PREFIX, UNDO_DIR, UNDO_PREFIX, file_name, join,
    not_a_folder, parent,
};
use unicode_normalization::UnicodeNormalization;

use super::{Call, Crashed, Fault, Op, Power};
use crate::simulation::Plant;

/// Changes of names kept back at most; a kernel writes them after seconds, too.
const PENDING_MAX: usize = 512;
const ROOT: Index = Index(0);
const ROOT_DEV: u64 = 1;

/// A kind of disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Variant {
    /// Names are bytes, times fine: ext4, xfs, btrfs.
    Linux,
    /// Folds case and normalisation, keeps the spelling: APFS.
    MacOs,
    /// Folds case, and lists names decomposed: HFS+.
    HfsPlus,
    /// Folds case, has the rules of Windows for names: NTFS.
    Windows,
    /// As Windows, with times of two seconds: FAT.
    Fat,
}

/// Which inode; its own, never used again, unlike the number that is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Index(usize);

#[derive(Debug, Clone)]
struct Inode {
    number: u64,
    dev: u64,
    mode: u32,
    mtime_ns: i64,
    ctime_ns: i64,
    node: Node,
}

#[derive(Debug, Clone)]
enum Node {
    File { bytes: Vec<u8>, durable: Option<Vec<u8>> },
    Dir(BTreeMap<Key, Child>),
    Symlink(String),
    Special,
}

type Key = Box<[u8]>;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Child {
    name: Box<[u8]>,
    inode: Index,
}

/// One name that came to mean something else.
#[derive(Debug, Clone)]
struct Change {
    dir: Index,
    key: Key,
    before: Option<Child>,
    after: Option<Child>,
}

/// A folder as it was, to copy it or to restore it.
#[derive(Debug, Clone)]
pub struct Image {
    inodes: Vec<Inode>,
    variant: Variant,
    now_ns: i64,
}

/// Somebody else in the room, called before every call.
type Hook = Box<dyn FnMut(&mut Disk, &Call<'_>) + Send>;

/// See the head of the file. The fields are for the simulator to set at any time.
pub struct Disk {
    /// The time now, nanoseconds since 1970; may jump both ways.
    pub now_ns: i64,
    /// How much time each call takes.
    pub tick_ns: i64,
    /// How many bytes more fit; `None` for no bound.
    pub space_left: Option<u64>,
    /// Whether the number of a removed file is given to the next new one, as ext4 does.
    pub reuses_inodes: bool,
    /// Whether `sync_file`, `sync_dir` and `sync_all` do nothing: a disk that lies.
    pub ignores_sync: bool,
    plant: Option<Plant>,
    pub(super) handles: Vec<Option<Index>>,
    /// Files that users removed.
    pub(super) unlinked: HashSet<Index>,
    variant: Variant,
    inodes: Vec<Inode>,
    free_numbers: Vec<u64>,
    next_number: u64,
    pending: Vec<Vec<Change>>,
    dirty: Vec<Index>,
    faults: BTreeMap<u64, Fault>,
    calls: u64,
    pub(super) power: Power,
    hook: Option<Hook>,
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk")
            .field("variant", &self.variant)
            .field("calls", &self.calls)
            .field("crashed", &self.is_crashed())
            .field("files", &self.everything().keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

impl Disk {
    pub(super) fn new(variant: Variant) -> Self {
        let mut disk = Self::from_image(&Image { inodes: Vec::new(), variant, now_ns: 0 });
        disk.now_ns = 1_700_000_000_000_000_000;
        disk.add_inode(Node::Dir(BTreeMap::new()), ROOT_DEV, 0o755);
        disk
    }

    pub(super) fn from_image(image: &Image) -> Self {
        Self {
            now_ns: image.now_ns,
            tick_ns: 1_000,
            space_left: None,
            reuses_inodes: true,
            ignores_sync: false,
            plant: None,
            handles: Vec::new(),
            unlinked: HashSet::new(),
            variant: image.variant,
            inodes: image.inodes.clone(),
            free_numbers: Vec::new(),
            next_number: image.inodes.iter().map(|inode| inode.number + 1).max().unwrap_or(2),
            pending: Vec::new(),
            dirty: Vec::new(),
            faults: BTreeMap::new(),
            calls: 0,
            power: Power::default(),
            hook: None,
        }
    }

    /// The folder as it is visible now. Numbers are kept: a backup of the whole disk.
    pub fn image(&self) -> Image {
        let mut inodes = self.inodes.clone();
        for inode in &mut inodes {
            if let Node::File { durable, .. } = &mut inode.node {
                *durable = None;
            }
        }
        Image { inodes, variant: self.variant, now_ns: self.now_ns }
    }

    /// Goes back to an image, as if it had always been so; the clock goes on.
    pub fn restore(&mut self, image: &Image) {
        self.inodes.clone_from(&image.inodes);
        self.pending.clear();
        self.dirty.clear();
        self.free_numbers.clear();
        self.handles.clear();
        self.unlinked.clear();
    }

    /// Puts a bug in on purpose.
    pub fn plant(&mut self, plant: Option<Plant>) {
        self.plant = plant;
        self.ignores_sync = plant == Some(Plant::NoSync);
    }

    /// Sets who is called before every call of the file system.
    pub fn set_hook(&mut self, hook: impl FnMut(&mut Self, &Call<'_>) + Send + 'static) {
        self.hook = Some(Box::new(hook));
    }

    /// Calls nobody any more.
    pub fn clear_hook(&mut self) {
        self.hook = None;
    }

    /// Lets the call of this number, counted as in [`Self::calls`], go wrong.
    pub fn fault_at(&mut self, number: u64, fault: Fault) {
        self.faults.insert(number, fault);
    }

    /// Forgets faults that have not happened.
    pub fn clear_faults(&mut self) {
        self.faults.clear();
    }

    /// How many calls there were.
    pub fn calls(&self) -> u64 {
        self.calls
    }

    /// Whether the machine is down.
    pub fn is_crashed(&self) -> bool {
        self.power.is_off()
    }

    /// What this disk can do.
    pub fn facts(&self) -> Facts {
        let windows = matches!(self.variant, Variant::Windows | Variant::Fat);
        Facts {
            folds_case: self.variant != Variant::Linux,
            normalises: matches!(self.variant, Variant::MacOs | Variant::HfsPlus),
            windows_names: windows,
            exchanges: true,
            name_bytes_max: 255,
            time_grain_ns: self.grain_ns(),
        }
    }

    /// Every file, visible or ours, with its bytes.
    pub fn everything(&self) -> BTreeMap<String, Vec<u8>> {
        let mut found = BTreeMap::new();
        if !self.inodes.is_empty() {
            self.collect(ROOT, "", &mut found);
        }
        found
    }

    /// The files people see: all but what is ours.
    pub fn visible(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = self.everything();
        files.retain(|path, _| {
            let name = file_name(path);
            let ours = name.starts_with(TMP_PREFIX) || name.starts_with(UNDO_PREFIX);
            !ours && path.split('/').next() != Some(STATE_DIR)
        });
        files
    }

    pub(super) fn begin(&mut self, op: Op, path: &str) -> io::Result<Option<Fault>> {
        if self.power.is_off() {
            return Err(io::Error::other(Crashed));
        }
        self.calls += 1;
        self.now_ns += self.tick_ns;
        if let Some(mut hook) = self.hook.take() {
            hook(self, &Call { number: self.calls, op, path });
            // A hook that set another one keeps that.
            self.hook.get_or_insert(hook);
        }
        Ok(self.faults.remove(&self.calls))
    }

    /// Stops the machine; the error is what whoever made the call would never see.
    pub fn crash(&mut self) -> io::Error {
        self.power.set_off(true);
        io::Error::other(Crashed)
    }

    pub(super) fn reboot(&mut self, seed: u64) {
        let mut dice = Dice(seed);
        self.lose_names(&mut dice);
        self.lose_bytes(&mut dice);
        self.handles.clear();
        self.faults.clear();
        self.power.set_off(false);
        self.renumber_twins();
    }

    fn lose_names(&mut self, dice: &mut Dice) {
        let pending = std::mem::take(&mut self.pending);
        for changes in pending.iter().rev() {
            for change in changes.iter().rev() {
                self.set_child(change.dir, &change.key, change.before.clone());
            }
        }
        let keeps_all = dice.chance(3);
        let mut lost: HashSet<(Index, &Key)> = HashSet::new();
        for changes in &pending {
            let depends = changes.iter().any(|change| lost.contains(&(change.dir, &change.key)));
            if depends || !(keeps_all || dice.chance(2)) {
                lost.extend(changes.iter().map(|change| (change.dir, &change.key)));
                continue;
            }
            for change in changes {
                self.set_child(change.dir, &change.key, change.after.clone());
            }
        }
    }

    fn lose_bytes(&mut self, dice: &mut Dice) {
        for index in std::mem::take(&mut self.dirty) {
            let Node::File { bytes, durable } = &mut self.inodes[index.0].node else { continue };
            let Some(old) = durable.take() else { continue };
            match dice.below(4) {
                0 => {}
                1 => *bytes = old,
                2 => bytes.clear(),
                _ => bytes.truncate(dice.below(bytes.len() as u64 + 1) as usize),
            }
        }
    }

    /// A file that came back may share its number with one made since.
    fn renumber_twins(&mut self) {
        let mut seen = HashSet::new();
        for inode in &mut self.inodes {
            if !seen.insert(inode.number) {
                inode.number = self.next_number;
                self.next_number += 1;
                seen.insert(inode.number);
            }
        }
        self.free_numbers.clear();
    }

    fn grain_ns(&self) -> i64 {
        match self.variant {
            Variant::Linux | Variant::MacOs | Variant::Windows => 1_000_000,
            Variant::HfsPlus => 1_000_000_000,
            Variant::Fat => 2_000_000_000,
        }
    }

    pub(super) fn coarse_now_ns(&self) -> i64 {
        self.now_ns - self.now_ns.rem_euclid(self.grain_ns())
    }

    pub(super) fn list(&self, dir: &str) -> io::Result<Vec<(Vec<u8>, Stat)>> {
        let index = self.resolve(dir)?;
        let Node::Dir(children) = &self.inodes[index.0].node else { return Err(not_a_folder()) };
        self.need(index, 0o500)?;
        let mut entries: Vec<_> = children
            .values()
            .map(|child| (child.name.to_vec(), self.stat_of(child.inode)))
            .collect();
        entries.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        Ok(entries)
    }

    pub(super) fn stat(&self, path: &str) -> io::Result<Stat> {
        Ok(self.stat_of(self.resolve(path)?))
    }

    pub(super) fn open(&self, path: &str) -> io::Result<Index> {
        let index = self.resolve(path)?;
        match &self.inodes[index.0].node {
            Node::File { .. } => self.need(index, 0o400)?,
            Node::Symlink(_) => return Err(not_a_folder()),
            Node::Dir(_) | Node::Special => return Err(ErrorKind::InvalidInput.into()),
        }
        Ok(index)
    }

    pub(super) fn bytes_of(&self, path: &str) -> io::Result<&[u8]> {
        Ok(self.bytes_at(self.open(path)?))
    }

    pub(super) fn bytes_at(&self, index: Index) -> &[u8] {
        match &self.inodes[index.0].node {
            Node::File { bytes, .. } => bytes,
            Node::Dir(_) | Node::Symlink(_) | Node::Special => &[],
        }
    }

    pub(super) fn create(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let node = Node::File { bytes: Vec::new(), durable: Some(Vec::new()) };
        let index = self.add_under(path, node, 0o644)?;
        self.dirty.push(index);
        self.write_at(index, bytes)
    }

    pub(super) fn append(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let index = self.open(path)?;
        self.need(index, 0o200)?;
        self.make_dirty(index);
        self.write_at(index, bytes)
    }

    fn make_dirty(&mut self, index: Index) {
        if let Node::File { bytes, durable } = &mut self.inodes[index.0].node
            && durable.is_none()
        {
            *durable = Some(bytes.clone());
            self.dirty.push(index);
        }
    }

    /// Adds bytes at the end, as many as fit.
    pub(super) fn write_at(&mut self, index: Index, bytes: &[u8]) -> io::Result<()> {
        let fits = match self.space_left {
            Some(left) => bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX)),
            None => bytes.len(),
        };
        if let Some(left) = &mut self.space_left {
            *left -= fits as u64;
        }
        if let Node::File { bytes: held, .. } = &mut self.inodes[index.0].node {
            held.extend_from_slice(&bytes[..fits]);
        }
        self.touch(index);
        if fits < bytes.len() { Err(ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    /// Empties a file that a user opened for writing; durable, as all a user does.
    pub(super) fn truncate(&mut self, index: Index) {
        if let Node::File { bytes, durable } = &mut self.inodes[index.0].node {
            bytes.clear();
            *durable = None;
        }
        self.touch(index);
    }

    fn touch(&mut self, index: Index) {
        let now = self.coarse_now_ns();
        let inode = &mut self.inodes[index.0];
        (inode.mtime_ns, inode.ctime_ns) = (now, now);
    }

    pub(super) fn set_mtime(&mut self, path: &str, mtime_ns: i64) -> io::Result<()> {
        let index = self.resolve(path)?;
        let now = self.coarse_now_ns();
        let inode = &mut self.inodes[index.0];
        (inode.mtime_ns, inode.ctime_ns) = (mtime_ns, now);
        Ok(())
    }

    pub(super) fn set_mode(&mut self, path: &str, mode: u32) -> io::Result<()> {
        let index = self.resolve(path)?;
        let now = self.coarse_now_ns();
        let inode = &mut self.inodes[index.0];
        (inode.mode, inode.ctime_ns) = (mode & 0o7777, now);
        Ok(())
    }

    /// Gives a folder, and what will be made in it, a device of its own, or the root's again.
    pub(super) fn set_dev(&mut self, path: &str, dev: u64) -> io::Result<()> {
        let index = self.resolve(path)?;
        self.inodes[index.0].dev = dev;
        Ok(())
    }

    pub(super) fn sync_file(&mut self, path: &str) -> io::Result<()> {
        let index = self.open(path)?;
        if !self.ignores_sync {
            self.make_durable(index);
        }
        Ok(())
    }

    pub(super) fn make_durable(&mut self, index: Index) {
        if let Node::File { durable, .. } = &mut self.inodes[index.0].node
            && durable.take().is_some()
        {
            self.dirty.retain(|&one| one != index);
        }
    }

    pub(super) fn sync_dir(&mut self, dir: &str) -> io::Result<()> {
        let index = self.resolve(dir)?;
        if !matches!(self.inodes[index.0].node, Node::Dir(_)) {
            return Err(not_a_folder());
        }
        let forgets = self.plant == Some(Plant::UndoNameNotDurable) && dir == UNDO_DIR;
        if !self.ignores_sync && !forgets {
            self.commit(|change| change.dir == index);
        }
        Ok(())
    }

    pub(super) fn sync_all(&mut self) {
        if self.ignores_sync {
            return;
        }
        self.pending.clear();
        for index in std::mem::take(&mut self.dirty) {
            if let Node::File { durable, .. } = &mut self.inodes[index.0].node {
                *durable = None;
            }
        }
    }

    pub(super) fn exchange(&mut self, one: &str, other: &str) -> io::Result<()> {
        let (one_dir, one_key, _) = self.place_of(one)?;
        let (other_dir, other_key, _) = self.place_of(other)?;
        let first = self.child(one_dir, &one_key).ok_or(ErrorKind::NotFound)?.clone();
        let second = self.child(other_dir, &other_key).ok_or(ErrorKind::NotFound)?.clone();
        self.same_device(first.inode, second.inode)?;
        let renamed = |name: &Child, inode: &Child| {
            Some(Child { name: name.name.clone(), inode: inode.inode })
        };
        let (new_first, new_second) = (renamed(&first, &second), renamed(&second, &first));
        self.change(vec![
            Change { dir: one_dir, key: one_key, before: Some(first), after: new_first },
            Change { dir: other_dir, key: other_key, before: Some(second), after: new_second },
        ]);
        if self.plant == Some(Plant::Overwrite) { self.remove_file(one) } else { Ok(()) }
    }

    pub(super) fn rename_new(&mut self, from: &str, to: &str) -> io::Result<()> {
        let (from_dir, from_key, _) = self.place_of(from)?;
        let child = self.child(from_dir, &from_key).ok_or(ErrorKind::NotFound)?.clone();
        let (to_dir, to_key, _) = self.place_of(to)?;
        if self.child(to_dir, &to_key).is_some() {
            if self.plant == Some(Plant::RenameOver) {
                return self.rename_over(from, to);
            }
            return Err(ErrorKind::AlreadyExists.into());
        }
        self.same_device(child.inode, to_dir)?;
        self.move_child(from_dir, from_key, to_dir, to_key, child, to)
    }

    /// A plain rename, over whatever file is there.
    pub(super) fn rename_over(&mut self, from: &str, to: &str) -> io::Result<()> {
        let (from_dir, from_key, _) = self.place_of(from)?;
        let child = self.child(from_dir, &from_key).ok_or(ErrorKind::NotFound)?.clone();
        let (to_dir, to_key, _) = self.place_of(to)?;
        if let Some(there) = self.child(to_dir, &to_key)
            && matches!(self.inodes[there.inode.0].node, Node::Dir(_))
            && there.inode != child.inode
        {
            return Err(ErrorKind::IsADirectory.into());
        }
        self.same_device(child.inode, to_dir)?;
        self.move_child(from_dir, from_key, to_dir, to_key, child, to)
    }

    fn move_child(
        &mut self,
        from_dir: Index,
        from_key: Key,
        to_dir: Index,
        to_key: Key,
        child: Child,
        to: &str,
    ) -> io::Result<()> {
        if self.is_inside(child.inode, to_dir) {
            return Err(ErrorKind::InvalidInput.into());
        }
        let after = Some(Child { name: self.spelling(file_name(to))?, inode: child.inode });
        if (from_dir, &from_key) == (to_dir, &to_key) {
            self.change(vec![Change { dir: to_dir, key: to_key, before: Some(child), after }]);
            return Ok(());
        }
        let replaced = self.child(to_dir, &to_key).cloned();
        if let Some(replaced) = &replaced {
            self.forget(replaced.inode);
        }
        self.change(vec![
            Change { dir: from_dir, key: from_key, before: Some(child), after: None },
            Change { dir: to_dir, key: to_key, before: replaced, after },
        ]);
        Ok(())
    }

    pub(super) fn remove_file(&mut self, path: &str) -> io::Result<()> {
        let (dir, key, _) = self.place_of(path)?;
        let child = self.child(dir, &key).ok_or(ErrorKind::NotFound)?.clone();
        if matches!(self.inodes[child.inode.0].node, Node::Dir(_)) {
            return Err(ErrorKind::IsADirectory.into());
        }
        self.forget(child.inode);
        self.change(vec![Change { dir, key, before: Some(child), after: None }]);
        Ok(())
    }

    pub(super) fn make_dir(&mut self, path: &str) -> io::Result<()> {
        self.add_under(path, Node::Dir(BTreeMap::new()), 0o755).map(drop)
    }

    pub(super) fn remove_dir(&mut self, path: &str) -> io::Result<()> {
        let (dir, key, _) = self.place_of(path)?;
        let child = self.child(dir, &key).ok_or(ErrorKind::NotFound)?.clone();
        match &self.inodes[child.inode.0].node {
            Node::Dir(children) if children.is_empty() => {}
            Node::Dir(_) => return Err(ErrorKind::DirectoryNotEmpty.into()),
            Node::File { .. } | Node::Symlink(_) | Node::Special => return Err(not_a_folder()),
        }
        self.change(vec![Change { dir, key, before: Some(child), after: None }]);
        Ok(())
    }

    pub(super) fn add_symlink(&mut self, path: &str, target: &str) -> io::Result<()> {
        self.add_under(path, Node::Symlink(target.to_owned()), 0o777).map(drop)
    }

    pub(super) fn add_special(&mut self, path: &str) -> io::Result<()> {
        self.add_under(path, Node::Special, 0o644).map(drop)
    }

    /// A file whose name is not UTF-8, or otherwise one that no path of ours can spell.
    pub(super) fn add_raw(&mut self, dir: &str, name: &[u8], bytes: &[u8]) -> io::Result<()> {
        let dir = self.resolve(dir)?;
        let node = Node::File { bytes: bytes.to_vec(), durable: None };
        let inode = self.add_inode(node, self.inodes[dir.0].dev, 0o644);
        let child = Child { name: name.into(), inode };
        self.set_child(dir, name, Some(child));
        Ok(())
    }

    /// Makes all changes of names in `what`'s folders, and those they rest on, durable.
    fn commit(&mut self, is_wanted: impl Fn(&Change) -> bool) {
        if self.pending.is_empty() {
            return;
        }
        let mut needed: HashSet<(Index, Key)> = HashSet::new();
        let mut kept = Vec::new();
        for changes in std::mem::take(&mut self.pending).into_iter().rev() {
            let rests = |change: &Change| needed.contains(&(change.dir, change.key.clone()));
            if changes.iter().any(|change| is_wanted(change) || rests(change)) {
                needed.extend(changes.into_iter().map(|change| (change.dir, change.key)));
            } else {
                kept.push(changes);
            }
        }
        kept.reverse();
        self.pending = kept;
    }

    /// Makes what a user did to a name durable at once, and the folders it is in.
    pub(super) fn commit_name(&mut self, path: &str) {
        let mut path = path;
        while !path.is_empty() && !self.pending.is_empty() {
            if let Ok((dir, key, _)) = self.place_of(path) {
                self.commit(|change| change.dir == dir && change.key == key);
            }
            path = parent(path);
        }
    }

    fn change(&mut self, changes: Vec<Change>) {
        let now = self.coarse_now_ns();
        for change in &changes {
            self.set_child(change.dir, &change.key, change.after.clone());
            self.inodes[change.dir.0].mtime_ns = now;
            self.inodes[change.dir.0].ctime_ns = now;
            if let Some(child) = &change.after {
                self.inodes[child.inode.0].ctime_ns = now;
            }
        }
        self.pending.push(changes);
        if self.pending.len() > PENDING_MAX {
            self.pending.drain(..PENDING_MAX / 2);
        }
    }

    fn set_child(&mut self, dir: Index, key: &[u8], child: Option<Child>) {
        if let Node::Dir(children) = &mut self.inodes[dir.0].node {
            match child {
                Some(child) => children.insert(key.into(), child),
                None => children.remove(key),
            };
        }
    }

    fn child(&self, dir: Index, key: &[u8]) -> Option<&Child> {
        match &self.inodes[dir.0].node {
            Node::Dir(children) => children.get(key),
            Node::File { .. } | Node::Symlink(_) | Node::Special => None,
        }
    }

    fn add_under(&mut self, path: &str, node: Node, mode: u32) -> io::Result<Index> {
        let (dir, key, name) = self.place_of(path)?;
        if self.child(dir, &key).is_some() {
            return Err(ErrorKind::AlreadyExists.into());
        }
        if self.space_left == Some(0) {
            return Err(ErrorKind::StorageFull.into());
        }
        let inode = self.add_inode(node, self.inodes[dir.0].dev, mode);
        let after = Some(Child { name, inode });
        self.change(vec![Change { dir, key, before: None, after }]);
        Ok(inode)
    }

    fn add_inode(&mut self, node: Node, dev: u64, mode: u32) -> Index {
        let now = self.coarse_now_ns();
        let number = self.free_numbers.pop().unwrap_or_else(|| {
            self.next_number += 1;
            self.next_number - 1
        });
        self.inodes.push(Inode { number, dev, mode, mtime_ns: now, ctime_ns: now, node });
        Index(self.inodes.len() - 1)
    }

    /// The number of a removed file is free for the next, unless somebody has it open.
    fn forget(&mut self, index: Index) {
        if self.reuses_inodes && !self.handles.contains(&Some(index)) {
            self.free_numbers.push(self.inodes[index.0].number);
        }
    }

    /// The folder of a path that may be changed, the key and the spelling of its name there.
    fn place_of(&self, path: &str) -> io::Result<(Index, Key, Box<[u8]>)> {
        let name = self.spelling(file_name(path))?;
        let dir = self.resolve(parent(path))?;
        if !matches!(self.inodes[dir.0].node, Node::Dir(_)) {
            return Err(not_a_folder());
        }
        self.need(dir, 0o300)?;
        Ok((dir, self.key(file_name(path)), name))
    }

    pub(super) fn resolve(&self, path: &str) -> io::Result<Index> {
        let mut at = ROOT;
        if path.is_empty() {
            return Ok(at);
        }
        for component in path.split('/') {
            let Node::Dir(children) = &self.inodes[at.0].node else { return Err(not_a_folder()) };
            self.need(at, 0o100)?;
            let child = match self.variant {
                Variant::Linux => children.get(component.as_bytes()),
                _ => children.get(&self.key(component)),
            };
            at = child.ok_or(ErrorKind::NotFound)?.inode;
        }
        Ok(at)
    }

    fn key(&self, name: &str) -> Key {
        match self.variant {
            Variant::Linux => name.as_bytes().into(),
            Variant::Windows | Variant::Fat => name.to_lowercase().into_bytes().into(),
            Variant::MacOs | Variant::HfsPlus => FoldKey::new(name).as_str().as_bytes().into(),
        }
    }

    /// How a name will be listed.
    fn spelling(&self, name: &str) -> io::Result<Box<[u8]>> {
        if matches!(name, "" | "." | "..") || name.contains('\0') {
            return Err(ErrorKind::InvalidInput.into());
        }
        let windows = matches!(self.variant, Variant::Windows | Variant::Fat);
        if name.len() > 255 || windows && name.contains(['<', '>', ':', '"', '|', '?', '*', '\\']) {
            return Err(ErrorKind::InvalidFilename.into());
        }
        if windows && (name.ends_with(['.', ' ']) || is_device(name)) {
            return Err(ErrorKind::InvalidFilename.into());
        }
        Ok(match self.variant {
            Variant::HfsPlus => name.nfd().collect::<String>().into_bytes().into(),
            _ => name.as_bytes().into(),
        })
    }

    fn need(&self, index: Index, bits: u32) -> io::Result<()> {
        if self.inodes[index.0].mode & bits == bits {
            Ok(())
        } else {
            Err(ErrorKind::PermissionDenied.into())
        }
    }

    fn same_device(&self, one: Index, other: Index) -> io::Result<()> {
        if self.inodes[one.0].dev == self.inodes[other.0].dev {
            Ok(())
        } else {
            Err(ErrorKind::CrossesDevices.into())
        }
    }

    fn is_inside(&self, folder: Index, dir: Index) -> bool {
        if folder == dir {
            return true;
        }
        match &self.inodes[folder.0].node {
            Node::Dir(children) => children.values().any(|child| self.is_inside(child.inode, dir)),
            Node::File { .. } | Node::Symlink(_) | Node::Special => false,
        }
    }

    fn stat_of(&self, index: Index) -> Stat {
        let inode = &self.inodes[index.0];
        let (kind, size) = match &inode.node {
            Node::File { bytes, .. } => (FileKind::File, bytes.len() as u64),
            Node::Dir(_) => (FileKind::Dir, 0),
            Node::Symlink(target) => (FileKind::Symlink, target.len() as u64),
            Node::Special => (FileKind::Other, 0),
        };
        Stat {
            kind,
            size,
            mtime_ns: inode.mtime_ns,
            ctime_ns: inode.ctime_ns,
            inode: inode.number,
            dev: inode.dev,
            mode: inode.mode,
        }
    }

    fn collect(&self, dir: Index, path: &str, found: &mut BTreeMap<String, Vec<u8>>) {
        let Node::Dir(children) = &self.inodes[dir.0].node else { return };
        for child in children.values() {
            let path = join(path, &String::from_utf8_lossy(&child.name));
            match &self.inodes[child.inode.0].node {
                Node::File { bytes, .. } => {
                    found.insert(path, bytes.clone());
                }
                Node::Dir(_) => self.collect(child.inode, &path, found),
                Node::Symlink(_) | Node::Special => {}
            }
        }
    }
}

/// Names of devices on Windows, whatever comes after a dot.
fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or(name).trim_end().to_ascii_uppercase();
    match stem.as_str() {
        "CON" | "PRN" | "AUX" | "NUL" => true,
        other => {
            let digit = other.strip_prefix("COM").or_else(|| other.strip_prefix("LPT"));
            digit.is_some_and(|rest| {
                rest.len() == 1 && rest != "0" && rest.as_bytes()[0].is_ascii_digit()
            })
        }
    }
}

/// SplitMix64: a few numbers from a seed, the same on every machine.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// One in `n`.
    fn chance(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}
