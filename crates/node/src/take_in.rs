//! What changed in the folder since it was last in step, as versions in the store.
//!
//! Every file's base is the version its row names, never just the newest one known. A file that
//! vanished counts as deleted only when the scan says that it is gone; bytes are versioned as they
//! were read, and a file that changed after the scan is looked at again by the next one.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;

use crucible_core::hash::ContentHash;
use crucible_core::id::{NoteId, RootHash, VersionId};
use crucible_core::limits::NOTE_BYTES_MAX;
use crucible_core::merkle::{self, lookup};
use crucible_core::vault_path::VaultPath;
use crucible_core::version::Kind;
use crucible_proto::limits::{INLINE_BYTES_MAX, PACK_RAW_AIM, PAGE_NOTES_MAX, PAGE_RAW_AIM};
use crucible_proto::zip;
use crucible_sync::guard::{Guard, Loss};
use crucible_sync::mint::{Change, Found, Minter};
use crucible_sync::replica::{FileRow, FileStat, ReplicaBatch, ReplicaMeta, ReplicaStore};
use crucible_sync::repo::{Body, Pack};
use crucible_sync::staged::{EngineError, Staged, StillTree};
use crucible_vault::content::{Naming, identify};
use crucible_vault::fs::{Facts, FileSystem};
use crucible_vault::name::{Why, conflict_of, model_path};
use crucible_vault::scan::{self, Absence, Scan};

use crate::error::{Direction, SyncError};
use crate::mounts;
use crate::renames::{self, Appeared, Vanished};
use crate::replica::{Fallible, Replica, Round, to_file_stat};
use crate::report::{Notice, Progress};

/// What is different about one file.
pub(crate) enum Difference<'s> {
    /// Nobody knew it.
    New(&'s scan::Found),
    /// It holds other bytes.
    Edited(FileRow, &'s scan::Found),
    /// It is elsewhere, perhaps with other bytes.
    Moved(FileRow, &'s scan::Found),
    /// It is gone.
    Gone(FileRow),
    /// It looks different and holds the same.
    Touched(FileRow, &'s scan::Found),
}

impl<F: FileSystem, S: ReplicaStore> Replica<F, S> {
    /// Looks through the folder and writes down what changed.
    pub(crate) fn take_in(&mut self, round: &mut Round<'_>) -> Fallible<(), S> {
        (round.progress)(Progress::Scanning);
        round.scan = None;
        let rows = self.rows()?;
        let scan = self.look_through(&rows, round.options)?;
        mounts::remember(&self.fs, &rows, &scan).map_err(SyncError::Folder)?;
        tell(&scan, round);
        let mut differences = self.compare(&rows, &scan);
        self.ask_guard(&mut differences, round)?;
        self.record(differences, &scan, round)?;
        round.scan = Some(scan);
        self.unsettle_aside(&rows)
    }

    /// Files that stand under another name than their own: whoever has that name may have left it
    /// in a way that concerns no other note, so they are placed anew.
    fn unsettle_aside(&mut self, rows: &BTreeMap<VaultPath, FileRow>) -> Fallible<(), S> {
        let facts = self.fs.facts();
        let aside = rows.values().filter(|row| is_aside(&row.disk_path, &facts));
        let unsettled = aside.map(|row| row.note).collect();
        self.commit(ReplicaBatch { unsettled, ..ReplicaBatch::default() })
    }

    /// Tells which files stand under another name than their own.
    pub(crate) fn tell_aside(
        &self,
        rows: &BTreeMap<VaultPath, FileRow>,
        round: &mut Round<'_>,
    ) -> Fallible<(), S> {
        let facts = self.fs.facts();
        for row in rows.values().filter(|row| is_aside(&row.disk_path, &facts)) {
            let version = self.known_version(&row.version)?;
            let Some(path) = version.path().filter(|path| **path != row.disk_path) else {
                continue;
            };
            let is_escaped = model_path(&row.disk_path, &facts) == *path;
            round.report.notice(Notice::Renamed {
                path: path.to_string(),
                disk_path: row.disk_path.to_string(),
                why: if is_escaped { Why::Escaped } else { Why::Conflict },
            });
        }
        Ok(())
    }

    pub(crate) fn compare<'s>(
        &self,
        rows: &BTreeMap<VaultPath, FileRow>,
        scan: &'s Scan,
    ) -> Vec<Difference<'s>> {
        let mut found_at = BTreeSet::new();
        let (mut differences, mut new, mut gone) = (Vec::new(), Vec::new(), Vec::new());
        let moved_over = moved_over(rows, scan);
        for found in &scan.files {
            // A disk that folds case can show a row's file under another spelling.
            let row = rows.get(&found.path).filter(|row| !moved_over.contains(&row.disk_path));
            match row {
                Some(row) if row.content == found.hash && row.kind == found.kind => {
                    found_at.insert(row.disk_path.clone());
                    if row.stat != to_file_stat(&found.stat) || found.was_hashed {
                        differences.push(Difference::Touched(row.clone(), found));
                    }
                }
                Some(row) => {
                    found_at.insert(row.disk_path.clone());
                    differences.push(Difference::Edited(row.clone(), found));
                }
                None => new.push(found),
            }
        }
        for row in rows.values().filter(|row| !found_at.contains(&row.disk_path)) {
            match scan.absence(&row.disk_path) {
                // Present: another file is there now, or the name in another spelling on a disk
                // that folds, which is a rename.
                Absence::Gone | Absence::Present => gone.push(row.clone()),
                Absence::Unknown | Absence::Ignored => {}
            }
        }
        self.pair_up(new, gone, &mut differences);
        differences
    }

    fn pair_up<'s>(
        &self,
        new: Vec<&'s scan::Found>,
        gone: Vec<FileRow>,
        differences: &mut Vec<Difference<'s>>,
    ) {
        let vanished: Vec<Vanished<'_>> = gone
            .iter()
            .map(|row| Vanished {
                path: row.disk_path.as_str(),
                content: row.content,
                kind: row.kind,
                inode: row.stat.inode,
            })
            .collect();
        let appeared: Vec<Appeared<'_>> = new
            .iter()
            .map(|found| Appeared {
                path: found.path.as_str(),
                content: found.hash,
                kind: found.kind,
                inode: found.stat.inode,
            })
            .collect();
        let old_text = |index: usize| {
            let bytes = self.store.content(&gone[index].content).ok().flatten()?;
            String::from_utf8(bytes.to_vec()).ok()
        };
        let new_text = |index: usize| {
            let bytes = self.fs.read(new[index].path.as_str(), NOTE_BYTES_MAX).ok()?;
            String::from_utf8(bytes).ok()
        };
        let pairs = renames::pair(&vanished, &appeared, old_text, new_text);
        let paired_old: BTreeSet<usize> = pairs.iter().map(|(old, _)| *old).collect();
        let paired_new: BTreeSet<usize> = pairs.iter().map(|(_, new)| *new).collect();
        for (old, found) in pairs {
            differences.push(Difference::Moved(gone[old].clone(), new[found]));
        }
        for (index, row) in gone.into_iter().enumerate() {
            if !paired_old.contains(&index) {
                differences.push(Difference::Gone(row));
            }
        }
        for (index, found) in new.into_iter().enumerate() {
            if !paired_new.contains(&index) {
                differences.push(Difference::New(found));
            }
        }
    }

    /// How many notes of how many are gone or empty in the folder, when a round asks about that.
    pub(crate) fn losses(&self, differences: &[Difference<'_>]) -> Fallible<Option<(u64, u64)>, S> {
        let is_gone = |difference: &Difference<'_>| matches!(difference, Difference::Gone(_));
        let deleted = differences.iter().filter(|d| is_gone(d)).count() as u64;
        let live = self.store.live_notes().map_err(EngineError::Repo)?;
        let mut guard = Guard::new(live.saturating_sub(deleted));
        for difference in differences.iter() {
            guard.count(match difference {
                Difference::Gone(_) => Loss::Deleted,
                Difference::Edited(row, found) | Difference::Moved(row, found)
                    if found.stat.size == 0 && row.content != found.hash =>
                {
                    Loss::Emptied
                }
                _ => Loss::None,
            });
        }
        Ok(guard.trips())
    }

    /// Stops, or brings files back, when most notes are gone.
    fn ask_guard(
        &mut self,
        differences: &mut Vec<Difference<'_>>,
        round: &mut Round<'_>,
    ) -> Fallible<(), S> {
        if round.options.restore_missing {
            return self.bring_back(differences, round);
        }
        match self.losses(differences)? {
            Some((lost, of)) if !round.options.allow_mass_delete => {
                Err(SyncError::Guard { lost, of, direction: Direction::Outgoing })
            }
            _ => Ok(()),
        }
    }

    /// Forgets that missing and emptied files were ever placed, so that they are placed again.
    fn bring_back(
        &mut self,
        differences: &mut Vec<Difference<'_>>,
        round: &mut Round<'_>,
    ) -> Fallible<(), S> {
        let mut batch = ReplicaBatch::default();
        differences.retain(|difference| match difference {
            Difference::Gone(row) => {
                batch.files_gone.push(row.disk_path.clone());
                batch.unsettled.push(row.note);
                false
            }
            Difference::Edited(row, found) if found.stat.size == 0 => {
                let stat = to_file_stat(&found.stat);
                batch.files.push(FileRow {
                    content: found.hash,
                    kind: found.kind,
                    stat,
                    ..row.clone()
                });
                batch.unsettled.push(row.note);
                false
            }
            _ => true,
        });
        let emptied = batch.files.iter().map(|row| &row.disk_path);
        round.report.brought_back.extend(batch.files_gone.iter().chain(emptied).cloned());
        self.commit(batch)
    }

    /// Mints in path order, a page's worth of bytes in one transaction. Renames come first and by
    /// their old paths, so that a folder's rename is one run of events.
    fn record(
        &mut self,
        differences: Vec<Difference<'_>>,
        scan: &Scan,
        round: &mut Round<'_>,
    ) -> Fallible<(), S> {
        let mut differences = differences;
        differences.sort_by_cached_key(|difference| match difference {
            Difference::Moved(row, _) => (0, row.disk_path.clone()),
            Difference::Edited(row, _) | Difference::Touched(row, _) => (1, row.disk_path.clone()),
            Difference::Gone(row) => (2, row.disk_path.clone()),
            Difference::New(found) => (3, found.path.clone()),
        });
        let of = differences.len() as u64;
        let mut queue = differences.into_iter().peekable();
        let mut done = 0;
        while queue.peek().is_some() {
            let meta = self.meta()?;
            let now_ms = round.world.now_ms();
            let mut recording = Recording {
                replica: &*self,
                scan,
                tree: StillTree::new(&self.store),
                root: self.store.root().map_err(EngineError::Repo)?,
                staged: Staged::new(&self.store),
                meta,
                now_ms,
                batch: ReplicaBatch::default(),
                pack: Vec::new(),
                raw_bytes: 0,
                count: 0,
            };
            let batch = self.store.reading(|| {
                while !recording.is_full() {
                    let Some(difference) = queue.next() else { break };
                    recording.add(difference)?;
                    done += 1;
                }
                recording.finish()
            })?;
            self.commit(batch)?;
            (round.progress)(Progress::Recording { done, of });
        }
        Ok(())
    }
}

/// Rows whose name now is another row's file, moved here: `mv b a` over a file, or two files that
/// changed names. Those rows are not edited, they are elsewhere or gone.
fn moved_over(rows: &BTreeMap<VaultPath, FileRow>, scan: &Scan) -> BTreeSet<VaultPath> {
    let by_inode: BTreeMap<(u64, ContentHash), &FileRow> =
        rows.values().map(|row| ((row.stat.inode, row.content), row)).collect();
    let mut over = BTreeSet::new();
    for found in scan.files.iter().filter(|found| found.was_hashed) {
        let Some(row) = rows.get(&found.path).filter(|row| row.content != found.hash) else {
            continue;
        };
        let other = by_inode.get(&(found.stat.inode, found.hash));
        let came_from = other.filter(|other| other.disk_path != found.path);
        // Still there under its own name: a copy or a hard link, not a move.
        let left = came_from.is_some_and(|other| {
            scan.find(&other.disk_path).is_none_or(|still| still.stat.inode != found.stat.inode)
        });
        if left && row.stat.inode != found.stat.inode {
            over.insert(row.disk_path.clone());
        }
    }
    over
}

/// What the scan has to say to a person.
pub(crate) fn tell(scan: &Scan, round: &mut Round<'_>) {
    for unknown in &scan.unknown {
        let (path, reason) = (unknown.path.clone(), unknown.reason);
        round.report.notice(Notice::Unknown { path, reason });
    }
    for skipped in &scan.skipped {
        let (path, reason) = (skipped.path.clone(), skipped.reason);
        round.report.notice(Notice::Skipped { path, reason });
    }
    for copy in &scan.foreign_copies {
        round.report.notice(Notice::ForeignCopy { path: copy.path.to_string() });
    }
    for error in &scan.rule_errors {
        round.report.notice(Notice::BadRule { file: error.file.clone(), line: error.line });
    }
}

/// Whether a file may stand under another name than its own.
fn is_aside(path: &VaultPath, facts: &Facts) -> bool {
    path.as_str().split('/').any(|name| conflict_of(name).is_some())
        || model_path(path, facts) != *path
}

/// One transaction of [`Replica::take_in`].
struct Recording<'a, F: FileSystem, S: ReplicaStore> {
    replica: &'a Replica<F, S>,
    scan: &'a Scan,
    /// The tree and its root as they were before this transaction.
    tree: StillTree<'a, S>,
    root: Option<RootHash>,
    staged: Staged<'a, S>,
    meta: ReplicaMeta,
    now_ms: u64,
    batch: ReplicaBatch,
    /// Raw bytes of first versions, compressed together.
    pack: Vec<u8>,
    raw_bytes: usize,
    count: usize,
}

impl<F: FileSystem, S: ReplicaStore> Recording<'_, F, S> {
    fn is_full(&self) -> bool {
        self.raw_bytes >= PAGE_RAW_AIM || self.count >= PAGE_NOTES_MAX
    }

    fn add(&mut self, difference: Difference<'_>) -> Fallible<(), S> {
        self.count += 1;
        match difference {
            Difference::Touched(row, found) => {
                let stat = to_file_stat(&found.stat);
                let seen_ns = self.scan.began_ns;
                self.batch.files.push(FileRow { stat, seen_ns, ..row });
                Ok(())
            }
            Difference::Gone(row) => self.gone(&row),
            Difference::New(found) => self.created(found),
            Difference::Edited(row, found) => self.edited(row, found, None),
            Difference::Moved(row, found) => {
                let path = self.model_path(found);
                if row.content == found.hash && row.kind == found.kind {
                    self.batch.files_gone.push(row.disk_path.clone());
                    let change = Change::Moved { base: row.version, path };
                    let id = self.mint(&change)?;
                    self.keep_row(row.note, id, found, found.hash);
                    return Ok(());
                }
                self.edited(row, found, Some(path))
            }
        }
    }

    fn gone(&mut self, row: &FileRow) -> Fallible<(), S> {
        self.batch.files_gone.push(row.disk_path.clone());
        // Deleted there as well, or by this device before it stopped: nothing to add.
        let mut has_live_head = false;
        for head in self.staged.heads(&row.note)? {
            has_live_head |= self.staged.known_version(&head)?.live().is_some();
        }
        if has_live_head && self.staged.known_version(&row.version)?.live().is_some() {
            self.mint(&Change::Deleted { base: row.version })?;
        }
        Ok(())
    }

    fn created(&mut self, found: &scan::Found) -> Fallible<(), S> {
        let path = self.model_path(found);
        let at = self.look_up(&path)?;
        if let Some((note, head)) = self.same_note(&at, found)? {
            self.keep_row(note, head, found, found.hash);
            return Ok(());
        }
        let Some(now) = self.read_in(found, None)? else { return Ok(()) };
        let is_alone = at == merkle::Found::default() && path == found.path;
        let id = self.mint(&Change::Created { path, found: now })?;
        let note = self.staged.known_version(&id)?.note;
        self.keep_row(note, id, found, now.content);
        // Nobody else wants the name, so the file is where and what its head says.
        if is_alone && now.content == found.hash {
            self.batch.settled.push(note);
        }
        Ok(())
    }

    fn edited(
        &mut self,
        row: FileRow,
        found: &scan::Found,
        path: Option<VaultPath>,
    ) -> Fallible<(), S> {
        if path.is_none()
            && let Some(head) = self.head_with(&row.note, found.hash, found.kind)?
        {
            self.keep_row(row.note, head, found, found.hash);
            return Ok(());
        }
        let Some(now) = self.read_in(found, Some(row.content))? else { return Ok(()) };
        if now.content == row.content && path.is_none() {
            self.batch.files.push(FileRow { stat: FileStat::default(), ..row });
            return Ok(());
        }
        // Not before: a file that is gone again by now keeps its row, or nobody would ever say
        // that it was deleted.
        if path.is_some() {
            self.batch.files_gone.push(row.disk_path.clone());
        }
        let change = Change::Edited { base: row.version, path, found: now };
        let id = self.mint(&change)?;
        let note = self.staged.known_version(&id)?.note;
        self.keep_row(note, id, found, now.content);
        Ok(())
    }

    fn look_up(&self, path: &VaultPath) -> Fallible<merkle::Found, S> {
        let Some(root) = &self.root else { return Ok(merkle::Found::default()) };
        Ok(lookup(&self.tree, root, path).map_err(EngineError::from)?)
    }

    /// The live note here when it is exactly this file and nobody has it yet: a folder that was
    /// filled before it joined, or a crash after placing.
    fn same_note(
        &self,
        at: &merkle::Found,
        found: &scan::Found,
    ) -> Fallible<Option<(NoteId, VersionId)>, S> {
        for (note, _) in &at.notes {
            let taken = self.replica.store.file_of(note).map_err(EngineError::Repo)?;
            if taken.is_some_and(|row| !self.batch.files_gone.contains(&row.disk_path)) {
                continue;
            }
            if let Some(head) = self.head_with(note, found.hash, found.kind)? {
                return Ok(Some((*note, head)));
            }
        }
        Ok(None)
    }

    /// The note's only head, when it holds just these bytes.
    fn head_with(
        &self,
        note: &NoteId,
        content: ContentHash,
        kind: Kind,
    ) -> Fallible<Option<VersionId>, S> {
        let heads = self.staged.heads(note)?;
        let [head] = heads.as_slice() else { return Ok(None) };
        let version = self.staged.known_version(head)?;
        let same = version.live().is_some_and(|live| live.content == content && live.kind == kind);
        Ok(same.then_some(*head))
    }

    /// Reads a file's bytes into the batch; `None` when it is gone or unreadable by now, which the
    /// next scan sees.
    fn read_in(
        &mut self,
        found: &scan::Found,
        base: Option<ContentHash>,
    ) -> Fallible<Option<Found>, S> {
        let as_found = Found { kind: found.kind, content: found.hash, bytes: found.stat.size };
        if found.kind == Kind::Asset && found.stat.size > INLINE_BYTES_MAX {
            return Ok(Some(as_found));
        }
        let bytes = match self.replica.fs.read(found.path.as_str(), NOTE_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(error) if is_elsewhere(error.kind()) => return Ok(None),
            Err(error) => return Err(SyncError::Folder(error)),
        };
        let now = identify(&bytes, Naming::of(&found.path));
        let now = Found { kind: now.kind, content: now.hash, bytes: now.bytes };
        if now.kind == Kind::Asset && now.bytes > INLINE_BYTES_MAX {
            return Ok(None);
        }
        self.raw_bytes += bytes.len();
        let bytes: std::sync::Arc<[u8]> = bytes.into();
        match base {
            Some(base) => self.staged.put_new_content(now.content, bytes, Some(&base))?,
            None => self.put_packed(now.content, bytes)?,
        }
        Ok(Some(now))
    }

    /// First versions share packs, which are kept and sent as they are made here.
    fn put_packed(&mut self, hash: ContentHash, bytes: std::sync::Arc<[u8]>) -> Fallible<(), S> {
        if self.staged.has_inline(&hash)? {
            return Ok(());
        }
        if !self.pack.is_empty() && self.pack.len() + bytes.len() > PACK_RAW_AIM {
            self.close_pack()?;
        }
        let pack = self.staged.open_pack();
        let body = Body::Packed { pack, offset: self.pack.len() as u32 };
        self.pack.extend_from_slice(&bytes);
        self.staged.put_content(hash, bytes, body)?;
        Ok(())
    }

    fn close_pack(&mut self) -> Fallible<(), S> {
        let raw = std::mem::take(&mut self.pack);
        let pack = Pack { raw_bytes: raw.len() as u32, frame: zip::zip(&raw) };
        self.staged.close_pack(pack);
        Ok(())
    }

    fn mint(&mut self, change: &Change) -> Fallible<VersionId, S> {
        let id = Minter::new(&mut self.meta, self.now_ms).mint(&mut self.staged, change)?;
        self.batch.unsent.push(id);
        Ok(id)
    }

    /// The row of a file that holds `content`; one that changed after the scan is hashed again.
    fn keep_row(
        &mut self,
        note: NoteId,
        version: VersionId,
        found: &scan::Found,
        content: ContentHash,
    ) {
        let unchanged = content == found.hash;
        let stat = if unchanged { to_file_stat(&found.stat) } else { FileStat::default() };
        self.batch.files.push(FileRow {
            disk_path: found.path.clone(),
            note,
            version,
            content,
            kind: found.kind,
            stat,
            seen_ns: self.scan.began_ns,
        });
    }

    fn model_path(&self, found: &scan::Found) -> VaultPath {
        model_path(&found.path, &self.replica.fs.facts())
    }

    fn finish(mut self) -> Fallible<ReplicaBatch, S> {
        if self.staged.has_open_pack() {
            self.close_pack()?;
        }
        let mut batch = self.batch;
        batch.meta = Some(self.meta);
        // A path that was left and taken again in one go stands.
        let taken: BTreeSet<&VaultPath> = batch.files.iter().map(|row| &row.disk_path).collect();
        batch.files_gone.retain(|path| !taken.contains(path));
        batch.repo = self.staged.finish()?;
        Ok(batch)
    }
}

/// Whether a file is not there any more, or not as a file.
fn is_elsewhere(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::NotFound
            | ErrorKind::NotADirectory
            | ErrorKind::IsADirectory
            | ErrorKind::PermissionDenied
            | ErrorKind::FileTooLarge
            | ErrorKind::InvalidInput
    )
}
