use std::io::{Read, Write};

use serde_json::json;

use crate::client::{connect, read_reply};
use crate::running::Running;

#[test]
fn a_loopback_server_answers_only_to_loopback_names() {
    let server = Running::with(|config| config.hosts = vec!["notes.test".into()]);
    let (_, token) = server.anna();
    let ask = |host: &str| {
        server.ask("GET", "/api/vaults").header("Host", host).token(token.reveal()).send()
    };
    let port = server.address.port();
    for host in [format!("localhost:{port}"), format!("[::1]:{port}"), "notes.test".into()] {
        assert_eq!(ask(&host).status, 200, "{host}");
    }
    for host in ["evil.test".into(), format!("evil.test:{port}"), "127.0.0.1.evil.test".into()] {
        assert_eq!(ask(&host).refusal(), (403, "foreign_host".into()), "{host}");
    }
    // Nor does it say that it is there.
    let health = server.ask("GET", "/healthz").header("Host", "evil.test").send();
    assert_eq!(health.refusal(), (403, "foreign_host".into()));
}

#[test]
fn pages_of_other_sites_are_refused_before_anything_else() {
    let server = Running::start();
    let (_, token) = server.anna();
    let ask = |origin: &str| {
        server.ask("GET", "/api/vaults").header("Origin", origin).token(token.reveal()).send()
    };
    assert_eq!(ask(&format!("http://{}", server.address)).status, 200);
    for origin in ["http://evil.test", "null", "http://127.0.0.1:1", ""] {
        assert_eq!(ask(origin).refusal(), (403, "foreign_origin".into()), "{origin}");
    }
    let reply = ask("http://evil.test");
    assert_eq!(reply.header("access-control-allow-origin"), None);
    let pair = server.ask("POST", "/api/auth/pair").header("Origin", "http://evil.test");
    assert_eq!(pair.json(json!({})).send().refusal(), (403, "foreign_origin".into()));
}

#[test]
fn a_request_without_or_with_two_hosts_is_refused() {
    let server = Running::start();
    for head in [
        "GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil.test\r\nConnection: close\r\n\r\n",
    ] {
        let mut stream = connect(server.address);
        stream.write_all(head.as_bytes()).unwrap();
        let reply = read_reply(&mut std::io::BufReader::new(stream), "GET").unwrap();
        assert_eq!(reply.status, 400, "{head}");
    }
}

#[test]
fn a_body_declared_too_large_is_refused_before_it_is_sent() {
    let server = Running::start();
    let (_, token) = server.anna();
    for (path, media, length) in [
        ("/api/sync/notes", "application/cbor", (32_u64 << 20) + 1),
        ("/api/sync/notes/walk", "application/cbor", 1 << 60),
        ("/api/vaults", "application/json", (64 << 10) + 1),
        ("/api/auth/pair", "application/json", 1 << 40),
    ] {
        let ask = server.ask("POST", path).token(token.reveal()).header("Content-Type", media);
        // Nothing of the body is sent: an answer comes all the same.
        let mut stream = ask.header("Content-Length", &length.to_string()).open();
        let reply = read_reply(&mut stream, "POST").unwrap();
        assert_eq!(reply.refusal(), (413, "too_large".into()), "{path}");
    }
}

#[test]
fn whoever_goes_on_sending_hears_the_refusal_all_the_same() {
    let server = Running::start();
    let (_, token) = server.anna();
    let body = vec![b'x'; 33 << 20];
    for (path, token, refusal) in [
        ("/api/sync/notes", token.reveal(), (413, "too_large")),
        ("/api/sync/notes", "crv1_nonsense", (401, "unauthenticated")),
        ("/api/vaults", token.reveal(), (415, "unsupported_media")),
        ("/api/nowhere", token.reveal(), (404, "not_found")),
    ] {
        let mut stream = connect(server.address);
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/cbor\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&body).unwrap();
        let reply = read_reply(&mut std::io::BufReader::new(stream), "POST").unwrap();
        assert_eq!(reply.refusal(), (refusal.0, refusal.1.to_owned()), "{path}");
    }
}

#[test]
fn a_body_that_does_not_say_how_long_it_is_stops_at_the_bound() {
    let server = Running::with(|config| config.limits.round_bytes_max = 10_000);
    let (_, token) = server.anna();
    let chunk = format!("3e8\r\n{}\r\n", "x".repeat(1000));
    let send = |chunks: usize| {
        let mut stream = connect(server.address);
        let head = format!(
            "POST /api/sync/notes HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\
             Content-Type: application/cbor\r\nTransfer-Encoding: chunked\r\n\
             Connection: close\r\n\r\n",
            token.reveal()
        );
        stream.write_all(head.as_bytes()).unwrap();
        for _ in 0..chunks {
            stream.write_all(chunk.as_bytes()).unwrap();
        }
        stream.write_all(b"0\r\n\r\n").unwrap();
        read_reply(&mut std::io::BufReader::new(stream), "POST").unwrap()
    };
    assert_eq!(send(10).status, 200);
    assert_eq!(send(11).refusal(), (413, "too_large".into()));
}

#[test]
fn a_truncated_body_reaches_no_engine() {
    let server = Running::start();
    let (_, token) = server.anna();
    let ask = server.ask("POST", "/api/sync/notes").token(token.reveal());
    let ask = ask.header("Content-Type", "application/cbor").header("Content-Length", "100");
    let mut stream = ask.body("push").open();
    stream.get_ref().shutdown(std::net::Shutdown::Write).unwrap();
    let reply = read_reply(&mut stream, "POST");
    if let Some(reply) = reply {
        assert!((400..500).contains(&reply.status), "{}", reply.status);
    }
    assert_eq!(server.engine.parties.lock().unwrap().len(), 0);
    assert_eq!(server.get("/api/vaults/notes", &token).json()["root"], json!(null));
}

#[test]
fn other_media_encodings_and_garbage_are_refused() {
    let server = Running::start();
    let (_, token) = server.anna();
    let post = |path: &str| server.ask("POST", path).token(token.reveal());
    let unsupported = (415, "unsupported_media".to_owned());
    assert_eq!(post("/api/sync/notes").body("x").send().refusal(), unsupported);
    assert_eq!(post("/api/vaults").cbor("x").send().refusal(), unsupported);
    let zipped = post("/api/sync/notes").header("Content-Encoding", "gzip").cbor("x").send();
    assert_eq!(zipped.refusal(), unsupported);
    let malformed = (422, "malformed".to_owned());
    for body in ["", "{", "[]", "{\"name\": 5}", "\"x\"", "{\"name\"}"] {
        let ask = post("/api/vaults").header("Content-Type", "application/json; charset=utf-8");
        assert_eq!(ask.body(body).send().refusal(), malformed, "{body}");
    }
    let bad = (400, "bad_request".to_owned());
    for path in ["/api/vaults?limit=x", "/api/vaults?limit=-1", "/api/history/notes?after=x"] {
        assert_eq!(server.get(path, &token).refusal(), bad, "{path}");
    }
    assert_eq!(server.get("/api/history/notes?path=a/../b", &token).refusal(), bad);
    assert_eq!(server.get("/api/history/notes/revisions/%ff%fe", &token).status, 400);
    assert_eq!(server.get("/api/nothing", &token).refusal(), (404, "not_found".into()));
    assert_eq!(server.get("/nothing", &token).refusal(), (404, "not_found".into()));
}

#[test]
fn garbage_instead_of_http_ends_the_connection_and_nothing_else() {
    let server = Running::start();
    let (_, token) = server.anna();
    for garbage in [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc".to_vec(),
        b"GET\r\n\r\n".to_vec(),
        vec![b'A'; 200_000],
        format!("GET / HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "X: y\r\n".repeat(2000)).into(),
    ] {
        let mut stream = connect(server.address);
        // The server may close before everything is sent.
        let sent = stream.write_all(&garbage);
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        assert!(sent.is_err() || read.is_err() || !answer.starts_with(b"HTTP/1.1 2"));
    }
    assert_eq!(server.get("/api/vaults", &token).status, 200);
}

#[test]
fn a_client_that_is_silent_inside_its_body_is_let_go() {
    let server = Running::with(|config| config.limits.body_silence_ms = 50);
    let (_, token) = server.anna();
    let ask = server.ask("POST", "/api/sync/notes").token(token.reveal());
    let ask = ask.header("Content-Type", "application/cbor").header("Content-Length", "100");
    let mut stream = ask.body("begun").open();
    let reply = read_reply(&mut stream, "POST").unwrap();
    assert_eq!(reply.refusal(), (408, "timeout".into()));
}

#[test]
fn a_client_that_is_silent_inside_its_head_is_let_go() {
    let server = Running::with(|config| config.limits.head_ms = 50);
    let mut stream = connect(server.address);
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost:").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(!answer.starts_with(b"HTTP/1.1 2"), "{}", String::from_utf8_lossy(&answer));
}

#[test]
fn answers_tell_browsers_to_be_careful() {
    let server = Running::start();
    let reply = server.ask("GET", "/healthz").send();
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    assert!(reply.header("content-security-policy").is_some());
}
