//! One position, mine against theirs: the step that both roles of a walk are made of.
//!
//! Invariant: a position with equal leaves below gives no finding, and every leaf that differs is
//! in or below exactly one finding.

use crate::id::{LeafHash, NoteId};
use crate::merkle::TreeRead;
use crate::merkle::diff::pairs;
use crate::merkle::node::{Entry, KEY_DIGITS};
use crate::merkle::read::child;
use crate::merkle::view::{Area, View};
use crate::merkle::walk::message::{Content, Position, Summary};
use crate::merkle::walk::{Broken, WalkError};

/// How two sides differ.
pub(super) enum Finding {
    /// Below here, in a way that needs their content.
    Deeper(Position),
    /// They have nothing here, and this side has something.
    MineOnly(Position),
    /// One note or tombstone of this very bucket; at least one side has it.
    Leaf { mine: Option<Entry>, theirs: Option<Summary> },
}

/// Compares what is at `at` here with what the other side has there.
pub(super) fn compare<S: TreeRead>(
    tree: &S,
    at: &Position,
    mine: &View,
    theirs: &Content,
) -> Result<Vec<Finding>, WalkError<S::Error>> {
    match theirs {
        Content::Absent => Ok(match mine {
            View::Absent => Vec::new(),
            View::Stored(..) | View::Part(_) => vec![Finding::MineOnly(at.clone())],
        }),
        Content::Branch(_) if at.depth() >= KEY_DIGITS => Err(Broken::Path.into()),
        Content::Branch(theirs) => {
            let mine = mine.child_tags(at.depth());
            let pairs = mine.iter().zip(theirs.iter()).enumerate();
            Ok(pairs
                .filter(|(_, (mine, theirs))| mine != theirs)
                .map(|(digit, (_, theirs))| match theirs {
                    Some(_) => Finding::Deeper(at.child(digit)),
                    None => Finding::MineOnly(at.child(digit)),
                })
                .collect())
        }
        Content::Bucket(theirs) => {
            let mine = mine.all_entries(tree)?;
            let pairs = pairs(&mine, theirs, Entry::order, Summary::order);
            let findings = pairs.into_iter().map(|pair| compare_entries(&at.area, pair));
            findings.filter_map(Result::transpose).collect()
        }
        Content::Edits { entries, lacking } => {
            let mine = mine.entries().ok_or(Broken::Unasked)?;
            edits(mine, entries, lacking).map_err(WalkError::Broken)
        }
    }
}

type Pair<'p> = (Option<&'p Entry>, Option<&'p Summary>);

fn compare_entries<E: std::error::Error>(
    area: &Area,
    pair: Pair<'_>,
) -> Result<Option<Finding>, WalkError<E>> {
    let folder = |name: &str| -> Result<Position, WalkError<E>> {
        let folder = child(area.folder(), name).map_err(|_| Broken::Path)?;
        Ok(Position::top(Area::Folder(Some(folder))))
    };
    if let (Some(mine), Some(theirs)) = pair
        && Summary::from(mine).tag() == theirs.tag()
    {
        return Ok(None);
    }
    Ok(Some(match pair {
        (_, Some(Summary::Dir { name, .. })) => Finding::Deeper(folder(name)?),
        (Some(Entry::Dir { name, .. }), _) => Finding::MineOnly(folder(name)?),
        (mine, theirs) => Finding::Leaf { mine: mine.cloned(), theirs: theirs.cloned() },
    }))
}

fn edits(mine: &[Entry], entries: &[Summary], lacking: &[NoteId]) -> Result<Vec<Finding>, Broken> {
    let mut findings = Vec::with_capacity(entries.len() + lacking.len());
    for theirs in entries {
        let found = mine.binary_search_by(|entry| entry.order().cmp(&theirs.order()));
        let mine = found.ok().map(|at| mine[at].clone());
        if mine.as_ref().is_some_and(|mine| Summary::from(mine) == *theirs) {
            return Err(Broken::Unasked);
        }
        findings.push(Finding::Leaf { mine, theirs: Some(theirs.clone()) });
    }
    for note in lacking {
        let mine = mine.iter().find(|entry| leaf_of(entry).is_some_and(|leaf| leaf.0 == *note));
        let mine = Some(mine.ok_or(Broken::Unasked)?.clone());
        findings.push(Finding::Leaf { mine, theirs: None });
    }
    Ok(findings)
}

/// The note and leaf of an entry that is no folder.
pub(super) fn leaf_of(entry: &Entry) -> Option<(NoteId, LeafHash)> {
    match entry {
        Entry::Note { note, leaf, .. } | Entry::Gone { note, leaf } => Some((*note, *leaf)),
        Entry::Dir { .. } => None,
    }
}
