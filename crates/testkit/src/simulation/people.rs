//! What people do, and the ledger of what they wrote and took away.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Options;
use crate::dice::Dice;
use crate::fake_fs::{Disk, Handle};

const PATHS: [&str; 8] =
    ["a.md", "b.md", "dir/a.md", "dir/c.md", "dir/sub/d.md", "other/a.md", "pic.bin", "B.md"];

/// Twins on disks that fold case or normalisation, names of devices, and names so long that
/// nothing fits behind them.
const ODD_PATHS: [&str; 12] = [
    "A.md",
    "a.MD",
    "DIR/a.md",
    "dir/A.md",
    "caf\u{e9}.md",
    "cafe\u{301}.md",
    "con.md",
    "dir/AUX.md",
    "end.",
    "a:b.md",
    concat!(
        "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567",
        "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567",
        "0123456789012345678901234567890123456789012345678901234567890123456789012345.md"
    ),
    concat!(
        "\u{e9}123456789012345678901234567890123456789012345678901234567890123456789012345678901234",
        "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567",
        "012345678901234567890123456789012345678901234567890123456789012345678.md"
    ),
];

/// What people did, shared with the hooks of the disks.
#[derive(Debug)]
pub(super) struct Ledger {
    paths: Vec<&'static str>,
    /// Whether editors save in two writes, and who is between them.
    saves_in_halves: bool,
    halves: BTreeMap<usize, Half>,
    next_word: u64,
    /// Words somebody took away while looking at them.
    pub(super) taken_away: BTreeSet<String>,
    pub(super) written: BTreeSet<String>,
    pub(super) trace: Vec<String>,
}

/// The second write of a save.
#[derive(Debug)]
struct Half {
    handle: Handle,
    path: String,
    now: Vec<u8>,
    rest: Vec<u8>,
}

impl Ledger {
    pub(super) fn new(options: Options) -> Self {
        let odd = if options.odd_names { &ODD_PATHS[..] } else { &[] };
        Self {
            paths: PATHS.iter().chain(odd).copied().collect(),
            saves_in_halves: options.halves,
            halves: BTreeMap::new(),
            next_word: 0,
            taken_away: BTreeSet::new(),
            written: BTreeSet::new(),
            trace: Vec::new(),
        }
    }

    /// Nobody will ever write the second half: the file it was for is not there any more.
    pub(super) fn forget_half(&mut self, who: usize) {
        if let Some(half) = self.halves.remove(&who) {
            self.taken_away.extend(words(&half.rest));
        }
    }

    pub(super) fn say(&mut self, line: String) {
        self.trace.push(line);
    }

    fn word(&mut self) -> String {
        self.next_word += 1;
        let word = format!("w{}x", self.next_word);
        self.written.insert(word.clone());
        word
    }
}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The words in a text that people wrote.
pub(super) fn words(text: &[u8]) -> Vec<String> {
    text.split(|byte| !byte.is_ascii_alphanumeric())
        .filter(|word| match word {
            [b'w', digits @ .., b'x'] => {
                !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
            }
            _ => false,
        })
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect()
}

/// Files as people read them.
pub(super) fn shown(files: &BTreeMap<String, Vec<u8>>) -> String {
    let lines: Vec<String> = files
        .iter()
        .map(|(path, bytes)| {
            let text = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]);
            format!("\n    {path} {text:?}")
        })
        .collect();
    lines.concat()
}

/// A file that somebody has open, and the text they see.
#[derive(Debug)]
pub(super) struct Editor {
    handle: Handle,
    path: String,
    text: Vec<u8>,
}

/// Opens a file as an editor does that later writes into it.
pub(super) fn open_editor(disk: &mut Disk, dice: &mut Dice) -> Option<Editor> {
    let visible = disk.visible();
    let paths: Vec<&String> = visible.keys().collect();
    if paths.is_empty() {
        return None;
    }
    let path = (*dice.pick(&paths)).clone();
    let text = visible[&path].clone();
    let handle = disk.user_open(&path).ok()?;
    Some(Editor { handle, path, text })
}

/// Saves what the editor holds, with a word more, into the file it opened, wherever that is now.
pub(super) fn save_editor(disk: &mut Disk, dice: &mut Dice, ledger: &mut Ledger, editor: Editor) {
    let before = disk.everything();
    let text = String::from_utf8_lossy(&editor.text).into_owned();
    let word = ledger.word();
    let text = edited(&text, &word, dice, ledger);
    disk.user_truncate(editor.handle);
    let saved = disk.user_append(editor.handle, text.as_bytes());
    let unlinked = disk.user_has_unlinked(editor.handle);
    disk.user_close(editor.handle);
    let after = disk.everything();
    for (path, bytes) in &before {
        let left = after.get(path).map(|bytes| words(bytes)).unwrap_or_default();
        ledger.taken_away.extend(words(bytes).into_iter().filter(|word| !left.contains(word)));
    }
    if saved.is_err() || unlinked {
        // Not written, or into a file that somebody has removed.
        ledger.taken_away.insert(word);
    }
    ledger.say(format!(
        "   an editor saves into what was {} {:?}",
        editor.path,
        &text[..text.len().min(80)]
    ));
}

/// One thing somebody does to what is visible now.
pub(super) fn meddle(disk: &mut Disk, dice: &mut Dice, ledger: &mut Ledger, who: usize) {
    if ledger.halves.contains_key(&who) {
        finish_half(disk, ledger, who);
        return;
    }
    let visible = disk.visible();
    let existing: Vec<String> = visible.keys().cloned().collect();
    let some = |dice: &mut Dice| (!existing.is_empty()).then(|| dice.pick(&existing).clone());
    match dice.below(10) {
        0 | 1 => {
            let path = (*dice.pick(&ledger.paths)).to_owned();
            write(disk, dice, ledger, who, &path);
        }
        2..=6 => {
            let path = some(dice).unwrap_or_else(|| (*dice.pick(&ledger.paths)).to_owned());
            write(disk, dice, ledger, who, &path);
        }
        7 | 8 => {
            let Some(from) = some(dice) else { return };
            let to = (*dice.pick(&ledger.paths)).to_owned();
            let before = disk.visible();
            if from != to && disk.user_rename(&from, &to).is_ok() {
                let after = disk.visible();
                took(&before, &after, ledger);
                ledger.say(format!("{who}: rename {from} -> {to}"));
            }
        }
        _ => {
            let Some(path) = some(dice) else { return };
            if disk.user_remove(&path).is_ok() {
                ledger.taken_away.extend(words(&visible[&path]));
                ledger.say(format!("{who}: remove {path}"));
            }
        }
    }
}

/// The words that are in no visible file any more.
fn took(
    before: &BTreeMap<String, Vec<u8>>,
    after: &BTreeMap<String, Vec<u8>>,
    ledger: &mut Ledger,
) {
    let left: BTreeSet<String> = after.values().flat_map(|bytes| words(bytes)).collect();
    let gone = before.values().flat_map(|bytes| words(bytes)).filter(|w| !left.contains(w));
    ledger.taken_away.extend(gone);
}

fn write(disk: &mut Disk, dice: &mut Dice, ledger: &mut Ledger, who: usize, path: &str) {
    if disk.space_left.is_some() {
        return;
    }
    let old = disk.user_read(path).unwrap_or_default();
    let word = ledger.word();
    let large = path.ends_with(".bin") && dice.once_in(4);
    let text = if large {
        ledger.taken_away.extend(words(&old));
        format!("{word} {}", "0123456789abcdef".repeat(8_300))
    } else {
        let is_space = |byte: &u8| byte.is_ascii_whitespace();
        let end = old.iter().take(10_000).rposition(is_space).filter(|_| old.len() > 10_000);
        let (kept, cut) = old.split_at(end.unwrap_or(old.len()));
        ledger.taken_away.extend(words(cut));
        edited(&String::from_utf8_lossy(kept), &word, dice, ledger)
    };
    let before = disk.visible();
    if ledger.saves_in_halves && dice.once_in(3) && !large {
        begin_half(disk, ledger, who, path, &text, &word);
        return;
    }
    let done = if dice.once_in(2) {
        disk.user_write(path, text.as_bytes())
    } else {
        disk.user_save_by_rename(path, text.as_bytes())
    };
    match done {
        Ok(()) => ledger.say(format!("{who}: write {path} {:?}", &text[..text.len().min(80)])),
        Err(_) => {
            ledger.written.remove(&word);
            let after = disk.visible();
            took(&before, &after, ledger);
        }
    }
}

/// The first of two writes; what comes in the second is not written yet.
fn begin_half(
    disk: &mut Disk,
    ledger: &mut Ledger,
    who: usize,
    path: &str,
    text: &str,
    word: &str,
) {
    let middle = text.len() / 2;
    let cut = text[..middle].rfind([' ', '\n']).map_or(0, |at| at + 1);
    let (now, rest) = text.split_at(cut);
    if rest.contains(word) {
        ledger.written.remove(word);
    }
    let Ok(handle) = disk.user_open(path) else {
        ledger.written.remove(word);
        return;
    };
    disk.user_truncate(handle);
    let (path, now_bytes, rest) =
        (path.to_owned(), now.as_bytes().to_vec(), rest.as_bytes().to_vec());
    ledger.say(format!("{who}: write {path} {:?} so far", &now[..now.len().min(80)]));
    if disk.user_append(handle, &now_bytes).is_err() {
        ledger.taken_away.extend(words(&now_bytes));
    }
    ledger.halves.insert(who, Half { handle, path, now: now_bytes, rest });
}

/// The second of two writes, into the same file, wherever that is now.
pub(super) fn finish_half(disk: &mut Disk, ledger: &mut Ledger, who: usize) {
    let Some(half) = ledger.halves.remove(&who) else { return };
    let rest = words(&half.rest);
    // Another editor has written to the same file meanwhile: this one gives up.
    let is_as_left = disk.user_bytes(half.handle) == half.now;
    if disk.is_crashed() || !is_as_left {
        ledger.taken_away.extend(rest);
        return;
    }
    let unlinked = disk.user_has_unlinked(half.handle);
    let written = disk.user_append(half.handle, &half.rest);
    disk.user_close(half.handle);
    ledger.written.extend(rest.iter().cloned());
    if unlinked || written.is_err() {
        ledger.taken_away.extend(rest);
    }
    let text = String::from_utf8_lossy(&half.rest).into_owned();
    ledger.say(format!("{who}: and {:?} into what was {}", &text[..text.len().min(80)], half.path));
}

/// A text with a word more, and perhaps a line replaced.
fn edited(text: &str, word: &str, dice: &mut Dice, ledger: &mut Ledger) -> String {
    let mut lines: Vec<String> = text.lines().map(ToOwned::to_owned).collect();
    if lines.is_empty() || dice.once_in(3) {
        let at = dice.below(lines.len() + 1);
        lines.insert(at, format!("line {word} here"));
    } else if dice.once_in(6) {
        let at = dice.below(lines.len());
        ledger.taken_away.extend(words(lines[at].as_bytes()));
        lines[at] = format!("other {word} line");
    } else {
        let at = dice.below(lines.len());
        let mut parts: Vec<&str> = lines[at].split(' ').collect();
        let place = dice.below(parts.len() + 1);
        parts.insert(place, word);
        lines[at] = parts.join(" ");
    }
    lines.join("\n") + "\n"
}
