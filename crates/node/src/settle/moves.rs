//! Files get their new names, in an order in which every name is free when its turn comes.
//!
//! Where names go round in a circle two files change places, so that none is ever absent. Where
//! they lead through one another (a note that moves below its own former name, a file that takes
//! the name of the folder it was in) one is lifted out of the way for as long as that takes.

use std::collections::{BTreeMap, BTreeSet};

use crucible_core::vault_path::VaultPath;
use crucible_sync::replica::{FileStat, ReplicaStore};
use crucible_sync::staged::EngineError;
use crucible_vault::fs::{Facts, FileSystem, is_within, parent};
use crucible_vault::name::DiskKey;
use crucible_vault::write::{self, Displaced, Lift, Lifted, Renamed, Touched};

use super::{Outcome, Step, known, moved_row, not_placed, refused};
use crate::replica::{Fallible, Replica, Round, to_file_stat};
use crate::round_log::Changed;

/// The steps of a chunk that have a file, and where each is now.
pub(super) struct Moves<'s> {
    steps: &'s mut [Step],
    facts: Facts,
    /// Visible files by their names.
    at: BTreeMap<DiskKey, usize>,
    lifted: BTreeMap<usize, Lifted>,
    waiting: Vec<usize>,
}

impl<'s> Moves<'s> {
    fn new(steps: &'s mut [Step], facts: Facts) -> Self {
        let mut moves =
            Self { steps, facts, at: BTreeMap::new(), lifted: BTreeMap::new(), waiting: vec![] };
        for index in 0..moves.steps.len() {
            let Some(from) = moves.from(index) else { continue };
            let (key, stays) = (moves.key(from), moves.to(index) == Some(from));
            moves.at.insert(key, index);
            if !stays {
                moves.waiting.push(index);
            }
        }
        moves
    }

    fn key(&self, path: &VaultPath) -> DiskKey {
        DiskKey::of(path.as_str(), &self.facts)
    }

    fn from(&self, index: usize) -> Option<&VaultPath> {
        self.steps[index].row.as_ref().map(|row| &row.disk_path)
    }

    fn to(&self, index: usize) -> Option<&VaultPath> {
        self.steps[index].wanted.as_ref().map(|wanted| &wanted.path)
    }

    /// Whether a file's own name leads to its new one, or the other way round.
    fn is_nested(&self, index: usize) -> bool {
        let (Some(from), Some(to)) = (self.from(index), self.to(index)) else { return false };
        let (from, to) = (self.key(from), self.key(to));
        let (from, to) = (from.as_str(), to.as_str());
        from != to && (is_within(from, to) || is_within(to, from))
    }

    /// The other files whose names have to be left before this one can have its own.
    fn blockers(&self, index: usize) -> Vec<usize> {
        let Some(to) = self.to(index).map(|to| self.key(to)) else { return Vec::new() };
        let mut found = Vec::new();
        let mut above = to.as_str();
        while !above.is_empty() {
            found.extend(self.at.get(&DiskKey::of(above, &self.facts)));
            above = parent(above);
        }
        let below = format!("{}/", to.as_str());
        let from = DiskKey::of(&below, &self.facts);
        let inside = self.at.range(from..).take_while(|(key, _)| key.as_str().starts_with(&below));
        found.extend(inside.map(|(_, index)| index));
        found.retain(|other| *other != index);
        found
    }

    /// Where a step's file is by now.
    fn moved(&mut self, index: usize, before: &VaultPath) {
        let before = self.key(before);
        if self.at.get(&before) == Some(&index) {
            self.at.remove(&before);
        }
        if let Some(path) = self.from(index) {
            let key = self.key(path);
            self.at.insert(key, index);
        }
    }

    /// One of those that wait for each other.
    fn in_a_circle(&self) -> Option<usize> {
        let mut seen = BTreeSet::new();
        let mut index = *self.waiting.first()?;
        while seen.insert(index) {
            index = *self.blockers(index).first()?;
        }
        Some(index)
    }
}

impl<F: FileSystem, S: ReplicaStore> Replica<F, S> {
    /// Gives files their new names.
    pub(super) fn rename_all(
        &self,
        steps: &mut Vec<Step>,
        touched: &mut Touched,
        emptied: &mut BTreeSet<VaultPath>,
        outcome: &mut Outcome,
        round: &mut Round<'_>,
    ) -> Fallible<(), S> {
        let mut moves = Moves::new(steps, self.fs.facts());
        while !moves.waiting.is_empty() {
            let waited = moves.waiting.len();
            let mut still = Vec::new();
            for index in std::mem::take(&mut moves.waiting) {
                let blockers = moves.blockers(index);
                let stays = |other: &usize| {
                    let is_there = moves.from(*other) == moves.to(*other);
                    is_there || outcome.postponed.contains(&moves.steps[*other].note)
                };
                if blockers.is_empty() {
                    self.move_one(&mut moves, index, touched, emptied, outcome, round)?;
                } else if blockers.iter().any(stays) {
                    self.leave(&mut moves, index, touched, outcome, round)?;
                } else {
                    still.push(index);
                }
            }
            moves.waiting = still;
            if moves.waiting.len() == waited {
                self.untangle(&mut moves, touched, outcome, round)?;
            }
        }
        steps.retain(|step| !outcome.postponed.contains(&step.note));
        Ok(())
    }

    fn move_one(
        &self,
        moves: &mut Moves<'_>,
        index: usize,
        touched: &mut Touched,
        emptied: &mut BTreeSet<VaultPath>,
        outcome: &mut Outcome,
        round: &mut Round<'_>,
    ) -> Fallible<(), S> {
        if moves.is_nested(index) && !moves.lifted.contains_key(&index) {
            self.lift(moves, index, touched, outcome, round)?;
            if !moves.lifted.contains_key(&index) {
                return Ok(());
            }
        }
        let lifted = moves.lifted.remove(&index);
        let step = &mut moves.steps[index];
        let (Some(row), Some(wanted)) = (&mut step.row, &step.wanted) else { return Ok(()) };
        let known = known(row);
        let (from, to) = (row.disk_path.clone(), &wanted.path);
        let renamed = match lifted {
            Some(lifted) => write::lower(&self.fs, lifted, to, &known, touched),
            None => write::rename(&self.fs, &from, to, &known, &step.name, touched),
        };
        match refused(renamed, to, step.note, outcome, round)? {
            None => {}
            Some(Renamed::Changed | Renamed::Gone) => outcome.postpone(step.note),
            Some(Renamed::Occupied) => outcome.postpone_occupied(step.note, to, round),
            Some(Renamed::Displaced(displaced)) => {
                self.displaced(step, displaced, outcome, round)?;
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
                outcome.batch.files_gone.push(from.clone());
                outcome.batch.files.push(moved_row(row, wanted));
                self.watch(kept, &old, outcome)?;
                moves.moved(index, &from);
                return Ok(());
            }
        }
        // Whatever has its old name now, it is not to be moved away for another.
        moves.moved(index, &from);
        Ok(())
    }

    fn lift(
        &self,
        moves: &mut Moves<'_>,
        index: usize,
        touched: &mut Touched,
        outcome: &mut Outcome,
        round: &mut Round<'_>,
    ) -> Fallible<(), S> {
        let step = &moves.steps[index];
        let Some(row) = &step.row else { return Ok(()) };
        let from = row.disk_path.clone();
        let lifted = write::lift(&self.fs, &from, &known(row), &step.name, touched);
        match refused(lifted, &from, step.note, outcome, round)? {
            None => {}
            Some(Lift::Changed | Lift::Gone) => outcome.postpone(step.note),
            Some(Lift::Displaced(displaced)) => {
                self.displaced(step, displaced, outcome, round)?;
            }
            Some(Lift::Done(lifted)) => {
                moves.lifted.insert(index, lifted);
                let key = moves.key(&from);
                moves.at.remove(&key);
            }
        }
        Ok(())
    }

    /// Leaves a file where it is because the one that has its new name stays there.
    fn leave(
        &self,
        moves: &mut Moves<'_>,
        index: usize,
        touched: &mut Touched,
        outcome: &mut Outcome,
        round: &mut Round<'_>,
    ) -> Fallible<(), S> {
        let lifted = moves.lifted.remove(&index);
        let step = &moves.steps[index];
        outcome.postpone(step.note);
        let (Some(lifted), Some(row)) = (lifted, step.row.clone()) else { return Ok(()) };
        if let Some(displaced) = write::put_back(&self.fs, lifted, &known(&row), touched) {
            self.displaced(step, displaced, outcome, round)?;
        }
        moves.moved(index, &row.disk_path);
        Ok(())
    }

    /// A file that was lifted has no name any more: what has it now is another file, and no edit
    /// of this note, which is placed anew.
    fn displaced(
        &self,
        step: &Step,
        displaced: Displaced,
        outcome: &mut Outcome,
        round: &mut Round<'_>,
    ) -> Fallible<(), S> {
        let Some(row) = &step.row else { return Ok(()) };
        outcome.postpone(step.note);
        outcome.batch.files.retain(|moved| moved.note != step.note);
        let recorded = self.store.file_of(&step.note).map_err(EngineError::Repo)?;
        outcome.batch.files_gone.extend(recorded.map(|row| row.disk_path));
        self.look_at(displaced, Some(row), &row.disk_path, outcome, round)
    }

    /// All wait for each other: two files change places, or one gives way.
    fn untangle(
        &self,
        moves: &mut Moves<'_>,
        touched: &mut Touched,
        outcome: &mut Outcome,
        round: &mut Round<'_>,
    ) -> Fallible<(), S> {
        let Some(index) = moves.in_a_circle() else { return Ok(()) };
        let to = moves.to(index).cloned();
        let occupant = to.as_ref().and_then(|to| moves.at.get(&moves.key(to)).copied());
        // By exactly that name, or it would keep its own spelling.
        match occupant.filter(|other| moves.from(*other) == to.as_ref()) {
            Some(other) => self.swap(moves, index, other, touched, outcome, round),
            None => {
                self.lift(moves, index, touched, outcome, round)?;
                if !moves.lifted.contains_key(&index) {
                    moves.waiting.retain(|waiting| *waiting != index);
                }
                Ok(())
            }
        }
    }

    fn swap(
        &self,
        moves: &mut Moves<'_>,
        index: usize,
        other: usize,
        touched: &mut Touched,
        outcome: &mut Outcome,
        round: &mut Round<'_>,
    ) -> Fallible<(), S> {
        let (from, to) = (moves.from(index).cloned(), moves.from(other).cloned());
        let (from, to) = (from.expect("has a file"), to.expect("has a file"));
        if let Err(error) = write::swap(&self.fs, &from, &to, touched) {
            not_placed(&error, &to, round);
            outcome.postpone(moves.steps[index].note);
            outcome.postpone(moves.steps[other].note);
            moves.waiting.retain(|waiting| ![index, other].contains(waiting));
            return Ok(());
        }
        for (index, path) in [(index, &to), (other, &from)] {
            let step = &mut moves.steps[index];
            if let (Some(row), Some(wanted)) = (&mut step.row, &step.wanted) {
                let (before, after) = (Some(row.version), Some(wanted.version));
                outcome.changed.push(Changed { note: step.note, before, after });
                row.disk_path = path.clone();
                // What the exchange brought here is looked at by the next scan.
                row.stat = FileStat::default();
                outcome.batch.files.push(moved_row(row, wanted));
                if *path == wanted.path {
                    moves.waiting.retain(|&waiting| waiting != index);
                }
            }
            let key = moves.key(path);
            moves.at.insert(key, index);
        }
        Ok(())
    }
}
