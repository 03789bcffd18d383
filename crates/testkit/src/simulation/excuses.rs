//! What may be gone though nobody took it away by hand: what a backup took back that nobody else
//! had, and the side of a conflict that somebody let go. Both as narrow as can be.

use std::collections::BTreeSet;

use crucible_core::conflict::{Clash, Conflict};
use crucible_core::hash::ContentHash;
use crucible_core::id::{NoteId, VersionId};
use crucible_node::actions::Take;
use crucible_sync::replica::ReplicaStore;
use crucible_sync::repo::Repo;
use crucible_vault::content::{Naming, identify};

use super::check::{bytes_of, clash_words, words_of};
use super::people::{locked, words};
use super::{Device, Simulation};
use crate::memory_store::MemoryStore;

type Words = BTreeSet<String>;

const TRASH: &str = ".crucible/trash/";

impl Simulation {
    /// What the server would show: the words in its heads and open conflicts.
    pub(super) fn held_by_server(&self) -> Words {
        let server = self.link.server();
        let mut held = in_heads(&server.store);
        held.extend(in_conflicts(&server.store));
        held
    }

    /// The words a device has: in its folder, in what it keeps of displaced files, in its store,
    /// and in files of the trash that somebody has written to since they went there.
    pub(super) fn held_by(&self, who: usize) -> Words {
        let Some(device) = &self.devices[who] else { return Words::new() };
        let mut held = held_but_for(device, TRASH);
        held.extend(edited_in_trash(device));
        held
    }

    /// Somebody went back to a backup who held these words; `store_of` is the device of
    /// which only the store went back. Gone are those that nobody brings any more: neither the server, nor a
    /// device that has them as something new (what the server has had and replaced is not new).
    pub(super) fn excuse_restore(&self, held: &Words, store_of: Option<usize>) {
        let mut live = self.held_by_server();
        let known = words_of(&self.link.server().store);
        for (who, device) in self.devices.iter().enumerate() {
            let Some(device) = device else { continue };
            // A store that has forgotten them tells of displaced bytes and leaves them to people.
            let displaced = if store_of == Some(who) { ".crucible/" } else { TRASH };
            let held = held_but_for(device, displaced);
            live.extend(held.into_iter().filter(|word| !known.contains(word)));
            if store_of.is_none() {
                live.extend(edited_in_trash(device));
            }
        }
        let gone = held.iter().filter(|word| !live.contains(*word));
        locked(&self.ledger).taken_away.extend(gone.cloned());
    }

    /// Somebody chose a side: the other side's words may go.
    pub(super) fn excuse_take(
        &self,
        conflict: &Conflict,
        take: Take,
        before: &MemoryStore,
        after: &MemoryStore,
    ) {
        let server = self.link.server();
        let text = |hash: &ContentHash| -> Words {
            let here = words(&bytes_of(after, hash));
            here.into_iter().chain(words(&bytes_of(&server.store, hash))).collect()
        };
        let loser = || -> Words {
            let version = after.version(&conflict.loser).ok().flatten();
            let version = version.or_else(|| server.store.version(&conflict.loser).ok().flatten());
            let live = version.and_then(|version| version.live().map(|live| live.content));
            live.as_ref().map(text).unwrap_or_default()
        };
        let replaced = || -> Words {
            let hashes = replaced_contents(before, after, &conflict.note);
            hashes.iter().flat_map(text).collect()
        };
        let (kept, gone): (Words, Words) = match (&conflict.clash, take) {
            (_, Take::Both) | (Clash::Path { .. }, _) | (Clash::EditOverDelete, Take::Winner) => {
                return;
            }
            (Clash::Body(hunk) | Clash::Key { hunk, .. } | Clash::FirstContact(hunk), _) => {
                let of = |text: &str| words(text.as_bytes()).into_iter().collect();
                match take {
                    Take::Winner => (of(&hunk.winner), of(&hunk.loser)),
                    Take::Loser | Take::Both => (of(&hunk.loser), of(&hunk.winner)),
                }
            }
            (Clash::EditOverDelete, Take::Loser) => (Words::new(), replaced()),
            (Clash::Content, Take::Winner) => (Words::new(), loser()),
            (Clash::Content, Take::Loser) => (loser(), replaced()),
        };
        let mut ledger = locked(&self.ledger);
        ledger.taken_away.extend(gone.difference(&kept).cloned());
    }
}

fn held_but_for(device: &Device, folder: &str) -> Words {
    let store = device.replica.store();
    let mut held = in_heads(store);
    held.extend(in_conflicts(store));
    for (path, bytes) in device.fs.disk().everything() {
        if !path.starts_with(folder) {
            held.extend(words(&bytes));
        }
    }
    held
}

/// The words in files of the trash that were opened before they went there and written to since:
/// the next round versions them.
fn edited_in_trash(device: &Device) -> Words {
    let everything = device.fs.disk().everything();
    let mut held = Words::new();
    for displaced in device.replica.store().displaced().unwrap_or_default() {
        let Some(bytes) = everything.get(&displaced.undo) else { continue };
        let as_known = [Naming::Markdown, Naming::Other];
        let as_known = as_known.map(|naming| identify(bytes, naming).hash);
        if displaced.undo.starts_with(TRASH) && !as_known.contains(&displaced.content) {
            held.extend(words(bytes));
        }
    }
    held
}

fn in_heads(store: &MemoryStore) -> Words {
    let notes: BTreeSet<NoteId> =
        store.all_versions().map(|(_, _, version)| version.note).collect();
    let mut held = Words::new();
    for note in notes {
        for head in store.heads(&note).unwrap_or_default() {
            let version = store.version(&head).ok().flatten();
            if let Some(live) = version.as_ref().and_then(|version| version.live()) {
                held.extend(words(&bytes_of(store, &live.content)));
            }
        }
    }
    held
}

/// The words of open conflicts, as far as the store itself has them.
fn in_conflicts(store: &MemoryStore) -> Words {
    let mut held = Words::new();
    for conflict in store.open_conflicts(usize::MAX).unwrap_or_default() {
        held.extend(clash_words(&conflict.clash));
        for id in [conflict.winner, conflict.loser] {
            let version = store.version(&id).ok().flatten();
            if let Some(live) = version.as_ref().and_then(|version| version.live()) {
                held.extend(words(&bytes_of(store, &live.content)));
            }
        }
    }
    held
}

/// What the new versions of a note replaced.
fn replaced_contents(before: &MemoryStore, after: &MemoryStore, note: &NoteId) -> Vec<ContentHash> {
    let is_new = |id: &VersionId| before.version(id).is_ok_and(|known| known.is_none());
    let new = after.all_versions().filter(|(_, id, version)| version.note == *note && is_new(id));
    let parents = new.flat_map(|(_, _, version)| version.parents.clone());
    let parents = parents.filter_map(|parent| after.version(&parent).ok().flatten());
    parents.filter_map(|version| version.live().map(|live| live.content)).collect()
}
