//! Notes whose names something else has, and notes that move through one another's names.

use crucible_node::report::Notice;

use crate::kit::{in_step, is_quiet, pair};

#[test]
fn an_empty_folder_gives_way_to_a_note_of_its_name() {
    let (mut a, mut b) = pair();
    b.replica.fs().disk().user_make_dir("x/deep/er").unwrap();
    a.write("x", "file\n");
    a.sync();
    let report = b.sync();
    assert_eq!((report.notices.len(), report.unplaced), (0, 0));
    in_step(&a, &b);
    is_quiet(&mut b);
}

#[test]
fn what_is_not_synced_keeps_its_name_and_the_note_stands_beside_it() {
    for shape in ["ignored in a folder", "ignored", "pipe", "link"] {
        let (mut a, mut b) = pair();
        match shape {
            "ignored in a folder" => b.write("x/.git/config", "mine\n"),
            "ignored" => {
                b.write(".cruignore", "x\n");
                b.write("x", "mine\n");
            }
            "pipe" => b.replica.fs().disk().user_special("x").unwrap(),
            _ => b.replica.fs().disk().user_symlink("x", "elsewhere").unwrap(),
        }
        a.write("x", "file\n");
        a.write("y.md", "another\n");
        a.sync();
        let report = b.sync();
        assert_eq!(report.unplaced, 0, "{shape}");
        let renamed = |notice: &Notice| matches!(notice, Notice::Renamed { .. });
        assert!(report.notices.iter().any(renamed), "{shape}");
        let aside: Vec<_> =
            b.files().into_iter().filter(|path| path.starts_with("x (conflict ")).collect();
        assert_eq!(aside.len(), 1, "{shape}: {:?}", b.files());
        assert_eq!(b.read(&aside[0]).as_deref(), Some("file\n"), "{shape}");
        assert_eq!(b.read("y.md").as_deref(), Some("another\n"), "{shape}");
        is_quiet(&mut b);
        // Edits beside go to the note, and it comes to its name when that is free.
        b.write(&aside[0], "file, edited\n");
        b.sync();
        a.sync();
        assert_eq!(a.read("x").as_deref(), Some("file, edited\n"), "{shape}");
        if shape == "ignored" {
            b.write(".cruignore", "\n");
        }
        b.replica.fs().disk().user_remove_all("x").unwrap();
        b.sync();
        a.sync();
        in_step(&a, &b);
        assert!(a.files().contains(&"x".to_owned()), "{shape}: {:?}", a.files());
    }
}

#[test]
fn a_note_moves_below_its_own_former_name_and_back() {
    let (mut a, mut b) = pair();
    a.write("a.md", "one\n");
    a.write("c.md", "the other one\n");
    a.sync();
    b.sync();
    a.rename("a.md", "t");
    a.rename("t", "a.md/inner.md");
    a.sync();
    let report = b.sync();
    assert_eq!((report.pushed, report.unplaced, report.notices.len()), (0, 0, 0));
    in_step(&a, &b);
    a.rename("a.md/inner.md", "t");
    a.replica.fs().disk().user_remove_all("a.md").unwrap();
    a.rename("t", "a.md");
    a.sync();
    let report = b.sync();
    assert_eq!((report.pushed, report.unplaced, report.notices.len()), (0, 0, 0));
    in_step(&a, &b);
    assert_eq!(b.files(), ["a.md", "c.md"]);
    is_quiet(&mut b);
}

#[test]
fn an_edit_goes_along_with_a_note_that_moves_below_its_own_name() {
    let (mut a, mut b) = pair();
    a.write("a.md", "one\n\ntwo\n");
    a.sync();
    b.sync();
    a.rename("a.md", "t");
    a.rename("t", "a.md/inner.md");
    a.sync();
    a.write("a.md/inner.md", "one, here\n\ntwo\n");
    b.write("a.md", "one\n\ntwo, there\n");
    a.sync();
    b.sync();
    a.sync();
    in_step(&a, &b);
    assert_eq!(b.read("a.md/inner.md").as_deref(), Some("one, here\n\ntwo, there\n"));
}

#[test]
fn notes_whose_names_lead_through_one_another_all_arrive() {
    let moves: [&[(&str, &str)]; 5] = [
        &[("a.md", "a.md/a.md"), ("b.md", "a.md/b.md"), ("d.md/x.md", "b.md")],
        &[("a.md", "b.md/x.md"), ("b.md", "a.md/y.md")],
        &[("a.md", "b.md/x.md"), ("b.md", "a.md")],
        &[("d.md/x.md", "d.md"), ("d.md/y.md", "a.md"), ("a.md", "b.md/x.md"), ("b.md", "e.md")],
        &[("d.md/x.md", "d.md"), ("d.md/y.md", "y.md")],
    ];
    for moved in moves {
        let (mut a, mut b) = pair();
        for path in ["a.md", "b.md", "d.md/x.md", "d.md/y.md"] {
            a.write(path, &format!("This is the note that was {path} at first.\n"));
        }
        a.sync();
        b.sync();
        for (at, (from, _)) in moved.iter().enumerate() {
            a.rename(from, &format!("t{at}"));
        }
        if a.replica.fs().disk().visible().keys().all(|path| !path.starts_with("d.md/")) {
            a.replica.fs().disk().user_remove_all("d.md").unwrap();
        }
        for (at, (_, to)) in moved.iter().enumerate() {
            a.rename(&format!("t{at}"), to);
        }
        a.sync();
        let report = b.sync();
        assert_eq!((report.pushed, report.unplaced), (0, 0), "{moved:?}");
        in_step(&a, &b);
        is_quiet(&mut b);
    }
}

#[test]
fn a_file_that_cannot_be_written_costs_one_request_and_is_counted() {
    for shape in ["read-only", "pipe", "link"] {
        let (mut a, mut b) = pair();
        a.write("a.md", "one\n");
        a.sync();
        b.sync();
        if shape == "read-only" {
            b.replica.fs().disk().user_set_mode("a.md", 0o444).unwrap();
        } else {
            b.remove("a.md");
            match shape {
                "pipe" => b.replica.fs().disk().user_special("a.md").unwrap(),
                _ => b.replica.fs().disk().user_symlink("a.md", "elsewhere").unwrap(),
            }
        }
        a.write("a.md", "two\n");
        a.sync();
        for _ in 0..2 {
            b.link = b.link.another();
            let report = b.sync();
            assert_eq!((report.traffic.requests, report.unplaced), (1, 1), "{shape}");
            assert_eq!(report.root, report.server_root, "{shape}");
            assert!(report.wants_attention(), "{shape}");
        }
        match shape {
            "read-only" => b.replica.fs().disk().user_set_mode("a.md", 0o644).unwrap(),
            _ => b.remove("a.md"),
        }
        b.replica.fs().disk().user_make_dir("elsewhere-again").unwrap();
        let report = b.sync();
        assert_eq!(report.unplaced, 0, "{shape}");
        a.sync();
        in_step(&a, &b);
    }
}
