//! `/api/history/{vault}`: revisions, what they held, how two differ, and bringing one back.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use crucible_core::hash::ContentHash;
use crucible_core::id::{DeviceId, UserId, VaultId, VersionId};
use crucible_core::timestamp::Stamp;
use crucible_core::vault_path::VaultPath;
use crucible_core::version::{Author, Kind};
use crucible_store::server_repo::{
    Op as RevisionOp, Origin, REVISIONS_MAX, Revision, RevisionQuery, Scope,
};
use crucible_sync::repo::Seq;
use crucible_trust::rights::Op;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::body::{JsonBody, Params};
use crate::caller::Caller;
use crate::error::{ApiError, Code};
use crate::rounds::Party;
use crate::routes::Page;
use crate::state::Server;
use crate::unified::unified_diff;

/// Fewest hex digits that name a version; always an even number.
const PREFIX_MIN: usize = 8;

#[derive(Deserialize)]
pub struct Query {
    /// Only notes that are, were, or before their deletion had been at this path.
    path: Option<String>,
    /// Only this note.
    note: Option<String>,
    after: Option<String>,
    limit: Option<u32>,
}

#[derive(Deserialize)]
pub struct DiffQuery {
    from: String,
    to: String,
}

#[derive(Deserialize)]
pub struct RestoreBody {
    version: String,
}

/// Names of users and devices for one page, asked once each.
#[derive(Default)]
pub(crate) struct Names {
    emails: BTreeMap<UserId, Option<String>>,
    devices: BTreeMap<DeviceId, Option<String>>,
}

pub async fn list(
    State(server): State<Arc<Server>>,
    caller: Caller,
    Path(vault): Path<String>,
    Params(query): Params<Query>,
) -> Result<Json<Value>, ApiError> {
    let vault = server.enter(&caller, &vault, Op::Read).await?.vault.id;
    let scope = scope(&query)?;
    let page = Page { after: query.after, limit: query.limit };
    let limit = (page.limit(&server) as usize).min(REVISIONS_MAX);
    let before = page.after.map(|text| text.parse().map(Seq)).transpose();
    let before = before.map_err(|_| ApiError::new(Code::BadRequest, "a wrong cursor"))?;
    let query = RevisionQuery { scope, before, limit };
    let (shown, next) = server
        .blocking(move |s| {
            let revisions = s.archive().revisions(&vault, &query)?;
            let full = revisions.len() == limit;
            let next = revisions.last().filter(|_| full).map(|last| last.seq.0.to_string());
            let mut names = Names::default();
            let shown = revisions.iter().map(|r| revision_shown(s, &mut names, r));
            Ok((shown.collect::<Result<Vec<_>, _>>()?, next))
        })
        .await?;
    Ok(Json(json!({ "revisions": shown, "next": next })))
}

pub async fn show(
    State(server): State<Arc<Server>>,
    caller: Caller,
    Path((vault, version)): Path<(String, String)>,
) -> Result<Json<Value>, ApiError> {
    let vault = server.enter(&caller, &vault, Op::Read).await?.vault.id;
    let shown = server
        .blocking(move |s| {
            let revision = find(s, &vault, &version)?;
            revision_shown(s, &mut Names::default(), &revision)
        })
        .await?;
    Ok(Json(shown))
}

pub async fn content(
    State(server): State<Arc<Server>>,
    caller: Caller,
    Path((vault, version)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let vault = server.enter(&caller, &vault, Op::Read).await?.vault.id;
    let (hash, bytes) = server
        .blocking(move |s| {
            let revision = find(s, &vault, &version)?;
            let live = revision.version.live().ok_or_else(deleted)?;
            Ok((live.content, s.archive().content(&vault, &live.content)?))
        })
        .await?;
    let Some(bytes) = bytes else {
        return crate::blobs::respond(&server, vault, hash, &headers).await;
    };
    // Never shown by a browser as a page of ours, whatever it is.
    let type_ = HeaderValue::from_static("application/octet-stream");
    let tag = HeaderValue::from_str(&format!("\"{hash}\"")).expect("hex is a header value");
    let headers = [(header::CONTENT_TYPE, type_), (header::ETAG, tag)];
    Ok((headers, bytes.to_vec()).into_response())
}

pub async fn diff(
    State(server): State<Arc<Server>>,
    caller: Caller,
    Path(vault): Path<String>,
    Params(query): Params<DiffQuery>,
) -> Result<Json<Value>, ApiError> {
    let vault = server.enter(&caller, &vault, Op::Read).await?.vault.id;
    let shown = server
        .blocking(move |s| {
            let from = Side::of(s, &vault, &query.from)?;
            let to = Side::of(s, &vault, &query.to)?;
            let text = match (&from.text, &to.text) {
                (Some(before), Some(after)) => {
                    Some(unified_diff(before, after, (&from.name, &to.name)))
                }
                _ => None,
            };
            Ok(json!({
                "from": { "version": from.id.to_string(), "path": from.path },
                "to": { "version": to.id.to_string(), "path": to.path },
                "equal": from.hash == to.hash,
                "diff": text,
            }))
        })
        .await?;
    Ok(Json(shown))
}

pub async fn restore(
    State(server): State<Arc<Server>>,
    caller: Caller,
    Path(vault): Path<String>,
    JsonBody(body): JsonBody<RestoreBody>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let entry = server.enter(&caller, &vault, Op::Write).await?;
    let vault = entry.vault.id;
    let party = Party { origin: caller.origin(server.now_ms()), access: entry.access };
    let (old, new) = server
        .writing(vault, move |s| {
            let old = find(s, &vault, &body.version)?.id;
            let (new, root) = s.rounds().restore(&vault, &party, &old)?;
            s.announce(vault, root);
            Ok((old, new))
        })
        .await?;
    tracing::info!(version = %old.short(), "version restored");
    Ok((StatusCode::CREATED, Json(json!({ "version": new.to_string() }))))
}

/// One side of a difference.
struct Side {
    id: VersionId,
    path: Option<String>,
    name: String,
    hash: Option<ContentHash>,
    /// `None` for assets; nothing there is an empty text.
    text: Option<String>,
}

impl Side {
    fn of(server: &Server, vault: &VaultId, version: &str) -> Result<Self, ApiError> {
        let revision = find(server, vault, version)?;
        let live = revision.version.live();
        let path = live.map(|live| live.path.to_string());
        let text = match live {
            None => Some(String::new()),
            Some(live) if live.kind == Kind::Asset => None,
            Some(live) => {
                let bytes = server.archive().content(vault, &live.content)?;
                bytes.and_then(|bytes| String::from_utf8(bytes.to_vec()).ok())
            }
        };
        let shown = path.clone().unwrap_or_else(|| "(deleted)".to_owned());
        Ok(Self {
            id: revision.id,
            name: format!("{shown}@{}", revision.id.short()),
            path,
            hash: live.map(|live| live.content),
            text,
        })
    }
}

fn scope(query: &Query) -> Result<Scope, ApiError> {
    match (&query.path, &query.note) {
        (None, None) => Ok(Scope::Vault),
        (Some(path), None) => VaultPath::new(path)
            .map(Scope::Path)
            .map_err(|error| ApiError::new(Code::BadRequest, format!("the path {error}"))),
        (None, Some(note)) => note
            .parse()
            .map(Scope::Note)
            .map_err(|_| ApiError::new(Code::BadRequest, "a note's id is 64 hex digits")),
        (Some(_), Some(_)) => {
            Err(ApiError::new(Code::BadRequest, "give a path or a note, not both"))
        }
    }
}

/// A revision by its version's id, or the beginning of it.
fn find(server: &Server, vault: &VaultId, text: &str) -> Result<Revision, ApiError> {
    let id = match text.parse() {
        Ok(id) => id,
        Err(_) => by_prefix(server, vault, text)?,
    };
    server.archive().revision(vault, &id)?.ok_or_else(|| ApiError::not_found("version"))
}

fn by_prefix(server: &Server, vault: &VaultId, text: &str) -> Result<VersionId, ApiError> {
    let wrong = || {
        let message = format!("a version is named by {PREFIX_MIN} to 64 hex digits, in pairs");
        ApiError::new(Code::BadRequest, message)
    };
    if text.len() < PREFIX_MIN
        || text.len() > 64
        || !text.len().is_multiple_of(2)
        || !text.is_ascii()
    {
        return Err(wrong());
    }
    let pairs = (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16));
    let prefix = pairs.collect::<Result<Vec<_>, _>>().map_err(|_| wrong())?;
    match server.archive().by_prefix(vault, &prefix)?.as_slice() {
        [] => Err(ApiError::not_found("version")),
        [only] => Ok(*only),
        _ => Err(ApiError::new(Code::Ambiguous, "more than one version has an id that begins so")
            .hint("give more of its digits")),
    }
}

fn deleted() -> ApiError {
    ApiError::new(Code::NotFound, "in this version the note is deleted")
        .hint("take the version before it")
}

/// Who wrote a version, on which device and when: what people are shown of a revision.
pub(crate) fn signature(
    server: &Server,
    names: &mut Names,
    origin: Option<&Origin>,
    stamp: Stamp,
) -> Result<Value, ApiError> {
    let Some(origin) = origin else {
        return Ok(json!({ "by": null, "device": null, "ms": stamp.ms() }));
    };
    let (by, device) = names.of(server, origin.user, origin.device)?;
    Ok(json!({ "by": by, "device": device, "ms": origin.received_ms }))
}

fn revision_shown(
    server: &Server,
    names: &mut Names,
    revision: &Revision,
) -> Result<Value, ApiError> {
    let version = &revision.version;
    let live = version.live();
    let (user, device) = match &revision.origin {
        None => (None, None),
        Some(origin) => {
            let (email, name) = names.of(server, origin.user, origin.device)?;
            (
                Some(json!({ "id": origin.user.to_string(), "email": email })),
                Some(json!({ "id": origin.device.to_string(), "name": name })),
            )
        }
    };
    Ok(json!({
        "version": revision.id.to_string(),
        "note": version.note.to_string(),
        "op": op_name(revision.op),
        "path": live.map(|live| live.path.as_str()),
        "from": revision.from.as_ref().map(VaultPath::as_str),
        "kind": live.map(|live| match live.kind {
            Kind::Note => "note",
            Kind::Asset => "asset",
        }),
        "content": live.map(|live| live.content.to_string()),
        "bytes": live.map(|live| live.bytes),
        "stamp": { "ms": version.stamp.ms(), "count": version.stamp.count() },
        "author": match version.author {
            Author::Replica(replica) => replica.to_string(),
            Author::Merge(_) => "merge".to_owned(),
        },
        "parents": version.parents.iter().map(VersionId::to_string).collect::<Vec<_>>(),
        "user": user,
        "device": device,
        "with": others_shown(server, names, revision.origin.as_ref())?,
        "received_ms": revision.origin.as_ref().map(|origin| origin.received_ms),
        "session": revision.origin.as_ref().and_then(Origin::session),
        "address": revision.origin.as_ref().and_then(Origin::peer),
        "seq": revision.seq.0,
    }))
}

/// Who else wrote a revision of a live session.
fn others_shown(
    server: &Server,
    names: &mut Names,
    origin: Option<&Origin>,
) -> Result<Vec<Value>, ApiError> {
    let others = origin.map(|origin| origin.others.as_slice()).unwrap_or_default();
    let shown = others.iter().map(|(user, device)| {
        let (email, name) = names.of(server, *user, *device)?;
        Ok(json!({
            "user": { "id": user.to_string(), "email": email },
            "device": { "id": device.to_string(), "name": name },
        }))
    });
    shown.collect()
}

fn op_name(op: RevisionOp) -> &'static str {
    match op {
        RevisionOp::Create => "create",
        RevisionOp::Edit => "edit",
        RevisionOp::Rename => "rename",
        RevisionOp::Delete => "delete",
        RevisionOp::Merge => "merge",
        RevisionOp::Restore => "restore",
    }
}

impl Names {
    /// A person on a device, as the others are told.
    pub(crate) fn person(
        &mut self,
        server: &Server,
        user: UserId,
        device: DeviceId,
    ) -> Result<String, ApiError> {
        let (email, device) = self.of(server, user, device)?;
        let name = email.as_deref().and_then(|email| email.split('@').next());
        let name = name.unwrap_or("somebody");
        Ok(match device {
            Some(device) => format!("{name} on {device}"),
            None => name.to_owned(),
        })
    }

    /// The e-mail address and the device's name; `None` for what is not known any more.
    pub(crate) fn of(
        &mut self,
        server: &Server,
        user: UserId,
        device: DeviceId,
    ) -> Result<(Option<String>, Option<String>), ApiError> {
        let email = match self.emails.entry(user) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => {
                let user = server.accounts().user(user)?;
                unknown.insert(user.map(|user| user.email.to_string()))
            }
        };
        let name = match self.devices.entry(device) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => {
                unknown.insert(server.accounts().device(device)?.map(|device| device.name))
            }
        };
        Ok((email.clone(), name.clone()))
    }
}
