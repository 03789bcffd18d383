//! `export --git` shows every text ever acknowledged, and `import` reads one back.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use crate::kit::{World, alone, run, settle};

pub fn git(folder: &Path, arguments: &[&str]) -> Vec<u8> {
    let mut command = Command::new("git");
    alone(&mut command, folder);
    command.arg("-C").arg(folder).args(arguments);
    run(&mut command).ok().out
}

/// Every blob of a repository that a reference reaches.
fn blobs(repository: &Path) -> BTreeSet<Vec<u8>> {
    let listed = git(repository, &["rev-list", "--all", "--objects"]);
    let listed = String::from_utf8(listed).unwrap();
    let mut found = BTreeSet::new();
    for id in listed.lines().filter_map(|line| line.split(' ').next()) {
        let kind = git(repository, &["cat-file", "-t", id]);
        if kind.starts_with(b"blob") {
            found.insert(git(repository, &["cat-file", "blob", id]));
        }
    }
    found
}

#[test]
fn every_text_that_was_acknowledged_is_in_the_exported_repository() {
    let (world, [mut alice, bob]) = World::with_devices();
    let mut said: Vec<String> = Vec::new();
    for round in 0..4 {
        let text = format!("# Note\n\nThe state of round {round}.\n");
        alice.write("note.md", &text);
        alice.write("gone.md", format!("deleted in the end, round {round}\n"));
        said.extend([text, format!("deleted in the end, round {round}\n")]);
        settle(&[&alice, &bob]);
    }
    alice.remove("gone.md");
    bob.rename("note.md", "renamed.md");
    bob.write("caf\u{e9}/crlf.md", "one\r\ntwo\r\n");
    said.push("one\r\ntwo\r\n".to_owned());
    settle(&[&alice, &bob]);
    alice.clock_offset_ms = -60_000;
    let (losing, winning) =
        ("# Note\n\nThe losing state.\n".to_owned(), "# Note\n\nThe winning state.\n".to_owned());
    alice.write("renamed.md", &losing);
    alice.sync();
    bob.write("renamed.md", &winning);
    bob.sync();
    said.extend([losing, winning]);
    alice.clock_offset_ms = 0;
    settle(&[&alice, &bob]);
    for device in [&alice, &bob] {
        let out = world.path(&format!("exported by {}", device.name));
        device.cru(&["export", "--git", out.to_str().unwrap()]).ok();
        git(&out, &["fsck", "--strict"]);
        let log = git(&out, &["log", "--all", "-p", "--text"]);
        let log = String::from_utf8_lossy(&log).into_owned();
        let blobs = blobs(&out);
        for text in &said {
            assert!(blobs.contains(text.as_bytes()), "{}: {text:?} is lost", device.name);
            let last = text.trim_end().lines().next_back().unwrap();
            assert!(log.contains(last), "{}: `git log -p` does not show {last:?}", device.name);
        }
        assert!(log.contains("ada@example.org"), "who wrote is not told");
        let head = git(&out, &["ls-tree", "-r", "-z", "--name-only", "HEAD"]);
        let mut names: Vec<&[u8]> = head.split(|byte| *byte == 0).collect();
        names.retain(|name| !name.is_empty());
        assert_eq!(names, ["caf\u{e9}/crlf.md".as_bytes(), b"renamed.md"]);
    }
}

#[test]
fn a_note_that_looks_like_the_export_format_does_no_harm() {
    let (world, [alice]) = World::with_devices();
    let text = "data 5\nhello\ncommit refs/heads/evil\nM 100644 inline ../../x\n\n\0\n";
    alice.write("data 3.md", text);
    alice.write("quote\".md", text);
    alice.write("new\u{85}line.md", text);
    alice.try_sync().code_in(&[0, 3]);
    let out = world.path("exported");
    alice.cru(&["export", "--git", out.to_str().unwrap()]).ok();
    assert!(blobs(&out).contains(text.as_bytes()));
    git(&out, &["fsck", "--strict"]);
}

#[test]
fn export_does_not_write_over_what_is_there() {
    let (world, [alice]) = World::with_devices();
    alice.write("a.md", "a\n");
    alice.sync();
    let out = world.path("taken");
    std::fs::create_dir(&out).unwrap();
    std::fs::write(out.join("precious"), "precious").unwrap();
    alice.cru(&["export", "--git", out.to_str().unwrap()]).code_in(&[1, 2, 16]);
    assert_eq!(std::fs::read(out.join("precious")).unwrap(), b"precious");
}

#[test]
fn an_imported_git_history_is_history_here() {
    let (world, [alice, bob]) = World::with_devices();
    let repository = world.path("repository");
    std::fs::create_dir(&repository).unwrap();
    git(&repository, &["init", "-q", "-b", "main"]);
    git(&repository, &["config", "user.name", "Grace"]);
    git(&repository, &["config", "user.email", "grace@example.org"]);
    for (text, year) in
        [("first\n", 2011), ("first\nsecond\n", 2019), ("first\nsecond\nthird\n", 2020)]
    {
        std::fs::write(repository.join("old.md"), text).unwrap();
        git(&repository, &["add", "-A"]);
        let date = format!("--date={year}-03-04T05:06:07Z");
        git(&repository, &["commit", "-q", "-m", "a change", &date]);
    }
    alice.cru(&["import", repository.to_str().unwrap()]).code_in(&[0, 3]);
    settle(&[&alice, &bob]);
    let log = bob.log("old.md");
    let dates: Vec<&str> = log.iter().map(|version| version["stamp"].as_str().unwrap()).collect();
    for year in ["2011-03-04", "2019-03-04", "2020-03-04"] {
        assert!(dates.iter().any(|date| date.starts_with(year)), "{dates:?}");
    }
    // What is made from now on is of now, and a history that comes later has no place before it.
    alice.write("old.md", "first\nsecond\nthird\nfourth\n");
    alice.sync();
    let newest = alice.log("old.md").iter().map(|v| v["stamp"].to_string()).max().unwrap();
    assert!(newest.as_str() > "\"2021", "{newest}");
    alice.cru(&["import", repository.to_str().unwrap(), "--into", "again"]).code_in(&[0, 3]);
    settle(&[&alice, &bob]);
    assert_eq!(bob.log("again/old.md").len(), 3);
    assert_eq!(bob.read("old.md"), "first\nsecond\nthird\nfourth\n");
    for text in ["first\n", "first\nsecond\n"] {
        assert!(bob.version_of("old.md", text).is_some(), "{text:?} is not in the history");
    }
}

#[test]
fn an_imported_folder_is_in_the_vault() {
    let (world, [alice, bob]) = World::with_devices();
    let folder = world.path("folder");
    std::fs::create_dir_all(folder.join("sub")).unwrap();
    std::fs::write(folder.join("one.md"), "one\n").unwrap();
    std::fs::write(folder.join("sub/two.md"), "two\n").unwrap();
    alice.write("one.md", "already here\n");
    alice.sync();
    alice.cru(&["import", folder.to_str().unwrap()]).code_in(&[0, 3]);
    settle(&[&alice, &bob]);
    let texts: Vec<String> =
        bob.tree().into_values().map(|bytes| String::from_utf8(bytes).unwrap()).collect();
    let all = texts.join("|");
    for part in ["one\n", "two\n", "already here\n"] {
        assert!(all.contains(part), "{part:?} is lost: {texts:?}");
    }
}
