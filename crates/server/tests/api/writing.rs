//! The engine writes: what the page and live sessions say becomes versions that are merged.

use crucible_core::id::VersionId;
use crucible_core::version::Kind;
use crucible_server::rounds::{EngineError, Party, Rounds, Write};
use crucible_store::server_repo::History;
use crucible_sync::repo::Repo;
use crucible_trust::rights::Access;

use crate::real::{ANNA, NOTES, Real, at, text};

#[test]
fn an_edit_of_the_head_is_the_new_head_and_says_who_wrote_it() {
    let server = Real::start();
    let first = server.create("plan.md", "one\n");
    assert_eq!((first.before, first.id), (None, first.head));
    let second = server.edit(first.id, "plan.md", "one\ntwo\n");
    assert_eq!((second.before, second.id), (Some(first.id), second.head));
    assert_eq!((text(&second), second.note), ("one\ntwo\n", first.note));
    let store = server.store();
    assert_eq!(store.root().unwrap(), second.root);
    let version = store.version(&second.id).unwrap().unwrap();
    assert_eq!(version.parents, [first.id]);
    assert_eq!(version.live().unwrap().kind, Kind::Note);
    let revision = store.revision(&second.id).unwrap().unwrap();
    assert_eq!(revision.origin.unwrap().user, ANNA);
}

#[test]
fn an_edit_of_an_old_base_is_merged_with_what_came_since() {
    let server = Real::start();
    let base = server.create("plan.md", "one\n\ntwo\n\nthree\n");
    let theirs = server.edit(base.id, "plan.md", "ONE\n\ntwo\n\nthree\n");
    let ours = server.edit(base.id, "plan.md", "one\n\ntwo\n\nTHREE\n");
    assert_eq!(text(&ours), "ONE\n\ntwo\n\nTHREE\n");
    assert_ne!(ours.id, ours.head);
    let store = server.store();
    let head = store.version(&ours.head).unwrap().unwrap();
    let mut sides = vec![theirs.id, ours.id];
    sides.sort_unstable();
    assert!(head.is_merge());
    assert_eq!(head.parents, sides);
    // Two events of one replica that do not know of each other would be a lie about its past.
    let (a, b) = (store.version(&theirs.id).unwrap(), store.version(&ours.id).unwrap());
    let (a, b) = (a.unwrap(), b.unwrap());
    assert_ne!(a.author, b.author);
    assert!(!a.clock.dominates(&b.clock) && !b.clock.dominates(&a.clock));
    assert!(b.stamp > a.stamp);
    // And on top of the merge it goes on.
    let next = server.edit(ours.head, "plan.md", "ONE\n\n2\n\nTHREE\n");
    assert_eq!((next.id, text(&next)), (next.head, "ONE\n\n2\n\nTHREE\n"));
}

#[test]
fn two_edits_of_one_line_leave_a_conflict_and_an_edit_survives_a_deletion() {
    let server = Real::start();
    let base = server.create("plan.md", "at ten\n");
    server.edit(base.id, "plan.md", "at noon\n");
    server.edit(base.id, "plan.md", "at four\n");
    let other = server.create("gone.md", "old\n");
    let gone = server.write(&Write::delete(other.id));
    assert_eq!((gone.path, gone.content), (None, None));
    let back = server.edit(other.id, "gone.md", "new\n");
    assert_eq!((back.path.as_ref(), text(&back)), (Some(&at("gone.md")), "new\n"));
    assert_eq!(server.store().open_conflicts(9).unwrap().len(), 2);
}

#[test]
fn what_says_nothing_new_makes_no_version() {
    let server = Real::start();
    let first = server.create("plan.md", "one\n");
    let seq = server.store().seq().unwrap();
    let same = server.edit(first.id, "plan.md", "one\n");
    assert_eq!((same.id, same.head, same.root), (first.id, first.id, first.root));
    let moved = server.write(&Write::rename(first.id, at("plan.md")));
    assert_eq!((moved.id, server.store().seq().unwrap()), (first.id, seq));
}

#[test]
fn a_path_that_is_taken_is_refused_and_one_that_was_left_is_not() {
    let server = Real::start();
    let first = server.create("a/plan.md", "one\n");
    let second = server.create("b.md", "two\n");
    let taken = |write: Write| match server.try_write(&write) {
        Err(EngineError::Exists(path)) => path.to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!(taken(Write::create(at("a/plan.md"), *b"x")), "a/plan.md");
    assert_eq!(taken(Write::create(at("a"), *b"x")), "a");
    assert_eq!(taken(Write::create(at("b.md/c/d.md"), *b"x")), "b.md");
    assert_eq!(taken(Write::rename(second.id, at("a/plan.md"))), "a/plan.md");
    let moved = server.write(&Write::rename(first.id, at("c.md")));
    assert_eq!((moved.path, moved.note), (Some(at("c.md")), first.note));
    let again = server.create("a/plan.md", "another\n");
    assert_ne!(again.note, first.note);
    let gone = server.write(&Write::delete(second.head));
    let back = server.create("b.md", "three\n");
    assert_eq!((back.note, back.before), (second.note, Some(gone.head)));
}

#[test]
fn frontmatter_keys_get_the_stamp_of_the_edit_that_changed_them() {
    let server = Real::start();
    let first = server.create("a.md", "---\nstate: open\nwho: anna\n---\n");
    let second = server.edit(first.id, "a.md", "---\nstate: done\nwho: anna\n---\n");
    let version = server.store().version(&second.id).unwrap().unwrap();
    let keys: Vec<_> = version.live().unwrap().keys.iter().collect();
    assert_eq!(keys, [(&"state".to_owned(), &version.stamp)]);
}

#[test]
fn nothing_is_written_without_the_right_a_base_and_a_bound() {
    let server = Real::start();
    let first = server.create("a.md", "one\n");
    let second = server.edit(first.id, "a.md", "two\n");
    let read = Party { access: Access::Read, ..server.party() };
    let refused = server.engine.write(&NOTES, &read, &Write::delete(second.id));
    assert!(matches!(refused, Err(EngineError::ReadOnly)), "{refused:?}");
    let refused = server.try_write(&Write::delete(first.id));
    assert!(matches!(refused, Err(EngineError::Changed)), "{refused:?}");
    let nobody = VersionId::from_bytes([7; 32]);
    let refused = server.try_write(&Write::edit(nobody, &at("a.md"), *b"x"));
    assert!(matches!(refused, Err(EngineError::NoSuchVersion)), "{refused:?}");
    let gone = server.write(&Write::delete(second.id));
    let refused = server.try_write(&Write::edit(gone.id, &at("a.md"), *b"x"));
    assert!(matches!(refused, Err(EngineError::NoSuchVersion)), "{refused:?}");
    let large = vec![b'x'; (16 << 20) + 1];
    let refused = server.try_write(&Write::create(at("large.md"), large));
    assert!(matches!(refused, Err(EngineError::TooLarge)), "{refused:?}");
    let written = server.create("small.png", "not much of a picture");
    let version = server.store().version(&written.id).unwrap().unwrap();
    assert_eq!(version.live().unwrap().kind, Kind::Asset);
}
