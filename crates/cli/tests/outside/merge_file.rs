//! `cru merge-file`, by itself and as git's merge driver.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::kit::{Ran, alone, cru, cru_binary, run};

fn merge(texts: [&str; 3], more: &[&str]) -> Ran {
    let folder = tempfile::tempdir().unwrap();
    let mut command = cru(folder.path());
    command.arg("merge-file");
    for (name, text) in ["base.md", "ours.md", "theirs.md"].into_iter().zip(texts) {
        fs::write(folder.path().join(name), text).unwrap();
        command.arg(folder.path().join(name));
    }
    run(command.args(more))
}

#[test]
fn a_clean_merge_is_printed_and_exits_0() {
    let ran = merge(["one two three\n", "one 2 three\n", "one two 3\n"], &[]).ok();
    assert_eq!(ran.text(), "one 2 3\n");
}

#[test]
fn a_merge_that_had_to_choose_exits_3_and_json_tells_the_loser() {
    let texts = ["one two three\n", "one zwei three\n", "one deux three\n"];
    let plain = merge(texts, &[]).code(3);
    assert!(["one zwei three\n", "one deux three\n"].contains(&plain.text()), "{}", plain.told());
    let told = merge(texts, &["--json"]).code(3);
    assert!(told.text().contains("zwei") && told.text().contains("deux"), "{}", told.told());
    told.objects();
}

#[test]
fn the_order_of_the_sides_does_not_change_a_clean_merge() {
    let (base, x, y) = ("a\n\nb\n\nc\n", "a1\n\nb\n\nc\n\nd\n", "a\n\nb\n\nc2\n");
    let (one, other) = (merge([base, x, y], &[]).ok(), merge([base, y, x], &[]).ok());
    assert_eq!(one.out, other.out);
    assert_eq!(one.text(), "a1\n\nb\n\nc2\n\nd\n");
}

#[test]
fn a_file_that_is_not_there_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = cru(folder.path());
    let ran = run(command.args(["merge-file", "/nowhere/a.md", "/nowhere/b.md", "/nowhere/c.md"]));
    ran.code_in(&[1, 2]).says("a.md");
}

fn git(folder: &Path, arguments: &[&str]) -> Ran {
    let mut command = Command::new("git");
    alone(&mut command, folder);
    for role in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{role}_NAME"), "Ada");
        command.env(format!("GIT_{role}_EMAIL"), "ada@example.org");
    }
    command.arg("-C").arg(folder).args(arguments);
    run(&mut command)
}

#[test]
fn git_uses_it_as_a_merge_driver() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    git(here, &["init", "-q", "-b", "main"]).ok();
    let driver = format!("'{}' merge-file --write %O %A %B", cru_binary());
    git(here, &["config", "merge.cru.driver", &driver]).ok();
    fs::write(here.join(".gitattributes"), "*.md merge=cru\n").unwrap();
    let commit = |text: &str| {
        fs::write(here.join("note.md"), text).unwrap();
        git(here, &["add", "-A"]).ok();
        git(here, &["commit", "-q", "-m", "change"]).ok();
    };
    commit("The fox runs. The dog sleeps. The cat waits.\n");
    git(here, &["checkout", "-q", "-b", "side"]).ok();
    commit("The fox runs. The dog sleeps. The cat waits no longer.\n");
    git(here, &["checkout", "-q", "main"]).ok();
    commit("The red fox runs. The dog sleeps. The cat waits.\n");
    git(here, &["merge", "-q", "--no-edit", "side"]).ok();
    let merged = fs::read_to_string(here.join("note.md")).unwrap();
    assert_eq!(merged, "The red fox runs. The dog sleeps. The cat waits no longer.\n");
    git(here, &["branch", "other"]).ok();
    commit("The red fox runs. The dog rests. The cat waits no longer.\n");
    git(here, &["checkout", "-q", "other"]).ok();
    commit("The red fox runs. The dog dreams. The cat waits no longer.\n");
    let told = git(here, &["merge", "-q", "--no-edit", "main"]).code(1);
    let text = fs::read_to_string(here.join("note.md")).unwrap();
    assert!(!text.contains("<<<<"), "markers in a note\n{}", told.told());
    let status = git(here, &["status", "--porcelain"]).ok();
    assert!(status.text().contains("UU note.md"), "git was not told\n{}", status.told());
}

#[test]
fn a_merge_that_had_to_choose_says_where_the_other_text_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let sides = [("base", "Friday"), ("ours.md", "Saturday"), ("theirs.md", "Sunday")];
    let fill = || {
        for (name, day) in sides {
            fs::write(path(name), format!("We meet on {day}.\n")).unwrap();
        }
    };
    let merge = |more: &[&str]| {
        let mut command = cru(folder.path());
        command.arg("merge-file").args(sides.map(|(name, _)| path(name))).args(more);
        run(&mut command).code(3)
    };
    fill();
    let printed = merge(&[]).says("“Saturday” was set aside");
    assert_eq!(printed.err.lines().count(), 1, "{}", printed.told());
    assert!(printed.err.contains("set aside: ") && printed.err.contains("ours.md"));
    let other = merge(&["--prefer", "ours"]).says("“Sunday” was set aside");
    assert!(other.err.trim_end().ends_with("theirs.md"), "{}", other.told());
    for orig in ["ours.md.orig", "ours.md.orig.2"] {
        fill();
        let written = merge(&["--write"]);
        assert!(written.err.trim_end().ends_with(orig), "{}", written.told());
        assert_eq!(fs::read_to_string(path(orig)).unwrap(), "We meet on Saturday.\n");
        assert_eq!(fs::read_to_string(path("ours.md")).unwrap(), "We meet on Sunday.\n");
    }
    fill();
    let both = merge(&["--write", "--prefer", "both"]).says("both stayed");
    assert!(!both.err.contains("set aside:"), "{}", both.told());
    assert!(!path("ours.md.orig.3").exists(), "nothing was set aside");
}

#[test]
fn git_is_told_where_the_other_text_is_and_it_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    git(here, &["init", "-q", "-b", "main"]).ok();
    for (name, prefer) in [("cru", "theirs"), ("cru-ours", "ours")] {
        let driver =
            format!("'{}' merge-file --write --prefer {prefer} --label %P %O %A %B", cru_binary());
        git(here, &["config", &format!("merge.{name}.driver"), &driver]).ok();
    }
    let attributes = "*.md merge=cru\nother/*.md merge=cru-ours\n";
    fs::write(here.join(".gitattributes"), attributes).unwrap();
    fs::create_dir_all(here.join("other")).unwrap();
    let names = ["my note.md", "other/b.md"];
    let commit = |day: &str| {
        for name in names {
            fs::write(here.join(name), format!("We meet on {day}.\n")).unwrap();
        }
        git(here, &["add", "-A"]).ok();
        git(here, &["commit", "-q", "-m", day]).ok();
    };
    commit("Friday");
    git(here, &["checkout", "-q", "-b", "side"]).ok();
    commit("Sunday");
    git(here, &["checkout", "-q", "main"]).ok();
    commit("Saturday");
    let told = git(here, &["merge", "--no-edit", "side"]).code(1);
    for (name, stage, lost) in [(names[0], 2, "Saturday"), (names[1], 3, "Sunday")] {
        let line = told.err.lines().find(|line| line.contains(&format!("note: {name}: ")));
        let line = line.unwrap_or_else(|| panic!("no line about {name}\n{}", told.told()));
        assert!(line.contains(&format!("“{lost}” was set aside")), "{line}");
        let what = format!(":{stage}:{name}");
        assert!(line.contains(&format!("`git show '{what}'`")), "{line}");
        assert_eq!(git(here, &["show", &what]).ok().text(), format!("We meet on {lost}.\n"));
    }
    let status = git(here, &["status", "--porcelain"]).ok();
    assert!(!status.text().contains("??"), "something is left behind\n{}", status.told());
}

#[test]
fn a_large_merge_goes_through_a_pipe_that_does_not_block() {
    let folder = tempfile::tempdir().unwrap();
    let line = "The quick brown fox jumps over the lazy dog.\n";
    let base = line.repeat(450_000);
    let ours = format!("At the top.\n{base}");
    let theirs = format!("{base}At the bottom.\n");
    let mut command = cru(folder.path());
    command.arg("merge-file");
    for (name, text) in [("base", &base), ("ours", &ours), ("theirs", &theirs)] {
        fs::write(folder.path().join(name), text).unwrap();
        command.arg(folder.path().join(name));
    }
    let (mut reader, writer) = std::io::pipe().unwrap();
    rustix::io::ioctl_fionbio(&writer, true).unwrap();
    let mut child = command.stdout(writer).spawn().unwrap();
    drop(command);
    let mut merged = String::new();
    std::io::Read::read_to_string(&mut reader, &mut merged).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(merged == format!("At the top.\n{base}At the bottom.\n"), "{} bytes", merged.len());
}
