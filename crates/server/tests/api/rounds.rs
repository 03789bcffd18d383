use std::sync::{Arc, Mutex};

use crucible_trust::rights::{Access, Rights};

use crate::running::{NOW_MS, Running};

#[test]
fn a_round_is_bytes_in_and_bytes_out_and_the_engine_learns_who_asks() {
    let server = Running::start();
    let (anna, token) = server.anna();
    let reply = server.round(&token, "notes", "hello");
    assert_eq!((reply.status, reply.body.as_slice()), (200, b"HELLO".as_slice()));
    assert_eq!(reply.header("content-type"), Some("application/cbor"));
    let parties = server.engine.parties.lock().unwrap();
    assert_eq!(parties.len(), 1);
    assert_eq!(parties[0].access, Access::Write);
    assert_eq!(parties[0].origin.user, anna);
    assert_eq!(parties[0].origin.received_ms, NOW_MS);
    assert_eq!(parties[0].origin.address, "127.0.0.1");
}

#[test]
fn a_walk_is_bytes_in_and_bytes_out() {
    let server = Running::start();
    let (_, token) = server.anna();
    let ask = server.ask("POST", "/api/sync/notes/walk").token(token.reveal());
    assert_eq!(ask.cbor("down").send().body, b"walked down");
}

#[test]
fn what_the_engine_refuses_has_a_stable_code_and_leaks_nothing() {
    let server = Running::start();
    let (_, token) = server.anna();
    for (body, status, code) in [
        ("garbage", 422, "malformed"),
        ("forged", 422, "hash_mismatch"),
        ("bomb", 413, "too_large"),
        ("old", 426, "protocol_too_old"),
        ("new", 426, "protocol_too_new"),
        ("full", 507, "storage_full"),
        ("broken", 500, "internal"),
        ("panic", 500, "internal"),
    ] {
        let reply = server.round(&token, "notes", body);
        assert_eq!(reply.refusal(), (status, code.to_owned()), "{body}");
        let text = String::from_utf8_lossy(&reply.body);
        assert!(!text.contains("secret") && !text.contains("on purpose"), "{text}");
    }
    assert_eq!(server.round(&token, "notes", "pull").status, 200);
}

#[test]
fn rounds_of_one_vault_queue_and_those_of_another_do_not_wait() {
    let server = Running::start();
    let (anna, token) = server.anna();
    server.vault("work", anna);
    std::thread::scope(|scope| {
        let held = scope.spawn(|| server.round(&token, "notes", "wait"));
        server.engine.door.wait_for(1);
        let queued: Vec<_> =
            (0..40).map(|_| scope.spawn(|| server.round(&token, "notes", "push"))).collect();
        // More are queued than there are threads for blocking work, and still:
        assert_eq!(server.round(&token, "work", "push").status, 200);
        assert_eq!(server.get("/api/vaults", &token).status, 200);
        server.engine.door.open();
        assert_eq!(held.join().unwrap().status, 200);
        for round in queued {
            assert_eq!(round.join().unwrap().status, 200);
        }
    });
    // The engine asserts that it is never entered twice for one vault.
    assert_eq!(server.get("/api/vaults/notes", &token).json()["root"], "28".repeat(32));
}

#[test]
fn a_client_that_hangs_up_does_not_free_the_vault_before_its_round_is_over() {
    let server = Running::start();
    let (_, token) = server.anna();
    let ask = server.ask("POST", "/api/sync/notes").token(token.reveal());
    let connection = ask.cbor("wait").open();
    server.engine.door.wait_for(1);
    drop(connection);
    std::thread::scope(|scope| {
        let next = scope.spawn(|| server.round(&token, "notes", "push"));
        server.engine.door.open();
        assert_eq!(next.join().unwrap().status, 200);
    });
}

#[test]
fn metrics_count_what_happened_and_only_for_those_who_are_in() {
    let server = Running::start();
    let (_, token) = server.anna();
    server.round(&token, "notes", "push");
    server.round(&token, "notes", "garbage");
    server.ask("GET", "/api/vaults").token("AAAA").send();
    assert_eq!(server.ask("GET", "/metrics").send().status, 401);
    let reply = server.get("/metrics", &token);
    let text = String::from_utf8(reply.body).unwrap();
    for line in [
        "crucible_rounds_total 1\n",
        "crucible_versions_pushed_total 1\n",
        "crucible_round_bytes_in_total 4\n",
        "crucible_tokens_refused_total 1\n",
        "crucible_requests_total{route=\"/api/sync/{vault}\",status=\"200\"} 1\n",
        "crucible_requests_total{route=\"/api/sync/{vault}\",status=\"422\"} 1\n",
    ] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn the_log_has_a_line_per_round_and_neither_tokens_nor_codes_nor_text() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .json()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    tracing_subscriber::util::SubscriberInitExt::try_init(subscriber).unwrap();
    let server = Running::start();
    let (anna, token) = server.anna();
    server.round(&token, "notes", "the text of a note");
    let invite = server.ask("POST", "/api/auth/invite").token(token.reveal());
    let code = invite.json(serde_json::json!({})).send().json()["code"].clone();
    let code = code.as_str().unwrap().to_owned();
    let body = serde_json::json!({ "code": code, "device": "21".repeat(32), "name": "phone" });
    let paired = server.ask("POST", "/api/auth/pair").json(body).send().json();
    server.ask("GET", "/api/vaults?token=secret-in-a-query").send();
    server.token(anna, 12, &Rights::ALL);
    drop(server);
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let rounds: Vec<&str> = text
        .lines()
        .filter(|line| {
            line.contains("\"level\":\"INFO\"") && line.contains("\"message\":\"round\"")
        })
        .collect();
    assert!(!rounds.is_empty(), "{text}");
    assert!(rounds[0].contains("\"vault\":\"notes\""), "{}", rounds[0]);
    assert!(rounds[0].contains(&format!("\"user\":\"{}\"", anna.short())), "{}", rounds[0]);
    for secret in [
        &token.reveal()[..24],
        &paired["token"].as_str().unwrap()[..24],
        &code,
        "text of a note",
        "secret-in-a-query",
    ] {
        assert!(!text.contains(secret), "the log shows {secret}");
    }
}
