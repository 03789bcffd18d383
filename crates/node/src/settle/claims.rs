//! Which notes want which names: read from the vault's tree, and from the disk what else is there.
//!
//! A link, a special file, a file or folder of files that no round takes in has its name as a
//! folder of notes has it: nothing is done to it, and a note of that name stands beside it.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeSet;

use crucible_core::id::NoteId;
use crucible_core::merkle::{Place as TreePlace, iter_live, lookup};
use crucible_core::vault_path::VaultPath;
use crucible_sync::replica::ReplicaStore;
use crucible_sync::staged::{EngineError, StillTree, Tree};
use crucible_vault::fs::FileSystem;
use crucible_vault::name::{Claim, ClaimTable, Claims, DiskKey, Rank};
use crucible_vault::scan::{Absence, Scan};
use crucible_vault::write;

use crate::replica::{Fallible, Replica};

/// The claims of a vault, read from its tree; all of them at once only on disks where names that
/// differ can be one.
pub(super) struct TreeClaims<'r, F: FileSystem, S: ReplicaStore> {
    replica: &'r Replica<F, S>,
    tree: StillTree<'r, S>,
    all: Option<ClaimTable>,
    scan: Option<&'r Scan>,
    /// Where files of notes are; read when that matters.
    placed: OnceCell<BTreeSet<VaultPath>>,
    failed: RefCell<Option<EngineError<S::Error>>>,
}

impl<'r, F: FileSystem, S: ReplicaStore> TreeClaims<'r, F, S> {
    /// With what the last look at the folder left out.
    pub(super) fn new(replica: &'r Replica<F, S>, scan: Option<&'r Scan>) -> Fallible<Self, S> {
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
        let (placed, failed) = (OnceCell::new(), RefCell::new(None));
        Ok(Self { replica, tree, all, scan, placed, failed })
    }

    /// Reading could not be told as it happened; it is told now.
    pub(super) fn check(&self) -> Fallible<(), S> {
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

    /// Whether something there, that belongs to no note, will not give way to one.
    fn is_kept_by_another(&self, key: &DiskKey) -> bool {
        let fs = &self.replica.fs;
        let is_obstacle = write::is_in_the_way(fs, key.as_str(), &mut |path| self.leaves(path));
        is_obstacle && !self.is_claimants(key)
    }

    /// Whether a note that wants the name had it: what became of its file is told as it is.
    fn is_claimants(&self, key: &DiskKey) -> bool {
        let facts = self.replica.fs.facts();
        self.at(key).iter().any(|claim| match self.replica.store.file_of(&claim.note) {
            Ok(row) => row.is_some_and(|row| DiskKey::of(row.disk_path.as_str(), &facts) == *key),
            Err(error) => {
                *self.failed.borrow_mut() = Some(EngineError::Repo(error));
                false
            }
        })
    }

    /// Whether a file is a note's, or will be with the next look at the folder.
    fn leaves(&self, path: &str) -> bool {
        let Ok(path) = VaultPath::new(path) else { return false };
        let is_left_out = self.scan.is_some_and(|scan| match scan.absence(&path) {
            Absence::Ignored | Absence::Unknown => true,
            Absence::Present | Absence::Gone => false,
        });
        !is_left_out || self.placed().contains(&path)
    }

    fn placed(&self) -> &BTreeSet<VaultPath> {
        self.placed.get_or_init(|| match self.replica.store.files() {
            Ok(rows) => rows.into_iter().map(|row| row.disk_path).collect(),
            Err(error) => {
                *self.failed.borrow_mut() = Some(EngineError::Repo(error));
                BTreeSet::new()
            }
        })
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
        let is_folder = match &self.all {
            Some(all) => all.is_folder(key),
            None => self.ask(key).1,
        };
        is_folder || self.is_kept_by_another(key)
    }
}

/// A note's right to its name: its newest head.
fn rank<S: ReplicaStore>(store: &S, note: &NoteId) -> Result<Rank, EngineError<S::Error>> {
    let mut newest = None;
    for id in store.heads(note).map_err(EngineError::Repo)? {
        let version = store.version(&id).map_err(EngineError::Repo)?;
        let version = version.ok_or(EngineError::Dangling(id))?;
        newest = newest.max(Some((version.stamp, id)));
    }
    newest.ok_or(EngineError::Tree(format!("it holds note {note}, which has no head")))
}
