//! Live sessions as pages see them: WebSockets and streams on one side, versions of notes and
//! `crdt.db` on the other.

use std::io::BufReader;
use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use crucible_core::id::{DeviceId, UserId};
use crucible_live::frames::{self, BatchId, CrdtType, Message, Permission, Status};
use crucible_server::rounds::Write;
use crucible_trust::capability::Token;
use crucible_trust::rights::Access;
use loro::awareness::EphemeralStore;
use loro::{ExportMode, LoroDoc, VersionVector};
use serde_json::{Value, json};
use tungstenite::client::IntoClientRequest;
use tungstenite::{Message as Frame, WebSocket};

use crate::client::{read_chunk, read_head};
use crate::real::{NOTES, Real, at, text};

/// What a page has: a connection, a document, and what it was told.
struct Page {
    socket: WebSocket<TcpStream>,
    session: String,
    doc: LoroDoc,
    told: Vec<Value>,
    acks: Vec<Status>,
    permission: Option<Permission>,
    extra: Value,
    /// Who is where.
    here: EphemeralStore,
}

fn open(server: &Real, path: &str) -> String {
    let reply = server.post("/api/sessions", json!({ "vault": "notes", "path": path }));
    assert!(matches!(reply.status, 200 | 201), "{:?}", String::from_utf8_lossy(&reply.body));
    reply.json()["id"].as_str().unwrap().to_owned()
}

fn connect(server: &Real, session: &str, token: &Token) -> Result<WebSocket<TcpStream>, u16> {
    let url = format!("ws://{}/api/sessions/{session}/ws", server.address);
    let mut request = url.into_client_request().unwrap();
    let token = token.reveal().trim_end_matches('=');
    let offered = format!("loro.v1, bearer.{token}");
    request.headers_mut().insert("Sec-WebSocket-Protocol", offered.parse().unwrap());
    let stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    match tungstenite::client(request, stream) {
        Ok((socket, response)) => {
            assert_eq!(response.headers()["sec-websocket-protocol"], "loro.v1");
            Ok(socket)
        }
        Err(tungstenite::HandshakeError::Failure(tungstenite::Error::Http(response))) => {
            Err(response.status().as_u16())
        }
        Err(other) => panic!("{other}"),
    }
}

impl Page {
    fn join(server: &Real, session: &str, token: &Token) -> Self {
        let mut page = Self {
            socket: connect(server, session, token).unwrap(),
            session: session.to_owned(),
            doc: LoroDoc::new(),
            told: Vec::new(),
            acks: Vec::new(),
            permission: None,
            extra: Value::Null,
            here: EphemeralStore::new(30_000),
        };
        let rooms =
            [CrdtType::LoroEphemeralStorePersisted, CrdtType::LoroEphemeralStore, CrdtType::Loro];
        for crdt in rooms {
            page.say(&Message::JoinRequest {
                crdt,
                room_id: session.to_owned(),
                auth: Vec::new(),
                version: Vec::new(),
            });
        }
        page.hear_until(|page| page.permission.is_some() && !page.doc.oplog_vv().is_empty());
        page
    }

    fn say(&mut self, message: &Message) {
        let frame = frames::encode(message);
        self.socket.send(Frame::Binary(frame.to_vec().into())).unwrap();
    }

    fn text(&self) -> String {
        self.doc.get_text("text").to_string()
    }

    /// Writes at a place and sends it.
    fn write(&mut self, place: usize, text: &str) {
        let before = self.doc.oplog_vv();
        self.doc.get_text("text").insert(place, text).unwrap();
        self.doc.commit();
        let update = self.doc.export(ExportMode::updates(&before)).unwrap();
        self.send(update);
    }

    fn send(&mut self, update: Vec<u8>) {
        self.say(&Message::DocUpdate {
            crdt: CrdtType::Loro,
            room_id: self.session.clone(),
            updates: vec![update],
            batch_id: BatchId([7; 8]),
        });
    }

    /// Takes what comes until it is as wanted.
    fn hear_until(&mut self, wanted: impl Fn(&Self) -> bool) {
        while !wanted(self) {
            match self.socket.read().unwrap() {
                Frame::Binary(bytes) => self.hear(&bytes),
                Frame::Close(close) => panic!("closed: {close:?}"),
                _ => {}
            }
        }
    }

    fn hear(&mut self, bytes: &[u8]) {
        match frames::decode(bytes).unwrap() {
            Message::JoinResponseOk { crdt: CrdtType::Loro, permission, extra, .. } => {
                self.permission = Some(permission);
                self.extra = serde_json::from_slice(&extra.unwrap()).unwrap();
            }
            Message::DocUpdate { crdt: CrdtType::Loro, updates, .. } => {
                for update in updates {
                    self.doc.import(&update).unwrap();
                }
            }
            Message::DocUpdate { crdt: CrdtType::LoroEphemeralStore, updates, .. } => {
                updates.iter().for_each(|entries| self.here.apply(entries).unwrap());
            }
            Message::DocUpdate { crdt: CrdtType::LoroEphemeralStorePersisted, updates, .. } => {
                let told = updates.iter().map(|told| serde_json::from_slice(told).unwrap());
                self.told.extend(told);
            }
            Message::Ack { status, .. } => self.acks.push(status),
            _ => {}
        }
    }

    fn hear_told(&mut self, what: &str) -> Value {
        self.hear_until(|page| page.told.iter().any(|told| told["type"] == what));
        self.told.iter().find(|told| told["type"] == what).unwrap().clone()
    }

    /// The code the server closes with.
    fn hear_close(&mut self) -> u16 {
        loop {
            match self.socket.read() {
                Ok(Frame::Close(Some(close))) => return close.code.into(),
                Ok(_) => {}
                Err(error) => panic!("no close code: {error}"),
            }
        }
    }
}

/// Lets the server's clock pass what it waits for after the last edit.
fn pass(server: &Real, ms: u64) {
    server.now_ms.fetch_add(ms, Ordering::SeqCst);
}

fn note(server: &Real, path: &str) -> Value {
    server.json(&format!("/api/notes/notes/note?path={path}"))
}

#[test]
fn a_note_has_one_session_whoever_opens_it() {
    let server = Real::start();
    server.create("a.md", "text\n");
    let ask = json!({ "vault": "notes", "path": "a.md" });
    let first = server.post("/api/sessions", ask.clone());
    assert_eq!(first.status, 201);
    let second = server.post("/api/sessions", ask);
    assert_eq!((second.status, second.json()), (200, first.json()));
    let id = first.json()["id"].clone();
    let listed = server.json("/api/sessions");
    assert_eq!(listed["sessions"][0]["id"], id);
    assert_eq!(listed["sessions"][0]["path"], "a.md");
    assert_eq!(note(&server, "a.md")["session"], id);
    let told = server.get(&format!("/api/sessions/{}/text", id.as_str().unwrap()));
    assert_eq!(told.body, b"text\n");
}

#[test]
fn what_two_write_at_once_is_a_version_that_names_both() {
    let server = Real::start();
    server.create("a.md", "one\ntwo\n");
    let bert = server.bert();
    let session = open(&server, "a.md");
    let mut anna = Page::join(&server, &session, &server.token);
    let mut other = Page::join(&server, &session, &bert);
    assert_eq!((anna.text().as_str(), other.text().as_str()), ("one\ntwo\n", "one\ntwo\n"));
    assert_eq!(anna.extra["role"], "write");
    anna.write(3, " and");
    other.write(8, "three\n");
    for page in [&mut anna, &mut other] {
        page.hear_until(|page| page.text() == "one and\ntwo\nthree\n" && page.acks == [Status::Ok]);
    }
    pass(&server, 2_000);
    let saved = anna.hear_told("saved");
    let now = note(&server, "a.md");
    assert_eq!(now["text"], "one and\ntwo\nthree\n");
    assert_eq!(now["version"], saved["version"]);
    let history = server.json("/api/history/notes?path=a.md");
    let newest = &history["revisions"][0];
    let mut names =
        vec![newest["user"]["email"].as_str(), newest["with"][0]["user"]["email"].as_str()];
    names.sort_unstable();
    assert_eq!(names, [Some("anna@example.org"), Some("bert@example.org")]);
    assert_eq!(history["revisions"][1]["with"], json!([]));
}

#[test]
fn who_is_where_is_told_and_goes_with_its_connection() {
    let server = Real::start();
    server.create("a.md", "text\n");
    let session = open(&server, "a.md");
    let mut anna = Page::join(&server, &session, &server.token);
    let mut other = Page::join(&server, &session, &server.token);
    other.here.set("7", "at the end");
    let entries = other.here.encode_all();
    other.say(&Message::DocUpdate {
        crdt: CrdtType::LoroEphemeralStore,
        room_id: session.clone(),
        updates: vec![entries],
        batch_id: BatchId([1; 8]),
    });
    anna.hear_until(|page| page.here.get_all_states().len() == 1);
    let third = Page::join(&server, &session, &server.token);
    drop(other);
    anna.hear_until(|page| page.here.get_all_states().is_empty());
    drop(third);
    let mut late = Page::join(&server, &session, &server.token);
    late.write(0, "x");
    late.hear_until(|page| !page.acks.is_empty());
    assert!(late.here.get_all_states().is_empty());
}

#[test]
fn an_edit_of_the_file_comes_into_the_session_and_takes_nothing_from_it() {
    let server = Real::start();
    let first = server.create("a.md", "one\ntwo\n");
    let session = open(&server, "a.md");
    let mut page = Page::join(&server, &session, &server.token);
    page.write(0, "zero\n");
    page.hear_until(|page| page.acks == [Status::Ok]);
    let base = first.id.to_string();
    let edit = json!({ "op": "edit", "path": "a.md", "base": base, "text": "one\ntwo\nthree\n" });
    assert_eq!(server.post("/api/notes/notes/changes", edit).status, 201);
    page.hear_until(|page| page.text() == "zero\none\ntwo\nthree\n");
    assert_eq!(page.hear_told("outside")["by"], "anna on laptop");
    pass(&server, 2_000);
    page.hear_told("saved");
    assert_eq!(note(&server, "a.md")["text"], "zero\none\ntwo\nthree\n");
}

#[test]
fn what_was_acknowledged_outlives_the_server_and_the_document_is_the_same() {
    let server = Real::start();
    server.create("a.md", "text\n");
    let session = open(&server, "a.md");
    let mut page = Page::join(&server, &session, &server.token);
    page.write(4, " and more");
    page.hear_until(|page| page.acks == [Status::Ok]);
    let server = server.restart();
    let mut again = Page::join(&server, &session, &server.token);
    assert_eq!(again.text(), "text and more\n");
    assert_eq!(again.extra["epoch"], page.extra["epoch"]);
    // What the page has is what the server has: nothing is sent twice, nothing doubled.
    let version = VersionVector::decode(&page.doc.oplog_vv().encode()).unwrap();
    assert_eq!(again.doc.oplog_vv(), version);
    // The first server made a version of it before it ended.
    assert_eq!(note(&server, "a.md")["text"], "text and more\n");
    again.write(0, "some ");
    again.hear_until(|again| again.acks == [Status::Ok]);
    pass(&server, 2_000);
    again.hear_told("saved");
    assert_eq!(note(&server, "a.md")["text"], "some text and more\n");
}

#[test]
fn a_note_is_opened_by_its_id_wherever_it_is() {
    let server = Real::start();
    server.create("a.md", "text\n");
    let by_path = json!({ "vault": "notes", "path": "a.md" });
    let opened = server.post("/api/sessions", by_path).json();
    let by_note = json!({ "vault": "notes", "note": opened["note"] });
    let again = server.post("/api/sessions", by_note.clone()).json();
    assert_eq!((&again["id"], &again["path"]), (&opened["id"], &json!("a.md")));
    let both = json!({ "vault": "notes", "path": "a.md", "note": opened["note"] });
    for (wrong, status) in [
        (both, 400),
        (json!({ "vault": "notes" }), 400),
        (json!({ "vault": "notes", "note": "a.md" }), 400),
        (json!({ "vault": "notes", "note": "ab".repeat(32) }), 404),
    ] {
        assert_eq!(server.post("/api/sessions", wrong.clone()).status, status, "{wrong}");
    }
}

#[test]
fn an_ended_session_leaves_an_ordinary_note() {
    let server = Real::start();
    server.create("a.md", "text\r\n");
    let session = open(&server, "a.md");
    let mut page = Page::join(&server, &session, &server.token);
    page.write(0, "more ");
    page.hear_until(|page| page.acks == [Status::Ok]);
    assert_eq!(server.post(&format!("/api/sessions/{session}/end"), json!({})).status, 202);
    assert_eq!(page.hear_close(), 4410);
    assert_eq!(note(&server, "a.md")["text"], "more text\r\n");
    assert_eq!(note(&server, "a.md")["session"], Value::Null);
    let gone = server.get(&format!("/api/sessions/{session}/text")).refusal();
    assert_eq!(gone, (404, "not_found".to_owned()));
    assert_ne!(open(&server, "a.md"), session);
}

#[test]
fn a_deleted_note_ends_its_session_and_one_that_is_written_in_comes_back() {
    let server = Real::start();
    let first = server.create("a.md", "text\n");
    let session = open(&server, "a.md");
    let mut page = Page::join(&server, &session, &server.token);
    page.write(0, "more ");
    page.hear_until(|page| page.acks == [Status::Ok]);
    server.write(&Write::delete(first.id));
    assert_eq!(server.post(&format!("/api/sessions/{session}/end"), json!({})).status, 202);
    // Longer than a deleted file is not yet believed.
    pass(&server, 5_000);
    assert_eq!(page.hear_close(), 4410);
    assert_eq!(note(&server, "a.md")["text"], "more text\n");
}

#[test]
fn who_may_only_read_sees_and_cannot_write() {
    let server = Real::start();
    server.create("a.md", "text\n");
    let session = open(&server, "a.md");
    let token = server.read_only();
    let mut reader = Page::join(&server, &session, &token);
    assert_eq!(reader.permission, Some(Permission::Read));
    let mut page = Page::join(&server, &session, &server.token);
    page.write(0, "more ");
    reader.hear_until(|reader| reader.text() == "more text\n");
    reader.write(0, "and ");
    reader.hear_until(|reader| reader.acks == [Status::PermissionDenied]);
    let told = server.get(&format!("/api/sessions/{session}/text"));
    assert_eq!(told.body, b"more text\n");
    let ask = server.ask("POST", &format!("/api/sessions/{session}/end"));
    let refused = ask.token(token.reveal()).json(json!({})).send();
    assert_eq!(refused.status, 403);
}

#[test]
fn strangers_cannot_tell_whether_there_is_a_session() {
    let server = Real::start();
    server.create("a.md", "text\n");
    let session = open(&server, "a.md");
    let stranger = server.stranger();
    for id in [session.as_str(), "0000"] {
        assert_eq!(connect(&server, id, &stranger).err(), Some(404), "{id}");
        let ask = server.ask("GET", &format!("/api/sessions/{id}/text"));
        assert_eq!(ask.token(stranger.reveal()).send().status, 404, "{id}");
    }
    let listed = server.ask("GET", "/api/sessions").token(stranger.reveal()).send();
    assert_eq!(listed.json()["sessions"], json!([]));
    let ask = json!({ "vault": "notes", "path": "a.md" });
    let refused = server.ask("POST", "/api/sessions").token(stranger.reveal()).json(ask).send();
    assert_eq!(refused.status, 403);
}

#[test]
fn rights_that_end_end_the_connection_at_once() {
    let server = Real::start();
    server.create("a.md", "text\n");
    let bert = server.bert();
    let session = open(&server, "a.md");
    let mut page = Page::join(&server, &session, &bert);
    let user = UserId::from_bytes([2; 16]);
    server.accounts.set_member(NOTES, user, Access::Read).unwrap();
    let put = json!({ "email": "bert@example.org", "access": "read" });
    let path = "/api/vaults/notes/members";
    assert_eq!(server.ask("PUT", path).token(server.token.reveal()).json(put).send().status, 200);
    assert_eq!(page.hear_told("role")["role"], "read");
    page.write(0, "more ");
    page.hear_until(|page| page.acks == [Status::PermissionDenied]);
    let device = DeviceId::from_bytes([13; 32]);
    let own = server.ask("DELETE", &format!("/api/auth/devices/{device}"));
    assert_eq!(own.token(bert.reveal()).send().status, 204);
    assert_eq!(page.hear_close(), 4401);
    assert_eq!(connect(&server, &session, &bert).err(), Some(401));
}

#[test]
fn what_is_no_frame_ends_one_connection_and_the_room_goes_on() {
    let server = Real::start();
    server.create("a.md", "text\n");
    let session = open(&server, "a.md");
    let mut page = Page::join(&server, &session, &server.token);
    for garbage in [&b""[..], b"garbage", &[0xff; 1_000]] {
        let mut hostile = Page::join(&server, &session, &server.token);
        hostile.socket.send(Frame::Binary(garbage.to_vec().into())).unwrap();
        assert_eq!(hostile.hear_close(), 4400);
    }
    let mut hostile = Page::join(&server, &session, &server.token);
    hostile.send(b"no update".to_vec());
    hostile.hear_until(|hostile| hostile.acks == [Status::InvalidUpdate]);
    let foreign = LoroDoc::new();
    foreign.get_text("other").insert(0, "x").unwrap();
    foreign.commit();
    hostile.send(foreign.export(ExportMode::all_updates()).unwrap());
    hostile.hear_until(|hostile| hostile.acks.len() == 2);
    assert_ne!(hostile.acks[1], Status::Ok);
    assert_eq!(hostile.hear_close(), 4400);
    page.write(0, "more ");
    page.hear_until(|page| page.acks == [Status::Ok]);
    page.hear_until(|page| page.text() == "more text\n");
}

#[test]
fn only_notes_can_be_edited_live() {
    let server = Real::start();
    server.create("a.png", "not really");
    for (path, status) in [("a.png", 400), ("b.md", 404), ("../b.md", 400)] {
        let reply = server.post("/api/sessions", json!({ "vault": "notes", "path": path }));
        assert_eq!(reply.refusal().0, status, "{path}");
    }
}

#[test]
fn a_page_of_another_site_gets_no_connection() {
    let server = Real::start();
    server.create("a.md", "text\n");
    let session = open(&server, "a.md");
    let ask = server.ask("GET", &format!("/api/sessions/{session}/ws"));
    let ask = ask.token(server.token.reveal()).header("Origin", "http://evil.example");
    assert_eq!(ask.send().refusal(), (403, "foreign_origin".to_owned()));
}

#[test]
fn a_note_that_moves_stays_live_where_it_is_then() {
    let server = Real::start();
    let first = server.create("a.md", "text\n");
    let session = open(&server, "a.md");
    let mut page = Page::join(&server, &session, &server.token);
    let base = first.id.to_string();
    let moved = json!({ "op": "move", "path": "a.md", "to": "b/c.md", "base": base });
    assert_eq!(server.post("/api/notes/notes/changes", moved).status, 201);
    assert_eq!(page.hear_told("moved")["path"], "b/c.md");
    page.write(0, "more ");
    page.hear_until(|page| page.acks == [Status::Ok]);
    pass(&server, 2_000);
    page.hear_told("saved");
    assert_eq!(note(&server, "b/c.md")["text"], "more text\n");
    let written = server.create("a.md", "another\n");
    assert_eq!(text(&written), "another\n");
    assert_eq!(written.path, Some(at("a.md")));
}

/// A connection over server-sent events.
struct Stream {
    stream: BufReader<TcpStream>,
    rest: String,
}

impl Stream {
    fn open(server: &Real, session: &str, client: &str, token: &Token, last: Option<u64>) -> Self {
        let path = format!("/api/sessions/{session}/events?client={client}");
        let mut ask = server.ask("GET", &path).token(token.reveal());
        if let Some(last) = last {
            ask = ask.header("Last-Event-ID", &last.to_string());
        }
        let mut stream = ask.open();
        assert_eq!(read_head(&mut stream).unwrap().status, 200);
        Self { stream, rest: String::new() }
    }

    /// The next event: its name, its number, its data.
    fn next(&mut self) -> (String, u64, String) {
        loop {
            if let Some((block, rest)) = self.rest.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.rest = rest;
                let field = |name: &str| {
                    let line = block.lines().find_map(|line| line.strip_prefix(name));
                    line.map(|value| value.trim_start().to_owned())
                };
                let Some(data) = field("data:") else { continue };
                let number = field("id:").map_or(0, |id| id.parse().unwrap());
                return (field("event:").unwrap_or_default(), number, data);
            }
            let more = read_chunk(&mut self.stream).expect("the stream goes on");
            self.rest += &String::from_utf8(more).unwrap();
        }
    }

    fn message(&mut self) -> (u64, Message) {
        let (event, number, data) = self.next();
        assert_eq!(event, "", "{data}");
        (number, frames::decode(&BASE64_STANDARD.decode(data).unwrap()).unwrap())
    }
}

fn post(server: &Real, session: &str, client: &str, token: &Token, said: &[Message]) -> u16 {
    let mut body = Vec::new();
    for message in said {
        let frame = frames::encode(message);
        body.extend(u32::try_from(frame.len()).unwrap().to_be_bytes());
        body.extend_from_slice(&frame);
    }
    let path = format!("/api/sessions/{session}/frames?client={client}");
    server.ask("POST", &path).token(token.reveal()).body(body).send().status
}

#[test]
fn where_no_websocket_gets_through_events_do_and_a_cut_stream_is_taken_up_again() {
    let server = Real::start();
    server.create("a.md", "text\n");
    let session = open(&server, "a.md");
    let (token, client) = (&server.token, "0123456789abcdef0123456789abcdef");
    let mut stream = Stream::open(&server, &session, client, token, None);
    let room_id = session.clone();
    let join = Message::JoinRequest {
        crdt: CrdtType::Loro,
        room_id: room_id.clone(),
        auth: Vec::new(),
        version: Vec::new(),
    };
    assert_eq!(post(&server, &session, client, token, &[join]), 204);
    let doc = LoroDoc::new();
    let last = loop {
        if let (number, Message::DocUpdate { updates, .. }) = stream.message() {
            doc.import(&updates[0]).unwrap();
            break number;
        }
    };
    assert_eq!(doc.get_text("text").to_string(), "text\n");
    let before = doc.oplog_vv();
    doc.get_text("text").insert(0, "more ").unwrap();
    doc.commit();
    let update = doc.export(ExportMode::updates(&before)).unwrap();
    let update = Message::DocUpdate {
        crdt: CrdtType::Loro,
        room_id,
        updates: vec![update],
        batch_id: BatchId([1; 8]),
    };
    // The stream is cut before the Ack has come.
    drop(stream);
    assert_eq!(post(&server, &session, client, token, &[update]), 204);
    let mut stream = Stream::open(&server, &session, client, token, Some(last));
    let (number, ack) = stream.message();
    assert_eq!(number, last + 1);
    assert!(matches!(ack, Message::Ack { status: Status::Ok, .. }), "{ack:?}");
    let told = server.get(&format!("/api/sessions/{session}/text"));
    assert_eq!(told.body, b"more text\n");
    // Nobody else's.
    let bert = server.bert();
    assert_eq!(post(&server, &session, client, &bert, &[]), 404);
    assert_eq!(post(&server, &session, "another-client-of-no-stream", token, &[]), 404);
    assert_eq!(post(&server, &session, "short", token, &[]), 400);
    assert_eq!(server.post(&format!("/api/sessions/{session}/end"), json!({})).status, 202);
    let (event, _, data) = stream.next();
    assert_eq!((event.as_str(), &data[..12]), ("close", r#"{"code":4410"#));
}

#[test]
fn others_online_hear_that_a_session_opens_and_ends() {
    let server = Real::start();
    server.create("a.md", "text\n");
    let bert = server.bert();
    let mut stream = server.ask("GET", "/api/sessions/events").token(bert.reveal()).open();
    assert_eq!(read_head(&mut stream).unwrap().status, 200);
    let mut notices = Stream { stream, rest: String::new() };
    let session = open(&server, "a.md");
    let (event, _, data) = notices.next();
    let data: Value = serde_json::from_str(&data).unwrap();
    assert_eq!(event, "opened");
    assert_eq!((&data["path"], &data["id"]), (&json!("a.md"), &json!(session)));
    let page = Page::join(&server, &session, &server.token);
    assert_eq!(notices.next().0, "joined");
    drop(page);
    assert_eq!(notices.next().0, "left");
    assert_eq!(server.post(&format!("/api/sessions/{session}/end"), json!({})).status, 202);
    assert_eq!(notices.next().0, "closed");
}
