//! What of a session is durable, as plain values: the store keeps exactly this, and tests use it
//! as a disk.

use std::collections::BTreeMap;

use crucible_core::id::VersionId;

use crate::document::{OURS, Peer};
use crate::documents::{Ask, Brought, Version};
use crate::line_ends::Ends;
use crate::room::{Begun, Flushed, Intent, Person, PersonNo, Record, Write, sender_of};

/// A session, as it is found after a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The session's name.
    pub id: String,
    /// Its document's epoch.
    pub epoch: String,
    /// What Layer 1 has for sure.
    pub flushed: Flushed,
    /// What Layer 1 may have.
    pub intent: Option<Intent>,
    /// The document with every turn up to [`Self::snapshot_turn`].
    pub snapshot: Vec<u8>,
    /// See [`Self::snapshot`].
    pub snapshot_turn: u64,
    /// The records since, by turn.
    pub turns: BTreeMap<u64, Vec<Record>>,
    /// Everybody who took part.
    pub people: Vec<Person>,
    /// Whose each peer is.
    pub authors: BTreeMap<Peer, PersonNo>,
    /// Who wrote in turns that are in the snapshot and not in [`Self::flushed`].
    pub editors: Vec<PersonNo>,
}

impl Stored {
    /// Takes a write; `over` is the caller's, who forgets all of it.
    pub fn apply(&mut self, write: Write) {
        self.people.extend(write.people.into_iter().map(|(_, person)| person));
        self.authors.extend(write.authors);
        if let Some((turn, records)) = write.turn {
            self.turns.insert(turn, records);
        }
        if let Some(flushed) = write.flushed {
            self.fulfil(flushed);
        }
        if write.intent.is_some() {
            self.intent = write.intent;
        }
        if let Some((turn, snapshot)) = write.snapshot {
            self.editors = self.editors();
            self.snapshot = snapshot;
            self.snapshot_turn = turn;
            self.turns = self.turns.split_off(&(turn + 1));
        }
    }

    fn fulfil(&mut self, flushed: Flushed) {
        if flushed.turn >= self.snapshot_turn {
            self.editors.clear();
        }
        self.flushed = flushed;
        self.intent = None;
    }

    /// Decides what became of the intent: `version` is what Layer 1 has stored of it, if anything.
    /// Says whether that is news, which the journal does not have.
    pub fn resolve(&mut self, version: Option<VersionId>) -> bool {
        let Some(Intent { hash, at, turn, .. }) = self.intent.take() else { return false };
        if let Some(base) = version {
            self.fulfil(Flushed { base, hash, at, turn });
        }
        version.is_some()
    }

    /// What opens its document.
    pub fn ask(&self) -> Ask {
        let journal = self.turns.values().flatten().map(brought).collect();
        let owners = self.authors.iter().map(|(peer, person)| (*peer, sender_of(*person)));
        Ask::Open(self.snapshot.clone(), journal, owners.collect())
    }

    /// The last turn.
    pub fn turn(&self) -> u64 {
        self.turns.keys().next_back().copied().unwrap_or(self.snapshot_turn)
    }

    /// Who has written what is not in [`Self::flushed`]; the last one last.
    pub fn editors(&self) -> Vec<PersonNo> {
        let mut editors = self.editors.clone();
        for (_, records) in self.turns.range(self.flushed.turn + 1..) {
            for person in records.iter().filter_map(|record| record.person) {
                editors.retain(|editor| *editor != person);
                editors.push(person);
            }
        }
        editors
    }

    /// The room, once its document is open at this version and its file is known.
    pub fn begun(&self, version: Version, ends: Ends, flushed_unwritten: bool) -> Begun {
        let records = self.turns.values().flatten();
        Begun {
            id: self.id.clone(),
            epoch: self.epoch.clone(),
            flushed: self.flushed.clone(),
            flushed_unwritten,
            ends,
            version,
            turn: self.turn(),
            journal_bytes: records.map(|record| record.update.len()).sum(),
            people: self.people.clone(),
            editors: self.editors(),
        }
    }
}

fn brought(record: &Record) -> Brought {
    let by = record.person.map_or(OURS, sender_of);
    Brought { by, person: by, bytes: record.update.clone() }
}
