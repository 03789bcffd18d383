//! `import` of a git repository: again, with uncommitted work, into a vault that has a past.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::export::git;
use crate::kit::{Device, Ran, World, settle};

/// A repository that `grace` commits to.
struct Repository {
    folder: PathBuf,
}

impl Repository {
    fn new(world: &World) -> Self {
        let folder = world.path("repository");
        std::fs::create_dir(&folder).unwrap();
        git(&folder, &["init", "-q", "-b", "main"]);
        git(&folder, &["config", "user.name", "Grace"]);
        git(&folder, &["config", "user.email", "grace@example.org"]);
        Self { folder }
    }

    fn write(&self, path: &str, text: &str) {
        std::fs::write(self.folder.join(path), text).unwrap();
    }

    fn commit(&self, year: u32) {
        git(&self.folder, &["add", "-A"]);
        let date = format!("--date={year}-03-04T05:06:07Z");
        git(&self.folder, &["commit", "-q", "-m", "a change", &date]);
    }

    fn path(&self) -> &str {
        Path::to_str(&self.folder).unwrap()
    }

    fn import(&self, into: &Device, more: &[&str]) -> Ran {
        into.cru(&[&["import", self.path()], more].concat())
    }
}

fn texts(device: &Device, path: &str) -> Vec<String> {
    let log = device.log(path);
    let ids = log.iter().map(|version| version["version"].as_str().unwrap().to_owned());
    ids.map(|id| device.cru(&["show", &format!("{path}@{id}")]).ok().text().to_owned()).collect()
}

#[test]
fn what_is_not_committed_is_named_and_stays_outside() {
    let (world, [alice]) = World::with_devices();
    let repository = Repository::new(&world);
    repository.write("a.md", "one\n");
    repository.write("b.md", "b\n");
    repository.commit(2011);
    repository.write("a.md", "one, and more\n");
    repository.write("new.md", "never added\n");
    let told = repository.import(&alice, &[]).code(3);
    for part in ["2 files", "not committed", "a.md", "new.md"] {
        assert!(told.err.contains(part), "{part}\n{}", told.told());
    }
    assert!(!told.err.contains("b.md"), "{}", told.told());
    assert_eq!(alice.read("a.md"), "one\n");
    assert!(!alice.has("new.md"));
    let last = repository.import(&alice, &["--json", "--into", "again"]).code(3).last();
    assert_eq!(last["uncommitted"], 2, "{last}");
    repository.commit(2012);
    repository.import(&alice, &["--into", "clean"]).ok();
}

#[test]
fn a_history_that_is_here_already_does_not_come_twice_and_what_is_new_goes_on_from_it() {
    let (world, [alice, bob]) = World::with_devices();
    let repository = Repository::new(&world);
    for (text, year) in [("one\n", 2011), ("one\ntwo\n", 2012)] {
        repository.write("a.md", text);
        repository.write("gone.md", text);
        repository.commit(year);
    }
    std::fs::remove_file(repository.folder.join("gone.md")).unwrap();
    repository.commit(2013);
    // Its name is taken here: what comes again is known beside it.
    alice.write("taken.md", "alice's own\n");
    repository.write("taken.md", "of the repository\n");
    repository.commit(2014);
    repository.import(&alice, &[]).ok();
    settle(&[&alice, &bob]);
    let (before, tree) = (alice.cru(&["log", "--json"]).ok().objects().len(), alice.tree());
    for device in [&alice, &bob] {
        let again = repository.import(device, &[]).ok();
        assert!(
            again.text().contains("4 commits were imported before: nothing is new"),
            "{}",
            again.told()
        );
        assert_eq!(device.tree(), tree);
    }
    settle(&[&alice, &bob]);
    assert_eq!(alice.cru(&["log", "--json"]).ok().objects().len(), before);

    repository.write("a.md", "one\ntwo\nthree\n");
    repository.commit(2015);
    let more = repository.import(&bob, &["--json"]).ok().last();
    assert_eq!((&more["commits"], &more["known_commits"]), (&1.into(), &4.into()), "{more}");
    settle(&[&alice, &bob]);
    assert_eq!(texts(&alice, "a.md"), ["one\ntwo\nthree\n", "one\ntwo\n", "one\n"]);
    assert!(alice.has("taken (imported).md") && !alice.has("taken (imported 2).md"));
    assert_eq!(alice.tree().len(), 3, "{:?}", alice.tree().keys());

    // What somebody has changed here since stays, whatever comes.
    alice.write("a.md", "alice's\n");
    alice.remove("taken (imported).md");
    repository.import(&alice, &[]).ok();
    assert_eq!(alice.read("a.md"), "alice's\n");
    assert!(!alice.has("taken (imported).md"), "what was deleted here came back");
    repository.write("a.md", "one\ntwo\nthree\nfour\n");
    repository.commit(2016);
    repository.import(&alice, &[]).ok();
    assert_eq!(alice.read("a.md"), "alice's\n");
    assert_eq!(alice.read("a (imported).md"), "one\ntwo\nthree\nfour\n");
}

#[test]
fn what_came_in_is_counted_as_it_stands() {
    let (world, [alice]) = World::with_devices();
    let repository = Repository::new(&world);
    repository.write("draft.md", "one\n");
    repository.commit(2011);
    repository.write("passing.md", "passing\n");
    repository.commit(2012);
    git(&repository.folder, &["mv", "draft.md", "final.md"]);
    git(&repository.folder, &["rm", "-q", "passing.md"]);
    repository.commit(2013);
    let told = repository.import(&alice, &[]).ok();
    let line = "3 commits imported: 1 file is here now, 2 that were deleted or renamed since are \
                in its history";
    assert!(told.text().contains(line), "{}", told.told());
    assert!(!told.err.contains("dates"), "{}", told.told());
    assert_eq!(alice.tree().len(), 1);
    let late = repository.import(&alice, &["--into", "late"]).ok();
    assert!(
        late.err.contains("2 commits are older than versions that are here"),
        "{}",
        late.told()
    );
}

#[test]
fn what_cannot_come_in_of_a_repository_is_told() {
    let (world, [alice]) = World::with_devices();
    let repository = Repository::new(&world);
    let empty = repository.import(&alice, &[]).code(1);
    assert!(empty.err.contains("has no commits"), "{}", empty.told());
    repository.write("a.md", "one\n");
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n";
    repository.write("large.psd", pointer);
    std::os::unix::fs::symlink("a.md", repository.folder.join("link.md")).unwrap();
    let not_utf8 = std::ffi::OsStr::from_bytes(b"caf\xe9.md");
    std::fs::write(repository.folder.join(not_utf8), "x").unwrap();
    let only_files = repository.import(&alice, &[]).code(1);
    assert!(only_files.err.contains("4 files that are not committed"), "{}", only_files.told());
    repository.commit(2011);
    let told = repository.import(&alice, &[]).code(3);
    for part in ["link.md stayed outside", "not UTF-8", "1 file has a pointer of git lfs"] {
        assert!(told.err.contains(part), "{part}\n{}", told.told());
    }
    let names: Vec<String> = alice.tree().into_keys().collect();
    assert_eq!(names, ["a.md", "large.psd"]);
}

#[test]
fn a_bare_repository_and_a_shallow_clone_come_in() {
    let (world, [alice]) = World::with_devices();
    let repository = Repository::new(&world);
    for (text, year) in [("one\n", 2011), ("two\n", 2012)] {
        repository.write("a.md", text);
        repository.commit(year);
    }
    let from = format!("file://{}", repository.path());
    let (bare, shallow) = (world.path("bare"), world.path("shallow"));
    git(&repository.folder, &["clone", "-q", "--bare", &from, bare.to_str().unwrap()]);
    let cut = shallow.to_str().unwrap();
    git(&repository.folder, &["clone", "-q", "--depth", "1", &from, cut]);
    alice.cru(&["import", bare.to_str().unwrap(), "--into", "bare"]).ok();
    assert_eq!(texts(&alice, "bare/a.md"), ["two\n", "one\n"]);
    let told = alice.cru(&["import", cut, "--into", "shallow"]).ok();
    assert!(told.err.contains("shallow clone"), "{}", told.told());
    assert_eq!(texts(&alice, "shallow/a.md"), ["two\n"]);
}

#[test]
fn branches_that_came_together_come_in_once() {
    let (world, [alice]) = World::with_devices();
    let repository = Repository::new(&world);
    let folder = &repository.folder;
    repository.write("a.md", "a\n\nb\n\nc\n");
    repository.commit(2011);
    git(folder, &["checkout", "-q", "-b", "side"]);
    repository.write("a.md", "a\n\nb\n\nC\n");
    repository.write("side.md", "side\n");
    repository.commit(2012);
    git(folder, &["checkout", "-q", "main"]);
    repository.write("a.md", "A\n\nb\n\nc\n");
    repository.commit(2013);
    git(folder, &["merge", "-q", "--no-edit", "side"]);
    repository.import(&alice, &[]).ok();
    assert_eq!(alice.read("a.md"), "A\n\nb\n\nC\n");
    assert_eq!(alice.read("side.md"), "side\n");
    let before = alice.cru(&["log", "--json"]).ok().objects().len();
    let again = repository.import(&alice, &[]).ok();
    assert!(again.text().contains("4 commits were imported before"), "{}", again.told());
    assert_eq!(alice.cru(&["log", "--json"]).ok().objects().len(), before);
}
