//! `/api/sync/{vault}/events`: server-sent events that say a vault has another root.
//!
//! An event is a hint to make a round, so only the newest root matters: a slow listener skips
//! the ones between. A stream ends when its token ends or is revoked, within one heartbeat.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::response::sse::{Event, Sse};
use crucible_core::id::RootHash;
use crucible_trust::rights::Op;
use futures_util::Stream;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Interval, MissedTickBehavior};

use crate::caller::Caller;
use crate::error::{ApiError, Code};
use crate::state::Server;

/// How long a client waits before it connects again, in milliseconds.
const RETRY_MS: u64 = 3_000;

struct Listener {
    server: Arc<Server>,
    caller: Caller,
    vault: String,
    roots: watch::Receiver<Option<RootHash>>,
    closing: watch::Receiver<bool>,
    heartbeat: Interval,
    /// The root to begin with, until it was told.
    first: Option<Option<RootHash>>,
    _permit: OwnedSemaphorePermit,
}

pub async fn events(
    State(server): State<Arc<Server>>,
    caller: Caller,
    Path(vault): Path<String>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    let permit = Arc::clone(&server.streams).try_acquire_owned().map_err(|_| {
        ApiError::new(Code::Unavailable, "too many streams of events are open")
            .hint("poll with rounds instead")
    })?;
    let id = server.enter(&caller, &vault, Op::Read).await?.vault.id;
    // Listened to before the root is read: a change in between is told twice, never missed.
    let roots = server.listen(id);
    let root = server.blocking(move |s| Ok(s.rounds().root(&id)?)).await?;
    server.learn(id, root);
    let mut heartbeat = tokio::time::interval(Duration::from_millis(server.limits().heartbeat_ms));
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    heartbeat.reset();
    let listener = Listener {
        closing: server.closing(),
        server,
        caller,
        vault,
        roots,
        heartbeat,
        first: Some(root),
        _permit: permit,
    };
    Ok(Sse::new(futures_util::stream::unfold(listener, |mut listener| async {
        let event = listener.next().await?;
        Some((Ok(event), listener))
    })))
}

impl Listener {
    async fn next(&mut self) -> Option<Event> {
        if *self.closing.borrow() {
            return None;
        }
        if let Some(root) = self.first.take() {
            return Some(root_event(root).retry(Duration::from_millis(RETRY_MS)));
        }
        tokio::select! {
            _ = self.closing.changed() => None,
            changed = self.roots.changed() => {
                // The sender is kept while somebody listens.
                changed.ok()?;
                let root = *self.roots.borrow_and_update();
                self.is_admitted().await.then(|| root_event(root))
            }
            _ = self.heartbeat.tick() => {
                self.is_admitted().await.then(|| Event::default().comment(""))
            }
        }
    }

    async fn is_admitted(&self) -> bool {
        let asked = self.server.enter(&self.caller, &self.vault, Op::Read).await;
        let caller = self.caller.clone();
        let good = self.server.quick(move |s| crate::caller::still_good(s, &caller)).await;
        asked.is_ok() && good.is_ok()
    }
}

fn root_event(root: Option<RootHash>) -> Event {
    let root = root.map(|root| root.to_string());
    Event::default().event("root").data(json!({ "root": root }).to_string())
}
