//! The input of `git fast-import`, and where notes stand in the trees it makes.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};

use crucible_core::id::NoteId;

use crate::past::Entry;

/// A commit about one version.
pub struct Commit<'e> {
    /// Which.
    pub entry: &'e Entry,
    /// What it does to the tree.
    pub changes: Vec<Change>,
}

/// What a commit does to the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Nothing is at this path any more.
    Delete(String),
    /// The blob of this mark is at this path.
    Put(String, u64),
}

/// Writes a stream that `git fast-import` reads.
pub struct GitStream<W> {
    out: W,
    marks: u64,
}

impl<W: Write> GitStream<W> {
    /// Writes to `out`.
    pub fn new(out: W) -> Self {
        Self { out, marks: 0 }
    }

    /// A blob; its mark.
    pub fn blob(&mut self, bytes: &[u8]) -> io::Result<u64> {
        self.marks += 1;
        write!(self.out, "blob\nmark :{}\n", self.marks)?;
        self.data(bytes)?;
        Ok(self.marks)
    }

    /// A commit on main.
    pub fn commit(&mut self, commit: &Commit<'_>) -> io::Result<()> {
        let entry = commit.entry;
        let (name, email) = author(entry);
        let seconds = entry.stamp.0 / 1000;
        writeln!(self.out, "commit refs/heads/main")?;
        writeln!(self.out, "author {name} <{email}> {seconds} +0000")?;
        writeln!(self.out, "committer {name} <{email}> {seconds} +0000")?;
        self.data(message(entry).as_bytes())?;
        for change in &commit.changes {
            match change {
                Change::Delete(path) => writeln!(self.out, "D {}", quoted(path))?,
                Change::Put(path, mark) => {
                    writeln!(self.out, "M 100644 :{mark} {}", quoted(path))?;
                }
            }
        }
        writeln!(self.out)
    }

    fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        writeln!(self.out, "data {}", bytes.len())?;
        self.out.write_all(bytes)?;
        writeln!(self.out)
    }

    /// Says that nothing was cut.
    pub fn finish(mut self) -> io::Result<()> {
        writeln!(self.out, "done")?;
        self.out.flush()
    }
}

/// Who to name: the person's address and device, or nobody for a merge.
fn author(entry: &Entry) -> (String, String) {
    let plain = |text: &str| {
        let allowed = |c: char| !c.is_control() && !matches!(c, '<' | '>' | '"');
        text.chars().filter(|c| allowed(*c)).collect::<String>().trim().to_owned()
    };
    let (email, device) = match (&entry.user, &entry.device) {
        (Some((_, email)), Some((_, device))) => (plain(email), plain(device)),
        (Some((_, email)), None) => (plain(email), String::new()),
        (None, _) => ("nobody@localhost".to_owned(), entry.author.chars().take(10).collect()),
    };
    if entry.author == "merge" {
        return ("cru (merge)".to_owned(), email);
    }
    let name = email.split('@').next().unwrap_or("somebody").to_owned();
    let name = if device.is_empty() { name } else { format!("{name} on {device}") };
    (name, email)
}

fn message(entry: &Entry) -> String {
    let path = entry.last_path();
    let subject = match (&entry.from, &entry.path) {
        (Some(from), Some(path)) => format!("{} {from} -> {path}", entry.op),
        _ => format!("{} {path}", entry.op),
    };
    let mut text = format!("{}\n\nVersion: {}\n", subject.replace('\n', " "), entry.version);
    for parent in &entry.parents {
        text.push_str(&format!("Parent: {parent}\n"));
    }
    text
}

/// A path as fast-import reads it whatever is in it.
fn quoted(path: &str) -> String {
    let mut text = String::from("\"");
    for byte in path.bytes() {
        match byte {
            b'"' => text.push_str("\\\""),
            b'\\' => text.push_str("\\\\"),
            0x20..=0x7e => text.push(byte as char),
            _ => text.push_str(&format!("\\{byte:03o}")),
        }
    }
    text.push('"');
    text
}

/// Which note stands where in the tree.
#[derive(Debug, Default)]
pub struct Names {
    of_note: HashMap<NoteId, String>,
    /// Every path that is taken, by whom.
    taken: BTreeMap<String, NoteId>,
}

impl Names {
    /// Moves a note to where its version wants it, or takes it out; what that does to the tree. A
    /// name that is taken, or is a folder, gets the note's id.
    pub fn place(&mut self, note: &NoteId, wanted: Option<(String, u64)>) -> Vec<Change> {
        let before = self.of_note.remove(note);
        if let Some(before) = &before {
            self.taken.remove(before);
        }
        let mut changes = Vec::new();
        let placed = wanted.map(|(path, mark)| (self.free(path, note), mark));
        let stays = placed.as_ref().map(|(path, _)| path) == before.as_ref();
        if let Some(before) = before.filter(|_| !stays) {
            changes.push(Change::Delete(before));
        }
        if let Some((path, mark)) = placed {
            self.taken.insert(path.clone(), *note);
            self.of_note.insert(*note, path.clone());
            changes.push(Change::Put(path, mark));
        }
        changes
    }

    fn free(&self, path: String, note: &NoteId) -> String {
        if !self.is_taken(&path) {
            return path;
        }
        // Below what is a file in this tree: its folder gets another name.
        let path =
            match path.match_indices('/').find(|(at, _)| self.taken.contains_key(&path[..*at])) {
                Some((at, _)) => format!("{} (folder){}", &path[..at], &path[at..]),
                None => path,
            };
        if !self.is_taken(&path) {
            return path;
        }
        let id = note.to_string();
        let (folder, name) = match path.rsplit_once('/') {
            Some((folder, name)) => (format!("{folder}/"), name),
            None => (String::new(), path.as_str()),
        };
        let (stem, end) = match name.rsplit_once('.') {
            Some((stem, end)) if !stem.is_empty() => (stem, format!(".{end}")),
            _ => (name, String::new()),
        };
        let mut digits = 6;
        loop {
            let aside = format!("{folder}{stem} (conflict {}){end}", &id[..digits]);
            if digits == id.len() || !self.is_taken(&aside) {
                return aside;
            }
            digits += 1;
        }
    }

    /// Whether another note is there, above it, or below it.
    fn is_taken(&self, path: &str) -> bool {
        if self.taken.contains_key(path) {
            return true;
        }
        let below = format!("{path}/");
        let first = self.taken.range(below.clone()..).next();
        if first.is_some_and(|(taken, _)| taken.starts_with(&below)) {
            return true;
        }
        path.match_indices('/').any(|(at, _)| self.taken.contains_key(&path[..at]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(byte: u8) -> NoteId {
        NoteId::from_bytes([byte; 32])
    }

    fn put(path: &str, mark: u64) -> Change {
        Change::Put(path.to_owned(), mark)
    }

    #[test]
    fn a_note_moves_and_goes() {
        let mut names = Names::default();
        let wanted = |path: &str, mark| Some((path.to_owned(), mark));
        assert_eq!(names.place(&note(1), wanted("a.md", 1)), [put("a.md", 1)]);
        assert_eq!(names.place(&note(1), wanted("a.md", 2)), [put("a.md", 2)]);
        let moved = names.place(&note(1), wanted("b.md", 2));
        assert_eq!(moved, [Change::Delete("a.md".to_owned()), put("b.md", 2)]);
        assert_eq!(names.place(&note(1), None), [Change::Delete("b.md".to_owned())]);
        assert_eq!(names.place(&note(1), None), []);
    }

    #[test]
    fn two_notes_of_one_name_stand_beside_each_other() {
        let mut names = Names::default();
        names.place(&note(1), Some(("x/a.md".to_owned(), 1)));
        let beside = names.place(&note(2), Some(("x/a.md".to_owned(), 2)));
        assert_eq!(beside, [put("x/a (conflict 020202).md", 2)]);
        let below = names.place(&note(3), Some(("x/a.md/b.md".to_owned(), 3)));
        assert_eq!(below, [put("x/a.md (folder)/b.md", 3)]);
    }

    #[test]
    fn no_path_breaks_the_stream() {
        assert_eq!(quoted("a \"b\"\n\\é"), r#""a \"b\"\012\\\303\251""#);
    }
}
