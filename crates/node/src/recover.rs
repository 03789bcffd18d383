//! After a crash, and before every round: what an earlier step left behind is looked at before
//! anything else happens, because it may be the only place where somebody's words are.

use std::collections::{BTreeMap, BTreeSet};

use crucible_core::id::{NoteId, VersionId};
use crucible_core::vault_path::VaultPath;
use crucible_sync::replica::{Displaced, FileRow, FileStat, Placing, ReplicaBatch, ReplicaStore};
use crucible_sync::staged::EngineError;
use crucible_vault::content::{Identity, Naming, identify_file};
use crucible_vault::fs::{FileSystem, TRASH_DIR, is_within};
use crucible_vault::trash;
use crucible_vault::write::{self, Kept, Known, Leftover, Lifted, Retired, Touched};

use crate::error::SyncError;
use crate::replica::{Fallible, Replica, Round};
use crate::report::Notice;
use crate::settle::{UNSEEN, download_name};

/// How long displaced bytes are watched at least: whoever appends to a note by hand may have it
/// open for minutes, and a watched folder has a round a second.
const HELD_OPEN_NS: i64 = 600_000_000_000;

/// What was found out about the steps that were written down, to be recorded all at once: a row
/// that one step takes over must not be missing when another is looked at.
#[derive(Default)]
struct Findings {
    batch: ReplicaBatch,
    /// Displaced bytes that nobody has seen: made from which version of what.
    unseen: Vec<(VersionId, VaultPath, Kept)>,
    /// New bytes that were never placed.
    ours: Vec<(Kept, Naming)>,
}

impl<F: FileSystem, S: ReplicaStore> Replica<F, S> {
    /// Once after opening: finishes or takes back what a crash interrupted.
    pub(crate) fn recover(&mut self, round: &mut Round<'_>) -> Fallible<(), S> {
        let leftovers = write::leftovers(&self.fs).map_err(SyncError::Folder)?;
        let placing = self.store.placing().map_err(EngineError::Repo)?;
        let by_name: BTreeMap<&str, &Leftover> =
            leftovers.iter().map(|leftover| (leftover.name.as_str(), leftover)).collect();
        let mut findings = Findings::default();
        // All of them first: where the others are is told by where these are.
        let mut on_their_way = BTreeSet::new();
        for intention in &placing {
            let from = intention.from.as_ref();
            let lifted = from.and_then(|from| Lifted::left(&self.fs, from, &intention.undo));
            if let Some(lifted) = lifted {
                self.put_back(intention, lifted, &mut findings)?;
                if let Some(leftover) = by_name.get(intention.undo.as_str()) {
                    self.withdraw(intention, leftover, &mut findings)?;
                }
                on_their_way.insert(&intention.undo);
            }
        }
        for intention in placing.iter().filter(|step| !on_their_way.contains(&step.undo)) {
            let leftover = by_name.get(intention.undo.as_str()).copied();
            self.look_after(intention, leftover, &placing, &mut findings)?;
        }
        self.commit(findings.batch)?;
        for (base, path, kept) in findings.unseen {
            self.version_displaced(base, &path, &kept, round)?;
        }
        for (kept, naming) in findings.ours {
            write::retire(&self.fs, &kept.at, kept.identity.hash, naming)?;
        }
        self.claim_leftovers(&leftovers, &placing, round)?;
        let wanted = self.downloads_wanted()?;
        // Another process may just be finding out what the disk can do, before it asks for the lock.
        let keep = |name: &str| wanted.contains(name) || name.starts_with("probe-");
        write::clean_tmp(&self.fs, keep).map_err(SyncError::Folder)?;
        Ok(())
    }

    /// A file that was lifted from its name to be given another gets its own again; where that is
    /// taken, it is looked at as what a swap displaced. Either way its note is placed anew.
    fn put_back(
        &self,
        intention: &Placing,
        lifted: Lifted,
        findings: &mut Findings,
    ) -> Fallible<(), S> {
        let row = self.store.file_of(&intention.note).map_err(EngineError::Repo)?;
        findings.batch.placed.push(intention.disk_path.clone());
        findings.batch.unsettled.push(intention.note);
        let at = lifted.at().to_owned();
        let known = Known { hash: row.as_ref().map_or(UNSEEN, |row| row.content), stat: None };
        let mut touched = Touched::new();
        let is_back = write::put_back(&self.fs, lifted, &known, &mut touched).is_none();
        write::settle(&self.fs, &mut touched)?;
        let base = row.as_ref().map(|row| row.version).or(intention.version);
        let (false, Some(base)) = (is_back, base) else { return Ok(()) };
        // What has its name now is another file.
        findings.batch.files_gone.extend(row.map(|row| row.disk_path));
        let path = intention.disk_path.clone();
        let naming = Naming::of(&path);
        self.watch_unseen(intention.note, base, at.clone(), findings)?;
        // What cannot be read now is looked at again.
        if let Ok(identity) = identify_file(&self.fs, &at, naming) {
            findings.unseen.push((base, path, Kept { at, identity }));
        }
        Ok(())
    }

    /// New bytes for a file that a power cut brought back to where it was lifted: ours, unless
    /// somebody has added to them.
    fn withdraw(
        &self,
        intention: &Placing,
        leftover: &Leftover,
        findings: &mut Findings,
    ) -> Fallible<(), S> {
        let Some(version) = intention.version else { return Ok(()) };
        let (path, naming) = (intention.disk_path.clone(), Naming::of(&intention.disk_path));
        let identity = identify_file(&self.fs, &leftover.at, naming).map_err(SyncError::Folder)?;
        let wanted = self.known_version(&version)?.live().map(|live| live.content);
        let kept = Kept { at: leftover.at.clone(), identity };
        if wanted == Some(kept.identity.hash) {
            findings.ours.push((kept, naming));
            return Ok(());
        }
        self.watch_unseen(intention.note, version, kept.at.clone(), findings)?;
        findings.unseen.push((version, path, kept));
        Ok(())
    }

    /// Looked at again if another crash comes before it is versioned.
    fn watch_unseen(
        &self,
        note: NoteId,
        version: VersionId,
        undo: String,
        findings: &mut Findings,
    ) -> Fallible<(), S> {
        let (content, round) = (UNSEEN, self.meta()?.rounds);
        findings.batch.displaced.push(Displaced { undo, note, version, content, round });
        Ok(())
    }

    /// A step that was written down and may or may not have been done.
    fn look_after(
        &self,
        intention: &Placing,
        leftover: Option<&Leftover>,
        all: &[Placing],
        findings: &mut Findings,
    ) -> Fallible<(), S> {
        let row = self.store.file_of(&intention.note).map_err(EngineError::Repo)?;
        let path = &intention.disk_path;
        let naming = Naming::of(path);
        let displaced = match leftover {
            Some(leftover) => {
                let identity =
                    identify_file(&self.fs, &leftover.at, naming).map_err(SyncError::Folder)?;
                Some(Kept { at: leftover.at.clone(), identity })
            }
            None => None,
        };
        // A file that is gone or unreadable is neither the old nor the new one: its row stays, and
        // what lies in the undo folder is versioned from what the row names.
        let there = identify_file(&self.fs, path.as_str(), naming).ok();
        let mut base = row.as_ref().map(|row| row.version);
        let mut is_ours = false;
        let mut is_placed = false;
        if let Some(version) = &intention.version
            && let Some(live) = self.known_version(version)?.live()
        {
            let is_wanted =
                |found: &Identity| found.hash == live.content && found.kind == live.kind;
            let is_old =
                |found: &Identity| row.as_ref().is_some_and(|row| row.content == found.hash);
            // New bytes wait under the name that what they displace gets, so what lies there and
            // what is visible tell whether the two have changed places.
            is_ours = displaced.as_ref().is_some_and(|kept| is_wanted(&kept.identity));
            let displaces_nothing = row.is_none();
            let taken_back = !is_ours && (displaces_nothing || there.as_ref().is_some_and(is_old));
            let swapped = displaced.is_some() && there.is_some() && !is_ours && !taken_back;
            if taken_back {
                // A power cut took the placing back; what lies there was made of the new bytes.
                base = Some(*version);
            }
            is_placed = swapped || there.as_ref().is_some_and(is_wanted);
            if is_placed {
                findings.batch.files.push(FileRow {
                    disk_path: path.clone(),
                    note: intention.note,
                    version: *version,
                    content: live.content,
                    kind: live.kind,
                    stat: FileStat::default(),
                    seen_ns: 0,
                });
            }
        }
        if let Some(row) = row.filter(|_| !is_placed)
            && let Some(disk_path) = self.moved_to(&row, intention, all)?
        {
            let (stat, seen_ns) = (FileStat::default(), 0);
            findings.batch.files.push(FileRow { disk_path, stat, seen_ns, ..row });
        }
        findings.batch.placed.push(path.clone());
        findings.batch.unsettled.push(intention.note);
        let Some(kept) = displaced else { return Ok(()) };
        if is_ours {
            findings.ours.push((kept, naming));
        } else if let Some(base) = base {
            self.watch_unseen(intention.note, base, kept.at.clone(), findings)?;
            findings.unseen.push((base, path.clone(), kept));
        }
        Ok(())
    }

    /// Where a file is that has its old bytes and has left its name: at its new one, or, where
    /// names went round in a circle, at that of another.
    fn moved_to(
        &self,
        row: &FileRow,
        intention: &Placing,
        all: &[Placing],
    ) -> Fallible<Option<VaultPath>, S> {
        let is_at = |path: &VaultPath| {
            identify_file(&self.fs, path.as_str(), Naming::of(path))
                .is_ok_and(|found| found.hash == row.content)
        };
        if intention.version.is_none() || is_at(&row.disk_path) {
            return Ok(None);
        }
        if is_at(&intention.disk_path) {
            return Ok(Some(intention.disk_path.clone()));
        }
        for other in all.iter().filter(|other| other.note != row.note) {
            let Some(from) = other.from.as_ref().filter(|from| is_at(from)) else { continue };
            let own = self.store.file_of(&other.note).map_err(EngineError::Repo)?;
            if own.is_none_or(|own| own.content != row.content) {
                return Ok(Some(from.clone()));
            }
        }
        Ok(None)
    }

    /// Leftovers nobody wrote an intention down for, or whose note is unknown, are kept and told.
    fn claim_leftovers(
        &self,
        leftovers: &[Leftover],
        placing: &[Placing],
        round: &mut Round<'_>,
    ) -> Fallible<(), S> {
        let watched = self.store.displaced().map_err(EngineError::Repo)?;
        let watched: BTreeSet<&str> = watched.iter().map(|bytes| bytes.undo.as_str()).collect();
        for leftover in leftovers {
            let step = write::name_of_step(&leftover.name);
            let intended = placing.iter().any(|intention| intention.undo == step);
            if watched.contains(leftover.at.as_str()) || intended {
                continue;
            }
            let mut known = false;
            for naming in [Naming::Markdown, Naming::Other] {
                let identity =
                    identify_file(&self.fs, &leftover.at, naming).map_err(SyncError::Folder)?;
                if self.store.has_content(&identity.hash).map_err(EngineError::Repo)? {
                    known = true;
                    write::retire(&self.fs, &leftover.at, identity.hash, naming)?;
                    break;
                }
            }
            if !known {
                round.report.notice(Notice::Unclaimed { at: leftover.at.clone() });
            }
        }
        Ok(())
    }

    /// Before every round: displaced bytes that an editor wrote to since become versions; those
    /// that stayed as they were for a round and for [`HELD_OPEN_NS`] go, but for those in the trash.
    pub(crate) fn look_at_displaced(&mut self, round: &mut Round<'_>) -> Fallible<(), S> {
        let number = self.meta()?.rounds;
        let mut retired = Vec::new();
        let watched = self.store.displaced().map_err(EngineError::Repo)?;
        if watched.is_empty() {
            return Ok(());
        }
        let now_ns = self.fs.clock_ns().map_err(SyncError::Folder)?;
        let grain_ns = self.fs.facts().time_grain_ns;
        for displaced in watched {
            let path = self.path_of(&displaced)?;
            let naming = Naming::of(&path);
            let looked = self.fs.stat(&displaced.undo).and_then(|stat| {
                // A clock that was set back has to come to that time first.
                let is_old = displaced.round + 1 < number
                    && now_ns.saturating_sub(stat.ctime_ns) >= HELD_OPEN_NS;
                // It was given this name after the last write, and nobody wrote since.
                let is_still = stat.mtime_ns < stat.ctime_ns.saturating_sub(grain_ns);
                match is_still && !is_old {
                    true => Ok(None),
                    false => identify_file(&self.fs, &displaced.undo, naming)
                        .map(|identity| Some((identity, is_old))),
                }
            });
            let (identity, is_old) = match looked {
                Ok(Some(looked)) => looked,
                Ok(None) => continue,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    retired.push(displaced.undo);
                    continue;
                }
                // Looked at again before the next round.
                Err(_) => continue,
            };
            if identity.hash != displaced.content {
                let kept = Kept { at: displaced.undo.clone(), identity };
                self.version_displaced(displaced.version, &path, &kept, round)?;
            } else if is_old && is_within(&displaced.undo, TRASH_DIR) {
                retired.push(displaced.undo);
            } else if is_old {
                match write::retire(&self.fs, &displaced.undo, displaced.content, naming)? {
                    Retired::Done => retired.push(displaced.undo),
                    Retired::Changed(identity) => {
                        let kept = Kept { at: displaced.undo, identity };
                        self.version_displaced(displaced.version, &path, &kept, round)?;
                    }
                }
            }
        }
        self.commit(ReplicaBatch { retired, ..ReplicaBatch::default() })
    }

    fn path_of(&self, displaced: &Displaced) -> Fallible<VaultPath, S> {
        if let Some(path) = self.known_version(&displaced.version)?.path() {
            return Ok(path.clone());
        }
        let row = self.store.file_of(&displaced.note).map_err(EngineError::Repo)?;
        let path = row.map(|row| row.disk_path);
        Ok(path.unwrap_or(VaultPath::new("recovered.md").expect("a plain name is a path")))
    }

    fn downloads_wanted(&self) -> Fallible<BTreeSet<String>, S> {
        let mut wanted = BTreeSet::new();
        for note in self.store.unsettled().map_err(EngineError::Repo)? {
            for id in self.store.heads(&note).map_err(EngineError::Repo)? {
                if let Some(live) = self.known_version(&id)?.live() {
                    wanted.insert(download_name(&live.content));
                }
            }
        }
        Ok(wanted)
    }

    /// Empties the trash of days that are over, but for those with a file that is still watched.
    pub(crate) fn expire_trash(&self, round: &mut Round<'_>) -> Fallible<(), S> {
        let watched = self.store.displaced().map_err(EngineError::Repo)?;
        let keep = |day: &str| watched.iter().any(|bytes| is_within(&bytes.undo, day));
        // A trash that cannot be emptied now is emptied later.
        if let Err(error) = trash::expire(&self.fs, round.world.now_ms(), keep) {
            let reason = format!("old files in the trash could not be removed: {error}");
            round.report.notice(Notice::NotPlaced { path: ".crucible/trash".to_owned(), reason });
        }
        Ok(())
    }
}
