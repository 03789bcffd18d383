//! Heads that stand in a text without being its head: below a line that was pasted above them,
//! without their closing line while somebody types, below another head.
//!
//! Invariant: where none is found, no key of a head comes out twice, once in a head and once as a
//! plain line below it. Start reading at [`has_stray_head`].

use std::collections::{BTreeMap, BTreeSet};

use crate::frontmatter::{Frontmatter, is_opening, key_of_line};
use crate::lines::lines;

/// One text with its head taken off.
pub(super) type Parted<'p, 't> = (&'p Frontmatter<'t>, &'t str);

/// Tells whether the head of one of the texts stands as plain lines in another of them.
///
/// It does if at least half of the keys that the other's head lacks begin more lines there than in
/// the body below the head. In texts that have no common base, and below another head, one of these
/// lines has to follow a `---`, since plain text has lines like `Note: this` as well.
///
/// Symmetric in the order of the sides; linear in their length.
pub(super) fn has_stray_head(
    base: Option<Parted<'_, '_>>,
    winner: Parted<'_, '_>,
    loser: Parted<'_, '_>,
) -> bool {
    let is_related = base.is_some();
    let texts: Vec<Parted<'_, '_>> = base.into_iter().chain([winner, loser]).collect();
    let pairs = || texts.iter().flat_map(|text| texts.iter().map(move |other| (text, other)));
    let lacks =
        |&(text, other): &(&Parted<'_, '_>, &Parted<'_, '_>)| !lacking(text.0, other.0).is_empty();
    pairs().filter(lacks).any(|((head, below), (other, body))| {
        let lacking = lacking(head, other);
        let (there, below) = (KeyLines::of(body), KeyLines::of(below));
        let is_stray = |key: &&&str| there.count(key) > below.count(key);
        let stray: Vec<&&str> = lacking.iter().filter(is_stray).collect();
        let known = is_related && **other == Frontmatter::Absent;
        2 * stray.len() >= lacking.len()
            && (known || stray.into_iter().any(|key| there.opening.contains(*key)))
    })
}

/// Lists the keys of one head that another does not have.
fn lacking<'h>(head: &'h Frontmatter<'_>, other: &Frontmatter<'_>) -> Vec<&'h str> {
    let there: BTreeSet<&str> = keys(other).collect();
    keys(head).filter(|key| !there.contains(key)).collect()
}

fn keys<'h>(head: &'h Frontmatter<'_>) -> impl Iterator<Item = &'h str> {
    let entries = match head {
        Frontmatter::Keys(head) => head.entries.as_slice(),
        Frontmatter::Absent | Frontmatter::Opaque => &[],
    };
    entries.iter().map(|entry| entry.key.as_str())
}

/// The lines of a body that would begin an entry in a head.
struct KeyLines {
    /// How many there are of each key.
    counts: BTreeMap<String, usize>,
    /// The keys right below a line `---`.
    opening: BTreeSet<String>,
}

impl KeyLines {
    fn of(body: &str) -> Self {
        let mut found = Self { counts: BTreeMap::new(), opening: BTreeSet::new() };
        let mut opens = false;
        for line in lines(body) {
            if let Some(key) = key_of_line(line) {
                *found.counts.entry(key.clone()).or_default() += 1;
                if opens {
                    found.opening.insert(key);
                }
            }
            opens = is_opening(line);
        }
        found
    }

    fn count(&self, key: &str) -> usize {
        self.counts.get(key).copied().unwrap_or(0)
    }
}
