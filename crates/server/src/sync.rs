//! `/api/sync/{vault}`: rounds and walks. Decodes nothing and decides nothing but who may ask.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use crucible_trust::rights::Op;

use crate::body;
use crate::caller::Caller;
use crate::error::ApiError;
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
