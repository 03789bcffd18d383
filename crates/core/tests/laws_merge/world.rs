//! Generators of nasty texts and of edits on them.

use proptest::prelude::*;
use proptest::sample::{Index, select};

/// Lines without their ends that exercise what Markdown, Unicode and YAML have to offer.
const LINES: &[&str] = &[
    "",
    " ",
    "\t",
    "a",
    "b",
    "a b c",
    "The quick brown fox jumps over the lazy dog.",
    "- item",
    "  - nested item",
    "- [ ] task",
    "1. first",
    "| a | b |",
    "|---|---|",
    "```",
    "~~~~ rust",
    "# Heading",
    "---",
    "...",
    "tags: [a, b]",
    "key: value",
    "> quote",
    "日本語のテキスト。",
    "e\u{301}te\u{301} 👩\u{200d}👩\u{200d}👧",
    "\u{feff}",
    "nul \u{0} here",
    "trailing  ",
    "**bold** _emph_ `code` [link](http://a/b)",
    "1.2.3 10:30 2026-11-23",
];

const ENDS: &[&str] = &["\n", "\n", "\n", "\r\n", "\r"];

/// Any text at all: lines from the vocabulary with mixed ends, sometimes arbitrary characters.
pub fn text() -> impl Strategy<Value = String> {
    let line = (select(LINES), select(ENDS)).prop_map(|(line, end)| format!("{line}{end}"));
    let lines = prop::collection::vec(line, 0..24);
    let last = prop_oneof![Just(String::new()), select(LINES).prop_map(str::to_owned), ".{0,12}"];
    (lines, last).prop_map(|(lines, last)| lines.concat() + &last)
}

/// One edit of a text, by position, so that it can be made on any text.
#[derive(Clone, Debug)]
pub enum Edit {
    InsertLine(Index, String),
    DeleteLines(Index, usize),
    MoveLines(Index, usize, Index),
    RepeatLine(Index),
    InsertWord(Index, String),
    DeleteWord(Index),
    ReplaceWord(Index, String),
    ConvertEnds(&'static str),
    Truncate,
}

/// Edits that insert words made of `mark` and a number: no other side writes the same.
pub fn edits(mark: &'static str) -> impl Strategy<Value = Vec<Edit>> {
    let word = (0..1000u32).prop_map(move |n| format!("{mark}{n}"));
    let line = prop_oneof![
        word.clone(),
        word.clone().prop_map(|word| format!("- {word}")),
        word.clone().prop_map(|word| format!("| {word} | x |")),
        word.clone().prop_map(|word| format!("```\n{word}\n```")),
        word.clone().prop_map(|word| format!("\n{word}")),
        word.clone().prop_map(|word| format!("{word}\n")),
    ];
    let at = any::<Index>;
    let edit = prop_oneof![
        4 => (at(), line).prop_map(|(at, line)| Edit::InsertLine(at, line)),
        2 => (at(), 1..4usize).prop_map(|(at, count)| Edit::DeleteLines(at, count)),
        1 => (at(), 1..4usize, at()).prop_map(|(at, n, to)| Edit::MoveLines(at, n, to)),
        1 => at().prop_map(Edit::RepeatLine),
        4 => (at(), word.clone()).prop_map(|(at, word)| Edit::InsertWord(at, word)),
        2 => at().prop_map(Edit::DeleteWord),
        4 => (at(), word).prop_map(|(at, word)| Edit::ReplaceWord(at, word)),
        1 => select(&["\n", "\r\n", "\r"][..]).prop_map(Edit::ConvertEnds),
        1 => Just(Edit::Truncate),
    ];
    prop::collection::vec(edit, 0..6)
}

/// Makes edits on a text, in order.
pub fn edited(text: &str, edits: &[Edit]) -> String {
    edits.iter().fold(text.to_owned(), |text, edit| one(&text, edit))
}

fn one(text: &str, edit: &Edit) -> String {
    let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
    let mut words: Vec<&str> = text.split_inclusive(' ').collect();
    match edit {
        Edit::InsertLine(at, line) => {
            let line = format!("{line}\n");
            lines.insert(at.index(lines.len() + 1), &line);
            return lines.concat();
        }
        Edit::DeleteLines(at, count) => {
            let from = at.index(lines.len() + 1);
            lines.drain(from..(from + count).min(lines.len()));
        }
        Edit::MoveLines(at, count, to) => {
            let from = at.index(lines.len() + 1);
            let moved: Vec<_> = lines.drain(from..(from + count).min(lines.len())).collect();
            let to = to.index(lines.len() + 1);
            lines.splice(to..to, moved);
        }
        Edit::RepeatLine(at) if !lines.is_empty() => {
            let at = at.index(lines.len());
            lines.insert(at, lines[at]);
        }
        Edit::InsertWord(at, word) => {
            let word = format!("{word} ");
            words.insert(at.index(words.len() + 1), &word);
            return words.concat();
        }
        Edit::DeleteWord(at) if !words.is_empty() => {
            words.remove(at.index(words.len()));
            return words.concat();
        }
        Edit::ReplaceWord(at, word) if !words.is_empty() => {
            let at = at.index(words.len());
            let with = words[at].replace(|c: char| c.is_alphanumeric(), "") + word;
            words[at] = &with;
            return words.concat();
        }
        Edit::ConvertEnds(end) => {
            return text.replace("\r\n", "\n").replace('\r', "\n").replace('\n', end);
        }
        Edit::Truncate => return text.trim_end().to_owned(),
        Edit::RepeatLine(_) | Edit::DeleteWord(_) | Edit::ReplaceWord(..) => {}
    }
    lines.concat()
}

/// A base and two edits of it.
pub fn three() -> impl Strategy<Value = (String, String, String)> {
    (text(), edits("ours"), edits("theirs")).prop_map(|(base, ours, theirs)| {
        let (ours, theirs) = (edited(&base, &ours), edited(&base, &theirs));
        (base, ours, theirs)
    })
}

/// The words of a text, by a definition that is not the merge's own; ideographs are left out, since
/// scripts that write without spaces may put any two side by side.
pub fn words(text: &str) -> impl Iterator<Item = &str> {
    let separates = |c: char| !c.is_alphanumeric() || c >= '\u{2e80}';
    text.split(separates).filter(|word| !word.is_empty())
}
