//! The heads of a note: the versions that no other known version descends from.
//!
//! Laws: adding versions in any order, repeatedly, gives the same heads; no authored version is
//! ever dropped for anything but a descendant. A merge version adds nothing of its own: one whose
//! parents are all in another head is redundant, and of two such the larger id stays.

use crate::ancestry::{VersionRead, is_ancestor};
use crate::id::VersionId;

/// The heads after `new` became known beside `heads` (sorted). `new` must be readable already.
///
/// # Errors
/// Those of the reader.
pub fn add<R: VersionRead>(
    read: &R,
    heads: &[VersionId],
    new: VersionId,
) -> Result<Vec<VersionId>, R::Error> {
    if heads.contains(&new) {
        return Ok(heads.to_vec());
    }
    let mut kept = Vec::with_capacity(heads.len() + 1);
    let parents = read.version(&new)?.map(|version| version.parents.clone()).unwrap_or_default();
    for head in heads {
        // The common case, an edit of the head itself, needs no walk.
        if parents.contains(head) || is_ancestor(read, head, &new)? {
            continue;
        }
        if is_ancestor(read, &new, head)? {
            return Ok(heads.to_vec());
        }
        kept.push(*head);
    }
    kept.push(new);
    kept.sort_unstable();
    without_redundant_merges(read, kept)
}

fn without_redundant_merges<R: VersionRead>(
    read: &R,
    mut heads: Vec<VersionId>,
) -> Result<Vec<VersionId>, R::Error> {
    let mut at = 0;
    while heads.len() > 1 && at < heads.len() {
        if is_redundant(read, heads[at], &heads)? {
            heads.remove(at);
            at = 0;
        } else {
            at += 1;
        }
    }
    Ok(heads)
}

fn is_redundant<R: VersionRead>(
    read: &R,
    merge: VersionId,
    heads: &[VersionId],
) -> Result<bool, R::Error> {
    for head in heads.iter().filter(|head| **head != merge) {
        if covers(read, *head, merge)? && (!covers(read, merge, *head)? || merge < *head) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether `merge` is a merge version and every parent of it is in `head`.
fn covers<R: VersionRead>(read: &R, head: VersionId, merge: VersionId) -> Result<bool, R::Error> {
    let Some(version) = read.version(&merge)?.filter(|version| version.is_merge()) else {
        return Ok(false);
    };
    for parent in &version.parents {
        if *parent != head && !is_ancestor(read, parent, &head)? {
            // A parent that is not known here can still be a parent of the head.
            let listed = read.version(&head)?.is_some_and(|head| head.parents.contains(parent));
            if !listed {
                return Ok(false);
            }
        }
    }
    Ok(true)
}
