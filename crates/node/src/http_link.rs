//! `HttpLink`: rounds, walks and blobs of one vault over a server's `/api/sync`.
//!
//! Invariant: a blob that was cut goes on where it stopped, as long as every attempt brings it
//! further. Read [`crate::http`] first.

use std::fmt::Display;
use std::io::{self, Read};
use std::str::FromStr;

use crucible_core::hash::ContentHash;
use crucible_core::id::VersionId;
use crucible_proto::limits::ROUND_BYTES_MAX;
use serde::Deserialize;
use serde_json::json;

use crate::http::{Carry, Http};
use crate::link::{BlobSink, Link, LinkError, OpenBlob, Traffic};

/// Attempts at a blob that bring it no further.
const IDLE_TRIES: u32 = 3;
/// Larger blobs first ask how much of them is there already.
const ASK_FIRST_BYTES: u64 = 1 << 20;
/// Hashes or versions in one question for what is missing: 64 KiB of JSON hold them.
const ASKED_AT_ONCE: usize = 500;
const PIECE: usize = 64 << 10;

/// A vault on a server.
#[derive(Debug)]
pub struct HttpLink {
    http: Http,
    base: String,
}

#[derive(Deserialize)]
struct Missing {
    missing: Vec<String>,
}

/// How far a blob is on the server.
enum There {
    Whole,
    Part(u64),
}

impl HttpLink {
    /// The vault called `vault` on the server that `http` speaks to.
    pub fn new(http: Http, vault: &str) -> Self {
        Self { http, base: format!("/api/sync/{vault}") }
    }

    /// The connection, to ask the server something else over it.
    pub fn http(&mut self) -> &mut Http {
        &mut self.http
    }

    fn post(&mut self, path: &str, body: &[u8]) -> Result<Vec<u8>, LinkError> {
        let response = self.http.send("POST", path, Carry::Cbor(body))?;
        self.http.bytes(response, ROUND_BYTES_MAX as u64)
    }

    /// Asks which of these `things`, given as the `field` of the question, are not there.
    fn missing<T>(&mut self, things: &str, field: &str, all: &[T]) -> Result<Vec<T>, LinkError>
    where
        T: Copy + PartialEq + Display + FromStr,
    {
        let path = format!("{}/{things}/missing", self.base);
        let mut missing = Vec::new();
        for some in all.chunks(ASKED_AT_ONCE) {
            let names: Vec<String> = some.iter().map(T::to_string).collect();
            let answer: Missing = self.http.json("POST", &path, Some(&json!({ field: names })))?;
            for name in answer.missing {
                let one = name.parse().ok().filter(|one| some.contains(one));
                missing.push(one.ok_or_else(|| LinkError::Malformed {
                    place: self.http.url().to_owned(),
                    reason: format!("it misses {things} that it was not asked about"),
                })?);
            }
        }
        Ok(missing)
    }

    fn blob_path(&self, hash: &ContentHash) -> String {
        format!("{}/blobs/{hash}", self.base)
    }

    fn there(&mut self, hash: &ContentHash) -> Result<There, LinkError> {
        let path = self.blob_path(hash);
        let response = self.http.send_any("HEAD", &path)?;
        match response.status().as_u16() {
            200 => Ok(There::Whole),
            404 => {
                let offset = response.headers().get("upload-offset");
                let offset = offset.and_then(|value| value.to_str().ok()?.parse().ok());
                Ok(There::Part(offset.unwrap_or(0)))
            }
            _ => Err(self.http.refusal(response)),
        }
    }
}

impl Link for HttpLink {
    fn round(&mut self, body: &[u8]) -> Result<Vec<u8>, LinkError> {
        let path = self.base.clone();
        self.post(&path, body)
    }

    fn walk(&mut self, body: &[u8]) -> Result<Vec<u8>, LinkError> {
        let path = format!("{}/walk", self.base);
        self.post(&path, body)
    }

    fn missing_blobs(&mut self, hashes: &[ContentHash]) -> Result<Vec<ContentHash>, LinkError> {
        self.missing("blobs", "hashes", hashes)
    }

    fn missing_versions(&mut self, versions: &[VersionId]) -> Result<Vec<VersionId>, LinkError> {
        self.missing("versions", "versions", versions)
    }

    fn put_blob(
        &mut self,
        hash: &ContentHash,
        bytes: u64,
        open: OpenBlob<'_>,
    ) -> Result<(), LinkError> {
        let path = self.blob_path(hash);
        let mut at = if bytes > ASK_FIRST_BYTES {
            match self.there(hash)? {
                There::Whole => return Ok(()),
                There::Part(offset) => offset,
            }
        } else {
            0
        };
        let mut idle = 0;
        loop {
            let failed = match self.put_part(&path, at, bytes, open)? {
                Sent::Whole => return Ok(()),
                Sent::Cut(error) => error,
            };
            let further = match self.there(hash)? {
                There::Whole => return Ok(()),
                There::Part(offset) => offset,
            };
            idle = if further > at { 0 } else { idle + 1 };
            if idle >= IDLE_TRIES {
                return Err(failed);
            }
            at = further;
        }
    }

    fn get_blob(
        &mut self,
        hash: &ContentHash,
        offset: u64,
        sink: BlobSink<'_>,
    ) -> Result<(), LinkError> {
        let path = self.blob_path(hash);
        let (mut at, mut idle) = (offset, 0);
        loop {
            let before = at;
            let failed = match self.http.ranged(&path, at) {
                Ok(response) => {
                    let response = self.http.accept(response)?;
                    let from = if response.status().as_u16() == 206 { at } else { 0 };
                    match self.take(response, from, &mut at, sink)? {
                        None => return Ok(()),
                        Some(error) => error,
                    }
                }
                Err(error) => self.http.unreachable(&error),
            };
            idle = if at > before { 0 } else { idle + 1 };
            if idle >= IDLE_TRIES {
                return Err(failed);
            }
            self.http.wait(idle + 1);
        }
    }

    fn traffic(&self) -> Traffic {
        self.http.traffic()
    }
}

/// What came of sending a part of a blob.
enum Sent {
    Whole,
    Cut(LinkError),
}

impl HttpLink {
    fn put_part(
        &mut self,
        path: &str,
        from: u64,
        bytes: u64,
        open: OpenBlob<'_>,
    ) -> Result<Sent, LinkError> {
        let mut body = open(from)?;
        let range = match bytes {
            0 => None,
            _ => Some(format!("bytes {from}-{}/{bytes}", bytes - 1)),
        };
        let response = match self.http.stream(path, range.as_deref(), bytes - from, &mut body) {
            Ok(response) => response,
            Err(error) => return Ok(Sent::Cut(self.http.unreachable(&error))),
        };
        match response.status().as_u16() {
            200 | 201 => Ok(Sent::Whole),
            // Another part arrived first, or the server was busy: ask how far it is.
            409 | 429 | 503 => {
                let error = self.http.refusal(response);
                self.http.wait(1);
                Ok(Sent::Cut(error))
            }
            202 => Ok(Sent::Cut(LinkError::Malformed {
                place: self.http.url().to_owned(),
                reason: "it took a part of a blob for less than it is".to_owned(),
            })),
            _ => Err(self.http.refusal(response)),
        }
    }

    /// Hands a body that begins at `from` to `sink`, from `at` on; moves `at`. `Some` is the
    /// reason why it ended before its end.
    fn take(
        &mut self,
        response: ureq::http::Response<ureq::Body>,
        from: u64,
        at: &mut u64,
        sink: BlobSink<'_>,
    ) -> Result<Option<LinkError>, LinkError> {
        let mut reader = response.into_body().into_with_config().limit(u64::MAX).reader();
        let mut piece = vec![0; PIECE];
        let mut skip = *at - from;
        loop {
            let read = match reader.read(&mut piece) {
                Ok(0) => return Ok(None),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    let place = self.http.url().to_owned();
                    let reason = error.to_string();
                    return Ok(Some(LinkError::Unreachable { place, reason }));
                }
            };
            self.http.count(0, read as u64);
            let known = usize::try_from(skip).unwrap_or(usize::MAX).min(read);
            skip -= known as u64;
            if known < read {
                sink(&piece[known..read])?;
                *at += (read - known) as u64;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::http::tests::{answer, answer_with, canned, speaking_to};

    const BLOB: &[u8] = b"0123456789";

    fn hash() -> ContentHash {
        ContentHash::of_blob(BLOB)
    }

    fn link(answers: Vec<Option<String>>) -> (HttpLink, std::sync::mpsc::Receiver<String>) {
        let (url, requests) = canned(answers);
        let (http, pauses) = speaking_to(&url);
        // The pauses are not looked at here, but somebody has to hear them.
        std::mem::forget(pauses);
        (HttpLink::new(http, "notes"), requests)
    }

    fn put(link: &mut HttpLink) -> Result<(), LinkError> {
        link.put_blob(&hash(), BLOB.len() as u64, &mut |from| {
            Ok(Box::new(Cursor::new(BLOB[from as usize..].to_vec())))
        })
    }

    #[test]
    fn a_round_is_one_request_that_counts_its_bodies() {
        let (mut link, requests) = link(vec![answer("200 OK", "abc"), answer("200 OK", "de")]);
        assert_eq!(link.round(b"1234").unwrap(), b"abc");
        assert_eq!(link.walk(b"5").unwrap(), b"de");
        let traffic = Traffic { requests: 2, bytes_up: 5, bytes_down: 5 };
        assert_eq!(link.traffic(), traffic);
        let requests: Vec<String> = requests.try_iter().collect();
        assert!(requests[0].starts_with("POST /api/sync/notes HTTP/1.1\r\n"), "{}", requests[0]);
        assert!(requests[0].contains("authorization: Bearer t0ken\r\n"), "{}", requests[0]);
        assert!(requests[1].starts_with("POST /api/sync/notes/walk HTTP/1.1\r\n"));
    }

    #[test]
    fn a_blob_that_is_partly_there_goes_on_where_it_stopped() {
        let refused = r#"{"code":"wrong_offset","message":"the next piece begins at byte 4"}"#;
        let (mut link, requests) = link(vec![
            answer("409 Conflict", refused),
            answer_with("404 Not Found", "upload-offset: 4\r\n", ""),
            answer("201 Created", "{}"),
        ]);
        put(&mut link).unwrap();
        let requests: Vec<String> = requests.try_iter().collect();
        assert!(requests[0].contains("content-range: bytes 0-9/10\r\n"), "{}", requests[0]);
        assert!(requests[2].contains("content-range: bytes 4-9/10\r\n"), "{}", requests[2]);
        assert!(requests[2].ends_with("\r\n\r\n456789"), "{}", requests[2]);
    }

    #[test]
    fn a_blob_that_comes_no_further_is_given_up() {
        let refused = || answer("409 Conflict", r#"{"code":"wrong_offset","message":"no"}"#);
        let nothing = || answer_with("404 Not Found", "upload-offset: 0\r\n", "");
        let answers = (0..3).flat_map(|_| [refused(), nothing()]).collect();
        let (mut link, requests) = link(answers);
        assert!(matches!(put(&mut link), Err(LinkError::Refused { .. })));
        assert_eq!(requests.try_iter().count(), 6);
    }

    #[test]
    fn a_fetch_that_is_cut_asks_for_the_rest_and_hands_out_every_byte_once() {
        let cut = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\nconnection: close\r\n\r\n0123";
        let rest = answer_with("206 Partial", "content-range: bytes 4-9/10\r\n", "456789");
        let (mut link, requests) = link_that_hangs_up(cut, rest);
        let mut got = Vec::new();
        link.get_blob(&hash(), 0, &mut |bytes| {
            got.extend_from_slice(bytes);
            Ok(())
        })
        .unwrap();
        assert_eq!(got, BLOB);
        let requests: Vec<String> = requests.try_iter().collect();
        assert!(requests[1].contains("range: bytes=4-\r\n"), "{}", requests[1]);
    }

    /// Answers once, cuts, answers again.
    fn link_that_hangs_up(
        cut: &str,
        rest: Option<String>,
    ) -> (HttpLink, std::sync::mpsc::Receiver<String>) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let answers = [cut.to_owned(), rest.unwrap()];
        let (told, requests) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 4096];
                let read = stream.read(&mut request).unwrap();
                told.send(String::from_utf8_lossy(&request[..read]).into_owned()).unwrap();
                io::Write::write_all(&mut stream, answer.as_bytes()).unwrap();
            }
        });
        let (http, pauses) = speaking_to(&url);
        std::mem::forget(pauses);
        (HttpLink::new(http, "notes"), requests)
    }

    #[test]
    fn a_server_that_misses_what_it_was_not_asked_about_is_not_believed() {
        let other = ContentHash::of_blob(b"other");
        let (mut link, _requests) = link(vec![
            answer("200 OK", &format!(r#"{{"missing":["{}"]}}"#, hash())),
            answer("200 OK", &format!(r#"{{"missing":["{other}"]}}"#)),
        ]);
        assert_eq!(link.missing_blobs(&[hash()]).unwrap(), [hash()]);
        assert!(matches!(link.missing_blobs(&[hash()]), Err(LinkError::Malformed { .. })));
    }

    #[test]
    fn a_server_is_asked_in_parts_which_versions_it_does_not_know() {
        let ids: Vec<VersionId> =
            (0..=ASKED_AT_ONCE).map(|n| VersionId::from_bytes([n as u8; 32])).collect();
        let (mut link, requests) = link(vec![
            answer("200 OK", &format!(r#"{{"missing":["{}"]}}"#, ids[3])),
            answer("200 OK", r#"{"missing":[]}"#),
        ]);
        assert_eq!(link.missing_versions(&ids).unwrap(), [ids[3]]);
        for _ in 0..2 {
            let asked = requests.recv().unwrap();
            assert!(asked.starts_with("POST /api/sync/notes/versions/missing "), "{asked}");
        }
    }
}
