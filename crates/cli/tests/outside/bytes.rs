//! Whatever is in a file is kept byte for byte.

use crate::kit::{World, assert_same, settle};

const ODD: &[(&str, &[u8])] = &[
    ("empty.md", b""),
    ("one newline.md", b"\n"),
    ("no end of line.md", b"no end of line"),
    ("not utf-8.md", b"caf\xe9 \xff\xfe\n"),
    ("half a character.md", b"\xf0\x9f\x98"),
    ("bom.md", b"\xef\xbb\xbf# With a byte order mark\n"),
    ("bom before a head.md", b"\xef\xbb\xbf---\ntitle: x\n---\n"),
    ("crlf.md", b"---\r\ntitle: x\r\n---\r\n\r\none\r\ntwo\r\n"),
    ("mixed ends.md", b"one\r\ntwo\nthree\rfour\r\n\r\n"),
    ("nul.md", b"before\0after\n\0\0"),
    ("only nul.md", b"\0"),
    ("broken yaml.md", b"---\ntitle: \"unclosed\n  - [what\n---\n\ntext\n"),
    ("tabs in yaml.md", b"---\n\ttitle: x\n---\n"),
    ("duplicate keys.md", b"---\ntags: [a]\ntags: [b]\ntitle: 1\ntitle: 2\n---\n\ntext\n"),
    ("unclosed head.md", b"---\ntitle: x\n\ntext\n"),
    ("empty head.md", b"---\n---\n"),
    ("head of a comment.md", b"---\n# nothing but this\n---\ntext"),
    ("unclosed fence.md", b"text\n\n```rust\nfn main() {\n\n# not a heading\n"),
    ("conflict markers.md", b"<<<<<<< ours\none\n=======\ntwo\n>>>>>>> theirs\n"),
    ("controls.md", b"\x01\x02\x1b[31mred\x1b[0m\x7f\n"),
    ("spaces.md", b"   \n\t\n  trailing   \n"),
    ("separators.md", b"a\xe2\x80\xa8b\xe2\x80\xa9c\xc2\x85d\x0b\x0ce\n"),
    ("nested.md", b"> - > - > - > - ```\n> - > x\n"),
    ("picture.png", b"\x89PNG\r\n\x1a\n\0\0\0"),
    ("no extension", b"plain\n"),
];

#[test]
fn every_odd_file_arrives_as_it_was() {
    let (_world, [alice, bob]) = World::with_devices();
    for (name, bytes) in ODD {
        alice.write(name, bytes);
    }
    settle(&[&alice, &bob]);
    let tree = bob.tree();
    for (name, bytes) in ODD {
        let arrived = tree.get(*name).unwrap_or_else(|| panic!("{name} did not arrive"));
        assert_eq!(arrived.as_slice(), *bytes, "{name}");
    }
}

#[test]
fn an_odd_file_that_both_edit_keeps_the_bytes_nobody_touched() {
    let (_world, [alice, bob]) = World::with_devices();
    let readable = |bytes: &&(&str, &[u8])| bytes.0.ends_with(".md") && !bytes.1.is_empty();
    for (name, bytes) in ODD.iter().filter(readable) {
        alice.write(name, [b"top line\n\n".as_slice(), bytes, b"\n\nlast line\n"].concat());
    }
    settle(&[&alice, &bob]);
    for (name, bytes) in ODD.iter().filter(readable) {
        alice.write(name, [b"top line, edited\n\n".as_slice(), bytes, b"\n\nlast line\n"].concat());
        bob.write(name, [b"top line\n\n".as_slice(), bytes, b"\n\nlast line, edited\n"].concat());
    }
    alice.try_sync().code_in(&[0, 3]);
    bob.try_sync().code_in(&[0, 3]);
    settle(&[&alice, &bob]);
    let tree = bob.tree();
    for (name, bytes) in ODD.iter().filter(readable) {
        let both = [b"top line, edited\n\n".as_slice(), bytes, b"\n\nlast line, edited\n"].concat();
        let merged = &tree[*name];
        // What is not UTF-8 is an asset: one side is in the file, the other in the history.
        if std::str::from_utf8(bytes).is_ok() {
            let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            assert_eq!(shown(merged), shown(&both), "{name}");
        }
    }
}

#[test]
fn every_odd_file_comes_out_of_history_as_it_was() {
    let (_world, [alice]) = World::with_devices();
    for (name, bytes) in ODD {
        alice.write(name, bytes);
    }
    alice.sync();
    for (name, _) in ODD {
        alice.write(name, format!("{name}, replaced\n"));
    }
    alice.cru(&["sync", "--json", "--allow-mass-delete"]).code_in(&[0, 3]);
    for (name, bytes) in ODD {
        let versions = alice.log(name);
        let shown: Vec<Vec<u8>> = versions
            .iter()
            .map(|version| {
                let id = version["version"].as_str().unwrap();
                alice.cru(&["show", &format!("{name}@{id}")]).ok().out
            })
            .collect();
        assert!(shown.iter().any(|out| out == bytes), "{name}: {} versions", shown.len());
    }
}

#[test]
fn a_note_of_a_hundred_megabytes_is_kept_and_merged() {
    let (_world, [alice, bob]) = World::with_devices();
    let line = "A line of a very long note, with a number: 0000000000000000000000000000\n";
    let count = 100_000_000 / line.len();
    let mut text = String::with_capacity(count * line.len());
    for at in 0..count {
        text.push_str(&line.replace("0000000000000000000000000000", &format!("{at:028}")));
    }
    alice.write("long.md", &text);
    settle(&[&alice, &bob]);
    assert!(bob.tree()["long.md"] == text.as_bytes(), "the long note changed on its way");
    alice.write("long.md", format!("At the top.\n{text}"));
    bob.write("long.md", format!("{text}At the end.\n"));
    alice.sync();
    bob.sync();
    alice.sync();
    assert_same(&[&alice, &bob]);
    let merged = alice.read("long.md");
    if merged.len() == text.len() + "At the top.\nAt the end.\n".len() {
        assert!(merged.starts_with("At the top.\n") && merged.ends_with("At the end.\n"));
        return;
    }
    // Larger than what is merged by words: one side is in the file, and the other is told of.
    assert!(!alice.conflicts().is_empty(), "a side was dropped without a word");
    for text in [format!("At the top.\n{text}"), format!("{text}At the end.\n")] {
        assert!(alice.version_of("long.md", &text).is_some(), "a side is not in the history");
    }
}
