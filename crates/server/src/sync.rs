//! `/api/sync/{vault}`: rounds and walks. Decodes nothing and decides nothing but who may ask.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use crucible_core::id::VersionId;
use crucible_trust::rights::Op;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::blobs::ASKED_MAX;
use crate::body::{self, JsonBody};
use crate::caller::Caller;
use crate::error::{ApiError, Code};
use crate::rounds::Party;
use crate::state::Server;

/// The media type of bodies that replicas exchange.
pub const MEDIA: &str = "application/cbor";

pub async fn round(
    State(server): State<Arc<Server>>,
    caller: Caller,
    Path(vault): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    let began_ms = server.now_ms();
    body::declared_within(request.headers(), server.limits().round_bytes_max)?;
    body::require_media(request.headers(), MEDIA)?;
    // Reading is enough to ask; whether the body may change anything is the engine's to see.
    let entry = server.enter(&caller, &vault, Op::Read).await?;
    let limits = server.limits();
    let body = body::read(request, limits.round_bytes_max, limits.body_silence_ms).await?;
    let (id, bytes_in) = (entry.vault.id, body.len());
    let party = Party { origin: caller.origin(began_ms), access: entry.access };
    let answer = server
        .writing(id, move |s| {
            let answer = s.rounds().round(&id, &party, &body)?;
            // Told under the lock, so that roots are announced in the order they came to be.
            s.announce(id, answer.root);
            Ok(answer)
        })
        .await?;
    let (tally, bytes_out) = (answer.tally, answer.body.len());
    let ms = server.now_ms().saturating_sub(began_ms);
    let metrics = server.metrics();
    metrics.rounds.add(1);
    metrics.round_ms.observe(ms);
    metrics.pushed.add(tally.pushed);
    metrics.pulled.add(tally.pulled);
    metrics.merged.add(tally.merged);
    metrics.conflicts.add(tally.conflicts);
    metrics.round_bytes_in.add(bytes_in as u64);
    metrics.round_bytes_out.add(bytes_out as u64);
    tracing::info!(
        pushed = tally.pushed,
        pulled = tally.pulled,
        merged = tally.merged,
        conflicts = tally.conflicts,
        bytes_in,
        bytes_out,
        ms,
        "round"
    );
    Ok(([(header::CONTENT_TYPE, MEDIA)], answer.body).into_response())
}

#[derive(Deserialize)]
pub(crate) struct Asked {
    versions: Vec<String>,
}

/// Which of some versions are not here: what a device whose answer was lost has to send again.
pub(crate) async fn missing(
    State(server): State<Arc<Server>>,
    caller: Caller,
    Path(vault): Path<String>,
    JsonBody(asked): JsonBody<Asked>,
) -> Result<Json<Value>, ApiError> {
    if asked.versions.len() > ASKED_MAX {
        let message = format!("at most {ASKED_MAX} versions in one question");
        return Err(ApiError::new(Code::TooLarge, message));
    }
    let named = |text: &String| {
        text.parse().map_err(|_| ApiError::new(Code::BadRequest, "a version is 64 hex digits"))
    };
    let versions: Vec<VersionId> = asked.versions.iter().map(named).collect::<Result<_, _>>()?;
    let id = server.enter(&caller, &vault, Op::Read).await?.vault.id;
    let missing = server.blocking(move |s| Ok(s.archive().missing(&id, &versions)?)).await?;
    let missing: Vec<String> = missing.iter().map(VersionId::to_string).collect();
    Ok(Json(json!({ "missing": missing })))
}

pub async fn walk(
    State(server): State<Arc<Server>>,
    caller: Caller,
    Path(vault): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    body::declared_within(request.headers(), server.limits().round_bytes_max)?;
    body::require_media(request.headers(), MEDIA)?;
    let id = server.enter(&caller, &vault, Op::Read).await?.vault.id;
    let limits = server.limits();
    let body = body::read(request, limits.round_bytes_max, limits.body_silence_ms).await?;
    server.metrics().round_bytes_in.add(body.len() as u64);
    let answer = server.blocking(move |s| Ok(s.rounds().walk(&id, &body)?)).await?;
    server.metrics().round_bytes_out.add(answer.len() as u64);
    Ok(([(header::CONTENT_TYPE, MEDIA)], answer).into_response())
}
