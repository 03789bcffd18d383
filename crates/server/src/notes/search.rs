//! `/api/notes/{vault}/search` and `/links`: words, and who links to whom.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use crucible_core::links::title;
use crucible_core::vault_path::VaultPath;
use crucible_store::search_index::{Backlink, HITS_MAX, Hit, Part};
use crucible_trust::rights::Op;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{At, vault_path};
use crate::body::Params;
use crate::caller::Caller;
use crate::error::{ApiError, Code};
use crate::state::Server;

/// Hits when nobody says how many.
const HITS_DEFAULT: usize = 20;
/// Longest question, in bytes.
const QUESTION_BYTES_MAX: usize = 1024;

#[derive(Deserialize)]
pub struct Question {
    q: String,
    limit: Option<usize>,
}

pub async fn search(
    State(server): State<Arc<Server>>,
    caller: Caller,
    Path(vault): Path<String>,
    Params(question): Params<Question>,
) -> Result<Json<Value>, ApiError> {
    let vault = server.enter(&caller, &vault, Op::Read).await?.vault.id;
    if question.q.len() > QUESTION_BYTES_MAX {
        let message = format!("a question has at most {QUESTION_BYTES_MAX} bytes");
        return Err(ApiError::new(Code::BadRequest, message).hint("ask for fewer words"));
    }
    let limit = question.limit.unwrap_or(HITS_DEFAULT).clamp(1, HITS_MAX);
    let found =
        server.blocking(move |s| Ok(s.archive().search(&vault, &question.q, limit)?)).await?;
    let part = |Part { text, is_hit }: &Part| json!({ "text": text, "hit": is_hit });
    let hit = |Hit { path, parts }: &Hit| {
        json!({
            "path": path.as_str(),
            "title": title(path),
            "parts": parts.iter().map(part).collect::<Vec<_>>(),
        })
    };
    let hits: Vec<Value> = found.answer.iter().map(hit).collect();
    Ok(Json(json!({ "hits": hits, "indexing": found.is_behind })))
}

pub async fn links(
    State(server): State<Arc<Server>>,
    caller: Caller,
    Path(vault): Path<String>,
    Params(at): Params<At>,
) -> Result<Json<Value>, ApiError> {
    let path = vault_path(&at.path)?;
    let vault = server.enter(&caller, &vault, Op::Read).await?.vault.id;
    let found = server
        .blocking(move |s| {
            if s.archive().at(&vault, &path)?.is_none() {
                return Err(ApiError::not_found("note"));
            }
            Ok(s.archive().links(&vault, &path)?)
        })
        .await?;
    Ok(Json(json!({
        "backlinks": found.answer.back.iter().map(back_shown).collect::<Vec<_>>(),
        "outgoing": found.answer.outgoing.iter().map(outgoing_shown).collect::<Vec<_>>(),
        "indexing": found.is_behind,
    })))
}

fn back_shown(link: &Backlink) -> Value {
    let Backlink { path, line, text } = link;
    json!({ "path": path.as_str(), "title": title(path), "line": line, "text": text })
}

fn outgoing_shown((target, path): &(String, Option<VaultPath>)) -> Value {
    json!({ "target": target, "path": path.as_ref().map(VaultPath::as_str) })
}
