//! What a device asks a server besides rounds: pairing, devices, vaults, history, events.
//!
//! Thin: one function an endpoint of docs/protocol.md, JSON in and out. Read [`crate::http`]
//! first; errors are its [`LinkError`].

use std::io::{BufRead, BufReader, Read};

use crucible_core::hash::ContentHash;
use crucible_core::id::{NoteId, RootHash, VaultId, VersionId};
use crucible_core::vault_path::VaultPath;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::http::{Carry, Http};
use crate::link::{BlobSink, LinkError};

/// Revisions asked for at once.
const PAGE: u32 = 500;
/// Longest answer to a question for health.
const HEALTH_BYTES_MAX: u64 = 4096;
/// Longest line of a stream of events.
const EVENT_BYTES_MAX: u64 = 4096;

/// How far a token reaches into a vault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// See.
    Read,
    /// See and change.
    Write,
}

impl Access {
    /// As the server spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

/// What a token allows.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Rights {
    /// Reading or writing.
    pub access: Access,
    /// Whether vaults may be created.
    pub create: bool,
    /// These vaults alone; `None` is all of the user's.
    pub vaults: Option<Vec<String>>,
    /// These folders alone; `None` is all.
    pub folders: Option<Vec<String>>,
    /// The first millisecond at which it is over.
    pub expires_ms: Option<u64>,
}

/// What a pairing code was exchanged for.
#[derive(Deserialize)]
pub struct Paired {
    /// The secret.
    pub token: String,
    /// Whose device this is now.
    pub email: Option<String>,
    /// What the token allows.
    pub rights: Rights,
}

/// An open pairing code.
#[derive(Deserialize)]
pub struct Invitation {
    /// To be read out or pasted.
    pub code: String,
    /// The first millisecond at which it is no longer good.
    pub expires_ms: u64,
    /// Address and port of the server's listener.
    pub listens_on: String,
}

/// What an invitation is to allow.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// In this vault; `None` is everything this device reaches.
    pub vault: Option<String>,
    /// `None` is as much as this device may.
    pub access: Option<Access>,
    /// The end of the new token.
    pub expires_ms: Option<u64>,
}

/// Whom a token speaks for.
#[derive(Debug, Clone, Deserialize)]
pub struct WhoAmI {
    /// The person's id.
    pub user: String,
    /// The person's address.
    pub email: Option<String>,
    /// The device's id.
    pub device: String,
    /// What the device calls itself.
    pub device_name: Option<String>,
    /// What the token allows.
    pub rights: Rights,
}

/// A device of the user.
#[derive(Debug, Clone, Deserialize)]
pub struct Device {
    /// 64 hex digits; any beginning of them that is unique names it.
    pub id: String,
    /// What it calls itself.
    pub name: String,
    /// Whether it is the one that asks.
    pub this: bool,
    /// When it first came.
    pub created_ms: u64,
    /// When it last came.
    pub seen_ms: Option<u64>,
    /// When it was revoked.
    pub revoked_ms: Option<u64>,
}

/// Somebody who has a vault.
#[derive(Debug, Clone, Deserialize)]
pub struct Member {
    /// The person's id.
    pub user: String,
    /// The person's address.
    pub email: String,
    /// How far they reach into it.
    pub access: Access,
    /// Whether it is theirs: they say who else is in.
    pub owner: bool,
}

/// A vault on the server.
#[derive(Debug, Clone, Deserialize)]
pub struct Vault {
    /// Its id.
    #[serde(deserialize_with = "parsed")]
    pub id: VaultId,
    /// As spelled when it was created.
    pub name: String,
    /// How far this token reaches into it.
    pub access: Access,
    /// Its root, where the answer tells it.
    #[serde(default, deserialize_with = "parsed_if")]
    pub root: Option<RootHash>,
}

/// When a version was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct Stamp {
    /// Milliseconds since 1970.
    pub ms: u64,
    /// Within the millisecond.
    pub count: u16,
}

/// A person or device as history names it.
#[derive(Debug, Clone, Deserialize)]
pub struct Named {
    /// The id.
    pub id: String,
    /// A person's address.
    #[serde(default)]
    pub email: Option<String>,
    /// A device's name.
    #[serde(default)]
    pub name: Option<String>,
}

impl Named {
    /// The address or name, or else the id.
    pub fn shown(&self) -> &str {
        self.email.as_deref().or(self.name.as_deref()).unwrap_or(&self.id)
    }
}

/// One entry of history.
#[derive(Debug, Clone, Deserialize)]
pub struct Revision {
    /// Which version.
    #[serde(deserialize_with = "parsed")]
    pub version: VersionId,
    /// Of which note.
    #[serde(deserialize_with = "parsed")]
    pub note: NoteId,
    /// `create`, `edit`, `rename`, `delete`, `merge` or `restore`.
    pub op: String,
    /// Where the note was; `None` when it was deleted.
    pub path: Option<String>,
    /// The former name, when it is another one.
    pub from: Option<String>,
    /// `note` or `asset`.
    pub kind: Option<String>,
    /// Of its bytes.
    #[serde(default, deserialize_with = "parsed_if")]
    pub content: Option<ContentHash>,
    /// How many bytes.
    pub bytes: Option<u64>,
    /// When it was made, by its maker's clock.
    pub stamp: Stamp,
    /// The replica that made it, or `merge`.
    pub author: String,
    /// What it was made from.
    #[serde(deserialize_with = "all_parsed")]
    pub parents: Vec<VersionId>,
    /// Whose token brought it.
    pub user: Option<Named>,
    /// Which device brought it.
    pub device: Option<Named>,
    /// Who else wrote it, in a live session.
    #[serde(default)]
    pub with: Vec<CoAuthor>,
    /// The live session it was written in.
    #[serde(default)]
    pub session: Option<String>,
    /// When it arrived, by the server's clock.
    pub received_ms: Option<u64>,
    /// Where it stands in the server's order.
    pub seq: u64,
}

/// Somebody who wrote a version too.
#[derive(Debug, Clone, Deserialize)]
pub struct CoAuthor {
    /// Who.
    pub user: Named,
    /// On which device.
    pub device: Named,
}

/// How two versions differ.
#[derive(Debug, Clone, Deserialize)]
pub struct Difference {
    /// Whether their bytes are the same.
    pub equal: bool,
    /// As `diff -u` says it; `None` when one of them is no text.
    pub diff: Option<String>,
}

/// Which revisions to list.
#[derive(Debug, Clone, Copy)]
pub enum Scope<'p> {
    /// All.
    Vault,
    /// Of notes that are, were, or before their deletion had been at this path.
    Path(&'p VaultPath),
    /// Of one note.
    Note(&'p NoteId),
}

#[derive(Deserialize)]
struct RevisionPage {
    revisions: Vec<Revision>,
    next: Option<String>,
}

/// Asks whether somebody answers there; tells the `Date` of the answer.
///
/// # Errors
/// [`LinkError`]
pub fn health(http: &mut Http) -> Result<Option<String>, LinkError> {
    let response = http.send("GET", "/healthz", Carry::Nothing)?;
    let date = response.headers().get("date").and_then(|date| date.to_str().ok());
    let date = date.map(ToOwned::to_owned);
    http.bytes(response, HEALTH_BYTES_MAX)?;
    Ok(date)
}

/// Exchanges a pairing code for a token. `device` is the device's public key in hex. Asked once:
/// a code is good once, and a server that counts guesses means it.
///
/// # Errors
/// [`LinkError::Forbidden`] for a code that is wrong, used or over.
pub fn pair(http: &mut Http, code: &str, device: &str, name: &str) -> Result<Paired, LinkError> {
    let body = json!({ "code": code, "device": device, "name": name });
    http.at_once(|http| http.json("POST", "/api/auth/pair", Some(&body)))
}

/// Gets this device a token of its own, that allows what the one at hand does.
///
/// # Errors
/// [`LinkError`]
pub fn enroll(http: &mut Http, device: &str, name: &str) -> Result<Paired, LinkError> {
    http.json("POST", "/api/auth/devices", Some(&json!({ "device": device, "name": name })))
}

/// Opens a pairing code.
///
/// # Errors
/// [`LinkError`]
pub fn invite(http: &mut Http, asked: &Asked) -> Result<Invitation, LinkError> {
    let body = json!({
        "vault": asked.vault,
        "access": asked.access.map(Access::as_str),
        "expires_ms": asked.expires_ms,
    });
    http.json("POST", "/api/auth/invite", Some(&body))
}

/// A page of a list, whatever the server calls its items.
#[derive(Deserialize)]
struct ListPage<T> {
    #[serde(alias = "devices", alias = "members", alias = "vaults")]
    items: Vec<T>,
    next: Option<String>,
}

/// All pages of a list.
fn all<T: DeserializeOwned>(http: &mut Http, list: &str) -> Result<Vec<T>, LinkError> {
    let mut all = Vec::new();
    let mut path = list.to_owned();
    loop {
        let page: ListPage<T> = http.json("GET", &path, None)?;
        all.extend(page.items);
        match page.next {
            Some(next) => path = format!("{list}?after={}", escaped(&next)),
            None => return Ok(all),
        }
    }
}

/// Says whom the token speaks for.
///
/// # Errors
/// [`LinkError`]
pub fn whoami(http: &mut Http) -> Result<WhoAmI, LinkError> {
    http.json("GET", "/api/auth/whoami", None)
}

/// All devices of the user.
///
/// # Errors
/// [`LinkError`]
pub fn devices(http: &mut Http) -> Result<Vec<Device>, LinkError> {
    all(http, "/api/auth/devices")
}

/// Ends all tokens of a device, named by its id or the beginning of it.
///
/// # Errors
/// [`LinkError`]
pub fn revoke(http: &mut Http, device: &str) -> Result<(), LinkError> {
    let path = format!("/api/auth/devices/{}", escaped(device));
    http.send("DELETE", &path, Carry::Nothing).map(|_| ())
}

/// All vaults this token reaches.
///
/// # Errors
/// [`LinkError`]
pub fn vaults(http: &mut Http) -> Result<Vec<Vault>, LinkError> {
    all(http, "/api/vaults")
}

/// One vault; `None` when there is none of this name.
///
/// # Errors
/// [`LinkError`]
pub fn vault(http: &mut Http, name: &str) -> Result<Option<Vault>, LinkError> {
    match http.json("GET", &format!("/api/vaults/{}", escaped(name)), None) {
        Ok(vault) => Ok(Some(vault)),
        Err(LinkError::Refused { code, .. }) if code == "not_found" => Ok(None),
        Err(error) => Err(error),
    }
}

/// Who has a vault.
///
/// # Errors
/// [`LinkError`]
pub fn members(http: &mut Http, vault: &str) -> Result<Vec<Member>, LinkError> {
    all(http, &format!("/api/vaults/{}/members", escaped(vault)))
}

/// Makes somebody whom the server knows a member, or changes how far they reach.
///
/// # Errors
/// [`LinkError`]; only the owner may.
pub fn add_member(
    http: &mut Http,
    vault: &str,
    email: &str,
    access: Access,
) -> Result<Member, LinkError> {
    let path = format!("/api/vaults/{}/members", escaped(vault));
    let new = json!({ "email": email, "access": access.as_str() });
    http.json("PUT", &path, Some(&new))
}

/// Ends somebody's membership: no device of theirs reaches the vault any more.
///
/// # Errors
/// [`LinkError`]; only the owner may.
pub fn remove_member(http: &mut Http, vault: &str, user: &str) -> Result<(), LinkError> {
    let path = format!("/api/vaults/{}/members/{}", escaped(vault), escaped(user));
    http.send("DELETE", &path, Carry::Nothing).map(|_| ())
}

/// Creates a vault; under this id, when the vault began on a device without a server.
///
/// # Errors
/// [`LinkError`]
pub fn create_vault(http: &mut Http, name: &str, id: Option<&VaultId>) -> Result<Vault, LinkError> {
    let id = id.map(VaultId::to_string);
    http.json("POST", "/api/vaults", Some(&json!({ "name": name, "id": id })))
}

/// Revisions, newest first, handed to `each` until it says `false` or there are no more.
///
/// # Errors
/// [`LinkError`]
pub fn history(
    http: &mut Http,
    vault: &str,
    scope: Scope<'_>,
    each: &mut dyn FnMut(Revision) -> bool,
) -> Result<(), LinkError> {
    let base = format!("/api/history/{}", escaped(vault));
    let scope = match scope {
        Scope::Vault => String::new(),
        Scope::Path(path) => format!("&path={}", escaped(path.as_str())),
        Scope::Note(note) => format!("&note={note}"),
    };
    let mut after = String::new();
    loop {
        let path = format!("{base}?limit={PAGE}{scope}{after}");
        let page: RevisionPage = http.json("GET", &path, None)?;
        for revision in page.revisions {
            if !each(revision) {
                return Ok(());
            }
        }
        match page.next {
            Some(next) => after = format!("&after={}", escaped(&next)),
            None => return Ok(()),
        }
    }
}

/// The bytes of a version, named by its id.
///
/// # Errors
/// [`LinkError`]; a cut is an error, whatever `sink` got before it.
pub fn content(
    http: &mut Http,
    vault: &str,
    version: &VersionId,
    sink: BlobSink<'_>,
) -> Result<(), LinkError> {
    let path = format!("/api/history/{}/revisions/{version}/content", escaped(vault));
    let response = http.send("GET", &path, Carry::Nothing)?;
    let mut reader = response.into_body().into_with_config().limit(u64::MAX).reader();
    let mut piece = vec![0; 64 << 10];
    loop {
        let read = reader.read(&mut piece).map_err(|error| LinkError::Unreachable {
            place: http.url().to_owned(),
            reason: error.to_string(),
        })?;
        if read == 0 {
            return Ok(());
        }
        http.count(0, read as u64);
        sink(&piece[..read])?;
    }
}

/// How two versions differ.
///
/// # Errors
/// [`LinkError`]
pub fn diff(
    http: &mut Http,
    vault: &str,
    from: &VersionId,
    to: &VersionId,
) -> Result<Difference, LinkError> {
    let vault = escaped(vault);
    http.json("GET", &format!("/api/history/{vault}/diff?from={from}&to={to}"), None)
}

/// News of a vault's root, as they come.
pub struct Events {
    lines: BufReader<Box<dyn Read + Send>>,
    place: String,
}

#[derive(Deserialize)]
struct RootNews {
    #[serde(deserialize_with = "parsed_if")]
    root: Option<RootHash>,
}

impl Events {
    /// Listens to a vault; the first news is the root it has now.
    ///
    /// # Errors
    /// [`LinkError`]
    pub fn listen(http: &mut Http, vault: &str) -> Result<Self, LinkError> {
        let response = http.listen(&format!("/api/sync/{}/events", escaped(vault)))?;
        let reader = response.into_body().into_with_config().limit(u64::MAX).reader();
        Ok(Self { lines: BufReader::new(Box::new(reader)), place: http.url().to_owned() })
    }

    /// Waits for the next root. `None` when the server ended the stream.
    ///
    /// # Errors
    /// [`LinkError::Unreachable`] when it was cut, or silent for longer than its heartbeat.
    pub fn next_root(&mut self) -> Result<Option<Option<RootHash>>, LinkError> {
        let mut line = String::new();
        loop {
            line.clear();
            let read = Read::take(&mut self.lines, EVENT_BYTES_MAX).read_line(&mut line);
            let read = read.map_err(|error| LinkError::Unreachable {
                place: self.place.clone(),
                reason: error.to_string(),
            })?;
            if read == 0 {
                return Ok(None);
            }
            let Some(data) = line.strip_prefix("data:") else { continue };
            return match serde_json::from_str::<RootNews>(data.trim()) {
                Ok(news) => Ok(Some(news.root)),
                Err(error) => Err(LinkError::Malformed {
                    place: self.place.clone(),
                    reason: error.to_string(),
                }),
            };
        }
    }
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").field("place", &self.place).finish_non_exhaustive()
    }
}

/// Percent-encodes everything but what never needs it in a query or a path segment.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(byte as char);
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

fn parsed<'de, D: serde::Deserializer<'de>, T: std::str::FromStr>(d: D) -> Result<T, D::Error> {
    parse_one(&String::deserialize(d)?)
}

fn parsed_if<'de, D: serde::Deserializer<'de>, T: std::str::FromStr>(
    d: D,
) -> Result<Option<T>, D::Error> {
    Option::<String>::deserialize(d)?.as_deref().map(parse_one).transpose()
}

fn all_parsed<'de, D, T>(d: D) -> Result<Vec<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: std::str::FromStr,
    Vec<String>: DeserializeOwned,
{
    Vec::<String>::deserialize(d)?.iter().map(|text| parse_one(text)).collect()
}

fn parse_one<T: std::str::FromStr, E: serde::de::Error>(text: &str) -> Result<T, E> {
    text.parse().map_err(|_| E::custom(format!("{text:?} is no id")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::tests::{answer, answer_with, canned, speaking_to};

    #[test]
    fn a_history_of_several_pages_is_read_to_its_end_or_until_enough() {
        let revision = |seq: u64| {
            let id = format!("{seq:064x}");
            json!({
                "version": id, "note": id, "op": "edit", "path": "a b.md", "from": null,
                "kind": "note", "content": id, "bytes": 3, "stamp": { "ms": 5, "count": 0 },
                "author": "merge", "parents": [id], "user": { "id": "u", "email": "a@b" },
                "device": null, "received_ms": 6, "seq": seq,
            })
        };
        let first = json!({ "revisions": [revision(3), revision(2)], "next": "2" });
        let last = json!({ "revisions": [revision(1)], "next": null });
        let both =
            || vec![answer("200 OK", &first.to_string()), answer("200 OK", &last.to_string())];
        let (url, requests) = canned(both());
        let (mut http, _pauses) = speaking_to(&url);
        let path = VaultPath::new("a b.md").unwrap();
        let mut seen = Vec::new();
        history(&mut http, "notes", Scope::Path(&path), &mut |revision| {
            seen.push(revision.seq);
            true
        })
        .unwrap();
        assert_eq!(seen, [3, 2, 1]);
        let requests: Vec<String> = requests.try_iter().collect();
        let line = "GET /api/history/notes?limit=500&path=a%20b.md HTTP/1.1\r\n";
        assert!(requests[0].starts_with(line), "{}", requests[0]);
        assert!(requests[1].contains("&after=2 "), "{}", requests[1]);

        let (url, requests) = canned(both());
        let (mut http, _pauses) = speaking_to(&url);
        history(&mut http, "notes", Scope::Vault, &mut |_| false).unwrap();
        assert_eq!(requests.try_iter().count(), 1);
    }

    #[test]
    fn events_tell_roots_and_skip_what_else_a_stream_says() {
        let root = "ab".repeat(32);
        let stream = format!(
            "retry: 3000\nevent: root\ndata: {{\"root\":null}}\n\n:\n\n\
             event: root\ndata: {{\"root\":\"{root}\"}}\n\n"
        );
        let (url, _requests) =
            canned(vec![answer_with("200 OK", "content-type: text/event-stream\r\n", &stream)]);
        let (mut http, _pauses) = speaking_to(&url);
        let mut events = Events::listen(&mut http, "notes").unwrap();
        assert_eq!(events.next_root().unwrap(), Some(None));
        assert_eq!(events.next_root().unwrap(), Some(Some(root.parse().unwrap())));
        assert_eq!(events.next_root().unwrap(), None);
    }

    #[test]
    fn a_vault_that_is_not_there_is_none_and_other_refusals_are_errors() {
        let (url, _requests) = canned(vec![
            answer("404 Not Found", r#"{"code":"not_found","message":"m"}"#),
            answer("403 Forbidden", r#"{"code":"forbidden","message":"m"}"#),
            answer("200 OK", r#"{"id":"zz","name":"n","access":"read"}"#),
        ]);
        let (mut http, _pauses) = speaking_to(&url);
        assert!(vault(&mut http, "notes").unwrap().is_none());
        assert!(matches!(vault(&mut http, "notes"), Err(LinkError::Forbidden { .. })));
        assert!(matches!(vault(&mut http, "notes"), Err(LinkError::Malformed { .. })));
    }

    #[test]
    fn what_goes_into_a_url_is_escaped() {
        assert_eq!(escaped("a/b &é?.md"), "a%2Fb%20%26%C3%A9%3F.md");
    }
}
