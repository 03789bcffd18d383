//! `/api/notes/{vault}`: the notes as they are now, one note, its bytes, changes to it, and what
//! was deleted.
//!
//! Invariant: a page of a list costs its own length once the vault's listing is known, and the
//! listing is made again only when the vault has another root.

pub mod search;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use crucible_core::id::{NoteId, VaultId, VersionId};
use crucible_core::vault_path::VaultPath;
use crucible_core::version::{Kind, Live};
use crucible_store::server_repo::REVISIONS_MAX;
use crucible_sync::repo::Seq;
use crucible_trust::rights::{Access, Op};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::archive::{Listing, Standing};
use crate::blobs;
use crate::body::{Params, text_json};
use crate::caller::Caller;
use crate::error::{ApiError, Code};
use crate::history::{Names, signature};
use crate::rounds::{Party, Write};
use crate::routes::Page;
use crate::state::Server;

/// Vaults whose listings are kept; one of 20 000 notes takes some megabytes.
const LISTINGS_MAX: usize = 8;

/// The last listings asked for.
#[derive(Default)]
pub struct Listings(Mutex<Vec<(VaultId, Arc<Listing>)>>);

impl Listings {
    /// The listing of a vault as it is now.
    fn of(&self, server: &Server, vault: &VaultId) -> Result<Arc<Listing>, ApiError> {
        let root = server.archive().root(vault)?;
        let is_it = |(id, listing): &&(VaultId, Arc<Listing>)| id == vault && listing.root == root;
        if let Some((_, listing)) = self.lock().iter().find(is_it) {
            return Ok(Arc::clone(listing));
        }
        let listing = Arc::new(server.archive().listing(vault)?);
        let mut kept = self.lock();
        kept.retain(|(id, _)| id != vault);
        if kept.len() >= LISTINGS_MAX {
            kept.remove(0);
        }
        kept.push((*vault, Arc::clone(&listing)));
        Ok(listing)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(VaultId, Arc<Listing>)>> {
        // Every critical section above leaves the list whole at each step.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Deserialize)]
pub struct At {
    path: String,
}

/// A change, as the page sends it.
#[derive(Deserialize)]
#[serde(tag = "op", rename_all = "lowercase", deny_unknown_fields)]
enum Asked {
    Create { path: String, text: String },
    Edit { path: String, base: String, text: String },
    Move { path: String, to: String, base: String },
    Delete { path: String, base: String },
}

pub async fn list(
    State(server): State<Arc<Server>>,
    caller: Caller,
    Path(vault): Path<String>,
    Params(page): Params<Page>,
) -> Result<Json<Value>, ApiError> {
    let vault = server.enter(&caller, &vault, Op::Read).await?.vault.id;
    let limit = page.limit(&server) as usize;
    let shown = server
        .blocking(move |s| {
            let listing = s.listings.of(s, &vault)?;
            let after = page.after.as_deref().unwrap_or("");
            let from = listing.notes.partition_point(|(path, _)| path.as_str() <= after);
            let rest = &listing.notes[from..];
            let notes = &rest[..limit.min(rest.len())];
            let next = notes.last().filter(|_| notes.len() < rest.len());
            let next = next.map(|(path, _)| path.as_str());
            let ids: Vec<NoteId> = notes.iter().map(|(_, note)| *note).collect();
            let standing = s.archive().standing(&vault, &ids)?;
            let conflicts = conflicts_by_note(s, &vault)?;
            let rows = notes.iter().zip(standing);
            let shown = rows.filter_map(|((path, note), standing)| {
                let Standing { id, version } = standing?;
                let live = version.live()?;
                Some(json!({
                    "path": path.as_str(),
                    "note": note.to_string(),
                    "version": id.to_string(),
                    "kind": kind_name(live.kind),
                    "bytes": live.bytes,
                    "changed_ms": version.stamp.ms(),
                    "conflicts": conflicts.get(note).copied().unwrap_or(0),
                }))
            });
            Ok(json!({
                "root": listing.root.map(|root| root.to_string()),
                "seq": listing.seq.0,
                "notes": shown.collect::<Vec<_>>(),
                "next": next,
            }))
        })
        .await?;
    Ok(Json(shown))
}

pub async fn note(
    State(server): State<Arc<Server>>,
    caller: Caller,
    Path(vault): Path<String>,
    Params(at): Params<At>,
) -> Result<Json<Value>, ApiError> {
    let path = vault_path(&at.path)?;
    let entry = server.enter(&caller, &vault, Op::Read).await?;
    let (vault, access) = (entry.vault.id, entry.access);
    let shown = server
        .blocking(move |s| {
            let (id, note, live) = live_at(s, &vault, &path)?;
            if live.kind != Kind::Note {
                return Err(ApiError::not_found("note").hint("get it as a file"));
            }
            let conflicts = conflicts_by_note(s, &vault)?.get(&note).copied().unwrap_or(0);
            let revision = s.archive().revision(&vault, &id)?;
            let revision = revision.ok_or_else(|| ApiError::not_found("version"))?;
            let origin = revision.origin.as_ref();
            let stamp = revision.version.stamp;
            Ok(json!({
                "path": path.as_str(),
                "note": note.to_string(),
                "version": id.to_string(),
                "text": text_of(s, &vault, &live)?,
                "access": match access {
                    Access::Read => "read",
                    Access::Write => "write",
                },
                "session": s.live().of_note(&vault, &note).map(|handle| handle.id),
                "conflicts": conflicts,
                "changed": signature(s, &mut Names::default(), origin, stamp)?,
            }))
        })
        .await?;
    Ok(Json(shown))
}

pub async fn file(
    State(server): State<Arc<Server>>,
    caller: Caller,
    Path(vault): Path<String>,
    Params(at): Params<At>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let path = vault_path(&at.path)?;
    let vault = server.enter(&caller, &vault, Op::Read).await?.vault.id;
    let (hash, bytes) = server
        .blocking(move |s| {
            let (_, _, live) = live_at(s, &vault, &path)?;
            Ok((live.content, s.archive().content(&vault, &live.content)?))
        })
        .await?;
    let tag = HeaderValue::from_str(&format!("\"{hash}\"")).expect("hex is a header value");
    let mut response = if headers.get(header::IF_NONE_MATCH) == Some(&tag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        match bytes {
            Some(bytes) => whole_or_range(&bytes, &headers)?,
            None => blobs::respond(&server, vault, hash, &headers).await?,
        }
    };
    let headers = response.headers_mut();
    // Never shown by a browser as a page of ours, and another file by the next request perhaps.
    let type_ = HeaderValue::from_static("application/octet-stream");
    headers.insert(header::CONTENT_TYPE, type_);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    headers.insert(header::ETAG, tag);
    Ok(response)
}

fn whole_or_range(bytes: &[u8], headers: &HeaderMap) -> Result<Response, ApiError> {
    let accept = [(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"))];
    let Some((from, to)) = blobs::range(headers, bytes.len() as u64)? else {
        return Ok((accept, bytes.to_vec()).into_response());
    };
    let shown = format!("bytes {from}-{}/{}", to - 1, bytes.len());
    let range = [(header::CONTENT_RANGE, shown)];
    let index = |at| usize::try_from(at).expect("a range is within what is in memory");
    let part = bytes[index(from)..index(to)].to_vec();
    Ok((StatusCode::PARTIAL_CONTENT, accept, range, part).into_response())
}

pub async fn change(
    State(server): State<Arc<Server>>,
    caller: Caller,
    Path(vault): Path<String>,
    request: Request,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let entry = server.enter(&caller, &vault, Op::Write).await?;
    let asked: Asked = text_json(&server, request).await?;
    let vault = entry.vault.id;
    let party = Party { origin: caller.origin(server.now_ms()), access: entry.access };
    let written = server
        .writing(vault, move |s| {
            let write = write_of(s, &vault, asked)?;
            let written = s.rounds().write(&vault, &party, &write)?;
            s.announce(vault, written.root);
            Ok(written)
        })
        .await?;
    tracing::info!(version = %written.id.short(), "note changed on the page");
    Ok((
        StatusCode::CREATED,
        Json(json!({
            "version": written.id.to_string(),
            "head": written.head.to_string(),
            "path": written.path.as_ref().map(VaultPath::as_str),
            "merged": written.id != written.head,
        })),
    ))
}

fn write_of(server: &Server, vault: &VaultId, asked: Asked) -> Result<Write, ApiError> {
    Ok(match asked {
        Asked::Create { path, text } => Write::create(vault_path(&path)?, text.into_bytes()),
        Asked::Edit { path, base, text } => {
            let (base, was) = base_of(server, vault, &base, &vault_path(&path)?)?;
            Write::edit(base, &was, text.into_bytes())
        }
        Asked::Move { path, to, base } => {
            let (base, _) = base_of(server, vault, &base, &vault_path(&path)?)?;
            Write::rename(base, vault_path(&to)?)
        }
        Asked::Delete { path, base } => {
            let (base, _) = base_of(server, vault, &base, &vault_path(&path)?)?;
            Write::delete(base)
        }
    })
}

/// The base of a change and its path: it must be of the note that is, or was then, at `path`.
fn base_of(
    server: &Server,
    vault: &VaultId,
    base: &str,
    path: &VaultPath,
) -> Result<(VersionId, VaultPath), ApiError> {
    let id: VersionId = base
        .parse()
        .map_err(|_| ApiError::new(Code::BadRequest, "a base is a version's 64 hex digits"))?;
    let version = server.archive().version(vault, &id)?;
    let version = version.ok_or_else(|| ApiError::not_found("version"))?;
    let was = version.path().ok_or_else(|| {
        ApiError::not_found("note").hint("in the base it is deleted; restore it first")
    })?;
    if was != path {
        let here = server.archive().at(vault, path)?;
        if here.is_none_or(|here| here.version.note != version.note) {
            let message = format!("the base is a version of {was}, not of {path}");
            return Err(ApiError::new(Code::BadRequest, message).hint("load the note again"));
        }
    }
    Ok((id, was.clone()))
}

pub async fn deleted(
    State(server): State<Arc<Server>>,
    caller: Caller,
    Path(vault): Path<String>,
    Params(page): Params<Page>,
) -> Result<Json<Value>, ApiError> {
    let vault = server.enter(&caller, &vault, Op::Read).await?.vault.id;
    let limit = (page.limit(&server) as usize).min(REVISIONS_MAX);
    let before = page.after.map(|text| text.parse().map(Seq)).transpose();
    let before = before.map_err(|_| ApiError::new(Code::BadRequest, "a wrong cursor"))?;
    let shown = server
        .blocking(move |s| {
            let gone = s.archive().deleted(&vault, before, limit)?;
            let full = gone.len() == limit;
            let next = gone.last().filter(|_| full).map(|last| last.seq.0.to_string());
            let mut names = Names::default();
            let mut notes = Vec::with_capacity(gone.len());
            for gone in gone {
                // Where history was cut away there is nothing to bring back.
                let Some((last, version)) = gone.last else { continue };
                let origin = gone.origin.as_ref();
                let mut shown = signature(s, &mut names, origin, version.stamp)?;
                shown["note"] = gone.note.to_string().into();
                shown["path"] = version.path().map(VaultPath::as_str).into();
                shown["last"] = last.to_string().into();
                notes.push(shown);
            }
            Ok(json!({ "notes": notes, "next": next }))
        })
        .await?;
    Ok(Json(shown))
}

/// A path of a request.
pub(crate) fn vault_path(path: &str) -> Result<VaultPath, ApiError> {
    VaultPath::new(path)
        .map_err(|error| ApiError::new(Code::BadRequest, format!("the path {error}")))
}

/// The text of a live note; `None` for an asset, or one whose bytes were cut away.
pub(crate) fn text_of(
    server: &Server,
    vault: &VaultId,
    live: &Live,
) -> Result<Option<String>, ApiError> {
    if live.kind != Kind::Note {
        return Ok(None);
    }
    let bytes = server.archive().content(vault, &live.content)?;
    Ok(bytes.and_then(|bytes| String::from_utf8(bytes.to_vec()).ok()))
}

pub fn live_at(
    server: &Server,
    vault: &VaultId,
    path: &VaultPath,
) -> Result<(VersionId, NoteId, Live), ApiError> {
    let here = server.archive().at(vault, path)?;
    let Standing { id, version } = here.ok_or_else(|| ApiError::not_found("note"))?;
    let live = version.live().ok_or_else(|| ApiError::not_found("note"))?;
    Ok((id, version.note, live.clone()))
}

fn conflicts_by_note(server: &Server, vault: &VaultId) -> Result<HashMap<NoteId, u64>, ApiError> {
    let mut counts = HashMap::new();
    for conflict in server.archive().open_conflicts(vault)? {
        *counts.entry(conflict.note).or_default() += 1;
    }
    Ok(counts)
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Note => "note",
        Kind::Asset => "asset",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_file_is_given_whole_or_in_part() {
        let ask = |range: &'static str| {
            let headers = [(header::RANGE, HeaderValue::from_static(range))];
            whole_or_range(b"0123456789", &HeaderMap::from_iter(headers))
        };
        let part = ask("bytes=2-4").unwrap();
        assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT);
        assert_eq!(part.headers()[header::CONTENT_RANGE], "bytes 2-4/10");
        assert_eq!(ask("bytes=10-").unwrap_err().code, Code::BadRange);
        assert_eq!(ask("lines=1-2").unwrap().status(), StatusCode::OK);
    }
}
