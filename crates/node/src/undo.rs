//! `undo`: takes back what the last round changed in the folder, and nothing else.
//!
//! Invariant: no word that came later is lost. Each change of the round, newest first, is turned
//! round by a three-way merge: its outcome is the base, what the note is now is one side, what it
//! was before is the other. Where that would have to choose, or would delete a note that was
//! edited since, the note is left as it is and named.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crucible_core::id::{NoteId, ReplicaId, VersionId};
use crucible_core::note_merge::{NoteSide, merge_note};
use crucible_core::text_merge::Overlap;
use crucible_core::timestamp::Stamp;
use crucible_core::vault_path::VaultPath;
use crucible_core::version::{KeyStamps, Kind, TagDots, Version};
use crucible_sync::guard::{Guard, Loss};
use crucible_sync::mint::{Change, Found};
use crucible_sync::replica::ReplicaStore;
use crucible_vault::fs::FileSystem;

use crate::actions::{ActionError, Done, Edit, FetchBytes};
use crate::error::SyncError;
use crate::replica::{Options, Replica, Round};
use crate::report::Report;
use crate::round_log::Changed;
use crate::world::World;

/// What undoing a round came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Undone {
    /// When the round was that was undone.
    pub at_ms: u64,
    /// Every note of it that is not as it was before already, by path.
    pub notes: Vec<UndoneNote>,
    /// What the change came to.
    pub report: Report,
}

/// What became of one note.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct UndoneNote {
    /// Where the note is, or was.
    pub path: VaultPath,
    /// The name it has again.
    pub renamed_to: Option<VaultPath>,
    /// What happened.
    pub what: TakenBack,
}

/// What happened to a note.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TakenBack {
    /// It is as it was before.
    Restored,
    /// What the round brought is out again; what was written since stays.
    Merged,
    /// The round had brought it: it is gone again.
    Removed,
    /// The round had deleted it: it is back.
    BroughtBack,
    /// It is left as it is.
    Left {
        /// Why.
        why: Left,
        /// What it was before the round, to be restored by hand.
        before: Option<VersionId>,
    },
}

/// Why a note is left as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Left {
    /// It was edited since, at the place that the round had changed or after the round brought it.
    EditedSince,
    /// It was deleted since.
    DeletedSince,
    /// Another note has its name now.
    NameTaken,
    /// Two versions of it wait to be merged.
    Unmerged,
    /// This device does not keep its version from before any more.
    Forgotten,
}

/// What a note is, or is to be.
#[derive(Clone)]
enum State {
    Gone,
    /// As in this version.
    At(Arc<Version>, VersionId),
    /// Under this path with these bytes.
    Mixed(VaultPath, Vec<u8>),
}

/// What is to be done about a note.
struct Aim {
    note: NoteId,
    head: VersionId,
    now: Arc<Version>,
    state: State,
    before: Option<VersionId>,
}

impl<F: FileSystem, S: ReplicaStore> Replica<F, S> {
    /// Takes back what the last round that changed this folder did to it, as new versions. It is
    /// forgotten then, so that the next call takes back the one before it; unless nothing could be
    /// taken back.
    ///
    /// # Errors
    /// [`ActionError`]; [`ActionError::RemovesMost`] unless `allow_mass_delete`.
    pub fn undo(
        &mut self,
        allow_mass_delete: bool,
        world: &mut dyn World,
        fetch: FetchBytes<'_>,
    ) -> Done<Undone, S> {
        let mut progress = |_| {};
        let mut round = Round::new(world, Options::default(), &mut progress);
        self.prepare(&mut round)?;
        let logged = self.last_round()?.ok_or(ActionError::NothingToUndo)?;
        let mut by_note: BTreeMap<NoteId, Vec<Changed>> = BTreeMap::new();
        for change in logged.changes {
            by_note.entry(change.note).or_default().push(change);
        }
        let (mut aims, mut notes) = (Vec::new(), Vec::new());
        for (note, changes) in by_note {
            match self.aim(note, &changes, fetch)? {
                Ok(aim) => aims.extend(aim),
                Err(left) => notes.push(left),
            }
        }
        self.keep_names_apart(&mut aims, &mut notes)?;
        if let (false, Some((lost, of))) = (allow_mass_delete, self.removals(&aims)?) {
            return Err(ActionError::RemovesMost { lost, of });
        }
        let mut edits = Vec::new();
        for aim in aims {
            let (edit, note) = self.turn_back(aim, fetch)?;
            edits.push(edit);
            notes.push(note);
        }
        notes.sort();
        let took_back = !edits.is_empty() || notes.is_empty();
        self.change(edits, &[], &mut round)?;
        if took_back {
            self.forget_round(&logged.name).map_err(SyncError::Folder)?;
        }
        let report = self.conclude_action(round)?;
        Ok(Undone { at_ms: logged.at_ms, notes, report })
    }

    /// How many notes of how many would be gone, when that is so many that a round would ask.
    fn removals(&self, aims: &[Aim]) -> Done<Option<(u64, u64)>, S> {
        let removed = aims.iter().filter(|aim| matches!(aim.state, State::Gone)).count();
        let live = self.store.live_notes().map_err(crate::actions::engine)?;
        let mut guard = Guard::new(live.saturating_sub(removed as u64));
        (0..removed).for_each(|_| guard.count(Loss::Deleted));
        Ok(guard.trips())
    }

    /// What a note is to become; nothing when it is that already.
    fn aim(
        &self,
        note: NoteId,
        changes: &[Changed],
        fetch: FetchBytes<'_>,
    ) -> Done<Result<Option<Aim>, UndoneNote>, S> {
        let before = changes.first().and_then(|change| change.before);
        let heads = self.store.heads(&note).map_err(crate::actions::engine)?;
        let Some(&head) = heads.last() else { return Ok(Ok(None)) };
        let now = self.version(&head)?;
        let mut state = match now.live() {
            Some(_) => State::At(Arc::clone(&now), head),
            None => State::Gone,
        };
        let mut turned = if heads.len() > 1 { Err(Left::Unmerged) } else { Ok(()) };
        for change in changes.iter().rev() {
            if turned.is_ok() {
                turned = self.turn(&mut state, change, fetch)?;
            }
        }
        if let Err(why) = turned {
            let path = match (now.path(), before.map(|before| self.version(&before))) {
                (Some(path), _) => path.clone(),
                (None, Some(Ok(before))) if before.path().is_some() => {
                    before.path().expect("it has one").clone()
                }
                // Neither now nor before: there is nothing to name.
                _ => return Ok(Ok(None)),
            };
            let what = TakenBack::Left { why, before };
            return Ok(Err(UndoneNote { path, renamed_to: None, what }));
        }
        let is_there = match (&state, now.live()) {
            (State::Gone, None) => true,
            (State::At(wanted, _), Some(live)) => {
                wanted.live().is_some_and(|w| w.path == live.path && w.content == live.content)
            }
            (State::Mixed(path, bytes), Some(live)) => {
                *path == live.path && Found::of(bytes, path).content == live.content
            }
            _ => false,
        };
        Ok(Ok((!is_there).then_some(Aim { note, head, now, state, before })))
    }

    /// Turns one change round.
    fn turn(
        &self,
        state: &mut State,
        change: &Changed,
        fetch: FetchBytes<'_>,
    ) -> Done<Result<(), Left>, S> {
        let (Ok(before), Ok(after)) = (self.known(change.before)?, self.known(change.after)?)
        else {
            return Ok(Err(Left::Forgotten));
        };
        let (path, content) = match &*state {
            State::Gone => {
                return Ok(match (&before, &after) {
                    // It went as it came, or it was the round that deleted it.
                    (None, _) => Ok(()),
                    (Some((version, id)), None) => {
                        *state = State::At(Arc::clone(version), *id);
                        Ok(())
                    }
                    (Some(_), Some(_)) => Err(Left::DeletedSince),
                });
            }
            State::At(version, _) => {
                let live = version.live().expect("only what is live is a state");
                (live.path.clone(), Some(live.content))
            }
            State::Mixed(path, _) => (path.clone(), None),
        };
        // Deleted by the round and here again: somebody has brought it back.
        let Some((after, after_id)) = after else { return Ok(Ok(())) };
        let was = after.live().expect("only what is live is known");
        let same_bytes = content == Some(was.content);
        let Some((before, before_id)) = before else {
            if !same_bytes || path != was.path {
                return Ok(Err(Left::EditedSince));
            }
            *state = State::Gone;
            return Ok(Ok(()));
        };
        let wanted = before.live().expect("only what is live is known");
        if same_bytes && path == was.path {
            *state = State::At(before, before_id);
            return Ok(Ok(()));
        }
        let path = if path == was.path { wanted.path.clone() } else { path };
        let bytes = if same_bytes {
            self.bytes_of(&before_id, fetch)?
        } else {
            let here = self.state_bytes(state, fetch)?;
            if wanted.content == was.content {
                here
            } else if [wanted.kind, was.kind] != [Kind::Note; 2] {
                return Ok(Err(Left::EditedSince));
            } else {
                let base = self.bytes_of(&after_id, fetch)?;
                match merged(&base, &here, &self.bytes_of(&before_id, fetch)?) {
                    Some(bytes) => bytes,
                    None => return Ok(Err(Left::EditedSince)),
                }
            }
        };
        *state = State::Mixed(path, bytes);
        Ok(Ok(()))
    }

    /// A version that a change names; `Err` when it is not kept here any more. Deletions are none.
    #[expect(clippy::type_complexity, reason = "said once")]
    fn known(
        &self,
        id: Option<VersionId>,
    ) -> Done<Result<Option<(Arc<Version>, VersionId)>, ()>, S> {
        let Some(id) = id else { return Ok(Ok(None)) };
        match self.version(&id) {
            Ok(version) => Ok(Ok(version.live().is_some().then(|| (Arc::clone(&version), id)))),
            Err(ActionError::NoVersion(_)) => Ok(Err(())),
            Err(error) => Err(error),
        }
    }

    fn state_bytes(&self, state: &State, fetch: FetchBytes<'_>) -> Done<Vec<u8>, S> {
        match state {
            State::Gone => Ok(Vec::new()),
            State::At(_, id) => self.bytes_of(id, fetch),
            State::Mixed(_, bytes) => Ok(bytes.clone()),
        }
    }

    /// A note that would come back under a name that another has is left, or keeps the name it has.
    fn keep_names_apart(&self, aims: &mut Vec<Aim>, notes: &mut Vec<UndoneNote>) -> Done<(), S> {
        // One that is left where it is may be in the way of another: again until all stand.
        loop {
            let leaving: BTreeSet<NoteId> = aims
                .iter()
                .filter(|aim| aim.state.path() != aim.now.path())
                .map(|aim| aim.note)
                .collect();
            let mut wrong = None;
            let mut wanted = BTreeSet::new();
            for (at, aim) in aims.iter().enumerate() {
                let Some(path) = aim.state.path() else { continue };
                if aim.now.path() == Some(path) {
                    continue;
                }
                let counts = |note: &NoteId| *note != aim.note && !leaving.contains(note);
                if !wanted.insert(path.clone()) || self.is_taken_by(path, counts)? {
                    wrong = Some(at);
                    break;
                }
            }
            let Some(at) = wrong else { return Ok(()) };
            let aim = aims.remove(at);
            let path = aim.state.path().expect("only names are in each other's way").clone();
            let what = TakenBack::Left { why: Left::NameTaken, before: aim.before };
            notes.push(UndoneNote { path, renamed_to: None, what });
        }
    }

    /// The change that does it, and how it is told.
    fn turn_back(&self, aim: Aim, fetch: FetchBytes<'_>) -> Done<(Edit, UndoneNote), S> {
        let base = aim.head;
        let now = aim.now.path();
        let Some(path) = aim.state.path().cloned() else {
            let path = now.expect("what is gone already is no aim").clone();
            let note = UndoneNote { path, renamed_to: None, what: TakenBack::Removed };
            return Ok(((Change::Deleted { base }, None), note));
        };
        let bytes = self.state_bytes(&aim.state, fetch)?;
        let found = Found::of(&bytes, &path);
        let what = match (now, &aim.state) {
            (None, _) => TakenBack::BroughtBack,
            (Some(_), State::Mixed(..)) => TakenBack::Merged,
            (Some(_), _) => TakenBack::Restored,
        };
        let moved = (now != Some(&path)).then(|| path.clone());
        let note = UndoneNote {
            path: now.unwrap_or(&path).clone(),
            renamed_to: moved.clone().filter(|_| now.is_some()),
            what,
        };
        Ok(((Change::Edited { base, path: moved, found }, Some(bytes)), note))
    }
}

impl State {
    fn path(&self) -> Option<&VaultPath> {
        match self {
            Self::Gone => None,
            Self::At(version, _) => version.path(),
            Self::Mixed(path, _) => Some(path),
        }
    }
}

/// The merge of two texts where nothing had to be chosen.
fn merged(base: &[u8], here: &[u8], wanted: &[u8]) -> Option<Vec<u8>> {
    let (keys, tags) = (KeyStamps::new(), TagDots::new());
    let side = |bytes| {
        let text = std::str::from_utf8(bytes).ok()?;
        let rank = (Stamp::new(0, 0, ReplicaId::NOBODY), VersionId::from_bytes([0; 32]));
        Some(NoteSide { text, keys: &keys, tags: &tags, rank })
    };
    let merge = merge_note(Some(&side(base)?), &side(here)?, &side(wanted)?, Overlap::Lww);
    merge.conflicts.is_empty().then(|| merge.text.into_bytes())
}
