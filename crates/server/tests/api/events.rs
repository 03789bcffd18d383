use std::io::BufReader;
use std::net::TcpStream;

use crucible_core::id::DeviceId;
use crucible_trust::capability::Token;

use crate::client::{read_chunk, read_head};
use crate::running::{NOW_MS, Running};

struct Events {
    stream: BufReader<TcpStream>,
    text: String,
}

impl Events {
    fn open(server: &Running, token: &Token) -> Self {
        let ask = server.ask("GET", "/api/sync/notes/events").token(token.reveal());
        let mut stream = ask.open();
        let head = read_head(&mut stream).unwrap();
        assert_eq!(head.status, 200);
        assert_eq!(head.header("content-type"), Some("text/event-stream"));
        Self { stream, text: String::new() }
    }

    /// The next block of lines, `None` when the server ended the stream.
    fn block(&mut self) -> Option<String> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let block = block.to_owned();
                self.text = rest.to_owned();
                return Some(block);
            }
            self.text += &String::from_utf8(read_chunk(&mut self.stream)?).unwrap();
        }
    }

    fn root(&mut self) -> Option<String> {
        loop {
            let block = self.block()?;
            if block.contains("event: root") {
                let data = block.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
                return Some(data.to_owned());
            }
        }
    }
}

fn root(byte: u8) -> String {
    format!("{{\"root\":\"{}\"}}", format!("{byte:02x}").repeat(32))
}

#[test]
fn listeners_are_told_the_root_and_every_new_one() {
    let server = Running::start();
    let (_, token) = server.anna();
    let mut early = Events::open(&server, &token);
    assert_eq!(early.root().as_deref(), Some("{\"root\":null}"));
    server.round(&token, "notes", "push");
    assert_eq!(early.root(), Some(root(1)));
    let mut late = Events::open(&server, &token);
    assert_eq!(late.root(), Some(root(1)));
    // A round that changes nothing tells nobody; the next event is the next root.
    server.round(&token, "notes", "pull");
    server.round(&token, "notes", "push");
    assert_eq!(early.root(), Some(root(2)));
    assert_eq!(late.root(), Some(root(2)));
}

#[test]
fn a_stream_shows_signs_of_life() {
    let server = Running::with(|config| config.limits.heartbeat_ms = 20);
    let (_, token) = server.anna();
    let mut events = Events::open(&server, &token);
    assert!(events.root().is_some());
    assert!(events.block().unwrap().starts_with(':'));
}

#[test]
fn a_stream_ends_when_its_device_is_revoked() {
    let server = Running::with(|config| config.limits.heartbeat_ms = 20);
    let (anna, token) = server.anna();
    let mut events = Events::open(&server, &token);
    assert!(events.root().is_some());
    server.accounts.revoke_device(anna, DeviceId::from_bytes([11; 32]), NOW_MS).unwrap();
    assert_eq!(events.root(), None);
}

#[test]
fn streams_are_limited_in_number() {
    let server = Running::with(|config| config.limits.events_max = 1);
    let (_, token) = server.anna();
    let mut events = Events::open(&server, &token);
    assert!(events.root().is_some());
    let refused = server.get("/api/sync/notes/events", &token);
    assert_eq!(refused.refusal(), (503, "unavailable".into()));
}

#[test]
fn streams_end_when_the_server_goes_down() {
    // Neither a grace that runs out nor a heartbeat ends them instead.
    let mut server = Running::with(|config| {
        config.limits.shutdown_ms = 3_000_000_000;
        config.limits.heartbeat_ms = 3_000_000_000;
    });
    let (_, token) = server.anna();
    let mut events = Events::open(&server, &token);
    assert!(events.root().is_some());
    server.begin_stop();
    assert_eq!(events.root(), None);
    server.join();
}
