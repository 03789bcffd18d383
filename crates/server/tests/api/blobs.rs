use crucible_core::hash::ContentHash;
use crucible_trust::capability::Token;
use crucible_trust::rights::Rights;

use crate::client::{Ask, Reply, read_reply};
use crate::running::Running;

fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|n| (n * 7 % 251) as u8).collect()
}

struct Blob<'a> {
    server: &'a Running,
    token: &'a Token,
    path: String,
}

impl<'a> Blob<'a> {
    fn new(server: &'a Running, token: &'a Token, hash: ContentHash) -> Self {
        Self { server, token, path: format!("/api/sync/notes/blobs/{hash}") }
    }

    fn ask(&self, method: &'static str) -> Ask {
        self.server.ask(method, &self.path).token(self.token.reveal())
    }

    fn put(&self, range: &str, body: &[u8]) -> Reply {
        self.ask("PUT").header("Content-Range", range).body(body).send()
    }

    fn offset(&self) -> Option<String> {
        let reply = self.ask("HEAD").send();
        assert_eq!(reply.status, 404);
        reply.header("upload-offset").map(str::to_owned)
    }
}

#[test]
fn a_blob_travels_whole_and_is_read_in_ranges() {
    let server = Running::start();
    let (_, token) = server.anna();
    let bytes = bytes(700_000);
    let blob = Blob::new(&server, &token, ContentHash::of_blob(&bytes));
    assert_eq!(blob.ask("GET").send().refusal(), (404, "not_found".into()));
    assert_eq!(blob.ask("PUT").body(bytes.clone()).send().status, 201);
    assert_eq!(blob.ask("PUT").body(bytes.clone()).send().status, 200, "once is enough");
    let head = blob.ask("HEAD").send();
    assert_eq!((head.status, head.header("content-length")), (200, Some("700000")));
    let all = blob.ask("GET").send();
    assert!(all.status == 200 && all.body == bytes);
    let part = blob.ask("GET").header("Range", "bytes=299990-600009").send();
    assert_eq!(part.status, 206);
    assert_eq!(part.header("content-range"), Some("bytes 299990-600009/700000"));
    assert!(part.body == bytes[299_990..600_010]);
    let beyond = blob.ask("GET").header("Range", "bytes=700000-").send();
    assert_eq!(beyond.refusal(), (416, "bad_range".into()));
}

#[test]
fn a_blob_in_parts_goes_on_where_it_stopped() {
    let server = Running::start();
    let (_, token) = server.anna();
    let bytes = bytes(1000);
    let blob = Blob::new(&server, &token, ContentHash::of_blob(&bytes));
    assert_eq!(blob.offset().as_deref(), Some("0"));
    let part = blob.put("bytes 0-599/1000", &bytes[..600]);
    assert_eq!((part.status, part.json()["offset"].as_u64()), (202, Some(600)));
    assert_eq!(blob.offset().as_deref(), Some("600"));
    let gap = blob.put("bytes 700-999/1000", &bytes[700..]);
    assert_eq!(gap.refusal(), (409, "wrong_offset".into()));
    let again = blob.put("bytes 0-599/1000", &bytes[..600]);
    assert_eq!(again.refusal(), (409, "wrong_offset".into()));
    assert_eq!(blob.ask("GET").send().status, 404, "not visible before it is whole");
    assert_eq!(blob.put("bytes 600-999/1000", &bytes[600..]).status, 201);
    assert!(blob.ask("GET").send().body == bytes);
}

#[test]
fn what_came_before_the_connection_broke_is_kept() {
    let server = Running::start();
    let (_, token) = server.anna();
    let bytes = bytes(1000);
    let blob = Blob::new(&server, &token, ContentHash::of_blob(&bytes));
    let mut stream = blob.ask("PUT").header("Content-Length", "1000").body(&bytes[..400]).open();
    stream.get_ref().shutdown(std::net::Shutdown::Write).unwrap();
    if let Some(reply) = read_reply(&mut stream, "PUT") {
        assert_eq!(reply.refusal(), (422, "malformed".into()));
    }
    drop(stream);
    // The server stores what came when it sees the end: asked until it has.
    let offset = (0..10_000).find_map(|_| blob.offset().filter(|offset| offset != "0"));
    assert_eq!(offset.as_deref(), Some("400"));
    assert_eq!(blob.put("bytes 400-999/1000", &bytes[400..]).status, 201);
    assert!(blob.ask("GET").send().body == bytes);
}

#[test]
fn other_bytes_than_those_of_the_hash_are_thrown_away() {
    let server = Running::start();
    let (_, token) = server.anna();
    let bytes = bytes(1000);
    let blob = Blob::new(&server, &token, ContentHash::of_blob(&bytes));
    let wrong = blob.ask("PUT").body(vec![0; 1000]).send();
    assert_eq!(wrong.refusal(), (422, "hash_mismatch".into()));
    assert_eq!(blob.offset().as_deref(), Some("0"));
    assert_eq!(blob.ask("GET").send().status, 404);
    assert_eq!(blob.ask("PUT").body(bytes).send().status, 201);
}

#[test]
fn a_blob_that_is_too_large_or_badly_described_is_refused_before_it_is_sent() {
    let server = Running::with(|config| config.limits.blob_bytes_max = 1000);
    let (_, token) = server.anna();
    let blob = Blob::new(&server, &token, ContentHash::of_blob(b"x"));
    let too_large = (413, "too_large".to_owned());
    let declared = |length: &str| {
        let mut stream = blob.ask("PUT").header("Content-Length", length).open();
        read_reply(&mut stream, "PUT").unwrap()
    };
    assert_eq!(declared("1001").refusal(), too_large);
    assert_eq!(blob.put("bytes 0-0/1001", b"x").refusal(), too_large);
    let bad = (400, "bad_request".to_owned());
    assert_eq!(blob.put("bytes 0-5/6", b"x").refusal(), bad);
    assert_eq!(blob.put("bytes */6", b"x").refusal(), bad);
    let wrong = server.ask("GET", "/api/sync/notes/blobs/xyz").token(token.reveal()).send();
    assert_eq!(wrong.refusal(), bad);
}

#[test]
fn a_blob_of_one_vault_is_not_one_of_another() {
    let server = Running::start();
    let (_, token) = server.anna();
    let bytes = bytes(10);
    let hash = ContentHash::of_blob(&bytes);
    assert_eq!(Blob::new(&server, &token, hash).ask("PUT").body(bytes).send().status, 201);
    let bert = server.user(2);
    server.vault("berts", bert);
    let berts = server.token(bert, 13, &Rights::ALL);
    let ask = server.ask("GET", &format!("/api/sync/berts/blobs/{hash}"));
    assert_eq!(ask.token(berts.reveal()).send().refusal(), (404, "not_found".into()));
}

#[test]
fn a_device_asks_at_once_what_it_has_to_send() {
    let server = Running::start();
    let (_, token) = server.anna();
    let (there, not_there) = (bytes(1000), bytes(2000));
    let (here, missing) = (ContentHash::of_blob(&there), ContentHash::of_blob(&not_there));
    assert_eq!(Blob::new(&server, &token, here).ask("PUT").body(there).send().status, 201);
    let ask = |hashes: &[String]| {
        server
            .ask("POST", "/api/sync/notes/blobs/missing")
            .token(token.reveal())
            .json(serde_json::json!({ "hashes": hashes }))
            .send()
    };
    let answer = ask(&[here.to_string(), missing.to_string()]);
    assert_eq!(answer.json(), serde_json::json!({ "missing": [missing.to_string()] }));
    assert_eq!(ask(&["..".to_owned()]).refusal(), (400, "bad_request".into()));
    let many: Vec<String> = (0..1001).map(|_| String::new()).collect();
    assert_eq!(ask(&many).refusal(), (413, "too_large".into()));
}

#[test]
fn who_does_not_take_an_answer_loses_the_connection_and_others_get_in() {
    let server = Running::with(|config| {
        config.limits.connections_max = 1;
        config.limits.body_silence_ms = 300;
    });
    let (_, token) = server.anna();
    // More than the system keeps for a reader that does not read.
    let bytes = bytes(32 << 20);
    let blob = Blob::new(&server, &token, ContentHash::of_blob(&bytes));
    assert_eq!(blob.ask("PUT").body(bytes).send().status, 201);
    let unread = blob.ask("GET").open();
    // Waits behind the only connection there may be.
    assert_eq!(server.get("/api/vaults", &token).status, 200);
    drop(unread);
}
