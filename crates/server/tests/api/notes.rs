//! `/api/notes/{vault}` on the real engine and SQLite.

use crucible_core::version::Kind;
use crucible_server::rounds::Write;
use crucible_sync::mint::{Change, Found};
use crucible_sync::repo::Repo;
use serde_json::{Value, json};

use crate::real::{Real, at};
use crate::running::NOW_MS;

/// A path as it goes into a query.
pub fn query(path: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._/".contains(&b);
    let one = |b: u8| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") };
    path.bytes().map(one).collect()
}

fn note(server: &Real, path: &str) -> Value {
    server.json(&format!("/api/notes/notes/note?path={}", query(path)))
}

fn change(server: &Real, body: Value) -> Value {
    let reply = server.post("/api/notes/notes/changes", body);
    assert_eq!(reply.status, 201, "{}", String::from_utf8_lossy(&reply.body));
    reply.json()
}

fn refused(server: &Real, body: Value) -> (u16, String) {
    server.post("/api/notes/notes/changes", body).refusal()
}

/// The paths of a listing, page by page.
fn paths(server: &Real, limit: usize) -> Vec<String> {
    let (mut all, mut after) = (Vec::new(), String::new());
    loop {
        let page = server.json(&format!("/api/notes/notes?limit={limit}{after}"));
        let notes = page["notes"].as_array().unwrap();
        assert!(notes.len() <= limit);
        all.extend(notes.iter().map(|note| note["path"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { return all };
        after = format!("&after={}", query(next));
    }
}

#[test]
fn a_note_is_created_edited_moved_deleted_and_listed_as_deleted() {
    let server = Real::start();
    let empty = server.json("/api/notes/notes");
    assert_eq!(empty, json!({ "root": null, "seq": 0, "notes": [], "next": null }));
    let made = change(&server, json!({ "op": "create", "path": "plan.md", "text": "one\n" }));
    assert_eq!((&made["path"], &made["merged"]), (&json!("plan.md"), &json!(false)));
    let shown = note(&server, "plan.md");
    assert_eq!((&shown["version"], &shown["text"]), (&made["version"], &json!("one\n")));
    assert_eq!((&shown["access"], &shown["session"]), (&json!("write"), &json!(null)));
    let changed = json!({ "by": "anna@example.org", "device": "laptop", "ms": NOW_MS });
    assert_eq!((&shown["changed"], &shown["conflicts"]), (&changed, &json!(0)));
    let base = made["version"].as_str().unwrap();
    let body = json!({ "op": "edit", "path": "plan.md", "base": base, "text": "two\n" });
    let edited = change(&server, body);
    let base = edited["version"].as_str().unwrap();
    let body = json!({ "op": "move", "path": "plan.md", "to": "old/plan.md", "base": base });
    let moved = change(&server, body);
    assert_eq!(moved["path"], "old/plan.md");
    let gone = server.get("/api/notes/notes/note?path=plan.md");
    assert_eq!(gone.refusal(), (404, "not_found".into()));
    assert_eq!(note(&server, "old/plan.md")["text"], "two\n");
    let list = server.json("/api/notes/notes");
    let row = &list["notes"][0];
    assert_eq!((&row["path"], &row["kind"]), (&json!("old/plan.md"), &json!("note")));
    assert_eq!((&row["bytes"], &row["version"]), (&json!(4), &moved["version"]));
    assert_eq!((&row["note"], &list["seq"]), (&shown["note"], &json!(3)));
    assert_eq!(list["root"], server.json("/api/vaults/notes")["root"]);
    let last = moved["version"].as_str().unwrap();
    change(&server, json!({ "op": "delete", "path": "old/plan.md", "base": last }));
    assert_eq!(paths(&server, 10), Vec::<String>::new());
    let deleted = server.json("/api/notes/notes/deleted");
    assert_eq!(deleted["notes"][0]["path"], "old/plan.md");
    assert_eq!(deleted["notes"][0]["last"], last);
    assert_eq!(deleted["notes"][0]["note"], shown["note"]);
    assert_eq!(deleted["notes"][0]["by"], "anna@example.org");
    let other = server.create("old/plan.md", "another\n").id.to_string();
    let restore = || server.post("/api/history/notes/restore", json!({ "version": last }));
    assert_eq!(restore().refusal(), (409, "exists".into()), "never two of one name");
    let body = json!({ "op": "delete", "path": "old/plan.md", "base": other });
    change(&server, body);
    assert_eq!(restore().status, 201);
    assert_eq!(paths(&server, 10), ["old/plan.md"]);
    let deleted = server.json("/api/notes/notes/deleted");
    assert_eq!(deleted["notes"].as_array().unwrap().len(), 1, "the other one");
}

#[test]
fn an_edit_of_an_old_base_is_merged_and_says_so() {
    let server = Real::start();
    let base = server.create("plan.md", "one\n\ntwo\n\nthree\n");
    server.edit(base.id, "plan.md", "ONE\n\ntwo\n\nthree\n");
    let text = "one\n\ntwo\n\nTHREE\n";
    let id = base.id.to_string();
    let body = json!({ "op": "edit", "path": "plan.md", "base": id, "text": text });
    let edited = change(&server, body);
    assert_eq!(edited["merged"], true);
    let shown = note(&server, "plan.md");
    assert_eq!(shown["text"], "ONE\n\ntwo\n\nTHREE\n");
    assert_eq!(shown["version"], edited["head"]);
    // Going on from one's own words takes nothing of the others away.
    let own = edited["version"].as_str().unwrap();
    let text = "one\n\n2\n\nTHREE\n";
    let body = json!({ "op": "edit", "path": "plan.md", "base": own, "text": text });
    change(&server, body);
    assert_eq!(note(&server, "plan.md")["text"], "ONE\n\n2\n\nTHREE\n");
    // Also where the note has another name by now.
    let head = note(&server, "plan.md")["version"].as_str().unwrap().to_owned();
    change(&server, json!({ "op": "move", "path": "plan.md", "to": "new.md", "base": head }));
    let text = "ONE\n\n2\n\nTHREE\n\nfour\n";
    let body = json!({ "op": "edit", "path": "plan.md", "base": head, "text": text });
    assert_eq!(change(&server, body)["path"], "new.md");
    assert_eq!(note(&server, "new.md")["text"], text);
}

#[test]
fn what_cannot_be_done_is_refused_with_its_code() {
    let server = Real::start();
    let a = server.create("a.md", "a\n");
    let b = server.create("b.md", "b\n");
    let newer = server.edit(a.id, "a.md", "aa\n");
    let (old, b) = (a.id.to_string(), b.id.to_string());
    let code = |body| refused(&server, body);
    let exists = (409, "exists".to_owned());
    assert_eq!(code(json!({ "op": "create", "path": "a.md", "text": "" })), exists);
    assert_eq!(code(json!({ "op": "move", "path": "b.md", "to": "a.md", "base": b })), exists);
    let changed = (409, "changed".to_owned());
    assert_eq!(code(json!({ "op": "delete", "path": "a.md", "base": old })), changed);
    let bad = (400, "bad_request".to_owned());
    for path in ["../a.md", "", "/a.md", ".git/config", "a/../b.md", "a\u{0}.md"] {
        assert_eq!(code(json!({ "op": "create", "path": path, "text": "" })), bad, "{path}");
        let shown = server.get(&format!("/api/notes/notes/note?path={}", query(path)));
        assert_eq!(shown.refusal(), bad, "{path}");
    }
    assert_eq!(code(json!({ "op": "edit", "path": "a.md", "base": b, "text": "" })), bad);
    assert_eq!(code(json!({ "op": "edit", "path": "a.md", "base": "00", "text": "" })), bad);
    let nothing = "00".repeat(32);
    let missing = code(json!({ "op": "edit", "path": "a.md", "base": nothing, "text": "" }));
    assert_eq!(missing, (404, "not_found".into()));
    let malformed = (422, "malformed".to_owned());
    assert_eq!(code(json!({ "op": "burn", "path": "a.md" })), malformed);
    assert_eq!(code(json!({ "op": "create", "path": "c.md" })), malformed);
    assert_eq!(note(&server, "a.md")["version"], newer.head.to_string());
}

#[test]
fn who_may_only_read_reads_and_a_stranger_does_not() {
    let server = Real::start();
    let made = server.create("a.md", "a\n");
    let (screen, stranger) = (server.read_only(), server.stranger());
    let get = |path: &str, token: &crucible_trust::capability::Token| {
        server.ask("GET", path).token(token.reveal()).send()
    };
    let shown = get("/api/notes/notes/note?path=a.md", &screen).json();
    assert_eq!((&shown["access"], &shown["text"]), (&json!("read"), &json!("a\n")));
    let forbidden = (403, "forbidden".to_owned());
    let base = made.id.to_string();
    for body in [
        json!({ "op": "create", "path": "b.md", "text": "" }),
        json!({ "op": "edit", "path": "a.md", "base": base, "text": "b\n" }),
        json!({ "op": "move", "path": "a.md", "to": "b.md", "base": base }),
        json!({ "op": "delete", "path": "a.md", "base": base }),
    ] {
        let ask = server.ask("POST", "/api/notes/notes/changes");
        assert_eq!(ask.token(screen.reveal()).json(body).send().refusal(), forbidden);
    }
    for path in ["", "/note?path=a.md", "/file?path=a.md", "/deleted"] {
        let path = format!("/api/notes/notes{path}");
        assert_eq!(get(&path, &screen).status, 200, "{path}");
        assert_eq!(get(&path, &stranger).refusal(), forbidden, "{path}");
        assert_eq!(server.ask("GET", &path).send().status, 401, "{path}");
        let other = path.replace("/notes/notes", "/notes/others");
        assert_eq!(server.get(&other).refusal().0, 404, "{other}");
    }
    assert_eq!(paths(&server, 9), ["a.md"]);
}

#[test]
fn odd_names_come_back_as_they_were_spelled() {
    let server = Real::start();
    let mut names = [
        "a b/c & d.md",
        "größe/ß.md",
        "日本/ノート.md",
        "100%.md",
        "a+b?c=d#e.md",
        "quote\"s'.md",
        "cafe\u{301}.md",
        "🎈.md",
    ];
    for name in names {
        change(&server, json!({ "op": "create", "path": name, "text": name }));
        assert_eq!(note(&server, name)["text"], name);
    }
    names.sort_unstable();
    assert_eq!(paths(&server, 3), names);
}

#[test]
fn five_thousand_notes_are_listed_without_gaps_or_doubles() {
    let server = Real::start();
    let mut expected = Vec::new();
    for n in 0..5000 {
        let path = format!("{:02}/{n}.md", n % 37);
        server.create(&path, "x\n");
        expected.push(path);
    }
    expected.sort_unstable();
    assert_eq!(paths(&server, 999), expected);
    let first = server.json("/api/notes/notes?limit=1000000");
    assert_eq!(first["notes"].as_array().unwrap().len(), 1000);
    // The listing is of now, not of when it was first made.
    server.create("00/0000.md", "new\n");
    assert_eq!(paths(&server, 1000).len(), 5001);
}

#[test]
fn a_file_is_its_bytes_in_whole_in_part_or_not_at_all() {
    let server = Real::start();
    let made = server.create("a b.md", "0123456789");
    let file = |path: &str| server.ask("GET", &format!("/api/notes/notes/file?path={path}"));
    let get = |path: &str| file(path).token(server.token.reveal()).send();
    let whole = get("a%20b.md");
    assert_eq!((whole.status, whole.body.as_slice()), (200, &b"0123456789"[..]));
    assert_eq!(whole.header("content-type"), Some("application/octet-stream"));
    let tag = whole.header("etag").unwrap().to_owned();
    let again = file("a%20b.md").token(server.token.reveal()).header("If-None-Match", &tag);
    assert_eq!(again.send().status, 304);
    let part = file("a%20b.md").token(server.token.reveal()).header("Range", "bytes=2-4").send();
    assert_eq!((part.status, part.body.as_slice()), (206, &b"234"[..]));
    server.edit(made.id, "a b.md", "other");
    assert_eq!(get("a%20b.md").body, b"other");
    // A large asset comes from its blob, and is no note.
    let bytes = vec![7; 300_000];
    let picture = at("p.png");
    let found = Found::of(&bytes, &picture);
    let store = server.store();
    store.blobs().append(&found.content, 0, &bytes).unwrap();
    store.blobs().finish(&found.content, 300_000).unwrap();
    let change = Change::Created { path: picture, found };
    server.write(&Write { change, bytes: None, closes: Vec::new() });
    assert_eq!(get("p.png").body, bytes);
    let part = file("p.png").token(server.token.reveal()).header("Range", "bytes=0-9").send();
    assert_eq!((part.status, part.body.len()), (206, 10));
    assert_eq!(part.header("cache-control"), Some("private, no-cache"));
    assert_eq!(get("nothing.md").refusal(), (404, "not_found".into()));
    let note = server.get("/api/notes/notes/note?path=p.png");
    assert_eq!(note.refusal(), (404, "not_found".into()));
}

#[test]
fn a_new_name_can_make_a_note_an_asset_and_back() {
    let server = Real::start();
    let made = server.create("a.md", "text\n");
    let base = made.id.to_string();
    let body = json!({ "op": "move", "path": "a.md", "to": "a.txt", "base": base });
    let moved = change(&server, body);
    assert_eq!(server.json("/api/notes/notes")["notes"][0]["kind"], "asset");
    let base = moved["version"].as_str().unwrap();
    change(&server, json!({ "op": "move", "path": "a.txt", "to": "b.md", "base": base }));
    assert_eq!(note(&server, "b.md")["text"], "text\n");
    let head = server.store().heads(&made.note).unwrap()[0];
    let version = server.store().version(&head).unwrap().unwrap();
    assert_eq!(version.live().unwrap().kind, Kind::Note);
    assert_eq!(version.live().unwrap().content, Found::of(b"text\n", &at("b.md")).content);
}

#[test]
fn deleted_notes_are_paged_the_last_one_first() {
    let server = Real::start();
    let mut expected = Vec::new();
    for n in 0..7 {
        let path = format!("{n}.md");
        let made = server.create(&path, "x\n");
        server.create(&format!("stays{n}.md"), "x\n");
        server.write(&Write::delete(made.id));
        expected.insert(0, path);
    }
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let page = server.json(&format!("/api/notes/notes/deleted?limit=3{after}"));
        let notes = page["notes"].as_array().unwrap();
        seen.extend(notes.iter().map(|note| note["path"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    assert_eq!(seen, expected);
    let wrong = server.get("/api/notes/notes/deleted?after=x");
    assert_eq!(wrong.refusal(), (400, "bad_request".into()));
}

#[test]
fn a_large_note_goes_in_and_one_above_the_bound_does_not() {
    let server = Real::start();
    let large = "line of a large note\n".repeat(200_000);
    change(&server, json!({ "op": "create", "path": "large.md", "text": large }));
    assert_eq!(note(&server, "large.md")["text"], large);
    let larger = "x".repeat((16 << 20) + 1);
    let body = json!({ "op": "create", "path": "larger.md", "text": larger });
    assert_eq!(refused(&server, body), (413, "too_large".into()));
}
