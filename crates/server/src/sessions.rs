//! `/api/sessions`: opening, listing and ending live sessions, and the connections into them.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::sse::{Event as SseEvent, Sse};
use axum::response::{IntoResponse, Response};
use crucible_core::id::{DeviceId, NoteId, UserId, VaultId, VersionId};
use crucible_core::vault_path::VaultPath;
use crucible_core::version::{Kind, Live};
use crucible_live::room::{Event, Person, Role};
use crucible_trust::name::VaultName;
use crucible_trust::rights::{Access, Op};
use futures_util::Stream;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, broadcast, watch};
use tokio::time::{Interval, MissedTickBehavior};

use crate::body::JsonBody;
use crate::caller::{Caller, still_good};
use crate::error::{ApiError, Code};
use crate::history::Names;
use crate::live::{self, Handle, Message, Notice, Subject};
use crate::notes::{live_at, text_of, vault_path};
use crate::state::{Entry, Server};

pub mod connection;
pub mod socket;
pub mod stream;

#[derive(Deserialize)]
pub struct OpenBody {
    vault: String,
    /// Where the note is.
    path: Option<String>,
    /// Or which it is, wherever it is now.
    note: Option<String>,
}

/// The note that is to be opened.
enum Which {
    At(VaultPath),
    Note(NoteId),
}

impl Which {
    fn of(body: &OpenBody) -> Result<Self, ApiError> {
        let wrong = |message: &str| Err(ApiError::new(Code::BadRequest, message));
        match (&body.path, &body.note) {
            (Some(path), None) => vault_path(path).map(Self::At),
            (None, Some(note)) => match note.parse() {
                Ok(note) => Ok(Self::Note(note)),
                Err(_) => wrong("a note's id is 64 hex digits"),
            },
            _ => wrong("give a path or a note"),
        }
    }
}

/// What a note is now, wherever it is.
fn live_note(
    server: &Server,
    vault: &VaultId,
    note: NoteId,
) -> Result<(VersionId, NoteId, Live), ApiError> {
    let standing = server.archive().standing(vault, &[note])?.pop().flatten();
    let found = standing.and_then(|found| Some((found.id, found.version.live()?.clone())));
    let (id, live) = found.ok_or_else(|| {
        ApiError::not_found("note").hint("it was deleted; `cru undelete` brings it back")
    })?;
    Ok((id, note, live))
}

pub async fn open(
    State(server): State<Arc<Server>>,
    caller: Caller,
    JsonBody(body): JsonBody<OpenBody>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let entry = server.enter(&caller, &body.vault, Op::Read).await?;
    let which = Which::of(&body)?;
    let vault = entry.vault.id;
    let (version, note, path, text) = server
        .blocking(move |s| {
            let (id, note, live) = match which {
                Which::At(path) => live_at(s, &vault, &path)?,
                Which::Note(note) => live_note(s, &vault, note)?,
            };
            let path = live.path.clone();
            if live.kind != Kind::Note {
                let message = format!("{path} is no note");
                return Err(ApiError::new(Code::BadRequest, message)
                    .hint("only Markdown notes can be edited live"));
            }
            let text = text_of(s, &vault, &live)?.ok_or_else(|| {
                ApiError::new(Code::TooLarge, format!("{path} is too long to be edited live"))
                    .hint("edit it in its folder")
            })?;
            Ok((id, note, path.to_string(), text))
        })
        .await?;
    let vault_name = entry.vault.name.to_string();
    let subject = Subject { vault, vault_name, note, path, version, text };
    let (handle, is_new) = live::open(&server, subject).await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    let below = format!("/api/sessions/{}", handle.id);
    let shown = json!({
        "id": handle.id,
        "note": handle.note.to_string(),
        "path": handle.path(),
        "epoch": handle.epoch,
        "ws": format!("{below}/ws"),
        "sse": format!("{below}/events"),
    });
    Ok((status, Json(shown)))
}

pub async fn list(
    State(server): State<Arc<Server>>,
    caller: Caller,
) -> Result<Json<Value>, ApiError> {
    let mut shown = Vec::new();
    for handle in server.live().all() {
        if server.enter(&caller, &handle.vault_name, Op::Read).await.is_err() {
            continue;
        }
        let people = named(&server, handle.people().into_iter().collect()).await?;
        shown.push(json!({
            "id": handle.id,
            "vault": handle.vault_name,
            "path": handle.path(),
            "epoch": handle.epoch,
            "opened_ms": handle.opened_ms,
            "people": people,
        }));
    }
    Ok(Json(json!({ "sessions": shown })))
}

pub async fn text(
    State(server): State<Arc<Server>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let (handle, _) = enter(&server, &caller, &id, Op::Read).await?;
    let text = server.live().text(&handle).await?;
    let type_ = HeaderValue::from_static("text/plain; charset=utf-8");
    let epoch = HeaderValue::from_str(&handle.epoch).expect("hex is a header value");
    let headers = [(header::CONTENT_TYPE, type_), (HeaderName::from_static("x-epoch"), epoch)];
    Ok((headers, text).into_response())
}

pub async fn end(
    State(server): State<Arc<Server>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    let (handle, _) = enter(&server, &caller, &id, Op::Write).await?;
    handle.tell(Message::Event(Event::End)).await?;
    Ok(StatusCode::ACCEPTED)
}

/// People as they are shown: ids, and person and device in words.
async fn named(
    server: &Arc<Server>,
    people: Vec<(UserId, DeviceId)>,
) -> Result<Vec<Value>, ApiError> {
    let shown = |s: &Server| {
        let mut names = Names::default();
        let one = |(user, device): (UserId, DeviceId)| {
            let name = names.person(s, user, device)?;
            Ok(json!({ "user": user.to_string(), "device": device.to_string(), "name": name }))
        };
        people.into_iter().map(one).collect()
    };
    server.quick(shown).await
}

/// Lets a caller into a session they may see.
///
/// # Errors
/// There is none of this name, or none for them: strangers cannot tell which.
pub async fn enter(
    server: &Arc<Server>,
    caller: &Caller,
    id: &str,
    op: Op,
) -> Result<(Handle, Entry), ApiError> {
    let absent = || ApiError::not_found("session").hint("it may have ended; open the note again");
    let handle = server.live().get(id).ok_or_else(absent)?;
    server.enter(caller, &handle.vault_name, Op::Read).await.map_err(|_| absent())?;
    let entry = server.enter(caller, &handle.vault_name, op).await?;
    Ok((handle, entry))
}

/// How the others see a caller, and what they may do.
pub async fn person(
    server: &Arc<Server>,
    caller: &Caller,
    access: Access,
) -> Result<(Person, Role), ApiError> {
    let (user, device) = (caller.user(), caller.device());
    let names = server.quick(move |s| Names::default().of(s, user, device)).await?;
    let (email, machine) = names;
    let email = email.unwrap_or_default();
    let mut name = email.split('@').next().unwrap_or_default().to_owned();
    // Somebody on two devices is told apart from themselves.
    if let Some(machine) = machine {
        name = format!("{name}, {machine}");
    }
    let role = match access {
        Access::Read => Role::Read,
        Access::Write => Role::Write,
    };
    Ok((Person { user, device, name }, role))
}

struct Listener {
    server: Arc<Server>,
    caller: Caller,
    notices: broadcast::Receiver<Notice>,
    closing: watch::Receiver<bool>,
    heartbeat: Interval,
    _permit: OwnedSemaphorePermit,
}

/// Who opens, joins, leaves and closes what, in vaults that the caller may read.
pub async fn events(
    State(server): State<Arc<Server>>,
    caller: Caller,
) -> Result<Sse<impl Stream<Item = Result<SseEvent, Infallible>>>, ApiError> {
    let permit = Arc::clone(&server.streams).try_acquire_owned().map_err(|_| {
        ApiError::new(Code::Unavailable, "too many streams of events are open")
            .hint("ask for the list of sessions instead")
    })?;
    let mut heartbeat = tokio::time::interval(Duration::from_millis(server.limits().heartbeat_ms));
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let notices = server.live().notices();
    let closing = server.closing();
    let listener = Listener { server, caller, notices, closing, heartbeat, _permit: permit };
    Ok(Sse::new(futures_util::stream::unfold(listener, |mut listener| async {
        let event = listener.next().await?;
        Some((Ok(event), listener))
    })))
}

impl Listener {
    async fn next(&mut self) -> Option<SseEvent> {
        loop {
            if *self.closing.borrow() {
                return None;
            }
            tokio::select! {
                _ = self.closing.changed() => return None,
                notice = self.notices.recv() => match notice {
                    Ok(notice) => {
                        if let Some(event) = self.shown(&notice).await {
                            return Some(event);
                        }
                    }
                    // What was missed is in the list of sessions.
                    Err(broadcast::error::RecvError::Lagged(_)) => {
                        return Some(SseEvent::default().event("missed").data("{}"));
                    }
                    Err(broadcast::error::RecvError::Closed) => return None,
                },
                _ = self.heartbeat.tick() => {
                    let caller = self.caller.clone();
                    self.server.quick(move |s| still_good(s, &caller)).await.ok()?;
                    return Some(SseEvent::default().comment(""));
                }
            }
        }
    }

    async fn shown(&self, notice: &Notice) -> Option<SseEvent> {
        VaultName::new(&notice.vault_name).ok()?;
        self.server.enter(&self.caller, &notice.vault_name, Op::Read).await.ok()?;
        let who = named(&self.server, notice.who.into_iter().collect()).await.ok()?;
        let mut data = who.into_iter().next().unwrap_or_else(|| json!({}));
        data["id"] = notice.id.as_str().into();
        data["vault"] = notice.vault_name.as_str().into();
        data["path"] = notice.path.as_str().into();
        Some(SseEvent::default().event(notice.what).data(data.to_string()))
    }
}
