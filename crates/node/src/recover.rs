//! After a crash, and before every round: what an earlier step left behind is looked at before
//! anything else happens, because it may be the only place where somebody's words are.

use std::collections::{BTreeMap, BTreeSet};

use crucible_core::vault_path::VaultPath;
use crucible_sync::replica::{Displaced, FileRow, FileStat, Placing, ReplicaBatch, ReplicaStore};
use crucible_sync::staged::EngineError;
use crucible_vault::content::{Identity, Naming, identify_file};
use crucible_vault::fs::{FileSystem, TRASH_DIR, is_within};
use crucible_vault::trash;
use crucible_vault::write::{self, Kept, Leftover, Retired};

use crate::error::SyncError;
use crate::replica::{Fallible, Replica, Round};
use crate::report::Notice;
use crate::settle::{UNSEEN, download_name};

impl<F: FileSystem, S: ReplicaStore> Replica<F, S> {
    /// Once after opening: finishes or takes back what a crash interrupted.
    pub(crate) fn recover(&mut self, round: &mut Round<'_>) -> Fallible<(), S> {
        let leftovers = write::leftovers(&self.fs).map_err(SyncError::Folder)?;
        let placing = self.store.placing().map_err(EngineError::Repo)?;
        let by_name: BTreeMap<&str, &Leftover> =
            leftovers.iter().map(|leftover| (leftover.name.as_str(), leftover)).collect();
        for intention in &placing {
            self.recover_one(intention, by_name.get(intention.undo.as_str()).copied(), round)?;
        }
        self.claim_leftovers(&leftovers, &placing, round)?;
        let wanted = self.downloads_wanted()?;
        // Another process may just be finding out what the disk can do, before it asks for the lock.
        let keep = |name: &str| wanted.contains(name) || name.starts_with("probe-");
        write::clean_tmp(&self.fs, keep).map_err(SyncError::Folder)?;
        Ok(())
    }

    /// A step that was written down and may or may not have been done.
    fn recover_one(
        &mut self,
        intention: &Placing,
        leftover: Option<&Leftover>,
        round: &mut Round<'_>,
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
        let mut batch = ReplicaBatch::default();
        let mut base = row.as_ref().map(|row| row.version);
        let mut is_ours = false;
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
            if swapped || there.as_ref().is_some_and(is_wanted) {
                batch.files.push(FileRow {
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
        batch.placed.push(path.clone());
        batch.unsettled.push(intention.note);
        if let (Some(kept), Some(version), false) = (&displaced, base, is_ours) {
            batch.displaced.push(Displaced {
                undo: kept.at.clone(),
                note: intention.note,
                version,
                content: UNSEEN,
                round: self.meta()?.rounds,
            });
        }
        self.commit(batch)?;
        let Some(kept) = displaced else { return Ok(()) };
        if is_ours {
            write::retire(&self.fs, &kept.at, kept.identity.hash, naming)?;
            return Ok(());
        }
        match base {
            Some(base) => self.version_displaced(base, path, &kept, round),
            None => Ok(()),
        }
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
            let intended = placing.iter().any(|intention| intention.undo == leftover.name);
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
    /// that stayed as they were for a round go, but for those in the trash.
    pub(crate) fn look_at_displaced(&mut self, round: &mut Round<'_>) -> Fallible<(), S> {
        let number = self.meta()?.rounds;
        let mut retired = Vec::new();
        for displaced in self.store.displaced().map_err(EngineError::Repo)? {
            let path = self.path_of(&displaced)?;
            let naming = Naming::of(&path);
            let identity = match identify_file(&self.fs, &displaced.undo, naming) {
                Ok(identity) => identity,
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
            } else if displaced.round + 1 < number && is_within(&displaced.undo, TRASH_DIR) {
                retired.push(displaced.undo);
            } else if displaced.round + 1 < number {
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
