//! List-valued frontmatter keys as sets that keep their order and style.
//!
//! Invariant: a merged list is written in the style of one of the sides, items that were there keep
//! their bytes, and an item is in it exactly if the caller said so. Lists with comments, nested
//! brackets or blank lines inside are not understood here; their key is merged whole.

use std::collections::BTreeSet;

use crate::frontmatter::{Entry, scalar};
use crate::lines::{end_of, is_blank, lines, without_end};

/// A list under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct List<'t> {
    style: Style<'t>,
    items: Vec<Item<'t>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Item<'t> {
    /// What tells it apart.
    value: String,
    /// Its bytes: between brackets without the space around it, in a block without the dash.
    raw: &'t str,
    /// A scalar on one line, which can be written in either style.
    plain: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style<'t> {
    /// Nothing behind the colon: an empty list of no style.
    Null { entry: &'t str },
    /// `[a, b]`: what stands before, between and after the items.
    Flow { before: &'t str, between: &'t str, after: &'t str },
    /// Lines of `- a`: the lines before the items, the indent of a dash, what ends a line.
    Block { before: &'t str, indent: &'t str, end: &'t str },
}

impl<'t> List<'t> {
    /// Reads the list under a key, `None` if the value is not one that is understood.
    pub(crate) fn of(entry: &Entry<'t>) -> Option<Self> {
        let value = entry.value();
        let first = lines(value).next().unwrap_or("");
        let inline = without_end(first).trim_matches([' ', '\t']);
        if inline.starts_with('[') {
            return flow(entry.text, entry.value_at);
        }
        if !inline.is_empty() && !inline.starts_with('#') {
            return None;
        }
        let before_len = entry.value_at + first.len();
        block(&entry.text[..before_len], &entry.text[before_len..])
    }

    /// The values in their order.
    pub(crate) fn values(&self) -> impl Iterator<Item = &str> {
        self.items.iter().map(|item| item.value.as_str())
    }

    /// Tells whether the two are written in the same kind of style.
    fn is_styled_like(&self, other: &Self) -> bool {
        matches!(
            (self.style, other.style),
            (Style::Null { .. }, Style::Null { .. })
                | (Style::Flow { .. }, Style::Flow { .. })
                | (Style::Block { .. }, Style::Block { .. })
        )
    }

    /// Writes an item of `self` into a list of this style.
    fn render(&self, item: &Item<'_>, style: Style<'_>) -> Option<String> {
        match (self.style, style) {
            (Style::Flow { .. }, Style::Flow { .. }) => Some(item.raw.to_owned()),
            (Style::Block { indent: from, .. }, Style::Block { indent: to, .. }) => {
                (item.plain || from == to).then(|| item.raw.to_owned())
            }
            (_, Style::Flow { .. }) => {
                let raw = item.raw.trim_matches(' ');
                let bare = !raw.contains([',', '[', ']', '{', '}', '#', ':']);
                let written = if bare || raw.starts_with(['\'', '"']) {
                    raw.to_owned()
                } else {
                    format!("'{}'", item.value.replace('\'', "''"))
                };
                item.plain.then_some(written)
            }
            (_, Style::Block { .. }) => item.plain.then(|| format!(" {}", item.raw)),
            (_, Style::Null { .. }) => None,
        }
    }
}

/// Merges two lists into the text of the key's entry: the items that `keeps` names, in the order
/// and style of the winner, or of the loser if only that changed the style.
///
/// `None` if an item cannot be written in that style.
pub(crate) fn merge_lists(
    base: Option<&List<'_>>,
    winner: &List<'_>,
    loser: &List<'_>,
    keeps: impl Fn(&str) -> bool,
) -> Option<String> {
    let null = |list: &List<'_>| matches!(list.style, Style::Null { .. });
    let restyled =
        base.is_some_and(|base| winner.is_styled_like(base) && !loser.is_styled_like(base));
    let (first, second) =
        if null(winner) || (restyled && !null(loser)) { (loser, winner) } else { (winner, loser) };
    let own: BTreeSet<&str> = first.values().collect();
    let mut merged: Vec<(&str, String)> = Vec::new();
    for item in first.items.iter().filter(|item| keeps(&item.value)) {
        merged.push((&item.value, item.raw.to_owned()));
    }
    let mut previous: Option<&str> = None;
    let mut added = BTreeSet::new();
    for item in second.items.iter().filter(|item| keeps(&item.value)) {
        if !own.contains(item.value.as_str()) && added.insert(item.value.as_str()) {
            let at = previous.and_then(|value| merged.iter().position(|(v, _)| *v == value));
            let written = second.render(item, first.style)?;
            merged.insert(at.map_or(0, |at| at + 1), (&item.value, written));
        }
        previous = Some(&item.value);
    }
    let items: Vec<String> = merged.into_iter().map(|(_, written)| written).collect();
    Some(write(first.style, &items))
}

fn write(style: Style<'_>, items: &[String]) -> String {
    match style {
        Style::Null { entry } => entry.to_owned(),
        Style::Flow { before, between, after } => {
            format!("{before}{}{after}", items.join(between))
        }
        Style::Block { before, indent, end } => {
            let mut text = before.to_owned();
            for item in items {
                text.push_str(indent);
                text.push('-');
                text.push_str(item);
                if end_of(item).is_empty() {
                    text.push_str(end);
                }
            }
            text
        }
    }
}

/// Reads `[a, b]`; the reader of the head made sure that brackets and quotes are closed.
fn flow(text: &str, value_at: usize) -> Option<List<'_>> {
    let open = value_at + text[value_at..].find('[')? + 1;
    let (pieces, close) = flow_items(text, open)?;
    let mut items = Vec::new();
    // Where each item's bytes begin and end.
    let mut spans = Vec::new();
    let mut at = open;
    for piece in pieces {
        let raw = piece.trim_matches([' ', '\t', '\n', '\r']);
        let start = at + piece.find(raw).unwrap_or(0);
        at += piece.len() + 1;
        if raw.is_empty() {
            if at <= close {
                return None;
            }
            continue;
        }
        items.push(Item { value: scalar_of(raw)?, raw, plain: true });
        spans.push(start..start + raw.len());
    }
    let (first, last) = (spans.first(), spans.last());
    let before = &text[..first.map_or(open, |span| span.start)];
    let after = &text[last.map_or(close, |span| span.end)..];
    let between = match spans.as_slice() {
        [first, second, ..] => &text[first.end..second.start],
        _ => ", ",
    };
    Some(List { style: Style::Flow { before, between, after }, items })
}

fn scalar_of(raw: &str) -> Option<String> {
    if raw.starts_with(['"', '\'']) {
        return scalar(raw);
    }
    let whole = !raw.contains(['\n', '\r', '#']) && !raw.contains(": ") && !raw.ends_with(':');
    whole.then(|| raw.to_owned())
}

/// What stands between the commas of a list without nested brackets, and the offset of the bracket
/// that closes it; commas and brackets in quotes are none.
fn flow_items(text: &str, open: usize) -> Option<(Vec<&str>, usize)> {
    let mut pieces = Vec::new();
    let mut start = open;
    let mut quote = None;
    let mut fresh = true;
    let mut escaped = false;
    for (at, c) in text[open..].char_indices() {
        let at = open + at;
        match quote {
            Some('"') if escaped => escaped = false,
            Some('"') if c == '\\' => escaped = true,
            Some(q) if c == q => quote = None,
            Some(_) => {}
            None if fresh && matches!(c, '"' | '\'') => quote = Some(c),
            None if matches!(c, '[' | '{' | '}') => return None,
            None if matches!(c, ',' | ']') => {
                pieces.push(&text[start..at]);
                start = at + 1;
                if c == ']' {
                    return Some((pieces, at));
                }
            }
            None => {}
        }
        fresh = c == ',' || (fresh && matches!(c, ' ' | '\t' | '\n' | '\r'));
    }
    None
}

fn block<'t>(before: &'t str, below: &'t str) -> Option<List<'t>> {
    let Some(first) = lines(below).next() else {
        return Some(List { style: Style::Null { entry: before }, items: Vec::new() });
    };
    let indent = &first[..first.len() - first.trim_start_matches(' ').len()];
    let mut items = Vec::new();
    let mut at = 0;
    // Where the item at hand begins, behind its dash.
    let mut item = None;
    for line in lines(below) {
        let content = line.trim_start_matches(' ');
        let depth = line.len() - content.len();
        if is_blank(line) || content.starts_with('#') {
            return None;
        }
        let dash = depth == indent.len() && (content.starts_with("- ") || is_lone_dash(content));
        if dash {
            if let Some(start) = item {
                items.push(block_item(&below[start..at])?);
            }
            item = Some(at + depth + 1);
        } else if depth <= indent.len() || item.is_none() {
            return None;
        }
        at += line.len();
    }
    items.push(block_item(&below[item?..])?);
    let end = end_of(first);
    Some(List { style: Style::Block { before, indent, end }, items })
}

fn is_lone_dash(content: &str) -> bool {
    without_end(content) == "-"
}

fn block_item(raw: &str) -> Option<Item<'_>> {
    let content = raw.trim_matches([' ', '\t', '\n', '\r']);
    let scalar = (lines(raw).count() == 1).then(|| scalar_of(content)).flatten();
    let starts_plain = !content.starts_with(['[', '{', '&', '*', '!', '|', '>', '-', '?']);
    match scalar.filter(|_| starts_plain && !content.is_empty()) {
        Some(value) => Some(Item { value, raw: without_end(raw), plain: true }),
        None => Some(Item { value: raw.to_owned(), raw, plain: false }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frontmatter::Frontmatter;

    fn with_list<T>(entry: &str, check: impl FnOnce(Option<List<'_>>) -> T) -> T {
        let text = format!("---\n{entry}---\n");
        let (Frontmatter::Keys(head), _) = Frontmatter::of(&text) else { panic!("{entry}") };
        check(List::of(&head.entries[0]))
    }

    fn merged(winner: &str, loser: &str, keeps: &[&str]) -> Option<String> {
        with_list(winner, |w| {
            with_list(loser, |l| {
                merge_lists(None, &w.unwrap(), &l.unwrap(), |value| keeps.contains(&value))
            })
        })
    }

    fn check(winner: &str, loser: &str, keeps: &[&str], expected: &str) {
        assert_eq!(merged(winner, loser, keeps).as_deref(), Some(expected));
    }

    #[test]
    fn a_list_keeps_its_style_and_spelling() {
        check(
            "t: [a,  'b, c', d] # x\n",
            "t: [z, a]\n",
            &["z", "a", "b, c"],
            "t: [z,  a,  'b, c'] # x\n",
        );
        check(
            "t: # x\n  - \"a\"\n  -  b\n",
            "t:\n- b\n- c\n",
            &["a", "b", "c"],
            "t: # x\n  - \"a\"\n  -  b\n  - c\n",
        );
    }

    #[test]
    fn items_cross_between_styles() {
        check(
            "t: [a]\n",
            "t:\n- 'x: y'\n- b, c\n- d\n",
            &["a", "x: y", "b, c", "d"],
            "t: ['x: y', 'b, c', d, a]\n",
        );
        check("t:\n- a\n", "t: [a, \"b\"]\n", &["a", "b"], "t:\n- a\n- \"b\"\n");
        check("t:\n", "t: [a]\n", &["a"], "t: [a]\n");
        check("t: []\n", "t:\n  - a\n", &["a"], "t: [a]\n");
    }

    #[test]
    fn a_list_over_several_lines_stays_so() {
        check("t: [\n  a,\n  b,\n]\n", "t: [c]\n", &["a", "b", "c"], "t: [\n  c,\n  a,\n  b,\n]\n");
    }

    #[test]
    fn nested_items_move_only_between_equal_indents() {
        check(
            "t:\n- a: 1\n  b: 2\n",
            "t:\n- c\n",
            &[" a: 1\n  b: 2\n", "c"],
            "t:\n- c\n- a: 1\n  b: 2\n",
        );
        assert_eq!(merged("t: [c]\n", "t:\n- a: 1\n", &[" a: 1\n", "c"]), None);
    }

    #[test]
    fn what_is_no_plain_list_is_left_alone() {
        for entry in [
            "t: a\n",
            "t: [a, [b]]\n",
            "t: {a: 1}\n",
            "t:\n- a\n# c\n- b\n",
            "t: [a: 1]\n",
            "t:\n  a: 1\n",
        ] {
            with_list(entry, |list| assert_eq!(list, None, "{entry}"));
        }
    }
}
