//! The routes of the server: one table, from which the router and its description are checked.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, post};
use serde::Deserialize;
use serde_json::json;

use crate::caller::Caller;
use crate::error::{ApiError, Code};
use crate::hear_out::hear_out;
use crate::state::Server;
use crate::{
    auth, blobs, conflicts, events, guard, history, notes, openapi, page, sessions, sync, vaults,
};

/// Items in a page when nobody says how many.
const PAGE_DEFAULT: u32 = 100;

/// Where a page of a list begins, and how long it is.
#[derive(Deserialize)]
pub struct Page {
    /// The `next` of the page before.
    pub after: Option<String>,
    /// At most so many.
    pub limit: Option<u32>,
}

impl Page {
    /// How many items to give: what was asked for, within bounds.
    pub fn limit(&self, server: &Server) -> u32 {
        self.limit.unwrap_or(PAGE_DEFAULT).clamp(1, server.limits().page_max)
    }
}

type Methods = MethodRouter<Arc<Server>>;

/// Every path with its methods; `openapi.json` describes exactly these.
fn table() -> Vec<(&'static str, Methods)> {
    vec![
        ("/healthz", get(healthz)),
        ("/metrics", get(metrics)),
        ("/api/openapi.json", get(openapi::document)),
        ("/api/auth/pair", post(auth::pair)),
        ("/api/auth/invite", post(auth::invite)),
        ("/api/auth/whoami", get(auth::whoami)),
        ("/api/auth/devices", get(auth::devices).post(auth::enroll)),
        ("/api/auth/devices/{device}", delete(auth::revoke)),
        ("/api/vaults", get(vaults::list).post(vaults::create)),
        ("/api/vaults/{vault}", get(vaults::show)),
        ("/api/vaults/{vault}/members", get(vaults::members).put(vaults::add_member)),
        ("/api/vaults/{vault}/members/{user}", delete(vaults::remove_member)),
        ("/api/sync/{vault}", post(sync::round)),
        ("/api/sync/{vault}/walk", post(sync::walk)),
        ("/api/sync/{vault}/events", get(events::events)),
        ("/api/sync/{vault}/versions/missing", post(sync::missing)),
        ("/api/sync/{vault}/blobs/missing", post(blobs::missing)),
        ("/api/sync/{vault}/blobs/{hash}", get(blobs::get).put(blobs::put).head(blobs::head)),
        ("/api/sessions", get(sessions::list).post(sessions::open)),
        ("/api/sessions/events", get(sessions::events)),
        ("/api/sessions/{session}/ws", get(sessions::socket::connect)),
        ("/api/sessions/{session}/events", get(sessions::stream::events)),
        ("/api/sessions/{session}/frames", post(sessions::stream::frames)),
        ("/api/sessions/{session}/text", get(sessions::text)),
        ("/api/sessions/{session}/end", post(sessions::end)),
        ("/api/history/{vault}", get(history::list)),
        ("/api/history/{vault}/revisions/{version}", get(history::show)),
        ("/api/history/{vault}/revisions/{version}/content", get(history::content)),
        ("/api/history/{vault}/diff", get(history::diff)),
        ("/api/history/{vault}/restore", post(history::restore)),
        ("/api/notes/{vault}", get(notes::list)),
        ("/api/notes/{vault}/note", get(notes::note)),
        ("/api/notes/{vault}/file", get(notes::file)),
        ("/api/notes/{vault}/changes", post(notes::change)),
        ("/api/notes/{vault}/search", get(notes::search::search)),
        ("/api/notes/{vault}/links", get(notes::search::links)),
        ("/api/notes/{vault}/deleted", get(notes::deleted)),
        ("/api/conflicts/{vault}", get(conflicts::list)),
        ("/api/conflicts/{vault}/{conflict}", get(conflicts::show)),
        ("/api/conflicts/{vault}/{conflict}/take", post(conflicts::take)),
    ]
}

/// The whole server as a service; [`serve`](crate::serve) puts it behind a listener.
pub fn router(server: Arc<Server>) -> Router {
    let routes = table()
        .into_iter()
        .fold(Router::new(), |router, (path, methods)| router.route(path, methods));
    routes
        .merge(page::routes())
        .fallback(|| async { ApiError::not_found("endpoint") })
        .method_not_allowed_fallback(|| async {
            ApiError::new(Code::MethodNotAllowed, "this endpoint has no such method")
        })
        .layer(from_fn(explain_rejections))
        .layer(from_fn_with_state(Arc::clone(&server), guard::guard))
        .layer(from_fn_with_state(Arc::clone(&server), hear_out))
        .with_state(server)
}

/// Bytes from the operating system.
pub fn random<const N: usize>() -> Result<[u8; N], ApiError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| ApiError::internal(&error))?;
    Ok(bytes)
}

/// What the framework refuses by itself (a path that is not UTF-8) gets our shape too.
async fn explain_rejections(
    request: axum::extract::Request,
    next: axum::middleware::Next,
) -> Response {
    let response = next.run(request).await;
    let ours = response.extensions().get::<Code>().is_some();
    match response.status() {
        StatusCode::BAD_REQUEST if !ours => {
            ApiError::new(Code::BadRequest, "the request cannot be read").into_response()
        }
        _ => response,
    }
}

async fn healthz(State(server): State<Arc<Server>>) -> Result<Response, ApiError> {
    server.quick(|s| Ok(s.accounts().users(None, 1)?)).await?;
    Ok(axum::Json(json!({ "status": "ok" })).into_response())
}

/// Behind a token like everything else: how much somebody writes, and when, is theirs.
async fn metrics(State(server): State<Arc<Server>>, _caller: Caller) -> Response {
    let type_ = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, type_)], server.metrics().render()).into_response()
}

#[cfg(test)]
pub mod tests {
    /// The paths of the table, for the test of the description.
    pub fn paths() -> Vec<&'static str> {
        super::table().into_iter().map(|(path, _)| path).collect()
    }
}
