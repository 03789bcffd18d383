//! The OR-Set of a note's tags: add wins over a concurrent remove.
//!
//! A tag in the text stands for a set of dots, one for each time somebody added it; a tag that has
//! no entry in the sparse [`TagDots`] has one implicit dot that all replicas share, because it was
//! there when the note was created. Removing a tag removes the dots that were seen. Law: the merged
//! dots are `(O ∩ T) ∪ (O \ B) ∪ (T \ B)`, which is commutative.

use std::collections::BTreeSet;

use crate::frontmatter::Head;
use crate::limits::TAG_DOTS_MAX;
use crate::list_value::List;
use crate::version::TagDots;
use crate::version_vector::Dot;

/// The key that holds a note's tags.
pub const TAGS_KEY: &str = "tags";

/// The tags of one side: what its text says, with the dots behind it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tagged<'s> {
    pub(crate) list: Option<&'s List<'s>>,
    pub(crate) dots: &'s TagDots,
}

/// The dots of one tag; `None` inside stands for the implicit dot.
type Seen = BTreeSet<Option<Dot>>;

impl Tagged<'_> {
    fn has(&self, tag: &str) -> bool {
        self.list.is_some_and(|list| list.values().any(|value| value == tag))
    }

    fn seen(&self, tag: &str) -> Seen {
        if !self.has(tag) {
            return Seen::new();
        }
        match self.dots.get(tag) {
            Some(dots) if !dots.is_empty() => dots.iter().copied().map(Some).collect(),
            _ => Seen::from([None]),
        }
    }
}

/// Lists the tags in the head, in the order of the file; none if `tags` is not a plain list.
pub fn tags(head: &Head<'_>) -> Vec<String> {
    let list = head.get(TAGS_KEY).and_then(List::of);
    list.map_or_else(Vec::new, |list| list.values().map(str::to_owned).collect())
}

/// Merges the tags of two sides: the tags that stay, with their dots.
pub(crate) fn merge_tags(base: Tagged<'_>, a: Tagged<'_>, b: Tagged<'_>) -> MergedTags {
    let mut merged = MergedTags { tags: BTreeSet::new(), dots: TagDots::new() };
    let all: BTreeSet<&str> =
        [a, b].iter().filter_map(|side| side.list).flat_map(List::values).collect();
    for tag in all {
        let (base, ours, theirs) = (base.seen(tag), a.seen(tag), b.seen(tag));
        let mut seen: Seen = ours.intersection(&theirs).copied().collect();
        seen.extend(ours.difference(&base));
        seen.extend(theirs.difference(&base));
        if seen.is_empty() && !ours.is_empty() && !theirs.is_empty() {
            // Both texts have it; only dots that do not belong together can say otherwise.
            seen.extend(ours.union(&theirs));
        }
        if seen.is_empty() {
            continue;
        }
        merged.tags.insert(tag.to_owned());
        let dots: BTreeSet<Dot> = seen.into_iter().flatten().collect();
        if !dots.is_empty() {
            merged.dots.insert(tag.to_owned(), bounded(dots));
        }
    }
    merged
}

pub(crate) struct MergedTags {
    pub(crate) tags: BTreeSet<String>,
    pub(crate) dots: TagDots,
}

/// Keeps the largest dots where there are more than a version may hold.
pub(crate) fn bounded(dots: BTreeSet<Dot>) -> BTreeSet<Dot> {
    let over = dots.len().saturating_sub(TAG_DOTS_MAX);
    dots.into_iter().skip(over).collect()
}
