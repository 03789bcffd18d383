//! `/api/notes/{vault}/search` and `/links` on the real engine and SQLite.

use std::fs;

use crucible_server::rounds::Write;
use crucible_store::server_vault::VAULT_DB;
use serde_json::{Value, json};

use crate::notes::query;
use crate::real::{Real, at};

fn search(server: &Real, question: &str) -> Value {
    server.json(&format!("/api/notes/notes/search?q={}", query(question)))
}

/// The paths of the hits.
fn hits(server: &Real, question: &str) -> Vec<String> {
    let found = search(server, question);
    assert_eq!(found["indexing"], false, "{found}");
    let hits = found["hits"].as_array().unwrap();
    hits.iter().map(|hit| hit["path"].as_str().unwrap().to_owned()).collect()
}

fn links(server: &Real, path: &str) -> Value {
    server.json(&format!("/api/notes/notes/links?path={}", query(path)))
}

fn backlinks(server: &Real, path: &str) -> Vec<String> {
    let links = links(server, path);
    let back = links["backlinks"].as_array().unwrap();
    back.iter().map(|link| format!("{}:{}", link["path"].as_str().unwrap(), link["line"])).collect()
}

#[test]
fn words_and_their_beginnings_are_found_and_names_come_first() {
    let server = Real::start();
    server.create("day.md", "# Day\n\nThe harvest of apples was good.\n");
    server.create("trees/Apples.md", "How to cut them.\n");
    server.create("köln.md", "Äpfel am Rhein, harvesting nothing\n");
    assert_eq!(hits(&server, "apples"), ["trees/Apples.md", "day.md"]);
    assert_eq!(hits(&server, "harv"), ["köln.md", "day.md"]);
    assert_eq!(hits(&server, "harvest good"), ["day.md"]);
    assert_eq!(hits(&server, "\"apples was\""), ["day.md"]);
    assert_eq!(hits(&server, "\"was apples\""), Vec::<String>::new());
    assert_eq!(hits(&server, "apfel KOLN"), ["köln.md"]);
    assert_eq!(hits(&server, "trees cut"), ["trees/Apples.md"]);
    for nothing in ["zebra", "", "*", "\"", "title:zebra", "a OR zebra"] {
        assert_eq!(hits(&server, nothing), Vec::<String>::new(), "{nothing}");
    }
    let found = search(&server, "apples");
    assert_eq!(found["hits"][0]["title"], "Apples");
    assert_eq!(found["hits"][0]["parts"][0], json!({"text": "How to cut them.\n", "hit": false}));
    let parts = found["hits"][1]["parts"].as_array().unwrap();
    assert!(parts.contains(&json!({ "text": "apples", "hit": true })), "{parts:?}");
    let long = server.get(&format!("/api/notes/notes/search?q={}", "x".repeat(2000)));
    assert_eq!(long.refusal(), (400, "bad_request".into()));
}

#[test]
fn search_follows_edits_moves_deletions_and_notes_that_come_back() {
    let server = Real::start();
    let made = server.create("a.md", "first words\n");
    assert_eq!(hits(&server, "first"), ["a.md"]);
    let edited = server.edit(made.id, "a.md", "second words\n");
    assert_eq!(hits(&server, "first"), Vec::<String>::new());
    assert_eq!(hits(&server, "second"), ["a.md"]);
    let moved = server.write(&Write::rename(edited.id, at("b/other.md")));
    assert_eq!(hits(&server, "second"), ["b/other.md"]);
    assert_eq!(hits(&server, "other"), ["b/other.md"]);
    server.write(&Write::delete(moved.id));
    assert_eq!(hits(&server, "second"), Vec::<String>::new());
    let last = moved.id.to_string();
    server.post("/api/history/notes/restore", json!({ "version": last }));
    assert_eq!(hits(&server, "second"), ["b/other.md"]);
}

#[test]
fn links_are_known_in_both_directions_also_after_a_move() {
    let server = Real::start();
    let plan = server.create("Plan.md", "See [[Home]], [[nowhere]] and [[Home|again]].\n");
    server.create("home.md", "line\n\nThe [[plan]] of [[plan#May]].\n`[[Plan]]`\n");
    server.create("a/b.md", "[x](../Plan.md#h) and [y](../home.md)\n");
    assert_eq!(backlinks(&server, "Plan.md"), ["a/b.md:1", "home.md:3"]);
    let shown = links(&server, "Plan.md");
    let first = &shown["backlinks"][1];
    assert_eq!(first["text"], "The [[plan]] of [[plan#May]].");
    assert_eq!(first["title"], "home");
    let outgoing = json!([
        { "target": "Home", "path": "home.md" },
        { "target": "nowhere", "path": null },
    ]);
    assert_eq!(shown["outgoing"], outgoing);
    // A name goes on to mean the note in its new folder, a path does not.
    let moved = server.write(&Write::rename(plan.id, at("old/Plan.md")));
    assert_eq!(backlinks(&server, "old/Plan.md"), ["home.md:3"]);
    server.write(&Write::rename(moved.id, at("old/Design.md")));
    assert_eq!(backlinks(&server, "old/Design.md"), Vec::<String>::new());
    server.create("nowhere.md", "");
    assert_eq!(backlinks(&server, "nowhere.md"), ["old/Design.md:1"]);
    let gone = server.get("/api/notes/notes/links?path=Plan.md");
    assert_eq!(gone.refusal(), (404, "not_found".into()));
}

#[test]
fn an_index_that_is_damaged_or_of_another_format_is_made_again() {
    let server = Real::start();
    server.create("a.md", "words of [[b]]\n");
    server.create("b.md", "");
    assert_eq!(hits(&server, "words"), ["a.md"]);
    let index = server.folder().join("index.db");
    for damage in [&b"not a database at all, but long enough to have a header......"[..], b""] {
        fs::write(&index, damage).unwrap();
        assert_eq!(hits(&server, "words"), ["a.md"], "{damage:?}");
        assert_eq!(backlinks(&server, "b.md"), ["a.md:1"]);
    }
    let mut bytes = fs::read(&index).unwrap();
    // The middle of it, where tables lie.
    for byte in &mut bytes[5000..30_000] {
        *byte ^= 0x5a;
    }
    fs::write(&index, bytes).unwrap();
    assert_eq!(hits(&server, "words"), ["a.md"]);
    let mut bytes = fs::read(&index).unwrap();
    // Where SQLite keeps the number of the format.
    bytes[60..64].copy_from_slice(&99_u32.to_be_bytes());
    fs::write(&index, bytes).unwrap();
    assert_eq!(hits(&server, "words"), ["a.md"]);
    fs::remove_file(&index).unwrap();
    assert_eq!(hits(&server, "words"), ["a.md"]);
}

#[test]
fn a_vault_set_back_to_a_backup_is_indexed_anew_and_no_backup_holds_the_index() {
    let server = Real::start();
    let made = server.create("a.md", "before\n");
    assert_eq!(hits(&server, "before"), ["a.md"]);
    let copy = tempfile::tempdir().unwrap();
    let backup = copy.path().join("backup");
    server.store().backup(&backup).unwrap();
    assert!(!backup.join("index.db").exists());
    server.edit(made.id, "a.md", "after\n");
    server.create("b.md", "never was\n");
    assert_eq!(hits(&server, "never"), ["b.md"]);
    // As an operator would, but for the index that stays.
    let other = Real::start();
    for name in [VAULT_DB, "index.db"] {
        let from = if name == VAULT_DB { backup.clone() } else { server.folder() };
        fs::remove_file(other.folder().join(name)).ok();
        fs::copy(from.join(name), other.folder().join(name)).unwrap();
    }
    assert_eq!(hits(&other, "before"), ["a.md"]);
    assert_eq!(hits(&other, "never"), Vec::<String>::new());
}

#[test]
fn a_large_vault_is_indexed_in_steps_and_says_so() {
    let server = Real::start();
    for n in 0..2_500 {
        server.create(&format!("{n}.md"), &format!("number{n}\n"));
    }
    let first = search(&server, "number2499");
    assert_eq!((&first["indexing"], &first["hits"]), (&json!(true), &json!([])));
    assert_eq!(hits(&server, "number2499"), ["2499.md"]);
    let many = server.json("/api/notes/notes/search?q=number&limit=1000");
    assert_eq!(many["hits"].as_array().unwrap().len(), 100);
    server.create("large.md", &"filling words\n".repeat(100_000));
    assert_eq!(hits(&server, "filling"), Vec::<String>::new());
    assert_eq!(hits(&server, "large"), ["large.md"]);
}

#[test]
fn who_may_only_read_may_search_and_a_stranger_may_not() {
    let server = Real::start();
    server.create("a.md", "words\n");
    let (screen, stranger) = (server.read_only(), server.stranger());
    for path in ["search?q=words", "links?path=a.md"] {
        let path = format!("/api/notes/notes/{path}");
        assert_eq!(server.ask("GET", &path).token(screen.reveal()).send().status, 200);
        let reply = server.ask("GET", &path).token(stranger.reveal()).send();
        assert_eq!(reply.refusal(), (403, "forbidden".into()));
    }
}
