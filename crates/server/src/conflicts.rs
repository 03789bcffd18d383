//! `/api/conflicts/{vault}`: what merges had to choose, both sides of it, and taking one.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use crucible_core::conflict::{Clash, Conflict, Hunk};
use crucible_core::id::{ConflictId, NoteId, VaultId, VersionId};
use crucible_core::vault_path::VaultPath;
use crucible_sync::repo::ConflictState;
use crucible_sync::take::Take;
use crucible_trust::rights::Op;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::body::{JsonBody, Params};
use crate::caller::Caller;
use crate::error::{ApiError, Code};
use crate::history::{Names, signature};
use crate::notes::text_of;
use crate::rounds::Party;
use crate::routes::Page;
use crate::state::Server;

/// Which side a person wants.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Side {
    Kept,
    Other,
    Both,
}

#[derive(Deserialize)]
pub struct TakeBody {
    side: Side,
}

/// Open conflicts, the newest first.
pub async fn list(
    State(server): State<Arc<Server>>,
    caller: Caller,
    Path(vault): Path<String>,
    Params(page): Params<Page>,
) -> Result<Json<Value>, ApiError> {
    let vault = server.enter(&caller, &vault, Op::Read).await?.vault.id;
    let limit = page.limit(&server) as usize;
    let after = page.after.as_deref().map(cursor_of).transpose()?;
    let shown = server
        .blocking(move |s| {
            let mut open = s.archive().open_conflicts(&vault)?;
            // The same order at every request, whatever was closed meanwhile.
            open.sort_unstable_by_key(|conflict| std::cmp::Reverse(place(conflict)));
            let from = match after {
                None => 0,
                Some(after) => open.partition_point(|conflict| place(conflict) >= after),
            };
            let rest = &open[from..];
            let page = &rest[..limit.min(rest.len())];
            let next = page.last().filter(|_| page.len() < rest.len()).map(cursor);
            let notes: Vec<NoteId> = page.iter().map(|conflict| conflict.note).collect();
            let standing = s.archive().standing(&vault, &notes)?;
            let mut names = Names::default();
            let mut conflicts = Vec::with_capacity(page.len());
            for (conflict, standing) in page.iter().zip(standing) {
                let now = standing.as_ref().and_then(|now| now.version.path());
                let kept = who(s, &mut names, &vault, &conflict.winner)?;
                let other = who(s, &mut names, &vault, &conflict.loser)?;
                conflicts.push(json!({
                    "id": conflict.id.to_string(),
                    "note": conflict.note.to_string(),
                    "path": now.unwrap_or(&conflict.path).as_str(),
                    "ms": conflict.stamp.ms(),
                    "what": what(&conflict.clash),
                    "kept_by": kept["by"],
                    "other_by": other["by"],
                }));
            }
            Ok(json!({ "conflicts": conflicts, "next": next }))
        })
        .await?;
    Ok(Json(shown))
}

pub async fn show(
    State(server): State<Arc<Server>>,
    caller: Caller,
    Path((vault, conflict)): Path<(String, String)>,
) -> Result<Json<Value>, ApiError> {
    let id = conflict_id(&conflict)?;
    let vault = server.enter(&caller, &vault, Op::Read).await?.vault.id;
    let shown = server
        .blocking(move |s| {
            let found = s.archive().conflict(&vault, &id)?;
            let (conflict, state) = found.ok_or_else(|| ApiError::not_found("conflict"))?;
            let now = s.archive().standing(&vault, &[conflict.note])?.pop().flatten();
            let now = match &now {
                None => Value::Null,
                Some(now) => json!({
                    "version": now.id.to_string(),
                    "path": now.version.path().map(VaultPath::as_str),
                    "text": text(s, &vault, &now.id)?,
                }),
            };
            let base = match &conflict.base {
                None => Value::Null,
                Some(base) => json!({
                    "version": base.to_string(),
                    "text": text(s, &vault, base)?,
                }),
            };
            let mut names = Names::default();
            let mut side = |id: &VersionId| {
                let mut shown = who(s, &mut names, &vault, id)?;
                shown["version"] = id.to_string().into();
                let version = s.archive().version(&vault, id)?;
                let path = version.as_ref().and_then(|version| version.path());
                shown["path"] = path.map(VaultPath::as_str).into();
                shown["text"] = text(s, &vault, id)?.into();
                Ok::<_, ApiError>(shown)
            };
            Ok(json!({
                "id": conflict.id.to_string(),
                "note": conflict.note.to_string(),
                "path": conflict.path.as_str(),
                "open": state == ConflictState::Open,
                "what": what(&conflict.clash),
                "place": place_shown(&conflict.clash),
                "base": base,
                "kept": side(&conflict.winner)?,
                "other": side(&conflict.loser)?,
                "now": now,
            }))
        })
        .await?;
    Ok(Json(shown))
}

pub async fn take(
    State(server): State<Arc<Server>>,
    caller: Caller,
    Path((vault, conflict)): Path<(String, String)>,
    JsonBody(body): JsonBody<TakeBody>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let id = conflict_id(&conflict)?;
    let entry = server.enter(&caller, &vault, Op::Write).await?;
    let vault = entry.vault.id;
    let party = Party { origin: caller.origin(server.now_ms()), access: entry.access };
    let side = match body.side {
        Side::Kept => Take::Winner,
        Side::Other => Take::Loser,
        Side::Both => Take::Both,
    };
    let written = server
        .writing(vault, move |s| {
            let written = s.rounds().take(&vault, &party, &id, side)?;
            s.announce(vault, written.root);
            Ok(written)
        })
        .await?;
    tracing::info!(version = %written.head.short(), "conflict taken on the page");
    Ok((
        StatusCode::CREATED,
        Json(json!({
            "version": written.head.to_string(),
            "before": written.before.map(|before| before.to_string()),
        })),
    ))
}

/// Where a conflict is in the list.
fn place(conflict: &Conflict) -> (u64, ConflictId) {
    (conflict.stamp.ms(), conflict.id)
}

fn cursor(conflict: &Conflict) -> String {
    let (ms, id) = place(conflict);
    format!("{ms}-{id}")
}

fn cursor_of(text: &str) -> Result<(u64, ConflictId), ApiError> {
    let parts = text.split_once('-');
    let parsed = parts.and_then(|(ms, id)| Some((ms.parse().ok()?, id.parse().ok()?)));
    parsed.ok_or_else(|| ApiError::new(Code::BadRequest, "a wrong cursor"))
}

fn conflict_id(text: &str) -> Result<ConflictId, ApiError> {
    text.parse().map_err(|_| ApiError::new(Code::BadRequest, "a conflict's id is 32 hex digits"))
}

/// What the two sides did, in a few words.
fn what(clash: &Clash) -> String {
    match clash {
        Clash::Body(hunk) if is_one_line(hunk) => "two edits of one line".into(),
        Clash::Body(_) => "two edits of one place".into(),
        Clash::Key { key, .. } => format!("two values of {key}"),
        Clash::FirstContact(_) => "two notes of one name".into(),
        Clash::EditOverDelete => "an edit and a deletion".into(),
        Clash::Path { loser } => format!("two names, the other is {loser}"),
        Clash::Content => "two versions of one file".into(),
    }
}

fn is_one_line(hunk: &Hunk) -> bool {
    let lines = |text: &str| text.trim_end_matches(['\n', '\r']).contains(['\n', '\r']);
    !lines(&hunk.winner) && !lines(&hunk.loser)
}

/// The place itself, where it is one in a text.
fn place_shown(clash: &Clash) -> Value {
    match clash {
        Clash::Body(hunk) | Clash::Key { hunk, .. } | Clash::FirstContact(hunk) => json!({
            "base": hunk.base,
            "kept": hunk.winner,
            "other": hunk.loser,
        }),
        Clash::EditOverDelete | Clash::Path { .. } | Clash::Content => Value::Null,
    }
}

/// Who made a version; nobody for one whose history was cut away.
fn who(
    server: &Server,
    names: &mut Names,
    vault: &VaultId,
    id: &VersionId,
) -> Result<Value, ApiError> {
    match server.archive().revision(vault, id)? {
        Some(revision) => {
            signature(server, names, revision.origin.as_ref(), revision.version.stamp)
        }
        None => Ok(json!({ "by": null, "device": null, "ms": null })),
    }
}

fn text(server: &Server, vault: &VaultId, id: &VersionId) -> Result<Option<String>, ApiError> {
    let version = server.archive().version(vault, id)?;
    match version.as_ref().and_then(|version| version.live()) {
        Some(live) => text_of(server, vault, live),
        None => Ok(None),
    }
}
