//! The changes that are carried: the same bytes for every tool.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::sets::{Dice, files, sentence};

/// What happens to the first folder before its change is carried to the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Everything is new.
    First,
    /// Nothing happened.
    NoChange,
    /// A sentence is written into one note.
    OneEdit,
    /// A sentence is written into each of a hundred notes.
    HundredEdits,
    /// The folder with the most files (a thousand at most) gets another name.
    RenameFolder,
}

impl Operation {
    /// In the order of the tables.
    pub const ALL: &[Operation] = &[
        Operation::First,
        Operation::NoChange,
        Operation::OneEdit,
        Operation::HundredEdits,
        Operation::RenameFolder,
    ];

    /// The name in the tables.
    pub fn name(self) -> &'static str {
        match self {
            Operation::First => "first sync",
            Operation::NoChange => "no change",
            Operation::OneEdit => "1 edit",
            Operation::HundredEdits => "100 edits",
            Operation::RenameFolder => "rename folder",
        }
    }

    /// How often it is done, so that the small ones do not drown in noise.
    pub fn repeats(self) -> u32 {
        match self {
            Operation::NoChange | Operation::OneEdit => 5,
            Operation::First | Operation::HundredEdits | Operation::RenameFolder => 1,
        }
    }

    /// Does it to a folder; `false` when there is nothing here to do it to.
    pub fn apply(self, folder: &Path, turn: u32) -> Result<bool> {
        match self {
            Operation::First | Operation::NoChange => Ok(true),
            Operation::OneEdit => edit(folder, 1, u64::from(turn) + 1).map(|()| true),
            Operation::HundredEdits => edit(folder, 100, 1000).map(|()| true),
            Operation::RenameFolder => rename(folder),
        }
    }
}

/// How many files lie in the folder that [`Operation::RenameFolder`] takes.
pub fn renamed_files(folder: &Path) -> Result<Option<usize>> {
    Ok(widest(folder)?.map(|(_, count)| count))
}

/// Writes a sentence into `count` different notes.
pub fn edit(folder: &Path, count: usize, seed: u64) -> Result<()> {
    let mut dice = Dice(seed);
    let is_note = |file: &PathBuf| file.extension().is_some_and(|e| e == "md");
    let mut notes: Vec<PathBuf> = files(folder)?.into_keys().filter(is_note).collect();
    for _ in 0..count.min(notes.len()) {
        let note = notes.swap_remove(dice.below(notes.len()));
        let path = folder.join(note);
        let text = fs::read(&path).with_context(|| path.display().to_string())?;
        fs::write(&path, with_sentence(&text, &sentence(&mut dice)))?;
    }
    Ok(())
}

/// The text with a sentence at the end of a line in its middle.
fn with_sentence(text: &[u8], sentence: &str) -> Vec<u8> {
    let middle = text.len() / 2;
    let rest = &text[middle..];
    let end = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
    let mut at = middle + end.unwrap_or(rest.len());
    if text[..at].ends_with(b"\r") {
        at -= 1;
    }
    let mut edited = text[..at].to_vec();
    edited.push(b' ');
    edited.extend_from_slice(sentence.as_bytes());
    edited.extend_from_slice(&text[at..]);
    edited
}

fn rename(folder: &Path) -> Result<bool> {
    let Some((name, _)) = widest(folder)? else { return Ok(false) };
    let mut new = name.clone().into_os_string();
    new.push("-renamed");
    fs::rename(folder.join(&name), folder.join(new))?;
    Ok(true)
}

/// The folder with the most files in and below it, of those with a thousand at most.
fn widest(folder: &Path) -> Result<Option<(PathBuf, usize)>> {
    let mut counts = std::collections::BTreeMap::<PathBuf, usize>::new();
    for file in files(folder)?.keys() {
        for above in file.ancestors().skip(1).filter(|a| !a.as_os_str().is_empty()) {
            *counts.entry(above.to_path_buf()).or_default() += 1;
        }
    }
    Ok(counts.into_iter().filter(|(_, count)| *count <= 1000).max_by_key(|(_, count)| *count))
}

#[cfg(test)]
mod tests {
    use super::with_sentence;

    #[test]
    fn a_sentence_lands_at_the_end_of_a_line_in_the_middle() {
        assert_eq!(with_sentence(b"one two\r\nthree\r\n", "X."), b"one two X.\r\nthree\r\n");
        assert_eq!(with_sentence(b"", "Four."), b" Four.");
    }
}
