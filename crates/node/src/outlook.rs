//! What a round would do, and where this replica stands; nothing is changed by looking.

use std::collections::BTreeMap;

use crucible_core::hash::ContentHash;
use crucible_core::id::{NoteId, RootHash};
use crucible_core::vault_path::VaultPath;
use crucible_core::version::Version;
use crucible_proto::message::{self, Answer};
use crucible_sync::ask::{self, Asking, Losses};
use crucible_sync::guard::{Guard, Loss};
use crucible_sync::replica::ReplicaStore;
use crucible_sync::staged::EngineError;
use crucible_sync::unpack::UnpackError;
use crucible_vault::fs::{FileSystem, STATE_DIR};

use crate::error::{Direction, SyncError};
use crate::link::{Link, LinkError};
use crate::replica::{Fallible, Options, Replica, Round};
use crate::report::{Notice, Progress};
use crate::take_in::Difference;
use crate::world::World;

/// On which side something would change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// In this folder.
    Here,
    /// On the other side.
    There,
}

/// What would happen to a note.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// It is new.
    Create,
    /// It gets other bytes.
    Edit,
    /// It gets this name.
    Rename(VaultPath),
    /// It goes.
    Delete,
    /// Both sides changed it: the two are merged.
    Merge,
}

/// One thing a round would do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Step {
    /// Where.
    pub side: Side,
    /// To which note, by its path now.
    pub path: VaultPath,
    /// What.
    pub operation: Operation,
}

/// Why a round would stop and ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// How many notes would be deleted or emptied.
    pub lost: u64,
    /// Of how many.
    pub of: u64,
    /// Which side would lose them.
    pub direction: Direction,
}

/// What a round would do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// In the order of sides and paths.
    pub steps: Vec<Step>,
    /// Whether there is more to pull than one page, which is all that was asked for.
    pub there_is_more: bool,
    /// Whether a round would stop before any of it; of the other side's news, as far as known.
    pub refusal: Option<Refusal>,
    /// What a person should hear of.
    pub notices: Vec<Notice>,
}

/// Where a replica stands, as far as it knows without asking.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// Changes in the folder that are not versioned yet.
    pub changes: Vec<Step>,
    /// Versions the other side does not have.
    pub unsent: u64,
    /// Notes whose file is not as their heads want it.
    pub unsettled: u64,
    /// Conflicts nobody has dealt with.
    pub conflicts: u64,
    /// Notes that exist.
    pub notes: u64,
    /// The root here.
    pub root: Option<RootHash>,
    /// The last root both sides had.
    pub common_root: Option<RootHash>,
    /// Whether a round would stop because of what is gone here.
    pub refusal: Option<Refusal>,
    /// What a person should hear of.
    pub notices: Vec<Notice>,
    /// Folders of git repositories and of other vaults inside this one, which are never synced.
    pub left_out: Vec<String>,
}

/// What there is to say about a folder without asking anybody.
struct Local {
    changes: BTreeMap<NoteId, Change>,
    left_out: Vec<String>,
    refusal: Option<Refusal>,
}

/// A step and what the note holds after it; `None` when that is not known, or it is gone.
struct Change {
    step: Step,
    content: Option<ContentHash>,
}

/// What is new on the other side.
#[derive(Default)]
struct News {
    changes: BTreeMap<NoteId, Change>,
    losses: Vec<Loss>,
}

/// Most conflicts that are counted one by one.
const CONFLICTS_COUNTED: usize = 100_000;

impl<F: FileSystem, S: ReplicaStore> Replica<F, S> {
    /// Where this replica stands.
    ///
    /// # Errors
    /// [`SyncError`].
    pub fn status(&mut self, world: &mut dyn World) -> Fallible<Status, S> {
        let mut ignored = |_: Progress| {};
        let mut round = Round::new(world, Options::default(), &mut ignored);
        let Local { changes, left_out, refusal } = self.local_changes(&mut round)?;
        let store = &self.store;
        Ok(Status {
            changes: changes.into_values().map(|change| change.step).collect(),
            unsent: store.unsent().map_err(EngineError::Repo)?.len() as u64,
            unsettled: store.unsettled().map_err(EngineError::Repo)?.len() as u64,
            conflicts: store.open_conflicts(CONFLICTS_COUNTED).map_err(EngineError::Repo)?.len()
                as u64,
            notes: store.live_notes().map_err(EngineError::Repo)?,
            root: store.root().map_err(EngineError::Repo)?,
            common_root: self.meta()?.common_root,
            refusal,
            notices: round.report.notices,
            left_out,
        })
    }

    /// What a round would do. Asks the other side what is new there, and stores nothing.
    ///
    /// # Errors
    /// [`SyncError`].
    pub fn plan(
        &mut self,
        link: Option<&mut dyn Link>,
        world: &mut dyn World,
    ) -> Fallible<Plan, S> {
        let mut ignored = |_: Progress| {};
        let mut round = Round::new(world, Options::default(), &mut ignored);
        let Local { changes: mut outgoing, refusal, .. } = self.local_changes(&mut round)?;
        for id in self.store.unsent().map_err(EngineError::Repo)? {
            let version = self.known_version(&id)?;
            if !version.is_merge() && !outgoing.contains_key(&version.note) {
                let before = self.first_parent(&version)?;
                let content = version.live().map(|live| live.content);
                outgoing.extend(
                    step(Side::There, before.as_deref(), &version)
                        .map(|step| (version.note, Change { step, content })),
                );
            }
        }
        let mut plan = Plan { notices: round.report.notices, refusal, ..Plan::default() };
        let mut incoming = News::default();
        if let Some(link) = link {
            plan.there_is_more = self.news(link, &mut incoming)?;
        }
        plan.refusal = plan.refusal.or(self.losses_there(&incoming)?);
        // A note that is new on both sides is one note, whatever it was called at first.
        let new_here: BTreeMap<VaultPath, NoteId> = outgoing
            .iter()
            .filter(|(_, change)| change.step.operation == Operation::Create)
            .map(|(note, change)| (change.step.path.clone(), *note))
            .collect();
        for (note, Change { mut step, content }) in incoming.changes {
            let named = new_here.get(&step.path).filter(|_| step.operation == Operation::Create);
            if let Some(here) = outgoing.remove(named.unwrap_or(&note)) {
                if here.content.is_some() && here.content == content && here.step.path == step.path
                {
                    continue;
                }
                step.operation = Operation::Merge;
            }
            plan.steps.push(step);
        }
        plan.steps.extend(outgoing.into_values().map(|change| change.step));
        plan.steps.sort();
        Ok(plan)
    }

    /// Whether what others deleted and emptied is more than a round follows unasked.
    fn losses_there(&self, news: &News) -> Fallible<Option<Refusal>, S> {
        let live = self.store.live_notes().map_err(EngineError::Repo)?;
        let deleted = news.losses.iter().filter(|loss| **loss == Loss::Deleted).count() as u64;
        let mut guard = Guard::new(live.saturating_sub(deleted));
        news.losses.iter().for_each(|loss| guard.count(*loss));
        let direction = Direction::Incoming;
        Ok(guard.trips().map(|(lost, of)| Refusal { lost, of, direction }))
    }

    /// What has changed in the folder.
    fn local_changes(&mut self, round: &mut Round<'_>) -> Fallible<Local, S> {
        let rows = self.rows()?;
        let scan = self.look_through(&rows, Options::default())?;
        crate::take_in::tell(&scan, round);
        self.tell_aside(&rows, round)?;
        let mut changes = BTreeMap::new();
        let vault = self.meta()?.vault;
        let differences = self.compare(&rows, &scan);
        let direction = Direction::Outgoing;
        let refusal = self.losses(&differences)?.map(|(lost, of)| Refusal { lost, of, direction });
        for difference in differences {
            let (note, path, operation, content) = match difference {
                Difference::New(found) => {
                    let note = NoteId::derive(&vault, &found.path, 0);
                    (note, found.path.clone(), Operation::Create, Some(found.hash))
                }
                Difference::Edited(row, found) => {
                    (row.note, row.disk_path, Operation::Edit, Some(found.hash))
                }
                Difference::Moved(row, found) => {
                    let operation = Operation::Rename(found.path.clone());
                    (row.note, row.disk_path, operation, Some(found.hash))
                }
                Difference::Gone(row) => (row.note, row.disk_path, Operation::Delete, None),
                Difference::Touched(..) => continue,
            };
            let step = Step { side: Side::There, path, operation };
            changes.insert(note, Change { step, content });
        }
        let is_state = |path: &&String| {
            let name = path.rsplit_once('/').map(|(_, name)| name);
            matches!(name, Some(".git" | STATE_DIR))
        };
        let left_out = scan.ignored.iter().filter(is_state).cloned().collect();
        Ok(Local { changes, left_out, refusal })
    }

    /// What is new on the other side; whether there is more than a page of it.
    fn news(&mut self, link: &mut dyn Link, news: &mut News) -> Fallible<bool, S> {
        let mut asking = Asking {
            policies: self.settings.policies.clone(),
            allow_mass_delete: true,
            pull_only: true,
            ..Asking::default()
        };
        for _ in 0..2 {
            let mut request = ask::request(&self.store, &asking)?;
            request.round.closed.clear();
            let body = link.round(&message::body(&request.round))?;
            let answer = message::parse::<Answer>(&body).map_err(|error| {
                let place = "the other side".to_owned();
                LinkError::Malformed { place, reason: error.to_string() }
            })?;
            let Answer::Done(done) = answer else { return Ok(true) };
            let more = done.next.is_some();
            let losses = Losses::Followed;
            let absorbed = ask::absorb(&self.store, &request, *done, &self.policies, losses);
            let absorbed = match absorbed {
                Ok(absorbed) => absorbed,
                Err(UnpackError::Unresolved) => {
                    asking.whole = true;
                    continue;
                }
                Err(UnpackError::Engine(error)) => return Err(error.into()),
                Err(other) => return Err(SyncError::Received(other)),
            };
            for (_, version) in &absorbed.batch.repo.versions {
                let row = self.store.file_of(&version.note).map_err(EngineError::Repo)?;
                let before = match row {
                    Some(row) => Some(self.known_version(&row.version)?),
                    None => None,
                };
                if let Some(step) = step(Side::Here, before.as_deref(), version) {
                    let before: Vec<&Version> = before.as_deref().into_iter().collect();
                    news.losses.push(Loss::between(&before, &[version]));
                    let content = version.live().map(|live| live.content);
                    news.changes.insert(version.note, Change { step, content });
                }
            }
            return Ok(more);
        }
        Ok(true)
    }

    fn first_parent(&self, version: &Version) -> Fallible<Option<std::sync::Arc<Version>>, S> {
        match version.parents.first() {
            Some(parent) => Ok(self.store.version(parent).map_err(EngineError::Repo)?),
            None => Ok(None),
        }
    }
}

/// What comes of a version after another; `None` for nothing a person would see.
fn step(side: Side, before: Option<&Version>, after: &Version) -> Option<Step> {
    let old = before.and_then(Version::live);
    let (path, operation) = match (old, after.live()) {
        (None, None) => return None,
        (None, Some(live)) => (live.path.clone(), Operation::Create),
        (Some(old), None) => (old.path.clone(), Operation::Delete),
        (Some(old), Some(live)) if old.path != live.path => {
            (old.path.clone(), Operation::Rename(live.path.clone()))
        }
        (Some(old), Some(live)) if old.content != live.content => {
            (live.path.clone(), Operation::Edit)
        }
        (Some(_), Some(_)) => return None,
    };
    Some(Step { side, path, operation })
}
