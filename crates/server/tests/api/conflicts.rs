//! `/api/conflicts/{vault}` on the real engine and SQLite.

use crucible_server::rounds::{Write, Written};
use crucible_sync::repo::{ConflictState, Repo};
use serde_json::{Value, json};

use crate::real::{Real, at};

/// Two edits of the second line of `plan.md`: noon is kept, four is the other.
fn meeting(server: &Real) -> Written {
    let base = server.create("plan.md", "# Plan\n\nAt ten.\n\nEnd\n");
    server.edit(base.id, "plan.md", "# Plan\n\nAt four.\n\nEnd\n");
    server.edit(base.id, "plan.md", "# Plan\n\nAt noon.\n\nEnd\n")
}

fn open(server: &Real) -> Vec<Value> {
    server.json("/api/conflicts/notes")["conflicts"].as_array().unwrap().clone()
}

fn only(server: &Real) -> String {
    let open = open(server);
    assert_eq!(open.len(), 1, "{open:?}");
    open[0]["id"].as_str().unwrap().to_owned()
}

fn take(server: &Real, id: &str, side: &str) -> Value {
    let reply = server.post(&format!("/api/conflicts/notes/{id}/take"), json!({ "side": side }));
    assert_eq!(reply.status, 201, "{}", String::from_utf8_lossy(&reply.body));
    reply.json()
}

fn text(server: &Real) -> String {
    server.json("/api/notes/notes/note?path=plan.md")["text"].as_str().unwrap().to_owned()
}

#[test]
fn a_conflict_shows_both_sides_what_they_had_and_what_is_now() {
    let server = Real::start();
    let written = meeting(&server);
    let row = &open(&server)[0];
    assert_eq!((&row["path"], &row["what"]), (&json!("plan.md"), &json!("two edits of one line")));
    assert_eq!((&row["kept_by"], &row["other_by"]), (&json!("anna@example.org"), &row["kept_by"]));
    let list = server.json("/api/notes/notes");
    assert_eq!(list["notes"][0]["conflicts"], 1);
    let shown = server.json(&format!("/api/conflicts/notes/{}", only(&server)));
    assert_eq!(shown["base"]["text"], "# Plan\n\nAt ten.\n\nEnd\n");
    assert_eq!(shown["kept"]["text"], "# Plan\n\nAt noon.\n\nEnd\n");
    assert_eq!(shown["kept"]["version"], written.id.to_string());
    assert_eq!(shown["other"]["text"], "# Plan\n\nAt four.\n\nEnd\n");
    assert_eq!(shown["other"]["device"], "laptop");
    assert_eq!((&shown["kept"]["path"], &shown["other"]["path"]), (&row["path"], &row["path"]));
    assert_eq!(shown["now"]["version"], written.head.to_string());
    assert_eq!((&shown["open"], &shown["now"]["text"]), (&json!(true), &shown["kept"]["text"]));
}

#[test]
fn a_side_is_taken_the_record_is_closed_and_it_can_be_undone() {
    for (side, expected) in [
        ("kept", "# Plan\n\nAt noon.\n\nEnd\n"),
        ("other", "# Plan\n\nAt four.\n\nEnd\n"),
        ("both", "# Plan\n\nAt four.\n\nAt noon.\n\nEnd\n"),
    ] {
        let server = Real::start();
        let written = meeting(&server);
        let id = only(&server);
        let taken = take(&server, &id, side);
        assert_eq!(text(&server), expected, "{side}");
        assert_eq!(taken["before"], written.head.to_string());
        assert_eq!(open(&server), Vec::<Value>::new());
        assert_eq!(server.json(&format!("/api/conflicts/notes/{id}"))["open"], false);
        // Other devices hear of it with their next round: it is an event of the conflict log.
        let store = server.store();
        let events = store.conflicts_after(0, 9).unwrap();
        assert_eq!(events.len(), 1);
        assert_eq!((events[0].position, events[0].state), (2, ConflictState::Closed));
        let again = server.post(&format!("/api/conflicts/notes/{id}/take"), json!({"side": side}));
        assert_eq!(again.refusal(), (409, "changed".into()));
        let before = &taken["before"];
        let undone = server.post("/api/history/notes/restore", json!({ "version": before }));
        assert_eq!(undone.status, 201);
        assert_eq!(text(&server), "# Plan\n\nAt noon.\n\nEnd\n");
    }
}

#[test]
fn words_written_since_stay_and_a_place_edited_since_is_refused() {
    let server = Real::start();
    let written = meeting(&server);
    let id = only(&server);
    let path = format!("/api/conflicts/notes/{id}/take");
    let edited = server.edit(written.head, "plan.md", "# Plan\n\nAt midnight.\n\nEnd\n");
    let refused = server.post(&path, json!({ "side": "other" }));
    assert_eq!(refused.refusal(), (409, "changed".into()));
    assert_eq!(open(&server).len(), 1);
    server.edit(edited.head, "plan.md", "# The plan\n\nAt noon.\n\nEnd\n");
    take(&server, &id, "other");
    assert_eq!(text(&server), "# The plan\n\nAt four.\n\nEnd\n");
}

#[test]
fn a_deletion_a_name_and_a_file_are_taken_too() {
    let server = Real::start();
    let base = server.create("gone.md", "old\n");
    server.write(&Write::delete(base.id));
    server.edit(base.id, "gone.md", "new\n");
    assert_eq!(open(&server)[0]["what"], "an edit and a deletion");
    take(&server, &only(&server), "other");
    assert_eq!(server.get("/api/notes/notes/note?path=gone.md").status, 404);

    let base = server.create("a.md", "text\n");
    server.write(&Write::rename(base.id, at("b.md")));
    server.write(&Write::rename(base.id, at("c.md")));
    assert_eq!(open(&server)[0]["what"], "two names, the other is b.md");
    take(&server, &only(&server), "other");
    assert_eq!(server.json("/api/notes/notes/note?path=b.md")["text"], "text\n");

    let base = server.create("p.png", "one");
    server.edit(base.id, "p.png", "two");
    server.edit(base.id, "p.png", "three");
    assert_eq!(open(&server)[0]["what"], "two versions of one file");
    take(&server, &only(&server), "both");
    assert_eq!(server.get("/api/notes/notes/file?path=p.png").body, b"three");
    assert_eq!(server.get("/api/notes/notes/file?path=p%20(2).png").body, b"two");
}

#[test]
fn conflicts_are_paged_the_newest_first() {
    let server = Real::start();
    for n in 0..5 {
        let path = format!("{n}.md");
        let base = server.create(&path, "at ten\n");
        server.edit(base.id, &path, "at noon\n");
        server.edit(base.id, &path, "at four\n");
    }
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let page = server.json(&format!("/api/conflicts/notes?limit=2{after}"));
        let conflicts = page["conflicts"].as_array().unwrap();
        seen.extend(conflicts.iter().map(|row| row["path"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    assert_eq!(seen, ["4.md", "3.md", "2.md", "1.md", "0.md"]);
    let wrong = server.get("/api/conflicts/notes?after=x");
    assert_eq!(wrong.refusal(), (400, "bad_request".into()));
}

#[test]
fn who_may_only_read_takes_nothing_and_what_is_not_there_is_not_found() {
    let server = Real::start();
    meeting(&server);
    let id = only(&server);
    let (screen, stranger) = (server.read_only(), server.stranger());
    let path = format!("/api/conflicts/notes/{id}");
    let forbidden = (403, "forbidden".to_owned());
    let ask = server.ask("POST", &format!("{path}/take")).token(screen.reveal());
    assert_eq!(ask.json(json!({ "side": "other" })).send().refusal(), forbidden);
    assert_eq!(server.ask("GET", &path).token(screen.reveal()).send().status, 200);
    for path in [path.as_str(), "/api/conflicts/notes"] {
        let reply = server.ask("GET", path).token(stranger.reveal()).send();
        assert_eq!(reply.refusal(), forbidden);
        let other = path.replace("/notes", "/others");
        assert_eq!(server.get(&other).refusal().0, 404);
    }
    let nothing = format!("/api/conflicts/notes/{}", "00".repeat(16));
    assert_eq!(server.get(&nothing).refusal(), (404, "not_found".into()));
    let reply = server.post(&format!("{nothing}/take"), json!({ "side": "kept" }));
    assert_eq!(reply.refusal(), (404, "not_found".into()));
    let reply = server.post(&format!("{path}/take"), json!({ "side": "mine" }));
    assert_eq!(reply.refusal(), (422, "malformed".into()));
    assert_eq!(server.get("/api/conflicts/notes/xyz").refusal().0, 400);
}
