//! Which vanished file became which new one. Pure.
//!
//! Sure signs first: the same inode with the same bytes, then the same bytes (best under the same
//! name), then the same inode with similar text, then similar text. A pair needs a sign; a reused
//! inode alone is none, because file systems give the numbers of removed files to new ones.

use std::collections::BTreeMap;

use crucible_core::hash::ContentHash;
use crucible_core::text_diff;
use crucible_core::version::Kind;
use crucible_vault::fs::file_name;

/// Texts are compared only while there are at most this many pairs of them.
const SIMILAR_PAIRS_MAX: usize = 4_096;
/// The part of the longer text that has to be shared, in percent.
const SIMILAR_PERCENT: usize = 50;
/// The same with the same inode.
const SIMILAR_PERCENT_SAME_INODE: usize = 25;
/// Texts that share less than this are not the same text, whatever part of them that is: half of
/// two letters is one letter.
const SHARED_BYTES_MIN: usize = 12;
/// Longest text that is compared, in bytes.
const SIMILAR_BYTES_MAX: usize = 1 << 20;

/// A file that is not where it was.
#[derive(Debug, Clone, Copy)]
pub struct Vanished<'a> {
    /// Where it was.
    pub path: &'a str,
    /// Its bytes then.
    pub content: ContentHash,
    /// Note or asset.
    pub kind: Kind,
    /// Its inode then.
    pub inode: u64,
}

/// A file nobody knew.
#[derive(Debug, Clone, Copy)]
pub struct Appeared<'a> {
    /// Where it is.
    pub path: &'a str,
    /// Its bytes.
    pub content: ContentHash,
    /// Note or asset.
    pub kind: Kind,
    /// Its inode.
    pub inode: u64,
}

/// Pairs vanished files (by index) with new ones (by index). `text` gives a vanished note's old
/// text, or a new note's text, by content hash and index.
pub fn pair(
    vanished: &[Vanished<'_>],
    appeared: &[Appeared<'_>],
    mut old_text: impl FnMut(usize) -> Option<String>,
    mut new_text: impl FnMut(usize) -> Option<String>,
) -> Vec<(usize, usize)> {
    let mut pairing = Pairing {
        left: vec![true; vanished.len()],
        free: vec![true; appeared.len()],
        pairs: Vec::new(),
    };
    let mut by_content: BTreeMap<ContentHash, Vec<usize>> = BTreeMap::new();
    for (index, file) in appeared.iter().enumerate() {
        by_content.entry(file.content).or_default().push(index);
    }
    let same_name = |v: &Vanished<'_>, a: &Appeared<'_>| file_name(v.path) == file_name(a.path);
    type Sign = fn(&Vanished<'_>, &Appeared<'_>, bool) -> bool;
    let signs: [Sign; 3] =
        [|v, a, _| v.inode == a.inode, |_, _, same_name| same_name, |_, _, _| true];
    for sign in signs {
        for (old, file) in vanished.iter().enumerate() {
            for &new in by_content.get(&file.content).into_iter().flatten() {
                let other = &appeared[new];
                if other.kind == file.kind && sign(file, other, same_name(file, other)) {
                    pairing.take(old, new);
                }
            }
        }
    }
    let left: Vec<usize> = pairing.open(vanished.len(), |p, i| p.left[i], |i| vanished[i].kind);
    let free: Vec<usize> = pairing.open(appeared.len(), |p, i| p.free[i], |i| appeared[i].kind);
    if left.is_empty() || free.is_empty() || left.len() * free.len() > SIMILAR_PAIRS_MAX {
        return pairing.pairs;
    }
    let old_texts: Vec<_> = left.iter().map(|&i| (i, old_text(i))).collect();
    let new_texts: Vec<_> = free.iter().map(|&i| (i, new_text(i))).collect();
    let mut scored = Vec::new();
    for (old, before) in &old_texts {
        for (new, after) in &new_texts {
            let (Some(before), Some(after)) = (before, after) else { continue };
            let same_inode = vanished[*old].inode == appeared[*new].inode;
            let needed = if same_inode { SIMILAR_PERCENT_SAME_INODE } else { SIMILAR_PERCENT };
            let percent = similarity(before, after);
            if percent >= needed {
                scored.push((std::cmp::Reverse((same_inode, percent)), *old, *new));
            }
        }
    }
    scored.sort_unstable();
    for (_, old, new) in scored {
        pairing.take(old, new);
    }
    pairing.pairs
}

struct Pairing {
    left: Vec<bool>,
    free: Vec<bool>,
    pairs: Vec<(usize, usize)>,
}

impl Pairing {
    fn take(&mut self, old: usize, new: usize) {
        if self.left[old] && self.free[new] {
            self.left[old] = false;
            self.free[new] = false;
            self.pairs.push((old, new));
        }
    }

    fn open(
        &self,
        count: usize,
        is_open: impl Fn(&Self, usize) -> bool,
        kind: impl Fn(usize) -> Kind,
    ) -> Vec<usize> {
        (0..count).filter(|&i| is_open(self, i) && kind(i) == Kind::Note).collect()
    }
}

/// How much of the longer text the two share, in percent.
fn similarity(before: &str, after: &str) -> usize {
    let longer = before.len().max(after.len());
    let shorter = before.len().min(after.len());
    if longer == 0
        || longer > SIMILAR_BYTES_MAX
        || shorter * 100 < longer * SIMILAR_PERCENT_SAME_INODE
    {
        return 0;
    }
    let inserted: usize = text_diff::edits(before, after).iter().map(|edit| edit.text.len()).sum();
    let shared = after.len() - inserted.min(after.len());
    if shared < SHARED_BYTES_MIN {
        return 0;
    }
    shared * 100 / longer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vanished<'a>(path: &'a str, text: &str, inode: u64) -> Vanished<'a> {
        Vanished { path, content: ContentHash::of_text(text), kind: Kind::Note, inode }
    }

    fn appeared<'a>(path: &'a str, text: &str, inode: u64) -> Appeared<'a> {
        Appeared { path, content: ContentHash::of_text(text), kind: Kind::Note, inode }
    }

    const A: &str = "# A\n\nSome words that stay the same through all of this.\n";
    const B: &str = "# B\n\nEntirely other content of a different note altogether.\n";

    fn paired(old: &[(&str, &str, u64)], new: &[(&str, &str, u64)]) -> Vec<(String, String)> {
        let gone: Vec<_> = old.iter().map(|(p, t, i)| vanished(p, t, *i)).collect();
        let came: Vec<_> = new.iter().map(|(p, t, i)| appeared(p, t, *i)).collect();
        let text = |list: &[(&str, &str, u64)], i: usize| Some(list[i].1.to_owned());
        pair(&gone, &came, |i| text(old, i), |i| text(new, i))
            .into_iter()
            .map(|(o, n)| (old[o].0.to_owned(), new[n].0.to_owned()))
            .collect()
    }

    fn one(from: &str, to: &str) -> Vec<(String, String)> {
        vec![(from.to_owned(), to.to_owned())]
    }

    #[test]
    fn equal_bytes_are_a_rename() {
        assert_eq!(paired(&[("a.md", A, 1)], &[("b.md", A, 9)]), one("a.md", "b.md"));
    }

    #[test]
    fn of_equal_files_the_one_with_the_same_inode_or_name_is_meant() {
        let new = [("x/b.md", A, 7), ("x/a.md", A, 8), ("c.md", A, 1)];
        assert_eq!(paired(&[("a.md", A, 1)], &new), one("a.md", "c.md"));
        assert_eq!(paired(&[("a.md", A, 5)], &new), one("a.md", "x/a.md"));
    }

    #[test]
    fn a_file_renamed_and_edited_at_once_is_found_by_its_text() {
        let edited = A.replace("same", "very same");
        assert_eq!(paired(&[("a.md", A, 1)], &[("b.md", &edited, 2)]), one("a.md", "b.md"));
    }

    #[test]
    fn a_reused_inode_is_no_rename() {
        assert_eq!(paired(&[("a.md", A, 1)], &[("b.md", B, 1)]), []);
    }

    #[test]
    fn short_notes_are_not_one_because_both_end_a_line() {
        assert_eq!(paired(&[("a.md", "a\n", 1)], &[("c.md", "c\n", 1)]), []);
    }
}
