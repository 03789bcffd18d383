//! The answering side of a walk: a pure function of a tree and a request.
//!
//! Invariant: an answer covers at least one item of the request, and what it shows for a covered
//! item is everything the asking side needs to go on below it.

use std::collections::BTreeSet;

use crate::id::RootHash;
use crate::merkle::TreeRead;
use crate::merkle::read::root_of;
use crate::merkle::view::View;
use crate::merkle::walk::compare::{Finding, compare};
use crate::merkle::walk::message::{Content, ITEMS_MAX, Item, Position, Summary};
use crate::merkle::walk::message::{WalkAnswer, WalkAsk};
use crate::merkle::walk::show::{Level, Shown};
use crate::merkle::walk::{Broken, WalkError, WalkLimits};

/// Answers `ask` from the tree under `root` (`None`: the empty tree). A caller that still has the
/// tree under `ask.theirs` passes that root; one that has moved on passes its own, and the walk
/// begins again.
///
/// # Errors
/// [`WalkError::Read`], and [`WalkError::Broken`] for a request that no walk makes.
pub fn answer<S: TreeRead>(
    tree: &S,
    root: Option<&RootHash>,
    ask: &WalkAsk,
    limits: &WalkLimits,
) -> Result<WalkAnswer, WalkError<S::Error>> {
    let root_hash = root.copied().unwrap_or_else(RootHash::empty);
    if ask.theirs.is_some_and(|theirs| theirs != root_hash) {
        return Ok(WalkAnswer::Restart { root: root_hash });
    }
    if !ask.items.is_sorted_by(|a, b| a.at < b.at) {
        return Err(Broken::Order.into());
    }
    if ask.mine == root_hash {
        let covered = ask.items.len();
        return Ok(WalkAnswer::Contents { root: root_hash, covered, items: Vec::new() });
    }
    let top = root_of(tree, &root_hash)?;
    let mut answering = Answering {
        tree,
        asked: ask.items.iter().map(|item| &item.at).collect(),
        shown: Shown::new(tree, &top),
        level: Vec::new(),
        missing: Vec::new(),
    };
    let mut covered = 0;
    while covered < ask.items.len()
        && (covered == 0 || answering.shown.bytes() < limits.message_bytes)
        && answering.shown.len() < ITEMS_MAX / 2
    {
        answering.item(&ask.items[covered])?;
        covered += 1;
    }
    let Answering { mut shown, level, missing, .. } = answering;
    shown.fill(missing, limits.message_bytes, ITEMS_MAX / 2)?;
    shown.deepen(level, limits.answer_inline_bytes)?;
    Ok(WalkAnswer::Contents { root: root_hash, covered, items: shown.into_items() })
}

struct Answering<'t, S> {
    tree: &'t S,
    asked: BTreeSet<&'t Position>,
    shown: Shown<'t, S>,
    /// Shown, and the asking side may have some of what is below.
    level: Level,
    /// Shown, and the asking side has nothing of what is below.
    missing: Level,
}

impl<S: TreeRead> Answering<'_, S> {
    fn item(&mut self, Item { at, content: theirs }: &Item) -> Result<(), WalkError<S::Error>> {
        let mine = self.shown.view(at)?;
        match theirs {
            Content::Edits { .. } => return Err(Broken::Unasked.into()),
            Content::Bucket(_) if mine.branch().is_some() => {
                self.show(at.clone(), mine);
                return Ok(());
            }
            Content::Absent | Content::Branch(_) | Content::Bucket(_) => {}
        }
        let (mut entries, mut lacking) = (Vec::new(), Vec::new());
        for finding in compare(self.tree, at, &mine, theirs)? {
            match finding {
                Finding::Deeper(below) => {
                    // What the request shows there is compared when its turn comes.
                    if !self.asked.contains(&below) {
                        let view = self.shown.view(&below)?;
                        self.show(below, view);
                    }
                }
                Finding::MineOnly(below) => {
                    let view = self.shown.view(&below)?;
                    self.shown.put(below.clone(), Content::from(&view));
                    self.missing.push((below, view));
                }
                Finding::Leaf { mine: Some(mine), .. } => entries.push(Summary::from(&mine)),
                Finding::Leaf { mine: None, theirs } => {
                    lacking.extend(theirs.and_then(|theirs| theirs.order().2.copied()));
                }
            }
        }
        if !entries.is_empty() || !lacking.is_empty() {
            lacking.sort_unstable();
            lacking.dedup();
            self.shown.put(at.clone(), Content::Edits { entries, lacking });
        }
        Ok(())
    }

    fn show(&mut self, at: Position, view: View) {
        self.shown.put(at.clone(), Content::from(&view));
        self.level.push((at, view));
    }
}
