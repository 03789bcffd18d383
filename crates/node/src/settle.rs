//! Bringing the folder to what the heads say, without ever losing what somebody writes meanwhile.
//!
//! For every note whose heads moved: where it belongs on this disk (`vault::name`), what differs
//! there, and one step to mend it (`vault::write`). Intentions are written down first; what a step
//! displaced is looked at, and an edit found there becomes a version of its own and is merged.
//! A step that finds something it did not expect is left to the next look at the folder.

mod claims;
mod moves;

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::sync::Arc;

use crucible_core::hash::ContentHash;
use crucible_core::id::{NoteId, VersionId};
use crucible_core::limits::NOTE_BYTES_MAX;
use crucible_core::vault_path::VaultPath;
use crucible_core::version::{Live, Version};
use crucible_sync::mint::{Change, Found, Minter};
use crucible_sync::pack::is_inline;
use crucible_sync::replica::{Displaced, FileRow, FileStat, Placing, ReplicaBatch, ReplicaStore};
use crucible_sync::staged::{EngineError, Merging, Staged};
use crucible_vault::content::{Naming, identify, identify_file};
use crucible_vault::fs::{FileKind, FileSystem, TMP_DIR, join, parent};
use crucible_vault::name::{Place, Why, affected, place_at};
use crucible_vault::trash::TrashPlace;
use crucible_vault::write::{
    self, Expected, Kept, Known, Placed, Removed, Source, Touched, UniqueName, WriteError,
};

use self::claims::TreeClaims;
use crate::error::SyncError;
use crate::link::{Link, LinkError};
use crate::replica::{Fallible, Replica, Round, to_file_stat, to_stat, unique_name};
use crate::report::{Notice, Progress};
use crate::round_log::Changed;

/// Notes brought into place in one transaction.
const CHUNK_NOTES: usize = 1_024;
/// Raw bytes brought into place in one transaction.
const CHUNK_BYTES: u64 = 16 << 20;
/// Passes over notes that change while they are placed, before the folder is scanned again.
const PASSES_MAX: usize = 8;

/// No bytes have this hash: what is watched as this is looked at until it has been versioned.
pub(crate) const UNSEEN: ContentHash = ContentHash::from_bytes([0; 32]);

/// Where a note belongs, and what it holds.
struct Wanted {
    path: VaultPath,
    version: VersionId,
    live: Live,
}

/// The other side, while there is one.
type OtherSide<'l, 'd> = &'l mut Option<&'d mut dyn Link>;

/// What to do about one note's file.
struct Step {
    note: NoteId,
    row: Option<FileRow>,
    wanted: Option<Wanted>,
    name: UniqueName,
}

/// What came of a chunk of steps.
#[derive(Default)]
struct Outcome {
    batch: ReplicaBatch,
    /// Displaced or edited bytes to be versioned: from which version, lying where.
    edits: Vec<(VersionId, VaultPath, Kept)>,
    /// Steps that were not done.
    postponed: BTreeSet<NoteId>,
    /// Whether some of them met what another look at the folder will explain.
    wants_a_look: bool,
    /// What people see otherwise now.
    changed: Vec<Changed>,
}

impl Outcome {
    /// Leaves a note to another look at the folder.
    fn postpone(&mut self, note: NoteId) {
        self.postponed.insert(note);
        self.wants_a_look = true;
    }

    /// The same about one whose name is taken, which is told if it stays so.
    fn postpone_occupied(&mut self, note: NoteId, path: &VaultPath, round: &mut Round<'_>) {
        self.postpone(note);
        round.tell_unplaced(path, "something else took its name".to_owned());
    }
}

/// What came of bringing files into place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Settled {
    /// All are as their notes want them.
    All,
    /// The others stay as they are until somebody does something about it, and it is told what.
    Refused,
    /// Something has to be looked at again.
    LookAgain,
}

impl<F: FileSystem, S: ReplicaStore> Replica<F, S> {
    /// Places every unsettled note.
    pub(crate) fn settle(
        &mut self,
        mut link: Option<&mut dyn Link>,
        round: &mut Round<'_>,
    ) -> Fallible<Settled, S> {
        round.forget_unplaced();
        let mut postponed = BTreeSet::new();
        let mut wants_a_look = false;
        for _ in 0..PASSES_MAX {
            let unsettled = self.store.unsettled().map_err(EngineError::Repo)?;
            let todo: Vec<NoteId> =
                unsettled.into_iter().filter(|note| !postponed.contains(note)).collect();
            if todo.is_empty() {
                return Ok(match (wants_a_look, postponed.is_empty()) {
                    (true, _) => Settled::LookAgain,
                    (false, true) => Settled::All,
                    (false, false) => Settled::Refused,
                });
            }
            let of = todo.len() as u64;
            let mut done = 0;
            while done < todo.len() {
                let plan = || self.plan_steps(&todo[done..], round);
                let (steps, taken) = self.store.reading(plan)?;
                let outcome = self.apply(steps, &mut link, round)?;
                postponed.extend(&outcome.postponed);
                wants_a_look |= outcome.wants_a_look;
                let taken = &todo[done..done + taken];
                self.conclude(outcome, taken, &postponed, round)?;
                done += taken.len();
                (round.progress)(Progress::Placing { done: done as u64, of });
            }
        }
        Ok(Settled::LookAgain)
    }

    /// The steps for some of these notes and for all that share names with them, and for how many
    /// of them that is.
    fn plan_steps(
        &self,
        notes: &[NoteId],
        round: &mut Round<'_>,
    ) -> Fallible<(Vec<Step>, usize), S> {
        let facts = self.fs.facts();
        let scan = round.scan.take();
        let claims = TreeClaims::new(self, scan.as_ref())?;
        let mut keys = BTreeSet::new();
        let mut members = BTreeSet::new();
        let (mut bytes, mut taken) = (0, 0);
        for note in notes {
            if taken >= CHUNK_NOTES || bytes >= CHUNK_BYTES {
                break;
            }
            taken += 1;
            members.insert(*note);
            for id in self.store.heads(note).map_err(EngineError::Repo)? {
                if let Some(live) = self.known_version(&id)?.live() {
                    keys.extend(affected(&live.path, &facts));
                    bytes += live.bytes;
                }
            }
            if let Some(row) = self.store.file_of(note).map_err(EngineError::Repo)? {
                if let Some(path) = self.known_version(&row.version)?.path() {
                    keys.extend(affected(path, &facts));
                }
                keys.extend(affected(&row.disk_path, &facts));
            }
        }
        let mut places: BTreeMap<NoteId, Place> = BTreeMap::new();
        for key in &keys {
            for place in place_at(&claims, key, &facts) {
                members.insert(place.note);
                places.insert(place.note, place);
            }
        }
        claims.check()?;
        drop(claims);
        round.scan = scan;
        let mut steps = Vec::new();
        for note in members {
            let row = self.store.file_of(&note).map_err(EngineError::Repo)?;
            let Some(wanted) = self.wanted(&note, places.remove(&note), round)? else { continue };
            steps.push(Step { note, row, wanted, name: unique_name(round.world) });
        }
        Ok((steps, taken))
    }

    /// What a note's file should be: `Some(None)` is gone, `None` is to be left alone because its
    /// heads are merged by the other side.
    fn wanted(
        &self,
        note: &NoteId,
        place: Option<Place>,
        round: &mut Round<'_>,
    ) -> Fallible<Option<Option<Wanted>>, S> {
        let heads = self.store.heads(note).map_err(EngineError::Repo)?;
        let [head] = heads.as_slice() else {
            return Ok(if heads.is_empty() { Some(None) } else { None });
        };
        let version = self.known_version(head)?;
        let Some(live) = version.live() else { return Ok(Some(None)) };
        let Some(place) = place else { return Ok(None) };
        if place.why != Why::AsIs {
            round.report.notice(Notice::Renamed {
                path: live.path.to_string(),
                disk_path: place.path.to_string(),
                why: place.why,
            });
        }
        Ok(Some(Some(Wanted { path: place.path, version: *head, live: live.clone() })))
    }

    fn apply(
        &mut self,
        steps: Vec<Step>,
        link: OtherSide<'_, '_>,
        round: &mut Round<'_>,
    ) -> Fallible<Outcome, S> {
        let mut outcome = Outcome::default();
        let mut steps = self.without_idle(steps, &mut outcome);
        if steps.is_empty() {
            return Ok(outcome);
        }
        let trash = TrashPlace::new(round.world.now_ms(), &unique_name(round.world));
        outcome.batch.placed = self.journal(&steps, &trash)?;
        let mut touched = Touched::new();
        let mut emptied = BTreeSet::new();
        for step in steps.extract_if(.., |step| step.wanted.is_none()) {
            emptied.extend(step.row.as_ref().map(|row| row.disk_path.clone()));
            self.remove(&step, &trash, &mut touched, &mut outcome, round)?;
        }
        self.rename_all(&mut steps, &mut touched, &mut emptied, &mut outcome, round)?;
        self.write_all(steps, link, &mut touched, &mut outcome, round)?;
        // A power cut must not bring a file back into a folder that is gone.
        write::settle(&self.fs, &mut touched)?;
        for path in emptied {
            write::prune(&self.fs, parent(path.as_str()), |_| true, &mut touched)?;
        }
        write::settle(&self.fs, &mut touched)?;
        Ok(outcome)
    }

    /// Drops steps whose file is as it should be, recording the version it is in step with.
    fn without_idle(&self, steps: Vec<Step>, outcome: &mut Outcome) -> Vec<Step> {
        let mut left = Vec::with_capacity(steps.len());
        for step in steps {
            match (&step.row, &step.wanted) {
                (None, None) => {}
                (Some(row), Some(wanted))
                    if row.disk_path == wanted.path && row.content == wanted.live.content =>
                {
                    if row.version != wanted.version {
                        let version = wanted.version;
                        outcome.batch.files.push(FileRow { version, ..row.clone() });
                    }
                }
                _ => left.push(step),
            }
        }
        left
    }

    /// Writes down what is about to be done, and watches where removed files will lie, because an
    /// editor may hold them open; the paths, to be struck out once it is done.
    fn journal(&mut self, steps: &[Step], trash: &TrashPlace) -> Fallible<Vec<VaultPath>, S> {
        let placing: Vec<Placing> = steps
            .iter()
            .filter_map(|step| {
                let from = step.row.as_ref().map(|row| row.disk_path.clone());
                let to = step.wanted.as_ref().map(|wanted| wanted.path.clone());
                Some(Placing {
                    disk_path: to.or_else(|| from.clone())?,
                    note: step.note,
                    version: step.wanted.as_ref().map(|wanted| wanted.version),
                    from,
                    undo: step.name.as_str().to_owned(),
                })
            })
            .collect();
        let paths = placing.iter().map(|intention| intention.disk_path.clone()).collect();
        let round = self.meta()?.rounds;
        let removed = steps.iter().filter(|step| step.wanted.is_none());
        let displaced = removed
            .filter_map(|step| step.row.as_ref())
            .map(|row| watched(trash.place_of(&row.disk_path), row, row.content, round))
            .collect();
        self.commit(ReplicaBatch { placing, displaced, ..ReplicaBatch::default() })?;
        Ok(paths)
    }

    fn remove(
        &self,
        step: &Step,
        trash: &TrashPlace,
        touched: &mut Touched,
        outcome: &mut Outcome,
        round: &mut Round<'_>,
    ) -> Fallible<(), S> {
        let Some(row) = &step.row else { return Ok(()) };
        let path = &row.disk_path;
        let known = known(row);
        let removed = write::remove(&self.fs, path, &known, trash, &step.name, touched);
        match refused(removed, path, step.note, outcome, round)? {
            None => {}
            Some(Removed::Changed) => outcome.postpone(step.note),
            Some(Removed::Done { at, kept }) => {
                outcome.batch.files_gone.push(path.clone());
                let (note, before) = (step.note, Some(row.version));
                outcome.changed.push(Changed { note, before, after: None });
                let number = self.meta()?.rounds;
                outcome.batch.displaced.push(watched(at, row, row.content, number));
                self.watch(kept, row, outcome)?;
            }
            Some(Removed::Gone) => outcome.batch.files_gone.push(path.clone()),
            Some(Removed::Displaced(displaced)) => {
                outcome.batch.files_gone.push(path.clone());
                self.look_at(displaced, Some(row), path, outcome, round)?;
            }
        }
        Ok(())
    }

    /// Writes new and changed files: all staged and made durable together, then each put in place.
    fn write_all(
        &mut self,
        steps: Vec<Step>,
        link: OtherSide<'_, '_>,
        touched: &mut Touched,
        outcome: &mut Outcome,
        round: &mut Round<'_>,
    ) -> Fallible<(), S> {
        let mut ready = Vec::new();
        let mut staged = Vec::new();
        let mut downloads = BTreeSet::new();
        for step in steps {
            let Some(wanted) = &step.wanted else { continue };
            let same = step.row.as_ref().is_some_and(|row| row.content == wanted.live.content);
            if same {
                continue;
            }
            match self.stage(wanted, &step.name, &mut downloads, link, round)? {
                Some(file) => {
                    staged.push(file);
                    ready.push(step);
                }
                None => {
                    outcome.postponed.insert(step.note);
                }
            }
        }
        if let Err(error) = write::sync_staged(&self.fs, &mut staged) {
            for file in staged {
                file.discard(&self.fs);
            }
            return Err(SyncError::Folder(error));
        }
        let paths = ready.iter().filter_map(|step| step.wanted.as_ref());
        let made = write::make_folders(&self.fs, paths.map(|wanted| &wanted.path))?;
        for (step, file) in ready.into_iter().zip(staged) {
            self.place(&step, file, touched, outcome, round)?;
            if let Some(wanted) = step.wanted.filter(|_| outcome.postponed.contains(&step.note)) {
                // Made for nothing.
                let dir = parent(wanted.path.as_str());
                write::prune(&self.fs, dir, |dir| made.contains(dir), touched)?;
            }
        }
        Ok(())
    }

    /// New bytes where nobody sees them; `None` when they cannot be had or written now. A
    /// download becomes the first file that holds its bytes; others are copies of it.
    fn stage(
        &self,
        wanted: &Wanted,
        name: &UniqueName,
        downloads: &mut BTreeSet<String>,
        link: OtherSide<'_, '_>,
        round: &mut Round<'_>,
    ) -> Fallible<Option<write::Staged>, S> {
        let content = &wanted.live.content;
        let staged = match self.store.content(content).map_err(EngineError::Repo)? {
            Some(bytes) => write::stage(&self.fs, &wanted.path, Source::Bytes(&bytes), name),
            None if is_inline(&wanted.live) => return Err(EngineError::Bytes(*content).into()),
            None => match self.fetch(&wanted.live, link, round)? {
                Some(at) => {
                    let is_first = downloads.insert(at.clone());
                    let source = if is_first { Source::Move(&at) } else { Source::Copy(&at) };
                    write::stage(&self.fs, &wanted.path, source, name)
                }
                None => return Ok(None),
            },
        };
        match staged {
            Ok(staged) => Ok(Some(staged)),
            Err(error) => {
                not_placed(&error, &wanted.path, round);
                Ok(None)
            }
        }
    }

    fn place(
        &self,
        step: &Step,
        file: write::Staged,
        touched: &mut Touched,
        outcome: &mut Outcome,
        round: &mut Round<'_>,
    ) -> Fallible<(), S> {
        let Some(wanted) = &step.wanted else { return Ok(()) };
        let expected =
            step.row.as_ref().map_or(Expected::Nothing, |row| Expected::File(known(row)));
        let placed = write::place(&self.fs, &wanted.path, &expected, file, touched);
        match refused(placed, &wanted.path, step.note, outcome, round)? {
            None => {}
            Some(Placed::Changed | Placed::Gone) => outcome.postpone(step.note),
            Some(Placed::Occupied) => {
                outcome.postpone_occupied(step.note, &wanted.path, round);
            }
            Some(Placed::Done { stat, tells_edits, displaced }) => {
                // From when on a change would show in how the file looks; never trusted before a
                // scan has seen it where that cannot be said.
                let grain_ns = self.fs.facts().time_grain_ns;
                let told = stat.filter(|_| tells_edits);
                let seen_ns =
                    told.map_or(0, |stat| stat.ctime_ns.saturating_add(grain_ns).saturating_add(1));
                outcome.batch.files.push(FileRow {
                    disk_path: wanted.path.clone(),
                    note: step.note,
                    version: wanted.version,
                    content: wanted.live.content,
                    kind: wanted.live.kind,
                    stat: stat.as_ref().map(to_file_stat).unwrap_or_default(),
                    seen_ns,
                });
                let row = step.row.as_ref();
                let (note, before) = (step.note, row.map(|row| row.version));
                let after = Some(wanted.version);
                outcome.changed.push(Changed { note, before, after });
                self.look_at(displaced, row, &wanted.path, outcome, round)?;
            }
        }
        Ok(())
    }

    /// What a swap brought out: kept and watched, and versioned when it is an edit.
    fn look_at(
        &self,
        displaced: write::Displaced,
        row: Option<&FileRow>,
        path: &VaultPath,
        outcome: &mut Outcome,
        round: &mut Round<'_>,
    ) -> Fallible<(), S> {
        let Some(row) = row else { return Ok(()) };
        match displaced {
            write::Displaced::Nothing => Ok(()),
            write::Displaced::Clean(kept) => self.watch(Some(kept), row, outcome),
            write::Displaced::Edited(kept) => {
                // Versioned after this chunk is recorded, and not forgotten by a crash in between.
                let number = self.meta()?.rounds;
                outcome.batch.displaced.push(watched(kept.at.clone(), row, UNSEEN, number));
                outcome.edits.push((row.version, path.clone(), kept));
                Ok(())
            }
            write::Displaced::Unread { at, source } => {
                let reason = format!("what it held lies at {at} and cannot be read now: {source}");
                round.report.notice(Notice::NotPlaced { path: path.to_string(), reason });
                let number = self.meta()?.rounds;
                outcome.batch.displaced.push(watched(at, row, UNSEEN, number));
                Ok(())
            }
        }
    }

    fn watch(&self, kept: Option<Kept>, row: &FileRow, outcome: &mut Outcome) -> Fallible<(), S> {
        let Some(kept) = kept else { return Ok(()) };
        let number = self.meta()?.rounds;
        outcome.batch.displaced.push(watched(kept.at, row, kept.identity.hash, number));
        Ok(())
    }

    /// Records a chunk, and versions and merges the edits that came out of it.
    fn conclude(
        &mut self,
        outcome: Outcome,
        taken: &[NoteId],
        postponed: &BTreeSet<NoteId>,
        round: &mut Round<'_>,
    ) -> Fallible<(), S> {
        let Outcome { mut batch, edits, changed, postponed: again, .. } = outcome;
        round.changed.extend(changed);
        // Some were looked at only because they share names with others.
        batch.unsettled.extend(again);
        batch.settled.extend(taken.iter().filter(|note| !postponed.contains(note)));
        let mut last: BTreeMap<VaultPath, FileRow> = BTreeMap::new();
        for row in std::mem::take(&mut batch.files) {
            last.retain(|_, older| older.note != row.note);
            last.insert(row.disk_path.clone(), row);
        }
        batch.files_gone.retain(|path| !last.contains_key(path));
        batch.files.extend(last.into_values());
        self.commit(batch)?;
        for (base, path, kept) in edits {
            self.version_displaced(base, &path, &kept, round)?;
        }
        Ok(())
    }

    /// Displaced bytes that nobody has seen become a version from what their file was in step
    /// with, and are merged with whatever took their place.
    pub(crate) fn version_displaced(
        &mut self,
        base: VersionId,
        path: &VaultPath,
        kept: &Kept,
        round: &mut Round<'_>,
    ) -> Fallible<(), S> {
        let parent = self.known_version(&base)?;
        let inline = kept.identity.bytes <= NOTE_BYTES_MAX;
        let bytes = match self.fs.read(&kept.at, NOTE_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) if inline => return Err(SyncError::Folder(error)),
            Err(_) => return self.keep_large(path, kept, round),
        };
        let now = identify(&bytes, Naming::of(path));
        let found = Found { kind: now.kind, content: now.hash, bytes: now.bytes };
        let live = Live {
            path: path.clone(),
            kind: now.kind,
            content: now.hash,
            bytes: now.bytes,
            keys: BTreeMap::new(),
            tags: BTreeMap::new(),
        };
        if !is_inline(&live) {
            return self.keep_large(path, kept, round);
        }
        let mut meta = self.meta()?;
        let mut staged = Staged::new(&self.store);
        let old = parent.live().map(|live| live.content);
        staged.put_new_content(now.hash, bytes.into(), old.as_ref())?;
        let known = parent.live().is_some_and(|live| live.content == now.hash);
        let mut batch = ReplicaBatch::default();
        let mut version = base;
        if !known {
            let path = parent.path().is_none().then(|| path.clone());
            let change = Change::Edited { base, path, found };
            version = Minter::new(&mut meta, round.world.now_ms()).mint(&mut staged, &change)?;
            batch.unsent.push(version);
            let policy = |path: &VaultPath| self.policies.overlap(path);
            if let Merging::Merged(_) = staged.merge_heads(&parent.note, &policy)? {
                batch.unsent.extend(staged.heads(&parent.note)?);
            }
        }
        batch.displaced.push(Displaced {
            undo: kept.at.clone(),
            note: parent.note,
            version,
            content: now.hash,
            round: meta.rounds,
        });
        batch.repo = staged.finish()?;
        batch.meta = Some(meta);
        self.commit(batch)
    }

    /// A large asset that was edited while it was replaced: too large for the store, so it comes
    /// back into the folder beside the other, as a file of its own.
    fn keep_large(&self, path: &VaultPath, kept: &Kept, round: &mut Round<'_>) -> Fallible<(), S> {
        let name = path.name();
        let (stem, extension) = name.rsplit_once('.').unwrap_or((name, ""));
        let dot = if extension.is_empty() { "" } else { "." };
        for number in 1..100 {
            let name = format!("{stem} (kept {number}){dot}{extension}");
            let Ok(aside) = path.with_name(&name) else { break };
            match self.fs.rename_new(&kept.at, aside.as_str()) {
                Ok(()) => {
                    // It is watched no longer than until its old name is free.
                    let dir = parent(aside.as_str());
                    self.fs.sync_dir(dir).map_err(SyncError::Folder)?;
                    let reason = format!("an edit made at the same moment is kept as {aside}");
                    round.report.notice(Notice::NotPlaced { path: path.to_string(), reason });
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(SyncError::Folder(error)),
            }
        }
        Ok(())
    }

    /// Brings a blob into the state folder, going on where an earlier attempt stopped.
    fn fetch(
        &self,
        live: &Live,
        link: OtherSide<'_, '_>,
        round: &mut Round<'_>,
    ) -> Fallible<Option<String>, S> {
        let Some(link) = link.as_mut() else {
            let reason = "its bytes are not here yet; they come with the next sync".to_owned();
            round.tell_unplaced(&live.path, reason);
            return Ok(None);
        };
        (round.progress)(Progress::Blob { bytes: live.bytes });
        let at = join(TMP_DIR, &download_name(&live.content));
        let naming = Naming::of(&live.path);
        for _ in 0..2 {
            let have = match self.fs.stat(&at) {
                Ok(stat) => stat.size,
                Err(_) => {
                    self.make_tmp_file(&at)?;
                    0
                }
            };
            if have < live.bytes {
                let mut sink = |piece: &[u8]| self.fs.append(&at, piece);
                match link.get_blob(&live.content, have, &mut sink) {
                    // About this file alone: the others need not wait for it.
                    Err(LinkError::Refused { code, message, hint, .. }) if is_lost(&code) => {
                        round.tell_unplaced(&live.path, format!("{message}; {hint}"));
                        return Ok(None);
                    }
                    got => got?,
                }
            }
            let identity = identify_file(&self.fs, &at, naming).map_err(SyncError::Folder)?;
            if identity.hash == live.content {
                return Ok(Some(at));
            }
            self.fs.remove_file(&at).map_err(SyncError::Folder)?;
        }
        let reason = "the other side sends other bytes than it announced".to_owned();
        round.tell_unplaced(&live.path, reason);
        Ok(None)
    }

    fn make_tmp_file(&self, at: &str) -> Fallible<(), S> {
        match self.fs.create(at, b"") {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(SyncError::Folder(error)),
        }
        match self.fs.make_dir(TMP_DIR) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(SyncError::Folder(error)),
        }
        self.fs.create(at, b"").map_err(SyncError::Folder)
    }

    pub(crate) fn known_version(&self, id: &VersionId) -> Fallible<Arc<Version>, S> {
        let version = self.store.version(id).map_err(EngineError::Repo)?;
        Ok(version.ok_or(EngineError::Dangling(*id))?)
    }
}

/// Whether a refusal says that the other side has lost a blob.
fn is_lost(code: &str) -> bool {
    matches!(code, "integrity" | "not_found")
}

/// The name of an unfinished download; kept over restarts.
pub(crate) fn download_name(content: &ContentHash) -> String {
    format!("get-{content}")
}

fn known(row: &FileRow) -> Known {
    let stat = (row.seen_ns != 0 && row.stat != FileStat::default()).then(|| to_stat(&row.stat));
    Known { hash: row.content, stat }
}

/// Bytes of a file that lie at `undo` now, and what they are if nobody writes to them.
fn watched(undo: String, row: &FileRow, content: ContentHash, round: u64) -> Displaced {
    Displaced { undo, note: row.note, version: row.version, content, round }
}

/// A renamed file's row: at its new place, and in step with the head if its bytes are.
fn moved_row(row: &FileRow, wanted: &Wanted) -> FileRow {
    let same = row.content == wanted.live.content;
    let version = if same { wanted.version } else { row.version };
    FileRow { version, ..row.clone() }
}

/// Errors about one file are said and do not keep the others.
fn refused<T, E: std::error::Error + Send + Sync + 'static>(
    result: Result<T, WriteError>,
    path: &VaultPath,
    note: NoteId,
    outcome: &mut Outcome,
    round: &mut Round<'_>,
) -> Result<Option<T>, SyncError<E>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) => {
            outcome.postponed.insert(note);
            outcome.wants_a_look |= is_passing(&error);
            not_placed(&error, path, round);
            Ok(None)
        }
    }
}

/// Whether another look at the folder tells more of what is in the way.
fn is_passing(error: &WriteError) -> bool {
    match error {
        WriteError::NotAFile { found, .. } => *found == FileKind::Dir,
        WriteError::Blocked { found, .. } => *found == FileKind::File,
        WriteError::ReadOnly { .. }
        | WriteError::NoSpace { .. }
        | WriteError::NotAllowed { .. }
        | WriteError::Io { .. } => false,
    }
}

fn not_placed(error: &WriteError, path: &VaultPath, round: &mut Round<'_>) {
    let next = match error {
        WriteError::NotAFile { path, .. } => format!("move {path} away"),
        WriteError::Blocked { blocker, .. } => format!("move {blocker} away"),
        WriteError::ReadOnly { .. } => "make it writable".to_owned(),
        WriteError::NoSpace { .. } => "make room".to_owned(),
        WriteError::NotAllowed { .. } => "allow it".to_owned(),
        WriteError::Io { .. } => {
            let reason = match std::error::Error::source(error) {
                Some(source) => format!("{error}: {source}; the next round tries again"),
                None => format!("{error}; the next round tries again"),
            };
            return round.tell_unplaced(path, reason);
        }
    };
    round.tell_unplaced(path, format!("{error}; {next}, and the next round writes it"));
}
