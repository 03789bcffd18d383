use std::collections::BTreeMap;
use std::sync::Arc;

use crucible_core::hash::ContentHash;
use crucible_core::id::{DeviceId, NoteId, ReplicaId, UserId, VersionId};
use crucible_core::timestamp::Stamp;
use crucible_core::vault_path::VaultPath;
use crucible_core::version::{Author, Kind, Live, State, Version};
use crucible_core::version_vector::{Dot, VersionVector};
use crucible_proto::zip::zip;
use crucible_store::server_repo::{Origin, ServerRepo};
use crucible_sync::repo::{Batch, Body, NewContent};
use crucible_trust::capability::Token;
use crucible_trust::rights::{Access, Rights};
use serde_json::{Value, json};

use crate::running::{NOW_MS, Running};

const REPLICA: ReplicaId = ReplicaId::from_bytes([5; 16]);

/// Somebody who writes versions straight into the store of `notes`.
struct Writer<'a> {
    server: &'a Running,
    user: UserId,
    counter: u64,
}

impl<'a> Writer<'a> {
    fn new(server: &'a Running, user: UserId) -> Self {
        Self { server, user, counter: 0 }
    }

    fn text(&mut self, path: &str, parents: &[VersionId], text: &str) -> VersionId {
        let content = ContentHash::of_text(text);
        let state = live(path, Kind::Note, content, text.len());
        let bytes = u32::try_from(text.len()).unwrap();
        let body = Body::Whole(zip(text.as_bytes()));
        self.commit(path, parents, state, vec![NewContent { hash: content, bytes, body }])
    }

    fn delete(&mut self, path: &str, parents: &[VersionId]) -> VersionId {
        self.commit(path, parents, State::Deleted, Vec::new())
    }

    fn commit(
        &mut self,
        born: &str,
        parents: &[VersionId],
        state: State,
        contents: Vec<NewContent>,
    ) -> VersionId {
        self.counter += 1;
        let version = self.version(born, parents, state);
        self.store(version, contents)
    }

    fn version(&self, born: &str, parents: &[VersionId], state: State) -> Version {
        let vault = self.server.accounts.vault(&crate::running::name("notes")).unwrap().unwrap();
        let note = NoteId::derive(&vault.id, &VaultPath::new(born).unwrap(), 0);
        let mut clock = VersionVector::new();
        clock.observe(Dot { replica: REPLICA, counter: self.counter });
        Version {
            note,
            parents: parents.to_vec(),
            clock,
            stamp: Stamp::new(NOW_MS + self.counter, 0, REPLICA),
            author: Author::Replica(REPLICA),
            state,
        }
    }

    fn store(&self, version: Version, contents: Vec<NewContent>) -> VersionId {
        let vault = self.server.accounts.vault(&crate::running::name("notes")).unwrap().unwrap();
        let (id, note) = (version.id(), version.note);
        let batch = Batch {
            contents,
            versions: vec![(id, Arc::new(version))],
            heads: vec![(note, vec![id])],
            ..Batch::default()
        };
        let origin = Origin {
            user: self.user,
            device: DeviceId::from_bytes([11; 32]),
            received_ms: NOW_MS + 7,
            address: "192.0.2.1".into(),
            others: Vec::new(),
        };
        self.server.vaults.change(vault.id, |store| store.commit_from(&batch, &origin).unwrap());
        id
    }
}

fn live(path: &str, kind: Kind, content: ContentHash, bytes: usize) -> State {
    State::Live(Live {
        path: VaultPath::new(path).unwrap(),
        kind,
        content,
        bytes: bytes as u64,
        keys: BTreeMap::new(),
        tags: BTreeMap::new(),
    })
}

fn list(server: &Running, token: &Token, query: &str) -> Vec<Value> {
    let reply = server.get(&format!("/api/history/notes?{query}"), token);
    assert_eq!(reply.status, 200, "{}", reply.json());
    reply.json()["revisions"].as_array().unwrap().clone()
}

#[test]
fn a_device_asks_which_versions_the_server_knows() {
    let server = Running::start();
    let (anna, token) = server.anna();
    let ask = |vault: &str, token: &Token, versions: &[String]| {
        let ask = server.ask("POST", &format!("/api/sync/{vault}/versions/missing"));
        ask.token(token.reveal()).json(json!({ "versions": versions })).send()
    };
    let none = VersionId::from_bytes([7; 32]).to_string();
    let nothing_yet = ask("notes", &token, std::slice::from_ref(&none));
    assert_eq!(nothing_yet.json(), json!({ "missing": [none] }));
    let mut writer = Writer::new(&server, anna);
    let first = writer.text("plan.md", &[], "one\n");
    let gone = writer.delete("plan.md", &[first]);
    let known = [first.to_string(), gone.to_string()];
    let [first, gone] = known.clone();
    let answer = ask("notes", &token, &[first, none.clone(), gone]);
    assert_eq!(answer.json(), json!({ "missing": [none] }));
    // Of another vault nothing is told, and nobody is answered who may not read.
    let bert = server.user(2);
    server.vault("berts", bert);
    let berts = server.token(bert, 13, &Rights::ALL);
    assert_eq!(ask("berts", &berts, &known).json(), json!({ "missing": known }));
    assert!(matches!(ask("notes", &berts, &known).refusal().0, 403 | 404));
    assert_eq!(ask("notes", &token, &["..".to_owned()]).refusal(), (400, "bad_request".into()));
    let many: Vec<String> = (0..1001).map(|_| String::new()).collect();
    assert_eq!(ask("notes", &token, &many).refusal(), (413, "too_large".into()));
}

#[test]
fn history_says_what_was_done_by_whom_and_when() {
    let server = Running::start();
    let (anna, token) = server.anna();
    let mut writer = Writer::new(&server, anna);
    let first = writer.text("plan.md", &[], "one\n");
    let second = writer.text("plan.md", &[first], "one\ntwo\n");
    let gone = writer.delete("plan.md", &[second]);
    writer.text("other.md", &[], "x\n");
    let revisions = list(&server, &token, "path=plan.md");
    let ops: Vec<_> = revisions.iter().map(|r| r["op"].as_str().unwrap()).collect();
    assert_eq!(ops, ["delete", "edit", "create"]);
    let edit = &revisions[1];
    assert_eq!(edit["version"], second.to_string());
    assert_eq!(edit["parents"], json!([first.to_string()]));
    assert_eq!(edit["user"], json!({ "id": anna.to_string(), "email": "user1@example.org" }));
    assert_eq!(edit["device"], json!({ "id": "0b".repeat(32), "name": "laptop" }));
    assert_eq!(edit["stamp"], json!({ "ms": NOW_MS + 2, "count": 0 }));
    assert_eq!(edit["received_ms"], NOW_MS + 7);
    assert_eq!(edit["author"], REPLICA.to_string());
    assert_eq!((&edit["kind"], &edit["bytes"]), (&json!("note"), &json!(8)));
    assert_eq!(revisions[0]["path"], json!(null));
    assert_eq!(revisions[0]["from"], "plan.md");
    let note = edit["note"].as_str().unwrap();
    assert_eq!(list(&server, &token, &format!("note={note}")).len(), 3);
    assert_eq!(list(&server, &token, "").len(), 4);
    let shown = server.get(&format!("/api/history/notes/revisions/{gone}"), &token).json();
    assert_eq!(shown, revisions[0]);
}

#[test]
fn history_is_paged_without_gaps_or_doubles() {
    let server = Running::start();
    let (anna, token) = server.anna();
    let mut writer = Writer::new(&server, anna);
    let all: Vec<_> =
        (0..7).map(|n| writer.text(&format!("{n}.md"), &[], "x\n").to_string()).collect();
    let mut seen = Vec::new();
    let mut after = String::new();
    loop {
        let path = format!("/api/history/notes?limit=3{after}");
        let page = server.get(&path, &token).json();
        let revisions = page["revisions"].as_array().unwrap();
        seen.extend(revisions.iter().map(|r| r["version"].as_str().unwrap().to_owned()));
        assert!(revisions.len() <= 3);
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    seen.reverse();
    assert_eq!(seen, all);
}

#[test]
fn the_content_of_a_revision_is_exactly_its_bytes() {
    let server = Running::start();
    let (anna, token) = server.anna();
    let mut writer = Writer::new(&server, anna);
    let text = "\u{feff}crlf\r\nno end <script>alert(1)</script>";
    let first = writer.text("a.md", &[], text);
    let gone = writer.delete("a.md", &[first]);
    let content = |version: &str| {
        server.get(&format!("/api/history/notes/revisions/{version}/content"), &token)
    };
    let reply = content(&first.to_string());
    assert_eq!((reply.status, reply.body.as_slice()), (200, text.as_bytes()));
    assert_eq!(reply.header("content-type"), Some("application/octet-stream"));
    assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(content(&first.to_string()[..8]).body, text.as_bytes());
    assert_eq!(content(&gone.to_string()).refusal(), (404, "not_found".into()));
    assert_eq!(content(&"00".repeat(32)).refusal(), (404, "not_found".into()));
    assert_eq!(content("00000000").refusal(), (404, "not_found".into()));
    for bad in ["0000000", "000000000", "zzzzzzzz", "00000000 "] {
        let bad = bad.replace(' ', "%20");
        assert_eq!(content(&bad).refusal(), (400, "bad_request".into()), "{bad}");
    }
}

#[test]
fn the_content_of_a_large_asset_comes_from_its_blob() {
    let server = Running::start();
    let (anna, token) = server.anna();
    let bytes = vec![7; 1000];
    let hash = ContentHash::of_blob(&bytes);
    let mut writer = Writer::new(&server, anna);
    let vault = server.accounts.vault(&crate::running::name("notes")).unwrap().unwrap();
    // The store knows that the blob is there; its bytes are only with the blobs.
    server.vaults.change(vault.id, |store| assert_eq!(store.add_blob(bytes.clone().into()), hash));
    let version = writer.commit("a.png", &[], live("a.png", Kind::Asset, hash, 1000), Vec::new());
    let path = format!("/api/history/notes/revisions/{version}/content");
    assert_eq!(server.get(&path, &token).status, 404);
    let put = server.ask("PUT", &format!("/api/sync/notes/blobs/{hash}"));
    assert_eq!(put.token(token.reveal()).body(bytes.clone()).send().status, 201);
    assert_eq!(server.get(&path, &token).body, bytes);
    let part = server.ask("GET", &path).token(token.reveal()).header("Range", "bytes=0-9").send();
    assert_eq!((part.status, part.body.len()), (206, 10));
}

#[test]
fn a_short_id_that_two_versions_share_is_ambiguous() {
    let server = Running::start();
    let (anna, token) = server.anna();
    let mut writer = Writer::new(&server, anna);
    // By the birthday paradox some 80 000 versions are enough for four equal bytes.
    let mut seen = BTreeMap::new();
    let (one, other) = loop {
        writer.counter += 1;
        let version = writer.version("a.md", &[], State::Deleted);
        let prefix: [u8; 4] = version.id().as_bytes()[..4].try_into().unwrap();
        if let Some(earlier) = seen.insert(prefix, version.clone()) {
            break (earlier, version);
        }
    };
    let (one, other) = (writer.store(one, Vec::new()), writer.store(other, Vec::new()));
    let show = |id: &str| server.get(&format!("/api/history/notes/revisions/{id}"), &token);
    assert_eq!(show(&one.to_string()[..8]).refusal(), (409, "ambiguous".into()));
    assert_eq!(show(&one.to_string()[..16]).json()["version"], one.to_string());
    assert_eq!(show(&other.to_string()).json()["version"], other.to_string());
}

#[test]
fn two_revisions_are_compared() {
    let server = Running::start();
    let (anna, token) = server.anna();
    let mut writer = Writer::new(&server, anna);
    let first = writer.text("a.md", &[], "one\ntwo\n");
    let second = writer.text("a.md", &[first], "one\n2\n");
    let gone = writer.delete("a.md", &[second]);
    let diff = |from: VersionId, to: VersionId| {
        server.get(&format!("/api/history/notes/diff?from={from}&to={to}"), &token).json()
    };
    let shown = diff(first, second);
    let text = shown["diff"].as_str().unwrap();
    assert!(text.ends_with("@@ -1,2 +1,2 @@\n one\n-two\n+2\n"), "{text}");
    assert!(text.starts_with(&format!("--- a.md@{}\n", first.short())), "{text}");
    assert_eq!(shown["equal"], false);
    assert_eq!(
        (&diff(first, first)["equal"], &diff(first, first)["diff"]),
        (&json!(true), &json!(""))
    );
    let emptied = diff(second, gone);
    assert!(emptied["diff"].as_str().unwrap().ends_with("-one\n-2\n"), "{emptied}");
    assert_eq!(emptied["to"]["path"], json!(null));
    let missing = server.get("/api/history/notes/diff?from=00000000", &token);
    assert_eq!(missing.refusal(), (400, "bad_request".into()));
}

#[test]
fn restoring_is_the_engines_work_under_the_callers_name() {
    let server = Running::start();
    let (anna, token) = server.anna();
    let mut writer = Writer::new(&server, anna);
    let first = writer.text("a.md", &[], "one\n");
    let restore = |version: &str| {
        let ask = server.ask("POST", "/api/history/notes/restore").token(token.reveal());
        ask.json(json!({ "version": version })).send()
    };
    let reply = restore(&first.to_string()[..12]);
    assert_eq!(reply.status, 201);
    let mut expected = *first.as_bytes();
    expected[31] ^= 1;
    assert_eq!(reply.json()["version"], VersionId::from_bytes(expected).to_string());
    let parties = server.engine.parties.lock().unwrap();
    assert_eq!((parties[0].origin.user, parties[0].access), (anna, Access::Write));
    drop(parties);
    assert_eq!(restore("00000000").refusal(), (404, "not_found".into()));
}

#[test]
fn a_vault_the_store_has_not_made_yet_has_no_history() {
    let server = Running::start();
    let (_, token) = server.anna();
    let reply = server.get("/api/history/notes", &token);
    assert_eq!(reply.refusal(), (404, "not_found".into()));
}
