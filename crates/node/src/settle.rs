//! Bringing the folder to what the heads say, without ever losing what somebody writes meanwhile.
//!
//! For every note whose heads moved: where it belongs on this disk (`vault::name`), what differs
//! there, and one step to mend it (`vault::write`). Intentions are written down first; what a step
//! displaced is looked at, and an edit found there becomes a version of its own and is merged.
//! A step that finds something it did not expect is left to the next look at the folder.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::sync::Arc;

use crucible_core::hash::ContentHash;
use crucible_core::id::{NoteId, VersionId};
use crucible_core::limits::NOTE_BYTES_MAX;
use crucible_core::merkle::{Place as TreePlace, iter_live, lookup};
use crucible_core::vault_path::VaultPath;
use crucible_core::version::{Live, Version};
use crucible_sync::mint::{Change, Found, Minter};
use crucible_sync::pack::is_inline;
use crucible_sync::replica::{Displaced, FileRow, FileStat, Placing, ReplicaBatch, ReplicaStore};
use crucible_sync::staged::{EngineError, Merging, Staged, StillTree, Tree};
use crucible_vault::content::{Naming, identify, identify_file};
use crucible_vault::fs::{FileSystem, TMP_DIR, join, parent};
use crucible_vault::name::{Claim, ClaimTable, Claims, DiskKey, Place, Why, affected, place_at};
use crucible_vault::trash::TrashPlace;
use crucible_vault::write::{
    self, Expected, Kept, Known, Placed, Removed, Renamed, Source, Touched, UniqueName, WriteError,
};

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
    /// Steps that met something unexpected.
    postponed: BTreeSet<NoteId>,
    /// What people see otherwise now.
    changed: Vec<Changed>,
}

impl<F: FileSystem, S: ReplicaStore> Replica<F, S> {
    /// Places every unsettled note. `false` when something has to be looked at again first.
    pub(crate) fn settle(
        &mut self,
        mut link: Option<&mut dyn Link>,
        round: &mut Round<'_>,
    ) -> Fallible<bool, S> {
        let mut postponed = BTreeSet::new();
        for _ in 0..PASSES_MAX {
            let unsettled = self.store.unsettled().map_err(EngineError::Repo)?;
            let todo: Vec<NoteId> =
                unsettled.into_iter().filter(|note| !postponed.contains(note)).collect();
            if todo.is_empty() {
                return Ok(postponed.is_empty());
            }
            let of = todo.len() as u64;
            let mut done = 0;
            while done < todo.len() {
                let plan = || self.plan_steps(&todo[done..], round);
                let (steps, taken) = self.store.reading(plan)?;
                let outcome = self.apply(steps, &mut link, round)?;
                postponed.extend(&outcome.postponed);
                let taken = &todo[done..done + taken];
                self.conclude(outcome, taken, &postponed, round)?;
                done += taken.len();
                (round.progress)(Progress::Placing { done: done as u64, of });
            }
        }
        Ok(false)
    }

    /// The steps for some of these notes and for all that share names with them, and for how many
    /// of them that is.
    fn plan_steps(
        &self,
        notes: &[NoteId],
        round: &mut Round<'_>,
    ) -> Fallible<(Vec<Step>, usize), S> {
        let facts = self.fs.facts();
        let claims = TreeClaims::new(self)?;
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
            None | Some(Removed::Changed) => {
                outcome.postponed.insert(step.note);
            }
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

    /// Gives files their new names. Where names go round in a circle two files change places, so
    /// that none is ever absent.
    fn rename_all(
        &self,
        steps: &mut Vec<Step>,
        touched: &mut Touched,
        emptied: &mut BTreeSet<VaultPath>,
        outcome: &mut Outcome,
        round: &mut Round<'_>,
    ) -> Fallible<(), S> {
        let mut waiting: Vec<usize> = (0..steps.len())
            .filter(|&index| {
                let step = &steps[index];
                let from = step.row.as_ref().map(|row| &row.disk_path);
                from.is_some() && from != step.wanted.as_ref().map(|wanted| &wanted.path)
            })
            .collect();
        while !waiting.is_empty() {
            let before = waiting.len();
            let mut still = Vec::new();
            for index in waiting {
                let is_occupied_by = |path: &VaultPath| {
                    steps.iter().position(|other| {
                        other.row.as_ref().is_some_and(|row| row.disk_path == *path)
                    })
                };
                let target = steps[index].wanted.as_ref().map(|wanted| wanted.path.clone());
                let target = target.expect("only steps with a place are renamed");
                match is_occupied_by(&target) {
                    Some(other) if other != index => still.push(index),
                    _ => self.rename(&mut steps[index], touched, emptied, outcome, round)?,
                }
            }
            if still.len() == before {
                self.swap_first(steps, &mut still, touched, outcome, round)?;
            }
            waiting = still;
        }
        steps.retain(|step| !outcome.postponed.contains(&step.note));
        Ok(())
    }

    fn rename(
        &self,
        step: &mut Step,
        touched: &mut Touched,
        emptied: &mut BTreeSet<VaultPath>,
        outcome: &mut Outcome,
        round: &mut Round<'_>,
    ) -> Fallible<(), S> {
        let (Some(row), Some(wanted)) = (&mut step.row, &step.wanted) else { return Ok(()) };
        let known = known(row);
        let (from, to) = (row.disk_path.clone(), &wanted.path);
        let renamed = write::rename(&self.fs, &from, to, &known, &step.name, touched);
        match refused(renamed, to, step.note, outcome, round)? {
            None | Some(Renamed::Changed | Renamed::Gone | Renamed::Occupied) => {
                outcome.postponed.insert(step.note);
            }
            Some(Renamed::Done { stat, edited, kept }) => {
                emptied.insert(from.clone());
                let (note, before) = (step.note, Some(row.version));
                let after = Some(wanted.version);
                outcome.changed.push(Changed { note, before, after });
                let old = row.clone();
                row.disk_path = to.clone();
                row.stat = match (stat, edited) {
                    (Some(stat), None) => to_file_stat(&stat),
                    _ => FileStat::default(),
                };
                outcome.batch.files_gone.push(from);
                outcome.batch.files.push(moved_row(row, wanted));
                self.watch(kept, &old, outcome)?;
            }
        }
        Ok(())
    }

    /// Everybody waits for a name that another has: let the first have it by an exchange.
    fn swap_first(
        &self,
        steps: &mut [Step],
        waiting: &mut Vec<usize>,
        touched: &mut Touched,
        outcome: &mut Outcome,
        round: &mut Round<'_>,
    ) -> Fallible<(), S> {
        let index = waiting.remove(0);
        let from = steps[index].row.as_ref().map(|row| row.disk_path.clone());
        let to = steps[index].wanted.as_ref().map(|wanted| wanted.path.clone());
        let (from, to) = (from.expect("has a file"), to.expect("has a place"));
        let holds = |step: &Step| step.row.as_ref().is_some_and(|row| row.disk_path == to);
        let other = steps.iter().position(holds).expect("somebody has the name");
        let stays = steps[other].wanted.as_ref().is_some_and(|wanted| wanted.path == to);
        if stays {
            // Two notes cannot want one name; the plan and the folder do not fit together.
            outcome.postponed.insert(steps[index].note);
            return Ok(());
        }
        match write::swap(&self.fs, &from, &to, touched) {
            Ok(()) => {}
            Err(error) => {
                not_placed(&error, &to, round);
                outcome.postponed.extend([steps[index].note, steps[other].note]);
                waiting.retain(|&index| index != other);
                return Ok(());
            }
        }
        for (index, path) in [(index, &to), (other, &from)] {
            let step = &mut steps[index];
            if let (Some(row), Some(wanted)) = (&mut step.row, &step.wanted) {
                let (before, after) = (Some(row.version), Some(wanted.version));
                outcome.changed.push(Changed { note: step.note, before, after });
                row.disk_path = path.clone();
                // What the exchange brought here is looked at by the next scan.
                row.stat = FileStat::default();
                outcome.batch.files.push(moved_row(row, wanted));
                if *path == wanted.path {
                    waiting.retain(|&waiting| waiting != index);
                }
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
        for (step, file) in ready.into_iter().zip(staged) {
            self.place(&step, file, touched, outcome, round)?;
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
                give_up_on(&error, &wanted.path, round)?;
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
            None | Some(Placed::Changed | Placed::Gone | Placed::Occupied) => {
                outcome.postponed.insert(step.note);
            }
            Some(Placed::Done { stat, displaced }) => {
                outcome.batch.files.push(FileRow {
                    disk_path: wanted.path.clone(),
                    note: step.note,
                    version: wanted.version,
                    content: wanted.live.content,
                    kind: wanted.live.kind,
                    stat: stat.as_ref().map(to_file_stat).unwrap_or_default(),
                    // Never trusted before a scan has seen it: the write was just now.
                    seen_ns: 0,
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
        let Outcome { mut batch, edits, changed, postponed: again } = outcome;
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
            round.report.notice(Notice::NotPlaced { path: live.path.to_string(), reason });
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
                        let reason = format!("{message}; {hint}");
                        let path = live.path.to_string();
                        round.report.notice(Notice::NotPlaced { path, reason });
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
        round.report.notice(Notice::NotPlaced { path: live.path.to_string(), reason });
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

/// Errors about one file are said and left to a later round; those about the disk end this one.
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
            give_up_on(&error, path, round)?;
            outcome.postponed.insert(note);
            Ok(None)
        }
    }
}

fn give_up_on<E: std::error::Error + Send + Sync + 'static>(
    error: &WriteError,
    path: &VaultPath,
    round: &mut Round<'_>,
) -> Result<(), SyncError<E>> {
    not_placed(error, path, round);
    Ok(())
}

fn not_placed(error: &WriteError, path: &VaultPath, round: &mut Round<'_>) {
    let reason = error.to_string();
    round.report.notice(Notice::NotPlaced { path: path.to_string(), reason });
}

/// The claims of a vault, read from its tree; all of them at once only on disks where names that
/// differ can be one.
struct TreeClaims<'r, F: FileSystem, S: ReplicaStore> {
    replica: &'r Replica<F, S>,
    tree: StillTree<'r, S>,
    all: Option<ClaimTable>,
    failed: RefCell<Option<EngineError<S::Error>>>,
}

impl<'r, F: FileSystem, S: ReplicaStore> TreeClaims<'r, F, S> {
    fn new(replica: &'r Replica<F, S>) -> Fallible<Self, S> {
        let facts = replica.fs.facts();
        let plain = !facts.folds_case
            && !facts.normalises
            && !facts.windows_names
            && facts.name_bytes_max >= 255;
        let mut all = None;
        if !plain {
            let mut table = ClaimTable::default();
            let store = &replica.store;
            if let Some(root) = store.root().map_err(EngineError::Repo)? {
                let tree = Tree(store);
                for leaf in iter_live(&tree, &root, None).map_err(EngineError::from)? {
                    let (note, leaf) = leaf.map_err(EngineError::from)?;
                    if let TreePlace::Live(path) = leaf.place {
                        let rank = rank(store, &note)?;
                        table.insert(Claim { note, rank, path }, &facts);
                    }
                }
            }
            all = Some(table);
        }
        let tree = StillTree::new(&replica.store);
        Ok(Self { replica, tree, all, failed: RefCell::new(None) })
    }

    /// Reading could not be told as it happened; it is told now.
    fn check(&self) -> Fallible<(), S> {
        match self.failed.borrow_mut().take() {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }

    fn look_up(&self, key: &DiskKey) -> Result<(Vec<Claim>, bool), EngineError<S::Error>> {
        let store = &self.replica.store;
        let nothing = (Vec::new(), false);
        let Some(root) = store.root().map_err(EngineError::Repo)? else { return Ok(nothing) };
        let Ok(path) = VaultPath::new(key.as_str()) else { return Ok(nothing) };
        let found = lookup(&self.tree, &root, &path)?;
        let mut claims = Vec::new();
        for (note, _) in found.notes {
            claims.push(Claim { note, rank: rank(store, &note)?, path: path.clone() });
        }
        Ok((claims, found.folder.is_some()))
    }

    fn ask(&self, key: &DiskKey) -> (Vec<Claim>, bool) {
        match self.look_up(key) {
            Ok(found) => found,
            Err(error) => {
                *self.failed.borrow_mut() = Some(error);
                (Vec::new(), false)
            }
        }
    }
}

impl<F: FileSystem, S: ReplicaStore> Claims for TreeClaims<'_, F, S> {
    fn at(&self, key: &DiskKey) -> Vec<Claim> {
        match &self.all {
            Some(all) => all.at(key),
            None => self.ask(key).0,
        }
    }

    fn is_folder(&self, key: &DiskKey) -> bool {
        match &self.all {
            Some(all) => all.is_folder(key),
            None => self.ask(key).1,
        }
    }
}

/// A note's right to its name: its newest head.
fn rank<S: ReplicaStore>(
    store: &S,
    note: &NoteId,
) -> Result<crucible_vault::name::Rank, EngineError<S::Error>> {
    let mut newest = None;
    for id in store.heads(note).map_err(EngineError::Repo)? {
        let version = store.version(&id).map_err(EngineError::Repo)?;
        let version = version.ok_or(EngineError::Dangling(id))?;
        newest = newest.max(Some((version.stamp, id)));
    }
    newest.ok_or(EngineError::Tree(format!("it holds note {note}, which has no head")))
}
