//! A round stopped at any call, and the next one stopped at any call: nothing is lost, and all
//! come together in the end.

use std::collections::BTreeMap;

use crucible_core::conflict::Conflict;
use crucible_sync::repo::Repo;
use crucible_testkit::fake_fs::{Disk, Fault, Handle};

use crate::kit::{Device, Moment, in_step, is_quiet, pair};

/// What `a` did to its folder, and what stands in the way in that of `b`.
struct Story {
    name: &'static str,
    /// Notes of both.
    before: &'static [&'static str],
    /// What only `b` has, and no round takes in; a folder where it ends in a slash.
    only_b: &'static [&'static str],
    /// From where to where; nowhere is removed.
    moves: &'static [(&'static str, &'static str)],
    /// Written on `a` after the moves.
    edits: &'static [&'static str],
}

const STORY: Story = Story { name: "", before: &[], only_b: &[], moves: &[], edits: &[] };
const FOUR: &[&str] = &["a.md", "b.md", "d.md/x.md", "d.md/y.md"];

const STORIES: [Story; 17] = [
    Story {
        name: "below its own name",
        before: &["a.md"],
        moves: &[("a.md", "a.md/inner.md")],
        ..STORY
    },
    Story {
        name: "below its own name, edited",
        before: &["a.md"],
        moves: &[("a.md", "a.md/inner.md")],
        edits: &["a.md/inner.md"],
        ..STORY
    },
    Story {
        name: "back from there",
        before: &["a.md/inner.md"],
        moves: &[("a.md/inner.md", "a.md")],
        ..STORY
    },
    Story {
        name: "all below one",
        before: FOUR,
        moves: &[("a.md", "a.md/a.md"), ("b.md", "a.md/b.md"), ("d.md/x.md", "b.md")],
        ..STORY
    },
    Story {
        name: "below each other",
        before: FOUR,
        moves: &[("a.md", "b.md/x.md"), ("b.md", "a.md/y.md")],
        edits: &["b.md/x.md"],
        ..STORY
    },
    Story {
        name: "one below the other's place",
        before: FOUR,
        moves: &[("a.md", "b.md/x.md"), ("b.md", "a.md")],
        ..STORY
    },
    Story {
        name: "a chain",
        before: FOUR,
        moves: &[
            ("d.md/x.md", "d.md"),
            ("d.md/y.md", "a.md"),
            ("a.md", "b.md/x.md"),
            ("b.md", "e.md"),
        ],
        ..STORY
    },
    Story {
        name: "out of the folder whose name it takes",
        before: FOUR,
        moves: &[("d.md/x.md", "d.md"), ("d.md/y.md", "y.md")],
        ..STORY
    },
    Story {
        name: "change of places",
        before: FOUR,
        moves: &[
            ("a.md", "b.md"),
            ("b.md", "a.md"),
            ("d.md/x.md", "d.md/y.md"),
            ("d.md/y.md", "d.md/x.md"),
        ],
        ..STORY
    },
    Story {
        name: "change of places, edited",
        before: FOUR,
        moves: &[
            ("a.md", "b.md"),
            ("b.md", "a.md"),
            ("d.md/x.md", "d.md/y.md"),
            ("d.md/y.md", "d.md/x.md"),
        ],
        edits: &["a.md", "b.md", "d.md/x.md"],
        ..STORY
    },
    Story {
        name: "round in a circle",
        before: FOUR,
        moves: &[
            ("a.md", "b.md"),
            ("b.md", "d.md/x.md"),
            ("d.md/x.md", "d.md/y.md"),
            ("d.md/y.md", "a.md"),
        ],
        edits: &["d.md/x.md"],
        ..STORY
    },
    Story {
        name: "out of folders that are empty then",
        before: &["d.md/s/x.md", "d.md/s/y.md", "e/z.md"],
        moves: &[("d.md/s/x.md", "x.md"), ("d.md/s/y.md", "f/y.md"), ("e/z.md", "")],
        ..STORY
    },
    Story {
        name: "new folders",
        before: &["a.md"],
        moves: &[("a.md", "s/t/a.md")],
        edits: &["n/e/w.md", "n/b.md", "s/t/a.md"],
        ..STORY
    },
    Story { name: "an empty folder", only_b: &["x.md/deep/er/"], edits: &["x.md"], ..STORY },
    Story {
        name: "a folder with something of its own",
        before: &["y.md"],
        only_b: &["x.md/.git/config"],
        moves: &[("y.md", "x.md")],
        ..STORY
    },
    Story {
        name: "a folder of notes with something of its own",
        before: FOUR,
        only_b: &["d.md/.git/config"],
        moves: &[("d.md/x.md", "d.md"), ("d.md/y.md", "")],
        ..STORY
    },
    Story {
        name: "a folder of notes with an empty one",
        before: FOUR,
        only_b: &["d.md/empty/"],
        moves: &[("d.md/x.md", "d.md"), ("d.md/y.md", "dd.md")],
        edits: &["d.md"],
    },
];

fn text_of(path: &str) -> String {
    format!("This is the note that was {path} at first.\n\nIt has two paragraphs.\n")
}

impl Story {
    fn is_file(path: &str) -> bool {
        !path.ends_with('/')
    }

    /// Both devices, when `a` has told the server and `b` has not heard of it.
    fn begin(&self) -> (Device, Moment) {
        let (mut a, mut b) = pair();
        for path in self.before {
            a.write(path, &text_of(path));
        }
        a.sync();
        b.sync();
        for path in self.only_b {
            match path.strip_suffix('/') {
                Some(folder) => b.replica.fs().disk().user_make_dir(folder).unwrap(),
                None => b.write(path, "of b alone\n"),
            }
        }
        for (at, (from, to)) in self.moves.iter().enumerate() {
            match to.is_empty() {
                true => a.remove(from),
                false => a.rename(from, &format!("t{at}")),
            }
        }
        for folder in ["a.md", "d.md/s", "d.md", "e"] {
            let fs = a.replica.fs();
            let mut disk = fs.disk();
            let below = format!("{folder}/");
            let is_empty = !disk.visible().keys().any(|path| path.starts_with(&below));
            if is_empty && !disk.visible().contains_key(folder) {
                // Not every story has it.
                let _ = disk.user_remove_all(folder);
            }
        }
        for (at, (_, to)) in self.moves.iter().enumerate().filter(|(_, (_, to))| !to.is_empty()) {
            a.rename(&format!("t{at}"), to);
        }
        for path in self.edits {
            let old = a.read(path).unwrap_or_default();
            a.write(path, &format!("{old}\nAnd one by a.\n"));
        }
        a.sync();
        (a, b.moment())
    }

    /// Whether all is well in the end: `a` and `b` agree, and what only `b` has is there.
    fn ends_well(&self, a: &Moment, b: &mut Device, context: &str) -> Device {
        let mut a = a.again();
        a.link = b.link.another();
        b.sync();
        a.sync();
        b.sync();
        let of_b: BTreeMap<String, Vec<u8>> = b.replica.fs().disk().visible();
        for path in self.only_b.iter().filter(|path| Self::is_file(path)) {
            let kept = of_b.get(*path).map(Vec::as_slice);
            assert_eq!(kept, Some(&b"of b alone\n"[..]), "{context}: {path}");
        }
        if self.only_b.iter().any(|path| Self::is_file(path)) {
            assert_eq!(a.replica.store().root().unwrap(), b.replica.store().root().unwrap());
            let mut of_a: Vec<Vec<u8>> = a.replica.fs().disk().visible().into_values().collect();
            of_a.push(b"of b alone\n".to_vec());
            of_a.sort();
            let mut of_b: Vec<Vec<u8>> = of_b.into_values().collect();
            of_b.sort();
            assert_eq!(of_a, of_b, "{context}");
        } else {
            in_step(&a, b);
        }
        is_quiet(b);
        is_quiet(&mut a);
        assert!(!undo_is_left(b), "{context}: {:?}", b.replica.fs().disk());
        a
    }

    /// What nobody touched reads as `a` left it.
    fn has_all(&self, a: &Moment, after: &Device, context: &str) {
        assert_eq!(texts(after), texts(&a.again()), "{context}");
    }
}

/// What a person reads in a folder.
fn texts(device: &Device) -> BTreeMap<String, String> {
    let files = device.replica.fs().disk().visible().into_iter();
    files.map(|(path, bytes)| (path, String::from_utf8_lossy(&bytes).into_owned())).collect()
}

/// Whether more lies in the undo folder than what is watched.
fn undo_is_left(device: &Device) -> bool {
    use crucible_sync::replica::ReplicaStore;
    let watched = device.replica.store().displaced().unwrap();
    let disk = device.replica.fs().disk();
    disk.everything()
        .keys()
        .filter(|path| path.starts_with(".crucible/undo/") || path.contains(".crucible-undo"))
        .any(|path| !watched.iter().any(|bytes| bytes.undo == *path))
}

/// Runs a round that stops at a call; whether it did.
fn stopped(device: &mut Device, number: u64, fault: Fault, seed: u64) -> bool {
    let calls = device.replica.fs().disk().calls();
    device.replica.fs().disk().fault_at(calls + number, fault);
    let done = device.try_sync(crucible_node::replica::Options::default());
    device.replica.fs().disk().clear_faults();
    if !device.replica.fs().disk().is_crashed() {
        done.unwrap();
        return false;
    }
    let fs = device.replica.fs().clone();
    fs.reboot(seed);
    device.reopen();
    true
}

#[test]
fn a_round_stopped_at_any_call_is_gone_on_with_by_the_next() {
    for story in &STORIES {
        let (a, b) = story.begin();
        let a = a.moment();
        for number in 1.. {
            let mut was_stopped = false;
            for fault in [Fault::CrashBefore, Fault::CrashAfter] {
                for seed in [number, number + 7] {
                    let context = format!("{}: {fault:?} at {number}, seed {seed}", story.name);
                    let mut b = b.again();
                    was_stopped |= stopped(&mut b, number, fault, seed);
                    let after = story.ends_well(&a, &mut b, &context);
                    story.has_all(&a, &after, &context);
                }
            }
            if !was_stopped {
                break;
            }
        }
    }
}

#[test]
fn what_goes_on_after_a_stop_can_be_stopped_at_any_call() {
    for story in &STORIES {
        let (a, b) = story.begin();
        let a = a.moment();
        for number in 1.. {
            let mut first = b.again();
            if !stopped(&mut first, number, Fault::CrashAfter, number % 5) {
                break;
            }
            let first = first.moment();
            for again in 1.. {
                let context = format!("{}: at {number}, then {again}", story.name);
                let mut b = first.again();
                let was_stopped = stopped(&mut b, again, Fault::CrashAfter, again % 5);
                // One in three of all pairs is enough to meet every pair of kinds.
                if was_stopped && !(number + again).is_multiple_of(3) {
                    continue;
                }
                let after = story.ends_well(&a, &mut b, &context);
                story.has_all(&a, &after, &context);
                if !was_stopped {
                    break;
                }
            }
        }
    }
}

/// What somebody does on `b` in the middle of a round; whether a word of theirs came to be there.
type Edit = fn(&mut Disk, &Story, Handle) -> bool;

const WORD: &str = "by b meanwhile";

fn all_names(story: &Story) -> impl Iterator<Item = &'static str> {
    let moved = story.moves.iter().map(|(_, to)| *to).filter(|to| !to.is_empty());
    story.before.iter().copied().chain(moved).chain(story.edits.iter().copied())
}

const EDITS: [(&str, Edit); 6] = [
    ("writes into what has just come", |disk, story, _| {
        let is_new = |path: &&str| !story.before.contains(path) && disk.user_read(path).is_some();
        let Some(path) = all_names(story).find(is_new) else { return false };
        let old = disk.user_read(path).unwrap_or_default();
        let text = format!("{}\nOne more {WORD}.\n", String::from_utf8_lossy(&old));
        disk.user_write(path, text.as_bytes()).is_ok()
    }),
    ("writes into what they have open", |disk, _, open| {
        disk.user_append(open, format!("\nOne more {WORD}.\n").as_bytes()).unwrap();
        disk.user_close(open);
        true
    }),
    ("saves by rename where a note was", |disk, story, _| {
        let Some(path) = story.before.first() else { return false };
        let old = disk.user_read(path).unwrap_or_default();
        let text = format!("{}\n{WORD}\n", String::from_utf8_lossy(&old));
        disk.user_save_by_rename(path, text.as_bytes()).is_ok()
    }),
    ("writes where notes will be", |disk, story, _| {
        let mut written = 0;
        for path in all_names(story) {
            let is_free = disk.user_read(path).is_none();
            written += u32::from(is_free && disk.user_write(path, WORD.as_bytes()).is_ok());
        }
        written > 0
    }),
    ("makes folders of all free names", |disk, story, _| {
        for path in all_names(story) {
            // Some are taken.
            let _ = disk.user_make_dir(path);
        }
        false
    }),
    ("puts what is not synced below all free names", |disk, story, _| {
        for path in all_names(story) {
            // As above.
            let _ = disk.user_write(&format!("{path}/.git/config"), b"of b alone\n");
        }
        false
    }),
];

/// Whether a word is in a folder, or where a conflict keeps it.
fn is_kept(a: &Device, b: &Device, word: &str) -> bool {
    let holds = |device: &Device| {
        let files = device.replica.fs().disk().visible();
        files.values().any(|bytes| String::from_utf8_lossy(bytes).contains(word))
    };
    let store = b.replica.store();
    let is_set_aside = |conflict: &Conflict| {
        let loser = store.version(&conflict.loser).unwrap().and_then(|version| {
            let bytes = store.content(&version.live()?.content).unwrap()?;
            Some(String::from_utf8_lossy(&bytes).into_owned())
        });
        format!("{:?} {loser:?}", conflict.clash).contains(word)
    };
    holds(a) || store.open_conflicts(usize::MAX).unwrap().iter().any(is_set_aside)
}

#[test]
fn an_edit_anywhere_in_a_round_that_is_stopped_later_is_kept() {
    for story in &STORIES {
        let (a, b) = story.begin();
        let a = a.moment();
        for number in 1.. {
            let mut reached = false;
            for (turn, (what, edit)) in (number..).zip(EDITS) {
                for later in [[0, 4, 1, 1_000_000][turn as usize % 4]] {
                    let seed = number;
                    let context =
                        format!("{}, b {what} at {number}, stopped {later} later", story.name);
                    let mut b = b.again();
                    let (open, calls) = {
                        let mut disk = b.replica.fs().disk();
                        let path = story.before.first().copied().unwrap_or("other.md");
                        (disk.user_open(path).unwrap(), disk.calls())
                    };
                    let written = std::sync::Arc::new(std::sync::Mutex::new(None));
                    let wrote = written.clone();
                    b.replica.fs().disk().set_hook(move |disk, call| {
                        if call.number == calls + number {
                            *wrote.lock().unwrap() = Some(edit(disk, story, open));
                        }
                    });
                    stopped(&mut b, number + later, Fault::CrashAfter, seed);
                    b.replica.fs().disk().clear_hook();
                    let Some(is_written) = *written.lock().unwrap() else { continue };
                    reached = true;
                    let mut after = a.again();
                    after.link = b.link.another();
                    for _ in 0..2 {
                        b.sync();
                        after.sync();
                    }
                    let (root, other) =
                        (after.replica.store().root().unwrap(), b.replica.store().root().unwrap());
                    assert_eq!(root, other, "{context}");
                    for path in story.before {
                        let words = format!("was {path} at first");
                        let is_gone = story.moves.contains(&(path, ""));
                        let (of_a, of_b) = (texts(&after), texts(&b));
                        assert!(
                            is_gone || is_kept(&after, &b, &words),
                            "{context}: {path} {of_a:#?} {of_b:#?}"
                        );
                    }
                    if is_written {
                        assert!(is_kept(&after, &b, WORD), "{context}");
                    }
                    let disk = b.replica.fs().disk();
                    let own = disk.visible().into_iter().filter(|(path, _)| path.contains(".git/"));
                    for (path, bytes) in own {
                        assert_eq!(bytes, b"of b alone\n", "{context}: {path}");
                    }
                    for path in story.only_b.iter().filter(|path| Story::is_file(path)) {
                        assert!(disk.user_read(path).is_some(), "{context}: {path}");
                    }
                }
            }
            if !reached {
                break;
            }
        }
    }
}
