//! One server over HTTP: a kept connection, bounded patience, refusals as [`LinkError`].
//!
//! Invariants: a token goes only to the server it was made for (redirects are not followed) and
//! never into an error; only what never reached the server, or what it asked to try again, is
//! tried again here; every answer is bounded before it is read.

use std::fmt;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use ureq::http::Response;
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body, SendBody};

use crate::link::{LinkError, Traffic};

/// How long connecting may take, in milliseconds.
const CONNECT_MS: u64 = 10_000;
/// How long the other side may say nothing, in milliseconds; above its heartbeat of 25 s.
pub(crate) const SILENCE_MS: u64 = 75_000;
/// How long a server may think about a round before its first byte, in milliseconds.
const ANSWER_MS: u64 = 300_000;
/// How often a request is made at most.
const TRIES: u32 = 4;
/// The first pause before trying again, in milliseconds; each further one is twice as long.
const PAUSE_MS: u64 = 150;
/// The longest pause that a server may ask for, in milliseconds.
const PAUSE_MS_MAX: u64 = 10_000;
/// Longest answer in JSON: a page of a list, a diff.
const JSON_BYTES_MAX: u64 = 64 << 20;
/// Longest refusal.
const REFUSAL_BYTES_MAX: u64 = 64 << 10;

/// Waiting, and the randomness that keeps many devices from coming back at the same moment.
pub struct Patience {
    /// Waits.
    pub pause: Box<dyn FnMut(Duration) + Send>,
    /// Draws 64 random bits.
    pub random: Box<dyn FnMut() -> u64 + Send>,
}

impl fmt::Debug for Patience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Patience")
    }
}

/// Where a server is and how to speak to it.
#[derive(Clone, Default)]
pub struct Origin {
    /// `http(s)://host[:port]`, nothing after it.
    pub url: String,
    /// The secret of `Authorization: Bearer`.
    pub token: Option<String>,
    /// Certificates (PEM) to trust instead of the public ones.
    pub roots_pem: Option<Vec<u8>>,
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Origin").field("url", &self.url).finish_non_exhaustive()
    }
}

/// One kept connection to one server.
pub struct Http {
    agent: Agent,
    origin: Origin,
    bearer: Option<String>,
    patience: Patience,
    traffic: Traffic,
    tries: u32,
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http").field("origin", &self.origin).finish_non_exhaustive()
    }
}

/// What a request carries.
#[derive(Clone, Copy)]
pub(crate) enum Carry<'b> {
    Nothing,
    Cbor(&'b [u8]),
    Json(&'b [u8]),
}

/// What of a refusal clients read.
#[derive(Deserialize)]
struct Refusal {
    code: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    hint: Option<String>,
}

impl Http {
    /// Prepares to speak to a server; connects with the first request.
    ///
    /// # Errors
    /// [`LinkError::Malformed`] when `roots_pem` holds no certificate.
    pub fn new(origin: Origin, patience: Patience) -> Result<Self, LinkError> {
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .accept("")
            .user_agent(concat!("cru/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(Duration::from_millis(CONNECT_MS)))
            .timeout_recv_response(Some(Duration::from_millis(ANSWER_MS)))
            .timeout_per_write(Some(Duration::from_millis(SILENCE_MS)));
        if is_loopback(&origin.url) {
            // A proxy of the environment is on the way to others, never to this machine.
            config = config.proxy(None);
        }
        if let Some(pem) = &origin.roots_pem {
            config = config.tls_config(trusting(&origin.url, pem)?);
        }
        let bearer = origin.token.as_ref().map(|token| format!("Bearer {token}"));
        let agent = config.build().new_agent();
        let traffic = Traffic::default();
        Ok(Self { agent, origin, bearer, patience, traffic, tries: TRIES })
    }

    /// Where it speaks to.
    pub fn url(&self) -> &str {
        &self.origin.url
    }

    /// What went over it so far: bodies and the requests that were answered.
    pub fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// Counts body bytes that a caller read or wrote itself.
    pub(crate) fn count(&mut self, up: u64, down: u64) {
        self.traffic.bytes_up += up;
        self.traffic.bytes_down += down;
    }

    /// A request with a whole body; the answer is any status below 400.
    pub(crate) fn send(
        &mut self,
        method: &str,
        path: &str,
        carry: Carry<'_>,
    ) -> Result<Response<Body>, LinkError> {
        let response = self.patiently(method, path, carry)?;
        self.accept(response)
    }

    fn patiently(
        &mut self,
        method: &str,
        path: &str,
        carry: Carry<'_>,
    ) -> Result<Response<Body>, LinkError> {
        let mut tried = 0;
        loop {
            tried += 1;
            let pause_ms = match self.once(method, path, carry) {
                Ok(response) => match try_again_after_ms(&response) {
                    Some(asked_ms) if tried < self.tries => asked_ms,
                    _ => return Ok(response),
                },
                Err(error) if tried < self.tries && is_worth_another_try(&error) => None,
                Err(error) => return Err(self.unreachable(&error)),
            };
            self.pause(tried, pause_ms);
        }
    }

    /// Waits before the try after the `tried`-th.
    pub(crate) fn wait(&mut self, tried: u32) {
        self.pause(tried, None);
    }

    fn pause(&mut self, tried: u32, asked_ms: Option<u64>) {
        let doubled = PAUSE_MS << tried.saturating_sub(1).min(6);
        let jitter = (self.patience.random)() % doubled;
        let pause_ms = asked_ms.unwrap_or(doubled).min(PAUSE_MS_MAX) + jitter;
        (self.patience.pause)(Duration::from_millis(pause_ms));
    }

    /// Does something without trying anything again.
    pub(crate) fn at_once<T>(&mut self, ask: impl FnOnce(&mut Self) -> T) -> T {
        self.tries = 1;
        let answer = ask(self);
        self.tries = TRIES;
        answer
    }

    /// A request without a body, whatever the answer.
    pub(crate) fn send_any(
        &mut self,
        method: &str,
        path: &str,
    ) -> Result<Response<Body>, LinkError> {
        self.patiently(method, path, Carry::Nothing)
    }

    fn once(
        &mut self,
        method: &str,
        path: &str,
        carry: Carry<'_>,
    ) -> Result<Response<Body>, ureq::Error> {
        let (bytes, media) = match carry {
            Carry::Nothing => (&[][..], None),
            Carry::Cbor(bytes) => (bytes, Some("application/cbor")),
            Carry::Json(bytes) => (bytes, Some("application/json")),
        };
        let mut request = self.request(method, path);
        if let Some(media) = media {
            request = request.header("content-type", media);
        }
        let response = match carry {
            Carry::Nothing => self.agent.run(request.body(SendBody::none())?),
            Carry::Cbor(_) | Carry::Json(_) => self.agent.run(request.body(bytes)?),
        }?;
        self.traffic.requests += 1;
        self.traffic.bytes_up += bytes.len() as u64;
        Ok(response)
    }

    /// A request whose body of `bytes` bytes is read as it is sent; made once.
    pub(crate) fn stream(
        &mut self,
        path: &str,
        range: Option<&str>,
        bytes: u64,
        body: &mut dyn Read,
    ) -> Result<Response<Body>, ureq::Error> {
        let mut request = self
            .request("PUT", path)
            .header("content-type", "application/octet-stream")
            .header("content-length", bytes);
        if let Some(range) = range {
            request = request.header("content-range", range);
        }
        let mut counted = Counted { body, count: 0 };
        let response = self.agent.run(request.body(SendBody::from_reader(&mut counted))?);
        self.traffic.bytes_up += counted.count;
        if response.is_ok() {
            self.traffic.requests += 1;
        }
        response
    }

    /// A request for bytes from `offset` on; made once.
    pub(crate) fn ranged(
        &mut self,
        path: &str,
        offset: u64,
    ) -> Result<Response<Body>, ureq::Error> {
        let mut request = self.request("GET", path);
        if offset > 0 {
            request = request.header("range", format!("bytes={offset}-"));
        }
        let response = self.agent.run(request.body(SendBody::none())?)?;
        self.traffic.requests += 1;
        Ok(response)
    }

    /// A stream of events, read as it comes; made once.
    pub(crate) fn listen(&mut self, path: &str) -> Result<Response<Body>, LinkError> {
        let request = self.request("GET", path).header("accept", "text/event-stream");
        let request = request
            .body(SendBody::none())
            .map_err(|error| self.unreachable(&ureq::Error::Http(error)))?;
        let silence = Some(Duration::from_millis(SILENCE_MS));
        let request = self.agent.configure_request(request).timeout_per_read(silence).build();
        let response = self.agent.run(request).map_err(|error| self.unreachable(&error))?;
        self.traffic.requests += 1;
        self.accept(response)
    }

    fn request(&self, method: &str, path: &str) -> ureq::http::request::Builder {
        let url = format!("{}{path}", self.origin.url);
        let mut request = ureq::http::Request::builder().method(method).uri(url);
        if let Some(bearer) = &self.bearer {
            request = request.header("authorization", bearer);
        }
        request
    }

    /// Turns a refusal into an error.
    pub(crate) fn accept(&mut self, response: Response<Body>) -> Result<Response<Body>, LinkError> {
        if response.status().is_success() { Ok(response) } else { Err(self.refusal(response)) }
    }

    /// The reason of an answer that is none of success.
    pub(crate) fn refusal(&mut self, mut response: Response<Body>) -> LinkError {
        let status = response.status();
        let place = self.origin.url.clone();
        if status.is_redirection() {
            let to = response.headers().get("location").and_then(|to| to.to_str().ok());
            let to = to.unwrap_or("nowhere").to_owned();
            let reason = format!("it points to {to} instead; use that address, if you trust it");
            return LinkError::Malformed { place, reason };
        }
        let body = response.body_mut().with_config().limit(REFUSAL_BYTES_MAX).read_to_vec();
        let body = body.unwrap_or_default();
        self.traffic.bytes_down += body.len() as u64;
        refused(place, status.as_u16(), &body)
    }

    /// The whole body of an answer, at most `max` bytes of it.
    pub(crate) fn bytes(
        &mut self,
        mut response: Response<Body>,
        max: u64,
    ) -> Result<Vec<u8>, LinkError> {
        let read = response.body_mut().with_config().limit(max).read_to_vec();
        let body = read.map_err(|error| match error {
            ureq::Error::BodyExceedsLimit(_) => {
                let reason = format!("its body is longer than {max} bytes");
                LinkError::Malformed { place: self.origin.url.clone(), reason }
            }
            other => self.unreachable(&other),
        })?;
        self.traffic.bytes_down += body.len() as u64;
        Ok(body)
    }

    /// A request with JSON both ways.
    pub(crate) fn json<A: DeserializeOwned>(
        &mut self,
        method: &str,
        path: &str,
        body: Option<&serde_json::Value>,
    ) -> Result<A, LinkError> {
        let sent = body.map(|body| body.to_string());
        let carry = sent.as_ref().map_or(Carry::Nothing, |body| Carry::Json(body.as_bytes()));
        let response = self.send(method, path, carry)?;
        let answer = self.bytes(response, JSON_BYTES_MAX)?;
        serde_json::from_slice(&answer).map_err(|error| LinkError::Malformed {
            place: self.origin.url.clone(),
            reason: error.to_string(),
        })
    }

    pub(crate) fn unreachable(&self, error: &ureq::Error) -> LinkError {
        LinkError::Unreachable { place: self.origin.url.clone(), reason: in_words(error) }
    }
}

struct Counted<'r> {
    body: &'r mut dyn Read,
    count: u64,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.body.read(buffer)?;
        self.count += read as u64;
        Ok(read)
    }
}

fn trusting(url: &str, pem: &[u8]) -> Result<TlsConfig, LinkError> {
    let mut roots = Vec::new();
    for item in ureq::tls::parse_pem(pem) {
        if let Ok(ureq::tls::PemItem::Certificate(certificate)) = item {
            roots.push(certificate);
        }
    }
    if roots.is_empty() {
        let reason = "the file of certificates to trust holds none (PEM is expected)".to_owned();
        return Err(LinkError::Malformed { place: url.to_owned(), reason });
    }
    Ok(TlsConfig::builder().root_certs(RootCerts::Specific(Arc::new(roots))).build())
}

/// Whether a URL names this machine.
pub fn is_loopback(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or(rest);
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or(v6),
        None => authority.rsplit_once(':').map_or(authority, |(host, _)| host),
    };
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// A refusal in the words of [`LinkError`].
fn refused(place: String, status: u16, body: &[u8]) -> LinkError {
    let Ok(refusal) = serde_json::from_slice::<Refusal>(body) else {
        let reason = format!("status {status} without a reason; is this a `cru` server?");
        return match status {
            401 => LinkError::Unauthorized { place, message: reason },
            403 => LinkError::Forbidden { place, message: reason },
            502..=504 => LinkError::Unreachable { place, reason },
            _ => LinkError::Malformed { place, reason },
        };
    };
    let Refusal { code, message, hint } = refusal;
    let hint = hint.unwrap_or_default();
    match status {
        401 => LinkError::Unauthorized { place, message },
        403 => LinkError::Forbidden { place, message },
        426 => LinkError::Protocol { place, message },
        503 => LinkError::Unreachable { place, reason: message },
        _ => LinkError::Refused { place, code, message, hint },
    }
}

/// `Some` when the server asks for another try: in how many milliseconds, if it said.
fn try_again_after_ms(response: &Response<Body>) -> Option<Option<u64>> {
    if !matches!(response.status().as_u16(), 429 | 503) {
        return None;
    }
    let header = response.headers().get("retry-after").and_then(|value| value.to_str().ok());
    Some(header.and_then(|text| text.parse::<u64>().ok()).map(|s| s.saturating_mul(1000)))
}

/// Errors of the connection. All requests that go through [`Http::send`] may be made twice.
fn is_worth_another_try(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::Io(io) => io.kind() != std::io::ErrorKind::InvalidInput,
        ureq::Error::ConnectionFailed => true,
        // The peer hung up on a kept connection before it saw the request.
        ureq::Error::Protocol(_) => true,
        _ => false,
    }
}

fn in_words(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Io(io) if io.kind() == std::io::ErrorKind::ConnectionRefused => {
            "nothing listens there".to_owned()
        }
        ureq::Error::Io(io) => io.to_string(),
        ureq::Error::HostNotFound => "no machine has this name".to_owned(),
        ureq::Error::Timeout(ureq::Timeout::Connect) => "connecting took too long".to_owned(),
        ureq::Error::Timeout(_) => "it stopped answering".to_owned(),
        ureq::Error::Rustls(error) if error.to_string().contains("CaUsedAsEndEntity") => {
            "its certificate is one for signing others (CA:TRUE); make the server one with \
             basicConstraints=CA:FALSE"
                .to_owned()
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;
    use std::sync::mpsc::{Receiver, channel};
    use std::thread;

    use super::*;

    /// A server that answers its connections' requests with what it is given, one after another;
    /// `None` hangs up. Returns its URL, and the requests as they came.
    pub(crate) fn canned(answers: Vec<Option<String>>) -> (String, Receiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (told, requests) = channel();
        thread::spawn(move || {
            let mut answers = answers.into_iter();
            'connections: while let Ok((mut stream, _)) = listener.accept() {
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                while let Some(request) = read_request(&mut reader) {
                    // The test may have ended; then nobody listens any more.
                    told.send(request).ok();
                    match answers.next() {
                        Some(Some(answer)) => stream.write_all(answer.as_bytes()).unwrap(),
                        Some(None) => continue 'connections,
                        None => return,
                    }
                }
            }
        });
        (url, requests)
    }

    fn read_request(reader: &mut impl BufRead) -> Option<String> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).ok()? == 0 {
                return None;
            }
        }
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("content-length").then(|| value.parse::<usize>().unwrap())
        });
        let mut body = vec![0; length.unwrap_or(0)];
        reader.read_exact(&mut body).ok()?;
        Some(head + &String::from_utf8_lossy(&body))
    }

    pub(crate) fn answer(status: &str, body: &str) -> Option<String> {
        answer_with(status, "", body)
    }

    pub(crate) fn answer_with(status: &str, headers: &str, body: &str) -> Option<String> {
        let length = body.len();
        Some(format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\n\r\n{body}"))
    }

    pub(crate) fn speaking_to(url: &str) -> (Http, Receiver<Duration>) {
        let (waited, pauses) = channel();
        let patience = Patience {
            pause: Box::new(move |pause| waited.send(pause).unwrap()),
            random: Box::new(|| 7),
        };
        let origin =
            Origin { url: url.to_owned(), token: Some("t0ken".to_owned()), roots_pem: None };
        (Http::new(origin, patience).unwrap(), pauses)
    }

    #[test]
    fn what_the_server_asks_to_try_again_is_tried_again_after_the_time_it_names() {
        let busy = answer_with("503 Busy", "retry-after: 2\r\n", "{}");
        let (url, requests) = canned(vec![busy, answer("200 OK", "[1]")]);
        let (mut http, pauses) = speaking_to(&url);
        assert_eq!(http.json::<Vec<u8>>("GET", "/x", None).unwrap(), [1]);
        assert_eq!(requests.try_iter().count(), 2);
        assert_eq!(pauses.try_iter().collect::<Vec<_>>(), [Duration::from_millis(2007)]);
    }

    #[test]
    fn a_connection_that_is_cut_is_made_again_with_longer_and_longer_pauses_then_given_up() {
        let (url, requests) = canned(vec![None; 4]);
        let (mut http, pauses) = speaking_to(&url);
        let error = http.json::<Vec<u8>>("GET", "/x", None).unwrap_err();
        assert!(matches!(error, LinkError::Unreachable { .. }), "{error:?}");
        assert_eq!(requests.try_iter().count(), 4);
        let pauses: Vec<u128> = pauses.try_iter().map(|pause| pause.as_millis()).collect();
        assert_eq!(pauses, [157, 307, 607]);
    }

    #[test]
    fn a_refusal_is_final_and_keeps_its_words() {
        let body = r#"{"code":"not_found","message":"there is no such vault here","hint":"h"}"#;
        let (url, requests) = canned(vec![
            answer("404 Not Found", body),
            answer("403 Forbidden", r#"{"code":"forbidden","message":"read only"}"#),
            answer("401 Unauthorized", r#"{"code":"token_revoked","message":"revoked"}"#),
            answer("426 Upgrade", r#"{"code":"protocol_too_old","message":"old"}"#),
            answer("500 Oops", "<html>"),
        ]);
        let (mut http, _pauses) = speaking_to(&url);
        let mut ask = || http.json::<Vec<u8>>("GET", "/x", None).unwrap_err();
        assert!(matches!(ask(), LinkError::Refused { code, hint, .. }
            if code == "not_found" && hint == "h"));
        let error = ask();
        let read_only = "read only";
        assert!(
            matches!(&error, LinkError::Forbidden { message, .. } if message == read_only),
            "{error:?}"
        );
        assert!(matches!(ask(), LinkError::Unauthorized { message, .. } if message == "revoked"));
        assert!(matches!(ask(), LinkError::Protocol { .. }));
        assert!(matches!(ask(), LinkError::Malformed { .. }));
        assert_eq!(requests.try_iter().count(), 5);
    }

    #[test]
    fn a_token_does_not_follow_a_redirect() {
        let moved = answer_with("302 Found", "location: http://other.example/\r\n", "");
        let (url, requests) = canned(vec![moved]);
        let (mut http, _pauses) = speaking_to(&url);
        let error = http.json::<Vec<u8>>("GET", "/x", None).unwrap_err();
        assert!(error.to_string().contains("http://other.example/"), "{error}");
        assert!(!format!("{http:?} {error:?}").contains("t0ken"));
        assert_eq!(requests.try_iter().count(), 1);
    }

    #[test]
    fn a_body_longer_than_its_bound_is_not_read() {
        let (url, _requests) = canned(vec![answer("200 OK", "0123456789")]);
        let (mut http, _pauses) = speaking_to(&url);
        let response = http.send("GET", "/x", Carry::Nothing).unwrap();
        assert!(matches!(http.bytes(response, 9), Err(LinkError::Malformed { .. })));
    }

    #[test]
    fn loopback_is_told_from_elsewhere() {
        for url in
            ["http://127.0.0.1:80", "http://localhost/x", "https://[::1]:9/", "http://127.9.9.9"]
        {
            assert!(is_loopback(url), "{url}");
        }
        for url in ["http://10.0.0.1", "http://localhost.example.org", "https://example.org:1"] {
            assert!(!is_loopback(url), "{url}");
        }
    }
}
