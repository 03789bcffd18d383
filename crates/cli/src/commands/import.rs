//! `cru import FROM`: a folder of notes, or a git repository with its history, into the vault.
//!
//! Invariant: nothing that is in the vault is written over: what is another file there comes in
//! under a name of its own. Of a git history every text of every commit becomes a version, oldest
//! first, with the date of its commit where the vault has no later version; what it left in the end
//! is what the vault has. What came in before does not come again. Its authors are not kept: a
//! version's author is the replica that made it.

mod git;

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use crucible_core::vault_path::VaultPath;
use crucible_node::config;
use crucible_node::replica::Options;
use serde_json::json;

use crate::args::Import;
use crate::context::Context;
use crate::exit::{During, Exit, Failure, Outcome};
use crate::output::{count, plain};
use crate::past::Past;
use crate::progress::Bar;
use crate::rounds;
use crate::vault_folder::{OpenVault, VaultFolder};
use crate::world;

/// Names tried beside one that is taken.
const ASIDE_MAX: u32 = 1000;

/// What came in.
#[derive(Debug, Default)]
pub struct Tally {
    /// Files that are new.
    pub files: u64,
    /// Files that were there with the same bytes.
    pub same: u64,
    /// Files under another name, because theirs was taken: their own, and the new one.
    pub aside: Vec<(String, String)>,
    /// What stayed outside, and why.
    pub skipped: Vec<(String, String)>,
    /// Of a git history.
    pub history: Option<git::History>,
}

/// Imports.
pub fn run(args: &Import, context: &Context) -> Outcome {
    let folder = VaultFolder::find(&context.start)?;
    let from = context.path(&args.from);
    if !from.is_dir() {
        let what = if from.exists() { "is no folder" } else { "is not there" };
        return Err(Failure::new(Exit::Usage, format!("{} {what}", from.display()))
            .hint("it takes a folder of notes, or a git repository"));
    }
    let into = match args.into.as_deref() {
        Some(into) => Some(folder.path_of(context, into)?),
        None => None,
    };
    let is_repository = git::is_repository(&from);
    if !is_repository {
        require_outside(&from, &folder)?;
    }
    let mut vault = folder.open()?;
    let bar = Bar::new(&context.output);
    // What is in the folder now is versioned first, as what it is.
    rounds::make(&mut vault, None, Options::default(), &bar)?;
    let place = Place { root: folder.root.clone(), into };
    let mut tally = Tally::default();
    if is_repository {
        let mut past = Past::open(&folder, context)?;
        git::import(&from, &place, &mut past, &mut vault, &bar, &mut tally)?;
    } else {
        import_folder(&from, &place, &bar, &mut tally)?;
    }
    commit(&mut vault, world::now_ms(), &bar)?;
    bar.clear();
    tell(&tally, context)
}

/// A folder that is imported lies outside of the vault: a part of it would come in a second time.
fn require_outside(from: &Path, folder: &VaultFolder) -> Outcome<()> {
    let real = |path: &Path| {
        fs::canonicalize(path).during(format!("finding out where {} is", path.display()))
    };
    let (from, root) = (real(from)?, real(&folder.root)?);
    let (message, hint) = if from.starts_with(&root) {
        (format!("{} is in the vault already", from.display()), "`cru sync` is enough")
    } else if root.starts_with(&from) {
        let message = format!("{} has the vault inside, which would come in twice", from.display());
        (message, "name the folder of the notes alone")
    } else {
        return Ok(());
    };
    Err(Failure::new(Exit::Refused, message).hint(hint))
}

/// Makes versions of what stands in the folder now, as of a time.
pub fn commit(vault: &mut OpenVault, at_ms: u64, bar: &Bar) -> Outcome<()> {
    // What the import itself deletes is meant.
    let options = Options { allow_mass_delete: true, restore_missing: false };
    rounds::record_at(vault, at_ms, options, bar)
}

/// Where in which vault things go.
pub struct Place {
    root: PathBuf,
    into: Option<VaultPath>,
}

/// What became of a file that was to be put somewhere.
pub enum Put {
    /// It is there now, at this path of the vault.
    New(VaultPath),
    /// It was there.
    Same(VaultPath),
}

impl Place {
    /// The path in the vault of a file of the source.
    ///
    /// # Errors
    /// Why it cannot be one.
    pub fn path_for(&self, relative: &str) -> Result<VaultPath, String> {
        let full = match &self.into {
            Some(into) => format!("{into}/{relative}"),
            None => relative.to_owned(),
        };
        VaultPath::new(&full).map_err(|error| error.to_string())
    }

    /// Where that is on disk.
    pub fn file(&self, path: &VaultPath) -> PathBuf {
        self.root.join(path.as_str())
    }

    /// Puts a new file, beside what is there under its name if that is another one.
    pub fn put(&self, path: &VaultPath, bytes: &[u8]) -> io::Result<Put> {
        let mut wanted = path.clone();
        for number in 1..ASIDE_MAX {
            match self.put_new(&wanted, bytes) {
                Ok(()) => return Ok(Put::New(wanted)),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
            let there = self.file(&wanted);
            if there.is_file() && fs::read(&there)? == bytes {
                return Ok(Put::Same(wanted));
            }
            wanted = aside(path, number).ok_or(ErrorKind::InvalidFilename)?;
        }
        Err(ErrorKind::AlreadyExists.into())
    }

    /// Puts a whole file where nothing is.
    fn put_new(&self, path: &VaultPath, bytes: &[u8]) -> io::Result<()> {
        let temporary = self.write_aside(bytes)?;
        let target = self.file(path);
        if let Some(folder) = target.parent() {
            fs::create_dir_all(folder)?;
        }
        let linked = fs::hard_link(&temporary, &target);
        fs::remove_file(&temporary)?;
        linked
    }

    /// Replaces a file that this import has put there before.
    pub fn replace(&self, path: &VaultPath, bytes: &[u8]) -> io::Result<()> {
        let temporary = self.write_aside(bytes)?;
        fs::rename(temporary, self.file(path))
    }

    fn write_aside(&self, bytes: &[u8]) -> io::Result<PathBuf> {
        let name = format!("import-{}", std::process::id());
        let temporary = self.root.join(config::FOLDER).join(name);
        let mut file = fs::File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        Ok(temporary)
    }
}

/// The name beside `path` that is tried as the `number`th.
fn aside(path: &VaultPath, number: u32) -> Option<VaultPath> {
    let name = path.name();
    let (stem, end) = match name.rsplit_once('.') {
        Some((stem, end)) if !stem.is_empty() => (stem, format!(".{end}")),
        _ => (name, String::new()),
    };
    let number = if number == 1 { String::new() } else { format!(" {number}") };
    path.with_name(&format!("{stem} (imported{number}){end}")).ok()
}

fn import_folder(from: &Path, place: &Place, bar: &Bar, tally: &mut Tally) -> Outcome<()> {
    let mut folders = vec![PathBuf::new()];
    while let Some(inside) = folders.pop() {
        let here = from.join(&inside);
        let entries = fs::read_dir(&here).during(format!("reading {}", here.display()))?;
        for entry in entries {
            let entry = entry.during(format!("reading {}", here.display()))?;
            let relative = inside.join(entry.file_name());
            let kind = entry.file_type().during(format!("reading {}", here.display()))?;
            if kind.is_dir() {
                if entry.file_name() != config::FOLDER && entry.file_name() != ".git" {
                    folders.push(relative);
                }
                continue;
            }
            bar.say(&format!("copying ({} files)", tally.files));
            let Some(name) = relative.to_str() else {
                let shown = relative.to_string_lossy().into_owned();
                tally.skipped.push((shown, "its name is not UTF-8".to_owned()));
                continue;
            };
            if !kind.is_file() {
                tally
                    .skipped
                    .push((name.to_owned(), "it is no file (links are not followed)".to_owned()));
                continue;
            }
            let bytes =
                fs::read(entry.path()).during(format!("reading {}", entry.path().display()))?;
            put_counted(place, name, &bytes, tally)?;
        }
    }
    Ok(())
}

/// Puts a file and counts what became of it; its path in the vault, if it has one.
pub fn put_counted(
    place: &Place,
    name: &str,
    bytes: &[u8],
    tally: &mut Tally,
) -> Outcome<Option<VaultPath>> {
    let path = match place.path_for(name) {
        Ok(path) => path,
        Err(reason) => {
            tally.skipped.push((name.to_owned(), reason));
            return Ok(None);
        }
    };
    let put = place.put(&path, bytes).during(format!("writing {}", plain(path.as_str())))?;
    let at = match put {
        Put::New(at) => {
            tally.files += 1;
            at
        }
        Put::Same(at) => {
            tally.same += 1;
            at
        }
    };
    if at != path {
        tally.aside.push((path.to_string(), at.to_string()));
    }
    Ok(Some(at))
}

fn tell(tally: &Tally, context: &Context) -> Outcome {
    let output = &context.output;
    for (path, reason) in &tally.skipped {
        let message = format!("{} stayed outside: {reason}", plain(path));
        output.value(&json!({ "type": "skipped", "path": path, "message": message }))?;
        if !output.json {
            output.warn(message);
        }
    }
    for (path, at) in &tally.aside {
        output.value(&json!({ "type": "aside", "path": path, "at": at }))?;
        output.line(format!(
            "{} is another file here: it came in as {}",
            plain(path),
            plain(at)
        ))?;
    }
    let mut told = json!({
        "type": "imported",
        "files": tally.files,
        "same": tally.same,
        "commits": 0,
        "aside": tally.aside.len(),
        "skipped": tally.skipped.len(),
    });
    if let Some(history) = &tally.history {
        history.add_to(&mut told);
        history.warn(output);
    }
    output.value(&told)?;
    let same = match tally.same {
        0 => String::new(),
        same => format!(", {} there already", count(same, "was", "were")),
    };
    match &tally.history {
        Some(history) => output.line(format!("{}{same}", history.summary()))?,
        None => output.line(format!("{} imported{same}", count(tally.files, "file", "files")))?,
    }
    let (is_new, is_whole) = match &tally.history {
        Some(history) => (history.commits > 0, history.uncommitted.is_empty()),
        None => (tally.files > 0, true),
    };
    if is_new {
        output.note("`cru sync` sends them");
    }
    Ok(if is_whole && tally.skipped.is_empty() { Exit::Ok } else { Exit::Attention })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> (tempfile::TempDir, Place) {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join(config::FOLDER)).unwrap();
        let place = Place { root: folder.path().to_owned(), into: None };
        (folder, place)
    }

    #[test]
    fn nothing_is_written_over_and_nothing_comes_twice() {
        let (_folder, place) = place();
        let mut tally = Tally::default();
        let mut put = |bytes: &str| {
            let at = put_counted(&place, "x/a.md", bytes.as_bytes(), &mut tally).unwrap();
            at.unwrap().to_string()
        };
        assert_eq!(put("one"), "x/a.md");
        assert_eq!(put("two"), "x/a (imported).md");
        assert_eq!(put("three"), "x/a (imported 2).md");
        assert_eq!(put("two"), "x/a (imported).md");
        assert_eq!((tally.files, tally.same, tally.aside.len()), (3, 1, 3));
        let read = |path: &str| fs::read_to_string(place.root.join(path)).unwrap();
        assert_eq!(read("x/a.md"), "one");
        assert_eq!(read("x/a (imported).md"), "two");
    }

    #[test]
    fn what_cannot_be_a_path_stays_outside_and_is_told() {
        let (_folder, place) = place();
        let mut tally = Tally::default();
        assert!(put_counted(&place, "../a.md", b"x", &mut tally).unwrap().is_none());
        assert_eq!(tally.skipped.len(), 1);
    }
}
