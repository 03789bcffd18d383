//! What has to hold once the world is quiet.

use std::collections::{BTreeMap, BTreeSet};

use crucible_core::conflict::Clash;
use crucible_core::hash::ContentHash;
use crucible_core::id::{NoteId, VersionId};
use crucible_core::vault_path::VaultPath;
use crucible_core::version::{Live, Version};
use crucible_node::replica::Options as RoundOptions;
use crucible_sync::ahead::is_ahead;
use crucible_sync::replica::ReplicaStore;
use crucible_sync::repo::Repo;
use crucible_vault::content::{Naming, identify};
use unicode_normalization::UnicodeNormalization;

use super::Simulation;
use super::people::{locked, shown, words};
use crate::memory_store::{MemoryError, MemoryStore};

/// The words in all texts of a store.
pub(super) fn words_of(store: &MemoryStore) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for hash in store.all_contents() {
        found.extend(words(&bytes_of(store, hash)));
    }
    found
}

/// The bytes of a version, where they are kept.
pub(super) fn bytes_of_version(store: &MemoryStore, id: &VersionId) -> Option<Vec<u8>> {
    let version = store.version(id).ok().flatten()?;
    version.live().map(|live| bytes_of(store, &live.content))
}

/// Whatever was minted in between is later than all that was known before, unless it was minted
/// again: under another id, or because the clock was wrong. What is ahead of the right time is not
/// asked for: of that only those follow that are made from it.
pub(super) fn check_clock(
    before: &MemoryStore,
    after: &MemoryStore,
    right_ms: u64,
) -> Result<(), String> {
    let text = |error: MemoryError| error.to_string();
    let (old, new) = (before.meta().map_err(text)?, after.meta().map_err(text)?);
    let unsent = before.unsent().map_err(text)?;
    let is_kept = |id: &VersionId| after.version(id).is_ok_and(|version| version.is_some());
    let corrected = old.clock_correction_ms != new.clock_correction_ms;
    if corrected || old.replica != new.replica || !unsent.iter().all(is_kept) {
        return Ok(());
    }
    let counts = |version: &Version| !version.is_merge() && !is_ahead(version.stamp, right_ms);
    let stamps = before.all_versions().filter(|(_, _, version)| counts(version));
    let Some(latest) = stamps.map(|(_, _, version)| version.stamp).max() else { return Ok(()) };
    for (_, id, version) in after.all_versions() {
        let own = version.dot().is_some_and(|dot| dot.replica == new.replica);
        let is_new = before.version(&id).map_err(text)?.is_none();
        let minted = own && is_new && version.dot().is_some_and(|dot| dot.counter > old.counter);
        if minted && version.stamp <= latest {
            return Err(format!("{id} is not later than what its author had seen"));
        }
    }
    Ok(())
}

pub(super) fn bytes_of(store: &MemoryStore, hash: &ContentHash) -> Vec<u8> {
    let inline = store.content(hash).ok().flatten();
    inline.or_else(|| store.blob(hash)).map(|bytes| bytes.to_vec()).unwrap_or_default()
}

impl Simulation {
    /// Everything that was in the folder is stored on the server.
    pub(super) fn check_stored(
        &mut self,
        who: usize,
        before: &BTreeMap<String, Vec<u8>>,
    ) -> Result<(), String> {
        let link = self.link.another();
        let server = link.server();
        for (path, bytes) in before {
            // As the file is known to the vault, which a decomposed spelling can be too long for.
            let composed: String = path.nfc().collect();
            let naming = VaultPath::new(&composed).map_or(Naming::Other, |path| Naming::of(&path));
            let hash = identify(bytes, naming).hash;
            let stored = server.store.has_content(&hash).map_err(|error| error.to_string())?;
            if !stored {
                return Err(format!("{path} of device {who} is not stored after an ok round"));
            }
            self.promised.insert(hash);
        }
        Ok(())
    }

    pub(super) fn check(&mut self) -> Result<(), String> {
        let root = self.link.server().store.root().map_err(|error| error.to_string())?;
        let first = self.at(0).fs.disk().visible();
        for (who, device) in self.all().enumerate() {
            let store = device.replica.store();
            let own = store.root().map_err(|error| error.to_string())?;
            if own != root {
                let server = self.link.server();
                let notes = notes_apart(store, &server.store);
                let (here, there) =
                    (history(store, &notes, ""), history(&server.store, &notes, ""));
                return Err(format!(
                    "device {who} has another root than the server; here\n{here}\n and there\n{there}"
                ));
            }
            let visible = device.fs.disk().visible();
            let same = if self.options.folding {
                // Names that are one on a disk stand under other names there.
                let texts = |files: &BTreeMap<String, Vec<u8>>| {
                    let mut texts: Vec<Vec<u8>> = files.values().cloned().collect();
                    texts.sort_unstable();
                    texts
                };
                texts(&visible) == texts(&first)
            } else {
                visible == first
            };
            if !same {
                let (here, there) = (shown(&visible), shown(&first));
                return Err(format!("device {who} differs from device 0: {here}\n  and{there}"));
            }
            let waiting = store.unsent().map_err(|error| error.to_string())?.len();
            if waiting > 0 {
                return Err(format!("device {who} still has {waiting} unsent versions"));
            }
        }
        for hash in &self.promised {
            let stored = self.link.server().store.has_content(hash);
            if !stored.map_err(|error| error.to_string())? {
                return Err(format!("the server has not got {hash} any more"));
            }
        }
        self.check_words(&first)?;
        self.check_stable()
    }

    fn check_words(&self, files: &BTreeMap<String, Vec<u8>>) -> Result<(), String> {
        let ledger = locked(&self.ledger);
        let mut there = BTreeSet::new();
        for (path, bytes) in files {
            for word in words(bytes) {
                if !ledger.written.contains(&word) {
                    return Err(format!("{word} in {path} was never written"));
                }
                there.insert(word);
            }
        }
        let server = self.link.server();
        set_aside(&server.store, &server.store, &mut there)?;
        for device in self.all() {
            // After a restore of the server only devices know what its conflicts were.
            set_aside(device.replica.store(), &server.store, &mut there)?;
        }
        for word in &ledger.written {
            if !there.contains(word) && !ledger.taken_away.contains(word) {
                let history = history_of(&server.store, word);
                return Err(format!("{word} is lost: {}\n{history}", shown(files)));
            }
        }
        Ok(())
    }

    fn check_stable(&mut self) -> Result<(), String> {
        for who in 0..self.devices.len() {
            let mut link = self.link.another();
            let device = self.at(who);
            let before = device.fs.disk().visible();
            let options = RoundOptions::default();
            let report = device
                .replica
                .sync(&mut link, &mut device.clock, options, &mut |_| {})
                .map_err(|error| format!("a quiet round failed: {error}"))?;
            let moved = (report.pushed, report.pulled, report.merged, report.traffic.requests);
            if moved != (0, 0, 0, 1) || before != device.fs.disk().visible() {
                return Err(format!("a quiet round of device {who} is not quiet: {moved:?}"));
            }
        }
        Ok(())
    }
}

/// The words in the texts that clashed.
pub(super) fn clash_words(clash: &Clash) -> Vec<String> {
    match clash {
        Clash::Body(hunk) | Clash::Key { hunk, .. } | Clash::FirstContact(hunk) => {
            let sides = [words(hunk.winner.as_bytes()), words(hunk.loser.as_bytes())];
            sides.concat()
        }
        Clash::EditOverDelete | Clash::Path { .. } | Clash::Content => Vec::new(),
    }
}

/// The words that open conflicts hold; a record on a device names bytes that the server has.
fn set_aside(
    store: &MemoryStore,
    server: &MemoryStore,
    there: &mut BTreeSet<String>,
) -> Result<(), String> {
    let open = store.open_conflicts(usize::MAX).map_err(|error| error.to_string())?;
    for conflict in open {
        there.extend(clash_words(&conflict.clash));
        for id in [conflict.winner, conflict.loser] {
            let version = store.version(&id).map_err(|error| error.to_string())?;
            let version = version.or(server.version(&id).map_err(|error| error.to_string())?);
            if let Some(content) = version.and_then(|v| v.live().map(|live| live.content)) {
                there.extend(words(&bytes_of(store, &content)));
                there.extend(words(&bytes_of(server, &content)));
            }
        }
    }
    Ok(())
}

/// Every version of the notes that ever held a word, for people who look for it.
fn history_of(store: &MemoryStore, word: &str) -> String {
    let notes = store
        .all_versions()
        .filter(|(_, _, version)| version.live().is_some_and(|live| holds(store, live, word)))
        .map(|(_, _, version)| version.note)
        .collect();
    history(store, &notes, word)
}

fn holds(store: &MemoryStore, live: &Live, word: &str) -> bool {
    words(&bytes_of(store, &live.content)).iter().any(|one| one == word)
}

/// The notes whose heads differ.
fn notes_apart(one: &MemoryStore, other: &MemoryStore) -> BTreeSet<NoteId> {
    let both = one.all_versions().chain(other.all_versions());
    let notes: BTreeSet<NoteId> = both.map(|(_, _, version)| version.note).collect();
    notes.into_iter().filter(|note| one.heads(note) != other.heads(note)).collect()
}

/// Every version of some notes; marked are heads and what holds `word`.
fn history(store: &MemoryStore, notes: &BTreeSet<NoteId>, word: &str) -> String {
    let short = |id: &dyn std::fmt::Display| format!("{id}").chars().take(6).collect::<String>();
    let mut lines = Vec::new();
    for (seq, id, version) in store.all_versions().filter(|(_, _, v)| notes.contains(&v.note)) {
        let parents: Vec<String> = version.parents.iter().map(|id| short(id)).collect();
        let state = version.live().map_or("deleted".to_owned(), |live| {
            let bytes = bytes_of(store, &live.content);
            let mark = if holds(store, live, word) { "HAS IT" } else { "" };
            let text = String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned();
            format!("{} {text:?} {mark}", live.path)
        });
        let is_head = store.heads(&version.note).is_ok_and(|heads| heads.contains(&id));
        let head = if is_head { "HEAD" } else { "" };
        let (note, author) = (short(&version.note), &version.author);
        let (id, ticks) = (short(&id), version.stamp.ticks());
        lines.push(format!(
            "  {} note {note} {id} <- {parents:?} {author:?} at {ticks} {state} {head}",
            seq.0,
        ));
    }
    lines.join("\n")
}
