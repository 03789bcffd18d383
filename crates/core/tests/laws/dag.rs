//! Histories of one note, made by simulated replicas, and slow obvious answers about them.
//!
//! The oracles know nothing of stamps, clocks or walks: they close the parent relation and take
//! maximal elements.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crucible_core::hash::ContentHash;
use crucible_core::id::{NoteId, ReplicaId, VersionId};
use crucible_core::timestamp::Hlc;
use crucible_core::vault_path::VaultPath;
use crucible_core::version::{Author, Kind, Live, State, Version};
use crucible_core::version_vector::VersionVector;
use proptest::prelude::*;

/// How many replicas there are.
const REPLICAS: usize = 4;

pub type Versions = BTreeMap<VersionId, Arc<Version>>;

#[derive(Debug, Clone)]
pub enum Action {
    /// The file is edited: one parent, the version it was last in step with.
    Edit { replica: usize, now_ms: u64, skipped: u64 },
    /// An edit that replaces every head known.
    EditAll { replica: usize, now_ms: u64 },
    /// Deleted.
    Delete { replica: usize, now_ms: u64 },
    /// The heads are committed as a merge version of this algorithm.
    Merge { replica: usize, algorithm: u16 },
    /// One replica learns all that another knows.
    Pull { replica: usize, from: usize },
}

pub fn actions() -> impl Strategy<Value = Vec<Action>> {
    let replica = 0..REPLICAS;
    let now_ms = 1_000u64..1_020;
    let action = prop_oneof![
        4 => (replica.clone(), now_ms.clone(), 0u64..3)
            .prop_map(|(replica, now_ms, skipped)| Action::Edit { replica, now_ms, skipped }),
        1 => (replica.clone(), now_ms.clone())
            .prop_map(|(replica, now_ms)| Action::EditAll { replica, now_ms }),
        1 => (replica.clone(), now_ms)
            .prop_map(|(replica, now_ms)| Action::Delete { replica, now_ms }),
        3 => (replica.clone(), 1u16..3)
            .prop_map(|(replica, algorithm)| Action::Merge { replica, algorithm }),
        4 => (replica.clone(), replica).prop_map(|(replica, from)| Action::Pull { replica, from }),
    ];
    prop::collection::vec(action, 1..40)
}

struct Replica {
    id: ReplicaId,
    clock: Hlc,
    counter: u64,
    knows: BTreeSet<VersionId>,
    /// What its file was last in step with.
    base: Option<VersionId>,
}

/// A history, in the order in which it came to be: parents first.
pub struct History {
    pub versions: Versions,
    pub order: Vec<VersionId>,
    above: BTreeMap<VersionId, BTreeSet<VersionId>>,
    replicas: Vec<Replica>,
}

impl History {
    pub fn of(actions: &[Action]) -> Self {
        let replicas = (1..=REPLICAS as u8).map(|n| Replica {
            id: ReplicaId::from_bytes([n; 16]),
            clock: Hlc::new(0),
            counter: 0,
            knows: BTreeSet::new(),
            base: None,
        });
        let mut history = Self {
            versions: Versions::new(),
            order: Vec::new(),
            above: BTreeMap::new(),
            replicas: replicas.collect(),
        };
        for action in actions {
            history.act(action);
        }
        history
    }

    fn act(&mut self, action: &Action) {
        match *action {
            Action::Edit { replica, now_ms, skipped } => {
                let parents = self.replicas[replica].base.into_iter().collect();
                self.replicas[replica].counter += skipped;
                self.author(replica, now_ms, parents, true);
            }
            Action::EditAll { replica, now_ms } => {
                let parents = self.heads_of(&self.replicas[replica].knows);
                self.author(replica, now_ms, parents, true);
            }
            Action::Delete { replica, now_ms } => {
                let parents = self.replicas[replica].base.into_iter().collect();
                self.author(replica, now_ms, parents, false);
            }
            Action::Merge { replica, algorithm } => self.merge(replica, algorithm),
            Action::Pull { replica, from } => {
                let news = self.replicas[from].knows.clone();
                for id in &news {
                    let stamp = self.versions[id].stamp;
                    self.replicas[replica].clock.observe(stamp);
                }
                self.replicas[replica].knows.extend(news);
                self.settle(replica);
            }
        }
    }

    fn author(&mut self, at: usize, now_ms: u64, mut parents: Vec<VersionId>, live: bool) {
        parents.sort_unstable();
        let mut clock = self.joined(&parents);
        let replica = &mut self.replicas[at];
        replica.counter += 1;
        let dot =
            crucible_core::version_vector::Dot { replica: replica.id, counter: replica.counter };
        clock.observe(dot);
        let stamp = replica.clock.tick(now_ms, replica.id);
        let state = if live { state(self.order.len() as u64) } else { State::Deleted };
        let author = Author::Replica(replica.id);
        let id = self.add(at, Version { note: note(), parents, clock, stamp, author, state });
        self.replicas[at].base = Some(id);
    }

    fn merge(&mut self, at: usize, algorithm: u16) {
        let parents = self.heads_of(&self.replicas[at].knows);
        if parents.len() < 2 {
            return;
        }
        let newest = parents.iter().map(|id| self.versions[id].stamp).max().unwrap();
        let stamp = newest.just_above();
        self.replicas[at].clock.observe(stamp);
        let version = Version {
            note: note(),
            clock: self.joined(&parents),
            parents,
            stamp,
            author: Author::Merge(algorithm),
            state: state(u64::from(algorithm)),
        };
        self.add(at, version);
        self.settle(at);
    }

    fn add(&mut self, at: usize, version: Version) -> VersionId {
        let id = version.id();
        self.replicas[at].knows.insert(id);
        if !self.versions.contains_key(&id) {
            let mut above = BTreeSet::new();
            for parent in &version.parents {
                above.insert(*parent);
                above.extend(&self.above[parent]);
            }
            self.above.insert(id, above);
            self.versions.insert(id, Arc::new(version));
            self.order.push(id);
        }
        id
    }

    /// A file follows its note once there is one head.
    fn settle(&mut self, at: usize) {
        if let [head] = self.heads_of(&self.replicas[at].knows)[..] {
            self.replicas[at].base = Some(head);
        }
    }

    fn joined(&self, parents: &[VersionId]) -> VersionVector {
        let none = VersionVector::new();
        parents.iter().fold(none, |clock, id| clock.join(&self.versions[id].clock))
    }

    /// Proper ancestors.
    pub fn ancestors(&self, id: &VersionId) -> &BTreeSet<VersionId> {
        &self.above[id]
    }

    /// Whether `older` is `newer` or above it.
    pub fn within(&self, older: &VersionId, newer: &VersionId) -> bool {
        older == newer || self.above[newer].contains(older)
    }

    /// The members of `set` that no other member descends from; sorted.
    pub fn maximal(&self, set: &BTreeSet<VersionId>) -> Vec<VersionId> {
        let below_another = |id: &VersionId| set.iter().any(|other| self.above[other].contains(id));
        set.iter().filter(|id| !below_another(id)).copied().collect()
    }

    /// The heads over everything in `known`, from the definition.
    pub fn heads_of(&self, known: &BTreeSet<VersionId>) -> Vec<VersionId> {
        let tips = self.maximal(known);
        let covered = |merge: &VersionId, by: &VersionId| {
            let version = &self.versions[merge];
            version.is_merge() && version.parents.iter().all(|parent| self.within(parent, by))
        };
        let redundant = |merge: &VersionId| {
            tips.iter().any(|tip| {
                tip != merge && covered(merge, tip) && (!covered(tip, merge) || merge < tip)
            })
        };
        tips.iter().filter(|tip| !redundant(tip)).copied().collect()
    }

    /// The nearest common ancestors of two sides, those on a side included.
    pub fn common(&self, ours: &[VersionId], theirs: &[VersionId]) -> BTreeSet<VersionId> {
        let reach = |side: &[VersionId]| -> BTreeSet<VersionId> {
            side.iter().flat_map(|id| self.above[id].iter().chain([id])).copied().collect()
        };
        reach(ours).intersection(&reach(theirs)).copied().collect()
    }

    /// The authored versions that `id` stands for.
    pub fn authored(&self, id: &VersionId) -> BTreeSet<VersionId> {
        let all = self.above[id].iter().chain([id]);
        all.filter(|id| !self.versions[*id].is_merge()).copied().collect()
    }

    /// Some of the versions, as a replica with a part of the past knows them.
    pub fn part(&self, keep: impl Fn(usize, &VersionId) -> bool) -> Versions {
        let kept = self.order.iter().enumerate().filter(|(at, id)| keep(*at, id));
        kept.map(|(_, id)| (*id, self.versions[id].clone())).collect()
    }
}

fn note() -> NoteId {
    NoteId::from_bytes([7; 32])
}

fn state(number: u64) -> State {
    let text = format!("{number}\n");
    State::Live(Live {
        path: VaultPath::new("a.md").unwrap(),
        kind: Kind::Note,
        content: ContentHash::of_text(&text),
        bytes: text.len() as u64,
        keys: BTreeMap::new(),
        tags: BTreeMap::new(),
    })
}
