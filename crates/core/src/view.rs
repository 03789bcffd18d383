//! `view(heads)`: one record of several heads; a pure and symmetric function of them.
//!
//! Laws: the order of heads does not matter; one head is its own view; every head's words are in
//! the view or in a [`Choice`]. The table of what wins is docs/merge.md.

use std::sync::Arc;

use crate::ancestry::{VersionRead, is_ancestor, is_cut_short, merge_bases};
use crate::conflict::{Clash, Conflict};
use crate::hash::ContentHash;
use crate::id::{NoteId, VersionId};
use crate::limits::{MERGE_BASE_DEPTH_MAX, NOTE_BYTES_MAX};
use crate::note_merge::{NoteMerge, NoteSide, merge_note};
use crate::text_merge::{self, Overlap};
use crate::timestamp::Stamp;
use crate::vault_path::VaultPath;
use crate::version::{Author, KeyStamps, Kind, Live, State, TagDots, Version};
use crate::version_vector::VersionVector;

/// The version of the merge algorithm, part of every merge version. Another number may merge
/// otherwise; replicas that run different releases still converge (the larger id stays).
pub const ALGORITHM: u16 = 2;

/// Versions and their texts.
pub trait Source: VersionRead {
    /// The text of a note by its hash, `None` where it is not kept here.
    fn text(&self, content: &ContentHash) -> Result<Option<Arc<str>>, Self::Error>;
    /// Known versions of `note` that have exactly this content, newest first.
    fn with_content(
        &self,
        note: &NoteId,
        content: &ContentHash,
    ) -> Result<Vec<VersionId>, Self::Error>;
}

/// What overlap does at a path: the vault's policy.
pub type Policy<'p> = &'p dyn Fn(&VaultPath) -> Overlap;

/// One thing a merge had to choose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// What the two had in common.
    pub base: Option<VersionId>,
    /// Whose side is in the view.
    pub winner: VersionId,
    /// Whose side is set aside.
    pub loser: VersionId,
    /// Over what.
    pub clash: Clash,
}

/// The view over some heads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// The state of the note.
    pub state: State,
    /// Its text when no head has that content already.
    pub text: Option<Arc<str>>,
    /// What had to be chosen.
    pub choices: Vec<Choice>,
}

/// A view, or what is not known here and would be needed for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome<T> {
    /// Made.
    Made(T),
    /// The text of this content, or the version of this id, is not here: whoever has it merges.
    Lacking,
}

/// Merges `heads` (two or more, all known here).
///
/// # Errors
/// Those of the source.
pub fn view<S: Source>(
    source: &S,
    heads: &[VersionId],
    policy: Policy<'_>,
) -> Result<Outcome<View>, S::Error> {
    let mut choices = Vec::new();
    let side = match fold(source, heads, policy, &mut choices, 0)? {
        Outcome::Made(side) => side,
        Outcome::Lacking => return Ok(Outcome::Lacking),
    };
    let text = match side.text {
        Some(text) if !is_content_of_a_head(source, heads, &side.state)? => Some(text),
        _ => None,
    };
    Ok(Outcome::Made(View { state: side.state, text, choices }))
}

/// The merge version over `heads`, the same on every replica that makes it from the same view.
///
/// # Errors
/// Those of the source. `None` when a head is not known here.
pub fn merge_version<S: VersionRead>(
    source: &S,
    heads: &[VersionId],
    state: State,
) -> Result<Option<Version>, S::Error> {
    let mut parents = heads.to_vec();
    parents.sort_unstable();
    parents.dedup();
    let mut clock = VersionVector::new();
    let mut newest: Option<(Stamp, NoteId)> = None;
    for id in &parents {
        let Some(head) = source.version(id)? else { return Ok(None) };
        clock = clock.join(&head.clock);
        newest = newest.max(Some((head.stamp, head.note)));
    }
    Ok(newest.map(|(stamp, note)| Version {
        note,
        parents,
        clock,
        stamp: stamp.just_above(),
        author: Author::Merge(ALGORITHM),
        state,
    }))
}

/// The conflict records of a merge version, in the order of its choices.
pub fn conflicts(merge: &VersionId, version: &Version, choices: &[Choice]) -> Vec<Conflict> {
    let Some(path) = version.path() else { return Vec::new() };
    choices
        .iter()
        .zip(0..)
        .map(|(choice, index)| Conflict {
            id: Conflict::derive_id(merge, index),
            note: version.note,
            path: path.clone(),
            merge: *merge,
            base: choice.base,
            winner: choice.winner,
            loser: choice.loser,
            stamp: version.stamp,
            clash: choice.clash.clone(),
        })
        .collect()
}

/// A version, or the virtual merge of several.
#[derive(Clone)]
struct Side {
    /// The versions it stands for.
    ids: Vec<VersionId>,
    /// Decides between concurrent sides.
    rank: (Stamp, VersionId),
    note: NoteId,
    state: State,
    /// Set where a merge made new text.
    text: Option<Arc<str>>,
}

impl Side {
    fn of(id: VersionId, version: &Version) -> Self {
        Self {
            ids: vec![id],
            rank: (version.stamp, id),
            note: version.note,
            state: version.state.clone(),
            text: None,
        }
    }
}

fn is_content_of_a_head<S: Source>(
    source: &S,
    heads: &[VersionId],
    state: &State,
) -> Result<bool, S::Error> {
    let content = state.live().map(|live| live.content);
    for id in heads {
        let head = source.version(id)?;
        if head.is_some_and(|head| head.live().map(|live| live.content) == content) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn fold<S: Source>(
    source: &S,
    ids: &[VersionId],
    policy: Policy<'_>,
    choices: &mut Vec<Choice>,
    depth: usize,
) -> Result<Outcome<Side>, S::Error> {
    let mut sides = Vec::with_capacity(ids.len());
    for id in ids {
        let Some(version) = source.version(id)? else { return Ok(Outcome::Lacking) };
        sides.push(Side::of(*id, &version));
    }
    sides.sort_by_key(|side| side.rank);
    let mut sides = sides.into_iter();
    let mut merged = sides.next().expect("a view has at least one head");
    for side in sides {
        let base = match base_of(source, &merged, &side, depth)? {
            Outcome::Made(base) => base,
            Outcome::Lacking => return Ok(Outcome::Lacking),
        };
        let mut merge = ThreeWay { source, policy, base: base.as_ref(), choices };
        merged = match merge.sides(&merged, &side)? {
            Outcome::Made(side) => side,
            Outcome::Lacking => return Ok(Outcome::Lacking),
        };
    }
    Ok(Outcome::Made(merged))
}

/// What both started from: the nearest common ancestor, the merge of several, or, where ancestry
/// has none, a version of one side's past that has exactly the other side's content (a folder
/// that was once in step and lost its sync state).
fn base_of<S: Source>(
    source: &S,
    ours: &Side,
    theirs: &Side,
    depth: usize,
) -> Result<Outcome<Option<Side>>, S::Error> {
    let mut bases = merge_bases(source, &ours.ids, &theirs.ids)?;
    if bases.is_empty() {
        bases.extend(base_by_content(source, ours, theirs)?);
    }
    if depth >= MERGE_BASE_DEPTH_MAX {
        let mut newest = None;
        for id in bases {
            newest = newest.max(source.version(&id)?.map(|version| (version.stamp, id)));
        }
        bases = newest.into_iter().map(|(_, id)| id).collect();
    }
    if bases.is_empty() {
        // An empty base would keep both texts in full; who knows the versions in between merges.
        let lacking = is_cut_short(source, &ours.ids, &theirs.ids)?;
        return Ok(if lacking { Outcome::Lacking } else { Outcome::Made(None) });
    }
    let virtual_policy = |_: &VaultPath| Overlap::Lww;
    Ok(match fold(source, &bases, &virtual_policy, &mut Vec::new(), depth + 1)? {
        Outcome::Made(side) => Outcome::Made(Some(side)),
        Outcome::Lacking => Outcome::Lacking,
    })
}

fn base_by_content<S: Source>(
    source: &S,
    ours: &Side,
    theirs: &Side,
) -> Result<Option<VersionId>, S::Error> {
    for (side, other) in [(ours, theirs), (theirs, ours)] {
        let Some(live) = side.state.live() else { continue };
        for id in source.with_content(&side.note, &live.content)? {
            for head in &other.ids {
                if is_ancestor(source, &id, head)? {
                    return Ok(Some(id));
                }
            }
        }
    }
    Ok(None)
}

/// A live state, and its text where a merge made it.
type MergedLive = (Live, Option<Arc<str>>);

struct ThreeWay<'m, S> {
    source: &'m S,
    policy: Policy<'m>,
    base: Option<&'m Side>,
    choices: &'m mut Vec<Choice>,
}

impl<S: Source> ThreeWay<'_, S> {
    fn sides(&mut self, ours: &Side, theirs: &Side) -> Result<Outcome<Side>, S::Error> {
        let (state, text) = match (&ours.state, &theirs.state) {
            (State::Deleted, State::Deleted) => (State::Deleted, None),
            (State::Live(live), State::Deleted) => self.against_delete(ours, live, theirs),
            (State::Deleted, State::Live(live)) => self.against_delete(theirs, live, ours),
            (State::Live(a), State::Live(b)) => match self.live(ours, a, theirs, b)? {
                Outcome::Made((live, text)) => (State::Live(live), text),
                Outcome::Lacking => return Ok(Outcome::Lacking),
            },
        };
        let mut ids = [ours.ids.clone(), theirs.ids.clone()].concat();
        ids.sort_unstable();
        ids.dedup();
        let rank = ours.rank.max(theirs.rank);
        Ok(Outcome::Made(Side { ids, rank, note: ours.note, state, text }))
    }

    fn choose(&mut self, winner: &Side, loser: &Side, clash: Clash) {
        self.choices.push(Choice {
            base: self.base.map(|base| base.rank.1),
            winner: winner.rank.1,
            loser: loser.rank.1,
            clash,
        });
    }

    /// A delete stands only where the other side changed nothing.
    fn against_delete(
        &mut self,
        side: &Side,
        live: &Live,
        deleted: &Side,
    ) -> (State, Option<Arc<str>>) {
        let untouched = self.base.and_then(|base| base.state.live()).is_some_and(|base| {
            base.path == live.path && base.content == live.content && base.kind == live.kind
        });
        if untouched {
            return (State::Deleted, None);
        }
        self.choose(side, deleted, Clash::EditOverDelete);
        (State::Live(live.clone()), side.text.clone())
    }

    fn live(
        &mut self,
        ours: &Side,
        a: &Live,
        theirs: &Side,
        b: &Live,
    ) -> Result<Outcome<MergedLive>, S::Error> {
        let path = self.path(ours, &a.path, theirs, &b.path);
        let base = self.base.and_then(|base| base.state.live().map(|live| (base, live)));
        let unchanged = |live: &Live| {
            base.is_some_and(|(_, base)| base.content == live.content && base.kind == live.kind)
        };
        if a.content == b.content && a.kind == b.kind {
            let keys = join_stamps(&a.keys, &b.keys);
            let tags = join_dots(&a.tags, &b.tags);
            let text = ours.text.clone().or_else(|| theirs.text.clone());
            return Ok(Outcome::Made((Live { path, keys, tags, ..a.clone() }, text)));
        }
        if unchanged(a) {
            return Ok(Outcome::Made((Live { path, ..b.clone() }, theirs.text.clone())));
        }
        if unchanged(b) {
            return Ok(Outcome::Made((Live { path, ..a.clone() }, ours.text.clone())));
        }
        if a.kind == Kind::Note && b.kind == Kind::Note {
            return self.notes(path, (ours, a), (theirs, b));
        }
        Ok(Outcome::Made(self.whole(path, (ours, a), (theirs, b))))
    }

    /// One side's bytes, the other's in a record.
    fn whole(
        &mut self,
        path: VaultPath,
        (ours, a): (&Side, &Live),
        (theirs, b): (&Side, &Live),
    ) -> MergedLive {
        let ours_win = ours.rank > theirs.rank;
        let (winner, live, loser) = if ours_win { (ours, a, theirs) } else { (theirs, b, ours) };
        self.choose(winner, loser, Clash::Content);
        (Live { path, ..live.clone() }, winner.text.clone())
    }

    fn path(&mut self, ours: &Side, a: &VaultPath, theirs: &Side, b: &VaultPath) -> VaultPath {
        let base = self.base.and_then(|base| base.state.live()).map(|live| &live.path);
        if a == b || base == Some(b) {
            return a.clone();
        }
        if base == Some(a) {
            return b.clone();
        }
        let ours_win = ours.rank > theirs.rank;
        let (winner, path, loser, lost) =
            if ours_win { (ours, a, theirs, b) } else { (theirs, b, ours, a) };
        self.choose(winner, loser, Clash::Path { loser: lost.clone() });
        path.clone()
    }

    fn notes(
        &mut self,
        path: VaultPath,
        (ours, a): (&Side, &Live),
        (theirs, b): (&Side, &Live),
    ) -> Result<Outcome<MergedLive>, S::Error> {
        let base = match self.base.and_then(|base| base.state.live().map(|live| (base, live))) {
            Some((base, live)) if live.kind == Kind::Note => Some((base, live)),
            _ => None,
        };
        let (Some(a_text), Some(b_text)) = (self.text(ours, a)?, self.text(theirs, b)?) else {
            return Ok(Outcome::Lacking);
        };
        let base_text = match base {
            Some((side, live)) => match self.text(side, live)? {
                Some(text) => Some(text),
                None => return Ok(Outcome::Lacking),
            },
            None => None,
        };
        let base_side = base
            .zip(base_text.as_deref())
            .map(|((side, live), text)| note_side(text, live, side.rank));
        let NoteMerge { text, keys, tags, conflicts } = merge_note(
            base_side.as_ref(),
            &note_side(&a_text, a, ours.rank),
            &note_side(&b_text, b, theirs.rank),
            (self.policy)(&path),
        );
        // Two texts kept whole can be more than a note may be; such a one could not travel.
        if text.len() as u64 > NOTE_BYTES_MAX {
            return Ok(Outcome::Made(self.whole(path, (ours, a), (theirs, b))));
        }
        for (won, clash) in conflicts {
            match won {
                text_merge::Side::Ours => self.choose(ours, theirs, clash),
                text_merge::Side::Theirs => self.choose(theirs, ours, clash),
            }
        }
        let live = Live {
            path,
            kind: Kind::Note,
            content: ContentHash::of_text(&text),
            bytes: text.len() as u64,
            keys,
            tags,
        };
        Ok(Outcome::Made((live, Some(text.into()))))
    }

    fn text(&self, side: &Side, live: &Live) -> Result<Option<Arc<str>>, S::Error> {
        match &side.text {
            Some(text) => Ok(Some(text.clone())),
            None => self.source.text(&live.content),
        }
    }
}

fn note_side<'t>(text: &'t str, live: &'t Live, rank: (Stamp, VersionId)) -> NoteSide<'t> {
    NoteSide { text, keys: &live.keys, tags: &live.tags, rank }
}

fn join_stamps(a: &KeyStamps, b: &KeyStamps) -> KeyStamps {
    let mut joined = a.clone();
    for (key, stamp) in b {
        joined.entry(key.clone()).and_modify(|s| *s = (*s).max(*stamp)).or_insert(*stamp);
    }
    joined
}

fn join_dots(a: &TagDots, b: &TagDots) -> TagDots {
    let mut joined = a.clone();
    for (tag, dots) in b {
        joined.entry(tag.clone()).or_default().extend(dots);
    }
    joined
}
