//! A device: a home, a folder, and hands to edit it with.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::ran::{Ran, cru, run};

/// A folder's files and their bytes, `.crucible` left out.
pub type Tree = BTreeMap<String, Vec<u8>>;

/// One device with one folder.
pub struct Device {
    /// What it is called in messages.
    pub name: String,
    /// Its `CRU_HOME`.
    pub home: PathBuf,
    /// Its vault.
    pub dir: PathBuf,
    /// By how much its clock is wrong.
    pub clock_offset_ms: i64,
}

impl Device {
    /// A device that has done nothing yet; its folder need not exist.
    pub fn new(name: &str, home: PathBuf, dir: PathBuf) -> Device {
        fs::create_dir_all(&home).unwrap();
        Device { name: name.to_owned(), home, dir, clock_offset_ms: 0 }
    }

    /// A command of this device that is not about its folder.
    pub fn command(&self) -> Command {
        let mut command = cru(&self.home);
        if self.clock_offset_ms != 0 {
            command.env("CRU_CLOCK_OFFSET_MS", self.clock_offset_ms.to_string());
        }
        command
    }

    /// `cru -C DIR …`
    pub fn cru(&self, arguments: &[&str]) -> Ran {
        let mut command = self.command();
        command.arg("-C").arg(&self.dir).args(arguments);
        run(&mut command)
    }

    /// `cru -C DIR …`, left running with its output piped.
    pub fn spawn(&self, arguments: &[&str]) -> Child {
        let mut command = self.command();
        command.arg("-C").arg(&self.dir).args(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// `cru join LINK DIR --yes` with a token.
    pub fn join(&self, link: &str, token: &str) -> Ran {
        let mut command = self.command();
        command.env("CRU_TOKEN", token).args(["join", link]).arg(&self.dir).arg("--yes");
        run(&mut command)
    }

    /// `cru join LINK DIR --yes` with a link that carries a code.
    pub fn join_by_code(&self, link: &str) -> Ran {
        let mut command = self.command();
        command.args(["join", link]).arg(&self.dir).arg("--yes");
        run(&mut command)
    }

    /// One round, whatever comes of it.
    pub fn try_sync(&self) -> Ran {
        self.cru(&["sync", "--json"])
    }

    /// One round that goes through (exit 0 or 3); gives its last line.
    #[track_caller]
    pub fn sync(&self) -> Value {
        let done = self.try_sync().code_in(&[0, 3]).last();
        assert_eq!(done["type"], "done", "{}: the last line is {done}", self.name);
        assert_eq!(done["root"], done["server_root"], "{}: not in step: {done}", self.name);
        done
    }

    /// Writes a file, making its folder.
    pub fn write(&self, path: &str, bytes: impl AsRef<[u8]>) {
        let file = self.file(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, bytes).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    }

    /// Replaces a part of a note; it must be there.
    #[track_caller]
    pub fn replace(&self, path: &str, old: &str, new: &str) {
        let text = self.read(path);
        assert!(text.contains(old), "{}: {path} has no {old:?}: {text:?}", self.name);
        self.write(path, text.replace(old, new));
    }

    /// A note's text.
    #[track_caller]
    pub fn read(&self, path: &str) -> String {
        let bytes = fs::read(self.file(path));
        let bytes = bytes.unwrap_or_else(|error| {
            let names: Vec<String> = self.tree().into_keys().collect();
            panic!("{}: {path}: {error}; there are {names:?}", self.name)
        });
        String::from_utf8(bytes).unwrap()
    }

    /// Whether there is a file.
    pub fn has(&self, path: &str) -> bool {
        self.file(path).is_file()
    }

    /// Deletes a file.
    #[track_caller]
    pub fn remove(&self, path: &str) {
        fs::remove_file(self.file(path)).unwrap();
    }

    /// Renames a file or folder, making the folder it goes to.
    #[track_caller]
    pub fn rename(&self, from: &str, to: &str) {
        fs::create_dir_all(self.file(to).parent().unwrap()).unwrap();
        fs::rename(self.file(from), self.file(to)).unwrap();
    }

    /// The full path of a file.
    pub fn file(&self, path: &str) -> PathBuf {
        self.dir.join(path)
    }

    /// Every file and its bytes.
    pub fn tree(&self) -> Tree {
        let mut tree = Tree::new();
        if self.dir.is_dir() {
            collect(&self.dir, "", &mut tree);
        }
        tree
    }

    /// The versions of a note as `cru log` tells them, newest first or last as it does.
    #[track_caller]
    pub fn log(&self, path: &str) -> Vec<Value> {
        self.cru(&["log", path, "--json"]).ok().objects()
    }

    /// The version whose content is `text`, if the log has one.
    pub fn version_of(&self, path: &str, text: &str) -> Option<String> {
        let versions = self.log(path);
        let ids = versions.iter().filter_map(|version| version["version"].as_str());
        ids.map(str::to_owned).find(|id| {
            let shown = self.cru(&["show", &format!("{path}@{id}")]);
            shown.code == Some(0) && shown.out == text.as_bytes()
        })
    }

    /// What `cru conflicts` lists.
    #[track_caller]
    pub fn conflicts(&self) -> Vec<Value> {
        self.cru(&["conflicts", "--json"]).code_in(&[0, 3]).objects()
    }
}

fn collect(folder: &Path, inside: &str, tree: &mut Tree) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().to_string_lossy().into_owned();
        if inside.is_empty() && name == ".crucible" {
            continue;
        }
        let path = if inside.is_empty() { name } else { format!("{inside}/{name}") };
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            collect(&entry.path(), &path, tree);
        } else if kind.is_file() {
            tree.insert(path, fs::read(entry.path()).unwrap());
        }
    }
}

/// Asserts that devices hold the same files with the same bytes.
#[track_caller]
pub fn assert_same(devices: &[&Device]) {
    let trees: Vec<Tree> = devices.iter().map(|device| device.tree()).collect();
    for (device, tree) in devices.iter().zip(&trees).skip(1) {
        let (first, one) = (&devices[0].name, &trees[0]);
        let names: Vec<&String> = one.keys().chain(tree.keys()).collect();
        for name in names {
            let (here, there) = (one.get(name), tree.get(name));
            let shown = |bytes: Option<&Vec<u8>>| {
                bytes.map(|bytes| {
                    String::from_utf8_lossy(&bytes[..bytes.len().min(2000)]).into_owned()
                })
            };
            assert!(
                here == there,
                "{name} differs\n{first}: {:?}\n{}: {:?}",
                shown(here),
                device.name,
                shown(there),
            );
        }
    }
}

/// Rounds until nobody has anything new to say, then asserts that all folders are equal.
#[track_caller]
pub fn settle(devices: &[&Device]) {
    for _ in 0..2 {
        for device in devices {
            device.sync();
        }
    }
    let roots: Vec<Value> = devices.iter().map(|device| device.sync()["root"].clone()).collect();
    assert!(roots.iter().all(|root| *root == roots[0]), "the roots differ: {roots:?}");
    assert_same(devices);
}
