//! The folders that are measured: a real one, and generated ones that are the same everywhere.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Our own folders and those of the other tools, which are no content.
const NOT_CONTENT: &[&str] = &[".crucible", ".git", ".stfolder", ".stversions", ".unison"];

/// How generated notes lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// All in one folder.
    Flat,
    /// Ten notes a folder, ten folders a folder.
    Deep,
}

/// One folder to measure on.
#[derive(Clone, Debug)]
pub enum Set {
    /// A folder of real notes.
    Corpus(PathBuf),
    /// So many generated notes.
    Generated(usize, Shape),
}

impl Set {
    /// The name in the tables.
    pub fn name(&self) -> String {
        match self {
            Set::Corpus(folder) => folder
                .file_name()
                .map_or_else(|| "corpus".to_owned(), |name| name.to_string_lossy().into_owned()),
            Set::Generated(count, Shape::Flat) => format!("flat-{count}"),
            Set::Generated(count, Shape::Deep) => format!("deep-{count}"),
        }
    }

    /// Lays the notes into a folder that does not exist yet.
    pub fn lay(&self, into: &Path) -> Result<()> {
        match self {
            Set::Corpus(folder) => copy_tree(folder, into),
            Set::Generated(count, shape) => generate(into, *count, *shape),
        }
    }
}

/// A small generator of pseudo-random numbers (splitmix64), the same on every machine.
pub struct Dice(pub u64);

impl Dice {
    /// The next number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }
}

/// Every file below a folder with its size, tools' own folders left out, sorted.
pub fn files(folder: &Path) -> Result<BTreeMap<PathBuf, u64>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(current) = folders.pop() {
        let listed = fs::read_dir(&current)
            .with_context(|| format!("{} could not be listed", current.display()))?;
        for entry in listed {
            let entry = entry?;
            if NOT_CONTENT.iter().any(|name| entry.file_name() == *name) {
                continue;
            }
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                let inside = entry.path().strip_prefix(folder)?.to_path_buf();
                found.insert(inside, entry.metadata()?.len());
            }
        }
    }
    Ok(found)
}

/// One number for every name and byte below a folder.
pub fn fingerprint(folder: &Path) -> Result<u64> {
    let mut hasher = DefaultHasher::new();
    for file in files(folder)?.keys() {
        file.hash(&mut hasher);
        fs::read(folder.join(file))?.hash(&mut hasher);
    }
    Ok(hasher.finish())
}

/// The bytes of everything below a folder, as files say.
pub fn size_of(folder: &Path) -> Result<u64> {
    let mut total = 0;
    let mut folders = vec![folder.to_path_buf()];
    while let Some(current) = folders.pop() {
        for entry in fs::read_dir(&current)? {
            let entry = entry?;
            let about = entry.metadata()?;
            if about.is_dir() {
                folders.push(entry.path());
            } else {
                total += about.len();
            }
        }
    }
    Ok(total)
}

/// Copies files and folders, nothing else.
pub fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for file in files(from)?.keys() {
        let target = to.join(file);
        fs::create_dir_all(target.parent().expect("a file inside a folder has a parent"))?;
        fs::copy(from.join(file), &target)?;
    }
    Ok(())
}

fn generate(into: &Path, count: usize, shape: Shape) -> Result<()> {
    let mut dice = Dice(count as u64);
    let mut made = None;
    for number in 0..count {
        let folder = match shape {
            Shape::Flat => into.to_path_buf(),
            Shape::Deep => {
                let (leaf, branch, limb) = (number / 10, number / 100, number / 1000);
                into.join(format!("{limb:03}/{branch:04}/{leaf:05}"))
            }
        };
        if made.as_ref() != Some(&folder) {
            fs::create_dir_all(&folder)?;
            made = Some(folder.clone());
        }
        fs::write(folder.join(format!("note-{number:06}.md")), note(number, &mut dice))?;
    }
    Ok(())
}

/// A note of about 1.3 KB: a head, some paragraphs, a list.
fn note(number: usize, dice: &mut Dice) -> String {
    let tag = WORDS[dice.below(WORDS.len())];
    let mut text =
        format!("---\ntitle: Note {number}\ntags: [{tag}, note]\n---\n\n# Note {number}\n");
    for _ in 0..2 + dice.below(4) {
        text.push('\n');
        for _ in 0..2 + dice.below(4) {
            text.push_str(&sentence(dice));
            text.push(' ');
        }
        text.push('\n');
    }
    text.push('\n');
    for _ in 0..dice.below(6) {
        text.push_str("- ");
        text.push_str(&sentence(dice));
        text.push('\n');
    }
    text
}

/// A made-up sentence.
pub fn sentence(dice: &mut Dice) -> String {
    let mut text = String::new();
    for at in 0..6 + dice.below(10) {
        let word = WORDS[dice.below(WORDS.len())];
        if at == 0 {
            text.push_str(&word[..1].to_uppercase());
            text.push_str(&word[1..]);
        } else {
            text.push(' ');
            text.push_str(word);
        }
    }
    text.push('.');
    text
}

const WORDS: &[&str] = &[
    "about",
    "after",
    "again",
    "answer",
    "apple",
    "autumn",
    "because",
    "before",
    "bridge",
    "broken",
    "carry",
    "change",
    "clear",
    "cloud",
    "coffee",
    "common",
    "corner",
    "cross",
    "daily",
    "deep",
    "desk",
    "draft",
    "early",
    "east",
    "edge",
    "enough",
    "evening",
    "every",
    "field",
    "first",
    "floor",
    "follow",
    "forest",
    "found",
    "friend",
    "garden",
    "gather",
    "glass",
    "green",
    "ground",
    "half",
    "harbour",
    "heavy",
    "idea",
    "index",
    "inside",
    "island",
    "journal",
    "kettle",
    "kitchen",
    "ladder",
    "later",
    "letter",
    "light",
    "list",
    "little",
    "lost",
    "map",
    "margin",
    "market",
    "meeting",
    "memory",
    "middle",
    "minute",
    "moment",
    "morning",
    "narrow",
    "never",
    "night",
    "north",
    "note",
    "number",
    "often",
    "old",
    "open",
    "order",
    "other",
    "page",
    "paper",
    "past",
    "people",
    "place",
    "plain",
    "plan",
    "question",
    "quiet",
    "rain",
    "reading",
    "reason",
    "record",
    "river",
    "road",
    "room",
    "second",
    "sentence",
    "shelf",
    "silver",
    "simple",
    "slow",
    "small",
    "south",
    "spring",
    "station",
    "still",
    "stone",
    "story",
    "street",
    "summer",
    "table",
    "thread",
    "today",
    "train",
    "tree",
    "under",
    "until",
    "village",
    "voice",
    "wait",
    "walk",
    "water",
    "week",
    "west",
    "window",
    "winter",
    "word",
    "work",
    "write",
    "yellow",
    "yesterday",
];
