//! The server as a stranger sees it: raw requests, good and bad.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use serde_json::Value;

use crate::kit::{World, settle};

/// One answer.
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        let text = String::from_utf8_lossy(&self.body);
        let told = format!("{} {text}", self.status);
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("no JSON ({error}): {told}"))
    }

    /// Asserts a refusal in the server's own words: a 4xx with a stable code.
    #[track_caller]
    fn refused(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        assert!((400..500).contains(&self.status), "wanted a 4xx: {} {text}", self.status);
        let said = self.json();
        let inner = if said["error"].is_object() { &said["error"] } else { &said };
        assert!(inner["message"].is_string(), "no message: {said}");
        inner["code"].as_str().unwrap_or_else(|| panic!("no code: {said}")).to_owned()
    }
}

struct Ask<'a> {
    method: &'a str,
    path: &'a str,
    headers: Vec<String>,
    body: &'a [u8],
    /// What Content-Length says, where it is not the truth.
    says: Option<u64>,
}

impl<'a> Ask<'a> {
    fn new(method: &'a str, path: &'a str) -> Ask<'a> {
        Ask { method, path, headers: Vec::new(), body: b"", says: None }
    }

    fn token(mut self, token: &str) -> Ask<'a> {
        self.headers.push(format!("Authorization: Bearer {token}"));
        self
    }

    fn header(mut self, header: &str) -> Ask<'a> {
        self.headers.push(header.to_owned());
        self
    }

    fn body(mut self, body: &'a [u8]) -> Ask<'a> {
        self.body = body;
        self
    }

    fn send(self, to: SocketAddr) -> Answer {
        let mut stream = TcpStream::connect(to).unwrap();
        let mut head = format!("{} {} HTTP/1.1\r\nConnection: close\r\n", self.method, self.path);
        if !self.headers.iter().any(|header| header.starts_with("Host:")) {
            head.push_str(&format!("Host: {to}\r\n"));
        }
        for header in &self.headers {
            head.push_str(&format!("{header}\r\n"));
        }
        let length = self.says.unwrap_or(self.body.len() as u64);
        head.push_str(&format!("Content-Length: {length}\r\n\r\n"));
        stream.write_all(head.as_bytes()).unwrap();
        // A server that refuses early may have closed already; its answer is read all the same.
        stream.write_all(self.body).ok();
        if self.says.is_some() {
            stream.shutdown(Shutdown::Write).ok();
        }
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok();
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
        let end =
            end.unwrap_or_else(|| panic!("no answer: {:?}", String::from_utf8_lossy(&answer)));
        let head = String::from_utf8_lossy(&answer[..end]).into_owned();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let body = body_of(&head, &answer[end + 4..]);
        Answer { status, head, body }
    }
}

fn body_of(head: &str, bytes: &[u8]) -> Vec<u8> {
    if !head.to_lowercase().contains("transfer-encoding: chunked") {
        return bytes.to_vec();
    }
    let (mut body, mut rest) = (Vec::new(), bytes);
    while let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
        let size = std::str::from_utf8(&rest[..end]).unwrap().trim();
        let size = usize::from_str_radix(size, 16).unwrap();
        let begin = end + 2;
        if size == 0 || begin + size > rest.len() {
            break;
        }
        body.extend_from_slice(&rest[begin..begin + size]);
        rest = &rest[(begin + size + 2).min(rest.len())..];
    }
    body
}

/// The paths of the API that begin so, with a method, from the server's own description.
fn paths(world: &World, method: &str, prefix: &str) -> Vec<String> {
    let answer = Ask::new("GET", "/api/openapi.json").token(&world.token).send(world.address());
    assert_eq!(answer.status, 200, "/api/openapi.json: {}", answer.head);
    let paths = answer.json()["paths"].clone();
    let found: Vec<String> = paths
        .as_object()
        .expect("an object of paths")
        .iter()
        .filter(|(path, methods)| path.starts_with(prefix) && !methods[method].is_null())
        .map(|(path, _)| path.clone())
        .collect();
    assert!(!found.is_empty(), "no {method} path begins with {prefix}: {paths}");
    found
}

/// Fills `{vault}` and the like in.
fn filled(path: &str) -> String {
    let mut filled = String::new();
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, behind) = after.split_once('}').unwrap();
        filled.push_str(before);
        filled.push_str(if name.contains("vault") { "notes" } else { "x" });
        rest = behind;
    }
    filled + rest
}

fn sync_path(world: &World) -> String {
    let found = paths(world, "post", "/api/sync");
    filled(found.iter().min_by_key(|path| path.len()).unwrap())
}

#[test]
fn the_health_answer_needs_no_token_and_tells_nothing() {
    let world = World::new();
    let answer = Ask::new("GET", "/healthz").send(world.address());
    assert_eq!(answer.status, 200);
    assert!(answer.body.len() < 200, "{}", String::from_utf8_lossy(&answer.body));
}

#[test]
fn metrics_are_in_the_form_of_prometheus() {
    let (world, [alice]) = World::with_devices();
    alice.write("a.md", "a\n");
    alice.sync();
    let answer = Ask::new("GET", "/metrics").token(&world.token).send(world.address());
    let text = String::from_utf8(answer.body).unwrap();
    assert_eq!(answer.status, 200, "{text}");
    assert!(text.contains("# TYPE "), "{text}");
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let value = line.rsplit(' ').next().unwrap();
        assert!(value.parse::<f64>().is_ok(), "{line:?}");
    }
    assert!(!text.contains("a.md"), "a note's name in the metrics");
}

#[test]
fn without_a_token_every_door_is_closed() {
    let (world, [alice]) = World::with_devices();
    alice.write("a.md", "a\n");
    alice.sync();
    for (method, prefix) in [("post", "/api/sync"), ("get", "/api/history"), ("get", "/api/auth")] {
        for path in paths(&world, method, prefix) {
            let (verb, path) = (method.to_uppercase(), filled(&path));
            let answer = Ask::new(&verb, &path).body(b"{}").send(world.address());
            assert_eq!(answer.status, 401, "{verb} {path}: {}", answer.head);
            answer.refused();
            let answer = Ask::new(&verb, &path).token("nonsense").send(world.address());
            assert_eq!(answer.status, 401, "{verb} {path}: {}", answer.head);
        }
    }
}

#[test]
fn malformed_rounds_are_refused_with_a_code_and_store_nothing() {
    let (world, [alice, bob]) = World::with_devices();
    alice.write("a.md", "a\n");
    settle(&[&alice, &bob]);
    let root = alice.sync()["server_root"].clone();
    let path = sync_path(&world);
    let deep = [0x81_u8; 100_000];
    let huge_array = [0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    let huge_bytes = [0x5b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00];
    let mut dice = crate::kit::Dice(7);
    let random: Vec<u8> = (0..5000).map(|_| dice.below(256) as u8).collect();
    let bodies: [&[u8]; 8] =
        [b"", b"{}", b"\0", b"\xff\xff\xff\xff", &deep, &huge_array, &huge_bytes, &random];
    for (at, body) in bodies.iter().enumerate() {
        for kind in ["application/cbor", "application/octet-stream", "application/json"] {
            let ask = Ask::new("POST", &path).token(&world.token);
            let answer =
                ask.header(&format!("Content-Type: {kind}")).body(body).send(world.address());
            assert!((400..500).contains(&answer.status), "body {at}, {kind}: {}", answer.head);
            answer.refused();
        }
    }
    assert_eq!(alice.sync()["server_root"], root, "something was stored");
}

#[test]
fn a_body_that_ends_early_is_refused_and_stores_nothing() {
    let (world, [alice]) = World::with_devices();
    alice.write("a.md", "a\n");
    let root = alice.sync()["server_root"].clone();
    let path = sync_path(&world);
    let mut ask = Ask::new("POST", &path).token(&world.token).body(b"\x83\x01\x02");
    ask.says = Some(1000);
    let mut stream = TcpStream::connect(world.address()).unwrap();
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/cbor\r\nContent-Length: 1000\r\n\r\n",
        world.address(),
        world.token,
    )
    .unwrap();
    stream.write_all(ask.body).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok();
    let first = String::from_utf8_lossy(&answer).lines().next().unwrap_or("").to_owned();
    assert!(first.is_empty() || first.contains(" 4"), "{first}");
    assert_eq!(alice.sync()["server_root"], root, "something was stored");
}

#[test]
fn a_body_that_says_it_is_enormous_is_refused_before_it_is_read() {
    let (world, [alice]) = World::with_devices();
    alice.sync();
    let path = sync_path(&world);
    let mut ask = Ask::new("POST", &path).token(&world.token).body(b"x");
    ask = ask.header("Content-Type: application/cbor");
    ask.says = Some(1 << 40);
    let answer = ask.send(world.address());
    assert_eq!(answer.status, 413, "{}", answer.head);
    answer.refused();
    alice.sync();
}

#[test]
fn a_zip_bomb_is_bounded() {
    let (mut world, [alice]) = World::with_devices();
    alice.sync();
    let path = sync_path(&world);
    let before = world.server().peak_kib();
    // A frame of zeros: 30 KB that unfold to a gigabyte.
    let bomb = zero_frame(1 << 30);
    for encoding in ["zstd", "identity"] {
        let ask = Ask::new("POST", &path).token(&world.token).body(&bomb);
        let ask = ask.header("Content-Type: application/cbor");
        let ask = ask.header(&format!("Content-Encoding: {encoding}"));
        ask.send(world.address()).refused();
    }
    let grown = world.server().peak_kib().saturating_sub(before);
    assert!(grown < 300_000, "the server grew by {grown} KiB");
    alice.sync();
    world.stop_server();
}

/// A Zstandard frame that unfolds to so many zeros: run-length blocks of 128 KiB.
fn zero_frame(bytes: u64) -> Vec<u8> {
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd];
    // One segment, an eight-byte content size.
    frame.push(0b1110_0000);
    frame.extend_from_slice(&bytes.to_le_bytes());
    let block = 128 * 1024;
    let count = bytes / block;
    for at in 0..count {
        let last = u32::from(at + 1 == count);
        let header = last | (1 << 1) | ((block as u32) << 3);
        frame.extend_from_slice(&header.to_le_bytes()[..3]);
        frame.push(0);
    }
    frame
}

#[test]
fn a_foreign_host_or_origin_is_refused() {
    let (world, [alice]) = World::with_devices();
    alice.sync();
    let path = sync_path(&world);
    for header in [
        "Host: evil.example",
        "Host: evil.example:80",
        "Origin: http://evil.example",
        "Origin: null",
    ] {
        let ask = Ask::new("POST", &path).token(&world.token).header(header);
        let answer = ask.body(b"x").send(world.address());
        assert!(matches!(answer.status, 400 | 403 | 421), "{header}: {}", answer.head);
        assert_ne!(answer.refused(), "", "{header}");
    }
    let ask = Ask::new("GET", "/healthz").header("Origin: http://evil.example");
    let answer = ask.send(world.address());
    let head = answer.head.to_lowercase();
    assert!(!head.contains("access-control-allow-origin: *"), "{head}");
}

#[test]
fn what_is_not_there_and_what_is_not_meant_is_said_with_a_code() {
    let world = World::new();
    let answer = Ask::new("GET", "/api/nothing").token(&world.token).send(world.address());
    assert_eq!(answer.status, 404, "{}", answer.head);
    answer.refused();
    let path = sync_path(&world);
    let answer = Ask::new("DELETE", &path).token(&world.token).send(world.address());
    assert_eq!(answer.status, 405, "{}", answer.head);
}

#[test]
fn history_is_read_and_put_back_over_http() {
    let (world, [alice]) = World::with_devices();
    for text in ["one\n", "one\ntwo\n"] {
        alice.write("a.md", text);
        alice.sync();
    }
    let all = paths(&world, "get", "/api/history");
    let list = filled(all.iter().min_by_key(|path| path.len()).unwrap());
    let listed = get(&world, &list);
    let revisions = listed["revisions"].as_array().expect("a list of revisions").clone();
    assert_eq!(revisions.len(), 2, "{listed}");
    let paged = get(&world, &format!("{list}?limit=1"));
    assert_eq!(paged["revisions"].as_array().map(Vec::len), Some(1), "{paged}");
    assert!(!paged["next"].is_null(), "there is a second page: {paged}");
    let content = all.iter().find(|path| path.ends_with("/content")).expect("a path for content");
    let mut texts = Vec::new();
    let mut oldest = String::new();
    for revision in &revisions {
        for field in ["version", "stamp", "op", "author", "user", "device"] {
            assert!(revision.get(field).is_some(), "`{field}` is missing in {revision}");
        }
        let id = revision["version"].as_str().unwrap();
        let path = content.replace("{vault}", "notes").replace("{version}", id);
        let answer = Ask::new("GET", &path).token(&world.token).send(world.address());
        assert_eq!(answer.status, 200, "{path}: {}", answer.head);
        if answer.body == b"one\n" {
            oldest = id.to_owned();
        }
        texts.push(String::from_utf8(answer.body).unwrap());
    }
    texts.sort();
    assert_eq!(texts, ["one\n", "one\ntwo\n"]);
    let restore = filled(&paths(&world, "post", "/api/history")[0]);
    let body = format!("{{\"version\":\"{oldest}\"}}");
    let ask = Ask::new("POST", &restore).token(&world.token);
    let ask = ask.header("Content-Type: application/json").body(body.as_bytes());
    let answer = ask.send(world.address());
    assert!((200..300).contains(&answer.status), "{restore}: {}", answer.head);
    alice.sync();
    assert_eq!(alice.read("a.md"), "one\n");
}

#[track_caller]
fn get(world: &World, path: &str) -> Value {
    let answer = Ask::new("GET", path).token(&world.token).send(world.address());
    assert_eq!(answer.status, 200, "{path}: {}", answer.head);
    answer.json()
}

#[test]
fn a_request_that_never_ends_does_not_hold_up_the_others() {
    let (world, [alice]) = World::with_devices();
    let mut held = Vec::new();
    for _ in 0..40 {
        let mut stream = TcpStream::connect(world.address()).unwrap();
        stream.write_all(b"POST /api/sync HTTP/1.1\r\nHost: x\r\nContent-Le").unwrap();
        held.push(stream);
    }
    alice.write("a.md", "a\n");
    alice.sync();
}

#[test]
fn guessing_codes_is_stopped() {
    let (world, [alice]) = World::with_devices();
    alice.sync();
    let mut statuses = Vec::new();
    for guess in 0..20 {
        let body =
            format!("{{\"code\":\"7KQ2-M4{}{}\",\"device\":\"x\"}}", 2 + guess / 8, guess % 8);
        let ask = Ask::new("POST", "/api/auth/pair").header("Content-Type: application/json");
        let answer = ask.body(body.as_bytes()).send(world.address());
        answer.refused();
        if answer.status == 429 {
            assert!(answer.head.to_lowercase().contains("retry-after:"), "{}", answer.head);
        }
        statuses.push(answer.status);
    }
    assert!(statuses.contains(&429), "twenty guesses and nobody minded: {statuses:?}");
}
